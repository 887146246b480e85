"""The two forms of a layout file, CSV and YAML, read into the same entries: one for each bed, every value with its line.

Nothing is judged here but the form itself; what a value may be is `services.beds.layout`'s business.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from shared.tables import ENCODINGS, FILE_BYTES_MAX, Place, Problem, line_ends, rows, shown, text_of

BEDS_MAX = 20_000
"""More than the largest hospital has; a slip of the pen in a range of rooms ends here."""
NAME_LENGTH_MAX = 80
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


def entries_of(path: Path, encoding: str, problems: list[Problem]) -> list[Entry]:
    """Return what one file tells, in whichever of the two forms its name promises."""
    beginning = Place(str(path), 1)
    suffix = path.suffix.casefold()
    if suffix not in (".csv", ".yaml", ".yml"):
        problems.append(Problem(beginning, "The name of a layout ends with .csv, .yaml or .yml."))
        return []
    text = text_of(path, encoding, problems)
    if text is None:
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


# ---- CSV -------------------------------------------------------------------------------------------------------------


def _csv_entries(text: str, file: str, problems: list[Problem]) -> Iterator[Entry]:
    for place, row in rows(text, file, problems, columns=COLUMNS, required=REQUIRED):
        yield Entry(place, {name: Cell(value, place) for name, value in row.items()})


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
        line = line_ends(text[: strange.start()]) + 1
        character = f"U+{ord(strange[0]):04X}"
        problems.append(Problem(Place(file, line), f"The character {character} may not stand in a YAML file."))
        return
    try:
        _refuse_what_could_explode(text)
        root = yaml.compose(text, Loader=_YAML)
    except yaml.MarkedYAMLError as error:
        last = line_ends(text.rstrip("\r\n")) + 1
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
