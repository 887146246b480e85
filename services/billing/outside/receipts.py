"""The receipt office (财政电子票据): receipts under numbers we reserved, and red ones that void them (冲红)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from services.billing.outside.calls import Caller, DecimalFen, Form
from services.billing.outside.wire import decimal_text
from services.billing.ports import Declined, Done, FeeLine, Outcome, Receipt, Unknown

UNKNOWN = "NO_SUCH_RECEIPT"


class _Receipt(Form):
    number: str
    check_code: Annotated[str, Field(min_length=1)]
    url: Annotated[str, Field(min_length=1)]
    amount: DecimalFen
    red_of: str | None


class ReceiptOffice:
    """The receipt office as the port wants it (ports.ReceiptIssuer)."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def close(self) -> None:
        """Close every connection."""
        await self._caller.close()

    async def issue(self, number: str, amount_fen: int, lines: Sequence[FeeLine], at: datetime) -> Outcome[Receipt]:
        """Issue a receipt under a reserved number."""
        asked = {
            "number": number,
            "amount": decimal_text(amount_fen),
            "issued_at": at.astimezone(UTC).isoformat(),
            "lines": [{"item": line.item, "amount": decimal_text(line.amount_fen)} for line in lines],
        }
        told = await self._caller.ask(
            "issue",
            "POST",
            "/api/receipts",
            asked,
            _Receipt,
            lambda told: (told.number, told.amount, told.red_of) == (number, amount_fen, None),
        )
        return _outcome(told)

    async def red_flush(self, number: str, of_number: str, reason: str) -> Outcome[Receipt]:
        """Void a receipt by a red one (冲红)."""
        told = await self._caller.ask(
            "red_flush",
            "POST",
            f"{_address(of_number)}/red-flush",
            {"number": number, "reason": reason},
            _Receipt,
            lambda told: (told.number, told.red_of) == (number, of_number),
        )
        return _outcome(told)

    async def query(self, number: str) -> Outcome[Receipt | None]:
        """Ask for a receipt."""
        told = await self._caller.ask(
            "query", "GET", _address(number), None, _Receipt, lambda told: told.number == number
        )
        return Done(None) if told == Declined(UNKNOWN) else _outcome(told)


def _address(number: str) -> str:
    return f"/api/receipts/{quote(number, safe='')}"


def _outcome(told: _Receipt | Declined | Unknown) -> Outcome[Receipt]:
    if not isinstance(told, _Receipt):
        return told
    return Done(Receipt(told.number, told.check_code, told.url, red=told.red_of is not None))
