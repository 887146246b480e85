"""Any history of clerks, families and misbehaving parties ends in one truth: nobody is charged twice, nothing is lost."""

import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, note, seed, settings

from shared.clock import Clock
from tests.integration.billing.conftest import Desk
from tests.integration.billing.settling import History, connected, steps
from tests.integration.simulators.conftest import Simulator

SEED = int(os.environ.get("WARDSTREAM_TEST_SEED") or random.randrange(2**32))


def of(examples: int) -> settings:
    """Settings of a run of so many histories; the failing one is printed with what replays it."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


async def play(desk: Desk, three: tuple[Simulator, Simulator, Simulator], history: list[tuple[Any, ...]]) -> None:
    note(f"WARDSTREAM_TEST_SEED={SEED}")
    desk.db.clock = Clock()
    await desk.furnish()
    async with connected(desk, three) as world:
        played = History(world, await desk.open())
        for step in history:
            await played.do(step)
        await played.come_to_rest()
        await played.check()


@pytest.mark.asyncio
@pytest.mark.timeout(600)
@seed(SEED)
@of(25)
@example(
    history=[
        ("channel_fault", "create", "silent_before"),
        ("deposit_by_code", 2),
        ("errands",),
        ("family_pays", -1),
    ]
).via("an order paid with another sum, closed again and again")
@given(history=steps)
async def test_after_any_history_ledger_channel_fund_and_drawer_agree(
    desk: Desk, three: tuple[Simulator, Simulator, Simulator], history: list[tuple[Any, ...]]
):
    await play(desk, three, history)


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.timeout(3600)
@seed(SEED)
@of(1000)
@given(history=steps)
async def test_after_a_thousand_histories_they_agree(
    desk: Desk, three: tuple[Simulator, Simulator, Simulator], history: list[tuple[Any, ...]]
):
    await play(desk, three, history)
