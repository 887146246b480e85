"""Bills at the bedside: what a clerk, a family, a second tablet and a silent fund can do to one, on real parts."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio

from services.billing import actions, bill_actions
from services.billing.actions import Settled
from services.billing.bill_actions import OnBill, OnPayment, PaymentInWork
from services.billing.bills import Bill, BillInWork, BillMoved, MoreThanDue, QuoteDead
from services.billing.domain import NotOpen, NotSettled
from services.billing.main import spec
from services.billing.outside import wire
from services.billing.ports import Order
from services.billing.settings import Settings
from shared.access.tokens import TokenVerifier
from shared.messaging.memory import MemoryBroker
from shared.service import Runtime, create_app
from tests.integration.billing.conftest import NOON
from tests.integration.billing.settling import History, World
from tests.integration.simulators.conftest import HOSPITAL, KEY, MERCHANT

pytestmark = pytest.mark.asyncio


async def a_stay(world: World, *charges: int) -> History:
    history = History(world, await world.desk.open())
    for fen in charges:
        await history.do(("charge", fen))
    return history


async def quoted(history: History, *, insured: bool = False) -> Bill:
    await history.do(("quote", insured))
    state = await history.world.desk.value("SELECT state FROM bill WHERE id = $1", history.bill.id)
    assert state == "quoted"
    bill: Bill = history.bill
    return bill


async def state_of(history: History) -> str:
    state: str = await history.world.desk.value("SELECT state FROM bill WHERE id = $1", history.bill.id)
    return state


async def pay(history: History, fen: int):
    return await history.world.desk.do(
        bill_actions.pay_at_desk, encounter_id=history.stay, bill_id=history.bill.id, amount_fen=fen, method="cash"
    )


async def test_an_insured_family_pays_only_its_part_and_gets_the_rest_of_the_deposit_back(world: World):
    history = await a_stay(world, 1_000_00, 234_56)
    await history.do(("deposit", 2_000_00))
    await quoted(history, insured=True)
    await history.do(("confirm",))
    assert await state_of(history) == "settled"
    row = (await world.desk.fetch("SELECT * FROM bill WHERE id = $1", history.bill.id))[0]
    settlement = (await world.desk.fetch("SELECT * FROM settlement"))[0]
    assert row["fund_fen"] > 0
    assert settlement["payer_fen"] == row["fund_fen"] + row["account_fen"]
    assert settlement["refunded_fen"] == 2_000_00 - row["patient_fen"]
    await history.come_to_rest()
    await history.check()
    assert await world.desk.value("SELECT state FROM receipt") == "issued"


async def test_while_the_fund_is_silent_nobody_can_pay_give_up_or_make_another_bill(world: World):
    history = await a_stay(world, 5_000_00)
    await quoted(history, insured=True)
    await history.do(("fund_fault", "2304", "timeout_after_success"))
    await history.do(("confirm",))
    assert await state_of(history) == "payer_unknown"
    on_bill = {"encounter_id": history.stay, "bill_id": history.bill.id}
    assert await pay(history, 1) == BillMoved("payer_unknown")
    assert await world.desk.do(bill_actions.cancel_bill, **on_bill) == BillMoved("payer_unknown")
    ordered = await world.desk.do(bill_actions.order_payment, **on_bill, amount_fen=1, method="wechat")
    assert ordered == BillMoved("payer_unknown")
    again = await world.desk.do(
        bill_actions.draft_bill, encounter_id=history.stay, as_self_pay=True, fund_connected=True
    )
    assert again == BillInWork(history.bill.id, "payer_unknown")
    assert await world.desk.settle(history.stay, 5_000_00) == NotOpen("billing")
    assert await world.desk.charge(history.stay, 1) == NotOpen("billing")
    for _ in range(20):
        await history.do(("errands",))
    assert await state_of(history) == "collecting", "asked, not sent again"
    assert len([m for m in world.fund.truth()["settlements"] if m["msgid"] == history.bill.msgid("2304")]) == 1


async def test_a_quote_dies_when_a_line_changes(world: World):
    history = await a_stay(world, 100, 200)
    bill = await quoted(history)
    await history.do(("charge", 1))
    confirm = {"encounter_id": history.stay, "bill_id": bill.id, "shown_hash": bill.lines_hash}
    assert await world.desk.do(bill_actions.confirm_bill, **confirm) == QuoteDead("line_changed")
    await history.do(("reverse",))
    assert await world.desk.do(bill_actions.confirm_bill, **confirm) == QuoteDead("line_changed")
    assert await world.desk.account(history.stay) == ("open", 300, 0)


async def test_two_tablets_say_yes_and_two_families_pay_and_the_bill_is_settled_once(world: World):
    history = await a_stay(world, 300_00)
    bill = await quoted(history)
    confirm = {"encounter_id": history.stay, "bill_id": bill.id, "shown_hash": bill.lines_hash}
    said = await asyncio.gather(*(world.desk.do(bill_actions.confirm_bill, **confirm) for _ in range(16)))
    assert sum(isinstance(one, OnBill) for one in said) == 1
    assert {type(one) for one in said} == {OnBill, BillMoved}
    paid = await asyncio.gather(*(pay(history, 300_00) for _ in range(16)))
    assert sum(isinstance(one, OnBill) for one in paid) == 1
    assert await world.desk.balances() == {"revenue": -300_00, "cash": 300_00}
    await history.come_to_rest()
    await history.check()


async def test_cash_is_not_taken_while_a_code_can_still_be_paid(world: World):
    history = await a_stay(world, 80_00)
    await quoted(history)
    await history.do(("confirm",))
    await history.do(("order", 100))
    await history.do(("errands_until_known",))
    assert await pay(history, 80_00) == PaymentInWork(history.order.id)
    await history.do(("family_pays", 0))
    await history.do(("close_order",))
    await history.do(("errands_until_known",))
    assert await state_of(history) == "settled", "closing found it paid"
    await history.come_to_rest()
    await history.check()


async def test_a_code_the_channel_wrongly_refused_is_not_forgotten_when_the_family_pays_it(world: World):
    history = await a_stay(world, 80_00)
    await quoted(history)
    await history.do(("confirm",))
    await history.do(("channel_fault", "create", "contradict"))
    await history.do(("channel_fault", "query", "silent_before"))
    await history.do(("order", 100))  # made, answered with a refusal, and nobody can be asked about it
    await history.do(("family_pays", 0))
    await history.do(("errands_until_known",))
    assert await state_of(history) == "settled"
    await history.come_to_rest()
    await history.check()


async def test_several_ways_of_paying_come_together_on_one_bill(world: World):
    history = await a_stay(world, 100_00)
    await quoted(history)
    await history.do(("confirm",))
    assert await pay(history, 100_01) == MoreThanDue(100_00)
    assert isinstance(await pay(history, 40_00), OnBill)
    assert await pay(history, 60_01) == MoreThanDue(60_00)
    await history.do(("order", 100))
    await history.do(("errands_until_known",))
    await history.do(("family_pays", 0))
    await history.do(("errands_until_known",))
    assert await state_of(history) == "settled"
    assert await world.desk.balances() == {"revenue": -100_00, "cash": 40_00, "channel": 60_00}
    await history.come_to_rest()
    await history.check()


async def test_money_that_comes_after_the_bill_was_settled_goes_back(world: World):
    history = await a_stay(world, 50_00)
    done = await world.desk.do(
        bill_actions.order_payment, encounter_id=history.stay, bill_id=None, amount_fen=50_00, method="wechat"
    )
    assert isinstance(done, OnPayment)
    history.order = done.payment
    await history.do(("errands_until_known",))
    assert isinstance(await world.desk.settle(history.stay, 50_00), Settled)
    await history.do(("family_pays", 0))
    await history.come_to_rest()
    await history.check()
    assert await world.desk.balances() == {"revenue": -50_00, "cash": 50_00}
    assert world.channel.truth()["refunds"][-1]["amount_fen"] == 50_00


async def test_v8_a_channel_deposit_goes_back_once_through_the_channel(world: World):
    history = await a_stay(world)
    done = await world.desk.do(
        bill_actions.order_payment, encounter_id=history.stay, bill_id=None, amount_fen=70_00, method="alipay"
    )
    history.order = done.payment
    await history.do(("errands_until_known",))
    await history.do(("family_pays", 0))
    await history.do(("errands_until_known",))
    entry_id = await world.desk.value("SELECT entry_id FROM payment WHERE id = $1", history.order.id)
    await history.do(("channel_fault", "refund", "timeout_after_success"))
    refunds = await asyncio.gather(*(world.desk.refund(history.stay, entry_id) for _ in range(8)))
    assert sum(type(one).__name__ == "Refunded" for one in refunds) == 1
    await history.come_to_rest()
    await history.check()
    mine = [one for one in world.channel.truth()["refunds"] if one["order_no"] == history.order.order_no]
    assert [one["amount_fen"] for one in mine] == [70_00]


async def test_v12_reopening_takes_the_funds_part_and_the_receipt_back_and_keeps_what_went_through_the_channel(
    world: World,
):
    history = await a_stay(world, 100_00)
    done = await world.desk.do(
        bill_actions.order_payment, encounter_id=history.stay, bill_id=None, amount_fen=150_00, method="wechat"
    )
    history.order = done.payment
    await history.do(("errands_until_known",))
    await history.do(("family_pays", 0))
    await history.do(("errands_until_known",))
    await quoted(history)
    await history.do(("confirm",))
    assert await state_of(history) == "settled"
    await history.come_to_rest()
    await history.do(("reopen",))
    assert await state_of(history) == "reopened"
    assert await world.desk.account(history.stay) == ("open", 100_00, 100_00), "the 50.00 are with the family already"
    await history.come_to_rest()
    await history.check()
    receipts = await world.desk.fetch("SELECT state, voids FROM receipt ORDER BY number")
    assert [row["state"] for row in receipts] == ["issued", "issued"]
    assert receipts[1]["voids"] is not None
    await quoted(history, insured=True)
    await history.do(("confirm",))
    await history.do(("reopen",))
    assert await state_of(history) == "reopening"
    await history.come_to_rest()
    assert await state_of(history) == "reopened"
    await history.check()


async def test_v13_a_late_charge_is_settled_by_itself_or_written_off_and_the_settlement_stands(world: World):
    history = await a_stay(world, 10_00)
    late = {"encounter_id": history.stay, "item": "late", "amount_fen": 3_00, "reason": "forgotten"}
    assert await world.desk.do(actions.settle_late_charge, **late, method="cash") == NotSettled()
    await history.do(("settle_through", False))
    assert isinstance(await world.desk.do(actions.settle_late_charge, **late, method="cash"), Settled)
    written_off = await world.desk.do(actions.settle_late_charge, **late, method=None)
    assert written_off.settlement.written_off_fen == 3_00
    assert await world.desk.account(history.stay) == ("closed", 0, 0)
    assert await world.desk.balances() == {"revenue": -16_00, "cash": 13_00, "bad_debt": 3_00}
    await history.do(("reopen",))
    assert await world.desk.account(history.stay) == ("open", 16_00, 10_00 + 0)
    await history.come_to_rest()
    await history.check()


async def test_who_ran_away_leaves_a_bad_debt_and_no_deposit_behind(world: World):
    history = await a_stay(world, 90_00)
    await history.do(("deposit", 20_00))
    gone = await world.desk.do(actions.write_off_debt, encounter_id=history.stay, quoted_fen=90_00)
    assert (gone.settlement.deposits_fen, gone.settlement.written_off_fen) == (20_00, 70_00)
    assert await world.desk.account(history.stay) == ("closed", 0, 0)


# ---- notices ---------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def notice_door(world: World, tmp_path) -> AsyncIterator[httpx2.AsyncClient]:
    key = tmp_path / "key"
    key.write_text(KEY)
    settings = Settings(
        database_url="postgresql://unused",
        hospital_code=HOSPITAL,
        channel_url=world.channel.url,
        channel_merchant_id=MERCHANT,
        channel_notify_url="http://unused",
        channel_key_file=key,
    )
    broker, verifier = MemoryBroker(), TokenVerifier("")
    runtime = Runtime(spec(settings), settings, world.desk.db, verifier, broker.producer, broker.consumer)
    app = create_app(runtime.spec, lambda: runtime, verifier, run=False)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://front.door") as http:
        yield http


def told(order_no: str, fen: int, transaction_id: str = "T1") -> bytes:
    resource = {
        "mchid": MERCHANT,
        "out_trade_no": order_no,
        "trade_state": "SUCCESS",
        "transaction_id": transaction_id,
        "amount": {"total": fen, "payer_total": fen, "currency": "CNY"},
        "success_time": "2026-11-23T09:00:00Z",
    }
    return wire.write_json({"id": uuid4().hex, "event_type": "TRANSACTION.SUCCESS", "resource": resource})


async def an_order(world: World, fen: int) -> tuple[UUID, str]:
    stay = await world.desk.open()
    done = await world.desk.do(
        bill_actions.order_payment, encounter_id=stay, bill_id=None, amount_fen=fen, method="wechat"
    )
    return stay, done.payment.order_no


async def send(http: httpx2.AsyncClient, body: bytes, headers: dict[str, str]) -> int:
    answer = await http.post(
        "/api/billing/channel/notices", content=body, headers={"Content-Type": "application/json", **headers}
    )
    return answer.status_code


async def test_a_notice_told_three_times_and_by_query_counts_once(world: World, notice_door: httpx2.AsyncClient):
    stay, order_no = await an_order(world, 25_00)
    body = told(order_no, 25_00)
    same = wire.sign(KEY.encode(), "notice", MERCHANT, "", body)
    fresh = [wire.sign(KEY.encode(), "notice", MERCHANT, "", body) for _ in range(6)]
    answers = await asyncio.gather(*(send(notice_door, body, headers) for headers in (same, same, *fresh)))
    assert set(answers) == {200}
    payment_id = await world.desk.value("SELECT id FROM payment WHERE order_no = $1", order_no)
    known = await world.desk.do(
        bill_actions.take_paid_order, payment_id=payment_id, order=Order(order_no, "paid", 25_00, "T1", NOON)
    )
    assert known == "known"
    assert await world.desk.account(stay) == ("open", 0, 25_00)


async def test_a_forged_notice_or_one_with_another_sum_changes_nothing(world: World, notice_door: httpx2.AsyncClient):
    stay, order_no = await an_order(world, 25_00)
    body = told(order_no, 25_00)
    forged = wire.sign(b"another key that is long enough", "notice", MERCHANT, "", body)
    assert await send(notice_door, body, forged) == 400
    of_another_body = wire.sign(KEY.encode(), "notice", MERCHANT, "", told(order_no, 1))
    assert await send(notice_door, body, of_another_body) == 400
    nobody = told("P" + "0" * 32, 25_00)
    assert await send(notice_door, nobody, wire.sign(KEY.encode(), "notice", MERCHANT, "", nobody)) == 404
    more = told(order_no, 25_01)
    assert await send(notice_door, more, wire.sign(KEY.encode(), "notice", MERCHANT, "", more)) == 200
    assert await world.desk.account(stay) == ("open", 0, 0), "looked into, not believed"
    assert await world.desk.value("SELECT kind FROM recon_diff") == "amount_mismatch"
