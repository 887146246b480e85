"""SQL of the beds schema. One function, one statement.

Lock order everywhere: request, then ward, then bed; so no two transactions wait for each other in a circle for long (R2).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from services.beds.mirror import bed_of, ward_of
from services.beds.rules import Bed, Need, Ward
from shared.db import LostRace, Transaction
from shared.errors import Refused

_URGENCY = "array_position(ARRAY['critical', 'emergency', 'urgent', 'elective'], {0}.urgency)"
_ORDER = f"{_URGENCY.format('q')}, coalesce(q.place_at, q.requested_at), q.encounter_id"


_PLACE = (
    "(SELECT count(*) FROM bed_request q WHERE q.state = 'waiting' AND q.kind = r.kind AND"
    f" ({_ORDER}) <= ({_ORDER.replace('q.', 'r.')}))"
)


async def insert_request(tx: Transaction, encounter_id: UUID, patient_tok: UUID, **facts: Any) -> bool:
    """Write a request; False when this stay has one already."""
    done: str = await tx.conn.execute(
        "INSERT INTO bed_request (encounter_id, patient_tok, kind, state, sex, specialty, urgency, isolation, level, from_at,"
        " until_at, age_years, class, equipment, stay_days, partner, source, requested_at)"
        " SELECT $1, $2, $3, 'waiting', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17"
        " WHERE NOT EXISTS (SELECT FROM bed_request WHERE encounter_id = $1)",
        encounter_id,
        patient_tok,
        facts["kind"],
        facts["sex"],
        facts["specialty"],
        facts["urgency"],
        facts["isolation"],
        facts["level"],
        facts["from_at"],
        facts["until_at"],
        facts["age_years"],
        facts["class"],
        facts["equipment"],
        facts["stay_days"],
        facts["partner"],
        tx.source,
        tx.now,
    )
    return done.endswith("1")


_LOCKED = """
SELECT r.*, c.during, c.state AS claim_state, b.code, b.ward, b.kind AS bed_kind, b.level AS bed_level, b.class AS bed_class
FROM bed_request r LEFT JOIN bed_claim c ON c.id = r.claim_id LEFT JOIN bed b ON b.bed_id = r.bed_id
WHERE r.encounter_id = $1 FOR UPDATE OF r
"""


async def lock_request(tx: Transaction, encounter_id: UUID) -> Any:
    """Lock and return the request of a stay with its bed and claim, or nothing.

    When another transaction gave the stay another bed while this one waited for the lock, the statement has the new request
    beside the old bed, which is none; with the lock held, the same question has one answer.
    """
    row = await tx.conn.fetchrow(_LOCKED, encounter_id)
    if row is not None and row["bed_id"] is not None and (row["ward"] is None or row["claim_state"] is None):
        row = await tx.conn.fetchrow(_LOCKED, encounter_id)
    return row


async def get_allocation(tx: Transaction, encounter_id: UUID) -> Any:
    """Return the request of a stay with its bed and its place in the queue, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT r.encounter_id, r.patient_tok, r.state, r.waiting_reason, r.bed_id, b.code AS bed_code, b.ward, c.hold_expires,"
        f" CASE WHEN r.state = 'waiting' THEN {_PLACE} END AS place"
        " FROM bed_request r LEFT JOIN bed b USING (bed_id) LEFT JOIN bed_claim c ON c.id = r.claim_id WHERE r.encounter_id = $1",
        encounter_id,
    )


async def list_waiting(tx: Transaction, limit: int) -> list[Any]:
    """Lock and return waiting requests in the order they are served; those being served elsewhere are left out."""
    rows: list[Any] = await tx.conn.fetch(
        f"SELECT q.* FROM bed_request q WHERE q.state = 'waiting' ORDER BY {_ORDER} LIMIT $1 FOR UPDATE SKIP LOCKED",
        limit,
    )
    return rows


async def list_queue(tx: Transaction, *, limit: int) -> list[Any]:
    """Return the queue as people see it, each with its place among requests of its kind."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT q.*, row_number() OVER (PARTITION BY q.kind ORDER BY "
        f"{_ORDER}) AS place FROM bed_request q WHERE q.state = 'waiting' ORDER BY {_ORDER} LIMIT $1",
        limit,
    )
    return rows


async def get_queued(tx: Transaction, encounter_id: UUID) -> Any:
    """Return one request with its place, or nothing."""
    return await tx.conn.fetchrow(
        f"SELECT r.*, CASE WHEN r.state = 'waiting' THEN {_PLACE} END AS place FROM bed_request r WHERE r.encounter_id = $1",
        encounter_id,
    )


async def list_target_wards(tx: Transaction, need: Need) -> list[str]:
    """Return wards that have a free bed of this kind, the right specialty first, then the emptiest (step 1: target unit)."""
    rows = await tx.conn.fetch(
        "SELECT w.ward FROM ward w JOIN bed b USING (ward)"
        " WHERE b.kind = $1 AND b.level = $2 AND b.service = 'active' AND b.condition = 'U' AND b.commitment = 'free'"
        " AND (b.busy_until IS NULL OR b.busy_until <= $5) AND (b.isolation OR NOT $4) AND w.open"
        " GROUP BY w.ward ORDER BY (w.specialty = $3) DESC, ($3 = ANY (w.auxiliary)) DESC, count(*) DESC, w.ward",
        need.kind,
        need.level,
        need.specialty,
        need.isolation != "none",
        need.from_at,
    )
    return [row["ward"] for row in rows]


async def lock_ward(tx: Transaction, ward: str) -> tuple[Ward, list[Bed]]:
    """Lock a ward, so that nobody else takes a bed in it meanwhile, and return it with its beds as they are now.

    Two statements, because the second must see what committed while the first one waited.
    """
    row = await tx.conn.fetchrow("SELECT * FROM ward WHERE ward = $1 FOR UPDATE", ward)
    assert row is not None
    rows = await tx.conn.fetch("SELECT * FROM bed WHERE ward = $1 ORDER BY bed_id", ward)
    return ward_of(row), [bed_of(bed) for bed in rows]


async def list_day_beds_free_in_slot(tx: Transaction, starts_at: datetime, ends_at: datetime) -> list[Bed]:
    """Lock the day wards and return active day beds that nobody has claimed for any part of the slot (R23)."""
    await tx.conn.execute(
        "SELECT 1 FROM ward WHERE ward IN (SELECT ward FROM bed WHERE kind = 'day') ORDER BY ward FOR UPDATE"
    )
    rows = await tx.conn.fetch(
        "SELECT * FROM bed b WHERE kind = 'day' AND service = 'active' AND NOT EXISTS (SELECT FROM bed_claim c"
        " WHERE c.bed_id = b.bed_id AND c.state <> 'released' AND c.during && tstzrange($1::timestamptz, $2::timestamptz)) ORDER BY bed_id",
        starts_at,
        ends_at,
    )
    return [bed_of(row) for row in rows]


async def insert_hold(
    tx: Transaction,
    claim_id: UUID,
    *,
    encounter_id: UUID,
    patient_tok: UUID,
    bed_id: int,
    sex: str,
    from_at: datetime,
    until_at: datetime | None,
    hold: timedelta,
    takes_bed_now: bool,
    isolated: bool,
    rules_version: int,
    explanation: Any,
    override_reason: str | None = None,
) -> datetime:
    """Hold a bed for a stay, keep why it was this one, and return until when; the constraints refuse a second claim (V1).

    Raises:
        LostRace: another claim took the bed meanwhile. Refused: the patient holds another bed for that time.
    """
    try:
        held_until: datetime = await tx.conn.fetchval(
            """
            WITH claim AS (INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state, slot, hold_expires)
                           VALUES ($1, $4, $2, $3, tstzrange($6::timestamptz, $7::timestamptz), 'held', $7::timestamptz IS NOT NULL,
                                   greatest(clock_timestamp(), $7::timestamptz) + $8::interval) RETURNING hold_expires),
                 taken AS (UPDATE bed SET commitment = 'held', encounter_id = $2, patient_sex = $5, isolation_patient = $10,
                                  until = (SELECT hold_expires FROM claim), version = version + 1
                           WHERE bed_id = $4 AND $9),
                 kept AS (INSERT INTO decision (encounter_id, bed_id, actor, rules_version, explanation, override_reason)
                          VALUES ($2, $4, $11, $12, $13, $14))
            UPDATE bed_request SET state = 'assigned', bed_id = $4, claim_id = $1, waiting_reason = NULL
            WHERE encounter_id = $2 RETURNING (SELECT hold_expires FROM claim)
            """,
            claim_id,
            encounter_id,
            patient_tok,
            bed_id,
            sex,
            from_at,
            until_at,
            hold,
            takes_bed_now,
            isolated,
            tx.actor,
            rules_version,
            explanation,
            override_reason,
        )
    except asyncpg.ExclusionViolationError as error:
        raise _who_was_first(error) from error
    return held_until


@contextmanager
def _one_winner() -> Iterator[None]:
    """Let the constraints decide who was first.

    Raises:
        LostRace: another claim has the bed for that time. Refused: the patient has another bed for that time.
    """
    try:
        yield
    except asyncpg.ExclusionViolationError as error:
        raise _who_was_first(error) from error


def _who_was_first(error: asyncpg.ExclusionViolationError) -> Exception:
    if error.constraint_name == "one_per_bed":
        return LostRace("Another claim took this bed.")
    return Refused("The patient has another bed for that time.", code="patient_has_another_bed")


async def mark_waiting(tx: Transaction, encounter_id: UUID, reason: str, *, recalled: bool = False) -> None:
    """Write why a request still waits; a recalled patient is in the house already and lies down as soon as a bed is found."""
    await tx.conn.execute(
        "UPDATE bed_request SET state = 'waiting', bed_id = NULL, claim_id = NULL, waiting_reason = $2, recalled = recalled OR $3"
        " WHERE encounter_id = $1",
        encounter_id,
        reason,
        recalled,
    )


def _expected_to_leave(request: Any, at: datetime) -> datetime | None:
    return at + timedelta(days=request["stay_days"]) if request["stay_days"] is not None else request["until_at"]


async def mark_occupied(tx: Transaction, request: Any, at: datetime) -> None:
    """Turn the hold into a stay that begins at `at`; a slot keeps its end.

    Raises:
        Refused: the patient is still in another bed.
    """
    try:
        await tx.conn.execute(
            """
            WITH stay AS (UPDATE bed_claim SET state = 'occupied', hold_expires = NULL,
                                 during = tstzrange($3, CASE WHEN slot THEN greatest(upper(during), $3::timestamptz + interval '1 minute') END)
                          WHERE id = $2),
                 taken AS (UPDATE bed SET commitment = 'active', condition = 'O', encounter_id = $1, patient_sex = $4,
                                  isolation_patient = $6, since = $3, until = $7, version = version + 1 WHERE bed_id = $5)
            UPDATE bed_request SET state = 'arrived', leaving_at = $7 WHERE encounter_id = $1
            """,
            request["encounter_id"],
            request["claim_id"],
            at,
            request["sex"],
            request["bed_id"],
            request["isolation"] != "none",
            _expected_to_leave(request, at),
        )
    except asyncpg.ExclusionViolationError as error:
        raise _who_was_first(error) from error


async def release_hold(tx: Transaction, request: Any, *, state: str) -> None:
    """End a hold as if it never was; the bed is free again."""
    await tx.conn.execute(
        """
        WITH gone AS (UPDATE bed_claim SET state = 'released', hold_expires = NULL WHERE id = $2),
             freed AS (UPDATE bed SET commitment = 'free', encounter_id = NULL, patient_sex = NULL, isolation_patient = false,
                              until = NULL, version = version + 1
                       WHERE bed_id = $3 AND encounter_id = $1)
        UPDATE bed_request SET state = $4, bed_id = NULL, claim_id = NULL WHERE encounter_id = $1
        """,
        request["encounter_id"],
        request["claim_id"],
        request["bed_id"],
        state,
    )


async def close_stay(tx: Transaction, request: Any, at: datetime, *, cleaning_id: UUID) -> None:
    """The patient left the bed at `at`: the stay is history, the bed is to be cleaned from now on (R41).

    The cleaning claim of a bounded slot ends with the day bed's next claim, because a later patient is already expected.
    """
    await tx.conn.execute(
        """
        WITH stay AS (UPDATE bed_claim SET during = tstzrange(lower(during), $4::timestamptz), state = 'closed', slot = false
                      WHERE id = $2 AND $4::timestamptz > lower(during)),
             never AS (UPDATE bed_claim SET state = 'released' WHERE id = $2 AND $4::timestamptz <= lower(during)),
             dirty AS (UPDATE bed SET commitment = 'free', condition = $5, encounter_id = NULL, patient_sex = NULL,
                              isolation_patient = false, since = NULL, until = NULL, cleaning = 'requested',
                              cleaning_requested_at = $4, cleaning_started_at = NULL,
                              busy_until = greatest(busy_until, $4::timestamptz), version = version + 1 WHERE bed_id = $3)
        UPDATE bed_request SET state = 'left' WHERE encounter_id = $1
        """,
        request["encounter_id"],
        request["claim_id"],
        request["bed_id"],
        at,
        "H" if request["isolation"] == "none" else "K",
    )
    # A second statement, because an exclusion constraint does not see a sibling's update in the same statement.
    await tx.conn.execute(
        "INSERT INTO bed_claim (id, bed_id, during, state) SELECT $1::uuid, $2::bigint,"
        " tstzrange($3::timestamptz, (SELECT min(lower(during)) FROM bed_claim"
        " WHERE bed_id = $2 AND state <> 'released' AND lower(during) > $3::timestamptz)), 'cleaning'"
        " WHERE NOT EXISTS (SELECT FROM bed_claim WHERE bed_id = $2 AND state <> 'released' AND during @> $3::timestamptz)",
        cleaning_id,
        request["bed_id"],
        at,
    )


async def reoccupy(tx: Transaction, request: Any, at: datetime, *, claim_id: UUID) -> bool:
    """Give the old bed back to a patient whose discharge was taken back; False when it is not free and clean-or-own (A13)."""
    bed = await tx.conn.fetchrow("SELECT * FROM bed WHERE bed_id = $1 FOR UPDATE", request["bed_id"])
    assert bed is not None
    if bed["service"] != "active" or bed["commitment"] != "free" or bed["condition"] not in ("U", "H", "K"):
        return False
    await tx.conn.execute(
        "UPDATE bed_claim SET state = 'released' WHERE bed_id = $1 AND state = 'cleaning' AND upper(during) IS NULL",
        request["bed_id"],
    )
    taken = await tx.conn.fetchval(
        "SELECT 1 FROM bed_claim WHERE bed_id = $1 AND state <> 'released' AND during && tstzrange($2::timestamptz, NULL)",
        request["bed_id"],
        at,
    )
    if taken:
        return False
    await tx.conn.execute(
        """
        WITH claim AS (INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state)
                       VALUES ($1, $2, $3, $4, tstzrange($6::timestamptz, NULL), 'occupied')),
             taken AS (UPDATE bed SET commitment = 'active', condition = 'O', encounter_id = $3, patient_sex = $5,
                              isolation_patient = $7, since = $6, until = NULL, cleaning = NULL, cleaning_requested_at = NULL,
                              cleaning_started_at = NULL, version = version + 1 WHERE bed_id = $2)
        UPDATE bed_request SET state = 'arrived', claim_id = $1 WHERE encounter_id = $3
        """,
        claim_id,
        request["bed_id"],
        request["encounter_id"],
        request["patient_tok"],
        request["sex"],
        at,
        request["isolation"] != "none",
    )
    return True


async def list_later_slots(tx: Transaction, bed_id: int, from_at: datetime, until_at: datetime | None) -> list[Any]:
    """Return later holds of a day bed that an overrun or conversion pushes out: the hold yields, never the person in the bed (R40)."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT r.* FROM bed_claim c JOIN bed_request r ON r.claim_id = c.id WHERE c.bed_id = $1 AND c.state = 'held'"
        " AND c.during && tstzrange($2::timestamptz, $3::timestamptz) ORDER BY r.encounter_id FOR UPDATE OF r",
        bed_id,
        from_at,
        until_at,
    )
    return rows


async def extend_claim(tx: Transaction, claim_id: UUID, until_at: datetime | None) -> None:
    """Let a slot last longer; None: until the patient leaves."""
    await tx.conn.execute(
        "UPDATE bed_claim SET during = tstzrange(lower(during), $2::timestamptz), slot = $2::timestamptz IS NOT NULL WHERE id = $1",
        claim_id,
        until_at,
    )


async def list_overrun_slots(tx: Transaction) -> list[Any]:
    """Lock and return live day stays whose slot is over while the patient is still in the bed."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT r.* FROM bed_request r JOIN bed_claim c ON c.id = r.claim_id WHERE r.state = 'arrived' AND r.kind = 'day'"
        " AND r.source = 'live' AND c.slot AND upper(c.during) <= $1 ORDER BY r.encounter_id LIMIT 50 FOR UPDATE OF r SKIP LOCKED",
        tx.now,
    )
    return rows


async def list_expired_holds(tx: Transaction) -> list[Any]:
    """Lock and return requests whose hold ran out (R44)."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT r.* FROM bed_claim c JOIN bed_request r ON r.claim_id = c.id WHERE c.state = 'held' AND c.hold_expires <= clock_timestamp()"
        " AND r.state = 'assigned' ORDER BY r.encounter_id LIMIT 50 FOR UPDATE OF r SKIP LOCKED"
    )
    return rows


async def note_refusal(tx: Transaction, request: Any, *, ward: str | None, loses_place: bool) -> None:
    """Remember who or what was refused, so that it is not offered again; a lost place begins anew now."""
    await tx.conn.execute(
        "UPDATE bed_request SET refused_wards = CASE WHEN $2::text IS NULL THEN refused_wards ELSE refused_wards || $2::text END,"
        " refused_beds = refused_beds || $3::bigint, place_at = CASE WHEN $4 THEN $5 ELSE place_at END, waiting_reason = 'refused'"
        " WHERE encounter_id = $1",
        request["encounter_id"],
        ward,
        request["bed_id"],
        loses_place,
        tx.now,
    )


async def leave_claim(tx: Transaction, request: Any, at: datetime) -> None:
    """End the claim of a patient who moves at `at`; a claim that began this very moment never was."""
    await tx.conn.execute(
        "UPDATE bed_claim SET state = CASE WHEN $2::timestamptz > lower(during) THEN 'closed' ELSE 'released' END, slot = false,"
        " during = CASE WHEN $2::timestamptz > lower(during) THEN tstzrange(lower(during), $2::timestamptz) ELSE during END"
        " WHERE id = $1",
        request["claim_id"],
        at,
    )


async def end_stay_in_bed(tx: Transaction, request: Any, at: datetime, *, cleaning_id: UUID) -> None:
    """The patient left this bed for another one at `at`; it is to be cleaned.

    Raises:
        LostRace: the bed was somebody else's a moment later than `at`.
    """
    await leave_claim(tx, request, at)
    with _one_winner():
        await tx.conn.execute(
            """
            WITH dirty AS (UPDATE bed SET commitment = 'free', condition = $4, encounter_id = NULL, patient_sex = NULL,
                                  isolation_patient = false, since = NULL, until = NULL, cleaning = 'requested', cleaning_requested_at = $3,
                                  cleaning_started_at = NULL, busy_until = greatest(busy_until, $3::timestamptz), version = version + 1
                           WHERE bed_id = $2)
            INSERT INTO bed_claim (id, bed_id, during, state) VALUES ($1, $2, tstzrange($3::timestamptz, NULL), 'cleaning')
            """,
            cleaning_id,
            request["bed_id"],
            at,
            "H" if request["isolation"] == "none" else "K",
        )


async def begin_stay_in_bed(tx: Transaction, request: Any, bed_id: int, at: datetime, *, claim_id: UUID) -> None:
    """The patient lies in this bed from `at` on; the constraints refuse a second one (V1, V15).

    Raises:
        LostRace: another claim took the bed meanwhile.
    """
    with _one_winner():
        await tx.conn.execute(
            """
            WITH claim AS (INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state)
                           VALUES ($1, $2, $3, $4, tstzrange($5::timestamptz, NULL), 'occupied')),
                 taken AS (UPDATE bed SET commitment = 'active', condition = 'O', encounter_id = $3, patient_sex = $6,
                                  isolation_patient = $7, since = $5, until = $8, version = version + 1 WHERE bed_id = $2)
            UPDATE bed_request SET bed_id = $2, claim_id = $1 WHERE encounter_id = $3
            """,
            claim_id,
            bed_id,
            request["encounter_id"],
            request["patient_tok"],
            at,
            request["sex"],
            request["isolation"] != "none",
            request["leaving_at"],
        )


async def mark_leave(tx: Transaction, bed_id: int, *, away: bool) -> bool:
    """Note that the patient of a bed is away, or back; False when that is so already."""
    done: str = await tx.conn.execute(
        "UPDATE bed SET commitment = CASE WHEN $2 THEN 'leave' ELSE 'active' END, condition = CASE WHEN $2 THEN 'U' ELSE 'O' END,"
        " version = version + 1 WHERE bed_id = $1 AND commitment = CASE WHEN $2 THEN 'active' ELSE 'leave' END",
        bed_id,
        away,
    )
    return done.endswith("1")


async def mark_leaving(tx: Transaction, encounter_id: UUID, at: datetime | None) -> None:
    """The patient may go from `at` on; None: the order was taken back, and the expected day holds again."""
    await tx.conn.execute(
        "WITH stay AS (UPDATE bed_request SET discharge_ordered_at = $2, leaving_at = coalesce($2, (SELECT since"
        " + stay_days * interval '1 day' FROM bed WHERE bed.bed_id = bed_request.bed_id))"
        " WHERE encounter_id = $1 AND state = 'arrived' RETURNING bed_id, leaving_at)"
        " UPDATE bed SET until = stay.leaving_at, version = version + 1 FROM stay WHERE bed.bed_id = stay.bed_id",
        encounter_id,
        at,
    )


async def list_ward_work(tx: Transaction, ward: str) -> list[Any]:
    """Return the stays that have or will have a bed of this ward, those who come first."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT r.encounter_id, r.patient_tok, r.state, r.sex, r.age_years, r.isolation, r.kind, r.leaving_at, r.discharge_ordered_at,"
        " b.bed_id, b.code, b.commitment, b.condition, c.hold_expires, lower(c.during) AS since"
        " FROM bed_request r JOIN bed b USING (bed_id) JOIN bed_claim c ON c.id = r.claim_id"
        " WHERE b.ward = $1 AND r.state IN ('assigned', 'arrived') ORDER BY c.hold_expires NULLS LAST, r.leaving_at NULLS LAST, b.bed_id",
        ward,
    )
    return rows


async def list_lying(tx: Transaction) -> list[Any]:
    """Return everybody in a bed with how long already, and when they were expected to leave."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT b.ward, r.specialty, greatest(0, extract(epoch FROM $1::timestamptz - b.since) / 3600)::float8 AS stayed_hours,"
        " (extract(epoch FROM r.leaving_at - $1::timestamptz) / 3600)::float8 AS expected_in_hours, r.discharge_ordered_at IS NOT NULL AS ordered"
        " FROM bed b JOIN bed_request r USING (encounter_id) WHERE b.commitment IN ('active', 'leave') AND b.since IS NOT NULL",
        tx.now,
    )
    return rows


async def list_past_stays(tx: Transaction, days: int) -> list[Any]:
    """Return how long the stays of the last days were, in hours, by specialty; a stay in several beds is one."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT r.specialty, (extract(epoch FROM max(upper(c.during)) - min(lower(c.during))) / 3600)::float8 AS hours"
        " FROM bed_request r JOIN bed_claim c USING (encounter_id) WHERE r.state = 'left' AND r.kind = 'inpatient'"
        " AND c.state = 'closed' GROUP BY r.encounter_id HAVING max(upper(c.during)) > $1::timestamptz - $2::int * interval '1 day' LIMIT 200000",
        tx.now,
        days,
    )
    return rows


async def insert_queue_link(
    tx: Transaction, token_hash: bytes, encounter_id: UUID, place: int | None, expires_at: datetime
) -> None:
    """Keep the hash of a link to a place in the queue."""
    await tx.conn.execute(
        "INSERT INTO queue_link (token_hash, encounter_id, first_place, expires_at) VALUES ($1, $2, $3, $4)",
        token_hash,
        encounter_id,
        place,
        expires_at,
    )


async def get_linked(conn: Any, token_hash: bytes, now: datetime) -> Any:
    """Return what a link that has not expired shows, or nothing."""
    return await conn.fetchrow(
        "SELECT r.state, r.waiting_reason, r.from_at, r.kind, l.first_place, l.expires_at,"
        f" CASE WHEN r.state = 'waiting' THEN {_PLACE} END AS place,"
        " (SELECT count(*) FROM bed_request q WHERE q.state = 'waiting' AND q.kind = r.kind) AS waiting"
        " FROM queue_link l JOIN bed_request r USING (encounter_id) WHERE l.token_hash = $1 AND l.expires_at > $2",
        token_hash,
        now,
    )


async def insert_weights(tx: Transaction, weights: dict[str, int]) -> int:
    """Write a new version of the soft rules' weights."""
    version: int = await tx.conn.fetchval(
        "INSERT INTO rule_set (weights, made_by) VALUES ($1, $2) RETURNING version", weights, tx.actor
    )
    return version


async def list_decisions(tx: Transaction, encounter_id: UUID) -> list[Any]:
    """Return why this stay got the beds it got, oldest first, with the weights of their time."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT d.at, d.bed_id, d.actor, d.rules_version, d.explanation, d.override_reason, s.weights"
        " FROM decision d LEFT JOIN rule_set s ON s.version = d.rules_version WHERE d.encounter_id = $1 ORDER BY d.at",
        encounter_id,
    )
    return rows
