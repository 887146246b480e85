"""The paper itself, read back as a reader's search reads it: every amount to the fen, in characters a family can read."""

import asyncio
import re
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import psutil
import pypdfium2
import pytest
import zxingcpp

from services.billing.documents import typeset
from services.billing.documents.model import ITEM_CLASSES, Document, class_sums, total_fen
from services.billing.documents.render import NotPrinted, Press, render
from services.billing.documents.views import NOT_PRINTABLE, PRINTABLE, shown
from services.billing.documents.words import ITEM_CLASS, METHOD, WORDS, Language, said
from services.billing.ports import Receipt
from shared.money import capitals_zh
from tests.unit.billing.papers import (
    ADMITTED,
    LETTERHEAD,
    STAY,
    URL,
    a_deposit,
    a_line,
    a_pack,
    a_receipt,
    a_settlement,
    a_slip,
    amounts,
    an_itemised_list,
    fen_of,
    pages,
    some_lines,
    text_of,
)

LANGUAGES: tuple[Language, ...] = ("zh-CN", "en")
CHARGED = total_fen(some_lines())
ROW = re.compile(r"^\d\d:\d\d (\S+) (.+) (\S+) (-?[\d.]+) (¥[\d,]+\.\d\d) (-?¥[\d,]+\.\d\d)$", re.MULTILINE)
EVERY_KIND: dict[str, Document] = {
    "itemised list": an_itemised_list(),
    "settlement": a_settlement([a_deposit(20_000)], fund_fen=10_000, account_fen=1_234),
    "receipt": a_receipt(),
    "deposit slip": a_slip(),
    "pack": a_pack(),
}


def squeezed(text: str) -> str:
    """Return text without what a page may put between characters: spaces and line ends."""
    return re.sub(r"\s", "", text)


def rows(text: str) -> list[tuple[str, str, int, int]]:
    """Return code, quantity, price and amount of each line of an itemised list."""
    return [(code, quantity, fen_of(price), fen_of(fen)) for code, _, _, quantity, price, fen in ROW.findall(text)]


def as_rows(lines) -> list[tuple[str, str, int, int]]:
    return [(line.item_code, str(line.quantity), line.unit_price_fen, line.amount_fen) for line in lines]


@pytest.fixture(scope="module")
def printed() -> dict[tuple[str, Language], bytes]:
    return {(kind, language): render(EVERY_KIND[kind], language) for kind in EVERY_KIND for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_document_is_a_pdf_a_on_a4_with_head_and_foot_on_each_page(printed, kind, language):
    pdf = printed[kind, language]
    assert b"<pdfaid:part>2</pdfaid:part><pdfaid:conformance>U</pdfaid:conformance>" in pdf
    document = pypdfium2.PdfDocument(pdf)
    sizes = {tuple(round(side) for side in page.get_size()) for page in document}
    document.close()
    assert sizes == {(595, 842)}
    texts = pages(pdf)
    for number, text in enumerate(texts, 1):
        assert (LETTERHEAD.hospital_zh if language == "zh-CN" else LETTERHEAD.hospital_en) in text
        assert STAY.name_masked in text
        assert STAY.admission_no_last4 in text
        assert said(WORDS["page"], language).format(number, len(texts)) in text
    assert NOT_PRINTABLE not in "".join(texts)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_same_document_gives_the_same_bytes(printed, kind, language):
    assert render(EVERY_KIND[kind], language) == printed[kind, language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_itemised_list_shows_each_line_and_the_sums_of_classes_and_days(printed, language):
    text = text_of(printed["itemised list", language]).replace("\r", "")
    assert sorted(rows(text)) == sorted(as_rows(some_lines()))
    for line in some_lines():
        assert (line.name_zh if language == "zh-CN" else line.name_en) in text
    for one in class_sums(some_lines()):
        heading = re.escape(said(ITEM_CLASS[one.item_class], language)) + r"\s+\S+\s+(¥[\d,.]+)$"
        assert [fen_of(fen) for fen in re.findall(f"^{heading}", text, re.MULTILINE)] == [one.amount_fen]
    days = re.findall(r"^(\d{4}-\d\d-\d\d) \S+ (¥[\d,.]+)$", text, re.MULTILINE)
    assert sum(fen_of(fen) for _, fen in days) == CHARGED
    assert capitals_zh(CHARGED) in text
    assert amounts(text)[-1] == CHARGED


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "settlement",
    [
        a_settlement([a_deposit(10_000), a_deposit(5_000, "bank_card")], fund_fen=12_345, account_fen=678),
        a_settlement([a_deposit(10_000), a_deposit(500_000, "bank_card")], fund_fen=12_345),
        a_settlement([a_deposit(CHARGED, "cash")]),
        a_settlement(),
        a_settlement(fund_fen=CHARGED),
    ],
    ids=["to pay", "to give back", "even", "no deposits", "the fund pays all"],
)
def test_a_settlement_shows_every_fen_and_no_other(settlement, language):
    text = text_of(render(settlement, language)).replace("\r", "")
    split = settlement.split
    expected = [
        *(one.amount_fen for one in settlement.class_sums),
        split.charged_fen,
        *(split.fund_fen, split.account_fen, split.patient_fen),
        *(one.amount_fen for one in settlement.deposits),
        *([total_fen(settlement.deposits)] if settlement.deposits else []),
        *(one.amount_fen for one in (*settlement.collected, *settlement.refunded)),
    ]
    assert Counter(amounts(text)) == Counter(expected)
    assert capitals_zh(CHARGED) in text
    for kind, ones in (("collected", settlement.collected), ("refunded", settlement.refunded)):
        way = re.compile(re.escape(said(WORDS[kind], language)) + r" (.+) (¥[\d,.]+)$", re.MULTILINE)
        told = [(method, fen_of(fen)) for method, fen in way.findall(text)]
        assert told == [(said(METHOD[one.method], language), one.amount_fen) for one in ones]
    assert (said(WORDS["no_deposits"], language) in text) == (not settlement.deposits)
    assert (said(WORDS["nothing_due"], language) in text) == (not settlement.collected and not settlement.refunded)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_slip_shows_what_was_paid_in_and_what_is_held(printed, language):
    text = text_of(printed["deposit slip", language])
    assert amounts(text) == [500_000, 800_000]
    assert "伍仟元整" in text
    assert said(METHOD["wechat"], language) in text
    assert said(WORDS["in_hospital"], language) in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_red_receipt_shows_every_amount_negative_and_what_it_voids(language):
    red = a_receipt(receipt=Receipt("0000123457", "d4e5f6", URL, red=True), voids="0000123456")
    text = text_of(render(red, language))
    for part in ("0000123457", "d4e5f6", "0000123456", said(WORDS["red_receipt"], language)):
        assert part in text
    shown_fen = [fen for fen in amounts(text) if fen]
    assert all(fen < 0 for fen in shown_fen)
    assert -CHARGED in shown_fen
    assert f"负{capitals_zh(CHARGED)}" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_pack_holds_cover_settlement_list_and_receipt_in_one_numbering(printed, language):
    texts = pages(printed["pack", language])
    titles = [said(WORDS[name], language) for name in ("discharge_pack", "settlement_list", "itemised_list", "receipt")]
    assert len(texts) == len(titles)
    for title, text in zip(titles, texts, strict=True):
        assert title in text
    assert all(title in texts[0] for title in titles), "The cover says what is inside."
    assert CHARGED in amounts(texts[0])


def test_a_pack_without_a_receipt_says_so():
    texts = pages(render(a_pack(receipt=None), "zh-CN"))
    assert len(texts) == 3
    assert said(WORDS["receipt_pending"], "zh-CN") in texts[0]


def test_the_code_on_a_receipt_leads_a_phone_to_the_receipt():
    document = pypdfium2.PdfDocument(render(a_receipt(), "zh-CN"))
    photo = document[0].render(scale=2).to_numpy()
    document.close()
    assert [code.text for code in zxingcpp.read_barcodes(photo)] == [URL]


def test_a_list_of_one_line_fits_on_one_page():
    day = date(2026, 3, 2)
    one_day = an_itemised_list([a_line()], first_on=day, last_on=day)
    texts = pages(render(one_day, "zh-CN"))
    assert len(texts) == 1
    assert "住院费用一日清单" in texts[0]
    assert amounts(texts[0]) == [2_800] * 5, "class, day, price, line, total"


def test_a_day_without_charges_is_a_page_that_says_so():
    text = text_of(render(an_itemised_list([]), "zh-CN"))
    assert "无费用记录" in text
    assert amounts(text) == [0]
    assert "零元整" in text


def test_a_reversed_charge_stands_beside_its_opposite():
    wrong = a_line(unit_price_fen=99_900)
    lines = [
        wrong,
        replace(wrong, quantity=Decimal(-1), amount_fen=-99_900, at=ADMITTED + timedelta(hours=1)),
        a_line(),
    ]
    text = text_of(render(an_itemised_list(lines), "zh-CN")).replace("\r", "")
    assert sorted(rows(text)) == sorted(as_rows(lines))
    assert amounts(text)[-1] == 2_800


@pytest.mark.parametrize("lines_in_all", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_hundreds_and_thousands_of_lines_are_all_there(lines_in_all):
    lines = [
        a_line(
            item_code=f"C{number:05d}",
            item_class=ITEM_CLASSES[number % len(ITEM_CLASSES)],
            quantity=Decimal(number % 7 + 1),
            unit_price_fen=100_000 + number * 13,
            at=ADMITTED + timedelta(minutes=number % 5_000),
        )
        for number in range(lines_in_all)
    ]
    settlement = a_settlement(class_sums=class_sums(lines))
    pack = a_pack(settlement=settlement, items=an_itemised_list(lines), receipt=a_receipt(settlement))
    texts = pages(asyncio.run(Press().render(pack, "zh-CN")))
    assert sorted(rows("\n".join(texts).replace("\r", ""))) == sorted(as_rows(lines))
    listed = [text for text in texts if "住院费用清单" in text][1:]
    assert all("项目编码" in text for text in listed[:-1]), "Each page has the heads of its columns."
    assert f"第 {len(texts)} 页，共 {len(texts)} 页" in texts[-1]


# ---- text is never more than text -------------------------------------------------------------------------------------

HOSTILE = [
    "#panic()[*",
    '#read("/etc/passwd")',
    '#import "@preview/tablex:0.0.5": *',
    "#set page(width: 1cm)",
    "= 标题 <label> @label",
    "*粗* _斜_ `raw` $x^2$ --- ~ \\ // /* */",
    '"}]} {"words": 1}',
    "https://example.org/#a",
    "<script>alert(1)</script>&amp;",
    "{{7*7}}${7*7}#{7*7}",
    "'; DROP TABLE entry; --",
    "]#[)#(}#{",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_printed_as_it_is_and_never_obeyed(text):
    hostile = a_line(name_zh=text, item_code=text, unit=text)
    stay = replace(STAY, name_masked=text, ward=text, bed=text)
    head = replace(LETTERHEAD, hospital_zh=text)
    found = squeezed(text_of(render(an_itemised_list([hostile], stay=stay, letterhead=head), "zh-CN")))
    assert found.count(squeezed(text)) >= 6
    assert "住院费用清单" in found


def test_a_character_without_a_type_is_marked_and_nothing_else_moves():
    strange = "\u202e张\x00\U0001f600\n*\ue000"
    assert shown(strange) == f"{NOT_PRINTABLE}张{NOT_PRINTABLE * 2} *{NOT_PRINTABLE}"
    assert shown("Jose\u0301") == "José"
    text = text_of(render(a_slip(stay=replace(STAY, name_masked=strange)), "zh-CN"))
    assert f"姓名：{shown(strange)}" in text
    assert amounts(text) == [500_000, 800_000]


def test_every_character_the_font_claims_is_printed_and_found_again():
    every = sorted(PRINTABLE)
    lines = [a_line(name_zh="".join(every[start : start + 500])) for start in range(0, len(every), 500)]
    found = set(text_of(render(an_itemised_list(lines), "zh-CN")))
    assert {shown(character) for character in every} - found == {""}, "The empty one is the space."
    assert "\u200b" not in found, "Places to break are not copied along."


def test_rare_names_and_medicines_can_be_printed():
    for word in (
        "欧阳",
        "㛃",
        "䶮",
        "喆",
        "堃",
        "龑",
        "犇",
        "苯二氮䓬",
        "嘌呤",
        "羟苯磺酸钙",
        "μg",
        "℃",
        "①",
        "Ⅲ",
        "×",
        "·",
        "㎡",
    ):
        assert shown(word) == word


def test_a_long_word_stays_in_its_column():
    code = "W" * 90
    document = pypdfium2.PdfDocument(render(an_itemised_list([a_line(item_code=code, name_zh=code)]), "zh-CN"))
    text = document[0].get_textpage()
    right = max(text.get_charbox(n)[2] for n in range(text.count_chars()) if text.get_text_range(n, 1) == "W")
    document.close()
    assert right < 130 / 25.4 * 72, "Names end where units begin."


# ---- a press beside the event loop ------------------------------------------------------------------------------------


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if typeset.__file__ in one.cmdline()]


@pytest.mark.asyncio
async def test_a_press_gives_the_same_bytes_while_everything_else_goes_on(printed):
    press = Press(at_once=2)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    pdfs = await asyncio.gather(*(press.render(EVERY_KIND["pack"], language) for language in LANGUAGES))
    ticking.cancel()
    assert pdfs == [printed["pack", language] for language in LANGUAGES]
    assert ticks > 3


@pytest.mark.asyncio
async def test_a_press_that_takes_too_long_is_stopped_and_leaves_nothing_behind():
    with pytest.raises(NotPrinted, match="not done after"):
        await Press(seconds_max=0.01).render(EVERY_KIND["pack"], "zh-CN")
    assert children() == []


@pytest.mark.asyncio
async def test_whoever_stops_waiting_stops_the_press():
    press = Press()
    waiting = asyncio.create_task(press.render(EVERY_KIND["pack"], "zh-CN"))
    for _ in range(1000):
        await asyncio.sleep(0.005)
        if children():
            break
    assert children(), "The press never began."
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert children() == []
    assert (await press.render(EVERY_KIND["deposit slip"], "zh-CN")).startswith(b"%PDF")


@pytest.mark.asyncio
async def test_a_press_that_fails_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(typeset, "__file__", str(tmp_path / "gone.py"))
    with pytest.raises(NotPrinted, match="could not be set"):
        await Press().render(EVERY_KIND["deposit slip"], "zh-CN")
