"""SQL of the beds schema. One function, one statement.

Lock order everywhere: request, then ward, then bed; so no two transactions wait for each other in a circle for long (R2).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from services.beds.domain import Bed
from shared.db import LostRace, Transaction
from shared.errors import Refused


def _bed(row: Any) -> Bed:
    return Bed(
        bed_id=row["bed_id"],
        code=row["code"],
        ward=row["ward"],
        room=row["room"],
        kind=row["kind"],
        level=row["level"],
        isolation=row["isolation"],
        service=row["service"],
        condition=row["condition"],
        commitment=row["commitment"],
        patient_sex=row["patient_sex"],
        busy_until=row["busy_until"],
    )


async def insert_request(tx: Transaction, encounter_id: UUID, patient_tok: UUID, **facts: Any) -> bool:
    """Write a request; False when this stay has one already."""
    done: str = await tx.conn.execute(
        "INSERT INTO bed_request (encounter_id, patient_tok, kind, state, sex, specialty, urgency, isolation, level, from_at,"
        " until_at, source, requested_at) VALUES ($1, $2, $3, 'waiting', $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        " ON CONFLICT DO NOTHING",
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
        tx.source,
        tx.now,
    )
    return done.endswith("1")


async def lock_request(tx: Transaction, encounter_id: UUID) -> Any:
    """Lock and return the request of a stay with its claim, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT r.*, c.during, c.state AS claim_state, b.code, b.ward FROM bed_request r LEFT JOIN bed_claim c ON c.id = r.claim_id"
        " LEFT JOIN bed b ON b.bed_id = r.bed_id WHERE r.encounter_id = $1 FOR UPDATE OF r",
        encounter_id,
    )


async def get_allocation(tx: Transaction, encounter_id: UUID) -> Any:
    """Return the request of a stay with its bed and its place in the queue, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT r.encounter_id, r.patient_tok, r.state, r.waiting_reason, r.bed_id, b.code AS bed_code, b.ward, c.hold_expires,"
        " CASE WHEN r.state = 'waiting' THEN (SELECT count(*) FROM bed_request q WHERE q.state = 'waiting' AND q.kind = r.kind"
        " AND (array_position(ARRAY['critical', 'emergency', 'urgent', 'elective'], q.urgency), q.requested_at, q.encounter_id)"
        " <= (array_position(ARRAY['critical', 'emergency', 'urgent', 'elective'], r.urgency), r.requested_at, r.encounter_id)) END AS place"
        " FROM bed_request r LEFT JOIN bed b USING (bed_id) LEFT JOIN bed_claim c ON c.id = r.claim_id WHERE r.encounter_id = $1",
        encounter_id,
    )


async def list_waiting(tx: Transaction, limit: int) -> list[Any]:
    """Lock and return waiting requests in the order they are served; those being served elsewhere are left out."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT * FROM bed_request WHERE state = 'waiting'"
        " ORDER BY array_position(ARRAY['critical', 'emergency', 'urgent', 'elective'], urgency), requested_at, encounter_id"
        " LIMIT $1 FOR UPDATE SKIP LOCKED",
        limit,
    )
    return rows


async def list_queue(tx: Transaction, *, limit: int) -> list[Any]:
    """Return the queue as people see it."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT encounter_id, kind, urgency, specialty, waiting_reason, from_at, requested_at FROM bed_request WHERE state = 'waiting'"
        " ORDER BY array_position(ARRAY['critical', 'emergency', 'urgent', 'elective'], urgency), requested_at, encounter_id"
        " LIMIT $1",
        limit,
    )
    return rows


async def list_target_wards(
    tx: Transaction, *, kind: str, level: str, specialty: str, isolation: bool, from_at: datetime
) -> list[str]:
    """Return wards that have a free bed of this kind, the right specialty first, then the emptiest (step 1: target unit)."""
    rows = await tx.conn.fetch(
        "SELECT w.ward FROM ward w JOIN bed b USING (ward)"
        " WHERE b.kind = $1 AND b.level = $2 AND b.service = 'active' AND b.condition = 'U' AND b.commitment = 'free'"
        " AND (b.busy_until IS NULL OR b.busy_until <= $5) AND (b.isolation OR NOT $4)"
        " GROUP BY w.ward ORDER BY (w.specialty = $3) DESC, (w.specialty = 'general') DESC, count(*) DESC, w.ward",
        kind,
        level,
        specialty,
        isolation,
        from_at,
    )
    return [row["ward"] for row in rows]


async def lock_ward_beds(tx: Transaction, ward: str) -> list[Bed]:
    """Lock the ward and return its beds, so that no other allocation can take one meanwhile."""
    await tx.conn.execute("SELECT 1 FROM ward WHERE ward = $1 FOR UPDATE", ward)
    return [_bed(row) for row in await tx.conn.fetch("SELECT * FROM bed WHERE ward = $1 ORDER BY bed_id", ward)]


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
    return [_bed(row) for row in rows]


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
) -> datetime:
    """Hold a bed for a stay and return until when; the constraints refuse a second claim (V1).

    Raises:
        LostRace: another claim took the bed meanwhile. Refused: the patient holds another bed for that time.
    """
    try:
        held_until: datetime = await tx.conn.fetchval(
            """
            WITH claim AS (INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state, slot, hold_expires)
                           VALUES ($1, $4, $2, $3, tstzrange($6::timestamptz, $7::timestamptz), 'held', $7::timestamptz IS NOT NULL,
                                   greatest(clock_timestamp(), $7::timestamptz) + $8::interval) RETURNING hold_expires),
                 taken AS (UPDATE bed SET commitment = 'held', encounter_id = $2, patient_sex = $5, version = version + 1
                           WHERE bed_id = $4 AND $9)
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
        )
    except asyncpg.ExclusionViolationError as error:
        raise _who_was_first(error) from error
    return held_until


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
                                  version = version + 1 WHERE bed_id = $5)
            UPDATE bed_request SET state = 'arrived' WHERE encounter_id = $1
            """,
            request["encounter_id"],
            request["claim_id"],
            at,
            request["sex"],
            request["bed_id"],
        )
    except asyncpg.ExclusionViolationError as error:
        raise _who_was_first(error) from error


async def release_hold(tx: Transaction, request: Any, *, state: str) -> None:
    """End a hold as if it never was; the bed is free again."""
    await tx.conn.execute(
        """
        WITH gone AS (UPDATE bed_claim SET state = 'released', hold_expires = NULL WHERE id = $2),
             freed AS (UPDATE bed SET commitment = 'free', encounter_id = NULL, patient_sex = NULL, version = version + 1
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
             dirty AS (UPDATE bed SET commitment = 'free', condition = 'H', encounter_id = NULL, patient_sex = NULL,
                              busy_until = greatest(busy_until, $4::timestamptz), version = version + 1 WHERE bed_id = $3)
        UPDATE bed_request SET state = 'left' WHERE encounter_id = $1
        """,
        request["encounter_id"],
        request["claim_id"],
        request["bed_id"],
        at,
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
    if bed["service"] != "active" or bed["commitment"] != "free" or bed["condition"] not in ("U", "H"):
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
                              version = version + 1 WHERE bed_id = $2)
        UPDATE bed_request SET state = 'arrived', claim_id = $1 WHERE encounter_id = $3
        """,
        claim_id,
        request["bed_id"],
        request["encounter_id"],
        request["patient_tok"],
        request["sex"],
        at,
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


async def lock_bed(tx: Transaction, bed_id: int) -> Any:
    """Lock and return one bed, or nothing."""
    return await tx.conn.fetchrow("SELECT * FROM bed WHERE bed_id = $1 FOR UPDATE", bed_id)


async def mark_cleaned(tx: Transaction, bed_id: int) -> None:
    """The bed is clean since `tx.now`; its cleaning claim ends."""
    await tx.conn.execute(
        """
        WITH done AS (UPDATE bed_claim SET during = tstzrange(lower(during), greatest($2::timestamptz, lower(during) + interval '1 microsecond'))
                      WHERE bed_id = $1 AND state = 'cleaning' AND (upper(during) IS NULL OR upper(during) > $2::timestamptz))
        UPDATE bed SET condition = 'U', busy_until = greatest(busy_until, $2::timestamptz + interval '1 microsecond'), version = version + 1
        WHERE bed_id = $1
        """,
        bed_id,
        tx.now,
    )


async def list_beds(tx: Transaction, *, ward: str | None, state: str | None, wards: Sequence[str] | None) -> list[Any]:
    """Return beds with their three axes, by ward and bed."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT bed_id, code, ward, room, kind, level, isolation, service, condition, commitment, encounter_id, version"
        " FROM bed WHERE ($1::text IS NULL OR ward = $1) AND ($3::text[] IS NULL OR ward = ANY($3))"
        " AND ($2::text IS NULL OR commitment = $2 OR condition = $2) ORDER BY ward, bed_id",
        ward,
        state,
        wards,
    )
    return rows


async def list_ward_counts(tx: Transaction) -> list[Any]:
    """Return per ward how its beds partition (V5): every bed is in exactly one column."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT w.ward, w.building, w.floor, w.specialty, count(*) AS beds,"
        " count(*) FILTER (WHERE service <> 'active') AS out_of_service,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'active') AS occupied,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'held') AS held,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'free' AND condition = 'U') AS free,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'free' AND condition <> 'U') AS to_clean"
        " FROM ward w JOIN bed b USING (ward) GROUP BY w.ward ORDER BY w.building, w.floor, w.ward"
    )
    return rows


async def insert_beds(tx: Transaction, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Add beds and their wards; returns the new beds."""
    wards = {row["ward"]: row for row in rows}.values()
    await tx.conn.execute(
        "INSERT INTO ward (ward, campus, building, floor, specialty)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[]) ON CONFLICT DO NOTHING",
        *([row[name] for row in wards] for name in ("ward", "campus", "building", "floor", "specialty")),
    )
    added: list[Any] = await tx.conn.fetch(
        "INSERT INTO bed (code, ward, room, kind, level, isolation)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])"
        " ON CONFLICT (code) DO NOTHING RETURNING bed_id, code, ward, kind",
        *([row[name] for row in rows] for name in ("code", "ward", "room", "kind", "level", "isolation")),
    )
    return added


async def count_beds(tx: Transaction) -> int:
    """Return how many beds the pool has."""
    count: int = await tx.conn.fetchval("SELECT count(*) FROM bed")
    return count
