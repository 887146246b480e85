"""What can be done in the bed pool. One action = one transaction; both doors use them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.beds import domain, inventory, layout, milestones, moves_store, shares, store
from services.beds.announced import cancel_move
from services.beds.mirror import PoolMirror
from services.beds.plan import Plan
from services.beds.rules import (
    OVERRIDABLE,
    Bed,
    Evaluation,
    HardRule,
    Need,
    Scored,
    Weights,
    evaluate,
    explanation,
    loads_of,
    rooms_of,
)
from services.beds.settings import Settings
from shared.contracts.beds import (
    BedAdded,
    BedAssigned,
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
from shared.errors import Refused
from shared.ids import new_id
from shared.messaging import outbox

NEAREST_FIRST: tuple[WaitingReason, ...] = (
    "no_room_of_that_sex",
    "no_isolation_room",
    "no_equipment",
    "no_bed_of_that_class",
    "no_ward_for_age",
    "ward_closed",
    "no_free_bed",
    "no_bed_of_that_kind",
)


@dataclass(slots=True)
class Pool:
    """What a hospital decides about its pool, the pool in memory, and the last plan."""

    settings: Settings
    mirror: PoolMirror = field(default_factory=PoolMirror)
    plan: Plan = field(default_factory=Plan)
    steps: milestones.Steps = field(init=False)

    def __post_init__(self) -> None:
        """Read the steps on the way home, so that a wrong file stops the start and not a patient."""
        self.steps = milestones.load(self.settings.milestones_file, self.settings.delay_reasons_file)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The bed that fits best, why, and by which weights."""

    bed: Bed
    explanation: dict[str, Any]
    weights: Weights


@dataclass(frozen=True, slots=True)
class NoBed:
    """No bed fits now, and why (R10)."""

    reason: WaitingReason


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
    tx: Transaction, pool: Pool, *, encounter_id: UUID, patient_tok: UUID, **facts: Any
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
        "recalled": False,
        "refused_wards": (),
        "refused_beds": (),
        "travel_minutes": None,
        **facts,
    }
    return await assign_bed(tx, pool, request)


async def assign_bed(tx: Transaction, pool: Pool, request: Any) -> Assigned | Waitlisted:
    """Hold the best bed for a locked request, or tell why it waits; its ward is locked, so nobody can take the bed (V1)."""
    chosen = NoBed("for_the_desk") if _is_left_to_the_desk(pool, request) else await choose_bed(tx, pool, request)
    encounter_id, patient_tok = request["encounter_id"], request["patient_tok"]
    if isinstance(chosen, NoBed):
        if request["waiting_reason"] != chosen.reason:
            await store.mark_waiting(tx, encounter_id, chosen.reason)
            outbox.append(tx, BedWaitlisted(encounter_id=encounter_id, patient_tok=patient_tok, reason=chosen.reason))
        return Waitlisted(chosen.reason)
    return await hold(tx, pool, request, chosen)


def _is_left_to_the_desk(pool: Pool, request: Any) -> bool:
    """Say whether a person chooses the bed: where a hospital wants that, for all but emergencies, recalls and imports."""
    if pool.settings.auto_assign or request["kind"] == "day" or request["source"] == "import" or request["recalled"]:
        return False
    return request["urgency"] in ("urgent", "elective")


def _is_hopeless(pool: Pool, tx: Transaction, request: Any) -> bool:
    """Say whether the pool in memory shows no bed for a request that was told so already; it is asked again after the next look."""
    if request["kind"] == "day" or request["waiting_reason"] is None or not pool.mirror.beds:
        return False
    return not pool.mirror.choose(need_of(pool, request, begins_at(tx, request)))


async def hold(
    tx: Transaction, pool: Pool, request: Any, chosen: Chosen, *, override_reason: str | None = None
) -> Assigned:
    """Hold a chosen bed for a locked request, keep why, and announce it.

    Raises:
        LostRace: another claim took the bed meanwhile. Refused: the patient has another bed for that time.
    """
    bed = chosen.bed
    encounter_id, patient_tok = request["encounter_id"], request["patient_tok"]
    held_until = await store.insert_hold(
        tx,
        new_id(),
        encounter_id=encounter_id,
        patient_tok=patient_tok,
        bed_id=bed.bed_id,
        sex=request["sex"],
        from_at=begins_at(tx, request),
        until_at=request["until_at"],
        hold=domain.hold_for(
            pool.settings.hold,
            request["travel_minutes"] if request["until_at"] is None else None,
            pool.settings.travel_grace_max,
        ),
        takes_bed_now=request["until_at"] is None or request["source"] == "import",
        isolated=request["isolation"] != "none",
        rules_version=chosen.weights.version,
        explanation=chosen.explanation,
        override_reason=override_reason,
    )
    pool.mirror.note_taken(bed.bed_id)
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


def require_as_seen(bed: Bed, version: int) -> None:
    """Refuse a choice that was made of a bed which is another one by now.

    Raises:
        Refused: bed_changed.
    """
    if bed.version != version:
        raise Refused(
            "Somebody changed this bed since you saw it.",
            code="bed_changed",
            condition=bed.condition,
            commitment=bed.commitment,
        )


def require_open(rule: HardRule | None, *, overridden: bool) -> None:
    """Refuse a bed that a rule closes, unless a person overrides a rule that may be overridden (BED-2).

    Raises:
        Refused: rule_firm: nobody may; rule_broken: repeat with a reason.
    """
    if rule is None:
        return
    if rule not in OVERRIDABLE:
        raise Refused("This bed cannot be given to this patient.", code="rule_firm", rule=rule.value)
    if not overridden:
        raise Refused(
            "A rule closes this bed; give a reason to use it all the same.", code="rule_broken", rule=rule.value
        )


def need_of(pool: Pool, request: Any, from_at: datetime) -> Need:
    """Return what a request needs of a bed it would have from then on.

    A partner's quota is kept for its patients until the hour of the day it is released for everybody (R36).
    """
    return Need(
        sex=request["sex"],
        from_at=from_at,
        specialty=request["specialty"],
        isolation=request["isolation"],
        level=request["level"],
        kind=request["kind"],
        bed_class=request["class"],
        equipment=frozenset(request["equipment"]),
        age_years=request["age_years"],
        partner=request["partner"],
        quotas_released=from_at.astimezone(pool.settings.zone).hour >= pool.settings.quota_release_hour,
        refused_wards=frozenset(request["refused_wards"]),
        refused_beds=frozenset(request["refused_beds"]),
    )


async def choose_bed(tx: Transaction, pool: Pool, request: Any) -> Chosen | NoBed:
    """Choose a bed: the ward by the free list in memory, then the bed under that ward's lock (R03, V1).

    Memory may be half a second old. So a bed counts only when its locked ward still shows it free, and nobody is told that
    there is none before the database says so too.
    """
    need = need_of(pool, request, begins_at(tx, request))
    if need.kind == "day":
        free = await store.list_day_beds_free_in_slot(tx, request["from_at"], request["until_at"])
        if request["source"] == "import":
            free = [bed for bed in free if _is_ready(bed)]
        return Chosen(free[0], {"choices": [], "closed": {}}, pool.mirror.weights) if free else NoBed("no_free_bed")
    horizon = timedelta(hours=pool.settings.horizon_hours)
    if request["source"] == "live" and not domain.is_due(request["from_at"], tx.now, horizon):
        return NoBed("not_due_yet")
    seen = pool.mirror.choose(need)
    tried: dict[str, Evaluation] = {}
    for ward in dict.fromkeys(scored.bed.ward for scored in seen):
        if (chosen := await _choose_in(tx, pool, need, ward, seen, tried)) is not None:
            return chosen
    for ward in await store.list_target_wards(tx, need):
        if ward not in tried and (chosen := await _choose_in(tx, pool, need, ward, seen, tried)) is not None:
            return chosen
    judged = pool.mirror.judge_all(need)
    if judged.closed and not judged.possible:
        return NoBed(judged.waiting_reason)
    return NoBed(_why_not(tried.values()))


async def _choose_in(
    tx: Transaction, pool: Pool, need: Need, ward: str, seen: Sequence[Scored], tried: dict[str, Evaluation]
) -> Chosen | None:
    attributes, beds = await store.lock_ward(tx, ward)
    here = evaluate(need, beds, {ward: attributes}, pool.mirror.weights, rooms=rooms_of(beds), loads=loads_of(beds))
    tried[ward] = here
    if not here.possible:
        return None
    others = tuple(scored for scored in seen if scored.bed.ward not in tried)
    best = Evaluation((*here.possible[:4], *others[:3]), here.closed, here.closed_wards)
    return Chosen(here.possible[0].bed, explanation(best), pool.mirror.weights)


def _why_not(tried: Iterable[Evaluation]) -> WaitingReason:
    """Return the reason a patient should hear: the nearest to a bed that any ward came."""
    reasons = {evaluation.waiting_reason for evaluation in tried}
    return next((reason for reason in NEAREST_FIRST if reason in reasons), "no_free_bed")


def begins_at(tx: Transaction, request: Any) -> datetime:
    """Return from when the bed is taken: a slot and an imported stay at their own time, live work from now on.

    A patient who has waited since eight can have the bed that was cleaned at nine.
    """
    begins_at: datetime = request["from_at"]
    return begins_at if request["until_at"] or request["source"] == "import" else tx.now


def _is_ready(bed: Bed) -> bool:
    return bed.service == "active" and bed.condition == "U" and bed.commitment == "free"


async def serve_waiting(tx: Transaction, pool: Pool, *, limit: int = 50) -> int:
    """Give beds to waiting requests in their order; returns how many got one."""
    served = 0
    for row in await store.list_waiting(tx, limit):
        if _is_hopeless(pool, tx, row):
            continue
        tx.correlation_id, tx.source = row["encounter_id"], row["source"]
        try:
            async with tx.conn.transaction():
                found = await assign_bed(tx, pool, row)
        except Refused:
            continue  # the patient holds another bed, for another stay; one of the two will end
        if isinstance(found, Assigned):
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


async def extend_overruns(tx: Transaction, pool: Pool) -> int:
    """Let day patients who are still in bed after their slot stay; a later hold of that bed is placed anew (R40)."""
    rows = await store.list_overrun_slots(tx)
    for row in rows:
        until_at = tx.now + timedelta(minutes=pool.settings.overrun_minutes)
        await _displace(tx, pool, row["bed_id"], tx.now, until_at)
        await store.extend_claim(tx, row["claim_id"], until_at)
    return len(rows)


async def _displace(tx: Transaction, pool: Pool, bed_id: int, from_at: datetime, until_at: datetime | None) -> None:
    for row in await store.list_later_slots(tx, bed_id, from_at, until_at):
        keep = tx.correlation_id
        tx.correlation_id = row["encounter_id"]
        await store.release_hold(tx, row, state="waiting")
        outbox.append(
            tx, BedHoldExpired(encounter_id=row["encounter_id"], patient_tok=row["patient_tok"], bed_id=bed_id)
        )
        await assign_bed(tx, pool, row)
        tx.correlation_id = keep


async def occupy_bed(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """Turn the hold of a stay into its occupancy since `at` (A01); a repeated admission changes nothing.

    Raises:
        Refused: nothing is held for this stay any more; the event is parked for a person (2-domain 3, late or malformed).
    """
    request = await store.locked_request(tx, encounter_id)
    if request["state"] == "arrived":
        return
    if request["state"] != "assigned":
        raise Refused("No bed is held for this stay any more.", code="nothing_held")
    if request["share_id"] is None:
        await store.mark_occupied(tx, request, at)
    else:
        await moves_store.mark_guest_arrived(tx, encounter_id, store.expected_to_leave(request, at))
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
            accommodation=None
            if request["share_id"] is not None
            else domain.accommodation_of(request["bed_kind"], request["bed_level"], request["bed_class"]),
            shared=request["share_id"] is not None,
        ),
    )


async def occupy_day_bed(tx: Transaction, pool: Pool, encounter_id: UUID, at: datetime) -> None:
    """The day patient is here: into the booked bed, or into another one when that is not ready (R23)."""
    request = await store.locked_request(tx, encounter_id)
    if request["state"] == "arrived":
        return
    if request["state"] != "assigned":
        raise Refused("No day bed is booked for this case any more.", code="nothing_held")
    bed = await inventory.lock_bed(tx, request["bed_id"])
    if bed["condition"] != "U" or bed["encounter_id"] not in (None, encounter_id):
        await store.release_hold(tx, request, state="waiting")
        match await assign_bed(tx, pool, {**request, "waiting_reason": None}):
            case Waitlisted():
                raise Refused("No day bed is ready for this patient.", code="no_day_bed_ready")
            case Assigned():
                request = await store.locked_request(tx, encounter_id)
    await store.mark_occupied(tx, request, at)
    _announce_occupied(tx, request, at)


async def vacate_bed(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """The patient physically left at `at`: the bed is free of the patient and must be cleaned (V4); repeated, it changes nothing.

    The time is admission's, however late the pool hears of it. Who is in the house without a bed leaves the queue.

    Raises:
        Refused: this stay lies in no bed.
    """
    request = await store.locked_request(tx, encounter_id)
    if request["state"] == "left":
        return
    if request["last_bed_id"] is not None and request["recalled"] and request["state"] in ("waiting", "assigned"):
        await _leave_without_bed(tx, request, at)
        return
    if request["state"] != "arrived":
        raise Refused("This stay lies in no bed.", code="not_in_a_bed")
    await _end_what_hangs_on(tx, request, at)
    shared = request["share_id"] is not None
    if shared:
        await shares.end_as_guest(tx, request, at, "left")
        await moves_store.mark_guest_left(tx, encounter_id)
    else:
        await store.close_stay(tx, request, at, cleaning_id=new_id())
    outbox.append(
        tx,
        BedVacated(
            bed_id=request["bed_id"],
            encounter_id=encounter_id,
            patient_tok=request["patient_tok"],
            ward=request["ward"],
            vacated_at=at,
            shared=shared,
        ),
    )
    if not shared:
        outbox.append(tx, cleaning_requested(request))


async def _leave_without_bed(tx: Transaction, request: Any, at: datetime) -> None:
    """A patient who waited in the house goes home: the place in the queue or the held bed is somebody else's."""
    last = await inventory.get_bed(tx, request["last_bed_id"])
    await store.release_hold(tx, request, state="left")
    outbox.append(
        tx,
        BedVacated(
            bed_id=last["bed_id"],
            encounter_id=request["encounter_id"],
            patient_tok=request["patient_tok"],
            ward=last["ward"],
            vacated_at=at,
            shared=True,
        ),
    )


def cleaning_requested(request: Any) -> CleaningRequested:
    """Return the fact that the bed a patient leaves must be cleaned, after an infectious one disinfected (R44)."""
    return CleaningRequested(bed_id=request["bed_id"], ward=request["ward"], terminal=request["isolation"] != "none")


async def _end_what_hangs_on(tx: Transaction, request: Any, at: datetime) -> None:
    """The patient leaves the house: nobody moves any more, is away, or stays at the bed."""
    if request["move_id"] is not None:
        await cancel_move(tx, request, reason="left")
    if request["leave_id"] is not None:
        await moves_store.mark_leave_ended(tx, request["leave_id"], at)
    if request["guests"]:
        await shares.leave_guests_behind(tx, request, at)


async def cancel_request(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """The stay will not happen: its hold ends, its place in the queue too; nothing to do when it is unknown or over."""
    request = await store.lock_request(tx, encounter_id)
    if request is None or request["state"] in ("left", "cancelled"):
        return
    if request["state"] == "arrived":
        await vacate_bed(tx, encounter_id, at)
        return
    if request["share_id"] is not None:
        await shares.end_as_guest(tx, request, at, "cancelled")
    await store.release_hold(tx, request, state="cancelled")
    outbox.append(
        tx,
        BedRequestCancelled(encounter_id=encounter_id, patient_tok=request["patient_tok"], bed_id=request["bed_id"]),
    )


async def take_back(tx: Transaction, pool: Pool, encounter_id: UUID, at: datetime) -> None:
    """A discharge was taken back (A13): the old bed when nobody has it, else a new place in the queue, first of all."""
    request = await store.locked_request(tx, encounter_id)
    if request["state"] != "left":
        return
    if await store.reoccupy(tx, request, at, claim_id=new_id()):
        _announce_occupied(tx, request, at)
        return
    await store.mark_waiting(tx, encounter_id, "no_free_bed", recalled=True)
    outbox.append(
        tx, BedRequestOpened(encounter_id=encounter_id, patient_tok=request["patient_tok"], kind=request["kind"])
    )
    match await assign_bed(tx, pool, {**request, "from_at": tx.now, "waiting_reason": None}):
        case Assigned():
            await occupy_bed(tx, encounter_id, tx.now)
        case Waitlisted():
            return


async def keep_day_bed(tx: Transaction, pool: Pool, encounter_id: UUID, specialty: str) -> None:
    """A day case became a stay: the day bed is kept until the patient is moved, from now on to a ward like anybody (DAY-6).

    Raises:
        Refused: this case lies in no bed.
    """
    request = await store.locked_request(tx, encounter_id)
    if request["state"] != "arrived":
        raise Refused("This case lies in no bed.", code="not_in_a_bed")
    await _displace(tx, pool, request["bed_id"], tx.now, None)
    await store.extend_claim(tx, request["claim_id"], None)
    await store.mark_converted(tx, encounter_id, specialty)


async def add_beds(
    tx: Transaction, rows: Sequence[dict[str, Any]], *, told: Sequence[Mapping[str, Any]] | None = None
) -> int:
    """Add beds to the pool, all or none; known codes are left as they are; returns how many are new.

    Args:
        tx: the transaction.
        rows: the beds with everything about them.
        told: what was really said of each, when the rest of its row are defaults; only that is compared with what is known.

    Raises:
        Refused: what is told contradicts itself, or a ward or room that is known.
    """
    wards, rooms = await inventory.list_places(
        tx, sorted({row["ward"] for row in rows}), sorted({row["room"] for row in rows})
    )
    if found := layout.disagreements(rows if told is None else told, wards, rooms):
        raise Refused(" ".join(found[:5]), code="layout_disagrees")
    added = await inventory.insert_beds(tx, rows)
    for bed in added:
        outbox.append(tx, BedAdded(bed_id=bed["bed_id"], bed_code=bed["code"], ward=bed["ward"], kind=bed["kind"]))
    return len(added)


async def furnish_when_empty(tx: Transaction, settings: Settings) -> int:
    """Give a new, empty pool the beds of its layout file; one of several starting processes does it."""
    await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtext('beds.furnish'))")
    if await inventory.count_beds(tx):
        return 0
    return await add_beds(tx, layout.load(settings.layout_file).rows())


async def note_discharge_order(tx: Transaction, encounter_id: UUID, at: datetime | None) -> None:
    """The patient may go (None: stays after all): the board shows it; the bed is freed only when the patient left (V4)."""
    await store.mark_leaving(tx, encounter_id, at)
