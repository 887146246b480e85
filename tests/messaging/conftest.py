"""One suite, two brokers: the memory broker and real Kafka must behave alike."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from infra.kafka.topics import create_topics
from shared.contracts import registry
from shared.contracts.envelope import Envelope, Event, Topic
from shared.db import Database, Transaction, transaction
from shared.messaging import outbox
from shared.messaging.broker import GroupConsumer, OnAssigned, Producer, Record
from shared.messaging.consumer import Consumer, Subscription
from shared.messaging.kafka import KafkaConsumer, KafkaProducer
from shared.messaging.memory import MemoryBroker
from shared.messaging.relay import Relay
from shared.messaging.resync import answer_resync_requests
from tests.conftest import Databases, opened
from tests.support.servers import Server

PUBLISHER, SUBSCRIBER = "beds", "billing"


@dataclass
class Bench:
    """A publisher and a subscriber, their databases, and a broker between them."""

    publisher: Database
    subscriber: Database
    happened: type[Event]
    make_producer: Callable[[], Producer]
    make_group: Callable[[str, Sequence[str], OnAssigned], GroupConsumer]
    memory: MemoryBroker | None
    handler: Any
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    consumer: Consumer | None = None

    async def announce(self, thing: str, note: str = "x", *, db: Database | None = None) -> None:
        """Commit one event of `thing` in the publisher."""
        async with transaction(db or self.publisher) as tx:
            await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtext($1))", thing)
            outbox.append(tx, self.happened(thing=thing, note=note))

    def start_relay(self) -> None:
        relay = Relay(PUBLISHER, self.publisher, self.make_producer)
        self._spawn(relay.run())

    def start_resync(self) -> None:
        self._spawn(
            answer_resync_requests(
                PUBLISHER,
                self.publisher,
                lambda topics, on_assigned: self.make_group(f"{self.happened.topic.name}.resync", topics, on_assigned),
                asyncio.Event(),
            )
        )

    def start_consumer(self) -> Consumer:
        self.consumer = Consumer(
            SUBSCRIBER,
            self.subscriber,
            [Subscription(self.happened, self.handler)],
            lambda topics, on_assigned: self.make_group(self.happened.topic.name, topics, on_assigned),
            self.make_producer,
        )
        self._spawn(self.consumer.run())
        return self.consumer

    def _spawn(self, work: Any) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def effects(self) -> list[tuple[str, int]]:
        rows = await self.subscriber.pool.fetch("SELECT thing, version FROM effect ORDER BY no")
        return [(row["thing"], row["version"]) for row in rows]

    async def eventually(
        self, wanted: Callable[[list[tuple[str, int]]], bool], seconds: float = 30
    ) -> list[tuple[str, int]]:
        """Return the effects once they are as wanted; fails with what they were."""
        found: list[tuple[str, int]] = []
        for _ in range(int(seconds * 20)):
            found = await self.effects()
            if wanted(found):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"After {seconds} s the effects are {found[-20:]} ({len(found)} in all).")

    async def send_raw(self, value: bytes, headers: Sequence[tuple[str, bytes]], key: bytes = b"raw") -> None:
        """Put a record on the topic as somebody who does not know the contract would."""
        producer = self.make_producer()
        await producer.start()
        await (await producer.send(self.happened.topic.name, key, value, headers))
        await producer.stop()


async def record_effect(tx: Transaction, event: Any, envelope: Envelope) -> None:
    """Write one effect row per applied event."""
    await tx.conn.execute(
        "INSERT INTO effect (thing, version, event_id) VALUES ($1, $2, $3)",
        event.thing,
        envelope.version,
        envelope.event_id,
    )


def _new_event_type() -> type[Event]:
    topic_ = Topic(f"{PUBLISHER}.test{uuid4().hex[:10]}.v1", owner=PUBLISHER, key="thing", partitions=3)

    class ThingHappened(Event):
        topic: ClassVar[Topic] = topic_
        key_field: ClassVar[str] = "thing"
        thing: str
        note: str

        @classmethod
        def ce_type(cls) -> str:
            return f"wardstream.{topic_.name}.ThingHappened"

    return ThingHappened


@pytest.fixture
def happened() -> Iterator[type[Event]]:
    """An event type on a topic of its own, known to the registry for the length of one test."""
    event = _new_event_type()
    registry.EVENTS[event.ce_type()] = event
    registry.EVENT_TOPICS[event.topic.name] = event.topic
    registry.TOPICS[event.topic.name] = event.topic
    yield event
    del registry.EVENTS[event.ce_type()], registry.EVENT_TOPICS[event.topic.name], registry.TOPICS[event.topic.name]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Any:
    """Either the memory broker, or the address of a real Kafka."""
    if request.param == "memory":
        return MemoryBroker
    server: Server = request.getfixturevalue("kafka")
    return server.address


@pytest_asyncio.fixture
async def bench(broker: Any, happened: type[Event], databases: Databases) -> AsyncIterator[Bench]:
    """A publisher and a subscriber with nothing running yet."""
    publisher_dsn, subscriber_dsn = await databases.create(PUBLISHER), await databases.create(SUBSCRIBER)
    memory: MemoryBroker | None = None
    if broker is MemoryBroker:
        memory = MemoryBroker()
        make_producer: Callable[[], Producer] = memory.producer

        def make_group(group: str, topics: Sequence[str], on_assigned: OnAssigned) -> GroupConsumer:
            assert memory is not None
            return memory.consumer(topics, on_assigned)
    else:
        await create_topics(broker, registry.TOPICS)

        def make_producer() -> Producer:
            return KafkaProducer(broker, "test")

        def make_group(group: str, topics: Sequence[str], on_assigned: OnAssigned) -> GroupConsumer:
            return KafkaConsumer(broker, group, topics, on_assigned)

    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(opened(publisher_dsn, PUBLISHER))
        subscriber = await stack.enter_async_context(opened(subscriber_dsn, SUBSCRIBER))
        await subscriber.pool.execute(
            "CREATE TABLE effect (no bigint GENERATED ALWAYS AS IDENTITY, thing text, version int, event_id uuid UNIQUE)"
        )
        made = Bench(publisher, subscriber, happened, make_producer, make_group, memory, record_effect)
        yield made
        await made.stop()
    await databases.drop(publisher_dsn)
    await databases.drop(subscriber_dsn)


def poisoned(event: type[Event], thing: str, version: int) -> list[tuple[str, bytes]]:
    """Return well-formed headers of an event, for records whose body is broken."""
    return [
        ("ce_id", str(uuid4()).encode()),
        ("ce_type", event.ce_type().encode()),
        ("ce_subject", thing.encode()),
        ("ce_aggregateversion", str(version).encode()),
        ("ce_time", b"2026-01-01T00:00:00+00:00"),
        ("ce_recordedtime", b"2026-01-01T00:00:00+00:00"),
    ]


__all__ = ["UUID", "Bench", "Record", "poisoned", "record_effect"]
