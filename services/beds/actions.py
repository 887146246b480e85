"""What can be done in the bed pool. One action = one transaction; both doors use them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from services.beds import domain, store
from services.beds.domain import Bed, Chosen, Need, NoBed
from services.beds.settings import Settings
from shared.contracts.beds import (
    BedAdded,
    BedAssigned,
    BedCleaned,
    BedFreed,
    BedHoldExpired,
    BedOccupied,
    BedRequestCancelled,
    BedRequestOpened,
    BedVacated,
    BedWaitlisted,
    CleaningRequested,
    WaitingReason,
)
from shared.db import Transaction
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox


@dataclass(frozen=True, slots=True)
class Assigned:
    """A bed is held for the stay."""

    bed: Bed
    held_until: datetime


@dataclass(frozen=True, slots=True)
class Waitlisted:
    """No bed fits now."""

    reason: str


async def open_request(
    tx: Transaction, settings: Settings, *, encounter_id: UUID, patient_tok: UUID, **facts: Any
) -> Assigned | Waitlisted | None:
    """Take a request into the pool and give it a bed at once when one fits (R03); None when the pool knows it already."""
    if not await store.insert_request(tx, encounter_id, patient_tok, **facts):
        return None
    outbox.append(tx, BedRequestOpened(encounter_id=encounter_id, patient_tok=patient_tok, kind=facts["kind"]))
    request = {
        "encounter_id": encounter_id,
        "patient_tok": patient_tok,
        "source": tx.source,
        "waiting_reason": None,
        **facts,
    }
    return await assign_bed(tx, settings, request)


async def assign_bed(tx: Transaction, settings: Settings, request: Any) -> Assigned | Waitlisted:
    """Hold the best bed for a locked request, or tell why it waits; its ward is locked, so nobody can take the bed (V1)."""
    chosen = await _choose(tx, settings, request)
    encounter_id, patient_tok = request["encounter_id"], request["patient_tok"]
    if isinstance(chosen, NoBed):
        if request["waiting_reason"] != chosen.reason:
            await store.mark_waiting(tx, encounter_id, chosen.reason)
            outbox.append(tx, BedWaitlisted(encounter_id=encounter_id, patient_tok=patient_tok, reason=chosen.reason))
        return Waitlisted(chosen.reason)
    bed = chosen.bed
    held_until = await store.insert_hold(
        tx,
        new_id(),
        encounter_id=encounter_id,
        patient_tok=patient_tok,
        bed_id=bed.bed_id,
        sex=request["sex"],
        from_at=_begins_at(tx, request),
        until_at=request["until_at"],
        hold=settings.hold,
        takes_bed_now=request["until_at"] is None or request["source"] == "import",
    )
    outbox.append(
        tx,
        BedAssigned.model_construct(
            encounter_id=encounter_id,
            patient_tok=patient_tok,
            bed_id=bed.bed_id,
            bed_code=bed.code,
            ward=bed.ward,
            held_until=held_until,
        ),
    )
    return Assigned(bed, held_until)


async def _choose(tx: Transaction, settings: Settings, request: Any) -> Chosen | NoBed:
    begins_at = _begins_at(tx, request)
    need = Need(request["sex"], request["isolation"], request["level"], begins_at, request["kind"])
    if need.kind == "day":
        free = await store.list_day_beds_free_in_slot(tx, request["from_at"], request["until_at"])
        if request["source"] == "import":
            free = [bed for bed in free if domain.is_allocatable(bed, request["from_at"]) or _only_busy_later(bed)]
        return Chosen(free[0]) if free else NoBed("no_free_bed")
    if request["source"] == "live" and not domain.is_due(
        request["from_at"], tx.now, timedelta(hours=settings.horizon_hours)
    ):
        return NoBed("not_due_yet")
    reasons: list[WaitingReason] = []
    for ward in await store.list_target_wards(
        tx,
        kind=need.kind,
        level=need.level,
        specialty=request["specialty"],
        isolation=need.isolation != "none",
        from_at=need.from_at,
    ):
        match domain.choose_bed(need, await store.lock_ward_beds(tx, ward)):
            case Chosen() as chosen:
                return chosen
            case NoBed(reason):
                reasons.append(reason)
    return NoBed(domain.worst_reason(reasons))


def _begins_at(tx: Transaction, request: Any) -> datetime:
    """Return from when the bed is taken: a slot and an imported stay at their own time, live work from now on.

    A patient who has waited since eight can have the bed that was cleaned at nine.
    """
    begins_at: datetime = request["from_at"]
    return begins_at if request["until_at"] or request["source"] == "import" else tx.now


def _only_busy_later(bed: Bed) -> bool:
    return bed.service == "active" and bed.condition == "U" and bed.commitment == "free"


async def serve_waiting(tx: Transaction, settings: Settings, *, limit: int = 50) -> int:
    """Give beds to waiting requests in their order; returns how many got one."""
    served = 0
    for row in await store.list_waiting(tx, limit):
        tx.correlation_id, tx.source = row["encounter_id"], row["source"]
        if isinstance(await assign_bed(tx, settings, row), Assigned):
            served += 1
            if row["recalled"]:
                await occupy_bed(tx, row["encounter_id"], tx.now)
    return served


async def expire_holds(tx: Transaction) -> int:
    """Put stays whose patient did not come in time back into the queue, their beds free again (A27, R44)."""
    rows = await store.list_expired_holds(tx)
    for row in rows:
        tx.correlation_id, tx.source = row["encounter_id"], row["source"]
        await store.release_hold(tx, row, state="waiting")
        outbox.append(
            tx, BedHoldExpired(encounter_id=row["encounter_id"], patient_tok=row["patient_tok"], bed_id=row["bed_id"])
        )
    return len(rows)


async def extend_overruns(tx: Transaction, settings: Settings) -> int:
    """Let day patients who are still in bed after their slot stay; a later hold of that bed is placed anew (R40)."""
    rows = await store.list_overrun_slots(tx)
    for row in rows:
        until_at = tx.now + timedelta(minutes=settings.overrun_minutes)
        await _displace(tx, settings, row["bed_id"], tx.now, until_at)
        await store.extend_claim(tx, row["claim_id"], until_at)
    return len(rows)


async def _displace(
    tx: Transaction, settings: Settings, bed_id: int, from_at: datetime, until_at: datetime | None
) -> None:
    for row in await store.list_later_slots(tx, bed_id, from_at, until_at):
        keep = tx.correlation_id
        tx.correlation_id = row["encounter_id"]
        await store.release_hold(tx, row, state="waiting")
        outbox.append(
            tx, BedHoldExpired(encounter_id=row["encounter_id"], patient_tok=row["patient_tok"], bed_id=bed_id)
        )
        await assign_bed(tx, settings, row)
        tx.correlation_id = keep


async def _request(tx: Transaction, encounter_id: UUID) -> Any:
    request = await store.lock_request(tx, encounter_id)
    if request is None:
        raise Refused("The pool has no request of this stay.", code="no_bed_request")
    return request


async def occupy_bed(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """Turn the hold of a stay into its occupancy since `at` (A01); a repeated admission changes nothing.

    Raises:
        Refused: nothing is held for this stay any more; the event is parked for a person (2-domain 3, late or malformed).
    """
    request = await _request(tx, encounter_id)
    if request["state"] == "arrived":
        return
    if request["state"] != "assigned":
        raise Refused("No bed is held for this stay any more.", code="nothing_held")
    await store.mark_occupied(tx, request, at)
    _announce_occupied(tx, request, at)


def _announce_occupied(tx: Transaction, request: Any, at: datetime) -> None:
    outbox.append(
        tx,
        BedOccupied(
            encounter_id=request["encounter_id"],
            patient_tok=request["patient_tok"],
            bed_id=request["bed_id"],
            ward=request["ward"],
            occupied_at=at,
        ),
    )


async def occupy_day_bed(tx: Transaction, settings: Settings, encounter_id: UUID, at: datetime) -> None:
    """The day patient is here: into the booked bed, or into another one when that is not ready (R23)."""
    request = await _request(tx, encounter_id)
    if request["state"] == "arrived":
        return
    if request["state"] != "assigned":
        raise Refused("No day bed is booked for this case any more.", code="nothing_held")
    bed = await store.lock_bed(tx, request["bed_id"])
    if bed["condition"] != "U" or bed["encounter_id"] not in (None, encounter_id):
        await store.release_hold(tx, request, state="waiting")
        match await assign_bed(tx, settings, {**request, "waiting_reason": None}):
            case Waitlisted():
                raise Refused("No day bed is ready for this patient.", code="no_day_bed_ready")
            case Assigned():
                request = await _request(tx, encounter_id)
    await store.mark_occupied(tx, request, at)
    _announce_occupied(tx, request, at)


async def vacate_bed(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """The patient physically left at `at`: the bed is free of the patient and must be cleaned (V4); repeated, it changes nothing.

    The time is admission's, however late the pool hears of it.

    Raises:
        Refused: this stay lies in no bed.
    """
    request = await _request(tx, encounter_id)
    if request["state"] == "left":
        return
    if request["state"] != "arrived":
        raise Refused("This stay lies in no bed.", code="not_in_a_bed")
    await store.close_stay(tx, request, at, cleaning_id=new_id())
    outbox.append(
        tx,
        BedVacated(
            bed_id=request["bed_id"],
            encounter_id=encounter_id,
            patient_tok=request["patient_tok"],
            ward=request["ward"],
            vacated_at=at,
        ),
    )
    outbox.append(
        tx, CleaningRequested(bed_id=request["bed_id"], ward=request["ward"], terminal=request["isolation"] != "none")
    )


async def cancel_request(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """The stay will not happen: its hold ends, its place in the queue too; nothing to do when it is unknown or over."""
    request = await store.lock_request(tx, encounter_id)
    if request is None or request["state"] in ("left", "cancelled"):
        return
    if request["state"] == "arrived":
        await vacate_bed(tx, encounter_id, at)
        return
    await store.release_hold(tx, request, state="cancelled")
    outbox.append(
        tx,
        BedRequestCancelled(encounter_id=encounter_id, patient_tok=request["patient_tok"], bed_id=request["bed_id"]),
    )


async def take_back(tx: Transaction, settings: Settings, encounter_id: UUID, at: datetime) -> None:
    """A discharge was taken back (A13): the old bed when nobody has it, else a new place in the queue, first of all."""
    request = await _request(tx, encounter_id)
    if request["state"] != "left":
        return
    if await store.reoccupy(tx, request, at, claim_id=new_id()):
        _announce_occupied(tx, request, at)
        return
    await store.mark_waiting(tx, encounter_id, "no_free_bed", recalled=True)
    outbox.append(
        tx, BedRequestOpened(encounter_id=encounter_id, patient_tok=request["patient_tok"], kind=request["kind"])
    )
    match await assign_bed(tx, settings, {**request, "from_at": tx.now, "waiting_reason": None}):
        case Assigned():
            await occupy_bed(tx, encounter_id, tx.now)
        case Waitlisted():
            return


async def keep_day_bed(tx: Transaction, settings: Settings, encounter_id: UUID) -> None:
    """A day case became a stay: the day bed is kept until the patient is moved (DAY-6)."""
    request = await _request(tx, encounter_id)
    if request["state"] != "arrived":
        raise Refused("This case lies in no bed.", code="not_in_a_bed")
    await _displace(tx, settings, request["bed_id"], tx.now, None)
    await store.extend_claim(tx, request["claim_id"], None)


async def finish_cleaning(tx: Transaction, bed_id: int) -> Any:
    """The bed is clean and can be allocated again.

    Raises:
        NotFound: no such bed. Refused: it does not wait for cleaning.
    """
    bed = await store.lock_bed(tx, bed_id)
    if bed is None:
        raise NotFound("There is no such bed.")
    if bed["condition"] not in ("H", "K"):
        raise Refused("This bed does not wait for cleaning.", code="not_to_clean", condition=bed["condition"])
    await store.mark_cleaned(tx, bed_id)
    outbox.append(tx, BedCleaned(bed_id=bed_id, cleaned_at=tx.now))
    outbox.append(tx, BedFreed(bed_id=bed_id, ward=bed["ward"]))
    return bed


async def add_beds(tx: Transaction, rows: Sequence[dict[str, Any]]) -> int:
    """Add beds to the pool; known codes are left as they are; returns how many are new."""
    added = await store.insert_beds(tx, rows)
    for bed in added:
        outbox.append(tx, BedAdded(bed_id=bed["bed_id"], bed_code=bed["code"], ward=bed["ward"], kind=bed["kind"]))
    return len(added)


def read_layout(path: Path) -> list[dict[str, Any]]:
    """Read a hospital layout from a CSV file with a heading."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            {**row, "floor": int(row["floor"]), "isolation": row["isolation"] == "yes"} for row in csv.DictReader(lines)
        ]


async def furnish_when_empty(tx: Transaction, settings: Settings) -> int:
    """Give a new, empty pool the beds of its layout file; one of several starting processes does it."""
    await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtext('beds.furnish'))")
    if await store.count_beds(tx):
        return 0
    return await add_beds(tx, read_layout(settings.layout_file))
