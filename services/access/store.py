"""SQL of the access service. One function, one statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.access.domain import Account, EndReason, Session
from shared.access.roles import Role
from shared.db import Connection

_SELECT = """
SELECT user_id, username, display_name, roles, wards, disabled_at, failed_logins, locked_until, version FROM account
"""


def _account(row: Any) -> Account:
    return Account(
        user_id=row["user_id"],
        username=row["username"],
        display_name=row["display_name"],
        roles=frozenset(Role(role) for role in row["roles"]),
        wards=frozenset(row["wards"]),
        disabled_at=row["disabled_at"],
        failed_logins=row["failed_logins"],
        locked_until=row["locked_until"],
        version=row["version"],
    )


async def get_password_hash(conn: Connection, username: str) -> str | None:
    """Return the password hash of an account, or nothing when there is no such name."""
    found: str | None = await conn.fetchval("SELECT password_hash FROM account WHERE username = $1", username)
    return found


async def lock_account_by_name(conn: Connection, username: str) -> Account | None:
    """Lock and return the account, so that two failed logins count as two."""
    row = await conn.fetchrow(_SELECT + "WHERE username = $1 FOR UPDATE", username)
    return _account(row) if row else None


async def lock_account(conn: Connection, user_id: UUID) -> Account | None:
    """Lock and return the account."""
    row = await conn.fetchrow(_SELECT + "WHERE user_id = $1 FOR UPDATE", user_id)
    return _account(row) if row else None


async def get_account(conn: Connection, user_id: UUID) -> Account | None:
    """Return the account."""
    row = await conn.fetchrow(_SELECT + "WHERE user_id = $1", user_id)
    return _account(row) if row else None


async def list_accounts(conn: Connection, *, after: str, rows_max: int) -> list[Account]:
    """Return accounts by name, after a name (keyset)."""
    rows = await conn.fetch(_SELECT + "WHERE username > $1 ORDER BY username LIMIT $2", after, rows_max)
    return [_account(row) for row in rows]


async def list_known_names(conn: Connection, usernames: Sequence[str]) -> set[str]:
    """Return those of the names that have an account."""
    rows = await conn.fetch("SELECT username FROM account WHERE username = ANY ($1::text[])", usernames)
    return {row["username"] for row in rows}


async def lock_acting_admins(conn: Connection) -> frozenset[UUID]:
    """Lock all enabled administrators in one order, so that two cannot disable each other at once."""
    rows = await conn.fetch(
        "SELECT user_id FROM account WHERE disabled_at IS NULL AND 'admin' = ANY (roles) ORDER BY user_id FOR UPDATE"
    )
    return frozenset(row["user_id"] for row in rows)


async def insert_account(conn: Connection, account: Account, password_hash: str) -> bool:
    """Insert the account and say whether the name was free."""
    status = await conn.execute(
        """
        INSERT INTO account (user_id, username, display_name, password_hash, roles, wards)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (username) DO NOTHING
        """,
        account.user_id,
        account.username,
        account.display_name,
        password_hash,
        sorted(account.roles),
        sorted(account.wards),
    )
    return status == "INSERT 0 1"


async def mark_account_changed(conn: Connection, account: Account) -> None:
    """Write what an administrator changed."""
    await conn.execute(
        """
        UPDATE account SET display_name = $2, roles = $3, wards = $4, disabled_at = $5, version = $6 WHERE user_id = $1
        """,
        account.user_id,
        account.display_name,
        sorted(account.roles),
        sorted(account.wards),
        account.disabled_at,
        account.version,
    )


async def mark_login_failed(
    conn: Connection, user_id: UUID, *, failed_logins: int, locked_until: datetime | None
) -> None:
    """Count a failed login and let the account rest."""
    await conn.execute(
        "UPDATE account SET failed_logins = $2, locked_until = $3 WHERE user_id = $1",
        user_id,
        failed_logins,
        locked_until,
    )


async def mark_password_changed(conn: Connection, user_id: UUID, password_hash: str) -> None:
    """Write a new password hash and forget failed logins."""
    await conn.execute(
        """
        UPDATE account SET password_hash = $2, failed_logins = 0, locked_until = NULL, version = version + 1
        WHERE user_id = $1
        """,
        user_id,
        password_hash,
    )


async def insert_session(conn: Connection, session: Session) -> None:
    """Open a session."""
    await conn.execute(
        "INSERT INTO session (session_id, user_id, token_hash, created_at, refreshed_at) VALUES ($1, $2, $3, $4, $5)",
        session.session_id,
        session.user_id,
        session.token_hash,
        session.created_at,
        session.refreshed_at,
    )


async def lock_session(conn: Connection, token_hash: bytes) -> Session | None:
    """Lock and return the session that has this token now, or had it before the last refresh."""
    row = await conn.fetchrow(
        """
        SELECT session_id, user_id, token_hash, previous_hash, created_at, refreshed_at, ended_at
        FROM session WHERE token_hash = $1 OR previous_hash = $1 FOR UPDATE
        """,
        token_hash,
    )
    return Session(**row) if row else None


async def mark_session_refreshed(conn: Connection, session_id: UUID, token_hash: bytes, at: datetime) -> None:
    """Give the session a new token; the present one becomes the previous one."""
    await conn.execute(
        "UPDATE session SET previous_hash = token_hash, token_hash = $2, refreshed_at = $3 WHERE session_id = $1",
        session_id,
        token_hash,
        at,
    )


async def mark_session_ended(conn: Connection, session_id: UUID, reason: EndReason, at: datetime) -> None:
    """End one session."""
    await conn.execute(
        "UPDATE session SET ended_at = $2, ended_reason = $3 WHERE session_id = $1 AND ended_at IS NULL",
        session_id,
        at,
        reason.value,
    )


async def mark_sessions_ended(conn: Connection, user_id: UUID, reason: EndReason, at: datetime) -> None:
    """End every open session of an account."""
    await conn.execute(
        "UPDATE session SET ended_at = $2, ended_reason = $3 WHERE user_id = $1 AND ended_at IS NULL",
        user_id,
        at,
        reason.value,
    )


async def delete_old_sessions(conn: Connection, *, before: datetime) -> None:
    """Forget sessions nobody refreshed since `before`; the audit keeps who was here."""
    await conn.execute("DELETE FROM session WHERE refreshed_at < $1", before)
