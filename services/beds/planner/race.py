"""Two searches and one bound, each in a process of its own, until the time limit; the best plan is at hand at any moment.

Processes, because compiling, solving and searching must never keep the answer from being given in time: what has not spoken by
then is ended, and the plan is the best that was told. The first one is made here before anything else starts.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from services.beds.planner.bounds import kinds_of, reduced
from services.beds.planner.pas import Instance, Ints, breakdown, first_plan, problem_of

GRACE_SECONDS = 0.25
"""How long after the limit the last word of a search is waited for."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best plan and what is known about it; costs in tenths."""

    bed_of_patient: tuple[int, ...]
    """The file's bed for each patient that needs one."""
    cost: int
    bound: int
    breakdown: dict[str, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """How the race stands; costs in tenths."""

    cost: int
    bound: int


def allocate(
    instance: Instance,
    text: str,
    *,
    until: float,
    seed: int = 1,
    searches: int | None = None,
    told: Callable[[Standing], None] = lambda _standing: None,
) -> Found:
    """Return the best complete plan found before the instant `until` of `time.monotonic()`, with a lower bound.

    Args:
        instance: What `text` says.
        text: The instance as it was read; the processes read it again.
        until: When to stop; earlier when the plan is as cheap as the bound.
        seed: Of the first search; the others count on from it.
        searches: How many at once; as many as there are cores, at most four, when not given.
        told: Called whenever the plan or the bound got better, and at least every half second.

    Raises:
        NoRoom: When no complete plan exists.
    """
    problem = problem_of(instance)
    plan = first_plan(problem)
    cost = sum(breakdown(problem, problem.room_of_bed[plan]).values())
    bound, kinds = 0, kinds_of(problem)
    count = searches if searches is not None else max(1, min(4, len(os.sched_getaffinity(0))))
    said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    running: list[tuple[subprocess.Popen[str], queue.SimpleQueue[str | None]]] = []
    try:
        if len(plan) and until - time.monotonic() > 0:
            tasks = [("search", seed + number) for number in range(count)] + [("bound", 0)]
            running = [_start(task, number, until, text, said) for task, number in tasks]
        alive = len(running)
        while alive and cost > bound:
            left = until + GRACE_SECONDS - time.monotonic()
            if left <= 0:
                break
            try:
                news = said.get(timeout=min(0.5, left))
            except queue.Empty:
                told(Standing(cost, bound))
                continue
            if news is None:
                alive -= 1
                continue
            if "bound" in news:
                bound = max(bound, int(news["bound"]))
                for _, heard in running[:count]:
                    heard.put(json.dumps(news["prices"]))
                # Prices alone give a better first plan, on a machine too busy for the searches to have spoken.
                wanted = reduced(problem, kinds, np.array(news["prices"], np.float64))
                offered = first_plan(problem, wanted[:, kinds.of_room])
            else:
                offered = np.array(news["beds"], np.int32)
            price = sum(breakdown(problem, problem.room_of_bed[offered]).values())
            if price < cost and collides_nowhere(offered, problem.first, problem.end):
                plan, cost = offered, price
            told(Standing(cost, bound))
    finally:
        for process, heard in running:
            process.kill()
            heard.put(None)
        for process, _ in running:
            process.wait()
    return Found(
        bed_of_patient=tuple(problem.bed_at[bed] for bed in plan),
        cost=cost,
        bound=bound,
        breakdown=breakdown(problem, problem.room_of_bed[plan]),
    )


def collides_nowhere(beds: Ints, first: Ints, end: Ints) -> bool:
    """Say whether no two patients share a bed on any night."""
    order = np.lexsort((first, beds))
    same = beds[order][1:] == beds[order][:-1]
    return not bool((same & (first[order][1:] < end[order][:-1])).any())


def _start(
    task: str, seed: int, until: float, text: str, said: "queue.SimpleQueue[dict[str, Any] | None]"
) -> "tuple[subprocess.Popen[str], queue.SimpleQueue[str | None]]":
    """Start a process with the instance; return it with the queue of what it shall hear. `said` gets None when it has ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.beds.planner.contestant", task, str(seed), repr(until)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for us; we end them
    )
    assert process.stdin is not None
    assert process.stdout is not None
    heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    heard.put(json.dumps(text))
    threading.Thread(target=_hand_over, args=(process.stdin, heard), daemon=True).start()
    threading.Thread(target=_listen, args=(process.stdout, said), daemon=True).start()
    return process, heard


def _hand_over(stdin: IO[str], heard: "queue.SimpleQueue[str | None]") -> None:
    with contextlib.suppress(OSError), stdin:  # a process that has ended hears nothing; the listener says so
        while (line := heard.get()) is not None:
            stdin.write(line + "\n")
            stdin.flush()


def _listen(stdout: IO[str], said: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    with stdout:
        for line in stdout:
            if line.endswith("\n"):  # else it was ended in mid-sentence
                said.put(json.loads(line))
    said.put(None)
