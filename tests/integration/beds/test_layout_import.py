"""`wardstream beds import` against a running bed pool, as a bed manager types it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.local.stack import Stack

pytestmark = [pytest.mark.kafka]

SHIPPED = Path(__file__).parents[3] / "services" / "beds" / "data" / "hospital.yaml"
HEADING = "code,building,floor,ward,ward_name_zh,room,class,equipment"
NEW_WARD = f"""\
{HEADING}
11A-01,A,11,11A,康养病区,11A-R01,single,oxygen
11A-02,A,11,11A,康养病区,11A-R02,standard,oxygen;monitor
11A-03,A,11,11A,康养病区,11A-R02,standard,
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A home with access and the bed pool running behind the front door."""
    found = Stack(tmp_path_factory.mktemp("layout") / "home")
    found.up(services=["access", "beds"], stop_with=os.getpid())
    yield found
    found.destroy()


def wardstream(home: Path, *arguments: object) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "infra.cli.main", "beds", *map(str, arguments), "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def beds_of(stack: Stack, ward: str | None = None) -> list[tuple[str, str, str, list[str]]]:
    with psycopg.connect(stack.postgres_dsn("ws_beds")) as conn:
        rows = conn.execute(
            "SELECT code, room, class, equipment FROM bed WHERE %(ward)s::text IS NULL OR ward = %(ward)s ORDER BY code",
            {"ward": ward},
        )
        return [tuple(row) for row in rows]


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.timeout(180)
def test_a_new_pool_starts_with_the_hospital_we_ship_and_knows_it_when_it_is_imported(stack: Stack):
    assert len(beds_of(stack)) == 1200
    code, found, said = wardstream(stack.home.root, "import", SHIPPED, "--json")
    assert (code, found) == (0, {"beds": 1200, "wards": 31, "added": 0, "known": 1200, "differs": []}), said


@pytest.mark.timeout(120)
def test_a_new_ward_is_added_once_however_often_its_file_is_imported(stack: Stack, tmp_path: Path):
    path = written(tmp_path, "11a.csv", NEW_WARD)
    code, found, said = wardstream(stack.home.root, "import", path, "--json")
    assert (code, found["added"], found["known"]) == (0, 3, 0), said
    assert beds_of(stack, "11A") == [
        ("11A-01", "11A-R01", "single", ["oxygen"]),
        ("11A-02", "11A-R02", "standard", ["oxygen", "monitor"]),
        ("11A-03", "11A-R02", "standard", []),
    ]
    code, found, said = wardstream(stack.home.root, "import", path, "--json")
    assert (code, found["added"], found["known"], found["differs"]) == (0, 0, 3, []), said
    assert len(beds_of(stack, "11A")) == 3


@pytest.mark.timeout(120)
def test_a_bad_file_changes_nothing_and_every_line_that_is_wrong_is_named(stack: Stack, tmp_path: Path):
    before = beds_of(stack)
    rows = ["12A-01,A,12,12A,新病区,12A-R01,single,oxygen", "12A-01,A,up,12A,新病区,12A-R01,gold,chair"]
    path = written(tmp_path, "12a.csv", "\n".join([HEADING, *rows]))
    code, found, said = wardstream(stack.home.root, "import", path, "--json")
    assert (code, found) == (2, {})
    assert said.splitlines() == [
        f"{path}:3: The bed 12A-01 is there already on line 2.",
        f"{path}:3: class: 'gold' is not known; there are standard, single, vip.",
        f"{path}:3: equipment: 'chair' is not known; there are oxygen, monitor, negative_pressure, ventilator, bariatric,"
        " telemetry, infant_warmer.",
        f"{path}:3: floor: 'up' is not a whole number.",
    ]
    good = written(tmp_path, "good.csv", NEW_WARD.replace("11A", "12A"))
    assert wardstream(stack.home.root, "import", good, path)[0] == 2, (
        "One bad file of two is refused with the good one."
    )
    assert beds_of(stack) == before


@pytest.mark.timeout(120)
def test_a_known_bed_that_is_otherwise_in_the_file_is_named_and_left_as_it_is(stack: Stack, tmp_path: Path):
    row = "3A-01,A,3,3A,综合内科一病区,3A-R01,vip,oxygen;negative_pressure"
    path = written(tmp_path, "3a.csv", f"{HEADING},isolation,age_min,ward_name_en\n{row},yes,14,General medicine 1\n")
    code, found, said = wardstream(stack.home.root, "import", path, "--json")
    assert (code, found["added"], found["known"], found["differs"]) == (1, 0, 1, ["3A-01"]), said
    assert said.splitlines()[0] == f"{path}:2: The bed 3A-01 has class single in the pool, not vip."
    assert ("3A-01", "3A-R01", "single", ["oxygen", "negative_pressure"]) in beds_of(stack, "3A")


@pytest.mark.timeout(60)
def test_a_file_is_checked_and_converted_where_nothing_runs(tmp_path: Path):
    nowhere = tmp_path / "none"
    path = written(tmp_path, "11a.csv", NEW_WARD)
    assert wardstream(nowhere, "import", path, "--check", "--json")[:2] == (0, {"beds": 3, "wards": 1, "ok": True})
    code, _, said = wardstream(nowhere, "import", written(tmp_path, "bad.yaml", "wards: 3\n"))
    assert (code, said) == (2, f"{tmp_path}/bad.yaml:1: wards: a list of at least one is expected here.\n")
    code, _, said = wardstream(nowhere, "import", path)
    assert code == 3
    assert "wardstream up" in said
    command = [sys.executable, "-m", "infra.cli.main", "beds", "convert", str(SHIPPED)]
    table = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    again = tmp_path / "again.csv"
    again.write_bytes(table)
    assert wardstream(nowhere, "import", again, "--check", "--json")[1] == {"beds": 1200, "wards": 31, "ok": True}
