"""The bed pool, recomputed from its rows without the constraints that guard them (I1, I2, V2, V5)."""

from infra.audit.check import sql_check

_TWO_ON_A_BED = """
SELECT format('bed %s: claim %s begins before the one before it ends', bed_id, id)
FROM (SELECT bed_id, id, lower(during) AS begins, max(coalesce(upper(during), 'infinity')) OVER (
          PARTITION BY bed_id ORDER BY lower(during), id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
      FROM beds.bed_claim WHERE state <> 'released') c
WHERE begins < taken_until
"""
_TWO_FOR_A_PATIENT = """
SELECT format('patient %s: claim %s begins before the one before it ends', patient_tok, id)
FROM (SELECT patient_tok, id, lower(during) AS begins, max(coalesce(upper(during), 'infinity')) OVER (
          PARTITION BY patient_tok, state = 'held' ORDER BY lower(during), id
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
      FROM beds.bed_claim WHERE state IN ('occupied', 'closed', 'held')) c
WHERE begins < taken_until
"""
_BED_AND_CLAIMS = """
SELECT format('bed %s: condition %s and commitment %s exclude each other', bed_id, condition, commitment)
FROM beds.bed WHERE (condition = 'O') <> (commitment = 'active') OR (commitment = 'free') <> (encounter_id IS NULL)
UNION ALL
SELECT format('bed %s is %s for stay %s, no claim says so', b.bed_id, b.commitment, b.encounter_id)
FROM beds.bed b
WHERE b.commitment <> 'free' AND NOT EXISTS (
    SELECT FROM beds.bed_claim c WHERE c.bed_id = b.bed_id AND c.encounter_id = b.encounter_id
    AND c.state = CASE WHEN b.commitment IN ('active', 'leave') THEN 'occupied' ELSE 'held' END)
UNION ALL
SELECT format('claim %s says stay %s has bed %s, the bed does not', c.id, c.encounter_id, c.bed_id)
FROM beds.bed_claim c LEFT JOIN beds.bed b ON b.bed_id = c.bed_id
WHERE (c.state = 'occupied' AND (b.commitment IN ('active', 'leave'), b.encounter_id) IS DISTINCT FROM (true, c.encounter_id))
   OR (c.state = 'held' AND NOT c.slot AND (b.commitment, b.encounter_id) IS DISTINCT FROM ('held', c.encounter_id))
UNION ALL
SELECT format('bed %s is being cleaned without end and its condition is %s', c.bed_id, b.condition)
FROM beds.bed_claim c JOIN beds.bed b USING (bed_id)
WHERE c.state = 'cleaning' AND upper_inf(c.during) AND b.condition NOT IN ('H', 'K')
UNION ALL
SELECT format('the request of stay %s is %s, its claim is %s', r.encounter_id, r.state, coalesce(c.state, 'none'))
FROM beds.bed_request r LEFT JOIN beds.bed_claim c
    ON c.id = r.claim_id AND c.bed_id = r.bed_id AND c.encounter_id = r.encounter_id AND c.patient_tok = r.patient_tok
WHERE r.share_id IS NULL AND NOT (r.state = 'left' AND r.recalled)
  AND CASE r.state WHEN 'arrived' THEN c.state IS DISTINCT FROM 'occupied' WHEN 'assigned' THEN c.state IS DISTINCT FROM 'held'
                   WHEN 'left' THEN c.state IS NULL OR c.state NOT IN ('closed', 'released')
                   ELSE r.claim_id IS NOT NULL END
UNION ALL
SELECT format('claim %s is %s and no request of stay %s knows it', c.id, c.state, c.encounter_id)
FROM beds.bed_claim c LEFT JOIN beds.bed_request r ON r.claim_id = c.id
LEFT JOIN beds.bed_move m ON m.claim_id = c.id AND m.state = 'announced' AND c.state = 'held'
WHERE c.state IN ('held', 'occupied') AND coalesce(r.encounter_id, m.encounter_id) IS DISTINCT FROM c.encounter_id
UNION ALL
SELECT format('stay %s shares the bed of stay %s and is %s in bed %s, the host is %s in bed %s',
              s.guest_id, s.host_id, g.state, g.bed_id, h.state, h.bed_id)
FROM beds.bed_share s JOIN beds.bed_request h ON h.encounter_id = s.host_id LEFT JOIN beds.bed_request g ON g.encounter_id = s.guest_id
WHERE upper_inf(s.during) AND (h.state <> 'arrived' OR (s.guest_id IS NOT NULL
    AND (g.share_id, g.bed_id, g.state IN ('assigned', 'arrived')) IS DISTINCT FROM (s.id, h.bed_id, true)))
UNION ALL
SELECT format('stay %s is said to share a bed and no share says so', g.encounter_id)
FROM beds.bed_request g LEFT JOIN beds.bed_share s ON s.id = g.share_id AND s.guest_id = g.encounter_id AND upper_inf(s.during)
WHERE g.share_id IS NOT NULL AND g.state IN ('assigned', 'arrived') AND s.id IS NULL
"""
_PARTITION = """
WITH bed AS (
    SELECT bed_id, ward, (service <> 'active')::int AS out_of_service,
           (service = 'active' AND commitment IN ('active', 'leave'))::int AS occupied,
           (service = 'active' AND commitment = 'held')::int AS held,
           (service = 'active' AND commitment = 'free' AND condition = 'U')::int AS free,
           (service = 'active' AND commitment = 'free' AND condition <> 'U')::int AS to_clean
    FROM beds.bed),
added AS (SELECT DISTINCT (body ->> 'bed_id')::bigint AS bed_id FROM beds.outbox WHERE type LIKE '%.BedAdded.v%')
SELECT format('bed %s is counted %s times', bed_id, out_of_service + occupied + held + free + to_clean)
FROM bed WHERE out_of_service + occupied + held + free + to_clean <> 1
UNION ALL
SELECT format('bed %s is in the pool and was never announced', b.bed_id) FROM bed b LEFT JOIN added a USING (bed_id) WHERE a.bed_id IS NULL
UNION ALL
SELECT format('bed %s was announced and is not in the pool', a.bed_id) FROM added a LEFT JOIN bed b USING (bed_id) WHERE b.bed_id IS NULL
UNION ALL
SELECT format('bed %s stands in ward %s, which no board shows', b.bed_id, b.ward)
FROM bed b LEFT JOIN beds.ward w USING (ward) WHERE w.ward IS NULL
"""

CHECKS = (
    sql_check(
        "I1",
        "no two live claims overlap on a bed",
        needs={"beds"},
        examined="SELECT count(*) FROM beds.bed_claim WHERE state <> 'released'",
        wrong=_TWO_ON_A_BED,
    ),
    sql_check(
        "I2",
        "no patient has two beds, or two holds, at a time",
        needs={"beds"},
        examined="SELECT count(*) FROM beds.bed_claim WHERE state IN ('occupied', 'closed', 'held')",
        wrong=_TWO_FOR_A_PATIENT,
    ),
    sql_check(
        "V2",
        "beds, claims and requests tell the same story",
        needs={"beds"},
        examined="SELECT (SELECT count(*) FROM beds.bed_claim) + (SELECT count(*) FROM beds.bed_request)",
        wrong=_BED_AND_CLAIMS,
    ),
    sql_check(
        "V5",
        "the board counts every bed of the pool once",
        needs={"beds"},
        examined="SELECT count(*) FROM beds.bed",
        wrong=_PARTITION,
    ),
)
