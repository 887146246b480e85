"""Which bed for whom. Pure: values in, a choice with its reason out.

A bed has three axes, never one state: service (may it be used at all), condition (what is physically in it), commitment (whose
it is). It can be allocated when it is active, clean-empty and free, and the rules of its room allow the patient.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.beds import WaitingReason

PRIORITY = {"critical": 0, "emergency": 1, "urgent": 2, "elective": 3}
"""Emergencies first, then who asked first (R11, R18)."""


@dataclass(frozen=True, slots=True)
class Bed:
    """A bed as the rules see it."""

    bed_id: int
    code: str
    ward: str
    room: str
    kind: str = "inpatient"
    level: str = "normal"
    isolation: bool = False
    service: str = "active"
    condition: str = "U"
    commitment: str = "free"
    patient_sex: str | None = None
    busy_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What a patient needs of a bed."""

    sex: str
    isolation: str
    level: str
    from_at: datetime
    kind: str = "inpatient"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The bed that fits best."""

    bed: Bed


@dataclass(frozen=True, slots=True)
class NoBed:
    """No bed fits now, and why (R10)."""

    reason: WaitingReason


def is_allocatable(bed: Bed, from_at: datetime) -> bool:
    """Say whether anybody could be given this bed from then on."""
    return (
        bed.service == "active"
        and bed.condition == "U"
        and bed.commitment == "free"
        and (bed.busy_until is None or bed.busy_until <= from_at)
    )


def room_takes(sex: str, neighbours: Iterable[Bed]) -> bool:
    """Say whether a patient of this sex may lie with those who are in the room or expected in it; unknown shares with nobody."""
    others = {bed.patient_sex for bed in neighbours if bed.commitment != "free"}
    return not others or (sex != "unknown" and others == {sex})


def choose_bed(need: Need, beds: Sequence[Bed]) -> Chosen | NoBed:
    """Choose the best of one ward's beds: the hard rules first, then the bed whose loss hurts least.

    Isolation takes a bed set up for it; others leave those and single rooms for last, fill rooms that are begun, and take
    the bed that was used most recently, so that untouched rooms stay whole.
    """
    fitting = [bed for bed in beds if bed.kind == need.kind and bed.level == need.level]
    if not fitting:
        return NoBed("no_bed_of_that_kind")
    free = [bed for bed in fitting if is_allocatable(bed, need.from_at)]
    if not free:
        return NoBed("no_free_bed")
    if need.isolation != "none":
        free = [bed for bed in free if bed.isolation]
        if not free:
            return NoBed("no_isolation_room")
    rooms: dict[str, list[Bed]] = {}
    for bed in beds:
        rooms.setdefault(bed.room, []).append(bed)
    shares_rooms = need.kind == "inpatient" and need.level == "normal"
    if shares_rooms:
        free = [bed for bed in free if room_takes(need.sex, rooms[bed.room])]
        if not free:
            return NoBed("no_room_of_that_sex")

    def cost(bed: Bed) -> tuple[int, int, int, float, int]:
        neighbours = rooms[bed.room]
        empty = all(other.commitment == "free" for other in neighbours)
        used_at = bed.busy_until.timestamp() if bed.busy_until else float("-inf")
        wasted = int(bed.isolation and need.isolation == "none")
        return (wasted, int(empty), len(neighbours) if empty else 0, -used_at, bed.bed_id)

    return Chosen(min(free, key=cost))


def is_due(from_at: datetime, now: datetime, horizon: timedelta) -> bool:
    """Say whether a request is near enough to be given a bed; a bed held for next week stands empty meanwhile."""
    return from_at <= now + horizon


def worst_reason(reasons: Sequence[WaitingReason]) -> WaitingReason:
    """Return the reason a patient should hear: the nearest to a bed that any ward came."""
    order: tuple[WaitingReason, ...] = (
        "no_room_of_that_sex",
        "no_isolation_room",
        "no_free_bed",
        "no_bed_of_that_kind",
    )
    return next((reason for reason in order if reason in reasons), "no_free_bed")
