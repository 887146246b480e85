"""`wardstream allocate`: the bed pool's planner on a public benchmark instance. Reads a file, writes a plan; no stack needed."""

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, table, words

if TYPE_CHECKING:
    from services.beds.planner.pas import Instance

TENTHS = 10
LIMIT_SECONDS_MAX = 24 * 3600.0
STARTING_SECONDS_MAX = 5.0
ENDING_SECONDS = 0.1
"""What is kept back of the limit for the answer itself."""


class Format(StrEnum):
    """Formats that can be read."""

    PAS = "pas"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("allocate")(allocate)


def allocate(
    *,
    instance: Annotated[Path, typer.Option("--instance", metavar="FILE", help="The instance.")],
    form: Annotated[Format, typer.Option("--format", help="Its format: Patient Admission Scheduling.")] = Format.PAS,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Seconds from the start of this command.")
    ] = 60.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write `patient bed first_night last_night+1` for each stay."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the search's random choices.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Plan beds for a benchmark instance: the best plan within the time limit, and a bound no plan can be below.

    Every patient has one bed for the whole stay. Costs are in the benchmark's units with the classic weights per patient and
    night: age 10, sex mix 5, needed property 5, preferred property 2, room specialism level less 1 (2 when absent), department
    specialism 1, room preference 0.8. Exit 1 when no complete plan exists, 2 when the file is malformed.
    """
    del form  # there is one
    began = _process_began()
    if not 0 < time_limit <= LIMIT_SECONDS_MAX:
        raise BadInput("--time-limit should be more than 0 seconds and at most a day.")
    from services.beds.planner import pas, race  # numpy is not for every command

    try:
        text = pas.read_text(instance)
        hospital = pas.parse_instance(text, str(instance))
    except pas.Malformed as error:
        raise BadInput(str(error)) from error
    if out is not None and not out.parent.is_dir():
        raise BadInput(f"{out}: There is no directory {out.parent}.")
    until = began + time_limit - ENDING_SECONDS
    progress = Progress(
        TextColumn("planning"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[standing]}"), console=words
    )
    try:
        with progress:
            task = progress.add_task("planning", total=time_limit, standing="")

            def told(standing: race.Standing) -> None:
                shown = f"cost {standing.cost / TENTHS:,.1f}, bound {standing.bound / TENTHS:,.1f}"
                progress.update(task, completed=time.monotonic() - began, standing=shown)

            found = race.allocate(hospital, text, until=until, seed=seed, told=told)
    except pas.NoRoom as error:
        reason = str(error)
        words.print(f"{instance}: {reason}", markup=False, soft_wrap=True)
        answer(
            {"feasible": False, "reason": reason, "cost": None, "bound": None, "gap": None}
            | {"breakdown": {}, "seconds": time.monotonic() - began, **_sizes(hospital)},
            as_json=as_json,
            show=lambda console: console.print(reason),
        )
        raise typer.Exit(EXIT_WRONG) from error
    if out is not None:
        try:
            out.write_text(
                "".join(
                    f"{patient.ident} {bed} {patient.first} {patient.end}\n"
                    for patient, bed in zip(hospital.patients, found.bed_of_patient, strict=True)
                ),
                "utf-8",
            )
        except OSError as error:
            raise BadInput(f"{out}: {error.strerror}.") from error
    value: dict[str, Any] = {
        "cost": found.cost / TENTHS,
        "bound": found.bound / TENTHS,
        "gap": gap(found.cost, found.bound),
        "seconds": round(time.monotonic() - began, 3),
        "feasible": True,
        "breakdown": {rule: tenths / TENTHS for rule, tenths in found.breakdown.items()},
        "seed": seed,
        **_sizes(hospital),
    }

    def show(console: Console) -> None:
        rows = table("rule", ">cost")
        for rule, cost in value["breakdown"].items():
            rows.add_row(rule, f"{cost:,.1f}")
        rows.add_row("all", f"{value['cost']:,.1f}", style="bold")
        console.print(rows)
        share = "unknown" if value["gap"] is None else f"{value['gap']:.1%}"
        console.print(
            f"No plan costs less than {value['bound']:,.1f}: this one is {share} above. {value['seconds']:.1f} s"
        )

    answer(value, as_json=as_json, show=show)


def gap(cost: int, bound: int) -> float | None:
    """Return by how much of the bound the cost is above it; None when nothing is known."""
    if bound > 0:
        return round((cost - bound) / bound, 6)
    return 0.0 if cost == 0 else None


def _sizes(hospital: "Instance") -> dict[str, int]:
    return {
        "patients": len(hospital.patients),
        "patients_ignored": hospital.patients_ignored,
        "rooms": len(hospital.rooms),
        "beds": len(hospital.beds),
        "nights": hospital.horizon,
    }


def _process_began() -> float:
    """Return when this process began, as an instant of `time.monotonic()`: starting is part of the limit."""
    ticks = int(Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - min(max(age, 0.0), STARTING_SECONDS_MAX)
