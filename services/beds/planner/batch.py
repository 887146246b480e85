"""The pool's queue planned as a whole: requests x free beds, one sex to a room, and a price for whoever waits.

A matching without the sex rule comes first; rooms it would mix are given to the sex that is more there, and the rest is matched
anew until no room is mixed. While time is left, whole rooms are turned to the other sex, and a turn that makes the plan cheaper
stays. Nothing here touches the event loop, the database or a clock but the monotonic one; the matching itself is compiled code.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import csc_array, csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

OPEN, MALE, FEMALE, ANY = 0, 1, 2, 3
"""What a room is: empty and open to either sex, begun by one, or without the rule."""

UNKNOWN = 0
"""A request whose sex is unknown shares a room with nobody."""

PAIRS = 0.25
"""How often two rooms are turned at once: what one gives up the other may need."""

LINEAR_SECONDS_MIN = 1.5
"""From how much time on a linear programme is asked how the open rooms should be divided."""


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """Who waits, which beds are free, and what each pair that fits would cost. Rules other than sex are already in the arcs."""

    requests: int
    beds: int
    room_of_bed: Longs
    room_sex: Longs
    """Of each room: OPEN, MALE, FEMALE or ANY."""
    sex_of_request: Longs
    """MALE, FEMALE or UNKNOWN."""
    arc_request: Longs
    arc_bed: Longs
    arc_cost: Longs
    unassigned_cost: Longs
    """What it costs that a request waits: by priority and how long it has waited."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The plan: a bed or -1 for each request, its cost, and what waiting would have cost each."""

    bed_of_request: Longs
    cost: int
    bound: int
    """The cost of the best plan without the sex rule: no plan is cheaper."""
    price_of_waiting: Longs
    """By how much the plan would become dearer if this request waited, its bed going to whom it serves next best; 0 for who waits."""
    room_class: Longs
    """What each room is once the plan's patients lie in it; above ANY: somebody of unknown sex has it alone."""
    matchings: int


class _Matcher:
    """The arcs in order of request, and a matching for any division of the open rooms."""

    def __init__(self, problem: BatchProblem) -> None:
        order = np.lexsort((problem.arc_cost, problem.arc_bed, problem.arc_request))
        pair = problem.arc_request[order] * problem.beds + problem.arc_bed[order]
        order = order[np.concatenate([[True], pair[1:] != pair[:-1]])[: len(order)]]  # of two for one pair, the cheaper
        # An empty room with one bed to give is of nobody's sex.
        single = np.bincount(problem.room_of_bed, minlength=len(problem.room_sex)) <= 1
        self.room_sex = np.where((problem.room_sex == OPEN) & single, ANY, problem.room_sex)
        self.problem = problem
        self.request = problem.arc_request[order]
        self.bed = problem.arc_bed[order]
        self.cost = problem.arc_cost[order]
        self.room = problem.room_of_bed[self.bed]
        # A request of unknown sex is a class of its own: it shares with nobody.
        classes = problem.sex_of_request.copy()
        unknown = classes == UNKNOWN
        classes[unknown] = ANY + 1 + np.flatnonzero(unknown)
        self.class_of_request = classes
        self.arc_class = classes[self.request]
        self.count = 0
        self.seconds_most = 0.0

    def allowed(self, room_class: Longs) -> Flags:
        of_room = room_class[self.room]
        return np.asarray((of_room == OPEN) | (of_room == ANY) | (of_room == self.arc_class), np.bool_)

    def match(self, room_class: Longs) -> tuple[Longs, int]:
        """Return the cheapest plan when every room takes its class only; open rooms take everybody."""
        began = time.monotonic()
        problem = self.problem
        keep = self.allowed(room_class)
        request = self.request[keep]
        requests = problem.requests
        # Whoever finds no bed takes a place of his own; so there is always a full matching. The library takes an explicit
        # zero for a missing arc, hence the 1 on every cost, which moves every full matching alike.
        starts = np.searchsorted(request, np.arange(requests + 1))
        places = np.arange(requests)
        at = np.arange(len(request)) + request
        indices = np.empty(len(request) + requests, np.int32)
        data = np.empty(len(request) + requests, np.float64)
        indices[at], data[at] = self.bed[keep], self.cost[keep] + 1.0
        own = starts[1:] + places
        indices[own], data[own] = problem.beds + places, problem.unassigned_cost + 1.0
        indptr = (starts + np.arange(requests + 1)).astype(np.int32)
        graph = csr_array((data, indices, indptr), shape=(requests, problem.beds + requests))
        _, column = min_weight_full_bipartite_matching(graph)
        taken = np.asarray(column, np.int64)
        cost = round(float(data[_places_of(indices, indptr, taken)].sum())) - requests
        self.count += 1
        self.seconds_most = max(self.seconds_most, time.monotonic() - began)
        return np.where(taken < problem.beds, taken, -1), cost

    def mixed(self, plan: Longs, room_class: Longs) -> Longs:
        """Return the open rooms in which the plan puts two classes."""
        lying = plan >= 0
        rooms = self.problem.room_of_bed[plan[lying]]
        classes = self.class_of_request[lying]
        low = np.full(len(room_class), np.iinfo(np.int64).max)
        high = np.full(len(room_class), -1)
        np.minimum.at(low, rooms, classes)
        np.maximum.at(high, rooms, classes)
        return np.flatnonzero((high > low) & (room_class == OPEN))

    def majority(self, plan: Longs, room: int) -> int:
        """Return the class more of which the plan puts into the room."""
        lying = np.flatnonzero(plan >= 0)
        here = lying[self.problem.room_of_bed[plan[lying]] == room]
        values, counts = np.unique(self.class_of_request[here], return_counts=True)
        return int(values[counts.argmax()])

    def repaired(self, room_class: Longs) -> tuple[Longs, int, Longs]:
        """Return a plan that mixes no room, its cost, and the division that gave it."""
        room_class = room_class.copy()
        plan, cost = self.match(room_class)
        while len(mixed := self.mixed(plan, room_class)):
            for room in mixed:
                room_class[room] = self.majority(plan, int(room))
            plan, cost = self.match(room_class)
        return plan, cost, room_class


def _places_of(indices: npt.NDArray[np.int32], indptr: npt.NDArray[np.int32], taken: Longs) -> Longs:
    """Return where in each row of the matrix the taken column stands; columns rise within a row."""
    rows = np.repeat(np.arange(len(taken)), np.diff(indptr))
    return np.flatnonzero(indices == taken[rows])


def plan_batch(problem: BatchProblem, *, deadline_seconds: float, seed: int = 0) -> BatchPlan:
    """Return the cheapest plan found in so many seconds; it gives no bed twice and mixes no room.

    The first plan takes a handful of matchings and is finished even when that takes longer than the deadline.
    """
    began = time.monotonic()
    end = began + deadline_seconds
    if not problem.requests:
        empty = np.empty(0, np.int64)
        return BatchPlan(empty, 0, 0, empty, problem.room_sex.copy(), 0)
    matcher = _Matcher(problem)
    free, bound = matcher.match(matcher.room_sex)
    plan, cost, division = free, bound, matcher.room_sex.copy()
    if len(matcher.mixed(free, division)):
        plan, cost, division = matcher.repaired(division)
        if deadline_seconds >= LINEAR_SECONDS_MIN:
            advised = linear_division(problem, seconds=deadline_seconds / 2)
            if advised is not None:
                bound = max(bound, advised.bound)
                other = matcher.repaired(np.where(matcher.room_sex == ANY, ANY, advised.room_class))
                if other[1] < cost:
                    plan, cost, division = other
        end -= matcher.seconds_most  # for the prices of waiting, which take about a matching's time
        plan, cost, division = _turned(matcher, plan, cost, division, bound=bound, end=end, seed=seed)
    return BatchPlan(
        bed_of_request=plan,
        cost=cost,
        bound=bound,
        price_of_waiting=prices_of_waiting(matcher, plan, division),
        room_class=_shown(matcher, plan),
        matchings=matcher.count,
    )


def _turned(
    matcher: _Matcher, plan: Longs, cost: int, division: Longs, *, bound: int, end: float, seed: int
) -> tuple[Longs, int, Longs]:
    """Turn rooms to the other sex while time is left; keep what makes the plan no dearer."""
    problem = matcher.problem
    random = np.random.default_rng(seed)
    reached = np.bincount(matcher.room, minlength=len(problem.room_sex)) > 0
    rooms = np.flatnonzero((matcher.room_sex == OPEN) & reached)
    order: list[int] = []
    while len(rooms) and cost > bound and time.monotonic() + matcher.seconds_most < end:
        if not order:
            order = [int(room) for room in random.permutation(rooms)]
        now, tried = classes_of(matcher, plan, division), division.copy()
        for _ in range(1 + int(random.random() < PAIRS)):
            room = order.pop() if order else int(random.choice(rooms))
            tried[room] = {MALE: FEMALE, FEMALE: MALE}.get(int(now[room]), int(random.integers(MALE, FEMALE + 1)))
        other, price = matcher.match(tried)
        for _ in range(8):
            mixed = matcher.mixed(other, tried)
            if not len(mixed) or price > cost or time.monotonic() + matcher.seconds_most > end:
                break
            for one in mixed:
                tried[one] = matcher.majority(other, int(one))
            other, price = matcher.match(tried)
        if price <= cost and not len(matcher.mixed(other, tried)):
            plan, cost, division = other, price, _loosened(matcher, other, tried)
    return plan, cost, division


def _loosened(matcher: _Matcher, plan: Longs, division: Longs) -> Longs:
    """Open the rooms again that the plan leaves empty: whoever comes first decides."""
    used = np.zeros(len(division), np.bool_)
    used[matcher.problem.room_of_bed[plan[plan >= 0]]] = True
    return np.where((matcher.room_sex == OPEN) & ~used, OPEN, division)


def classes_of(matcher: _Matcher, plan: Longs, division: Longs) -> Longs:
    """Return what every room is once the plan's patients lie in it."""
    lying = plan >= 0
    rooms = matcher.problem.room_of_bed[plan[lying]]
    found = division.copy()
    open_ = matcher.room_sex[rooms] == OPEN
    found[rooms[open_]] = matcher.class_of_request[lying][open_]
    return found


def _shown(matcher: _Matcher, plan: Longs) -> Longs:
    """Return what every room becomes, those with one bed to give as well."""
    lying = plan >= 0
    rooms = matcher.problem.room_of_bed[plan[lying]]
    found = matcher.problem.room_sex.copy()
    open_ = found[rooms] == OPEN
    found[rooms[open_]] = matcher.class_of_request[lying][open_]
    return found


def prices_of_waiting(matcher: _Matcher, plan: Longs, division: Longs) -> Longs:
    """Return what would be lost if each request waited, its bed then serving the others as well as it can.

    A bed's worth is what one more like it would save: the best of those who would rather have it, plus what the bed is worth
    that they would leave. It is found by repeating this until nothing changes.
    """
    problem = matcher.problem
    keep = matcher.allowed(classes_of(matcher, plan, division))
    order = np.argsort(matcher.bed[keep], kind="stable")
    request, bed, cost = matcher.request[keep][order], matcher.bed[keep][order], matcher.cost[keep][order]
    pays = problem.unassigned_cost.astype(np.int64).copy()
    given = plan[request] == bed
    pays[request[given]] = cost[given]
    worth = np.zeros(problem.beds + 1, np.int64)  # the last is no bed
    if len(bed):
        first = np.flatnonzero(np.concatenate([[True], bed[1:] != bed[:-1]]))
        for _ in range(problem.requests + 1):
            gain = pays[request] - cost + worth[plan[request]]
            better = np.maximum(np.maximum.reduceat(gain, first), 0)
            better[plan_lacks(plan, bed[first])] = 0
            if np.array_equal(better, worth[bed[first]]):
                break
            worth[bed[first]] = better
    return np.where(plan >= 0, np.maximum(problem.unassigned_cost - pays - worth[plan], 0), 0)


def plan_lacks(plan: Longs, beds: Longs) -> Flags:
    """Say for each bed whether nobody gets it: one more such bed would save nothing."""
    return ~np.isin(beds, plan)


@dataclass(frozen=True, slots=True)
class Division:
    """How a linear programme would divide the open rooms, and the bound it proves."""

    room_class: Longs
    bound: int


def linear_division(problem: BatchProblem, *, seconds: float) -> Division | None:
    """Return the linear programme's bound and the sex it leans to for each open room; None when it takes too long.

    A room is given to a sex only when the programme gives it wholly; the others stay open and are settled by matching.
    """
    arcs, requests, beds = len(problem.arc_bed), problem.requests, problem.beds
    rooms = problem.room_of_bed[problem.arc_bed]
    sex = problem.sex_of_request[problem.arc_request]
    fits = (problem.room_sex[rooms] == OPEN) | (problem.room_sex[rooms] == ANY) | (problem.room_sex[rooms] == sex)
    arc = np.flatnonzero(fits)
    open_arc = np.flatnonzero(fits & (problem.room_sex[rooms] == OPEN) & (sex != UNKNOWN))
    open_rooms = np.unique(rooms[open_arc])
    open_beds = np.unique(problem.arc_bed[open_arc])
    share = arcs + requests + np.searchsorted(open_rooms, problem.room_of_bed[open_beds])
    columns = arcs + requests + len(open_rooms)
    # Rows: every bed once; for every bed of an open room, men up to the room's share, women up to the rest.
    bed_at = np.searchsorted(open_beds, problem.arc_bed[open_arc])
    women = sex[open_arc] == FEMALE
    count = len(open_beds)
    row = np.concatenate([
        problem.arc_bed[arc],
        beds + bed_at + np.where(women, count, 0),
        beds + np.arange(count),
        beds + count + np.arange(count),
    ])  # fmt: skip
    column = np.concatenate([arc, open_arc, share, share])
    value = np.concatenate([np.ones(len(arc) + len(open_arc)), -np.ones(count), np.ones(count)])
    upper = csc_array((value, (row, column)), shape=(beds + 2 * count, columns))
    limit = np.concatenate([np.ones(beds), np.zeros(count), np.ones(count)])
    equal = csc_array(
        (
            np.ones(len(arc) + requests),
            (
                np.concatenate([problem.arc_request[arc], np.arange(requests)]),
                np.concatenate([arc, arcs + np.arange(requests)]),
            ),
        ),
        shape=(requests, columns),
    )
    ceiling = np.ones(columns)
    ceiling[:arcs][~fits] = 0.0
    solved: Any = linprog(
        np.concatenate([problem.arc_cost, problem.unassigned_cost, np.zeros(len(open_rooms))]),
        A_ub=upper,
        b_ub=limit,
        A_eq=equal,
        b_eq=np.ones(requests),
        bounds=np.stack([np.zeros(columns), ceiling], axis=1),
        method="highs",
        options={"time_limit": seconds},
    )
    if solved.status != 0:
        return None
    leaning = np.asarray(solved.x[arcs + requests :])
    room_class = problem.room_sex.copy()
    used = np.zeros(len(room_class))
    np.add.at(used, rooms[open_arc], np.asarray(solved.x)[open_arc])
    filled = used[open_rooms] > 1e-6
    room_class[open_rooms[filled & (leaning > 0.999)]] = MALE
    room_class[open_rooms[filled & (leaning < 0.001)]] = FEMALE
    return Division(room_class, int(np.ceil(solved.fun - 1e-6)))
