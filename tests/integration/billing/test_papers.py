"""The papers at their doors: the text of each PDF, read back, says what the ledger says to the fen."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.billing import actions, bill_actions, price_actions
from services.billing.api_papers import PressRoom
from services.billing.documents.model import Letterhead
from services.billing.settings import PriceRules
from shared.access.roles import Role
from shared.errors import Unavailable
from tests.integration.billing.conftest import NOON, Desk, Doors
from tests.unit.billing.papers import a_slip, amounts, text_of

pytestmark = pytest.mark.asyncio
RULES = PriceRules()


async def a_stay_with_everything(desk: Desk) -> UUID:
    """A stay with catalogue items, a free amount, a reversed charge, two deposits and one part that went back."""
    await desk.furnish()
    stay = await desk.open(ward="W1")
    for item, quantity in (("LAB-CRP", 3), ("LAB-CBC", 1)):
        charged = await desk.do(
            price_actions.charge_item, rules=RULES, encounter_id=stay, item=item, quantity=quantity, at=NOON
        )
        assert isinstance(charged, actions.Charged), charged
    await desk.charge(stay, 123_45, item="free.item")
    wrong = await desk.charge(stay, 7_77, item="wrong.item")
    await desk.reverse(stay, wrong.entry_id)
    deposit = await desk.deposit(stay, 500_00)
    await desk.refund_part(stay, deposit.entry_id, 99_99)
    await desk.deposit(stay, 1_00, "wechat")
    return stay


async def pdf_of(doors: Doors, path: str, who: dict[str, str] | None = None) -> str:
    answer = await doors.get(who or doors.somebody(Role.BILLING_CLERK), path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf"), answer.text
    assert answer.headers["cache-control"] == "no-store"
    return text_of(answer.content)


async def test_the_itemised_list_and_the_settlement_say_what_the_ledger_says(doors: Doors):
    desk = doors.desk
    stay = await a_stay_with_everything(desk)
    charged_fen = (await desk.account(stay))[1]
    entries = await desk.fetch(
        "SELECT l.fen FROM entry e JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = 1"
        " JOIN account a ON a.id = e.account_id WHERE a.encounter_id = $1",
        stay,
    )
    items = await pdf_of(doors, f"{stay}/documents/itemised-list.pdf")
    assert {row["fen"] for row in entries} | {charged_fen} <= set(amounts(items))
    assert "free.item" in items
    assert "LAB-CRP" in items
    early = await doors.get(doors.somebody(Role.BILLING_CLERK), f"{stay}/documents/settlement-list.pdf")
    assert (early.status_code, early.json()["code"]) == (409, "not_settled")
    await desk.settle(stay, charged_fen)
    settled = (await desk.fetch("SELECT charged_fen, deposits_fen, refunded_fen FROM settlement"))[0]
    assert settled["deposits_fen"] == 500_00 - 99_99 + 1_00
    for language in ("zh-CN", "en"):
        paper = await pdf_of(doors, f"{stay}/documents/settlement-list.pdf?language={language}")
        assert {settled["charged_fen"], settled["deposits_fen"], 400_01} <= set(amounts(paper))
    pack = await pdf_of(doors, f"{stay}/documents/discharge-pack.pdf")
    assert "电子票据尚未开具" in pack
    assert {row["fen"] for row in entries} | {charged_fen} <= set(amounts(pack))
    seen = await desk.value(
        "SELECT count(*) FROM audit WHERE object_type IN ('SettlementList', 'ItemisedList', 'DischargePack')"
    )
    assert seen == 4, "each paper that was printed is on record"


async def test_a_late_charge_does_not_change_the_paper_of_the_settlement(doors: Doors):
    desk = doors.desk
    stay = await desk.open()
    await desk.charge(stay, 100_00)
    await desk.settle(stay, 100_00)
    await desk.do(
        actions.settle_late_charge, encounter_id=stay, item="late.item", amount_fen=3_33, method="cash", reason="late"
    )
    paper = await pdf_of(doors, f"{stay}/documents/discharge-pack.pdf")
    assert "late.item" not in paper
    assert 103_33 not in amounts(paper)
    assert "late.item" in await pdf_of(doors, f"{stay}/documents/itemised-list.pdf")


async def test_a_bill_and_its_receipt_say_the_same(doors: Doors):
    desk = doors.desk
    stay = await desk.open()
    await desk.charge(stay, 250_05)
    made = await desk.do(bill_actions.draft_bill, encounter_id=stay, as_self_pay=True, fund_connected=False)
    confirmed = {"encounter_id": stay, "bill_id": made.bill.id}
    await desk.do(bill_actions.confirm_bill, **confirmed, shown_hash=made.bill.lines_hash)
    await desk.do(bill_actions.pay_at_desk, **confirmed, amount_fen=250_05, method="bank_card")
    clerk = doors.somebody(Role.BILLING_CLERK)
    none = await doors.get(clerk, f"{stay}/documents/receipt.pdf")
    assert (none.status_code, none.json()["code"]) == (409, "no_receipt_yet")
    await desk.fetch("UPDATE receipt SET state = 'issued', check_code = 'ABC123', url = 'https://receipts.example/1'")
    receipt = await pdf_of(doors, f"{stay}/documents/receipt.pdf")
    assert "ABC123" in receipt
    assert set(amounts(receipt)) == {250_05, 0}
    assert "尚未开具" not in await pdf_of(doors, f"{stay}/documents/discharge-pack.pdf")


async def test_a_slip_shows_what_was_held_when_the_money_came_and_none_of_money_that_went_back(doors: Doors):
    desk = doors.desk
    stay = await desk.open()
    await desk.deposit(stay, 300_00)
    second = await desk.deposit(stay, 50_01, "alipay")
    await desk.deposit(stay, 1_000_00)
    slip = await pdf_of(doors, f"../deposits/{second.entry_id}/slip.pdf")
    assert {50_01, 350_01} <= set(amounts(slip))
    assert 1350_01 not in amounts(slip)
    await desk.refund(stay, second.entry_id)
    gone = await doors.get(doors.somebody(Role.BILLING_CLERK), f"../deposits/{second.entry_id}/slip.pdf")
    assert (gone.status_code, gone.json()["code"]) == (404, "no_such_deposit")


async def test_who_may_not_see_the_account_gets_no_paper_and_nobody_may_send_a_name(doors: Doors):
    stay = await doors.desk.open(ward="W1")
    await doors.desk.charge(stay, 1_00)
    path = f"{stay}/documents/itemised-list.pdf"
    assert (await doors.get(doors.somebody(Role.DOCTOR), path)).status_code == 403
    assert (await doors.get(doors.somebody(Role.WARD_NURSE, wards=("W2",)), path)).status_code == 403
    assert "1.00" in await pdf_of(doors, path, doors.somebody(Role.WARD_NURSE, wards=("W1",)))
    clerk = doors.somebody(Role.BILLING_CLERK)
    assert (await doors.get(clerk, f"{path}?name=somebody")).json()["code"] == "unknown_parameter"
    assert (await doors.get(clerk, f"{path}?language=fr")).status_code == 422
    assert (await doors.get(clerk, f"{uuid4()}/documents/itemised-list.pdf")).status_code == 404
    assert "1.00" not in await pdf_of(doors, f"{path}?day={(NOON + timedelta(days=1)).date()}")


async def test_too_many_papers_at_once_are_refused_not_kept_waiting():
    room = PressRoom(Letterhead("示例医院", "Example Hospital", "Asia/Shanghai"), waiting_max=2)
    answers = await asyncio.gather(*(room.print(a_slip(), "en") for _ in range(5)), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, Unavailable)]
    assert (len(refused), refused[0].code, refused[0].retry_after_seconds) == (3, "press_busy", 10)
    assert sum(isinstance(one, bytes) for one in answers) == 2
    assert (await room.print(a_slip(), "en")).startswith(b"%PDF")


async def test_the_settlement_list_says_the_payment_group_that_was_noted_last(doors: Doors):
    stay = await a_stay_with_everything(doors.desk)
    clerk = doors.somebody(Role.BILLING_CLERK)
    for group in ({"scheme": "dip", "code": "I21.0:36.06"}, {"scheme": "drg", "code": "FM19"}):
        noted = await doors.post(clerk, f"{stay}/payment-group", group)
        assert (noted.status_code, noted.json()["code"]) == (200, group["code"])
    assert (await doors.post(clerk, f"{stay}/payment-group", {"scheme": "drg", "code": "张三"})).status_code == 422
    await doors.desk.settle(stay, (await doors.desk.account(stay))[1])
    assert "DRG FM19" in await pdf_of(doors, f"{stay}/documents/settlement-list.pdf")
