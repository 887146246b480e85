"""The first accounts of an embedded stack: one per role and one for the replay, with generated passwords (S9).

The passwords are in one file its owner alone can read, made when absent; the database has only their hashes. Accounts
that exist stay as people made them: starting again never resets a password, a role or a disabled account.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from services.access import actions, store
from services.access.actions import FirstAccount
from services.access.passwords import Passwords
from services.access.settings import Settings
from shared.access import private_file
from shared.access.actor import ALL_WARDS
from shared.access.roles import TITLES, Role
from shared.clock import Clock
from shared.db import Database, create_pool, transaction

REPLAY_ROLES = (
    Role.IMPORTER,
    Role.SERVICE_CENTRE_CLERK,
    Role.WARD_NURSE,
    Role.DOCTOR,
    Role.BILLING_CLERK,
    Role.DAY_SURGERY_COORDINATOR,
    Role.BED_MANAGER,
)
PASSWORD_BYTES = 18


class BootstrapFileUnusable(Exception):
    """The file with the first accounts cannot be used; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A first account with its password, as the file holds it."""

    username: str
    password: str
    display_name: str
    roles: tuple[Role, ...]
    wards: tuple[str, ...]


def first_credentials() -> list[Credential]:
    """Return one account per role, named after it, and `replay`, each with a new random password."""
    wanted: list[tuple[str, str, tuple[Role, ...]]] = [(role.value, TITLES[role][1], (role,)) for role in Role]
    wanted.append(("replay", "数据回放", REPLAY_ROLES))
    return [
        Credential(username, secrets.token_urlsafe(PASSWORD_BYTES), title, roles, (ALL_WARDS,))
        for username, title, roles in wanted
    ]


def read_or_make(path: Path) -> list[Credential]:
    """Return the credentials in the file; of several processes that find none, one makes it and all read the same.

    Raises:
        BootstrapFileUnusable: it can be read by others, or is not such a file.
    """
    if not path.exists():
        private_file.create(path, _dump(first_credentials()))
    try:
        entries = json.loads(private_file.read(path))["accounts"]
        return [
            Credential(
                username=entry["username"],
                password=entry["password"],
                display_name=entry["display_name"],
                roles=tuple(Role(role) for role in entry["roles"]),
                wards=tuple(entry["wards"]),
            )
            for entry in entries
        ]
    except private_file.NotPrivate as error:
        raise BootstrapFileUnusable(str(error)) from None
    except (ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__  # the cause may quote a password
        raise BootstrapFileUnusable(f"The file {path} does not hold accounts ({kind}).") from None


def _dump(credentials: list[Credential]) -> bytes:
    accounts = [
        {
            "username": credential.username,
            "password": credential.password,
            "display_name": credential.display_name,
            "roles": list(credential.roles),
            "wards": list(credential.wards),
        }
        for credential in credentials
    ]
    return json.dumps({"accounts": accounts}, ensure_ascii=False, indent=1).encode()


async def ensure_accounts(db: Database, passwords: Passwords, credentials: list[Credential]) -> None:
    """Open those accounts that are missing, all in one transaction."""
    async with transaction(db) as tx:
        known = await store.list_known_names(tx.conn, [credential.username for credential in credentials])
    firsts = [
        FirstAccount(
            username=credential.username,
            display_name=credential.display_name,
            password_hash=await passwords.hash(credential.password),
            roles=frozenset(credential.roles),
            wards=frozenset(credential.wards),
        )
        for credential in credentials
        if credential.username not in known
    ]
    async with transaction(db) as tx:
        for first in firsts:
            await actions.ensure_account(tx, first)


async def run(settings: Settings) -> None:
    """Open the first accounts before the service starts, if the settings name a file for them."""
    if settings.bootstrap_file is None:
        return
    credentials = read_or_make(settings.bootstrap_file)
    pool = await create_pool(settings, size_min=1)
    try:
        await ensure_accounts(Database(pool, Clock()), Passwords(), credentials)
    finally:
        await pool.close()
