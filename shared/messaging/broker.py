"""What the relay and the consumer need of a broker, and the CloudEvents binding both brokers share."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from shared.db import RETRYABLE

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """One record as fetched; aiokafka's own records have the same fields and are passed on as they are."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Sent(NamedTuple):
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


def event_headers(row: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Return the CloudEvents 1.0 Kafka headers (binary mode) of one outbox row whose ids and times are text already."""
    ce_type: str = row["type"]
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", row["event_id"].encode()),
        ("ce_source", SOURCES[ce_type]),
        ("ce_type", ce_type.encode()),
        ("ce_time", row["occurred_at"].encode()),
        ("ce_subject", row["aggregate_id"].encode()),
        ("ce_aggregateversion", b"%d" % row["version"]),
        ("ce_recordedtime", row["recorded_at"].encode()),
        ("ce_factsource", row["source"].encode()),
        ("content-type", b"application/json"),
    ]
    if (value := row["correlation_id"]) is not None:
        headers.append(("ce_correlationid", value.encode()))
    if (value := row["causation_id"]) is not None:
        headers.append(("ce_causationid", value.encode()))
    if (value := row["actor"]) is not None:
        headers.append(("ce_actor", value.encode()))
    if (value := row["traceparent"]) is not None:
        headers.append(("traceparent", value.encode()))
    return headers


class _Sources(dict[str, bytes]):
    """The CloudEvents source of each type: the service that owns it."""

    def __missing__(self, ce_type: str) -> bytes:
        source = self[ce_type] = b"/wardstream/" + ce_type.split(".")[1].encode()
        return source


SOURCES: dict[str, bytes] = _Sources()


def digest_of(event_id: bytes) -> int:
    """Return the event's share of a partition's digest; shares are added, so the order of re-sends does not matter (R11)."""
    return int.from_bytes(hashlib.blake2b(event_id, digest_size=7).digest(), "big")


BEACON_TYPE = "wardstream.relay.Beacon.v1"
"""A record the relay puts into each partition: how many events, and which, it holds (R11)."""
