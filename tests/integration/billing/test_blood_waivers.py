"""Blood of donors (用血减免, BIL-9): the blood centre pays for it, the patient pays less at once, and nobody gets it in cash."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing import bill_actions, refund_actions
from services.billing.actions import Charged, Deposited, Refunded, Reversed, Settled
from services.billing.domain import (
    AlreadyReversed,
    ApprovalUsed,
    BloodWaived,
    MoreThanBlood,
    NoAccount,
    NoSuchEntry,
    NotOpen,
)
from shared.access.roles import Role
from shared.contracts.billing import DepositReceived
from tests.integration.billing.conftest import Desk, Doors
from tests.integration.billing.settling import History, World
from tests.unit.billing.papers import amounts, text_of

pytestmark = pytest.mark.asyncio
UNIT = 220_00
BLOOD = 20 * UNIT


async def transfused(desk: Desk, units: int, more_fen: int = 0, ward: str | None = None) -> tuple[UUID, UUID]:
    """Return a stay with so many units of red cells on its account, and the charge for them."""
    await desk.furnish()
    stay = await desk.open(ward=ward)
    charged = await desk.transfuse(stay, units)
    assert isinstance(charged, Charged)
    if more_fen:
        await desk.charge(stay, more_fen)
    return stay, charged.entry_id


async def test_a_donors_family_pays_the_rest_and_the_blood_centre_owes_the_blood(desk: Desk):
    stay, _ = await transfused(desk, 2, more_fen=1_000_00)
    await desk.deposit(stay, 500_00)
    waived = await desk.waive(stay, 2 * UNIT)
    assert isinstance(waived, Deposited)
    assert (await desk.events(stay)).count(DepositReceived.__name__) == 2
    done = await desk.settle(stay, 1_440_00)
    assert isinstance(done, Settled)
    assert (done.settlement.deposits_fen, done.settlement.collected_fen) == (940_00, 500_00)
    assert await desk.balances() == {"revenue": -1_440_00, "cash": 1_000_00, "blood_centre": 440_00}


async def test_what_the_family_paid_goes_back_first_when_the_blood_was_all_that_was_charged(desk: Desk):
    stay, _ = await transfused(desk, 1)
    await desk.deposit(stay, 300_00)
    await desk.waive(stay, UNIT)
    done = await desk.settle(stay, UNIT)
    assert isinstance(done, Settled)
    assert (done.settlement.refunded_fen, done.settlement.collected_fen) == (300_00, 0)
    assert await desk.balances() == {"revenue": -UNIT, "blood_centre": UNIT}


async def test_only_blood_that_was_charged_is_waived_and_every_fen_of_it_once(desk: Desk):
    stay, _ = await transfused(desk, 1, more_fen=900_00)
    assert await desk.waive(stay, UNIT + 1) == MoreThanBlood(UNIT)
    assert isinstance(await desk.waive(stay, UNIT - 1), Deposited)
    assert await desk.waive(stay, 2) == MoreThanBlood(1)
    assert isinstance(await desk.waive(stay, 1), Deposited)
    assert await desk.waive(stay, 1) == MoreThanBlood(0)
    assert await desk.waive(uuid4(), 1) == NoAccount()
    await desk.settle(stay, UNIT + 900_00)
    assert await desk.waive(stay, 1) == NotOpen("closed")


async def test_of_many_clerks_who_waive_the_same_blood_at_once_together_they_waive_it_once(desk: Desk):
    stay, _ = await transfused(desk, 1)
    done = await asyncio.gather(*(desk.waive(stay, UNIT // 2) for _ in range(6)))
    assert sum(isinstance(one, Deposited) for one in done) == 2
    assert await desk.account(stay) == ("open", UNIT, UNIT)


async def test_the_blood_centre_pays_under_one_number_once_whoever_else_tries_at_the_same_time(desk: Desk):
    stays = [(await transfused(desk, 1))[0] for _ in range(4)]
    done = await asyncio.gather(*(desk.waive(stay, UNIT, "370-2026-000123") for stay in stays))
    assert sorted(type(one).__name__ for one in done) == ["ApprovalUsed"] * 3 + ["Deposited"]
    winner = next(stay for stay, one in zip(stays, done, strict=True) if isinstance(one, Deposited))
    taken = next(one for one in done if isinstance(one, Deposited))
    loser = next(stay for stay in stays if stay != winner)
    assert await desk.waive(loser, UNIT, "370-2026-000123") == ApprovalUsed()
    assert isinstance(await desk.refund(winner, taken.entry_id), Refunded)  # taken back, the number is free again
    assert isinstance(await desk.waive(loser, UNIT, "370-2026-000123"), Deposited)
    assert (await desk.balances())["blood_centre"] == UNIT


async def test_waived_blood_is_corrected_only_after_the_waiver_is_taken_back(desk: Desk):
    stay, blood = await transfused(desk, 2)
    waived = await desk.waive(stay, UNIT)
    assert await desk.reverse(stay, blood) == BloodWaived()
    assert isinstance(await desk.refund_part(stay, waived.entry_id, 20_00), Refunded)
    assert await desk.reverse(stay, blood) == BloodWaived()
    assert isinstance(await desk.refund(stay, waived.entry_id), Refunded)
    assert await desk.refund(stay, waived.entry_id) == AlreadyReversed()
    assert isinstance(await desk.reverse(stay, blood), Reversed)
    assert await desk.balances() == {}


async def test_blood_beyond_the_waiver_may_be_corrected(desk: Desk):
    stay, _ = await transfused(desk, 1)
    more = await desk.transfuse(stay, 1)
    await desk.waive(stay, UNIT)
    assert isinstance(await desk.reverse(stay, more.entry_id), Reversed)


async def test_a_waiver_is_not_moved_to_another_stay(desk: Desk):
    stay, _ = await transfused(desk, 1)
    patient_tok = await desk.value("SELECT patient_tok FROM account WHERE encounter_id = $1", stay)
    other = await desk.open(patient_tok=patient_tok)
    waived = await desk.waive(stay, UNIT)
    moved = await desk.do(
        refund_actions.move_deposit,
        encounter_id=stay,
        entry_id=waived.entry_id,
        amount_fen=None,
        to_encounter_id=other,
    )
    assert moved == NoSuchEntry()


async def test_the_waiver_of_an_admission_that_never_counted_is_taken_back(desk: Desk):
    stay, _ = await transfused(desk, 1)
    waived = await desk.waive(stay, UNIT)
    assert await desk.void(stay) == "voided"
    assert isinstance(await desk.refund(stay, waived.entry_id), Refunded)
    assert await desk.balances() == {}


async def test_what_the_fund_leaves_is_less_than_the_waiver_and_the_claim_shrinks_but_no_cash_is_paid(world: World):
    desk = world.desk
    stay, _ = await transfused(desk, 20)
    history = History(world, stay)
    await desk.deposit(stay, 100_00)
    await desk.waive(stay, BLOOD)
    await history.do(("quote", True))
    bill = await desk.do(bill_actions.confirm_bill, encounter_id=stay, bill_id=history.bill.id,
                         shown_hash=history.bill.lines_hash)  # fmt: skip
    assert bill.waived_fen == BLOOD
    await history.come_to_rest()
    (settled,) = await desk.fetch("SELECT * FROM settlement")
    patient_fen = BLOOD - settled["payer_fen"]
    assert 0 < patient_fen < BLOOD
    assert (settled["deposits_fen"], settled["refunded_fen"]) == (patient_fen + 100_00, 100_00)
    assert await desk.balances() == {
        "revenue": -BLOOD,
        "payer_receivable": settled["payer_fen"],
        "blood_centre": patient_fen,
    }
    await desk.do(bill_actions.reopen, encounter_id=stay, reason="late_charge")
    await history.come_to_rest()
    assert await desk.account(stay) == ("open", BLOOD, BLOOD + 100_00)
    await history.do(("settle_through", False))
    assert await desk.account(stay) == ("closed", 0, 0)
    assert await desk.balances() == {"revenue": -BLOOD, "blood_centre": BLOOD}
    await history.come_to_rest()
    await history.check()


async def test_an_interim_bill_uses_the_waiver_first_and_what_is_settled_is_not_waived_again(world: World):
    desk = world.desk
    stay, _ = await transfused(desk, 1, more_fen=100_00)
    history = History(world, stay)
    await desk.deposit(stay, 500_00)
    await desk.waive(stay, UNIT)
    await history.do(("settle_through", False, True))
    assert await desk.account(stay) == ("open", 0, 400_00)
    assert await desk.value("SELECT waived_held(id) FROM account") == 0
    assert await desk.waive(stay, 1) == MoreThanBlood(0)
    await desk.do(bill_actions.reopen, encounter_id=stay, reason="late_charge")
    assert await desk.account(stay) == ("open", 320_00, 720_00)
    await history.do(("settle_through", False))
    assert await desk.balances() == {"revenue": -320_00, "cash": 100_00, "blood_centre": UNIT}
    await history.come_to_rest()
    await history.check()


async def test_the_database_refuses_more_than_the_blood_and_a_payment_of_the_centre_without_its_number(desk: Desk):
    stay, blood = await transfused(desk, 1)
    account_id = await desk.value("SELECT id FROM account")
    post = "SELECT post_entries($1, NULL, now(), NULL, $2, '{deposit}', '{NULL}', '{26}', '{2}', $3)"
    with pytest.raises(asyncpg.CheckViolationError, match="under a number"):
        await desk.value(post, account_id, [uuid4()], [UNIT])
    waived = await desk.waive(stay, UNIT)
    reverse = "SELECT post_reversals($1, $2, $3, 'wrong_item', now(), NULL)"
    with pytest.raises(asyncpg.CheckViolationError, match="no more blood"):
        await desk.value(reverse, account_id, [blood], [uuid4()])
    used = await desk.value("SELECT approval_no FROM blood_waiver")
    other, _ = await transfused(desk, 1)
    taken = await desk.deposit(other, 1)
    with pytest.raises(asyncpg.UniqueViolationError, match="used already"):
        await desk.value(
            "INSERT INTO blood_waiver SELECT $1, account_id, $2 FROM entry WHERE id = $1", taken.entry_id, used
        )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await desk.value("UPDATE blood_waiver SET approval_no = 'x' WHERE entry_id = $1", waived.entry_id)
    assert await desk.violations() == []


async def test_the_doors_show_the_waiver_apart_from_money_and_the_paper_names_it(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK, Role.WARD_NURSE, wards=("3A",))
    desk = doors.desk
    stay, blood = await transfused(desk, 1, more_fen=80_00, ward="3A")
    await desk.deposit(stay, 100_00)
    doctor = doors.somebody(Role.DOCTOR)
    asked = {"amount_fen": UNIT, "approval_no": "370-2026-000123"}
    assert (await doors.post(doctor, f"{stay}/blood-waivers", asked)).status_code == 403
    other = doors.somebody(Role.WARD_NURSE, wards=("3B",))
    assert (await doors.post(other, f"{stay}/blood-waivers", {**asked, "amount_fen": 10**9})).status_code == 403
    too_much = await doors.post(clerk, f"{stay}/blood-waivers", {**asked, "amount_fen": UNIT + 1})
    assert (too_much.json()["code"], too_much.json()["facts"]) == ("more_than_blood", {"left_fen": UNIT})
    done = await doors.post(clerk, f"{stay}/blood-waivers", asked)
    assert (done.status_code, done.json()["deposits_fen"]) == (201, 320_00)
    again = await doors.post(clerk, f"{stay}/charges/{blood}/reversal", {"reason": "wrong_item"})
    assert (again.status_code, again.json()["code"]) == (409, "blood_waived")
    running = (await doors.get(clerk, f"{stay}/pre-settlement")).json()
    assert (running["deposits_fen"], running["waived_fen"], running["refunds_fen"]) == (320_00, UNIT, 20_00)
    slip = await doors.get(clerk, f"{stay}/account")
    assert (slip.json()["deposits_fen"], slip.json()["waived_fen"]) == (320_00, UNIT)
    bill = (await doors.post(clerk, f"{stay}/bills", {"as_self_pay": True})).json()
    assert (bill["due_fen"], bill["refund_fen"], bill["waived_fen"]) == (0, 20_00, UNIT)
    await doors.post(clerk, f"{stay}/bills/{bill['bill_id']}/confirmation", {"lines_hash": bill["lines_hash"]})
    shown = (await doors.get(clerk, f"{stay}/bills/latest")).json()
    assert (shown["state"], shown["settlement"]["waived_fen"], shown["settlement"]["refunded_fen"]) == (
        "settled",
        UNIT,
        20_00,
    )
    paper = text_of((await doors.get(clerk, f"{stay}/documents/settlement-list.pdf")).content)
    assert "用血减免" in paper
    assert {UNIT, 300_00, 20_00} <= set(amounts(paper))
