"""Charges that come at the same time share a commit, and each is still its own: key, answer, event, audit row, refusal."""

import asyncio
from uuid import uuid4

import pytest

from shared.access.roles import Role
from tests.integration.billing.conftest import Doors

pytestmark = pytest.mark.asyncio
CHARGE = {"item": "blood.count", "amount_fen": 100}


async def test_a_rush_of_charges_shares_commits_and_each_counts_once(doors: Doors):
    stays = [await doors.desk.open("3A") for _ in range(4)]
    clerk = doors.somebody(Role.BILLING_CLERK)
    answers = await asyncio.gather(
        *(doors.post(clerk, f"{stays[number % 4]}/charges", CHARGE, key=f"rush-{number:04}") for number in range(96))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["entry_id"] for answer in answers}) == 96
    for number, stay in enumerate(stays):
        assert await doors.desk.account(stay) == ("open", 2_400, 0)
        sums = sorted(answer.json()["charged_fen"] for answer in answers[number::4])
        assert sums == [100 * times for times in range(1, 25)], "each saw the sum after its own charge"
    for table, rows in (("entry", 96), ("idem", 96), ("outbox WHERE type LIKE '%ChargePosted%'", 96), ("audit", 96)):
        assert await doors.desk.value(f"SELECT count(*) FROM {table}") == rows, table
    assert await doors.desk.value("SELECT count(DISTINCT xmin::text) FROM entry") < 96, "no two shared a commit"


async def test_who_is_refused_in_a_rush_hurts_nobody_else(doors: Doors):
    stay, closed = await doors.desk.open("3A"), await doors.desk.open("3A")
    await doors.desk.settle(closed, 0)
    clerk, stranger = doors.somebody(Role.BILLING_CLERK), doors.somebody(Role.WARD_NURSE, wards=("9C",))
    good = [doors.post(clerk, f"{stay}/charges", CHARGE) for _ in range(40)]
    late = [doors.post(clerk, f"{closed}/charges", CHARGE) for _ in range(4)]
    foreign = [doors.post(stranger, f"{stay}/charges", CHARGE) for _ in range(4)]
    answers = await asyncio.gather(*good, *late, *foreign)
    assert [answer.status_code for answer in answers] == [201] * 40 + [409] * 4 + [403] * 4
    assert await doors.desk.account(stay) == ("open", 4_000, 0)
    assert await doors.desk.value("SELECT count(*) FROM audit WHERE outcome = 'denied'") == 4


async def test_one_key_sent_many_times_in_a_rush_is_one_charge(doors: Doors):
    stay = await doors.desk.open("3A")
    clerk, key = doors.somebody(Role.BILLING_CLERK), uuid4().hex
    same = [doors.post(clerk, f"{stay}/charges", CHARGE, key=key) for _ in range(20)]
    others = [doors.post(clerk, f"{stay}/charges", CHARGE) for _ in range(20)]
    answers = await asyncio.gather(*same, *others)
    assert {answer.status_code for answer in answers[20:]} == {201}
    told = {answer.json()["entry_id"] for answer in answers[:20] if answer.status_code == 201}
    assert len(told) == 1
    assert all(answer.status_code == 201 or answer.json()["code"] == "in_progress" for answer in answers[:20])
    assert await doors.desk.account(stay) == ("open", 2_100, 0)


async def test_a_row_somebody_holds_delays_its_own_charge_and_no_other(doors: Doors):
    held, free = await doors.desk.open("3A"), await doors.desk.open("3A")
    clerk = doors.somebody(Role.BILLING_CLERK)
    async with doors.desk.db.pool.acquire() as conn:
        holding = conn.transaction()
        await holding.start()
        await conn.execute("SELECT FROM account WHERE encounter_id = $1 FOR UPDATE", held)
        waiting = asyncio.create_task(doors.post(clerk, f"{held}/charges", CHARGE))
        done = await asyncio.gather(*(doors.post(clerk, f"{free}/charges", CHARGE) for _ in range(12)))
        assert {answer.status_code for answer in done} == {201}
        assert not waiting.done()
        await holding.rollback()
    assert (await waiting).status_code == 201
    assert await doors.desk.violations() == []
