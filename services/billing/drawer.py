"""The cash drawer (收费员班次): opened with a float, counted at the end, every difference with its reason.

What a drawer should hold is its float and the cash of the entries that went into it; the database says the same
(migrations/0008: expected_is_the_ledger) and puts each entry that moves cash into exactly one drawer, or none.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

DifferenceReason = Literal[
    "miscounted_change", "counterfeit_note", "wrong_method_recorded", "float_wrong", "unexplained"
]


@dataclass(frozen=True, slots=True)
class Shift:
    """A cashier's open drawer and what should be in it now."""

    id: UUID
    cashier: UUID
    opened_at: datetime
    float_fen: int
    cash_fen: int
    entries: int

    @property
    def expected_fen(self) -> int:
        """Return what should be in the drawer."""
        return self.float_fen + self.cash_fen


@dataclass(frozen=True, slots=True)
class Counted:
    """A drawer that is counted: what should be there, what is, and why that differs."""

    shift: Shift
    counted_fen: int
    reason: DifferenceReason | None

    @property
    def difference_fen(self) -> int:
        """Return what is too much (or, negative, missing)."""
        return self.counted_fen - self.shift.expected_fen


# ---- why not ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoOpenShift:
    """This cashier has no drawer open."""


@dataclass(frozen=True, slots=True)
class ShiftOpen:
    """This cashier has a drawer open; one at a time."""

    shift_id: UUID


@dataclass(frozen=True, slots=True)
class ReasonNeeded:
    """What was counted is not what should be there; a difference has a reason."""

    difference_fen: int


def count(shift: Shift, counted_fen: int, reason: DifferenceReason | None) -> Counted | ReasonNeeded:
    """Decide to close a drawer; a difference needs a reason, and without one a reason is not kept."""
    counted = Counted(shift, counted_fen, reason if counted_fen != shift.expected_fen else None)
    if counted.difference_fen and reason is None:
        return ReasonNeeded(counted.difference_fen)
    return counted
