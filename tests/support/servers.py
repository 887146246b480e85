"""Where the tests get PostgreSQL and Kafka from, in this order: addresses in the environment, containers, the embedded servers.

`WARDSTREAM_TEST_POSTGRES_URL` and `WARDSTREAM_TEST_KAFKA` name running servers. Containers are taken when Docker answers and
the images are there; `WARDSTREAM_TEST_SOURCE` = `containers` or `embedded` forces one way. Image names are settings, because
hospitals have their own registries; Docker fetches an image that is not there only when containers are forced.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import kafka as embedded_kafka
from infra.local.kafka import ScratchKafka
from infra.local.postgres import ScratchPostgres

POSTGRES_IMAGE = os.environ.get("WARDSTREAM_POSTGRES_IMAGE", "postgres:18")
KAFKA_IMAGE = os.environ.get("WARDSTREAM_KAFKA_IMAGE", "apache/kafka:4.1.1")

POSTGRES_SETTINGS = {"fsync": "off", "max_connections": "300", "min_wal_size": "64MB", "max_wal_size": "256MB"}
POSTGRES_INITDB_ARGS = "--auth-host=scram-sha-256 --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8"

KAFKA_SETTINGS = {
    **embedded_kafka.SETTINGS,
    "listeners": "PLAINTEXT://:9092,INTERNAL://:9094,CONTROLLER://:9093",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "INTERNAL",
    "controller.quorum.voters": "1@localhost:9093",
    "log.dirs": "/var/lib/kafka/data",
}
"""The embedded broker's; the address for the tests is a port of this machine, so the broker reaches itself by another."""

KAFKA_HEAP = "-Xms128m -Xmx384m"
_ADDRESS_FILE = "/tmp/wardstream-address"


@dataclass(frozen=True, slots=True)
class Server:
    """An address and where it came from."""

    address: str
    source: str


def _takes_container(image: str) -> bool:
    """Say whether this image is to be run: what the environment says, else whether Docker answers and has it."""
    wanted = os.environ.get("WARDSTREAM_TEST_SOURCE", "")
    if wanted not in {"", "containers", "embedded"}:
        raise ValueError(f"WARDSTREAM_TEST_SOURCE is {wanted!r}; it may be containers or embedded.")
    if wanted:
        return wanted == "containers"
    try:  # by its own program, because the library leaves a socket open when nobody answers
        found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0


def _reached_from_here_only(container: Any, port: int) -> Any:
    """Publish a port of the container on loopback, unless Docker or this process lies elsewhere and loopback is not ours."""
    from testcontainers.core.config import ConnectionMode

    container.with_exposed_ports(port)
    client = container.get_docker_client()
    if client.get_connection_mode() is ConnectionMode.docker_host and client.host() in {"localhost", "127.0.0.1"}:
        container.ports[str(port)] = ("127.0.0.1", None)
    return container


MEMORY = Path("/dev/shm")
MEMORY_FREE_BYTES_MIN = 4 * 2**30


def place() -> Path:
    """Return where servers of the tests keep their files: in memory where there is room, as a new database is a thousand files.

    Elsewhere not below a home, which an unprivileged database user could not enter.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_BYTES_MIN:
        return MEMORY
    return Path("/var/tmp")


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """Give a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="wardstream-test-", dir=place(), ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextlib.contextmanager
def _postgres_container() -> Iterator[Server]:
    from testcontainers.community.postgres import PostgresContainer

    made = PostgresContainer(POSTGRES_IMAGE, username="postgres", password=secrets.token_urlsafe(16), driver=None)
    made.with_env("POSTGRES_INITDB_ARGS", POSTGRES_INITDB_ARGS)
    made.with_command(["postgres", *(f"-c{name}={value}" for name, value in POSTGRES_SETTINGS.items())])
    with _reached_from_here_only(made, 5432) as container:
        yield Server(container.get_connection_url(), f"container {POSTGRES_IMAGE}")


@contextlib.contextmanager
def _kafka_container() -> Iterator[Server]:
    """Start Apache's image by its documented variables; testcontainers' own class knows Confluent's image only.

    The broker must advertise a port that exists only once the container runs, so it waits for a file that says it.
    """
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    made = DockerContainer(KAFKA_IMAGE)
    for name, value in KAFKA_SETTINGS.items():
        made.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
    made.with_env("KAFKA_HEAP_OPTS", KAFKA_HEAP)
    wait = f"until [ -s {_ADDRESS_FILE} ]; do sleep 0.1; done"
    made.with_command(["sh", "-c", f"{wait}; . {_ADDRESS_FILE}; exec /etc/kafka/docker/run"])
    with _reached_from_here_only(made, 9092) as container:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(9092)}"
        advertised = f"PLAINTEXT://{address},INTERNAL://localhost:9094"
        line = f"export KAFKA_ADVERTISED_LISTENERS={advertised}\n"
        container.copy_into_container(line.encode(), _ADDRESS_FILE, 0o644)
        LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(120).wait_until_ready(container)
        yield Server(address, f"container {KAFKA_IMAGE}")


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Give a PostgreSQL 18 whose address may create databases."""
    if url := os.environ.get("WARDSTREAM_TEST_POSTGRES_URL"):
        yield Server(url, "environment")
    elif _takes_container(POSTGRES_IMAGE):
        with _postgres_container() as container:
            yield container
    else:
        with _directory() as directory:
            directory.chmod(0o755)
            with ScratchPostgres(directory, POSTGRES_SETTINGS) as server:
                yield Server(server.dsn(), "embedded")


@contextlib.contextmanager
def kafka() -> Iterator[Server]:
    """Give a Kafka 4.1 without any topic."""
    if bootstrap := os.environ.get("WARDSTREAM_TEST_KAFKA"):
        yield Server(bootstrap, "environment")
    elif _takes_container(KAFKA_IMAGE):
        with _kafka_container() as container:
            yield container
    else:
        with _directory() as directory, ScratchKafka(directory) as server:
            yield Server(server.bootstrap, "embedded")


Opener = Callable[[], contextlib.AbstractContextManager[Server]]
