"""Tables people write: a file read as text, a CSV read as rows, and every problem with its file and line.

Nothing is judged here but the form; what a value may be is the business of whoever asked. A problem is noted, not raised,
so that one reading tells all of them.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_LENGTH_MAX = 80
ENCODINGS = ("utf-8", "gb18030")
"""What a file may be written in; table programs in China write the second one."""
FILE_BYTES_MAX = 8 * 1024 * 1024


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


def shown(text: str) -> str:
    """Return what the file says as a sentence can hold it: in quotes, and not without end."""
    return repr(text if len(text) <= SHOWN_LENGTH_MAX else text[:SHOWN_LENGTH_MAX] + "…")


def text_of(path: Path, encoding: str, problems: list[Problem]) -> str | None:
    """Return the text of a file, or note why it has none; a byte-order mark in front is welcome, as table programs write it."""
    beginning = Place(str(path), 1)
    try:
        with path.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problems.append(Problem(beginning, f"The file cannot be read: {error.strerror}."))
        return None
    if len(data) > FILE_BYTES_MAX:
        problems.append(Problem(beginning, f"The file is larger than {FILE_BYTES_MAX // 1024 // 1024} MiB."))
        return None
    text = _decoded(data, str(path), encoding, problems)
    if text is not None and not text.strip():
        problems.append(Problem(beginning, "The file is empty."))
        return None
    return text


def _decoded(data: bytes, file: str, encoding: str, problems: list[Problem]) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(Problem(Place(file, 1), 'The file is UTF-16; save it as UTF-8 (in Excel: "CSV UTF-8").'))
        return None
    if data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = line_ends(data[: error.start].decode("latin-1")) + 1
        why = f"The file is not {encoding.upper()} here."
        if encoding == "utf-8" and _looks_chinese(data):
            why = (
                "The file is not UTF-8 here; it looks like GB18030, as Excel's plain CSV is in China:"
                ' save it as "CSV UTF-8", or import it with --encoding gb18030.'
            )
        problems.append(Problem(Place(file, line), why))
        return None


def line_ends(text: str) -> int:
    """Return how many lines end in a text, however they end."""
    return len(re.findall(r"\r\n|\r|\n", text))


def _looks_chinese(data: bytes) -> bool:
    try:
        return re.search(r"[\u4e00-\u9fff]", data.decode("gb18030")) is not None
    except UnicodeDecodeError:
        return False


def rows(
    text: str, file: str, problems: list[Problem], *, columns: Sequence[str], required: Sequence[str]
) -> Iterator[tuple[Place, Mapping[str, str]]]:
    """Give each row of a CSV text with the line it begins on and what its cells say; empty cells and rows are left out.

    A heading that cannot be used ends the reading; a row of another length is noted and left out.
    """
    records = _records(text, file, problems)
    place, heading = next(records, (Place(file, 1), []))
    if not _heading_is_usable(place, heading, problems, columns, required):
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
        yield begins, {name: value for name, value in zip(heading, record, strict=True) if value and name in columns}


def _records(text: str, file: str, problems: list[Problem]) -> Iterator[tuple[Place, list[str]]]:
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


def _heading_is_usable(
    place: Place, heading: list[str], problems: list[Problem], columns: Sequence[str], required: Sequence[str]
) -> bool:
    """Say whether rows can be read under this heading; a column too many is a problem, but no reason to stop reading."""
    if not any(heading):
        problems.append(Problem(place, f"The first line names the columns: {', '.join(columns)}."))
        return False
    if len(heading) == 1 and re.search(r"[;\t]", heading[0]):
        problems.append(Problem(place, "The columns are not separated by commas."))
        return False
    for name in dict.fromkeys(heading):
        if not name:
            problems.append(Problem(place, "A column has no name."))
        elif name not in columns:
            problems.append(Problem(place, f"There is no column {name!r}; there are {', '.join(columns)}."))
    twice = [name for name in dict.fromkeys(heading) if name and heading.count(name) > 1]
    missing = [name for name in required if name not in heading]
    problems += [Problem(place, f"The column {name} is there twice.") for name in twice]
    problems += [Problem(place, f"The column {name} is missing.") for name in missing]
    return not twice and not missing
