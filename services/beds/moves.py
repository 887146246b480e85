"""Patients who lie in a bed move: at once, as announced, with each other, away for a while. All or nothing, in one commit (BED-7)."""

import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.beds import announced, inventory, moves_store, shares, store
from services.beds.actions import (
    Chosen,
    NoBed,
    Pool,
    choose_bed,
    cleaning_requested,
    need_of,
    require_as_seen,
    require_open,
)
from services.beds.domain import May, accommodation_of
from services.beds.rules import (
    Bed,
    Evaluation,
    HardRule,
    Room,
    Scored,
    Ward,
    closing_rule,
    explanation,
    loads_of,
    parts_of,
    room_of,
)
from shared.contracts.beds import (
    BedTransferred,
    LeaveCancelled,
    LeaveEndCancelled,
    LeaveEnded,
    LeaveStarted,
    TransferAnnounced,
    TransferCancelled,
)
from shared.db import LostRace, Transaction
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox


async def _lying(tx: Transaction, encounter_id: UUID) -> Any:
    request = await store.locked_request(tx, encounter_id)
    if request["state"] != "arrived":
        raise Refused("This stay lies in no bed.", code="not_in_a_bed")
    if request["during"].lower > tx.now:
        raise LostRace("The patient was moved while this waited.")
    return request


async def _lock_wards(tx: Transaction, *wards: str) -> tuple[dict[str, Ward], dict[int, Bed]]:
    """Lock wards in one order, so that two moves in opposite directions do not wait for each other (R2)."""
    found: dict[str, Ward] = {}
    beds: dict[int, Bed] = {}
    for ward in sorted(set(wards)):
        attributes, its_beds = await store.lock_ward(tx, ward)
        found[ward] = attributes
        beds.update({bed.bed_id: bed for bed in its_beds})
    return found, beds


def _require_here(request: Any, beds: dict[int, Bed]) -> None:
    if request["share_id"] is None and beds[request["bed_id"]].commitment == "leave":
        raise Refused("The patient is away; end the leave first.", code="on_leave")


# ---- to another bed ------------------------------------------------------------------------------------------------------


async def _target(
    tx: Transaction, pool: Pool, request: Any, *, bed_id: int, version: int, override: bool
) -> tuple[Bed, Chosen]:
    """Return the bed a person chose for a patient who lies in another one, with both wards locked.

    Raises:
        NotFound: no such bed. Refused: the patient's own bed (same_bed), the patient is away (on_leave), the bed changed
            (bed_changed), a rule closes it (rule_broken, rule_firm).
    """
    row = await inventory.get_bed(tx, bed_id)
    if row is None:
        raise NotFound("There is no such bed.")
    if bed_id == request["bed_id"]:
        raise Refused("The patient lies in this bed already.", code="same_bed")
    wards, beds = await _lock_wards(tx, request["ward"], row["ward"])
    _require_here(request, beds)
    bed = beds[bed_id]
    require_as_seen(bed, version)
    room = _room_without(beds, bed, request)
    rule = closing_rule(need_of(pool, request, tx.now), bed, wards[bed.ward], room)
    require_open(rule, overridden=override)
    return bed, _chosen_by_hand(tx, pool, request, bed, wards[bed.ward], room, beds, rule)


def _room_without(beds: dict[int, Bed], bed: Bed, request: Any) -> Room:
    """Return the room of a bed without the patient who moves; a guest's bed stays the host's."""
    own = request["bed_id"] if request["share_id"] is None else None
    return room_of(other for other in beds.values() if other.room == bed.room and other.bed_id != own)


def _chosen_by_hand(
    tx: Transaction,
    pool: Pool,
    request: Any,
    bed: Bed,
    ward: Ward,
    room: Room,
    beds: dict[int, Bed],
    rule: HardRule | None,
) -> Chosen:
    weights = pool.mirror.weights
    load = loads_of(other for other in beds.values() if other.ward == bed.ward)[bed.ward]
    parts = parts_of(need_of(pool, request, tx.now), bed, ward, room, load, weights)
    kept = explanation(Evaluation((Scored(bed, sum(points for _, points in parts), parts),), {}, {}))
    if rule is not None:
        kept["overridden"] = rule.value
    return Chosen(bed, kept, weights)


async def transfer_patient(
    tx: Transaction, pool: Pool, encounter_id: UUID, *, bed_id: int, version: int, reason: str, override: bool, may: May
) -> Bed:
    """Move a patient and everybody who stays at the bed to a free bed; the old one is to be cleaned from the same moment (A02, V17).

    Raises:
        NotFound: no such bed. Refused: not in a bed (V3), another move is announced (move_announced), or as `_target` says.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    move = None if request["move_id"] is None else await moves_store.get_move(tx, request["move_id"])
    if move is not None and move["state"] == "announced":
        raise Refused(
            "A move of this patient is announced; complete or cancel it first.", code="move_announced", bed=move["code"]
        )
    bed, _ = await _target(tx, pool, request, bed_id=bed_id, version=version, override=override)
    await _move(tx, pool, request, bed, reason)
    if move is not None:
        await moves_store.finish_move(tx, move["id"])
    return bed


async def _move(
    tx: Transaction, pool: Pool, request: Any, bed: Bed, reason: str, *, was_announced: bool = False
) -> None:
    """Put a patient from the place that was, a bed or a share, into a bed; guests come along."""
    tx.correlation_id = request["encounter_id"]
    is_guest = request["share_id"] is not None
    if is_guest:
        await shares.end_as_guest(tx, request, tx.now, "own_bed")
    else:
        await moves_store.leave_claim(tx, request, tx.now)
        await moves_store.empty_bed(tx, request, request["bed_id"], tx.now, cleaning_id=new_id())
    await moves_store.begin_stay_in_bed(tx, request, bed.bed_id, tx.now, claim_id=new_id())
    outbox.append(tx, _moved(tx, request, bed, reason, was_announced=was_announced))
    if not is_guest:
        outbox.append(tx, cleaning_requested(request))
    await shares.take_guests_along(tx, pool.settings, request, bed, reason)


def _moved(tx: Transaction, request: Any, bed: Bed, reason: str, *, was_announced: bool = False) -> BedTransferred:
    return BedTransferred(
        encounter_id=request["encounter_id"],
        patient_tok=request["patient_tok"],
        from_bed_id=request["bed_id"],
        from_ward=request["ward"],
        bed_id=bed.bed_id,
        bed_code=bed.code,
        ward=bed.ward,
        reason=reason,
        transferred_at=tx.now,
        accommodation=accommodation_of(bed.kind, bed.level, bed.bed_class),
        announced=was_announced,
        from_shared=request["share_id"] is not None,
    )


async def cancel_transfer(
    tx: Transaction, pool: Pool, encounter_id: UUID, *, reason: str, lay_in_it: bool, may: May
) -> Bed:
    """Take the last move back: the patient lies, and has lain all the time, in the bed from before (A12).

    The new bed is as it was, or to be cleaned when somebody lay in it all the same.

    Raises:
        Refused: there was no move (no_transfer), or the old bed cannot be had any more (old_bed_gone, with why; being_cleaned):
            then a move to another bed is the way.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    before = None if request["share_id"] is not None else await moves_store.get_claim_before(tx, request)
    if before is None or before["bed_id"] == request["bed_id"]:
        raise Refused("This patient was not moved from a bed of the own.", code="no_transfer")
    wards, beds = await _lock_wards(tx, request["ward"], before["ward"])
    _require_here(request, beds)
    old = beds[before["bed_id"]]
    cleaning = (await inventory.get_bed(tx, old.bed_id))["cleaning"]
    if cleaning == "started":
        raise Refused("The old bed is being cleaned; wait until that is done.", code="being_cleaned", bed=old.code)
    need = need_of(pool, request, tx.now)
    if old.commitment == "free":
        rule = closing_rule(need, _as_if_empty(old), wards[old.ward], _room_without(beds, old, request))
    else:
        rule = HardRule.COMMITMENT
    if rule is not None:
        raise Refused(
            "The old bed cannot be had any more; move the patient to another one.",
            code="old_bed_gone",
            bed=old.code,
            rule=rule.value,
        )
    await moves_store.forget_stay(tx, request, request["during"].lower, old.bed_id)
    if lay_in_it:
        await moves_store.empty_bed(tx, request, request["bed_id"], tx.now, cleaning_id=new_id())
    else:
        await moves_store.free_untouched_bed(tx, request["bed_id"])
    await moves_store.resume_stay(tx, request, before)
    move = None if request["move_id"] is None else await moves_store.get_move(tx, request["move_id"])
    if move is not None and move["state"] == "wanted":
        await announced.cancel_move(tx, request, reason=reason)
    outbox.append(
        tx,
        TransferCancelled(
            encounter_id=encounter_id,
            patient_tok=request["patient_tok"],
            from_bed_id=request["bed_id"],
            from_ward=request["ward"],
            bed_id=old.bed_id,
            bed_code=old.code,
            ward=old.ward,
            accommodation=accommodation_of(old.kind, old.level, old.bed_class),
            reason=reason,
            transferred_at=request["during"].lower,
            cancelled_at=tx.now,
        ),
    )
    if lay_in_it:
        outbox.append(tx, cleaning_requested(request))
    await shares.take_guests_along(tx, pool.settings, request, old, reason)
    return old


# ---- announced -----------------------------------------------------------------------------------------------------------


async def announce_transfer(
    tx: Transaction,
    pool: Pool,
    encounter_id: UUID,
    *,
    bed_id: int,
    version: int,
    reason: str,
    planned_at: datetime,
    override: bool,
    may: May,
) -> tuple[Bed, datetime]:
    """Hold a bed for a patient who lies in another one and will move at `planned_at`; returns it and until when it is held (A15).

    Raises:
        NotFound: no such bed. Refused: a move is announced already (move_announced), or as `_target` says.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    move = None if request["move_id"] is None else await moves_store.get_move(tx, request["move_id"])
    if move is not None and move["state"] == "announced":
        raise Refused("A move of this patient is announced already.", code="move_announced", bed=move["code"])
    if planned_at > tx.now + timedelta(hours=pool.settings.horizon_hours):
        raise Refused("That is too far off; a bed held for long stands empty meanwhile.", code="too_far_off")
    bed, chosen = await _target(tx, pool, request, bed_id=bed_id, version=version, override=override)
    return bed, await _announce(
        tx, pool, request, chosen, move, reason, planned_at, override_reason=reason if override else None
    )


async def _announce(
    tx: Transaction,
    pool: Pool,
    request: Any,
    chosen: Chosen,
    move: Any,
    reason: str,
    planned_at: datetime,
    *,
    override_reason: str | None = None,
) -> datetime:
    bed = chosen.bed
    tx.correlation_id = request["encounter_id"]
    held_until = await moves_store.announce_move(
        tx,
        request,
        move_id=new_id() if move is None else move["id"],
        bed_id=bed.bed_id,
        claim_id=new_id(),
        reason=reason,
        planned_at=planned_at,
        hold=pool.settings.hold,
        rules_version=chosen.weights.version,
        explanation=chosen.explanation,
        override_reason=override_reason,
    )
    pool.mirror.note_taken(bed.bed_id)
    outbox.append(
        tx,
        TransferAnnounced(
            encounter_id=request["encounter_id"],
            patient_tok=request["patient_tok"],
            bed_id=bed.bed_id,
            bed_code=bed.code,
            ward=bed.ward,
            reason=reason,
            planned_at=planned_at,
            held_until=held_until,
        ),
    )
    return held_until


async def _announced_move(tx: Transaction, request: Any, *, wanted_too: bool) -> Any:
    move = None if request["move_id"] is None else await moves_store.get_move(tx, request["move_id"])
    if move is None or (move["state"] == "wanted" and not wanted_too):
        raise Refused("No move of this patient is announced.", code="no_move_announced")
    return move


async def cancel_announced_transfer(tx: Transaction, encounter_id: UUID, *, reason: str, may: May) -> None:
    """The announced move will not happen; the bed held for it is free again (A26).

    Who lies in a broken bed goes on wanting another one; said once more, that ends too.

    Raises:
        Refused: no move is announced.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    move = await _announced_move(tx, request, wanted_too=True)
    still_wanted = move["urgent"] and move["state"] == "announced"
    await announced.cancel_move(tx, request, reason=reason, still_wanted=still_wanted)


async def complete_announced_transfer(tx: Transaction, pool: Pool, encounter_id: UUID, *, may: May) -> Bed:
    """The patient moves into the bed that was held since the announcement (A02, V17).

    Raises:
        Refused: no move is announced, the patient is away, or the bed cannot take anybody now (bed_not_ready).
    """
    request = await _lying(tx, encounter_id)
    move = await _announced_move(tx, request, wanted_too=False)
    may(move["ward"])
    _, beds = await _lock_wards(tx, request["ward"], move["ward"])
    _require_here(request, beds)
    bed = beds[move["bed_id"]]
    if bed.service != "active" or bed.condition != "U":
        raise Refused("The bed cannot take anybody now.", code="bed_not_ready", bed=bed.code, condition=bed.condition)
    await moves_store.drop_hold(tx, move["claim_id"])
    await _move(tx, pool, request, bed, move["reason"], was_announced=True)
    await moves_store.finish_move(tx, move["id"])
    return bed


async def serve_wanted_moves(tx: Transaction, pool: Pool) -> int:
    """Hold beds for patients whose own one broke down (BED-6); returns how many got one. The move itself is the ward's."""
    if not pool.settings.auto_assign:
        return 0
    served = 0
    for row in await moves_store.list_wanted_moves(tx):
        request = await store.locked_request(tx, row["encounter_id"])
        move = None if request["move_id"] is None else await moves_store.get_move(tx, request["move_id"])
        if request["state"] != "arrived" or move is None or move["state"] != "wanted":
            continue
        chosen = await choose_bed(
            tx, pool, {**request, "kind": "inpatient", "source": "live", "until_at": None, "from_at": tx.now}
        )
        if isinstance(chosen, NoBed):
            continue
        with contextlib.suppress(Refused):  # who has another bed held already, for another stay, is moved by hand
            async with tx.conn.transaction():
                await _announce(tx, pool, request, chosen, move, move["reason"], tx.now)
            served += 1
    return served


# ---- with each other -----------------------------------------------------------------------------------------------------


async def swap_patients(
    tx: Transaction, pool: Pool, first_id: UUID, second_id: UUID, *, reason: str, may: May
) -> tuple[Bed, Bed]:
    """Let two patients change beds: both or none, with the rules asked for both; announced moves stay announced (A17, V16).

    Raises:
        Refused: one lies in no bed of the own or is away, both are the same, or a rule closes one of the beds.
    """
    if first_id == second_id:
        raise Refused("Name two different stays.", code="same_stay")
    found = {encounter_id: await _lying(tx, encounter_id) for encounter_id in sorted((first_id, second_id))}
    first, second = found[first_id], found[second_id]
    if first["share_id"] is not None or second["share_id"] is not None:
        raise Refused("A newborn beside its mother has no bed to change.", code="is_guest")
    may(first["ward"])
    may(second["ward"])
    wards, beds = await _lock_wards(tx, first["ward"], second["ward"])
    bed_of_first, bed_of_second = beds[first["bed_id"]], beds[second["bed_id"]]
    # The room is judged without both, and with the other one when they lie in the same room.
    others = [bed for bed in beds.values() if bed.bed_id not in (first["bed_id"], second["bed_id"])]
    for request, bed, partner, left in (
        (first, bed_of_second, second, bed_of_first),
        (second, bed_of_first, first, bed_of_second),
    ):
        _require_here(request, beds)
        neighbours = [other for other in others if other.room == bed.room]
        if left.room == bed.room:
            neighbours.append(replace(left, sex=partner["sex"], isolation_patient=partner["isolation"] != "none"))
        rule = closing_rule(need_of(pool, request, tx.now), _as_if_empty(bed), wards[bed.ward], room_of(neighbours))
        if rule is not None:
            raise Refused("A rule closes one of the beds.", code="rule_broken", rule=rule.value, bed=bed.code)
    for request in (first, second):
        await moves_store.leave_claim(tx, request, tx.now)
    for request, bed in ((first, bed_of_second), (second, bed_of_first)):
        tx.correlation_id = request["encounter_id"]
        await moves_store.begin_stay_in_bed(tx, request, bed.bed_id, tx.now, claim_id=new_id())
        outbox.append(tx, _moved(tx, request, bed, reason))
        await shares.take_guests_along(tx, pool.settings, request, bed, reason)
    return bed_of_second, bed_of_first


def _as_if_empty(bed: Bed) -> Bed:
    return replace(bed, commitment="free", condition="U", busy_until=None)


# ---- away for a while ----------------------------------------------------------------------------------------------------


async def start_leave(tx: Transaction, encounter_id: UUID, *, until: datetime, may: May) -> None:
    """The patient goes on leave, or to a procedure elsewhere; the bed is kept (A21).

    Raises:
        Refused: the stay lies in no bed of the own, or is on leave already.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    if request["share_id"] is not None:
        raise Refused("A newborn beside its mother has no bed to keep.", code="is_guest")
    if not await moves_store.mark_leave(tx, request["bed_id"], away=True):
        raise Refused("The patient is away already.", code="on_leave")
    await moves_store.insert_leave(tx, new_id(), request, until)
    outbox.append(
        tx,
        LeaveStarted(
            encounter_id=encounter_id, patient_tok=request["patient_tok"], bed_id=request["bed_id"], until=until
        ),
    )


async def _come_back(tx: Transaction, encounter_id: UUID, may: May) -> Any:
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    if request["share_id"] is not None or not await moves_store.mark_leave(tx, request["bed_id"], away=False):
        raise Refused("The patient is not away.", code="not_on_leave")
    return request


async def end_leave(tx: Transaction, encounter_id: UUID, *, may: May) -> None:
    """The patient is back in the bed (A22).

    Raises:
        Refused: the stay lies in no bed, or is not on leave.
    """
    request = await _come_back(tx, encounter_id, may)
    if request["leave_id"] is not None:
        await moves_store.mark_leave_ended(tx, request["leave_id"], tx.now)
    outbox.append(
        tx, LeaveEnded(encounter_id=encounter_id, patient_tok=request["patient_tok"], bed_id=request["bed_id"])
    )


async def cancel_leave(tx: Transaction, encounter_id: UUID, *, reason: str, may: May) -> None:
    """The patient never went away (A52).

    Raises:
        Refused: the stay lies in no bed, or is not on leave.
    """
    request = await _come_back(tx, encounter_id, may)
    leave = None if request["leave_id"] is None else await moves_store.cancel_leave(tx, request["leave_id"])
    outbox.append(
        tx,
        LeaveCancelled(
            encounter_id=encounter_id,
            patient_tok=request["patient_tok"],
            bed_id=request["bed_id"],
            started_at=tx.now if leave is None else leave["started_at"],
            reason=reason,
        ),
    )


async def cancel_leave_end(tx: Transaction, encounter_id: UUID, *, reason: str, may: May) -> None:
    """The patient is not back after all; the bed is kept on (A53).

    Raises:
        Refused: the stay lies in no bed, has not come back into this bed (no_leave_ended), or is away already.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    leave = None if request["leave_id"] is None else await moves_store.get_leave(tx, request["leave_id"])
    if leave is None or leave["ended_at"] is None or leave["bed_id"] != request["bed_id"]:
        raise Refused("The patient has not come back from a leave into this bed.", code="no_leave_ended")
    if not await moves_store.mark_leave(tx, request["bed_id"], away=True):
        raise Refused("The patient is away already.", code="on_leave")
    await moves_store.mark_leave_ended(tx, leave["id"], None)
    outbox.append(
        tx,
        LeaveEndCancelled(
            encounter_id=encounter_id,
            patient_tok=request["patient_tok"],
            bed_id=request["bed_id"],
            ended_at=leave["ended_at"],
            until=leave["until_at"],
            reason=reason,
        ),
    )
