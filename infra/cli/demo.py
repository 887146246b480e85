"""`wardstream demo`: the bundled patients' journeys on the running stack; what `make run` shows."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from infra.cli.accounts import credential_for
from infra.cli.answers import EXIT_WRONG, AsJson, answer, home_of, table
from infra.cli.replay import InFlight, ensure_running, play, read_bundles
from infra.journeys.bedside import NotSettled, Settled, Simulators, play_bedside_day
from infra.journeys.client import Client, Declined, Login, Unreachable
from infra.local.errors import StackError
from infra.local.home import PROJECT_ROOT
from infra.local.stack import Stack
from shared.money import yuan_text

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
    """Settle three live families at the bedside, play every journey of the bundled patients, and say where to look.

    Playing them all means that a later replay of the same patients finds nothing new.
    """
    stack = Stack(home_of(context))
    reading = read_bundles([DEMO_DATA])
    ensure_running(stack)
    bedside = asyncio.run(_bedside(stack))
    report = play(stack, reading, limit=limit, in_flight=journeys_in_flight)
    places = {"url": stack.base_url, "logs": str(stack.home.logs)}

    def show(console: Console) -> None:
        report.show(console)
        rows = table("settled at the bedside", ">charged", ">fund", ">back", "states")
        for one in bedside:
            fens = (yuan_text(fen) for fen in (one.charged_fen, one.payer_fen, one.refunded_fen))
            rows.add_row(one.title, *fens, " > ".join(one.states))
        console.print(rows)
        console.print(f"Front door: {places['url']}", markup=False)
        console.print(f"Logs:       {places['logs']}", markup=False, soft_wrap=True)
        known = next((one.encounter_id for one in report.played if one.encounter_id), None)
        if known is not None:
            console.print(f"One stay:   wardstream journey {known}", markup=False, soft_wrap=True)

    shown = [{**asdict(one), "encounter_id": str(one.encounter_id)} for one in bedside]
    answer({**report.as_json(), "bedside": shown, **places}, as_json=as_json, show=show)
    if not report.is_right:
        raise typer.Exit(EXIT_WRONG)


async def _bedside(stack: Stack) -> list[Settled]:
    """Settle a few live families before the imported ones come, so that the audit sees both."""
    credential = credential_for(stack.home.root, username="replay")
    client = Client(stack.base_url, Login(credential.username, credential.password))
    try:
        return await play_bedside_day(client, await asyncio.to_thread(Simulators.of, stack))
    except (NotSettled, Declined, Unreachable) as error:
        raise StackError(f"The bedside settlements failed: {error}") from None
    finally:
        await client.close()
