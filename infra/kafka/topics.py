"""The topics on a broker: create exactly what the contracts name (R17), say what is there and who has read how far."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from shared.contracts.envelope import Topic

_WAIT_SECONDS = 60
_TOPIC_ALREADY_EXISTS = 36


class TopicsWrong(Exception):
    """A topic is not as the contracts say, or could not be created."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one consumer group has read one topic."""

    group: str
    topic: str
    read: int
    end: int

    @property
    def lag(self) -> int:
        """Return how many records are still unread."""
        return self.end - self.read


async def _connected(bootstrap: str) -> AIOKafkaAdminClient:
    """Return a connected admin client; waits for a broker that is still starting."""
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=bootstrap, client_id="wardstream-admin", request_timeout_ms=30_000
        )
        try:
            await admin.start()
        except KafkaError:
            await admin.close()
            if time.monotonic() > until:
                raise TopicsWrong(f"Kafka at {bootstrap} does not answer.") from None
            await asyncio.sleep(0.2)
        else:
            return admin


async def create_topics(bootstrap: str, topics: Mapping[str, Topic], *, replicas: int = 1) -> list[str]:
    """Create the topics that do not exist and return their names.

    Raises:
        TopicsWrong: one exists with another number of partitions, which would change the order of its events.
    """
    admin = await _connected(bootstrap)
    try:
        described = await admin.describe_topics()
        existing = {topic["topic"]: len(topic["partitions"]) for topic in described}
        for topic in topics.values():
            if existing.get(topic.name, topic.partitions) != topic.partitions:
                found = existing[topic.name]
                raise TopicsWrong(f"Topic {topic.name} has {found} partitions, the contract says {topic.partitions}.")
        missing = [topic for topic in topics.values() if topic.name not in existing]
        if missing:
            answer = await admin.create_topics(
                [
                    NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=replicas)
                    for topic in missing
                ]
            )
            for name, code, *_ in answer.topic_errors:
                if code not in (0, _TOPIC_ALREADY_EXISTS):
                    raise TopicsWrong(f"The topic {name} could not be created: {for_code(code).__name__}.")
        return [topic.name for topic in missing]
    finally:
        await admin.close()


async def end_offsets(bootstrap: str) -> dict[str, dict[int, int]]:
    """Return, for every topic that is not Kafka's own, the offset after the last record of each partition."""
    admin = await _connected(bootstrap)
    try:
        partitions = [
            aiokafka.TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics()
            if not topic["is_internal"]
            for partition in topic["partitions"]
        ]
    finally:
        await admin.close()
    # Asked for offsets, aiokafka learns of one topic after the other and rests in between: let it rest shortly.
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap, client_id="wardstream-admin", retry_backoff_ms=10)
    await consumer.start()
    try:
        found = await consumer.end_offsets(partitions) if partitions else {}
    finally:
        await consumer.stop()
    ends: dict[str, dict[int, int]] = {}
    for place, offset in sorted(found.items()):
        ends.setdefault(place.topic, {})[place.partition] = offset
    return ends


async def lags(bootstrap: str, ends: Mapping[str, Mapping[int, int]]) -> list[Lag]:
    """Return how far each consumer group told Kafka it has read; the truth is each service's table `consumed`."""
    admin = await _connected(bootstrap)
    try:
        found: list[Lag] = []
        for group, *_ in sorted(await admin.list_consumer_groups()):
            read: dict[str, int] = {}
            for place, committed in (await admin.list_consumer_group_offsets(group)).items():
                read[place.topic] = read.get(place.topic, 0) + committed.offset
            found += [
                Lag(group, topic, count, sum(ends.get(topic, {}).values())) for topic, count in sorted(read.items())
            ]
        return found
    finally:
        await admin.close()
