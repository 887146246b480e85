"""What is wrong with an instance is said with file and line; the command ends with 2 and gives no plan."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli.main import app
from services.beds.planner.pas import Malformed, parse_instance
from tests.unit.planner.instances import an_instance
from tests.unit.planner.scorer import score

GOOD = an_instance(seed=1)
LINES = GOOD.splitlines()


def at(title: str, offset: int) -> int:
    return LINES.index(title) + offset


def changed(index: int, old: str, new: str) -> tuple[str, int]:
    lines = list(LINES)
    assert old in lines[index]
    lines[index] = lines[index].replace(old, new, 1)
    return "\n".join(lines), index + 1


BROKEN = {
    "another title": (changed(0, "ARTICLE", "NEWSPAPER"), "should stand here"),
    "a count that is no number": (changed(1, "12", "twelve"), "whole number"),
    "a count that is negative": (changed(6, "60", "-60"), "whole number"),
    "no night": (changed(7, "10", "0"), "at least one night"),
    "one room more than promised": (changed(1, "12", "11"), "“BEDS” should stand here"),
    "an unknown policy": (changed(at("ROOMS:", 1), "| D |", "| X |"), "D, M, F or N")
    if "| D |" in LINES[at("ROOMS:", 1)]
    else (changed(at("ROOMS:", 1), "R1 |", "R1 | |"), "parts"),
    "a bed in a room that is not there": (changed(at("BEDS:", 1), "1 1", "1 77"), "no room 77"),
    "a patient with a part missing": (changed(at("PATIENTS:", 1), " | ", " "), "should have 6 parts"),
    "a patient of no known sex": (changed(at("PATIENTS:", 2), "P2", "P2 X"), "4 words"),
    "no end": (("\n".join(LINES[:-1]), len(LINES) - 1), "The file ends where"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_malformed_line_is_named(what):
    (text, line), reason = BROKEN[what]
    with pytest.raises(Malformed) as caught:
        parse_instance(text, "hospital.txt")
    said = str(caught.value)
    assert said.startswith("hospital.txt:")
    assert reason in said
    if what not in ("one room more than promised", "no end"):
        assert said.startswith(f"hospital.txt:{line}: ")


def test_a_stay_whose_parts_do_not_add_up_is_named():
    index = next(i for i in range(at("PATIENTS:", 1), len(LINES)) if LINES[i].split("|")[2].split()[0] == "1")
    parts = LINES[index].split("|")
    head = parts[2].split()
    parts[2] = f" 1 {head[1]} {int(head[2]) + 1} "
    lines = [*LINES[:index], "|".join(parts), *LINES[index + 1 :]]
    with pytest.raises(Malformed, match=rf"hospital.txt:{index + 1}: The parts have"):
        parse_instance("\n".join(lines), "hospital.txt")


@pytest.mark.parametrize("cut", range(50, len(GOOD) - 10, 997))
def test_a_file_that_is_cut_short_anywhere_is_malformed_and_never_a_smaller_hospital(cut):
    with pytest.raises(Malformed, match=r"^cut\.txt:\d+: "):
        parse_instance(GOOD[:cut], "cut.txt")


def command(*arguments) -> Any:
    return CliRunner().invoke(app, ["allocate", *arguments])


def test_the_command_refuses_a_malformed_file_with_its_line(tmp_path: Path):
    path = tmp_path / "broken.txt"
    path.write_text(BROKEN["a bed in a room that is not there"][0][0])
    done = command("--instance", str(path), "--time-limit", "1", "--json")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert f"{path}:" in done.stderr.replace("\n", "")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"ARTICLE BENCHMARK DATA SET\n"])
def test_a_missing_empty_or_binary_file_is_refused(tmp_path: Path, content):
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_bytes(content)
    assert command("--instance", str(path), "--time-limit", "1").exit_code == 2


def test_a_time_limit_that_is_none_is_refused(tmp_path: Path):
    path = tmp_path / "good.txt"
    path.write_text(GOOD)
    for limit in ("0", "-3", "nan", "1e99"):
        assert command("--instance", str(path), "--time-limit", limit).exit_code == 2


def test_the_command_writes_the_plan_that_it_counts(tmp_path: Path):
    path, out = tmp_path / "good.txt", tmp_path / "plan.txt"
    path.write_text(GOOD)
    done = command("--instance", str(path), "--format", "pas", "--time-limit", "4", "--out", str(out), "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    violations, cost = score(GOOD, out.read_text().splitlines())
    assert violations == []
    assert answer["feasible"] is True
    assert answer["cost"] == pytest.approx(float(sum(cost.values())))
    assert {rule: value for rule, value in answer["breakdown"].items() if value} == pytest.approx(
        {rule: float(value) for rule, value in cost.items()}
    )
    assert answer["bound"] <= answer["cost"]


def test_a_hospital_that_is_too_small_is_no_wrong_use_but_no_plan_either(tmp_path: Path):
    path = tmp_path / "small.txt"
    path.write_text(an_instance(seed=2, rooms=2, patients=40, load=1.5))
    done = command("--instance", str(path), "--time-limit", "2", "--json")
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert answer["feasible"] is False
    assert "beds" in answer["reason"]
