"""The published price list (价格公示): what a row may hold, the file it comes from, and what a new version changes.

A file with one problem is refused whole, and every problem names its line. What was in force is history: a new price closes
the old one from a later day on, and no day gets another price than the one that was public on it (R59). Pure but for
reading the file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.money import NotAnAmount, fen_from_decimal_text
from shared.tables import Place, Problem, rows, shown, text_of

ITEMS_MAX = 50_000
"""More than the largest hospital publishes."""
NAME_LENGTH_MAX = 80
PRICE_FEN_MAX = 100_000_000
"""A million yuan for one piece; beyond that somebody typed fen for yuan."""

CLASSES = ("bed", "nursing", "consultation", "test", "imaging", "examination", "treatment", "procedure", "anaesthesia", "drug",
           "consumable", "blood", "oxygen", "monitor", "meal", "other")  # fmt: skip
RECEIPT_CLASSES: Mapping[str, str] = {
    "01": "床位费", "02": "诊察费", "03": "检查费", "04": "化验费", "05": "治疗费", "06": "手术费", "07": "护理费",
    "08": "卫生材料费", "09": "西药费", "10": "中药饮片费", "11": "中成药费", "12": "一般诊疗费", "13": "挂号费", "14": "其他费",
}  # fmt: skip
"""医疗收费项目类别 (`med_chrgitm_type`): under which line of the receipt an item is summed."""
INSURANCE_CLASSES: Mapping[str, str] = {"01": "甲类", "02": "乙类", "03": "丙类"}
"""收费项目等级 (`chrgitm_lv`): paid by the fund, paid in part, paid by the patient alone."""
UNITS: Mapping[str, str] = {
    "day": "日", "hour": "小时", "each": "次", "piece": "个", "set": "套", "box": "盒", "bottle": "瓶", "bag": "袋",
    "ampoule": "支", "tablet": "片", "unit": "单位", "part": "部位", "portion": "份",
}  # fmt: skip

COLUMNS = ("code", "name_zh", "name_en", "pinyin", "class", "receipt_class", "insurance_class", "unit", "price_yuan", "valid_from",
           "valid_to", "remark")  # fmt: skip
REQUIRED = COLUMNS[:-2]

_CODE = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
_PINYIN = re.compile(r"[A-Z0-9]{1,40}")
_DAY = re.compile(r"(?:19|20)\d\d-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One item at one price, from a day until before another; where a file says it does not make it another row."""

    code: str
    name_zh: str
    name_en: str
    pinyin: str
    item_class: str
    receipt_class: str
    insurance_class: str
    unit: str
    price_fen: int
    valid_from: date
    valid_to: date | None
    remark: str = ""
    place: Place = field(compare=False, default=Place("", 0))

    def overlaps(self, other: "PriceRow") -> bool:
        """Say whether there is a day on which both hold."""
        return (other.valid_to is None or self.valid_from < other.valid_to) and (
            self.valid_to is None or other.valid_from < self.valid_to
        )


@dataclass(frozen=True, slots=True)
class RefusedPrices:
    """The file cannot be used, for all of these reasons, in the order of their lines."""

    problems: tuple[Problem, ...]


class BadPrices(Exception):
    """A price list cannot be used; the message names every problem with file and line."""


# ---- what a row may hold ---------------------------------------------------------------------------------------------


class _NotUsable(Exception):
    """Why the text of a field cannot be what the field holds."""


def _matching(pattern: re.Pattern[str], why: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise _NotUsable(why)
        return text

    return read


def _name(text: str) -> str:
    if len(text) > NAME_LENGTH_MAX or not text.isprintable():
        raise _NotUsable(f"is no name: one line of at most {NAME_LENGTH_MAX} characters")
    if text[0] in "=+-@":
        raise _NotUsable(f"is no name: a table program would take the {text[0]} in front for a formula")
    return text


def _one_of(words: Iterable[str]) -> Callable[[str], str]:
    known = tuple(words)

    def read(text: str) -> str:
        if text not in known:
            raise _NotUsable(f"is not known; there are {', '.join(known)}")
        return text

    return read


def _receipt_or_insurance(words: Iterable[str]) -> Callable[[str], str]:
    """Table programs take 01 for a number and write 1."""
    known = _one_of(words)
    return lambda text: known(text.zfill(2))


def _price(text: str) -> int:
    try:
        fen = fen_from_decimal_text(text)
    except NotAnAmount:
        raise _NotUsable("is no price in yuan with at most two decimals") from None
    if not 0 < fen <= PRICE_FEN_MAX:
        raise _NotUsable("is out of range: more than 0, at most a million yuan")
    return fen


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise _NotUsable("is no day such as 2026-01-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _NotUsable("is no day of the calendar") from None


_READ: Mapping[str, Callable[[str], Any]] = {
    "code": _matching(_CODE, "is no code: 1 to 64 letters, digits and _ . : + - without spaces"),
    "name_zh": _name,
    "name_en": _name,
    "pinyin": _matching(_PINYIN, "is no pinyin code: capital letters and digits"),
    "class": _one_of(CLASSES),
    "receipt_class": _receipt_or_insurance(RECEIPT_CLASSES),
    "insurance_class": _receipt_or_insurance(INSURANCE_CLASSES),
    "unit": _one_of(UNITS),
    "price_yuan": _price,
    "valid_from": _day,
    "valid_to": _day,
    "remark": _name,
}
_FIELD_OF = {"class": "item_class", "price_yuan": "price_fen"}


def why_not(row: PriceRow) -> str | None:
    """Return in a sentence what about one row contradicts itself, wherever it came from."""
    if row.valid_to is not None and row.valid_to <= row.valid_from:
        return f"valid_to {row.valid_to} is not after valid_from {row.valid_from}."
    if row.item_class == "bed" and (row.unit != "day" or row.price_fen % 2):
        return "A bed is priced by the day, an even number of fen: half a day must be whole fen, too."
    return None


# ---- the file --------------------------------------------------------------------------------------------------------


def load(path: Path) -> tuple[PriceRow, ...]:
    """Return the price list of one UTF-8 file.

    Raises:
        BadPrices: the file cannot be used; every reason with its line.
    """
    match read(path):
        case RefusedPrices(problems):
            raise BadPrices("\n".join(map(str, problems)))
        case found:
            return found


def read(path: Path, *, encoding: str = "utf-8") -> tuple[PriceRow, ...] | RefusedPrices:
    """Return what the file says, or every problem it has; nothing in between."""
    problems: list[Problem] = []
    found: list[PriceRow] = []
    text = text_of(path, encoding, problems)
    if text is not None:
        for place, cells in rows(text, str(path), problems, columns=COLUMNS, required=REQUIRED):
            row = _row(place, cells, problems)
            if row is not None:
                found.append(row)
            if len(found) > ITEMS_MAX:
                problems.append(Problem(place, f"Here the file passes {ITEMS_MAX} items."))
                break
    problems += [
        Problem(second.place, f"The item {second.code} has a price on line {first.place.line} for the same days.", (first.place,))
        for first, second in overlapping(found)
    ]  # fmt: skip
    if not found and not problems:
        problems.append(Problem(Place(str(path), 1), "There is no price in this file."))
    return RefusedPrices(tuple(sorted(set(problems)))) if problems else tuple(found)


def _row(place: Place, cells: Mapping[str, str], problems: list[Problem]) -> PriceRow | None:
    values: dict[str, Any] = {"valid_to": None, "remark": ""}
    before = len(problems)
    for name in COLUMNS:
        text = cells.get(name)
        if text is None:
            if name in REQUIRED:
                problems.append(Problem(place, f"The field {name} is missing."))
            continue
        try:
            values[_FIELD_OF.get(name, name)] = _READ[name](text)
        except _NotUsable as why:
            problems.append(Problem(place, f"{name}: {shown(text)} {why}."))
    if len(problems) > before:
        return None
    row = PriceRow(**values, place=place)
    wrong = why_not(row)
    if wrong is not None:
        problems.append(Problem(place, wrong))
    return row


def overlapping(found: Iterable[PriceRow]) -> Iterator[tuple[PriceRow, PriceRow]]:
    """Give each pair of neighbours of one item that share a day: an item has one price at a time (R59)."""
    by_code: dict[str, list[PriceRow]] = {}
    for row in found:
        by_code.setdefault(row.code, []).append(row)
    for same in by_code.values():
        same.sort(key=lambda row: (row.valid_from, row.place))
        yield from ((first, second) for first, second in pairwise(same) if first.overlaps(second))


# ---- a new version ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """A price that is public already."""

    id: int
    row: PriceRow


@dataclass(frozen=True, slots=True)
class Publication:
    """What a new version does: ends prices on a day, takes back such as never held, adds new ones; the rest was known."""

    end: tuple[tuple[int, date | None], ...]
    withdraw: tuple[int, ...]
    add: tuple[PriceRow, ...]
    known: int

    @property
    def changes_nothing(self) -> bool:
        """Say whether everything was known already."""
        return not (self.end or self.withdraw or self.add)


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Rows that would change what was public, by their place in what was sent, each with the reason."""

    of: tuple[tuple[int, str], ...]


def publication(published: Iterable[Published], wanted: Sequence[PriceRow], *, today: date) -> Publication | Conflicts:
    """Decide what publishing these rows does, all of them or none; no day up to today gets another price (R59).

    A price that begins later closes the one before it. One that holds already may only get another end, not before tomorrow.
    One that does not hold yet may be replaced.
    """
    by_code: dict[str, list[Published]] = {}
    for each in published:
        by_code.setdefault(each.row.code, []).append(each)
    known: set[int] = set()
    end: dict[int, date | None] = {}
    withdraw: list[int] = []
    conflicts: dict[int, str] = {}
    for index, row in enumerate(wanted):
        others = by_code.get(row.code, [])
        if any(other.row == row for other in others):
            known.add(index)
            continue
        for place, other in enumerate(others):
            if _differs_in_its_end(other.row, row):
                known.add(index)
                wrong = _why_not_ended(other.row, row, others, today)
                if wrong is not None:
                    conflicts[index] = wrong
                else:
                    end[other.id] = row.valid_to
                    others[place] = Published(other.id, row)
                break
    for index, row in enumerate(wanted):
        for other in by_code.get(row.code, ()) if index not in known else ():
            if not other.row.overlaps(row):
                continue
            if other.row.valid_from > today:
                withdraw.append(other.id)
            elif row.valid_from <= today or row.valid_from <= other.row.valid_from:
                conflicts[index] = (
                    f"There is a price since {other.row.valid_from}; another one begins tomorrow or later."
                )
            elif row.valid_to is not None and (other.row.valid_to is None or row.valid_to < other.row.valid_to):
                conflicts[index] = f"There would be no price from {row.valid_to} on, where there is one now."
            else:
                end[other.id] = row.valid_from
    if conflicts:
        return Conflicts(tuple(sorted(conflicts.items())))
    add = tuple(row for index, row in enumerate(wanted) if index not in known)
    return Publication(tuple(end.items()), tuple(dict.fromkeys(withdraw)), add, known=len(known))


def _differs_in_its_end(known: PriceRow, row: PriceRow) -> bool:
    return (
        known.valid_from == row.valid_from
        and known.valid_to != row.valid_to
        and _without_end(known) == _without_end(row)
    )


def _without_end(row: PriceRow) -> tuple[object, ...]:
    return (row.name_zh, row.name_en, row.pinyin, row.item_class, row.receipt_class, row.insurance_class, row.unit,
            row.price_fen, row.remark)  # fmt: skip


def _why_not_ended(known: PriceRow, row: PriceRow, others: Iterable[Published], today: date) -> str | None:
    ends = [day for day in (known.valid_to, row.valid_to) if day is not None]
    if ends and min(ends) <= today:
        return f"It would not hold until {min(ends)}, as it did or does; what was public on a day stays so."
    if any(other.row.valid_from != row.valid_from and other.row.overlaps(row) for other in others):
        return f"There is another price from {known.valid_to} on."
    return None


__all__ = [
    "CLASSES",
    "COLUMNS",
    "INSURANCE_CLASSES",
    "RECEIPT_CLASSES",
    "UNITS",
    "BadPrices",
    "Conflicts",
    "PriceRow",
    "Publication",
    "Published",
    "RefusedPrices",
    "load",
    "overlapping",
    "publication",
    "read",
    "why_not",
]
