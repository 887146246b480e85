"""Where the tests get PostgreSQL and Kafka from, in this order: addresses in the environment, containers, the embedded servers.

`WARDSTREAM_TEST_POSTGRES_URL` and `WARDSTREAM_TEST_KAFKA` name running servers. `WARDSTREAM_TEST_SOURCE` = `containers` or
`embedded` forces one way. Image names are settings, because hospitals have their own registries.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.local.kafka import ScratchKafka
from infra.local.postgres import ScratchPostgres

POSTGRES_IMAGE = os.environ.get("WARDSTREAM_POSTGRES_IMAGE", "postgres:18")
KAFKA_IMAGE = os.environ.get("WARDSTREAM_KAFKA_IMAGE", "apache/kafka:4.1.1")


@dataclass(frozen=True, slots=True)
class Server:
    """An address and where it came from."""

    address: str
    source: str


def _image_is_here(image: str) -> bool:
    if os.environ.get("WARDSTREAM_TEST_SOURCE") == "embedded":
        return False
    try:
        found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0


def _directory() -> Path:
    # Not below a home that an unprivileged database user could not enter.
    return Path(tempfile.mkdtemp(prefix="wardstream-test-", dir="/var/tmp"))


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Give a PostgreSQL 18 whose address may create databases."""
    if url := os.environ.get("WARDSTREAM_TEST_POSTGRES_URL"):
        yield Server(url, "environment")
    elif _image_is_here(POSTGRES_IMAGE):
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
            yield Server(container.get_connection_url(), f"container {POSTGRES_IMAGE}")
    else:
        directory = _directory()
        directory.chmod(0o755)
        with ScratchPostgres(directory, {"fsync": "off", "max_connections": "300"}) as server:
            yield Server(server.dsn(), "embedded")


@contextlib.contextmanager
def kafka() -> Iterator[Server]:
    """Give a Kafka 4.1 without any topic."""
    if bootstrap := os.environ.get("WARDSTREAM_TEST_KAFKA"):
        yield Server(bootstrap, "environment")
    elif _image_is_here(KAFKA_IMAGE):
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer(KAFKA_IMAGE).with_kraft() as container:
            yield Server(container.get_bootstrap_server(), f"container {KAFKA_IMAGE}")
    else:
        with ScratchKafka(_directory()) as server:
            yield Server(server.bootstrap, "embedded")


Opener = Callable[[], contextlib.AbstractContextManager[Server]]
