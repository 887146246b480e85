"""One hospital whose day is played once through its doors; rules are broken in transactions that end undone, or in copies of it."""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
import pytest_asyncio

from infra.audit.check import Look
from infra.audit.run import CHECKS, audit, examine, services_in, verdict_of
from infra.audit.scene import Outside, Scene
from services.insight.domain import Views
from shared.access import seal
from shared.clock import FrozenClock
from shared.contracts.registry import EVENTS, SERVICES_WITH_EVENTS
from shared.db import migrate
from shared.messaging.memory import MemoryBroker
from shared.messaging.reading import MemoryReader
from tests.conftest import Databases, with_database
from tests.integration.simulators.conftest import HOSPITAL, MERCHANT, Simulator, running
from tests.support.hospital import Hospital, opened_hospital

COLONOSCOPY = "73761001"
NAME, PHONE, IDENTIFIER = "诸葛孔明亮", "13912345678", "330106196005041234"
"""Of one patient of the played day; they must be nowhere but in admission's own tables."""


class MovingClock(FrozenClock):
    """A clock that moves on by a minute whenever it is looked at."""

    def stamp(self, database_now: datetime) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at


@dataclass(frozen=True)
class Played:
    """The day as it ended."""

    database: str
    broker: MemoryBroker
    inpatient: str
    day_case: dict[str, Any]
    waiting: str
    here: str


async def _play(hospital: Hospital) -> dict[str, Any]:
    """Play stays that end well, stays that are undone, and stays that go on."""
    clock = hospital.clock
    assert isinstance(clock, FrozenClock)
    body = {
        "identifier": {"system": "idcard", "value": IDENTIFIER},
        "name": NAME,
        "phone": PHONE,
        "sex": "male",
        "birth_date": "1960-05-04",
    }
    known = str((await hospital.do("/admission/patients", body))["patient_tok"])
    await hospital.ask("POST", f"/admission/patients/{known}/reveal", {"purpose": "call"})
    inpatient = await hospital.admit(known)
    await hospital.do(f"/billing/encounters/{inpatient}/deposits", {"amount_fen": 100_000, "method": "cash"})
    charges = await hospital.charge(inpatient, 12_300, 4_500, 99)
    await hospital.do(f"/billing/encounters/{inpatient}/charges/{charges[1]}/reversal", {"reason": "wrong_item"})
    await _leave(hospital, inpatient)
    plan = await hospital.see(f"/followup/encounters/{inpatient}/plan")
    await hospital.do(f"/followup/tasks/{plan['tasks'][0]['task_id']}/completion", {"outcome": "well"})

    undone = await hospital.admit()
    refunded = await hospital.do(f"/billing/encounters/{undone}/deposits", {"amount_fen": 5_000, "method": "wechat"})
    await hospital.do(f"/billing/encounters/{undone}/deposits/{refunded['entry_id']}/refund")
    await hospital.charge(undone, 700)
    await hospital.settle(undone)
    await hospital.do(f"/admission/encounters/{undone}/discharge", {"disposition": "1"})
    await hospital.do(f"/billing/encounters/{undone}/settlement-reopening", {"reason": "recalled"})
    await hospital.do(f"/admission/encounters/{undone}/discharge-cancellation", {"reason": "recalled"})
    await _leave(hospital, undone)

    never = await hospital.admit()
    await hospital.do(f"/admission/encounters/{never}/admission-cancellation", {"reason": "wrong_patient"})
    gone = await hospital.request_stay(await hospital.register_patient())
    await hospital.do(f"/admission/encounters/{gone}/cancellation", {"reason": "patient_wish"})
    waiting = await hospital.request_stay(
        await hospital.register_patient(), expected_admit_at=(clock.at + timedelta(days=9)).isoformat()
    )
    here = await hospital.admit()
    await hospital.charge(here, 1_000)

    day_case = await _day_case(hospital)
    await hospital.do(f"/daysurgery/cases/{day_case['case_id']}/discharge", {"disposition": "1"})
    await hospital.charge(day_case["encounter_id"], 65_432)
    await hospital.settle(day_case["encounter_id"])
    converted = await _day_case(hospital)
    await hospital.do(f"/daysurgery/cases/{converted['case_id']}/conversion", {"specialty": "general"})
    cancelled = await _booked(hospital)
    await hospital.do(f"/daysurgery/cases/{cancelled['case_id']}/cancellation", {"by": "patient", "reason": "ill"})
    await _booked(hospital)
    await _share_and_move(hospital)
    return {"inpatient": inpatient, "day_case": day_case, "waiting": waiting, "here": here}


async def _share_and_move(hospital: Hospital) -> None:
    """Let a newborn stay with its mother, somebody be away, a move be announced, one taken back, and a bed be broken under its patient."""
    mother = await hospital.admit(await hospital.register_patient(born="1995-02-03"), specialty="obstetrics")
    shares = []
    for _ in range(2):
        child = await hospital.request_stay(await hospital.register_patient(born="2026-03-02"), specialty="obstetrics")
        body = {"kind": "newborn", "guest_encounter_id": child}
        shares.append((await hospital.do(f"/beds/encounters/{mother}/shares", body))["share_id"])
        await hospital.do(f"/admission/encounters/{child}/admission")
    await hospital.do(f"/beds/shares/{shares[1]}/end", {"reason": "child_observed"})
    away, moving, moved, broken = [await hospital.admit() for _ in range(4)]
    await hospital.do(f"/beds/encounters/{away}/leave", {"until": "2026-03-09T08:00:00+08:00"})
    free = await hospital.sql(
        "beds", "SELECT bed_id, version FROM bed WHERE ward = '3C' AND commitment = 'free' LIMIT 2"
    )
    first, second = ({**dict(bed), "reason": "clinical_need", "override": True} for bed in free)
    now = hospital.clock.stamp(datetime.now(UTC))
    await hospital.do(f"/beds/encounters/{moving}/announced-transfer", {**first, "planned_at": now.isoformat()})
    await hospital.do(f"/beds/encounters/{moved}/transfer", second)
    await hospital.do(f"/beds/encounters/{moved}/transfer-cancellation", {"reason": "wrong_patient", "lay_in_it": True})
    bed = (await hospital.bed_of(broken))["bed_id"]
    await hospital.do(f"/beds/beds/{bed}/block", {"reason": "repair"})
    await hospital.turn_timers()


async def _leave(hospital: Hospital, encounter: str) -> None:
    bed = await hospital.bed_of(encounter)
    await hospital.settle(encounter)
    await hospital.do(f"/admission/encounters/{encounter}/discharge", {"disposition": "1"})
    await hospital.do(f"/beds/beds/{bed['bed_id']}/cleaning-done")


async def _booked(hospital: Hospital) -> dict[str, Any]:
    body = {"patient_tok": await hospital.register_patient(), "procedure": COLONOSCOPY, "payer_kind": "self_pay"}
    case = await hospital.do("/daysurgery/cases", body)
    now = hospital.clock.stamp(datetime.now(UTC))
    slot = {"starts_at": now.isoformat(), "ends_at": (now + timedelta(hours=6)).isoformat()}
    await hospital.do(f"/daysurgery/cases/{case['case_id']}/booking", slot)
    return case


async def _day_case(hospital: Hospital) -> dict[str, Any]:
    case = await _booked(hospital)
    for step in ("arrival", "operation-start", "operation-end"):
        await hospital.do(f"/daysurgery/cases/{case['case_id']}/{step}")
    return case


async def _played(databases: Databases) -> Played:
    async with opened_hospital(databases, MovingClock(datetime(2026, 3, 2, 8, 0, tzinfo=UTC))) as hospital:
        facts = await _play(hospital)
        dsn = str((await hospital.sql("beds", "SELECT current_database() AS name"))[0]["name"])
        for runtime in hospital.runtimes.values():
            async with runtime.db.pool.acquire() as conn:
                assert await seal.seal(conn) is not None
        for runtime in hospital.runtimes.values():
            runtime.db.pool.terminate()
        await _index(with_database(databases.admin_dsn, dsn))
        kept = f"played_{uuid4().hex[:12]}"
        await databases._execute(f"CREATE DATABASE {kept} TEMPLATE {dsn}")
        databases._made.append(kept)
        return Played(kept, hospital.broker, **facts)


async def _index(dsn: str) -> None:
    """Give insight its tables and its index of what was announced."""
    await migrate(dsn, "insight")
    conn = await asyncpg.connect(dsn)
    try:
        for service in SERVICES_WITH_EVENTS:
            await conn.execute(
                "INSERT INTO insight.event_seen (event_id, type, topic, part, kafka_offset, aggregate_id, version, occurred_at,"
                " recorded_at, source) SELECT event_id, type, 'any', 0, 0, aggregate_id, version, occurred_at, recorded_at, source"
                f" FROM {service}.outbox"
            )
    finally:
        await conn.close()


@pytest.fixture(scope="session")
def played(databases: Databases) -> Played:
    """The played day; nobody changes it."""
    return asyncio.run(_played(databases))


async def _change(conn: asyncpg.Connection, statements: tuple[str, ...]) -> None:
    """Change rows as somebody who gets around every trigger and foreign key."""
    await conn.execute("SET session_replication_role = replica")
    for statement in statements:
        done = await conn.execute(statement)
        assert done.split()[0] not in ("UPDATE", "DELETE", "INSERT") or not done.endswith(" 0"), (
            f"{statement} changed nothing"
        )


async def _told_by_views(broker: MemoryBroker, path: str) -> Any:
    """Answer as insight would, from its real views over what lies on the broker."""
    if path.endswith("progress"):
        return {"caught_up": True}
    views = Views({}, {})
    for log in broker.logs.values():
        for record in log:
            headers = dict(record.headers)
            known = EVENTS.get(headers.get("ce_type", b"").decode())
            if known is not None:
                views.apply(known.model_validate_json(record.value or b""), int(headers["ce_aggregateversion"]))
    return {"wards": views.census()} if path.endswith("census") else {"journeys": views.journeys_in_flight()}


@dataclass
class Courtroom:
    """The played hospital itself: rules are broken in a transaction, judged in it, and rolled back."""

    dsn: str
    broker: MemoryBroker
    outside: Outside

    async def judge(self, id_: str, *statements: str) -> dict[str, Any]:
        """Return what a check says of the hospital after these changes."""
        check = next(check for check in CHECKS if check.id == id_)
        conn = await asyncpg.connect(self.dsn)
        try:
            transaction = conn.transaction()
            await transaction.start()
            await _change(conn, statements)
            await conn.execute("SET LOCAL search_path = pg_catalog")
            reader = MemoryReader(self.broker)
            scene = Scene(
                dsn=self.dsn, topics=reader, ask=lambda path: _told_by_views(self.broker, path), outside=self.outside
            )
            at = Look(conn, scene, await services_in(conn), await reader.extents())
            found = verdict_of(check, await examine(check, at), empty=False)
            await transaction.rollback()
            return found
        finally:
            await conn.close()


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Simulator]]:
    """Channel, fund and receipt office as real processes that have heard nothing yet."""
    home = tmp_path_factory.mktemp("outside")
    keys = {"channel": MERCHANT, "insurance": HOSPITAL, "receipts": HOSPITAL}
    with ExitStack() as stack:
        yield {name: stack.enter_context(running(Simulator(name, home, key))) for name, key in keys.items()}


@pytest.fixture(scope="session")
def courtroom(databases: Databases, played: Played, outside: dict[str, Simulator]) -> Courtroom:
    """The played hospital, for changes that are taken back."""

    async def believed() -> dict[str, Any]:
        return {name: await asyncio.to_thread(party.truth) for name, party in outside.items()}

    return Courtroom(with_database(databases.admin_dsn, played.database), played.broker, believed)


@dataclass
class Evidence:
    """A copy of the played hospital: its database, its broker, its logs; a test may tamper with each."""

    played: Played
    dsn: str
    broker: MemoryBroker
    logs: Path

    async def tamper(self, *statements: str) -> None:
        """Change rows for good."""
        conn = await asyncpg.connect(self.dsn)
        try:
            await _change(conn, statements)
        finally:
            await conn.close()

    def log(self, service: str, **line: object) -> None:
        """Write one log line of a service."""
        with (self.logs / f"{service}.log").open("ab") as file:
            file.write(orjson.dumps({"timestamp": "2030-01-01T00:00:00Z", "level": "info", **line}) + b"\n")

    @property
    def scene(self) -> Scene:
        """What the audit is given."""
        return Scene(
            dsn=self.dsn,
            topics=MemoryReader(self.broker),
            logs=self.logs,
            ask=lambda path: _told_by_views(self.broker, path),
        )

    async def audit(self, *only: str, **scene: Any) -> dict[str, Any]:
        """Run the audit, or some checks of it, without waiting between looks."""
        return await audit(replace(self.scene, **scene), only=only or None, waits_seconds=(0.0,))

    async def look(self, id_: str, **scene: Any) -> dict[str, Any]:
        """Run one check."""
        check: dict[str, Any] = (await self.audit(id_, **scene))["checks"][0]
        return check


@pytest_asyncio.fixture
async def evidence(databases: Databases, played: Played, tmp_path: Path) -> AsyncIterator[Evidence]:
    """A copy of the played hospital that the test may tamper with."""
    name = f"test_{uuid4().hex[:12]}"
    await databases._execute(f"CREATE DATABASE {name} TEMPLATE {played.database}")
    dsn = with_database(databases.admin_dsn, name)
    broker = MemoryBroker()
    broker.logs = {place: copy.copy(log) for place, log in played.broker.logs.items()}
    logs = tmp_path / "logs"
    logs.mkdir()
    found = Evidence(played, dsn, broker, logs)
    found.log("beds", event="service_started")
    yield found
    await databases.drop(dsn)
