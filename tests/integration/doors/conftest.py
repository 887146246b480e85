"""The real doors of all services with real tokens, in front of one hospital in which patients wait, lie, and have gone home."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest_asyncio
from fastapi import FastAPI

from services.access.main import spec_of
from services.access.settings import Settings
from shared.access.actor import ALL_WARDS, Actor
from shared.access.keys import KeyRing
from shared.access.roles import Role
from shared.access.tokens import TokenSigner, TokenVerifier
from shared.db import Database, create_pool
from shared.messaging.memory import MemoryBroker
from shared.service import Runtime, create_app
from tests.conftest import Databases, settings_for
from tests.support.hospital import Hospital, opened_hospital

COLONOSCOPY = "73761001"
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
UNTOUCHED = ("audit", "audit_seal")
"""Tables in which a refusal may leave a row."""


@dataclass
class Doors:
    """Every service's app as it runs, who may knock, and what is behind the doors."""

    apps: dict[str, FastAPI]
    runtimes: dict[str, Runtime]
    ring: KeyRing
    things: dict[str, str]
    _tokens: dict[tuple[tuple[Role, ...], frozenset[str]], str] = field(default_factory=dict)

    def token(self, *roles: Role, wards: frozenset[str] = frozenset({ALL_WARDS}), **more: Any) -> str:
        """Return a signed token of somebody with these roles."""
        if not more and (roles, wards) in self._tokens:
            return self._tokens[roles, wards]
        ring, now = more.get("ring", self.ring), more.get("now", datetime.now(UTC).timestamp())
        actor = Actor(uuid4(), "somebody", frozenset(roles), wards, uuid4())
        token = TokenSigner(lambda: ring, now=lambda: now).sign(actor).token
        if not more:
            self._tokens[roles, wards] = token
        return token

    async def knock(
        self, service: str, method: str, path: str, *, app: FastAPI | None = None, **request: Any
    ) -> httpx2.Response:
        """Send one request to a service."""
        transport = httpx2.ASGITransport(app=app or self.apps[service])
        async with httpx2.AsyncClient(transport=transport, base_url="http://hospital", trust_env=False) as client:
            return await client.request(method, f"/api/{service}{path}", **request)

    async def contents(self) -> dict[str, tuple[int, str | None]]:
        """Return how many rows each table of each service has, and a digest of them."""
        found: dict[str, tuple[int, str | None]] = {}
        for service, runtime in self.runtimes.items():
            tables = await runtime.db.pool.fetch(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = $1 AND table_type = 'BASE TABLE'",
                service,
            )
            query = " UNION ALL ".join(
                f"SELECT '{name}', count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {service}.{name} t"
                for (name,) in tables
                if name not in UNTOUCHED
            )
            found |= {
                f"{service}.{name}": (count, digest) for name, count, digest in await runtime.db.pool.fetch(query)
            }
        return found


async def _live(hospital: Hospital) -> dict[str, str]:
    """Let patients come and go, so that every door has something behind it."""
    tok = await hospital.register_patient("司马相如")
    lying = await hospital.admit(tok)
    charge, reversed_charge = await hospital.charge(lying, 4_200, 700)
    account = f"/billing/encounters/{lying}"
    await hospital.do(f"{account}/charges/{reversed_charge}/reversal", {"reason": "wrong_item"})
    deposit = await hospital.do(f"{account}/deposits", {"amount_fen": 50_000, "method": "cash"})
    bill = await hospital.do(f"{account}/bills", {"as_self_pay": True})
    order = await hospital.do(f"{account}/orders", {"amount_fen": 700, "method": "wechat"})
    timed = await hospital.do(f"{account}/timed-items", {"item": "OXY-HOUR"})
    gone = await hospital.admit()
    await hospital.charge(gone, 1_000)
    await hospital.settle(gone)
    await hospital.do(f"/admission/encounters/{gone}/discharge")
    bed = await hospital.bed_of(gone)
    plan = await hospital.see(f"/followup/encounters/{gone}/plan")
    done, task, open_task = (each["task_id"] for each in plan["tasks"][:3])
    await hospital.do(f"/followup/tasks/{done}/completion", {"outcome": "well"})
    wanted = await hospital.request_stay(await hospital.register_patient())
    second = await hospital.request_stay(tok)
    share = await hospital.do(f"/beds/encounters/{lying}/shares", {"kind": "companion"})
    case = await hospital.do("/daysurgery/cases", {"patient_tok": tok, "procedure": COLONOSCOPY})
    booked = await hospital.do(
        "/daysurgery/cases", {"patient_tok": await hospital.register_patient(), "procedure": COLONOSCOPY}
    )
    slot = {"starts_at": NOW.isoformat(), "ends_at": (NOW + timedelta(hours=6)).isoformat()}
    await hospital.do(f"/daysurgery/cases/{booked['case_id']}/booking", slot)
    return {
        "tok": tok,
        "lying": lying,
        "charge": charge,
        "reversed": reversed_charge,
        "deposit": deposit["entry_id"],
        "timed": timed["timed_item_id"],
        "bill": bill["bill_id"],
        "order": order["payment_id"],
        "gone": gone,
        "bed": str(bed["bed_id"]),
        "ward": "3A",
        "clean_bed": str((await hospital.sql("beds", "SELECT bed_id FROM bed WHERE condition = 'U' LIMIT 1"))[0][0]),
        "done": done,
        "task": task,
        "open_task": open_task,
        "wanted": wanted,
        "second": second,
        "share": share["share_id"],
        "milestone": "bill_ready",
        "case": case["case_id"],
        "booked": booked["case_id"],
        "parked": "1",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(databases: Databases, tmp_path_factory: Any) -> AsyncIterator[Doors]:
    """The doors of the five services and of access; refused requests change nothing, so the module shares one hospital."""
    ring = KeyRing.make(datetime.now(UTC).timestamp() - 3600)
    verifier = TokenVerifier(jwks=ring.jwks())
    directory: Path = tmp_path_factory.mktemp("access")
    access_dsn = await databases.create("access")
    async with opened_hospital(databases) as hospital:
        things = await _live(hospital)
        for runtime in hospital.runtimes.values():
            runtime.verifier = verifier
        settings = Settings(
            database_url=settings_for(access_dsn, "access").database_url, signing_key_file=directory / "signing.json"
        )
        db = Database(await create_pool(settings), hospital.clock)
        broker, spec = MemoryBroker(), spec_of(settings)
        access = Runtime(spec, settings, db, verifier, broker.producer, broker.consumer)
        runtimes = {**hospital.runtimes, "access": access}
        apps = {
            name: create_app(runtime.spec, lambda runtime=runtime: runtime, verifier, run=False)  # type: ignore[misc]
            for name, runtime in runtimes.items()
        }
        made = Doors(apps, runtimes, ring, things)
        account = {
            "username": "admin.one",
            "display_name": "Admin",
            "password": "correct horse battery",
            "roles": ["admin"],
        }
        opened = await made.knock(
            "access",
            "POST",
            "/users",
            json=account,
            headers={"Authorization": f"Bearer {made.token(Role.ADMIN)}", "Idempotency-Key": uuid4().hex},
        )
        assert opened.status_code == 201, opened.text
        things["user"] = opened.json()["user_id"]
        yield made
        db.pool.terminate()
    await databases.drop(access_dsn)


__all__ = ["NOW", "Doors"]
