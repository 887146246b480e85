"""The embedded stack with real PostgreSQL, Kafka and Caddy, and a fake service that misbehaves on demand."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.local.errors import Missing, StackError
from infra.local.processes import children_of, started_at
from infra.local.stack import Stack, Status, ensure_postgres_and_kafka

FAKE = [sys.executable, str(Path(__file__).with_name("fake_service.py"))]
COMMANDS = {"beds": FAKE, "billing": FAKE}
QUICK: dict[str, Any] = {"restart_waits": (0.1, 0.1, 0.1, 0.1, 0.1), "hang_seconds": 5.0}


def up(stack: Stack, **changed: Any) -> Status:
    usual: dict[str, Any] = {"services": ["beds", "billing"], "prepare": False, "commands": COMMANDS}
    return stack.up(**(usual | QUICK | {"stop_with": os.getpid()} | changed))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One home whose data outlives the single test, so that only the first start creates clusters."""
    root = tmp_path_factory.mktemp("local") / "home"
    yield root
    Stack(root).destroy()


@pytest.fixture
def stopped(home) -> Stack:
    """The stack of that home, not running."""
    found = Stack(home)
    found.down()
    return found


@pytest.fixture
def stack(home) -> Stack:
    """The stack of that home with its usual two services, running and well."""
    found = Stack(home)
    found.set_env("beds", {})
    if found.status().status not in ("ready", "degraded"):
        up(found)
    found.wait_ready()
    return found


def get(url: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.headers.items()}


def wardstream(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli.main", *map(str, arguments), "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def processes_of(stack: Stack) -> dict[int, str]:
    supervisor = stack.status().supervisor_pid
    assert supervisor is not None
    return {pid: started_at(pid) or "gone" for pid in (supervisor, *children_of(supervisor))}


def still_alive(processes: dict[int, str]) -> list[int]:
    return [pid for pid, started in processes.items() if started_at(pid) == started]


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def test_the_front_door_speaks_for_services_that_are_away_and_shuts_out_foreign_names(stack):
    code, body, headers = get(stack.base_url + "/api/followup/plans")
    assert (code, headers["content-type"], headers["retry-after"]) == (503, "application/problem+json", "1")
    assert json.loads(body)["status"] == 503
    code, body, headers = get(stack.base_url + "/api/nothing/here")
    assert (code, headers["content-type"], json.loads(body)["title"]) == (404, "application/problem+json", "Not Found")
    assert get(stack.base_url, Host="evil.example")[0] == 421
    code, body, headers = get(stack.base_url + "/any/page")
    assert (code, "Wardstream" in body) == (200, True)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers
    assert get(stack.base_url + "/assets/gone.js")[0] == 404
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen("http://127.0.0.1:2019/config/", timeout=2)


def test_events_of_a_stream_come_through_the_front_door_one_by_one(stack):
    began = time.monotonic()
    with urllib.request.urlopen(stack.base_url + "/api/beds/stream", timeout=10) as stream:
        times = [time.monotonic() - began for line in stream if line.startswith(b"data")]
    assert len(times) == 3
    assert times[0] < 0.4
    assert times[2] > 0.9


def test_a_second_up_says_that_the_stack_already_runs_and_leaves_it_alone(stack, home):
    before = processes_of(stack)
    done = wardstream("up", "--detach", "--json", home=home)
    assert (done.returncode, "already running" in done.stderr) == (0, True)
    answer = json.loads(done.stdout)
    assert answer["url"] == stack.base_url
    assert answer["services"]["beds"]["ready"] is True
    assert {"pid", "port", "ready", "rss_mb"} <= answer["services"]["beds"].keys()
    assert answer["postgres"]["ready"] is True
    assert answer["kafka"]["ready"] is True
    assert answer["ready_seconds"] > 0
    assert set(before) <= set(processes_of(stack))


def test_a_killed_service_is_started_again_with_the_environment_of_now(stack):
    stack.set_env("beds", {"GREETING": "risen"})
    restarts = stack.status().processes["beds"].restarts
    old = stack.kill("beds")
    status = stack.wait_ready(["beds"], other_than=old)
    assert status.processes["beds"].pid != old
    assert status.processes["beds"].restarts == restarts + 1
    assert get(stack.base_url + "/api/beds/")[1].startswith("risen")
    stack.set_env("beds", {"GREETING": None})


def test_database_and_broker_come_back_with_their_data_after_a_kill(stack):
    with psycopg.connect(stack.postgres_dsn(database="postgres")) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        conn.execute("TRUNCATE kept")
        conn.execute("INSERT INTO kept VALUES ('still here')")
    old = {name: stack.kill(name) for name in ("postgres", "kafka")}
    for name, pid in old.items():
        stack.wait_ready([name], other_than=pid)
    with psycopg.connect(stack.postgres_dsn(database="postgres")) as conn:
        assert conn.execute("SELECT word FROM kept").fetchone() == ("still here",)


def test_a_service_that_dies_again_and_again_stays_down_with_a_clear_word_until_up_is_said(stack, home):
    stack.set_env("beds", {"FAKE": "dies at once"})
    stack.kill("beds")
    eventually(lambda: stack.status().processes["beds"].gave_up)
    found = wardstream("status", home=home)
    assert found.returncode == 1
    words = " ".join(found.stdout.split())
    assert "gave up" in words
    assert "restarted 5 times in a row, so it stays down" in words
    assert stack.status().status == "degraded"
    assert "I die at once." in stack.log_file("beds").read_text()
    stack.set_env("beds", {})
    status = stack.up()
    assert status.status == "ready"
    assert status.processes["beds"].message == ""


def test_a_service_that_answers_nothing_for_long_is_killed_and_started_again(stack):
    restarts = stack.status().processes["beds"].restarts
    old = stack.kill("beds", signal.SIGSTOP)
    status = stack.wait_ready(["beds"], other_than=old, seconds=30)
    assert status.processes["beds"].restarts == restarts + 1


def test_a_service_that_says_it_is_not_ready_is_shown_but_not_killed(stack):
    stack.set_env("beds", {"FAKE": "never ready"})
    old = stack.kill("beds")
    eventually(lambda: stack.status().processes["beds"].pid not in (None, old))
    pid = stack.status().processes["beds"].pid
    time.sleep(3)
    process = stack.status().processes["beds"]
    assert (process.ready, process.pid) == (False, pid)
    assert stack.status().status == "degraded"
    with pytest.raises(StackError, match="Not ready: beds"):
        stack.wait_ready(["beds"], seconds=0.2)
    stack.set_env("beds", {})
    stack.kill("beds")


def test_a_log_file_does_not_grow_without_end(stack):
    get(stack.base_url + "/api/beds/shout")
    rotated = stack.log_file("beds").with_name("beds.log.1")
    eventually(lambda: rotated.exists() and stack.log_file("beds").stat().st_size < 2**20)
    assert rotated.stat().st_size > 2**24


def test_two_homes_run_side_by_side_and_the_stack_of_a_test_run_ends_with_it(stack, tmp_path):
    starter = (
        "import os, sys, time; from infra.local.stack import ensure_postgres_and_kafka; "
        "print(ensure_postgres_and_kafka(sys.argv[1], stop_with=os.getpid()).kafka_bootstrap, flush=True); time.sleep(60)"
    )
    other = Stack(tmp_path / "other")
    with subprocess.Popen(
        [sys.executable, "-c", starter, str(other.home.root)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline().strip() == other.kafka_bootstrap
        ports = {process.port for process in other.status().processes.values()}
        assert len(ports) == 2
        assert ports.isdisjoint({process.port for process in stack.status().processes.values()})
        assert ensure_postgres_and_kafka(other.home.root).kafka_bootstrap == other.kafka_bootstrap
        processes = processes_of(other)
        run.kill()
    eventually(lambda: still_alive(processes) == [])
    assert stack.status().status == "ready"
    location = other.home.root
    other.destroy()
    assert not location.exists()


def test_the_stack_answers_through_one_door_and_stops_without_a_trace(stack):
    stack.set_env("beds", {"GREETING": "good morning"})
    stack.wait_ready(["beds"], other_than=stack.kill("beds"))
    status = stack.status()
    assert status.status == "ready"
    assert {name for name, process in status.processes.items() if process.ready} == {
        "postgres",
        "kafka",
        "front",
        "beds",
        "billing",
    }
    code, body, _ = get(stack.base_url + "/api/beds/rooms")
    assert (code, body) == (200, f"good morning from {status.processes['beds'].port}")
    assert get(stack.base_url + "/api/billing/x")[1] == f"hello from {status.processes['billing'].port}"
    with psycopg.connect(stack.postgres_dsn(database="postgres")) as conn:
        assert conn.execute("SHOW fsync").fetchone() == ("on",)
        assert conn.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert conn.execute(
            "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"
        ).fetchone() == (0,)
    processes = processes_of(stack)
    assert len(processes) > 10
    assert set(stack.down()) == {"postgres", "kafka", "front", "beds", "billing"}
    assert still_alive(processes) == []
    assert stack.status().status == "stopped"
    assert stack.down() == []
    with pytest.raises(Missing, match="No stack runs"):
        stack.base_url  # noqa: B018


def test_a_busy_port_is_avoided_and_a_free_one_is_kept(stopped):
    stack = stopped
    before = {name: process.port for name, process in up(stack, stores=False).processes.items()}
    stack.down()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before["beds"]))
        other.listen()
        after = {name: process.port for name, process in up(stack, stores=False).processes.items()}
        stack.down()
    assert after.pop("beds") != before.pop("beds")
    assert after == before


def test_a_killed_supervisor_takes_every_process_with_it_and_the_next_up_starts_clean(stopped, home):
    stack = stopped
    up(stack)
    processes = processes_of(stack)
    supervisor = stack.status().supervisor_pid
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: still_alive(processes) == [])
    assert stack.status().status == "killed"
    assert wardstream("status", home=home).returncode == 1
    assert up(stack).status == "ready"
    os.kill(stack.status().supervisor_pid, signal.SIGKILL)
    processes = processes_of_state(stack)
    stack.down()
    assert still_alive(processes) == []
    assert stack.status().status == "stopped"


def processes_of_state(stack: Stack) -> dict[int, str]:
    state = json.loads(stack.home.state_file.read_text())
    return {process["pid"]: process["started"] for process in state["processes"].values()}


def test_what_a_killed_supervisor_left_is_ended_only_if_it_is_the_same_process(stopped):
    stack = stopped
    up(stack, services=["beds", "billing"], stores=False, front_door=False)
    stack.down()
    with subprocess.Popen(["sleep", "10"]) as ours, subprocess.Popen(["sleep", "10"]) as innocent:
        state = json.loads(stack.home.state_file.read_text())
        state["status"] = "ready"
        state["processes"]["beds"] |= {"pid": ours.pid, "started": started_at(ours.pid)}
        state["processes"]["billing"] |= {"pid": innocent.pid, "started": "another boot:1"}
        stack.home.state_file.write_text(json.dumps(state))
        assert stack.down() == ["beds"]
        assert ours.wait(5) == -signal.SIGKILL
        assert innocent.poll() is None
        innocent.kill()


def test_a_service_that_ignores_the_request_to_stop_is_stopped_all_the_same(stopped):
    stack = stopped
    up(stack, env={"beds": {"FAKE": "ignores SIGTERM"}}, stores=False, front_door=False)
    processes = processes_of(stack)
    began = time.monotonic()
    stack.down()
    assert still_alive(processes) == []
    assert time.monotonic() - began < 25
    stack.set_env("beds", {})


def test_up_in_the_foreground_stays_until_it_is_interrupted_and_leaves_nothing(stopped, home):
    command = [sys.executable, "-m", "infra.cli.main", "--home", str(home), "up", "--only", "beds", "--json"]
    stack = stopped
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        eventually(lambda: stack.status(measure=False).processes.get("kafka") is not None)
        processes = processes_of(stack)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (0, ""), err
    assert still_alive(processes) == []
