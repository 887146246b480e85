"""What our relay and our consumer loop cost beside a bare relay and a bare consumer on the same servers."""

import asyncio
import contextlib
import gc
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiokafka

from infra.bench.rounds import Servers, machine, paired, scratch_servers, summary
from infra.kafka.topics import create_topics
from shared.clock import Clock
from shared.contracts import registry
from shared.contracts.billing import ACCOUNTS, ChargePosted
from shared.contracts.envelope import Envelope, Event
from shared.db import Database, Transaction, create_pool, migrate
from shared.ids import new_id
from shared.messaging.consumer import Consumer, Subscription
from shared.messaging.kafka import KafkaConsumer, KafkaProducer
from shared.messaging.relay import BATCH_MAX, Relay
from shared.service import settle_collector
from shared.settings import ServiceSettings

EVENTS_PER_ROUND = 20_000
EVENTS_PER_AGGREGATE = 20
ROUNDS = 5
FILLED_BEFORE = 4
"""So many rounds' events lie in the topic before the first one, so that the loop is measured and not its start."""
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class _Scratch:
    """The billing schema, an outbox to fill, and a topic."""

    def __init__(self, servers: Servers, db: Database, dsn: str) -> None:
        self.servers = servers
        self.db = db
        self.dsn = dsn

    async def fill(self, count: int) -> None:
        """Put `count` unsent charge events of accounts with a few events each into the outbox."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, count, EVENTS_PER_AGGREGATE):
            account_id = new_id()
            for version in range(1, min(EVENTS_PER_AGGREGATE, count - start) + 1):
                event = ChargePosted.model_construct(
                    account_id=account_id,
                    encounter_id=account_id,
                    entry_id=new_id(),
                    item="bed_day",
                    amount_fen=12_345,
                    charged_at=_NOON,
                )
                rows.append(
                    (new_id(), str(account_id), version, ChargePosted.ce_type(), event.model_dump_json(), account_id)
                )
        async with self.db.pool.acquire() as conn, conn.transaction():
            await conn.execute(
                "CREATE TEMP TABLE filling (event_id uuid, aggregate_id text, version int, type text, body text, c uuid) ON COMMIT DROP"
            )
            await conn.copy_records_to_table("filling", records=rows)
            await conn.execute(
                "WITH new AS (INSERT INTO outbox (event_id, aggregate_id, version, type, body, occurred_at, correlation_id, actor)"
                " SELECT event_id, aggregate_id, version, type, body::jsonb, now(), c, c FROM filling RETURNING id)"
                " INSERT INTO outbox_unsent (id) SELECT id FROM new"
            )
        await self.db.pool.execute("CHECKPOINT")


async def _opened(servers: Servers) -> _Scratch:
    dsn = servers.postgres.dsn()
    await migrate(dsn, "billing")
    settings = ServiceSettings(
        database_url=f"{dsn}?options=-csearch_path%3Dbilling%2Cpublic", kafka_bootstrap=servers.kafka.bootstrap
    )
    await create_topics(servers.kafka.bootstrap, registry.TOPICS)
    return _Scratch(servers, Database(await create_pool(settings), Clock()), dsn)


async def _bare_relay(scratch: _Scratch) -> float:
    """Send everything as a relay without headers, epochs or counts would: delete and read a batch, send, commit."""
    await scratch.fill(EVENTS_PER_ROUND)
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=scratch.servers.kafka.bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=262_144,
    )
    await producer.start()
    sent = 0
    async with scratch.db.pool.acquire() as conn:
        started = time.perf_counter()
        while True:
            async with conn.transaction():
                rows = await conn.fetch(
                    "WITH gone AS (DELETE FROM outbox_unsent WHERE id IN (SELECT id FROM outbox_unsent ORDER BY id LIMIT $1"
                    " FOR UPDATE SKIP LOCKED) RETURNING id)"
                    " SELECT o.id, o.aggregate_id, o.body::text AS body FROM outbox o JOIN gone USING (id) ORDER BY o.id",
                    BATCH_MAX,
                )
                if not rows:
                    break
                futures = [
                    await producer.send(ACCOUNTS.name, row["body"].encode(), key=row["aggregate_id"].encode())
                    for row in rows
                ]
                await asyncio.gather(*futures)
            sent += len(rows)
        seconds = time.perf_counter() - started
    await producer.stop()
    return sent / seconds


async def _our_relay(scratch: _Scratch) -> float:
    await scratch.fill(EVENTS_PER_ROUND)
    relay = Relay("billing", scratch.db, lambda: KafkaProducer(scratch.servers.kafka.bootstrap, "bench"))
    producer = KafkaProducer(scratch.servers.kafka.bootstrap, "bench")
    await producer.start()
    async with scratch.db.pool.acquire() as conn:
        epoch = await conn.fetchval("UPDATE relay SET epoch = epoch + 1 RETURNING epoch")
        started = time.perf_counter()
        sent = 0
        while count := await relay.relay_batch(conn, producer, epoch):
            sent += count
        seconds = time.perf_counter() - started
    await producer.stop()
    if sent != EVENTS_PER_ROUND:
        raise RuntimeError(f"The relay sent {sent} of {EVENTS_PER_ROUND} events.")
    return sent / seconds


async def bench_relay() -> dict[str, Any]:
    """Compare the outbox relay with a bare batching relay (goal: at least 0.6)."""
    before = machine()
    with scratch_servers() as servers:
        scratch = await _opened(servers)
        rounds = await paired(lambda: _bare_relay(scratch), lambda: _our_relay(scratch), rounds=ROUNDS, what="relay")
        await scratch.db.pool.close()
    return summary(rounds, "events/s", before)


async def _empty_handler(tx: Transaction, event: Event, envelope: Envelope) -> None:
    """Do nothing: what is measured is the loop."""


async def bench_consumer() -> dict[str, Any]:
    """Compare the consumer loop and an empty handler with a bare `getmany` loop on the same records (goal: at least 0.4)."""
    before = machine()
    with scratch_servers() as servers:
        scratch = await _opened(servers)
        for _ in range(FILLED_BEFORE):
            await _fill_topic(scratch)

        async def bare() -> float:
            await _fill_topic(scratch)
            consumer = aiokafka.AIOKafkaConsumer(
                ACCOUNTS.name,
                bootstrap_servers=servers.kafka.bootstrap,
                group_id=f"bare-{uuid4().hex}",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            )
            await consumer.start()
            ends = await consumer.end_offsets(await _assigned(consumer))
            total, seen = sum(ends.values()), 0
            started = time.perf_counter()
            while seen < total:
                for records in (await consumer.getmany(timeout_ms=500, max_records=2000)).values():
                    seen += len(records)
            seconds = time.perf_counter() - started
            await consumer.stop()
            return float(total / seconds)

        async def ours() -> float:
            group = f"ours-{uuid4().hex}"
            consumer = Consumer(
                "followup",
                scratch.db,
                [Subscription(ChargePosted, _empty_handler)],
                lambda topics, on_assigned: KafkaConsumer(servers.kafka.bootstrap, group, topics, on_assigned),
                lambda: KafkaProducer(servers.kafka.bootstrap, "bench"),
            )
            await scratch.db.pool.execute("TRUNCATE consumed, inbox, parked")
            total = await _topic_size(servers.kafka.bootstrap)
            task = asyncio.create_task(consumer.run())
            while not consumer.joined:
                await asyncio.sleep(0.01)
            started = time.perf_counter()
            while (await scratch.db.pool.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed")) < total:
                await asyncio.sleep(0.05)
            seconds = time.perf_counter() - started
            consumer.stop()
            await task
            applied = await scratch.db.pool.fetchval("SELECT sum(events) FROM consumed")
            if applied != total or await scratch.db.pool.fetchval("SELECT count(*) FROM parked"):
                raise RuntimeError(f"{applied} of {total} events were applied.")
            return total / seconds

        async def ours_as_in_a_service() -> float:
            with _collector_of_services():
                return await ours()

        rounds = await paired(bare, ours_as_in_a_service, rounds=ROUNDS, what="consumer")
        with _collector_of_services():
            settled = [await bare() for _ in range(3)]
        await scratch.db.pool.close()
    found = summary(rounds, "events/s", before)
    return {**found, "bare_with_our_collector": statistics.median(settled)}


@contextlib.contextmanager
def _collector_of_services() -> Iterator[None]:
    """Collect cycles as a service's process does; a bare script takes what Python gives it."""
    settings = gc.get_threshold()
    settle_collector()
    try:
        yield
    finally:
        gc.set_threshold(*settings)
        gc.unfreeze()


async def _fill_topic(scratch: _Scratch) -> None:
    """Relay more events into the topic, once per round, so that both sides read the same growing log."""
    await _our_relay(scratch)


async def _assigned(consumer: aiokafka.AIOKafkaConsumer) -> list[aiokafka.TopicPartition]:
    while not consumer.assignment():
        await asyncio.sleep(0.01)
    return list(consumer.assignment())


async def _topic_size(bootstrap: str) -> int:
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    partitions = [aiokafka.TopicPartition(ACCOUNTS.name, part) for part in range(ACCOUNTS.partitions)]
    ends = await consumer.end_offsets(partitions)
    await consumer.stop()
    return sum(ends.values())
