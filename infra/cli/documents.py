"""`wardstream openapi`, `asyncapi`, `schemas`: the interface documents, made from the code that serves them."""

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, words
from infra.local.home import PROJECT_ROOT
from infra.local.services import SERVICES


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("openapi")(openapi)
    app.command("asyncapi")(asyncapi)
    app.command("schemas")(schemas)


def openapi_of(service: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a service, the same one it serves at /api/<service>/openapi.json; starts nothing."""
    import asyncpg

    from infra.cli.house import settings_of, spec_of
    from shared.access.tokens import TokenVerifier
    from shared.clock import Clock
    from shared.db import Database
    from shared.messaging.memory import MemoryBroker
    from shared.service import Runtime, create_app

    async def made(scratch: Path) -> dict[str, Any]:
        spec, settings, broker = spec_of(service, scratch), settings_of(service, scratch), MemoryBroker()
        database = Database(asyncpg.create_pool(settings.database_url), Clock())
        verifier = TokenVerifier("")
        runtime = Runtime(
            spec=spec,
            settings=settings,
            db=database,
            verifier=verifier,
            make_producer=broker.producer,
            make_group=broker.consumer,
        )
        return create_app(spec, lambda: runtime, verifier, run=False).openapi()

    with tempfile.TemporaryDirectory() as scratch:
        return asyncio.run(made(Path(scratch)))


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    answer(document, as_json=as_json, show=lambda console: console.print(text, markup=False, soft_wrap=True))


def openapi(
    service: Annotated[str, typer.Argument(help="One of: " + ", ".join(SERVICES))], *, as_json: AsJson = False
) -> None:
    """Print the OpenAPI 3.1 document of a service, as it is served."""
    if service not in SERVICES:
        raise BadInput(f"There is no service {service}; there are {', '.join(SERVICES)}.")
    _print(openapi_of(service), as_json=as_json)


def asyncapi(*, as_json: AsJson = False) -> None:
    """Print the AsyncAPI 3.0 document of all topics and events."""
    from infra.cli.house import readers
    from shared.contracts.asyncapi import document

    _print(document(readers()), as_json=as_json)


def schemas(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when something is not current.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="With --check: a git revision whose schemas must stay readable, such as origin/main."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export the JSON Schema and an example of every event, and the event table of README.md.

    A change that is not additive is refused: old events stay readable, and old readers understand new ones (R22).
    """
    from shared.contracts import export

    if against is not None and (not check or against.startswith("-")):
        raise BadInput("--against takes a git revision and goes with --check.")
    written: list[str] = []
    if check:
        problems = export.problems(None if against is None else _schemas_at(against)) + _stale_readme()
    else:
        try:
            export.write(told=lambda path: written.append(str(path.relative_to(PROJECT_ROOT))))
            problems = []
            if _stale_readme():
                _write_readme()
                written.append("README.md")
        except export.NotAdditive as error:
            problems = error.problems

    def show(console: Console) -> None:
        for path in written:
            console.print(path, markup=False, soft_wrap=True)

    for problem in problems:
        words.print(problem, markup=False, soft_wrap=True)
    if problems:
        words.print("Additive changes: make schemas. Others: a new event, or a new version beside the old one.")
    answer({"ok": not problems, "written": written, "problems": problems}, as_json=as_json, show=show)
    if problems:
        raise typer.Exit(EXIT_WRONG)


def _stale_readme() -> list[str]:
    from infra.cli.house import README, with_generated_blocks

    text = README.read_text("utf-8")
    return [] if with_generated_blocks(text) == text else ["README.md: its picture or its event table is not current"]


def _write_readme() -> None:
    from infra.cli.house import README, with_generated_blocks

    README.write_text(with_generated_blocks(README.read_text("utf-8")), "utf-8")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise BadInput(f"git {' '.join(arguments)} does not work here.") from None
    return done.stdout


def _schemas_at(revision: str) -> dict[str, Any]:
    """Return the schemas that are committed at a revision."""
    from shared.contracts.export import SCHEMAS

    folder = SCHEMAS.relative_to(PROJECT_ROOT)
    names = _git("ls-tree", "--name-only", revision, f"{folder}/").split()
    ending = ".schema.json"
    return {
        Path(name).name.removesuffix(ending): json.loads(_git("show", f"{revision}:{name}"))
        for name in names
        if name.endswith(ending)
    }
