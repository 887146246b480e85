"""From what the ledger says of an account to a document (documents/model.py). Pure; one snapshot in, one document out.

Billing knows no names (S4): the paper says none, and of the admission number its end. Nobody may send a name to be printed: it
would be a name the ledger cannot vouch for. Items that are not in the catalogue (imported, free amounts) are class `other`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from services.billing.documents.model import (
    ITEM_CLASSES,
    ChargeLine,
    Deposit,
    DepositSlip,
    DischargePack,
    ItemisedList,
    Letterhead,
    MethodSum,
    ReceiptView,
    SettlementList,
    Stay,
    class_sums,
    total_fen,
)
from services.billing.domain import MONEY_OF, DepositMethod, LedgerAccount
from services.billing.ports import Receipt, Split
from services.billing.prices.catalogue import UNITS

NO_NAME = "—"
METHOD_OF: dict[int, DepositMethod] = {
    **{int(money): method for method, money in MONEY_OF.items()},
    int(LedgerAccount.BLOOD_CENTRE): "blood_centre",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the ledger says of an account, as of one instant; rows as papers_store reads them."""

    encounter_id: UUID
    patient_tok: UUID
    ward: str | None
    bed_id: int | None
    opened_at: datetime
    left_at: datetime | None
    settlement: dict[str, Any] | None
    charges: tuple[dict[str, Any], ...]
    deposits: tuple[dict[str, Any], ...]
    moves: tuple[dict[str, Any], ...]
    receipt: dict[str, Any] | None
    payment_group: str | None = None


# ---- why not ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoSettlementYet:
    """There is no settlement in force to print."""


@dataclass(frozen=True, slots=True)
class WrittenOff:
    """Part of the bill was written off; there is no paper that shows who paid it, because nobody did."""


@dataclass(frozen=True, slots=True)
class NoReceiptYet:
    """No electronic receipt was issued for this settlement (yet)."""


@dataclass(frozen=True, slots=True)
class NoSuchDeposit:
    """The stay has no such deposit, or it went back."""


PaperRefusal = NoSettlementYet | WrittenOff | NoReceiptYet | NoSuchDeposit


@dataclass(frozen=True, slots=True)
class Printer:
    """Makes the documents of one hospital at one instant."""

    letterhead: Letterhead
    printed_at: datetime

    def itemised(self, facts: Facts, day: date | None = None, *, settled_only: bool = False) -> ItemisedList:
        """Return every charge with its reversals, of the stay or of one day (R58); or of what the settlement settled."""
        zone = ZoneInfo(self.letterhead.zone)
        lines = _settled_lines(facts) if settled_only else _lines(facts.charges)
        if day is not None:
            lines = tuple(line for line in lines if line.at.astimezone(zone).date() == day)
        days = [line.at.astimezone(zone).date() for line in lines] or [self.printed_at.astimezone(zone).date()]
        return ItemisedList(
            letterhead=self.letterhead,
            stay=_stay(facts),
            first_on=day or min(days),
            last_on=day or max(days),
            lines=lines,
            charged_fen=total_fen(lines),
            printed_at=self.printed_at,
        )

    def settlement(self, facts: Facts) -> SettlementList | NoSettlementYet | WrittenOff:
        """Return the settlement in force: what it settled by class, who paid, and where each deposit went."""
        settled = facts.settlement
        if settled is None:
            return NoSettlementYet()
        if settled["written_off_fen"]:
            return WrittenOff()
        by_id = {one["entry_id"]: one for one in facts.deposits}
        used: dict[str, int] = {}
        for move in facts.moves:
            if move["deposit_id"] is not None and move["kind"] != "waiver_released":
                used[move["deposit_id"]] = used.get(move["deposit_id"], 0) + move["fen"]
        return SettlementList(
            letterhead=self.letterhead,
            stay=_stay(facts),
            number=settled["number"],
            interim=settled["kind"] == "interim",
            payment_group=facts.payment_group,
            settled_at=datetime.fromisoformat(settled["settled_at"]),
            class_sums=class_sums(_settled_lines(facts)),
            split=_split(settled),
            deposits=tuple(_deposit(by_id[entry_id], fen) for entry_id, fen in used.items()),
            collected=_by_method(move for move in facts.moves if move["kind"] == "collected"),
            refunded=_by_method(
                {**by_id[move["deposit_id"]], "fen": move["fen"]}
                for move in facts.moves
                if move["kind"] == "rest_refunded"
            ),
            printed_at=self.printed_at,
        )

    def receipt(self, facts: Facts) -> ReceiptView | NoSettlementYet | NoReceiptYet:
        """Return the electronic receipt of the settlement in force, for reading."""
        if facts.settlement is None:
            return NoSettlementYet()
        issued = facts.receipt
        if issued is None or issued["state"] != "issued":
            return NoReceiptYet()
        return ReceiptView(
            letterhead=self.letterhead,
            stay=_stay(facts),
            receipt=Receipt(issued["number"], issued["check_code"], issued["url"], red=False),
            voids=None,
            issued_at=datetime.fromisoformat(issued["since"]),
            class_sums=class_sums(_settled_lines(facts)),
            split=_split(facts.settlement),
            printed_at=self.printed_at,
        )

    def pack(self, facts: Facts) -> DischargePack | NoSettlementYet | WrittenOff:
        """Return all a family takes home; without the receipt while there is none."""
        settlement = self.settlement(facts)
        if not isinstance(settlement, SettlementList):
            return settlement
        receipt = self.receipt(facts)
        return DischargePack(
            settlement,
            self.itemised(facts, settled_only=True),
            receipt if isinstance(receipt, ReceiptView) else None,
        )

    def slip(self, facts: Facts, entry_id: UUID) -> DepositSlip | NoSuchDeposit:
        """Return the slip of one deposit with what was held when it came in; none of one that went back (V9)."""
        found = next((one for one in facts.deposits if one["entry_id"] == str(entry_id)), None)
        if found is None or found["reversed"] or found["money"] == LedgerAccount.BLOOD_CENTRE:
            return NoSuchDeposit()
        return DepositSlip(
            letterhead=self.letterhead,
            stay=_stay(facts),
            deposit=_deposit(found, found["fen"]),
            held_fen=found["held_fen"],
            printed_at=self.printed_at,
        )


def _stay(facts: Facts) -> Stay:
    return Stay(
        name_masked=NO_NAME,
        admission_no_last4=facts.encounter_id.hex[-4:].upper(),
        ward=facts.ward or "",
        bed="" if facts.bed_id is None else str(facts.bed_id),
        admitted_at=facts.opened_at,
        discharged_at=facts.left_at,
    )


def _split(settled: dict[str, Any]) -> Split:
    """Return who paid; without a bill all of the payer's part is the fund's (there is none then)."""
    payer_fen, account_fen = settled["payer_fen"], settled["account_fen"] or 0
    charged_fen = settled["charged_fen"]
    return Split(charged_fen, payer_fen - account_fen, account_fen, charged_fen - payer_fen)


def _settled_lines(facts: Facts) -> tuple[ChargeLine, ...]:
    """Return the lines the settlement in force settled; a late charge has a settlement of its own (V13)."""
    return _lines(one for one in facts.charges if one["was_settled"])


def _lines(rows: Iterable[dict[str, Any]]) -> tuple[ChargeLine, ...]:
    return tuple(_line(row) for row in rows)


def _line(row: dict[str, Any]) -> ChargeLine:
    """Return a charge as quantity x price; where that is no short number, or no price is known, as one time its amount."""
    fen, price_fen = row["fen"], row["price_fen"]
    quantity = Decimal(fen) / price_fen if price_fen else Decimal(0)
    if price_fen is None or quantity * price_fen != fen or quantity != round(quantity, 3):
        quantity, price_fen = Decimal(1 if fen > 0 else -1), abs(fen)
    receipt_class = row["receipt_class"]
    return ChargeLine(
        item_code=row["item"],
        name_zh=row["name_zh"] or row["item"],
        name_en=row["name_en"] or row["item"],
        item_class="other" if receipt_class is None else ITEM_CLASSES[int(receipt_class) - 1],
        quantity=quantity,
        unit=UNITS.get(row["unit"] or "each", "次"),
        unit_price_fen=price_fen,
        amount_fen=fen,
        at=datetime.fromisoformat(row["at"]),
    )


def _method(row: dict[str, Any]) -> DepositMethod:
    """Return how money came; through the channel it came the way its payment says."""
    if row["money"] == LedgerAccount.CHANNEL:
        method: DepositMethod = row["channel_method"]
        return method
    return METHOD_OF[row["money"]]


def _deposit(row: dict[str, Any], fen: int) -> Deposit:
    return Deposit(UUID(row["entry_id"]).hex[-12:].upper(), _method(row), fen, datetime.fromisoformat(row["at"]))


def _by_method(rows: Iterable[dict[str, Any]]) -> tuple[MethodSum, ...]:
    sums: dict[DepositMethod, int] = {}
    for row in rows:
        sums[_method(row)] = sums.get(_method(row), 0) + row["fen"]
    return tuple(MethodSum(method, fen) for method, fen in sums.items())
