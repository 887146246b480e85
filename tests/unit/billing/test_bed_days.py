"""Bed days: from where the patient lay, each half of a day once, exact where the stay is an exact multiple."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, note, seed, settings
from hypothesis import strategies as st

from services.billing.prices.rules import (
    BedDayPolicy,
    BedInterval,
    CameToBed,
    DayCharge,
    FromHour,
    Leave,
    LeftBed,
    PostedDay,
    Price,
    bed_days,
    bed_intervals,
    day_changes,
    day_charges,
    leaves,
)
from services.billing.settings import PriceRules

SEED = int(os.environ.get("WARDSTREAM_TEST_SEED") or random.randrange(2**32))
SHANGHAI = ZoneInfo("Asia/Shanghai")
SHIPPED = PriceRules().policy
NOON_RULE = SHIPPED.model_copy(
    update={
        "entry_day": (FromHour(hour=0, halves=2), FromHour(hour=12, halves=1)),
        "exit_day": (FromHour(hour=12, halves=1), FromHour(hour=18, halves=2)),
        "same_day": 1,
    }
)
ELAPSED = SHIPPED.model_copy(update={"basis": "elapsed"})


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    """A moment in March 2026 by the hospital's clock, in UTC as facts are kept."""
    return datetime(2026, 3, day, hour, minute, tzinfo=SHANGHAI).astimezone(UTC)


def lay(start: datetime, end: datetime, accommodation: str = "standard", ward: str = "4A") -> BedInterval:
    return BedInterval(start, end, ward, accommodation)  # type: ignore[arg-type]


def halves(intervals: Sequence[BedInterval], policy: BedDayPolicy = SHIPPED, away: Sequence[Leave] = ()) -> int:
    return sum(day.halves for day in bed_days(intervals, policy, SHANGHAI, away))


def told(intervals: Sequence[BedInterval], policy: BedDayPolicy = SHIPPED) -> list[tuple[int, str | None, int]]:
    return [(day.day.day, day.accommodation, day.halves) for day in bed_days(intervals, policy, SHANGHAI)]


# ---- which days count ------------------------------------------------------------------------------------------------


def test_the_entry_day_counts_and_the_exit_day_does_not():
    assert told([lay(at(2, 23, 59), at(5, 8))]) == [(2, "standard", 2), (3, "standard", 2), (4, "standard", 2)]


def test_who_comes_and_goes_on_one_day_pays_one_day():
    assert told([lay(at(2, 9), at(2, 10))]) == [(2, "standard", 2)]
    assert told([lay(at(2, 9), at(2, 9))]) == [], "who never lay in the bed pays nothing"


def test_the_day_is_the_hospitals_and_not_that_of_greenwich():
    assert [day for day, _, _ in told([lay(at(2, 7, 59), at(3, 0))])] == [2], "it is still March 1st in Greenwich then"


@pytest.mark.parametrize(
    ("came", "went", "expected"),
    [
        (at(2, 11, 59), at(4, 12), 4),
        (at(2, 12), at(4, 12), 3),
        (at(2, 12), at(4, 12, 1), 4),
        (at(2, 12), at(4, 18), 4),
        (at(2, 12), at(4, 18, 1), 5),
        (at(2, 8), at(2, 20), 1),
    ],
)
def test_by_the_noon_rule_half_days_count_from_noon_to_the_minute(came: datetime, went: datetime, expected: int):
    assert halves([lay(came, went)], NOON_RULE) == expected


@pytest.mark.parametrize(
    ("hours", "expected"), [(24, 2), (48, 4), (84, 7), (12, 1), (24 * 30, 60), (0, 0)], ids=lambda value: str(value)
)
def test_v20_a_stay_of_an_exact_multiple_of_the_unit_is_charged_exactly(hours: int, expected: int):
    stay = lay(at(2, 10), at(2, 10) + timedelta(hours=hours))
    assert halves([stay], ELAPSED) == expected
    if hours:
        longer = replace(stay, end=stay.end + timedelta(microseconds=1))
        assert halves([longer], ELAPSED) == expected + 1, "and a moment more starts the next half"


@pytest.mark.parametrize("days", [1, 2, 30])
def test_v20_whole_days_from_midnight_to_midnight_are_as_many_days(days: int):
    stay = [lay(at(1), at(1) + timedelta(days=days))]
    for policy in (SHIPPED, NOON_RULE, ELAPSED):
        assert halves(stay, policy) == 2 * days


# ---- transfers, leave, coming back -----------------------------------------------------------------------------------


def test_the_day_of_a_transfer_belongs_to_the_bed_of_midnight():
    moved = [lay(at(2, 9), at(3, 23), "critical", "ICU"), lay(at(3, 23), at(5, 9), "single", "4A")]
    assert told(moved) == [(2, "critical", 2), (3, "single", 2), (4, "single", 2)]
    at_midnight = [lay(at(2, 9), at(3), "critical", "ICU"), lay(at(3), at(4, 9), "single", "4A")]
    assert told(at_midnight) == [(2, "critical", 2), (3, "single", 2)]


def test_a_patient_who_is_moved_five_times_on_one_day_pays_for_that_day_once():
    stops = [at(2, 8 + hour) for hour in range(6)]
    moved = [lay(start, end, "vip") for start, end in pairwise(stops)]
    moved.append(lay(stops[-1], at(3, 9), "standard"))
    assert told(moved) == [(2, "standard", 2)]


def test_v10_the_bed_is_charged_from_when_the_patient_lay_in_it_not_from_the_discharge():
    came = [CameToBed(1, at(2, 9), 7, "4A", "single"), CameToBed(2, at(4, 15), 9, "5B", "standard")]
    left = [LeftBed(9, at(6, 10))]
    days = told(bed_intervals(came, left, until=at(20)))
    assert days == [(2, "single", 2), (3, "single", 2), (4, "standard", 2), (5, "standard", 2)]


def test_a_leaving_told_before_the_coming_is_no_day_yet():
    assert bed_intervals([], [LeftBed(7, at(4))], until=at(9)) == ()


def test_a_discharge_taken_back_on_the_same_day_does_not_count_that_day_twice():
    came = [CameToBed(1, at(2, 9), 7, "4A", "standard"), CameToBed(2, at(4, 16), 7, "4A", "standard")]
    left = [LeftBed(7, at(4, 10)), LeftBed(7, at(5, 9))]
    assert told(bed_intervals(came, left, until=at(9))) == [(2, "standard", 2), (3, "standard", 2), (4, "standard", 2)]
    a_week_later = [came[0], replace(came[1], at=at(11, 16))]
    days = told(bed_intervals(a_week_later, [left[0], LeftBed(7, at(12, 9))], until=at(20)))
    assert [day for day, _, _ in days] == [2, 3, 11], "nobody pays for the days at home"


def test_a_day_on_leave_costs_what_the_policy_says_and_a_day_with_an_hour_in_bed_is_none():
    stay, away = [lay(at(2, 9), at(7, 9))], [Leave(at(3, 8), at(6))]
    assert halves(stay, SHIPPED, away) == 10
    free = SHIPPED.model_copy(update={"leave_day": 0})
    assert [day.day.day for day in bed_days(stay, free, SHANGHAI, away)] == [2, 3, 6]
    half = SHIPPED.model_copy(update={"leave_day": 1})
    assert halves(stay, half, away) == 2 + 2 + 1 + 1 + 2


def test_leave_is_from_the_word_that_the_patient_went_until_the_word_that_they_came_back():
    spoken = [(4, at(5), False), (3, at(3), True), (6, at(6), True)]
    assert leaves(spoken, until=at(7)) == (Leave(at(3), at(5)), Leave(at(6), at(7)))
    assert leaves([], until=at(7)) == ()


def test_nobody_lies_in_two_beds():
    with pytest.raises(ValueError, match="overlap"):
        bed_days([lay(at(2), at(4)), lay(at(3), at(5))], SHIPPED, SHANGHAI)


# ---- corrections -----------------------------------------------------------------------------------------------------


def test_v11_a_corrected_time_of_coming_moves_the_first_day():
    came = [CameToBed(1, at(4, 9), 7, "4A", "standard")]
    assert len(told(bed_intervals(came, [], until=at(6, 9)))) == 2
    earlier = [*came, CameToBed(2, at(2, 9), 7, "4A", "standard")]
    assert len(told(bed_intervals(earlier, [], until=at(6, 9)))) == 4
    later = [*came, CameToBed(2, at(5, 9), 7, "4A", "standard")]
    assert len(told(bed_intervals(later, [], until=at(6, 9)))) == 1


MOMENTS = st.integers(0, 14 * 24 * 4).map(lambda quarter: at(1) + timedelta(minutes=15 * quarter))
POLICIES = st.sampled_from([SHIPPED, NOON_RULE, ELAPSED])
KINDS = st.sampled_from(["standard", "single", "vip", "critical"])


@st.composite
def stays(draw: st.DrawFn) -> list[BedInterval]:
    """A stay with moves, and sometimes a while at home."""
    moments = sorted(draw(st.sets(MOMENTS, min_size=2, max_size=9)))
    pieces = list(pairwise(moments))
    home = draw(st.sets(st.integers(0, len(pieces) - 1), max_size=1)) if len(pieces) > 2 else set()
    return [lay(start, end, draw(KINDS)) for index, (start, end) in enumerate(pieces) if index not in home]


@seed(SEED)
@settings(max_examples=300, deadline=None, database=None, print_blob=True)
@given(stay=stays(), policy=POLICIES, cut=MOMENTS)
def test_a_stay_cut_anywhere_costs_what_the_whole_costs(stay: list[BedInterval], policy: BedDayPolicy, cut: datetime):
    note(f"seed {SEED}")
    pieces = [
        piece
        for each in stay
        for piece in ([replace(each, end=cut), replace(each, start=cut)] if each.start < cut < each.end else [each])
    ]
    assert bed_days(pieces, policy, SHANGHAI) == bed_days(stay, policy, SHANGHAI)


@seed(SEED)
@settings(max_examples=300, deadline=None, database=None, print_blob=True)
@given(stay=stays(), policy=POLICIES, kinds=st.lists(KINDS, min_size=9, max_size=9))
def test_a_transfer_changes_which_bed_is_paid_and_never_how_many_days(
    stay: list[BedInterval], policy: BedDayPolicy, kinds: list[str]
):
    note(f"seed {SEED}")
    other = [replace(each, accommodation=kind) for each, kind in zip(stay, kinds, strict=False)]  # type: ignore[arg-type]
    assert halves(other, policy) == halves(stay, policy)
    for day in {found.day for found in bed_days(other, policy, SHANGHAI)}:
        used = [
            half
            for found in bed_days(other, policy, SHANGHAI)
            if found.day == day
            for half in range(found.first_half, found.first_half + found.halves)
        ]
        assert used == list(range(len(used))), "the halves lie side by side"
        assert len(used) <= 2


@seed(SEED)
@settings(max_examples=200, deadline=None, database=None, print_blob=True)
@given(stay=stays(), rng=st.randoms(use_true_random=False))
def test_the_order_in_which_the_words_of_the_pool_arrive_is_all_one(stay: list[BedInterval], rng: random.Random):
    note(f"seed {SEED}")
    came = [CameToBed(n, each.start, n, each.ward, each.accommodation) for n, each in enumerate(stay)]
    left = [LeftBed(n, each.end) for n, each in enumerate(stay) if n == len(stay) - 1 or stay[n + 1].start != each.end]
    rng.shuffle(came)
    rng.shuffle(left)
    assert bed_intervals(came, left, until=at(28)) == tuple(stay)


# ---- what a day costs, and what a correction changes -----------------------------------------------------------------

OLD = Price(1, "BED-STANDARD", "bed", "day", 50_00, date(2020, 1, 1), date(2026, 3, 4))
NEW = Price(2, "BED-STANDARD", "bed", "day", 60_00, date(2026, 3, 4), None)


def charges(stay: Sequence[BedInterval], policy: BedDayPolicy = SHIPPED) -> tuple[DayCharge, ...]:
    due, unpriced = day_charges(bed_days(stay, policy, SHANGHAI), [OLD, NEW], policy)
    assert unpriced == ()
    return due


def test_each_day_costs_what_was_public_on_that_day():
    assert [charge.amount_fen for charge in charges([lay(at(2, 9), at(6, 9))])] == [50_00, 50_00, 60_00, 60_00]
    assert [charge.amount_fen for charge in charges([lay(at(3, 13), at(5, 13))], NOON_RULE)] == [25_00, 60_00, 30_00]


def test_a_day_without_a_published_price_is_told_and_never_charged():
    unknown = BedInterval(at(2, 9), at(3, 9), "4A", None)
    for stay in ([lay(at(2, 9), at(3, 9), "vip")], [unknown]):
        due, unpriced = day_charges(bed_days(stay, SHIPPED, SHANGHAI), [OLD, NEW], SHIPPED)
        assert (due, len(unpriced)) == ((), 1)


def posted(charge: DayCharge, *, live: bool = True, waived: bool = False) -> PostedDay:
    return PostedDay(uuid4(), charge, live, waived)


def test_v11_a_correction_reverses_exactly_what_is_wrong_and_posts_exactly_what_is_missing():
    account, before = uuid4(), [posted(charge) for charge in charges([lay(at(2, 9), at(5, 9))])]
    changes = day_changes(account, charges([lay(at(3, 9), at(6, 9))]), before)
    assert changes.reverse == (before[0].entry_id,)
    assert [charge.day.day for _, charge in changes.post] == [5]
    again = day_changes(account, charges([lay(at(3, 9), at(6, 9))]), before)
    assert again == changes, "the ids follow from what is charged"
    nothing = day_changes(account, charges([lay(at(2, 9), at(5, 9))]), before)
    assert (nothing.reverse, nothing.post) == ((), ())


def test_a_day_that_was_reversed_by_a_correction_and_is_due_again_gets_another_id():
    account, (charge,) = uuid4(), charges([lay(at(2, 9), at(3, 9))])
    ((first, _),) = day_changes(account, [charge], []).post
    ((second, _),) = day_changes(account, [charge], [posted(charge, live=False)]).post
    assert first != second


def test_a_day_that_a_clerk_took_off_stays_off():
    (charge,) = charges([lay(at(2, 9), at(3, 9))])
    changes = day_changes(uuid4(), [charge], [posted(charge, live=False, waived=True)])
    assert (changes.reverse, changes.post) == ((), ())
