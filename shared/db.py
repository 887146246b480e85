"""PostgreSQL: the pool with its timeouts, the transaction an action works in, retryable errors, and migrations.

Only `shared.messaging` and the door (`shared.web`) begin and end transactions; actions receive a `Transaction` by hand.
"""

import asyncio
import hashlib
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from shared.clock import Clock
from shared.contracts.envelope import Envelope, Event
from shared.errors import Refused
from shared.settings import ServiceSettings

Connection = asyncpg.Connection | PoolConnectionProxy

RETRYABLE: tuple[type[BaseException], ...] = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
"""Errors after which the same work may be tried again (R4); everything else is a refusal or a bug."""


class LostRace(Exception):
    """A constraint says somebody else was first; look again and decide anew."""


CONTENTION: tuple[type[BaseException], ...] = (
    LostRace,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
"""Errors that say: two wanted the same rows, the server undid this one (40001, 40P01, 55P03)."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did or saw what of whom; never the data itself (S3)."""

    action: str
    object_type: str
    object_id: str | None = None
    patient_tok: UUID | None = None
    purpose: str | None = None
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event with what it was caused by, waiting for the flush before COMMIT."""

    event: Event
    occurred_at: datetime
    correlation_id: UUID | None
    causation_id: UUID | None
    actor: UUID | None
    source: str
    traceparent: str | None


@dataclass(slots=True)
class Transaction:
    """One open database transaction and what its events will carry.

    Facts happen at `now`: the database clock for live work, the given past instant for imported facts.
    """

    conn: Connection
    now: datetime
    actor: UUID | None = None
    role: str = "system"
    correlation_id: UUID | None = None
    cause: Envelope | None = None
    source: str = "live"
    traceparent: str | None = None
    ahead: Any = None
    """What the statement answered that was asked ahead of the action, of a command that has one (`shared.commands`)."""
    events: list[PendingEvent] = field(default_factory=list)
    audits: list[AuditRow] = field(default_factory=list)
    signals: set[str] = field(default_factory=set)

    def audit(
        self,
        action: str,
        object_type: str,
        object_id: object = None,
        *,
        patient_tok: UUID | None = None,
        purpose: str | None = None,
    ) -> None:
        """Note who did or saw what; written in the same commit as the effect (S3)."""
        self.audits.append(
            AuditRow(action, object_type, None if object_id is None else str(object_id), patient_tok, purpose)
        )


class Signals:
    """Wakes requests of this process that wait for a consumer to learn something about one stay."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def fire(self, keys: set[str]) -> None:
        """Wake everyone waiting for one of these keys."""
        for key in keys:
            for waiting in self._waiting.get(key, ()):
                waiting.set()

    @asynccontextmanager
    async def listening(self, key: str) -> AsyncIterator[asyncio.Event]:
        """Register before looking, so that nothing told between the look and the wait is missed."""
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiting[key]
            waiting.discard(event)
            if not waiting:
                del self._waiting[key]


@dataclass(slots=True)
class Database:
    """A service's pool, its clock, and what must be told after a commit."""

    pool: asyncpg.Pool
    clock: Clock
    signals: Signals = field(default_factory=Signals)
    wake_relay: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as the service is asked to stop: open streams end, so that it can."""

    def committed(self, tx: Transaction) -> None:
        """Tell the relay and waiting requests that `tx` is durable."""
        if tx.events:
            self.wake_relay.set()
        if tx.signals:
            self.signals.fire(tx.signals)


@contextmanager
def refusing(conflicts: Mapping[str, tuple[str, str]]) -> Iterator[None]:
    """Turn a broken constraint into the refusal it means: constraint name -> (code, sentence).

    Raises:
        Refused: the database said no for a reason a person understands.
    """
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        said = conflicts.get(error.constraint_name or "")
        if said is None:
            raise
        raise Refused(said[1], code=said[0]) from error


@asynccontextmanager
async def transaction(db: Database) -> AsyncIterator[Transaction]:
    """Open a transaction for work nobody asked for at a door: timers and first furnishing; its events go out on commit."""
    from shared.messaging import outbox

    async with db.pool.acquire(timeout=10) as conn:
        async with conn.transaction():
            tx = Transaction(conn=conn, now=db.clock.stamp(await conn.fetchval("SELECT clock_timestamp()")))
            yield tx
            await outbox.flush(tx)
        db.committed(tx)


async def _prepare_session(conn: asyncpg.Connection) -> None:
    await conn.set_type_codec(
        "jsonb", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads, schema="pg_catalog"
    )


async def _leave_session(_conn: asyncpg.Connection) -> None:
    """Leave a session as it is: nothing here sets session state, and the default reset is one more commit per request."""


async def create_pool(settings: ServiceSettings, *, size_min: int = 2) -> asyncpg.Pool:
    """Open the service's pool; every wait in it is bounded, so that a half-open socket ends by itself (4-reliability 1)."""
    pool = await asyncpg.create_pool(
        settings.database_url,
        min_size=size_min,
        max_size=settings.pool_size_max,
        command_timeout=settings.statement_timeout_ms / 1000 + 5,
        timeout=10,
        max_inactive_connection_lifetime=300,
        init=_prepare_session,
        reset=_leave_session,
        server_settings={
            "application_name": "wardstream",
            "timezone": "UTC",
            "jit": "off",
            "plan_cache_mode": "force_generic_plan",
            "statement_timeout": str(settings.statement_timeout_ms),
            "lock_timeout": "5000",
            "idle_in_transaction_session_timeout": "15000",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "2",
        },
    )
    if pool is None:
        raise RuntimeError("asyncpg gave no pool.")
    return pool


MIGRATIONS_OF_ALL = Path(__file__).parent / "messaging" / "migrations"
SERVICES_ROOT = Path(__file__).parent.parent / "services"


class MigrationFailed(Exception):
    """A migration or its check did not hold; the schema is as it was before that file."""


def _migration_files(service: str) -> Iterator[tuple[str, Path]]:
    for folder, origin in ((MIGRATIONS_OF_ALL, "shared"), (SERVICES_ROOT / service / "migrations", service)):
        for path in sorted(folder.glob("[0-9]*.sql")):
            yield f"{origin}/{path.name}", path


async def migrate(dsn: str, service: str, *, app_role: str | None = None) -> list[str]:
    """Bring the schema of `service` up to date and return the names of the files that were applied.

    Each file is one transaction and ends with `-- check:` queries that must be true; a changed file is refused (R64).

    Raises:
        MigrationFailed: a check is false, a file that was already applied has changed, or the server is too old.
    """
    conn = await asyncpg.connect(dsn, server_settings={"lock_timeout": "2000", "timezone": "UTC"})
    try:
        if conn.get_server_version().major < 18:
            raise MigrationFailed("PostgreSQL 18 or newer is needed.")
        await conn.execute("SELECT pg_advisory_lock(hashtext('wardstream-migrate'))")
        schema = _quoted(service)
        await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await conn.execute(f"SET search_path = {schema}, public")
        if app_role is not None:
            role = _quoted(app_role)
            await conn.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            for kind, rights in (
                ("TABLES", "SELECT, INSERT, UPDATE, DELETE"),
                ("SEQUENCES", "USAGE, SELECT"),
                ("FUNCTIONS", "EXECUTE"),
            ):
                await conn.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {rights} ON {kind} TO {role}")
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            "(name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            row["name"]: row["checksum"] for row in await conn.fetch("SELECT name, checksum FROM schema_migration")
        }
        done: list[str] = []
        for name, path in _migration_files(service):
            text = await asyncio.to_thread(path.read_text, "utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            if name in applied:
                if applied[name] != checksum:
                    raise MigrationFailed(f"{name} was applied before and has changed since.")
                continue
            async with conn.transaction():
                await conn.execute(text)
                for check in re.findall(r"^-- check: (.+)$", text, re.MULTILINE):
                    if await conn.fetchval(check) is not True:
                        raise MigrationFailed(f"{name}: the check does not hold: {check}")
                await conn.execute("INSERT INTO schema_migration(name, checksum) VALUES ($1, $2)", name, checksum)
            done.append(name)
        return done
    finally:
        await conn.close()


def _quoted(identifier: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", identifier):
        raise ValueError("This is no plain SQL name.")
    return f'"{identifier}"'


def main() -> None:
    """Run `python -m shared.db migrate <service>`; the address comes from WARDSTREAM_MIGRATE_URL."""
    import os

    if len(sys.argv) != 3 or sys.argv[1] != "migrate":
        sys.exit("usage: python -m shared.db migrate SERVICE")
    service = sys.argv[2]
    try:
        done = asyncio.run(
            migrate(os.environ["WARDSTREAM_MIGRATE_URL"], service, app_role=os.environ.get("WARDSTREAM_APP_ROLE"))
        )
    except MigrationFailed as error:
        sys.exit(f"{service}: {error}")
    sys.stderr.write(f"{service}: {len(done)} migrations applied\n")


if __name__ == "__main__":
    main()
