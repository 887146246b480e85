"""`wardstream parked`: events a service set aside, with the reason, and how a person lets them go on or drops them (R20, R21).

Through the doors of the service that set the event aside, as a staff account with the role ops. Where letting an event go on
moves a bed or money (beds, billing) two people decide: the first notes the wish, another one with `--as` confirms it.
"""

import getpass
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import typer
from rich.console import Console

from infra.cli.accounts import Credential, credential_for, log_in
from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, home_of, table, words
from infra.local.errors import StackError
from infra.local.stack import Stack
from shared.contracts.registry import SERVICES_WITH_EVENTS

HTTP_SECONDS_MAX = 30.0
PAGE = 200
UNAVAILABLE = 503
AGAIN_MAX = 3
AGAIN_SECONDS = 1.0
ROLE = "ops"
STILL_REFUSED = "still_refused"
SECOND_PERSON = "second_person_needed"
SHOWN = ("id", "type", "topic", "part", "kafka_offset", "aggregate_id", "version", "event_id", "handler", "reason",
         "attempts", "first_at", "status", "wanted", "wanted_by")  # fmt: skip

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Which service set the event aside.")]
ParkedId = Annotated[int, typer.Argument(metavar="ID", help="The number `parked list` shows.")]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="USER",
        help="Decide as this account with the role ops; its password is asked for or read from stdin.",
    ),
]
Wish = Literal["retry", "discard"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    parked = typer.Typer(no_args_is_help=True, help="Events a service set aside, and what becomes of them.")
    parked.command("list")(list_parked)
    parked.command("show")(show_parked)
    parked.command("retry")(retry)
    parked.command("discard")(discard)
    app.add_typer(parked, name="parked")


def list_parked(
    context: typer.Context,
    *,
    service: Annotated[
        list[str] | None, typer.Option("--service", help="Only of this service; may be repeated. Default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the events set aside, of every service, oldest first."""
    wanted = [_service(name) for name in service] if service else list(SERVICES_WITH_EVENTS)
    with _doors(home_of(context)) as doors:
        found = [{"service": name, **row} for name in wanted for row in doors.parked(name)]

    def show(console: Console) -> None:
        if not found:
            console.print("Nothing is set aside.")
            return
        rows = table("service", ">id", "event", "aggregate", ">version", "reason", "since", "wish")
        for row in found:
            kind = (row["type"] or "unreadable").removeprefix("wardstream.")
            version = "" if row["version"] is None else str(row["version"])
            rows.add_row(
                row["service"],
                str(row["id"]),
                kind,
                row["aggregate_id"],
                version,
                row["reason"],
                row["first_at"][:19],
                row["wanted"] or "",
            )
        console.print(rows)

    answer({"parked": found}, as_json=as_json, show=show)


def show_parked(context: typer.Context, service: Service, parked_id: ParkedId, *, as_json: AsJson = False) -> None:
    """Show one event set aside: where it lies, why, and what waits behind it."""
    with _doors(home_of(context)) as doors:
        row, behind = doors.one(_service(service), parked_id)

    def show(console: Console) -> None:
        rows = table("", "")
        for name in SHOWN:
            if row[name] is not None:
                rows.add_row(name, str(row[name]))
        console.print(rows)
        if behind:
            ids = ", ".join(str(later["id"]) for later in behind)
            console.print(f"{len(behind)} later events of the same aggregate wait behind it: {ids}.")
        if row["event_id"] is None:
            console.print("It is no event this house can read; it can only be discarded.")

    answer(
        {"parked": [{"service": service, **row, "behind": [later["id"] for later in behind]}]},
        as_json=as_json,
        show=show,
    )


def retry(
    context: typer.Context, service: Service, parked_id: ParkedId, *, as_user: As = None, as_json: AsJson = False
) -> None:
    """Apply an event that was set aside. Exit 1 when it is refused again: then it stays where it is.

    The oldest of an aggregate goes first; what waits behind it is retried one by one afterwards. In beds and billing a
    second person must confirm: the same command with --as.
    """
    _decide(context, "retry", _service(service), parked_id, as_user=as_user, as_json=as_json)


def discard(
    context: typer.Context, service: Service, parked_id: ParkedId, *, as_user: As = None, as_json: AsJson = False
) -> None:
    """Drop an event that was set aside: what it says never happens here. In beds and billing two people decide."""
    _decide(context, "discard", _service(service), parked_id, as_user=as_user, as_json=as_json)


def _decide(
    context: typer.Context, wish: Wish, service: str, parked_id: int, *, as_user: str | None, as_json: bool
) -> None:
    with _doors(home_of(context), as_user) as doors:
        row, behind = doors.one(service, parked_id)
        status = doors.decide(service, parked_id, wish)
    value = {"parked": [{"service": service, "id": parked_id, "status": status, "behind": [r["id"] for r in behind]}]}

    def show(console: Console) -> None:
        if status == SECOND_PERSON:
            console.print(f"Your wish is noted. Somebody else must confirm it, because {service} moves beds or money:")
            console.print(
                f"  wardstream parked {wish} {service} {parked_id} --as USER",
                style="bold",
                markup=False,
                soft_wrap=True,
            )
            return
        what = (row["type"] or "the record").removeprefix("wardstream.")
        console.print(
            f"{'Applied' if status == 'retried' else 'Dropped'} {what} of {row['aggregate_id']}.", markup=False
        )
        if behind:
            ids = ", ".join(str(later["id"]) for later in behind)
            console.print(f"Next, behind it: {ids}.")

    answer(value, as_json=as_json, show=show)
    if status == STILL_REFUSED:
        raise typer.Exit(EXIT_WRONG)


def _service(name: str) -> str:
    if name not in SERVICES_WITH_EVENTS:
        raise BadInput(f"No such service sets events aside; there are {', '.join(SERVICES_WITH_EVENTS)}.")
    return name


class _Doors:
    """The parked doors of every service, asked as one account."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def parked(self, service: str) -> Iterator[dict[str, Any]]:
        """Give what a service set aside, oldest first."""
        after = 0
        while True:
            rows = self._asked("GET", f"{service}/parked", params={"after": str(after), "limit": str(PAGE)})["parked"]
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1]["id"]

    def one(self, service: str, parked_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return one event and the later ones of its aggregate.

        Raises:
            BadInput: there is none, or it was decided.
        """
        rows = list(self.parked(service))
        found = next((row for row in rows if row["id"] == parked_id), None)
        if found is None:
            raise BadInput(f"{service} has no event {parked_id} set aside; see wardstream parked list.")
        same = [row for row in rows if (row["topic"], row["aggregate_id"]) == (found["topic"], found["aggregate_id"])]
        return found, [row for row in same if (row["version"] or 0) > (found["version"] or 0)]

    def decide(self, service: str, parked_id: int, wish: Wish) -> str:
        """Let an event go on or drop it, and return what became of it."""
        answered = self._asked("POST", f"{service}/parked/{parked_id}/{wish}", headers={"Idempotency-Key": uuid4().hex})
        return str(answered["status"])

    def _sent(self, method: str, path: str, **what: Any) -> Any:
        import httpx2

        try:
            return self._client.request(method, path, **what)
        except httpx2.HTTPError as error:
            raise StackError(f"The service does not answer ({type(error).__name__}); see wardstream status.") from None

    def _asked(self, method: str, path: str, **what: Any) -> Any:
        """Ask one door; a service that cannot answer now is asked again, with the same key, so that it is done once."""
        response = self._sent(method, path, **what)
        for _ in range(AGAIN_MAX):
            if response.status_code != UNAVAILABLE:
                break
            time.sleep(AGAIN_SECONDS)
            response = self._sent(method, path, **what)
        if response.is_success:
            return response.json()
        try:
            problem = response.json()
            detail, code = problem["detail"], problem["code"]
        except (ValueError, KeyError, TypeError):
            raise StackError(f"The service answered {response.status_code}; see wardstream status.") from None
        if code == STILL_REFUSED:
            reason = problem.get("facts", {}).get("reason", "")
            words.print(f"{detail} ({reason})", markup=False)
            return {"status": STILL_REFUSED}
        if response.status_code in (400, 404, 409, 422):
            raise BadInput(f"{detail} ({code})")
        raise StackError(f"{detail} ({code})")


@contextmanager
def _doors(home: Path | None, username: str | None = None) -> Iterator[_Doors]:
    import httpx2

    base_url = Stack(home).base_url
    issued = log_in(base_url, _credential(home, username))
    headers = {"Authorization": f"Bearer {issued.token}"}
    address = f"{base_url.rstrip('/')}/api/"
    with httpx2.Client(base_url=address, timeout=HTTP_SECONDS_MAX, headers=headers, trust_env=False) as client:
        yield _Doors(client)


def _credential(home: Path | None, username: str | None) -> Credential:
    """Return the first account of operations, or the named account; a password we do not have is asked for."""
    if username is None:
        return credential_for(home, role=ROLE)
    try:
        return credential_for(home, username=username)
    except BadInput:
        asked = sys.stdin.isatty()
        password = getpass.getpass(f"Password of {username}: ") if asked else sys.stdin.readline().rstrip("\n")
        if not password:
            raise BadInput(f"The password of {username} is needed: type it, or give it on standard input.") from None
        return Credential(username, password, frozenset())
