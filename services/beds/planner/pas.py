"""Patient Admission Scheduling: the public benchmark's format, its rules with the classic weights, and what a plan costs.

Every patient gets one bed for the whole stay; moving to another bed during a stay is not used. Costs are whole tenths, so that
sums are exact. Nights past the horizon are not scored, and a patient without a night inside it needs no bed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]

TENTHS = 10
"""Costs are counted in tenths of the benchmark's unit."""

SEX_MIX, NEEDED_PROPERTY, AGE, PREFERRED_PROPERTY, ROOM_PREFERENCE = 50, 50, 100, 20, 8
ROOM_SPECIALISM_ABSENT, ROOM_SPECIALISM_LEVEL, DEPARTMENT_SPECIALISM = 20, 10, 10
"""Per patient and night, in tenths. A sex mix counts the smaller group of the room that night."""

LATTICE = 2
"""Every weight is a multiple of two tenths, so every plan's cost is one."""

RULES = (
    "age",
    "sex_mix",
    "needed_property",
    "preferred_property",
    "room_preference",
    "room_specialism",
    "department_specialism",
)

Policy = Literal["D", "M", "F", "N"]
"""D: one sex a night, M: men, F: women, N: anybody."""


class Malformed(Exception):
    """The instance cannot be read; the message names file, line and reason."""


class NoRoom(Exception):
    """More patients than beds on some night: no complete plan exists."""


@dataclass(frozen=True, slots=True)
class Department:
    """A department: the ages it takes (0: no limit) and the specialisms it has."""

    ident: int
    age_min: int
    age_max: int
    specialisms: frozenset[int]


@dataclass(frozen=True, slots=True)
class Room:
    """A room with its beds; `levels` says how well it suits a specialism, 1 best."""

    ident: int
    capacity: int
    department: int
    policy: Policy
    levels: dict[int, int]
    properties: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Patient:
    """A stay from `first` to before `end`; `parts` are specialisms with their nights, one after the other."""

    ident: int
    age: int
    sex: Literal["M", "F"]
    first: int
    end: int
    parts: tuple[tuple[int, int], ...]
    preferred_capacity: int
    needed: tuple[bool, ...]
    preferred: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """A hospital and its patients, as the file says it; `patients` has those only who need a bed inside the horizon."""

    departments: tuple[Department, ...]
    rooms: tuple[Room, ...]
    beds: tuple[tuple[int, int], ...]
    """Bed and the index of its room."""
    patients: tuple[Patient, ...]
    patients_ignored: int
    specialisms: int
    horizon: int


class _Lines:
    """The lines of the file that say something, each with its place."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._rest: Iterator[tuple[int, str]] = iter(
            [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        )
        self.number = 0

    def wrong(self, reason: str) -> Malformed:
        return Malformed(f"{self._name}:{self.number}: {reason}")

    def next(self, wanted: str) -> str:
        try:
            self.number, line = next(self._rest)
        except StopIteration:
            self.number += 1
            raise self.wrong(f"The file ends where {wanted} should stand.") from None
        return line

    def title(self, wanted: str) -> None:
        line = self.next(f"“{wanted}”")
        if line.rstrip(" .:").upper() != wanted.upper():
            raise self.wrong(f"“{wanted}” should stand here, not “{line[:60]}”.")

    def count(self, wanted: str) -> int:
        line = self.next(f"“{wanted}: N”")
        name, colon, value = line.partition(":")
        if not colon or name.strip().upper() != wanted.upper():
            raise self.wrong(f"“{wanted}: N” should stand here, not “{line[:60]}”.")
        return self.whole(value, wanted)

    def whole(self, word: str, what: str) -> int:
        word = word.strip()
        if not word.isascii() or not word.isdigit() or len(word) > 9:
            raise self.wrong(f"{what} should be a whole number from 0, not “{word[:40]}”.")
        return int(word)

    def wholes(self, words: str, what: str) -> list[int]:
        return [self.whole(word, what) for word in words.split()]

    def parts(self, wanted: str, count: int) -> list[str]:
        line = self.next(wanted)
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != count:
            raise self.wrong(f"{wanted} should have {count} parts between “|”, not {len(parts)}: “{line[:60]}”.")
        return parts

    def words(self, text: str, count: int, what: str) -> list[str]:
        found = text.split()
        if len(found) != count:
            raise self.wrong(f"{what} should be {count} words, not {len(found)}: “{text[:60]}”.")
        return found

    def flags(self, text: str, count: int, what: str) -> tuple[bool, ...]:
        found = text.split()
        if len(found) != count or any(word not in ("0", "1") for word in found):
            raise self.wrong(f"{what} should be {count} times 0 or 1, not “{text[:60]}”.")
        return tuple(word == "1" for word in found)

    def levels(self, text: str, known: set[int], what: str) -> dict[int, int]:
        numbers = self.wholes(text, what)
        if len(numbers) % 2:
            raise self.wrong(f"{what} should be pairs of level and specialism: “{text[:60]}”.")
        found: dict[int, int] = {}
        for level, specialism in zip(numbers[::2], numbers[1::2], strict=True):
            if specialism == 0:
                continue
            if specialism not in known:
                raise self.wrong(f"There is no specialism {specialism}.")
            if level < 1:
                raise self.wrong(f"The level of specialism {specialism} should be at least 1.")
            found[specialism] = min(level, found.get(specialism, level))
        return found

    def new(self, ident: int, known: Sequence[int] | set[int] | dict[int, Any], what: str) -> int:
        if ident in known:
            raise self.wrong(f"{what} {ident} stands here a second time.")
        return ident


def read_instance(path: Path) -> Instance:
    """Read an instance from a file, or say what is wrong in which line.

    Raises:
        Malformed: With file, line and reason.
    """
    return parse_instance(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read the file's text.

    Raises:
        Malformed: When there is no such file, or it is no text.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise Malformed(f"{path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Malformed(f"{path}:{line}: This is not a text file (byte {error.start} is no UTF-8).") from error


def parse_instance(text: str, name: str) -> Instance:
    """Read an instance from its text; `name` stands in what is said about it.

    Raises:
        Malformed: With name, line and reason.
    """
    lines = _Lines(text, name)
    lines.title("ARTICLE BENCHMARK DATA SET")
    sizes = {
        name: lines.count(name)
        for name in ("Rooms", "Roomproperties", "Beds", "Departments", "Specialisms", "Patients", "Planning horizon")
    }
    horizon, properties = sizes["Planning horizon"], sizes["Roomproperties"]
    if horizon < 1:
        raise lines.wrong("The planning horizon should have at least one night.")
    lines.title("SPECIALISMS")
    specialisms: dict[int, int] = {}
    for _ in range(sizes["Specialisms"]):
        ident = lines.whole(lines.next("a specialism").split()[0], "The specialism's number")
        specialisms[lines.new(ident, specialisms, "Specialism")] = len(specialisms)
    departments, department_at = _departments(lines, sizes["Departments"], set(specialisms))
    lines.title("ROOMPROPERTIES")
    known: set[int] = set()
    for _ in range(properties):
        ident = lines.whole(lines.next("a room property").split()[0], "The property's number")
        known.add(lines.new(ident, known, "Room property"))
    rooms, room_at, room_lines = _rooms(lines, sizes["Rooms"], properties, department_at, set(specialisms))
    beds = _beds(lines, sizes["Beds"], room_at)
    filled = [0] * len(rooms)
    for _, room in beds:
        filled[room] += 1
    for index, room_ in enumerate(rooms):
        if filled[index] != room_.capacity:
            lines.number = room_lines[index]
            raise lines.wrong(f"Room {room_.ident} has {room_.capacity} places, but BEDS lists {filled[index]} for it.")
    patients = _patients(lines, sizes["Patients"], properties, set(specialisms))
    lines.title("END")
    staying = tuple(patient for patient in patients if patient.first < min(patient.end, horizon))
    dense = specialisms
    return Instance(
        departments=tuple(
            Department(d.ident, d.age_min, d.age_max, frozenset(dense[s] for s in d.specialisms)) for d in departments
        ),
        rooms=tuple(
            Room(r.ident, r.capacity, r.department, r.policy, {dense[s]: v for s, v in r.levels.items()}, r.properties)
            for r in rooms
        ),
        beds=tuple(beds),
        patients=tuple(
            Patient(
                p.ident, p.age, p.sex, p.first, p.end, tuple((dense[s], nights) for s, nights in p.parts),
                p.preferred_capacity, p.needed, p.preferred,
            )
            for p in staying
        ),
        patients_ignored=len(patients) - len(staying),
        specialisms=len(specialisms),
        horizon=horizon,
    )  # fmt: skip


def _departments(lines: _Lines, count: int, specialisms: set[int]) -> tuple[list[Department], dict[int, int]]:
    lines.title("DEPARTMENTS")
    found: list[Department] = []
    at: dict[int, int] = {}
    for _ in range(count):
        head, tail = lines.parts("A department", 2)
        words = lines.words(head, 4, "A department's number, name and ages")
        ident = lines.new(lines.whole(words[0], "The department's number"), at, "Department")
        ages = [lines.whole(word, "An age") for word in words[2:]]
        at[ident] = len(found)
        found.append(
            Department(
                ident, ages[0], ages[1], frozenset(lines.levels(tail, specialisms, "A department's specialisms"))
            )
        )
    return found, at


def _rooms(
    lines: _Lines, count: int, properties: int, departments: dict[int, int], specialisms: set[int]
) -> tuple[list[Room], dict[int, int], list[int]]:
    lines.title("ROOMS")
    found: list[Room] = []
    at: dict[int, int] = {}
    numbers: list[int] = []
    policies: dict[str, Policy] = {"D": "D", "M": "M", "F": "F", "N": "N"}
    for _ in range(count):
        head, places, department, policy, levels, has = lines.parts("A room", 6)
        words = head.split()
        ident = lines.new(lines.whole(words[0] if words else "", "The room's number"), at, "Room")
        belongs = lines.whole(department, "The room's department")
        if belongs not in departments:
            raise lines.wrong(f"There is no department {belongs}.")
        if policy not in policies:
            raise lines.wrong(f"The room's policy should be D, M, F or N, not “{policy[:20]}”.")
        capacity = lines.whole(places, "The room's capacity")
        if capacity < 1:
            raise lines.wrong("A room's capacity should be at least 1.")
        at[ident] = len(found)
        numbers.append(lines.number)
        found.append(
            Room(
                ident,
                capacity,
                departments[belongs],
                policies[policy],
                lines.levels(levels, specialisms, "A room's specialisms"),
                lines.flags(has, properties, "A room's properties"),
            )
        )
    return found, at, numbers


def _beds(lines: _Lines, count: int, rooms: dict[int, int]) -> list[tuple[int, int]]:
    lines.title("BEDS")
    found: dict[int, int] = {}
    for _ in range(count):
        words = lines.words(lines.next("a bed"), 2, "A bed and its room")
        bed = lines.new(lines.whole(words[0], "The bed's number"), found, "Bed")
        room = lines.whole(words[1], "The bed's room")
        if room not in rooms:
            raise lines.wrong(f"There is no room {room}.")
        found[bed] = rooms[room]
    return list(found.items())


def _patients(lines: _Lines, count: int, properties: int, specialisms: set[int]) -> list[Patient]:
    lines.title("PATIENTS")
    found: list[Patient] = []
    known: set[int] = set()
    sexes: dict[str, Literal["M", "F"]] = {"M": "M", "F": "F"}
    for _ in range(count):
        head, nights, parts, capacity, needed, preferred = lines.parts("A patient", 6)
        words = lines.words(head, 4, "A patient's number, name, age and sex")
        ident = lines.new(lines.whole(words[0], "The patient's number"), known, "Patient")
        if words[3] not in sexes:
            raise lines.wrong(f"The patient's sex should be M or F, not “{words[3][:20]}”.")
        first, end = (lines.whole(word, "A night") for word in lines.words(nights, 2, "First and last night"))
        if end < first:
            raise lines.wrong(f"The stay ends on night {end}, before it begins on night {first}.")
        numbers = lines.wholes(parts, "A part of the stay")
        if not numbers or len(numbers) != 2 * numbers[0] + 1:
            raise lines.wrong(f"The parts of the stay should be a count and as many pairs: “{parts[:60]}”.")
        pairs = tuple(zip(numbers[1::2], numbers[2::2], strict=True))
        for specialism, _nights in pairs:
            if specialism not in specialisms:
                raise lines.wrong(f"There is no specialism {specialism}.")
        if sum(part for _, part in pairs) != end - first:
            raise lines.wrong(f"The parts have {sum(part for _, part in pairs)} nights, the stay has {end - first}.")
        known.add(ident)
        found.append(
            Patient(
                ident,
                lines.whole(words[2], "The patient's age"),
                sexes[words[3]],
                first,
                end,
                pairs,
                lines.whole(capacity, "The preferred capacity"),
                lines.flags(needed, properties, "The needed properties"),
                lines.flags(preferred, properties, "The preferred properties"),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Problem:
    """The instance as arrays: what the search and the bound work on."""

    first: Ints
    """First night of each patient."""
    end: Ints
    """First night after the stay, at most the horizon."""
    sex: Ints
    """0 male, 1 female."""
    room_of_bed: Ints
    first_bed: Ints
    """Beds of one room follow each other: first_bed[room] .. first_bed[room] + capacity[room]."""
    capacity: Ints
    one_sex: Ints
    """1 where a room of several beds takes one sex a night."""
    cost: Ints
    """patient x room: all rules that do not depend on who else is there."""
    by_rule: dict[str, Ints]
    horizon: int
    bed_at: tuple[int, ...]
    """The file's bed for each of our beds."""


def problem_of(instance: Instance) -> Problem:
    """Compute for every patient and room what the stay would cost there, rule by rule."""
    patients, rooms, departments = instance.patients, instance.rooms, instance.departments
    horizon = instance.horizon
    first = np.array([p.first for p in patients], np.int32)
    end = np.array([min(p.end, horizon) for p in patients], np.int32)
    nights = (end - first)[:, None]
    spent = np.zeros((len(patients), max(1, instance.specialisms)), np.int32)
    for index, patient in enumerate(patients):
        night = patient.first
        for specialism, length in patient.parts:
            spent[index, specialism] += max(0, min(night + length, horizon) - min(night, horizon))
            night += length
    suits = np.full((len(rooms), spent.shape[1]), ROOM_SPECIALISM_ABSENT, np.int32)
    belongs = np.full((len(rooms), spent.shape[1]), DEPARTMENT_SPECIALISM, np.int32)
    for index, room in enumerate(rooms):
        for specialism, level in room.levels.items():
            suits[index, specialism] = (level - 1) * ROOM_SPECIALISM_LEVEL
        for specialism in departments[room.department].specialisms:
            belongs[index, specialism] = 0
    count = len(rooms[0].properties) if rooms else 0
    lacks = np.array([[not has for has in room.properties] for room in rooms], np.int32).reshape(len(rooms), count)
    needed = np.array([p.needed[:count] for p in patients], np.int32).reshape(len(patients), count)
    wished = np.array([p.preferred[:count] for p in patients], np.int32).reshape(len(patients), count) * (1 - needed)
    age = np.array([p.age for p in patients], np.int32)[:, None]
    youngest = np.array([departments[room.department].age_min for room in rooms], np.int32)
    oldest = np.array([departments[room.department].age_max for room in rooms], np.int32)
    capacity = np.array([room.capacity for room in rooms], np.int32)
    wish = np.array([p.preferred_capacity for p in patients], np.int32)[:, None]
    sex = np.array([0 if p.sex == "M" else 1 for p in patients], np.int32)
    only = np.array([{"M": 0, "F": 1}.get(room.policy, -1) for room in rooms], np.int32)
    wrong_age = ((youngest > 0) & (age < youngest)).astype(np.int32) + ((oldest > 0) & (age > oldest))
    by_rule: dict[str, Ints] = {
        "age": (AGE * nights * wrong_age).astype(np.int32),
        "sex_mix": (SEX_MIX * nights * ((only >= 0) & (only != sex[:, None]))).astype(np.int32),
        "needed_property": (NEEDED_PROPERTY * nights * (needed @ lacks.T)).astype(np.int32),
        "preferred_property": (PREFERRED_PROPERTY * nights * (wished @ lacks.T)).astype(np.int32),
        "room_preference": (ROOM_PREFERENCE * nights * ((wish > 0) & (capacity > wish))).astype(np.int32),
        "room_specialism": (spent @ suits.T).astype(np.int32),
        "department_specialism": (spent @ belongs.T).astype(np.int32),
    }
    order = sorted(range(len(instance.beds)), key=lambda bed: (instance.beds[bed][1], bed))
    room_of_bed = np.array([instance.beds[bed][1] for bed in order], np.int32)
    return Problem(
        first=first,
        end=end,
        sex=sex,
        room_of_bed=room_of_bed,
        first_bed=np.searchsorted(room_of_bed, np.arange(len(rooms))).astype(np.int32),
        capacity=capacity,
        one_sex=np.array([int(room.policy == "D" and room.capacity > 1) for room in rooms], np.int32),
        cost=sum(by_rule.values(), np.zeros((len(patients), len(rooms)), np.int32)).astype(np.int32),
        by_rule=by_rule,
        horizon=horizon,
        bed_at=tuple(instance.beds[bed][0] for bed in order),
    )


def mixed_nights(problem: Problem, rooms: Ints) -> int:
    """Count the patient-nights of the smaller sex in rooms that take one sex a night."""
    there = np.zeros((2, len(problem.capacity), problem.horizon), np.int32)
    for patient, room in enumerate(rooms):
        there[problem.sex[patient], room, problem.first[patient] : problem.end[patient]] += 1
    return int((np.minimum(there[0], there[1]) * problem.one_sex[:, None]).sum())


def breakdown(problem: Problem, rooms: Ints) -> dict[str, int]:
    """Return what the plan costs by each rule, in tenths."""
    people = np.arange(len(rooms))
    found = {rule: int(problem.by_rule[rule][people, rooms].sum()) for rule in RULES}
    found["sex_mix"] += SEX_MIX * mixed_nights(problem, rooms)
    return found


def first_plan(problem: Problem, wanted: npt.NDArray[np.float64] | None = None) -> Ints:
    """Give each patient, in order of arrival, the cheapest bed that is free: complete whenever any plan is.

    Args:
        problem: Who stays when, and what it costs where.
        wanted: Patient x room: choose by this instead of the cost, such as the cost with every bed-night paid at its price.

    Raises:
        NoRoom: When some night has more patients than the hospital has beds.
    """
    beds = len(problem.room_of_bed)
    load = np.zeros(problem.horizon + 1, np.int64)
    np.add.at(load, problem.first, 1)
    np.add.at(load, problem.end, -1)
    load = np.cumsum(load)
    if len(problem.first) and int(load.max()) > beds:
        night = int(load.argmax())
        raise NoRoom(f"Night {night} has {int(load[night])} patients and the hospital has {beds} beds: no plan exists.")
    choose_by = problem.cost if wanted is None else wanted
    free_from = np.zeros(beds, np.int32)
    there = np.zeros((2, len(problem.capacity), problem.horizon), np.int32)
    plan = np.zeros(len(problem.first), np.int32)
    for patient in np.lexsort((-problem.end, problem.first)):
        first, end, sex = int(problem.first[patient]), int(problem.end[patient]), int(problem.sex[patient])
        others = (there[1 - sex, :, first:end] > 0).sum(axis=1) * problem.one_sex
        price = (choose_by[patient] + SEX_MIX * others)[problem.room_of_bed].astype(np.float64)
        price[free_from > first] = np.inf
        bed = int(price.argmin())
        plan[patient] = bed
        free_from[bed] = end
        there[sex, problem.room_of_bed[bed], first:end] += 1
    return plan
