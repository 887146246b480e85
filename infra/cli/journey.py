"""`wardstream journey ID`: one case across all services, as its events tell it."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from infra.cli.accounts import HTTP_SECONDS_MAX, credential_for, log_in
from infra.cli.answers import AsJson, BadInput, answer, home_of, table
from infra.local.errors import StackError
from infra.local.stack import Stack
from shared.access.roles import Role

ZONE_VARIABLE = "WARDSTREAM_HOSPITAL_ZONE"
DEFAULT_ZONE = "Asia/Shanghai"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("journey")(journey)


def journey(
    context: typer.Context,
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="An encounter id, or the identifier another system gave the stay.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one stay: every event with time, topic, partition, offset and cause, and its traces."""
    base_url = Stack(home_of(context)).base_url
    encounter_id = find_encounter(base_url, home_of(context), identifier)
    token = log_in(base_url, credential_for(home_of(context), role=Role.OPS.value)).token
    events = _get(base_url, token, f"insight/journeys/{encounter_id}/events")["events"]
    if not events:
        raise BadInput("No event of such a stay is known.")
    traces = _get(base_url, token, f"insight/journeys/{encounter_id}")["traces"]

    def show(console: Console) -> None:
        _show(console, events, traces)

    answer({"encounter_id": str(encounter_id), "events": events, "traces": traces}, as_json=as_json, show=show)


def find_encounter(base_url: str, home: Path | None, identifier: str) -> UUID:
    """Return the encounter meant: by the identifier another system gave the stay or day case, else as our own id.

    Other systems use UUIDs as well, so theirs are asked for first.
    """
    clerk = credential_for(home, role=Role.BED_MANAGER.value)
    token = log_in(base_url, clerk).token
    for path, what in (("admission/encounters", "encounters"), ("daysurgery/cases", "cases")):
        try:
            found = _get(base_url, token, path, params={"identifier": identifier})[what]
        except BadInput:
            continue
        if found:
            return UUID(found[0]["encounter_id"])
    try:
        return UUID(identifier)
    except ValueError:
        raise BadInput("No stay has this identifier.") from None


def _get(base_url: str, token: str, path: str, *, params: Mapping[str, str] | None = None) -> Any:
    """Ask one door; a refusal becomes its sentence."""
    import httpx2

    headers = {"Authorization": f"Bearer {token}"}
    try:
        with httpx2.Client(timeout=HTTP_SECONDS_MAX, trust_env=False) as client:
            response = client.get(f"{base_url.rstrip('/')}/api/{path}", params=params, headers=headers)
    except httpx2.HTTPError as error:
        raise StackError(f"The stack does not answer ({type(error).__name__}); see wardstream status.") from None
    if response.is_success:
        return response.json()
    try:
        sentence = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = f"The service answered {response.status_code}."
    raise BadInput(sentence) if response.status_code in (400, 404, 422) else StackError(sentence)


def _show(console: Console, events: Sequence[Mapping[str, Any]], traces: Sequence[Mapping[str, Any]]) -> None:
    zone = ZoneInfo(os.environ.get(ZONE_VARIABLE, DEFAULT_ZONE))
    rows = table("when", "event", ">version", "topic", ">partition", ">offset", "because of", "trace")
    for event in events:
        cause = event["cause"]
        rows.add_row(
            f"{datetime.fromisoformat(event['time']).astimezone(zone):%Y-%m-%d %H:%M:%S}",
            event["type"],
            str(event["version"]),
            event["topic"],
            str(event["partition"]),
            str(event["offset"]),
            "a request" if cause["kind"] == "request" else cause["type"] or "an event not known here",
            (event["trace_id"] or "")[:8],
        )
    console.print(rows)
    console.print(f"\n{len(events)} events, times in {zone.key}.")
    if not traces:
        console.print("No trace of this stay is kept: traces are kept for a day, and only of sampled requests.")
        return
    console.print()
    rows = table("trace", "began", ">ms", ">spans", "with", "services", "")
    for trace in traces:
        rows.add_row(
            trace["trace_id"],
            f"{datetime.fromisoformat(trace['started_at']).astimezone(zone):%Y-%m-%d %H:%M:%S}",
            f"{trace['duration_ms']:.0f}",
            str(trace["spans"]),
            trace["root"],
            ", ".join(trace["services"]),
            "failed" if trace["failed"] else "",
        )
    console.print(rows)
