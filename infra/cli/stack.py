"""`wardstream up`, `down`, `status`: the embedded stack."""

from typing import Annotated

import typer
from rich.console import Console

from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, home_of, table, words
from infra.local.services import SERVICES
from infra.local.stack import Process, Stack, Status


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)


def _show(found: Status, console: Console) -> None:
    rows = table("process", ">pid", ">port", "state", ">MiB", ">restarts", "says")
    for name, process in found.processes.items():
        pid = "" if process.pid is None else str(process.pid)
        rows.add_row(
            name,
            pid,
            str(process.port),
            _word(process),
            f"{process.rss_mb:.0f}",
            str(process.restarts),
            process.message,
        )
    if found.processes:
        console.print(rows)
    line = (
        f"{found.status}, {found.rss_mb:.0f} MiB, home {found.home}"
        if found.is_running
        else f"{found.status}, home {found.home}"
    )
    console.print(line, markup=False, soft_wrap=True)
    if found.message:
        console.print(found.message, markup=False, soft_wrap=True)
    if found.url is not None:
        console.print(found.url, style="bold", markup=False)


def _word(process: Process) -> str:
    if process.ready:
        return "ready"
    if process.gave_up:
        return "gave up"
    return "not ready" if process.pid is not None else "down"


def up(
    context: typer.Context,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the stack is ready and leave it running.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Start this service only; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring up PostgreSQL, Kafka, topics, migrations, all services, the front door and simulated parties outside.

    Without --detach it stays until Ctrl-C, which stops everything. A stack that already runs is left as it is.
    """
    embedded = Stack(home_of(context))
    unknown = set(only or ()) - set(SERVICES)
    if unknown:
        raise BadInput(f"There is no service {', '.join(sorted(unknown))}; there are {', '.join(SERVICES)}.")

    def told(found: Status) -> None:
        answer(found.as_json(), as_json=as_json, show=lambda console: _show(found, console))
        if found.ready_seconds is not None:
            words.print(f"Up after {found.ready_seconds:.1f} s." + ("" if detach else " Ctrl-C stops everything."))

    if embedded.status(measure=False).is_running:
        words.print("The stack is already running.")
        found = embedded.up()
        told_already = found
        answer(found.as_json(), as_json=as_json, show=lambda console: _show(told_already, console))
    else:
        words.print(f"Starting the stack in {embedded.home.root} …", markup=False, soft_wrap=True)
        found = embedded.up(services=only, detach=detach, on_settled=told)
        if not detach:
            words.print("Stopped.")
            return
        told(found)
    if found.status != "ready":
        raise typer.Exit(EXIT_WRONG)


def down(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Stop everything of this home; the data stays."""
    embedded = Stack(home_of(context))
    stopped = embedded.down()
    found = embedded.status()
    words.print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing ran.", soft_wrap=True)
    answer({**found.as_json(), "stopped": stopped}, as_json=as_json, show=lambda _: None)


def status(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show each process: pid, port, health, memory. Exit 1 when something is not ready or nothing runs."""
    found = Stack(home_of(context)).status()
    answer(found.as_json(), as_json=as_json, show=lambda console: _show(found, console))
    if found.status != "ready":
        raise typer.Exit(EXIT_WRONG)
