"""Apache Kafka through aiokafka, with every default that could lose or double an event overridden (5-ecosystem 1.1)."""

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache

import aiokafka
import aiokafka.coordinator.assignors.sticky.sticky_assignor
import structlog
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from shared.contracts.registry import TOPICS
from shared.messaging.broker import BrokerUnavailable, Headers, OnAssigned, Record, Sent, TopicPartition

log = structlog.get_logger()


@lru_cache(maxsize=65_536)
def partition_of(topic: str, key: bytes) -> int:
    """Return the partition of a key as every Kafka client would (murmur2); events of one aggregate come in runs, so it is kept."""
    return int((murmur2(key) & 0x7FFFFFFF) % TOPICS[topic].partitions)


STEP_SECONDS = 5.0


async def _to_the_end(step: Coroutine[object, object, None]) -> None:
    """Connect or close, even when whoever waits is called off meanwhile: cut off halfway, aiokafka keeps connections for good."""
    doing = asyncio.ensure_future(step)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing], timeout=STEP_SECONDS)
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        raise


class KafkaProducer:
    """Idempotent producer, acks=all; the order inside a partition is the order of `send`."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=262_144,
            request_timeout_ms=15_000,
        )

    async def start(self) -> None:
        """Connect."""
        try:
            await _to_the_end(self._producer.start())
        except KafkaError as error:
            await self._producer.stop()
            raise BrokerUnavailable("Kafka does not answer.") from error

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await _to_the_end(self._producer.stop())

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Headers, partition: int | None = None
    ) -> "asyncio.Future[Sent]":
        """Buffer a record; the future is aiokafka's own and carries partition and offset."""
        try:
            future: asyncio.Future[Sent] = await self._producer.send(
                topic,
                value=value,
                key=key,
                headers=headers,
                partition=partition_of(topic, key) if partition is None else partition,
            )
        except KafkaError as error:
            raise BrokerUnavailable("Kafka took no record.") from error
        return future

    async def flush(self) -> None:
        """Wait until everything buffered was answered."""
        await self._producer.flush()


class _Assignment(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: "KafkaConsumer", on_assigned: OnAssigned) -> None:
        self._consumer = consumer
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: object) -> None:
        del revoked  # the compare-and-set on the stored offset fences whatever is still in flight (R13)

    async def on_partitions_assigned(self, assigned: Sequence[aiokafka.TopicPartition]) -> None:
        positions = await self._on_assigned([TopicPartition(tp.topic, tp.partition) for tp in assigned])
        for partition, offset in positions.items():
            self._consumer.seek(partition, offset)


def _native(partition: TopicPartition) -> aiokafka.TopicPartition:
    return aiokafka.TopicPartition(partition.topic, partition.partition)


class KafkaConsumer:
    """A group member without auto-commit that starts where PostgreSQL says."""

    def __init__(
        self, bootstrap: str, group: str, topics: Sequence[str], on_assigned: OnAssigned, *, member: str | None = None
    ) -> None:
        self._consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            group_instance_id=member,
            client_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(
                aiokafka.coordinator.assignors.sticky.sticky_assignor.StickyPartitionAssignor,
            ),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=500,
            request_timeout_ms=15_000,
            max_partition_fetch_bytes=1_048_576,
        )
        self._topics = topics
        self._listener = _Assignment(self, on_assigned)

    async def start(self) -> None:
        """Join the group."""
        self._consumer.subscribe(topics=list(self._topics), listener=self._listener)
        try:
            await _to_the_end(self._consumer.start())
        except KafkaError as error:
            await self._consumer.stop()
            raise BrokerUnavailable("Kafka does not answer.") from error

    async def stop(self) -> None:
        """Leave the group."""
        await _to_the_end(self._consumer.stop())

    async def get_many(self, *, wait_seconds: float, records_max: int) -> list[Record]:
        """Return fetched records, each partition's in offset order."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=records_max)
        except KafkaError as error:
            raise BrokerUnavailable("Kafka gave no records.") from error
        return list(itertools.chain.from_iterable(fetched.values()))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from `offset` next; ignored when it was taken away meanwhile."""
        if _native(partition) in self._consumer.assignment():
            self._consumer.seek(_native(partition), offset)

    def pause(self, partition: TopicPartition) -> None:
        """Stop fetching this partition."""
        if _native(partition) in self._consumer.assignment():
            self._consumer.pause(_native(partition))

    def resume(self, partition: TopicPartition) -> None:
        """Fetch this partition again."""
        if _native(partition) in self._consumer.assignment():
            self._consumer.resume(_native(partition))

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions this member reads now."""
        return {TopicPartition(tp.topic, tp.partition) for tp in self._consumer.assignment()}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offset the broker still has."""
        try:
            found = await self._consumer.beginning_offsets([_native(partition) for partition in partitions])
        except KafkaError as error:
            raise BrokerUnavailable("Kafka does not tell its first offsets.") from error
        return {TopicPartition(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record."""
        try:
            found = await self._consumer.end_offsets([_native(partition) for partition in partitions])
        except KafkaError as error:
            raise BrokerUnavailable("Kafka does not tell its end offsets.") from error
        return {TopicPartition(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def commit_courtesy(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group coordinator, for lag tools only."""
        owned = self.assignment()
        with contextlib.suppress(KafkaError):
            await self._consumer.commit({_native(p): offset for p, offset in offsets.items() if p in owned})
