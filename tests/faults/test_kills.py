"""kill -9 at every point of 4-reliability section 3, and at random from outside: afterwards nothing is lost and nothing doubled."""

import asyncio
import os
import random
import signal

import pytest

from tests.faults.conftest import SERVICES, Wounded

pytestmark = [pytest.mark.asyncio, pytest.mark.slow, pytest.mark.timeout(600)]

CONSUMER = tuple(f"K{n}" for n in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12))
RELAY = ("K13", "K14", "K15", "K16", "K17")
DOOR = ("K18", "K19")
SEED = int(os.environ.get("WARDSTREAM_SEED", "20261123"))

ARMING_RESTARTS = 1
"""A service is restarted to be armed; whatever it passes right then, a beacon say, may kill it again at once."""


def restarts(wounded: Wounded) -> dict[str, int]:
    return {name: process.restarts for name, process in wounded.stack.status(measure=False).processes.items()}


async def arm(wounded: Wounded, point: str, services: tuple[str, ...], seed: random.Random) -> None:
    """Restart the services so that each dies at `point`, at its n-th pass; what is started after that lives.

    Each is disarmed as soon as its process is there: one that dies while it starts would do so until it stays down.
    """
    for service in services:
        wounded.stack.set_env(service, {"WARDSTREAM_FAULT_POINT": f"{point}:{seed.randint(1, 3)}"})
    pids = {service: wounded.stack.kill(service) for service in services}
    waiting = set(services)
    async with asyncio.timeout(60):
        while waiting:
            running = wounded.stack.status(measure=False).processes
            for service in [one for one in waiting if running[one].pid not in (None, pids[one])]:
                wounded.stack.set_env(service, {})
                waiting.remove(service)
            await asyncio.sleep(0.05)
    for service, pid in pids.items():
        await asyncio.to_thread(wounded.stack.wait_ready, [service], seconds=90, other_than=pid)


@pytest.mark.parametrize("point", [*CONSUMER, *RELAY, *DOOR])
async def test_a_service_killed_at_this_point_loses_and_doubles_nothing(wounded: Wounded, point: str):
    before = restarts(wounded)
    await arm(wounded, point, SERVICES, random.Random(f"{SEED}{point}"))
    dead: list[str] = []
    for _ in range(4):
        await wounded.some_life()
        after = restarts(wounded)
        dead = [service for service in SERVICES if after[service] > before[service] + ARMING_RESTARTS]
        if len(dead) == len(SERVICES):
            break
    await wounded.heal()
    assert sorted(dead) == sorted(SERVICES), (
        f"seed {SEED}: at {point} only {dead} died, so the fault did not bite everywhere"
    )


async def test_billing_killed_between_ledger_lines_and_commit_posts_each_charge_once(wounded: Wounded):
    before = restarts(wounded)
    await arm(wounded, "K6", ("billing",), random.Random(SEED))
    await wounded.some_life()
    await wounded.heal()
    assert restarts(wounded)["billing"] > before["billing"] + ARMING_RESTARTS


async def test_random_kills_from_outside_leave_every_invariant_whole(wounded: Wounded):
    seed = random.Random(SEED)
    living = asyncio.create_task(wounded.some_life(stays=12, cases=4))
    for _ in range(6):
        await asyncio.sleep(seed.uniform(0.5, 2.0))
        victim = seed.choice(SERVICES)
        process = wounded.stack.status(measure=False).processes[victim]
        if process.pid is not None:
            wounded.stack.kill(victim, seed.choice((signal.SIGKILL, signal.SIGTERM)))
    await living
    await wounded.heal()
    await wounded.verdict()


async def test_all_that_was_killed_above_left_a_clean_audit(wounded: Wounded):
    await wounded.verdict()
