"""A day-surgery case moves only as a coordinator would expect, and says why when it does not."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.daysurgery import domain
from services.daysurgery.domain import NEXT, OVER, Case, Policy, Refusal, Slot, State, Step

MORNING = datetime(2026, 3, 9, 0, 0, tzinfo=UTC)  # 8 o'clock in the hospital
SLOT = Slot(MORNING, MORNING + timedelta(hours=8))
POLICY = Policy("Asia/Shanghai", timedelta(hours=24), timedelta(0), 1)


def a_case(state: State = State.REFERRED, **facts: object) -> Case:
    """A colonoscopy that came as far as `state`."""
    has_bed = state in domain.HAS_BED or state in OVER
    case = Case(
        case_id=UUID(int=1),
        encounter_id=UUID(int=2),
        patient_tok=UUID(int=3),
        sex="female",
        birth_year=1960,
        procedure_code="73761001",
        catalogue_version=1,
        payer_kind="self_pay",
        state=state,
        referred_at=MORNING - timedelta(days=7),
        slot=None if state is State.REFERRED else SLOT,
        bed_id=7 if has_bed else None,
        ward="DAY" if has_bed else None,
        arrived_at=MORNING if state in domain.IN_DAY_WARD else None,
        started_at=MORNING if state in (State.IN_THEATRE, State.OPERATED) else None,
        finished_at=MORNING if state is State.OPERATED else None,
    )
    return replace(case, **facts)  # type: ignore[arg-type]


NOON = MORNING + timedelta(hours=4)


def take(case: Case, step: Step) -> Case | Refusal:
    """Do a step at noon with everything it needs."""
    match step:
        case Step.ASK_SLOT:
            return domain.ask_slot(case, SLOT, (), NOON, POLICY)
        case Step.TAKE_BED:
            return domain.take_bed(case, 7, "DAY")
        case Step.WAIT:
            return domain.wait_for_bed(case, "no_free_bed")
        case Step.LOSE_BED:
            return domain.lose_bed(case, 7)
        case Step.ARRIVE:
            return domain.arrive(case, NOON, POLICY)
        case Step.START_OPERATION:
            return domain.start_operation(case, NOON)
        case Step.FINISH_OPERATION:
            return domain.finish_operation(case, NOON)
        case Step.DISCHARGE:
            return domain.discharge(case, "5", NOON)
        case Step.CONVERT:
            return domain.convert(case, "general", NOON)
        case Step.CANCEL:
            return domain.cancel(case, "patient", "fever", NOON, POLICY)


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("state", list(State))
def test_a_step_is_possible_only_where_the_table_says_so(state: State, step: Step) -> None:
    outcome = take(a_case(state), step)
    if (state, step) in NEXT:
        assert isinstance(outcome, Case)
        assert outcome.state is NEXT[state, step]
    else:
        assert isinstance(outcome, Refusal)
        assert outcome.detail.endswith(".")
        assert " " in outcome.detail


HOURS = st.integers(-48, 48).map(lambda hours: timedelta(hours=hours))


@given(st.lists(st.tuples(st.sampled_from(Step), HOURS, st.sampled_from(["1", "4", "5"])), max_size=25))
def test_whatever_is_tried_a_case_never_gets_into_a_state_that_cannot_be(
    tries: list[tuple[Step, timedelta, str]],
) -> None:
    case = a_case()
    for step, later, disposition in tries:
        now = MORNING + later
        outcome: Case | Refusal
        match step:
            case Step.ASK_SLOT:
                outcome = domain.ask_slot(case, Slot(now, now + timedelta(hours=6)), (), now, POLICY)
            case Step.ARRIVE:
                outcome = domain.arrive(case, now, POLICY)
            case Step.START_OPERATION:
                outcome = domain.start_operation(case, now)
            case Step.FINISH_OPERATION:
                outcome = domain.finish_operation(case, now)
            case Step.DISCHARGE:
                outcome = domain.discharge(case, disposition, now)
            case Step.CONVERT:
                outcome = domain.convert(case, "general", now)
            case Step.CANCEL:
                outcome = domain.cancel(case, "hospital", "no_anaesthetist", now, POLICY)
            case Step.TAKE_BED | Step.WAIT | Step.LOSE_BED:
                outcome = take(case, step)
        if isinstance(outcome, Refusal):
            continue
        assert (case.state, step) in NEXT, "a step outside the table was taken"
        assert case.state not in OVER, "a case that is over went on"
        assert outcome.state is NEXT[case.state, step]
        case = outcome
    if case.state in domain.HAS_BED or case.state is State.CONVERTED:
        assert case.bed_id is not None
    if case.state in domain.HAS_SLOT:
        assert case.slot is not None
    if case.state in domain.IN_DAY_WARD:
        assert case.slot is not None
        assert case.arrived_at is not None
        assert case.slot.starts_at <= case.arrived_at < case.slot.ends_at
    milestones = [at for at in (case.arrived_at, case.started_at, case.finished_at, case.ended_at) if at is not None]
    if case.arrived_at is not None:
        assert milestones == sorted(milestones)
    assert (case.state in OVER) == (case.ended_at is not None)
    assert (case.state is State.DISCHARGED) == (case.disposition is not None)


@pytest.mark.parametrize(
    ("slot", "code"),
    [
        (Slot(MORNING, MORNING), "slot_ends_before_it_starts"),
        (Slot(MORNING, MORNING - timedelta(hours=1)), "slot_ends_before_it_starts"),
        (Slot(MORNING, MORNING + timedelta(hours=24, seconds=1)), "slot_too_long"),
        (Slot(MORNING - timedelta(hours=9), MORNING - timedelta(hours=1)), "slot_over"),
    ],
)
def test_a_slot_that_is_no_day_surgery_stay_is_refused(slot: Slot, code: str) -> None:
    outcome = domain.ask_slot(a_case(), slot, (), MORNING, POLICY)
    assert isinstance(outcome, Refusal)
    assert outcome.code == code


def test_a_slot_of_exactly_twenty_four_hours_is_day_surgery() -> None:
    outcome = domain.ask_slot(a_case(), Slot(MORNING, MORNING + timedelta(hours=24)), (), MORNING, POLICY)
    assert isinstance(outcome, Case)


@pytest.mark.parametrize(
    ("starts", "ends", "fits"),
    [(-4, 0, True), (-4, 1, False), (2, 3, False), (7, 12, False), (8, 12, True), (-1, 9, False)],
)
def test_a_patient_cannot_be_in_two_cases_at_once(starts: int, ends: int, fits: bool) -> None:
    other = Slot(MORNING + timedelta(hours=starts), MORNING + timedelta(hours=ends))
    outcome = domain.ask_slot(a_case(), SLOT, [other], MORNING, POLICY)
    assert isinstance(outcome, Case) == fits


def test_a_patient_who_comes_before_the_slot_is_asked_to_wait_because_the_bed_may_be_anothers() -> None:
    early = domain.arrive(a_case(State.BOOKED), MORNING - timedelta(minutes=1), POLICY)
    assert isinstance(early, Refusal)
    assert early.code == "slot_not_begun"
    lenient = replace(POLICY, arrival_early_max=timedelta(minutes=30))
    assert isinstance(domain.arrive(a_case(State.BOOKED), MORNING - timedelta(minutes=1), lenient), Case)


def test_a_patient_who_comes_after_the_slot_is_not_checked_in() -> None:
    late = domain.arrive(a_case(State.BOOKED), SLOT.ends_at, POLICY)
    assert isinstance(late, Refusal)
    assert late.code == "slot_over"


@pytest.mark.parametrize("state", [State.BOOKING_ASKED, State.WAITLISTED])
def test_an_arrival_waits_while_the_pool_may_still_find_a_bed(state: State) -> None:
    outcome = domain.arrive(a_case(state), MORNING, POLICY)
    assert isinstance(outcome, Refusal)
    assert outcome.may_come


def test_nobody_but_the_dead_leaves_the_theatre() -> None:
    alive = domain.discharge(a_case(State.IN_THEATRE), "1", NOON)
    assert isinstance(alive, Refusal)
    assert alive.code == "operation_under_way"
    assert isinstance(domain.discharge(a_case(State.IN_THEATRE), "5", NOON), Case)


def test_an_operation_cannot_end_before_it_began() -> None:
    outcome = domain.finish_operation(a_case(State.IN_THEATRE), MORNING - timedelta(seconds=1))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "before_the_step_it_follows"


@pytest.mark.parametrize(
    ("days_before", "temporary"), [(0, True), (1, True), (2, False), (7, False)], ids=["same day", "eve", "two", "week"]
)
def test_a_cancel_on_the_day_or_the_eve_counts_as_temporary(days_before: int, temporary: bool) -> None:
    # 23:30 in the hospital: business days count, not 24-hour spans.
    now = datetime(2026, 3, 9, 15, 30, tzinfo=UTC) - timedelta(days=days_before)
    outcome = domain.cancel(a_case(State.BOOKED), "patient", "fever", now, POLICY)
    assert isinstance(outcome, Case)
    assert outcome.cancelled_temporarily is temporary


def test_a_case_without_a_slot_is_never_cancelled_temporarily() -> None:
    outcome = domain.cancel(a_case(), "patient", "fever", NOON, POLICY)
    assert isinstance(outcome, Case)
    assert outcome.cancelled_temporarily is False


def test_a_hold_that_ran_out_on_a_bed_the_case_no_longer_has_changes_nothing() -> None:
    outcome = domain.lose_bed(a_case(State.BOOKED), 8)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "another_bed"


def test_only_a_patient_in_the_day_ward_is_followed_into_a_bed() -> None:
    assert isinstance(domain.lie_in_bed(a_case(State.CONVERTED), 8, "W1"), Refusal)
    moved = domain.lie_in_bed(a_case(State.ARRIVED), 8, "DAY2")
    assert isinstance(moved, Case)
    assert (moved.bed_id, moved.ward) == (8, "DAY2")


def test_the_age_is_counted_from_the_year_of_birth_in_the_hospitals_year() -> None:
    new_year = datetime(2025, 12, 31, 16, 0, tzinfo=UTC)
    assert domain.age_years(1960, new_year, "Asia/Shanghai") == 66
    assert domain.age_years(1960, new_year, "UTC") == 65
    assert domain.age_years(None, new_year, "UTC") is None
    assert domain.age_years(2030, new_year, "UTC") == 0


def test_a_day_of_the_hospital_is_its_civil_day() -> None:
    span = domain.day_span(date(2026, 3, 9), "Asia/Shanghai")
    assert span.starts_at == datetime(2026, 3, 8, 16, tzinfo=UTC)
    assert span.ends_at - span.starts_at == timedelta(days=1)
    # Summer time began in Shanghai on 4 May 1986: that day had 23 hours.
    assert domain.day_span(date(1986, 5, 4), "Asia/Shanghai").ends_at - domain.day_span(
        date(1986, 5, 4), "Asia/Shanghai"
    ).starts_at == timedelta(hours=23)
