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
        answer = await self._caller.ask("issue", "POST", "/api/receipts", asked)
        told = self._told("issue", answer, number)
        if isinstance(told, _Receipt) and (told.amount, told.red_of) != (amount_fen, None):
            return self._caller.unreadable("issue")
        return _outcome(told)

    async def red_flush(self, number: str, of_number: str, reason: str) -> Outcome[Receipt]:
        """Void a receipt by a red one (冲红)."""
        asked = {"number": number, "reason": reason}
        answer = await self._caller.ask(
            "red_flush", "POST", f"/api/receipts/{quote(of_number, safe='')}/red-flush", asked
        )
        told = self._told("red_flush", answer, number)
        if isinstance(told, _Receipt) and told.red_of != of_number:
            return self._caller.unreadable("red_flush")
        return _outcome(told)

    async def query(self, number: str) -> Outcome[Receipt | None]:
        """Ask for a receipt."""
        answer = await self._caller.ask("query", "GET", f"/api/receipts/{quote(number, safe='')}")
        return Done(None) if answer == Declined(UNKNOWN) else _outcome(self._told("query", answer, number))

    def _told(self, operation: str, answer: object, number: str) -> _Receipt | Declined | Unknown:
        if isinstance(answer, Declined | Unknown):
            return answer
        told = self._caller.read(operation, _Receipt, answer)
        if isinstance(told, _Receipt) and told.number != number:
            return self._caller.unreadable(operation)
        return told


def _outcome(told: _Receipt | Declined | Unknown) -> Outcome[Receipt]:
    if not isinstance(told, _Receipt):
        return told
    return Done(Receipt(told.number, told.check_code, told.url, red=told.red_of is not None))
