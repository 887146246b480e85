"""Arrears (欠费, R55) on a real database: what waits is refused beyond the limit, what is urgent never, deposits clear the flag."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing import arrears_actions
from services.billing.settings import PriceRules
from shared.access.roles import Role
from tests.integration.billing.conftest import Desk, Doors

pytestmark = pytest.mark.asyncio
RULES = PriceRules()
LIMIT_FEN = RULES.arrears.limits_fen["self_pay"]


async def at_the_limit(desk: Desk, *, short_by_fen: int = 22_00) -> UUID:
    """A self-pay stay that may owe so much more and no fen beyond."""
    await desk.furnish()
    stay = await desk.open(ward="W1")
    await desk.charge(stay, LIMIT_FEN - short_by_fen)
    return stay


async def charge(doors: Doors, who: dict[str, str], stay: UUID, **more: Any) -> Any:
    return await doors.post(who, f"{stay}/items", {"item": "LAB-CRP", **more})  # 22.00 yuan


async def flag(doors: Doors, stay: UUID) -> bool:
    shown = (await doors.get(doors.somebody(Role.BILLING_CLERK), f"{stay}/arrears")).json()
    return shown["raised_at"] is not None


async def test_up_to_the_limit_everything_is_charged_and_beyond_it_only_what_is_urgent(doors: Doors):
    stay = await at_the_limit(doors.desk)
    nurse = doors.somebody(Role.WARD_NURSE, wards=("W1",))
    assert (await charge(doors, nurse, stay)).status_code == 201
    refused = await charge(doors, nurse, stay)
    assert (refused.status_code, refused.json()["code"]) == (409, "arrears_limit")
    assert refused.json()["facts"] == {"owed_fen": LIMIT_FEN + 22_00, "limit_fen": LIMIT_FEN}
    assert (await doors.desk.account(stay))[1] == LIMIT_FEN, "what is refused changes nothing"
    assert not await flag(doors, stay)
    assert (await charge(doors, nurse, stay, urgent=True)).status_code == 201
    assert await flag(doors, stay)
    assert (await charge(doors, nurse, stay, urgent=True)).status_code == 201
    events = await doors.desk.events(stay)
    assert events.count("ArrearsRaised") == 1
    assert await doors.desk.value("SELECT count(*) FROM audit WHERE purpose = 'urgent'") == 2


async def test_a_deposit_clears_the_flag_once_it_covers_enough(doors: Doors):
    stay = await at_the_limit(doors.desk)
    clerk = doors.somebody(Role.BILLING_CLERK)
    await charge(doors, clerk, stay, quantity=2, urgent=True)
    await doors.desk.deposit(stay, 21_99)
    assert await flag(doors, stay)
    await doors.desk.deposit(stay, 1)
    assert not await flag(doors, stay)
    assert (await doors.desk.events(stay)).count("ArrearsCleared") == 1
    assert (await charge(doors, clerk, stay)).json()["code"] == "arrears_limit"


async def test_who_may_lets_a_charge_through_with_a_reason_on_record_and_nobody_else(doors: Doors):
    stay = await at_the_limit(doors.desk, short_by_fen=0)
    nurse = doors.somebody(Role.WARD_NURSE, wards=("W1",))
    assert (await charge(doors, nurse, stay, override="family_on_the_way")).status_code == 403
    assert (
        await charge(doors, doors.somebody(Role.BILLING_CLERK), stay, override="family_on_the_way")
    ).status_code == 201
    assert await doors.desk.value("SELECT count(*) FROM audit WHERE purpose = 'override:family_on_the_way'") == 1


async def test_a_credit_that_was_approved_is_the_limit(doors: Doors):
    stay = await at_the_limit(doors.desk)
    clerk, supervisor = doors.somebody(Role.BILLING_CLERK), doors.somebody(Role.BILLING_SUPERVISOR)
    await charge(doors, clerk, stay, quantity=2, urgent=True)
    order = {"limit_fen": LIMIT_FEN + 44_00, "reason": "green_channel"}
    assert (await doors.post(clerk, f"{stay}/credit", order)).status_code == 403
    assert (await doors.post(supervisor, f"{stay}/credit", order)).status_code == 200
    assert not await flag(doors, stay)
    assert (await charge(doors, clerk, stay)).status_code == 201
    assert (await charge(doors, clerk, stay)).json()["code"] == "arrears_limit"
    assert (await doors.post(supervisor, f"{stay}/credit", {**order, "limit_fen": 0})).status_code == 200
    assert await flag(doors, stay)
    assert (await doors.post(supervisor, f"{uuid4()}/credit", order)).json()["code"] == "no_account_yet"


async def test_the_look_around_puts_right_what_bed_days_reversals_and_settlements_changed(doors: Doors):
    desk = doors.desk
    stay, settled = await at_the_limit(desk, short_by_fen=0), await desk.open()
    wrong = await desk.charge(stay, 1)
    await desk.charge(settled, LIMIT_FEN + 1)
    for _ in range(2):
        await arrears_actions.judge_all(desk.db, RULES.arrears)
        assert [await flag(doors, one) for one in (stay, settled)] == [True, True]
    await desk.reverse(stay, wrong.entry_id)
    await desk.settle(settled, LIMIT_FEN + 1)
    await arrears_actions.judge_all(desk.db, RULES.arrears)
    assert [await flag(doors, one) for one in (stay, settled)] == [False, False]
    for one in (stay, settled):
        events = await desk.events(one)
        assert (events.count("ArrearsRaised"), events.count("ArrearsCleared")) == (1, 1)


async def test_what_is_asked_as_a_deposit_is_told_by_payer_and_disease(doors: Doors):
    clerk = doors.somebody(Role.SERVICE_CENTRE_CLERK)
    told = (await doors.get(clerk, "../deposit-rule?payer_kind=basic_insurance&disease=delivery")).json()
    assert told == {"payer_kind": "basic_insurance", "disease": "delivery", "deposit_fen": 1000_00}
    assert (await doors.get(clerk, "../deposit-rule?payer_kind=nobody")).status_code == 422
