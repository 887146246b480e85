"""Follow-up on a real database: every discharge has its plan, every task its end, and nobody is called who may not be."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.access.roles import Role
from tests.integration.followup.conftest import DAY, MONDAY, Office

pytestmark = pytest.mark.asyncio


def at(days: float) -> str:
    """So many days after the Monday, as it is written in an address."""
    return (MONDAY + days * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_a_discharge_opens_a_plan_with_all_its_tasks_at_once(office: Office) -> None:
    patient_tok, stay = await office.stay()
    assert await office.names() == ["FollowUpPlanActivated", "FollowUpTasksCreated"]
    created = (await office.told("FollowUpTasksCreated"))[0]
    assert [task["item"] for task in created["tasks"]] == ["t3", "t7", "t30"]
    assert (await office.told("FollowUpPlanActivated"))[0]["patient_tok"] == str(patient_tok)
    assert await office.states(stay) == ["active", "requested", "requested", "requested"]
    assert await office.due(stay) == [3, 7, 30]
    correlations = await office.db.pool.fetch("SELECT DISTINCT correlation_id FROM outbox")
    assert [row["correlation_id"] for row in correlations] == [stay]


async def test_a_discharge_costs_two_statements(office: Office) -> None:
    patient_tok = uuid4()
    stay = await office.admit(patient_tok, at=MONDAY - 7 * DAY)
    assert await office.discharge(patient_tok, stay) == 2


async def test_a_discharge_that_resumes_older_plans_costs_two_statements_too(office: Office) -> None:
    patient_tok, first = await office.stay()
    second = await office.admit(patient_tok)
    office.clock.advance(2 * DAY)
    assert await office.discharge(patient_tok, second) == 2
    assert (await office.states(first))[0] == "active"


async def test_a_repeated_discharge_plans_once(office: Office) -> None:
    patient_tok = uuid4()
    stay = await office.admit(patient_tok, at=MONDAY - DAY)
    await asyncio.gather(*(office.discharge(patient_tok, stay) for _ in range(20)))
    assert await office.names() == ["FollowUpPlanActivated", "FollowUpTasksCreated"]
    assert await office.db.pool.fetchval("SELECT count(*) FROM task") == 3


async def test_twenty_discharges_of_one_patient_at_once_give_twenty_plans(office: Office) -> None:
    patient_tok = uuid4()
    stays = [uuid4() for _ in range(20)]
    await asyncio.gather(*(office.discharge(patient_tok, stay) for stay in stays))
    assert (await office.names()).count("FollowUpPlanActivated") == 20


async def test_nobody_is_contacted_after_a_death(office: Office) -> None:
    _, stay = await office.stay(disposition="5")
    assert await office.names() == []
    answer = await office.get(f"/encounters/{stay}/plan")
    assert answer.status_code == 404


async def test_a_death_in_a_later_stay_ends_every_plan_of_the_patient(office: Office) -> None:
    patient_tok, first = await office.stay()
    office.clock.advance(5 * DAY)
    await office.stay(patient_tok, days=1, disposition="5")
    assert await office.states(first) == ["revoked", "cancelled", "cancelled", "cancelled"]
    assert (await office.names())[-1] == "FollowUpPlanRevoked"
    office.clock.advance(60 * DAY)
    await office.turn_timer()
    assert "FollowUpTaskMissed" not in await office.names()


async def test_a_death_learned_on_the_phone_ends_every_plan_of_the_patient(office: Office) -> None:
    patient_tok, first = await office.stay()
    _, second = await office.stay(patient_tok, days=1)
    task = (await office.plan(second))["tasks"][0]
    answer = await office.complete(task, "deceased")
    assert answer.json()["plan_state"] == "revoked"
    assert await office.states(first) == ["revoked", "cancelled", "cancelled", "cancelled"]
    assert await office.states(second) == ["revoked", "completed", "cancelled", "cancelled"]
    revoked = await office.told("FollowUpPlanRevoked")
    assert {event["encounter_id"] for event in revoked} == {str(first), str(second)}
    third = await office.admit(patient_tok)
    await office.discharge(patient_tok, third)
    assert (await office.plan(third))["state"] == "revoked"


async def test_a_discharge_taken_back_holds_the_plan_and_a_new_one_resumes_it_later(office: Office) -> None:
    patient_tok, stay = await office.stay()
    office.clock.advance(DAY)
    await office.take_back(patient_tok, stay)
    assert await office.states(stay) == ["on_hold", "on_hold", "on_hold", "on_hold"]
    assert (await office.told("FollowUpPlanHeld"))[0]["reason"] == "discharge_cancelled"
    office.clock.advance(3 * DAY)
    await office.discharge(patient_tok, stay, disposition="3")
    assert await office.states(stay) == ["active", "requested", "requested", "requested"]
    assert await office.due(stay) == [7, 11, 34]
    assert {task["executor"] for task in (await office.plan(stay))["tasks"]} == {"primary_care"}
    assert await office.names() == [
        "FollowUpPlanActivated",
        "FollowUpTasksCreated",
        "FollowUpPlanHeld",
        "FollowUpPlanResumed",
    ]


async def test_a_patient_who_is_back_in_hospital_is_not_called_at_home(office: Office) -> None:
    patient_tok, first = await office.stay()
    office.clock.advance(5 * DAY)
    second = await office.admit(patient_tok)
    assert (await office.plan(first))["reason"] == "readmitted_within_31_days"
    task = (await office.plan(first))["tasks"][1]
    refused = await office.complete(task)
    assert (refused.status_code, refused.json()["code"]) == (409, "task_on_hold")
    office.clock.advance(10 * DAY)
    await office.turn_timer()
    assert "FollowUpTaskMissed" not in await office.names()
    await office.discharge(patient_tok, second)
    assert (await office.plan(first))["state"] == "active"
    assert await office.due(first) == [13, 17, 40]
    held_and_resumed = [
        row["correlation_id"]
        for row in await office.db.pool.fetch("SELECT correlation_id FROM outbox WHERE type ~ 'Held|Resumed'")
    ]
    assert held_and_resumed == [first, first]


async def test_a_day_case_holds_the_older_plan_for_its_hours_and_opens_its_own(office: Office) -> None:
    patient_tok, first = await office.stay()
    office.clock.advance(2 * DAY)
    second = await office.day_case(patient_tok)
    assert (await office.plan(first))["state"] == "active"
    assert (await office.plan(second))["template"] == "day_surgery"
    assert (await office.names())[2:] == [
        "FollowUpPlanHeld",
        "FollowUpPlanActivated",
        "FollowUpTasksCreated",
        "FollowUpPlanResumed",
    ]


async def test_a_readmission_that_never_counted_gives_the_plan_back_as_it_was(office: Office) -> None:
    patient_tok, first = await office.stay()
    before = await office.plan(first)
    office.clock.advance(2 * DAY)
    second = await office.admit(patient_tok)
    office.clock.advance(DAY)
    await office.cancel_admission(patient_tok, second)
    assert await office.plan(first) == before


async def test_a_discharge_heard_after_the_readmission_opens_a_plan_that_waits(office: Office) -> None:
    patient_tok, first = uuid4(), uuid4()
    await office.admit(patient_tok, at=MONDAY + DAY)
    await office.discharge(patient_tok, first, at=MONDAY)
    assert (await office.plan(first))["state"] == "on_hold"
    assert await office.names() == ["FollowUpPlanActivated", "FollowUpTasksCreated", "FollowUpPlanHeld"]


async def test_an_arrival_heard_after_the_discharge_does_not_bring_the_patient_back(office: Office) -> None:
    patient_tok, stay = uuid4(), uuid4()
    await office.discharge(patient_tok, stay)
    await office.admit(patient_tok, stay, at=MONDAY - DAY)
    assert (await office.plan(stay))["state"] == "active"


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 0, 1], [2, 0, 3, 1], [0, 2, 3, 1], [2, 0, 1, 3], [0, 2, 1, 3]])
async def test_two_stays_heard_in_any_order_end_in_the_same_plans(office: Office, order: list[int]) -> None:
    patient_tok, first, second = uuid4(), uuid4(), uuid4()
    heard: list[Callable[[], Awaitable[object]]] = [
        lambda: office.admit(patient_tok, first, at=MONDAY - 7 * DAY),
        lambda: office.discharge(patient_tok, first, at=MONDAY),
        lambda: office.admit(patient_tok, second, at=MONDAY + 5 * DAY),
        lambda: office.discharge(patient_tok, second, at=MONDAY + 9 * DAY),
    ]
    for step in order:
        await heard[step]()
    assert await office.due(first) == [7, 11, 34]
    assert await office.due(second) == [12, 16, 39]
    assert await office.states(first) == await office.states(second) == ["active"] + ["requested"] * 3


async def test_years_of_imported_history_do_not_flood_the_nurses(office: Office) -> None:
    patient_tok = uuid4()
    stays: list[UUID] = []
    for year in range(1, 6):
        home = MONDAY - year * 365 * DAY
        stay = await office.admit(patient_tok, at=home - 5 * DAY, source="import", recorded_at=MONDAY)
        await office.discharge(patient_tok, stay, at=home, source="import", recorded_at=MONDAY)
        stays.append(stay)
    await office.turn_timer()
    for stay in stays:
        assert await office.states(stay) == ["completed", "not_needed", "not_needed", "not_needed"]
    assert await office.names() == ["FollowUpPlanActivated", "FollowUpTasksCreated"] * 5
    assert (await office.get("/tasks")).json()["tasks"] == []
    examined = {
        row["check"]: row["examined"] for row in await office.db.pool.fetch("SELECT * FROM followup_examined()")
    }
    assert examined["discharge_without_plan"] == 5
    assert examined["plan_differs_from_tasks"] == 5
    assert examined["plan_state_differs_from_tasks"] == 15


async def test_an_imported_discharge_of_last_week_asks_for_what_can_still_be_done(office: Office) -> None:
    patient_tok, stay = uuid4(), uuid4()
    await office.discharge(patient_tok, stay, at=MONDAY - 8 * DAY, source="import", recorded_at=MONDAY)
    assert await office.states(stay) == ["active", "not_needed", "requested", "requested"]


async def test_a_missed_task_escalates_to_a_human_once_and_stays_open_until_somebody_calls(office: Office) -> None:
    _, stay = await office.stay(disposition="3")
    office.clock.advance(5 * DAY + timedelta(hours=24))
    await office.turn_timer()
    assert "FollowUpTaskMissed" not in await office.names()
    office.clock.advance(timedelta(seconds=1))
    await office.turn_timer()
    await office.turn_timer()
    assert (await office.names()).count("FollowUpTaskMissed") == 1
    task = (await office.plan(stay))["tasks"][0]
    assert (task["state"], task["escalated_to"], task["executor"]) == ("missed", "hospital_nurse", "hospital_nurse")
    listed = (await office.get("/tasks", who=Role.FOLLOW_UP_NURSE.value)).json()["tasks"]
    assert listed[0]["task_id"] == task["task_id"]
    answer = await office.complete(task, "unreachable", who=Role.FOLLOW_UP_NURSE.value)
    assert answer.status_code == 200
    assert (await office.states(stay))[1] == "completed"


async def test_when_many_timers_turn_at_once_each_task_is_missed_once(office: Office) -> None:
    for _ in range(30):
        await office.stay()
    office.clock.advance(100 * DAY)
    await asyncio.gather(*(office.turn_timer() for _ in range(5)))
    await office.turn_timer()
    missed = await office.told("FollowUpTaskMissed")
    assert len(missed) == len({event["task_id"] for event in missed}) == 90


async def test_twenty_nurses_who_complete_one_task_complete_it_once(office: Office) -> None:
    _, stay = await office.stay()
    task = (await office.plan(stay))["tasks"][0]
    answers = await asyncio.gather(*(office.complete(task) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"task_done"}
    assert (await office.names()).count("FollowUpTaskCompleted") == 1


async def test_completing_discharging_and_escalating_at_once_never_contradict(office: Office) -> None:
    patient_tok, first = await office.stay()
    second = await office.admit(patient_tok)
    office.clock.advance(100 * DAY)
    await office.discharge(patient_tok, second)
    tasks = (await office.plan(second))["tasks"]
    third = uuid4()
    office.clock.advance(100 * DAY)

    async def come_and_go() -> None:
        await office.admit(patient_tok, third)
        await office.discharge(patient_tok, third)

    await asyncio.gather(
        *(office.complete(task) for task in tasks), office.turn_timer(), come_and_go(), office.turn_timer()
    )
    assert {await office.db.pool.fetchval("SELECT count(*) FROM plan WHERE state = 'on_hold'")} == {0}
    assert (await office.plan(first))["state"] == "active"


async def test_the_last_task_completes_the_plan(office: Office) -> None:
    _, stay = await office.stay()
    answers = [await office.complete(task) for task in (await office.plan(stay))["tasks"]]
    assert [answer.json()["plan_state"] for answer in answers] == ["active", "active", "completed"]


async def test_the_plan_can_be_waited_for(office: Office) -> None:
    patient_tok, stay = uuid4(), uuid4()
    at_once = await office.get(f"/encounters/{stay}/plan")
    assert (at_once.status_code, at_once.json()["code"]) == (409, "no_plan_yet")

    async def discharge_soon() -> None:
        await asyncio.sleep(0.1)
        await office.discharge(patient_tok, stay)

    waited, _ = await asyncio.gather(office.get(f"/encounters/{stay}/plan", Prefer="wait=10"), discharge_soon())
    assert waited.status_code == 200


async def test_the_nurses_list_shows_what_opens_by_then_overdue_first_in_pages(office: Office) -> None:
    stays = []
    for _ in range(3):
        stays.append(str((await office.stay())[1]))
        office.clock.advance(DAY)
    office.clock.advance(7 * DAY)
    await office.turn_timer()
    first = (await office.get(f"/tasks?limit=4&due_before={at(10)}")).json()
    rest = (await office.http.get(first["next"], headers={"Authorization": "Bearer all"})).json()
    listed = first["tasks"] + rest["tasks"]
    assert [(task["encounter_id"], task["item"]) for task in listed] == [
        *((stay, "t3") for stay in stays),
        *((stay, "t7") for stay in stays),
    ]
    assert [task["state"] for task in listed[:3]] == ["missed", "missed", "missed"]
    later = (await office.get(f"/tasks?due_before={at(60)}")).json()
    assert len(later["tasks"]) == 9


async def test_a_primary_care_worker_sees_and_does_the_tasks_given_to_primary_care_and_no_others(
    office: Office,
) -> None:
    _, community = await office.stay(disposition="3")
    _, hospital = await office.stay()
    worker = office.hire("village-doctor", Role.PRIMARY_CARE_WORKER, wards=("primary_care",))
    office.clock.advance(4 * DAY)
    listed = (await office.get(f"/tasks?due_before={at(4)}", who=worker)).json()["tasks"]
    assert [task["encounter_id"] for task in listed] == [str(community)]
    assert (await office.get(f"/encounters/{community}/plan", who=worker)).status_code == 200
    assert (await office.get(f"/encounters/{hospital}/plan", who=worker)).status_code == 403
    theirs, ours = (await office.plan(community))["tasks"][0], (await office.plan(hospital))["tasks"][0]
    assert (await office.complete(theirs, who=worker)).status_code == 200
    assert (await office.complete(ours, who=worker)).status_code == 403


@pytest.mark.parametrize("role", [Role.BILLING_CLERK, Role.OPS, Role.DOCTOR])
async def test_whose_duty_it_is_not_cannot_complete_a_task(office: Office, role: Role) -> None:
    _, stay = await office.stay()
    task = (await office.plan(stay))["tasks"][0]
    assert (await office.complete(task, who=role.value)).status_code == 403
    assert (await office.states(stay))[1] == "requested"


@pytest.mark.parametrize("body", [{}, {"outcome": "fine, thanks"}, {"outcome": "well", "note": "x"}])
async def test_an_outcome_that_is_no_code_of_ours_changes_nothing(office: Office, body: dict[str, Any]) -> None:
    _, stay = await office.stay()
    task = (await office.plan(stay))["tasks"][0]
    answer = await office.post(f"/tasks/{task['task_id']}/completion", body)
    assert answer.status_code == 422
    assert "fine" not in answer.text
    assert (await office.states(stay))[1] == "requested"


async def test_a_task_that_is_not_there_is_not_found(office: Office) -> None:
    assert (await office.complete({"task_id": uuid4()})).status_code == 404


async def test_the_audit_finds_a_task_that_disappeared_a_forgotten_discharge_and_a_call_to_the_dead(
    office: Office,
) -> None:
    patient_tok, stay = await office.stay()
    _, other = await office.stay()
    conn = office.db.pool
    assert await office.violations() == []
    await conn.execute(
        "DELETE FROM task USING plan p WHERE p.plan_id = task.plan_id AND p.encounter_id = $1 AND item = 't7'", stay
    )
    await conn.execute("UPDATE archive SET deceased_at = now() WHERE patient_tok = $1", patient_tok)
    await conn.execute("DELETE FROM task USING plan p WHERE p.plan_id = task.plan_id AND p.encounter_id = $1", other)
    await conn.execute("DELETE FROM plan WHERE encounter_id = $1", other)
    found = {check for check, _ in await office.violations()}
    assert found == {"plan_differs_from_tasks", "contact_after_death", "discharge_without_plan"}
    await conn.execute("DELETE FROM task")
    await conn.execute("DELETE FROM plan")
    await conn.execute("DELETE FROM stay")
