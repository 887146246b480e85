"""SQL of who left and is not settled. One function, one statement."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.billing.worklist import Leaving, Standing
from shared.db import Transaction


async def note_left(tx: Transaction, encounter_id: UUID, left_at: datetime) -> None:
    """Note that somebody left; told again, the last time counts. The only statement that a discharge costs billing."""
    await tx.conn.execute(
        "INSERT INTO stay_left (encounter_id, left_at) VALUES ($1, $2)"
        " ON CONFLICT (encounter_id) DO UPDATE SET left_at = excluded.left_at",
        encounter_id,
        left_at,
    )


async def remove_left(tx: Transaction, encounter_id: UUID) -> None:
    """Note that somebody has not left after all."""
    await tx.conn.execute("DELETE FROM stay_left WHERE encounter_id = $1", encounter_id)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Somebody who left without settling."""

    encounter_id: UUID
    left_at: datetime
    ward: str | None
    payer_kind: str | None
    charged_fen: int
    deposits_fen: int
    bill_id: UUID | None
    bill_since: datetime | None
    standing: Standing


async def list_unsettled(
    tx: Transaction, wards: Collection[str] | None, *, after: tuple[datetime, UUID] | None, rows_max: int
) -> list[Unsettled]:
    """Return who left and did not settle, longest first, with the newest bill; of some wards, or of all when None."""
    rows = await tx.conn.fetch(
        "SELECT l.encounter_id, l.left_at, w.ward, l.payer_kind, coalesce(l.receivable_fen, 0) AS charged_fen,"
        " coalesce(l.deposits_fen, 0) AS deposits_fen, b.id AS bill_id, b.since AS bill_since, b.state AS bill_state,"
        " b.bill_version <> l.bill_version AS line_changed, b.expires_at, l.account_id IS NOT NULL AS has_account,"
        " EXISTS (SELECT FROM settlement s WHERE s.account_id = l.account_id AND s.reopened_at IS NOT NULL) AS reopened,"
        " EXISTS (SELECT FROM arrears x WHERE x.account_id = l.account_id) AS in_arrears"
        " FROM left_unsettled l LEFT JOIN stay_ward w USING (encounter_id)"
        " LEFT JOIN LATERAL (SELECT id, since, state, bill_version, expires_at FROM bill"
        "   WHERE account_id = l.account_id AND NOT (interim AND state IN ('settled', 'reopened'))"
        "   ORDER BY id DESC LIMIT 1) b ON true"
        " WHERE ($1::text[] IS NULL OR w.ward = ANY ($1))"
        "   AND ($2::timestamptz IS NULL OR (l.left_at, l.encounter_id) > ($2, $3))"
        " ORDER BY l.left_at, l.encounter_id LIMIT $4",
        None if wards is None else list(wards),
        after[0] if after else None,
        after[1] if after else None,
        rows_max,
    )
    return [
        Unsettled(
            **{
                name: row[name]
                for name in (
                    "encounter_id",
                    "left_at",
                    "ward",
                    "payer_kind",
                    "charged_fen",
                    "deposits_fen",
                    "bill_id",
                    "bill_since",
                )
            },
            standing=Standing(
                has_account=row["has_account"],
                bill_state=row["bill_state"],
                line_changed=bool(row["line_changed"]),
                expires_at=row["expires_at"],
                reopened=row["reopened"],
                in_arrears=row["in_arrears"],
            ),
        )
        for row in rows
    ]


async def list_unknown_bills(tx: Transaction, *, rows_max: int) -> list[dict[str, Any]]:
    """Return the bills of which nobody knows whether the fund settled them, longest first."""
    rows = await tx.conn.fetch(
        "SELECT a.encounter_id, b.id AS bill_id, b.since, extract(epoch FROM clock_timestamp() - b.since)::bigint AS unknown_seconds"
        " FROM bill b JOIN account a ON a.id = b.account_id WHERE b.state = 'payer_unknown' ORDER BY b.since LIMIT $1",
        rows_max,
    )
    return [dict(row) for row in rows]


async def list_stuck_refunds(tx: Transaction, *, rows_max: int) -> list[dict[str, Any]]:
    """Return refunds that are not known or failed and that nobody has explained yet, longest first."""
    rows = await tx.conn.fetch(
        "SELECT a.encounter_id, r.refund_no, r.state, r.amount_fen, r.since, r.reason FROM refund r"
        " JOIN payment p ON p.id = r.payment_id JOIN account a ON a.id = p.account_id"
        " WHERE r.state = 'unknown' OR (r.state = 'failed' AND EXISTS (SELECT FROM recon_diff d WHERE d.explained_at IS NULL"
        "   AND (d.party, d.kind, d.object) = ('channel', 'refund_failed', r.refund_no)))"
        " ORDER BY r.since, r.refund_no LIMIT $1",
        rows_max,
    )
    return [dict(row) for row in rows]


async def list_leavings(tx: Transaction, within: tuple[datetime, datetime]) -> list[tuple[UUID, Leaving]]:
    """Return everybody who left within a day, with how the bill went; an admission that was voided owes nothing."""
    rows = await tx.conn.fetch(
        "SELECT l.encounter_id, l.left_at, s.settled_at, b.billed_at, b.quotes, t.collecting_at,"
        " coalesce(t.was_unknown, false) AS was_unknown, coalesce(t.was_refused, false) AS was_refused,"
        " EXISTS (SELECT FROM settlement x WHERE x.account_id = a.id AND x.reopened_at >= l.left_at) AS was_reopened"
        " FROM stay_left l LEFT JOIN account a USING (encounter_id)"
        " LEFT JOIN settlement s ON s.account_id = a.id AND s.reopened_at IS NULL AND s.kind = 'final'"
        " LEFT JOIN LATERAL (SELECT min(x.at) AS billed_at, count(*) AS quotes FROM bill b"
        "   JOIN bill_step x ON x.bill_id = b.id AND x.state = 'quoted' WHERE b.account_id = a.id) b ON true"
        " LEFT JOIN LATERAL (SELECT min(x.at) FILTER (WHERE x.state = 'collecting') AS collecting_at,"
        "   bool_or(x.state = 'payer_unknown') AS was_unknown, bool_or(x.state = 'failed') AS was_refused"
        "   FROM bill b JOIN bill_step x ON x.bill_id = b.id WHERE b.account_id = a.id) t ON true"
        " WHERE l.left_at >= $1 AND l.left_at < $2 AND a.state IS DISTINCT FROM 'voided' ORDER BY l.left_at, l.encounter_id",
        *within,
    )
    return [
        (row["encounter_id"], Leaving(**{name: row[name] for name in Leaving.__dataclass_fields__})) for row in rows
    ]
