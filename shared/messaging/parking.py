"""Events set aside with their reason, and how a person lets them go on or drops them (R20, R21).

Bodies carry no patient data (S4), so neither do parked rows.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.contracts.envelope import Envelope
from shared.db import Transaction
from shared.errors import NotFound, Refused
from shared.messaging.broker import Record, TopicPartition

SECOND_PERSON_SERVICES = frozenset({"beds", "billing"})
"""Where letting a parked event go on moves a bed or money, two people decide (R21)."""


async def insert(conn: Any, record: Record, envelope: Envelope | None, reason: str, handler: str) -> None:
    """Set one record aside in the transaction that moves the offset past it."""
    await conn.execute(
        "INSERT INTO parked (topic, part, kafka_offset, aggregate_id, version, event_id, type, headers, body, handler, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (topic, part, kafka_offset) DO NOTHING",
        record.topic,
        record.partition,
        record.offset,
        envelope.aggregate_id if envelope else (record.key or b"").decode("utf-8", "replace").replace("\x00", "?"),
        envelope.version if envelope else None,
        envelope.event_id if envelope else None,
        envelope.ce_type if envelope else None,
        {name: value.decode("utf-8", "replace").replace("\x00", "?") for name, value in record.headers},
        record.value or b"",
        handler,
        reason,
    )


@dataclass(frozen=True, slots=True)
class Done:
    """The parked events were applied or dropped."""

    events: int


@dataclass(frozen=True, slots=True)
class SecondPersonNeeded:
    """The wish is noted; another person must confirm it."""


async def list_parked(conn: Any, *, after_id: int = 0, limit: int = 100, status: str = "parked") -> list[Any]:
    """Return parked events in the order they came, without their bodies."""
    rows: list[Any] = await conn.fetch(
        "SELECT id, topic, part, kafka_offset, aggregate_id, version, event_id, type, handler, reason, attempts, first_at,"
        " status, wanted, wanted_by FROM parked WHERE status = $1 AND id > $2 ORDER BY id LIMIT $3",
        status,
        after_id,
        limit,
    )
    return rows


async def lock_for_decision(tx: Transaction, parked_id: int) -> Any:
    """Lock one open parked event and its aggregate's inbox row, so that no newer event can overtake the decision.

    Raises:
        NotFound: there is no such parked event.
        Refused: it was decided before, or an older event of the same aggregate is parked.
    """
    row = await tx.conn.fetchrow("SELECT * FROM parked WHERE id = $1 FOR UPDATE", parked_id)
    if row is None:
        raise NotFound("There is no such parked event.")
    if row["status"] != "parked":
        raise Refused("This event was decided before.", code="already_decided")
    await tx.conn.execute(
        "SELECT 1 FROM inbox WHERE topic = $1 AND aggregate_id = $2 FOR UPDATE", row["topic"], row["aggregate_id"]
    )
    older = await tx.conn.fetchval(
        "SELECT min(id) FROM parked WHERE status = 'parked' AND topic = $1 AND aggregate_id = $2 AND version < $3",
        row["topic"],
        row["aggregate_id"],
        row["version"] or 0,
    )
    if older is not None:
        raise Refused("An older event of the same aggregate is parked; decide that one first.", code="older_is_parked")
    return row


async def confirm_second_person(tx: Transaction, row: Any, *, service: str, wish: str, actor: UUID) -> bool:
    """Return whether the wish may be done now; otherwise note who wished it (R21)."""
    if service not in SECOND_PERSON_SERVICES or (row["wanted"] == wish and row["wanted_by"] != actor):
        return True
    await tx.conn.execute("UPDATE parked SET wanted = $2, wanted_by = $3 WHERE id = $1", row["id"], wish, actor)
    return False


async def mark_decided(tx: Transaction, row: Any, *, status: str, actor: UUID) -> None:
    """Close a parked event and, when none of its aggregate is left, let newer events of that aggregate flow again."""
    await tx.conn.execute(
        "UPDATE parked SET status = $2, resolved_by = $3, resolved_at = clock_timestamp(), attempts = attempts + 1 WHERE id = $1",
        row["id"],
        status,
        actor,
    )
    await tx.conn.execute(
        "UPDATE inbox SET parked = EXISTS (SELECT 1 FROM parked p WHERE p.status = 'parked' AND p.topic = $1"
        " AND p.aggregate_id = $2) WHERE topic = $1 AND aggregate_id = $2",
        row["topic"],
        row["aggregate_id"],
    )


def record_of(row: Any) -> Record:
    """Return the record as it was fetched."""
    headers = [(name, value.encode()) for name, value in row["headers"].items()]
    return Record(row["topic"], row["part"], row["kafka_offset"], row["aggregate_id"].encode(), row["body"], headers)


def place_of(row: Any) -> TopicPartition:
    """Return where the record lies."""
    return TopicPartition(row["topic"], row["part"])


def envelope_of(row: Any) -> Envelope:
    """Return the envelope of a parked event.

    Raises:
        ContractBroken: it has none; such a record can only be discarded.
    """
    record = record_of(row)
    return Envelope(record.topic, record.partition, record.offset, record.headers)
