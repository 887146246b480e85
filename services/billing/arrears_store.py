"""SQL of arrears. One function, one statement; the account's row is locked by whoever calls."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.billing.arrears import ArrearsPolicy, Credit
from shared.db import Connection, Transaction


async def get_credit(tx: Transaction, account_id: UUID) -> Credit:
    """Return how far this account may go and whether it went too far before."""
    row = await tx.conn.fetchrow(
        "SELECT a.payer_kind, c.limit_fen AS approved_fen, EXISTS (SELECT FROM arrears r WHERE r.account_id = a.id) AS in_arrears"
        " FROM account a LEFT JOIN credit c ON c.account_id = a.id WHERE a.id = $1",
        account_id,
    )
    assert row is not None, "The account is locked, so it is there."
    return Credit(**row)


async def insert_arrears(tx: Transaction, account_id: UUID, limit_fen: int) -> bool:
    """Raise the flag; False when it was up."""
    status: str = await tx.conn.execute(
        "INSERT INTO arrears (account_id, limit_fen, raised_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        account_id,
        limit_fen,
        tx.now,
    )
    return status.endswith("1")


async def end_arrears(tx: Transaction, account_id: UUID, owed_fen: int, limit_fen: int | None = None) -> bool:
    """Take the flag down when no more is owed than may be (or might when it was raised); False when nothing changed."""
    status: str = await tx.conn.execute(
        "DELETE FROM arrears WHERE account_id = $1 AND coalesce($3, limit_fen) >= $2", account_id, owed_fen, limit_fen
    )
    return status.endswith("1")


async def approve_credit(tx: Transaction, account_id: UUID, limit_fen: int, reason: str) -> None:
    """Write the limit a person approved for this account; the last one counts, every one is in the audit."""
    await tx.conn.execute(
        "WITH flag AS (UPDATE arrears SET limit_fen = $2 WHERE account_id = $1)"
        " INSERT INTO credit (account_id, limit_fen, reason, approved_by, approved_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (account_id) DO UPDATE SET limit_fen = excluded.limit_fen, reason = excluded.reason,"
        " approved_by = excluded.approved_by, approved_at = excluded.approved_at",
        account_id,
        limit_fen,
        reason,
        tx.actor,
        tx.now,
    )


async def list_to_judge(conn: Connection, policy: ArrearsPolicy, *, rows_max: int) -> list[UUID]:
    """Return stays whose flag is not as it should be: too much is owed and it is down, or it is up for no reason."""
    rows = await conn.fetch(
        "SELECT a.encounter_id FROM account a LEFT JOIN arrears r ON r.account_id = a.id"
        " LEFT JOIN credit c ON c.account_id = a.id"
        " JOIN unnest($1::text[], $2::bigint[]) AS p(payer_kind, limit_fen) ON p.payer_kind = a.payer_kind"
        " WHERE (a.state IN ('open', 'billing') AND a.receivable_fen - a.deposits_fen > coalesce(c.limit_fen, p.limit_fen))"
        "   <> (r.account_id IS NOT NULL) LIMIT $3",
        list(policy.limits_fen),
        list(policy.limits_fen.values()),
        rows_max,
    )
    return [row["encounter_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class ArrearsView:
    """An account's arrears as the desk shows them."""

    account_id: UUID
    patient_tok: UUID
    ward: str | None
    charged_fen: int
    deposits_fen: int
    raised_at: datetime | None
    reason: str | None
    approved_by: UUID | None


async def get_view(tx: Transaction, encounter_id: UUID) -> ArrearsView | None:
    """Return what a stay owes, since when that is too much, and who approved its credit."""
    row = await tx.conn.fetchrow(
        "SELECT a.id AS account_id, a.patient_tok, w.ward, a.receivable_fen AS charged_fen, a.deposits_fen, r.raised_at,"
        " c.reason, c.approved_by FROM account a LEFT JOIN stay_ward w USING (encounter_id)"
        " LEFT JOIN arrears r ON r.account_id = a.id LEFT JOIN credit c ON c.account_id = a.id WHERE a.encounter_id = $1",
        encounter_id,
    )
    return None if row is None else ArrearsView(**row)
