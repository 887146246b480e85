"""What is charged by the catalogue, and the catalogue itself. One action = one transaction; every "no" is a value.

Whatever charges a stay locks its account first, asks the published prices, and posts through `actions.post_charge`, beside a
note of what the entry charged. A correction reverses exactly the entries it concerns and posts what is right (V11).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID, uuid5

from services.billing import actions, arrears, arrears_actions, arrears_store, price_store, store
from services.billing.actions import Charged, Reversed
from services.billing.arrears import ArrearsLimit
from services.billing.domain import Account, ChargeSettled, NoAccount, NotOpen, TooMuch, fits, takes_charges
from services.billing.price_store import REPRICED, TimedItem
from services.billing.prices.catalogue import Conflicts, PriceRow, publication
from services.billing.prices.rules import (
    BedDay,
    DayCharge,
    PostedDay,
    Price,
    bed_days,
    bed_intervals,
    day_changes,
    day_charges,
    leaves,
    price_on,
    still_lies,
    timed_amount_fen,
    timed_steps,
)
from services.billing.settings import PriceRules
from shared.clock import business_date
from shared.db import Database, Transaction, transaction
from shared.ids import new_id

EXAMPLE_NOTE = "Prices a new catalogue starts with (初始价格)"
STAYS_PER_LOOK = 200


@dataclass(frozen=True, slots=True)
class PricesPublished:
    """The version in force; with nothing new it is the one there was."""

    version: int
    added: int
    ended: int
    withdrawn: int
    known: int


@dataclass(frozen=True, slots=True)
class BedDaysPriced:
    """What pricing did to the bill; `unpriced` days have no published price and are not charged (R59)."""

    account: Account
    charged_fen: int
    posted: tuple[DayCharge, ...]
    reversed_fen: int
    unpriced: tuple[BedDay, ...]


@dataclass(frozen=True, slots=True)
class ItemStarted:
    """It runs."""

    account: Account
    timed_item_id: UUID


@dataclass(frozen=True, slots=True)
class ItemStopped:
    """It ran, and this is what it cost, by which entry."""

    account: Account
    steps: int
    amount_fen: int
    charged_fen: int
    entry_id: UUID


@dataclass(frozen=True, slots=True)
class OrderBound:
    """The order is for this item and barcode, and for no other."""

    account: Account


# ---- why not ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotInCatalogue:
    """No price was published for that day; nothing else may be charged (R59)."""


@dataclass(frozen=True, slots=True)
class ChargedByTime:
    """Bed days and hours are counted here, not by hand."""


@dataclass(frozen=True, slots=True)
class NotByTheHour:
    """The item has no price by the hour."""


@dataclass(frozen=True, slots=True)
class BarcodeMismatch:
    """What was scanned is not what was bound to the order (R73)."""


@dataclass(frozen=True, slots=True)
class BarcodeUsed:
    """The barcode belongs to another order (R73)."""


@dataclass(frozen=True, slots=True)
class OrderOfAnother:
    """The order is of another stay, or for another item."""


@dataclass(frozen=True, slots=True)
class OrderCharged:
    """The order was charged before, by this entry (R73)."""

    entry_id: UUID


@dataclass(frozen=True, slots=True)
class RunsAlready:
    """It runs, or ran at that time."""


@dataclass(frozen=True, slots=True)
class NoSuchTimedItem:
    """The stay has no such timed item."""


@dataclass(frozen=True, slots=True)
class AlreadyStopped:
    """It was stopped before; a wrong time is corrected."""


@dataclass(frozen=True, slots=True)
class StopsBeforeStart:
    """It would end before it began."""


@dataclass(frozen=True, slots=True)
class TakenOff:
    """Its charge was reversed by a person; it is not charged anew by a correction."""


OrderRefusal = BarcodeMismatch | BarcodeUsed | OrderOfAnother
PriceRefusal = (
    NotInCatalogue
    | ChargedByTime
    | NotByTheHour
    | OrderRefusal
    | OrderCharged
    | RunsAlready
    | NoSuchTimedItem
    | AlreadyStopped
    | StopsBeforeStart
    | TakenOff
    | ArrearsLimit
)

# ---- the catalogue ---------------------------------------------------------------------------------------------------


async def publish_prices(
    tx: Transaction, rules: PriceRules, rows: Sequence[PriceRow], *, note: str, check: bool = False
) -> PricesPublished | Conflicts:
    """Publish prices as a new version, all or none; prices that held are closed, never changed (R59).

    With `check` nothing is written, and the answer says what would be.
    """
    await price_store.lock_catalogue(tx)
    published = await price_store.list_published(tx, sorted({row.code for row in rows}))
    decided = publication(published, rows, today=business_date(tx.now, rules.hospital_zone))
    if isinstance(decided, Conflicts):
        return decided
    version = await price_store.get_version(tx)
    if not (check or decided.changes_nothing):
        version += 1
        await price_store.insert_version(tx, version, note)
        await price_store.withdraw_prices(tx, decided.withdraw, version)
        await price_store.end_prices(tx, decided.end)
        await price_store.insert_prices(tx, version, decided.add)
    return PricesPublished(version, len(decided.add), len(decided.end), len(decided.withdraw), decided.known)


async def furnish_when_empty(tx: Transaction, rows: Sequence[PriceRow]) -> bool:
    """Give a new, empty catalogue the prices of its file; one of several starting processes does it. Say whether it did."""
    await price_store.lock_catalogue(tx)
    if await price_store.get_version(tx):
        return False
    await price_store.insert_version(tx, 1, EXAMPLE_NOTE)
    await price_store.insert_prices(tx, 1, rows)
    return True


async def _price_of(tx: Transaction, rules: PriceRules, item: str, at: datetime) -> Price | None:
    day = business_date(at, rules.hospital_zone)
    return price_on(await price_store.list_prices_between(tx, (item,), day, day), item, day)


# ---- items and executed orders ---------------------------------------------------------------------------------------


async def _open_account(tx: Transaction, encounter_id: UUID) -> Account | NoAccount | NotOpen:
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    return account if takes_charges(account.state) else NotOpen(account.state)


async def _post(
    tx: Transaction,
    account: Account,
    price: Price,
    *,
    amount_fen: int,
    quantity: int,
    executed_at: datetime,
    entry_id: UUID | None = None,
    order_id: str | None = None,
    timed_item_id: UUID | None = None,
) -> Charged:
    """Post a charge to an account that is locked and open, and note what it was for."""
    charged = await actions.post_charge(
        tx, encounter_id=account.encounter_id, item=price.item, amount_fen=amount_fen, entry_id=entry_id
    )
    assert isinstance(charged, Charged), "The account is locked, open and takes this amount."
    await price_store.insert_priced_charge(
        tx,
        charged.entry_id,
        account.encounter_id,
        price_id=price.id,
        quantity=quantity,
        executed_at=executed_at,
        order_id=order_id,
        timed_item_id=timed_item_id,
    )
    await _mark_priced(tx, account.encounter_id)
    return charged


async def _mark_priced(tx: Transaction, encounter_id: UUID) -> None:
    if tx.source != "import":
        await price_store.mark_priced(tx, encounter_id)


async def charge_item(
    tx: Transaction,
    rules: PriceRules,
    *,
    encounter_id: UUID,
    item: str,
    quantity: int,
    at: datetime,
    order_id: str | None = None,
    barcode: str | None = None,
    let_through: bool = False,
) -> (
    Charged
    | NoAccount
    | NotOpen
    | TooMuch
    | NotInCatalogue
    | ChargedByTime
    | OrderRefusal
    | OrderCharged
    | ArrearsLimit
):
    """Charge what was used at the price that was public then, and nothing else (R59); an order once, by its barcode (R73).

    What would bring the stay beyond its limit is refused, unless it is urgent or somebody lets it through (R55).
    """
    account = await _open_account(tx, encounter_id)
    if not isinstance(account, Account):
        return account
    price = await _price_of(tx, rules, item, at)
    if price is None:
        return NotInCatalogue()
    if price.item_class == "bed" or price.unit == "hour":
        return ChargedByTime()
    if order_id is not None:
        order = await _bound(tx, order_id, encounter_id, item=item, barcode=barcode)
        if not isinstance(order, price_store.Order):
            return order
        if order.charged_by is not None:
            return OrderCharged(order.charged_by)
    amount_fen = price.price_fen * quantity
    if not fits(account.receivable_fen, amount_fen):
        return TooMuch()
    owed_fen = arrears.owed_fen(account.receivable_fen + amount_fen, account.deposits_fen)
    limit_fen = (await arrears_store.get_credit(tx, account.id)).limit_fen(rules.arrears)
    # Treatment that was recorded later took place: it is charged, and the flag says the rest.
    refusal = arrears.check(owed_fen, limit_fen, let_through=let_through or tx.source != "live")
    if refusal is not None:
        return refusal
    charged = await _post(
        tx, account, price, amount_fen=amount_fen, quantity=quantity, executed_at=at, order_id=order_id
    )
    if owed_fen > limit_fen:
        await arrears_actions.raise_flag(tx, account, owed_fen=owed_fen, limit_fen=limit_fen)
    return charged


async def bind_order(
    tx: Transaction, rules: PriceRules, *, encounter_id: UUID, order_id: str, item: str, barcode: str | None
) -> OrderBound | NoAccount | NotOpen | NotInCatalogue | OrderRefusal:
    """Bind an order to its item and barcode before it is executed; bound again alike, it is what it was (R73)."""
    account = await _open_account(tx, encounter_id)
    if not isinstance(account, Account):
        return account
    if await _price_of(tx, rules, item, tx.now) is None:
        return NotInCatalogue()
    order = await _bound(tx, order_id, encounter_id, item=item, barcode=barcode)
    return OrderBound(account) if isinstance(order, price_store.Order) else order


async def _bound(
    tx: Transaction, order_id: str, encounter_id: UUID, *, item: str, barcode: str | None
) -> price_store.Order | OrderRefusal:
    if await price_store.insert_order(tx, order_id, encounter_id, item=item, barcode=barcode):
        return price_store.Order(order_id, encounter_id, item, barcode, None)
    order = await price_store.get_order(tx, order_id)
    if order is None:
        return BarcodeUsed()
    if (order.encounter_id, order.item) != (encounter_id, item):
        return OrderOfAnother()
    return order if order.barcode == barcode else BarcodeMismatch()


# ---- what runs by the hour -------------------------------------------------------------------------------------------


async def start_timed_item(
    tx: Transaction, rules: PriceRules, *, encounter_id: UUID, item: str, at: datetime
) -> ItemStarted | NoAccount | NotOpen | NotInCatalogue | NotByTheHour | RunsAlready:
    """Start oxygen, a monitor or what else is priced by the hour, once at a time (V19)."""
    account = await _open_account(tx, encounter_id)
    if not isinstance(account, Account):
        return account
    price = await _price_of(tx, rules, item, at)
    if price is None:
        return NotInCatalogue()
    if price.unit != "hour":
        return NotByTheHour()
    timed_item_id = new_id()
    if not await price_store.insert_timed_item(tx, timed_item_id, encounter_id, price, at):
        return RunsAlready()
    await _mark_priced(tx, encounter_id)
    return ItemStarted(account, timed_item_id)


async def stop_timed_item(
    tx: Transaction, rules: PriceRules, *, encounter_id: UUID, timed_item_id: UUID, at: datetime
) -> ItemStopped | NoAccount | NotOpen | TooMuch | ChargeSettled | NoSuchTimedItem | AlreadyStopped | StopsBeforeStart:
    """Stop what runs and charge every started step of it at the price of its start (V19)."""
    account = await _open_account(tx, encounter_id)
    if not isinstance(account, Account):
        return account
    found = await price_store.get_timed_item(tx, encounter_id, timed_item_id)
    if found is None:
        return NoSuchTimedItem()
    if found.stopped_at is not None:
        return AlreadyStopped()
    return await _charge_time(tx, rules, account, found, found.started_at, at)


async def correct_timed_item(
    tx: Transaction,
    rules: PriceRules,
    *,
    encounter_id: UUID,
    timed_item_id: UUID,
    started_at: datetime,
    stopped_at: datetime,
) -> (
    ItemStopped
    | NoAccount
    | NotOpen
    | TooMuch
    | ChargeSettled
    | NotInCatalogue
    | NotByTheHour
    | NoSuchTimedItem
    | StopsBeforeStart
    | TakenOff
):
    """Correct from when until when an item ran: its entry is reversed and the right one posted, nothing if nothing changed (V11).

    Raises:
        Refused: it would run beside another one of its kind (runs_already).
    """
    account = await _open_account(tx, encounter_id)
    if not isinstance(account, Account):
        return account
    found = await price_store.get_timed_item(tx, encounter_id, timed_item_id)
    if found is None:
        return NoSuchTimedItem()
    if found.charged_by is None and found.times_charged:
        return TakenOff()
    price = await _price_of(tx, rules, found.item, started_at)
    if price is None:
        return NotInCatalogue()
    if price.unit != "hour":
        return NotByTheHour()
    priced = replace(found, price_id=price.id, price_fen=price.price_fen)
    return await _charge_time(tx, rules, account, priced, started_at, stopped_at)


async def _charge_time(
    tx: Transaction, rules: PriceRules, account: Account, item: TimedItem, started_at: datetime, stopped_at: datetime
) -> ItemStopped | TooMuch | ChargeSettled | StopsBeforeStart:
    """Write from when until when an item ran and let exactly that be charged."""
    if stopped_at <= started_at:
        return StopsBeforeStart()
    steps = timed_steps(started_at, stopped_at, rules.policy.timed_step_minutes)
    amount_fen = timed_amount_fen(item.price_fen, steps, rules.policy.timed_step_minutes)
    if (item.started_at, item.stopped_at) == (started_at, stopped_at) and item.charged_by is not None:
        return ItemStopped(account, steps, amount_fen, account.receivable_fen, item.charged_by)
    if not fits(account.receivable_fen, amount_fen):
        return TooMuch()
    if account.settlements and item.charged_by in await store.list_interim_charges(tx, account.id):
        return ChargeSettled()
    await price_store.mark_timed_item(tx, item.id, started_at, stopped_at, item.price_id)
    if item.charged_by is not None:
        await _reverse(tx, account, item.charged_by)
    price = Price(item.price_id, item.item, "", "hour", item.price_fen, started_at.date(), None)
    charged = await _post(
        tx,
        account,
        price,
        amount_fen=amount_fen,
        quantity=steps,
        executed_at=stopped_at,
        entry_id=uuid5(item.id, f"charge:{item.times_charged + 1}"),
        timed_item_id=item.id,
    )
    return ItemStopped(account, steps, amount_fen, charged.charged_fen, charged.entry_id)


async def bring_up_to_date(tx: Transaction, rules: PriceRules, *, encounter_id: UUID, goes_on: bool = False) -> int:
    """Charge the bed days of a stay until now, before its bill is made (V11); return how many timed items still run.

    When the stay `goes_on`, a day that has not ended is left to the next bill.

    Only a stay that is charged by the catalogue; one whose account takes no charges is left alone, its bill is refused anyway.
    """
    if not await price_store.is_priced(tx, encounter_id):
        return 0
    await price_bed_days(tx, rules, encounter_id=encounter_id, until=tx.now, by_itself=goes_on)
    return sum(item.stopped_at is None for item in await price_store.list_timed_items(tx, encounter_id))


async def stop_what_runs(tx: Transaction, rules: PriceRules, *, encounter_id: UUID, at: datetime) -> None:
    """The patient left: what still runs stops then and is charged (V19).

    An account that is settled already is left alone (V13); what still runs stays on its list.
    """
    for item in await price_store.list_timed_items(tx, encounter_id):
        if item.stopped_at is None and item.started_at < at:
            await stop_timed_item(tx, rules, encounter_id=encounter_id, timed_item_id=item.id, at=at)


async def _reverse(tx: Transaction, account: Account, entry_id: UUID) -> int:
    done = await actions.reverse_charge(tx, encounter_id=account.encounter_id, entry_id=entry_id, reason=REPRICED)
    assert isinstance(done, Reversed), "The account is locked and open, and the charge is live."
    return done.amount_fen


# ---- bed days --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueDays:
    """The bed days of a stay as they should be charged, beside what was charged; `lying`: there are more to come."""

    due: tuple[DayCharge, ...]
    unpriced: tuple[BedDay, ...]
    posted: tuple[PostedDay, ...]
    lying: bool
    imported: bool

    def before(self, day: date) -> "DueDays":
        """Return what of it lies before a day."""
        return replace(
            self,
            due=tuple(charge for charge in self.due if charge.day < day),
            posted=tuple(posted for posted in self.posted if posted.charge.day < day),
        )

    def without(self, settled: frozenset[UUID]) -> "DueDays":
        """Return what of it is on days of which an interim bill settled nothing; those days stay as they were settled."""
        days = {posted.charge.day for posted in self.posted if posted.entry_id in settled}
        return replace(
            self,
            due=tuple(charge for charge in self.due if charge.day not in days),
            posted=tuple(posted for posted in self.posted if posted.charge.day not in days),
        )


async def due_days(tx: Transaction, rules: PriceRules, encounter_id: UUID, *, until: datetime) -> DueDays:
    """Return the bed days of a stay until then, from where the patient lay and nothing else (V10)."""
    facts = await price_store.list_bed_facts(tx, encounter_id)
    intervals = bed_intervals(facts.came, facts.left, until=until)
    days = bed_days(intervals, rules.policy, rules.zone, leaves(facts.away, until=until))
    prices: list[Price] = []
    if days:
        prices = await price_store.list_prices_between(tx, rules.policy.items.values(), days[0].day, days[-1].day)
    due, unpriced = day_charges(days, prices, rules.policy)
    posted = tuple(await price_store.list_posted_days(tx, encounter_id))
    return DueDays(due, unpriced, posted, still_lies(facts.came, facts.left), facts.imported)


async def price_bed_days(
    tx: Transaction, rules: PriceRules, *, encounter_id: UUID, until: datetime, by_itself: bool = False
) -> BedDaysPriced | NoAccount | NotOpen | TooMuch:
    """Bring the charged bed days to what they should be: what is wrong is reversed, what is missing posted, once (V10, V11).

    Done `by_itself` it leaves imported stays alone, because their charges were imported, too, and a day that has not ended
    while the patient still lies there: half of it would be reversed when it is whole.
    """
    account = await _open_account(tx, encounter_id)
    if not isinstance(account, Account):
        return account
    found = await due_days(tx, rules, encounter_id, until=until)
    if by_itself and found.imported:
        return BedDaysPriced(account, account.receivable_fen, (), 0, ())
    if by_itself and found.lying:
        found = found.before(business_date(until, rules.hospital_zone))
    if account.settlements:
        found = found.without(await store.list_interim_charges(tx, account.id))
    changes = day_changes(account.id, found.due, found.posted)
    posted_fen = sum(charge.amount_fen for _, charge in changes.post)
    if not fits(account.receivable_fen, posted_fen):
        return TooMuch()
    reversed_fen = 0
    for entry_id in changes.reverse:
        reversed_fen += await _reverse(tx, account, entry_id)
    for entry_id, charge in changes.post:
        charged = await actions.post_charge(
            tx, encounter_id=encounter_id, item=charge.item, amount_fen=charge.amount_fen, entry_id=entry_id
        )
        assert isinstance(charged, Charged), "The account is locked, open and takes this amount."
        await price_store.insert_day_charge(tx, entry_id, encounter_id, charge, tx.now)
    await _mark_priced(tx, encounter_id)
    return BedDaysPriced(
        account,
        account.receivable_fen + posted_fen - reversed_fen,
        tuple(charge for _, charge in changes.post),
        reversed_fen,
        found.unpriced,
    )


async def price_open_stays(db: Database, rules: PriceRules) -> int:
    """Bring the bed days of every open stay that is charged by the catalogue up to now, each in its own commit; returns how many."""
    after: UUID | None = None
    done = 0
    while True:
        async with transaction(db) as tx:
            stays = await price_store.list_stays_to_price(tx, after=after, rows_max=STAYS_PER_LOOK)
        for encounter_id in stays:
            async with transaction(db) as tx:
                tx.correlation_id = encounter_id
                await price_bed_days(tx, rules, encounter_id=encounter_id, until=tx.now, by_itself=True)
            done += 1
        if len(stays) < STAYS_PER_LOOK:
            return done
        after = stays[-1]
