"""Charging by the catalogue on a real PostgreSQL: bed days from the pool's words, hours, orders, and publications that race."""

import functools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from services.billing import bill_actions, consumers, price_actions
from services.billing.actions import Charged
from services.billing.consumers import RULES
from services.billing.domain import ChargeSettled, NotOpen
from services.billing.price_actions import (
    AlreadyStopped,
    BarcodeMismatch,
    BarcodeUsed,
    BedDaysPriced,
    ChargedByTime,
    ItemStarted,
    ItemStopped,
    NotByTheHour,
    NotInCatalogue,
    OrderBound,
    OrderCharged,
    OrderOfAnother,
    PricesPublished,
    RunsAlready,
    StopsBeforeStart,
    TakenOff,
)
from services.billing.prices.catalogue import Conflicts, PriceRow, load
from shared.clock import FrozenClock
from shared.contracts.beds import BedOccupied, BedTransferred, BedVacated, LeaveEnded, LeaveStarted
from shared.contracts.envelope import Event
from shared.db import transaction
from tests.integration.billing.conftest import NOON, Desk
from tests.integration.billing.test_billing_races import kinds, together
from tests.support.envelopes import envelope_for

pytestmark = pytest.mark.asyncio
HANDS = 16
PATIENT = uuid4()


def march(day: int, hour: int = 12) -> datetime:
    """A moment of March 2026, well inside the same day in Shanghai."""
    return datetime(2026, 3, day, hour - 8 if hour >= 8 else hour, tzinfo=UTC)


class Ward:
    """What the bed pool says of one stay, each word under the version the pool gave it."""

    def __init__(self, desk: Desk, stay: UUID) -> None:
        self.desk, self.stay, self.version = desk, stay, 0

    async def tell(self, event: Event, *, source: str = "live", version: int | None = None, at: datetime) -> None:
        self.version += 1
        clock = self.desk.db.clock
        assert isinstance(clock, FrozenClock)
        clock.at = max(clock.at, at)
        envelope = envelope_for(event, at=at, source=source, version=version or self.version)
        handler = {s.event: s.handler for s in consumers.SUBSCRIPTIONS}[type(event)]
        async with transaction(self.desk.db) as tx:
            tx.correlation_id, tx.source = self.stay, source
            await handler(tx, event, envelope)

    async def lies(self, bed_id: int, at: datetime, *, kind: str = "standard", ward: str = "4A", **more: Any) -> None:
        event = BedOccupied(
            encounter_id=self.stay, patient_tok=PATIENT, bed_id=bed_id, ward=ward, occupied_at=at, accommodation=kind
        )
        await self.tell(event, at=at, **more)

    async def moves(self, from_bed: int, bed_id: int, at: datetime, *, kind: str, ward: str = "4A") -> None:
        event = BedTransferred(
            encounter_id=self.stay, patient_tok=PATIENT, from_bed_id=from_bed, from_ward="4A", bed_id=bed_id,
            bed_code="B", ward=ward, reason="x", transferred_at=at, accommodation=kind,
        )  # fmt: skip
        await self.tell(event, at=at)

    async def leaves(self, bed_id: int, at: datetime, **more: Any) -> None:
        event = BedVacated(bed_id=bed_id, encounter_id=self.stay, patient_tok=PATIENT, ward="4A", vacated_at=at)
        await self.tell(event, at=at, **more)


NOT_WHAT_WAS_PUBLIC = """
SELECT e.item, l.fen, c.quantity, p.price_fen
FROM priced_charge c JOIN price_item p ON p.id = c.price_id JOIN entry e ON e.id = c.entry_id
JOIN line l ON l.entry_id = e.id AND l.fen > 0
WHERE e.kind <> 'charge' OR e.item <> p.code OR p.withdrawn_in IS NOT NULL
   OR l.fen <> CASE WHEN c.day IS NULL THEN p.price_fen * c.quantity ELSE p.price_fen * c.quantity / 2 END
   OR (c.day IS NOT NULL AND c.quantity <> upper(c.halves) - lower(c.halves))
   OR NOT p.valid @> coalesce(c.day, (c.executed_at AT TIME ZONE 'Asia/Shanghai')::date)
"""


@pytest_asyncio.fixture
async def priced(desk: Desk) -> AsyncIterator[Desk]:
    """A desk with the price list we ship; whatever is charged there was public that day at that price (R59)."""
    await desk.furnish()
    yield desk
    assert await desk.fetch(NOT_WHAT_WAS_PUBLIC) == []


async def price_days(desk: Desk, stay: UUID, until: datetime) -> Any:
    return await desk.do(price_actions.price_bed_days, rules=RULES, encounter_id=stay, until=until)


async def use(desk: Desk, stay: UUID, item: str = "LAB-CBC", **more: Any) -> Any:
    facts = {"quantity": 1, "at": NOON, **more}
    return await desk.do(price_actions.charge_item, rules=RULES, encounter_id=stay, item=item, **facts)


async def live_days(desk: Desk, stay: UUID) -> list[tuple[int, str, int]]:
    rows = await desk.fetch(
        "SELECT c.day, e.item, l.fen FROM priced_charge c JOIN entry e ON e.id = c.entry_id"
        " JOIN line l ON l.entry_id = e.id AND l.fen > 0"
        " WHERE c.encounter_id = $1 AND c.day IS NOT NULL AND c.reversed_by IS NULL ORDER BY c.day, c.halves",
        stay,
    )
    return [(row["day"].day, row["item"], row["fen"]) for row in rows]


# ---- bed days --------------------------------------------------------------------------------------------------------


async def test_v10_bed_days_are_charged_when_the_bed_is_left_whatever_the_discharge_says(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await ward.lies(7, march(2), kind="single")
    await ward.moves(7, 9, march(4, 15), kind="standard")
    await ward.leaves(9, march(6, 10), version=3)
    assert await live_days(priced, stay) == [
        (2, "BED-SINGLE", 260_00),
        (3, "BED-SINGLE", 260_00),
        (4, "BED-STANDARD", 50_00),
        (5, "BED-STANDARD", 50_00),
    ]
    assert await priced.account(stay) == ("open", 20_00 + 620_00, 0)
    events = await priced.events(stay)
    assert events.count("ChargePosted") - events.count("ChargeReversed") == 5


async def test_the_same_word_of_the_pool_again_charges_nothing_twice(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await ward.lies(7, march(2))
    for _ in range(3):
        await ward.leaves(7, march(4), version=1)
    before = await priced.fetch("SELECT id FROM entry ORDER BY id")
    done = await price_days(priced, stay, march(30))
    assert isinstance(done, BedDaysPriced)
    assert (done.posted, done.reversed_fen) == ((), 0)
    assert await priced.fetch("SELECT id FROM entry ORDER BY id") == before


async def test_the_leaving_may_be_told_before_the_coming(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await ward.leaves(7, march(4), version=1)
    assert await live_days(priced, stay) == []
    await ward.lies(7, march(2), version=1)
    assert [day for day, _, _ in await live_days(priced, stay)] == [2, 3]


async def test_v11_a_corrected_time_reverses_exactly_the_days_that_were_wrong(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await ward.lies(7, march(2))
    await ward.leaves(7, march(5), version=1)
    kept = await priced.fetch("SELECT entry_id FROM priced_charge WHERE day = '2026-03-03'")
    await ward.lies(7, march(3), version=2)
    assert [day for day, _, _ in await live_days(priced, stay)] == [3, 4]
    assert await priced.fetch("SELECT entry_id FROM priced_charge WHERE day = '2026-03-03'") == kept
    reversals = await priced.fetch("SELECT reversal_reason, day FROM priced_charge WHERE reversed_by IS NOT NULL")
    assert [tuple(row) for row in reversals] == [("repriced", date(2026, 3, 2))]
    assert await priced.account(stay) == ("open", 20_00 + 100_00, 0)
    await ward.lies(7, march(2), version=3)
    assert [day for day, _, _ in await live_days(priced, stay)] == [2, 3, 4], "and a correction can be corrected"


async def interim(desk: Desk, stay: UUID) -> None:
    """Settle what is on the account now, the patient stays, as the door does."""
    await desk.do(price_actions.bring_up_to_date, rules=RULES, encounter_id=stay, goes_on=True)
    drafted = await desk.do(
        bill_actions.draft_bill, encounter_id=stay, as_self_pay=True, fund_connected=False, interim=True
    )
    await desk.do(
        bill_actions.confirm_bill,
        encounter_id=stay,
        bill_id=drafted.bill.id,
        shown_hash=drafted.bill.lines_hash,
    )
    assert await desk.value("SELECT state FROM bill WHERE id = $1", drafted.bill.id) == "settled"


async def test_v11_an_interim_bill_leaves_the_day_that_has_not_ended_and_its_days_stay_as_they_were_settled(
    priced: Desk,
):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await priced.deposit(stay, 1_000_00)
    await ward.lies(7, march(2))
    priced.db.clock.at = march(5)  # type: ignore[attr-defined]
    await interim(priced, stay)
    assert [day for day, _, _ in await live_days(priced, stay)] == [2, 3, 4], "the fifth is not over"
    assert await priced.account(stay) == ("open", 0, 1_000_00 - 20_00 - 150_00)
    await ward.moves(7, 9, march(3), kind="single")  # told late: it was another room since the third
    await ward.leaves(9, march(7))
    assert [(day, item) for day, item, _ in await live_days(priced, stay)] == [
        (2, "BED-STANDARD"),
        (3, "BED-STANDARD"),
        (4, "BED-STANDARD"),
        (5, "BED-SINGLE"),
        (6, "BED-SINGLE"),
    ]
    assert await priced.account(stay) == ("open", 520_00, 830_00)
    await priced.do(bill_actions.reopen, encounter_id=stay, reason="room_told_late")
    await price_days(priced, stay, march(7))
    assert [item for _, item, _ in await live_days(priced, stay)] == ["BED-STANDARD"] + ["BED-SINGLE"] * 4
    assert await priced.account(stay) == ("open", 20_00 + 50_00 + 4 * 260_00, 1_000_00)


async def test_v19_what_an_interim_bill_settled_by_the_hour_is_corrected_after_it_was_taken_back(priced: Desk):
    stay = await priced.open()
    await priced.deposit(stay, 1_000_00)
    started = await priced.do(price_actions.start_timed_item, rules=RULES, encounter_id=stay, item="OXY-HOUR", at=NOON)
    assert isinstance(started, ItemStarted)
    running = {"encounter_id": stay, "timed_item_id": started.timed_item_id}
    end = NOON + timedelta(hours=2)
    assert isinstance(await priced.do(price_actions.stop_timed_item, rules=RULES, **running, at=end), ItemStopped)
    await interim(priced, stay)
    correct = functools.partial(
        priced.do,
        price_actions.correct_timed_item,
        rules=RULES,
        **running,
        started_at=NOON,
        stopped_at=end + timedelta(hours=1),
    )
    assert await correct() == ChargeSettled()
    await priced.do(bill_actions.reopen, encounter_id=stay, reason="wrong_time")
    assert isinstance(await correct(), ItemStopped)


async def test_v11_a_change_of_room_is_on_the_interim_bill(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await ward.lies(7, march(2), kind="standard")
    await price_days(priced, stay, march(4))
    await ward.moves(7, 8, march(4), kind="vip")
    assert await price_days(priced, stay, march(6)) is not None
    assert [item for _, item, _ in await live_days(priced, stay)] == [*["BED-STANDARD"] * 2, *["BED-VIP"] * 2]


async def test_a_stay_of_free_amounts_and_an_imported_one_get_no_bed_day_by_themselves(priced: Desk):
    free = await priced.open()
    await priced.charge(free, 100_00)
    ward = Ward(priced, free)
    await ward.lies(7, march(2))
    await ward.leaves(7, march(9), version=1)
    assert await priced.account(free) == ("open", 100_00, 0)
    imported = await priced.open()
    ward = Ward(priced, imported)
    await ward.lies(8, march(2), source="import")
    await use(priced, imported)
    await ward.leaves(8, march(9), version=1)
    await price_actions.price_open_stays(priced.db, RULES)
    assert await priced.account(imported) == ("open", 20_00, 0)
    assert isinstance(await price_days(priced, imported, march(9)), BedDaysPriced), "a clerk may still wish it"
    assert await priced.account(imported) == ("open", 20_00 + 7 * 50_00, 0)


async def test_an_open_stay_gets_its_days_as_they_end(priced: Desk):
    stay = await priced.open()
    await use(priced, stay)
    await Ward(priced, stay).lies(7, march(2))
    clock = priced.db.clock
    assert isinstance(clock, FrozenClock)
    for days in (1, 2, 3):
        clock.at = march(2 + days)
        assert await price_actions.price_open_stays(priced.db, RULES) == 1
        assert len(await live_days(priced, stay)) == days


async def test_a_day_a_clerk_took_off_stays_off(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await ward.lies(7, march(2))
    await price_days(priced, stay, march(4))
    entry = await priced.value("SELECT entry_id FROM priced_charge WHERE day = '2026-03-02'")
    await priced.reverse(stay, entry)
    await ward.leaves(7, march(5), version=1)
    assert [day for day, _, _ in await live_days(priced, stay)] == [3, 4]


async def test_days_of_leave_are_kept_with_the_stay(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await ward.lies(7, march(2))
    common = {"encounter_id": stay, "patient_tok": PATIENT, "bed_id": 7}
    await ward.tell(LeaveStarted(until=march(6), **common), at=march(3))
    await ward.tell(LeaveEnded(**common), at=march(6))
    rows = await priced.fetch("SELECT kind, at FROM bed_fact WHERE encounter_id = $1 ORDER BY version", stay)
    assert [tuple(row) for row in rows] == [("came", march(2)), ("away", march(3)), ("back", march(6))]
    free = RULES.model_copy()
    free.__dict__["policy"] = RULES.policy.model_copy(update={"leave_day": 0})
    done = await priced.do(price_actions.price_bed_days, rules=free, encounter_id=stay, until=march(8))
    assert [charge.day.day for charge in done.posted] == [2, 3, 6, 7]


async def test_a_settled_account_gets_no_late_bed_day_and_the_event_is_not_set_aside(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await use(priced, stay)
    await ward.lies(7, march(2))
    await priced.settle(stay, 20_00)
    await ward.leaves(7, march(5), version=1)
    assert await live_days(priced, stay) == []
    await priced.reopen(stay)
    assert await price_actions.price_open_stays(priced.db, RULES) == 1
    assert [day for day, _, _ in await live_days(priced, stay)] == [2, 3, 4]


async def test_half_a_day_is_never_charged_twice_even_by_hand(priced: Desk):
    stay = await priced.open()
    await Ward(priced, stay).lies(7, march(2))
    await price_days(priced, stay, march(3))
    row = (await priced.fetch("SELECT * FROM priced_charge"))[0]
    charge = await priced.charge(stay, 1_00)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await priced.value(
            "INSERT INTO priced_charge (entry_id, encounter_id, price_id, quantity, executed_at, day, halves, ward)"
            " VALUES ($1, $2, $3, 1, now(), $4, '[1,2)', '4A')",
            charge.entry_id,
            stay,
            row["price_id"],
            row["day"],
        )


async def test_sixteen_hands_price_one_stay_and_each_day_is_charged_once(priced: Desk):
    stay = await priced.open()
    await Ward(priced, stay).lies(7, march(2))
    outcomes = await together([functools.partial(price_days, priced, stay, march(9))] * HANDS)
    assert kinds(outcomes) == {"BedDaysPriced": HANDS}
    assert sum(len(outcome.posted) for outcome in outcomes) == 7
    assert await priced.account(stay) == ("open", 350_00, 0)


# ---- items and orders ------------------------------------------------------------------------------------------------


async def test_what_is_not_in_the_catalogue_on_that_day_is_not_charged(priced: Desk):
    stay = await priced.open()
    assert await use(priced, stay, "NO-SUCH-ITEM") == NotInCatalogue()
    assert await use(priced, stay, at=datetime(2019, 12, 31, tzinfo=UTC)) == NotInCatalogue()
    assert await use(priced, stay, "BED-ICU") == ChargedByTime()
    assert await use(priced, stay, "OXY-HOUR") == ChargedByTime()
    assert await priced.account(stay) == ("open", 0, 0)
    assert await priced.value("SELECT count(*) FROM priced_stay") == 0
    charged = await use(priced, stay, quantity=3)
    assert isinstance(charged, Charged)
    assert (charged.amount_fen, charged.charged_fen) == (60_00, 60_00)


async def test_r73_an_order_is_charged_once_however_often_it_is_scanned(priced: Desk):
    stay = await priced.open()
    scan = functools.partial(use, priced, stay, "SUP-STENT", order_id="O-1", barcode="690123")
    outcomes = await together([scan] * HANDS)
    assert kinds(outcomes) == {"Charged": 1, "OrderCharged": HANDS - 1}
    (entry,) = {outcome.entry_id for outcome in outcomes}
    assert await priced.account(stay) == ("open", 780_00, 0)
    await priced.reverse(stay, entry)
    assert isinstance(await scan(), Charged), "a charge that was taken back may be made again"
    assert isinstance(await scan(), OrderCharged)


async def test_r73_the_barcode_must_be_the_one_of_the_order(priced: Desk):
    stay, other = await priced.open(), await priced.open()
    bind = functools.partial(price_actions.bind_order, rules=RULES, item="SUP-STENT")

    async def bound(encounter: UUID, order: str, barcode: str | None) -> Any:
        return await priced.do(bind, encounter_id=encounter, order_id=order, barcode=barcode)

    assert isinstance(await bound(stay, "O-1", "690123"), OrderBound)
    assert isinstance(await bound(stay, "O-1", "690123"), OrderBound), "bound again alike it is what it was"
    assert await bound(stay, "O-1", "690999") == BarcodeMismatch()
    assert await bound(stay, "O-2", "690123") == BarcodeUsed()
    assert await use(priced, stay, "SUP-STENT", order_id="O-1", barcode="690999") == BarcodeMismatch()
    assert await use(priced, stay, "SUP-STENT", order_id="O-1") == BarcodeMismatch()
    assert await use(priced, stay, "SUP-HIP", order_id="O-1", barcode="690123") == OrderOfAnother()
    assert await use(priced, other, "SUP-STENT", order_id="O-1", barcode="690123") == OrderOfAnother()
    assert await priced.account(stay) == ("open", 0, 0)
    assert isinstance(await use(priced, stay, "SUP-STENT", order_id="O-1", barcode="690123"), Charged)


async def test_r73_one_barcode_used_for_two_patients_at_once_is_charged_to_one(priced: Desk):
    stays = [await priced.open() for _ in range(HANDS)]
    scans = [
        functools.partial(use, priced, stay, "SUP-STENT", order_id=f"O-{number}", barcode="690123")
        for number, stay in enumerate(stays)
    ]
    assert kinds(await together(scans)) == {"Charged": 1, "BarcodeUsed": HANDS - 1}


# ---- what runs by the hour -------------------------------------------------------------------------------------------


async def start(desk: Desk, stay: UUID, item: str = "OXY-HOUR", at: datetime = NOON) -> Any:
    return await desk.do(price_actions.start_timed_item, rules=RULES, encounter_id=stay, item=item, at=at)


async def stop(desk: Desk, stay: UUID, timed: UUID, at: datetime) -> Any:
    return await desk.do(price_actions.stop_timed_item, rules=RULES, encounter_id=stay, timed_item_id=timed, at=at)


async def test_v19_oxygen_is_charged_for_every_started_hour(priced: Desk):
    stay = await priced.open()
    started = await start(priced, stay)
    assert await start(priced, stay, "LAB-CBC") == NotByTheHour()
    assert await start(priced, stay, "NO-SUCH-ITEM") == NotInCatalogue()
    assert await stop(priced, stay, started.timed_item_id, NOON) == StopsBeforeStart()
    done = await stop(priced, stay, started.timed_item_id, NOON + timedelta(hours=2, minutes=1))
    assert isinstance(done, ItemStopped)
    assert (done.steps, done.amount_fen) == (3, 12_00)
    assert await stop(priced, stay, started.timed_item_id, NOON + timedelta(hours=9)) == AlreadyStopped()
    assert await priced.account(stay) == ("open", 12_00, 0)


async def test_v19_two_nurses_start_one_oxygen(priced: Desk):
    stay = await priced.open()
    assert kinds(await together([functools.partial(start, priced, stay)] * HANDS)) == {
        ItemStarted.__name__: 1,
        RunsAlready.__name__: HANDS - 1,
    }
    assert isinstance(await start(priced, stay, "MON-ECG"), ItemStarted), "a monitor runs beside it"


async def test_v19_what_still_runs_when_the_patient_leaves_stops_then_and_is_charged(priced: Desk):
    stay = await priced.open()
    ward = Ward(priced, stay)
    await ward.lies(7, march(2))
    await start(priced, stay, at=march(2))
    await ward.leaves(7, march(2) + timedelta(hours=5), version=1)
    rows = await priced.fetch("SELECT stopped_at FROM timed_item")
    assert [row["stopped_at"] for row in rows] == [march(2) + timedelta(hours=5)]
    assert await priced.account(stay) == ("open", 5 * 4_00 + 50_00, 0)


async def test_v11_a_corrected_run_is_charged_anew_and_an_unchanged_one_is_not(priced: Desk):
    stay = await priced.open()
    timed = (await start(priced, stay)).timed_item_id
    await stop(priced, stay, timed, NOON + timedelta(hours=2))

    async def correct(hours: int) -> Any:
        return await priced.do(
            price_actions.correct_timed_item, rules=RULES, encounter_id=stay, timed_item_id=timed, started_at=NOON,
            stopped_at=NOON + timedelta(hours=hours),
        )  # fmt: skip

    same = await correct(2)
    assert (same.amount_fen, await priced.value("SELECT count(*) FROM entry")) == (8_00, 1)
    longer = await correct(5)
    assert (longer.amount_fen, longer.charged_fen) == (20_00, 20_00)
    assert (await priced.events(stay))[-2:] == ["ChargeReversed", "ChargePosted"]
    await priced.reverse(stay, longer.entry_id)
    assert await correct(6) == TakenOff()
    assert await priced.account(stay) == ("open", 0, 0)


async def test_a_closed_account_takes_no_item_and_starts_nothing(priced: Desk):
    stay = await priced.open()
    await priced.settle(stay, 0)
    assert await use(priced, stay) == NotOpen("closed")
    assert await start(priced, stay) == NotOpen("closed")
    assert await price_days(priced, stay, march(9)) == NotOpen("closed")


# ---- publications ----------------------------------------------------------------------------------------------------


def a_price(fen: int, since: str, code: str = "LAB-CBC", until: date | None = None) -> PriceRow:
    return PriceRow(
        code, "血常规", "Blood count", "XCG", "test", "04", "01", "each", fen, date.fromisoformat(since), until
    )


async def publish(desk: Desk, rows: Sequence[PriceRow]) -> Any:
    return await desk.do(price_actions.publish_prices, rules=RULES, rows=rows, note="")


async def test_a_new_price_holds_from_its_day_and_the_old_one_until_then(priced: Desk):
    stay = await priced.open()
    done = await publish(priced, [a_price(25_00, "2026-03-03")])
    assert done == PricesPublished(version=2, added=1, ended=1, withdrawn=0, known=0)
    assert [
        (await use(priced, stay, at=at)).amount_fen
        for at in (NOON, datetime(2026, 3, 2, 15, 59, tzinfo=UTC), datetime(2026, 3, 2, 16, tzinfo=UTC))
    ] == [20_00, 20_00, 25_00], "the day begins at the hospital's midnight"
    assert await publish(priced, [a_price(25_00, "2026-03-03")]) == PricesPublished(2, 0, 0, 0, 1)
    assert await priced.value("SELECT count(*) FROM price_item WHERE code = 'LAB-CBC'") == 2


async def test_one_price_that_cannot_be_published_stops_all_of_them(priced: Desk):
    done = await publish(priced, [a_price(1_00, "2026-03-03", "LAB-NEW"), a_price(25_00, "2026-03-01")])
    assert isinstance(done, Conflicts)
    assert [index for index, _ in done.of] == [1]
    assert await priced.value("SELECT count(*) FROM price WHERE code = 'LAB-NEW'") == 0
    assert await priced.value("SELECT max(number) FROM price_version") == 1


async def test_two_lists_published_at_once_are_two_versions_and_never_two_prices(priced: Desk):
    lists = [
        [a_price(30_00 + number, "2026-03-05"), a_price(7_00, "2026-03-05", f"N-{number}")] for number in range(HANDS)
    ]
    outcomes = await together([functools.partial(publish, priced, rows) for rows in lists])
    assert kinds(outcomes) == {"PricesPublished": HANDS}
    assert sorted(outcome.version for outcome in outcomes) == list(range(2, HANDS + 2))
    held = await priced.fetch("SELECT price_fen FROM price WHERE code = 'LAB-CBC' AND valid @> '2026-03-05'::date")
    assert len(held) == 1
    assert await priced.value("SELECT count(*) FROM price WHERE code LIKE 'N-%'") == HANDS


async def test_a_published_price_is_never_changed_or_removed(priced: Desk):
    for statement in (
        "UPDATE price_item SET price_fen = 1 WHERE code = 'LAB-CBC'",
        "UPDATE price_item SET valid = daterange('2021-01-01', NULL) WHERE code = 'LAB-CBC'",
        "DELETE FROM price_item WHERE code = 'LAB-CBC'",
        "TRUNCATE price_item CASCADE",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await priced.value(statement)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await priced.value(
            "INSERT INTO price_item (version, code, name_zh, name_en, pinyin, class, receipt_class, insurance_class, unit,"
            " price_fen, remark, valid) SELECT version, code, name_zh, name_en, pinyin, class, receipt_class, insurance_class,"
            " unit, 1, '', '[2026-01-01,2026-01-02)' FROM price_item WHERE code = 'LAB-CBC'"
        )


async def test_a_new_catalogue_is_furnished_once_by_whoever_comes_first(desk: Desk):
    rows = load(RULES.prices_file)
    done = await together([functools.partial(desk.do, price_actions.furnish_when_empty, rows=rows)] * 4)
    assert sorted(done) == [False, False, False, True]
    assert await desk.value("SELECT count(*) FROM price") == len(rows)


async def test_pricing_and_a_settlement_at_once_leave_a_bill_that_was_paid_as_it_was_seen(priced: Desk):
    for _ in range(6):
        stay = await priced.open()
        await Ward(priced, stay).lies(7, march(2))
        done, settled = await together(
            [functools.partial(price_days, priced, stay, march(4)), functools.partial(priced.settle, stay, 0)]
        )
        state, owed, _ = await priced.account(stay)
        if isinstance(done, BedDaysPriced):
            assert (state, owed) == ("open", 100_00)
            assert type(settled).__name__ == "QuoteOutdated"
        else:
            assert (done, state, owed) == (NotOpen("closed"), "closed", 0)
