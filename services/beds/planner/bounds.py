"""What no plan can be cheaper than: every bed-night gets a price, and each patient takes the cheapest rooms at those prices.

Whatever the prices are, the sum of what patients would pay less what all bed-nights are worth is a lower bound (Lagrange): a bound
is therefore never trusted to a solver, only its prices are. One sex to a room is left out, so the bound holds with and without it.
Prices come within a second from subgradient steps, and later, exactly, from the linear programme over kinds of rooms.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.beds.planner.pas import LATTICE, Ints, Problem

Floats = npt.NDArray[np.float64]

NEAR = 15.0
"""Columns the first linear programme has: those within so many tenths of the patient's cheapest."""


PATIENCE = 20
"""Steps without a better bound before shorter ones are taken from the best prices."""

PACE_MIN = 1e-4


@dataclass(frozen=True, slots=True)
class Kinds:
    """Rooms that cost every patient the same are one kind with many beds."""

    of_room: Ints
    beds: Ints
    cost: Ints
    """patient x kind"""


def kinds_of(problem: Problem) -> Kinds:
    """Put rooms together that no patient can tell apart."""
    if not problem.cost.size:
        nobody = np.zeros(len(problem.capacity), np.int32)
        return Kinds(nobody, np.array([problem.capacity.sum()], np.int32), np.zeros((len(problem.first), 1), np.int32))
    columns, of_room = np.unique(problem.cost, axis=1, return_inverse=True)
    beds = np.bincount(of_room.ravel(), weights=problem.capacity, minlength=columns.shape[1])
    return Kinds(
        of_room.ravel().astype(np.int32), beds.astype(np.int32), np.ascontiguousarray(columns.astype(np.int32))
    )


def reduced(problem: Problem, kinds: Kinds, price: Floats) -> Floats:
    """Return patient x kind: the stay's cost with every bed-night paid at its price."""
    spent = np.concatenate([np.zeros((price.shape[0], 1)), np.cumsum(price, axis=1)], axis=1)
    return np.asarray(kinds.cost + (spent[:, problem.end] - spent[:, problem.first]).T, np.float64)


def bound_of(problem: Problem, kinds: Kinds, price: Floats) -> float:
    """Return the lower bound, in tenths, that these prices prove, rounded up to what a plan can cost."""
    if not len(problem.first):
        return 0.0
    price = np.maximum(price, 0.0)
    proven = reduced(problem, kinds, price).min(axis=1).sum() - (price.sum(axis=1) * kinds.beds).sum()
    return max(0.0, float(np.ceil((proven - 1e-4) / LATTICE) * LATTICE))


def subgradient_prices(problem: Problem, kinds: Kinds, *, steps: int, above: float, until: float) -> Floats:
    """Return good prices after so many steps, or before the instant `until`; `above` is the cost of any plan."""
    price = np.zeros((len(kinds.beds), problem.horizon))
    best_price, best = price.copy(), -np.inf
    direction = np.zeros_like(price)
    people = np.arange(len(problem.first))
    pace, waited = 1.0, 0
    for _ in range(steps if len(people) else 0):
        if time.monotonic() > until:
            break
        paid = reduced(problem, kinds, price)
        choice = paid.argmin(axis=1)
        total = float(paid[people, choice].sum() - (price.sum(axis=1) * kinds.beds).sum())
        if total > best:
            best, best_price, waited = total, price, 0
        else:
            waited += 1
            if waited >= PATIENCE:
                pace, waited = pace * 0.7, 0
                if pace < PACE_MIN:
                    break
                price, direction = best_price, np.zeros_like(price)
                continue
        change = np.zeros((len(kinds.beds), problem.horizon + 1))
        np.add.at(change, (choice, problem.first), 1.0)
        np.add.at(change, (choice, problem.end), -1.0)
        direction = 0.7 * direction + np.cumsum(change, axis=1)[:, :-1] - kinds.beds[:, None]
        direction[(price <= 0.0) & (direction < 0.0)] = 0.0
        length = float((direction * direction).sum())
        if length <= 0.0:
            break
        price = np.maximum(price + pace * max(above * 1.02 - total, 1.0) / length * direction, 0.0)
    return best_price


def linear_prices(problem: Problem, kinds: Kinds, price: Floats, *, until: float) -> Iterator[Floats]:
    """Yield better and better prices from linear programmes over the columns that matter; ends with the exact ones.

    Each programme has the columns that looked cheap at the last prices; columns it would have wanted and did not have join the
    next one. `until` is an instant of `time.monotonic()`.
    """
    from scipy.optimize import linprog  # a second to import, and the searches need it not
    from scipy.sparse import csc_array

    patients, count, horizon = len(problem.first), len(kinds.beds), problem.horizon
    if not patients:
        return
    near = reduced(problem, kinds, price)
    chosen = near <= near.min(axis=1, keepdims=True) + NEAR
    # Somewhere to go for everybody keeps the programme solvable; it costs more than any room.
    nowhere = float(kinds.cost.max() + 1) * 10.0 + 1000.0
    length = problem.end - problem.first
    while (left := until - time.monotonic()) > 0.05:
        who, kind = np.nonzero(chosen)
        nights = length[who]
        columns = len(who)
        starts = np.repeat(problem.first[who] + kind * horizon, nights)
        within = np.arange(int(nights.sum())) - np.repeat(np.cumsum(nights) - nights, nights)
        rows = np.concatenate([starts + within, count * horizon + who, count * horizon + np.arange(patients)])
        at = np.concatenate([np.repeat(np.arange(columns), nights), np.arange(columns), columns + np.arange(patients)])
        matrix = csc_array((np.ones(len(rows)), (rows, at)), shape=(count * horizon + patients, columns + patients))
        solved = linprog(
            np.concatenate([kinds.cost[who, kind], np.full(patients, nowhere)]),
            A_ub=matrix[: count * horizon],
            b_ub=np.repeat(kinds.beds, horizon).astype(float),
            A_eq=matrix[count * horizon :],
            b_eq=np.ones(patients),
            bounds=(0, None),
            method="highs",
            options={"time_limit": left, "presolve": True},
        )
        if solved.status != 0:
            return
        price = np.maximum(-np.asarray(solved.ineqlin.marginals, np.float64).reshape(count, horizon), 0.0)
        yield price
        near = reduced(problem, kinds, price)
        pays = np.asarray(solved.eqlin.marginals, np.float64)[:, None]
        missing = (near < pays - 1e-6) & ~chosen
        if not missing.any():
            return
        chosen |= missing | (near < near.min(axis=1, keepdims=True) + 1.0)
