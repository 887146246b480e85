"""Who is contacted when, and when nobody may be: decided from what is known of the patient's stays, in whatever order it came."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.followup import domain
from services.followup.actions import policy_of
from services.followup.domain import Archive, Moment, Outcome, Plan, PlanState, Refusal, Stay, TaskState
from services.followup.settings import Rules

POLICY = policy_of(Rules())
HOME = datetime(2026, 3, 9, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PATIENT = UUID(int=1)
FIRST, SECOND = UUID(int=11), UUID(int=12)


def a_stay(encounter_id: UUID = FIRST, began: float = -7, left: float | None = 0, disposition: str = "1") -> Stay:
    """A stay counted in days from the Monday the patient first went home; `left` None: still there."""
    return Stay(
        encounter_id,
        PATIENT,
        began_at=HOME + began * DAY,
        left_at=None if left is None else HOME + left * DAY,
        ending=None if left is None else "discharged",
        disposition=None if left is None else disposition,
    )


def an_archive(*stays: Stay, deceased: bool = False) -> Archive:
    return Archive(PATIENT, deceased, {stay.encounter_id: stay for stay in stays})


def a_plan(
    stay: Stay | None = None,
    *,
    moment: Moment | None = None,
    procedure: str | None = None,
    specialty: str | None = None,
) -> Plan:
    """The plan of a discharge, with the default template unless procedure or specialty say otherwise."""
    stay = stay or a_stay()
    archive = an_archive(stay)
    return domain.new_plan(stay, archive, POLICY, moment or Moment(HOME), procedure=procedure, specialty=specialty)


def due(plan: Plan) -> list[float]:
    return [(task.due_from_at - HOME) / DAY for task in plan.tasks]


def states(plan: Plan) -> list[str]:
    return [task.state.value for task in plan.tasks]


def test_a_discharged_patient_is_called_after_three_seven_and_thirty_days() -> None:
    plan = a_plan()
    assert [task.item for task in plan.tasks] == ["t3", "t7", "t30"]
    assert due(plan) == [3, 7, 30]
    assert {task.executor for task in plan.tasks} == {"hospital_nurse"}
    assert {task.method for task in plan.tasks} == {"phone"}


@pytest.mark.parametrize(
    ("left", "template"),
    [
        ({}, "default"),
        ({"specialty": "general"}, "default"),
        ({"specialty": "cardiology"}, "cardiac"),
        ({"procedure": "73761001"}, "day_surgery"),
        ({"procedure": "73761001", "specialty": "cardiology"}, "day_surgery"),
        ({"procedure": "1"}, "default"),
    ],
)
def test_the_procedure_chooses_the_template_before_the_specialty_before_the_default(
    left: dict[str, str], template: str
) -> None:
    assert a_plan(procedure=left.get("procedure"), specialty=left.get("specialty")).template == template


def test_after_day_surgery_the_first_call_is_the_next_day() -> None:
    assert due(a_plan(procedure="73761001")) == [1, 7, 30]


def test_whoever_goes_home_to_the_community_is_followed_by_primary_care() -> None:
    plan = a_plan(a_stay(disposition="3"))
    assert {(task.executor, task.place) for task in plan.tasks} == {("primary_care", "primary_care")}


def test_whoever_leaves_against_advice_is_called_within_a_day() -> None:
    plan = a_plan(a_stay(disposition="4"))
    assert plan.tasks[0].due_to_at == HOME + DAY
    assert due(plan) == [0.5, 7, 30]
    day_case = a_plan(a_stay(disposition="4"), procedure="73761001")
    assert day_case.tasks[0].due_to_at == HOME + DAY


def test_the_ids_of_a_plan_and_its_tasks_follow_from_the_stay_so_a_rebuild_gives_the_same() -> None:
    assert a_plan() == a_plan()
    ids = [task.task_id for task in a_plan().tasks] + [task.task_id for task in a_plan(a_stay(SECOND)).tasks]
    assert len(set(ids)) == 6


def test_an_imported_discharge_of_last_year_asks_nobody_to_call_in_the_past() -> None:
    plan = a_plan(moment=Moment(HOME + 365 * DAY, imported=True))
    assert states(plan) == ["not_needed"] * 3
    assert plan.state is PlanState.COMPLETED


def test_an_imported_discharge_of_last_week_asks_only_for_what_can_still_be_done() -> None:
    plan = a_plan(moment=Moment(HOME + 8 * DAY, imported=True))
    assert states(plan) == ["not_needed", "requested", "requested"]
    assert plan.state is PlanState.ACTIVE


def test_a_live_discharge_that_is_learned_late_is_overdue_and_not_forgotten() -> None:
    assert states(a_plan(moment=Moment(HOME + 365 * DAY))) == ["requested"] * 3


@pytest.mark.parametrize(
    ("stays", "deceased", "state", "reason"),
    [
        ([a_stay()], False, "active", None),
        ([a_stay(left=None)], False, "on_hold", "discharge_cancelled"),
        ([replace(a_stay(), ending="cancelled", disposition=None)], False, "revoked", "admission_cancelled"),
        ([a_stay(), a_stay(SECOND, 5, None)], False, "on_hold", "readmitted_within_31_days"),
        ([a_stay(), a_stay(SECOND, 31, None)], False, "on_hold", "readmitted_within_31_days"),
        ([a_stay(), a_stay(SECOND, 31.01, None)], False, "on_hold", "readmitted_later"),
        ([a_stay(), a_stay(SECOND, 5, 9)], False, "active", None),
        ([a_stay(), replace(a_stay(SECOND, 5, 9), ending="cancelled", disposition=None)], False, "active", None),
        ([a_stay(), a_stay(SECOND, 5, 9, "5")], False, "revoked", "death"),
        ([a_stay(disposition="5")], False, "revoked", "death"),
        ([a_stay()], True, "revoked", "death"),
        ([a_stay(left=None), a_stay(SECOND, 5, 9, "5")], False, "revoked", "death"),
    ],
    ids=[
        "at home",
        "discharge taken back",
        "admission cancelled",
        "back on day 5",
        "back on day 31",
        "back later",
        "back and home again",
        "the return never counted",
        "died at the return",
        "died",
        "found dead by phone",
        "taken back, then died elsewhere",
    ],
)
def test_what_a_plan_is_follows_from_the_stays(
    stays: list[Stay], deceased: bool, state: str, reason: str | None
) -> None:
    found = domain.standing(a_plan(), an_archive(*stays, deceased=deceased), POLICY)
    assert (found.state, found.reason) == (state, reason)


def review(plan: Plan, *stays: Stay, now: float = 0, imported: bool = False, deceased: bool = False) -> domain.Reviewed:
    return domain.review(plan, an_archive(*stays, deceased=deceased), POLICY, Moment(HOME + now * DAY, imported))


def test_time_in_hospital_moves_what_is_still_to_be_done() -> None:
    held = review(a_plan(), a_stay(), a_stay(SECOND, 5, None))
    assert (held.change, held.plan.state) == ("held", PlanState.ON_HOLD)
    assert states(held.plan) == ["on_hold"] * 3
    home = review(held.plan, a_stay(), a_stay(SECOND, 5, 9), now=9)
    assert home.change == "resumed"
    # Day 3 to 5 was over when the patient came back; the rest is four days later.
    assert due(home.plan) == [7, 11, 34]


def test_a_stay_after_a_window_closed_does_not_move_that_window() -> None:
    home = review(a_plan(), a_stay(), a_stay(SECOND, 20, 25), now=25)
    assert due(home.plan) == [3, 7, 35]


def test_overlapping_stays_are_counted_once() -> None:
    third = a_stay(UUID(int=13), 2.5, 3)
    home = review(a_plan(), a_stay(), a_stay(SECOND, 2, 4), third, now=4)
    assert due(home.plan) == [5, 9, 32]


def test_a_discharge_taken_back_and_given_again_counts_from_the_new_day() -> None:
    held = review(a_plan(), a_stay(left=None), now=1)
    assert held.change == "held"
    again = review(held.plan, a_stay(left=4), now=4)
    assert (again.change, again.reason) == ("resumed", "discharged_again")
    assert due(again.plan) == [7, 11, 34]
    assert [t.task_id for t in again.plan.tasks] == [t.task_id for t in a_plan().tasks]


def test_the_second_discharge_decides_who_calls() -> None:
    held = review(a_plan(), a_stay(left=None), now=1)
    again = review(held.plan, a_stay(left=4, disposition="3"), now=4)
    assert {task.executor for task in again.plan.tasks} == {"primary_care"}


def test_what_is_done_stays_done_through_hold_and_return() -> None:
    plan = a_plan()
    done = domain.complete(plan, plan.tasks[0].task_id, Outcome.WELL, HOME + 3 * DAY)
    assert isinstance(done, Plan)
    held = review(done, a_stay(left=None), now=4)
    assert states(held.plan) == ["completed", "on_hold", "on_hold"]
    again = review(held.plan, a_stay(left=5), now=5)
    assert states(again.plan) == ["completed", "requested", "requested"]
    assert again.plan.tasks[0].due_from_at == plan.tasks[0].due_from_at


def missed(plan: Plan) -> Plan:
    """The plan after its first task escalated on day 6."""
    first = replace(plan.tasks[0], state=TaskState.MISSED, missed_at=HOME + 6 * DAY, escalated_to="hospital_nurse")
    return replace(plan, tasks=(first, *plan.tasks[1:]))


def test_a_missed_task_is_not_missed_a_second_time_because_of_a_short_return() -> None:
    held = review(missed(a_plan()), a_stay(), a_stay(SECOND, 8, None), now=8)
    assert states(held.plan) == ["on_hold"] * 3
    home = review(held.plan, a_stay(), a_stay(SECOND, 8, 8.2), now=8.2)
    assert states(home.plan) == ["missed", "requested", "requested"]
    assert home.plan.tasks[0].escalated_to == "hospital_nurse"


def test_a_new_discharge_wipes_what_was_missed_before_it() -> None:
    held = review(missed(a_plan()), a_stay(left=None), now=8)
    again = review(held.plan, a_stay(left=9), now=9)
    assert states(again.plan) == ["requested"] * 3
    assert again.plan.tasks[0].missed_at is None


def test_after_a_death_nobody_is_contacted_and_nobody_dead_is_contacted_later() -> None:
    gone = review(missed(a_plan()), a_stay(), deceased=True)
    assert (gone.change, gone.reason) == ("revoked", "death")
    assert states(gone.plan) == ["cancelled"] * 3
    assert review(gone.plan, a_stay(), deceased=True).change == "none"


def test_a_death_that_was_a_mistake_is_undone_with_everything_it_did() -> None:
    gone = review(a_plan(), a_stay(), a_stay(SECOND, 5, 6, "5"), now=6)
    back = review(gone.plan, a_stay(), a_stay(SECOND, 5, None), now=6)
    assert (back.change, back.plan.state) == ("held", PlanState.ON_HOLD)
    home = review(back.plan, a_stay(), a_stay(SECOND, 5, 8), now=8)
    assert (home.change, states(home.plan)) == ("resumed", ["requested"] * 3)


def test_a_finished_plan_is_left_alone_by_a_return() -> None:
    plan = a_plan()
    for task in plan.tasks:
        after = domain.complete(plan, task.task_id, Outcome.WELL, HOME)
        assert isinstance(after, Plan)
        plan = after
    assert plan.state is PlanState.COMPLETED
    assert review(plan, a_stay(), a_stay(SECOND, 5, None)).change == "none"
    assert review(plan, a_stay(), a_stay(SECOND, 5, None)).plan == plan


@pytest.mark.parametrize("state", [s for s in TaskState if s not in domain.OPEN])
def test_a_task_that_is_not_open_cannot_be_done_and_says_why(state: TaskState) -> None:
    plan = a_plan()
    plan = replace(plan, tasks=(replace(plan.tasks[0], state=state), *plan.tasks[1:]))
    outcome = domain.complete(plan, plan.tasks[0].task_id, Outcome.WELL, HOME)
    assert isinstance(outcome, Refusal)
    assert outcome.detail.endswith(".")


def test_a_missed_task_can_still_be_done_late() -> None:
    plan = missed(a_plan())
    done = domain.complete(plan, plan.tasks[0].task_id, Outcome.NEEDS_CARE, HOME + 20 * DAY)
    assert isinstance(done, Plan)
    assert (done.tasks[0].state, done.tasks[0].outcome) == (TaskState.COMPLETED, "needs_care")
    assert done.state is PlanState.ACTIVE


FACTS = st.permutations(
    [a_stay(FIRST), a_stay(SECOND, 5, 9), a_stay(UUID(int=13), 20, 22), a_stay(UUID(int=14), 40, None)]
)


@given(FACTS)
def test_stays_learned_in_any_order_end_in_the_same_plan(order: list[Stay]) -> None:
    archive = Archive(PATIENT)
    plan: Plan | None = None
    for stay in order:
        archive = archive.with_stay(stay)
        if stay.encounter_id == FIRST:
            plan = domain.new_plan(stay, archive, POLICY, Moment(HOME), procedure=None, specialty=None)
        if plan is not None:
            plan = domain.review(plan, archive, POLICY, Moment(HOME)).plan
    assert plan is not None
    assert plan.state is PlanState.ON_HOLD
    assert states(plan) == ["on_hold"] * 3
    home = replace(archive.stays[UUID(int=14)], left_at=HOME + 41 * DAY, ending="discharged", disposition="1")
    again = domain.review(plan, archive.with_stay(home), POLICY, Moment(HOME + 41 * DAY)).plan
    # The last call moves by all three returns, because each began before its window closed.
    assert due(again) == [7, 11, 37]


def test_whatever_happens_to_a_patient_the_tasks_of_a_plan_are_what_was_promised() -> None:
    events = [
        [a_stay(left=None)],
        [a_stay(left=4)],
        [a_stay(left=4), a_stay(SECOND, 5, None)],
        [a_stay(left=4), a_stay(SECOND, 5, 9)],
        [a_stay(left=4), a_stay(SECOND, 5, 9, "5")],
        [replace(a_stay(), ending="cancelled", disposition=None)],
    ]
    for steps in itertools.permutations(events, 3):
        plan = a_plan()
        for stays in steps:
            plan = review(plan, *stays, now=10).plan
            assert [task.item for task in plan.tasks] == ["t3", "t7", "t30"]
            may = {
                PlanState.ACTIVE: {"requested", "missed", "completed", "not_needed"},
                PlanState.ON_HOLD: {"on_hold", "completed", "not_needed"},
                PlanState.REVOKED: {"cancelled", "completed", "not_needed"},
                PlanState.COMPLETED: {"completed", "not_needed"},
            }[plan.state]
            assert set(states(plan)) <= may


HEAD = "template,item,opens_after_days,closes_after_days,method\n"
RULES = "by,code,template\n"


@pytest.mark.parametrize(
    ("items", "rules"),
    [
        ("a,t1,2,2,phone\n", "default,,a\n"),
        ("a,t1,1,2,phone\na,t1,3,4,phone\n", "default,,a\n"),
        ("a,t1,1,2,phone\n", "default,,b\n"),
        ("a,t1,1,2,phone\n", "procedure,1,a\n"),
        ("a,t1,soon,2,phone\n", "default,,a\n"),
    ],
    ids=["no window", "item twice", "unknown template", "no default", "no number"],
)
def test_templates_with_a_mistake_are_refused_when_the_service_starts(items: str, rules: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() and ours
        domain.read_templates(HEAD + items, RULES + rules)
