"""SQL of cash drawers. One function, one statement; which entry went into which drawer the ledger itself writes down."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.billing.drawer import Counted, Shift
from shared.db import Transaction


async def lock_drawer(tx: Transaction, cashier: UUID) -> None:
    """Wait until no cash is on its way into this cashier's drawer, and keep any more out until the end of the transaction."""
    await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 20))", cashier)


async def get_open_shift(tx: Transaction, cashier: UUID) -> Shift | None:
    """Return the cashier's open drawer with the cash that moved in it so far."""
    row = await tx.conn.fetchrow(
        "SELECT s.id, s.cashier, s.opened_at, s.float_fen, cash_of_shift(s.id) AS cash_fen,"
        " (SELECT count(*) FROM entry e WHERE e.cash_shift_id = s.id) AS entries"
        " FROM cash_shift s WHERE s.cashier = $1 AND s.closed_at IS NULL",
        cashier,
    )
    return None if row is None else Shift(**row)


async def insert_shift(tx: Transaction, shift_id: UUID, cashier: UUID, float_fen: int) -> None:
    """Open a drawer; a second one at a time is refused by one_drawer_at_a_time."""
    await tx.conn.execute(
        "INSERT INTO cash_shift (id, cashier, opened_at, float_fen) VALUES ($1, $2, clock_timestamp(), $3)",
        shift_id,
        cashier,
        float_fen,
    )


async def mark_closed(tx: Transaction, counted: Counted) -> None:
    """Close a drawer with its count; expected_is_the_ledger refuses a sum that is not the ledger's."""
    await tx.conn.execute(
        "UPDATE cash_shift SET closed_at = clock_timestamp(), expected_fen = $2, counted_fen = $3, reason = $4 WHERE id = $1",
        counted.shift.id,
        counted.shift.expected_fen,
        counted.counted_fen,
        counted.reason,
    )


@dataclass(frozen=True, slots=True)
class ClosedShift:
    """A drawer that was counted."""

    id: UUID
    cashier: UUID
    opened_at: datetime
    closed_at: datetime
    float_fen: int
    expected_fen: int
    counted_fen: int
    reason: str | None


async def list_closed_shifts(
    tx: Transaction, *, after: tuple[datetime, UUID] | None, rows_max: int
) -> list[ClosedShift]:
    """Return counted drawers, newest first."""
    rows = await tx.conn.fetch(
        "SELECT id, cashier, opened_at, closed_at, float_fen, expected_fen, counted_fen, reason FROM cash_shift"
        " WHERE closed_at IS NOT NULL AND ($1::timestamptz IS NULL OR (closed_at, id) < ($1, $2))"
        " ORDER BY closed_at DESC, id DESC LIMIT $3",
        after[0] if after else None,
        after[1] if after else None,
        rows_max,
    )
    return [ClosedShift(**row) for row in rows]
