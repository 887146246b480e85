"""Simulated annealing over exchanges of stays between two beds; every plan on its way is complete and collides nowhere.

An exchange begins with one patient and another bed. Whoever lies in the other bed during those nights comes to the first bed,
whoever is in the way there goes to the other, and so on until two nights are found where nobody's stay is cut: what lies between
is swapped. So no plan ever needs repair, and a long stay finds room against several short ones in one step.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from services.beds.planner.compiled import compiled
from services.beds.planner.pas import SEX_MIX, Ints, Problem

Grid = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]

CANDIDATES = 32
"""How many rooms a patient is tried in with preference: those that are cheapest when bed-nights have their price."""


class Annealing:
    """One search: the plan it is at, the best it saw, and the arrays that make a step cheap."""

    def __init__(self, problem: Problem, beds: Ints, *, seed: int) -> None:
        self.problem = problem
        self.bed = beds.astype(np.int32).copy()
        self.best_bed = self.bed.copy()
        self.grid = np.full((len(problem.room_of_bed), problem.horizon), -1, np.int32)
        self.there = np.zeros((2, len(problem.capacity), problem.horizon), np.int32)
        for patient, bed in enumerate(self.bed):
            nights = slice(problem.first[patient], problem.end[patient])
            self.grid[bed, nights] = patient
            self.there[problem.sex[patient], problem.room_of_bed[bed], nights] += 1
        mixed = int((np.minimum(self.there[0], self.there[1]) * problem.one_sex[:, None]).sum())
        rooms = problem.room_of_bed[self.bed]
        now = int(problem.cost[np.arange(len(rooms)), rooms].sum()) + SEX_MIX * mixed
        self.value = np.array([now, now], np.int64)
        self.random = np.array([(seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF], np.uint64)
        self.prefer(problem.cost)

    def prefer(self, price: npt.NDArray[Any]) -> None:
        """Try each patient first in the rooms that are cheapest by `price` (patient x room)."""
        count = min(CANDIDATES, price.shape[1])
        order = np.argsort(price, axis=1, kind="stable")[:, :count]
        self.candidates = np.ascontiguousarray(order.astype(np.int32))

    @property
    def best(self) -> int:
        """What the best plan costs, in tenths."""
        return int(self.value[1])

    def run(self, steps: int, temperature: float) -> None:
        """Take so many steps at this temperature."""
        problem = self.problem
        _steps(
            steps,
            temperature,
            SEX_MIX,
            problem.first,
            problem.end,
            problem.sex,
            problem.room_of_bed,
            problem.first_bed,
            problem.capacity,
            problem.one_sex,
            problem.cost,
            self.candidates,
            self.bed,
            self.best_bed,
            self.grid,
            self.there,
            self.value,
            self.random,
        )


@compiled
def _random(state: Words) -> int:
    """Return 53 random bits (xorshift)."""
    word = state[0]
    word ^= word << np.uint64(13)
    word ^= word >> np.uint64(7)
    word ^= word << np.uint64(17)
    state[0] = word
    return np.int64(word >> np.uint64(11))  # type: ignore[return-value]  # a machine word, there


@compiled
def _stretch(one: int, other: int, low: int, high: int, first: Ints, end: Ints, grid: Grid) -> tuple[int, int]:
    """Return the nights that must be swapped as a whole between two beds, so that no stay is cut."""
    moved = True
    while moved:
        moved = False
        for turn in range(2):
            side = one if turn == 0 else other
            lying = grid[side, low]
            if lying >= 0 and first[lying] < low:
                low = first[lying]
                moved = True
            lying = grid[side, high - 1]
            if lying >= 0 and end[lying] > high:
                high = end[lying]
                moved = True
    return low, high


@compiled
def _moving(bed: int, room: int, to_room: int, low: int, high: int, end: Ints, cost: Ints, grid: Grid) -> int:
    """Return what it changes that those in the bed during these nights lie in the other room."""
    change, night = 0, low
    while night < high:
        lying = grid[bed, night]
        if lying < 0:
            night += 1
        else:
            change += cost[lying, to_room] - cost[lying, room]
            night = end[lying]
    return change


@compiled
def _mixing(bed: int, other: int, room: int, low: int, high: int, sex: Ints, grid: Grid, there: Grid) -> int:
    """Return by how many patient-nights of the smaller sex a room becomes more mixed when `other`'s people lie in `bed`."""
    mixed = 0
    for night in range(low, high):
        here, across = grid[bed, night], grid[other, night]
        leaving = sex[here] if here >= 0 else -1
        coming = sex[across] if across >= 0 else -1
        if leaving != coming:
            men, women = there[0, room, night], there[1, room, night]
            before = min(men, women)
            men += (coming == 0) - (leaving == 0)
            women += (coming == 1) - (leaving == 1)
            mixed += min(men, women) - before
    return mixed


@compiled
def _swap(
    one: int, other: int, low: int, high: int, sex: Ints, room_of_bed: Ints, bed: Ints, grid: Grid, there: Grid
) -> None:
    """Let the people of two beds change places during these nights."""
    room, other_room = room_of_bed[one], room_of_bed[other]
    for night in range(low, high):
        here, across = grid[one, night], grid[other, night]
        grid[one, night] = across
        grid[other, night] = here
        if here >= 0:
            bed[here] = other
            there[sex[here], room, night] -= 1
            there[sex[here], other_room, night] += 1
        if across >= 0:
            bed[across] = one
            there[sex[across], other_room, night] -= 1
            there[sex[across], room, night] += 1


@compiled
def _steps(
    steps: int,
    temperature: float,
    mix_weight: int,
    first: Ints,
    end: Ints,
    sex: Ints,
    room_of_bed: Ints,
    first_bed: Ints,
    capacity: Ints,
    one_sex: Ints,
    cost: Ints,
    candidate: Ints,
    bed: Ints,
    best_bed: Ints,
    grid: Grid,
    there: Grid,
    value: npt.NDArray[np.int64],
    random: Words,
) -> None:
    patients = len(first)
    unit = 1.0 / 9007199254740992.0
    now, best = value[0], value[1]
    stale = False
    for _ in range(steps):
        patient = _random(random) % patients
        one = int(bed[patient])
        word = _random(random)
        share = (word & 0xFFFFF) / 1048576.0
        other_room = int(share * len(capacity))
        if (word >> 20) & 15:  # mostly
            other_room = int(candidate[patient, int(share * share * candidate.shape[1])])
        other = int(first_bed[other_room] + (word >> 24) % capacity[other_room])
        if other == one:
            continue
        room = room_of_bed[one]
        low, high = _stretch(one, other, int(first[patient]), int(end[patient]), first, end, grid)
        change = 0
        if room != other_room:
            change = _moving(one, room, other_room, low, high, end, cost, grid)
            change += _moving(other, other_room, room, low, high, end, cost, grid)
            if one_sex[room]:
                change += mix_weight * _mixing(one, other, room, low, high, sex, grid, there)
            if one_sex[other_room]:
                change += mix_weight * _mixing(other, one, other_room, low, high, sex, grid, there)
            if change > -temperature * np.log((_random(random) + 1) * unit):
                continue
        if stale and change > 0 and now == best:  # before it is left
            best_bed[:] = bed
            stale = False
        _swap(one, other, low, high, sex, room_of_bed, bed, grid, there)
        now += change
        if now < best:
            best = now
            stale = True
    if stale and now == best:
        best_bed[:] = bed
    value[0] = now
    value[1] = best
