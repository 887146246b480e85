"""Money in integer fen (分, 0.01 yuan) from end to end (R17, R50). No float, no Decimal division."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import Field

FEN_MAX = 10_000_000_000_000

Fen = Annotated[int, Field(strict=True, ge=-FEN_MAX, le=FEN_MAX)]
PositiveFen = Annotated[int, Field(strict=True, gt=0, le=FEN_MAX)]

_CAPITALS = "零壹贰叁肆伍陆柒捌玖"


class NotAnAmount(ValueError):
    """The text is no amount that fen can hold exactly."""


def fen_from_decimal_text(text: str) -> int:
    """Return the exact fen of a decimal amount such as `1234.56`.

    Raises:
        NotAnAmount: not a finite decimal, finer than a fen, or beyond the ledger's limit.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise NotAnAmount("This is not a decimal amount.") from None
    if not value.is_finite() or value.adjusted() > 20:
        raise NotAnAmount("This is not a finite amount.")
    fen = value.scaleb(2)
    if fen != fen.to_integral_value():
        raise NotAnAmount("This amount is finer than one fen.")
    if abs(fen) > FEN_MAX:
        raise NotAnAmount("This amount is beyond what the ledger holds.")
    return int(fen)


def yuan_text(fen: int) -> str:
    """Return `¥1,234.56` for 123456 fen; never rounds."""
    sign = "-" if fen < 0 else ""
    yuan, rest = divmod(abs(fen), 100)
    return f"{sign}¥{yuan:,}.{rest:02d}"


def capitals_zh(fen: int) -> str:
    """Return the amount in the capitals a Chinese bill must carry (大写): 壹佰零伍元贰角整 for 10520 fen.

    One 零 stands for each gap between digits; 整 closes an amount without fen (支付结算办法, annex 1).

    Raises:
        NotAnAmount: beyond what the ledger holds.
    """
    if abs(fen) > FEN_MAX:
        raise NotAnAmount("This amount is beyond what the ledger holds.")
    yuan, rest = divmod(abs(fen), 100)
    text = ""
    gap = False
    for power, unit in ((100_000_000, "亿"), (10_000, "万"), (1, "元")):
        four_digits = yuan // power % 10_000
        if four_digits:
            text += "零" * bool(text and (gap or four_digits < 1000)) + _four_capitals(four_digits) + unit
        elif text and unit == "元":
            text += unit
        gap = not four_digits
    jiao, fen_left = divmod(rest, 10)
    if jiao:
        text += f"{_CAPITALS[jiao]}角"
    elif fen_left and text:
        text += "零"
    text = text or "零元" * (rest == 0)
    text += f"{_CAPITALS[fen_left]}分" if fen_left else "整"
    return ("负" if fen < 0 else "") + text


def _four_capitals(number: int) -> str:
    text = ""
    for power, unit in ((1000, "仟"), (100, "佰"), (10, "拾"), (1, "")):
        digit = number // power % 10
        if digit:
            text += "零" * bool(text and number // (power * 10) % 10 == 0) + _CAPITALS[digit] + unit
    return text


def split_by_weight(total_fen: int, weights: Sequence[int]) -> list[int]:
    """Split an amount in proportion to `weights` by largest remainder, so that the parts always sum to the whole (R50)."""
    whole = sum(weights)
    if whole <= 0 or any(weight < 0 for weight in weights):
        raise ValueError("Weights are not negative and at least one is positive.")
    sign = -1 if total_fen < 0 else 1
    parts = [abs(total_fen) * weight // whole for weight in weights]
    remainders = [abs(total_fen) * weight % whole for weight in weights]
    missing = abs(total_fen) - sum(parts)
    for index in sorted(range(len(weights)), key=lambda i: (-remainders[i], i))[:missing]:
        parts[index] += 1
    return [sign * part for part in parts]
