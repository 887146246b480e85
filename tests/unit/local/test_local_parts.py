"""The small parts of the embedded stack: ports, processes, homes, jars, and what pip's configuration becomes for uv."""

import hashlib
import importlib.util
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import jars, services
from infra.local.errors import Missing, StackError
from infra.local.home import PROJECT_ROOT, Home, is_reachable, read_json
from infra.local.ports import choose_ports, is_free
from infra.local.postgres import PostgresServer
from infra.local.processes import Owner, end, is_listening, is_same_process, rss_mb, send, spawn, started_at, wait_gone


def test_a_port_that_somebody_has_is_not_chosen_and_a_free_remembered_one_is(tmp_path):
    first = choose_ports(["a", "b", "c"], {}, tmp_path)
    assert len(set(first.values())) == 3
    assert all(20_000 <= port < 32_000 for port in first.values())
    assert choose_ports(["a", "b", "c"], first, tmp_path) == first
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("0.0.0.0", first["b"]))
        other.listen()
        assert not is_free(first["b"])
        second = choose_ports(["a", "b", "c"], first, tmp_path)
    assert second["b"] not in first.values()
    assert (second["a"], second["c"]) == (first["a"], first["c"])


def test_a_remembered_port_is_never_given_out_twice(tmp_path):
    port = choose_ports(["a"], {}, tmp_path)["a"]
    assert len(set(choose_ports(["a", "b"], {"a": port, "b": port}, tmp_path).values())) == 2


def test_two_stacks_that_start_together_do_not_wish_for_the_same_front_door(tmp_path):
    wish = choose_ports(["front"], {}, tmp_path)["front"]
    other = (
        "import sys; from pathlib import Path; from infra.local.ports import choose_ports; "
        "print(choose_ports(['front'], {'front': int(sys.argv[1])}, Path(sys.argv[2]))['front'])"
    )
    for home in (tmp_path, tmp_path / "other"):
        # Nobody listens yet: the port is only claimed, by this process, which goes on living.
        done = subprocess.run([sys.executable, "-c", other, str(wish), str(home)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) != wish
    assert choose_ports(["front"], {"front": wish}, tmp_path)["front"] == wish
    assert choose_ports(["front"], {"front": wish}, tmp_path / "other")["front"] != wish


def test_a_port_belongs_to_the_process_that_listens_and_not_to_one_that_finds_it_answering(tmp_path):
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        assert not is_listening(os.getpid(), port)
        ours.listen()
        assert is_listening(os.getpid(), port)
        child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log")
        assert not is_listening(child.pid, port)
        child.kill()
        child.wait()
        assert not is_listening(child.pid, port)


def test_a_child_dies_with_its_parent_however_the_parent_dies(tmp_path):
    starter = (
        "import sys, time; from pathlib import Path; from infra.local.processes import spawn; "
        "print(spawn([sys.executable, '-c', 'import time; time.sleep(60)'], log=Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        started = started_at(child)
        assert started is not None
        parent.kill()
    assert wait_gone(child, started, 10)


def test_a_process_is_signalled_only_if_it_is_the_one_that_started_then():
    with subprocess.Popen(["sleep", "30"]) as process:
        started = started_at(process.pid)
        assert started is not None
        assert is_same_process(process.pid, started)
        assert not send(process.pid, started + "0", signal.SIGKILL)
        end(process.pid, "another boot:1", seconds=1)
        assert process.poll() is None
        assert rss_mb(process.pid) > 0
        end(process.pid, started, seconds=5)
        assert process.wait(5) == -signal.SIGTERM
    assert started_at(process.pid) is None


def test_a_command_that_cannot_be_started_says_so_in_its_log(tmp_path):
    process = spawn([str(tmp_path / "nothing")], log=tmp_path / "log")
    assert process.wait(10) == 127
    assert "cannot be started: No such file or directory" in (tmp_path / "log").read_text()


def test_secrets_are_made_once_and_readable_by_nobody_else(tmp_path):
    home = Home.at(tmp_path / "home")
    home.create()
    first = services.passwords(home)
    assert services.passwords(home) == first
    assert len(set(first.values())) == len(first) == 2 + 2 * len(services.SERVICES)
    assert stat.S_IMODE((home.secrets / "postgres.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700


def test_a_service_is_told_its_addresses_and_what_the_home_adds_or_takes_away(tmp_path, monkeypatch):
    monkeypatch.setenv("WARDSTREAM_FAULT_POINT", "K1")
    monkeypatch.setenv("WARDSTREAM_TRACE_RATIO", "0.5")
    home = Home.at(tmp_path)
    home.create()
    home.env_file.write_text(json.dumps({"beds": {"WARDSTREAM_TRACE_RATIO": None, "WARDSTREAM_LOG_LEVEL": "DEBUG"}}))
    ports = {name: 21_000 + place for place, name in enumerate(["postgres", "kafka", *services.SERVICES])}
    beds, access = (services.environment(home, name, ports) for name in ("beds", "access"))
    assert beds["WARDSTREAM_DATABASE_URL"].startswith("postgresql://ws_beds:")
    assert beds["WARDSTREAM_DATABASE_URL"].endswith("@127.0.0.1:21000/wardstream")
    assert beds["WARDSTREAM_KAFKA_BOOTSTRAP"] == "127.0.0.1:21001"
    assert beds["WARDSTREAM_PORT"] == str(ports["beds"])
    assert beds["WARDSTREAM_LOG_LEVEL"] == "DEBUG"
    assert "WARDSTREAM_TRACE_RATIO" not in beds
    assert access["WARDSTREAM_TRACE_RATIO"] == "0.5"
    assert "WARDSTREAM_FAULT_POINT" not in beds
    assert "WARDSTREAM_SIGNING_KEY_FILE" in access
    assert "WARDSTREAM_SIGNING_KEY_FILE" not in beds


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "env.json").write_text("{beds: 1}")
    with pytest.raises(StackError, match=r"env\.json is not JSON"):
        read_json(tmp_path / "env.json")
    assert read_json(tmp_path / "absent.json") == {}


def test_a_directory_behind_a_closed_door_is_not_reachable_for_others(tmp_path):
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    closed.chmod(0o700)
    assert is_reachable(inside, os.geteuid()) or os.geteuid() != closed.stat().st_uid
    assert not is_reachable(inside, 54_321)
    assert not is_reachable(tmp_path / "absent", os.geteuid())
    assert is_reachable(Path("/usr/bin/env"), 54_321)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives PostgreSQL to another user")
def test_roots_database_lies_where_its_user_can_reach_it_and_else_root_is_told(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    server = PostgresServer(tmp_path / "postgres", 1, "", "some-home", owner=Owner(54_321, 54_321))
    monkeypatch.setattr("infra.local.postgres.SHARED_BASE", Path("/var/tmp"))
    assert server.location == Path("/var/tmp/wardstream-0/some-home")
    monkeypatch.setattr("infra.local.postgres.SHARED_BASE", tmp_path)
    with pytest.raises(Missing, match="refuses to run as root"):
        _ = server.location


def test_a_damaged_jar_is_named_and_never_put_on_the_class_path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jar = tmp_path / "right.jar"
    jar.write_bytes(b"right")
    lock = tmp_path / "lock.toml"
    right = hashlib.sha256(b"right").hexdigest()
    lock.write_text(f'[[dependencies]]\ngroupId="g"\nartifactId="a"\nversion="1"\nsha256="{right}"\n')
    monkeypatch.setattr(jars, "LOCK", lock)
    with pytest.raises(Missing, match="1 of 1 Kafka jars"):
        jars.class_path()
    jars.jars_dir().mkdir(parents=True)
    (jars.jars_dir() / "a-1.jar").write_bytes(b"wrong")
    assert jars.wrong_jars() == ["a-1.jar"]
    (jars.jars_dir() / "a-1.jar").write_bytes(b"right")
    assert jars.class_path() == str(jars.jars_dir() / "a-1.jar")


def test_a_jar_that_arrives_with_another_sum_is_thrown_away_and_refused(tmp_path, monkeypatch):
    repository = tmp_path / "repository" / "g" / "a" / "1"
    repository.mkdir(parents=True)
    (repository / "a-1.jar").write_bytes(b"forged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lock = tmp_path / "lock.toml"
    lock.write_text(f'[[dependencies]]\ngroupId="g"\nartifactId="a"\nversion="1"\nsha256="{"0" * 64}"\n')
    monkeypatch.setattr(jars, "LOCK", lock)
    server = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
            "--directory",
            str(tmp_path / "repository"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        monkeypatch.setenv("WARDSTREAM_MAVEN_REPOSITORY", f"http://127.0.0.1:{port}")
        with pytest.raises(Missing, match="SHA-256 is not the one"):
            jars.fetch()
        lock.write_text(lock.read_text().replace("0" * 64, hashlib.sha256(b"forged").hexdigest()))
        assert jars.fetch() == 1
        assert jars.fetch() == 0
        server.kill()


def test_the_locks_name_no_host():
    for path in (*PROJECT_ROOT.glob("requirements/*"), *PROJECT_ROOT.glob("infra/kafka/*.toml")):
        assert "://" not in path.read_text("utf-8"), path
    for name in ("uv", "run", "test"):
        text = (PROJECT_ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
        assert text.count("--hash=sha256:") >= text.count("==")


def test_pips_configuration_becomes_uvs(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bootstrap", PROJECT_ROOT / "infra" / "local" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.invalid/simple\ncert = /etc/ca.pem\n"
        f"find-links = {wheels}\n    {tmp_path / 'absent'}\n[install]\ntrusted-host = mirror.invalid\n"
    )
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://second.invalid/simple https://third.invalid/simple")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    env = bootstrap.uv_environment()
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.invalid/simple"
    assert env["UV_INDEX"] == "https://second.invalid/simple https://third.invalid/simple"
    assert env["UV_FIND_LINKS"] == str(wheels)
    assert env["UV_INSECURE_HOST"] == "mirror.invalid"
    assert env["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert env["UV_HTTP_TIMEOUT"] == "7"
