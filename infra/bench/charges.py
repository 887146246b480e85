"""Charges through the door beside bare one-statement commits of the same rows; what a long bill and a settlement take."""

import asyncio
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import asyncpg

from infra.bench import bare_journey
from infra.bench.rounds import machine, paired, summary
from infra.cli.accounts import credential_for, log_in
from infra.cli.answers import words
from infra.journeys.bedside import Bedside, psn_no_of
from infra.journeys.client import Client
from infra.local.stack import Stack
from shared.db import migrate
from shared.ids import new_id

SERVED_BY = ("access", "billing")
ROUNDS = 4
SECONDS = 10
IN_FLIGHT = 64
ACCOUNTS = 400
LONG_BILL_LINES = 10_000
LONG_BILL_LOOKS = 200
SETTLEMENTS = 200
SETTLEMENTS_PER_SECOND = 20
SETTLEMENTS_WARM_UP = 20
TRACE_RATIO = "0.05"

_BARE = """
\\set account random(1, {accounts})
WITH charged AS (
    UPDATE billing.account SET receivable_fen = receivable_fen + 1, bill_version = bill_version + 1
    WHERE id = lpad(:account::text, 32, '0')::uuid RETURNING id
), written AS (
    INSERT INTO billing.entry (id, account_id, kind, item, at, charge_fen) SELECT uuidv7(), id, 'charge', 'x', now(), 1 FROM charged RETURNING id
), lines AS (
    INSERT INTO billing.line (entry_id, ledger_account_id, fen)
    SELECT w.id, s.account, s.fen FROM written w, (VALUES (1, 1), (10, -1)) s(account, fen)
), told AS (
    INSERT INTO billing.outbox (event_id, aggregate_id, version, type, body, occurred_at, correlation_id)
    SELECT uuidv7(), w.id::text, 1, 'wardstream.billing.ChargePosted.v1',
           '{{"account_id": "01a20799-d184-7d6d-a751-5d70c9556f28", "encounter_id": "01a20799-d184-7d6d-a751-5d70c9556f28",
              "entry_id": "01a20799-d184-7d6d-a751-5d70c9556f28", "item": "x", "amount_fen": 1,
              "charged_at": "2026-11-23T08:00:00Z"}}', now(), w.id FROM written w RETURNING id
), queued AS (
    INSERT INTO billing.outbox_unsent (id) SELECT id FROM told
), audited AS (
    INSERT INTO billing.audit (actor, role, action, object_type, object_id, patient_tok, purpose, outcome)
    SELECT id, 'billing_clerk', 'POST /encounters/charges', 'charge', id::text, id, NULL, 'ok' FROM written
)
INSERT INTO billing.idem (actor, key, route, body_hash, status, response)
SELECT id, id::text, 'POST /encounters/charges', '\\x00'::bytea, 201, '{{"entry_id": "01a20799-d184-7d6d-a751-5d70c9556f28"}}' FROM written;
"""


class _Bench:
    """A stack of its own with its simulated outside, and a bare database beside it on the same server."""

    def __init__(self, stack: Stack, conn: asyncpg.Connection, directory: Path, client: Client) -> None:
        self.stack = stack
        self.conn = conn
        self.directory = directory
        self.client = client
        address = urlsplit(stack.postgres_dsn())
        self.port = address.port or 0
        self.password = unquote(address.password or "")
        self.stays: list[UUID] = []

    async def open_accounts(self, count: int, payer_kind: str = "self_pay") -> list[UUID]:
        """Open accounts nobody has to be admitted for while the clock runs; return their stays."""
        stays = [new_id() for _ in range(count)]
        await self.conn.copy_records_to_table(
            "account",
            schema_name="billing",
            records=[(new_id(), stay, new_id(), payer_kind) for stay in stays],
            columns=["id", "encounter_id", "patient_tok", "payer_kind"],
        )
        await self.conn.copy_records_to_table(
            "stay_ward",
            schema_name="billing",
            records=[(stay, "3A") for stay in stays],
            columns=["encounter_id", "ward"],
        )
        return stays

    async def furnish(self) -> None:
        """Make the accounts of both sides."""
        self.stays = await self.open_accounts(ACCOUNTS)
        await self.conn.execute("CREATE DATABASE bare")
        dsn = self.stack.postgres_dsn(database="bare")
        await migrate(dsn, "billing")
        bare = await asyncpg.connect(dsn)
        await bare.execute(
            "INSERT INTO billing.account (id, encounter_id, patient_tok, payer_kind)"
            " SELECT lpad(n::text, 32, '0')::uuid, lpad(n::text, 32, '0')::uuid, lpad(n::text, 32, '0')::uuid, 'self_pay'"
            f" FROM generate_series(1, {ACCOUNTS}) n"
        )
        await bare.close()

    async def bare(self) -> float:
        """Return bare commits per second."""
        text = _BARE.format(accounts=ACCOUNTS)
        rate, _ = await asyncio.to_thread(
            lambda: bare_journey.run(self.port, self.password, "bare", self.directory, seconds=SECONDS, text=text)
        )
        return rate

    async def ours(self) -> float:
        """Return charges per second through the door, each answered, committed and on its way to the topic."""
        end, done = time.perf_counter() + SECONDS, 0
        turn = itertools.cycle(self.stays)

        async def lane() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await self.charge(next(turn), 1)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
        return done / (time.perf_counter() - began)

    async def charge(self, stay: UUID, fen: int) -> None:
        """Post one charge."""
        await self.client.post(
            "billing", f"/encounters/{stay}/charges", uuid4().hex, {"item": "bench", "amount_fen": fen}
        )

    async def long_bill(self) -> dict[str, float]:
        """Return what a look at the pre-settlement of a long account takes."""
        (stay,) = await self.open_accounts(1)
        await self.conn.execute(
            "SELECT count(billing.post_charge($1, gen_random_uuid(), 'x', 100, now())) FROM generate_series(1, $2)",
            stay,
            LONG_BILL_LINES,
        )
        await self.conn.execute("ANALYZE billing.entry, billing.line")
        found = []
        for _ in range(LONG_BILL_LOOKS):
            began = time.perf_counter()
            shown = (await self.client.get("billing", f"/encounters/{stay}/pre-settlement")).body
            found.append(time.perf_counter() - began)
            if shown["charged_fen"] != 100 * LONG_BILL_LINES:
                raise RuntimeError("The long bill is not the sum of its lines.")
        return {"lines": LONG_BILL_LINES, **_milliseconds(found)}

    async def settlements(self) -> dict[str, Any]:
        """Settle insured stays at a fixed rate, counted from the moment each was meant to begin: yes to settled."""
        stays = await self.open_accounts(SETTLEMENTS + SETTLEMENTS_WARM_UP, "basic_insurance")
        sides = [Bedside(self.client, stay) for stay in stays]
        for side in sides:
            for fen in (18_000, 2_550, 99, 120_000, 1):
                await self.charge(side.encounter_id, fen)
            await self.client.post(
                "billing",
                f"/encounters/{side.encounter_id}/deposits",
                uuid4().hex,
                {"amount_fen": 200_000, "method": "cash"},
            )
            await side.quote(psn_no=psn_no_of(side.encounter_id))
        seconds: list[float] = []

        async def settle(side: Bedside, intended: float) -> None:
            await asyncio.sleep(max(0.0, intended - time.perf_counter()))
            await side.confirm()
            await side.until("settled")
            seconds.append(time.perf_counter() - intended)

        began = time.perf_counter() + 0.5
        await asyncio.gather(
            *(settle(side, began + number / SETTLEMENTS_PER_SECOND) for number, side in enumerate(sides))
        )
        return {
            "per_second": SETTLEMENTS_PER_SECOND,
            "settled": len(seconds),
            **_milliseconds(seconds[SETTLEMENTS_WARM_UP:]),
        }


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
    }


async def bench_charges() -> dict[str, Any]:
    """Compare charges per second with bare commits (goal: at least 0.3), and time a long bill and settlements.

    Goals: pre-settlement of 10,000 lines p99 <= 50 ms; settlement with a prompt payer p99 <= 1 s at 20 per second.
    """
    before = machine()
    directory = Path(tempfile.mkdtemp(prefix="wardstream-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    stack = Stack(directory / "home")
    try:
        settings = {"billing": {"WARDSTREAM_TRACE_RATIO": TRACE_RATIO}}
        # Who reads the charges from the topic has a bench of its own (consumer); here it would only take the two cores.
        await asyncio.to_thread(lambda: stack.up(SERVED_BY, simulators=True, env=settings))
        conn = await asyncpg.connect(stack.postgres_dsn())
        token = log_in(stack.base_url, credential_for(stack.home.root, username="replay")).token
        client = Client({"billing": stack.service_url("billing")}, token=token)
        bench = _Bench(stack, conn, directory, client)
        await bench.furnish()
        rounds = await paired(bench.bare, bench.ours, rounds=ROUNDS, what="charges")
        words.print("charges: a long bill")
        long_bill = await bench.long_bill()
        words.print("charges: settlements")
        settlements = await bench.settlements()
        violations = await conn.fetchval("SELECT count(*) FROM billing.ledger_violations() WHERE check_id <> 'I7'")
        await client.close()
        await conn.close()
    finally:
        await asyncio.to_thread(stack.destroy)
        shutil.rmtree(directory, ignore_errors=True)
    found = summary(rounds, "charges/s", before)
    return {
        **found,
        "services": SERVED_BY,
        "pre_settlement": long_bill,
        "settlement": settlements,
        "exact": violations == 0,
    }
