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
    INSERT INTO idem (actor, key, route, body_hash, status, response) VALUES ($20, $21, $22, $23, $24, $25)
)
"""
_FLUSH_EVENTS = f"WITH {_EVENTS} SELECT"
_FLUSH_ALL = f"WITH {_EVENTS}, {_AUDIT} SELECT"
_FLUSH_ANSWER = f"WITH {_EVENTS}, {_AUDIT}, {_ANSWER} SELECT"

_INBOX = """
, applied AS (
    SELECT * FROM unnest($12::text[], $13::text[], $14::int[], $15::boolean[]) AS a(topic, aggregate_id, version, parked)
), advanced AS (
    UPDATE inbox i SET version = a.version, parked = i.parked OR a.parked
    FROM applied a WHERE i.topic = a.topic AND i.aggregate_id = a.aggregate_id
    RETURNING i.topic, i.aggregate_id
), first_seen AS (
    INSERT INTO inbox (topic, aggregate_id, version, parked)
    SELECT * FROM applied a WHERE NOT EXISTS (
        SELECT FROM advanced d WHERE d.topic = a.topic AND d.aggregate_id = a.aggregate_id)
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


async def flush(tx: Transaction, answer: Answer | None = None) -> None:
    """Write the events, audit rows and remembered answer of `tx` in one statement.

    Raises:
        asyncpg.UniqueViolationError: another request with the same key, or another change of the same aggregate, was first.
    """
    columns = _event_columns(tx.events)
    if answer is None and not tx.audits:
        if tx.events:
            await tx.conn.execute(_FLUSH_EVENTS, *columns)
        return
    audit_columns: list[list[object]] = [
        [tx.actor] * len(tx.audits),
        [tx.role] * len(tx.audits),
        [row.action for row in tx.audits],
        [row.object_type for row in tx.audits],
        [row.object_id for row in tx.audits],
        [row.patient_tok for row in tx.audits],
        [row.purpose for row in tx.audits],
        [row.outcome for row in tx.audits],
    ]
    if answer is None:
        await tx.conn.execute(_FLUSH_ALL, *columns, *audit_columns)
    else:
        await tx.conn.execute(
            _FLUSH_ANSWER,
            *columns,
            *audit_columns,
            answer.actor,
            answer.key,
            answer.route,
            answer.body_hash,
            answer.status,
            answer.response,
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """The last version applied, or parked, of one aggregate."""

    topic: str
    aggregate_id: str
    version: int
    parked: bool


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
    )
    return count == len(moved)
