"""Many hands at one account: whoever comes first, there is one effect and no fen too many."""

import asyncio
import functools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest

from services.billing.actions import Charged, Refunded, Reopened, Reversed, Settled
from services.billing.domain import AlreadyReversed, NotOpen, NotSettled, QuoteOutdated
from shared.access.roles import Role
from tests.integration.billing.conftest import Desk, Doors

pytestmark = pytest.mark.asyncio
HANDS = 64


Call = Callable[[], Awaitable[Any]]


async def together(calls: Sequence[Call]) -> list[Any]:
    """Release all calls at once."""
    gate = asyncio.Event()

    async def one(call: Call) -> Any:
        await gate.wait()
        return await call()

    waiting = [asyncio.create_task(one(call)) for call in calls]
    await asyncio.sleep(0)
    gate.set()
    return await asyncio.gather(*waiting)


def kinds(outcomes: Sequence[object]) -> dict[str, int]:
    return dict(Counter(type(outcome).__name__ for outcome in outcomes))


async def test_sixty_four_charges_at_once_all_count_and_every_running_total_is_different(desk: Desk):
    stay = await desk.open()
    outcomes = await together([functools.partial(desk.charge, stay, fen) for fen in range(1, HANDS + 1)])
    total = HANDS * (HANDS + 1) // 2
    assert kinds(outcomes) == {Charged.__name__: HANDS}
    assert len({outcome.charged_fen for outcome in outcomes}) == HANDS
    assert await desk.account(stay) == ("open", total, 0)
    versions = await desk.fetch("SELECT version FROM outbox WHERE correlation_id = $1 ORDER BY id", stay)
    assert [row["version"] for row in versions] == list(range(1, HANDS + 2)), "events follow the order of the postings"


async def test_sixty_four_wards_charge_side_by_side_without_waiting_for_one_row(desk: Desk):
    stays = [await desk.open() for _ in range(HANDS)]
    async with desk.db.pool.acquire() as conn:
        slow_ward = conn.transaction()
        await slow_ward.start()
        await conn.execute("SELECT post_charge($1, $2, 'slow', 5, now())", stays[0], uuid4())
        # That charge is not committed yet, and it credits the same revenue; nobody else waits for it.
        outcomes = await asyncio.wait_for(together([functools.partial(desk.charge, stay, 5) for stay in stays[1:]]), 10)
        await slow_ward.rollback()
    assert kinds(outcomes) == {Charged.__name__: HANDS - 1}
    assert await desk.balances() == {"receivable": 5 * (HANDS - 1), "revenue": -5 * (HANDS - 1)}


async def test_sixty_four_reversals_of_one_charge_have_one_effect(desk: Desk):
    stay = await desk.open()
    charge = await desk.charge(stay, 10_00)
    await desk.charge(stay, 1_00)
    outcomes = await together([lambda: desk.reverse(stay, charge.entry_id)] * HANDS)
    assert kinds(outcomes) == {Reversed.__name__: 1, AlreadyReversed.__name__: HANDS - 1}
    assert await desk.account(stay) == ("open", 1_00, 0)


async def test_sixty_four_refunds_of_one_deposit_pay_out_once(desk: Desk):
    stay = await desk.open()
    deposit = await desk.deposit(stay, 10_00)
    await desk.deposit(stay, 90_00)
    outcomes = await together([lambda: desk.refund(stay, deposit.entry_id)] * HANDS)
    assert kinds(outcomes) == {Refunded.__name__: 1, AlreadyReversed.__name__: HANDS - 1}
    assert await desk.balances() == {"cash": 90_00, "deposits": -90_00}


async def test_sixty_four_settlements_of_one_account_collect_once(desk: Desk):
    stay = await desk.open()
    await desk.charge(stay, 10_00)
    outcomes = await together([lambda: desk.settle(stay, 10_00)] * HANDS)
    assert kinds(outcomes) == {Settled.__name__: 1, NotOpen.__name__: HANDS - 1}
    assert await desk.balances() == {"cash": 10_00, "revenue": -10_00}
    outcomes = await together([lambda: desk.reopen(stay)] * HANDS)
    assert kinds(outcomes) == {Reopened.__name__: 1, NotSettled.__name__: HANDS - 1}
    assert await desk.account(stay) == ("open", 10_00, 0)


async def test_charges_deposits_and_a_settlement_at_once_never_leave_a_fen_outside(desk: Desk):
    for _ in range(12):
        stay = await desk.open()
        await desk.charge(stay, 10_00)
        calls = [
            functools.partial(desk.charge, stay, 1),
            functools.partial(desk.deposit, stay, 5_00),
            functools.partial(desk.settle, stay, 10_00),
        ] * 4
        random.shuffle(calls)
        outcomes = await together(calls)
        state, owed, held = await desk.account(stay)
        charged = sum(isinstance(outcome, Charged) for outcome in outcomes)
        settled = [outcome for outcome in outcomes if isinstance(outcome, Settled)]
        if settled:
            assert (state, owed, held, len(settled)) == ("closed", 0, 0, 1)
            assert (settled[0].settlement.charged_fen, charged) == (10_00, 0), (
                "a charge that was not on the quote came later"
            )
        else:
            assert (state, owed) == ("open", 10_00 + charged)
            assert any(isinstance(outcome, QuoteOutdated) for outcome in outcomes)
        assert await desk.violations() == []


async def test_a_settlement_uses_the_deposit_that_came_while_it_waited(desk: Desk):
    stay = await desk.open()
    await desk.charge(stay, 10_00)
    async with desk.db.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("SELECT 1 FROM account WHERE encounter_id = $1 FOR UPDATE", stay)
        deposit = asyncio.create_task(desk.deposit(stay, 4_00))
        await asyncio.sleep(0.3)
        settlement = asyncio.create_task(desk.settle(stay, 10_00))
        await asyncio.sleep(0.3)
        await transaction.commit()
    await deposit
    assert (await settlement).settlement.deposits_fen == 4_00


async def test_the_same_request_sent_sixty_four_times_is_done_once_and_answered_alike(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    charge = (await doors.post(clerk, f"{stay}/charges", {"item": "x", "amount_fen": 10_00})).json()
    await doors.post(clerk, f"{stay}/charges", {"item": "y", "amount_fen": 1_00})
    for path, body in (
        (f"{stay}/charges/{charge['entry_id']}/reversal", {"reason": "wrong_item"}),
        (f"{stay}/settlement", {"method": "cash", "charged_fen": 1_00}),
    ):
        key = uuid4().hex
        answers = await together([functools.partial(doors.post, clerk, path, body, key=key)] * HANDS)
        done = [answer for answer in answers if answer.status_code == 201]
        assert {answer.status_code for answer in answers} <= {201, 409, 503}
        assert {answer.json().get("code") for answer in answers if answer.status_code != 201} <= {"in_progress", "busy"}
        assert len({answer.text for answer in done}) == 1
        assert sum("Idempotency-Replayed" not in answer.headers for answer in done) == 1
        again = await doors.post(clerk, path, body, key=key)
        assert (again.status_code, again.text) == (201, done[0].text)
    assert await doors.desk.balances() == {"cash": 1_00, "revenue": -1_00}
    assert await doors.desk.value("SELECT count(*) FROM settlement") == 1


async def test_sixty_four_different_requests_for_one_settlement_or_reversal_have_one_effect(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    charge = (await doors.post(clerk, f"{stay}/charges", {"item": "x", "amount_fen": 10_00})).json()
    await doors.post(clerk, f"{stay}/charges", {"item": "y", "amount_fen": 1_00})
    for path, body, code in (
        (f"{stay}/charges/{charge['entry_id']}/reversal", {"reason": "wrong_item"}, "already_reversed"),
        (f"{stay}/settlement", {"method": "cash", "charged_fen": 1_00}, "account_closed"),
        (f"{stay}/settlement-reopening", {"reason": "late_charge"}, "not_settled"),
    ):
        answers = await together([functools.partial(doors.post, clerk, path, body)] * HANDS)
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * (HANDS - 1)
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {code}
    assert await doors.desk.account(stay) == ("open", 1_00, 0)
