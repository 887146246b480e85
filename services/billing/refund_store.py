"""SQL of refunds that need a second person, and of deposits that moved. One function, one statement."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db import Transaction


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A large refund somebody asked for."""

    id: UUID
    encounter_id: UUID
    deposit_entry_id: UUID
    amount_fen: int
    asked_by: UUID
    state: str


async def sum_given_back_alone(tx: Transaction, account_id: UUID) -> int:
    """Return what this account got back of its deposits within 24 hours by one person's word."""
    fen: int = await tx.conn.fetchval(
        "SELECT coalesce(sum(l.fen), 0)::bigint FROM entry e JOIN line l ON l.entry_id = e.id AND l.fen > 0"
        " WHERE e.account_id = $1 AND e.at > $2::timestamptz - interval '24 hours'"
        "   AND (e.kind = 'part_refunded' OR (e.kind = 'reversal' AND e.reason = 'refund'))"
        "   AND NOT EXISTS (SELECT FROM refund_request r WHERE r.refund_entry_id = e.id)"
        "   AND NOT EXISTS (SELECT FROM deposit_move m WHERE m.out_entry_id = e.id)",
        account_id,
        tx.now,
    )
    return fen


async def insert_request(
    tx: Transaction, request_id: UUID, account_id: UUID, *, deposit_entry_id: UUID, amount_fen: int, asked_by: UUID
) -> bool:
    """Keep a request; say whether it is the only one of this deposit."""
    found = await tx.conn.fetchval(
        "INSERT INTO refund_request (id, account_id, deposit_entry_id, amount_fen, asked_by, asked_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (deposit_entry_id) WHERE state = 'asked' DO NOTHING RETURNING id",
        request_id,
        account_id,
        deposit_entry_id,
        amount_fen,
        asked_by,
        tx.now,
    )
    return found is not None


async def lock_request(tx: Transaction, request_id: UUID) -> RefundRequest | None:
    """Lock a request against everybody else who decides it, before its account, and return it as it stands."""
    row = await tx.conn.fetchrow(
        "SELECT r.id, a.encounter_id, r.deposit_entry_id, r.amount_fen, r.asked_by, r.state"
        " FROM refund_request r JOIN account a ON a.id = r.account_id WHERE r.id = $1 FOR UPDATE OF r",
        request_id,
    )
    return None if row is None else RefundRequest(**row)


async def mark_decided(
    tx: Transaction, request_id: UUID, *, decided_by: UUID, refund_entry_id: UUID | None, reason: str | None
) -> None:
    """Write down who decided: done with its entry in the ledger, or refused with a reason."""
    await tx.conn.execute(
        "UPDATE refund_request SET state = CASE WHEN $3::uuid IS NULL THEN 'refused' ELSE 'done' END,"
        " decided_by = $2, decided_at = $5, refund_entry_id = $3, reason = $4 WHERE id = $1",
        request_id,
        decided_by,
        refund_entry_id,
        reason,
        tx.now,
    )


async def insert_move(tx: Transaction, *, out_entry_id: UUID, in_entry_id: UUID) -> None:
    """Tie what left one account to what came into the other; moves_are_even refuses another sum, money or patient."""
    await tx.conn.execute(
        "INSERT INTO deposit_move (out_entry_id, in_entry_id, moved_by) VALUES ($1, $2, $3)",
        out_entry_id,
        in_entry_id,
        tx.actor,
    )


async def list_open_requests(
    tx: Transaction, *, after: tuple[datetime, UUID] | None, rows_max: int
) -> list[dict[str, Any]]:
    """Return the requests nobody decided yet, oldest first."""
    rows = await tx.conn.fetch(
        "SELECT r.id AS request_id, a.encounter_id, w.ward, r.deposit_entry_id, r.amount_fen, r.asked_by, r.asked_at"
        " FROM refund_request r JOIN account a ON a.id = r.account_id LEFT JOIN stay_ward w USING (encounter_id)"
        " WHERE r.state = 'asked' AND ($1::timestamptz IS NULL OR (r.asked_at, r.id) > ($1, $2))"
        " ORDER BY r.asked_at, r.id LIMIT $3",
        after[0] if after else None,
        after[1] if after else None,
        rows_max,
    )
    return [dict(row) for row in rows]
