"""The daily match (对账) as it is done: ask, compare, write down every difference, and have lost money looked for.

The outside is asked before any transaction begins; what came of it is written in one. Matching a day again changes nothing
that still holds, so that a match that was interrupted anywhere is simply done again.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import get_args
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from services.billing import bill_actions, bill_store, recon_store
from services.billing.ports import Done, InsuranceGateway, Order, PaymentChannel, StatementRow
from services.billing.recon_store import DifferenceRow
from services.billing.reconciliation import (
    WORKS_FROM_HOUR,
    Explanation,
    Match,
    ReconParty,
    day_bounds,
    match,
    match_fund,
    theirs_of,
)
from services.billing.settings import PriceRules
from shared.db import Database, Transaction, transaction

PARTIES: tuple[ReconParty, ...] = get_args(ReconParty)


@dataclass(frozen=True, slots=True)
class DayNotOver:
    """A day is matched when it is over."""


@dataclass(frozen=True, slots=True)
class NoSuchDifference:
    """There is no such difference."""


@dataclass(frozen=True, slots=True)
class AlreadyExplained:
    """The difference was explained before."""


# ---- having a day matched --------------------------------------------------------------------------------------------


async def order_yesterday(tx: Transaction, zone: ZoneInfo) -> None:
    """Have yesterday matched with every party, once; not in the first hours, when statements are not complete."""
    here = tx.now.astimezone(zone)
    if here.hour >= WORKS_FROM_HOUR:
        for party in PARTIES:
            await recon_store.order_match(tx, party, here.date() - timedelta(days=1))


async def order_day(tx: Transaction, zone: ZoneInfo, day: date) -> tuple[ReconParty, ...] | DayNotOver:
    """Have a day matched (again) with every party."""
    if day >= tx.now.astimezone(zone).date():
        return DayNotOver()
    for party in PARTIES:
        await bill_store.send_errand(tx, "match", f"{party}:{day}")
    return PARTIES


async def match_day(
    db: Database, party: str, day: date, *, fund: InsuranceGateway | None, channel: PaymentChannel | None
) -> bool:
    """Match one business day with one party; False when it did not answer. A party that is not connected has nothing to say."""
    zone = PriceRules().zone
    within = day_bounds(day, zone)
    match party:
        case "channel" if channel is not None:
            stated = await channel.statement(day)
            if not isinstance(stated, Done):
                return False
            await _match_channel(db, day, within, list(stated.value))
        case "insurance" if fund is not None:
            if not await _match_fund(db, day, within, fund):
                return False
        case "drawer":
            await _match_drawers(db, day, within)
        case _:
            pass
    async with transaction(db) as tx:
        await bill_store.end_errand(tx, "match", f"{party}:{day}")
    return True


async def _match_channel(db: Database, day: date, within: recon_store.Bounds, rows: list[StatementRow]) -> None:
    theirs = theirs_of(rows)
    async with transaction(db) as tx:
        await recon_store.lock_day(tx, "channel", day)
        await recon_store.replace_stated(tx, day, theirs)
        ours = await recon_store.list_ours(tx, within, [row.key for row in theirs])
        before = await recon_store.list_stated_before(tx, day, [one.key for one in ours if one.of_the_day])
        found = match(ours, theirs, before)
        await _write(tx, "channel", day, found)
        ours_fen = sum(one.fen for one in ours if one.counts and (one.of_the_day or one.key in found.matched))
        theirs_fen = sum(row.fen for row in theirs)
        await recon_store.insert_day(tx, "channel", day, rows=len(rows), ours_fen=ours_fen, theirs_fen=theirs_fen)
    stated = {row.order_no: row for row in rows if row.refund_no is None}
    for difference in found.differences:
        if difference.kind in ("missing_here", "state") and difference.key in stated:
            await _look_for(db, stated[difference.key])


async def _look_for(db: Database, row: StatementRow) -> None:
    """Have money posted that was paid and that we never heard of (R53).

    An order we still wait for is asked about. One we took for closed or failed was paid nevertheless, as the channel states: it
    is posted, or given back when its account takes none any more.
    """
    async with transaction(db) as tx:
        payment = await bill_store.find_payment(tx.conn, order_no=row.order_no)
        if payment is None or payment.state == "paid":
            return
        tx.correlation_id = payment.encounter_id
        if payment.state in bill_store.PAYABLE:
            await bill_store.send_errand(tx, "payment", str(payment.id), anew=False)
        else:
            order = Order(row.order_no, "paid", row.amount_fen, row.transaction_id, row.at)
            await bill_actions.take_paid_order(tx, payment.id, order)


async def _match_fund(db: Database, day: date, within: recon_store.Bounds, fund: InsuranceGateway) -> bool:
    async with transaction(db) as tx:
        ours = await recon_store.get_fund_sums(tx, within)
    told = await fund.reconcile(uuid4().hex, day, ours.settlements, ours.payer_fen)
    if not isinstance(told, Done):
        return False
    async with transaction(db) as tx:
        await recon_store.lock_day(tx, "insurance", day)
        found = match_fund(ours.settlements, ours.payer_fen, told.value)
        await _write(tx, "insurance", day, Match(frozenset(), found))
        await recon_store.insert_day(
            tx,
            "insurance",
            day,
            rows=told.value.settlements,
            ours_fen=ours.payer_fen,
            theirs_fen=told.value.payer_fen,
        )
    return True


async def _match_drawers(db: Database, day: date, within: recon_store.Bounds) -> None:
    async with transaction(db) as tx:
        await recon_store.lock_day(tx, "drawer", day)
        outside = await recon_store.list_cash_outside_shifts(tx, within)
        await _write(tx, "drawer", day, Match(frozenset(), tuple(outside)))
        sums = await recon_store.get_drawer_sums(tx, within)
        await recon_store.insert_day(
            tx, "drawer", day, rows=sums.shifts, ours_fen=sums.expected_fen, theirs_fen=sums.counted_fen
        )


async def _write(tx: Transaction, party: ReconParty, day: date, found: Match) -> None:
    await recon_store.end_vanished(tx, party, day, found.differences)
    await recon_store.insert_differences(tx, party, day, found.differences)


# ---- working on differences ------------------------------------------------------------------------------------------


async def take_difference(
    tx: Transaction, *, difference_id: UUID, owner: UUID
) -> DifferenceRow | NoSuchDifference | AlreadyExplained:
    """Say who looks into a difference."""
    found = await recon_store.lock_difference(tx, difference_id)
    if found is None:
        return NoSuchDifference()
    if found.explained_at is not None:
        return AlreadyExplained()
    await recon_store.mark_owner(tx, difference_id, owner)
    return found


async def explain_difference(
    tx: Transaction, *, difference_id: UUID, explanation: Explanation
) -> DifferenceRow | NoSuchDifference | AlreadyExplained:
    """Take a difference off the list with its reason, once; what was found stays as it was found."""
    found = await recon_store.lock_difference(tx, difference_id)
    if found is None:
        return NoSuchDifference()
    if found.explained_at is not None:
        return AlreadyExplained()
    await recon_store.mark_explained(tx, difference_id, explanation)
    return found
