"""Patients who lie in a bed move: to another bed, with each other, away for a while. All or nothing, in one commit (BED-7)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.beds import inventory, store
from services.beds.actions import Pool, locked_request, need_of
from services.beds.domain import accommodation_of
from services.beds.rules import OVERRIDABLE, Bed, Ward, closing_rule, room_of
from shared.contracts.beds import BedTransferred, CleaningRequested, LeaveEnded, LeaveStarted
from shared.db import LostRace, Transaction
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox

May = Callable[[str | None], object]
"""Refuses when the caller may not do this in that ward."""


async def _lying(tx: Transaction, encounter_id: UUID) -> Any:
    request = await locked_request(tx, encounter_id)
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


async def transfer_patient(
    tx: Transaction, pool: Pool, encounter_id: UUID, *, bed_id: int, version: int, reason: str, override: bool, may: May
) -> Bed:
    """Move a patient to a free bed; the old bed is to be cleaned from the same moment (A02, V17).

    Raises:
        NotFound: no such bed. Refused: not in a bed (V3), the bed changed (bed_changed), a rule closes it (rule_broken, rule_firm).
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    row = await inventory.get_bed(tx, bed_id)
    if row is None:
        raise NotFound("There is no such bed.")
    if bed_id == request["bed_id"]:
        raise Refused("The patient lies in this bed already.", code="same_bed")
    wards, beds = await _lock_wards(tx, request["ward"], row["ward"])
    bed = beds[bed_id]
    if bed.version != version:
        raise Refused(
            "Somebody changed this bed since you saw it.",
            code="bed_changed",
            condition=bed.condition,
            commitment=bed.commitment,
        )
    neighbours = [other for other in beds.values() if other.room == bed.room and other.bed_id != request["bed_id"]]
    rule = closing_rule(need_of(pool, request, tx.now), bed, wards[bed.ward], room_of(neighbours))
    if rule is not None and not (override and rule in OVERRIDABLE):
        code = "rule_broken" if rule in OVERRIDABLE else "rule_firm"
        raise Refused("A rule closes this bed to this patient.", code=code, rule=rule.value)
    await store.end_stay_in_bed(tx, request, tx.now, cleaning_id=new_id())
    await store.begin_stay_in_bed(tx, request, bed_id, tx.now, claim_id=new_id())
    _announce_move(tx, request, bed, reason)
    outbox.append(
        tx, CleaningRequested(bed_id=request["bed_id"], ward=request["ward"], terminal=request["isolation"] != "none")
    )
    return bed


def _announce_move(tx: Transaction, request: Any, bed: Bed, reason: str) -> None:
    tx.correlation_id = request["encounter_id"]
    outbox.append(
        tx,
        BedTransferred(
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
        ),
    )


async def swap_patients(
    tx: Transaction, pool: Pool, first_id: UUID, second_id: UUID, *, reason: str, may: May
) -> tuple[Bed, Bed]:
    """Let two patients change beds: both or none, with the rules asked for both; holds of other beds stay as they are (A17, V16).

    Raises:
        Refused: one lies in no bed, both are the same, or a rule closes one of the beds.
    """
    if first_id == second_id:
        raise Refused("Name two different stays.", code="same_stay")
    found = {encounter_id: await _lying(tx, encounter_id) for encounter_id in sorted((first_id, second_id))}
    first, second = found[first_id], found[second_id]
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
        neighbours = [other for other in others if other.room == bed.room]
        if left.room == bed.room:
            neighbours.append(replace(left, sex=partner["sex"], isolation_patient=partner["isolation"] != "none"))
        rule = closing_rule(need_of(pool, request, tx.now), _as_if_empty(bed), wards[bed.ward], room_of(neighbours))
        if rule is not None:
            raise Refused("A rule closes one of the beds.", code="rule_broken", rule=rule.value, bed=bed.code)
    for request in (first, second):
        await store.leave_claim(tx, request, tx.now)
    for request, bed in ((first, bed_of_second), (second, bed_of_first)):
        await store.begin_stay_in_bed(tx, request, bed.bed_id, tx.now, claim_id=new_id())
        _announce_move(tx, request, bed, reason)
    return bed_of_second, bed_of_first


def _as_if_empty(bed: Bed) -> Bed:
    return replace(bed, commitment="free", condition="U", busy_until=None)


async def start_leave(tx: Transaction, encounter_id: UUID, *, until: datetime, may: May) -> None:
    """The patient goes on leave, or to a procedure elsewhere; the bed is kept (A21).

    Raises:
        Refused: the stay lies in no bed, or is on leave already.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    if not await store.mark_leave(tx, request["bed_id"], away=True):
        raise Refused("The patient is away already.", code="on_leave")
    outbox.append(
        tx,
        LeaveStarted(
            encounter_id=encounter_id, patient_tok=request["patient_tok"], bed_id=request["bed_id"], until=until
        ),
    )


async def end_leave(tx: Transaction, encounter_id: UUID, *, may: May) -> None:
    """The patient is back in the bed (A22).

    Raises:
        Refused: the stay lies in no bed, or is not on leave.
    """
    request = await _lying(tx, encounter_id)
    may(request["ward"])
    if not await store.mark_leave(tx, request["bed_id"], away=False):
        raise Refused("The patient is not away.", code="not_on_leave")
    outbox.append(
        tx, LeaveEnded(encounter_id=encounter_id, patient_tok=request["patient_tok"], bed_id=request["bed_id"])
    )
