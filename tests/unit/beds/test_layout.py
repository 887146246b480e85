"""What a hospital's layout may say in a file, and how a wrong file is refused: whole, with the line of everything that is wrong."""

import re
import tempfile
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.beds import layout, layout_forms
from services.beds.layout import BadLayout, LaidOutBed, Layout, Problem, RefusedLayout

DEFAULT = Path(layout.__file__).parent / "data" / "hospital.yaml"
HEADING = "code,building,floor,ward,room"

WARD = """\
wards:
  - ward: 3A
    ward_name_zh: 综合内科
    building: A
    floor: 3
    rooms:
      - {rooms: 301..302, beds: 2}
      - room: 303
        beds:
          - 3A-05
          - {code: 3A-06, class: vip}
"""


def written(tmp_path: Path, text: str | bytes, name: str = "hospital.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def accepted(*paths: Path, encoding: str = "utf-8") -> Layout:
    found = layout.read(paths, encoding=encoding)
    assert isinstance(found, Layout), "\n".join(map(str, found.problems))
    return found


def refused(*paths: Path, encoding: str = "utf-8") -> tuple[Problem, ...]:
    found = layout.read(paths, encoding=encoding)
    assert isinstance(found, RefusedLayout)
    assert found.problems
    return found.problems


def told(problems: tuple[Problem, ...]) -> list[tuple[int, str]]:
    return [(problem.place.line, problem.sentence) for problem in problems]


def lines_of(problems: tuple[Problem, ...]) -> set[int]:
    return {place.line for problem in problems for place in (problem.place, *problem.others)}


# ---- what a right file says ------------------------------------------------------------------------------------------


def test_a_row_for_each_bed_is_enough_and_the_rest_is_as_usual(tmp_path: Path):
    found = accepted(written(tmp_path, f"{HEADING}\n3A-01,A,3,3A,301\n3A-02,A,3,3A,301\n"))
    assert found.rows()[0] == {
        "code": "3A-01",
        "campus": "main",
        "building": "A",
        "floor": 3,
        "ward": "3A",
        "room": "301",
        "kind": "inpatient",
        "level": "normal",
        "klass": "standard",
        "isolation": False,
        "equipment": [],
        "specialty": "general",
        "auxiliary": [],
        "exclusive": False,
        "age_min": 0,
        "age_max": 130,
        "ward_name_zh": "3A",
        "ward_name_en": "3A",
        "quota": None,
    }
    assert [bed.code for bed in found.beds] == ["3A-01", "3A-02"]


def test_every_column_becomes_a_field_of_the_bed():
    assert tuple(layout.FIELDS) == layout_forms.COLUMNS
    assert {*layout_forms.WARD_FIELDS, *layout_forms.BED_FIELDS, *layout_forms.REQUIRED} == set(layout.FIELDS)
    names = {"klass" if name == "class" else name for name in layout.FIELDS}
    assert names == {each.name for each in fields(LaidOutBed)} - {"place"}


def test_rooms_and_beds_inside_a_ward_are_numbered_on(tmp_path: Path):
    found = accepted(written(tmp_path, WARD, "hospital.yaml"))
    beds = [(bed.code, bed.room, bed.klass, bed.place.line) for bed in found.beds]
    assert beds == [
        ("3A-01", "301", "standard", 7),
        ("3A-02", "301", "standard", 7),
        ("3A-03", "302", "standard", 7),
        ("3A-04", "302", "standard", 7),
        ("3A-05", "303", "standard", 10),
        ("3A-06", "303", "vip", 11),
    ]
    assert {(bed.ward_name_zh, bed.ward_name_en) for bed in found.beds} == {("综合内科", "3A")}


def test_what_stands_further_in_overrules_what_stands_further_out(tmp_path: Path):
    text = """\
building: B
wards:
  - ward: ICU
    floor: 2
    level: critical
    equipment: [oxygen, monitor]
    rooms:
      - {room: 1, beds: 1}
      - room: 2
        equipment:
          - ventilator
        beds: [{code: ICU-A, level: normal}]
"""
    beds = accepted(written(tmp_path, text, "icu.yml")).beds
    assert [(bed.code, bed.building, bed.level, bed.equipment) for bed in beds] == [
        ("ICU-01", "B", "critical", ("oxygen", "monitor")),
        ("ICU-A", "B", "normal", ("ventilator",)),
    ]


def test_a_ward_named_no_or_007_keeps_its_name(tmp_path: Path):
    text = "wards:\n- {ward: 007, building: no, floor: 1, rooms: [{room: 1e3, beds: 1}]}\n"
    [bed] = accepted(written(tmp_path, text, "odd.yaml")).beds
    assert (bed.ward, bed.building, bed.room, bed.code) == ("007", "no", "1e3", "007-01")


@pytest.mark.parametrize(
    "data",
    [
        f"\ufeff{HEADING},ward_name_zh\r\n3A-01,A,3,3A,301,内科\r\n".encode(),
        f"{HEADING},ward_name_zh\r3A-01,A,3,3A,301,内科\r".encode(),
        f" {HEADING} , ward_name_zh\n\n 3A-01 , A,3,3A,301,内科\n,,,,,\n".encode(),
        f'"{HEADING.replace(",", chr(34) + "," + chr(34))}","ward_name_zh"\n"3A-01","A","3","3A","301","内科"'.encode(),
    ],
    ids=[
        "as Excel writes it",
        "as an old Mac writes it",
        "with spaces and empty rows",
        "all in quotes, no last line end",
    ],
)
def test_what_table_programs_write_is_read(tmp_path: Path, data: bytes):
    [bed] = accepted(written(tmp_path, data)).beds
    assert (bed.code, bed.floor, bed.ward_name_zh) == ("3A-01", 3, "内科")


def test_lists_and_words_for_yes_are_read_as_people_write_them(tmp_path: Path):
    text = f"{HEADING},equipment,isolation,exclusive\n3A-01,A,3,3A,301,oxygen; monitor；oxygen,是,TRUE\n3A-02,A,3,3A,301,,否,Yes\n"
    one, two = accepted(written(tmp_path, text)).beds
    assert (one.equipment, one.isolation, one.exclusive) == (("oxygen", "monitor"), True, True)
    assert (two.equipment, two.isolation, two.exclusive) == ((), False, True)


def test_a_file_in_gb18030_is_read_when_one_says_so_and_named_when_not(tmp_path: Path):
    text = f"{HEADING},ward_name_zh\n3A-01,A,3,3A,301,内科\n"
    path = written(tmp_path, text.encode("gb18030"))
    [(line, sentence)] = told(refused(path))
    assert line == 2
    assert "looks like GB18030" in sentence
    assert "--encoding gb18030" in sentence
    assert accepted(path, encoding="gb18030") == accepted(written(tmp_path, text, "utf8.csv"))
    marked = written(tmp_path, b"\xef\xbb\xbf" + text.encode(), "marked.csv")
    assert accepted(marked, encoding="gb18030").beds[0].ward_name_zh == "内科", "A mark at the beginning says UTF-8."


def test_several_files_are_one_hospital(tmp_path: Path):
    one = written(tmp_path, f"{HEADING}\n3A-01,A,3,3A,301\n", "a.csv")
    two = written(tmp_path, WARD.replace("3A", "3B").replace("30", "40"), "b.yaml")
    assert accepted(one, two).wards() == ["3A", "3B"]
    problems = refused(one, written(tmp_path, f"{HEADING}\n3A-01,A,4,3A,301\n", "c.csv"))
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/c.csv:2: The bed 3A-01 is there already at {tmp_path}/a.csv:2.",
        f"{tmp_path}/c.csv:2: The ward 3A has floor 4 here, but 3 at {tmp_path}/a.csv:2.",
    ]


# ---- what is wrong with a table --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("3A 02,A,3,3A,302,,,", "code: '3A 02' is no code: 1 to 64 letters, digits and _ . : + - without spaces."),
        (",A,3,3A,302,,,", "The field code is missing."),
        ("3A-02,A,,3A,302,,,", "The field floor is missing."),
        ("3A-02,A,third,3A,302,,,", "floor: 'third' is not a whole number."),
        ("3A-02,A,3.0,3A,302,,,", "floor: '3.0' is not a whole number."),
        ("3A-02,A,100,3A,302,,,", "floor: '100' is out of range: -5 to 99."),
        ("3A-02,A,-6,3A,302,,,", "floor: '-6' is out of range: -5 to 99."),
        ("3A-02,A,3,3A,302,night,,", "kind: 'night' is not known; there are inpatient, day."),
        (
            "3A-02,A,3,3A,302,,bed;monitor,",
            "equipment: 'bed' is not known; there are oxygen, monitor, negative_pressure,",
        ),
        ("3A-02,A,3,3A,302,,,maybe", "isolation: 'maybe' is neither yes nor no."),
        ("3A-02,A,3,3A,302,,", "This row has 7 values, the heading on line 1 has 8 columns."),
        ("3A-02,A,3,3A,302,,,,", "This row has 9 values, the heading on line 1 has 8 columns."),
        ('"3A-02,A,3,3A,302,,,', "A quoted value that begins in this row does not end properly"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_reason(tmp_path: Path, row: str, sentence: str):
    path = written(tmp_path, f"{HEADING},kind,equipment,isolation\n3A-01,A,3,3A,301,,,\n{row}\n")
    [(line, said)] = told(refused(path))
    assert line == 3
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("heading", "sentences"),
    [
        (f"{HEADING},colour", ["There is no column 'colour'; there are code, campus,"]),
        (
            "code,building,floor,ward,chamber",
            ["The column room is missing.", "There is no column 'chamber'; there are"],
        ),
        (f"{HEADING},floor", ["The column floor is there twice."]),
        (f"{HEADING},", ["A column has no name."]),
        (HEADING.replace(",", ";"), ["The columns are not separated by commas."]),
        ("", ["The first line names the columns: code, campus,"]),
    ],
)
def test_a_wrong_heading_is_named(tmp_path: Path, heading: str, sentences: list[str]):
    row = "3A-01,A,3,3A,301" + (",3" if heading.count(",") > 4 else "")
    problems = told(refused(written(tmp_path, f"{heading}\n{row}\n")))
    assert [line for line, _ in problems] == [1] * len(sentences)
    assert all(said.startswith(sentence) for (_, said), sentence in zip(problems, sentences, strict=True))


def test_every_problem_of_a_file_is_named_at_once_in_the_order_of_its_lines(tmp_path: Path):
    rows = ["3A-01,A,3,3A,301", "3A-01,A,x,3A,301", "3A-03,,3,3A,302", "3A 04,A,3,3A,302"]
    problems = refused(written(tmp_path, "\n".join([HEADING, *rows])))
    assert told(problems) == [
        (3, "The bed 3A-01 is there already on line 2."),
        (3, "floor: 'x' is not a whole number."),
        (4, "The field building is missing."),
        (5, "code: '3A 04' is no code: 1 to 64 letters, digits and _ . : + - without spaces."),
    ]


def test_what_beds_contradict_each_other_in_is_named_with_both_lines(tmp_path: Path):
    heading = f"{HEADING},specialty,age_min,age_max"
    rows = [
        "3A-01,A,3,3A,301,general,,",
        "3A-02,A,3,3A,301,general,,",
        "3A-03,A,3,3A,302,cardiology,,",
        "3B-01,A,3,3B,301,general,,",
        "3C-01,A,3,3C,331,general,60,14",
    ]
    problems = refused(written(tmp_path, "\n".join([heading, *rows])))
    assert told(problems) == [
        (4, "The ward 3A has specialty cardiology here, but general on line 2."),
        (5, "The room 301 lies in ward 3B here, but in ward 3A on line 2."),
        (6, "age_min 60 is above age_max 14."),
    ]
    assert lines_of(problems) == {2, 4, 5, 6}


def test_line_ends_inside_quotes_do_not_shift_the_line_that_is_named(tmp_path: Path):
    rows = ['3A-01,A,3,3A,301,"one\ntwo\r\nthree"', "3A-02,A,x,3A,301,"]
    problems = told(refused(written(tmp_path, "\n".join([f"{HEADING},ward_name_en", *rows]))))
    assert [line for line, _ in problems] == [2, 5]
    assert "is no name: one line" in problems[0][1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("=1+1", "for a formula"), ("@SUM(A1)", "for a formula"), ("x" * 81, "at most 80"), ("a\x07b", "one line")],
)
def test_a_name_is_a_name_and_nothing_a_table_program_would_run(tmp_path: Path, name: str, reason: str):
    [(line, sentence)] = told(refused(written(tmp_path, f"{HEADING},ward_name_en\n3A-01,A,3,3A,301,{name}\n")))
    assert line == 2
    assert reason in sentence


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("empty.csv", b"", "The file is empty."),
        ("blank.yaml", b" \n\n", "The file is empty."),
        ("beds.xlsx", b"PK", "The name of a layout ends with .csv, .yaml or .yml."),
        ("heading.csv", HEADING.encode(), "There is no bed in this file."),
        ("nothing.yaml", b"# nothing yet\n", "There is no bed in this file."),
        ("wide.csv", HEADING.encode("utf-16"), 'The file is UTF-16; save it as UTF-8 (in Excel: "CSV UTF-8").'),
        ("broken.csv", b"code\xff\xff", "The file is not UTF-8 here."),
    ],
)
def test_a_file_that_is_no_layout_at_all_is_named(tmp_path: Path, name: str, data: bytes, sentence: str):
    assert told(refused(written(tmp_path, data, name))) == [(1, sentence)]


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path):
    assert told(refused(tmp_path / "none.csv")) == [(1, "The file cannot be read: No such file or directory.")]
    large = written(tmp_path, b"#" * (layout_forms.FILE_BYTES_MAX + 1), "large.yaml")
    assert told(refused(large)) == [(1, "The file is larger than 8 MiB.")]


def test_a_service_that_is_given_a_bad_layout_says_everything_that_is_wrong(tmp_path: Path):
    path = written(tmp_path, f"{HEADING}\n3A-01,A,x,3A,301\n3A-01,A,3,3A,301\n")
    with pytest.raises(BadLayout) as caught:
        layout.load(path)
    assert str(caught.value).splitlines() == [
        f"{path}:2: floor: 'x' is not a whole number.",
        f"{path}:3: The bed 3A-01 is there already on line 2.",
    ]


# ---- what is wrong with wards that nest ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "instead", "line", "sentence"),
    [
        ("ward: 3A", "ward: 3 A", 2, "ward: '3 A' is no code"),
        ("ward: 3A", "wing: 3A", 2, "A ward has no field 'wing'; there are age_max,"),
        ("ward: 3A", "ward:", 2, "The field ward is missing."),
        ("building: A", "building: [A]", 4, "building: one value is expected here."),
        ("floor: 3", "floor: 3rd", 5, "floor: '3rd' is not a whole number."),
        ("floor: 3", "floor: 3\n    floor: 4", 6, "The field floor is there twice, first on line 5."),
        ("rooms: 301..302", "rooms: 301-302", 7, "'301-302' is no range of rooms such as"),
        ("rooms: 301..302", "rooms: 302..301", 7, "'302..301' is no range of rooms such as"),
        ("rooms: 301..302, beds: 2", "rooms: 301..302", 7, "The field beds is missing: how many, or a list of codes."),
        ("rooms: 301..302, beds: 2", "rooms: 301..302, beds: two", 7, "beds: 'two' is no number of beds."),
        (
            "rooms: 301..302, beds: 2",
            "rooms: 301..302, beds: [3A-01]",
            7,
            "Several rooms cannot share one list of beds",
        ),
        ("rooms: 301..302, beds: 2", "beds: 2", 7, "An entry of rooms needs either room (one) or rooms"),
        ("rooms: 301..302, beds: 2", "rooms: 301..399, beds: 900", 7, "Here the file passes 20000 beds"),
        ("- room: 303", "- room: ~", 8, "An entry of rooms needs either room (one) or rooms"),
        ("- 3A-05", "- 3A-04", 10, "The bed 3A-04 is there already on line 7."),
        ("- 3A-05", "- {class: vip}", 10, "The code of this bed is missing."),
        ("- 3A-05", "- [3A-05]", 10, "A bed is written as fields with values here."),
        ("class: vip", "class: gold", 11, "class: 'gold' is not known; there are standard, single, vip."),
        ("class: vip", "equipment: [oxygen, chair]", 11, "equipment: 'chair' is not known"),
        ("wards:", "ward:", 1, "A file has no field 'ward'; there are building, campus, wards."),
        ("wards:", "wards: [", 2, "This is not YAML that can be read"),
        ("综合内科", "综合\x01内科", 3, "The character U+0001 may not stand in a YAML file."),
        ("- 3A-05", "- &a 3A-05\n          - *a", 11, "This is not YAML that can be read: aliases"),
        ("- 3A-05", "- " + "[" * 40 + "]" * 40, 10, "This is not YAML that can be read: it is nested too deeply."),
        ("class: vip}", "class: vip}\n---\nwards: []", 12, "This is not YAML that can be read"),
    ],
)
def test_a_wrong_place_in_a_nested_file_is_named_with_its_line(
    tmp_path: Path, here: str, instead: str, line: int, sentence: str
):
    assert WARD.count(here) == 1 or here == "- 3A-05"
    problems = told(refused(written(tmp_path, WARD.replace(here, instead), "hospital.yaml")))
    assert any(said.startswith(sentence) and at == line for at, said in problems), problems


def test_each_item_of_a_list_has_its_own_line(tmp_path: Path):
    text = WARD.replace("floor: 3\n", "floor: 3\n    auxiliary:\n      - cardiology\n      - heart disease\n")
    [(line, sentence)] = told(refused(written(tmp_path, text, "hospital.yaml")))
    assert (line, sentence[:28]) == (8, "auxiliary: 'heart disease' i")


def test_a_ward_told_of_twice_may_not_differ(tmp_path: Path):
    text = (
        WARD
        + "  - ward: 3A\n    building: A\n    floor: 4\n    ward_name_zh: 综合内科\n    rooms: [{room: 309, beds: [3A-19]}]\n"
    )
    assert told(refused(written(tmp_path, text, "hospital.yaml"))) == [
        (14, "The ward 3A has floor 4 here, but 3 on line 5.")
    ]


# ---- the same for rows that come through the door --------------------------------------------------------------------


def test_new_beds_may_not_contradict_the_wards_and_rooms_there_are(tmp_path: Path):
    rows = accepted(written(tmp_path, WARD, "hospital.yaml")).rows()
    assert layout.disagreements(rows, {}, {}) == []
    assert layout.disagreements(rows, {"3A": {"floor": 3, "auxiliary": []}}, {"301": "3A"}) == []
    assert layout.disagreements(rows, {"3A": {"floor": 4}}, {"303": "3B"}) == [
        "The ward 3A has floor 4, not 3.",
        "The room 303 lies in ward 3B, not in 3A.",
    ]
    told_less = {"code": "3A-07", "ward": "3A", "room": "303", "ward_name_zh": ""}
    assert layout.disagreements([told_less], {"3A": {"floor": 4, "ward_name_zh": "综合内科"}}, {"303": "3A"}) == []
    rows[1]["exclusive"] = True
    assert layout.disagreements(rows, {}, {}) == ["The ward 3A has exclusive no, not yes."]


# ---- the hospital a new pool starts with -----------------------------------------------------------------------------


def test_the_hospital_we_ship_is_a_general_hospital_of_1200_beds():
    found = layout.load(DEFAULT)
    beds = Counter(bed.ward for bed in found.beds)
    assert beds.total() == 1200
    assert 28 <= len(beds) <= 32
    assert all("\u4e00" <= bed.ward_name_zh[0] <= "\u9fff" and bed.ward_name_en.isascii() for bed in found.beds)
    assert set(Counter(bed.room for bed in found.beds).values()) == {1, 2, 3, 4}
    assert Counter(bed.kind for bed in found.beds) == {"inpatient": 1170, "day": 30}
    assert beds["DAY"] == 30
    assert all(bed.kind == "day" for bed in found.beds if bed.ward == "DAY")
    assert {bed.klass for bed in found.beds} == {"standard", "single", "vip"}
    assert {item for bed in found.beds for item in bed.equipment} == set(layout.EQUIPMENT)


def test_the_wards_of_the_first_hospital_are_still_there_under_their_codes():
    codes = {bed.code for bed in layout.load(DEFAULT).beds}
    sizes = {"ICU": 20, "ISO": 12, "DAY": 30} | {f"{floor}{side}": 40 for floor in (3, 4, 5, 6) for side in "ABC"}
    assert {f"{ward}-{number:02d}" for ward, size in sizes.items() for number in range(1, size + 1)} <= codes


def test_the_hospital_we_ship_has_a_bed_for_everybody():
    beds = layout.load(DEFAULT).beds
    critical = {bed.ward for bed in beds if bed.level == "critical"}
    assert critical == {"ICU", "CCU", "NICU", "PICU"}
    assert all({"oxygen", "monitor"} <= set(bed.equipment) for bed in beds if bed.ward in critical)
    children = {bed.ward: (bed.age_min, bed.age_max) for bed in beds if bed.age_max < 18}
    assert children == {"6C": (0, 17), "10C": (0, 17), "PICU": (0, 17), "NICU": (0, 0)}
    assert all(bed.exclusive for bed in beds if bed.ward in {*children, *critical, "6B", "ISO", "DAY"})
    for age in (0, 7, 14, 17, 18, 40, 59, 60, 90):
        fitting = [bed for bed in beds if bed.age_min <= age <= bed.age_max and bed.kind == "inpatient"]
        for level in ("normal", "critical"):
            wards = [
                bed
                for bed in fitting
                if bed.level == level and (bed.specialty == "general" or "general" in bed.auxiliary)
            ]
            assert len(wards) >= 12, (age, level)
            assert any(bed.isolation for bed in wards), (age, level)
    isolation = {bed.ward for bed in beds if bed.isolation}
    assert {bed.ward for bed in beds} - isolation == {"DAY", "10A", "CCU"}, (
        "Elsewhere an infection is isolated on the ward."
    )
    rooms = Counter(bed.room for bed in beds)
    assert all(rooms[bed.room] == 1 for bed in beds if bed.klass != "standard")


def test_the_two_examples_of_the_operators_page_are_the_same_ward(tmp_path: Path):
    page = (Path(__file__).parents[3] / "docs" / "layout.md").read_text("utf-8")
    section = page.partition("## The hospital's layout")[2]
    nested, table = (
        re.search(rf"^```{form}\n(.*?)^```", section, re.DOTALL | re.MULTILINE) for form in ("yaml", "csv")
    )
    assert nested is not None
    assert table is not None
    found = accepted(written(tmp_path, nested[1], "example.yaml"))
    assert found == accepted(written(tmp_path, table[1], "example.csv"))
    assert layout.write_csv(found) == table[1]
    assert set(layout.FIELDS) <= set(re.findall(r"`([a-z_]+)`", section)), "Every field is explained."


# ---- any layout, any slip of the pen ---------------------------------------------------------------------------------

CODES = st.text("ABab019_.:+-", min_size=1, max_size=4)
NAMES = (
    st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12)
    .map(str.strip)
    .filter(lambda name: name.isprintable() and name[:1] not in ("=", "+", "-", "@"))
)
LISTS = st.lists(st.sampled_from(layout.EQUIPMENT), max_size=3, unique=True).map(tuple)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Draw a right layout of a few small wards."""
    wards = draw(st.lists(CODES, min_size=1, max_size=4, unique=True))
    beds: list[LaidOutBed] = []
    for ward in wards:
        low = draw(st.integers(0, layout.AGE_MAX))
        about: dict[str, Any] = {
            "campus": draw(CODES),
            "building": draw(CODES),
            "floor": draw(st.integers(layout.FLOOR_MIN, layout.FLOOR_MAX)),
            "ward": ward,
            "specialty": draw(CODES),
            "auxiliary": tuple(draw(st.lists(CODES, max_size=2, unique=True))),
            "exclusive": draw(st.booleans()),
            "age_min": low,
            "age_max": draw(st.integers(low, layout.AGE_MAX)),
            "ward_name_zh": draw(NAMES) or ward,
            "ward_name_en": draw(NAMES) or ward,
        }
        for room in range(draw(st.integers(1, 3))):
            for _ in range(draw(st.integers(1, 3))):
                beds.append(
                    LaidOutBed(
                        code=f"{len(beds)}.{draw(CODES)}",
                        room=f"{ward}-{len(wards)}-{wards.index(ward)}.{room}",
                        kind=draw(st.sampled_from(layout.KINDS)),
                        level=draw(st.sampled_from(layout.LEVELS)),
                        klass=draw(st.sampled_from(layout.CLASSES)),
                        isolation=draw(st.booleans()),
                        equipment=draw(LISTS),
                        quota=draw(st.none() | CODES),
                        **about,
                    )
                )
    return Layout(tuple(beds))


def read_again(data: bytes, name: str = "again.csv") -> Layout | RefusedLayout:
    with tempfile.TemporaryDirectory() as folder:
        return layout.read([written(Path(folder), data, name)])


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_a_layout_written_as_a_table_and_read_again_is_the_same(found: Layout):
    assert read_again(layout.write_csv(found).encode()) == found
    assert read_again(b"\xef\xbb\xbf" + layout.write_csv(found).replace("\n", "\r\n").encode()) == found


SLIPS = st.one_of(
    st.tuples(
        st.just("insert"), st.sampled_from(['"', ",", ";", " ", "x", "-", "9", "\x00", "内", "\ufeff", "\u2028"])
    ),
    st.tuples(st.just("delete"), st.integers(1, 6).map(str)),
    st.tuples(st.just("cell"), st.sampled_from(["", "x y", "-7", "131", "no", "day", '"', "3A;3B"])),
    st.tuples(st.just("copy"), st.integers(0, 30).map(str)),
    st.tuples(st.just("bytes"), st.just("")),
    st.tuples(st.just("clear"), st.just("")),
    st.tuples(st.just("swap"), st.just("")),
)


@settings(max_examples=150, deadline=None)
@given(layouts(), SLIPS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_slip_of_the_pen_in_one_line_is_harmless_or_refused_with_its_line(
    found: Layout, slip: tuple[str, str], at: int, where: int
):
    lines = layout.write_csv(found).encode().split(b"\n")[:-1]
    number = at % len(lines)
    line = lines[number].decode()
    kind, what = slip
    column = where % (len(line) + 1)
    cells = line.split(",")
    match kind:
        case "insert":
            line = line[:column] + what + line[column:]
        case "delete":
            line = line[:column] + line[column + int(what) :]
        case "cell":
            cells[where % len(cells)] = what
            line = ",".join(cells)
        case "copy":
            other = lines[int(what) % len(lines)].decode().split(",")
            place = where % len(cells)
            cells[place] = other[place % len(other)]
            line = ",".join(cells)
        case "clear":
            line = ""
        case "swap" if number:  # columns may come in any order
            cells[where % len(cells)], cells[0] = cells[0], cells[where % len(cells)]
            line = ",".join(cells)
    changed = line.encode()
    if kind == "bytes":
        changed = changed[:column] + b"\xff" + changed[column:]
    lines[number] = changed
    outcome = read_again(b"\n".join(lines) + b"\n")
    if len(lines) == 2 and not lines[1].strip(b", "):
        return  # without its only bed the file is empty, and no line is to blame
    if isinstance(outcome, RefusedLayout):
        assert number + 1 in lines_of(outcome.problems), "\n".join(map(str, outcome.problems))
        assert all(1 <= line <= len(lines) for line in lines_of(outcome.problems))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_slip_in_a_nested_file_is_more_than_a_refusal_with_a_line_of_the_file(data: st.DataObject):
    lines = WARD.split("\n")
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    column = data.draw(st.integers(0, len(line)))
    inserted = data.draw(st.text("[]{}:,-#&*!|>'\"%@`? \t~ab1\n\x07", max_size=4))
    lines[number] = line[:column] + inserted + line[column + data.draw(st.integers(0, 3)) :]
    outcome = read_again("\n".join(lines).encode(), "again.yaml")
    if isinstance(outcome, RefusedLayout):
        last = len("\n".join(lines).split("\n"))
        assert outcome.problems
        assert all(1 <= place <= last for place in lines_of(outcome.problems))
