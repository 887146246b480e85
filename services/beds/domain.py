"""The queue: who comes first, when, and how long a bed waits; who may share one. Which bed for whom is in `rules`. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.contracts.beds import Accommodation

May = Callable[[str | None], object]
"""Refuses when the caller may not do this in that ward."""

PRIORITY = ("critical", "emergency", "urgent", "elective")
"""Emergencies first, then who asked first (R11, R18)."""


def is_due(from_at: datetime, now: datetime, horizon: timedelta) -> bool:
    """Say whether a request is near enough to be given a bed; a bed held for next week stands empty meanwhile."""
    return from_at <= now + horizon


def cost_of_waiting(urgency: str, waited: timedelta) -> int:
    """Return what a plan pays for leaving somebody without a bed: more for the urgent, more for who waits long."""
    base = 1000 - 200 * PRIORITY.index(urgency)
    return base + min(600, int(waited.total_seconds() // 600))


def hold_for(hold: timedelta, travel_minutes: int | None, grace_max: timedelta) -> timedelta:
    """Return how long a bed waits for its patient: who comes from afar gets the way on top, up to what the hospital allows."""
    return hold + min(timedelta(minutes=travel_minutes or 0), grace_max)


# ---- sharing ---------------------------------------------------------------------------------------------------------

ShareKind = Literal["newborn", "companion"]
NoShare = Literal[
    "host_not_in_bed",
    "host_is_guest",
    "not_the_mother",
    "guest_needed",
    "guest_not_known",
    "not_a_newborn",
    "shares_already",
    "needs_isolation",
    "needs_critical_care",
    "too_many_guests",
]


@dataclass(frozen=True, slots=True)
class Sharer:
    """A patient as the rules of sharing see one."""

    sex: str
    isolation: str = "none"
    level: str = "normal"
    age_years: int | None = None
    kind: str = "inpatient"
    lies: bool = True
    is_guest: bool = False


def why_no_share(
    kind: ShareKind, host: Sharer, guest: Sharer | None, *, newborns: int, newborns_max: int
) -> NoShare | None:
    """Return why this patient's bed may not be shared so, or nothing.

    A newborn stays with its mother (母婴同室) while both are well; a companion (陪护) is no patient, so infectious and critically
    ill patients have none. Everybody else has a bed of the own, whatever anybody declares (V1).
    """
    if not host.lies or host.kind != "inpatient":
        return "host_not_in_bed"
    if host.is_guest:
        return "host_is_guest"
    if host.isolation != "none" or (guest is not None and guest.isolation != "none"):
        return "needs_isolation"
    if host.level == "critical" or (guest is not None and guest.level == "critical"):
        return "needs_critical_care"
    if kind == "companion":
        return None if guest is None else "guest_not_known"
    if guest is None:
        return "guest_needed"
    if host.sex != "female":
        return "not_the_mother"
    if guest.age_years != 0:
        return "not_a_newborn"
    if guest.is_guest:
        return "shares_already"
    return "too_many_guests" if newborns >= newborns_max else None


_BY_CLASS: Mapping[str, Accommodation] = {"standard": "standard", "single": "single", "vip": "vip"}


def accommodation_of(kind: str, level: str, bed_class: str) -> Accommodation:
    """Return what a bed is charged as: a day bed, intensive care, or the class of its room (V10)."""
    if kind == "day":
        return "day"
    return "critical" if level == "critical" else _BY_CLASS[bed_class]
