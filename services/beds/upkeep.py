"""Beds between patients: cleaning, repair, closed wards, extra beds (BED-5, BED-6, R44)."""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.beds import inventory, moves_store, store
from services.beds.announced import cancel_move
from services.beds.settings import Settings
from shared.contracts.beds import (
    BedBlocked,
    BedCleaned,
    BedFreed,
    BedUnblocked,
    CleaningStarted,
    CleaningSuspended,
    QuotaReleased,
    TransferRequested,
)
from shared.db import LostRace, Transaction, refusing
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox


async def _locked(tx: Transaction, bed_id: int) -> Any:
    bed = await inventory.lock_bed(tx, bed_id)
    if bed is None:
        raise NotFound("There is no such bed.")
    return bed


async def _dirty(tx: Transaction, bed_id: int) -> Any:
    bed = await _locked(tx, bed_id)
    if bed["cleaning"] is None:
        raise Refused("This bed does not wait for cleaning.", code="not_to_clean", condition=bed["condition"])
    return bed


async def start_cleaning(tx: Transaction, bed_id: int) -> Any:
    """Somebody cleans the bed now; suspended cleaning goes on.

    Raises:
        NotFound: no such bed. Refused: it does not wait for cleaning, or is being cleaned.
    """
    bed = await _dirty(tx, bed_id)
    if bed["cleaning"] == "started":
        raise Refused("Somebody cleans this bed already.", code="cleaning_started")
    await inventory.mark_cleaning(tx, bed_id, "started")
    outbox.append(tx, CleaningStarted(bed_id=bed_id, started_at=tx.now))
    return bed


async def suspend_cleaning(tx: Transaction, bed_id: int, reason: str) -> Any:
    """Cleaning stops before it is done; the bed stays dirty.

    Raises:
        NotFound: no such bed. Refused: nobody cleans it.
    """
    bed = await _dirty(tx, bed_id)
    if bed["cleaning"] != "started":
        raise Refused("Nobody cleans this bed.", code="cleaning_not_started")
    await inventory.mark_cleaning(tx, bed_id, "suspended")
    outbox.append(tx, CleaningSuspended(bed_id=bed_id, reason=reason))
    return bed


async def finish_cleaning(tx: Transaction, bed_id: int) -> Any:
    """The bed is clean, after an infectious patient disinfected, and can be allocated again.

    Raises:
        NotFound: no such bed. Refused: it does not wait for cleaning.
    """
    bed = await _dirty(tx, bed_id)
    await inventory.mark_cleaned(tx, bed_id)
    outbox.append(tx, BedCleaned(bed_id=bed_id, cleaned_at=tx.now))
    outbox.append(tx, BedFreed(bed_id=bed_id, ward=bed["ward"]))
    return bed


async def _locked_with_occupant(tx: Transaction, bed_id: int) -> tuple[Any, Any]:
    """Lock the stay that lies in a bed, or nothing, and then the bed: the order of everybody else."""
    seen = await inventory.get_bed(tx, bed_id)
    lying = seen is not None and seen["commitment"] in ("active", "leave")
    request = await store.lock_request(tx, seen["encounter_id"]) if lying else None
    bed = await _locked(tx, bed_id)
    now = bed["encounter_id"] if bed["commitment"] in ("active", "leave") else None
    if now != (None if request is None else request["encounter_id"]):
        raise LostRace("Somebody came or left meanwhile.")
    return request, bed


async def block_bed(tx: Transaction, bed_id: int, *, reason: str, until: datetime | None) -> Any:
    """Take a bed out of service; who lies in it stays until moved, which is urgent from now on, and nobody new comes (BED-6).

    Raises:
        NotFound: no such bed. Refused: it is out of service, or held for somebody who would come to a broken bed.
    """
    request, bed = await _locked_with_occupant(tx, bed_id)
    if bed["service"] != "active":
        raise Refused("This bed is out of service already.", code="blocked")
    if bed["commitment"] == "held":
        raise Refused("This bed is held for a patient; give that patient another one first.", code="bed_held")
    await inventory.mark_service(tx, bed_id, "suspended", reason=reason, until=until)
    outbox.append(tx, BedBlocked(bed_id=bed_id, ward=bed["ward"], reason=reason, until=until))
    if request is not None and request["move_id"] is None:
        await moves_store.want_move(tx, new_id(), request["encounter_id"], "breakdown")
        outbox.append(
            tx,
            TransferRequested(
                encounter_id=request["encounter_id"],
                patient_tok=request["patient_tok"],
                bed_id=bed_id,
                ward=bed["ward"],
                reason="breakdown",
            ),
        )
    return bed


async def unblock_bed(tx: Transaction, bed_id: int) -> Any:
    """Put a bed back into service; who lies in it and had no other bed yet need not move any more.

    Raises:
        NotFound: no such bed. Refused: it is not suspended.
    """
    request, bed = await _locked_with_occupant(tx, bed_id)
    if bed["service"] != "suspended":
        raise Refused("This bed is not blocked.", code="not_blocked")
    await inventory.mark_service(tx, bed_id, "active", reason=None, until=None)
    outbox.append(tx, BedUnblocked(bed_id=bed_id, ward=bed["ward"]))
    if request is not None and request["move_id"] is not None:
        move = await moves_store.get_move(tx, request["move_id"])
        if move["state"] == "wanted":
            await cancel_move(tx, request, reason="repaired")
    return bed


async def release_quotas(tx: Transaction, settings: Settings) -> int:
    """Tell once a day of each partner's free bed that it is everybody's from the hour of release on (R36); returns how many."""
    here = tx.now.astimezone(settings.zone)
    if here.hour < settings.quota_release_hour:
        return 0
    rows = await inventory.mark_quotas_told(tx, here.date())
    for row in rows:
        outbox.append(
            tx, QuotaReleased(bed_id=row["bed_id"], ward=row["ward"], partner=row["quota"], released_at=tx.now)
        )
    return len(rows)


async def unblock_due_beds(tx: Transaction) -> None:
    """Put beds back into service whose time out of it is over."""
    for bed_id in await inventory.list_due_blocks(tx):
        with contextlib.suppress(LostRace):  # whoever comes or leaves this moment is looked at in the next turn
            await unblock_bed(tx, bed_id)


async def retire_bed(tx: Transaction, bed_id: int) -> Any:
    """Take a bed out of the pool for good, such as an extra bed that is no longer needed.

    Raises:
        NotFound: no such bed. Refused: somebody lies in it or is expected, or a slot of it is booked.
    """
    bed = await _locked(tx, bed_id)
    if bed["service"] == "inactive":
        raise Refused("This bed is retired already.", code="retired")
    if bed["commitment"] != "free" or await inventory.has_later_claims(tx, bed_id):
        raise Refused("Somebody lies in this bed or is expected.", code="bed_in_use")
    await inventory.mark_service(tx, bed_id, "inactive", reason=None, until=None)
    outbox.append(tx, BedBlocked(bed_id=bed_id, ward=bed["ward"], reason="retired", until=None))
    return bed


async def change_bed(tx: Transaction, bed_id: int, *, version: int, facts: Mapping[str, Any]) -> Any:
    """Change a bed's room, class, isolation, equipment or quota while nobody lies in it or is expected.

    Raises:
        NotFound: no such bed. Refused: it changed since it was seen, is in use, or the room lies in another ward.
    """
    bed = await _locked(tx, bed_id)
    if bed["version"] != version:
        raise Refused("Somebody changed this bed since you saw it.", code="bed_changed")
    if bed["commitment"] != "free":
        raise Refused("Somebody lies in this bed or is expected.", code="bed_in_use")
    if (room := facts.get("room")) is not None:
        _, rooms = await inventory.list_places(tx, [], [room])
        if rooms.get(room, bed["ward"]) != bed["ward"]:
            raise Refused("This room lies in another ward.", code="layout_disagrees")
    await inventory.update_bed(tx, bed_id, facts)
    return bed


async def change_ward(tx: Transaction, ward: str, facts: Mapping[str, Any]) -> None:
    """Change a ward's names, specialties or ages; patients who lie in it stay.

    Raises:
        NotFound: no such ward. Refused: the ages are not in order.
    """
    with refusing({"ages_in_order": ("ages_not_in_order", "The lowest age is above the highest.")}):
        if not await inventory.update_ward(tx, ward, facts):
            raise NotFound("There is no such ward.")


async def set_ward_open(tx: Transaction, ward: str, *, reason: str | None) -> None:
    """Close a ward to new patients for a reason, or open it again (None); those inside stay.

    Raises:
        NotFound: no such ward.
    """
    if not await inventory.mark_ward_open(tx, ward, reason):
        raise NotFound("There is no such ward.")
