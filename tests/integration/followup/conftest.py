"""The follow-up nurses' office: the service on a real database, told of stays by the other services' events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest_asyncio

from services.followup.consumers import SUBSCRIPTIONS
from services.followup.main import SPEC, escalate_overdue_tasks
from shared.access.actor import Actor
from shared.access.roles import Role
from shared.clock import FrozenClock
from shared.contracts.admission import AdmissionCancelled, DischargeCancelled, PatientAdmitted, PatientDischarged
from shared.contracts.daysurgery import DaySurgeryArrived, DaySurgeryDischarged
from shared.contracts.envelope import Event
from shared.db import Database, Transaction
from shared.messaging import outbox
from shared.messaging.broker import Record, event_headers
from shared.messaging.consumer import envelope_of, run_handler
from shared.messaging.memory import MemoryBroker
from shared.service import Runtime, create_app
from tests.conftest import Databases, opened, settings_for
from tests.support.hospital import OpenGate

MONDAY = datetime(2026, 3, 9, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Office:
    """The nurses' office, its clock and its database."""

    http: httpx2.AsyncClient
    gate: OpenGate
    clock: FrozenClock
    db: Database

    def hire(self, name: str, *roles: Role, wards: tuple[str, ...] = ()) -> str:
        """Return the token of somebody with these roles in these places."""
        self.gate.people[name] = Actor(uuid4(), name, frozenset(roles), frozenset(wards), uuid4())
        return name

    async def post(
        self, path: str, body: Any = None, *, who: str = "all", key: str | None = None, **headers: str
    ) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {who}", "Idempotency-Key": key or uuid4().hex, **headers}
        return await self.http.post(f"/api/followup{path}", json=body or {}, headers=sent)

    async def get(self, path: str, *, who: str = "all", **headers: str) -> httpx2.Response:
        return await self.http.get(f"/api/followup{path}", headers={"Authorization": f"Bearer {who}", **headers})

    async def hear(self, event: Event, *, source: str = "live", recorded_at: datetime | None = None) -> int:
        """Apply an event as the consumer would, in a transaction of its own; returns how many statements the handler used."""
        subscription = next(known for known in SUBSCRIPTIONS if known.event is type(event))
        headers = event_headers(
            {
                "type": event.ce_type(),
                "event_id": str(uuid4()),
                "aggregate_id": event.aggregate_id,
                "version": 1,
                "occurred_at": self.clock.at.isoformat(),
                "recorded_at": (recorded_at or self.clock.at).isoformat(),
                "correlation_id": str(getattr(event, "encounter_id", event.aggregate_id)),
                "causation_id": None,
                "actor": None,
                "source": source,
                "traceparent": None,
            }
        )
        record = Record(event.topic.name, 0, 0, event.aggregate_id.encode(), event.model_dump_json().encode(), headers)
        statements: list[str] = []

        def count(query: asyncpg.connection.LoggedQuery) -> None:
            statements.append(query.query)

        async with self.db.pool.acquire() as conn, conn.transaction():
            tx = Transaction(conn=conn, now=self.clock.at)
            with conn.query_logger(count):
                await run_handler(tx, subscription, envelope_of(record), "followup", record)
            await outbox.flush(tx)
        self.db.committed(tx)
        return len(statements)

    # ---- what happens to a patient -----------------------------------------------------------------------------------

    async def admit(self, patient_tok: UUID, encounter_id: UUID | None = None, **more: Any) -> UUID:
        """Return the stay of a patient who was admitted now."""
        encounter_id = encounter_id or uuid4()
        await self.hear(
            PatientAdmitted(
                encounter_id=encounter_id,
                patient_tok=patient_tok,
                encounter_class="inpatient",
                payer_kind="self_pay",
                bed_id=1,
                admitted_at=more.pop("at", self.clock.at),
                emergency=False,
            ),
            **more,
        )
        return encounter_id

    async def discharge(
        self,
        patient_tok: UUID,
        encounter_id: UUID,
        disposition: Literal["1", "2", "3", "4", "5", "9"] = "1",
        specialty: str = "general",
        **more: Any,
    ) -> int:
        """Let the patient leave the ward now; returns the handler's statements."""
        return await self.hear(
            PatientDischarged(
                encounter_id=encounter_id,
                patient_tok=patient_tok,
                disposition=disposition,
                specialty=specialty,
                discharged_at=more.pop("at", self.clock.at),
            ),
            **more,
        )

    async def stay(self, patient_tok: UUID | None = None, days: int = 7, **more: Any) -> tuple[UUID, UUID]:
        """Return patient and stay after a stay of so many days that ends now."""
        patient_tok = patient_tok or uuid4()
        encounter_id = await self.admit(patient_tok, at=self.clock.at - days * DAY)
        await self.discharge(patient_tok, encounter_id, **more)
        return patient_tok, encounter_id

    async def take_back(self, patient_tok: UUID, encounter_id: UUID, **more: Any) -> None:
        """Take a discharge back."""
        await self.hear(
            DischargeCancelled(
                encounter_id=encounter_id,
                patient_tok=patient_tok,
                reason="recall",
                bed_id=1,
                cancelled_at=self.clock.at,
            ),
            **more,
        )

    async def cancel_admission(self, patient_tok: UUID, encounter_id: UUID) -> None:
        """Cancel an admission that never counted."""
        await self.hear(
            AdmissionCancelled(
                encounter_id=encounter_id, patient_tok=patient_tok, reason="mistake", cancelled_at=self.clock.at
            )
        )

    async def day_case(self, patient_tok: UUID, procedure: str = "73761001", disposition: Any = "1") -> UUID:
        """Return the encounter of a day case of four hours that ends now."""
        case_id, encounter_id = uuid4(), uuid4()
        await self.hear(
            DaySurgeryArrived(
                case_id=case_id,
                encounter_id=encounter_id,
                patient_tok=patient_tok,
                payer_kind="self_pay",
                arrived_at=self.clock.at - timedelta(hours=4),
            )
        )
        await self.hear(
            DaySurgeryDischarged(
                case_id=case_id,
                encounter_id=encounter_id,
                patient_tok=patient_tok,
                procedure=procedure,
                disposition=disposition,
                discharged_at=self.clock.at,
            )
        )
        return encounter_id

    async def turn_timer(self) -> None:
        """Let the overdue timer come round once."""
        await escalate_overdue_tasks(self.db)

    # ---- what is seen ------------------------------------------------------------------------------------------------

    async def plan(self, encounter_id: UUID) -> dict[str, Any]:
        """Return the plan of a stay."""
        answer = await self.get(f"/encounters/{encounter_id}/plan")
        assert answer.status_code == 200, answer.text
        plan: dict[str, Any] = answer.json()
        return plan

    async def due(self, encounter_id: UUID) -> list[float]:
        """Return after how many days from the frozen Monday each task's window opens."""
        tasks = (await self.plan(encounter_id))["tasks"]
        return [(datetime.fromisoformat(task["due_from_at"]) - MONDAY) / DAY for task in tasks]

    async def states(self, encounter_id: UUID) -> list[str]:
        """Return the plan's state and its tasks' states, in order."""
        plan = await self.plan(encounter_id)
        return [plan["state"], *(task["state"] for task in plan["tasks"])]

    async def complete(self, task: dict[str, Any], outcome: str = "well", **more: Any) -> httpx2.Response:
        """Record a contact."""
        return await self.post(f"/tasks/{task['task_id']}/completion", {"outcome": outcome}, **more)

    async def names(self) -> list[str]:
        """Return the names of the events announced so far, oldest first."""
        return [row["type"].split(".")[2] for row in await self.db.pool.fetch("SELECT type FROM outbox ORDER BY id")]

    async def told(self, name: str) -> list[dict[str, Any]]:
        """Return the bodies of one kind of event, oldest first."""
        rows = await self.db.pool.fetch(
            "SELECT body FROM outbox WHERE type = $1 ORDER BY id", f"wardstream.followup.{name}.v1"
        )
        return [dict(row["body"]) for row in rows]

    async def violations(self) -> list[tuple[str, str]]:
        """Return what the audit would find."""
        return [
            (row["check"], row["detail"]) for row in await self.db.pool.fetch("SELECT * FROM followup_violations()")
        ]


@pytest_asyncio.fixture
async def office(databases: Databases) -> AsyncIterator[Office]:
    """An office that must be without violations when the test ends."""
    dsn = await databases.create("followup")
    clock = FrozenClock(MONDAY)
    async with opened(dsn, "followup", clock) as db:
        gate, broker = OpenGate(), MemoryBroker()
        runtime = Runtime(SPEC, settings_for(dsn, "followup"), db, gate, broker.producer, broker.consumer)
        app = create_app(SPEC, lambda: runtime, gate, run=False)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://front.door") as http:
            made = Office(http, gate, clock, db)
            yield made
            assert await made.violations() == []
    await databases.drop(dsn)
