"""Billing documents for tests: a stay that adds up, to be changed in one place by each test."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pypdfium2

from services.billing.documents.model import (
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
from services.billing.ports import Receipt, Split

LETTERHEAD = Letterhead("江城市第一人民医院", "Jiangcheng First People's Hospital", "Asia/Shanghai")
ADMITTED = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)  # 09:30 in Shanghai
LEFT = datetime(2026, 3, 6, 6, 5, tzinfo=UTC)
PRINTED = datetime(2026, 3, 6, 7, 0, tzinfo=UTC)
STAY = Stay("欧阳*", "4271", "6A 心内科", "6A-12", ADMITTED, LEFT)
URL = "https://receipts.example.org/q?number=0000123456&check=a1b2c3"

MONEY = re.compile(r"-?¥[\d,]+\.\d\d")


def a_line(**more) -> ChargeLine:
    facts = {
        "item_code": "W0101",
        "name_zh": "Ⅱ级护理",
        "name_en": "Nursing, level II",
        "item_class": "nursing",
        "quantity": Decimal(1),
        "unit": "日",
        "unit_price_fen": 2_800,
        "at": ADMITTED,
        **more,
    }
    if "amount_fen" not in facts:
        facts["amount_fen"] = int(facts["quantity"] * facts["unit_price_fen"])
    return ChargeLine(**facts)


def some_lines() -> tuple[ChargeLine, ...]:
    days = [ADMITTED + timedelta(days=day) for day in range(4)]
    return (
        *(a_line(at=at) for at in days),
        *(
            a_line(
                item_code="B0003",
                name_zh="普通床位费（三人间）",
                name_en="Bed, room of three",
                item_class="bed",
                unit_price_fen=4_550,
                at=at,
            )
            for at in days
        ),
        a_line(
            item_code="X00017",
            name_zh="阿托伐他汀钙片 20mg×7片",
            name_en="Atorvastatin 20 mg x 7",
            item_class="western_medicine",
            quantity=Decimal(2),
            unit="盒",
            unit_price_fen=3_261,
            at=days[1],
        ),
        a_line(
            item_code="O2",
            name_zh="氧气吸入",
            name_en="Oxygen",
            item_class="treatment",
            quantity=Decimal("2.5"),
            unit="小时",
            unit_price_fen=401,
            amount_fen=1_003,
            at=days[2],
        ),
    )


def an_itemised_list(lines=None, **more) -> ItemisedList:
    lines = some_lines() if lines is None else tuple(lines)
    facts = {
        "letterhead": LETTERHEAD,
        "stay": STAY,
        "first_on": date(2026, 3, 2),
        "last_on": date(2026, 3, 6),
        "lines": lines,
        "charged_fen": total_fen(lines),
        "printed_at": PRINTED,
    }
    return ItemisedList(**{**facts, **more})


def a_deposit(fen: int, method="wechat", **more) -> Deposit:
    return Deposit(**{"slip_no": f"YJ{fen}", "method": method, "amount_fen": fen, "at": ADMITTED, **more})


def a_settlement(deposits=(), fund_fen: int = 0, account_fen: int = 0, **more) -> SettlementList:
    """Return a settlement of the stay above; what its deposits do not cover is collected, what they exceed goes back."""
    sums = more.get("class_sums", class_sums(some_lines()))
    charged_fen = total_fen(sums)
    patient_fen = charged_fen - fund_fen - account_fen
    due_fen = patient_fen - total_fen(deposits)
    facts = {
        "letterhead": LETTERHEAD,
        "stay": STAY,
        "number": 1,
        "settled_at": LEFT + timedelta(minutes=20),
        "class_sums": sums,
        "split": Split(charged_fen, fund_fen, account_fen, patient_fen),
        "deposits": tuple(deposits),
        "collected": (MethodSum("alipay", due_fen),) if due_fen > 0 else (),
        "refunded": (MethodSum(deposits[-1].method, -due_fen),) if due_fen < 0 else (),
        "printed_at": PRINTED,
    }
    return SettlementList(**{**facts, **more})


def a_receipt(settlement: SettlementList | None = None, **more) -> ReceiptView:
    settled = settlement or a_settlement()
    facts = {
        "letterhead": settled.letterhead,
        "stay": settled.stay,
        "receipt": Receipt("0000123456", "a1b2c3", URL, red=False),
        "voids": None,
        "issued_at": PRINTED,
        "class_sums": settled.class_sums,
        "split": settled.split,
        "printed_at": PRINTED,
    }
    return ReceiptView(**{**facts, **more})


def a_slip(**more) -> DepositSlip:
    facts = {
        "letterhead": LETTERHEAD,
        "stay": Stay("欧阳*", "4271", "6A 心内科", "6A-12", ADMITTED),
        "deposit": a_deposit(500_000),
        "held_fen": 800_000,
        "printed_at": ADMITTED + timedelta(minutes=2),
    }
    return DepositSlip(**{**facts, **more})


def a_pack(**more) -> DischargePack:
    settlement = more.get("settlement", a_settlement([a_deposit(20_000)], fund_fen=10_000, account_fen=1_234))
    facts = {"settlement": settlement, "items": an_itemised_list(), "receipt": a_receipt(settlement)}
    return DischargePack(**{**facts, **more})


# ---- reading paper ---------------------------------------------------------------------------------------------------


def pages(pdf: bytes) -> list[str]:
    """Return the text of each page as a reader's search finds it."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [page.get_textpage().get_text_bounded() for page in document]
    finally:
        document.close()


def text_of(pdf: bytes) -> str:
    return "\n".join(pages(pdf))


def fen_of(money: str) -> int:
    """Read `-¥1,234.56` without the code that wrote it."""
    digits = money.replace("¥", "").replace(",", "")
    yuan, fen = digits.lstrip("-").split(".")
    return (int(yuan) * 100 + int(fen)) * (-1 if digits.startswith("-") else 1)


def amounts(text: str) -> list[int]:
    return [fen_of(money) for money in MONEY.findall(text)]
