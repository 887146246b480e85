"""What a stack prepares before its services start, and what the command line says about it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from infra.kafka.topics import TopicsWrong, create_topics
from infra.local.stack import Stack
from shared.contracts.envelope import Topic
from shared.contracts.registry import TOPICS

FAKE = [sys.executable, str(Path(__file__).with_name("fake_service.py"))]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    found = Stack(tmp_path_factory.mktemp("local") / "home")
    fakes = {"beds": FAKE, "billing": FAKE}
    found.up(services=["beds", "billing"], commands=fakes, front_door=False, stop_with=os.getpid())
    yield found
    found.destroy()


def wardstream(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_each_service_can_use_its_own_schema_and_no_other(stack):
    with psycopg.connect(stack.postgres_dsn("ws_beds")) as conn:
        assert conn.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT * FROM billing.outbox")
    with psycopg.connect(stack.postgres_dsn("ws_beds")) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("CREATE TABLE beds.mine (word text)")
    with psycopg.connect(stack.postgres_dsn("ws_beds")) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("CREATE TABLE public.mine (word text)")


def test_the_auditor_reads_every_schema_and_writes_none(stack):
    with psycopg.connect(stack.postgres_dsn("ws_audit")) as conn:
        for schema in ("beds", "billing"):
            assert conn.execute(f"SELECT count(*) FROM {schema}.outbox").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM beds.outbox")


def test_a_wrong_password_is_refused(stack):
    right = stack.postgres_dsn("ws_beds")
    before, _, after = right.partition("@")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"{before}x@{after}")


def test_the_topics_are_those_of_the_contracts_and_nobody_can_make_another_by_using_it(stack):
    done = wardstream("topics", "--json", "--home", stack.home.root)
    answer = json.loads(done.stdout)
    found = {topic["name"]: topic["partitions"] for topic in answer["topics"]}
    assert found == {topic.name: topic.partitions for topic in TOPICS.values()}
    assert {topic["name"]: (topic["owner"], topic["key"]) for topic in answer["topics"]} == {
        topic.name: (topic.owner, topic.key) for topic in TOPICS.values()
    }
    assert all(len(topic["end_offsets"]) == topic["partitions"] for topic in answer["topics"])
    properties = (stack.home.root / "kafka" / "server.properties").read_text()
    assert "auto.create.topics.enable=false" in properties
    assert "0.0.0.0" not in properties
    human = wardstream("--home", stack.home.root, "topics")
    assert (human.returncode, "beds.inventory.v1" in human.stdout) == (0, True)


@pytest.mark.asyncio
async def test_a_topic_with_another_number_of_partitions_is_refused_and_the_right_ones_are_left_alone(stack):
    assert await create_topics(stack.kafka_bootstrap, TOPICS) == []
    name = next(iter(TOPICS))
    wrong = Topic(name, owner="beds", key="bed_id", partitions=TOPICS[name].partitions + 1)
    with pytest.raises(TopicsWrong, match="the contract says"):
        await create_topics(stack.kafka_bootstrap, {name: wrong})


def test_preparing_again_changes_nothing(stack):
    command = [sys.executable, "-m", "infra.local.prepare", str(stack.home.root), "beds", "billing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "beds: 0 migrations applied" in done.stderr
    assert "0 topics created" in done.stderr


def test_every_command_answers_with_one_json_object_and_the_right_exit_code(stack, tmp_path):
    running = wardstream("--home", stack.home.root, "status", "--json")
    answer = json.loads(running.stdout)
    assert (running.returncode, answer["status"], answer["services"]["beds"]["ready"]) == (0, "ready", True)
    assert answer["rss_mb"] > 100
    doctor = wardstream("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert (doctor.returncode, json.loads(doctor.stdout)["ok"]) == (0, True)
    assert {
        "python",
        "java",
        "postgres",
        "kafka jars",
        "caddy",
        "chromium",
        "cjk font",
        "docker",
        "disk",
        "memory",
    } <= set(checks)
    assert all({"name", "ok", "found", "fix"} <= set(check) for check in checks.values())
    assert all(check["ok"] or check["fix"] for check in checks.values())
    absent = tmp_path / "absent"
    asked = {name: wardstream(name, "--home", absent, "--json") for name in ("status", "down", "topics")}
    assert {name: done.returncode for name, done in asked.items()} == {"status": 1, "down": 0, "topics": 3}
    assert json.loads(asked["down"].stdout)["stopped"] == []
    assert "wardstream up --detach" in asked["topics"].stderr
    assert not absent.exists()
    assert wardstream("up", "--no-such-option").returncode == 2
    assert wardstream("up", "--detach", "--only", "kitchen", "--home", absent).returncode == 2
    closed = Path("/proc/nowhere")
    assert wardstream("up", "--detach", "--home", closed).returncode == 3
