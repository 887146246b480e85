"""A broker in memory with Kafka's semantics: partitions, dense offsets, groups, re-reading. For fast tests only."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence

from shared.contracts.registry import TOPICS
from shared.messaging.broker import BrokerUnavailable, Headers, OnAssigned, Record, Sent, TopicPartition


class MemoryBroker:
    """The log of every partition, kept for the life of the object."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[Record]] = {
            TopicPartition(topic.name, part): [] for topic in TOPICS.values() for part in range(topic.partitions)
        }
        self.down = False
        self._grown = asyncio.Condition()

    def producer(self) -> "MemoryProducer":
        """Return a producer of this broker."""
        return MemoryProducer(self)

    def consumer(self, topics: Sequence[str], on_assigned: OnAssigned) -> "MemoryConsumer":
        """Return a consumer that is alone in its group and reads every partition of `topics`."""
        return MemoryConsumer(self, topics, on_assigned)

    async def append(self, topic: str, part: int, key: bytes | None, value: bytes | None, headers: Headers) -> Sent:
        """Store one record and wake the consumers."""
        log = self.logs[TopicPartition(topic, part)]
        log.append(Record(topic, part, len(log), key, value, tuple(headers)))
        async with self._grown:
            self._grown.notify_all()
        return Sent(part, len(log) - 1)

    async def wait_grown(self, seconds: float) -> None:
        """Return when a record was appended, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait()
        except TimeoutError:
            return

    def lose_everything(self) -> None:
        """Empty every partition, as a broker whose disk was replaced (R14)."""
        for log in self.logs.values():
            log.clear()


class MemoryProducer:
    """Sends into a MemoryBroker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def start(self) -> None:
        """Do nothing; there is no connection."""

    async def stop(self) -> None:
        """Do nothing; nothing is buffered."""

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Headers, partition: int | None = None
    ) -> "asyncio.Future[Sent]":
        """Append at once; fails while the broker is `down`."""
        if self._broker.down:
            raise BrokerUnavailable("The memory broker is down.")
        count = TOPICS[topic].partitions
        part = zlib.crc32(key) % count if partition is None else partition
        future: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        future.set_result(await self._broker.append(topic, part, key, value, headers))
        return future

    async def flush(self) -> None:
        """Do nothing; everything is appended at once."""


class MemoryConsumer:
    """Reads a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], on_assigned: OnAssigned) -> None:
        self._broker = broker
        self._partitions = [partition for partition in broker.logs if partition.topic in topics]
        self._on_assigned = on_assigned
        self._position: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def start(self) -> None:
        """Take every partition and seek to the stored offsets."""
        self._position = dict.fromkeys(self._partitions, 0)
        self._position.update(await self._on_assigned(self._partitions))

    async def stop(self) -> None:
        """Forget the positions."""
        self._position = {}

    async def get_many(self, *, wait_seconds: float, records_max: int) -> list[Record]:
        """Return what is there, or wait for it."""
        found = self._take(records_max)
        if not found:
            await self._broker.wait_grown(wait_seconds)
            found = self._take(records_max)
        return found

    def _take(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        if self._broker.down:
            return found
        for partition, position in self._position.items():
            if partition not in self._paused and len(found) < records_max:
                records = self._broker.logs[partition][position : position + records_max - len(found)]
                self._position[partition] = position + len(records)
                found.extend(records)
        return found

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from `offset` next."""
        self._position[partition] = offset

    def pause(self, partition: TopicPartition) -> None:
        """Stop fetching this partition."""
        self._paused.add(partition)

    def resume(self, partition: TopicPartition) -> None:
        """Fetch this partition again."""
        self._paused.discard(partition)

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions this member reads now."""
        return set(self._position)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return 0; nothing is ever dropped here."""
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the length of each log."""
        if self._broker.down:
            raise BrokerUnavailable("The memory broker is down.")
        return {partition: len(self._broker.logs[partition]) for partition in partitions}

    async def commit_courtesy(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Do nothing; there are no lag tools here."""
