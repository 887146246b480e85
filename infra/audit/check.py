"""What a check is: it looks at the hospital once and says how much it examined and what is wrong.

A finding is a short text of ids, versions, states and counts, the same each time the same thing is wrong: what may still be
on its way between services is looked at again, and only a finding that is found again counts. Never a name, never a body.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from infra.audit.scene import Scene
from infra.local.services import SERVICES
from shared.contracts.registry import EVENTS, SERVICES_WITH_EVENTS
from shared.messaging.broker import TopicPartition
from shared.messaging.reading import Extent

FINDINGS_MAX = 100_000
"""More wrong rows than these are not fetched; whoever has so many needs no exact count."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""
    del what, done, total


@dataclass(frozen=True, slots=True)
class Seen:
    """What one check saw."""

    examined: int
    wrong: Sequence[str] = ()
    reason: str = ""
    """Why it could not look, or what it left out on purpose."""
    finished: bool = True
    """False when it could not look at everything; then it is not right, whatever it found."""


@dataclass(slots=True)
class Look:
    """One look: every query of it sees the same snapshot of the database."""

    conn: asyncpg.Connection
    scene: Scene
    services: frozenset[str]
    """The services whose tables are there."""
    extents: Mapping[TopicPartition, Extent]
    """What the broker held just before the snapshot of the first look: everything up to there must be read by the next."""
    progress: Progress = no_progress
    kept: dict[str, Any] = field(default_factory=dict)
    """What several checks need and one of them made."""

    @property
    def announcing(self) -> list[str]:
        """Return the services that are there and announce events."""
        return [service for service in SERVICES_WITH_EVENTS if service in self.services]

    async def value(self, query: str, *arguments: object) -> Any:
        """Return one value."""
        return await self.conn.fetchval(query, *arguments)

    async def count(self, query: str, *arguments: object) -> int:
        """Return one number; nothing counts as 0."""
        return int(await self.conn.fetchval(query, *arguments) or 0)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Return all rows."""
        return await self.conn.fetch(query, *arguments)

    async def texts(self, query: str, *arguments: object) -> list[str]:
        """Return the first column as texts, at most FINDINGS_MAX."""
        cursor = await self.conn.cursor(query, *arguments)
        return [str(row[0]) for row in await cursor.fetch(FINDINGS_MAX)]

    @contextlib.asynccontextmanager
    async def in_schema(self, service: str) -> AsyncIterator[None]:
        """Let unqualified names mean the tables of one service; a check that fails takes that back with its savepoint."""
        await self.conn.execute("SELECT set_config('search_path', $1, true)", f"{schema(service)}, public")
        yield
        await self.conn.execute("SELECT set_config('search_path', 'pg_catalog', true)")


Looker = Callable[[Look], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant. `settles`: what it compares travels between services, so only what is wrong twice is wrong."""

    id: str
    name: str
    look: Looker
    needs: frozenset[str] = frozenset()
    settles: bool = False


def schema(service: str) -> str:
    """Return the schema of a service; refuses everything else, because it goes into SQL."""
    if service not in SERVICES:
        raise ValueError("This is no service of ours.")
    return service


def types_of(topic: str) -> list[str]:
    """Return the event types of a topic."""
    return [ce_type for ce_type, event in EVENTS.items() if event.topic.name == topic]


def sql_check(
    id_: str, name: str, *, needs: Collection[str], examined: str, wrong: str, settles: bool = False
) -> Check:
    """Make a check of two queries: how much there is to look at, and the findings as one text column."""

    async def look(at: Look) -> Seen:
        return Seen(await at.count(examined), await at.texts(wrong))

    return Check(id_, name, look, frozenset(needs), settles)
