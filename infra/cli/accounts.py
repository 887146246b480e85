"""`wardstream users` and `wardstream token`: local staff accounts, through the public doors of the access service.

The passwords of the first accounts lie in one private file of the home (`infra.local.services.bootstrap_file`). This
module reads them there; it never touches the database, and no password ever stands on a command line (S9).
"""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console

from infra.cli.answers import AsJson, BadInput, answer, home_of, table, words
from infra.local.errors import Missing, StackError
from infra.local.home import Home, read_json
from infra.local.services import bootstrap_file
from infra.local.stack import Stack
from shared.access.roles import Role

ADMINISTRATOR = "admin"
HTTP_SECONDS_MAX = 15.0
PASSWORD_BYTES = 18
BAD_INPUT_STATUSES = frozenset({400, 404, 409, 412, 413, 422})


@dataclass(frozen=True, slots=True)
class Credential:
    """One first account, as the private file holds it."""

    username: str
    password: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Token:
    """A short-lived access token and whose it is."""

    token: str
    expires_at: datetime
    username: str


def credentials(home: Path | None) -> list[Credential]:
    """Return the first accounts of this home with their passwords.

    Raises:
        Missing: the stack of this home never ran.
    """
    path = bootstrap_file(Home.at(home))
    entries = read_json(path).get("accounts")
    if not isinstance(entries, list):
        raise Missing(
            f"There are no first accounts in {path}.",
            "Start the stack once (wardstream up); it makes the first accounts.",
        )
    return [Credential(entry["username"], entry["password"], frozenset(entry["roles"])) for entry in entries]


def credential_for(home: Path | None, *, role: str | None = None, username: str | None = None) -> Credential:
    """Return the first account of that name, or the one named after the role.

    Raises:
        BadInput: no first account fits; accounts that were added later have their own passwords.
    """
    known = credentials(home)
    if username is None:
        fitting = [found for found in known if role in found.roles]
        fitting.sort(key=lambda found: (found.username != role, len(found.roles)))
    else:
        fitting = [found for found in known if found.username == username and (role is None or role in found.roles)]
    if not fitting:
        names = ", ".join(sorted(found.username for found in known))
        raise BadInput(f"No first account fits. There are: {names}.")
    return fitting[0]


def log_in(base_url: str, credential: Credential) -> Token:
    """Log in through the front door and return the access token.

    Raises:
        StackError: the access service refused, or does not answer.
    """
    with _client(base_url) as client:
        found = _asked(client, "POST", "login", json={"username": credential.username, "password": credential.password})
    return Token(found["token"], datetime.fromisoformat(found["expires_at"]), credential.username)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    users = typer.Typer(no_args_is_help=True, help="Staff accounts of the running stack.")
    users.command("list")(list_users)
    users.command("add")(add_user)
    users.command("disable")(disable_user)
    app.add_typer(users, name="users")
    app.command("token")(token)


def token(
    context: typer.Context,
    *,
    role: Annotated[Role | None, typer.Option(help="The role the token is to carry.")] = None,
    username: Annotated[str | None, typer.Option(help="A certain first account, such as replay.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a token for scripts, valid for a quarter of an hour.

    curl -H "Authorization: Bearer $(wardstream token --role ops)" ...
    """
    if role is None and username is None:
        raise BadInput("Say for whom: --role ROLE or --username NAME.")
    credential = credential_for(home_of(context), role=None if role is None else role.value, username=username)
    issued = log_in(Stack(home_of(context)).base_url, credential)

    def show(console: Console) -> None:
        console.print(issued.token, markup=False, soft_wrap=True)

    value = {"token": issued.token, "expires_at": issued.expires_at.isoformat(), "username": issued.username}
    answer(value, as_json=as_json, show=show)


def list_users(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List every account with its roles and wards of duty."""
    with _as_administrator(home_of(context)) as client:
        found = list(_all_users(client))

    def show(console: Console) -> None:
        rows = table("name", "called", "roles", "wards", "state")
        for user in found:
            state = "disabled" if user["disabled_at"] else "resting" if user["locked_until"] else ""
            rows.add_row(
                user["username"], user["display_name"], ", ".join(user["roles"]), ", ".join(user["wards"]), state
            )
        console.print(rows)

    answer({"users": found}, as_json=as_json, show=show)


def add_user(
    context: typer.Context,
    username: Annotated[str, typer.Argument(help="Small letters, digits, dot, dash and underscore.")],
    *,
    role: Annotated[list[Role], typer.Option(help="A role; repeat it for more.")],
    ward: Annotated[list[str] | None, typer.Option(help="A ward of duty; repeat it for more, * for all.")] = None,
    name: Annotated[str | None, typer.Option(help="What people call the account. Default: its name.")] = None,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open an account. Without --password-stdin a password is made and shown once, here."""
    made = None if password_stdin else secrets.token_urlsafe(PASSWORD_BYTES)
    body = {
        "username": username,
        "display_name": name or username,
        "password": sys.stdin.readline().rstrip("\n") if made is None else made,
        "roles": sorted({one.value for one in role}),
        "wards": sorted(set(ward or ())),
    }
    with _as_administrator(home_of(context)) as client:
        user = _asked(client, "POST", "users", json=body)

    def show(console: Console) -> None:
        console.print(f"Opened the account {username} ({', '.join(user['roles'])}).", markup=False)
        if made is not None:
            console.print(f"Its password, shown only now: {made}", markup=False, soft_wrap=True)

    answer(user if made is None else {**user, "password": made}, as_json=as_json, show=show)


def disable_user(
    context: typer.Context,
    username: Annotated[str, typer.Argument(help="Whose account.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Disable an account: its sessions end at once, its running token within a quarter of an hour."""
    with _as_administrator(home_of(context)) as client:
        user = next((one for one in _all_users(client) if one["username"] == username), None)
        if user is None:
            raise BadInput(f"There is no account {username}.")
        was_disabled = user["disabled_at"] is not None
        if not was_disabled:
            version = {"If-Match": f'"{user["version"]}"'}
            user = _asked(client, "PATCH", f"users/{user['user_id']}", json={"disabled": True}, headers=version)

    def show(console: Console) -> None:
        done = "was disabled already" if was_disabled else "is disabled"
        console.print(f"The account {username} {done}.", markup=False)

    answer({**user, "already_known": was_disabled}, as_json=as_json, show=show)


@contextmanager
def _client(base_url: str, headers: Mapping[str, str] | None = None) -> Iterator[Any]:
    import httpx2

    address = f"{base_url.rstrip('/')}/api/access/"
    with httpx2.Client(base_url=address, timeout=HTTP_SECONDS_MAX, headers=headers, trust_env=False) as client:
        yield client


@contextmanager
def _as_administrator(home: Path | None) -> Iterator[Any]:
    base_url = Stack(home).base_url
    issued = log_in(base_url, credential_for(home, username=ADMINISTRATOR))
    with _client(base_url, {"Authorization": f"Bearer {issued.token}"}) as client:
        yield client


def _all_users(client: Any) -> Iterator[dict[str, Any]]:
    after: str | None = None
    while True:
        page = _asked(client, "GET", "users", params={"limit": 200} | ({} if after is None else {"after": after}))
        yield from page["users"]
        if page["next"] is None:
            return
        after = page["users"][-1]["username"]


def _asked(client: Any, method: str, path: str, *, headers: Mapping[str, str] | None = None, **what: Any) -> Any:
    """Ask one door and return its answer; a refusal becomes its sentence."""
    import httpx2

    extra = {} if method == "GET" else {"Idempotency-Key": uuid4().hex}
    try:
        response = client.request(method, path, headers={**extra, **(headers or {})}, **what)
    except httpx2.HTTPError as error:
        raise StackError(
            f"The access service does not answer ({type(error).__name__}); see wardstream status."
        ) from None
    if response.is_success:
        return response.json()
    try:
        problem = response.json()
        sentence = f"{problem['detail']} ({problem['code']}"
        fields = ", ".join(field["pointer"] for field in problem.get("errors", ()))
        sentence += f": {fields})" if fields else ")"
    except (ValueError, KeyError, TypeError):
        sentence = f"The access service answered {response.status_code}."
    if response.status_code in BAD_INPUT_STATUSES:
        raise BadInput(sentence)
    if path == "login" and response.status_code == 401:
        words.print("Was the password of this first account changed? Then use the new one at the screen.")
    raise StackError(sentence)
