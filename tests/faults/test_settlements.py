"""kill -9 around every call to the outside and every notice: each family is settled once, and the outside believes the same."""

import asyncio
import os
import random

import pytest

from infra.journeys.bedside import Simulators, play_bedside_day
from tests.faults.conftest import Wounded
from tests.faults.test_kills import arm, restarts

pytestmark = [pytest.mark.asyncio, pytest.mark.slow, pytest.mark.timeout(600)]

SEED = int(os.environ.get("WARDSTREAM_SEED", "20261123"))


async def _settle_families(wounded: Wounded) -> None:
    client = wounded.client()
    try:
        settled = await play_bedside_day(client, await asyncio.to_thread(Simulators.of, wounded.stack))
    finally:
        await client.close()
    assert len(settled) == 3
    assert all(one.states[-1] == "settled" for one in settled)


@pytest.mark.parametrize("point", ["K20", "K21", "K22", "K23"])
async def test_billing_killed_around_the_outside_settles_each_family_once(wounded: Wounded, point: str):
    seed = random.Random(f"{SEED}{point}")
    await arm(wounded, point, ("billing",), seed)
    before = restarts(wounded)["billing"]
    for _ in range(4):
        await _settle_families(wounded)
        if restarts(wounded)["billing"] > before:
            break
    await wounded.heal()
    assert restarts(wounded)["billing"] > before, f"seed {SEED}: billing never died at {point}"
    await wounded.verdict()


@pytest.mark.parametrize("party", ["insurance", "channel", "receipts"])
async def test_an_outside_party_that_dies_and_comes_back_is_asked_and_not_paid_twice(wounded: Wounded, party: str):
    seed = random.Random(f"{SEED}{party}")
    playing = asyncio.create_task(_settle_families(wounded))
    for _ in range(2):
        await asyncio.sleep(seed.uniform(0.5, 2.0))
        wounded.stack.kill(party)
        await asyncio.to_thread(wounded.stack.wait_ready, [party], seconds=60)
    await playing
    await wounded.heal()
    await wounded.verdict()
