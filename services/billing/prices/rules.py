"""What is charged by the catalogue: bed days, hours of what ran, pieces; and what must change when a fact is corrected.

Pure. A bed day is charged from where the patient lay, never from a time of admission or discharge (V10), and the rule by
which days are counted is a value (`BedDayPolicy`). A civil day has two halves, each charged at most once; the database
says the same (migrations/0004).

    calendar   days of the calendar: entry day, whole days, exit day; each belongs to the bed of midnight
    elapsed    half units of 12 h from the moment the patient came; a started one counts, an exact multiple is exact (V20)
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.beds import Accommodation
from shared.contracts.envelope import Code

WHOLE_DAY = 2
HALF_UNIT = timedelta(hours=12)
_FOREVER = datetime.max.replace(tzinfo=UTC)

Halves = Annotated[int, Field(ge=0, le=WHOLE_DAY)]


# ---- the policy ------------------------------------------------------------------------------------------------------


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FromHour(_Frozen):
    """So many halves from this hour of the day on, until the next line."""

    hour: Annotated[int, Field(ge=0, le=23)]
    halves: Halves


class BedDayPolicy(_Frozen):
    """How bed days are counted, and which item of the catalogue each accommodation is charged as."""

    auto: bool
    basis: Literal["calendar", "elapsed"]
    entry_day: Annotated[tuple[FromHour, ...], Field(min_length=1)]
    exit_day: tuple[FromHour, ...]
    same_day: Halves
    leave_day: Halves
    timed_step_minutes: Annotated[int, Field(ge=1, le=60)]
    items: dict[Accommodation, Code]


# ---- where the patient lay -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CameToBed:
    """The pool said that the patient lies in this bed since `at`; `version` orders what it said of the stay."""

    version: int
    at: datetime
    bed_id: int
    ward: str
    accommodation: Accommodation | None


@dataclass(frozen=True, slots=True)
class LeftBed:
    """The pool said that the patient left this bed for good at `at`."""

    bed_id: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Leave:
    """The patient was away, the bed kept (请假)."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class BedInterval:
    """The patient lay in one bed from `start` until `end`."""

    start: datetime
    end: datetime
    ward: str
    accommodation: Accommodation | None


def bed_intervals(
    came: Collection[CameToBed], left: Collection[LeftBed], *, until: datetime
) -> tuple[BedInterval, ...]:
    """Return where the patient lay until `until`, in order and never in two beds; the order in which the facts came in is all one.

    Later words of the pool stand over earlier ones: the same bed told again, with no leaving between, corrects since when
    (V11), and what begins earlier than what was known puts that aside.
    """
    starts: list[CameToBed] = []
    for told in sorted(came, key=lambda fact: fact.version):
        if starts and starts[-1].bed_id == told.bed_id and not _left_between(left, starts[-1], told):
            starts.pop()
        starts = [*(start for start in starts if start.at < told.at), told]
    nexts = [start.at for start in starts[1:]]
    ends: list[datetime | None] = [*nexts, None] if starts else []
    gone = [False] * len(starts)
    for leaving in sorted(left, key=lambda fact: fact.at):
        for index, start in enumerate(starts):
            here = start.bed_id == leaving.bed_id and not gone[index] and start.at <= leaving.at
            if here and (index == len(nexts) or leaving.at <= nexts[index]):
                ends[index], gone[index] = leaving.at, True
                break
    return tuple(
        BedInterval(start.at, min(end or until, until), start.ward, start.accommodation)
        for start, end in zip(starts, ends, strict=True)
        if start.at < min(end or until, until)
    )


def _left_between(left: Iterable[LeftBed], first: CameToBed, second: CameToBed) -> bool:
    return any(fact.bed_id == first.bed_id and first.at <= fact.at <= second.at for fact in left)


def still_lies(came: Collection[CameToBed], left: Collection[LeftBed]) -> bool:
    """Say whether the patient lies in a bed, as far as the pool has told."""
    return any(interval.end == _FOREVER for interval in bed_intervals(came, left, until=_FOREVER))


def leaves(told: Iterable[tuple[int, datetime, bool]], *, until: datetime) -> tuple[Leave, ...]:
    """Return when the patient was away, from what the pool told: (version, since when, away or back)."""
    found: list[Leave] = []
    since: datetime | None = None
    for _, at, away in sorted(told):
        if away:
            since = since or at
        elif since is not None:
            found.append(Leave(since, at))
            since = None
    return (*found, Leave(since, until)) if since is not None and since < until else tuple(found)


# ---- bed days --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class BedDay:
    """One or both halves of a civil day in one kind of bed; `first_half` is where they begin."""

    day: date
    first_half: int
    halves: int
    ward: str
    accommodation: Accommodation | None


_Stretch = tuple[BedInterval, ...]
"""Intervals without a gap between: the patient was in the house all the time."""


def bed_days(
    intervals: Iterable[BedInterval], policy: BedDayPolicy, zone: ZoneInfo, away: Sequence[Leave] = ()
) -> tuple[BedDay, ...]:
    """Return the bed days of a stay, each half of a civil day at most once, whatever moves there were (V10, V20).

    Raises:
        ValueError: two intervals overlap; nobody lies in two beds.
    """
    by_day: dict[date, list[BedDay]] = {}
    for stretch in _stretches(intervals):
        for found in _elapsed(stretch, zone) if policy.basis == "elapsed" else _calendar(stretch, policy, zone):
            by_day.setdefault(found.day, []).append(found)
    days: list[BedDay] = []
    for day, portions in sorted(by_day.items()):
        most = policy.leave_day if _is_away_all_day(day, away, zone) else WHOLE_DAY
        days += _fitted(portions, most)
    return tuple(days)


def _stretches(intervals: Iterable[BedInterval]) -> list[_Stretch]:
    found: list[list[BedInterval]] = []
    for interval in sorted((each for each in intervals if each.start < each.end), key=lambda each: each.start):
        if not found or found[-1][-1].end < interval.start:
            found.append([interval])
        elif found[-1][-1].end == interval.start:
            found[-1].append(interval)
        else:
            raise ValueError("Two intervals overlap.")
    return [tuple(stretch) for stretch in found]


def _calendar(stretch: _Stretch, policy: BedDayPolicy, zone: ZoneInfo) -> list[BedDay]:
    entry, leaving = stretch[0].start.astimezone(zone), stretch[-1].end.astimezone(zone)
    found: list[BedDay] = []
    day = entry.date()
    while day <= leaving.date():
        if entry.date() == leaving.date():
            halves = policy.same_day
        elif day == entry.date():
            halves = max(
                (step for step in policy.entry_day if step.hour <= entry.hour), key=_hour, default=_NONE
            ).halves
        elif day == leaving.date():
            # Who leaves at noon to the minute does not stay past noon.
            past = [step for step in policy.exit_day if time(step.hour) < leaving.time()]
            halves = max(past, key=_hour, default=_NONE).halves
        else:
            halves = WHOLE_DAY
        midnight = datetime.combine(day + timedelta(days=1), time(), zone)
        found.append(_portion(day, halves, _last_bed_before(midnight, stretch)))
        day += timedelta(days=1)
    return found


_NONE = FromHour(hour=0, halves=0)


def _hour(step: FromHour) -> int:
    return step.hour


def _elapsed(stretch: _Stretch, zone: ZoneInfo) -> list[BedDay]:
    found: list[BedDay] = []
    began = stretch[0].start
    while began < stretch[-1].end:
        found.append(_portion(began.astimezone(zone).date(), 1, _last_bed_before(began + HALF_UNIT, stretch)))
        began += HALF_UNIT
    return found


def _last_bed_before(moment: datetime, stretch: _Stretch) -> BedInterval:
    return next(interval for interval in reversed(stretch) if interval.start < moment)


def _portion(day: date, halves: int, bed: BedInterval) -> BedDay:
    return BedDay(day, 0, halves, bed.ward, bed.accommodation)


def _is_away_all_day(day: date, away: Sequence[Leave], zone: ZoneInfo) -> bool:
    begins, ends = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
    return any(leave.start <= begins and ends <= leave.end for leave in away)


def _fitted(portions: Sequence[BedDay], most: int) -> list[BedDay]:
    """Return the portions of one day side by side in its halves; what the patient lay in last comes first when there are too many."""
    kept: list[BedDay] = []
    for portion in reversed(portions):
        halves = min(portion.halves, most - sum(each.halves for each in kept))
        if halves and kept and (kept[-1].ward, kept[-1].accommodation) == (portion.ward, portion.accommodation):
            kept[-1] = replace(kept[-1], halves=kept[-1].halves + halves)
        elif halves:
            kept.append(replace(portion, halves=halves))
    kept.reverse()
    first_half = 0
    for index, portion in enumerate(kept):
        kept[index] = replace(portion, first_half=first_half)
        first_half += portion.halves
    return kept


# ---- prices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Price:
    """A published price and from which day until before which it holds."""

    id: int
    item: str
    item_class: str
    unit: str
    price_fen: int
    valid_from: date
    valid_to: date | None


def price_on(prices: Iterable[Price], item: str, day: date) -> Price | None:
    """Return the price of an item on a day; there is none outside the catalogue (R59)."""
    for price in prices:
        if price.item == item and price.valid_from <= day and (price.valid_to is None or day < price.valid_to):
            return price
    return None


@dataclass(frozen=True, slots=True)
class DayCharge:
    """What a bed day costs; two with the same fields are the same charge."""

    day: date
    first_half: int
    halves: int
    ward: str
    price_id: int
    item: str
    amount_fen: int


def day_charges(
    days: Iterable[BedDay], prices: Sequence[Price], policy: BedDayPolicy
) -> tuple[tuple[DayCharge, ...], tuple[BedDay, ...]]:
    """Return the charges of bed days, and the days for which no price was published: those are never charged (R59)."""
    charges: list[DayCharge] = []
    unpriced: list[BedDay] = []
    for day in days:
        item = policy.items.get(day.accommodation) if day.accommodation is not None else None
        price = price_on(prices, item, day.day) if item is not None else None
        if price is None:
            unpriced.append(day)
            continue
        amount_fen, rest = divmod(price.price_fen * day.halves, WHOLE_DAY)
        if rest:
            raise ArithmeticError("Half a bed day is no whole fen; the catalogue takes no such price.")
        charges.append(DayCharge(day.day, day.first_half, day.halves, day.ward, price.id, price.item, amount_fen))
    return tuple(charges), tuple(unpriced)


@dataclass(frozen=True, slots=True)
class PostedDay:
    """A bed day that was charged once; `live` until it is reversed, `waived` when a person reversed it."""

    entry_id: UUID
    charge: DayCharge
    live: bool
    waived: bool


@dataclass(frozen=True, slots=True)
class DayChanges:
    """What brings the charged days to what they should be: first reverse, then post, each new one under its own id."""

    reverse: tuple[UUID, ...]
    post: tuple[tuple[UUID, DayCharge], ...]


def day_changes(account_id: UUID, due: Iterable[DayCharge], posted: Sequence[PostedDay]) -> DayChanges:
    """Return exactly what a correction changes: nothing when nothing changed (V11), and what a person took off stays off.

    The id of a charge follows from the day and how often that day was charged before, so doing it twice posts nothing twice.
    """
    left = {each.charge for each in posted if each.waived}
    wanted = [charge for charge in due if charge not in left]
    live = [each for each in posted if each.live]
    keep = {each.charge for each in live} & set(wanted)
    times = [(each.charge.day, each.charge.first_half) for each in posted]
    return DayChanges(
        reverse=tuple(each.entry_id for each in live if each.charge not in keep),
        post=tuple(
            (
                uuid5(
                    account_id,
                    f"bed_day:{charge.day}:{charge.first_half}:{times.count((charge.day, charge.first_half)) + 1}",
                ),
                charge,
            )
            for charge in wanted
            if charge not in keep
        ),
    )


# ---- what runs by the hour -------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)


def timed_steps(started_at: datetime, stopped_at: datetime, step_minutes: int) -> int:
    """Return how many steps were started between; an exact multiple is exact (V19, V20)."""
    return -(-(stopped_at - started_at) // timedelta(minutes=step_minutes))


def timed_amount_fen(price_fen: int, steps: int, step_minutes: int) -> int:
    """Return what so many steps cost at a price by the hour; a part of a fen is rounded once, half up."""
    return (2 * price_fen * steps * step_minutes + 60) // 120


__all__ = [
    "BedDay",
    "BedDayPolicy",
    "BedInterval",
    "CameToBed",
    "DayChanges",
    "DayCharge",
    "FromHour",
    "Leave",
    "LeftBed",
    "PostedDay",
    "Price",
    "bed_days",
    "bed_intervals",
    "day_changes",
    "day_charges",
    "leaves",
    "price_on",
    "still_lies",
    "timed_amount_fen",
    "timed_steps",
]
