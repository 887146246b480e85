"""The rules of a bill, without a database and without anybody outside."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing import bills
from services.billing.bills import Bill, BillMoved, QuoteDead
from services.billing.ports import Declined, Done, PayerSettlement, Split, Unknown

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def a_bill(**more) -> Bill:
    facts = {
        "id": uuid4(),
        "account_id": uuid4(),
        "number": 1,
        "state": "quoted",
        "insured": True,
        "bill_version": 7,
        "lines": 2,
        "lines_hash": b"h" * 16,
        "charged_fen": 100,
        "fund_fen": 60,
        "account_fen": 10,
        "patient_fen": 30,
        "expires_at": NOW + timedelta(minutes=30),
    }
    return Bill(**{**facts, **more})


def moved(decided: object) -> Bill:
    """Return what was decided, which must be a bill in its next state."""
    assert isinstance(decided, Bill)
    return decided


SPLIT = Split(100, 60, 10, 30)
MADE = PayerSettlement("S1", SPLIT)


def test_the_database_knows_the_same_moves():
    text = Path("services/billing/migrations/0005_bills.sql").read_text(encoding="utf-8")
    rows = text[text.index("INSERT INTO bill_move") : text.index("COMMENT ON TABLE bill_move")]
    in_database = set(re.findall(r"\('(\w+)', '(\w+)'\)", rows))
    assert in_database == {(before, after) for before, afters in bills.MOVES.items() for after in afters}


def test_a_yes_holds_for_exactly_the_quote_that_was_shown():
    bill = a_bill()
    assert moved(bills.confirm(bill, version=7, shown_hash=b"h" * 16, now=NOW)).state == "locking"
    assert bills.confirm(bill, version=8, shown_hash=b"h" * 16, now=NOW) == QuoteDead("line_changed")
    assert bills.confirm(bill, version=7, shown_hash=b"x" * 16, now=NOW) == QuoteDead("other_quote")
    assert bills.confirm(bill, version=7, shown_hash=b"h" * 16, now=NOW + timedelta(hours=1)) == QuoteDead("expired")
    assert bills.confirm(replace(bill, state="settled"), version=7, shown_hash=b"h" * 16, now=NOW) == BillMoved(
        "settled"
    )


def test_without_a_fund_a_yes_goes_straight_to_the_payment():
    bill = a_bill(insured=False, fund_fen=0, account_fen=0, patient_fen=100)
    assert moved(bills.confirm(bill, version=7, shown_hash=b"h" * 16, now=NOW)).state == "collecting"


def test_what_the_fund_settled_as_shown_is_collected():
    collecting = bills.payer_answered(a_bill(state="payer_pending", sends=1), Done(MADE))
    assert (collecting.state, collecting.setl_id) == ("collecting", "S1")


def test_a_fund_that_settles_another_split_than_the_family_saw_must_take_it_back():
    other = PayerSettlement("S1", Split(100, 50, 10, 40))
    bill = bills.payer_answered(a_bill(state="payer_pending", sends=1), Done(other))
    assert (bill.state, bill.reason, bill.setl_id) == ("payer_reversing", "payer_split_changed", "S1")


@pytest.mark.parametrize("answer", [Unknown("timeout"), Declined("9999")])
def test_neither_silence_nor_a_refusal_is_believed_before_it_was_asked_about(answer):
    assert bills.payer_answered(a_bill(state="payer_pending", sends=1), answer).state == "payer_unknown"


def test_unknown_is_sent_again_only_after_the_fund_said_that_it_knows_nothing_of_it():
    unknown = a_bill(state="payer_unknown", sends=1, reason="timeout")
    assert bills.payer_found(unknown, Unknown("timeout")) == unknown
    assert bills.payer_found(unknown, Declined("x")) == unknown
    again = bills.payer_found(unknown, Done(None))
    assert again.state == "locking"
    assert bills.send(again).msgid("2304") == unknown.msgid("2304"), "always under one id"
    assert bills.payer_found(unknown, Done(MADE)).state == "collecting"


def test_a_fund_that_never_does_it_is_made_to_forget_it():
    tired = a_bill(state="payer_unknown", sends=bills.SENDS_MAX, reason="timeout")
    assert bills.is_forgettable(tired, Done(None))
    assert bills.payer_found(tired, Done(None)).state == "payer_unknown", "not sent once more"
    refused = a_bill(state="payer_unknown", sends=1, reason="payer_declined:9999")
    assert bills.is_forgettable(refused, Done(None))
    assert not bills.is_forgettable(refused, Done(MADE))
    assert not bills.is_forgettable(refused, Unknown("timeout"))


def test_nobody_gives_a_bill_up_while_it_is_unknown_what_the_fund_did():
    for state in ("locking", "payer_pending", "payer_unknown", "settled", "reopening", "payer_reversing"):
        assert bills.cancel(a_bill(state=state)) == BillMoved(state)
    assert moved(bills.cancel(a_bill(state="quoted"))).state == "cancelled"
    assert moved(bills.cancel(a_bill(state="collecting"))).state == "payer_reversing", (
        "the fund takes its part back first"
    )
    assert moved(bills.cancel(a_bill(state="collecting", insured=False))).state == "cancelled"


def test_a_move_that_does_not_exist_is_a_bug():
    with pytest.raises(ArithmeticError):
        bills.move(a_bill(state="settled"), "collecting")


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13))
def test_something_is_due_or_goes_back_never_both_and_never_what_the_blood_centre_pays(
    patient_fen, paid_fen, waived_fen
):
    bill = a_bill(fund_fen=0, account_fen=0, charged_fen=patient_fen, patient_fen=patient_fen)
    held_fen, used_fen = paid_fen + waived_fen, min(waived_fen, patient_fen)
    due, back = bills.due_fen(bill, held_fen), bills.refund_fen(bill, held_fen, waived_fen)
    assert due + paid_fen + used_fen == patient_fen + back
    assert min(due, back) == 0
    assert back <= paid_fen


@given(st.lists(st.tuples(st.uuids(), st.integers(1, 10**13)), unique_by=lambda line: line[0], min_size=1))
def test_the_fingerprint_of_lines_changes_with_every_fen_and_not_with_their_order(lines):
    fingerprint = bills.hash_of_lines(lines)
    assert bills.hash_of_lines(reversed(lines)) == fingerprint
    (entry_id, fen), *rest = lines
    assert bills.hash_of_lines([(entry_id, fen + 1), *rest]) != fingerprint
    assert bills.hash_of_lines(rest) != fingerprint


def test_parts_that_are_not_the_whole_do_not_exist():
    with pytest.raises(ArithmeticError):
        Split(100, 60, 10, 31)
    with pytest.raises(ArithmeticError):
        Split(100, 110, 0, -10)
