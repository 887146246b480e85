"""The clerk's worklist on a real database: whoever left and is not settled is on it, in every state (D10)."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.billing import bill_actions
from shared.access.roles import Role
from shared.contracts.admission import DischargeCancelled, PatientDischarged
from shared.contracts.daysurgery import DaySurgeryDischarged
from tests.integration.billing.conftest import NOON, Desk, Doors

pytestmark = pytest.mark.asyncio


async def leave(desk: Desk, stay: UUID, minutes: int = 60) -> None:
    await desk.tell(
        PatientDischarged(
            encounter_id=stay,
            patient_tok=uuid4(),
            disposition="1",
            specialty="surgery",
            discharged_at=NOON - timedelta(minutes=minutes),
        )
    )


async def come_back(desk: Desk, stay: UUID) -> None:
    await desk.tell(
        DischargeCancelled(encounter_id=stay, patient_tok=uuid4(), reason="wrong_patient", bed_id=1, cancelled_at=NOON)
    )


async def listed(doors: Doors, query: str = "") -> dict[UUID, str]:
    """Return who is on the worklist and why, over all pages."""
    clerk, path, found = doors.somebody(Role.BILLING_CLERK), f"../worklist{query}", {}
    while path:
        page = (await doors.get(clerk, path)).json()
        for one in page["unsettled"]:
            assert UUID(one["encounter_id"]) not in found, "nobody is listed twice"
            found[UUID(one["encounter_id"])] = one["blocker"]
        path = page["next"] and page["next"].replace("/api/billing", "..")
    return found


async def test_who_left_is_listed_until_the_account_is_settled_and_again_when_it_is_reopened(doors: Doors):
    desk = doors.desk
    stay = await desk.open()
    await desk.charge(stay, 50_00)
    assert await listed(doors) == {}
    await leave(desk, stay)
    assert await listed(doors) == {stay: "no_bill"}
    await leave(desk, stay)
    assert await listed(doors) == {stay: "no_bill"}
    await desk.settle(stay, 50_00)
    assert await listed(doors) == {}
    await desk.reopen(stay)
    assert await listed(doors) == {stay: "reopened"}
    await come_back(desk, stay)
    assert await listed(doors) == {}


async def test_in_whatever_state_an_account_is_who_left_without_settling_is_listed(doors: Doors):
    desk = doors.desk
    expected: dict[UUID, str] = {}

    async def somebody(word: str | None, charged_fen: int = 10_00) -> UUID:
        stay = await desk.open()
        await desk.charge(stay, charged_fen)
        await leave(desk, stay, minutes=len(expected))
        if word is not None:
            expected[stay] = word
        return stay

    async def bill(stay: UUID) -> bill_actions.OnBill:
        made = await desk.do(bill_actions.draft_bill, encounter_id=stay, as_self_pay=True, fund_connected=False)
        assert isinstance(made, bill_actions.OnBill)
        return made

    await somebody("no_bill")
    await bill(await somebody("quoted"))
    changed = await somebody("lines_changed")
    await bill(changed)
    await desk.charge(changed, 1)
    collecting = await somebody("collecting")
    made = await bill(collecting)
    await desk.do(
        bill_actions.confirm_bill,
        encounter_id=collecting,
        bill_id=made.bill.id,
        shown_hash=made.bill.lines_hash,
    )
    given_up = await somebody("no_bill")
    made = await bill(given_up)
    await desk.do(bill_actions.cancel_bill, encounter_id=given_up, bill_id=made.bill.id)
    await desk.settle(await somebody(None), 10_00)
    await desk.void(await somebody(None))
    unheard_of = uuid4()  # the discharge was read before the admission
    await desk.tell(
        DaySurgeryDischarged(
            case_id=uuid4(),
            encounter_id=unheard_of,
            patient_tok=uuid4(),
            procedure="hernia",
            disposition="1",
            discharged_at=NOON,
        )
    )
    expected[unheard_of] = "no_account"
    assert await listed(doors, "?limit=2") == expected
    desk.db.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
    assert "quote_expired" in (await listed(doors)).values()


async def test_the_longest_waiting_comes_first_and_bills_nobody_knows_about_are_shown(doors: Doors):
    desk = doors.desk
    stays = [await desk.open() for _ in range(3)]
    for minutes, stay in zip((10, 300, 60), stays, strict=True):
        await leave(desk, stay, minutes)
    assert list(await listed(doors)) == [stays[1], stays[2], stays[0]]
    await desk.charge(stays[0], 10_00)
    await desk.do(bill_actions.note_coverage, encounter_id=stays[0], psn_no="310A0001")
    await desk.do(bill_actions.draft_bill, encounter_id=stays[0], as_self_pay=False, fund_connected=True)
    for state in ("quoted", "locking", "payer_pending", "payer_unknown"):
        await desk.fetch("UPDATE bill SET state = $1", state)
    await desk.fetch("UPDATE account SET state = 'billing' WHERE encounter_id = $1", stays[0])
    page = (await doors.get(doors.somebody(Role.BILLING_CLERK), "../worklist")).json()
    assert page["unsettled"][-1]["blocker"] == "payer_unknown"
    assert [one["encounter_id"] for one in page["unknown"]] == [str(stays[0])]
    assert page["unknown"][0]["unknown_seconds"] >= 0
    assert (await doors.get(doors.somebody(Role.DOCTOR), "../worklist")).status_code == 403


async def test_a_day_of_discharges_is_counted_with_a_reason_for_each_miss(doors: Doors):
    desk = doors.desk
    settled, late = await desk.open(), await desk.open()
    for stay in (settled, late):
        await desk.charge(stay, 10_00)
        await leave(desk, stay)
    await desk.settle(settled, 10_00)
    desk.db.clock.advance(timedelta(days=1))  # type: ignore[attr-defined]
    clerk = doors.somebody(Role.BILLING_CLERK)
    found = (await doors.get(clerk, "../same-day-settlement?day=2026-03-02")).json()
    assert (found["left"], found["on_the_day"]) == (2, {"kept": 1, "missed": 1, "running": 0})
    assert found["within_3_working_days"] == {"kept": 1, "missed": 0, "running": 1}
    assert found["reasons"] == {"not_settled_yet": 1}
    assert [one["encounter_id"] for one in found["misses"]] == [str(late)]
    assert (await doors.get(clerk, "../same-day-settlement?day=tomorrow")).status_code == 422
