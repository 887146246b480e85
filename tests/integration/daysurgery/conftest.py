"""The day-surgery desk: the service on a real database, asked through its doors and told by the other services' events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest_asyncio

from services.daysurgery.consumers import SUBSCRIPTIONS
from services.daysurgery.main import SPEC
from shared.access.actor import Actor
from shared.access.roles import Role
from shared.clock import FrozenClock
from shared.contracts.admission import PatientRegistered
from shared.contracts.beds import BedAssigned, BedWaitlisted
from shared.contracts.envelope import Event, Sex
from shared.db import Database, Transaction
from shared.messaging import outbox
from shared.messaging.broker import Record, event_headers
from shared.messaging.consumer import envelope_of, run_handler
from shared.messaging.memory import MemoryBroker
from shared.service import Runtime, create_app
from tests.conftest import Databases, opened, settings_for
from tests.support.hospital import OpenGate

MORNING = datetime(2026, 3, 9, 0, 0, tzinfo=UTC)  # 8 o'clock in the hospital


@dataclass
class Desk:
    """The coordinator's desk, its clock and its database."""

    http: httpx2.AsyncClient
    gate: OpenGate
    clock: FrozenClock
    db: Database

    def hire(self, name: str, *roles: Role, wards: tuple[str, ...] = ()) -> str:
        """Return the token of somebody with these roles in these wards."""
        self.gate.people[name] = Actor(uuid4(), name, frozenset(roles), frozenset(wards), uuid4())
        return name

    async def post(
        self, path: str, body: Any = None, *, who: str = "all", key: str | None = None, **headers: str
    ) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {who}", "Idempotency-Key": key or uuid4().hex, **headers}
        return await self.http.post(f"/api/daysurgery{path}", json=body or {}, headers=sent)

    async def get(self, path: str, *, who: str = "all", **headers: str) -> httpx2.Response:
        return await self.http.get(f"/api/daysurgery{path}", headers={"Authorization": f"Bearer {who}", **headers})

    async def hear(self, event: Event, *, source: str = "live") -> None:
        """Apply an event of another service as the consumer would, in a transaction of its own."""
        subscription = next(known for known in SUBSCRIPTIONS if known.event is type(event))
        headers = event_headers(
            {
                "type": event.ce_type(),
                "event_id": str(uuid4()),
                "aggregate_id": event.aggregate_id,
                "version": 1,
                "occurred_at": self.clock.at.isoformat(),
                "recorded_at": self.clock.at.isoformat(),
                "correlation_id": event.aggregate_id,
                "causation_id": None,
                "actor": None,
                "source": source,
                "traceparent": None,
            }
        )
        record = Record(event.topic.name, 0, 0, event.aggregate_id.encode(), event.model_dump_json().encode(), headers)
        async with self.db.pool.acquire() as conn, conn.transaction():
            tx = Transaction(conn=conn, now=self.clock.at)
            await run_handler(tx, subscription, envelope_of(record), "daysurgery", record)
            await outbox.flush(tx)
        self.db.committed(tx)

    async def told(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the bodies of the events announced so far, oldest first."""
        rows = await self.db.pool.fetch("SELECT type, body FROM outbox ORDER BY id")
        return [dict(row["body"]) for row in rows if name is None or row["type"] == f"wardstream.daysurgery.{name}.v1"]

    async def names(self) -> list[str]:
        """Return the names of the events announced so far, oldest first."""
        return [row["type"].split(".")[2] for row in await self.db.pool.fetch("SELECT type FROM outbox ORDER BY id")]

    # ---- a coordinator's words -------------------------------------------------------------------------------------

    async def know_patient(self, sex: Sex = "female", birth_year: int | None = 1960) -> UUID:
        """Return the token of a patient admission has told of."""
        patient_tok = uuid4()
        await self.hear(PatientRegistered(patient_tok=patient_tok, sex=sex, birth_year=birth_year))
        return patient_tok

    async def refer(self, patient_tok: UUID | None = None, **more: Any) -> dict[str, Any]:
        """Return a new case."""
        patient_tok = patient_tok or await self.know_patient()
        body = {"patient_tok": str(patient_tok), "procedure": "73761001", **more}
        answer = await self.post("/cases", body)
        assert answer.status_code == 201, answer.text
        case: dict[str, Any] = answer.json()
        return {**case, "patient_tok": patient_tok}

    async def ask_slot(self, case: dict[str, Any], starts_at: datetime = MORNING, hours: float = 8) -> httpx2.Response:
        ends_at = starts_at + timedelta(hours=hours)
        return await self.post(
            f"/cases/{case['case_id']}/booking", {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat()}
        )

    async def assign_bed(self, case: dict[str, Any], bed_id: int = 7, ward: str = "DAY") -> None:
        """Let the pool hold a day bed for the case."""
        await self.hear(
            BedAssigned(
                encounter_id=case["encounter_id"],
                patient_tok=case["patient_tok"],
                bed_id=bed_id,
                bed_code=f"{ward}-{bed_id}",
                ward=ward,
                held_until=MORNING + timedelta(hours=12),
            )
        )

    async def waitlist(self, case: dict[str, Any]) -> None:
        """Let the pool say that no bed is free."""
        await self.hear(
            BedWaitlisted(encounter_id=case["encounter_id"], patient_tok=case["patient_tok"], reason="no_free_bed")
        )

    async def booked(self, patient_tok: UUID | None = None) -> dict[str, Any]:
        """Return a case with slot and bed."""
        case = await self.refer(patient_tok)
        answer = await self.ask_slot(case)
        assert answer.status_code == 200, answer.text
        await self.assign_bed(case)
        return case

    async def step(self, case: dict[str, Any], step: str, body: Any = None, **more: Any) -> httpx2.Response:
        return await self.post(f"/cases/{case['case_id']}/{step}", body, **more)

    async def done(self, case: dict[str, Any], step: str, body: Any = None) -> dict[str, Any]:
        """Do a step that must succeed."""
        answer = await self.step(case, step, body)
        assert answer.status_code == 200, answer.text
        answered: dict[str, Any] = answer.json()
        return answered

    async def state(self, case: dict[str, Any]) -> str:
        """Return where the case is."""
        return str((await self.get(f"/cases/{case['case_id']}")).json()["state"])


@pytest_asyncio.fixture
async def desk(databases: Databases) -> AsyncIterator[Desk]:
    dsn = await databases.create("daysurgery")
    clock = FrozenClock(MORNING)
    async with opened(dsn, "daysurgery", clock) as db:
        gate, broker = OpenGate(), MemoryBroker()
        runtime = Runtime(SPEC, settings_for(dsn, "daysurgery"), db, gate, broker.producer, broker.consumer)
        app = create_app(SPEC, lambda: runtime, gate, run=False)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://front.door") as http:
            yield Desk(http, gate, clock, db)
    await databases.drop(dsn)
