"""Interim settlements (中途结算): a long stay settles what it has had so far, and goes on."""

import asyncio
from typing import Any

import asyncpg
import pytest

from services.billing import actions, bill_actions
from services.billing.actions import Charged, Reopened, Reversed, Settled
from services.billing.bill_actions import OnBill
from services.billing.bills import BillInWork, NothingToSettle, QuoteDead
from services.billing.domain import AlreadyReversed, ChargeSettled, NotOpen, NotSettled
from shared.access.roles import Role
from tests.integration.billing.conftest import Doors
from tests.integration.billing.settling import History, World
from tests.unit.billing.papers import amounts, text_of

pytestmark = pytest.mark.asyncio


async def a_stay(world: World, *charges: int, deposit: int = 0) -> History:
    history = History(world, await world.desk.open())
    for fen in charges:
        await history.do(("charge", fen))
    if deposit:
        await history.do(("deposit", deposit))
    return history


async def settled_so_far(history: History, *, insured: bool = False) -> Any:
    """Settle what is on the account now, the stay goes on; return the bill's row."""
    await history.do(("settle_through", insured, True))
    row = (await history.world.desk.fetch("SELECT * FROM bill WHERE id = $1", history.bill.id))[0]
    assert (row["state"], row["interim"]) == ("settled", True)
    return row


async def test_an_interim_bill_uses_the_deposit_and_leaves_the_rest_of_it_and_the_account_open(world: World):
    history = await a_stay(world, 3_000_00, deposit=5_000_00)
    await settled_so_far(history)
    assert await world.desk.account(history.stay) == ("open", 0, 2_000_00)
    assert await world.desk.balances() == {"revenue": -3_000_00, "deposits": -2_000_00, "cash": 5_000_00}
    told = await world.desk.events(history.stay)
    assert (told.count("InterimSettled"), told.count("AccountSettled"), told.count("AccountClosed")) == (1, 0, 0)
    await history.do(("charge", 1_500_00))
    assert await world.desk.account(history.stay) == ("open", 1_500_00, 2_000_00)
    done = await world.desk.settle(history.stay, 1_500_00)
    assert isinstance(done, Settled)
    assert (done.settlement.charged_fen, done.settlement.refunded_fen) == (1_500_00, 500_00)
    assert await world.desk.account(history.stay) == ("closed", 0, 0)
    assert await world.desk.balances() == {"revenue": -4_500_00, "cash": 4_500_00}
    await history.come_to_rest()
    await history.check()


async def test_the_ward_goes_on_charging_while_a_family_pays_an_interim_bill_and_that_is_on_the_next_one(world: World):
    history = await a_stay(world, 800_00, 200_00)
    await history.do(("quote", False, True))
    await history.do(("confirm",))
    assert isinstance(await world.desk.charge(history.stay, 33_00), Charged)
    assert await world.desk.settle(history.stay, 1_033_00) == NotOpen("billing")
    assert await world.desk.deposit(history.stay, 1) == NotOpen("billing")
    again = await world.desk.do(
        bill_actions.draft_bill, encounter_id=history.stay, as_self_pay=True, fund_connected=True
    )
    assert again == BillInWork(history.bill.id, "collecting")
    assert await world.desk.reverse(history.stay, history.charges[0]) == ChargeSettled()
    await history.do(("cash", 100))
    assert await world.desk.account(history.stay) == ("open", 33_00, 0)
    await history.do(("settle_through", False))
    assert await world.desk.value("SELECT charged_fen FROM bill WHERE id = $1", history.bill.id) == 33_00
    await history.come_to_rest()
    await history.check()


async def test_a_settled_charge_is_not_reversed_before_the_interim_settlement_is_taken_back(world: World):
    history = await a_stay(world, 100_00, deposit=300_00)
    await settled_so_far(history)
    (charge,) = history.charges
    await history.do(("charge", 200_00))
    assert await world.desk.reverse(history.stay, charge) == ChargeSettled()
    with pytest.raises(asyncpg.CheckViolationError, match="settled"):
        await world.desk.value(
            "SELECT post_reversals((SELECT id FROM account WHERE encounter_id = $1), $2, $3, 'x', now(), NULL)",
            history.stay,
            [charge],
            [history.stay],
        )
    assert isinstance(await world.desk.do(bill_actions.reopen, encounter_id=history.stay, reason="wrong"), Reopened)
    assert await world.desk.account(history.stay) == ("open", 300_00, 300_00)
    for entry_id in history.charges:
        assert isinstance(await world.desk.reverse(history.stay, entry_id), Reversed)
    assert isinstance(await world.desk.refund(history.stay, history.deposits[0]), actions.Refunded)
    assert await world.desk.balances() == {}
    await history.come_to_rest()
    await history.check()


async def test_what_an_interim_settlement_used_of_a_deposit_is_not_given_back(world: World):
    history = await a_stay(world, 100_00, deposit=300_00)
    await settled_so_far(history)
    (deposit,) = history.deposits
    refunded = await world.desk.refund(history.stay, deposit)
    assert refunded.amount_fen == 200_00
    assert await world.desk.refund(history.stay, deposit) == AlreadyReversed()
    assert await world.desk.account(history.stay) == ("open", 0, 0)


async def test_the_fund_settles_each_part_of_a_long_stay_by_itself_and_takes_each_back_by_itself(world: World):
    history = await a_stay(world, 9_000_00, deposit=10_000_00)
    first = await settled_so_far(history, insured=True)
    assert first["fund_fen"] > 0
    await history.do(("charge", 4_000_00))
    await history.do(("settle_through", True))
    last = (await world.desk.fetch("SELECT * FROM bill WHERE id = $1", history.bill.id))[0]
    assert (last["state"], last["charged_fen"], last["number"]) == ("settled", 4_000_00, 2)
    assert last["setl_id"] != first["setl_id"]
    await history.come_to_rest()
    await history.check()
    await history.do(("reopen",))
    await history.come_to_rest()
    await history.check()
    assert (await world.desk.account(history.stay))[:2] == ("open", 4_000_00), "the first part stays settled"
    await history.do(("reopen",))
    await history.come_to_rest()
    await history.check()
    assert (await world.desk.account(history.stay))[:2] == ("open", 13_000_00)
    numbers = await world.desk.fetch("SELECT number, voids FROM receipt ORDER BY number")
    assert [row["voids"] is not None for row in numbers] == [False, False, True, True]


async def test_an_interim_bill_the_fund_says_nothing_about_is_asked_about_and_the_ward_goes_on(world: World):
    history = await a_stay(world, 5_000_00)
    await history.do(("quote", True, True))
    await history.do(("fund_fault", "2304", "timeout_after_success"))
    await history.do(("confirm",))
    assert isinstance(await world.desk.charge(history.stay, 10_00), Charged)
    for _ in range(20):
        await history.do(("errands",))
    await history.do(("cash", 100))
    assert (await world.desk.account(history.stay))[:2] == ("open", 10_00)
    await history.come_to_rest()
    await history.check()


async def test_an_interim_bill_given_up_gives_its_lines_back(world: World):
    history = await a_stay(world, 700_00)
    await history.do(("quote", False, True))
    await history.do(("confirm",))
    await history.do(("cancel",))
    assert await world.desk.value("SELECT count(*) FROM interim_line") == 0
    assert isinstance(await world.desk.settle(history.stay, 700_00), Settled)


async def test_an_interim_quote_dies_when_a_line_changes_and_nothing_is_nothing(world: World):
    history = await a_stay(world)
    draft = {"encounter_id": history.stay, "as_self_pay": True, "fund_connected": True, "interim": True}
    assert await world.desk.do(bill_actions.draft_bill, **draft) == NothingToSettle()
    await history.do(("charge", 100))
    await history.do(("quote", False, True))
    await history.do(("charge", 1))
    confirm = {"encounter_id": history.stay, "bill_id": history.bill.id, "shown_hash": history.bill.lines_hash}
    assert await world.desk.do(bill_actions.confirm_bill, **confirm) == QuoteDead("line_changed")
    assert await world.desk.value("SELECT count(*) FROM interim_line") == 0


async def test_the_last_settlement_is_taken_back_first_and_an_admission_with_an_interim_one_is_not_voided(world: World):
    history = await a_stay(world, 10_00, deposit=100_00)
    await settled_so_far(history)
    assert await world.desk.void(history.stay) == NotOpen("closed")
    await history.do(("charge", 20_00))
    assert isinstance(await world.desk.settle(history.stay, 20_00), Settled)
    for state in (("open", 20_00, 90_00), ("open", 30_00, 100_00)):
        assert isinstance(await world.desk.do(bill_actions.reopen, encounter_id=history.stay, reason="x"), Reopened)
        assert await world.desk.account(history.stay) == state
    assert await world.desk.do(bill_actions.reopen, encounter_id=history.stay, reason="x") == NotSettled()
    await history.come_to_rest()
    await history.check()


async def test_of_many_who_say_yes_to_an_interim_bill_while_the_ward_charges_one_settles_it_once(world: World):
    history = await a_stay(world, 50_00, deposit=500_00)
    await history.do(("quote", False, True))
    confirm = {"encounter_id": history.stay, "bill_id": history.bill.id, "shown_hash": history.bill.lines_hash}
    said = await asyncio.gather(
        *(world.desk.do(bill_actions.confirm_bill, **confirm) for _ in range(16)),
        *(world.desk.charge(history.stay, 1_00) for _ in range(16)),
    )
    yes = [one for one in said if isinstance(one, OnBill)]
    assert sum(isinstance(one, Charged) for one in said) == 16, "the ward is never kept from charging"
    assert len(yes) <= 1
    owed = 66_00 - 50_00 * len(yes)
    assert (await world.desk.account(history.stay))[:2] == ("open", owed)
    await history.come_to_rest()
    await history.check()


async def test_the_doors_say_what_an_interim_bill_is_and_what_was_settled_before(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK, Role.WARD_NURSE, wards=("3A",))
    stay = await doors.desk.open(ward="3A")
    charged = await doors.desk.charge(stay, 40_00)
    await doors.desk.deposit(stay, 100_00)
    bill = (await doors.post(clerk, f"{stay}/bills", {"as_self_pay": True, "interim": True})).json()
    assert (bill["interim"], bill["due_fen"], bill["refund_fen"]) == (True, 0, 0)
    done = await doors.post(clerk, f"{stay}/bills/{bill['bill_id']}/confirmation", {"lines_hash": bill["lines_hash"]})
    assert (done.json()["state"], done.json()["deposits_fen"]) == ("settled", 60_00)
    account = (await doors.get(clerk, f"{stay}/account")).json()
    assert (account["state"], account["charged_fen"], account["interim_fen"]) == ("open", 0, 40_00)
    running = (await doors.get(clerk, f"{stay}/pre-settlement")).json()
    assert (running["charged_fen"], running["charges"]) == (0, 0)
    refused = await doors.post(clerk, f"{stay}/charges/{charged.entry_id}/reversal", {"reason": "wrong_item"})
    assert (refused.status_code, refused.json()["code"]) == (409, "charge_settled")
    empty = await doors.post(clerk, f"{stay}/bills", {"as_self_pay": True, "interim": True})
    assert (empty.status_code, empty.json()["code"]) == (409, "nothing_to_settle")
    paper = text_of((await doors.get(clerk, f"{stay}/documents/settlement-list.pdf")).content)
    assert "中途结算单" in paper
    assert {40_00} <= set(amounts(paper))
    await doors.desk.charge(stay, 9_00)
    await doors.desk.settle(stay, 9_00)
    last = text_of((await doors.get(clerk, f"{stay}/documents/settlement-list.pdf")).content)
    assert "中途结算单" not in last
    assert 9_00 in amounts(last)
    assert 49_00 not in amounts(last)
