"""The queue planned as a whole: nobody twice in a bed, no room mixed, and what a patient's waiting is worth."""

import itertools
import random
import time

import numpy as np
import pytest

from services.beds.planner.batch import (
    ANY,
    FEMALE,
    MALE,
    OPEN,
    UNKNOWN,
    BatchProblem,
    linear_division,
    plan_batch,
)


def a_problem(rooms, people, *, cost=None, waiting=500) -> BatchProblem:
    """Rooms are `(state, beds)`; people are sexes; `cost(person, room)` is None where the person may not lie."""
    room_of_bed = [room for room, (_, beds) in enumerate(rooms) for _ in range(beds)]
    price = cost or (lambda _person, room: 10 * room)
    arcs = [
        (person, bed, price(person, room))
        for person in range(len(people))
        for bed, room in enumerate(room_of_bed)
        if price(person, room) is not None
    ]
    table = np.array(arcs, np.int64).reshape(-1, 3)
    unassigned = [waiting] * len(people) if isinstance(waiting, int) else waiting
    return BatchProblem(
        requests=len(people),
        beds=len(room_of_bed),
        room_of_bed=np.array(room_of_bed, np.int64),
        room_sex=np.array([state for state, _ in rooms], np.int64),
        sex_of_request=np.array(people, np.int64),
        arc_request=table[:, 0],
        arc_bed=table[:, 1],
        arc_cost=table[:, 2],
        unassigned_cost=np.array(unassigned, np.int64),
    )


def a_random_problem(seed, *, people=6, rooms=3) -> BatchProblem:
    rng = random.Random(seed)
    layout = [(rng.choice((OPEN, OPEN, MALE, FEMALE, ANY)), rng.randint(1, 3)) for _ in range(rooms)]
    prices = {(p, r): rng.choice((None, 0, 0, 5, 20, 90)) for p in range(people) for r in range(rooms)}
    return a_problem(
        layout,
        [rng.choice((MALE, FEMALE, MALE, FEMALE, UNKNOWN)) for _ in range(people)],
        cost=lambda p, r: prices[p, r],
        waiting=[rng.randint(100, 900) for _ in range(people)],
    )


def cost_of(problem, plan) -> int | None:
    """Count the plan's cost, and refuse one that breaks a rule."""
    price = {}
    for request, bed, cost in zip(problem.arc_request, problem.arc_bed, problem.arc_cost, strict=True):
        price[int(request), int(bed)] = int(cost)
    total, lying = 0, {}
    for request, bed in enumerate(plan):
        if bed < 0:
            total += int(problem.unassigned_cost[request])
            continue
        if (request, int(bed)) not in price or bed in lying:
            return None
        lying[int(bed)] = request
        total += price[request, int(bed)]
    for room, state in enumerate(problem.room_sex):
        inside = [int(problem.sex_of_request[r]) for bed, r in lying.items() if problem.room_of_bed[bed] == room]
        if state == ANY or not inside:
            continue
        if state in (MALE, FEMALE) and set(inside) != {int(state)}:
            return None
        if len(set(inside)) > 1 or inside.count(UNKNOWN) > 1:
            return None
    return total


def the_cheapest(problem) -> int:
    choices = [[-1, *sorted({int(b) for r, b in zip(problem.arc_request, problem.arc_bed, strict=True) if r == request})]
               for request in range(problem.requests)]  # fmt: skip
    return min(cost for plan in itertools.product(*choices) if (cost := cost_of(problem, plan)) is not None)


@pytest.mark.parametrize("seed", range(25))
def test_a_plan_breaks_no_rule_and_is_seldom_dearer_than_the_cheapest_there_is(seed):
    problem = a_random_problem(seed, people=5, rooms=2)
    plan = plan_batch(problem, deadline_seconds=0.05)
    counted = cost_of(problem, plan.bed_of_request)
    assert counted == plan.cost
    assert plan.bound <= the_cheapest(problem) <= plan.cost
    if not (problem.room_sex == OPEN).any():
        assert plan.cost == the_cheapest(problem)


@pytest.mark.parametrize("seed", range(10))
def test_with_time_small_queues_are_planned_as_well_as_can_be(seed):
    problem = a_random_problem(100 + seed, people=5, rooms=2)
    plan = plan_batch(problem, deadline_seconds=0.3, seed=seed)
    assert plan.cost <= the_cheapest(problem) * 1.2


def test_two_men_and_a_woman_do_not_share_the_empty_room_of_three():
    plan = plan_batch(a_problem([(OPEN, 3)], [MALE, FEMALE, MALE]), deadline_seconds=0.05)
    assert [bed >= 0 for bed in plan.bed_of_request] == [True, False, True]
    assert plan.room_class.tolist() == [MALE]


def test_a_room_that_a_woman_lies_in_takes_women_only():
    plan = plan_batch(a_problem([(FEMALE, 2)], [MALE, FEMALE]), deadline_seconds=0.05)
    assert [bed >= 0 for bed in plan.bed_of_request] == [False, True]


def test_intensive_care_takes_both():
    plan = plan_batch(a_problem([(ANY, 2)], [MALE, FEMALE]), deadline_seconds=0.05)
    assert (plan.bed_of_request >= 0).all()


def test_two_patients_of_unknown_sex_do_not_share_a_room():
    plan = plan_batch(a_problem([(OPEN, 2)], [UNKNOWN, UNKNOWN]), deadline_seconds=0.05)
    assert (plan.bed_of_request >= 0).sum() == 1


def test_who_must_not_wait_gets_the_bed():
    plan = plan_batch(a_problem([(OPEN, 1)], [MALE, FEMALE], waiting=[300, 900]), deadline_seconds=0.05)
    assert plan.bed_of_request.tolist() == [-1, 0]
    assert plan.price_of_waiting.tolist() == [0, 600], "900 less the 300 that the bed would then save"


def test_the_price_of_waiting_is_what_the_plan_without_the_patient_costs_more():
    for seed in range(12):
        problem = a_random_problem(200 + seed, people=6, rooms=3)
        problem = a_problem(  # no open rooms: then the matching is the best plan and the price is exact
            [(ANY, 2), (MALE, 2), (FEMALE, 1)],
            problem.sex_of_request.tolist(),
            cost=lambda p, r, s=seed: (p * 7 + r * 13 + s * 3) % 40,
            waiting=problem.unassigned_cost.tolist(),
        )
        plan = plan_batch(problem, deadline_seconds=0.05)
        for request in np.flatnonzero(plan.bed_of_request >= 0):
            keep = problem.arc_request != request
            without = BatchProblem(
                problem.requests, problem.beds, problem.room_of_bed, problem.room_sex, problem.sex_of_request,
                problem.arc_request[keep], problem.arc_bed[keep], problem.arc_cost[keep], problem.unassigned_cost,
            )  # fmt: skip
            assert plan_batch(without, deadline_seconds=0.05).cost - plan.cost == plan.price_of_waiting[request]


def test_a_bed_that_costs_nothing_is_a_bed():
    plan = plan_batch(a_problem([(ANY, 1)], [MALE], cost=lambda _p, _r: 0), deadline_seconds=0.05)
    assert (plan.bed_of_request.tolist(), plan.cost) == ([0], 0)


def test_nobody_waiting_no_bed_free_and_no_bed_that_fits_are_plans_too():
    nobody = plan_batch(a_problem([(OPEN, 2)], []), deadline_seconds=0.05)
    assert (nobody.bed_of_request.tolist(), nobody.cost) == ([], 0)
    full = plan_batch(a_problem([], [MALE, FEMALE]), deadline_seconds=0.05)
    assert (full.bed_of_request.tolist(), full.cost) == ([-1, -1], 1000)
    unfit = plan_batch(a_problem([(OPEN, 2)], [MALE], cost=lambda _p, _r: None), deadline_seconds=0.05)
    assert (unfit.bed_of_request.tolist(), unfit.cost) == ([-1], 500)


def test_a_pair_that_is_named_twice_costs_the_cheaper():
    problem = a_problem([(ANY, 1)], [MALE])
    twice = BatchProblem(
        1, 1, problem.room_of_bed, problem.room_sex, problem.sex_of_request,
        np.array([0, 0]), np.array([0, 0]), np.array([70, 30]), problem.unassigned_cost,
    )  # fmt: skip
    assert plan_batch(twice, deadline_seconds=0.05).cost == 30


@pytest.mark.parametrize("seed", range(6))
def test_the_linear_programme_bounds_every_plan(seed):
    problem = a_random_problem(300 + seed, people=5, rooms=2)
    division = linear_division(problem, seconds=10)
    assert division is not None
    assert division.bound <= the_cheapest(problem)


def test_eight_hundred_requests_are_planned_near_the_bound_and_near_the_deadline():
    from infra.bench.beds import batch_problem, clustered

    problem = batch_problem(clustered(7))
    plan_batch(problem, deadline_seconds=0.01)
    began = time.process_time()
    plan = plan_batch(problem, deadline_seconds=0.1)
    assert time.process_time() - began < 1
    assert cost_of(problem, plan.bed_of_request.tolist()) == plan.cost
    assert plan.cost <= plan.bound * 1.1
