"""The clerk's worklist (出院未结): what keeps a stay from being settled, in one word, and the clocks that run meanwhile. Pure.

Settled on the day of discharge is the aim (R06); within 24 hours, or three working days, is what the notice of 2025 allows.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from services.billing.bills import BillState
from services.billing.working_days import Calendar

Blocker = Literal[
    "no_account",
    "no_bill",
    "quoting",
    "quoted",
    "lines_changed",
    "quote_expired",
    "payer_asked",
    "payer_unknown",
    "payer_refused",
    "collecting",
    "reversing",
    "reopened",
    "arrears",
]
Miss = Literal[
    "billed_late", "lines_changed", "payer_unknown", "payer_refused", "paid_late", "reopened", "not_settled_yet"
]
HOURS_MAX = timedelta(hours=24)
WORKING_DAYS_MAX = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """How the bill of somebody who left stands."""

    has_account: bool
    bill_state: BillState | None
    """Of the newest bill."""
    line_changed: bool
    expires_at: datetime | None
    reopened: bool
    in_arrears: bool = False


def blocker(standing: Standing, now: datetime) -> Blocker:
    """Say in one word what keeps this stay from being settled."""
    if not standing.has_account:
        return "no_account"
    match standing.bill_state:
        case "drafting":
            return "quoting"
        case "quoted" if standing.line_changed:
            return "lines_changed"
        case "quoted" if standing.expires_at is not None and standing.expires_at < now:
            return "quote_expired"
        case "quoted":
            return "quoted"
        case "locking" | "payer_pending":
            return "payer_asked"
        case "payer_unknown" | "collecting" as state:
            return state
        case "payer_reversing" | "reopening":
            return "reversing"
        case "failed":
            return "payer_refused"
        case _ if standing.in_arrears:
            return "arrears"
        case _:
            return "reopened" if standing.reopened else "no_bill"


@dataclass(frozen=True, slots=True)
class Leaving:
    """Somebody who left, and how the bill went."""

    left_at: datetime
    settled_at: datetime | None
    billed_at: datetime | None
    """When the first bill was made."""
    collecting_at: datetime | None
    """When a bill was first down to what the family pays."""
    was_unknown: bool
    was_refused: bool
    was_reopened: bool
    quotes: int


@dataclass(frozen=True, slots=True)
class Clocks:
    """Whether a stay was settled in time: None while that can still happen."""

    on_the_day: bool | None
    within_24_hours: bool | None
    within_3_working_days: bool | None
    miss: Miss | None


def clocks(leaving: Leaving, now: datetime, zone: ZoneInfo, calendar: Calendar) -> Clocks:
    """Hold the settlement against the day of discharge, 24 hours and three working days; settled before leaving is in time."""
    day = leaving.left_at.astimezone(zone).date()
    end_of_day = _midnight_after(day, zone)
    in_time = [
        _in_time(leaving.settled_at, due_at, now)
        for due_at in (
            end_of_day,
            leaving.left_at + HOURS_MAX,
            _midnight_after(calendar.after(day, WORKING_DAYS_MAX), zone),
        )
    ]
    miss = _why(leaving, end_of_day) if in_time[0] is False else None
    return Clocks(in_time[0], in_time[1], in_time[2], miss)


def _midnight_after(day: date, zone: ZoneInfo) -> datetime:
    after = day + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=zone)


def _in_time(settled_at: datetime | None, due_at: datetime, now: datetime) -> bool | None:
    if settled_at is not None:
        return settled_at < due_at
    return None if now < due_at else False


def _why(leaving: Leaving, end_of_day: datetime) -> Miss:
    """Return why the day was missed; the first thing that went wrong counts."""
    if leaving.was_reopened:
        return "reopened"
    if leaving.was_unknown:
        return "payer_unknown"
    if leaving.was_refused:
        return "payer_refused"
    if leaving.billed_at is not None and leaving.billed_at >= end_of_day:
        return "billed_late"
    if leaving.collecting_at is not None and leaving.collecting_at < end_of_day:
        return "paid_late"
    if leaving.quotes > 1:
        return "lines_changed"
    return "not_settled_yet" if leaving.settled_at is None else "billed_late"
