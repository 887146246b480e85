"""`wardstream prices import` against running billing, as a billing supervisor types it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.local.stack import Stack
from services.billing.prices.catalogue import COLUMNS

pytestmark = [pytest.mark.kafka]

SHIPPED = Path(__file__).parents[3] / "services" / "billing" / "data" / "prices.csv"
LATER = date.today() + timedelta(days=30)  # noqa: DTZ011 - far enough from any midnight


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A home with access and billing running behind the front door."""
    found = Stack(tmp_path_factory.mktemp("prices") / "home")
    found.up(services=["access", "billing"], stop_with=os.getpid())
    yield found
    found.destroy()


def wardstream(home: Path, *arguments: object) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "infra.cli.main", "prices", "import", *map(str, arguments), "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def prices_of(stack: Stack, code: str | None = None) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.postgres_dsn("ws_billing")) as conn:
        return conn.execute(
            "SELECT code, price_fen, valid_from, valid_to FROM price WHERE %(code)s::text IS NULL OR code = %(code)s"
            " ORDER BY code, valid_from",
            {"code": code},
        ).fetchall()


def a_list(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n", "utf-8")
    return path


@pytest.mark.timeout(180)
def test_a_new_hospital_starts_with_the_list_we_ship_and_knows_it_when_it_is_imported(stack: Stack):
    before = prices_of(stack)
    code, found, said = wardstream(stack.home.root, SHIPPED, "--json")
    assert code == 0, said
    assert found == {"prices": len(before), "version": 1, "added": 0, "ended": 0, "withdrawn": 0, "known": len(before)}
    assert prices_of(stack) == before


@pytest.mark.timeout(120)
def test_a_new_price_closes_the_old_one_and_both_are_kept(stack: Stack, tmp_path: Path):
    path = a_list(tmp_path, f"LAB-CRP,C反应蛋白测定,C-reactive protein,CFYDBCD,test,04,01,each,25.50,{LATER},,")
    code, found, said = wardstream(stack.home.root, path, "--json", "--note", "2026-2")
    assert (code, found) == (0, {"prices": 1, "version": 2, "added": 1, "ended": 1, "withdrawn": 0, "known": 0}), said
    assert prices_of(stack, "LAB-CRP") == [
        ("LAB-CRP", 22_00, date(2020, 1, 1), LATER),
        ("LAB-CRP", 25_50, LATER, None),
    ]


@pytest.mark.timeout(120)
def test_a_bad_list_changes_nothing_and_every_line_that_is_wrong_is_named(stack: Stack, tmp_path: Path):
    before = prices_of(stack)
    path = a_list(
        tmp_path,
        "LAB-X,新,New,X,test,04,01,each,10.00,2026-01-01,,",
        "LAB-Y,新,New,Y,test,04,01,each,ten,2026-01-01,,",
        "LAB-X,新,New,X,test,04,01,each,11.00,2026-06-01,,",
    )
    code, found, said = wardstream(stack.home.root, path, "--json")
    assert (code, found) == (2, {})
    assert said.splitlines() == [
        f"{path}:3: price_yuan: 'ten' is no price in yuan with at most two decimals.",
        f"{path}:4: The item LAB-X has a price on line 2 for the same days.",
    ]
    held = a_list(
        tmp_path,
        "LAB-X,新,New,X,test,04,01,each,10.00,2026-01-01,,",
        "LAB-GLU,血糖测定,Blood glucose,XTCD,test,04,01,each,9.00,2026-01-01,,",
    )
    code, found, said = wardstream(stack.home.root, held, "--json")
    assert (code, found) == (2, {})
    assert said.splitlines()[1] == (
        f"{held}:3: LAB-GLU: There is a price since 2020-01-01; another one begins tomorrow or later."
    )
    assert prices_of(stack) == before


@pytest.mark.timeout(60)
def test_a_list_is_checked_where_nothing_runs(tmp_path: Path):
    assert wardstream(tmp_path / "none", SHIPPED, "--check", "--json")[1]["ok"] is True
    code, _, said = wardstream(tmp_path / "none", SHIPPED)
    assert code == 3
    assert "wardstream up" in said
