"""`wardstream doctor`: what this machine has and lacks."""

import typer
from rich.console import Console
from rich.markup import escape

from infra.cli.answers import EXIT_MISSING, AsJson, answer, home_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Say what the machine has and lacks for running, tests, screens and containers, and what to do about it.

    Exit 3 when the stack cannot run or the tests cannot; a lack of a browser or of containers alone is only told.
    """
    from infra.local.doctor import examine

    checks = examine(home_of(context))
    is_fit = all(check.ok for check in checks if check.needed)

    def show(console: Console) -> None:
        for check in checks:
            mark = "[green]ok[/]" if check.ok else "[red]no[/]" if check.needed else "[yellow]--[/]"
            console.print(f"{mark}  {check.name:<11} {escape(check.found)}", soft_wrap=True)
            if check.fix:
                console.print(f"                {escape(check.fix)}", style="bold", soft_wrap=True)

    answer({"ok": is_fit, "checks": [check.as_json() for check in checks]}, as_json=as_json, show=show)
    if not is_fit:
        raise typer.Exit(EXIT_MISSING)
