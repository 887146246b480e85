"""The access service on a real database, asked through its HTTP doors."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest_asyncio

from services.access import actions
from services.access.main import spec_of
from services.access.passwords import Passwords
from services.access.settings import Settings
from shared.access.keys import KeyFile
from shared.access.roles import Role
from shared.access.tokens import TokenVerifier
from shared.clock import FrozenClock
from shared.db import Database, Transaction, create_pool
from shared.messaging.memory import MemoryBroker
from shared.service import Runtime, create_app
from tests.conftest import Databases

PASSWORD = "correct horse battery"


@pytest_asyncio.fixture
async def access_dsn(databases: Databases) -> AsyncIterator[str]:
    """The address of an empty, migrated database of the access service."""
    dsn = await databases.create("access")
    yield f"{dsn}?search_path=access,public"
    await databases.drop(dsn)


@pytest_asyncio.fixture
async def conn(access_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """One session of the database's owner, who can do what no service can."""
    connection = await asyncpg.connect(access_dsn)
    yield connection
    await connection.close()


@dataclass
class Hospital:
    """The running service, its clock and its database."""

    http: httpx2.AsyncClient
    clock: FrozenClock
    db: Database
    settings: Settings
    verifier: TokenVerifier

    async def hire(self, username: str, *roles: Role, wards: tuple[str, ...] = ("W1",)) -> UUID:
        """Open an account with the usual password."""
        async with self.db.pool.acquire() as conn, conn.transaction():
            tx = Transaction(conn=conn, now=self.clock.at)
            account = await actions.create_account(
                tx,
                username=username,
                display_name=username.title(),
                password_hash=await Passwords().hash(PASSWORD),
                roles=frozenset(roles),
                wards=frozenset(wards),
            )
        return account.user_id

    async def log_in(self, username: str, password: str = PASSWORD) -> httpx2.Response:
        return await self.http.post("/api/access/login", json={"username": username, "password": password})

    async def bearer(self, username: str) -> dict[str, str]:
        """Log in and return the header that proves it; the cookie is not kept."""
        answer = await self.log_in(username)
        assert answer.status_code == 200, answer.text
        self.http.cookies.clear()
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def trail(self) -> list[dict[str, Any]]:
        """Return the audit rows, oldest first."""
        async with self.db.pool.acquire() as conn:
            return [dict(row) for row in await conn.fetch("SELECT * FROM audit ORDER BY id")]


@pytest_asyncio.fixture
async def hospital(access_dsn: str, tmp_path: Path) -> AsyncIterator[Hospital]:
    settings = Settings(
        database_url=access_dsn,
        signing_key_file=tmp_path / "signing.json",
        failed_logins_per_minute_max=20,
        failed_logins_per_address_and_minute_max=30,
    )
    clock = FrozenClock(datetime(2026, 3, 2, 8, 0, tzinfo=UTC))
    db = Database(await create_pool(settings), clock)
    keys = KeyFile(settings.signing_key_file)
    verifier = TokenVerifier(jwks=lambda: keys.ring().jwks())
    broker = MemoryBroker()
    spec = spec_of(settings)
    runtime = Runtime(spec, settings, db, verifier, broker.producer, broker.consumer)
    app = create_app(spec, lambda: runtime, verifier, run=False)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://front.door") as http:
        yield Hospital(http, clock, db, settings, verifier)
    await db.pool.close()
