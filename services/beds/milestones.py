"""The steps on the way home (出院里程碑): which there are is data, which is late and why follows from it (BED-11). Pure but for the file.

Steps before the doctor's order are due so long before the expected leaving, steps after it so long after the order.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

STEPS_MAX = 10
"""More than a ward can look at for each patient every morning (BED-11)."""
ORDERED = "discharge_ordered"
"""The one step that is known by itself: admission tells of the doctor's order (A16)."""
ANCHORS = ("expected_leaving", "discharge_order")
StepState = Literal["reached", "late", "due", "open"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and when it should be done."""

    code: str
    name_zh: str
    name_en: str
    anchor: str
    minutes: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step may be late."""

    code: str
    name_zh: str
    name_en: str


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a hospital in their order, and the reasons for delay it counts."""

    steps: tuple[Step, ...]
    reasons: tuple[Reason, ...]

    def has_step(self, code: str) -> bool:
        """Say whether there is such a step."""
        return any(step.code == code for step in self.steps)

    def has_reason(self, code: str) -> bool:
        """Say whether there is such a reason."""
        return any(reason.code == code for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Known:
    """What is written of one step of one patient."""

    reached_at: datetime | None = None
    delay_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one step of one patient stands now."""

    code: str
    state: StepState
    due_at: datetime | None
    reached_at: datetime | None
    delay_reason: str | None


class BadSteps(Exception):
    """The files of milestones and reasons cannot be used; the message says where and why."""


def load(steps_file: Path, reasons_file: Path) -> Steps:
    """Read both files.

    Raises:
        BadSteps: a line cannot be used, a code is there twice, or there are more than ten steps.
    """
    steps = []
    for line, row in _rows(steps_file, ("code", "name_zh", "name_en", "anchor", "minutes")):
        if row["anchor"] not in ANCHORS:
            raise BadSteps(f"{steps_file}:{line}: anchor is one of {', '.join(ANCHORS)}.")
        try:
            minutes = int(row["minutes"])
        except ValueError:
            raise BadSteps(f"{steps_file}:{line}: minutes is a whole number.") from None
        steps.append(Step(row["code"], row["name_zh"], row["name_en"], row["anchor"], minutes))
    if len(steps) > STEPS_MAX:
        raise BadSteps(f"{steps_file}: {len(steps)} steps; {STEPS_MAX} at most.")
    columns = ("code", "name_zh", "name_en")
    reasons = [Reason(row["code"], row["name_zh"], row["name_en"]) for _, row in _rows(reasons_file, columns)]
    return Steps(tuple(steps), tuple(reasons))


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise BadSteps(f"{path}:1: the columns are {','.join(columns)}.")
        rows = [(number, row) for number, row in enumerate(reader, 2)]
    seen: set[str] = set()
    for line, row in rows:
        if None in row or any(not value for value in row.values()):
            raise BadSteps(f"{path}:{line}: every column needs a value, and there are no others.")
        if row["code"] in seen:
            raise BadSteps(f"{path}:{line}: {row['code']} is there twice.")
        seen.add(row["code"])
    return rows


def standing_of(
    steps: Sequence[Step],
    known: Mapping[str, Known],
    *,
    leaving_at: datetime | None,
    ordered_at: datetime | None,
    now: datetime,
) -> list[Standing]:
    """Return how each step of a patient stands: reached, late, due (its time is known) or open (nobody knows when).

    A reason for delay stays with a step that was reached late, because it is what the house learns from.
    """
    anchors = {"expected_leaving": leaving_at, "discharge_order": ordered_at}
    found = []
    for step in steps:
        said = known.get(step.code, Known())
        reached_at = ordered_at if step.code == ORDERED else said.reached_at
        anchor = anchors[step.anchor]
        due_at = None if anchor is None else anchor + timedelta(minutes=step.minutes)
        state: StepState
        if reached_at is not None:
            state = "reached"
        elif due_at is None:
            state = "open"
        else:
            state = "late" if due_at < now else "due"
        found.append(Standing(step.code, state, due_at, reached_at, said.delay_reason))
    return found
