"""Plans for the public benchmark: complete, without collision, and costing what a second, independent count says."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.beds.planner.pas import (
    LATTICE,
    NoRoom,
    breakdown,
    first_plan,
    parse_instance,
    problem_of,
)
from services.beds.planner.race import Standing, allocate, collides_nowhere
from tests.unit.planner.instances import an_instance
from tests.unit.planner.scorer import score

PUBLIC = Path(__file__).parent / "data" / "testdata01.txt"


def written(instance, beds) -> list[str]:
    return [f"{p.ident} {bed} {p.first} {p.end}" for p, bed in zip(instance.patients, beds, strict=True)]


def check(text, instance, beds, costs) -> int:
    violations, counted = score(text, written(instance, beds))
    assert violations == []
    assert {rule: tenths for rule, tenths in costs.items() if tenths} == {
        rule: int(value * 10) for rule, value in counted.items()
    }
    return int(sum(counted.values()) * 10)


def test_the_public_instance_is_read_as_it_is_published():
    instance = parse_instance(PUBLIC.read_text(), "testdata01.txt")
    assert (len(instance.rooms), len(instance.beds), instance.horizon) == (98, 286, 14)
    assert (len(instance.patients), instance.patients_ignored) == (652, 41)


@pytest.mark.parametrize("seed", range(8))
def test_the_first_plan_is_complete_and_costs_what_a_second_count_says(seed):
    text = an_instance(seed=seed, load=1.0, patients=200, specialisms=1 + seed % 4, properties=seed % 3)
    instance = parse_instance(text, "made up")
    problem = problem_of(instance)
    beds = first_plan(problem)
    costs = breakdown(problem, problem.room_of_bed[beds])
    assert check(text, instance, [problem.bed_at[bed] for bed in beds], costs) == sum(costs.values())


@pytest.mark.parametrize("seed", range(4))
def test_annealing_keeps_the_plan_complete_and_its_count_right_at_every_temperature(seed):
    from services.beds.planner.search import Annealing

    text = an_instance(seed=seed, load=1.0, rooms=15, patients=300, nights=14)
    instance = parse_instance(text, "made up")
    problem = problem_of(instance)
    annealing = Annealing(problem, first_plan(problem), seed=seed)
    for temperature in (200.0, 20.0, 2.0, 0.01):
        annealing.run(3_000, temperature)
        for beds in (annealing.bed, annealing.best_bed):
            assert collides_nowhere(beds, problem.first, problem.end)
        costs = breakdown(problem, problem.room_of_bed[annealing.best_bed])
        assert sum(costs.values()) == annealing.best
        check(text, instance, [problem.bed_at[bed] for bed in annealing.best_bed], costs)
        now = breakdown(problem, problem.room_of_bed[annealing.bed])
        assert sum(now.values()) == int(annealing.value[0])


@pytest.mark.parametrize("seed", range(3))
def test_no_plan_is_cheaper_than_the_bound(seed):
    from services.beds.planner.bounds import bound_of, kinds_of, linear_prices, reduced, subgradient_prices

    problem = problem_of(parse_instance(an_instance(seed=seed, load=1.0, patients=250), "made up"))
    plan = first_plan(problem)
    cost = sum(breakdown(problem, problem.room_of_bed[plan]).values())
    kinds = kinds_of(problem)
    free = np.zeros((len(kinds.beds), problem.horizon))
    soon = time.monotonic() + 20
    price = subgradient_prices(problem, kinds, steps=400, above=cost, until=soon)
    found = [bound_of(problem, kinds, free), bound_of(problem, kinds, price)]
    found += [bound_of(problem, kinds, better) for better in linear_prices(problem, kinds, price, until=soon)]
    assert max(found[1:]) >= found[0]
    assert max(found) <= cost
    assert found[-1] == max(found), "the linear programme's bound is the best"
    assert all(bound % LATTICE == 0 for bound in found)
    assert (reduced(problem, kinds, free)[:, kinds.of_room] == problem.cost).all()


def test_a_race_of_some_seconds_ends_in_time_with_a_counted_plan_above_its_bound():
    text = PUBLIC.read_text()
    instance = parse_instance(text, "testdata01.txt")
    began = time.monotonic()
    standings: list[Standing] = []
    found = allocate(instance, text, until=began + 6, searches=1, told=standings.append)
    assert time.monotonic() - began < 12, "six seconds, and what a busy machine adds"
    assert check(text, instance, found.bed_of_patient, found.breakdown) == found.cost
    assert 0 <= found.bound <= 6434
    assert found.cost >= found.bound
    assert standings


def test_a_race_with_no_time_at_all_still_gives_a_complete_plan():
    text = an_instance(seed=3)
    instance = parse_instance(text, "made up")
    found = allocate(instance, text, until=time.monotonic() - 1)
    check(text, instance, found.bed_of_patient, found.breakdown)


def test_a_plan_as_cheap_as_the_bound_ends_the_race_at_once():
    text = an_instance(seed=5, rooms=1, patients=1, nights=2, specialisms=1, properties=0, policies="N", ages=False)
    instance = parse_instance(text, "made up")
    began = time.monotonic()
    found = allocate(instance, text, until=began + 60, searches=1)
    assert found.cost == found.bound
    assert time.monotonic() - began < 45


def test_a_hospital_without_patients_has_an_empty_plan_that_costs_nothing():
    text = an_instance(patients=0)
    found = allocate(parse_instance(text, "made up"), text, until=time.monotonic() + 5)
    assert (found.bed_of_patient, found.cost) == ((), 0)


def test_more_patients_than_beds_on_a_night_is_said_with_the_night():
    text = an_instance(seed=2, rooms=2, patients=40, load=1.5)
    problem = problem_of(parse_instance(text, "made up"))
    with pytest.raises(NoRoom, match=r"Night \d+ has \d+ patients and the hospital has \d+ beds"):
        first_plan(problem)


def test_the_largest_hospital_gets_its_first_plan_within_seconds():
    text = an_instance(seed=9, rooms=115, patients=2800, nights=91, load=0.97)
    instance = parse_instance(text, "made up")
    assert len(instance.patients) > 2000
    began = time.monotonic()
    problem = problem_of(instance)
    beds = first_plan(problem)
    assert time.monotonic() - began < 10
    check(text, instance, [problem.bed_at[bed] for bed in beds], breakdown(problem, problem.room_of_bed[beds]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_stops_the_command_leaves_no_search_behind(number, tmp_path):
    path = tmp_path / "hospital.txt"
    path.write_text(an_instance(seed=4, rooms=40, patients=800, nights=20))
    command = [sys.executable, "-m", "infra.cli.main", "allocate", "--instance", str(path), "--time-limit", "300"]
    # Who runs the tests in the background ignores Ctrl-C, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, before)
    try:
        end = time.monotonic() + 60
        while not (searches := psutil.Process(process.pid).children()) and time.monotonic() < end:
            time.sleep(0.05)
        assert searches
        process.send_signal(number)
        assert process.communicate(timeout=30)[0] == b""
        _gone, alive = psutil.wait_procs(searches, timeout=30)
        assert alive == []
    finally:
        process.kill()
        process.wait()
