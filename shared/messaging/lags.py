"""How far the topics go and how far each consumer group has read them, asked from the broker. Reads only.

What a group has committed is a courtesy of the consumers; the truth is each service's table `consumed` (R14).
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.contracts.envelope import Topic
from shared.messaging.broker import BrokerUnavailable, TopicPartition

NEVER_COMMITTED = -1


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """Where one group reads one partition on."""

    group: str
    place: TopicPartition
    next_offset: int


class OffsetReader:
    """Asks the broker for offsets; connects when first needed, and anew after every failure."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._asking = asyncio.Lock()

    async def stop(self) -> None:
        """Disconnect."""
        consumer, admin, self._consumer, self._admin = self._consumer, self._admin, None, None
        with contextlib.suppress(KafkaError, OSError):
            if consumer is not None:
                await consumer.stop()
        with contextlib.suppress(KafkaError, OSError):
            if admin is not None:
                await admin.close()

    async def begins_and_ends(
        self, topics: Iterable[Topic]
    ) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """Return the first offset and the offset after the last record of every partition of these topics.

        Raises:
            BrokerUnavailable: it does not answer now.
        """
        native = [aiokafka.TopicPartition(topic.name, part) for topic in topics for part in range(topic.partitions)]
        async with self._asking:
            try:
                consumer = await self._started_consumer()
                begins = await asyncio.wait_for(consumer.beginning_offsets(native), 10)
                ends = await asyncio.wait_for(consumer.end_offsets(native), 10)
            except (KafkaError, OSError, TimeoutError) as error:
                await self.stop()
                raise BrokerUnavailable("Kafka does not tell its offsets.") from error
        return (
            {TopicPartition(tp.topic, tp.partition): offset for tp, offset in begins.items()},
            {TopicPartition(tp.topic, tp.partition): offset for tp, offset in ends.items()},
        )

    async def group_offsets(self) -> list[GroupOffset]:
        """Return what every consumer group has committed; partitions a group never committed are left out.

        Raises:
            BrokerUnavailable: it does not answer now.
        """
        async with self._asking:
            try:
                return await asyncio.wait_for(self._ask_groups(await self._started_admin()), 15)
            except (KafkaError, OSError, TimeoutError) as error:
                await self.stop()
                raise BrokerUnavailable("Kafka does not tell its consumer groups.") from error

    async def _ask_groups(self, admin: AIOKafkaAdminClient) -> list[GroupOffset]:
        found: list[GroupOffset] = []
        for group, *_ in sorted(await admin.list_consumer_groups()):
            committed = await admin.list_consumer_group_offsets(group)
            found.extend(
                GroupOffset(group, TopicPartition(tp.topic, tp.partition), offset.offset)
                for tp, offset in committed.items()
                if offset.offset != NEVER_COMMITTED
            )
        return found

    async def _started_consumer(self) -> aiokafka.AIOKafkaConsumer:
        if self._consumer is None:
            consumer = aiokafka.AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap, client_id=self._client_id, request_timeout_ms=10_000
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

    async def _started_admin(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self._bootstrap, client_id=self._client_id, request_timeout_ms=10_000
            )
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin
