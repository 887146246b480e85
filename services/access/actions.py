"""What can be done with accounts and sessions. One action = one transaction, begun and ended by the caller."""

from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from services.access import domain, store
from services.access.domain import (
    Account,
    AccountChange,
    EndReason,
    LoggedIn,
    LoginRejected,
    Session,
    SessionLimits,
    SessionState,
)
from shared.access.roles import Role
from shared.db import AuditRow, Transaction
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.web import check_version

SESSIONS_KEPT = timedelta(days=30)


async def log_in(
    tx: Transaction, *, username: str, password_matches: bool, limits: SessionLimits
) -> LoggedIn | LoginRejected:
    """Open a session, or count the failure and let the account rest longer each time (S10).

    The password was checked before, outside the transaction, so that no row is locked while it is hashed.
    """
    account = await store.lock_account_by_name(tx.conn, username)
    reason = domain.why_rejected(account, password_matches=password_matches, now=tx.now)
    if account is None or reason is not None:
        if account is not None and reason in ("wrong_password", "locked") and not password_matches:
            failed = account.failed_logins + 1
            rest = domain.backoff_after(failed)
            locked_until = None if rest is None else tx.now + rest
            await store.mark_login_failed(tx.conn, account.user_id, failed_logins=failed, locked_until=locked_until)
        # The name that was typed is not kept: people type passwords into that field.
        _audit(tx, "login", account, outcome=f"rejected:{reason}")
        return LoginRejected(reason or "unknown_name")
    if account.failed_logins:
        await store.mark_login_failed(tx.conn, account.user_id, failed_logins=0, locked_until=None)
    await store.delete_old_sessions(tx.conn, before=tx.now - SESSIONS_KEPT)
    token = domain.new_refresh_token()
    session = Session(new_id(), account.user_id, domain.hash_of(token), None, tx.now, tx.now, None)
    await store.insert_session(tx.conn, session)
    _audit(tx, "login", account)
    return LoggedIn(account, session.session_id, token, tx.now + limits.lifetime)


async def refresh(tx: Transaction, *, refresh_token: str, limits: SessionLimits) -> LoggedIn | LoginRejected:
    """Exchange a refresh token for a new one with today's roles and wards; an old one shown again ends the session."""
    token_hash = domain.hash_of(refresh_token)
    session = await store.lock_session(tx.conn, token_hash)
    if session is None:
        return LoginRejected("unknown_session")
    account = await store.get_account(tx.conn, session.user_id)
    if account is None or account.disabled_at is not None:
        await store.mark_session_ended(tx.conn, session.session_id, EndReason.DISABLED, tx.now)
        return LoginRejected("disabled")
    new_token: str | None = None
    match domain.state_of(session, token_hash, limits, now=tx.now):
        case SessionState.ENDED:
            return LoginRejected("ended")
        case SessionState.EXPIRED:
            await store.mark_session_ended(tx.conn, session.session_id, EndReason.EXPIRED, tx.now)
            return LoginRejected("expired")
        case SessionState.REUSED:
            await store.mark_session_ended(tx.conn, session.session_id, EndReason.REUSED, tx.now)
            _audit(tx, "refresh", account, outcome="rejected:reused")
            return LoginRejected("reused")
        case SessionState.LATE:
            pass  # another tab was first; its cookie is the good one
        case SessionState.GOOD:
            new_token = domain.new_refresh_token()
            await store.mark_session_refreshed(tx.conn, session.session_id, domain.hash_of(new_token), tx.now)
    return LoggedIn(account, session.session_id, new_token, session.created_at + limits.lifetime)


async def log_out(tx: Transaction, *, refresh_token: str) -> None:
    """End the session that has this refresh token; an unknown one is no error, there is nothing left to end."""
    session = await store.lock_session(tx.conn, domain.hash_of(refresh_token))
    if session is None:
        return
    await store.mark_session_ended(tx.conn, session.session_id, EndReason.LOGGED_OUT, tx.now)
    _audit(tx, "logout", await store.get_account(tx.conn, session.user_id))


async def create_account(
    tx: Transaction,
    *,
    username: str,
    display_name: str,
    password_hash: str,
    roles: frozenset[Role],
    wards: frozenset[str],
) -> Account:
    """Open an account.

    Raises:
        Refused: somebody has this name already, perhaps a disabled account; names are never given twice.
    """
    domain.check_wards(wards)
    account = Account(new_id(), username, display_name, roles, wards, None, 0, None, 1)
    if not await store.insert_account(tx.conn, account, password_hash):
        raise Refused("There is an account with this name.", code="username_taken")
    return account


async def change_account(tx: Transaction, *, user_id: UUID, version: int, change: AccountChange) -> Account:
    """Change roles, wards, name or whether the account may log in; disabling ends its sessions at once.

    Raises:
        PreconditionFailed: somebody changed it since it was read. Refused: it is the last administrator.
    """
    admins = await store.lock_acting_admins(tx.conn)
    before = await _lock(tx, user_id)
    check_version(version, before.version)
    after = domain.changed(before, change, now=tx.now)
    domain.check_somebody_stays_admin(before, after, admins)
    await store.mark_account_changed(tx.conn, after)
    if after.disabled_at is not None:
        await store.mark_sessions_ended(tx.conn, user_id, EndReason.DISABLED, tx.now)
    return after


async def set_password(tx: Transaction, *, user_id: UUID, version: int | None, password_hash: str) -> Account:
    """Give an account a new password and end all its sessions, so that whoever knew the old one is out.

    Raises:
        PreconditionFailed: `version` was given and somebody changed the account since it was read.
    """
    account = await _lock(tx, user_id)
    if version is not None:
        check_version(version, account.version)
    await store.mark_password_changed(tx.conn, user_id, password_hash)
    await store.mark_sessions_ended(tx.conn, user_id, EndReason.PASSWORD_CHANGED, tx.now)
    return replace(account, version=account.version + 1, failed_logins=0, locked_until=None)


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """An account that is there from the beginning."""

    username: str
    display_name: str
    password_hash: str
    roles: frozenset[Role]
    wards: frozenset[str]


async def ensure_account(tx: Transaction, first: FirstAccount) -> None:
    """Open the account unless its name is taken; an existing one stays as people made it."""
    account = Account(new_id(), first.username, first.display_name, first.roles, first.wards, None, 0, None, 1)
    if await store.insert_account(tx.conn, account, first.password_hash):
        _audit(tx, "first_account", account)


async def _lock(tx: Transaction, user_id: UUID) -> Account:
    account = await store.lock_account(tx.conn, user_id)
    if account is None:
        raise NotFound("There is no such account.", code="account_unknown")
    return account


def _audit(tx: Transaction, action: str, account: Account | None, *, outcome: str = "ok") -> None:
    """Note what happened to an account; the acting person is the account itself."""
    if account is not None and tx.actor is None:
        tx.actor = account.user_id
        tx.role = ",".join(sorted(account.roles))
    tx.audits.append(AuditRow(action, "account", None if account is None else str(account.user_id), outcome=outcome))
