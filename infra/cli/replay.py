"""`wardstream replay`: FHIR bundles become journeys through the public APIs, and then everything is checked (8-commands).

How the numbers are meant: `inpatient`, `day_surgery` and `emergency` count what the bundles hold; each of these journeys
is then either completed, still_admitted, already_known or refused. Money, beds and follow-up are those of the journeys in
which this run did something, so a run that only finds known journeys counts none. `events` were added to the topics
meanwhile; `peak_occupied` is the most patients who lay in a bed at the same time, by the bundles' times.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from infra.cli.accounts import credential_for
from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, home_of, table, words
from infra.local.errors import StackError
from infra.local.stack import Stack

if TYPE_CHECKING:
    from infra.journeys.fhir import Reading
    from infra.journeys.model import Journey, Refused
    from infra.journeys.player import Played
    from infra.journeys.quiet import Ends, Standing

IN_FLIGHT_MAX = 64
EXIT_INTERRUPTED = 130
REFUSED_SHOWN_MAX = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


InFlight = Annotated[
    int,
    typer.Option("--journeys-in-flight", min=1, max=IN_FLIGHT_MAX, help="How many patients are played side by side."),
]


def replay(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="FHIR R4 bundles: .json, .json.gz, folders.")],
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Play only the first N journeys in time.")] = None,
    journeys_in_flight: InFlight = 8,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete this home's stack with all its data first, and start an empty one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play the patients of FHIR R4 bundles through the public APIs, in time order.

    Starts a stack if none runs, and leaves it running. Ends when every service has applied everything; then the audit
    runs. The same bundles again change nothing. Exit 1 when something was refused or is wrong.
    """
    reading = read_bundles(paths)
    stack = Stack(home_of(context))
    if fresh:
        words.print(f"Deleting the stack in {stack.home.root} with all its data.", markup=False, soft_wrap=True)
        stack.destroy()
    ensure_running(stack)
    report = play(stack, reading, limit=limit, in_flight=journeys_in_flight)
    answer(report.as_json(), as_json=as_json, show=report.show)
    if not report.is_right:
        raise typer.Exit(EXIT_WRONG)


def read_bundles(paths: Iterable[Path]) -> "Reading":
    """Read bundle files and folders, with a progress bar.

    Raises:
        BadInput: a path is not there, or a folder holds no bundle.
    """
    from infra.journeys.catalogue import read_rules
    from infra.journeys.fhir import NothingToRead, find_files, read

    try:
        files = find_files(paths)
    except NothingToRead as nothing:
        raise BadInput(str(nothing)) from None
    with progress("Reading", len(files)) as done:
        return read(files, read_rules(), on_file=lambda _: done())


def ensure_running(stack: Stack) -> None:
    """Start the stack if it does not run.

    Raises:
        StackError: it is not ready; says how to find out why.
    """
    if not stack.status(measure=False).is_running:
        words.print(f"Starting the stack in {stack.home.root} …", markup=False, soft_wrap=True)
    found = stack.up()
    if found.status != "ready":
        raise StackError(f"The stack is not ready, but {found.status}; see wardstream status. {found.message}".strip())


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay did and found."""

    reading: "Reading"
    played: "Sequence[Played]"
    standing: "Standing"
    parked_before: int
    events: dict[str, int]
    seconds: float
    audit: dict[str, Any]

    @property
    def refused(self) -> "list[Refused]":
        """Return every file and stay that was not played, or not to its end."""
        from infra.journeys.model import Refused

        stopped = [one for one in self.played if one.how == "refused"]
        return [
            *self.reading.refused,
            *(Refused(one.journey.file, one.journey.encounter_id, one.reason) for one in stopped),
        ]

    @property
    def newly_parked(self) -> int:
        """Return how many events were set aside meanwhile."""
        return max(0, self.standing.parked - self.parked_before)

    @property
    def violations(self) -> int:
        """Return how many violations the audit found."""
        return int(self.audit["violations"])

    @property
    def is_right(self) -> bool:
        """Say whether everything was played and everything is right."""
        return not self.refused and self.standing.quiet and not self.newly_parked and bool(self.audit["ok"])

    def as_json(self) -> dict[str, Any]:
        """Return the answer of `replay` (8-commands)."""
        new = [one for one in self.played if one.anything_new]
        journeys = [one.journey for one in self.played]
        hows = [one.how for one in self.played]
        return {
            "bundles": self.reading.bundles,
            "patients": self.reading.patients,
            "journeys": {
                "inpatient": sum(journey.kind == "inpatient" for journey in journeys),
                "day_surgery": sum(journey.kind == "day_surgery" for journey in journeys),
                "emergency": sum(journey.emergency for journey in journeys),
                "completed": hows.count("completed"),
                "still_admitted": hows.count("still_admitted"),
                "already_known": hows.count("already_known"),
                "refused": [{"file": one.file, "id": one.id, "reason": one.reason} for one in self.refused],
            },
            "charges": {"lines": sum(one.lines for one in new), "sum_fen": sum(one.charged_fen for one in new)},
            "settled_fen": sum(one.settled_fen for one in new),
            "refunded_fen": sum(one.refunded_fen for one in new),
            "beds": {
                "assigned": sum(one.had_bed for one in new),
                "released": sum(one.left_bed for one in new),
                "peak_occupied": peak([one.journey for one in new if one.had_bed]),
                "refused_no_bed": sum(one.no_bed for one in self.played),
            },
            "follow_up": {"plans": sum(one.plans for one in new), "tasks": sum(one.tasks for one in new)},
            "events": self.events,
            "seconds": round(self.seconds, 2),
            "journeys_per_second": round(len(self.played) / self.seconds, 2),
            "quiet": self.standing.quiet,
            "parked": self.newly_parked,
            "audit": {"ok": bool(self.audit["ok"]), "violations": self.violations},
        }

    def show(self, console: Console) -> None:
        """Draw the answer for a person."""
        from shared.money import yuan_text

        found = self.as_json()
        journeys, beds, follow_up = found["journeys"], found["beds"], found["follow_up"]
        rows = table("", ">", "")
        rows.show_header = False
        kinds = f"{journeys['inpatient']} inpatient ({journeys['emergency']} emergency), {journeys['day_surgery']} day surgery"
        rows.add_row("bundles", str(found["bundles"]), f"{found['patients']} patients")
        rows.add_row("journeys", str(len(self.played)), kinds)
        rows.add_row("completed", str(journeys["completed"]), f"{journeys['still_admitted']} still admitted")
        rows.add_row("already known", str(journeys["already_known"]), "")
        rows.add_row("refused", str(len(journeys["refused"])), "")
        rows.add_row("charges", str(found["charges"]["lines"]), yuan_text(found["charges"]["sum_fen"]))
        rows.add_row("settled", "", f"{yuan_text(found['settled_fen'])}, refunded {yuan_text(found['refunded_fen'])}")
        rows.add_row("beds", str(beds["assigned"]), f"{beds['released']} released, {beds['peak_occupied']} at once")
        rows.add_row("follow-up plans", str(follow_up["plans"]), f"{follow_up['tasks']} tasks")
        rows.add_row("events", str(sum(found["events"].values())), "")
        rows.add_row("seconds", f"{found['seconds']:.1f}", f"{found['journeys_per_second']:.1f} journeys/s")
        console.print(rows)
        for one in self.refused[:REFUSED_SHOWN_MAX]:
            console.print(f"Refused: {one.file} {one.id or ''}: {one.reason}", markup=False, soft_wrap=True)
        if len(self.refused) > REFUSED_SHOWN_MAX:
            console.print(f"… and {len(self.refused) - REFUSED_SHOWN_MAX} more (--json shows all).")
        console.print(self._verdict(), style="bold", markup=False)

    def _verdict(self) -> str:
        said = []
        if not self.standing.quiet:
            said.append(f"Not quiet: {self.standing.unsent} events unsent, {self.standing.lag} unread.")
        if self.newly_parked:
            said.append(f"{self.newly_parked} events were set aside; see wardstream parked.")
        checks = len(self.audit["checks"])
        if self.audit["ok"]:
            said.append(f"Audit: ok, {checks} checks.")
        else:
            wrong = sum(not check["ok"] for check in self.audit["checks"])
            said.append(
                f"Audit: NOT ok, {wrong} of {checks} checks, {self.violations} violations; see wardstream audit."
            )
        return " ".join(said)


def peak(journeys: "Sequence[Journey]") -> int:
    """Return how many of these stays lay at the same time at most; who leaves at an instant makes room for who comes."""
    changes: list[tuple[datetime, int]] = []
    for journey in journeys:
        if journey.ends_at is None or journey.ends_at > journey.starts_at:
            changes.append((journey.starts_at, 1))
            if journey.ends_at is not None:
                changes.append((journey.ends_at, -1))
    there, most = 0, min(1, len(journeys))
    for _, change in sorted(changes):
        there += change
        most = max(most, there)
    return most


def play(stack: Stack, reading: "Reading", *, limit: int | None, in_flight: int) -> Report:
    """Play the journeys on a running stack, wait until all is quiet, and audit.

    Raises:
        StackError: a service was gone for longer than a restart takes.
        Exit: interrupted; what was acknowledged stays, and the same command goes on from there.
    """
    import uvloop

    from infra.cli.audit import run_audit, shown_progress
    from infra.journeys.client import Declined, Unreachable
    from shared.messaging.broker import BrokerUnavailable

    began = time.monotonic()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            played, parked_before, found, events = runner.run(
                _play(stack, reading.journeys[:limit], in_flight=in_flight)
            )
    except KeyboardInterrupt:
        words.print("Stopped. What was acknowledged stays; the same command goes on from there.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (Unreachable, BrokerUnavailable) as lost:
        raise StackError(f"{lost} The same command goes on from there; see wardstream status.") from None
    except Declined as declined:
        raise StackError(f"A service does not say whether it is quiet: {declined.detail} ({declined.code})") from None
    seconds = time.monotonic() - began
    with shown_progress() as told:
        audit = asyncio.run(run_audit(stack, told=told))
    return Report(reading, played, found, parked_before, events, seconds, audit)


async def _play(
    stack: Stack, journeys: "Sequence[Journey]", *, in_flight: int
) -> "tuple[list[Played], int, Standing, dict[str, int]]":
    from infra.journeys.catalogue import read_rules
    from infra.journeys.client import Client, Login, Unreachable
    from infra.journeys.player import Player, play_all
    from infra.journeys.quiet import count_events, until_quiet
    from shared.contracts.registry import EVENT_TOPICS
    from shared.messaging.lags import OffsetReader
    from shared.messaging.reading import KafkaReader

    offsets = OffsetReader(stack.kafka_bootstrap, "wardstream-replay")

    async def ends() -> "Ends":
        _, found = await offsets.begins_and_ends(EVENT_TOPICS.values())
        return found

    def client_of(username: str) -> Client:
        account = credential_for(stack.home.root, username=username)
        return Client(stack.base_url, Login(account.username, account.password))

    watcher, staff = client_of("ops"), client_of("replay")
    try:
        at_first, before = await until_quiet(watcher, ends)
        player = Player(staff, read_rules().deposits)
        with progress("Playing", len(journeys)) as done:

            async def one(journey: "Journey") -> "Played":
                played = await player.play(journey)
                done()
                return played

            try:
                played = await play_all(journeys, one, in_flight=in_flight)
            except* Unreachable as lost:
                raise _first_of(lost) from None
        words.print("Waiting until everything is applied …")
        found, after = await until_quiet(watcher, ends)
        events = await count_events(KafkaReader(stack.kafka_bootstrap, "wardstream-replay"), before, after)
    finally:
        await offsets.stop()
        await watcher.close()
        await staff.close()
    return played, at_first.parked, found, events


def _first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class _Rate(ProgressColumn):
    """How many are done per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr while the block runs; what is given says that one more is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=words) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
