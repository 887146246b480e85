"""A hospital's layout: every bed with its place, its class and what it has, from a file or through the door of the pool.

The two forms of the file, CSV and YAML, are read by `services.beds.layout_forms` into the same entries and judged here, in one place;
a file with one problem is refused whole, and every problem names its line. Pure but for reading the file.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.beds.layout_forms import (
    BED_FIELDS,
    CODE,
    ENCODINGS,
    LISTS,
    NAME_LENGTH_MAX,
    NO_CODE,
    REQUIRED,
    WARD_FIELDS,
    WHOLE_NUMBER,
    Cell,
    Entry,
    Place,
    Problem,
    entries_of,
    shown,
)

FLOOR_MIN, FLOOR_MAX = -5, 99
AGE_MAX = 130

KINDS = ("inpatient", "day")
LEVELS = ("normal", "critical")
CLASSES = ("standard", "single", "vip")
EQUIPMENT = ("oxygen", "monitor", "negative_pressure", "ventilator", "bariatric", "telemetry", "infant_warmer")

YES = frozenset({"yes", "true", "1", "是"})
NO = frozenset({"no", "false", "0", "否"})


@dataclass(frozen=True, slots=True)
class LaidOutBed:
    """A bed as the layout says; where the file says it does not make it another bed."""

    code: str
    campus: str
    building: str
    floor: int
    ward: str
    room: str
    kind: str
    level: str
    klass: str
    isolation: bool
    equipment: tuple[str, ...]
    specialty: str
    auxiliary: tuple[str, ...]
    exclusive: bool
    age_min: int
    age_max: int
    ward_name_zh: str
    ward_name_en: str
    quota: str | None
    place: Place = field(compare=False, default=Place("", 0))


@dataclass(frozen=True, slots=True)
class Layout:
    """Every bed of a hospital, in the order of its file; no two rules of the layout contradict each other."""

    beds: tuple[LaidOutBed, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the beds as plain rows, as the pool takes them."""
        return [
            {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(bed).items()
                if name != "place"
            }
            for bed in self.beds
        ]

    def wards(self) -> list[str]:
        """Return the wards in the order of the file."""
        return list(dict.fromkeys(bed.ward for bed in self.beds))


@dataclass(frozen=True, slots=True)
class RefusedLayout:
    """The file cannot be used, for all of these reasons, in the order of their lines."""

    problems: tuple[Problem, ...]


class BadLayout(Exception):
    """A layout cannot be used; the message names every problem with file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


# ---- what a field may hold ------------------------------------------------------------------------------------------


class _NotUsable(Exception):
    """Why the text of a field cannot be what the field holds."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One column: how its text is read, and what it holds when nothing is said."""

    read: Callable[[str], Any]
    default: Any = None


def _code(text: str) -> str:
    if not CODE.fullmatch(text):
        raise _NotUsable(NO_CODE)
    return text


def _name(text: str) -> str:
    if len(text) > NAME_LENGTH_MAX or not text.isprintable():
        raise _NotUsable(f"is no name: one line of at most {NAME_LENGTH_MAX} characters")
    if text[0] in "=+-@":
        raise _NotUsable(f"is no name: a table program would take the {text[0]} in front for a formula")
    return text


def _yes_or_no(text: str) -> bool:
    word = text.casefold()
    if word not in YES | NO:
        raise _NotUsable("is neither yes nor no")
    return word in YES


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise _NotUsable(f"is not known; there are {', '.join(words)}")
        return text

    return read


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not WHOLE_NUMBER.fullmatch(text):
            raise _NotUsable("is not a whole number")
        if not low <= int(text) <= high:
            raise _NotUsable(f"is out of range: {low} to {high}")
        return int(text)

    return read


FIELDS: Mapping[str, _Field] = {
    "code": _Field(_code),
    "campus": _Field(_code, "main"),
    "building": _Field(_code),
    "floor": _Field(_number(FLOOR_MIN, FLOOR_MAX)),
    "ward": _Field(_code),
    "ward_name_zh": _Field(_name),
    "ward_name_en": _Field(_name),
    "specialty": _Field(_code, "general"),
    "auxiliary": _Field(_code, ()),
    "exclusive": _Field(_yes_or_no, default=False),
    "age_min": _Field(_number(0, AGE_MAX), 0),
    "age_max": _Field(_number(0, AGE_MAX), AGE_MAX),
    "room": _Field(_code),
    "kind": _Field(_one_of(*KINDS), "inpatient"),
    "level": _Field(_one_of(*LEVELS), "normal"),
    "class": _Field(_one_of(*CLASSES), "standard"),
    "isolation": _Field(_yes_or_no, default=False),
    "equipment": _Field(_one_of(*EQUIPMENT), ()),
    "quota": _Field(_code),
}
"""Every column of the CSV form, and every key of the YAML form but those that nest."""


# ---- reading and writing ------------------------------------------------------------------------------------------


def load(path: Path) -> Layout:
    """Return the layout of one UTF-8 file.

    Raises:
        BadLayout: the file cannot be used; every reason with its line.
    """
    match read([path]):
        case Layout() as found:
            return found
        case RefusedLayout(problems):
            raise BadLayout(problems)


def read(paths: Sequence[Path], *, encoding: str = "utf-8") -> Layout | RefusedLayout:
    """Return what the files say together, or every problem any of them has; nothing in between."""
    problems: list[Problem] = []
    entries: list[Entry] = []
    for path in paths:
        entries += entries_of(path, encoding, problems)
    known = [(entry, _values_of(entry, problems)) for entry in entries]
    problems += _contradictions(known)
    if not entries and not problems:
        problems = [Problem(Place(str(path), 1), "There is no bed in this file.") for path in paths]
    if problems:
        return RefusedLayout(tuple(sorted(set(problems))))
    return Layout(tuple(_bed(entry, values) for entry, values in known))


def write_csv(layout: Layout) -> str:
    """Return the layout in the CSV form; read again, it is the same layout."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in layout.rows():
        row["class"] = row.pop("klass")
        for name in ("ward_name_zh", "ward_name_en"):
            row[name] = None if row[name] == row["ward"] else row[name]
        writer.writerow([_written(row[name]) for name in FIELDS])
    return out.getvalue()


def _written(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ";".join(value)
        case _:
            return str(value)


# ---- judging ---------------------------------------------------------------------------------------------------------


def _values_of(entry: Entry, problems: list[Problem]) -> dict[str, Any]:
    """Return what the fields of a bed hold; a field that cannot be used is a problem and left out."""
    values: dict[str, Any] = {}
    for name, about in FIELDS.items():
        cell = entry.cells.get(name)
        if cell is None:
            if name in REQUIRED:
                problems.append(Problem(entry.place, f"The field {name} is missing."))
            else:
                values[name] = about.default
            continue
        texts = _several(cell) if name in LISTS else [(cell.text, cell.place)]
        before = len(problems)
        read_values = []
        for text, place in texts:
            try:
                read_values.append(about.read(text))
            except _NotUsable as why:
                problems.append(Problem(place, f"{name}: {shown(text)} {why}."))
        if len(problems) > before:
            continue
        values[name] = tuple(dict.fromkeys(read_values)) if name in LISTS else read_values[0]
    if "ward" in values:
        for name in ("ward_name_zh", "ward_name_en"):
            values[name] = values.get(name) or values["ward"]
    return values


def _several(cell: Cell) -> list[tuple[str, Place]]:
    if cell.items is not None:
        return list(cell.items)
    return [(text.strip(), cell.place) for text in re.split("[;；]", cell.text) if text.strip()]


def _contradictions(known: Sequence[tuple[Entry, Mapping[str, Any]]]) -> Iterator[Problem]:
    """Give what no bed says alone: a code twice, a room in two wards, a ward that is told of in two ways."""
    first: dict[str, Place] = {}
    for entry, values in known:
        code = values.get("code")
        if code is None:
            continue
        if code in first:
            place = _place_of(entry, "code")
            yield Problem(place, f"The bed {code} is there already{_on(first[code], place)}.", (first[code],))
        else:
            first[code] = _place_of(entry, "code")
    yield from _differing(known, "room", "ward", "The room {group} lies in ward {value} here, but in ward {norm}{on}.")
    for name in WARD_FIELDS:
        yield from _differing(known, "ward", name, "The ward {group} has " + name + " {value} here, but {norm}{on}.")
    for entry, values in known:
        low, high = values.get("age_min", 0), values.get("age_max", AGE_MAX)
        if low > high:
            places = [_place_of(entry, name) for name in ("age_min", "age_max") if name in entry.cells]
            yield Problem(places[0], f"age_min {low} is above age_max {high}.", tuple(places[1:]))


def disagreements(
    rows: Iterable[Mapping[str, Any]], wards: Mapping[str, Mapping[str, Any]], rooms: Mapping[str, str]
) -> list[str]:
    """Return in sentences where new rows contradict each other or the wards and rooms there are already; empty: nowhere.

    Args:
        rows: new beds, as `Layout.rows` gives them; of a ward that is known they need not tell everything again.
        wards: what is known of each ward, by the names of `WARD_FIELDS`; what is not told of is not compared.
        rooms: in which ward each known room lies.
    """
    of_ward = {ward: dict(about) for ward, about in wards.items()}
    ward_of = dict(rooms)
    found: dict[str, None] = {}
    for row in rows:
        ward, room = row["ward"], row["room"]
        if ward_of.setdefault(room, ward) != ward:
            found[f"The room {room} lies in ward {ward_of[room]}, not in {ward}."] = None
        about = of_ward.setdefault(ward, {})
        for name in WARD_FIELDS:
            told = row.get(name, "")
            if told != "" and _comparable(told) != _comparable(about.setdefault(name, told)):
                found[f"The ward {ward} has {name} {_told(about[name])}, not {_told(told)}."] = None
    return list(found)


def _comparable(value: Any) -> Any:
    return frozenset(value) if isinstance(value, list | tuple | set | frozenset) else value


def _differing(
    known: Sequence[tuple[Entry, Mapping[str, Any]]], group_by: str, name: str, sentence: str
) -> Iterator[Problem]:
    """Give every place where a group is told of in another way than most of its beds tell it."""
    groups: dict[Any, dict[Any, list[Place]]] = {}
    for entry, values in known:
        if group_by in values and name in values:
            groups.setdefault(values[group_by], {}).setdefault(values[name], []).append(_place_of(entry, name))
    for group, told in groups.items():
        norm = max(told, key=lambda value: len(told[value]))
        for value, places in told.items():
            for place in places if value != norm else ():
                on = _on(told[norm][0], place)
                text = sentence.format(group=group, value=_told(value), norm=_told(norm), on=on)
                yield Problem(place, text, (told[norm][0],))


def _place_of(entry: Entry, name: str) -> Place:
    cell = entry.cells.get(name)
    return entry.place if cell is None else cell.place


def _on(place: Place, seen_from: Place) -> str:
    return f" on line {place.line}" if place.file == seen_from.file else f" at {place}"


def _told(value: Any) -> str:
    return _written(list(value) if isinstance(value, tuple | set | frozenset) else value) or "nothing"


def _bed(entry: Entry, values: Mapping[str, Any]) -> LaidOutBed:
    found = {("klass" if name == "class" else name): value for name, value in values.items()}
    return LaidOutBed(**found, place=entry.place)


__all__ = [
    "BED_FIELDS",
    "ENCODINGS",
    "FIELDS",
    "WARD_FIELDS",
    "BadLayout",
    "LaidOutBed",
    "Layout",
    "Place",
    "Problem",
    "RefusedLayout",
    "disagreements",
    "load",
    "read",
    "write_csv",
]
