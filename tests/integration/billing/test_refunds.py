"""Large refunds need a second person (双人复核), on a real database, whoever comes first."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing import recon_store, refund_actions
from services.billing.actions import Refunded
from services.billing.domain import AlreadyReversed, NotOpen
from services.billing.refund_actions import Asked, AskedAlready, DecidedAlready, Moved, NotTheirs, OwnRequest, Turned
from shared.access.roles import Role
from shared.db import transaction
from tests.integration.billing.conftest import NOON, Desk, Doors

pytestmark = pytest.mark.asyncio
ALONE_FEN_MAX = 1_000_00


async def ask(desk: Desk, who: UUID, stay: UUID, deposit: UUID, fen: int | None = None) -> Any:
    return await desk.do(
        refund_actions.give_back,
        encounter_id=stay,
        entry_id=deposit,
        amount_fen=fen,
        asked_by=who,
        alone_fen_max=ALONE_FEN_MAX,
    )


async def agree(desk: Desk, who: UUID, request: UUID) -> Any:
    return await desk.do(refund_actions.agree, request_id=request, agreed_by=who)


async def test_a_small_refund_is_given_at_once_and_small_ones_that_add_up_need_a_second_person(desk: Desk):
    stay = await desk.open()
    deposit = (await desk.deposit(stay, 5_000_00)).entry_id
    anna = uuid4()
    assert isinstance(await ask(desk, anna, stay, deposit, 600_00), Refunded)
    assert isinstance(await ask(desk, anna, stay, deposit, 400_00), Refunded)
    asked = await ask(desk, anna, stay, deposit, 1)
    assert isinstance(asked, Asked)
    assert await desk.account(stay) == ("open", 0, 4_000_00)
    assert isinstance(await agree(desk, uuid4(), asked.request_id), Refunded)
    assert await desk.account(stay) == ("open", 0, 3_999_99)


async def test_nothing_is_given_back_before_somebody_else_agrees_and_then_once(desk: Desk):
    stay = await desk.open()
    deposit = (await desk.deposit(stay, 5_000_00)).entry_id
    anna = uuid4()
    asked = await ask(desk, anna, stay, deposit)
    assert isinstance(asked, Asked)
    assert await ask(desk, anna, stay, deposit) == AskedAlready()
    assert await agree(desk, anna, asked.request_id) == OwnRequest()
    assert await desk.account(stay) == ("open", 0, 5_000_00)
    agreed = await asyncio.gather(*(agree(desk, uuid4(), asked.request_id) for _ in range(20)))
    assert Counter(type(one) for one in agreed) == {Refunded: 1, DecidedAlready: 19}
    assert await desk.account(stay) == ("open", 0, 0)
    assert (await desk.events(stay)).count("DepositRefunded") == 1


async def test_cash_leaves_the_drawer_of_who_asked(desk: Desk):
    stay = await desk.open()
    deposit = (await desk.deposit(stay, 5_000_00)).entry_id
    anna = uuid4()
    asked = await ask(desk, anna, stay, deposit)
    refunded = await agree(desk, uuid4(), asked.request_id)
    assert await desk.value("SELECT cashier FROM entry WHERE id = $1", refunded.entry_id) == anna


async def test_a_refused_request_gives_nothing_back_and_may_be_asked_anew(desk: Desk):
    stay = await desk.open()
    deposit = (await desk.deposit(stay, 5_000_00)).entry_id
    asked = await ask(desk, uuid4(), stay, deposit)
    turned = await desk.do(refund_actions.turn_down, request_id=asked.request_id, decided_by=uuid4(), reason="not_due")
    assert isinstance(turned, Turned)
    assert await agree(desk, uuid4(), asked.request_id) == DecidedAlready("refused")
    assert await desk.account(stay) == ("open", 0, 5_000_00)
    assert isinstance(await ask(desk, uuid4(), stay, deposit), Asked)


async def test_what_was_asked_is_judged_again_when_it_is_agreed_to(desk: Desk):
    stay = await desk.open()
    deposit = (await desk.deposit(stay, 5_000_00)).entry_id
    asked = await ask(desk, uuid4(), stay, deposit)
    await desk.charge(stay, 100)
    await desk.settle(stay, 100)
    assert await agree(desk, uuid4(), asked.request_id) == NotOpen("closed")
    await desk.reopen(stay)
    assert isinstance(await desk.refund(stay, deposit), Refunded)
    assert await agree(desk, uuid4(), asked.request_id) == AlreadyReversed()


async def test_the_database_itself_refuses_one_person_in_both_places_and_a_changed_sum(desk: Desk):
    stay = await desk.open()
    deposit = (await desk.deposit(stay, 5_000_00)).entry_id
    anna = uuid4()
    await ask(desk, anna, stay, deposit)
    with pytest.raises(asyncpg.CheckViolationError, match="done_by_two_people"):
        await desk.value(
            "UPDATE refund_request SET state = 'done', decided_by = $1, decided_at = now(), refund_entry_id = $2",
            anna,
            deposit,
        )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await desk.value("UPDATE refund_request SET amount_fen = 1")
    with pytest.raises(asyncpg.PostgresError):
        await desk.value("DELETE FROM refund_request")


async def test_at_the_doors_a_clerk_asks_and_another_agrees(doors: Doors):
    stay = await doors.desk.open()
    deposit = (await doors.desk.deposit(stay, 9_000_00)).entry_id
    anna, ben = doors.somebody(Role.BILLING_CLERK), doors.somebody(Role.BILLING_SUPERVISOR)
    answer = await doors.post(anna, f"{stay}/deposits/{deposit}/refund", {})
    assert (answer.status_code, answer.json()["state"]) == (202, "asked")
    request = answer.json()["request_id"]
    at = "/api/billing/refund-requests"

    async def decide(who: dict[str, str], how: str, body: object = None) -> tuple[int, str]:
        said = await doors.http.post(
            f"{at}/{request}/{how}", json=body, headers={"Idempotency-Key": uuid4().hex, **who}
        )
        return said.status_code, said.json().get("code", "")

    listed = (await doors.http.get(at, headers=anna)).json()["requests"]
    assert [(one["request_id"], one["amount_fen"], one["own"]) for one in listed] == [(request, 9_000_00, True)]
    assert (await doors.http.get(at, headers=doors.somebody(Role.WARD_NURSE, wards=("3A",)))).status_code == 403
    assert await decide(anna, "approval") == (403, "own_request")
    assert await decide(ben, "approval") == (201, "")
    assert await decide(ben, "approval") == (409, "request_decided")
    assert await decide(ben, "refusal", {"reason": "not_due"}) == (409, "request_decided")
    assert (await doors.http.get(at, headers=ben)).json() == {"requests": [], "next": None}
    assert await doors.desk.account(stay) == ("open", 0, 0)


# ---- to another account of the patient -------------------------------------------------------------------------------


async def move(desk: Desk, stay: UUID, deposit: UUID, to: UUID, fen: int | None = None) -> Any:
    return await desk.do(
        refund_actions.move_deposit, encounter_id=stay, entry_id=deposit, amount_fen=fen, to_encounter_id=to
    )


async def test_a_deposit_moves_to_the_patients_other_account_and_no_money_moves(desk: Desk):
    patient = uuid4()
    day_case, stay = await desk.open(patient_tok=patient), await desk.open(patient_tok=patient)
    deposit = (await desk.deposit(day_case, 800_00)).entry_id
    before = await desk.balances()
    moved = await move(desk, day_case, deposit, stay, 300_00)
    assert isinstance(moved, Moved)
    assert (await desk.account(day_case), await desk.account(stay)) == (("open", 0, 500_00), ("open", 0, 300_00))
    assert isinstance(await move(desk, day_case, deposit, stay), Moved)
    assert (await desk.account(day_case), await desk.account(stay)) == (("open", 0, 0), ("open", 0, 800_00))
    assert await desk.balances() == before
    assert isinstance(await desk.refund(stay, moved.came.entry_id), Refunded)
    assert await desk.balances() == {"cash": 500_00, "deposits": -500_00}


async def test_a_deposit_never_moves_to_somebody_else_or_to_no_account(desk: Desk):
    stay, other = await desk.open(), await desk.open()
    deposit = (await desk.deposit(stay, 800_00)).entry_id
    for target in (other, stay, uuid4()):
        assert await move(desk, stay, deposit, target) == NotTheirs()
    assert await desk.account(stay) == ("open", 0, 800_00)


async def test_moves_against_each_other_never_wait_in_a_circle_and_lose_no_fen(desk: Desk):
    patient = uuid4()
    one, two = await desk.open(patient_tok=patient), await desk.open(patient_tok=patient)
    here = [(await desk.deposit(one, 10_00)).entry_id for _ in range(20)]
    there = [(await desk.deposit(two, 10_00)).entry_id for _ in range(20)]
    moved = await asyncio.gather(
        *(move(desk, one, deposit, two) for deposit in here), *(move(desk, two, deposit, one) for deposit in there)
    )
    assert {type(each) for each in moved} == {Moved}
    assert (await desk.account(one), await desk.account(two)) == (("open", 0, 200_00), ("open", 0, 200_00))


async def test_a_move_is_no_cash_outside_the_drawers(desk: Desk):
    patient = uuid4()
    one, two = await desk.open(patient_tok=patient), await desk.open(patient_tok=patient)
    deposit = (await desk.deposit(one, 10_00)).entry_id
    before = await desk.value("SELECT count(*) FROM entry WHERE cash_shift_id IS NULL")
    await move(desk, one, deposit, two)
    async with transaction(desk.db) as tx:
        found = await recon_store.list_cash_outside_shifts(tx, (NOON - timedelta(days=999), NOON + timedelta(days=999)))
    assert (before, [difference.ours_fen for difference in found]) == (1, [10_00])


async def test_the_database_itself_refuses_an_uneven_move(desk: Desk):
    one, two = await desk.open(), await desk.open()
    here, there = (await desk.deposit(one, 10_00)).entry_id, (await desk.deposit(two, 10_00)).entry_id
    with pytest.raises(asyncpg.CheckViolationError, match="same patient"):
        await desk.value("INSERT INTO deposit_move VALUES ($1, $2)", here, there)
