"""`wardstream audit`: every invariant of the hospital, recomputed from tables, topics and logs. Reads only.

`run_audit` is the same for programs: the replay's last step, and what fault tests end with.
"""

import asyncio
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.cli.accounts import credential_for, log_in
from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, home_of, table, words
from infra.local.errors import Missing, StackError
from infra.local.services import AUDIT_ROLE, SERVICES, SIMULATORS
from infra.local.stack import Stack

if TYPE_CHECKING:
    from infra.audit.check import Progress as Told
    from infra.audit.scene import Scene

HTTP_SECONDS_MAX = 15.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


def audit(
    context: typer.Context,
    *,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID", help="Run this check only, such as I1; may be repeated.")
    ] = None,
    allow_error: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-error", metavar="EVENT", help="Error lines of this name are expected (I24); may be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every invariant over databases, topics and logs of the running stack.

    A check is right when it examined something and found nothing wrong. What may still be on its way between services is
    looked at again before it is called wrong. On a stack in which nothing has happened yet there is nothing to examine:
    the answer is then ok and says `empty`. Exit 1 when anything is wrong.
    """
    stack = Stack(home_of(context))
    scene = scene_of(stack, allowed_errors=frozenset(allow_error or ()))
    with shown_progress() as told:
        found = asyncio.run(_audited(scene, only=only, told=told))

    def show(console: Console) -> None:
        rows = table("", "check", "", ">examined", ">wrong", "examples")
        for check in found["checks"]:
            said = [*check["examples"], *([check["reason"]] if "reason" in check else [])]
            mark = "ok" if check["ok"] else "[bold red]no[/]"
            rows.add_row(
                mark, check["id"], check["name"], str(check["examined"]), str(check["violations"]), "\n".join(said)
            )
        console.print(rows)
        console.print(_verdict(found), style="bold", markup=False)

    answer(found, as_json=as_json, show=show)
    if not found["ok"]:
        raise typer.Exit(EXIT_WRONG)


def _verdict(found: Mapping[str, Any]) -> str:
    checks = found["checks"]
    if found["ok"] and found["empty"]:
        return "Nothing has happened here yet: nothing is wrong, and nothing was proved."
    if found["ok"]:
        return f"All {len(checks)} checks are right, after {found['seconds']:.1f} s."
    wrong = sum(not check["ok"] for check in checks)
    return f"{wrong} of {len(checks)} checks are not right; {found['violations']} violations."


async def run_audit(
    stack: Stack,
    *,
    only: Collection[str] | None = None,
    allowed_errors: Collection[str] = (),
    told: "Told | None" = None,
) -> dict[str, Any]:
    """Audit a running stack and return what `wardstream audit --json` prints.

    Args:
        stack: the stack; all of it must be up.
        only: ids of checks; all by default.
        allowed_errors: names of log events that may be errors, because somebody injected the fault (I24).
        told: hears of the progress.

    Raises:
        StackError: the database or Kafka does not answer. Missing: the stack does not run.
    """
    return await _audited(scene_of(stack, allowed_errors=frozenset(allowed_errors)), only=only, told=told)


async def _audited(scene: "Scene", *, only: Collection[str] | None, told: "Told | None") -> dict[str, Any]:
    import asyncpg

    from infra.audit.check import no_progress
    from infra.audit.run import NoSuchCheck
    from infra.audit.run import audit as audited
    from shared.messaging.broker import BrokerUnavailable

    try:
        return await audited(scene, only=only, progress=told or no_progress)
    except NoSuchCheck as unknown:
        raise BadInput(str(unknown)) from None
    except BrokerUnavailable as error:
        raise StackError(f"{error} See wardstream status.") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StackError(f"The database gave no answer ({type(error).__name__}); see wardstream status.") from None


def scene_of(stack: Stack, *, allowed_errors: frozenset[str] = frozenset()) -> "Scene":
    """Return a running stack as the audit looks at it.

    Raises:
        Missing: the stack does not run.
    """
    from infra.audit.scene import Scene
    from shared.messaging.reading import KafkaReader

    topics = KafkaReader(stack.kafka_bootstrap)
    options = stack.home.options_file
    return Scene(
        dsn=stack.postgres_dsn(AUDIT_ROLE),
        topics=topics,
        logs=stack.home.logs,
        # `up` writes the options file anew: what was logged before belongs to an earlier run.
        logs_since=datetime.fromtimestamp(options.stat().st_mtime, UTC) if options.exists() else None,
        ask=_Asking(stack),
        readiness=lambda: _unready(stack),
        outside=lambda: _believed_outside(stack),
        allowed_errors=allowed_errors,
    )


async def _believed_outside(stack: Stack) -> Mapping[str, Any]:
    """Return what each simulator believes.

    Raises:
        Unanswered: one does not answer.
    """
    from infra.audit.scene import Unanswered
    from infra.journeys.bedside import NotSettled, Simulators

    simulators = await asyncio.to_thread(Simulators.of, stack)
    try:
        return {name: await asyncio.to_thread(simulators.operate, name, "GET", "/truth") for name in SIMULATORS}
    except NotSettled as error:
        raise Unanswered(str(error)) from None


class _Asking:
    """Reads doors as operations, logged in once."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._token: str | None = None

    async def __call__(self, path: str) -> Any:
        """Return the JSON of one door.

        Raises:
            Unanswered: it does not answer, or refuses.
        """
        import httpx2

        from infra.audit.scene import Unanswered

        try:
            base_url = self._stack.base_url
            if self._token is None:
                credential = credential_for(self._stack.home.root, role="ops")
                self._token = (await asyncio.to_thread(log_in, base_url, credential)).token
            headers = {"Authorization": f"Bearer {self._token}"}
            async with httpx2.AsyncClient(base_url=base_url, timeout=HTTP_SECONDS_MAX, trust_env=False) as client:
                response = await client.get(path, headers=headers)
                response.raise_for_status()
                return response.json()
        except (httpx2.HTTPError, StackError, Missing, BadInput) as error:
            raise Unanswered(f"{path} gave no answer ({type(error).__name__}); see wardstream status.") from None


async def _unready(stack: Stack) -> dict[str, str]:
    """Return the services that are not ready, each with what it says; those this stack does not run are left out."""
    status = await asyncio.to_thread(stack.status, measure=False)
    return {
        name: process.message or "still starting"
        for name, process in status.processes.items()
        if name in SERVICES and not process.ready
    }


@contextmanager
def shown_progress() -> Iterator["Told"]:
    """Show on stderr what the audit is doing; silent when nobody watches."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=words, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Auditing", total=None)

        def told(what: str, done: int, total: int) -> None:
            bar.update(task, description=what[:60], completed=done, total=total or None)

        yield told


__all__ = ["register", "run_audit", "scene_of"]
