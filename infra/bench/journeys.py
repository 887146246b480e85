"""Whole journeys through the public APIs and the topics, beside the bare limit on the same server (7-performance 1.4)."""

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import asyncpg

from infra.bench import bare_journey
from infra.bench.rounds import machine
from infra.cli.accounts import credential_for, log_in
from infra.cli.answers import words
from infra.journeys.client import Client
from infra.journeys.live import CHARGES_FEN, play_stay
from infra.local.stack import Stack
from shared.db import migrate
from shared.ids import new_id

ROUNDS = 8
"""So many that the checkpoints, each of which falls into one side's turn, do not decide the median of the WAL ratios."""
BARE_SECONDS = 10
OUR_SECONDS = 20
IN_FLIGHT = 24
COMMITS_BARE = 16
EVENTS_PER_JOURNEY = 23
PATIENTS = 20_000
SERVICES = ("admission", "beds", "billing", "followup")
TRACE_RATIO = "0.05"


class _Bench:
    """A stack of its own, a bare database beside it on the same server, and the counters of both."""

    def __init__(self, stack: Stack, conn: asyncpg.Connection, directory: Path) -> None:
        self.stack = stack
        self.conn = conn
        self.directory = directory
        self.patients: list[UUID] = []
        address = urlsplit(stack.postgres_dsn())
        self.port = address.port or 0
        self.password = unquote(address.password or "")

    async def furnish(self) -> None:
        """Make the bare database, and patients nobody has to register while the clock runs."""
        await self.conn.execute("CREATE DATABASE bare")
        bare_dsn = self.stack.postgres_dsn(database="bare")
        for schema in bare_journey.SCHEMAS:
            await migrate(bare_dsn, schema)
        bare = await asyncpg.connect(bare_dsn)
        await bare.execute(
            "INSERT INTO beds.ward VALUES ('W', 'main', 'A', 1, 'general');"
            "INSERT INTO beds.bed (code, ward, room, kind, level, isolation)"
            " SELECT 'W-' || n, 'W', 'R', 'inpatient', 'normal', false FROM generate_series(1, 64) n;"
            "INSERT INTO admission.patient SELECT lpad(n::text, 32, '0')::uuid, 'male', NULL, now() FROM generate_series(0, 63) n"
        )
        await bare.close()
        self.patients = [new_id() for _ in range(PATIENTS)]
        at = await self.conn.fetchval("SELECT now()")
        await self.conn.copy_records_to_table(
            "patient",
            schema_name="admission",
            records=[(tok, "male" if tok.int % 2 else "female", None, at) for tok in self.patients],
            columns=["patient_tok", "sex", "birth_date", "registered_at"],
        )
        await self.conn.copy_records_to_table(
            "patient_identity",
            schema_name="admission",
            records=[(tok, f"Bench {tok}", None) for tok in self.patients],
            columns=["patient_tok", "name", "phone"],
        )

    async def wal(self) -> int:
        """Return the position in the write-ahead log, in bytes."""
        position: int = await self.conn.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")
        return position

    async def commits(self) -> int:
        """Return the commits of the stack's own database; sessions report them with up to ten seconds' delay."""
        await asyncio.sleep(11)
        count: int = await self.conn.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        return count

    async def bare(self, journeys: int) -> dict[str, float]:
        """Run bare journeys for a while, and before that `journeys` of them for their log.

        After a checkpoint the first change of every page logs the whole page, so the log per journey depends on how many
        journeys share a checkpoint: as many as ours.
        """
        await self.conn.execute("CHECKPOINT")
        before = await self.wal()
        _, count = await self._pgbench(journeys=journeys)
        wal = (await self.wal() - before) / count
        rate, _ = await self._pgbench(seconds=BARE_SECONDS)
        return {"rate": rate, "wal": wal}

    async def _pgbench(self, *, seconds: int | None = None, journeys: int = 0) -> tuple[float, int]:
        return await asyncio.to_thread(
            lambda: bare_journey.run(
                self.port, self.password, "bare", self.directory, seconds=seconds, journeys=journeys
            )
        )

    async def ours(self) -> dict[str, float]:
        """Run journeys through the doors for a while and wait until the last effect of the last one is committed."""
        await self.conn.execute("CHECKPOINT")
        token = log_in(self.stack.base_url, credential_for(self.stack.home.root, username="replay")).token
        before, began = await self.wal(), time.perf_counter()
        client = Client({service: self.stack.service_url(service) for service in SERVICES}, token=token)
        end, done = began + OUR_SECONDS, 0

        async def lane() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await play_stay(client, self.patients.pop())
                done += 1

        await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
        await client.close()
        await self._quiet()
        seconds = time.perf_counter() - began
        return {"rate": done / seconds, "wal": (await self.wal() - before) / done, "done": done}

    async def _quiet(self) -> None:
        """Wait until every outbox is empty and every stay has its plan."""
        for _ in range(3000):
            unsent = await self.conn.fetchval(
                "SELECT (SELECT count(*) FROM admission.outbox_unsent) + (SELECT count(*) FROM beds.outbox_unsent)"
                " + (SELECT count(*) FROM billing.outbox_unsent) + (SELECT count(*) FROM followup.outbox_unsent)"
                " + (SELECT count(*) FROM admission.encounter e WHERE state <> 'discharged' OR settled_at IS NULL OR bed_released_at IS NULL"
                "    OR NOT EXISTS (SELECT FROM followup.plan p WHERE p.encounter_id = e.encounter_id))"
            )
            if unsent == 0:
                return
            await asyncio.sleep(0.02)
        raise RuntimeError("The stack did not come to rest within a minute.")

    async def wrong(self, journeys: int) -> list[str]:
        """Return what is not exact: 16 transitions and 23 events per journey, no double bed, charges = settlements."""
        counts = {
            "stays discharged, settled and released": "SELECT count(*) FROM admission.encounter WHERE state = 'discharged'",
            "bed requests taken and over": "SELECT count(*) FROM beds.bed_request WHERE state = 'left'",
            "stays in a bed": "SELECT count(*) FROM beds.bed_claim WHERE state = 'closed'",
            "beds cleaned": "SELECT count(*) FROM beds.bed_claim WHERE state = 'cleaning' AND NOT upper_inf(during)",
            "accounts closed": "SELECT count(*) FROM billing.account WHERE state = 'closed'",
            "settlements": "SELECT count(*) FROM billing.settlement WHERE charged_fen = 140650",
            "plans": "SELECT count(*) FROM followup.plan",
        }
        found = {what: await self.conn.fetchval(query) for what, query in counts.items()}
        wrong = [f"{what}: {count} of {journeys}" for what, count in found.items() if count != journeys]
        charges = await self.conn.fetchval("SELECT count(*) FROM billing.entry WHERE kind = 'charge'")
        tasks = await self.conn.fetchval("SELECT count(*) FROM followup.task")
        events = 0
        for service in SERVICES:
            events += await self.conn.fetchval(
                f"SELECT count(*) FROM {service}.outbox WHERE type NOT LIKE '%.BedAdded.%'"
            )
        for what, count, each in (
            ("charges", charges, len(CHARGES_FEN)),
            ("tasks", tasks, 3),
            ("events", events, EVENTS_PER_JOURNEY),
        ):
            if count != each * journeys:
                wrong.append(f"{what}: {count} of {each * journeys}")
        doubled = await self.conn.fetchval(
            "SELECT count(*) FROM beds.bed_claim a JOIN beds.bed_claim b ON a.bed_id = b.bed_id AND a.id < b.id"
            " AND a.during && b.during WHERE a.state <> 'released' AND b.state <> 'released'"
        )
        return [*wrong, f"double beds: {doubled}"] if doubled else wrong


async def bench_journeys() -> dict[str, Any]:
    """Compare completed journeys per second with the bare pipelined limit (goal: at least 0.05, aim 0.15)."""
    before = machine()
    directory = Path(tempfile.mkdtemp(prefix="wardstream-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    stack = Stack(directory / "home")
    settings = {"WARDSTREAM_TRACE_RATIO": TRACE_RATIO}
    try:
        await asyncio.to_thread(
            lambda: stack.up(env=dict.fromkeys((*SERVICES, "daysurgery", "access", "insight"), settings))
        )
        conn = await asyncpg.connect(stack.postgres_dsn())
        bench = _Bench(stack, conn, directory)
        await bench.furnish()
        found = await _rounds(bench)
        await conn.close()
    finally:
        await asyncio.to_thread(stack.destroy)
        shutil.rmtree(directory, ignore_errors=True)
    return {**found, "machine": {**before, "trace_ratio": float(TRACE_RATIO), "in_flight": IN_FLIGHT}}


async def _rounds(bench: _Bench) -> dict[str, Any]:
    rounds: list[dict[str, float]] = []
    wal: list[dict[str, float]] = []
    journeys = 0
    counted_from = commits_before = 0
    for number in range(ROUNDS + 1):
        ours = await bench.ours()
        bare = await bench.bare(int(ours["done"]))
        journeys += int(ours["done"])
        words.print(
            f"journeys: round {number} of {ROUNDS}: bare {bare['rate']:.1f}/s {bare['wal']:.0f} B, ours {ours['rate']:.1f}/s {ours['wal']:.0f} B"
        )
        if number:
            rounds.append({"bare": bare["rate"], "ours": ours["rate"]})
            wal.append({"bare": bare["wal"], "ours": ours["wal"]})
        else:
            counted_from, commits_before = journeys, await bench.commits()
    commits = (await bench.commits() - commits_before) / (journeys - counted_from)
    wrong = await bench.wrong(journeys)
    for what in wrong:
        words.print(f"not exact: {what}")
    return {
        "ours": statistics.median(pair["ours"] for pair in rounds),
        "bare": statistics.median(pair["bare"] for pair in rounds),
        "ratio": statistics.median(pair["ours"] / pair["bare"] for pair in rounds),
        "unit": "journeys/s",
        "rounds": rounds,
        "journeys": journeys,
        "commits_per_journey": commits,
        "commits_ratio": commits / COMMITS_BARE,
        "wal_ratio": statistics.median(pair["ours"] / pair["bare"] for pair in wal),
        "wal_bytes_per_journey": {
            "ours": statistics.median(pair["ours"] for pair in wal),
            "bare": statistics.median(pair["bare"] for pair in wal),
        },
        "exact": not wrong,
        "wrong": wrong,
    }
