"""The outbox: an event exists if and only if its effect is committed.

`append` collects, `flush` writes everything of one transaction in one statement just before COMMIT: one round trip, and
every aggregate row is already locked by then, so versions and ids follow the order of the decisions (3-house 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.contracts.envelope import Event
from shared.db import PendingEvent, Transaction
from shared.ids import new_id


def append(tx: Transaction, event: Event, *, occurred_at: datetime | None = None) -> None:
    """Announce `event` when `tx` commits, and not otherwise. Lock the aggregate's row first, or its order is lost."""
    cause = tx.cause
    tx.events.append(
        PendingEvent(
            event=event,
            occurred_at=occurred_at or tx.now,
            correlation_id=tx.correlation_id or (cause.correlation_id if cause else None),
            causation_id=cause.event_id if cause else None,
            actor=cause.actor if cause else tx.actor,
            source=tx.source,
            traceparent=tx.traceparent,
        )
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered, to be given again when it is repeated (R1)."""

    actor: UUID
    key: str
    route: str
    body_hash: bytes
    status: int
    response: str


_EVENTS = """
new_events AS (
    INSERT INTO outbox (event_id, aggregate_id, version, type, body, occurred_at, correlation_id, causation_id, actor, source, traceparent)
    SELECT e.event_id, e.aggregate_id,
           coalesce((SELECT max(o.version) FROM outbox o WHERE o.aggregate_id = e.aggregate_id), 0) + e.nth,
           e.type, e.body::jsonb, e.occurred_at, e.correlation_id, e.causation_id, e.actor, e.source, e.traceparent
    FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[], $6::timestamptz[], $7::uuid[], $8::uuid[],
                $9::uuid[], $10::text[], $11::text[]) WITH ORDINALITY
         AS e(event_id, aggregate_id, nth, type, body, occurred_at, correlation_id, causation_id, actor, source, traceparent, no)
    ORDER BY e.no
    RETURNING id
), queued AS (INSERT INTO outbox_unsent (id) SELECT id FROM new_events)
"""
_AUDIT = """
audited AS (
    INSERT INTO audit (actor, role, action, object_type, object_id, patient_tok, purpose, outcome)
    SELECT a.actor, a.role, a.action, a.object_type, a.object_id, a.patient_tok, a.purpose, a.outcome
    FROM unnest($12::uuid[], $13::text[], $14::text[], $15::text[], $16::text[], $17::uuid[], $18::text[], $19::text[])
         AS a(actor, role, action, object_type, object_id, patient_tok, purpose, outcome)
)
"""
_ANSWER = """
answered AS (
    INSERT INTO idem (actor, key, route, body_hash, status, response)
    SELECT * FROM unnest($20::uuid[], $21::text[], $22::text[], $23::bytea[], $24::int[], $25::text[])
)
"""
_FLUSH_EVENTS = f"WITH {_EVENTS} SELECT"
_FLUSH_ALL = f"WITH {_EVENTS}, {_AUDIT} SELECT"
_FLUSH_ANSWER = f"WITH {_EVENTS}, {_AUDIT}, {_ANSWER} SELECT"

_INBOX = """
, applied AS (
    SELECT * FROM unnest($12::text[], $13::text[], $14::int[], $15::boolean[], $23::boolean[])
        AS a(topic, aggregate_id, version, parked, is_new)
), advanced AS (
    UPDATE inbox i SET version = a.version, parked = i.parked OR a.parked
    FROM applied a WHERE i.topic = a.topic AND i.aggregate_id = a.aggregate_id AND NOT a.is_new
), first_seen AS (
    INSERT INTO inbox (topic, aggregate_id, version, parked)
    SELECT topic, aggregate_id, version, parked FROM applied WHERE is_new
), moved AS (
    UPDATE consumed c
    SET next_offset = m.next_offset, events = c.events + m.events, version_sum = c.version_sum + m.version_sum,
        digest = c.digest + m.digest
    FROM unnest($16::text[], $17::int[], $18::bigint[], $19::bigint[], $20::bigint[], $21::numeric[], $22::numeric[])
         AS m(topic, part, was_offset, next_offset, events, version_sum, digest)
    WHERE c.topic = m.topic AND c.part = m.part AND c.next_offset = m.was_offset
    RETURNING 1
)
SELECT count(*) FROM moved
"""
_FLUSH_CONSUMED = f"WITH {_EVENTS}{_INBOX}"


def _event_columns(events: Sequence[PendingEvent]) -> tuple[list[object], ...]:
    nth: dict[str, int] = {}
    columns: tuple[list[object], ...] = tuple([] for _ in range(11))
    for pending in events:
        aggregate_id = pending.event.aggregate_id
        nth[aggregate_id] = nth.get(aggregate_id, 0) + 1
        row = (
            new_id(),
            aggregate_id,
            nth[aggregate_id],
            pending.event.ce_type(),
            pending.event.model_dump_json(),
            pending.occurred_at,
            pending.correlation_id,
            pending.causation_id,
            pending.actor,
            pending.source,
            pending.traceparent,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def _audit_columns(txs: Sequence[Transaction]) -> list[list[object]]:
    rows = [
        (
            tx.actor,
            tx.role,
            row.action,
            row.object_type,
            row.object_id,
            row.patient_tok,
            row.purpose,
            row.outcome,
        )
        for tx in txs
        for row in tx.audits
    ]
    return [[row[column] for row in rows] for column in range(8)]


async def flush(tx: Transaction) -> None:
    """Write the events and audit rows of `tx` in one statement.

    Raises:
        asyncpg.UniqueViolationError: another change of the same aggregate was first.
    """
    columns = _event_columns(tx.events)
    if tx.audits:
        await tx.conn.execute(_FLUSH_ALL, *columns, *_audit_columns([tx]))
    elif tx.events:
        await tx.conn.execute(_FLUSH_EVENTS, *columns)


async def flush_answered(txs: Sequence[Transaction], answers: Sequence[Answer]) -> None:
    """Write events, audit rows and remembered answers of commands that share a database transaction in one statement.

    Raises:
        asyncpg.UniqueViolationError: another request with the same key, or another change of the same aggregate, was first.
    """
    if not txs:
        return
    await txs[0].conn.execute(
        _FLUSH_ANSWER,
        *_event_columns([event for tx in txs for event in tx.events]),
        *_audit_columns(txs),
        *zip(*((a.actor, a.key, a.route, a.body_hash, a.status, a.response) for a in answers), strict=True),
    )


@dataclass(frozen=True, slots=True)
class Applied:
    """The last version applied, or parked, of one aggregate; `is_new` when the inbox had no row of it in this transaction."""

    topic: str
    aggregate_id: str
    version: int
    parked: bool
    is_new: bool


@dataclass(slots=True)
class Moved:
    """How far one partition was read in this transaction, for the compare-and-set (R13)."""

    topic: str
    part: int
    was_offset: int
    next_offset: int
    events: int = 0
    version_sum: int = 0
    digest: int = 0


async def flush_consumed(tx: Transaction, applied: Sequence[Applied], moved: Sequence[Moved]) -> bool:
    """Write the events of handlers, the inbox and the offsets in one statement (R12, R13).

    Returns:
        False when another consumer moved one of the offsets meanwhile: roll back, it owns the partition now.
    """
    count: int = await tx.conn.fetchval(
        _FLUSH_CONSUMED,
        *_event_columns(tx.events),
        [row.topic for row in applied],
        [row.aggregate_id for row in applied],
        [row.version for row in applied],
        [row.parked for row in applied],
        [row.topic for row in moved],
        [row.part for row in moved],
        [row.was_offset for row in moved],
        [row.next_offset for row in moved],
        [row.events for row in moved],
        [row.version_sum for row in moved],
        [row.digest for row in moved],
        [row.is_new for row in applied],
    )
    return count == len(moved)
