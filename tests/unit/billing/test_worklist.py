"""What keeps a stay from being settled, and the clocks of the day of discharge."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.billing.bills import MOVES
from services.billing.settings import DeskRules
from services.billing.worklist import Leaving, Standing, blocker, clocks

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
CALENDAR = DeskRules().calendar


def standing(**more) -> Standing:
    facts = {"has_account": True, "bill_state": None, "line_changed": False, "expires_at": None, "reopened": False}
    return Standing(**{**facts, **more})


def at(day: int, hour: int, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=ZONE)


def leaving(left_at: datetime, settled_at: datetime | None = None, **more) -> Leaving:
    facts = {
        "billed_at": None,
        "collecting_at": None,
        "was_unknown": False,
        "was_refused": False,
        "was_reopened": False,
    }
    return Leaving(left_at, settled_at, **{**facts, "quotes": 0, **more})


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (standing(has_account=False), "no_account"),
        (standing(), "no_bill"),
        (standing(reopened=True), "reopened"),
        (standing(bill_state="drafting"), "quoting"),
        (standing(bill_state="quoted", expires_at=NOW), "quoted"),
        (standing(bill_state="quoted", expires_at=NOW - timedelta(seconds=1)), "quote_expired"),
        (standing(bill_state="quoted", expires_at=NOW, line_changed=True), "lines_changed"),
        (standing(bill_state="locking"), "payer_asked"),
        (standing(bill_state="payer_pending"), "payer_asked"),
        (standing(bill_state="payer_unknown"), "payer_unknown"),
        (standing(bill_state="collecting"), "collecting"),
        (standing(bill_state="payer_reversing"), "reversing"),
        (standing(bill_state="failed"), "payer_refused"),
        (standing(bill_state="cancelled"), "no_bill"),
        (standing(in_arrears=True), "arrears"),
        (standing(in_arrears=True, bill_state="collecting"), "collecting"),
        (standing(bill_state="reopened", reopened=True), "reopened"),
    ],
)
def test_what_keeps_a_stay_from_being_settled_is_one_word(found: Standing, word: str):
    assert blocker(found, NOW) == word


def test_every_state_of_a_bill_has_its_word():
    assert all(blocker(standing(bill_state=state), NOW) for state in MOVES)


@pytest.mark.parametrize(
    ("left_at", "settled_at", "now", "kept"),
    [
        (at(2, 10), at(2, 9), at(2, 12), (True, True, True)),  # settled at the bedside before leaving
        (at(2, 10), at(2, 23), at(9, 12), (True, True, True)),
        (at(2, 23), at(3, 0), at(9, 12), (False, True, True)),  # midnight is the next day
        (at(2, 10), at(3, 10), at(9, 12), (False, False, True)),  # 24 hours to the second is too late
        (at(2, 10), at(5, 23), at(9, 12), (False, False, True)),  # Monday to Thursday
        (at(2, 10), at(6, 0), at(9, 12), (False, False, False)),
        (at(2, 10), None, at(2, 23), (None, None, None)),
        (at(2, 10), None, at(3, 1), (False, None, None)),
        (at(30, 10, month=4), at(8, 23, month=5), at(9, 12, month=5), (False, False, True)),  # Labour Day in between
        (at(30, 10, month=4), at(9, 0, month=5), at(9, 12, month=5), (False, False, False)),
    ],
)
def test_the_clocks_of_a_discharge(
    left_at: datetime, settled_at: datetime | None, now: datetime, kept: tuple[bool | None, ...]
):
    found = clocks(leaving(left_at, settled_at), now, ZONE, CALENDAR)
    assert (found.on_the_day, found.within_24_hours, found.within_3_working_days) == kept


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"settled_at": at(2, 12)}, None),
        ({}, "not_settled_yet"),
        ({"was_reopened": True, "was_unknown": True}, "reopened"),
        ({"was_unknown": True, "settled_at": at(3, 9)}, "payer_unknown"),
        ({"was_refused": True}, "payer_refused"),
        ({"billed_at": at(3, 9), "settled_at": at(3, 10)}, "billed_late"),
        ({"billed_at": at(2, 9), "collecting_at": at(2, 10), "settled_at": at(3, 10)}, "paid_late"),
        ({"billed_at": at(2, 9), "quotes": 2, "settled_at": at(3, 10)}, "lines_changed"),
    ],
)
def test_every_day_that_was_missed_has_its_reason(facts: dict[str, Any], reason: str | None):
    assert clocks(leaving(at(2, 10), **facts), at(20, 12), ZONE, CALENDAR).miss == reason


def test_working_days_know_the_holidays_and_the_weekends_worked_instead():
    assert CALENDAR.is_worked(date(2026, 2, 14))  # a Saturday before Spring Festival
    assert not CALENDAR.is_worked(date(2026, 2, 23))  # a Monday of Spring Festival
    assert not CALENDAR.is_worked(date(2026, 3, 7))
    assert CALENDAR.after(date(2026, 9, 30), 3) == date(2026, 10, 10)
