"""The queue: who comes first, and when. Which bed for whom is in `rules`. Pure."""

from datetime import datetime, timedelta

PRIORITY = ("critical", "emergency", "urgent", "elective")
"""Emergencies first, then who asked first (R11, R18)."""


def is_due(from_at: datetime, now: datetime, horizon: timedelta) -> bool:
    """Say whether a request is near enough to be given a bed; a bed held for next week stands empty meanwhile."""
    return from_at <= now + horizon


def cost_of_waiting(urgency: str, waited: timedelta) -> int:
    """Return what a plan pays for leaving somebody without a bed: more for the urgent, more for who waits long."""
    base = 1000 - 200 * PRIORITY.index(urgency)
    return base + min(600, int(waited.total_seconds() // 600))
