"""The daily match (对账) of our money with what others say of it. Pure: two lists in, differences out.

    missing_here    they have it, we do not: somebody paid and we never heard
    missing_there   we have it, they do not
    amount          both have it, with another sum
    state           they have it, and we believe it failed or was closed
    twice           they list it more than once
    ledger          our own ledger says another sum than our own payment
    outside_shift   cash that went into no drawer
    totals          the fund counts another number or sum of settlements than we do

Money that went out is negative, so that a difference of all rows is the sum of the differences.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from services.billing.ports import FundDay, StatementRow

ReconParty = Literal["channel", "insurance", "drawer"]
DifferenceKind = Literal[
    "missing_here", "missing_there", "amount", "state", "twice", "ledger", "outside_shift", "totals"
]
Explanation = Literal[
    "other_business_day",
    "posted_by_hand",
    "given_back_by_hand",
    "corrected_by_channel",
    "corrected_by_fund",
    "drawer_recounted",
    "cashier_made_good",
    "borne_by_hospital",
    "test_transaction",
]
"""Why a difference is none any more, as a person says it."""
MATCHED_LATER = "matched_later"
"""What the next match of the day says of a difference it does not find any more."""
WORKS_FROM_HOUR = 2
"""From which hour yesterday is matched: statements of a day are complete some time after midnight."""


@dataclass(frozen=True, slots=True)
class Ours:
    """A payment (+) or refund (-) as we have it, and what the ledger says of the same."""

    key: str
    fen: int
    ledger_fen: int | None
    counts: bool
    """Whether we believe that it happened; a closed order and a failed refund did not."""
    of_the_day: bool
    """Whether it is ours to find in the statement of this day, or only known."""
    waits: bool = False
    """Whether somebody still asks the channel about it."""


@dataclass(frozen=True, slots=True)
class Theirs:
    """A payment (+) or refund (-) as the other side states it."""

    key: str
    fen: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which we and they do not agree."""

    kind: DifferenceKind
    key: str
    ours_fen: int | None
    theirs_fen: int | None

    @property
    def fen(self) -> int:
        """Return what they have more than we."""
        return (self.theirs_fen or 0) - (self.ours_fen or 0)


@dataclass(frozen=True, slots=True)
class Match:
    """What a match came to: keys on which all agree, and everything else in exactly one difference."""

    matched: frozenset[str]
    differences: tuple[Difference, ...]


def theirs_of(rows: Iterable[StatementRow]) -> list[Theirs]:
    """Return a channel's statement as rows to match: refunds by their own number, going out."""
    return [
        Theirs(row.order_no, row.amount_fen) if row.refund_no is None else Theirs(row.refund_no, -row.amount_fen)
        for row in rows
    ]


def match(ours: Iterable[Ours], theirs: Iterable[Theirs], before: Collection[str] = ()) -> Match:
    """Match what we have with what they state; `before` are keys they stated on earlier days.

    We never hear of anything before it was done: what we recorded today and they do not state today may have been stated
    before. What we recorded on another day is looked up, but not missed.
    """
    known = {one.key: one for one in ours}
    stated: dict[str, list[int]] = {}
    for row in theirs:
        stated.setdefault(row.key, []).append(row.fen)
    matched: set[str] = set()
    differences: list[Difference] = []
    for key in sorted({*stated, *(key for key, one in known.items() if one.of_the_day)}):
        mine, fens = known.get(key), stated.get(key, [])
        found = _difference(key, mine, fens, is_before=key in before)
        if found is None:
            matched.add(key)
        else:
            differences.append(found)
    return Match(frozenset(matched), tuple(differences))


def _difference(key: str, mine: Ours | None, fens: list[int], *, is_before: bool) -> Difference | None:
    ours_fen = mine.fen if mine is not None and mine.counts else None
    if not fens:
        if mine is None or not mine.counts or mine.waits or is_before:
            return None
        return Difference("missing_there", key, ours_fen, None)
    if len(fens) > 1:
        return Difference("twice", key, ours_fen, sum(fens))
    if mine is None or (not mine.counts and mine.waits):
        return Difference("missing_here", key, None, fens[0])
    if not mine.counts:
        return Difference("state", key, None, fens[0])
    if mine.fen != fens[0]:
        return Difference("amount", key, mine.fen, fens[0])
    if mine.ledger_fen is not None and mine.ledger_fen != mine.fen:
        return Difference("ledger", key, mine.ledger_fen, fens[0])
    return None


def match_fund(settlements: int, payer_fen: int, day: FundDay) -> tuple[Difference, ...]:
    """Compare our settlements of a day with the fund's (3201): number and sum, settlements taken back counted off."""
    if (settlements, payer_fen) == (day.settlements, day.payer_fen):
        return ()
    return (Difference("totals", f"{settlements}:{day.settlements}", payer_fen, day.payer_fen),)


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return when a business day of the hospital begins and ends (R60)."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    after = day + timedelta(days=1)
    return start, datetime(after.year, after.month, after.day, tzinfo=zone)
