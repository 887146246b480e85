"""SQL of patients who lie in a bed and leave it for another, for a while, or share it. One function, one statement."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.beds.store import dirt_of, emptied, one_winner
from shared.db import Transaction

# ---- from bed to bed ---------------------------------------------------------------------------------------------------


async def leave_claim(tx: Transaction, request: Any, at: datetime) -> None:
    """End the claim of a patient who moves at `at`; a claim that began this very moment never was."""
    await tx.conn.execute(
        "UPDATE bed_claim SET state = CASE WHEN $2::timestamptz > lower(during) THEN 'closed' ELSE 'released' END, slot = false,"
        " during = CASE WHEN $2::timestamptz > lower(during) THEN tstzrange(lower(during), $2::timestamptz) ELSE during END"
        " WHERE id = $1",
        request["claim_id"],
        at,
    )


async def empty_bed(tx: Transaction, request: Any, bed_id: int, at: datetime, *, cleaning_id: UUID) -> None:
    """The bed is nobody's from `at` on and to be cleaned.

    Raises:
        LostRace: the bed was somebody else's a moment later than `at`.
    """
    with one_winner():
        await tx.conn.execute(
            f"WITH dirty AS ({emptied('$2', '$3', '$4')}) INSERT INTO bed_claim (id, bed_id, during, state)"
            " VALUES ($1, $2, tstzrange($3::timestamptz, NULL), 'cleaning')",
            cleaning_id,
            bed_id,
            at,
            dirt_of(request),
        )


async def begin_stay_in_bed(tx: Transaction, request: Any, bed_id: int, at: datetime, *, claim_id: UUID) -> None:
    """The patient lies in this bed from `at` on; the constraints refuse a second one (V1, V15).

    Raises:
        LostRace: another claim took the bed meanwhile.
    """
    with one_winner():
        await tx.conn.execute(
            """
            WITH claim AS (INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state)
                           VALUES ($1, $2, $3, $4, tstzrange($5::timestamptz, NULL), 'occupied')),
                 taken AS (UPDATE bed SET commitment = 'active', condition = 'O', encounter_id = $3, patient_sex = $6,
                                  isolation_patient = $7, since = $5, until = $8, version = version + 1 WHERE bed_id = $2)
            UPDATE bed_request SET bed_id = $2, claim_id = $1, share_id = NULL, leave_id = NULL WHERE encounter_id = $3
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


async def get_claim_before(tx: Transaction, request: Any) -> Any:
    """Return the stay in the bed this patient was moved from last, with that bed, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT c.*, b.ward FROM bed_claim c JOIN bed b USING (bed_id) WHERE c.patient_tok = $1 AND c.state = 'closed'"
        " AND c.encounter_id = $2 AND c.during && tstzrange($3::timestamptz - interval '1 microsecond', $3::timestamptz)"
        " AND upper(c.during) = $3",
        request["patient_tok"],
        request["encounter_id"],
        request["during"].lower,
    )


async def forget_stay(tx: Transaction, request: Any, since: datetime, old_bed_id: int) -> None:
    """The stay in the bed never was, nor was the cleaning of the old one since then."""
    await tx.conn.execute(
        "UPDATE bed_claim SET state = 'released' WHERE id = $1 OR (bed_id = $2 AND state = 'cleaning' AND lower(during) >= $3)",
        request["claim_id"],
        old_bed_id,
        since,
    )


async def resume_stay(tx: Transaction, request: Any, before: Any) -> None:
    """The patient has lain in the old bed all the time.

    Raises:
        LostRace: another claim has it for some of that time.
    """
    with one_winner():
        await tx.conn.execute(
            """
            WITH stay AS (UPDATE bed_claim SET state = 'occupied', during = tstzrange(lower(during), NULL) WHERE id = $1),
                 taken AS (UPDATE bed SET commitment = 'active', condition = 'O', encounter_id = $3, patient_sex = $4,
                                  isolation_patient = $5, since = $6, until = $7, cleaning = NULL, cleaning_requested_at = NULL,
                                  cleaning_started_at = NULL, version = version + 1 WHERE bed_id = $2)
            UPDATE bed_request SET bed_id = $2, claim_id = $1 WHERE encounter_id = $3
            """,
            before["id"],
            before["bed_id"],
            request["encounter_id"],
            request["sex"],
            request["isolation"] != "none",
            before["during"].lower,
            request["leaving_at"],
        )


async def free_untouched_bed(tx: Transaction, bed_id: int) -> None:
    """The bed is as it was before somebody was said to lie in it."""
    await tx.conn.execute(
        "UPDATE bed SET commitment = 'free', condition = 'U', encounter_id = NULL, patient_sex = NULL, isolation_patient = false,"
        " since = NULL, until = NULL, version = version + 1 WHERE bed_id = $1",
        bed_id,
    )


# ---- announced moves ----------------------------------------------------------------------------------------------------


async def want_move(tx: Transaction, move_id: UUID, encounter_id: UUID, reason: str) -> None:
    """Write that a patient must get another bed."""
    await tx.conn.execute(
        "WITH move AS (INSERT INTO bed_move (id, encounter_id, state, reason, urgent, requested_at) VALUES ($1, $2, 'wanted', $3, true, $4))"
        " UPDATE bed_request SET move_id = $1 WHERE encounter_id = $2",
        move_id,
        encounter_id,
        reason,
        tx.now,
    )


async def announce_move(
    tx: Transaction,
    request: Any,
    *,
    move_id: UUID,
    bed_id: int,
    claim_id: UUID,
    reason: str,
    planned_at: datetime,
    hold: timedelta,
    rules_version: int,
    explanation: Any,
    override_reason: str | None,
) -> datetime:
    """Hold the new bed for a patient who lies in another one, keep why, and return until when; the constraints refuse a second claim (A15, V1).

    Raises:
        LostRace: another claim took the bed meanwhile. Refused: the patient holds another bed.
    """
    with one_winner():
        held_until: datetime = await tx.conn.fetchval(
            """
            WITH claim AS (INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state, hold_expires)
                           VALUES ($3, $4, $2, $5, tstzrange($6::timestamptz, NULL), 'held',
                                   greatest(clock_timestamp(), $7::timestamptz) + $8::interval) RETURNING hold_expires),
                 taken AS (UPDATE bed SET commitment = 'held', encounter_id = $2, patient_sex = $9, isolation_patient = $10,
                                  until = (SELECT hold_expires FROM claim), version = version + 1 WHERE bed_id = $4),
                 kept AS (INSERT INTO decision (encounter_id, bed_id, actor, rules_version, explanation, override_reason)
                          VALUES ($2, $4, $11, $12, $13, $14)),
                 move AS (INSERT INTO bed_move (id, encounter_id, state, reason, bed_id, claim_id, planned_at, requested_at)
                          VALUES ($1, $2, 'announced', $15, $4, $3, $7, $6)
                          ON CONFLICT (id) DO UPDATE SET state = 'announced', bed_id = $4, claim_id = $3, planned_at = $7)
            UPDATE bed_request SET move_id = $1 WHERE encounter_id = $2 RETURNING (SELECT hold_expires FROM claim)
            """,
            move_id,
            request["encounter_id"],
            claim_id,
            bed_id,
            request["patient_tok"],
            tx.now,
            planned_at,
            hold,
            request["sex"],
            request["isolation"] != "none",
            tx.actor,
            rules_version,
            explanation,
            override_reason,
            reason,
        )
    return held_until


async def get_move(tx: Transaction, move_id: UUID) -> Any:
    """Return one move with its new bed when it has one."""
    return await tx.conn.fetchrow(
        "SELECT m.*, b.code, b.ward FROM bed_move m LEFT JOIN bed b USING (bed_id) WHERE m.id = $1", move_id
    )


async def release_move(tx: Transaction, move: Any, *, state: str, reason: str | None) -> None:
    """Let the bed of an announced move go; the move is cancelled, or wanted still (`state`)."""
    await tx.conn.execute(
        """
        WITH gone AS (UPDATE bed_claim SET state = 'released', hold_expires = NULL WHERE id = $2),
             freed AS (UPDATE bed SET commitment = 'free', encounter_id = NULL, patient_sex = NULL, isolation_patient = false,
                              until = NULL, version = version + 1 WHERE bed_id = $3 AND encounter_id = $4 AND commitment = 'held'),
             move AS (UPDATE bed_move SET state = $5, ended_reason = $6, ended_at = CASE WHEN $5 = 'cancelled' THEN $7::timestamptz END,
                             bed_id = CASE WHEN $5 = 'cancelled' THEN bed_id END, claim_id = CASE WHEN $5 = 'cancelled' THEN claim_id END
                      WHERE id = $1)
        UPDATE bed_request SET move_id = CASE WHEN $5 = 'wanted' THEN move_id END WHERE encounter_id = $4
        """,
        move["id"],
        move["claim_id"],
        move["bed_id"],
        move["encounter_id"],
        state,
        reason,
        tx.now,
    )


async def finish_move(tx: Transaction, move_id: UUID) -> None:
    """The patient has moved."""
    await tx.conn.execute(
        "WITH move AS (UPDATE bed_move SET state = 'done', ended_at = $2 WHERE id = $1 RETURNING encounter_id)"
        " UPDATE bed_request SET move_id = NULL FROM move WHERE bed_request.encounter_id = move.encounter_id",
        move_id,
        tx.now,
    )


async def drop_hold(tx: Transaction, claim_id: UUID) -> None:
    """End the hold of a bed whose patient lies down in it this moment."""
    await tx.conn.execute("UPDATE bed_claim SET state = 'released', hold_expires = NULL WHERE id = $1", claim_id)


async def list_expired_moves(tx: Transaction) -> list[Any]:
    """Return the stays whose announced bed was kept long enough, without locking anything."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT m.encounter_id FROM bed_claim c JOIN bed_move m ON m.claim_id = c.id WHERE c.state = 'held' AND c.hold_expires <= clock_timestamp()"
        " AND m.state = 'announced' ORDER BY m.encounter_id LIMIT 50"
    )
    return rows


async def list_wanted_moves(tx: Transaction) -> list[Any]:
    """Return the stays that must get another bed and have none yet, the longest wait first."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT encounter_id FROM bed_move WHERE state = 'wanted' ORDER BY requested_at, encounter_id LIMIT 50"
    )
    return rows


async def list_moves(tx: Transaction, *, wards: Sequence[str] | None, limit: int) -> list[Any]:
    """Return moves that are wanted or announced, from or into these wards (None: all), the urgent first."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT m.*, r.patient_tok, r.sex, r.age_years, r.isolation, r.bed_id AS from_bed_id, f.code AS from_code, f.ward AS from_ward,"
        " t.code AS to_code, t.ward AS to_ward, c.hold_expires FROM bed_move m JOIN bed_request r USING (encounter_id)"
        " JOIN bed f ON f.bed_id = r.bed_id LEFT JOIN bed t ON t.bed_id = m.bed_id LEFT JOIN bed_claim c ON c.id = m.claim_id"
        " WHERE m.state IN ('wanted', 'announced') AND ($1::text[] IS NULL OR f.ward = ANY ($1) OR t.ward = ANY ($1))"
        " ORDER BY m.urgent DESC, m.requested_at, m.encounter_id LIMIT $2",
        wards,
        limit,
    )
    return rows


# ---- leave ---------------------------------------------------------------------------------------------------------------


async def mark_leave(tx: Transaction, bed_id: int, *, away: bool) -> bool:
    """Note that the patient of a bed is away, or back; False when that is so already."""
    done: str = await tx.conn.execute(
        "UPDATE bed SET commitment = CASE WHEN $2 THEN 'leave' ELSE 'active' END, condition = CASE WHEN $2 THEN 'U' ELSE 'O' END,"
        " version = version + 1 WHERE bed_id = $1 AND commitment = CASE WHEN $2 THEN 'active' ELSE 'leave' END",
        bed_id,
        away,
    )
    return done.endswith("1")


async def insert_leave(tx: Transaction, leave_id: UUID, request: Any, until: datetime) -> None:
    """Write when a leave began, and until when it is meant to last."""
    await tx.conn.execute(
        "WITH leave AS (INSERT INTO bed_leave (id, encounter_id, bed_id, started_at, until_at) VALUES ($1, $2, $3, $4, $5))"
        " UPDATE bed_request SET leave_id = $1 WHERE encounter_id = $2",
        leave_id,
        request["encounter_id"],
        request["bed_id"],
        tx.now,
        until,
    )


async def mark_leave_ended(tx: Transaction, leave_id: UUID, at: datetime | None) -> Any:
    """Write when a leave ended (None: it goes on after all), and return it."""
    return await tx.conn.fetchrow("UPDATE bed_leave SET ended_at = $2 WHERE id = $1 RETURNING *", leave_id, at)


async def cancel_leave(tx: Transaction, leave_id: UUID) -> Any:
    """Write that a leave never was, and return it."""
    return await tx.conn.fetchrow(
        "WITH leave AS (UPDATE bed_leave SET cancelled = true WHERE id = $1 RETURNING *)"
        " UPDATE bed_request SET leave_id = NULL FROM leave WHERE bed_request.encounter_id = leave.encounter_id RETURNING leave.*",
        leave_id,
    )


async def get_leave(tx: Transaction, leave_id: UUID) -> Any:
    """Return a leave."""
    return await tx.conn.fetchrow("SELECT * FROM bed_leave WHERE id = $1", leave_id)


# ---- shared beds ---------------------------------------------------------------------------------------------------------


async def insert_share(
    tx: Transaction, share_id: UUID, host_id: UUID, kind: str, *, guest_id: UUID | None, guest_tok: UUID | None
) -> None:
    """Declare that somebody stays with this patient from now on; the constraints refuse a second companion and a guest twice."""
    await tx.conn.execute(
        "WITH share AS (INSERT INTO bed_share (id, host_id, kind, guest_id, guest_tok, during)"
        " VALUES ($1, $2, $3, $4, $5, tstzrange($6::timestamptz, NULL)))"
        " UPDATE bed_request SET guests = guests + 1 WHERE encounter_id = $2",
        share_id,
        host_id,
        kind,
        guest_id,
        guest_tok,
        tx.now,
    )


async def place_guest(tx: Transaction, guest_id: UUID, share_id: UUID, bed_id: int, *, state: str) -> None:
    """The guest's place is the host's bed; `state` is assigned before the admission, arrived after it."""
    await tx.conn.execute(
        "UPDATE bed_request SET state = $4, bed_id = $3, claim_id = NULL, share_id = $2, waiting_reason = NULL, recalled = false,"
        " accepted_at = NULL, escalated_at = NULL WHERE encounter_id = $1",
        guest_id,
        share_id,
        bed_id,
        state,
    )


async def mark_guest_arrived(tx: Transaction, encounter_id: UUID, leaving_at: datetime | None) -> None:
    """The guest was admitted."""
    await tx.conn.execute(
        "UPDATE bed_request SET state = 'arrived', leaving_at = $2 WHERE encounter_id = $1", encounter_id, leaving_at
    )


async def mark_guest_left(tx: Transaction, encounter_id: UUID) -> None:
    """The guest has left the hospital."""
    await tx.conn.execute("UPDATE bed_request SET state = 'left' WHERE encounter_id = $1", encounter_id)


async def end_share(tx: Transaction, share_id: UUID, at: datetime, reason: str) -> Any:
    """Write that somebody does not stay with a patient any more, and return the share; one that ended is returned as nothing."""
    return await tx.conn.fetchrow(
        """
        WITH share AS (UPDATE bed_share SET ended_reason = $3,
                              during = tstzrange(lower(during), greatest($2::timestamptz, lower(during) + interval '1 microsecond'))
                       WHERE id = $1 AND upper_inf(during) RETURNING *)
        UPDATE bed_request SET guests = guests - 1 FROM share WHERE bed_request.encounter_id = share.host_id
        RETURNING share.*, bed_request.patient_tok AS host_tok, bed_request.bed_id AS host_bed_id
        """,
        share_id,
        at,
        reason,
    )


async def get_share(tx: Transaction, share_id: UUID) -> Any:
    """Return a share, or nothing."""
    return await tx.conn.fetchrow("SELECT *, upper_inf(during) AS is_open FROM bed_share WHERE id = $1", share_id)


async def list_shares(tx: Transaction, host_id: UUID) -> list[Any]:
    """Return who shares this stay's bed now, in the order they are locked."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT * FROM bed_share WHERE host_id = $1 AND upper_inf(during) ORDER BY guest_id NULLS FIRST, id", host_id
    )
    return rows


async def list_ward_shares(tx: Transaction, ward: str) -> list[Any]:
    """Return who shares a bed of this ward now."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT s.id AS share_id, s.host_id, s.kind, s.guest_id, lower(s.during) AS since FROM bed_share s"
        " JOIN bed_request h ON h.encounter_id = s.host_id JOIN bed b ON b.bed_id = h.bed_id"
        " WHERE upper_inf(s.during) AND b.ward = $1 ORDER BY lower(s.during), s.id",
        ward,
    )
    return rows
