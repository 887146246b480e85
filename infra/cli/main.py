"""The entry point of `wardstream`: a list of the modules that bring commands; they import what is heavy when they run."""

from pathlib import Path
from typing import Annotated

import typer

from infra.cli import (
    accounts,
    allocate,
    audit,
    beds,
    bench,
    demo,
    doctor,
    documents,
    journey,
    parked,
    prices,
    replay,
    settle,
    stack,
    topics,
)
from infra.cli.answers import Commands, Invocation

app = typer.Typer(
    cls=Commands,
    help="Run, watch and check the hospital's stream of facts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            help="Data, logs and state of one embedded stack. Default: WARDSTREAM_HOME or a per-user data directory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run, watch and check the hospital's stream of facts."""
    context.obj = Invocation(home)


for _module in (
    accounts,
    allocate,
    audit,
    beds,
    bench,
    demo,
    doctor,
    documents,
    journey,
    parked,
    prices,
    replay,
    settle,
    stack,
    topics,
):
    _module.register(app)


if __name__ == "__main__":
    app()
