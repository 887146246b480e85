"""`wardstream demo`: the bundled patients' journeys on the running stack; what `make run` shows."""

from typing import Annotated

import typer
from rich.console import Console

from infra.cli.answers import EXIT_WRONG, AsJson, answer, home_of
from infra.cli.replay import InFlight, ensure_running, play, read_bundles
from infra.local.home import PROJECT_ROOT
from infra.local.stack import Stack

DEMO_DATA = PROJECT_ROOT / "data" / "synthea"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    context: typer.Context,
    *,
    journeys_in_flight: InFlight = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Play only the first N journeys in time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Play every journey of the bundled demo patients, inpatient and day surgery, and say where to look.

    Playing them all means that a later replay of the same patients finds nothing new.
    """
    stack = Stack(home_of(context))
    reading = read_bundles([DEMO_DATA])
    ensure_running(stack)
    report = play(stack, reading, limit=limit, in_flight=journeys_in_flight)
    places = {"url": stack.base_url, "logs": str(stack.home.logs)}

    def show(console: Console) -> None:
        report.show(console)
        console.print(f"Front door: {places['url']}", markup=False)
        console.print(f"Logs:       {places['logs']}", markup=False, soft_wrap=True)
        known = next((one.encounter_id for one in report.played if one.encounter_id), None)
        if known is not None:
            console.print(f"One stay:   wardstream journey {known}", markup=False, soft_wrap=True)

    answer({**report.as_json(), **places}, as_json=as_json, show=show)
    if not report.is_right:
        raise typer.Exit(EXIT_WRONG)
