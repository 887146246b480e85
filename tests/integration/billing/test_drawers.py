"""Cash drawers (收费员班次) on a real database: an entry that moves cash belongs to one drawer, however the counting races it."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing import actions, drawer_actions, refund_actions
from services.billing.drawer import Counted, NoOpenShift, ReasonNeeded, Shift, ShiftOpen
from shared.access.roles import Role
from shared.db import transaction
from shared.money import FEN_MAX
from tests.integration.billing.conftest import Desk, Doors

pytestmark = pytest.mark.asyncio


async def by(desk: Desk, cashier: UUID, action: Any, **facts: Any) -> Any:
    """Do one action as this cashier."""
    async with transaction(desk.db) as tx:
        tx.actor = cashier
        return await action(tx, **facts)


async def take(desk: Desk, cashier: UUID, stay: UUID, fen: int, method: str = "cash") -> Any:
    return await by(desk, cashier, actions.take_deposit, encounter_id=stay, amount_fen=fen, method=method)


async def give_back(desk: Desk, cashier: UUID, stay: UUID, entry_id: UUID, fen: int) -> Any:
    return await desk.do(
        refund_actions.give_back,
        encounter_id=stay,
        entry_id=entry_id,
        amount_fen=fen,
        asked_by=cashier,
        alone_fen_max=FEN_MAX,
    )


async def start(desk: Desk, cashier: UUID, float_fen: int = 500_00) -> Any:
    return await desk.do(drawer_actions.open_shift, cashier=cashier, float_fen=float_fen)


async def finish(desk: Desk, cashier: UUID, counted_fen: int, reason: str | None = None) -> Any:
    return await desk.do(drawer_actions.close_shift, cashier=cashier, counted_fen=counted_fen, reason=reason)


async def test_a_drawer_counts_its_own_cash_and_nothing_else(desk: Desk):
    anna, ben = uuid4(), uuid4()
    stay = await desk.open()
    await take(desk, anna, stay, 7_00)  # before the drawer was opened
    assert isinstance(await start(desk, anna), Shift)
    await take(desk, anna, stay, 100_00)
    await take(desk, anna, stay, 33_00, "bank_card")
    await take(desk, ben, stay, 55_00)
    deposit = await take(desk, anna, stay, 20_05)
    await give_back(desk, anna, stay, deposit.entry_id, 5)
    assert await finish(desk, anna, 619_99) == ReasonNeeded(-1)
    counted = await finish(desk, anna, 619_99, "miscounted_change")
    assert isinstance(counted, Counted)
    assert (counted.shift.expected_fen, counted.difference_fen, counted.shift.entries) == (620_00, -1, 3)
    found = await desk.fetch("SELECT party, kind, object, ours_fen, theirs_fen FROM recon_diff")
    assert [tuple(row) for row in found] == [("drawer", "counted", str(counted.shift.id), 620_00, 619_99)]
    assert await finish(desk, anna, 0) == NoOpenShift()


async def test_a_cashier_has_one_drawer_at_a_time_even_when_twenty_are_opened_at_once(desk: Desk):
    anna = uuid4()
    opened = await asyncio.gather(*(start(desk, anna) for _ in range(20)))
    assert [type(one) for one in opened].count(Shift) == 1
    assert [type(one) for one in opened].count(ShiftOpen) == 19
    assert await desk.value("SELECT count(*) FROM cash_shift WHERE cashier = $1", anna) == 1
    with pytest.raises(asyncpg.ExclusionViolationError, match="one_drawer_at_a_time"):
        await desk.fetch(
            "INSERT INTO cash_shift (id, cashier, opened_at, float_fen) VALUES (gen_random_uuid(), $1, clock_timestamp(), 0)",
            anna,
        )


async def test_the_drawers_of_a_cashier_hold_all_the_cash_of_the_cashier_however_the_counting_races_it(desk: Desk):
    anna = uuid4()
    stays = [await desk.open() for _ in range(8)]
    await start(desk, anna, 0)
    taken: list[int] = []

    async def serve(stay: UUID, first_fen: int) -> None:
        for fen in range(first_fen, first_fen + 12):
            await take(desk, anna, stay, fen)
            taken.append(fen)

    async def hand_over() -> None:
        """Count the drawer and open the next one in the same transaction, so that the desk is never without one."""
        for _ in range(15):
            async with transaction(desk.db) as tx:
                closed = await drawer_actions.close_shift(tx, cashier=anna, counted_fen=0, reason="unexplained")
                assert isinstance(closed, Counted)
                await asyncio.sleep(0.005)
                await drawer_actions.open_shift(tx, cashier=anna, float_fen=0)
            await asyncio.sleep(0.005)

    await asyncio.gather(hand_over(), *(serve(stay, 1 + 100 * n) for n, stay in enumerate(stays)))
    await finish(desk, anna, 0, "unexplained")
    assert len(taken) == 96
    assert await desk.value("SELECT count(*) FROM entry WHERE cashier = $1 AND cash_shift_id IS NULL", anna) == 0
    assert await desk.value("SELECT sum(expected_fen) FROM cash_shift WHERE cashier = $1", anna) == sum(taken)
    in_use = "SELECT count(DISTINCT cash_shift_id) FROM entry WHERE cashier = $1"
    assert await desk.value(in_use, anna) > 1, "the race must have spread the cash over several drawers"


async def test_a_counted_drawer_never_changes_and_says_what_the_ledger_says(desk: Desk):
    anna = uuid4()
    shift = await start(desk, anna)
    with pytest.raises(asyncpg.CheckViolationError, match="its float and the cash"):
        await desk.fetch(
            "UPDATE cash_shift SET closed_at = clock_timestamp(), expected_fen = 1, counted_fen = 1 WHERE id = $1",
            shift.id,
        )
    await finish(desk, anna, 500_00)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="closed once"):
        await desk.fetch("UPDATE cash_shift SET counted_fen = 1, reason = 'unexplained' WHERE id = $1", shift.id)


async def test_a_clerk_opens_counts_and_closes_at_the_doors(doors: Doors):
    clerk, nurse = doors.somebody(Role.BILLING_CLERK), doors.somebody(Role.WARD_NURSE, wards=("W1",))
    path = "../cash-shifts"
    assert (await doors.get(clerk, f"{path}/current")).json()["code"] == "no_open_shift"
    opened = await doors.post(clerk, path, {"float_fen": 500_00})
    assert (opened.status_code, opened.json()["expected_fen"]) == (201, 500_00)
    assert (await doors.post(clerk, path, {"float_fen": 1})).json()["code"] == "shift_open"
    assert (await doors.post(nurse, path, {"float_fen": 1})).status_code == 403
    stay = await doors.desk.open()
    await doors.post(clerk, f"{stay}/deposits", {"amount_fen": 42_01, "method": "cash"})
    assert (await doors.get(clerk, f"{path}/current")).json()["expected_fen"] == 542_01
    short = await doors.post(clerk, f"{path}/current/closing", {"counted_fen": 542_00})
    assert (short.json()["code"], short.json()["facts"]) == ("reason_needed", {"difference_fen": -1})
    closed = await doors.post(clerk, f"{path}/current/closing", {"counted_fen": 542_00, "reason": "miscounted_change"})
    assert (closed.status_code, closed.json()["difference_fen"]) == (200, -1)
    listed = (await doors.get(doors.somebody(Role.BILLING_SUPERVISOR), f"{path}?limit=1")).json()
    assert [one["counted_fen"] for one in listed["shifts"]] == [542_00]
    assert (await doors.get(doors.somebody(Role.DOCTOR), path)).status_code == 403
