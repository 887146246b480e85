"""Who stays in another patient's bed or at it: a newborn (母婴同室), a companion (陪护). Declared, or not at all (V1).

A share hangs on the host's stay: where the host goes, the guests go; when the host leaves, a companion leaves too and a
newborn waits for a bed of its own, being in the house already. Each newborn is a stay of its own with an account of its own.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.beds import domain, moves_store, store
from services.beds.announced import cancel_move
from services.beds.domain import May, NoShare, ShareKind, Sharer
from services.beds.rules import Bed
from services.beds.settings import Settings
from shared.contracts.beds import (
    BedAssigned,
    BedHoldExpired,
    BedOccupied,
    BedRequestOpened,
    BedTransferred,
    CleaningRequested,
    ShareDeclared,
    ShareEnded,
)
from shared.db import Transaction, refusing
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox

_SAID: dict[NoShare, str] = {
    "host_not_in_bed": "Nobody lies in that bed; a bed is shared with a patient who lies in it.",
    "host_is_guest": "That patient is a guest; share the bed of the one it belongs to.",
    "not_the_mother": "A newborn shares its mother's bed.",
    "guest_needed": "Name the newborn's own stay.",
    "guest_not_known": "A companion is no patient; who is one has a bed of the own.",
    "not_a_newborn": "Only a newborn shares a bed; give this patient a bed of the own.",
    "shares_already": "This newborn shares a bed already.",
    "needs_isolation": "Nobody shares a bed while one of them needs isolation.",
    "needs_critical_care": "Nobody shares a bed in intensive care.",
    "too_many_guests": "No more newborns fit beside this mother.",
}
_ONCE = {
    "one_share": ("shares_already", _SAID["shares_already"]),
    "one_companion": ("companion_there", "A companion stays with this patient already."),
}


async def declare_share(
    tx: Transaction, settings: Settings, host_id: UUID, *, kind: ShareKind, guest_id: UUID | None, may: May
) -> UUID:
    """Let a newborn or a companion stay with a patient from now on; a newborn leaves queue, hold or own bed for it.

    Raises:
        Refused: no such stays, or the rules of sharing say no (`domain.why_no_share`).
    """
    if guest_id == host_id:
        raise Refused("Nobody is the guest of the own bed.", code="same_stay")
    # The host first, everywhere: so nobody who moves the host waits for somebody who waits for the host.
    host = await store.locked_request(tx, host_id)
    guest = None if guest_id is None else await store.locked_request(tx, guest_id)
    may(host["ward"])
    shares = await moves_store.list_shares(tx, host_id)
    refusal = domain.why_no_share(
        kind,
        _sharer(host),
        None if guest is None else _sharer(guest),
        newborns=sum(share["kind"] == "newborn" for share in shares),
        newborns_max=settings.newborns_max,
    )
    if refusal is not None:
        raise Refused(_SAID[refusal], code=refusal)
    share_id = new_id()
    with refusing(_ONCE):
        await moves_store.insert_share(
            tx, share_id, host_id, kind, guest_id=guest_id, guest_tok=None if guest is None else guest["patient_tok"]
        )
    outbox.append(
        tx,
        ShareDeclared(
            encounter_id=host_id,
            patient_tok=host["patient_tok"],
            kind=kind,
            guest_encounter_id=guest_id,
            bed_id=host["bed_id"],
            ward=host["ward"],
            declared_at=tx.now,
        ),
    )
    if guest is not None:
        await _bring(tx, settings, guest, host, share_id)
    return share_id


def _sharer(request: Any) -> Sharer:
    return Sharer(
        sex=request["sex"],
        isolation=request["isolation"],
        level=request["level"],
        age_years=request["age_years"],
        kind=request["kind"],
        lies=request["state"] == "arrived",
        is_guest=request["share_id"] is not None,
    )


async def _bring(tx: Transaction, settings: Settings, guest: Any, host: Any, share_id: UUID) -> None:
    """Put a newborn to its mother, from wherever it is: the queue, a held bed, a bed of its own."""
    encounter_id, state = guest["encounter_id"], guest["state"]
    if state in ("left", "cancelled"):
        raise Refused("This stay is over.", code="stay_is_over")
    if guest["move_id"] is not None:
        raise Refused("A move of this newborn is announced; cancel it first.", code="move_announced")
    if state == "arrived":
        await moves_store.leave_claim(tx, guest, tx.now)
        await moves_store.empty_bed(tx, guest, guest["bed_id"], tx.now, cleaning_id=new_id())
        outbox.append(tx, _moved(tx, guest, host["bed_id"], host["code"], host["ward"], "rooming_in", shared=True))
        outbox.append(
            tx,
            CleaningRequested(bed_id=guest["bed_id"], ward=guest["ward"], terminal=guest["isolation"] != "none"),
        )
    elif state == "assigned":
        await store.release_hold(tx, guest, state="waiting")
        outbox.append(tx, _without_hold(guest))
    is_here = state == "arrived" or (state == "waiting" and guest["recalled"])
    await moves_store.place_guest(
        tx, encounter_id, share_id, host["bed_id"], state="arrived" if is_here else "assigned"
    )
    if state == "waiting" and is_here:
        outbox.append(
            tx,
            BedOccupied(
                encounter_id=encounter_id,
                patient_tok=guest["patient_tok"],
                bed_id=host["bed_id"],
                ward=host["ward"],
                occupied_at=tx.now,
                shared=True,
            ),
        )
    elif not is_here:
        outbox.append(tx, _assigned(tx, settings, guest, host["bed_id"], host["code"], host["ward"]))


async def end_share(tx: Transaction, share_id: UUID, *, reason: str, may: May) -> Any:
    """End a share: a companion goes; a newborn waits for a bed of its own, and is in the house already.

    Raises:
        NotFound: no such share. Refused: it has ended (share_over).
    """
    share = await moves_store.get_share(tx, share_id)
    if share is None:
        raise NotFound("There is no such share.")
    host = await store.locked_request(tx, share["host_id"])
    guest = None if share["guest_id"] is None else await store.locked_request(tx, share["guest_id"])
    may(host["ward"])
    await _end(tx, share_id, tx.now, reason)
    if guest is not None:
        await _wait(tx, guest)
    return host


async def end_as_guest(tx: Transaction, guest: Any, at: datetime, reason: str) -> None:
    """A guest goes elsewhere; the host's bed is the host's alone as far as this guest is concerned."""
    await _end(tx, guest["share_id"], at, reason)


async def _end(tx: Transaction, share_id: UUID, at: datetime, reason: str) -> None:
    share = await moves_store.end_share(tx, share_id, at, reason)
    if share is None:
        raise Refused("This share has ended already.", code="share_over")
    outbox.append(
        tx,
        ShareEnded(
            encounter_id=share["host_id"],
            patient_tok=share["host_tok"],
            kind=share["kind"],
            guest_encounter_id=share["guest_id"],
            bed_id=share["host_bed_id"],
            reason=reason,
            ended_at=at,
        ),
    )


async def take_guests_along(tx: Transaction, settings: Settings, host: Any, bed: Bed, reason: str) -> None:
    """Move everybody who stays with a patient to the patient's new bed."""
    for share in await moves_store.list_shares(tx, host["encounter_id"]) if host["guests"] else ():
        if share["guest_id"] is None:
            continue
        guest = await store.locked_request(tx, share["guest_id"])
        await moves_store.place_guest(tx, share["guest_id"], share["id"], bed.bed_id, state=guest["state"])
        from_host = {**guest, "bed_id": host["bed_id"], "ward": host["ward"]}
        if guest["state"] == "arrived":
            outbox.append(
                tx, _moved(tx, from_host, bed.bed_id, bed.code, bed.ward, reason, from_shared=True, shared=True)
            )
        else:
            outbox.append(tx, _without_hold(from_host))
            outbox.append(tx, _assigned(tx, settings, guest, bed.bed_id, bed.code, bed.ward))


async def leave_guests_behind(tx: Transaction, host: Any, at: datetime) -> None:
    """The host leaves the house: companions go too, newborns that stay wait for a bed of their own."""
    for share in await moves_store.list_shares(tx, host["encounter_id"]):
        await _end(tx, share["id"], at, "host_left")
        if share["guest_id"] is not None:
            await _wait(tx, await store.locked_request(tx, share["guest_id"]))


async def _wait(tx: Transaction, guest: Any) -> None:
    """A newborn whose share has ended waits for a bed; admitted before, it lies down as soon as one is found."""
    is_here = guest["state"] == "arrived"
    if guest["move_id"] is not None:
        await cancel_move(tx, guest, reason="share_ended")
    await store.mark_waiting(tx, guest["encounter_id"], "no_free_bed", recalled=is_here)
    if is_here:
        outbox.append(
            tx,
            BedRequestOpened(encounter_id=guest["encounter_id"], patient_tok=guest["patient_tok"], kind=guest["kind"]),
        )
    else:
        outbox.append(tx, _without_hold(guest))


def _without_hold(guest: Any) -> BedHoldExpired:
    return BedHoldExpired(encounter_id=guest["encounter_id"], patient_tok=guest["patient_tok"], bed_id=guest["bed_id"])


def _assigned(tx: Transaction, settings: Settings, guest: Any, bed_id: int, code: str, ward: str) -> BedAssigned:
    return BedAssigned(
        encounter_id=guest["encounter_id"],
        patient_tok=guest["patient_tok"],
        bed_id=bed_id,
        bed_code=code,
        ward=ward,
        held_until=tx.now + settings.hold,
        shared=True,
    )


def _moved(
    tx: Transaction,
    guest: Any,
    bed_id: int,
    code: str,
    ward: str,
    reason: str,
    *,
    shared: bool,
    from_shared: bool = False,
) -> BedTransferred:
    return BedTransferred(
        encounter_id=guest["encounter_id"],
        patient_tok=guest["patient_tok"],
        from_bed_id=guest["bed_id"],
        from_ward=guest["ward"],
        bed_id=bed_id,
        bed_code=code,
        ward=ward,
        reason=reason,
        transferred_at=tx.now,
        from_shared=from_shared,
        shared=shared,
    )
