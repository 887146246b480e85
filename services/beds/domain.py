"""The queue: who comes first, and when. Which bed for whom is in `rules`. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from shared.contracts.beds import Accommodation

PRIORITY = ("critical", "emergency", "urgent", "elective")
"""Emergencies first, then who asked first (R11, R18)."""


def is_due(from_at: datetime, now: datetime, horizon: timedelta) -> bool:
    """Say whether a request is near enough to be given a bed; a bed held for next week stands empty meanwhile."""
    return from_at <= now + horizon


def cost_of_waiting(urgency: str, waited: timedelta) -> int:
    """Return what a plan pays for leaving somebody without a bed: more for the urgent, more for who waits long."""
    base = 1000 - 200 * PRIORITY.index(urgency)
    return base + min(600, int(waited.total_seconds() // 600))


_BY_CLASS: Mapping[str, Accommodation] = {"standard": "standard", "single": "single", "vip": "vip"}


def accommodation_of(kind: str, level: str, bed_class: str) -> Accommodation:
    """Return what a bed is charged as: a day bed, intensive care, or the class of its room (V10)."""
    if kind == "day":
        return "day"
    return "critical" if level == "critical" else _BY_CLASS[bed_class]
