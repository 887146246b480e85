"""Real servers once per run, a fresh migrated database per test."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from xdist.scheduler import LoadScopeScheduling

from shared.clock import Clock
from shared.db import Database, create_pool, migrate
from shared.settings import ServiceSettings
from tests.support import servers
from tests.support.servers import Server

_used: dict[str, str] = {}


class OneWorkerAFile(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one file run in one worker, those of all screens too, so that what they start is started once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/screens" if file.startswith("tests/screens/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Say which tests go to which worker."""
    return OneWorkerAFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over from a worker that ended on which broker and database its tests ran."""
    _used.update(getattr(node, "workeroutput", {}).get("used", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell whoever started this worker."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["used"] = _used


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say on which broker and database the tests ran."""
    for what, source in sorted(_used.items()):
        terminalreporter.write_line(f"{what}: {source}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL 18 of this run."""
    with servers.postgres() as server:
        _used["PostgreSQL"] = server.source
        yield server


@pytest.fixture(scope="session")
def kafka() -> Iterator[Server]:
    """A Kafka of this run."""
    with servers.kafka() as server:
        _used["Kafka"] = server.source
        yield server


def with_database(dsn: str, database: str) -> str:
    """Return the address of another database on the same server."""
    head, _, _ = dsn.rpartition("/")
    return f"{head}/{database}"


class Databases:
    """Makes databases: each set of services is migrated once, then cloned per test."""

    def __init__(self, admin_dsn: str) -> None:
        self.admin_dsn = admin_dsn
        self._templates: dict[object, str] = {}
        self._made: list[str] = []

    async def _execute(self, statement: str) -> None:
        conn = await asyncpg.connect(self.admin_dsn)
        try:
            await conn.execute(statement)
        finally:
            await conn.close()

    async def create(self, *services: str, fill: Callable[[str], Awaitable[None]] | None = None) -> str:
        """Return the address of a new database with the migrated schemas of these services.

        `fill` puts into what is copied what each of these databases begins with; it is done once.
        """
        template = self._templates.get((services, fill))
        if template is None:
            template = f"template_{uuid4().hex[:12]}"
            await self._execute(f"CREATE DATABASE {template}")
            self._made.append(template)
            for service in services:
                await migrate(with_database(self.admin_dsn, template), service)
            if fill is not None:
                await fill(with_database(self.admin_dsn, template))
            self._templates[services, fill] = template
        name = f"test_{uuid4().hex[:12]}"
        # Copied as files: many times as quick as through the log, and these databases need not outlive a crash.
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        self._made.append(name)
        return with_database(self.admin_dsn, name)

    async def drop(self, dsn: str) -> None:
        """Remove a database, whoever is still connected."""
        await self._execute(f"DROP DATABASE IF EXISTS {dsn.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture(scope="session")
def databases(postgres: Server) -> Iterator[Databases]:
    """The maker of databases; a server that is not ours is left as it was found."""
    made = Databases(postgres.address)
    yield made
    if postgres.source == "environment":
        with contextlib.suppress(Exception):
            for name in reversed(made._made):
                asyncio.run(made.drop(with_database(postgres.address, name)))


def settings_for(dsn: str, service: str, **more: object) -> ServiceSettings:
    """Return settings of a service on a test database, its schema first in the path."""
    separator = "&" if "?" in dsn else "?"
    return ServiceSettings(database_url=f"{dsn}{separator}options=-csearch_path%3D{service}%2Cpublic", **more)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(dsn: str, service: str, clock: Clock | None = None) -> AsyncIterator[Database]:
    """Open the pool of one service on a test database."""
    pool = await create_pool(settings_for(dsn, service))
    try:
        yield Database(pool, clock or Clock())
    finally:
        pool.terminate()


@pytest_asyncio.fixture
async def database(databases: Databases, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """An empty, migrated schema of the service that the test's module names in `SERVICE`."""
    service = request.module.SERVICE
    dsn = await databases.create(service)
    async with opened(dsn, service) as db:
        yield db
    await databases.drop(dsn)


os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
