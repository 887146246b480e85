"""The rules of money, without a database."""

import os
import random
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given, note, seed, settings
from hypothesis import strategies as st

from services.billing import domain
from services.billing.domain import (
    Account,
    AlreadyReversed,
    BloodWaived,
    ChargeSettled,
    Deposit,
    Entry,
    LedgerAccount,
    MoreThanBlood,
    NoSuchEntry,
    NotOpen,
    NotSettled,
    Posting,
    QuoteOutdated,
    Reversal,
    Settlement,
    TooMuch,
)
from tests.unit.billing.paper_ledger import PaperAccount, amounts, steps

SEED = int(os.environ.get("WARDSTREAM_TEST_SEED") or random.randrange(2**32))


def an_account(**more) -> Account:
    facts = {
        "id": uuid4(),
        "encounter_id": uuid4(),
        "patient_tok": uuid4(),
        "state": "open",
        "day_case": False,
        "settlements": 0,
        "receivable_fen": 0,
        "deposits_fen": 0,
        "ward": None,
    }
    return Account(**{**facts, **more})


def a_deposit(fen: int, money: LedgerAccount = LedgerAccount.CASH) -> Deposit:
    return Deposit(uuid4(), fen, money)


def moves(settlement: Settlement) -> list[tuple[str, str, str, int]]:
    return [(p.kind, p.debit.name, p.credit.name, p.fen) for p in settlement.postings]


@pytest.mark.parametrize(
    ("charged", "deposits", "collected", "refunded"),
    [
        (0, [], 0, 0),
        (12_345, [], 12_345, 0),
        (12_345, [12_345], 0, 0),
        (12_345, [10_000], 2_345, 0),
        (12_345, [20_000], 0, 7_655),
        (0, [20_000], 0, 20_000),
        (1, [1, 1], 0, 1),
        (10_000_000_000_000, [9_999_999_999_999], 1, 0),
    ],
)
def test_a_settlement_collects_what_is_missing_or_gives_back_what_is_left(charged, deposits, collected, refunded):
    account = an_account(receivable_fen=charged, deposits_fen=sum(deposits))
    settled = domain.settle(account, [a_deposit(fen) for fen in deposits], quoted_fen=charged, method="cash")
    assert isinstance(settled, Settlement)
    assert (settled.collected_fen, settled.refunded_fen) == (collected, refunded)
    assert domain.difference(charged, sum(deposits)) == (collected, refunded)
    assert (settled.number, settled.charged_fen, settled.deposits_fen) == (1, charged, sum(deposits))


def test_what_is_left_of_a_deposit_goes_back_to_where_it_came_from():
    first, second = a_deposit(500, LedgerAccount.WECHAT), a_deposit(700, LedgerAccount.BANK_CARD)
    account = an_account(receivable_fen=600, deposits_fen=1200)
    settled = domain.settle(account, [first, second], quoted_fen=600, method="cash")
    assert isinstance(settled, Settlement)
    assert moves(settled) == [
        ("deposit_applied", "DEPOSITS", "RECEIVABLE", 500),
        ("deposit_applied", "DEPOSITS", "RECEIVABLE", 100),
        ("rest_refunded", "DEPOSITS", "BANK_CARD", 600),
    ]
    assert [p.deposit_id for p in settled.postings] == [first.entry_id, second.entry_id, second.entry_id]


def test_the_payers_share_comes_off_before_the_deposits():
    account = an_account(receivable_fen=1000, deposits_fen=300)
    settled = domain.settle(account, [a_deposit(300)], quoted_fen=1000, method="alipay", payer_fen=900)
    assert isinstance(settled, Settlement)
    assert moves(settled) == [
        ("payer_share", "PAYER_RECEIVABLE", "RECEIVABLE", 900),
        ("deposit_applied", "DEPOSITS", "RECEIVABLE", 100),
        ("rest_refunded", "DEPOSITS", "CASH", 200),
    ]


@given(amounts, st.lists(amounts, max_size=3), amounts, st.integers(0, 100), st.sampled_from(["cash", None]))
def test_the_blood_centre_pays_what_the_patient_would_and_only_what_was_paid_goes_back(
    charged, paid, waived, payer_percent, method
):
    deposits = [a_deposit(fen) for fen in paid] + [a_deposit(waived, LedgerAccount.BLOOD_CENTRE)]
    payer_fen = charged * payer_percent // 100
    done = domain.settle(
        an_account(receivable_fen=charged), deposits, quoted_fen=charged, method=method, payer_fen=payer_fen
    )
    assert isinstance(done, Settlement)
    owed_fen = charged - payer_fen
    released = sum(p.fen for p in done.postings if p.kind == "waiver_released")
    assert waived - released == min(waived, owed_fen)
    missing_fen, back_fen = domain.difference(owed_fen, sum(paid) + waived, domain.waived_fen(deposits))
    assert (done.collected_fen + done.written_off_fen, done.refunded_fen) == (missing_fen, back_fen)
    assert all(p.credit is LedgerAccount.BLOOD_CENTRE for p in done.postings if p.kind == "waiver_released")
    assert all(p.credit is LedgerAccount.CASH for p in done.postings if p.kind == "rest_refunded")


@pytest.mark.parametrize(
    ("state", "interim_in_work", "left", "outcome"),
    [
        ("open", False, 100, Posting),
        ("open", False, 99, MoreThanBlood),
        ("open", True, 100, NotOpen),
        ("billing", False, 100, NotOpen),
        ("closed", False, 100, NotOpen),
        ("voided", False, 100, NotOpen),
    ],
)
def test_only_blood_of_a_stay_that_nobody_settles_is_waived(state, interim_in_work, left, outcome):
    account = an_account(state=state, interim_in_work=interim_in_work)
    assert isinstance(domain.waive_blood(account, uuid4(), amount_fen=100, blood_left_fen=left), outcome)


def test_waived_blood_is_not_corrected():
    charge = Entry(uuid4(), "charge", 100, reversed=False, waived=True)
    assert domain.reverse_charge(an_account(receivable_fen=100), charge) == BloodWaived()


def test_a_payer_never_pays_more_than_was_charged():
    with pytest.raises(ValueError, match="no more than was charged"):
        domain.settle(an_account(receivable_fen=10), [], quoted_fen=10, method="cash", payer_fen=11)


def test_a_settlement_that_loses_a_fen_cannot_exist():
    settled = domain.settle(an_account(receivable_fen=100), [], quoted_fen=100, method="cash")
    assert isinstance(settled, Settlement)
    with pytest.raises(ArithmeticError):
        replace(settled, collected_fen=99)
    with pytest.raises(ArithmeticError):
        replace(settled, collected_fen=101, refunded_fen=1)


def test_another_sum_than_the_payer_saw_is_not_settled():
    account = an_account(receivable_fen=100)
    assert domain.settle(account, [], quoted_fen=99, method="cash") == QuoteOutdated(100)


@pytest.mark.parametrize("state", ["closed", "voided"])
def test_only_an_open_account_takes_charges_deposits_and_settlements(state):
    account = an_account(state=state)
    assert not domain.takes_charges(state)
    assert domain.deposit(account, uuid4(), amount_fen=1, money=LedgerAccount.CASH) == NotOpen(state)
    assert domain.settle(account, [], quoted_fen=0, method="cash") == NotOpen(state)
    assert domain.void(account, []) == NotOpen(state)
    assert domain.reverse_charge(account, Entry(uuid4(), "charge", 5, reversed=False)) == NotOpen(state)


def test_an_account_takes_no_more_than_one_entry_can_settle():
    full = an_account(deposits_fen=10_000_000_000_000)
    assert domain.deposit(full, uuid4(), amount_fen=1, money=LedgerAccount.CASH) == TooMuch()
    assert domain.fits(9_999_999_999_999, 1)
    assert not domain.fits(10_000_000_000_000, 1)


def test_v8_nothing_is_reversed_twice():
    account = an_account(receivable_fen=5, deposits_fen=5)
    assert domain.reverse_charge(account, Entry(uuid4(), "charge", 5, reversed=True)) == AlreadyReversed()
    assert (
        domain.refund_deposit(account, Entry(uuid4(), "deposit", 5, reversed=True, money=LedgerAccount.CASH))
        == AlreadyReversed()
    )


def test_a_charge_is_reversed_and_a_deposit_refunded_not_the_other_way_round():
    account = an_account(receivable_fen=5, deposits_fen=5)
    charge, deposit = (
        Entry(uuid4(), "charge", 5, reversed=False),
        Entry(uuid4(), "deposit", 5, reversed=False, money=LedgerAccount.CASH),
    )
    assert isinstance(domain.reverse_charge(account, charge), Reversal)
    assert isinstance(domain.refund_deposit(account, deposit), Reversal)
    assert domain.reverse_charge(account, deposit) == NoSuchEntry()
    assert domain.refund_deposit(account, charge) == NoSuchEntry()
    assert domain.reverse_charge(account, None) == NoSuchEntry()
    assert domain.refund_deposit(account, None) == NoSuchEntry()


def test_a_deposit_is_refundable_while_open_or_void_and_used_up_once_settled():
    deposit = Entry(uuid4(), "deposit", 5, reversed=False, money=LedgerAccount.CASH)
    assert isinstance(domain.refund_deposit(an_account(state="voided"), deposit), Reversal)
    assert domain.refund_deposit(an_account(state="closed"), deposit) == NotOpen("closed")


def test_v12_only_a_settlement_in_force_is_reopened():
    assert domain.reopen(an_account(), []) == NotSettled()
    assert domain.reopen(an_account(state="voided"), []) == NotSettled()


def test_ids_of_settlements_and_reversals_can_be_made_once_only():
    account_id, original = uuid4(), uuid4()
    assert domain.settlement_id_of(account_id, 1) == domain.settlement_id_of(account_id, 1)
    assert domain.settlement_id_of(account_id, 1) != domain.settlement_id_of(account_id, 2)
    assert domain.reversal_id_of(original) == domain.reversal_id_of(original)


def test_v14_a_balance_that_differs_from_its_live_charges_is_never_shown():
    domain.check_bill(5, 5)
    with pytest.raises(ArithmeticError):
        domain.check_bill(5, 4)


@seed(SEED)
@settings(max_examples=300, deadline=None, database=None, print_blob=True)
@given(sequence=steps)
def test_any_sequence_of_steps_conserves_every_fen(sequence):
    note(f"WARDSTREAM_TEST_SEED={SEED}")
    paper = PaperAccount()
    for step in sequence:
        before = paper.account()
        decision = paper.do(step)
        paper.check()
        if isinstance(decision, NotOpen | QuoteOutdated | NoSuchEntry | AlreadyReversed | NotSettled | TooMuch):
            assert paper.account() == before, "a refusal changes nothing"


@seed(SEED)
@settings(max_examples=200, deadline=None, database=None, print_blob=True)
@given(charges=st.lists(amounts, max_size=8), deposits=st.lists(amounts, max_size=5), share=st.integers(0, 100))
def test_a_reopened_settlement_leaves_the_account_as_it_was_before(charges, deposits, share):
    note(f"WARDSTREAM_TEST_SEED={SEED}")
    paper = PaperAccount()
    for fen in charges:
        paper.do(("charge", fen))
    for fen in deposits:
        paper.do(("deposit", fen, "wechat"))
    before = paper.account()
    balances = {each: paper.balance(each) for each in LedgerAccount}
    settled = paper.do(("settle", 0, "cash"), payer_fen=before.receivable_fen * share // 100)
    assert isinstance(settled, Settlement)
    paper.check()
    restored, gone = paper.do(("reopen",))
    assert gone == ()
    assert domain.restored_by(restored) == (before.receivable_fen, before.deposits_fen)
    paper.check()
    assert paper.account() == replace(before, settlements=1)
    assert {each: paper.balance(each) for each in LedgerAccount} == balances


# ---- a stay that goes on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charged", "payer", "deposits", "applied"),
    [
        (10_000, 0, [10_000], [10_000]),
        (10_000, 0, [4_000, 50_000], [4_000, 6_000]),
        (10_000, 7_500, [4_000], [2_500]),
        (10_000, 10_000, [4_000], []),
        (1, 0, [1, 1], [1]),
    ],
)
def test_an_interim_settlement_uses_of_the_deposits_what_it_needs_and_nothing_goes_back(
    charged, payer, deposits, applied
):
    account = an_account(receivable_fen=charged + 33, deposits_fen=sum(deposits), interim_in_work=True)
    held = [a_deposit(fen) for fen in deposits]
    settled = domain.settle_interim(account, held, charged_fen=charged, payer_fen=payer)
    assert (settled.kind, settled.charged_fen, settled.payer_fen) == ("interim", charged, payer)
    assert [fen for kind, _, _, fen in moves(settled) if kind == "deposit_applied"] == applied
    assert (settled.deposits_fen, settled.refunded_fen, settled.collected_fen) == (sum(applied), 0, 0)
    assert all(posting.credit is LedgerAccount.RECEIVABLE for posting in settled.postings)


@pytest.mark.parametrize(("charged", "held"), [(0, 100), (200, 500), (100, 99)])
def test_an_interim_settlement_of_nothing_of_more_than_is_owed_or_not_covered_is_a_bug(charged, held):
    account = an_account(receivable_fen=100, deposits_fen=held, interim_in_work=True)
    with pytest.raises(ArithmeticError):
        domain.settle_interim(account, [a_deposit(held)], charged_fen=charged)


def test_while_an_interim_bill_is_paid_charges_go_on_and_deposits_are_counted_on():
    account = an_account(receivable_fen=500, deposits_fen=300, interim_in_work=True)
    assert domain.takes_charges(account.state)
    held = Entry(uuid4(), "deposit", 300, reversed=False, money=LedgerAccount.CASH)
    assert domain.refund_deposit(account, held) == NotOpen("billing")
    assert domain.deposit(account, uuid4(), amount_fen=1, money=LedgerAccount.CASH) == NotOpen("billing")
    for_bill = domain.deposit(account, uuid4(), amount_fen=1, money=LedgerAccount.CASH, for_bill=True)
    assert isinstance(for_bill, domain.Posting)
    assert domain.settle(account, [], quoted_fen=500, method="cash") == NotOpen("billing")
    assert domain.void(account, []) == NotOpen("billing")


def test_a_charge_an_interim_bill_settled_is_corrected_only_after_that_was_taken_back():
    charge = Entry(uuid4(), "charge", 500, reversed=False)
    assert domain.reverse_charge(an_account(), replace(charge, settled=True)) == ChargeSettled()
    assert isinstance(domain.reverse_charge(an_account(), charge), Reversal)


@pytest.mark.parametrize(("applied", "gone", "left"), [(100, 0, 200), (100, 50, 150), (300, 0, None), (200, 100, None)])
def test_of_a_deposit_only_what_no_interim_settlement_used_goes_back(applied, gone, left):
    deposit = Entry(
        uuid4(),
        "deposit",
        300,
        reversed=False,
        money=LedgerAccount.CASH,
        part_refunded_fen=gone,
        applied_fen=applied,
    )
    decided = domain.refund_deposit(an_account(deposits_fen=300 - applied - gone), deposit)
    if left is None:
        assert decided == AlreadyReversed()
    else:
        assert isinstance(decided, domain.Posting)
        assert (decided.kind, decided.fen) == ("part_refunded", left)
