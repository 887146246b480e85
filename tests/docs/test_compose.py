"""docker-compose.yml and its image say what the embedded stack says, and carry no secret. Started in containers elsewhere."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from infra.cli.house import settings_of
from infra.compose.make_secrets import environments, simulated
from infra.compose.prepare import prepare_database
from infra.compose.requirements import EMBEDDED_ONLY, without_embedded
from infra.local import front, kafka
from infra.local.home import PROJECT_ROOT
from infra.local.services import DATABASE, SERVICES, SIMULATORS, WITH_PAGES, app_role
from infra.simulators.settings import SimulatorSettings
from tests.conftest import with_database
from tests.support import servers
from tests.support.servers import Server

TEXT = (PROJECT_ROOT / "docker-compose.yml").read_text("utf-8")
JOBS = ("migrate", "topics")
SAME_AS_EMBEDDED = (
    "auto.create.topics.enable",
    "unclean.leader.election.enable",
    "log.retention.ms",
    "log.retention.bytes",
    "offsets.retention.minutes",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
    "listener.security.protocol.map",
    "controller.listener.names",
)


def blocks(text: str, indent: int) -> dict[str, str]:
    """Return the keys at one depth of a YAML text, each with the lines below it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        key = re.match(rf"^ {{{indent}}}([\w.-]+):(.*)$", line)
        if key:
            name = key[1]
            found[name] = key[2].strip() + "\n"
        elif name and (line.startswith(" " * (indent + 1)) or not line.strip()):
            found[name] += line + "\n"
        elif line.strip() and not line.startswith(" " * indent):
            name = ""
    return found


TOP = blocks(TEXT, 0)
CONTAINERS = blocks(TOP["services"], 2)


def variables(container: str) -> dict[str, str]:
    """Return what stands under `environment:` of a container."""
    below = blocks(CONTAINERS[container], 4).get("environment", "")
    return {name: value.strip().strip('"') for name, value in blocks(below, 6).items()}


def test_there_is_a_container_for_every_service_and_what_it_needs():
    assert set(CONTAINERS) == {"postgres", "kafka", *JOBS, *SERVICES, *SIMULATORS, "front"}
    for service in SERVICES:
        assert f"command: [python, -m, services.{service}.main]" in CONTAINERS[service]
        assert f"/{service}.env" in CONTAINERS[service]
        assert "<<: *service" in CONTAINERS[service]


def test_every_image_is_a_setting_with_a_default():
    images = re.findall(r"^\s+image: (.+)$", TEXT, re.MULTILINE)
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"\$\{WARDSTREAM_\w*IMAGE:-[\w./:-]+\}", image), image
    assert (
        f"${{WARDSTREAM_POSTGRES_IMAGE:-{servers.POSTGRES_IMAGE}}}" in images
        or "WARDSTREAM_POSTGRES_IMAGE" in os.environ
    )
    assert f"${{WARDSTREAM_KAFKA_IMAGE:-{servers.KAFKA_IMAGE}}}" in images or "WARDSTREAM_KAFKA_IMAGE" in os.environ


def test_everything_that_stays_up_is_health_checked():
    for name, container in CONTAINERS.items():
        assert name in JOBS or "healthcheck:" in container or re.search(r"<<: \*(service|simulator)", container), name
    assert "healthcheck:" in TOP["x-service"]
    assert "healthcheck:" in TOP["x-simulator"]


def test_no_secret_stands_in_the_file_and_none_in_the_image():
    for number, line in enumerate(TEXT.splitlines(), 1):
        assert not re.search(r"(?i)(password|secret|token)\w*\s*[:=]", line.split("#")[0]), f"line {number}"
        assert "://" not in line or "@" not in line, f"line {number}"
    ignored = (PROJECT_ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "infra/compose/env" in ignored
    assert "infra/compose/env/" in (PROJECT_ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_only_the_front_door_can_be_reached_from_outside():
    assert [name for name, container in CONTAINERS.items() if re.search(r"^    ports:", container, re.MULTILINE)] == [
        "front"
    ]
    assert "${WARDSTREAM_PUBLISH:-127.0.0.1:8080}:8080" in CONTAINERS["front"]
    assert "internal: true" in blocks(TOP["networks"], 2)["inside"]


def test_the_broker_keeps_facts_as_the_embedded_one_does():
    told = variables("kafka")
    for setting in SAME_AS_EMBEDDED:
        assert told["KAFKA_" + setting.upper().replace(".", "_")] == kafka.SETTINGS[setting], setting


def test_the_front_door_gets_every_variable_its_caddyfile_reads():
    caddyfile = front.CADDYFILE.read_text("utf-8")
    read = set(re.findall(r"\{\$(\w+)\}", caddyfile))
    told = variables("front")
    assert read <= told.keys()
    upstreams = (*SERVICES, *WITH_PAGES)
    assert told.keys() == front.environment(1, dict.fromkeys(upstreams, 1), Path(os.devnull)).keys()
    for service in upstreams:
        assert told[f"{service.upper()}_UPSTREAM"] == f"{service}:8000"
    assert "./infra/local/Caddyfile:/etc/caddy/Caddyfile:ro" in CONTAINERS["front"]


def test_every_variable_a_service_gets_is_one_it_reads():
    common = {name for name in blocks(TOP["x-environment"], 2) if name.startswith("WARDSTREAM_")}
    secret = environments()
    for service in SERVICES:
        fields = {f"WARDSTREAM_{name.upper()}" for name in type(settings_of(service)).model_fields}
        own = {name for name in variables(service) if name.startswith("WARDSTREAM_")}
        assert common | own | secret[service].keys() <= fields, service


def test_simulators_run_only_when_asked_for_and_billing_is_told_of_them_in_a_file_of_its_own():
    assert "profiles: [simulators]" in TOP["x-simulator"]
    read = {f"WARDSTREAM_SIM_{name.upper()}" for name in SimulatorSettings.model_fields}
    made = simulated()
    assert set(made) == {*SIMULATORS, "outside"}
    for name in SIMULATORS:
        assert f"command: [python, -m, infra.simulators.{name}]" in CONTAINERS[name]
        assert "<<: *simulator" in CONTAINERS[name]
        assert variables(name).keys() | made[name].keys() <= read | {"<<"}
        assert made["outside"][f"WARDSTREAM_{name.upper()}_KEY"] == made[name]["WARDSTREAM_SIM_KEY"]
    assert made["outside"].keys() <= {
        f"WARDSTREAM_{name.upper()}" for name in type(settings_of("billing")).model_fields
    }
    assert 'outside.env", required: false' in CONTAINERS["billing"]


def test_each_container_gets_its_own_secrets_in_a_private_file_and_they_stay(tmp_path: Path):
    command = [sys.executable, str(PROJECT_ROOT / "infra/compose/make_secrets.py"), str(tmp_path / "env")]
    subprocess.run(command, check=True, capture_output=True)
    files = {path.name.removesuffix(".env"): path for path in (tmp_path / "env").iterdir()}
    assert set(files) == {"postgres", "migrate", *SERVICES}
    for service in SERVICES:
        text = files[service].read_text("utf-8")
        assert f"//ws_{service}:" in text
        assert [other for other in SERVICES if f"//ws_{other}:" in text] == [service]
        assert stat.S_IMODE(files[service].stat().st_mode) == 0o600
    before = {name: path.read_bytes() for name, path in files.items()}
    subprocess.run(command, check=True, capture_output=True)
    assert {name: path.read_bytes() for name, path in files.items()} == before
    files["beds"].unlink()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def test_the_image_gets_locked_packages_and_none_of_the_embedded_servers():
    lock = (PROJECT_ROOT / "requirements" / "run.txt").read_text("utf-8")
    kept = without_embedded(lock)
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", kept, re.MULTILINE)
    assert set(re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)) - set(names) == EMBEDDED_ONLY
    blocks_of_packages = re.split(r"^(?=[A-Za-z0-9_.-]+==)", kept, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks_of_packages)


@pytest.mark.asyncio
async def test_the_migrate_job_prepares_a_database_in_which_no_service_sees_another(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
):
    found = re.fullmatch(r"postgresql://postgres:([^@]*)@([^/]+)/.*", postgres.address)
    if found is None or postgres.source == "environment":
        pytest.skip("It would create roles on a server that is not ours.")
    secret = environments()["migrate"] | {
        "WARDSTREAM_SUPERUSER_PASSWORD": found[1],
        "WARDSTREAM_DATABASE_HOST": found[2],
    }
    for name, value in secret.items():
        monkeypatch.setenv(name, value)
    await prepare_database()
    await prepare_database()  # a second start changes nothing
    password = secret["WARDSTREAM_BEDS_PASSWORD"]
    conn = await asyncpg.connect(f"postgresql://{app_role('beds')}:{password}@{found[2]}/{DATABASE}")
    try:
        assert await conn.fetchval("SELECT count(*) FROM outbox") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.fetchval("SELECT count(*) FROM billing.outbox")
    finally:
        await conn.close()
    conn = await asyncpg.connect(with_database(postgres.address, "postgres"))
    try:
        await conn.execute(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')
    finally:
        await conn.close()


def test_docker_itself_reads_the_file(tmp_path: Path):
    """Only where docker compose is installed; it needs no daemon for this."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed here.")
    env = {**os.environ, "WARDSTREAM_ENV_DIR": str(tmp_path / "env")}
    make = [sys.executable, str(PROJECT_ROOT / "infra/compose/make_secrets.py"), str(tmp_path / "env")]
    subprocess.run(make, check=True, capture_output=True)
    command = ["docker", "compose", "--file", "docker-compose.yml", "config", "--quiet"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
