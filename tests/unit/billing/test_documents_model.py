"""A wrong bill is never printed, because it cannot exist."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.documents.model import (
    ITEM_CLASSES,
    ChargeLine,
    ClassSum,
    DoesNotAddUp,
    MethodSum,
    class_sums,
    total_fen,
)
from services.billing.ports import Receipt, Split
from tests.unit.billing.papers import (
    ADMITTED,
    PRINTED,
    STAY,
    URL,
    a_deposit,
    a_line,
    a_pack,
    a_receipt,
    a_settlement,
    a_slip,
    an_itemised_list,
    some_lines,
)

CHARGED = total_fen(some_lines())


def test_a_list_whose_lines_miss_one_fen_of_its_total_cannot_exist():
    for wrong in (CHARGED - 1, CHARGED + 1, 0):
        with pytest.raises(DoesNotAddUp, match="lines"):
            an_itemised_list(charged_fen=wrong)


def test_a_list_does_not_end_before_it_begins():
    with pytest.raises(ValueError, match="begins"):
        an_itemised_list([], first_on=date(2026, 3, 7))


def test_a_list_of_one_day_has_no_line_of_another():
    day = date(2026, 3, 2)
    last_minute = datetime(2026, 3, 2, 15, 59, tzinfo=UTC)  # 23:59 in Shanghai
    assert an_itemised_list([a_line(at=last_minute)], first_on=day, last_on=day).lines
    with pytest.raises(DoesNotAddUp, match="day"):
        an_itemised_list([a_line(at=last_minute + timedelta(minutes=1))], first_on=day, last_on=day)


@pytest.mark.parametrize(
    ("quantity", "price_fen", "amount_fen", "right"),
    [
        ("3", 250, 750, True),
        ("3", 250, 751, False),
        ("2.5", 401, 1_002, True),  # 1002.5 fen: rounded down or up is a hospital's choice, another fen is a mistake
        ("2.5", 401, 1_003, True),
        ("2.5", 401, 1_004, False),
        ("-1", 250, -250, True),
        ("-1", 250, 250, False),
        ("NaN", 250, 250, False),
        ("Infinity", 250, 250, False),
        ("1", -250, -250, False),
    ],
)
def test_a_line_is_its_quantity_times_its_price(quantity, price_fen, amount_fen, right):
    facts = {"quantity": Decimal(quantity), "unit_price_fen": price_fen, "amount_fen": amount_fen}
    if right:
        assert a_line(**facts).amount_fen == amount_fen
    else:
        with pytest.raises(DoesNotAddUp):
            a_line(**facts)


@given(
    st.lists(
        st.builds(
            lambda item_class, quantity, price: a_line(
                item_class=item_class, quantity=Decimal(quantity), unit_price_fen=price
            ),
            st.sampled_from(ITEM_CLASSES),
            st.integers(-5, 50),
            st.integers(0, 10**7),
        )
    )
)
def test_the_sums_of_classes_are_the_sum_of_the_lines(lines: list[ChargeLine]):
    sums = class_sums(lines)
    assert total_fen(sums) == sum(line.amount_fen for line in lines)
    assert [one.item_class for one in sums] == [one for one in ITEM_CLASSES if one in {x.item_class for x in lines}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"collected": ()},
        {"collected": (MethodSum("cash", CHARGED - 19_999),)},
        {"refunded": (MethodSum("wechat", 1),)},
        {"deposits": (a_deposit(20_001),)},
        {"class_sums": (ClassSum("bed", CHARGED - 1),)},
        {"class_sums": (ClassSum("bed", CHARGED - 1), ClassSum("bed", 1))},
        {"split": Split(CHARGED, 1, 0, CHARGED - 1)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_settlement_that_does_not_conserve_money_cannot_exist(wrong):
    right = a_settlement([a_deposit(20_000)])
    assert total_fen(right.collected) == CHARGED - 20_000
    with pytest.raises(DoesNotAddUp):
        replace(right, **wrong)


def test_a_settlement_never_collects_and_gives_back_at_once():
    right = a_settlement([a_deposit(20_000)])
    more = (MethodSum("alipay", total_fen(right.collected) + 5),)
    with pytest.raises(DoesNotAddUp):
        replace(right, collected=more, refunded=(MethodSum("wechat", 5),))


def test_money_goes_back_only_the_way_it_came():
    right = a_settlement([a_deposit(CHARGED, "cash"), a_deposit(700, "wechat")])
    assert right.refunded == (MethodSum("wechat", 700),)
    with pytest.raises(DoesNotAddUp, match="way"):
        replace(right, refunded=(MethodSum("alipay", 700),))
    with pytest.raises(DoesNotAddUp, match="way"):
        a_settlement([a_deposit(CHARGED, "cash"), a_deposit(700)], refunded=(MethodSum("wechat", 701),), fund_fen=1)


def test_a_payment_of_nothing_is_not_printed():
    for fen in (0, -1):
        with pytest.raises(DoesNotAddUp):
            MethodSum("cash", fen)
        with pytest.raises(DoesNotAddUp):
            a_deposit(fen)


def test_a_slip_never_says_that_less_is_held_than_was_just_paid():
    with pytest.raises(DoesNotAddUp):
        a_slip(held_fen=499_999)


def test_a_red_receipt_names_the_one_it_voids_and_only_a_red_one():
    red = Receipt("0000123457", "d4e5f6", URL, red=True)
    assert a_receipt(receipt=red, voids="0000123456").voids == "0000123456"
    with pytest.raises(ValueError, match="voids"):
        a_receipt(receipt=red)
    with pytest.raises(ValueError, match="voids"):
        a_receipt(voids="0000123456")


def test_a_pack_tells_one_story():
    pack = a_pack()
    other_stay = replace(STAY, bed="6A-13")
    with pytest.raises(ValueError, match="one stay"):
        replace(pack, items=replace(pack.items, stay=other_stay))
    with pytest.raises(DoesNotAddUp, match="itemised"):
        replace(pack, items=an_itemised_list([*some_lines(), a_line()]))
    with pytest.raises(DoesNotAddUp, match="receipt"):
        replace(pack, receipt=a_receipt(a_settlement()))
    red = Receipt("0000123457", "d4e5f6", URL, red=True)
    voiding = a_receipt(pack.settlement, receipt=red, voids="0000123456")
    with pytest.raises(ValueError, match="voided"):
        replace(pack, receipt=voiding)


def test_paper_shows_the_end_of_an_admission_number_and_times_with_a_zone():
    with pytest.raises(ValueError, match="four"):
        replace(STAY, admission_no_last4="20264271")
    with pytest.raises(ValueError, match="zone"):
        replace(STAY, admitted_at=ADMITTED.replace(tzinfo=None))
    with pytest.raises(ValueError, match="zone"):
        an_itemised_list(printed_at=PRINTED.replace(tzinfo=None))
