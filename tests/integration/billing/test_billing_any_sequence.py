"""Any sequence of deposits, charges, reversals, refunds, settlements and reopenings: paper and database agree to the fen."""

import os
import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, note, seed, settings

from services.billing import domain
from services.billing.actions import Refunded, Reversed, Settled
from services.billing.domain import LedgerAccount, Posting, Reversal, Settlement
from tests.integration.billing.conftest import Desk
from tests.unit.billing.paper_ledger import PaperAccount, steps

SEED = int(os.environ.get("WARDSTREAM_TEST_SEED") or random.randrange(2**32))


class Twin:
    """One account kept twice: on paper and in the database, with the ids of each translated to the other."""

    def __init__(self, desk: Desk, stay: UUID) -> None:
        self.desk, self.stay, self.paper = desk, stay, PaperAccount()
        self.real: dict[UUID, UUID] = {}

    async def do(self, step: tuple[Any, ...]) -> None:
        verb, *rest = step
        original = (
            self.paper.nth({"refund": "deposit", "refund_part": "deposit"}.get(verb, "charge"), rest[0])
            if rest
            else None
        )
        quoted = self.paper.account().receivable_fen + rest[0] if verb == "settle" else 0
        decided = self.paper.do(step)
        if verb in ("reverse", "refund", "refund_part"):
            real_id = self.real[original.id] if original else self.stay
            done = await getattr(self.desk, verb)(self.stay, real_id, *rest[1:])
        elif verb == "settle":
            done = await self.desk.settle(self.stay, quoted, rest[1])
        else:
            done = await getattr(self.desk, verb)(self.stay, *rest)
        self.compare(verb, decided, done)
        if isinstance(decided, Posting):
            self.real[decided.entry_id] = done.entry_id

    @staticmethod
    def compare(verb: str, decided: Any, done: Any) -> None:
        """Both did it with the same amounts, or both refused for the same reason."""
        if verb == "void" and decided == domain.NotOpen("voided"):
            assert done == "kept"
        elif isinstance(decided, Posting | Reversal | Settlement | tuple):
            assert "NotOpen" not in type(done).__name__, (verb, done)
            if isinstance(decided, Settlement):
                assert isinstance(done, Settled)
                for name in ("number", "charged_fen", "deposits_fen", "collected_fen", "refunded_fen"):
                    assert getattr(done.settlement, name) == getattr(decided, name)
            if isinstance(decided, Reversal):
                assert isinstance(done, Reversed | Refunded)
                assert done.amount_fen == decided.original.amount_fen
        else:
            assert done == decided

    async def check(self, before: dict[str, int]) -> None:
        """The account, and what this account added to the hospital's balances, are the same on both sides."""
        mine = self.paper.account()
        assert await self.desk.account(self.stay) == (mine.state, mine.receivable_fen, mine.deposits_fen)
        after = await self.desk.balances()
        for each in LedgerAccount:
            name = each.name.lower()
            assert after.get(name, 0) - before.get(name, 0) == self.paper.balance(each), name
        assert sum(after.values()) == 0
        assert await self.desk.violations() == []


@pytest.mark.asyncio
@seed(SEED)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=steps)
async def test_any_sequence_of_steps_keeps_the_law_in_the_database(desk: Desk, sequence):
    note(f"WARDSTREAM_TEST_SEED={SEED}")
    twin = Twin(desk, await desk.open())
    before = await desk.balances()
    for step in sequence:
        await twin.do(step)
    await twin.check(before)
