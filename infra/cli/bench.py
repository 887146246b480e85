"""`wardstream bench NAME`: ours and the bare limit alternating in one run, on scratch servers, never on live data."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import structlog
import typer
import uvloop
from rich.console import Console

from infra.cli.answers import AsJson, BadInput, answer, table

NAMES = {
    "journeys": ("infra.bench.journeys", "bench_journeys"),
    "hop": ("infra.bench.hop", "bench_hop"),
    "relay": ("infra.bench.delivery", "bench_relay"),
    "consumer": ("infra.bench.delivery", "bench_consumer"),
    "beds": ("infra.bench.beds", "bench_beds"),
    "board": ("infra.bench.board", "bench_board"),
    "charges": ("infra.bench.charges", "bench_charges"),
}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command("bench", help=f"Measure beside the bare limit: {', '.join(NAMES)}.")
    def bench(name: Annotated[str, typer.Argument(help="What to measure.")], as_json: AsJson = False) -> None:  # noqa: FBT002
        if name not in NAMES:
            raise BadInput(f"There is no bench of that name; there are: {', '.join(NAMES)}.")
        # Stdout carries the answer and nothing else.
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        module, function = NAMES[name]
        measure: Callable[[], Coroutine[Any, Any, dict[str, Any]]] = getattr(importlib.import_module(module), function)
        # Whoever asks shares the cores with whoever is measured.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measure())

        def show(console: Console) -> None:
            rows = table("", ">ours", ">bare", ">ratio", "unit")
            rows.add_row(name, f"{found['ours']:,.3f}", f"{found['bare']:,.3f}", f"{found['ratio']:.3f}", found["unit"])
            console.print(rows)

        answer(found, as_json=as_json, show=show)
