"""One hop: from the commit in one service to the commit of its effect in the next, beside a bare commit, produce and fetch."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import aiokafka

from infra.bench.rounds import Servers, machine, scratch_servers
from infra.cli.answers import words
from infra.kafka.topics import create_topics
from shared.clock import Clock
from shared.contracts import registry
from shared.contracts.billing import ChargePosted
from shared.contracts.envelope import Envelope, Topic
from shared.db import Database, Transaction, create_pool, migrate, transaction
from shared.ids import new_id
from shared.messaging import outbox
from shared.messaging.consumer import Consumer, Subscription
from shared.messaging.kafka import KafkaConsumer, KafkaProducer
from shared.messaging.relay import Relay
from shared.settings import ServiceSettings

EVENTS = 300
ROUNDS = 4
IDLE_GAP_SECONDS = 0.01
PROBE_SECONDS = 3.0
BARE_TOPIC = Topic("bench.bare.v1", owner="bench", key="id")

Send = Callable[[UUID], Awaitable[None]]


class _Path:
    """A way from a commit to a commit; `arrived` is set when the far end has it."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.begun: dict[str, float] = {}
        self.arrived: dict[str, asyncio.Future[float]] = {}

    def tell(self, key: str) -> None:
        """The far end has `key`."""
        future = self.arrived.get(key)
        if future is not None and not future.done():
            future.set_result(time.perf_counter())

    async def one(self, intended: float | None) -> float:
        """Send one and return the seconds until it arrived, counted from the intended start when one was planned."""
        key = new_id()
        self.arrived[str(key)] = asyncio.get_running_loop().create_future()
        began = intended if intended is not None else time.perf_counter()
        await self.send(key)
        ended = await asyncio.wait_for(self.arrived[str(key)], 30)
        del self.arrived[str(key)]
        return ended - began

    async def idle(self) -> list[float]:
        """Send one after the other with a pause between them."""
        found = []
        for _ in range(EVENTS):
            found.append(await self.one(None))
            await asyncio.sleep(IDLE_GAP_SECONDS)
        return found

    async def most_per_second(self, lanes: int = 16) -> float:
        """Return how many per second get through with `lanes` under way at any time."""
        end = time.perf_counter() + PROBE_SECONDS
        done = 0

        async def lane() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await self.one(None)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(lanes)))
        return done / (time.perf_counter() - began)

    async def open_loop(self, per_second: float) -> list[float]:
        """Send at fixed instants whatever the answers do, and count from the intended instant."""
        began = time.perf_counter() + 0.05
        tasks = []
        for number in range(max(EVENTS, int(per_second * 2))):
            intended = began + number / per_second
            await asyncio.sleep(max(0.0, intended - time.perf_counter()))
            tasks.append(asyncio.create_task(self.one(intended)))
        return list(await asyncio.gather(*tasks))


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


@contextlib.asynccontextmanager
async def _database(servers: Servers, service: str) -> AsyncIterator[Database]:
    dsn = servers.postgres.dsn()
    await migrate(dsn, service)
    settings = ServiceSettings(
        database_url=f"{dsn}?options=-csearch_path%3D{service}%2Cpublic",
        kafka_bootstrap=servers.kafka.bootstrap,
        pool_size_max=20,
    )
    pool = await create_pool(settings)
    try:
        yield Database(pool, Clock())
    finally:
        pool.terminate()


@contextlib.asynccontextmanager
async def _our_path(servers: Servers) -> AsyncIterator[_Path]:
    """Commit, outbox, relay, Kafka, consumer, commit: the code every service runs."""
    async with _database(servers, "billing") as publisher, _database(servers, "followup") as subscriber:
        await subscriber.pool.execute("CREATE TABLE IF NOT EXISTS hop (id uuid PRIMARY KEY)")

        async def send(key: UUID) -> None:
            async with transaction(publisher) as tx:
                tx.correlation_id = key
                event = ChargePosted.model_construct(
                    account_id=key, encounter_id=key, entry_id=key, item="hop", amount_fen=1, charged_at=tx.now
                )
                outbox.append(tx, event)

        async def on_charge_posted(tx: Transaction, event: ChargePosted, _envelope: Envelope) -> None:
            await tx.conn.execute("INSERT INTO hop (id) VALUES ($1)", event.account_id)

        path = _Path(send)
        fire = subscriber.signals.fire

        def told(keys: set[str]) -> None:
            for key in keys:
                path.tell(key)
            fire(keys)

        subscriber.signals.fire = told  # type: ignore[method-assign]
        bootstrap, group = servers.kafka.bootstrap, uuid4().hex
        consumer = Consumer(
            "followup",
            subscriber,
            [Subscription(ChargePosted, on_charge_posted)],
            lambda topics, on_assigned: KafkaConsumer(bootstrap, group, topics, on_assigned),
            lambda: KafkaProducer(bootstrap, "bench"),
        )
        relay = Relay("billing", publisher, lambda: KafkaProducer(bootstrap, "bench"))
        tasks = [asyncio.create_task(relay.run()), asyncio.create_task(consumer.run())]
        await path.one(None)
        yield path
        consumer.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _bare_path(servers: Servers) -> AsyncIterator[_Path]:
    """A one-row commit, a record, a fetch: what no design can go below."""
    async with _database(servers, "billing") as database:
        await database.pool.execute("CREATE TABLE IF NOT EXISTS bare_hop (id uuid PRIMARY KEY)")
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=servers.kafka.bootstrap, acks="all", linger_ms=0)
        consumer = aiokafka.AIOKafkaConsumer(
            BARE_TOPIC.name, bootstrap_servers=servers.kafka.bootstrap, group_id=None, auto_offset_reset="latest"
        )
        await producer.start()
        await consumer.start()

        async def send(key: UUID) -> None:
            await database.pool.execute("INSERT INTO bare_hop (id) VALUES ($1)", key)
            await producer.send(BARE_TOPIC.name, b"x" * 300, key=str(key).encode())

        path = _Path(send)

        async def fetch() -> None:
            while True:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        path.tell(record.key.decode())

        fetching = asyncio.create_task(fetch())
        await asyncio.sleep(0.5)
        await path.one(None)
        yield path
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        await consumer.stop()
        await producer.stop()


async def bench_hop() -> dict[str, Any]:
    """Compare the 99th percentile of a hop with a bare commit + produce + fetch, idle and at half load (goal: at most 20)."""
    before = machine()
    idle: list[dict[str, float]] = []
    loaded: list[dict[str, float]] = []
    with scratch_servers() as servers:
        await create_topics(servers.kafka.bootstrap, {**registry.TOPICS, BARE_TOPIC.name: BARE_TOPIC})
        async with _our_path(servers) as ours, _bare_path(servers) as bare:
            most = min(await ours.most_per_second(), await bare.most_per_second())
            for number in range(ROUNDS + 1):
                pair = {"bare": _p99(await bare.idle()) * 1000, "ours": _p99(await ours.idle()) * 1000}
                half = {
                    "bare": _p99(await bare.open_loop(most / 2)) * 1000,
                    "ours": _p99(await ours.open_loop(most / 2)) * 1000,
                }
                words.print(f"hop: round {number} of {ROUNDS}: idle {pair}, half load {half}")
                if number:
                    idle.append(pair)
                    loaded.append(half)
    return {
        **_medians(idle),
        "unit": "ms, p99 of one hop",
        "rounds": idle,
        "half_load": {**_medians(loaded), "events_per_second": most / 2, "rounds": loaded},
        "machine": before,
    }


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {
        "ours": statistics.median(pair["ours"] for pair in rounds),
        "bare": statistics.median(pair["bare"] for pair in rounds),
        "ratio": statistics.median(pair["ours"] / pair["bare"] for pair in rounds),
    }
