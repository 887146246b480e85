"""A whole hospital in one process: every service on the memory broker and a real PostgreSQL, driven through its HTTP doors.

`drain()` lets every outbox, broker and inbox come to rest, and fails when an event was parked.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
from fastapi import FastAPI

from services.admission.main import SPEC as ADMISSION
from services.beds.actions import Pool
from services.beds.main import spec as beds_spec
from services.beds.settings import Settings as BedsSettings
from services.billing.main import spec as billing_spec
from services.billing.settings import Settings as BillingSettings
from services.daysurgery.main import SPEC as DAYSURGERY
from services.followup.main import SPEC as FOLLOWUP
from shared.access.actor import ALL_WARDS, Actor
from shared.access.roles import Role
from shared.access.tokens import TokenVerifier
from shared.clock import Clock, FrozenClock
from shared.db import Database, create_pool
from shared.messaging.memory import MemoryBroker
from shared.service import Runtime, ServiceSpec, create_app
from tests.conftest import Databases, opened, settings_for

ALL_ROLES = frozenset(Role)
_UNCONNECTED = BillingSettings(database_url="postgresql://unused")


class OpenGate(TokenVerifier):
    """Takes the word after Bearer as a list of roles; tokens have tests of their own."""

    def __init__(self) -> None:
        super().__init__("")
        self.people: dict[str, Actor] = {}

    async def verify(self, token: str) -> Actor:
        """Return the same person for the same roles."""
        if token not in self.people:
            roles = ALL_ROLES if token == "all" else frozenset(Role(name) for name in token.split("+"))
            self.people[token] = Actor(uuid4(), token, roles, frozenset({ALL_WARDS}), uuid4())
        return self.people[token]


class Hospital:
    """Five services and the way to talk to them."""

    def __init__(
        self, runtimes: dict[str, Runtime], apps: dict[str, FastAPI], broker: MemoryBroker, clock: Clock, pool: Pool
    ) -> None:
        self.runtimes = runtimes
        self.apps = apps
        self.broker = broker
        self.clock = clock
        self.pool = pool
        self.last: httpx2.Response | None = None

    async def ask(
        self, method: str, path: str, body: Any = None, *, who: str = "all", key: str | None = None, **headers: str
    ) -> httpx2.Response:
        """Send one request through a service's door."""
        service = path.split("/")[1]
        transport = httpx2.ASGITransport(app=self.apps[service])
        async with httpx2.AsyncClient(transport=transport, base_url="http://hospital") as client:
            sent = {"Authorization": f"Bearer {who}", **{k.replace("_", "-"): v for k, v in headers.items()}}
            if method != "GET":
                sent["Idempotency-Key"] = key or uuid4().hex
            self.last = await client.request(method, "/api" + path, json=body, headers=sent)
            return self.last

    async def do(self, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """Post a command that must succeed, let everything come to rest, and return the answer."""
        response = await self.ask("POST", path, body or {}, **more)
        assert response.status_code < 300, f"{path}: {response.status_code} {response.text}"
        await self.drain()
        answer: dict[str, Any] = response.json()
        return answer

    async def refused(self, path: str, body: Any = None, **more: Any) -> str:
        """Post a command that must be refused as a problem document; returns its code."""
        response = await self.ask("POST", path, body or {}, **more)
        assert response.status_code >= 400, f"{path}: {response.status_code} {response.text}"
        assert response.headers["content-type"] == "application/problem+json"
        await self.drain()
        code: str = response.json()["code"]
        return code

    async def see(self, path: str, **more: Any) -> dict[str, Any]:
        """Read something that must be there."""
        response = await self.ask("GET", path, **more)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        answer: dict[str, Any] = response.json()
        return answer

    async def drain(self, *, parked_is_fine: bool = False) -> None:
        """Relay and consume until nothing is on its way any more."""
        for _ in range(50):
            moved = 0
            for runtime in self.runtimes.values():
                moved += await self._relay(runtime)
            for runtime in self.runtimes.values():
                moved += await self._consume(runtime)
            if not moved:
                break
        else:
            raise AssertionError("The hospital does not come to rest.")
        if not parked_is_fine:
            for name, runtime in self.runtimes.items():
                parked = await runtime.db.pool.fetch("SELECT type, reason, handler FROM parked WHERE status = 'parked'")
                assert not parked, f"{name} set events aside: {[dict(row) for row in parked]}"

    async def _relay(self, runtime: Runtime) -> int:
        async with runtime.db.pool.acquire() as conn:
            epoch = await conn.fetchval("SELECT epoch FROM relay")
            return await runtime.relay.relay_batch(conn, self.broker.producer(), epoch)

    async def _consume(self, runtime: Runtime) -> int:
        consumer = runtime.consumer
        if consumer is None:
            return 0
        if consumer._group is None:
            consumer._group = runtime.make_group(consumer.topics, consumer._on_assigned)
            consumer._producer = runtime.make_producer()
            await consumer._group.start()
        records = await consumer._group.get_many(wait_seconds=0.001, records_max=500)
        if records:
            await consumer.apply(records)
        return len(records)

    async def look(self) -> None:
        """Let the pool in memory take in what was committed, as it does twice a second."""
        async with self.runtimes["beds"].db.pool.acquire() as conn:
            await self.pool.mirror.look(conn)

    async def turn_timers(self, service: str = "beds") -> None:
        """Let what a service does by itself come round once."""
        await self.look()
        runtime = self.runtimes[service]
        for timer in runtime.spec.timers:
            await timer.turn(runtime.db)
        await self.drain()

    async def sql(self, service: str, query: str, *arguments: object) -> list[Any]:
        """Look into a service's tables."""
        rows: list[Any] = await self.runtimes[service].db.pool.fetch(query, *arguments)
        return rows

    # ---- a patient's life, in a nurse's words ------------------------------------------------------------------------

    async def register_patient(self, name: str = "欧阳明明", sex: str = "female", born: str = "1960-05-04") -> str:
        """Return the token of a new patient."""
        body = {"identifier": {"system": "idcard", "value": uuid4().hex}, "name": name, "sex": sex, "birth_date": born}
        done = await self.do("/admission/patients", body)
        return str(done["patient_tok"])

    async def request_stay(self, patient_tok: str, **more: Any) -> str:
        """Return the encounter of a registered pre-admission."""
        done = await self.do("/admission/encounters", {"patient_tok": patient_tok, **more})
        return str(done["encounter_id"])

    async def admit(self, patient_tok: str | None = None, **more: Any) -> str:
        """Return the encounter of a patient who lies in a bed with an open account."""
        encounter = await self.request_stay(patient_tok or await self.register_patient(), **more)
        await self.do(f"/admission/encounters/{encounter}/admission")
        return encounter

    async def charge(self, encounter: str, *amounts_fen: int) -> list[str]:
        """Post charges and return their entries."""
        return [
            (await self.do(f"/billing/encounters/{encounter}/charges", {"item": "test", "amount_fen": amount}))[
                "entry_id"
            ]
            for amount in amounts_fen
        ]

    async def settle(self, encounter: str) -> dict[str, Any]:
        """Settle for what the pre-settlement says."""
        owed = await self.see(f"/billing/encounters/{encounter}/pre-settlement")
        return await self.do(
            f"/billing/encounters/{encounter}/settlement", {"method": "cash", "charged_fen": owed["charged_fen"]}
        )

    async def bed_of(self, encounter: str) -> dict[str, Any]:
        """Return the stay's allocation."""
        return await self.see(f"/beds/encounters/{encounter}/allocation")


def specs(pool: Pool) -> Sequence[ServiceSpec]:
    """Return the five services as `main` composes them."""
    return (ADMISSION, beds_spec(pool.settings, pool), billing_spec(_UNCONNECTED), DAYSURGERY, FOLLOWUP)


MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


async def _furnish(dsn: str) -> None:
    """Give a hospital that opens on that morning its beds and its prices."""
    for spec in specs(Pool(BedsSettings(database_url="unused"))):
        if spec.on_start is not None:
            async with opened(dsn, spec.name, FrozenClock(MORNING)) as db:
                await spec.on_start(db)


@contextlib.asynccontextmanager
async def opened_hospital(databases: Databases, clock: Clock | None = None) -> AsyncIterator[Hospital]:
    """Open a hospital on a database of its own, on that morning unless a clock says otherwise."""
    pool = Pool(BedsSettings(database_url="unused"))
    names = [spec.name for spec in specs(pool)]
    dsn = await databases.create(*names, fill=None if clock else _furnish)
    clock = clock or FrozenClock(MORNING)
    broker, gate = MemoryBroker(), OpenGate()
    runtimes: dict[str, Runtime] = {}
    apps: dict[str, FastAPI] = {}
    for spec in specs(pool):
        settings = settings_for(dsn, spec.name)
        db = Database(await create_pool(settings), clock)
        runtime = Runtime(
            spec=spec,
            settings=settings,
            db=db,
            verifier=gate,
            make_producer=broker.producer,
            make_group=lambda topics, on_assigned: broker.consumer(topics, on_assigned),
        )
        runtimes[spec.name] = runtime
        apps[spec.name] = create_app(spec, lambda runtime=runtime: runtime, gate, run=False)  # type: ignore[misc]
        if spec.on_start is not None:
            await spec.on_start(db)
    try:
        yield Hospital(runtimes, apps, broker, clock, pool)
    finally:
        for runtime in runtimes.values():
            runtime.db.pool.terminate()
        await databases.drop(dsn)


__all__ = ["UUID", "Hospital", "opened_hospital"]
