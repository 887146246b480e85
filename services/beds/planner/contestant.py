"""One process of the race: `python -m services.beds.planner.contestant search|bound|warm SEED UNTIL`.

One JSON value a line, in: the instance's text, then prices of bed-nights whenever there are better ones. Out, whenever it knows
better: `{"cost": …, "beds": […]}` or `{"bound": …, "prices": […]}`. Ends at the instant UNTIL of `time.monotonic()`, or when
nobody reads any more. `warm` only has the search compiled and kept, so that the first real race need not wait for it.
"""

import contextlib
import functools
import json
import os
import queue
import sys
import threading
import time
from typing import TextIO

import numpy as np

from services.beds.planner import bounds
from services.beds.planner.bounds import Floats
from services.beds.planner.pas import Problem, first_plan, parse_instance, problem_of

HOT, WARM, COLD = 14.0, 6.0, 1.2
"""Temperatures, in tenths: where most exchanges pass, where some do, and where hardly a dearer one does."""

FIRST_SHARE = 0.06

SLICE_SECONDS = 0.02
TELL_SECONDS = 0.5
PRICE_STEPS, PRICE_SECONDS_MAX = 1500, 4.0
MARGIN_SECONDS = 0.12

SMALLEST = """ARTICLE BENCHMARK DATA SET
Rooms: 2
Roomproperties: 0
Beds: 2
Departments: 1
Specialisms: 1
Patients: 2
Planning horizon: 2
SPECIALISMS:
1 Any
DEPARTMENTS:
1 Any 0 0 | 1 1
ROOMPROPERTIES:
ROOMS:
1 A | 1 | 1 | D | 1 1 |
2 B | 1 | 1 | N | 2 1 |
BEDS:
1 1
2 2
PATIENTS:
1 P 30 M | 0 2 | 1 1 2 | 1 | |
2 P 40 F | 0 1 | 1 1 1 | 1 | |
END.
"""
"""An instance to compile with."""


def _tell(**known: object) -> None:
    _mouth().write(json.dumps(known) + "\n")
    _mouth().flush()


@functools.cache
def _mouth() -> TextIO:
    """Return what the race listens to; whatever else a library prints goes to stderr."""
    mouth = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return mouth


def temperature(done: float) -> float:
    """Return how hot it is after that share of the time: a short cooling first, so that a good plan is soon there, then the long one."""
    hot, done = (WARM, done / FIRST_SHARE) if done < FIRST_SHARE else (HOT, (done - FIRST_SHARE) / (1 - FIRST_SHARE))
    return float(hot * (COLD / hot) ** done)


def search(problem: Problem, heard: "queue.SimpleQueue[Floats]", *, seed: int, until: float) -> None:
    """Anneal from the first plan until the instant, and tell each better plan, at most twice a second.

    Prices of bed-nights that come meanwhile decide in which rooms a patient is tried first.
    """
    from services.beds.planner.search import Annealing  # the compiler: the bound needs it not

    kinds = bounds.kinds_of(problem)
    annealing = Annealing(problem, first_plan(problem), seed=seed)
    annealing.run(1, HOT)  # compiled before the clock of the cooling starts
    began = time.monotonic()
    steps, told, told_at = 1000, annealing.best, began
    end = until - MARGIN_SECONDS
    while (now := time.monotonic()) < end:
        with contextlib.suppress(queue.Empty):
            annealing.prefer(bounds.reduced(problem, kinds, heard.get_nowait())[:, kinds.of_room])
        annealing.run(steps, temperature((now - began) / (end - began)))
        took = time.monotonic() - now
        steps = max(100, min(1_000_000, int(steps * min(2.0, SLICE_SECONDS / max(took, 1e-6)))))
        if annealing.best < told and now - told_at > TELL_SECONDS:
            told, told_at = annealing.best, now
            _tell(cost=told, beds=annealing.best_bed.tolist())
    _tell(cost=annealing.best, beds=annealing.best_bed.tolist())


def bound(problem: Problem, *, until: float) -> None:
    """Tell better and better lower bounds, and the prices that prove them, until they are exact for the rules without sex."""
    kinds = bounds.kinds_of(problem)
    beds = first_plan(problem)
    rooms = problem.room_of_bed[beds]
    above = float(problem.cost[np.arange(len(rooms)), rooms].sum())
    free = np.zeros((len(kinds.beds), problem.horizon))
    best = bounds.bound_of(problem, kinds, free)
    _tell(bound=best, prices=free.tolist())
    soon = time.monotonic() + min(PRICE_SECONDS_MAX, (until - time.monotonic()) / 8)
    price = bounds.subgradient_prices(problem, kinds, steps=PRICE_STEPS, above=above, until=soon)
    best = max(best, bounds.bound_of(problem, kinds, price))
    _tell(bound=best, prices=price.round(3).tolist())
    for better in bounds.linear_prices(problem, kinds, price, until=until):
        proven = bounds.bound_of(problem, kinds, better)
        if proven > best:
            best = proven
            _tell(bound=best, prices=better.round(3).tolist())


def _listen(heard: "queue.SimpleQueue[Floats]") -> None:
    for line in sys.stdin:
        heard.put(np.array(json.loads(line), np.float64))
    os._exit(0)  # whoever wanted the answer is gone


def main() -> None:
    """Run as one of the race's processes."""
    _mouth()
    task, seed, until = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    said = json.dumps(SMALLEST) if task == "warm" else sys.stdin.readline()
    if not said:
        return
    problem = problem_of(parse_instance(json.loads(said), "the instance"))
    heard: queue.SimpleQueue[Floats] = queue.SimpleQueue()
    if task == "warm":
        from services.beds.planner.search import Annealing

        Annealing(problem, first_plan(problem), seed=seed).run(1, HOT)
        return
    threading.Thread(target=_listen, args=(heard,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        if task == "bound":
            os.nice(5)  # the searches are what the time is for
            bound(problem, until=until)
        else:
            search(problem, heard, seed=seed, until=until)


if __name__ == "__main__":
    main()
