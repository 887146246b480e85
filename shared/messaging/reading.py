"""Reads whole topics as they lie on the broker, without joining a group and without moving any offset.

For looking afterwards (audits, tests), never for applying events: that is the consumer's, with its inbox.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.messaging.broker import BrokerUnavailable, Record, TopicPartition
from shared.messaging.memory import MemoryBroker

RECORDS_MAX = 2_000
STALL_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Extent:
    """What a partition holds: from the first record kept up to, not including, `end`."""

    begin: int
    end: int

    @property
    def records(self) -> int:
        """Return how many records that is; offsets are dense on our topics (R13)."""
        return self.end - self.begin


class TopicReader(Protocol):
    """Looks at a broker's topics; reads only."""

    async def extents(self) -> Mapping[TopicPartition, Extent]:
        """Return what every partition of every topic holds now, topics nobody declared included."""

    def records(self, extents: Mapping[TopicPartition, Extent]) -> AsyncIterator[Sequence[Record]]:
        """Give the records of these extents, each partition's in offset order."""


class KafkaReader:
    """Looks at the topics of a Kafka."""

    def __init__(self, bootstrap: str, client_id: str = "wardstream-audit") -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            request_timeout_ms=15_000,
            retry_backoff_ms=10,  # asked for offsets, aiokafka learns of one topic after the other and rests in between
        )
        try:
            await consumer.start()
            yield consumer
        except KafkaError as error:
            raise BrokerUnavailable("Kafka does not answer.") from error
        finally:
            await consumer.stop()

    async def extents(self) -> Mapping[TopicPartition, Extent]:
        """Return what every partition holds now, Kafka's own topics left out.

        Raises:
            BrokerUnavailable: Kafka does not answer.
        """
        places = await self._places()
        if not places:
            return {}
        async with self._connected() as consumer:
            begins = await consumer.beginning_offsets(places)
            ends = await consumer.end_offsets(places)
        return {
            TopicPartition(place.topic, place.partition): Extent(begins[place], ends[place]) for place in sorted(places)
        }

    async def _places(self) -> list[aiokafka.TopicPartition]:
        """Return every partition of every topic, asked of the broker: what a consumer knows may still be empty."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, client_id=self._client_id)
        try:
            await admin.start()
            described = await admin.describe_topics()
        except KafkaError as error:
            raise BrokerUnavailable("Kafka does not answer.") from error
        finally:
            await admin.close()
        return [
            aiokafka.TopicPartition(topic["topic"], part["partition"])
            for topic in described
            if not topic.get("is_internal")
            for part in topic["partitions"]
        ]

    async def records(self, extents: Mapping[TopicPartition, Extent]) -> AsyncIterator[Sequence[Record]]:
        """Give the records of these extents in batches.

        Raises:
            BrokerUnavailable: Kafka does not answer, or gives nothing for half a minute although records are left.
        """
        left = {place: extent for place, extent in extents.items() if extent.records}
        if not left:
            return
        async with self._connected() as consumer:
            native = {place: aiokafka.TopicPartition(place.topic, place.partition) for place in left}
            consumer.assign(list(native.values()))
            for place, extent in left.items():
                consumer.seek(native[place], extent.begin)
            progressed_at = time.monotonic()
            while left:
                fetched = await consumer.getmany(timeout_ms=500, max_records=RECORDS_MAX)
                batch = []
                for tp, found in fetched.items():
                    place = TopicPartition(tp.topic, tp.partition)
                    wanted = left.get(place)
                    if wanted is None:
                        continue
                    batch += [
                        Record(r.topic, r.partition, r.offset, r.key, r.value, r.headers)
                        for r in found
                        if r.offset < wanted.end
                    ]
                    if found[-1].offset + 1 >= wanted.end:
                        del left[place]
                        consumer.pause(tp)
                if batch:
                    progressed_at = time.monotonic()
                    yield batch
                elif time.monotonic() - progressed_at > STALL_SECONDS_MAX:
                    raise BrokerUnavailable("Kafka gives no records although some are left.")


class MemoryReader:
    """Looks at the topics of a broker in memory."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def extents(self) -> Mapping[TopicPartition, Extent]:
        """Return what every partition holds now."""
        return {place: Extent(0, len(log)) for place, log in self._broker.logs.items()}

    async def records(self, extents: Mapping[TopicPartition, Extent]) -> AsyncIterator[Sequence[Record]]:
        """Give each partition's records at once."""
        for place, extent in extents.items():
            if extent.records:
                yield self._broker.logs[place][extent.begin : extent.end]
