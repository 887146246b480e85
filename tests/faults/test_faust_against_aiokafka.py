"""The evidence of docs/adr/0009: what a plain Faust agent and the consumer loop of this house lose and do twice under the same faults.

Both read the same events from the same Kafka with two workers each and write one row per event into the same PostgreSQL; both
are hurt at the same moments. Asserted is only what is ours; what Faust did is printed.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import asyncpg
import pytest

from infra.kafka.topics import create_topics
from shared.contracts import registry
from shared.messaging.kafka import KafkaProducer
from tests.conftest import Databases, settings_for
from tests.faults import sink_workers
from tests.faults.sink_workers import SERVICE, TABLES, TOPIC, SinkMeasured
from tests.support.servers import Server

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.timeout(1200),
    # Workers that were killed are reaped here; what they left in pipes is of no interest.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

EVENTS = int(os.environ.get("WARDSTREAM_FAUST_EVENTS", "10000"))
"""Events of each phase; WARDSTREAM_FAUST_EVENTS=60000 repeats the measurement in full."""
EVENTS_PER_SECOND_MAX = 500
THINGS = 600
WORKERS = 2
WARM_UP, THROWN_OUT, KILLED = 0, 1, 2
SECONDS_MIN = {THROWN_OUT: 24.0, KILLED: 56.0}
OUTAGES, OUTAGE_SECONDS, THROW_EVERY_SECONDS = 3, 3.0, 0.25
SIGNALS = (signal.SIGKILL, signal.SIGTERM) * 3
RESTART_SECONDS = 2.0
STANDSTILL_SECONDS = 25.0
"""Longer than a session of a killed worker and the rebalance after it."""


@dataclass
class Sink:
    """Workers of one kind, restarted whenever they end."""

    kind: str
    environment: dict[str, str]
    log: IO[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    restarts: int = 0

    def start(self) -> None:
        self.workers = [self._new() for _ in range(WORKERS)]

    def _new(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.sink_workers", self.kind],
            env=self.environment,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def revive(self) -> None:
        """Start anew whoever ended, as every supervisor would."""
        for no, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[no] = self._new()
                self.restarts += 1

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait(10)


@dataclass(frozen=True)
class Figures:
    """What became of the events of one phase."""

    lost: int
    doubled: int

    def __str__(self) -> str:
        return f"lost {self.lost}, done twice {self.doubled}"


class Measurement:
    """One Kafka, one PostgreSQL, two sinks."""

    def __init__(self, conn: asyncpg.Connection, bootstrap: str, sinks: list[Sink]) -> None:
        self.conn = conn
        self.sinks = sinks
        self.producer = KafkaProducer(bootstrap, "measurement")
        self._versions: dict[str, int] = {}

    async def publish(self, phase: int, count: int, seconds: float) -> None:
        """Send `count` events evenly over `seconds`, numbered from 0."""
        begun = time.monotonic()
        for no in range(count):
            thing = f"thing-{no % THINGS}"
            version = self._versions[thing] = self._versions.get(thing, 0) + 1
            at = datetime.now(UTC).isoformat().encode()
            headers = [
                ("ce_id", str(uuid4()).encode()),
                ("ce_type", SinkMeasured.ce_type().encode()),
                ("ce_subject", thing.encode()),
                ("ce_aggregateversion", str(version).encode()),
                ("ce_time", at),
                ("ce_recordedtime", at),
            ]
            value = SinkMeasured(thing=thing, phase=phase, no=no).model_dump_json().encode()
            _sent = await self.producer.send(TOPIC.name, thing.encode(), value, headers)  # answered by the flush
            ahead = begun + seconds * (no + 1) / count - time.monotonic()
            if ahead > 0.01:
                await asyncio.sleep(ahead)
        await self.producer.flush()

    async def throw_sessions_out(self, seconds: float) -> None:
        """Three times in the phase, for three seconds, end every session of the sinks' database again and again."""
        for _ in range(OUTAGES):
            await asyncio.sleep(max(0.0, seconds / (OUTAGES + 1) - OUTAGE_SECONDS / 2))
            until = time.monotonic() + OUTAGE_SECONDS
            while time.monotonic() < until:
                await self.conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                self.revive()
                await asyncio.sleep(THROW_EVERY_SECONDS)

    async def kill_workers(self, seconds: float) -> None:
        """Kill a worker of each sink at the same moment, three times by -9 and three times by TERM; a new one starts at once."""
        for turn, number in enumerate(SIGNALS):
            await asyncio.sleep(seconds / (len(SIGNALS) + 1) - RESTART_SECONDS)
            for sink in self.sinks:
                sink.workers[turn // 2 % WORKERS].send_signal(number)
            for _ in range(int(RESTART_SECONDS * 10)):
                await asyncio.sleep(0.1)
                self.revive()

    def revive(self) -> None:
        for sink in self.sinks:
            sink.revive()

    async def figures(self, kind: str, phase: int, count: int) -> Figures:
        row = await self.conn.fetchrow(
            f"SELECT count(*) AS effects, count(DISTINCT no) AS events FROM {TABLES[kind]} WHERE phase = $1", phase
        )
        assert row is not None
        return Figures(lost=count - row["events"], doubled=row["effects"] - row["events"])

    async def at_rest(self, phase: int, count: int) -> dict[str, Figures]:
        """Return what became of the events once nothing changes any more."""
        seen: dict[str, Figures] = {}
        changed_at = time.monotonic()
        while True:
            found = {sink.kind: await self.figures(sink.kind, phase, count) for sink in self.sinks}
            if found != seen:
                seen, changed_at = found, time.monotonic()
            all_there = not any(figures.lost for figures in found.values())
            if time.monotonic() - changed_at > (5.0 if all_there else STANDSTILL_SECONDS):
                return found
            self.revive()
            await asyncio.sleep(0.5)

    async def phase(self, phase: int, hurt: Any) -> dict[str, Figures]:
        """Send the events of a phase while everybody is hurt; returns the figures of both sinks."""
        seconds = max(SECONDS_MIN[phase], EVENTS / EVENTS_PER_SECOND_MAX)
        await asyncio.gather(self.publish(phase, EVENTS, seconds), hurt(seconds))
        return await self.at_rest(phase, EVENTS)


@contextlib.asynccontextmanager
async def _measurement(databases: Databases, bootstrap: str, directory: Path) -> AsyncIterator[Measurement]:
    dsn = settings_for(await databases.create(SERVICE), SERVICE).database_url
    environment = {**os.environ, "SINK_DATABASE_URL": dsn, "SINK_KAFKA": bootstrap}
    sink_workers.register()
    conn = await asyncpg.connect(dsn)
    with contextlib.ExitStack() as files:
        sinks = [Sink(kind, environment, files.enter_context((directory / kind).open("wb"))) for kind in TABLES]
        measurement = Measurement(conn, bootstrap, sinks)
        try:
            await create_topics(bootstrap, registry.TOPICS)
            for table in TABLES.values():
                await conn.execute(f"CREATE TABLE {table} (phase int NOT NULL, no int NOT NULL)")
            await measurement.producer.start()
            for sink in sinks:
                sink.start()
            yield measurement
        finally:
            for sink in sinks:
                sink.end()
            await measurement.producer.stop()
            await conn.close()
            sink_workers.forget()


async def test_our_loop_loses_nothing_and_does_nothing_twice_where_a_plain_faust_agent_may(
    databases: Databases, kafka: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async with _measurement(databases, kafka.address, tmp_path) as measurement:
        await measurement.publish(WARM_UP, THINGS, 1)
        assert not (await measurement.at_rest(WARM_UP, THINGS))["ours"].lost, "the workers did not start"
        found = {
            "sessions thrown out 3 x 3 s": await measurement.phase(THROWN_OUT, measurement.throw_sessions_out),
            "3 x kill -9, 3 x TERM": await measurement.phase(KILLED, measurement.kill_workers),
        }
        restarts = {sink.kind: sink.restarts for sink in measurement.sinks}
    with capsys.disabled():
        print(f"\n{EVENTS} events in each phase, {WORKERS} workers each; workers started anew: {restarts}")
        for phase, figures in found.items():
            print(f"{phase}: consumer loop {figures['ours']}; plain Faust agent {figures['faust']}")
    assert restarts["ours"] >= len(SIGNALS), "the kills did not bite"
    for phase, figures in found.items():
        assert figures["ours"] == Figures(lost=0, doubled=0), f"{phase}: {figures['ours']}"
