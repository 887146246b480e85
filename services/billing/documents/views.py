"""A document as the templates get it: text only, every amount, time and group already written.

Templates neither add nor convert, so what stands on paper is what the model was checked for. Strings stay strings: Typst
shows a value of its data as it is and never reads it as markup.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import date, datetime
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, assert_never
from zoneinfo import ZoneInfo

import segno

from services.billing.documents.model import (
    ITEM_CLASSES,
    ChargeLine,
    DepositSlip,
    DischargePack,
    Document,
    ItemisedList,
    Letterhead,
    ReceiptView,
    SettlementList,
    Stay,
    total_fen,
)
from services.billing.documents.words import ITEM_CLASS, METHOD, UNIT_IN_ENGLISH, WORDS, Language, said
from shared.money import capitals_zh, yuan_text

FONTS = Path(__file__).parent / "fonts"

PRINTABLE = frozenset((FONTS / "characters.txt").read_text("utf-8")) - {"\n"}
"""The characters the bundled font has."""

NOT_PRINTABLE = "〓"
"""What printers set for a character they have no type for (U+3013), so that a gap is seen and nothing shifts."""

LONG_WORD = re.compile(r"([!-\u2e7f]{12})(?=[!-\u2e7f])")
MAY_BREAK = "\u200b"
"""A place to break of no width (U+200B), set into long words so that no code runs into the next column; Chinese breaks anywhere."""


def shown(text: str) -> str:
    """Return text as paper can show it: one line, every character one the font has, no word too long to break."""
    one_line = " ".join(unicodedata.normalize("NFC", text).split())
    if not PRINTABLE.issuperset(one_line):
        one_line = "".join(character if character in PRINTABLE else NOT_PRINTABLE for character in one_line)
    return LONG_WORD.sub(rf"\1{MAY_BREAK}", one_line)


def printed_at(document: Document) -> datetime:
    """Return when the document was made; it is the only clock its bytes know."""
    return document.settlement.printed_at if isinstance(document, DischargePack) else document.printed_at


def view_of(document: Document, language: Language) -> dict[str, Any]:
    """Return everything the templates show, as JSON can carry it."""
    head = document.settlement if isinstance(document, DischargePack) else document
    view = _View(head.letterhead, language)
    return {
        "language": language,
        "words": {name: said(pair, language) for name, pair in WORDS.items()},
        "hospital": view.hospital,
        "stay": view.stay(head.stay),
        "printed": view.time(head.printed_at),
        "parts": view.parts(document),
    }


class _View:
    """Writes the parts of documents in one language and one zone."""

    def __init__(self, letterhead: Letterhead, language: Language) -> None:
        self.language = language
        self.zone = ZoneInfo(letterhead.zone)
        self.hospital = shown(letterhead.hospital_zh if language == "zh-CN" else letterhead.hospital_en)

    def time(self, at: datetime) -> str:
        return f"{at.astimezone(self.zone):%Y-%m-%d %H:%M}"

    def word(self, name: str) -> str:
        return said(WORDS[name], self.language)

    def stay(self, stay: Stay) -> list[list[str]]:
        return [
            [self.word("name"), shown(stay.name_masked)],
            [self.word("admission_no"), shown(stay.admission_no_last4)],
            [self.word("ward"), shown(stay.ward)],
            [self.word("bed"), shown(stay.bed)],
            [self.word("admitted"), self.time(stay.admitted_at)],
            [
                self.word("discharged"),
                self.time(stay.discharged_at) if stay.discharged_at else self.word("in_hospital"),
            ],
        ]

    def parts(self, document: Document) -> list[dict[str, Any]]:
        match document:
            case ItemisedList():
                return [self.itemised(document)]
            case SettlementList():
                return [self.settlement(document)]
            case ReceiptView():
                return [self.receipt(document)]
            case DepositSlip():
                return [self.deposit(document)]
            case DischargePack():
                return self.pack(document)
            case _:
                assert_never(document)

    # ---- one method, one part ----------------------------------------------------------------------------------------

    def itemised(self, document: ItemisedList) -> dict[str, Any]:
        one_day = document.first_on == document.last_on
        days = f"{document.first_on}" if one_day else f"{document.first_on} — {document.last_on}"
        in_order = sorted(
            document.lines, key=lambda line: (ITEM_CLASSES.index(line.item_class), line.at, line.item_code)
        )
        return {
            "kind": "itemised_list",
            "title": self.word("daily_list" if one_day else "itemised_list"),
            "facts": [[self.word("period"), days], [self.word("lines"), str(len(document.lines))]],
            "classes": [
                {
                    "name": said(ITEM_CLASS[item_class], self.language),
                    "sum": yuan_text(total_fen(lines)),
                    "days": [
                        {
                            "day": str(day),
                            "sum": yuan_text(total_fen(of_day)),
                            "lines": [self.line(line) for line in of_day],
                        }
                        for day, of_day in _grouped(lines, self.day)
                    ],
                }
                for item_class, lines in _grouped(in_order, lambda line: line.item_class)
            ],
            **_total(document.charged_fen),
        }

    def day(self, line: ChargeLine) -> date:
        return line.at.astimezone(self.zone).date()

    def line(self, line: ChargeLine) -> list[str]:
        name, unit = line.name_zh, line.unit
        if self.language == "en":
            name, unit = line.name_en or name, UNIT_IN_ENGLISH.get(unit, unit)
        return [
            f"{line.at.astimezone(self.zone):%H:%M}",
            shown(line.item_code),
            shown(name),
            shown(unit),
            f"{line.quantity.normalize():f}",
            yuan_text(line.unit_price_fen),
            yuan_text(line.amount_fen),
        ]

    def settlement(self, document: SettlementList) -> dict[str, Any]:
        split = document.split
        moves = [
            [self.word(kind), said(METHOD[one.method], self.language), yuan_text(one.amount_fen)]
            for kind, ones in (("collected", document.collected), ("refunded", document.refunded))
            for one in ones
        ]
        return {
            "kind": "settlement_list",
            "title": self.word("interim_list" if document.interim else "settlement_list"),
            "facts": [
                [self.word("settled"), self.time(document.settled_at)],
                [self.word("settlement_no"), str(document.number)],
                *([[self.word("payment_group"), shown(document.payment_group)]] if document.payment_group else []),
            ],
            "classes": self.classes(document),
            "who_pays": self.who_pays(document),
            "deposits": [
                [
                    shown(one.slip_no),
                    self.time(one.at),
                    said(METHOD[one.method], self.language),
                    yuan_text(one.amount_fen),
                ]
                for one in document.deposits
            ],
            "deposits_sum": yuan_text(total_fen(document.deposits)),
            "moves": moves,
            **_total(split.charged_fen),
        }

    def classes(self, document: SettlementList | ReceiptView, sign: int = 1) -> list[list[str]]:
        return [
            [said(ITEM_CLASS[one.item_class], self.language), yuan_text(sign * one.amount_fen)]
            for one in document.class_sums
        ]

    def who_pays(self, document: SettlementList | ReceiptView, sign: int = 1) -> list[list[str]]:
        split = document.split
        return [
            [self.word("fund"), yuan_text(sign * split.fund_fen)],
            [self.word("account"), yuan_text(sign * split.account_fen)],
            [self.word("patient"), yuan_text(sign * split.patient_fen)],
        ]

    def receipt(self, document: ReceiptView) -> dict[str, Any]:
        receipt = document.receipt
        sign = -1 if receipt.red else 1
        facts = [
            [self.word("receipt_no"), shown(receipt.number)],
            [self.word("check_code"), shown(receipt.check_code)],
            [self.word("issued"), self.time(document.issued_at)],
        ]
        if document.voids is not None:
            facts.append([self.word("voids"), shown(document.voids)])
        return {
            "kind": "receipt",
            "title": self.word("red_receipt" if receipt.red else "receipt"),
            "red": receipt.red,
            "facts": facts,
            "classes": self.classes(document, sign),
            "who_pays": self.who_pays(document, sign),
            "qr": _qr(receipt.url),
            **_total(sign * document.split.charged_fen),
        }

    def deposit(self, document: DepositSlip) -> dict[str, Any]:
        deposit = document.deposit
        return {
            "kind": "deposit_slip",
            "title": self.word("deposit_slip"),
            "facts": [
                [self.word("slip_no"), shown(deposit.slip_no)],
                [self.word("paid_at"), self.time(deposit.at)],
                [self.word("method"), said(METHOD[deposit.method], self.language)],
            ],
            "held": yuan_text(document.held_fen),
            **_total(deposit.amount_fen),
        }

    def pack(self, document: DischargePack) -> list[dict[str, Any]]:
        settlement = self.settlement(document.settlement)
        parts = [settlement, self.itemised(document.items)]
        if document.receipt is not None:
            parts.append(self.receipt(document.receipt))
        titles = [part["title"] for part in parts]
        cover = {
            "kind": "cover",
            "title": self.word("discharge_pack"),
            "facts": settlement["facts"],
            "contents": titles if document.receipt is not None else [*titles, self.word("receipt_pending")],
            "in_short": [
                [self.word("charged"), settlement["total"]],
                *settlement["who_pays"],
                [self.word("deposits_total"), settlement["deposits_sum"]],
                *([f"{kind}（{method}）", amount] for kind, method, amount in settlement["moves"]),
            ],
        }
        return [cover, *parts]


def _grouped(lines: Iterable[ChargeLine], key: Callable[[ChargeLine], Any]) -> list[tuple[Any, list[ChargeLine]]]:
    return [(value, list(of_value)) for value, of_value in groupby(lines, key)]


def _total(fen: int) -> dict[str, str]:
    return {"total": yuan_text(fen), "capitals": capitals_zh(fen)}


def _qr(url: str) -> str:
    """Return the QR code as SVG; level M survives a fold or a stain."""
    svg = BytesIO()
    segno.make(url, error="m", micro=False).save(svg, kind="svg", xmldecl=False, svgns=True, nl=False)
    return svg.getvalue().decode()
