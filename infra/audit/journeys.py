"""One stay as admission, beds, day surgery and billing each know it. They hear of each other by events, so these checks settle."""

from infra.audit.check import Check, Look, Seen, schema, sql_check

_ALL = frozenset({"admission", "beds", "billing", "daysurgery"})

_OCCUPIED = """
WITH occupied AS (SELECT bed_id, encounter_id FROM beds.bed WHERE commitment IN ('active', 'leave')
                  UNION ALL SELECT bed_id, encounter_id FROM beds.bed_request WHERE state = 'arrived' AND share_id IS NOT NULL),
here AS (SELECT encounter_id, bed_id FROM admission.encounter WHERE state IN ('admitted', 'discharge_ordered')
         UNION ALL
         SELECT encounter_id, bed_id FROM daysurgery.day_case WHERE state IN ('arrived', 'in_theatre', 'operated'))
SELECT CASE WHEN h.encounter_id IS NULL THEN format('bed %s is occupied by stay %s, which is not in hospital', o.bed_id, o.encounter_id)
            WHEN o.encounter_id IS NULL THEN format('stay %s is in hospital and lies in no bed', h.encounter_id)
            ELSE format('stay %s lies in bed %s, its record says %s', o.encounter_id, o.bed_id, coalesce(h.bed_id::text, 'none')) END
FROM occupied o FULL JOIN here h USING (encounter_id)
WHERE (o.encounter_id IS NULL OR h.encounter_id IS NULL OR o.bed_id IS DISTINCT FROM h.bed_id)
  -- Whose discharge was taken back while the old bed was gone waits for another one (A13).
  AND NOT (o.encounter_id IS NULL AND EXISTS (
      SELECT FROM beds.bed_request r WHERE r.encounter_id = h.encounter_id AND r.state IN ('waiting', 'assigned')))
"""
_OCCUPIED_EXAMINED = """
SELECT (SELECT count(*) FROM beds.bed) + (SELECT count(*) FROM admission.encounter) + (SELECT count(*) FROM daysurgery.day_case)
"""

_STAYS = """
SELECT format('stay %s is %s, its bed request is %s', e.encounter_id, e.state, coalesce(r.state, 'none'))
FROM admission.encounter e LEFT JOIN beds.bed_request r USING (encounter_id)
WHERE NOT CASE e.state
    WHEN 'pre_admitted' THEN false  -- the pool always answers: with a bed, or with a reason to wait
    WHEN 'waitlisted' THEN r.state IS NOT DISTINCT FROM 'waiting'
    WHEN 'pending_admit' THEN (r.state, r.bed_id) IS NOT DISTINCT FROM ('assigned', e.bed_id)
    WHEN 'admitted' THEN coalesce(r.state IN ('arrived', 'waiting', 'assigned'), false)
    WHEN 'discharge_ordered' THEN coalesce(r.state IN ('arrived', 'waiting', 'assigned'), false)
    WHEN 'discharged' THEN coalesce(r.state = 'left', false)
    WHEN 'cancelled' THEN coalesce(r.state, 'cancelled') = 'cancelled'
    WHEN 'admission_cancelled' THEN coalesce(r.state IN ('left', 'cancelled'), false)
    ELSE false END
UNION ALL
SELECT format('case %s is %s, its bed request is %s', d.case_id, d.state, coalesce(r.state, 'none'))
FROM daysurgery.day_case d LEFT JOIN beds.bed_request r USING (encounter_id)
LEFT JOIN admission.encounter e USING (encounter_id)
WHERE NOT CASE d.state
    WHEN 'referred' THEN r.state IS NULL
    WHEN 'booking_asked' THEN false
    WHEN 'waitlisted' THEN r.state IS NOT DISTINCT FROM 'waiting'
    WHEN 'booked' THEN (r.state, r.bed_id) IS NOT DISTINCT FROM ('assigned', d.bed_id)
    WHEN 'discharged' THEN coalesce(r.state = 'left', false)
    WHEN 'converted' THEN e.encounter_id IS NOT NULL
    WHEN 'cancelled' THEN coalesce(r.state, 'cancelled') = 'cancelled'
    ELSE coalesce(r.state = 'arrived', false) END
UNION ALL
SELECT format('the pool has a request of %s, which is no stay and no case', r.encounter_id)
FROM beds.bed_request r LEFT JOIN admission.encounter e USING (encounter_id) LEFT JOIN daysurgery.day_case d USING (encounter_id)
WHERE e.encounter_id IS NULL AND d.encounter_id IS NULL
UNION ALL
SELECT format('stay %s has left and its bed is not released', encounter_id)
FROM admission.encounter WHERE state = 'discharged' AND bed_released_at IS NULL
"""
_ACCOUNTS = """
WITH patient_case AS (
    SELECT encounter_id, patient_tok, state = 'admission_cancelled' AS never FROM admission.encounter WHERE admitted_at IS NOT NULL
    UNION
    SELECT encounter_id, patient_tok, false FROM daysurgery.day_case d WHERE arrived_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM admission.encounter e WHERE e.encounter_id = d.encounter_id))
SELECT CASE WHEN a.id IS NULL THEN format('stay %s was in hospital and has no account', p.encounter_id)
            WHEN p.encounter_id IS NULL THEN format('account %s belongs to no stay that began', a.id)
            WHEN a.patient_tok <> p.patient_tok THEN format('account %s and stay %s name different patients', a.id, p.encounter_id)
            ELSE format('stay %s never counted, its account is %s', p.encounter_id, a.state) END
FROM patient_case p FULL JOIN billing.account a USING (encounter_id)
WHERE a.id IS NULL OR p.encounter_id IS NULL OR a.patient_tok <> p.patient_tok
   OR (a.state = 'voided') <> (p.never AND NOT a.day_case)
UNION ALL
SELECT format('stay %s is %s for admission, its account is %s', e.encounter_id,
              CASE WHEN e.settled_at IS NULL THEN 'not settled' ELSE 'settled' END, a.state)
FROM admission.encounter e JOIN billing.account a USING (encounter_id)
WHERE (e.settled_at IS NOT NULL) <> (a.state = 'closed')
UNION ALL
SELECT format('stay %s counts %s live charges, its account has %s', e.encounter_id, e.live_charges, coalesce(l.live, 0))
FROM admission.encounter e LEFT JOIN admission.converted_case c USING (encounter_id)
LEFT JOIN (
    SELECT a.encounter_id, count(*) AS live
    FROM billing.entry n JOIN billing.account a ON a.id = n.account_id
    WHERE n.kind = 'charge' AND NOT EXISTS (SELECT FROM billing.entry r WHERE r.reverses = n.id)
    GROUP BY a.encounter_id) l USING (encounter_id)
-- Charges of a day case may be told before the case became a stay; only those told afterwards are counted.
WHERE CASE WHEN c.case_id IS NULL THEN e.live_charges <> coalesce(l.live, 0) ELSE e.live_charges > coalesce(l.live, 0) END
"""
_ACCOUNTS_EXAMINED = "SELECT (SELECT count(*) FROM billing.account) + (SELECT count(*) FROM admission.encounter WHERE admitted_at IS NOT NULL)"

_WORKLIST = """
WITH gone AS (SELECT encounter_id FROM admission.encounter WHERE state = 'discharged'
              UNION ALL SELECT encounter_id FROM daysurgery.day_case WHERE state = 'discharged')
SELECT format('stay %s left, is not settled, and its account is %s', g.encounter_id, coalesce(a.state, 'missing'))
FROM gone g LEFT JOIN billing.account a USING (encounter_id)
WHERE a.state IS NULL OR a.state NOT IN ('open', 'closed')
"""

_STATES = """
WITH last_fact AS (
    SELECT DISTINCT ON (aggregate_id) aggregate_id, split_part(type, '.', 3) AS fact
    FROM {s}.outbox WHERE split_part(type, '.', 3) = ANY($1) ORDER BY aggregate_id, version DESC)
SELECT format('{kind} %s is %s, the last that was said of it is %s', coalesce(t.{id}::text, f.aggregate_id),
              coalesce(t.state, 'missing'), coalesce(f.fact, 'nothing'))
FROM {s}.{table} t FULL JOIN last_fact f ON f.aggregate_id = t.{id}::text
WHERE NOT coalesce(f.fact || '>' || t.state = ANY($2), false)
"""
_THINGS = "SELECT count(*) FROM {s}.{table}"
_SAID: tuple[tuple[str, str, str, str, dict[str, tuple[str, ...]]], ...] = (
    (
        "admission",
        "stay",
        "encounter",
        "encounter_id",
        {
            "PreAdmissionRegistered": ("pre_admitted", "waitlisted", "pending_admit"),
            "PreAdmissionCancelled": ("cancelled",),
            "PatientAdmitted": ("admitted",),
            "AdmissionCancelled": ("admission_cancelled",),
            "DischargeOrdered": ("discharge_ordered",),
            "DischargeOrderUndone": ("admitted",),
            "PatientDischarged": ("discharged",),
            "DischargeCancelled": ("admitted",),
        },
    ),
    (
        "daysurgery",
        "case",
        "day_case",
        "case_id",
        {
            "DaySurgeryReferred": ("referred",),
            "DayBedRequested": ("booking_asked", "waitlisted"),
            "DaySurgeryBooked": ("booked", "waitlisted"),
            "DaySurgeryCancelled": ("cancelled",),
            "DaySurgeryArrived": ("arrived",),
            "OperationStarted": ("in_theatre",),
            "OperationFinished": ("operated",),
            "DaySurgeryDischarged": ("discharged",),
            "DaySurgeryConverted": ("converted",),
        },
    ),
    (
        "billing",
        "account",
        "account",
        "id",
        {
            "AccountOpened": ("open",),
            "BillConfirmed": ("billing", "open"),  # open: of a stay that goes on
            "InterimSettled": ("open",),
            "BillWithdrawn": ("open",),
            "AccountClosed": ("closed",),
            "SettlementReopened": ("open",),
            "AccountVoided": ("voided",),
        },
    ),
)
"""Service, what it is called, table, key, and which states each fact leaves the thing in."""


async def states_follow_from_what_was_said(at: Look) -> Seen:
    """D7: the state of every stay, case and account is the one its own last event left it in."""
    examined = 0
    wrong: list[str] = []
    for service, kind, table, key, facts in _SAID:
        if service not in at.services:
            continue
        names = {"s": schema(service), "kind": kind, "table": table, "id": key}
        pairs = [f"{fact}>{state}" for fact, states in facts.items() for state in states]
        examined += await at.count(_THINGS.format(**names))
        wrong += await at.texts(_STATES.format(**names), list(facts), pairs)
    return Seen(examined, wrong)


CHECKS = (
    sql_check(
        "I3",
        "a bed is occupied if and only if an open stay or case names it",
        needs={"beds", "admission", "daysurgery"},
        examined=_OCCUPIED_EXAMINED,
        wrong=_OCCUPIED,
        settles=True,
    ),
    sql_check(
        "I17",
        "every stay, case and bed request is over or waits for a person",
        needs={"beds", "admission", "daysurgery"},
        examined="SELECT (SELECT count(*) FROM admission.encounter) + (SELECT count(*) FROM daysurgery.day_case)",
        wrong=_STAYS,
        settles=True,
    ),
    sql_check(
        "I17-accounts",
        "every stay that began has its account, in the state admission knows",
        needs=_ALL,
        examined=_ACCOUNTS_EXAMINED,
        wrong=_ACCOUNTS,
        settles=True,
    ),
    sql_check(
        "D10",
        "who left and is not settled is on the cashier's list",
        needs=_ALL,
        examined="SELECT (SELECT count(*) FROM admission.encounter WHERE state = 'discharged')"
        " + (SELECT count(*) FROM daysurgery.day_case WHERE state = 'discharged')",
        wrong=_WORKLIST,
        settles=True,
    ),
    Check("D7", "states are what the last event said", states_follow_from_what_was_said),
)
