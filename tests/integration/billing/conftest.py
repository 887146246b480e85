"""Billing on a real PostgreSQL: its actions by hand, and its doors over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio

from services.billing import actions, consumers, price_actions, refund_actions
from services.billing.main import spec
from services.billing.prices import catalogue
from services.billing.settings import PriceRules, Settings
from shared.access.actor import Actor
from shared.access.keys import KeyFile
from shared.access.roles import Role
from shared.access.tokens import TokenSigner, TokenVerifier
from shared.clock import Clock, FrozenClock
from shared.contracts.envelope import Event
from shared.db import Database, create_pool, transaction
from shared.messaging.memory import MemoryBroker
from shared.money import FEN_MAX
from shared.service import Runtime, create_app
from tests.conftest import Databases, settings_for
from tests.integration.billing.settling import World, connected, parties
from tests.integration.simulators.conftest import Simulator
from tests.support.envelopes import envelope_for

RULES = PriceRules()
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@dataclass
class Desk:
    """A billing desk with its database."""

    db: Database

    async def do(self, action: Callable[..., Awaitable[Any]], **facts: Any) -> Any:
        """Do one action in its own transaction, its events with it."""
        async with transaction(self.db) as tx:
            tx.correlation_id = facts.get("encounter_id")
            return await action(tx, **facts)

    async def tell(self, event: Event) -> None:
        """Let billing consume one event."""
        handler = {s.event: s.handler for s in consumers.SUBSCRIPTIONS}[type(event)]
        envelope = envelope_for(event, at=NOON)
        async with transaction(self.db) as tx:
            tx.correlation_id = event.encounter_id  # type: ignore[attr-defined]
            await handler(tx, event, envelope)

    async def open(self, ward: str | None = None, patient_tok: UUID | None = None) -> UUID:
        """Open the account of a new stay and return the stay."""
        encounter_id = uuid4()
        await self.do(
            actions.open_account,
            encounter_id=encounter_id,
            patient_tok=patient_tok or uuid4(),
            payer_kind="self_pay",
            day_case=False,
        )
        if ward is not None:
            await self.do(actions.note_ward, encounter_id=encounter_id, ward=ward)
        return encounter_id

    async def charge(self, stay: UUID, fen: int, item: str = "blood.count") -> Any:
        return await self.do(actions.post_charge, encounter_id=stay, item=item, amount_fen=fen)

    async def deposit(self, stay: UUID, fen: int, method: str = "cash") -> Any:
        return await self.do(actions.take_deposit, encounter_id=stay, amount_fen=fen, method=method)

    async def furnish(self) -> None:
        """Publish the prices of the catalogue."""
        await self.do(price_actions.furnish_when_empty, rows=catalogue.load(RULES.prices_file))

    async def transfuse(self, stay: UUID, units: int) -> Any:
        """Charge units of red cells, at 220 yuan each."""
        return await self.do(
            price_actions.charge_item, rules=RULES, encounter_id=stay, item="BLD-RBC", quantity=units, at=NOON
        )

    async def waive(self, stay: UUID, fen: int, approval_no: str | None = None) -> Any:
        """Let the blood centre pay for blood."""
        facts = {"amount_fen": fen, "approval_no": approval_no or uuid4().hex}
        return await self.do(actions.waive_blood, encounter_id=stay, **facts)

    async def reverse(self, stay: UUID, entry_id: UUID) -> Any:
        return await self.do(actions.reverse_charge, encounter_id=stay, entry_id=entry_id, reason="wrong_item")

    async def refund_part(self, stay: UUID, entry_id: UUID, fen: int | None) -> Any:
        """Give a part of a deposit back, as one person may."""
        return await self.do(
            refund_actions.give_back,
            encounter_id=stay,
            entry_id=entry_id,
            amount_fen=fen,
            asked_by=uuid4(),
            alone_fen_max=FEN_MAX,
        )

    async def refund(self, stay: UUID, entry_id: UUID) -> Any:
        return await self.refund_part(stay, entry_id, None)

    async def settle(self, stay: UUID, quoted_fen: int, method: str = "cash") -> Any:
        return await self.do(actions.settle_account, encounter_id=stay, quoted_fen=quoted_fen, method=method)

    async def reopen(self, stay: UUID) -> Any:
        return await self.do(actions.reopen_settlement, encounter_id=stay, reason="late_charge")

    async def void(self, stay: UUID) -> Any:
        return await self.do(actions.void_account, encounter_id=stay, reason="wrong_patient")

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        async with self.db.pool.acquire() as conn:
            rows: list[Any] = await conn.fetch(query, *args)
            return rows

    async def value(self, query: str, *args: Any) -> Any:
        async with self.db.pool.acquire() as conn:
            return await conn.fetchval(query, *args)

    async def account(self, stay: UUID) -> tuple[str, int, int]:
        """Return state, what is owed and what is held."""
        rows = await self.fetch("SELECT state, receivable_fen, deposits_fen FROM account WHERE encounter_id = $1", stay)
        return rows[0]["state"], rows[0]["receivable_fen"], rows[0]["deposits_fen"]

    async def balances(self) -> dict[str, int]:
        """Return every balance of the hospital that is not zero."""
        rows = await self.fetch("SELECT code, balance_fen FROM ledger_balance WHERE balance_fen <> 0")
        return {row["code"]: row["balance_fen"] for row in rows}

    async def events(self, stay: UUID) -> list[str]:
        """Return the names of the events of a stay, in order."""
        rows = await self.fetch("SELECT type FROM outbox WHERE correlation_id = $1 ORDER BY id", stay)
        return [row["type"].split(".")[2] for row in rows]

    async def violations(self) -> list[tuple[str, str, str]]:
        rows = await self.fetch("SELECT check_id, object, detail FROM ledger_violations()")
        return [tuple(row) for row in rows]


@pytest_asyncio.fixture
async def desk(databases: Databases) -> AsyncIterator[Desk]:
    """A desk with enough connections for a rush."""
    dsn = await databases.create("billing")
    pool = await create_pool(settings_for(dsn, "billing", pool_size_max=64))
    desk = Desk(Database(pool, FrozenClock(NOON)))
    yield desk
    left = await desk.violations()
    pool.terminate()
    await databases.drop(dsn)
    assert left == [] or getattr(desk, "tampered", False), left


@dataclass
class Doors:
    """The billing service behind its HTTP doors."""

    desk: Desk
    http: httpx2.AsyncClient
    sign: Callable[[Actor], str]
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    def somebody(self, *roles: Role, wards: tuple[str, ...] = ()) -> dict[str, str]:
        """Return the header of a new member of staff."""
        actor = Actor(uuid4(), "staff", frozenset(roles), frozenset(wards), uuid4())
        return {"Authorization": f"Bearer {self.sign(actor)}"}

    async def post(
        self, who: dict[str, str], path: str, body: object, *, key: str | None = None, **headers: str
    ) -> httpx2.Response:
        return await self.http.post(
            f"/api/billing/encounters/{path}",
            json=body,
            headers={"Idempotency-Key": key or uuid4().hex, **who, **headers},
        )

    async def get(self, who: dict[str, str], path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(f"/api/billing/encounters/{path}", headers={**who, **headers})


@pytest_asyncio.fixture
async def doors(desk: Desk, tmp_path: Path) -> AsyncIterator[Doors]:
    keys = KeyFile(tmp_path / "signing.json")
    signer = TokenSigner(keys.ring)
    verifier = TokenVerifier(jwks=lambda: keys.ring().jwks())
    broker = MemoryBroker()
    settings = Settings(database_url="postgresql://unused")
    runtime = Runtime(spec(settings), settings, desk.db, verifier, broker.producer, broker.consumer)
    app = create_app(runtime.spec, lambda: runtime, verifier, run=False)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://front.door") as http:
        yield Doors(desk, http, lambda actor: signer.sign(actor).token)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, Simulator, Simulator]]:
    """The fund, the payment channel and the receipt office, as processes."""
    with parties(tmp_path_factory.mktemp("parties")) as found:
        yield found


@pytest_asyncio.fixture
async def world(desk: Desk, three: tuple[Simulator, Simulator, Simulator]) -> AsyncIterator[World]:
    """A desk connected to the three, who behave."""
    desk.db.clock = Clock()
    for simulator in three:
        simulator.behave()
    async with connected(desk, three) as found:
        yield found
