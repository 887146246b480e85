"""Time. Facts are stamped by the database clock (R60); tests may freeze it. Everything is aware UTC."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


class Clock:
    """The clock facts are stamped with: the database's own, passed in as `database_now`."""

    def stamp(self, database_now: datetime) -> datetime:
        """Return the instant a fact recorded in this transaction happened, in UTC."""
        return database_now.astimezone(UTC)


class FrozenClock(Clock):
    """A clock that stands still until `advance` is called, so that a test can tell a patient's life day by day."""

    def __init__(self, at: datetime) -> None:
        if at.tzinfo is None:
            raise ValueError("A frozen clock needs an aware datetime.")
        self.at = at.astimezone(UTC)

    def stamp(self, database_now: datetime) -> datetime:
        """Return the frozen instant, whatever the database says."""
        del database_now
        return self.at

    def advance(self, by: timedelta) -> None:
        """Move the frozen instant forward by `by`."""
        self.at += by


def business_date(at: datetime, zone: str, cut_over_hour: int = 0) -> date:
    """Return the hospital's business day (营业日) of an instant: the civil date in `zone`, shifted by the cut-over hour (R60)."""
    return (at.astimezone(ZoneInfo(zone)) - timedelta(hours=cut_over_hour)).date()
