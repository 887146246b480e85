"""The two forms of a layout file, CSV and YAML, read into the same entries: one for each bed, every value with its line.

Nothing is judged here but the form itself; what a value may be is `services.beds.layout`'s business.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

BEDS_MAX = 20_000
"""More than the largest hospital has; a slip of the pen in a range of rooms ends here."""
NAME_LENGTH_MAX = 80
ENCODINGS = ("utf-8", "gb18030")
"""What a file may be written in; table programs in China write the second one."""
FILE_BYTES_MAX = 8 * 1024 * 1024
YAML_DEPTH_MAX = 12
RANGE_LENGTH_MAX = 130
"""Two codes and the dots between them."""

WARD_FIELDS = (
    "campus",
    "building",
    "floor",
    "ward_name_zh",
    "ward_name_en",
    "specialty",
    "auxiliary",
    "exclusive",
    "age_min",
    "age_max",
)
BED_FIELDS = ("kind", "level", "class", "isolation", "equipment", "quota")
COLUMNS = ("code", "campus", "building", "floor", "ward", "ward_name_zh", "ward_name_en", "specialty", "auxiliary", "exclusive",
           "age_min", "age_max", "room", *BED_FIELDS)  # fmt: skip
REQUIRED = ("code", "building", "floor", "ward", "room")
LISTS = ("auxiliary", "equipment")

NO_CODE = "is no code: 1 to 64 letters, digits and _ . : + - without spaces"
CODE = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_RANGE = re.compile(r"(?P<head>[A-Za-z0-9_.:+-]*?)(?P<first>[0-9]{1,6})\.\.(?P=head)(?P<last>[0-9]{1,6})")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong, where, and the other places that have to do with it."""

    place: Place
    sentence: str
    others: tuple[Place, ...] = ()

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What the file says about one field, and where; `items` when the file itself lists several."""

    text: str
    place: Place
    items: tuple[tuple[str, Place], ...] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One bed as the file tells of it."""

    place: Place
    cells: Mapping[str, Cell]


def shown(text: str) -> str:
    """Return what the file says as a sentence can hold it: in quotes, and not without end."""
    return repr(text if len(text) <= NAME_LENGTH_MAX else text[:NAME_LENGTH_MAX] + "…")


def entries_of(path: Path, encoding: str, problems: list[Problem]) -> list[Entry]:
    """Return what one file tells, in whichever of the two forms its name promises."""
    beginning = Place(str(path), 1)
    suffix = path.suffix.casefold()
    if suffix not in (".csv", ".yaml", ".yml"):
        problems.append(Problem(beginning, "The name of a layout ends with .csv, .yaml or .yml."))
        return []
    try:
        with path.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problems.append(Problem(beginning, f"The file cannot be read: {error.strerror}."))
        return []
    if len(data) > FILE_BYTES_MAX:
        problems.append(Problem(beginning, f"The file is larger than {FILE_BYTES_MAX // 1024 // 1024} MiB."))
        return []
    text = _text_of(data, str(path), encoding, problems)
    if text is None:
        return []
    if not text.strip():
        problems.append(Problem(beginning, "The file is empty."))
        return []
    found: list[Entry] = []
    for entry in (_csv_entries if suffix == ".csv" else _yaml_entries)(text, str(path), problems):
        found.append(entry)
        if len(found) > BEDS_MAX:
            problems.append(Problem(entry.place, f"Here the file passes {BEDS_MAX} beds, which no hospital has."))
            return []
    if not found and not problems:
        problems.append(Problem(beginning, "There is no bed in this file."))
    return found


def _text_of(data: bytes, file: str, encoding: str, problems: list[Problem]) -> str | None:
    """Decode the file; a byte-order mark in front is welcome, as table programs write it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(Problem(Place(file, 1), 'The file is UTF-16; save it as UTF-8 (in Excel: "CSV UTF-8").'))
        return None
    if data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = _line_ends(data[: error.start].decode("latin-1")) + 1
        why = f"The file is not {encoding.upper()} here."
        if encoding == "utf-8" and _looks_chinese(data):
            why = (
                "The file is not UTF-8 here; it looks like GB18030, as Excel's plain CSV is in China:"
                ' save it as "CSV UTF-8", or import it with --encoding gb18030.'
            )
        problems.append(Problem(Place(file, line), why))
        return None


def _line_ends(text: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", text))


def _looks_chinese(data: bytes) -> bool:
    try:
        return re.search(r"[\u4e00-\u9fff]", data.decode("gb18030")) is not None
    except UnicodeDecodeError:
        return False


# ---- CSV -------------------------------------------------------------------------------------------------------------


def _csv_records(text: str, file: str, problems: list[Problem]) -> Iterator[tuple[Place, list[str]]]:
    """Give each record with the line on which it begins; a quoted value may hold line ends."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        place = Place(file, reader.line_num + 1)
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = (
                "A quoted value that begins in this row does not end properly" if '"' in text else "This row is broken"
            )
            problems.append(Problem(place, f"{why} ({error}); nothing after it was read."))
            return
        yield place, [cell.strip() for cell in record]


def _csv_entries(text: str, file: str, problems: list[Problem]) -> Iterator[Entry]:
    records = _csv_records(text, file, problems)
    place, heading = next(records, (Place(file, 1), []))
    if not _heading_is_usable(place, heading, problems):
        return
    for begins, record in records:
        if not any(record):
            continue
        if len(record) != len(heading):
            sentence = (
                f"This row has {len(record)} values, the heading on line {place.line} has {len(heading)} columns."
            )
            problems.append(Problem(begins, sentence, (place,)))
            continue
        cells = {name: Cell(value, begins) for name, value in zip(heading, record, strict=True) if value}
        yield Entry(begins, {name: cell for name, cell in cells.items() if name in COLUMNS})


def _heading_is_usable(place: Place, heading: list[str], problems: list[Problem]) -> bool:
    """Say whether rows can be read under this heading; a column too many is a problem, but no reason to stop reading."""
    if not any(heading):
        problems.append(Problem(place, f"The first line names the columns: {', '.join(COLUMNS)}."))
        return False
    if len(heading) == 1 and re.search(r"[;\t]", heading[0]):
        problems.append(Problem(place, "The columns are not separated by commas."))
        return False
    for name in dict.fromkeys(heading):
        if not name:
            problems.append(Problem(place, "A column has no name."))
        elif name not in COLUMNS:
            problems.append(Problem(place, f"There is no column {name!r}; there are {', '.join(COLUMNS)}."))
    twice = [name for name in dict.fromkeys(heading) if name and heading.count(name) > 1]
    missing = [name for name in REQUIRED if name not in heading]
    problems += [Problem(place, f"The column {name} is there twice.") for name in twice]
    problems += [Problem(place, f"The column {name} is missing.") for name in missing]
    return not twice and not missing


# ---- YAML ------------------------------------------------------------------------------------------------------------

_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one built on libyaml where there is one: ten times as fast at every start."""

_TOP = frozenset({"wards", "campus", "building"})
_WARD = frozenset({"ward", "rooms", *WARD_FIELDS, *BED_FIELDS})
_ROOM = frozenset({"room", "rooms", "beds", *BED_FIELDS})
_BED = frozenset({"code", *BED_FIELDS})
_Named = Literal["file", "ward", "room", "bed"]


def _yaml_entries(text: str, file: str, problems: list[Problem]) -> Iterator[Entry]:
    strange = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if strange is not None:
        line = _line_ends(text[: strange.start()]) + 1
        character = f"U+{ord(strange[0]):04X}"
        problems.append(Problem(Place(file, line), f"The character {character} may not stand in a YAML file."))
        return
    try:
        _refuse_what_could_explode(text)
        root = yaml.compose(text, Loader=_YAML)
    except yaml.MarkedYAMLError as error:
        last = _line_ends(text.rstrip("\r\n")) + 1
        places = [Place(file, min(mark.line + 1, last)) for mark in (error.problem_mark, error.context_mark) if mark]
        sentence = f"This is not YAML that can be read: {error.problem or error.context}."
        problems.append(Problem(places[0] if places else Place(file, 1), sentence, tuple(places[1:])))
        return
    except yaml.YAMLError as error:
        problems.append(Problem(Place(file, 1), f"This is not YAML that can be read: {error}."))
        return
    if root is None:
        problems.append(Problem(Place(file, 1), "There is no bed in this file."))
        return
    yield from _YamlLayout(file, problems).entries(root)


def _refuse_what_could_explode(text: str) -> None:
    """Refuse aliases, with which a small file could mean a huge one, and nesting without end.

    Nothing is ever constructed from the file: every scalar stays the text that was written, so ward 007 stays 007.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_YAML):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not understood here", event.start_mark)
        if depth > YAML_DEPTH_MAX:
            raise yaml.MarkedYAMLError(None, None, "it is nested too deeply", event.start_mark)


class _YamlLayout:
    """Walks the nodes of one file from the wards down to the beds."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems

    def entries(self, root: Any) -> Iterator[Entry]:
        """Give every bed; what stands further in overrules what stands further out."""
        top = self._mapping(root, "file", _TOP)
        if top is None:
            return
        if "wards" not in top:
            self._note(root, "The list wards is missing.")
        shared = self._cells(top, ("campus", "building"))
        for node in self._sequence(top.get("wards"), "wards"):
            ward = self._mapping(node, "ward", _WARD)
            if ward is None:
                continue
            if "rooms" not in ward:
                self._note(node, "The list rooms is missing in this ward.")
            about = {**shared, **self._cells(ward, (*WARD_FIELDS, *BED_FIELDS)), "ward": self._ward_code(node, ward)}
            yield from self._ward_entries(about, ward.get("rooms"))

    def _ward_code(self, node: Any, ward: Mapping[str, Any]) -> Cell:
        """Return the ward's code, or note that it cannot be used and go on with a name of our own, to find what else is wrong."""
        cell = self._cell(ward["ward"], "ward") if "ward" in ward else None
        if cell is not None and CODE.fullmatch(cell.text):
            return cell
        if cell is None:
            self._note(node, "The field ward is missing.")
        else:
            self._problems.append(Problem(cell.place, f"ward: {shown(cell.text)} {NO_CODE}."))
        place = self._place(node)
        return Cell(f"ward-of-line-{place.line}", place)

    def _ward_entries(self, about: Mapping[str, Cell], rooms: Any) -> Iterator[Entry]:
        number = 0
        for node in self._sequence(rooms, "rooms"):
            room = self._mapping(node, "room", _ROOM)
            if room is None:
                continue
            inside = {**about, **self._cells(room, BED_FIELDS)}
            names = self._room_names(node, room)
            for name in names:
                for cells in self._beds_of(node, room, about["ward"].text, number, alone=len(names) == 1):
                    number += 1
                    place = cells["code"].place if "code" in cells else name.place
                    yield Entry(place, {**inside, "room": name, **cells})

    def _room_names(self, node: Any, room: Mapping[str, Any]) -> list[Cell]:
        """Return the room of an entry, or the rooms of its range such as 301..312."""
        named = [name for name in ("room", "rooms") if name in room]
        cell = self._cell(room[named[0]], named[0]) if len(named) == 1 else None
        if cell is None:
            self._note(node, "An entry of rooms needs either room (one) or rooms (a range such as 301..312).")
            return []
        if named == ["room"]:
            return [cell]
        found = _RANGE.fullmatch(cell.text) if len(cell.text) <= RANGE_LENGTH_MAX else None
        if found is None or not 0 <= int(found["last"]) - int(found["first"]) < BEDS_MAX:
            self._note(room["rooms"], f"{shown(cell.text)} is no range of rooms such as 301..312 or 3A-R01..3A-R12.")
            return []
        width = len(found["first"])
        numbers = range(int(found["first"]), int(found["last"]) + 1)
        return [Cell(f"{found['head']}{number:0{width}d}", cell.place) for number in numbers]

    def _beds_of(
        self, node: Any, room: Mapping[str, Any], ward: str, number: int, *, alone: bool
    ) -> Iterator[dict[str, Cell]]:
        """Give the beds of one room: so many, numbered on within the ward, or each by its own code."""
        beds = room.get("beds")
        if isinstance(beds, yaml.SequenceNode):
            if not alone:
                self._note(beds, "Several rooms cannot share one list of beds; say how many beds each has.")
            else:
                yield from self._beds_by_code(beds)
            return
        count = self._cell(beds, "beds") if beds is not None else None
        if count is None:
            self._note(node, "The field beds is missing: how many, or a list of codes.")
        elif not WHOLE_NUMBER.fullmatch(count.text) or not 1 <= int(count.text) <= BEDS_MAX:
            self._note(beds, f"beds: {shown(count.text)} is no number of beds.")
        else:
            for offset in range(1, int(count.text) + 1):
                yield {"code": Cell(f"{ward}-{number + offset:02d}", count.place)}

    def _beds_by_code(self, beds: Any) -> Iterator[dict[str, Cell]]:
        for node in self._sequence(beds, "beds"):
            if isinstance(node, yaml.ScalarNode):
                code = self._cell(node, "code")
                cells = {} if code is None else {"code": code}
            else:
                bed = self._mapping(node, "bed", _BED)
                if bed is None:
                    continue
                cells = self._cells(bed, ("code", *BED_FIELDS))
            if "code" not in cells:
                self._note(node, "The code of this bed is missing.")
            else:
                yield cells

    def _cells(self, mapping: Mapping[str, Any], names: Iterable[str]) -> dict[str, Cell]:
        found: dict[str, Cell] = {}
        for name in names:
            if name in mapping and (cell := self._cell(mapping[name], name)) is not None:
                found[name] = cell
        return found

    def _cell(self, node: Any, name: str) -> Cell | None:
        """Return the text of a scalar as it was written; nothing for an empty one."""
        place = self._place(node)
        if isinstance(node, yaml.ScalarNode):
            text = node.value.strip()
            return None if not text or (not node.style and text.casefold() in ("~", "null")) else Cell(text, place)
        if isinstance(node, yaml.SequenceNode) and name in LISTS:
            cells = [self._cell(item, "item") for item in node.value]
            items = tuple((cell.text, cell.place) for cell in cells if cell is not None)
            return Cell("", place, items)
        self._note(node, f"{name}: one value is expected here.")
        return None

    def _mapping(self, node: Any, what: _Named, known: frozenset[str]) -> dict[str, Any] | None:
        """Return a mapping by its keys; unknown and repeated ones are problems at their own lines."""
        if not isinstance(node, yaml.MappingNode):
            self._note(node, f"A {what} is written as fields with values here.")
            return None
        found: dict[str, Any] = {}
        lines: dict[str, Place] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                self._note(key, f"A {what} has no field {name!r}; there are {', '.join(sorted(known))}.")
            elif name in found:
                self._problems.append(
                    Problem(
                        self._place(key),
                        f"The field {name} is there twice, first on line {lines[name].line}.",
                        (lines[name],),
                    )
                )
            else:
                found[name], lines[name] = value, self._place(key)
        return found

    def _sequence(self, node: Any, name: str) -> list[Any]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._note(node, f"{name}: a list of at least one is expected here.")
            return []
        return list(node.value)

    def _place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1)

    def _note(self, node: Any, sentence: str) -> None:
        self._problems.append(Problem(self._place(node), sentence))


__all__ = [
    "BED_FIELDS",
    "CODE",
    "COLUMNS",
    "ENCODINGS",
    "FILE_BYTES_MAX",
    "LISTS",
    "NAME_LENGTH_MAX",
    "NO_CODE",
    "REQUIRED",
    "WARD_FIELDS",
    "WHOLE_NUMBER",
    "Cell",
    "Entry",
    "Place",
    "Problem",
    "entries_of",
    "shown",
]
