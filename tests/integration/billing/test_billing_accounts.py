"""Accounts, charges, deposits and settlements on a real ledger; V numbers are the complaints of users of other systems."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from services.billing.actions import Charged, Deposited, Refunded, Reopened, Reversed, Settled
from services.billing.domain import (
    AlreadyReversed,
    NoAccount,
    NoSuchEntry,
    NotOpen,
    NotSettled,
    QuoteOutdated,
)
from shared.contracts.admission import AdmissionCancelled, PatientAdmitted
from shared.contracts.beds import BedOccupied
from shared.contracts.daysurgery import DaySurgeryArrived
from shared.contracts.envelope import Event
from shared.errors import Refused
from tests.integration.billing.conftest import Desk

pytestmark = pytest.mark.asyncio
AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def admitted(stay: UUID, patient: UUID) -> PatientAdmitted:
    return PatientAdmitted(
        encounter_id=stay,
        patient_tok=patient,
        encounter_class="inpatient",
        payer_kind="basic_insurance",
        bed_id=7,
        admitted_at=AT,
        emergency=False,
    )


def arrived(stay: UUID, patient: UUID) -> DaySurgeryArrived:
    return DaySurgeryArrived(
        case_id=uuid4(), encounter_id=stay, patient_tok=patient, payer_kind="basic_insurance", arrived_at=AT
    )


def cancelled(stay: UUID, patient: UUID) -> AdmissionCancelled:
    return AdmissionCancelled(encounter_id=stay, patient_tok=patient, reason="wrong_patient", cancelled_at=AT)


async def test_a_whole_bill_is_paid_to_the_fen(desk: Desk):
    stay = await desk.open()
    assert isinstance(await desk.deposit(stay, 500_00, "wechat"), Deposited)
    for fen in (123_45, 1, 999_99):
        assert isinstance(await desk.charge(stay, fen), Charged)
    assert await desk.account(stay) == ("open", 1123_45, 500_00)
    settled = await desk.settle(stay, 1123_45, "alipay")
    assert isinstance(settled, Settled)
    assert (settled.settlement.collected_fen, settled.settlement.refunded_fen) == (623_45, 0)
    assert await desk.account(stay) == ("closed", 0, 0)
    assert await desk.balances() == {"revenue": -1123_45, "wechat": 500_00, "alipay": 623_45}
    assert await desk.events(stay) == [
        "AccountOpened",
        "DepositReceived",
        *["ChargePosted"] * 3,
        "AccountSettled",
        "AccountClosed",
    ]
    assert (
        await desk.value(
            "SELECT count(*) FROM ledger_examined() WHERE examined = 0 AND check_id NOT IN ('V12', 'V14', 'R53', 'I6', 'I17')"
        )
        == 0
    )


async def test_what_is_left_of_a_deposit_goes_back_to_where_it_came_from(desk: Desk):
    stay = await desk.open()
    await desk.deposit(stay, 300_00, "wechat")
    await desk.deposit(stay, 400_00, "bank_card")
    await desk.charge(stay, 350_00)
    settled = await desk.settle(stay, 350_00, "cash")
    assert settled.settlement.refunded_fen == 350_00
    assert await desk.balances() == {"revenue": -350_00, "wechat": 300_00, "bank_card": 50_00}


async def test_an_account_without_a_charge_is_closed_with_nothing_paid(desk: Desk):
    stay = await desk.open()
    settled = await desk.settle(stay, 0)
    assert settled.settlement.charged_fen == settled.settlement.collected_fen == 0
    assert await desk.account(stay) == ("closed", 0, 0)
    assert isinstance(await desk.reopen(stay), Reopened)
    assert await desk.account(stay) == ("open", 0, 0)


async def test_nothing_is_posted_to_a_stay_without_an_account(desk: Desk):
    stay = uuid4()
    answers = [
        await desk.charge(stay, 1),
        await desk.deposit(stay, 1),
        await desk.reverse(stay, uuid4()),
        await desk.refund(stay, uuid4()),
        await desk.settle(stay, 0),
        await desk.reopen(stay),
    ]
    assert answers == [NoAccount()] * 6
    assert await desk.void(stay) == "kept"
    assert await desk.value("SELECT count(*) FROM entry") == 0


async def test_an_admission_opens_one_account_however_often_it_is_told(desk: Desk):
    stay, patient = uuid4(), uuid4()
    for _ in range(3):
        await desk.tell(admitted(stay, patient))
    rows = await desk.fetch("SELECT patient_tok, payer_kind, state FROM account WHERE encounter_id = $1", stay)
    assert [tuple(row) for row in rows] == [(patient, "basic_insurance", "open")]
    assert await desk.events(stay) == ["AccountOpened"]


async def test_arrival_and_conversion_in_either_order_leave_the_same_account(desk: Desk):
    seen = []
    orders: tuple[tuple[Callable[[UUID, UUID], Event], ...], ...] = ((arrived, admitted), (admitted, arrived))
    for first, second in orders:
        stay, patient = uuid4(), uuid4()
        await desk.tell(first(stay, patient))
        await desk.tell(second(stay, patient))
        rows = await desk.fetch("SELECT payer_kind, state, day_case FROM account WHERE encounter_id = $1", stay)
        seen.append([tuple(row) for row in rows])
        assert await desk.events(stay) == ["AccountOpened"]
    assert seen[0] == seen[1] == [("basic_insurance", "open", True)]


async def test_v7_a_deposit_is_carried_when_a_day_case_is_admitted_and_the_ledger_sum_is_unchanged(desk: Desk):
    stay, patient = uuid4(), uuid4()
    await desk.tell(arrived(stay, patient))
    await desk.deposit(stay, 800_00, "wechat")
    await desk.charge(stay, 120_00)
    before = (await desk.account(stay), await desk.balances(), await desk.value("SELECT count(*) FROM entry"))
    await desk.tell(admitted(stay, patient))
    assert (await desk.account(stay), await desk.balances(), await desk.value("SELECT count(*) FROM entry")) == before
    settled = await desk.settle(stay, 120_00)
    assert settled.settlement.deposits_fen == 800_00, "the deposit counts once"


async def test_v8_every_reversal_names_its_original_and_a_second_one_is_refused(desk: Desk):
    stay = await desk.open()
    charge, deposit = await desk.charge(stay, 70_00), await desk.deposit(stay, 90_00)
    assert isinstance(await desk.reverse(stay, charge.entry_id), Reversed)
    assert await desk.reverse(stay, charge.entry_id) == AlreadyReversed()
    assert isinstance(await desk.refund(stay, deposit.entry_id), Refunded)
    assert await desk.refund(stay, deposit.entry_id) == AlreadyReversed()
    assert await desk.account(stay) == ("open", 0, 0)
    named = await desk.fetch("SELECT reverses FROM entry WHERE kind = 'reversal' ORDER BY recorded_at")
    assert [row["reverses"] for row in named] == [charge.entry_id, deposit.entry_id]


async def test_v8_a_deposit_that_paid_the_bill_is_not_refunded_as_well(desk: Desk):
    stay = await desk.open()
    deposit = await desk.deposit(stay, 50_00)
    await desk.charge(stay, 50_00)
    await desk.settle(stay, 50_00)
    assert await desk.refund(stay, deposit.entry_id) == NotOpen("closed")


async def test_a_charge_of_another_stay_is_not_reversed_here(desk: Desk):
    one, other = await desk.open(), await desk.open()
    charge = await desk.charge(other, 10_00)
    assert await desk.reverse(one, charge.entry_id) == NoSuchEntry()
    assert await desk.account(other) == ("open", 10_00, 0)


async def test_v9_the_balance_law_holds_after_each_step_and_each_step_has_an_inverse(desk: Desk):
    stay = await desk.open()
    await desk.deposit(stay, 100_00, "wechat")
    await desk.charge(stay, 30_00)

    async def now() -> tuple[object, object]:
        assert await desk.violations() == []
        return await desk.account(stay), await desk.balances()

    before = await now()
    deposit = await desk.deposit(stay, 25_00, "alipay")
    assert await now() != before
    await desk.refund(stay, deposit.entry_id)
    assert await now() == before, "a refund takes a deposit back"
    await desk.deposit(stay, 25_00, "alipay")
    again = await desk.deposit(stay, 25_00, "alipay")
    await desk.refund(stay, again.entry_id)
    assert (await desk.account(stay))[2] == 125_00, (
        "a refund is taken off the deposit total, and undone by taking it again"
    )
    before = await now()
    charge = await desk.charge(stay, 5_00)
    await desk.reverse(stay, charge.entry_id)
    assert await now() == before, "a reversal takes a charge back"
    await desk.settle(stay, 30_00)
    assert await now() != before
    await desk.reopen(stay)
    assert await now() == before, "a reopening takes a settlement back"


async def test_v12_reopening_voids_every_child_by_its_own_entry_and_the_next_settlement_is_number_two(desk: Desk):
    stay = await desk.open()
    await desk.deposit(stay, 40_00, "wechat")
    await desk.deposit(stay, 40_00, "bank_card")
    await desk.charge(stay, 60_00)
    first = await desk.settle(stay, 60_00)
    reopened = await desk.reopen(stay)
    assert isinstance(reopened, Reopened)
    assert (reopened.settlement_id, reopened.charged_fen, reopened.deposits_fen) == (first.settlement.id, 60_00, 80_00)
    children = await desk.fetch(
        "SELECT e.kind, r.id IS NOT NULL AS void FROM entry e LEFT JOIN entry r ON r.reverses = e.id"
        " WHERE e.settlement_id = $1 ORDER BY e.kind",
        first.settlement.id,
    )
    assert [tuple(row) for row in children] == [
        ("deposit_applied", True),
        ("deposit_applied", True),
        ("rest_refunded", True),
    ]
    assert await desk.account(stay) == ("open", 60_00, 80_00)
    await desk.charge(stay, 30_00)
    second = await desk.settle(stay, 90_00, "cash")
    assert (second.settlement.number, second.settlement.collected_fen) == (2, 10_00)
    assert await desk.balances() == {"revenue": -90_00, "wechat": 40_00, "bank_card": 40_00, "cash": 10_00}
    assert (await desk.events(stay))[-5:] == [
        "AccountClosed",
        "SettlementReopened",
        "ChargePosted",
        "AccountSettled",
        "AccountClosed",
    ]


async def test_an_account_can_be_reopened_again_and_again_but_not_twice_at_once(desk: Desk):
    stay = await desk.open()
    await desk.charge(stay, 10_00)
    assert await desk.reopen(stay) == NotSettled()
    for number in (1, 2, 3):
        assert (await desk.settle(stay, 10_00)).settlement.number == number
        assert isinstance(await desk.reopen(stay), Reopened)
        assert await desk.reopen(stay) == NotSettled()
    assert await desk.account(stay) == ("open", 10_00, 0)


async def test_v13_a_late_charge_is_refused_until_the_settlement_is_reopened(desk: Desk):
    stay = await desk.open()
    charge = await desk.charge(stay, 10_00)
    await desk.settle(stay, 10_00)
    assert await desk.charge(stay, 1) == NotOpen("closed")
    assert await desk.deposit(stay, 1) == NotOpen("closed")
    assert await desk.reverse(stay, charge.entry_id) == NotOpen("closed")
    assert await desk.settle(stay, 10_00) == NotOpen("closed")
    await desk.reopen(stay)
    assert isinstance(await desk.charge(stay, 1), Charged)
    assert isinstance(await desk.settle(stay, 10_01), Settled)


async def test_v14_the_interim_bill_is_the_sum_of_live_lines_only(desk: Desk):
    stay = await desk.open()
    wrong = await desk.charge(stay, 77_00)
    await desk.charge(stay, 11_00)
    await desk.reverse(stay, wrong.entry_id)
    assert await desk.account(stay) == ("open", 11_00, 0)
    assert await desk.settle(stay, 88_00) == QuoteOutdated(11_00)
    assert isinstance(await desk.settle(stay, 11_00), Settled)


async def test_a_charge_after_the_quote_makes_the_quote_outdated(desk: Desk):
    stay = await desk.open()
    await desk.charge(stay, 11_00)
    await desk.charge(stay, 1)
    assert await desk.settle(stay, 11_00) == QuoteOutdated(11_01)
    assert await desk.account(stay) == ("open", 11_01, 0)
    assert "AccountSettled" not in await desk.events(stay)


async def test_a_cancelled_admission_voids_the_charges_and_the_deposit_can_be_given_back(desk: Desk):
    stay, patient = uuid4(), uuid4()
    await desk.tell(admitted(stay, patient))
    deposit = await desk.deposit(stay, 200_00)
    for fen in (5, 6, 7):
        await desk.charge(stay, fen)
    await desk.tell(cancelled(stay, patient))
    await desk.tell(cancelled(stay, patient))
    assert await desk.account(stay) == ("voided", 0, 200_00)
    assert (await desk.events(stay))[-4:] == [*["ChargeReversed"] * 3, "AccountVoided"]
    assert await desk.charge(stay, 1) == NotOpen("voided")
    assert await desk.deposit(stay, 1) == NotOpen("voided")
    assert await desk.settle(stay, 0) == NotOpen("voided")
    assert isinstance(await desk.refund(stay, deposit.entry_id), Refunded)
    assert await desk.account(stay) == ("voided", 0, 0)
    assert await desk.balances() == {}


async def test_a_cancelled_admission_whose_bill_is_paid_is_set_aside_until_the_settlement_is_reopened(desk: Desk):
    stay, patient = uuid4(), uuid4()
    await desk.tell(admitted(stay, patient))
    await desk.charge(stay, 10_00)
    await desk.settle(stay, 10_00)
    with pytest.raises(Refused) as refused:
        await desk.tell(cancelled(stay, patient))
    assert refused.value.code == "account_settled"
    assert await desk.account(stay) == ("closed", 0, 0)
    await desk.reopen(stay)
    await desk.tell(cancelled(stay, patient))
    assert await desk.account(stay) == ("voided", 0, 0)


async def test_cancelling_the_admission_after_a_day_case_does_not_undo_the_surgery(desk: Desk):
    stay, patient = uuid4(), uuid4()
    await desk.tell(arrived(stay, patient))
    await desk.charge(stay, 3000_00, "colonoscopy")
    await desk.tell(admitted(stay, patient))
    await desk.tell(cancelled(stay, patient))
    assert await desk.account(stay) == ("open", 3000_00, 0)


async def test_a_cancelled_admission_nobody_knows_changes_nothing(desk: Desk):
    await desk.tell(cancelled(uuid4(), uuid4()))
    assert await desk.value("SELECT count(*) FROM account") == 0


async def test_the_ward_is_remembered_even_when_it_is_told_before_the_admission(desk: Desk):
    stay, patient = uuid4(), uuid4()
    for ward in ("A1", "B2"):
        await desk.tell(BedOccupied(encounter_id=stay, patient_tok=patient, bed_id=7, ward=ward, occupied_at=AT))
    await desk.tell(admitted(stay, patient))
    assert (await desk.charge(stay, 1)).ward == "B2"
