"""How the simulated fund shares a bill: to the fen, whatever the bill."""

import csv
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.home import PROJECT_ROOT
from infra.simulators.shares import InsuranceClass, Level, Rules, Shares, rules, share

PRICES = PROJECT_ROOT / "services" / "billing" / "data" / "prices.csv"

EMPLOYEE, RESIDENT = rules().classes["310"], rules().classes["390"]
LEVELS = rules().levels

fen = st.integers(0, 10_000_000_000)
lines = st.lists(st.tuples(st.sampled_from(get_args(Level)), fen), max_size=20)


@given(
    bill=lines,
    insurance=st.sampled_from([EMPLOYEE, RESIDENT]),
    balance_fen=fen,
    paid_this_year_fen=fen,
)
def test_fund_account_and_patient_always_pay_the_whole_and_nobody_pays_too_much(
    bill: list[tuple[Level, int]], insurance: InsuranceClass, balance_fen: int, paid_this_year_fen: int
):
    shares = share(insurance, LEVELS, bill, balance_fen=balance_fen, paid_this_year_fen=paid_this_year_fen)
    assert shares.fund_fen + shares.account_fen + shares.cash_fen == sum(amount for _, amount in bill)
    assert min(shares.fund_fen, shares.account_fen, shares.cash_fen) >= 0
    assert shares.account_fen <= balance_fen
    assert shares.fund_fen <= max(insurance.cap_per_year - paid_this_year_fen, 0)


@pytest.mark.parametrize(
    ("insurance", "bill", "balance_fen", "paid_fen", "expected"),
    [
        (EMPLOYEE, [("甲", 64_999)], 0, 0, (0, 0, 64_999)),
        (EMPLOYEE, [("甲", 65_000)], 0, 0, (0, 0, 65_000)),
        (EMPLOYEE, [("甲", 165_000)], 0, 0, (85_000, 0, 80_000)),
        (EMPLOYEE, [("甲", 165_000)], 10_000, 0, (85_000, 10_000, 70_000)),
        (EMPLOYEE, [("乙", 165_000)], 0, 0, (70_975, 0, 94_025)),
        (EMPLOYEE, [("丙", 165_000)], 0, 0, (0, 0, 165_000)),
        (EMPLOYEE, [("甲", 165_000)], 0, 39_950_000, (50_000, 0, 115_000)),
        (EMPLOYEE, [("甲", 165_000)], 0, 50_000_000, (0, 0, 165_000)),
        (RESIDENT, [("甲", 180_001)], 0, 0, (65_001, 0, 115_000)),
        (RESIDENT, [], 0, 0, (0, 0, 0)),
    ],
)
def test_the_rules_of_a_class_are_followed(insurance, bill, balance_fen, paid_fen, expected):
    shares = share(insurance, LEVELS, bill, balance_fen=balance_fen, paid_this_year_fen=paid_fen)
    assert (shares.fund_fen, shares.account_fen, shares.cash_fen) == expected


def test_shares_that_are_not_the_whole_cannot_be_made():
    with pytest.raises(ArithmeticError):
        Shares(100, 0, 0, 50, 0, 49)
    with pytest.raises(ArithmeticError):
        Shares(100, 0, 0, 150, 0, -50)


def test_an_item_has_the_class_of_the_longest_beginning_that_is_listed():
    assert rules().level_of("BED-STANDARD") == "甲"
    assert rules().level_of("BED-ICU") == "乙"
    assert rules().level_of("BED-VIP") == "丙"
    some = Rules(classes={}, levels=LEVELS, items={"乙": ("LAB", "LAB-A-1"), "丙": ("LAB-A",)})
    assert [some.level_of(item) for item in ("LA", "LAB-B", "LAB-A-2", "LAB-A-1")] == ["甲", "乙", "丙", "乙"]


def test_every_item_of_the_example_prices_has_the_class_its_price_says():
    """The fund's list and the hospital's are two files; where they differ every settlement would be disputed."""
    national: dict[str, Level] = {"01": "甲", "02": "乙", "03": "丙"}
    with PRICES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    for row in rows:
        assert rules().level_of(row["code"]) == national[row["insurance_class"]], row["code"]


def test_a_persons_number_begins_with_the_insurance_class():
    assert rules().class_of("310000000001") == "310"
    assert rules().class_of("390000000001") == "390"
    assert rules().class_of("000000000001") is None
