"""Expected leavers: right on average, honest about the rest."""

import random

import pytest

from services.beds.forecast import INTERVAL, Lying, Stays, distribution, expected, forecast


def lying(stayed_hours: float, *, ward: str = "3A", ordered: bool = False, due: float | None = None) -> Lying:
    return Lying(ward, "general", stayed_hours, due, ordered)


WEEK = Stays({"general": [24.0 * day for day in (2, 3, 3, 4, 4, 5, 5, 6, 7, 9) for _ in range(10)]})


def test_a_patient_who_stayed_longer_than_most_is_likelier_to_leave_tomorrow():
    assert WEEK.chance_to_leave(lying(25), 24) < WEEK.chance_to_leave(lying(97), 24)


def test_an_order_to_leave_is_nearly_certain_within_a_day():
    assert WEEK.chance_to_leave(lying(10, ordered=True), 24) > 0.95
    assert WEEK.chance_to_leave(lying(10, ordered=True), 4) < 0.2


def test_the_expected_day_counts_where_history_is_thin():
    thin = Stays({"general": [480.0]})
    assert thin.chance_to_leave(lying(24, due=12), 24) > thin.chance_to_leave(lying(24, due=100), 24)


def test_nobody_leaves_an_empty_ward():
    assert forecast(WEEK, [], [24.0])[""][24.0].high == 0


@pytest.mark.parametrize("chances", [[0.5] * 4, [0.1, 0.9, 0.3], [0.0, 1.0]])
def test_the_chances_of_all_numbers_of_leavers_add_up_to_one(chances: list[float]):
    found = distribution(chances)
    assert sum(found) == pytest.approx(1)
    assert sum(number * chance for number, chance in enumerate(found)) == pytest.approx(sum(chances))


def test_the_interval_holds_in_at_least_four_of_five_days():
    seed = 20261123
    dice = random.Random(seed)
    kept = days = 0
    for _ in range(400):
        people = [lying(dice.uniform(0, 200)) for _ in range(dice.randint(1, 40))]
        chances = [WEEK.chance_to_leave(person, 24) for person in people]
        said = expected(chances)
        left = sum(dice.random() < chance for chance in chances)
        kept += said.low <= left <= said.high
        days += 1
    assert kept / days >= INTERVAL - 0.03, f"seed {seed}"


def test_the_wards_add_up_to_the_house():
    people = [lying(30, ward="3A"), lying(100, ward="3B"), lying(150, ward="3B")]
    found = forecast(WEEK, people, [24.0])
    assert found[""][24.0].mean == pytest.approx(found["3A"][24.0].mean + found["3B"][24.0].mean)
