"""Amounts in the capitals of Chinese bills (大写), read back by a parser that shares nothing with the writer."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import FEN_MAX, NotAnAmount, capitals_zh

DIGIT = {capital: value for value, capital in enumerate("零壹贰叁肆伍陆柒捌玖")}
WEIGHT = {"拾": 10, "佰": 100, "仟": 1000}
AMOUNT = re.compile(r"(负)?(?:(.+)元)?(?:零?(.)角)?(?:零?(.)分)?(整)?")


def whole_number(text: str) -> int:
    """Read a Chinese number from the left: digits wait for their weight, 万 and 亿 multiply all since the last of them."""
    total = below = digit = 0
    for character in text:
        if character in DIGIT:
            digit = DIGIT[character]
        elif character in WEIGHT:
            below, digit = below + digit * WEIGHT[character], 0
        else:
            total, below, digit = total + (below + digit) * {"万": 10_000, "亿": 100_000_000}[character], 0, 0
    return total + below + digit


def read(text: str) -> int:
    parts = AMOUNT.fullmatch(text)
    assert parts is not None, text
    sign, yuan, jiao, fen, _ = parts.groups()
    value = whole_number(yuan or "") * 100 + DIGIT[jiao or "零"] * 10 + DIGIT[fen or "零"]
    return -value if sign else value


amounts = st.one_of(
    st.integers(-FEN_MAX, FEN_MAX),
    st.integers(0, 100_000),
    st.text("0123", min_size=1, max_size=13).map(int),  # many zeros in odd places
)


@given(amounts)
def test_capitals_say_exactly_the_amount(fen):
    assert read(capitals_zh(fen)) == fen


@given(amounts)
def test_capitals_are_written_as_the_payment_rules_want_them(fen):
    text = capitals_zh(fen)
    assert "零零" not in text
    assert text.endswith("分") != text.endswith("整")
    assert not re.search(r"零[拾佰仟万亿角分整]", text)
    assert text == "零元整" or "零元" not in text
    assert not re.search(r"亿万|[一二三四五六七八九十百千0-9]", text)
    if fen % 100 and fen % 100 < 10 and abs(fen) >= 100 and fen > 0:
        assert "元零" in text, "Between yuan and fen without jiao a zero stands."


@pytest.mark.parametrize(
    ("fen", "text"),
    [
        (0, "零元整"),
        (1, "壹分"),
        (50, "伍角整"),
        (100, "壹元整"),
        (105, "壹元零伍分"),
        (1_000, "壹拾元整"),
        (10_520, "壹佰零伍元贰角整"),
        (168_032, "壹仟陆佰捌拾元叁角贰分"),
        (10_700_053, "壹拾万柒仟元伍角叁分"),
        (100_050_001, "壹佰万零伍佰元零壹分"),
        (100_000_500_000, "壹拾亿零伍仟元整"),
        (100_020_003_000, "壹拾亿零贰拾万零叁拾元整"),
        (FEN_MAX, "壹仟亿元整"),
        (-2_550, "负贰拾伍元伍角整"),
    ],
)
def test_capitals_of_amounts_a_cashier_would_try(fen, text):
    assert capitals_zh(fen) == text


@pytest.mark.parametrize("fen", [FEN_MAX + 1, -FEN_MAX - 1])
def test_an_amount_beyond_the_ledger_has_no_capitals(fen):
    with pytest.raises(NotAnAmount):
        capitals_zh(fen)
