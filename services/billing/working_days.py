"""Which days are worked (节假日调休), as the government announces it once a year. Pure; the days are data."""

from collections.abc import Iterator
from datetime import date, timedelta

from pydantic import BaseModel, ConfigDict, Field


class FreeDays(BaseModel):
    """Days on which nobody works, both ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: date = Field(alias="from")
    last: date = Field(alias="to")


class Calendar(BaseModel):
    """Which days are worked (节假日调休)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    free: tuple[FreeDays, ...] = ()
    worked: frozenset[date] = frozenset()

    def is_worked(self, day: date) -> bool:
        """Say whether the offices work on this day."""
        if day in self.worked:
            return True
        return day.weekday() < 5 and not any(one.first <= day <= one.last for one in self.free)

    def after(self, day: date, working_days: int) -> date:
        """Return the working day so many working days after a day."""
        return next(found for number, found in enumerate(self._worked_after(day), 1) if number == working_days)

    def _worked_after(self, day: date) -> Iterator[date]:
        while True:
            day += timedelta(days=1)
            if self.is_worked(day):
                yield day
