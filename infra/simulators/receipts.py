"""The receipt office (财政电子票据) as a server: receipts under numbers the hospital reserved, red ones that void them (冲红).

    POST /api/receipts    POST /api/receipts/{number}/red-flush    GET /api/receipts/{number}
    GET /sim/receipts/{number}?check_code=…    what the QR code of a receipt leads to

Operations, for faults: issue, red_flush, query.
"""

from html import escape
from secrets import randbelow
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from infra.simulators.page import plain_page
from infra.simulators.party import Letter, Party, Refused, json_text, now_text, read
from infra.simulators.settings import SimulatorSettings
from services.billing.outside.wire import decimal_text
from shared.money import fen_from_decimal_text, yuan_text

SCHEMA = """
CREATE TABLE IF NOT EXISTS receipt (
  number TEXT PRIMARY KEY, check_code TEXT NOT NULL, amount_fen INTEGER NOT NULL, lines TEXT NOT NULL,
  issued_at TEXT NOT NULL, recorded_at TEXT NOT NULL, red_of TEXT UNIQUE REFERENCES receipt, reason TEXT,
  CHECK ((red_of IS NULL) = (reason IS NULL))
) STRICT;
"""

_Number = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{6,40}$")]
_Fen = Annotated[int, BeforeValidator(fen_from_decimal_text)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Line(_Asked):
    item: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    amount: _Fen


class _NewReceipt(_Asked):
    number: _Number
    amount: Annotated[_Fen, Field(ge=0)]
    issued_at: AwareDatetime
    lines: Annotated[tuple[_Line, ...], Field(max_length=5000)]


class _RedFlush(_Asked):
    number: _Number
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Office:
    """What the receipt office believes, and its doors."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.party = Party(settings, SCHEMA, self.believes)
        app, party = self.party.app, self.party

        @app.post("/api/receipts")
        async def issue(request: Request) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "issue", lambda: self.issue(letter))

        @app.post("/api/receipts/{number}/red-flush")
        async def red_flush(request: Request, number: str) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "red_flush", lambda: self.red_flush(number, letter))

        @app.get("/api/receipts/{number}")
        async def query(request: Request, number: str) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "query", lambda: self._shown(self._receipt(number)))

        @app.get("/sim/receipts/{number}")
        async def show(number: str, check_code: str = "") -> Response:
            return self._page(number, check_code)

    def believes(self) -> dict[str, Any]:
        """Return everything the office believes."""
        receipts = self.party.rows("SELECT * FROM receipt ORDER BY rowid")
        return {
            "receipts": receipts,
            "sums": {
                "issued_fen": sum(one["amount_fen"] for one in receipts if one["red_of"] is None),
                "red_fen": sum(one["amount_fen"] for one in receipts if one["red_of"] is not None),
            },
        }

    def _receipt(self, number: str) -> dict[str, Any]:
        found = self.party.row("SELECT * FROM receipt WHERE number = ?", number)
        if found is None:
            raise Refused("NO_SUCH_RECEIPT", "There is no such receipt.", 404)
        return found

    def issue(self, letter: Letter) -> dict[str, Any]:
        """Issue a receipt; the same again is the same, another one under its number is refused."""
        asked = read(_NewReceipt, letter)
        if sum(line.amount for line in asked.lines) != asked.amount:
            raise Refused("SUM_DIFFERS", "The lines are not this sum.")
        lines = json_text(sorted([line.item, line.amount] for line in asked.lines))
        self._insert(asked.number, asked.amount, lines, asked.issued_at.isoformat(), None, None)
        known = self._receipt(asked.number)
        if (known["amount_fen"], known["lines"], known["red_of"]) != (asked.amount, lines, None):
            raise Refused("NUMBER_USED", "This number belongs to another receipt.")
        return self._shown(known)

    def red_flush(self, of_number: str, letter: Letter) -> dict[str, Any]:
        """Void a receipt by a red one, once; a red one is never voided."""
        asked = read(_RedFlush, letter)
        original = self._receipt(of_number)
        if original["red_of"] is not None:
            raise Refused("RED_ALREADY", "A red receipt is not voided.")
        red = self.party.row("SELECT * FROM receipt WHERE red_of = ?", of_number)
        if red is None:
            self._insert(asked.number, original["amount_fen"], original["lines"], now_text(), of_number, asked.reason)
            red = self._receipt(asked.number)
            if red["red_of"] != of_number:
                raise Refused("NUMBER_USED", "This number belongs to another receipt.")
        elif red["number"] != asked.number:
            raise Refused("RED_ALREADY", "This receipt is void already.")
        return self._shown(red)

    def _insert(self, number: str, fen: int, lines: str, at: str, red_of: str | None, reason: str | None) -> None:
        check_code = f"{randbelow(1_000_000):06d}"
        self.party.truth.execute(
            "INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (number, check_code, fen, lines, at, now_text(), red_of, reason),
        )

    def _shown(self, receipt: dict[str, Any]) -> dict[str, Any]:
        path = f"/sim/receipts/{receipt['number']}?check_code={receipt['check_code']}"
        return {
            "number": receipt["number"],
            "check_code": receipt["check_code"],
            "url": self.party.settings.page_url(path),
            "amount": decimal_text(receipt["amount_fen"]),
            "red_of": receipt["red_of"],
        }

    def _page(self, number: str, check_code: str) -> Response:
        found = self.party.row("SELECT * FROM receipt WHERE number = ? AND check_code = ?", number, check_code)
        if found is None:
            return plain_page("没有这张票据", "<p>请核对票据号码和校验码。</p>", 404)
        void = self.party.row("SELECT 1 FROM receipt WHERE red_of = ?", number) is not None
        title = "红字票据" if found["red_of"] is not None else "已冲红" if void else "票据有效"
        words = f"<p>票据号码 {escape(number)}</p><p class=sum>{yuan_text(found['amount_fen'])}</p>"
        return plain_page(title, words)


if __name__ == "__main__":
    Office(SimulatorSettings()).party.run()
