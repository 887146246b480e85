"""SQL of the daily match. One function, one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, get_args
from uuid import UUID

from services.billing.domain import LedgerAccount
from services.billing.reconciliation import MATCHED_LATER, Difference, DifferenceKind, Ours, ReconParty, Theirs
from shared.db import Transaction

Bounds = tuple[datetime, datetime]

# ---- whether a day is matched ----------------------------------------------------------------------------------------


async def order_match(tx: Transaction, party: ReconParty, day: date) -> None:
    """Have a day matched once: nothing happens when it was matched, or is waiting to be."""
    tx.signals.add("errand")
    await tx.conn.execute(
        "INSERT INTO errand (kind, object_id, due_at) SELECT 'match', $1 || ':' || $2::date, clock_timestamp()"
        " WHERE NOT EXISTS (SELECT FROM recon_day WHERE party = $1 AND day = $2) ON CONFLICT DO NOTHING",
        party,
        day,
    )


async def lock_day(tx: Transaction, party: ReconParty, day: date) -> None:
    """Let two matches of the same day and party write one after the other."""
    await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1 || $2::date, 21))", party, day)


async def insert_day(
    tx: Transaction, party: ReconParty, day: date, *, rows: int, ours_fen: int, theirs_fen: int
) -> None:
    """Write down that a day was matched, and with what sums; matched again, the last time counts."""
    await tx.conn.execute(
        "INSERT INTO recon_day (day, party, done_at, rows, ours_fen, theirs_fen)"
        " VALUES ($1, $2, clock_timestamp(), $3, $4, $5) ON CONFLICT (day, party) DO UPDATE"
        " SET done_at = excluded.done_at, rows = excluded.rows, ours_fen = excluded.ours_fen, theirs_fen = excluded.theirs_fen",
        day,
        party,
        rows,
        ours_fen,
        theirs_fen,
    )


# ---- the channel -----------------------------------------------------------------------------------------------------


async def replace_stated(tx: Transaction, day: date, rows: Sequence[Theirs]) -> None:
    """Keep the channel's statement of a day instead of the one it gave before."""
    await tx.conn.execute(
        "WITH gone AS (DELETE FROM stated WHERE day = $1 AND position > cardinality($2::text[]))"
        " INSERT INTO stated (day, position, key, fen)"
        " SELECT $1, s.position, s.key, s.fen FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS s(key, fen, position)"
        " ON CONFLICT (day, position) DO UPDATE SET key = excluded.key, fen = excluded.fen",
        day,
        [row.key for row in rows],
        [row.fen for row in rows],
    )


async def list_stated_before(tx: Transaction, day: date, keys: Sequence[str]) -> set[str]:
    """Return which of these the channel stated on an earlier day."""
    rows = await tx.conn.fetch("SELECT DISTINCT key FROM stated WHERE key = ANY ($2) AND day < $1", day, list(keys))
    return {row["key"] for row in rows}


async def list_ours(tx: Transaction, within: Bounds, keys: Sequence[str]) -> list[Ours]:
    """Return payments and refunds that rested within the day, and those under these numbers, with what the ledger says."""
    rows = await tx.conn.fetch(
        "SELECT p.order_no AS key, p.amount_fen AS fen, l.fen AS ledger_fen, p.state = 'paid' AS counts,"
        " p.state = 'paid' AND p.since >= $1 AND p.since < $2 AS of_the_day,"
        " p.state IN ('created', 'waiting', 'closing') AS waits"
        " FROM payment p LEFT JOIN line l ON l.entry_id = p.entry_id AND l.ledger_account_id = $4"
        " WHERE (p.state = 'paid' AND p.since >= $1 AND p.since < $2) OR p.order_no = ANY ($3)"
        " UNION ALL SELECT r.refund_no, -r.amount_fen, coalesce(l.fen, 0), r.state <> 'failed',"
        " r.state = 'done' AND r.since >= $1 AND r.since < $2, r.state IN ('requested', 'processing', 'unknown')"
        " FROM refund r LEFT JOIN line l ON l.entry_id = r.entry_id AND l.ledger_account_id = $4"
        " WHERE (r.state = 'done' AND r.since >= $1 AND r.since < $2) OR r.refund_no = ANY ($3)",
        *within,
        list(keys),
        LedgerAccount.CHANNEL,
    )
    return [Ours(**row) for row in rows]


# ---- the fund and the drawers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FundSums:
    """How many settlements a fund made with us and what it pays, those it took back counted off."""

    settlements: int
    payer_fen: int


async def get_fund_sums(tx: Transaction, within: Bounds) -> FundSums:
    """Return what the fund settled within the day less what it took back, by the steps of our bills."""
    row = await tx.conn.fetchrow(
        "SELECT coalesce(sum(t.sign), 0)::int AS settlements,"
        " coalesce(sum(t.sign * (b.fund_fen + b.account_fen)), 0)::bigint AS payer_fen"
        " FROM bill b, LATERAL ("
        "   (SELECT 1 AS sign, s.at FROM bill_step s WHERE s.bill_id = b.id AND s.state IN ('collecting', 'payer_reversing')"
        "     ORDER BY s.at LIMIT 1)"
        "   UNION ALL SELECT -1, s.at FROM bill_step s WHERE s.bill_id = b.id AND s.state IN ('cancelled', 'reopened')) t"
        " WHERE b.insured AND b.setl_id IS NOT NULL AND t.at >= $1 AND t.at < $2",
        *within,
    )
    assert row is not None, "An aggregate always answers."
    return FundSums(**row)


async def list_cash_outside_shifts(tx: Transaction, within: Bounds) -> list[Difference]:
    """Return the cash of the day that went into no drawer, by cashier."""
    rows = await tx.conn.fetch(
        "SELECT coalesce(e.cashier::text, 'nobody') AS key, sum(l.fen)::bigint AS fen FROM entry e"
        " JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = $3"
        " WHERE e.recorded_at >= $1 AND e.recorded_at < $2 AND e.cash_shift_id IS NULL"
        "   AND NOT EXISTS (SELECT FROM deposit_move m WHERE e.id IN (m.out_entry_id, m.in_entry_id))"
        " GROUP BY 1 ORDER BY 1",
        *within,
        LedgerAccount.CASH,
    )
    return [Difference("outside_shift", row["key"], row["fen"], None) for row in rows]


@dataclass(frozen=True, slots=True)
class DrawerSums:
    """The drawers that were counted within a day: how many, what they should have held, what they held."""

    shifts: int
    expected_fen: int
    counted_fen: int


async def get_drawer_sums(tx: Transaction, within: Bounds) -> DrawerSums:
    """Return the sums of the drawers that were counted within the day."""
    row = await tx.conn.fetchrow(
        "SELECT count(*)::int AS shifts, coalesce(sum(expected_fen), 0)::bigint AS expected_fen,"
        " coalesce(sum(counted_fen), 0)::bigint AS counted_fen FROM cash_shift WHERE closed_at >= $1 AND closed_at < $2",
        *within,
    )
    assert row is not None, "An aggregate always answers."
    return DrawerSums(**row)


# ---- differences -----------------------------------------------------------------------------------------------------


async def end_vanished(tx: Transaction, party: ReconParty, day: date, found: Sequence[Difference]) -> None:
    """Explain the open differences of a day that this match does not find any more."""
    await tx.conn.execute(
        "UPDATE recon_diff d SET explained_at = clock_timestamp(), explanation = $3"
        " WHERE d.party = $1 AND d.day = $2 AND d.explained_at IS NULL AND d.kind = ANY ($4) AND NOT EXISTS ("
        "   SELECT FROM unnest($5::text[], $6::text[], $7::bigint[], $8::bigint[]) AS f(kind, object, ours_fen, theirs_fen)"
        "   WHERE (f.kind, f.object) = (d.kind, d.object)"
        "     AND (f.ours_fen, f.theirs_fen) IS NOT DISTINCT FROM (d.ours_fen, d.theirs_fen))",
        party,
        day,
        MATCHED_LATER,
        list(get_args(DifferenceKind)),
        *_columns(found),
    )


async def insert_differences(tx: Transaction, party: ReconParty, day: date, found: Sequence[Difference]) -> None:
    """Write what was found; what is on the list, or was explained by a person with the same sums, is not written again."""
    await tx.conn.execute(
        "INSERT INTO recon_diff (id, day, party, kind, object, ours_fen, theirs_fen, found_at)"
        " SELECT gen_random_uuid(), $2, $1, f.kind, f.object, f.ours_fen, f.theirs_fen, clock_timestamp()"
        " FROM unnest($4::text[], $5::text[], $6::bigint[], $7::bigint[]) AS f(kind, object, ours_fen, theirs_fen)"
        " WHERE NOT EXISTS (SELECT FROM recon_diff d WHERE d.party = $1 AND d.day = $2"
        "   AND (d.kind, d.object) = (f.kind, f.object) AND d.explanation IS DISTINCT FROM $3"
        "   AND (f.ours_fen, f.theirs_fen) IS NOT DISTINCT FROM (d.ours_fen, d.theirs_fen))",
        party,
        day,
        MATCHED_LATER,
        *_columns(found),
    )


def _columns(found: Sequence[Difference]) -> tuple[list[Any], ...]:
    return (
        [one.kind for one in found],
        [one.key for one in found],
        [one.ours_fen for one in found],
        [one.theirs_fen for one in found],
    )


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A difference as a person works on it."""

    id: UUID
    day: date
    party: str
    kind: str
    object: str
    ours_fen: int | None
    theirs_fen: int | None
    found_at: datetime
    age_seconds: int
    owner: UUID | None
    explained_at: datetime | None
    explained_by: UUID | None
    explanation: str | None


_ROW = (
    "SELECT id, day, party, kind, object, ours_fen, theirs_fen, found_at,"
    " extract(epoch FROM clock_timestamp() - found_at)::bigint AS age_seconds, owner, explained_at, explained_by, explanation"
    " FROM recon_diff"
)


async def list_open_differences(
    tx: Transaction, *, after: tuple[datetime, UUID] | None, rows_max: int
) -> list[DifferenceRow]:
    """Return what nobody has explained yet, oldest first."""
    rows = await tx.conn.fetch(
        f"{_ROW} WHERE explained_at IS NULL AND ($1::timestamptz IS NULL OR (found_at, id) > ($1, $2))"
        " ORDER BY found_at, id LIMIT $3",
        after[0] if after else None,
        after[1] if after else None,
        rows_max,
    )
    return [DifferenceRow(**row) for row in rows]


async def list_differences_of(tx: Transaction, day: date, *, rows_max: int) -> list[DifferenceRow]:
    """Return the differences of a day, explained ones too, in the order they were found."""
    rows = await tx.conn.fetch(f"{_ROW} WHERE day = $1 ORDER BY party, found_at, id LIMIT $2", day, rows_max)
    return [DifferenceRow(**row) for row in rows]


async def lock_difference(tx: Transaction, difference_id: UUID) -> DifferenceRow | None:
    """Return a difference, so that no other changes it meanwhile."""
    row = await tx.conn.fetchrow(f"{_ROW} WHERE id = $1 FOR NO KEY UPDATE", difference_id)
    return None if row is None else DifferenceRow(**row)


async def mark_owner(tx: Transaction, difference_id: UUID, owner: UUID) -> None:
    """Write who looks into a difference."""
    await tx.conn.execute("UPDATE recon_diff SET owner = $2 WHERE id = $1", difference_id, owner)


async def mark_explained(tx: Transaction, difference_id: UUID, explanation: str) -> None:
    """Write why a difference is none any more, and who says so."""
    await tx.conn.execute(
        "UPDATE recon_diff SET explained_at = clock_timestamp(), explanation = $2, explained_by = $3 WHERE id = $1",
        difference_id,
        explanation,
        tx.actor,
    )


# ---- the day as it stands --------------------------------------------------------------------------------------------


async def list_days(tx: Transaction, day: date) -> list[dict[str, Any]]:
    """Return with whom a day was matched, when and with what sums."""
    rows = await tx.conn.fetch(
        "SELECT party, done_at, rows, ours_fen, theirs_fen FROM recon_day WHERE day = $1 ORDER BY party", day
    )
    return [dict(row) for row in rows]


async def get_ledger_sums(tx: Transaction, within: Bounds) -> dict[str, int]:
    """Return what moved in cash, through the channel and at the fund within the day, by the ledger."""
    row = await tx.conn.fetchrow(
        "SELECT coalesce(sum(l.fen) FILTER (WHERE l.ledger_account_id = $3), 0)::bigint AS cash_fen,"
        " coalesce(sum(l.fen) FILTER (WHERE l.ledger_account_id = $4), 0)::bigint AS channel_fen,"
        " coalesce(sum(l.fen) FILTER (WHERE l.ledger_account_id = $5), 0)::bigint AS payer_fen"
        " FROM entry e JOIN line l ON l.entry_id = e.id AND l.ledger_account_id IN ($3, $4, $5)"
        " WHERE e.recorded_at >= $1 AND e.recorded_at < $2",
        *within,
        LedgerAccount.CASH,
        LedgerAccount.CHANNEL,
        LedgerAccount.PAYER_RECEIVABLE,
    )
    assert row is not None, "An aggregate always answers."
    return dict(row)
