"""Commands of people: done once for their idempotency key, alone or, where many come at the same time, in one commit together.

A commit waits for the disk, and so does everybody behind it. Commands that arrive while one commit is under way share the
next: each still has its own key, audit row, events and answer. When anything in such a batch goes wrong, nothing of it is
done, and each is done alone.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from shared import faults
from shared.db import Connection, Database, Transaction
from shared.errors import Refused
from shared.messaging import outbox

log = structlog.get_logger()

TOGETHER_MAX = 32
BATCHES_MAX = 4
"""How many batches are under way at a time: while one waits for the disk, the next fills."""
TOGETHER_LOCK_MILLISECONDS = 200
"""How long a batch waits for a row: nobody should wait long for what somebody else is doing."""

_FIRST = """
SELECT CASE WHEN $3::text IS NOT NULL THEN set_config('lock_timeout', $3, true) END,
       clock_timestamp() AS now, pg_try_advisory_xact_lock(hashtextextended(w.actor::text || w.key, 18)) AS locked,
       i.status, i.response, i.body_hash
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS w(actor, key, no) LEFT JOIN idem i USING (actor, key) ORDER BY w.no
"""


@dataclass(frozen=True, slots=True)
class Acted:
    """What a command did in its transaction, and what it is answered."""

    tx: Transaction
    answer: outbox.Answer
    answered: Any
    content: bytes


@dataclass(frozen=True, slots=True)
class Ahead:
    """The one statement that a hot command begins with, for any number of such commands: asked for all of a batch at once.

    `order` is what it locks first. `run` gets what each asks with the instant it happens at, and answers each.
    """

    run: Callable[[Connection, Sequence[tuple[Any, datetime]]], Awaitable[Sequence[Any]]]
    asked: Any
    order: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command of one person under one key. Those with a statement `ahead` may be done together."""

    actor: UUID
    key: str
    happens_at: Callable[[datetime], datetime]
    act: Callable[[Connection, datetime, Any], Awaitable[Acted]]
    ahead: Ahead | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """The key was answered before."""

    status: int
    response: str
    body_hash: bytes


async def do_alone(db: Database, command: Command) -> Acted | Known:
    """Do a command in a transaction of its own, or return what its key was answered before (R1).

    Raises:
        Refused: the first request with this key is still being worked on. Whatever the command raises; nothing is done then.
    """
    async with db.pool.acquire(timeout=10) as conn:
        faults.reached("K18")
        async with conn.transaction():
            (first,) = await conn.fetch(_FIRST, [command.actor], [command.key], None)
            if first["status"] is not None:
                return Known(first["status"], first["response"], first["body_hash"])
            if not first["locked"]:
                raise Refused(
                    "The first request with this key is still being worked on.",
                    code="in_progress",
                    retry_after_seconds=1,
                )
            (acted,) = await _act(conn, [command], [first["now"]])
            await outbox.flush_answered([acted.tx], [acted.answer])
    faults.reached("K19")
    db.committed(acted.tx)
    return acted


async def _act(conn: Connection, commands: Sequence[Command], nows: Sequence[datetime]) -> list[Acted]:
    at = [command.happens_at(now) for command, now in zip(commands, nows, strict=True)]
    answers: Sequence[Any] = [None] * len(commands)
    if commands and commands[0].ahead is not None:
        asked = [(command.ahead.asked, when) for command, when in zip(commands, at, strict=True) if command.ahead]
        answers = await commands[0].ahead.run(conn, asked)
    return [await command.act(conn, when, answer) for command, when, answer in zip(commands, at, answers, strict=True)]


class Together:
    """Does commands of one kind that come at the same time in one commit, in the order of what they lock."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[tuple[Command, asyncio.Future[Acted | None]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, command: Command) -> Acted | None:
        """Do a command with whoever else waits; None when it has to be done alone.

        Raises:
            Exception: what the command raised when nobody else was waiting; nothing is done then.
        """
        done: asyncio.Future[Acted | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, done))
        if len(self._running) < BATCHES_MAX:
            # A context of its own: the batch belongs to no request's trace.
            running = asyncio.create_task(self._run(), context=contextvars.Context())
            self._running.add(running)
            running.add_done_callback(self._running.discard)
        return await done

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            acted: Sequence[Acted | None] = [None] * len(batch)
            try:
                acted = await self._do([command for command, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever asked alone decides what it means
                if len(batch) == 1:
                    _fail(batch[0][1], error)
                else:
                    log.info("commands_parted", commands=len(batch), error=type(error).__name__)
            for (_, done), one in zip(batch, acted, strict=True):
                if not done.done():
                    done.set_result(one)

    def _next_batch(self) -> list[tuple[Command, asyncio.Future[Acted | None]]]:
        """Take those that waited longest, each key once."""
        taken: dict[tuple[UUID, str], tuple[Command, asyncio.Future[Acted | None]]] = {}
        later = []
        for one in self._waiting:
            key = (one[0].actor, one[0].key)
            if len(taken) < TOGETHER_MAX and key not in taken:
                taken[key] = one
            else:
                later.append(one)
        self._waiting = later
        return sorted(taken.values(), key=lambda one: one[0].ahead.order if one[0].ahead else "")

    async def _do(self, commands: Sequence[Command]) -> list[Acted | None]:
        async with self._db.pool.acquire(timeout=10) as conn:
            faults.reached("K18")
            async with conn.transaction():
                patience = str(TOGETHER_LOCK_MILLISECONDS) if len(commands) > 1 else None
                firsts = await conn.fetch(
                    _FIRST, [one.actor for one in commands], [one.key for one in commands], patience
                )
                fresh = [number for number, first in enumerate(firsts) if first["locked"] and first["status"] is None]
                done = await _act(conn, [commands[n] for n in fresh], [firsts[n]["now"] for n in fresh])
                await outbox.flush_answered([one.tx for one in done], [one.answer for one in done])
        faults.reached("K19")
        for one in done:
            self._db.committed(one.tx)
        acted = dict(zip(fresh, done, strict=True))
        return [acted.get(number) for number in range(len(commands))]


def _fail(done: "asyncio.Future[Acted | None]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
