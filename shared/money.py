"""Money in integer fen (分, 0.01 yuan) from end to end (R17, R50). No float, no Decimal division."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import Field

FEN_MAX = 10_000_000_000_000

Fen = Annotated[int, Field(strict=True, ge=-FEN_MAX, le=FEN_MAX)]
PositiveFen = Annotated[int, Field(strict=True, gt=0, le=FEN_MAX)]


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
