"""SQL of the insight schema. One function, one statement; the first word tells cost and effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.insight.domain import Place, StoredSpan
from shared.db import Connection


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """Where one event lies, and what caused it."""

    event_id: UUID
    type: str
    topic: str
    part: int
    kafka_offset: int
    aggregate_id: str
    version: int
    occurred_at: datetime
    recorded_at: datetime
    encounter_id: UUID | None
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    source: str


async def insert_events(
    conn: Connection, rows: Sequence[SeenEvent], positions: Mapping[Place, int]
) -> dict[Place, int]:
    """Write events, each once, and how far the index goes, in one statement; returns how far it went before, 0 for nowhere."""
    columns = [
        [getattr(row, name) for row in rows]
        for name in (
            "event_id",
            "type",
            "topic",
            "part",
            "kafka_offset",
            "aggregate_id",
            "version",
            "occurred_at",
            "recorded_at",
            "encounter_id",
            "correlation_id",
            "causation_id",
            "traceparent",
            "source",
        )
    ]
    places = sorted(positions)
    before = await conn.fetch(
        """
        WITH written AS (
            INSERT INTO event_seen (event_id, type, topic, part, kafka_offset, aggregate_id, version, occurred_at, recorded_at,
                                    encounter_id, correlation_id, causation_id, traceparent, source)
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::bigint[], $6::text[], $7::int[],
                                 $8::timestamptz[], $9::timestamptz[], $10::uuid[], $11::uuid[], $12::uuid[], $13::text[],
                                 $14::text[])
            ON CONFLICT (event_id) DO NOTHING)
        INSERT INTO event_index_position (topic, part, next_offset)
        SELECT * FROM unnest($15::text[], $16::int[], $17::bigint[])
        ON CONFLICT (topic, part) DO UPDATE SET next_offset = excluded.next_offset
        RETURNING topic, part, coalesce(old.next_offset, 0) AS was
        """,
        *columns,
        [topic for topic, _ in places],
        [part for _, part in places],
        [positions[place] for place in places],
    )
    return {(row["topic"], row["part"]): row["was"] for row in before}


async def list_positions(conn: Connection) -> dict[Place, int]:
    """Return how far the index goes in each partition."""
    rows = await conn.fetch("SELECT topic, part, next_offset FROM event_index_position")
    return {(row["topic"], row["part"]): row["next_offset"] for row in rows}


async def delete_partition(conn: Connection, place: Place) -> None:
    """Forget what was indexed of a partition, because the broker lost it and will be told again (R14)."""
    await conn.execute(
        """
        WITH forgotten AS (DELETE FROM event_seen WHERE topic = $1 AND part = $2)
        DELETE FROM event_index_position WHERE topic = $1 AND part = $2
        """,
        *place,
    )


async def list_events(conn: Connection, encounter_id: UUID, limit: int) -> list[Any]:
    """Return every event of a stay, or caused on its behalf, in the order things happened, each with its cause's type."""
    rows: list[Any] = await conn.fetch(
        """
        SELECT e.*, c.type AS cause_type
        FROM event_seen e LEFT JOIN event_seen c ON c.event_id = e.causation_id
        WHERE e.encounter_id = $1 OR e.correlation_id = $1
        ORDER BY e.occurred_at, e.recorded_at, e.topic, e.version, e.event_id LIMIT $2
        """,
        encounter_id,
        limit,
    )
    return rows


async def insert_spans(conn: Connection, slot: int, spans: Sequence[StoredSpan]) -> None:
    """Append spans in one statement.

    COPY would be quicker, but asyncpg's leaves an error nobody hears when the session is thrown out while it begins.
    """
    columns = zip(
        *(
            (
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.service,
                span.name,
                span.kind,
                span.started_at,
                span.duration_us,
                span.failed,
                span.encounter_id,
                orjson.dumps(dict(span.attributes)).decode(),
                orjson.dumps([dict(link) for link in span.links]).decode(),
            )
            for span in spans
        ),
        strict=True,
    )
    await conn.execute(
        "INSERT INTO span (slot, trace_id, span_id, parent_span_id, service, name, kind, started_at, duration_us, failed,"
        " encounter_id, attributes, links)"
        " SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],"
        " $9::bigint[], $10::boolean[], $11::uuid[], $12::text[], $13::text[])",
        slot,
        *columns,
    )


async def count_spans(conn: Connection, slot: int) -> int:
    """Return how many spans a day's slot holds."""
    count: int = await conn.fetchval("SELECT count(*) FROM span WHERE slot = $1", slot)
    return count


async def empty_slot(conn: Connection, slot: int) -> None:
    """Remove all spans of a day's slot at once."""
    await conn.execute("SELECT empty_span_slot($1)", slot)


def _span_of(row: Any) -> StoredSpan:
    return StoredSpan(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        service=row["service"],
        name=row["name"],
        kind=row["kind"],
        started_at=row["started_at"],
        duration_us=row["duration_us"],
        failed=row["failed"],
        encounter_id=row["encounter_id"],
        attributes=orjson.loads(row["attributes"]),
        links=orjson.loads(row["links"]),
    )


async def list_trace_ids(conn: Connection, encounter_id: UUID | None, limit: int) -> list[str]:
    """Return the traces of a stay in the order they began; without a stay the newest traces of all."""
    if encounter_id is None:
        rows = await conn.fetch(
            "SELECT trace_id, max(started_at) AS at FROM (SELECT trace_id, started_at FROM span ORDER BY started_at DESC"
            " LIMIT $1 * 50) newest GROUP BY trace_id ORDER BY at DESC LIMIT $1",
            limit,
        )
    else:
        rows = await conn.fetch(
            "SELECT trace_id, min(started_at) AS at FROM span WHERE encounter_id = $1 GROUP BY trace_id ORDER BY at LIMIT $2",
            encounter_id,
            limit,
        )
    return [row["trace_id"] for row in rows]


async def list_spans(conn: Connection, trace_ids: Sequence[str], limit: int) -> dict[str, list[StoredSpan]]:
    """Return the spans of these traces, each trace's in the order they began."""
    rows = await conn.fetch(
        "SELECT * FROM span WHERE trace_id = ANY($1::text[]) ORDER BY started_at LIMIT $2", trace_ids, limit
    )
    found: dict[str, list[StoredSpan]] = {trace_id: [] for trace_id in trace_ids}
    for row in rows:
        found[row["trace_id"]].append(_span_of(row))
    return {trace_id: spans for trace_id, spans in found.items() if spans}
