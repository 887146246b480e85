"""The relay: sends unsent outbox rows to the broker, each aggregate in order, and marks them after the acknowledgement.

One relay per service: elected by an advisory lock on its own session and fenced by an epoch, so that a paused twin that wakes
up can at worst send old events again, which every consumer discards (R7). A broker that is down costs nothing but time:
the outbox grows, commands go on (R63).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from shared import faults, telemetry
from shared.contracts.registry import EVENT_TOPICS, EVENTS, RESYNC_TOPICS
from shared.db import RETRYABLE, Connection, Database
from shared.messaging.broker import (
    BEACON_TYPE,
    BROKER_TROUBLE,
    BrokerUnavailable,
    Producer,
    digest_of,
    event_headers,
)

log = structlog.get_logger()

BATCH_MAX = 500
POLL_SECONDS = 0.5
MARK_SECONDS = 0.1
TURN_SECONDS = 0.025
"""Shortest time between two turns: the first event after a pause goes at once, a busy service sends forty batches a second."""
BEACON_SECONDS = 60.0
ELECTION_SECONDS = 1.0

_SELECT = """
SELECT u.id, u.resend, o.event_id::text, o.aggregate_id, o.version, o.type, o.body::text AS body,
       to_char(o.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS occurred_at,
       to_char(o.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded_at,
       o.correlation_id::text, o.causation_id::text, o.actor::text, o.source, o.traceparent
FROM outbox_unsent u JOIN outbox o USING (id)
"""
_FIRST = f"{_SELECT} ORDER BY u.id LIMIT $1"
_MARK_AND_NEXT = f"""
WITH mine AS (SELECT 1 FROM relay WHERE epoch = $1 FOR SHARE),
     gone AS (DELETE FROM outbox_unsent USING mine WHERE id = ANY($2::bigint[]) RETURNING id),
     sent AS (
        SELECT m.* FROM unnest($3::text[], $4::int[], $5::bigint[], $6::numeric[], $7::numeric[])
            AS m(topic, part, events, version_sum, digest), mine),
     counted AS (
        UPDATE relay_sent s SET events = s.events + m.events, version_sum = s.version_sum + m.version_sum, digest = s.digest + m.digest
        FROM sent m WHERE s.topic = m.topic AND s.part = m.part RETURNING s.topic, s.part),
     counted_first AS (
        INSERT INTO relay_sent (topic, part, events, version_sum, digest)
        SELECT * FROM sent m WHERE NOT EXISTS (SELECT FROM counted c WHERE c.topic = m.topic AND c.part = m.part))
SELECT (SELECT count(*) FROM gone) AS gone, n.*
FROM (SELECT 1) one LEFT JOIN (
    {_SELECT} WHERE u.id <> ALL($2::bigint[]) ORDER BY u.id LIMIT $8
) n ON true ORDER BY n.id
"""


class RelayFenced(Exception):
    """Another relay of this service was elected meanwhile; this one must stop marking."""


_PASSING: tuple[type[BaseException], ...] = (RelayFenced, *BROKER_TROUBLE)


@dataclass(slots=True)
class _Marks:
    """Rows the broker has acknowledged and the database does not know of yet; sums per partition for the beacon."""

    ids: list[int] = field(default_factory=list)
    sums: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.ids


class Relay:
    """Sends one service's outbox. `run` returns only when cancelled."""

    def __init__(self, service: str, db: Database, make_producer: Callable[[], Producer]) -> None:
        self._service = service
        self._db = db
        self._make_producer = make_producer
        self.epoch: int | None = None
        self.turned_at = time.monotonic()
        self.oldest_unsent_seconds = 0.0
        self._marks = _Marks()
        self._topic_of = {ce_type: cls.topic.name for ce_type, cls in EVENTS.items()}

    @property
    def leading(self) -> bool:
        """Say whether this process is the elected relay."""
        return self.epoch is not None

    async def run(self) -> None:
        """Stand for election, relay while elected, and start over after any failure of database or broker."""
        wait_seconds = 0.2
        while True:
            try:
                await self._lead()
            except _PASSING as error:
                log.warning(
                    "relay_interrupted", service=self._service, error=type(error).__name__, wait_seconds=wait_seconds
                )
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, 5.0)
            else:
                wait_seconds = 0.2
            finally:
                self.epoch = None
                self.turned_at = time.monotonic()

    async def _lead(self) -> None:
        self._marks = _Marks()
        async with self._db.pool.acquire(timeout=10) as conn:
            while not await conn.fetchval("SELECT pg_try_advisory_lock(hashtext($1), 1)", f"relay:{self._service}"):
                self.turned_at = time.monotonic()
                await asyncio.sleep(ELECTION_SECONDS)
            producer = self._make_producer()
            try:
                await producer.start()
                epoch: int = await conn.fetchval("UPDATE relay SET epoch = epoch + 1 RETURNING epoch")
                self.epoch = epoch
                log.info("relay_elected", service=self._service, epoch=epoch)
                await self._relay_while_leading(conn, producer, epoch)
            finally:
                with contextlib.suppress(Exception):
                    await producer.stop()
                with contextlib.suppress(*RETRYABLE):
                    await conn.execute("SELECT pg_advisory_unlock(hashtext($1), 1)", f"relay:{self._service}")

    async def _relay_while_leading(self, conn: Any, producer: Producer, epoch: int) -> None:
        beacon_at = time.monotonic() + BEACON_SECONDS
        try:
            while True:
                self._db.wake_relay.clear()
                began = time.monotonic()
                sent = await self.relay_batch(conn, producer, epoch)
                self.turned_at = time.monotonic()
                if sent == 0 and self.turned_at >= beacon_at:
                    await self.send_beacons(conn, producer)
                    beacon_at = self.turned_at + BEACON_SECONDS
                if sent < BATCH_MAX:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._db.wake_relay.wait(), MARK_SECONDS if sent else POLL_SECONDS)
                    await asyncio.sleep(max(0.0, began + TURN_SECONDS - time.monotonic()))
        finally:
            if not self._marks.is_empty:
                with contextlib.suppress(RelayFenced, *RETRYABLE):
                    await self._mark_and_fetch(conn, epoch)

    async def relay_batch(self, conn: Any, producer: Producer, epoch: int) -> int:
        """Mark what the last batch sent, then send up to BATCH_MAX unsent events; returns how many were sent.

        Marking and fetching is one statement, so a turn costs one commit; what is sent and not yet marked when the process
        dies is sent again and discarded by every consumer. A record the broker refuses blocks the later events of its own
        aggregate only (R9).

        Raises:
            RelayFenced: another relay was elected; nothing was marked or sent.
            BrokerUnavailable: some records were not acknowledged; those are not marked.
        """
        rows = await self._mark_and_fetch(conn, epoch)
        if not rows:
            self.oldest_unsent_seconds = 0.0
            return 0
        faults.reached("K13")
        oldest = datetime.fromisoformat(rows[0]["recorded_at"])
        self.oldest_unsent_seconds = (datetime.now(UTC) - oldest).total_seconds()
        began_at = time.time()
        futures: list[asyncio.Future[Any]] = []
        for row in rows:
            futures.append(await self._send(producer, row))
            if len(futures) == 1:
                faults.reached("K14")
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        faults.reached("K15")
        telemetry.sent(rows, self._topic_of, outcomes, began_at)
        self._note(rows, outcomes)
        return len(rows)

    async def _send(self, producer: Producer, row: Any) -> "asyncio.Future[Any]":
        return await producer.send(
            self._topic_of[row["type"]], row["aggregate_id"].encode(), row["body"].encode(), event_headers(row)
        )

    def _note(self, rows: Sequence[Any], outcomes: Sequence[Any]) -> None:
        """Note which rows the broker has, to be marked with the next fetch."""
        failed: set[str] = set()
        problem: BaseException | None = None
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failed.add(row["aggregate_id"])
                problem = outcome
            elif row["aggregate_id"] not in failed:
                self._marks.ids.append(row["id"])
                if not row["resend"]:
                    total = self._marks.sums.setdefault((self._topic_of[row["type"]], outcome.partition), [0, 0, 0])
                    total[0] += 1
                    total[1] += row["version"]
                    total[2] += digest_of(row["event_id"].encode())
        if problem is not None:
            raise BrokerUnavailable("Some records were not acknowledged.") from problem

    async def _mark_and_fetch(self, conn: Any, epoch: int) -> list[Any]:
        if self._marks.is_empty:
            first: list[Any] = await conn.fetch(_FIRST, BATCH_MAX)
            return first
        faults.reached("K16")
        marks, self._marks = self._marks, _Marks()
        places = sorted(marks.sums)
        answer = await conn.fetch(
            _MARK_AND_NEXT,
            epoch,
            marks.ids,
            [topic for topic, _ in places],
            [part for _, part in places],
            *([marks.sums[place][n] for place in places] for n in range(3)),
            BATCH_MAX,
        )
        if answer[0]["gone"] == 0:
            raise RelayFenced("Another relay of this service was elected.")
        faults.reached("K17")
        return [row for row in answer if row["id"] is not None]

    async def send_beacons(self, conn: Any, producer: Producer) -> None:
        """Put into each partition of this service's topics what it must contain up to here (R11)."""
        futures = []
        for row in await conn.fetch("SELECT topic, part, events, version_sum, digest FROM relay_sent"):
            body = {
                "events": int(row["events"]),
                "version_sum": int(row["version_sum"]),
                "digest": str(int(row["digest"])),
            }
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_type", BEACON_TYPE.encode()),
                ("content-type", b"application/json"),
            ]
            futures.append(
                await producer.send(row["topic"], b"beacon", orjson.dumps(body), headers, partition=row["part"])
            )
        await asyncio.gather(*futures)


async def resend(conn: Connection, *, topic: str, aggregate_id: str | None, after_version: int) -> int:
    """Queue events of one aggregate, or of the whole topic, to be sent once more from the outbox (R16, R14).

    Consumers that know them discard them; returns how many were queued.
    """
    types = [ce_type for ce_type, cls in EVENTS.items() if cls.topic == EVENT_TOPICS[topic]]
    done: str = await conn.execute(
        "INSERT INTO outbox_unsent (id, resend) SELECT id, true FROM outbox"
        " WHERE type = ANY($1) AND ($2::text IS NULL OR aggregate_id = $2) AND version > $3 ON CONFLICT DO NOTHING",
        types,
        aggregate_id,
        after_version,
    )
    return int(done.rsplit(" ", 1)[1])


def resync_topic_of(topic: str) -> str:
    """Return where the owner of `topic` takes requests to send again."""
    return RESYNC_TOPICS[f"{EVENT_TOPICS[topic].owner}.resync.v1"].name
