"""Two ways to write one row per event, each as a worker process: the consumer loop of this house, and a plain Faust agent.

`python -m tests.faults.sink_workers ours|faust`; the addresses come from the environment. Neither sink refuses a row that is
there already, so whatever is applied twice can be counted.
"""

import asyncio
import os
import signal
import sys
import tempfile
from typing import Any, ClassVar

import asyncpg
import faust
import orjson

from shared.clock import Clock
from shared.contracts import registry
from shared.contracts.envelope import Envelope, Event, Topic
from shared.db import Database, Transaction, create_pool
from shared.messaging.consumer import Consumer, Subscription
from shared.messaging.kafka import KafkaConsumer, KafkaProducer
from shared.settings import ServiceSettings

TOPIC = Topic("beds.sinkmeasured.v1", owner="beds", key="thing")
SERVICE = "billing"
TABLES = {"ours": "effect_ours", "faust": "effect_faust"}
SESSION_SECONDS, HEARTBEAT_SECONDS = 10, 2
"""The same for both; the house's own values."""


class SinkMeasured(Event):
    """One event of the measurement."""

    topic: ClassVar[Topic] = TOPIC
    key_field: ClassVar[str] = "thing"
    thing: str
    phase: int
    no: int


def register() -> None:
    """Make the event known to the registry of this process."""
    registry.EVENTS[SinkMeasured.ce_type()] = SinkMeasured
    registry.EVENT_TOPICS[TOPIC.name] = registry.TOPICS[TOPIC.name] = TOPIC


def forget() -> None:
    """Leave the registry as it was."""
    del registry.EVENTS[SinkMeasured.ce_type()], registry.EVENT_TOPICS[TOPIC.name], registry.TOPICS[TOPIC.name]


async def _record(tx: Transaction, event: SinkMeasured, _envelope: Envelope) -> None:
    await tx.conn.execute("INSERT INTO effect_ours (phase, no) VALUES ($1, $2)", event.phase, event.no)


async def _consume(dsn: str, bootstrap: str) -> None:
    db = Database(await create_pool(ServiceSettings(database_url=dsn)), Clock())
    consumer = Consumer(
        SERVICE,
        db,
        [Subscription(SinkMeasured, _record)],
        lambda topics, on_assigned: KafkaConsumer(bootstrap, "sink-ours", topics, on_assigned),
        lambda: KafkaProducer(bootstrap, "sink-ours"),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
    await consumer.run()
    await db.pool.close()


def _faust_worker(dsn: str, bootstrap: str) -> Any:
    """Return a worker with one agent as the handbook writes it: take an event, write, take the next."""
    app = faust.App(
        "sink-faust",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="sink-faust-"),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
    )
    pools: list[asyncpg.Pool] = []

    @app.agent(app.topic(TOPIC.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
    async def write_rows(stream: Any) -> None:
        if not pools:
            pools.append(await asyncpg.create_pool(dsn, min_size=1, max_size=4, timeout=10))
        async for value in stream:
            event = orjson.loads(value)
            await pools[0].execute("INSERT INTO effect_faust (phase, no) VALUES ($1, $2)", event["phase"], event["no"])

    return faust.Worker(app, loglevel="WARN")


def main() -> None:
    """Run one worker until SIGTERM."""
    dsn, bootstrap = os.environ["SINK_DATABASE_URL"], os.environ["SINK_KAFKA"]
    register()
    if sys.argv[1] == "ours":
        asyncio.run(_consume(dsn, bootstrap))
    else:
        _faust_worker(dsn, bootstrap).execute_from_commandline()


if __name__ == "__main__":
    main()
