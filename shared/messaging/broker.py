"""What the relay and the consumer need of a broker, and the CloudEvents binding both brokers share."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from shared.contracts.envelope import Envelope
from shared.db import RETRYABLE
from shared.errors import Problem

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """One record as fetched."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class TopicPartition:
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Where an acknowledged record lies."""

    partition: int
    offset: int


class BrokerUnavailable(Exception):
    """The broker cannot be asked now; trying later is safe."""


BROKER_TROUBLE: tuple[type[BaseException], ...] = (BrokerUnavailable, *RETRYABLE)
"""What passes by itself: wait and try again."""


class Producer(Protocol):
    """Sends records; order inside a partition is the order of `send`."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Headers, partition: int | None = None
    ) -> "asyncio.Future[Sent]":
        """Buffer a record; the future ends when all in-sync replicas have it. Raises BrokerUnavailable."""

    async def flush(self) -> None:
        """Wait until everything buffered was answered."""


OnAssigned = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Called on assignment; returns where to read on (the stored offset, R14)."""


class GroupConsumer(Protocol):
    """A member of a consumer group that reads from where PostgreSQL says, not from where Kafka thinks."""

    async def start(self) -> None:
        """Join the group."""

    async def stop(self) -> None:
        """Leave the group."""

    async def get_many(self, *, wait_seconds: float, records_max: int) -> list[Record]:
        """Return fetched records, each partition's in offset order; an empty list when nothing came in time."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from `offset` next."""

    def pause(self, partition: TopicPartition) -> None:
        """Stop fetching this partition until it is assigned anew or resumed."""

    def resume(self, partition: TopicPartition) -> None:
        """Fetch this partition again."""

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions this member reads now."""

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset the broker still has."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record."""

    async def commit_courtesy(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group coordinator, for lag tools only; never fails the caller."""


class ContractBroken(Problem):
    """The record is no event this consumer can understand or apply; it is parked with this reason."""

    status = 422
    code = "contract_broken"


def event_headers(
    *,
    event_id: UUID,
    ce_type: str,
    aggregate_id: str,
    version: int,
    occurred_at: datetime,
    recorded_at: datetime,
    correlation_id: UUID | None,
    causation_id: UUID | None,
    actor: UUID | None,
    source: str,
    traceparent: str | None,
) -> list[tuple[str, bytes]]:
    """Return the CloudEvents 1.0 Kafka headers (binary mode) of one event."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(event_id).encode()),
        ("ce_source", b"/wardstream/" + ce_type.split(".", 2)[1].encode()),
        ("ce_type", ce_type.encode()),
        ("ce_time", occurred_at.isoformat().encode()),
        ("ce_subject", aggregate_id.encode()),
        ("ce_partitionkey", aggregate_id.encode()),
        ("ce_aggregateversion", b"%d" % version),
        ("ce_recordedtime", recorded_at.isoformat().encode()),
        ("ce_factsource", source.encode()),
        ("content-type", b"application/json"),
    ]
    if correlation_id is not None:
        headers.append(("ce_correlationid", str(correlation_id).encode()))
    if causation_id is not None:
        headers.append(("ce_causationid", str(causation_id).encode()))
    if actor is not None:
        headers.append(("ce_actor", str(actor).encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def _optional_uuid(raw: bytes | None) -> UUID | None:
    return None if raw is None else UUID(raw.decode())


def read_envelope(record: Record) -> Envelope:
    """Read the CloudEvents headers of a record.

    Raises:
        ContractBroken: a required attribute is missing or unreadable; says which, never what it contained.
    """
    found = dict(record.headers)
    attribute = "ce_id"
    try:
        event_id = UUID(found["ce_id"].decode())
        attribute = "ce_type"
        ce_type = found["ce_type"].decode()
        attribute = "ce_partitionkey"
        aggregate_id = found["ce_partitionkey"].decode()
        attribute = "ce_aggregateversion"
        version = int(found["ce_aggregateversion"])
        attribute = "ce_time"
        occurred_at = datetime.fromisoformat(found["ce_time"].decode())
        attribute = "ce_recordedtime"
        recorded_at = datetime.fromisoformat(found["ce_recordedtime"].decode())
        attribute = "ce_correlationid"
        correlation_id = _optional_uuid(found.get("ce_correlationid"))
        attribute = "ce_causationid"
        causation_id = _optional_uuid(found.get("ce_causationid"))
        attribute = "ce_actor"
        actor = _optional_uuid(found.get("ce_actor"))
        source = found.get("ce_factsource", b"live").decode()
        traceparent = found["traceparent"].decode() if "traceparent" in found else None
    except (KeyError, ValueError):
        raise ContractBroken(f"The header {attribute} is missing or unreadable.") from None
    if version < 1 or occurred_at.tzinfo is None or not aggregate_id:
        raise ContractBroken("The headers carry an impossible version, time or key.")
    return Envelope(
        event_id=event_id,
        ce_type=ce_type,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        aggregate_id=aggregate_id,
        version=version,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        correlation_id=correlation_id,
        causation_id=causation_id,
        actor=actor,
        source=source,
        traceparent=traceparent,
    )


def digest_of(event_id: UUID) -> int:
    """Return the event's share of a partition's digest; shares are added, so the order of re-sends does not matter (R11)."""
    return int.from_bytes(hashlib.blake2b(event_id.bytes, digest_size=7).digest(), "big")


BEACON_TYPE = "wardstream.relay.Beacon.v1"
"""A record the relay puts into each partition: how many events, and which, it holds (R11)."""
