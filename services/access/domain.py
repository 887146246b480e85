"""Accounts, sessions and the rules around passwords. Pure.

A login has two outcomes, told apart by nobody outside: `LoggedIn` or `LoginRejected`. A session is known by a random
refresh token that changes at every use; showing an old one again ends the session, because one of the two who hold it
is a thief.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.access.actor import ALL_WARDS
from shared.access.roles import Role
from shared.errors import Invalid, Refused

USERNAME_FORM = r"^[a-z][a-z0-9._-]{1,31}$"
TYPED_NAME_FORM = r"^[^\x00-\x1f\x7f]*$"
"""What somebody may type at the login: anything printable, so that a bad name looks like a wrong one."""
DISPLAY_NAME_FORM = r"^[^\x00-\x1f\x7f]+$"
WARD_FORM = r"^(\*|[A-Za-z0-9._-]{1,32})$"
PASSWORD_CHARS_MIN = 12
PASSWORD_CHARS_MAX = 128
PASSWORD_DIFFERENT_CHARS_MIN = 6
FREE_FAILED_LOGINS = 3
BACKOFF_FIRST = timedelta(seconds=2)
BACKOFF_MAX = timedelta(minutes=15)
REUSE_GRACE = timedelta(seconds=10)
"""Two tabs of one browser may refresh at the same moment; within this the older token is late, not stolen."""


@dataclass(frozen=True, slots=True)
class Account:
    """A member of staff."""

    user_id: UUID
    username: str
    display_name: str
    roles: frozenset[Role]
    wards: frozenset[str]
    disabled_at: datetime | None
    failed_logins: int
    locked_until: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class Session:
    """A time at a screen, from login to logout."""

    session_id: UUID
    user_id: UUID
    token_hash: bytes
    previous_hash: bytes | None
    created_at: datetime
    refreshed_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session may last, and how long it may be left alone (S7)."""

    lifetime: timedelta
    idle: timedelta


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who logged in or refreshed; `refresh_token` is nothing when the present one stays in use."""

    account: Account
    session_id: UUID
    refresh_token: str | None
    session_ends_at: datetime


@dataclass(frozen=True, slots=True)
class LoginRejected:
    """Nobody logged in. The reason is for the audit, never for the one who tried."""

    reason: str


class SessionState(StrEnum):
    """What showing a refresh token means."""

    GOOD = "good"
    LATE = "late"
    REUSED = "reused"
    EXPIRED = "expired"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a session ended."""

    LOGGED_OUT = "logged_out"
    EXPIRED = "expired"
    REUSED = "reused"
    DISABLED = "disabled"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason, not a password


def new_refresh_token() -> str:
    """Return 256 random bits in letters a cookie may hold."""
    return secrets.token_urlsafe(32)


def hash_of(refresh_token: str) -> bytes:
    """Return what is stored of a refresh token; it is random, so a plain hash cannot be guessed back."""
    return hashlib.sha256(refresh_token.encode()).digest()


def backoff_after(failed_logins: int) -> timedelta | None:
    """Return how long an account rests after its n-th failed login in a row: three are free, then it doubles (S10)."""
    if failed_logins <= FREE_FAILED_LOGINS:
        return None
    doublings = min(failed_logins - FREE_FAILED_LOGINS - 1, 20)
    return min(BACKOFF_FIRST * (1 << doublings), BACKOFF_MAX)


def why_rejected(account: Account | None, *, password_matches: bool, now: datetime) -> str | None:
    """Return why this login fails, or nothing when it succeeds; a locked account fails with the right password, too."""
    if account is None:
        return "unknown_name"
    if account.disabled_at is not None:
        return "disabled"
    if account.locked_until is not None and now < account.locked_until:
        return "locked"
    return None if password_matches else "wrong_password"


def state_of(session: Session, token_hash: bytes, limits: SessionLimits, *, now: datetime) -> SessionState:
    """Say what it means that somebody shows this token of this session now (S7)."""
    if session.ended_at is not None:
        return SessionState.ENDED
    if now >= min(session.created_at + limits.lifetime, session.refreshed_at + limits.idle):
        return SessionState.EXPIRED
    if token_hash == session.token_hash:
        return SessionState.GOOD
    return SessionState.LATE if now < session.refreshed_at + REUSE_GRACE else SessionState.REUSED


def check_password(password: str, *, username: str) -> None:
    """Refuse a password that is too short, too long, too plain or made of the name; any characters are welcome.

    Raises:
        Invalid: says which rule, never the password.
    """
    if len(password) < PASSWORD_CHARS_MIN:
        raise Invalid(f"A password has at least {PASSWORD_CHARS_MIN} characters.", code="password_too_short")
    if len(password) > PASSWORD_CHARS_MAX:
        raise Invalid(f"A password has at most {PASSWORD_CHARS_MAX} characters.", code="password_too_long")
    if len(set(password)) < PASSWORD_DIFFERENT_CHARS_MIN:
        raise Invalid(
            f"A password has at least {PASSWORD_DIFFERENT_CHARS_MIN} different characters.", code="password_too_plain"
        )
    if username.lower() in password.lower():
        raise Invalid("A password does not contain the account's name.", code="password_contains_name")


def check_wards(wards: frozenset[str]) -> None:
    """Refuse `*` beside other wards, because that reads as if it were limited."""
    if ALL_WARDS in wards and len(wards) > 1:
        raise Invalid("Give either * for all wards or a list of wards.", code="wards_contradict")


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What an administrator changes; nothing means: stays as it is."""

    display_name: str | None = None
    roles: frozenset[Role] | None = None
    wards: frozenset[str] | None = None
    disabled: bool | None = None


def changed(account: Account, change: AccountChange, *, now: datetime) -> Account:
    """Return the account after the change, one version on."""
    disabled_at = account.disabled_at
    if change.disabled is not None:
        disabled_at = (account.disabled_at or now) if change.disabled else None
    roles = account.roles if change.roles is None else change.roles
    if not roles:
        raise Invalid("An account has at least one role; disable it instead.", code="roles_missing")
    wards = account.wards if change.wards is None else change.wards
    check_wards(wards)
    return Account(
        user_id=account.user_id,
        username=account.username,
        display_name=account.display_name if change.display_name is None else change.display_name,
        roles=roles,
        wards=wards,
        disabled_at=disabled_at,
        failed_logins=account.failed_logins,
        locked_until=account.locked_until,
        version=account.version + 1,
    )


def is_acting_admin(account: Account) -> bool:
    """Say whether this account can manage others now."""
    return Role.ADMIN in account.roles and account.disabled_at is None


def check_somebody_stays_admin(before: Account, after: Account, acting_admins: frozenset[UUID]) -> None:
    """Refuse to take the last administrator away, because nobody could undo it.

    Raises:
        Refused: no other enabled account has the role admin.
    """
    if is_acting_admin(before) and not is_acting_admin(after) and acting_admins <= {before.user_id}:
        raise Refused("This is the last administrator; make another one first.", code="last_administrator")
