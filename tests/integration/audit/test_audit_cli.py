"""`wardstream parked` and `wardstream audit` against a running stack, as an operator types them."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from infra.local.stack import Stack
from shared.contracts.admission import BedRequested, PatientAdmitted
from shared.contracts.envelope import Event
from shared.messaging.kafka import KafkaProducer

pytestmark = [pytest.mark.kafka]

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with access and the bed pool running behind the front door."""
    root = tmp_path_factory.mktemp("parked") / "home"
    stack = Stack(root)
    stack.up(services=["access", "beds"], stop_with=os.getpid())
    yield root
    stack.destroy()


def wardstream(home: Path, *arguments: object, stdin: str = "") -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "infra.cli.main", *map(str, arguments), "--json", "--home", str(home)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


async def _send(bootstrap: str, *events: Event) -> None:
    producer = KafkaProducer(bootstrap, "test")
    await producer.start()
    for version, event in enumerate(events, start=1):
        at = NOW.isoformat().encode()
        headers = [
            ("ce_id", str(uuid4()).encode()),
            ("ce_type", event.ce_type().encode()),
            ("ce_subject", event.aggregate_id.encode()),
            ("ce_aggregateversion", b"%d" % version),
            ("ce_time", at),
            ("ce_recordedtime", at),
        ]
        value = event.model_dump_json().encode()
        await (await producer.send(event.topic.name, event.aggregate_id.encode(), value, headers))
    await producer.stop()


def parked(home: Path, count: int, seconds: float = 30) -> list[dict[str, Any]]:
    """Return what is set aside, once it is so many."""
    until = time.monotonic() + seconds
    while True:
        code, found, said = wardstream(home, "parked", "list", "--service", "beds")
        assert code == 0, said
        if len(found["parked"]) == count:
            return list(found["parked"])
        assert time.monotonic() < until, found
        time.sleep(0.2)


def admitted_before_it_was_requested() -> tuple[UUID, Event, Event]:
    """Return a stay whose events come in an order no hospital knows."""
    encounter, patient = uuid4(), uuid4()
    admitted = PatientAdmitted(
        encounter_id=encounter,
        patient_tok=patient,
        encounter_class="inpatient",
        payer_kind="self_pay",
        bed_id=1,
        admitted_at=NOW,
        emergency=False,
    )
    requested = BedRequested(
        encounter_id=encounter,
        patient_tok=patient,
        sex="female",
        age_years=60,
        specialty="general",
        urgency="urgent",
        isolation="none",
        level_of_care="normal",
        from_at=NOW,
        expected_stay_days=3,
    )
    return encounter, admitted, requested


@pytest.mark.timeout(180)
def test_two_people_decide_what_becomes_of_an_event_that_moves_a_bed(home: Path):
    assert parked(home, 0) == []
    encounter, admitted, requested = admitted_before_it_was_requested()
    asyncio.run(_send(Stack(home).kafka_bootstrap, admitted, requested))
    first, second = parked(home, 2)
    assert [first["reason"], second["reason"]] == ["no_bed_request", "behind_a_parked_event"]
    assert {first["aggregate_id"], second["aggregate_id"]} == {str(encounter)}

    code, shown, _ = wardstream(home, "parked", "show", "beds", first["id"])
    assert (code, shown["parked"][0]["behind"]) == (0, [second["id"]])
    code, _, said = wardstream(home, "parked", "retry", "beds", second["id"])
    assert code == 2
    assert "older" in said

    code, done, _ = wardstream(home, "parked", "retry", "beds", first["id"])
    assert (code, done["parked"][0]["status"]) == (0, "second_person_needed")
    code, done, _ = wardstream(home, "parked", "retry", "beds", first["id"])
    assert done["parked"][0]["status"] == "second_person_needed", "The same person twice is one person."
    code, _, said = wardstream(
        home, "users", "add", "ops.two", "--role", "ops", "--password-stdin", stdin=PASSWORD + "\n"
    )
    assert code == 0, said
    code, done, said = wardstream(
        home, "parked", "retry", "beds", first["id"], "--as", "ops.two", stdin=PASSWORD + "\n"
    )
    assert (code, done["parked"][0]["status"]) == (1, "still_refused")
    assert "no_bed_request" in said

    assert wardstream(home, "parked", "discard", "beds", first["id"])[0] == 0
    code, done, _ = wardstream(home, "parked", "discard", "beds", first["id"], "--as", "ops.two", stdin=PASSWORD + "\n")
    assert (code, done["parked"][0]["status"]) == (0, "discarded")
    assert wardstream(home, "parked", "retry", "beds", second["id"], "--as", "ops.two", stdin=PASSWORD + "\n")[0] == 0
    code, done, _ = wardstream(home, "parked", "retry", "beds", second["id"])
    assert (code, done["parked"][0]["status"]) == (0, "retried")
    assert parked(home, 0) == []


@pytest.mark.timeout(120)
def test_wrong_use_is_told_in_a_sentence(home: Path):
    code, _, said = wardstream(home, "parked", "show", "beds", 999)
    assert (code, said.strip()) == (2, "beds has no event 999 set aside; see wardstream parked list.")
    code, _, said = wardstream(home, "parked", "retry", "kitchen", 1)
    assert code == 2
    assert "there are admission, beds" in said.replace("\n", " ")
    code, _, said = wardstream(home, "parked", "retry", "beds", 1, "--as", "nobody")
    assert code == 2
    assert "password of nobody is needed" in said.replace("\n", " ")


@pytest.mark.timeout(120)
def test_the_audit_of_a_stack_without_billing_says_what_it_could_not_look_at(home: Path):
    code, found, said = wardstream(home, "audit", "--only", "V5", "--only", "I4", "--only", "I20-commands")
    assert (code, found["ok"], found["violations"]) == (1, False, 0), said
    checks = {check["id"]: check for check in found["checks"]}
    assert (checks["V5"]["ok"], checks["V5"]["examined"] > 0) == (True, True)
    assert (checks["I4"]["ok"], checks["I4"]["reason"]) == (False, "There are no tables of billing.")
    assert checks["I20-commands"]["ok"], checks["I20-commands"]
    code, _, said = wardstream(home, "audit", "--only", "I99")
    assert code == 2
    assert "There is no check I99" in said


@pytest.mark.timeout(60)
def test_a_stack_that_does_not_run_is_missing(tmp_path: Path):
    code, _, said = wardstream(tmp_path / "none", "parked", "list")
    assert code == 3
    assert "wardstream up --detach" in said
    code, _, said = wardstream(tmp_path / "none", "audit")
    assert code == 3
    assert "wardstream up --detach" in said
