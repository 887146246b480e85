"""Which step on the way home is late (BED-11)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.beds.milestones import ORDERED, STEPS_MAX, BadSteps, Known, Step, load, standing_of
from services.beds.settings import Settings

NOW = datetime(2026, 3, 8, 9, 0, tzinfo=UTC)
STEPS = (
    Step("transport", "离院交通", "Way home", "expected_leaving", -240),
    Step(ORDERED, "医嘱", "Order", "expected_leaving", -180),
    Step("medication", "带药", "Medication", "discharge_order", 60),
)
HEAD = "code,name_zh,name_en,anchor,minutes\n"
REASONS = "code,name_zh,name_en\nother,其他,Other\n"


def states(leaving_in: float | None, ordered_ago: float | None, **known: Known) -> list[str]:
    found = standing_of(
        STEPS,
        known,
        leaving_at=None if leaving_in is None else NOW + timedelta(hours=leaving_in),
        ordered_at=None if ordered_ago is None else NOW - timedelta(hours=ordered_ago),
        now=NOW,
    )
    return [step.state for step in found]


@pytest.mark.parametrize(
    ("leaving_in", "ordered_ago", "expected"),
    [
        (None, None, ["open", "open", "open"]),
        (24, None, ["due", "due", "open"]),
        (3.5, None, ["late", "due", "open"]),
        (1, None, ["late", "late", "open"]),
        (1, 0.5, ["late", "reached", "due"]),
        (1, 1.5, ["late", "reached", "late"]),
    ],
)
def test_a_step_is_late_when_its_time_before_leaving_or_after_the_order_is_over(
    leaving_in: float | None, ordered_ago: float | None, expected: list[str]
):
    assert states(leaving_in, ordered_ago) == expected


def test_a_step_that_is_done_is_not_late_and_keeps_why_it_was():
    said = Known(reached_at=NOW - timedelta(hours=1), delay_reason="awaiting_family")
    [transport, *_] = standing_of(STEPS, {"transport": said}, leaving_at=NOW, ordered_at=None, now=NOW)
    assert (transport.state, transport.delay_reason) == ("reached", "awaiting_family")


def test_the_shipped_steps_are_ten_at_most_and_know_the_doctors_order():
    settings = Settings(database_url="unused")
    steps = load(settings.milestones_file, settings.delay_reasons_file)
    assert 1 <= len(steps.steps) <= STEPS_MAX
    assert steps.has_step(ORDERED)
    assert steps.has_reason("other")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (HEAD + "a,甲,A,some_day,5\n", "s.csv:2: anchor is one of expected_leaving, discharge_order."),
        (HEAD + "a,甲,A,discharge_order,soon\n", "s.csv:2: minutes is a whole number."),
        (HEAD + "a,甲,,discharge_order,5\n", "s.csv:2: every column needs a value, and there are no others."),
        (HEAD + "a,甲,A,discharge_order,5,6\n", "s.csv:2: every column needs a value, and there are no others."),
        (HEAD + "a,甲,A,discharge_order\n", "s.csv:2: every column needs a value, and there are no others."),
        (HEAD + 2 * "a,甲,A,discharge_order,5\n", "s.csv:3: a is there twice."),
        ("code,name\n", "s.csv:1: the columns are code,name_zh,name_en,anchor,minutes."),
        (HEAD + "".join(f"a{n},甲,A,discharge_order,5\n" for n in range(11)), "s.csv: 11 steps; 10 at most."),
    ],
)
def test_a_file_of_steps_that_cannot_be_used_stops_the_start_and_says_where(tmp_path: Path, steps: str, said: str):
    files = tmp_path / "s.csv", tmp_path / "r.csv"
    files[0].write_text(steps, "utf-8")
    files[1].write_text(REASONS, "utf-8")
    with pytest.raises(BadSteps) as wrong:
        load(*files)
    assert str(wrong.value) == f"{tmp_path}/{said}"
