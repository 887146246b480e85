"""How every command answers: the answer on stdout, words on stderr, and an exit code that says how it went.

0 = done and right, 1 = done but something is wrong, 2 = wrong use or bad input, 3 = something is missing here.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from infra.local.errors import Missing, StackError

if TYPE_CHECKING:
    from typer._click.core import Context  # typer carries its own click and names this type nowhere else

EXIT_WRONG, EXIT_BAD_INPUT, EXIT_MISSING = 1, 2, 3

words = Console(stderr=True, highlight=False)
"""Progress and messages go here, never to stdout."""

AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]


class BadInput(Exception):
    """What was given cannot be used; the message names file, place and reason. Exit 2."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What stands before the command: which home it is about."""

    home: Path | None


def home_of(context: typer.Context) -> Path | None:
    """Return the directory given with --home, or None for the default one."""
    invocation = context.find_object(Invocation)
    return invocation.home if invocation is not None else None


def answer(value: Mapping[str, Any], *, as_json: bool, show: Callable[[Console], None]) -> None:
    """Print the answer on stdout: as one JSON object, or as `show` draws it for a person."""
    if as_json:
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        # A pipe has no width of its own; 80 columns would fold every id.
        show(Console(highlight=False, width=None if sys.stdout.isatty() else 160))


def table(*columns: str) -> Table:
    """Return an empty table in our one style; a column named with a leading `>` holds numbers."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return found


def _home_first(arguments: list[str]) -> list[str]:
    """Move --home to the front, so that it may stand anywhere before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < end:
        word = arguments[position]
        if word == "--home" and position + 1 < end:
            front += [word, arguments[position + 1]]
            position += 1
        elif word.startswith("--home="):
            front.append(word)
        else:
            rest.append(word)
        position += 1
    return [*front, *rest, *arguments[end:]]


class Commands(TyperGroup):
    """The group of all commands: turns what went wrong into a sentence and an exit code."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse, with --home allowed anywhere."""
        return super().parse_args(ctx, _home_first(args))

    def invoke(self, ctx: "Context") -> Any:
        """Run the command; a known failure becomes its message and its exit code, an unknown one stays a traceback."""
        try:
            return super().invoke(ctx)
        except Missing as error:
            words.print(str(error), markup=False, soft_wrap=True)
            words.print(error.fix, style="bold", markup=False, soft_wrap=True)
            ctx.exit(EXIT_MISSING)
        except BadInput as error:
            words.print(str(error), markup=False, soft_wrap=True)
            ctx.exit(EXIT_BAD_INPUT)
        except StackError as error:
            words.print(str(error), markup=False, soft_wrap=True)
            ctx.exit(EXIT_WRONG)
