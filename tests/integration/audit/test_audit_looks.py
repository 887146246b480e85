"""How the audit looks: at topics and logs beside the tables, twice at what may be on its way, and honestly at an empty hospital."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest

from infra.audit import views
from infra.audit.run import NoSuchCheck, audit
from infra.audit.scene import Scene, Unanswered
from shared.messaging.broker import BEACON_TYPE, Record, TopicPartition
from shared.messaging.reading import MemoryReader
from tests.conftest import Databases
from tests.integration.audit.conftest import NAME, Evidence
from tests.support.hospital import opened_hospital

pytestmark = [pytest.mark.asyncio]


def place_with(evidence: Evidence, *, events: int, topic: str = "admission.encounters.v1") -> TopicPartition:
    """Return a partition of a topic that holds at least so many events."""
    return next(place for place, log in evidence.broker.logs.items() if place.topic == topic and len(log) >= events)


def appended(evidence: Evidence, place: TopicPartition, **change: object) -> None:
    """Put a copy of a partition's last record behind it, changed as told."""
    log = evidence.broker.logs[place]
    log.append(log[-1]._replace(offset=len(log), **change))  # type: ignore[arg-type]


# ---- topics ---------------------------------------------------------------------------------------------------------


async def test_an_event_sent_twice_is_no_violation(evidence: Evidence):
    appended(evidence, place_with(evidence, events=1))
    found = await evidence.audit("I12-topics", "I13-topics", "I14-topics", "I15-topics")
    assert found["ok"], found


async def test_a_record_nobody_announced_is_found(evidence: Evidence):
    place = place_with(evidence, events=1)
    headers = [
        (name, str(uuid4()).encode() if name == "ce_id" else value)
        for name, value in evidence.broker.logs[place][-1].headers
    ]
    appended(evidence, place, headers=headers)
    check = await evidence.look("I12-topics")
    assert check["violations"] == 1
    assert "is no event of admission's outbox" in check["examples"][0]


@pytest.mark.parametrize("change", [{"value": b"{}"}, {"key": b"other"}, {"headers": ()}])
async def test_a_record_that_was_changed_on_its_way_is_found(evidence: Evidence, change):
    appended(evidence, place_with(evidence, events=1), **change)
    check = await evidence.look("I12-topics")
    assert check["violations"] == 1, check


async def test_beacons_are_no_events(evidence: Evidence):
    place = place_with(evidence, events=1)
    appended(evidence, place, key=b"beacon", value=b"{}", headers=[("ce_type", BEACON_TYPE.encode())])
    assert (await evidence.look("I12-topics"))["ok"]


async def test_a_topic_nobody_declared_is_found(evidence: Evidence):
    evidence.broker.logs[TopicPartition("somebody.elses.v1", 0)] = [Record("somebody.elses.v1", 0, 0, b"k", b"v", ())]
    check = await evidence.look("I12-topics")
    assert check["examples"] == ["somebody.elses.v1 is no topic of ours"]


async def test_the_lost_tail_of_a_partition_is_found(evidence: Evidence):
    evidence.broker.logs[place_with(evidence, events=2)].pop()
    lost = await evidence.look("I13-topics")
    assert lost["violations"] == 1
    assert "which was sent" in lost["examples"][0]
    beacon = await evidence.look("I15-topics")
    assert beacon["violations"] == 1


async def test_events_of_a_stay_in_the_wrong_order_are_found(evidence: Evidence):
    place = place_with(evidence, events=2)
    log = evidence.broker.logs[place]
    first, second = log[0], log[1]
    assert first.key == second.key
    log[0], log[1] = second._replace(offset=0), first._replace(offset=1)
    check = await evidence.look("I14-topics")
    assert check["violations"] == 1
    assert "comes after 0" in check["examples"][0]


async def test_a_partition_begun_anew_after_its_broker_lost_it_keeps_no_order(evidence: Evidence):
    place = place_with(evidence, events=2)
    log = evidence.broker.logs[place]
    log[0], log[1] = log[1]._replace(offset=0), log[0]._replace(offset=1)
    await evidence.tamper(
        f"UPDATE beds.consumed SET stream_epoch = 1 WHERE topic = '{place.topic}' AND part = {place.partition}"
    )
    assert (await evidence.look("I14-topics"))["ok"]


async def test_a_stay_whose_events_lie_in_two_partitions_is_found(evidence: Evidence):
    place = place_with(evidence, events=2)
    other = next(p for p in evidence.broker.logs if p.topic == place.topic and p.partition != place.partition)
    moved = evidence.broker.logs[place].pop()
    evidence.broker.logs[other].append(
        moved._replace(partition=other.partition, offset=len(evidence.broker.logs[other]))
    )
    check = await evidence.look("I14-topics")
    assert any("lies in two partitions" in example for example in check["examples"]), check


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [NAME, json.dumps(NAME), quote(NAME)])
async def test_a_name_in_a_record_is_found_however_it_is_written(evidence: Evidence, form):
    appended(evidence, place_with(evidence, events=1), value=f'{{"who": "{form}"}}'.encode())
    check = await evidence.look("I21")
    assert check["violations"] == 1
    assert check["examples"][0].startswith("a record in admission.encounters.v1 holds the name of patient")


async def test_a_name_in_a_log_line_is_found(evidence: Evidence):
    evidence.log("billing", event="request_failed", detail=f"no account of {NAME}")
    check = await evidence.look("I21")
    assert [example.split(" of ")[0] for example in check["examples"]] == ["log billing.log holds the name"]


# ---- logs -----------------------------------------------------------------------------------------------------------


async def test_an_error_line_is_found_unless_somebody_expects_it(evidence: Evidence):
    evidence.log("beds", level="error", event="event_parked", reason="nothing_held")
    check = await evidence.look("I24")
    assert check["examples"] == ["beds: event_parked at 2030-01-01T00:00:00Z"]
    assert (await evidence.look("I24", allowed_errors=frozenset({"event_parked"})))["ok"]
    assert (await evidence.look("I24", logs_since=datetime(2031, 1, 1, tzinfo=UTC)))["ok"]


async def test_an_error_line_of_a_library_names_the_library_the_place_and_the_exceptions(evidence: Evidence):
    said = {
        "logger": "asyncio",
        "at": "asyncio/base_events.py:1 told",
        "exception": [{"type": "builtins.OSError", "at": []}],
    }
    evidence.log("insight", level="error", event="library_message", **said)
    assert (await evidence.look("I24"))["examples"] == [
        "insight: library_message of asyncio in asyncio/base_events.py:1 told (builtins.OSError) at 2030-01-01T00:00:00Z"
    ]


async def test_a_traceback_outside_the_log_is_found(evidence: Evidence):
    (evidence.logs / "followup.log").write_bytes(b"Traceback (most recent call last):\n  File ...\nKeyError\n")
    assert (await evidence.look("I24"))["examples"] == ["followup: a traceback outside the log"]


# ---- live views -----------------------------------------------------------------------------------------------------


async def test_a_pool_that_differs_from_its_live_view_is_found(evidence: Evidence):
    await evidence.tamper(
        "UPDATE beds.bed SET commitment = 'free', condition = 'U', encounter_id = NULL WHERE commitment = 'active'"
    )
    check = await evidence.look("V-census")
    assert check["violations"] >= 1
    assert "insight says" in check["examples"][0]


async def test_stays_that_differ_from_their_live_view_are_found(evidence: Evidence):
    await evidence.tamper("UPDATE admission.encounter SET state = 'discharge_ordered' WHERE state = 'admitted'")
    check = await evidence.look("V-journeys")
    assert "journeys inpatient/discharge_ordered: insight says 0, the owner 9" in check["examples"]


async def test_a_view_that_never_catches_up_is_found(evidence: Evidence, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "TRY_SECONDS", 0.01)

    async def ask(path: str) -> object:
        return {"caught_up": False} if path.endswith("progress") else {"wards": {}}

    assert (await evidence.look("V-census", ask=ask))["examples"] == ["insight does not catch up with the topics"]


async def test_live_views_of_a_hospital_in_motion_are_not_judged(evidence: Evidence, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "TRY_SECONDS", 0.01)
    await evidence.tamper("INSERT INTO beds.outbox_unsent (id) SELECT max(id) FROM beds.outbox")
    check = await evidence.look("V-census")
    assert (check["ok"], check["reason"]) == (True, "Not judged: something was on its way the whole time.")


# ---- how it looks ---------------------------------------------------------------------------------------------------


async def test_what_is_still_on_its_way_is_looked_at_again_and_is_no_violation(evidence: Evidence):
    await evidence.tamper("UPDATE billing.inbox SET version = version - 1 WHERE version > 1")

    async def arrives() -> None:
        await asyncio.sleep(0.3)
        await evidence.tamper(
            "UPDATE billing.inbox SET version = version + 1 WHERE (topic, aggregate_id) NOT IN (SELECT i.topic, i.aggregate_id"
            " FROM billing.inbox i WHERE i.version = 1 AND 1 = (SELECT max(o.version) FROM (SELECT aggregate_id, version FROM admission.outbox"
            " UNION ALL SELECT aggregate_id, version FROM beds.outbox UNION ALL SELECT aggregate_id, version FROM daysurgery.outbox) o"
            " WHERE o.aggregate_id = i.aggregate_id))"
        )

    arriving = asyncio.create_task(arrives())
    found = await audit(evidence.scene, only=["I13"], waits_seconds=(1.5,))
    await arriving
    assert found["ok"], found


async def test_services_that_are_not_ready_are_named(evidence: Evidence):
    async def readiness() -> dict[str, str]:
        return {"beds": "lag"}

    check = await evidence.look("I23", readiness=readiness)
    assert check["examples"] == ["beds is not ready: lag"]


async def test_a_view_that_gives_no_answer_is_not_right_and_the_other_checks_go_on(evidence: Evidence):
    async def ask(path: str) -> object:
        raise Unanswered("Insight is away.")

    found = await audit(replace(evidence.scene, ask=ask), only=["V-census", "I1"], waits_seconds=(0.0,))
    assert [(check["id"], check["ok"], check.get("reason")) for check in found["checks"]] == [
        ("I1", True, None),
        ("V-census", False, "Insight is away."),
    ]


async def test_a_check_that_could_not_look_is_not_right_and_says_why(evidence: Evidence):
    found = await audit(Scene(dsn=evidence.dsn), only=["I24", "I15-offsets", "I12-topics"], waits_seconds=())
    assert not found["ok"]
    assert [(check["ok"], check["examined"], bool(check["reason"])) for check in found["checks"]] == [
        (False, 0, True)
    ] * 3


async def test_a_check_that_does_not_know_the_tables_any_more_says_so_and_the_others_go_on(evidence: Evidence):
    await evidence.tamper("ALTER TABLE billing.settlement RENAME COLUMN charged_fen TO owed_fen")
    found = await evidence.audit("I7", "I9", "I16")
    assert [(check["id"], check["ok"]) for check in found["checks"]] == [("I7", False), ("I9", True), ("I16", True)]
    assert "UndefinedColumnError" in found["checks"][0]["reason"]


async def test_an_empty_hospital_is_right_and_says_that_nothing_was_proved(databases: Databases):
    async with opened_hospital(databases) as hospital:
        await hospital.drain()
        dsn = hospital.runtimes["beds"].settings.database_url.partition("?")[0]
        found = await audit(Scene(dsn=dsn, topics=MemoryReader(hospital.broker)), waits_seconds=(0.0,))
        wrong = [check for check in found["checks"] if not check["ok"]]
        assert (found["ok"], found["empty"], found["violations"]) == (True, True, 0), wrong
        assert {check["id"]: check.get("reason") for check in found["checks"]}["I4"] == "There was nothing to examine."
        await hospital.register_patient()
        found = await audit(Scene(dsn=dsn, topics=MemoryReader(hospital.broker)), waits_seconds=(0.0,))
        assert (found["ok"], found["empty"]) == (False, False)


async def test_a_check_that_does_not_exist_is_refused_with_those_that_do(evidence: Evidence):
    with pytest.raises(NoSuchCheck, match="There is no check I99; there are I1, I2"):
        await evidence.audit("I99")


async def test_the_audit_needs_no_right_but_reading(evidence: Evidence, databases: Databases):
    role = f"audit_{uuid4().hex[:8]}"
    await databases._execute(f"CREATE ROLE {role} LOGIN PASSWORD 'readonly'")
    try:
        await databases._execute(f"GRANT pg_read_all_data TO {role}")
        _, _, rest = evidence.dsn.partition("@")
        found = await audit(replace(evidence.scene, dsn=f"postgresql://{role}:readonly@{rest}"), waits_seconds=(0.0,))
        assert found["ok"], [check for check in found["checks"] if not check["ok"]]
    finally:
        await databases._execute(f"DROP OWNED BY {role}")
        await databases._execute(f"DROP ROLE {role}")


async def test_a_database_that_does_not_answer_is_an_error_and_no_verdict(evidence: Evidence):
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await audit(replace(evidence.scene, dsn="postgresql://nobody:none@127.0.0.1:1/none"), waits_seconds=())
