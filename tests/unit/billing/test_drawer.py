"""A cashier's drawer: what should be in it, and a difference that has a reason."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.billing.drawer import Counted, ReasonNeeded, Shift, count


def a_drawer(float_fen: int = 500_00, cash_fen: int = 120_05) -> Shift:
    return Shift(uuid4(), uuid4(), datetime(2026, 3, 2, tzinfo=UTC), float_fen, cash_fen, 3)


def test_a_drawer_should_hold_its_float_and_the_cash_that_moved():
    assert a_drawer().expected_fen == 620_05
    assert a_drawer(cash_fen=-500_01).expected_fen == -1


@pytest.mark.parametrize(("counted_fen", "difference_fen"), [(620_04, -1), (620_06, 1), (0, -620_05)])
def test_one_fen_too_much_or_too_little_needs_a_reason(counted_fen: int, difference_fen: int):
    drawer = a_drawer()
    assert count(drawer, counted_fen, None) == ReasonNeeded(difference_fen)
    counted = count(drawer, counted_fen, "miscounted_change")
    assert isinstance(counted, Counted)
    assert (counted.difference_fen, counted.reason) == (difference_fen, "miscounted_change")


def test_a_drawer_that_is_right_keeps_no_reason():
    counted = count(a_drawer(), 620_05, "unexplained")
    assert isinstance(counted, Counted)
    assert (counted.difference_fen, counted.reason) == (0, None)
