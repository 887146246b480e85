"""What insight writes, and what it says when asked. One action = one transaction; nothing here is a fact of the hospital."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from services.insight import domain, store
from services.insight.domain import LagClock, Place, Progress, StoredSpan
from services.insight.store import SeenEvent
from shared import telemetry
from shared.contracts.registry import EVENT_TOPICS
from shared.db import RETRYABLE, Connection, Database
from shared.messaging.broker import BrokerUnavailable
from shared.messaging.lags import OffsetReader

log = structlog.get_logger()

INDEX_BATCH_MAX = 2_000
INDEX_SECONDS = 0.25
CHECK_SECONDS = 2.0
SPAN_BATCH_MAX = 5_000
SPAN_QUEUE_MAX = 50_000
SPAN_SECONDS = 0.5
WAIT_SECONDS_MAX = 15.0
JOURNEY_EVENTS_MAX = 5_000
JOURNEY_TRACES_MAX = 200
JOURNEY_SPANS_MAX = 20_000

_stored_gauge = telemetry.number("flow_spans_stored").of()
_dropped = telemetry.number("flow_spans_dropped_total").of()


class IndexLost(Exception):
    """The database has less of the index than was written: its crash emptied the unlogged tables."""


class EventIndex:
    """Writes where each event lies, in batches; what was not written when the process dies is read again at the next start."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rows: list[SeenEvent] = []
        self._positions: dict[Place, int] = {}
        self._writing = asyncio.Lock()

    async def start(self, db: Database, ends: Mapping[Place, int]) -> None:
        """Find out how far the index goes; a partition that is shorter than the index was lost and is forgotten (R14)."""
        async with db.pool.acquire(timeout=10) as conn:
            positions = await store.list_positions(conn)
            for place, next_offset in list(positions.items()):
                if ends.get(place, 0) < next_offset:
                    log.warning("index_forgotten", topic=place[0], partition=place[1])
                    await store.delete_partition(conn, place)
                    del positions[place]
        self._rows.clear()
        self._positions.clear()
        self._progress.indexed = positions

    async def add(self, db: Database, place: Place, offset: int, row: SeenEvent | None) -> None:
        """Take the next record of a partition; waits while a full batch is written, so that memory stays bounded."""
        if offset < self._progress.indexed.get(place, 0):
            return
        if row is not None:
            self._rows.append(row)
        self._positions[place] = offset + 1
        if len(self._rows) >= INDEX_BATCH_MAX:
            await self.flush(db)

    async def flush(self, db: Database) -> None:
        """Write what was taken, however long the database is away; it is safe to write the same batch again (R15).

        Raises:
            IndexLost: the database does not go as far as was written, so nothing may be added behind the hole.
        """
        async with self._writing:
            rows, self._rows = self._rows, []
            positions, self._positions = self._positions, {}
            wait_seconds = 0.1
            while positions:
                try:
                    async with db.pool.acquire(timeout=10) as conn, conn.transaction():
                        before = await store.insert_events(conn, rows, positions)
                        if any(was < self._progress.indexed.get(place, 0) for place, was in before.items()):
                            raise IndexLost
                except RETRYABLE as error:
                    log.warning("index_retried", error=type(error).__name__, wait_seconds=wait_seconds)
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(wait_seconds * 2, WAIT_SECONDS_MAX)
                else:
                    self._progress.indexed.update(positions)
                    return

    async def check(self, conn: Connection) -> None:
        """Compare what the database holds with what was written.

        Raises:
            IndexLost: it holds less; only reading the topics from their beginning fills it again.
        """
        written = dict(self._progress.indexed)
        stored = await store.list_positions(conn)
        if any(stored.get(place, 0) < next_offset for place, next_offset in written.items()):
            raise IndexLost

    async def run(self, db: Database) -> None:
        """Write every quarter of a second, so that a journey is seen while it happens; notice within seconds when it was lost.

        Raises:
            IndexLost: see `check`.
        """
        check_at = time.monotonic() + CHECK_SECONDS
        while True:
            await asyncio.sleep(INDEX_SECONDS)
            await self.flush(db)
            if time.monotonic() >= check_at:
                with contextlib.suppress(*RETRYABLE):
                    async with db.pool.acquire(timeout=10) as conn:
                        await self.check(conn)
                check_at = time.monotonic() + CHECK_SECONDS


# ---- spans ----------------------------------------------------------------------------------------------------------


class SpanKeeper:
    """Takes spans from the receiver and writes them in batches; when there are too many, whole traces are left out."""

    def __init__(self, span_count_max: int) -> None:
        self._cap = span_count_max
        self._queue: deque[StoredSpan] = deque()
        self._stored = 0
        self._day: int | None = None

    def take(self, spans: Sequence[StoredSpan]) -> int:
        """Queue spans of traces that are kept; returns how many that were."""
        kept = 0
        for span in spans:
            expected = self._stored + len(self._queue)
            if len(self._queue) >= SPAN_QUEUE_MAX or not domain.keeps_trace(span.trace_id, expected, self._cap):
                continue
            self._queue.append(span)
            kept += 1
        _dropped.inc(len(spans) - kept)
        return kept

    async def run(self, db: Database) -> None:
        """Write twice a second; a database that is away costs spans, nothing else."""
        while True:
            await asyncio.sleep(SPAN_SECONDS)
            try:
                await self.flush(db)
            except RETRYABLE as error:
                log.warning("spans_interrupted", error=type(error).__name__, spans=len(self._queue))
                await asyncio.sleep(2)

    async def flush(self, db: Database) -> None:
        """Write what is queued."""
        day = int(time.time() // 86_400)
        if not self._queue and day == self._day:
            return
        async with db.pool.acquire(timeout=10) as conn:
            await self._turn_day(conn, day)
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), SPAN_BATCH_MAX))]
                try:
                    await store.insert_spans(conn, day % 3, batch)
                except RETRYABLE:
                    self._queue.extendleft(reversed(batch))
                    raise
                self._stored += len(batch)
        _stored_gauge.set(self._stored)

    async def _turn_day(self, conn: Connection, day: int) -> None:
        """At a new day, empty the slot of the day before yesterday, which the day after will fill again."""
        if day == self._day:
            return
        await store.empty_slot(conn, (day + 1) % 3)
        self._stored = await store.count_spans(conn, day % 3)
        self._day = day


async def list_traces(conn: Connection, encounter_id: UUID | None, limit: int) -> list[dict[str, Any]]:
    """Return the traces of a stay, or the newest ones, each in one line."""
    trace_ids = await store.list_trace_ids(conn, encounter_id, limit)
    found = await store.list_spans(conn, trace_ids, JOURNEY_SPANS_MAX)
    return [domain.summary(trace_id, spans) for trace_id, spans in found.items()]


async def get_trace(conn: Connection, trace_id: str) -> dict[str, Any] | None:
    """Return one trace as a waterfall, or nothing."""
    found = await store.list_spans(conn, [trace_id], JOURNEY_SPANS_MAX)
    spans = found.get(trace_id)
    return None if spans is None else {**domain.summary(trace_id, spans), "waterfall": domain.waterfall(spans)}


async def get_journey_traces(conn: Connection, encounter_id: UUID) -> list[dict[str, Any]]:
    """Return every trace of a stay as a waterfall, in the order they began."""
    trace_ids = await store.list_trace_ids(conn, encounter_id, JOURNEY_TRACES_MAX)
    found = await store.list_spans(conn, trace_ids, JOURNEY_SPANS_MAX)
    return [
        {**domain.summary(trace_id, spans), "waterfall": domain.waterfall(spans)} for trace_id, spans in found.items()
    ]


async def get_journey_events(conn: Connection, encounter_id: UUID) -> list[dict[str, Any]]:
    """Return every event of a stay with time, place, cause and trace, in the order things happened."""
    rows = await store.list_events(conn, encounter_id, JOURNEY_EVENTS_MAX)
    return [
        {
            "time": row["occurred_at"].isoformat(),
            "recorded_at": row["recorded_at"].isoformat(),
            "type": _short(row["type"]),
            "ce_type": row["type"],
            "topic": row["topic"],
            "partition": row["part"],
            "offset": row["kafka_offset"],
            "event_id": str(row["event_id"]),
            "aggregate_id": row["aggregate_id"],
            "version": row["version"],
            "cause": _cause(row),
            "trace_id": _trace_id(row["traceparent"]),
            "source": row["source"],
        }
        for row in rows
    ]


def _short(ce_type: str) -> str:
    """Return `BedAssigned` of `wardstream.beds.BedAssigned.v1`."""
    parts = ce_type.split(".")
    return parts[2] if len(parts) == 4 else ce_type


def _trace_id(traceparent: str | None) -> str | None:
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else None


def _cause(row: Any) -> dict[str, str | None]:
    if row["causation_id"] is None:
        return {"kind": "request", "event_id": None, "type": None}
    cause_type = row["cause_type"]
    return {
        "kind": "event",
        "event_id": str(row["causation_id"]),
        "type": _short(cause_type) if cause_type else None,
    }


# ---- lags -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class LagBoard:
    """What the broker said last: ends of topics, offsets and lags of groups; shown at /metrics under kafka_exporter's names."""

    begins: dict[Place, int] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    sampled_at: datetime | None = None
    _clock: LagClock = field(default_factory=LagClock)

    async def sample(self, reader: OffsetReader) -> None:
        """Ask the broker and remember.

        Raises:
            BrokerUnavailable: it does not answer; what was known stays.
        """
        await self.look_at_ends(reader)
        now = time.monotonic()
        rows = []
        for found in await reader.group_offsets():
            place = (found.place.topic, found.place.partition)
            if place not in self.ends:
                continue
            rows.append(
                {
                    "group": found.group,
                    "topic": place[0],
                    "partition": place[1],
                    "current_offset": found.next_offset,
                    "end_offset": self.ends[place],
                    "lag": max(0, self.ends[place] - found.next_offset),
                    "lag_seconds": round(self._clock.seconds(place, found.next_offset, now), 1),
                }
            )
        self.rows = rows
        self.sampled_at = datetime.now(UTC)
        self._show()

    async def look_at_ends(self, reader: OffsetReader) -> None:
        """Ask only where the topics begin and end."""
        begins, ends = await reader.begins_and_ends(EVENT_TOPICS.values())
        now = time.monotonic()
        self.begins = {(place.topic, place.partition): offset for place, offset in begins.items()}
        self.ends = {(place.topic, place.partition): offset for place, offset in ends.items()}
        for place, end in self.ends.items():
            self._clock.note(place, end, now)

    def _show(self) -> None:
        keys = [(row["group"], row["topic"], str(row["partition"])) for row in self.rows]
        for name, column in (
            ("kafka_consumergroup_lag", "lag"),
            ("kafka_consumergroup_current_offset", "current_offset"),
            ("kafka_consumergroup_group_lag_seconds", "lag_seconds"),
        ):
            values: dict[tuple[str, ...], float] = {
                key: float(row[column]) for key, row in zip(keys, self.rows, strict=True)
            }
            telemetry.number(name).replace(values)
        telemetry.number("kafka_topic_partition_current_offset").replace(
            {(topic, str(part)): float(end) for (topic, part), end in self.ends.items()}
        )

    def summed(self) -> list[dict[str, Any]]:
        """Return one line per group and topic, the lags of its partitions added, the longest wait of them all."""
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self.rows:
            line = groups.setdefault(
                (row["group"], row["topic"]),
                {"group": row["group"], "topic": row["topic"], "lag": 0, "lag_seconds": 0.0},
            )
            line["lag"] += row["lag"]
            line["lag_seconds"] = max(line["lag_seconds"], row["lag_seconds"])
        return [groups[key] for key in sorted(groups)]

    async def run(self, reader: OffsetReader, every_seconds: float) -> None:
        """Sample for ever; a broker that is away is asked again."""
        try:
            while True:
                with contextlib.suppress(BrokerUnavailable):
                    await self.sample(reader)
                await asyncio.sleep(every_seconds)
        finally:
            await reader.stop()
