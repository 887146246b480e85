"""SQL of the billing schema. One function, one statement; money moves only through the functions of migrations/0002.

An account is locked before anything of it is decided. What is decided from other rows (deposits, entries) is read after
the lock was got, in a statement of its own: an earlier snapshot would miss what the one before us committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from services.billing.domain import (
    Account,
    AccountState,
    Deposit,
    Entry,
    LedgerAccount,
    Posting,
    Reversal,
    Settlement,
)
from shared.db import Connection, Transaction

# ---- accounts --------------------------------------------------------------------------------------------------------


async def insert_account(
    tx: Transaction, account_id: UUID, *, encounter_id: UUID, patient_tok: UUID, payer_kind: str, day_case: bool
) -> bool:
    """Open an account, unless the stay has one already; say whether it was opened."""
    status: str = await tx.conn.execute(
        "INSERT INTO account (id, encounter_id, patient_tok, payer_kind, day_case) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (encounter_id) DO NOTHING",
        account_id,
        encounter_id,
        patient_tok,
        payer_kind,
        day_case,
    )
    return status.endswith("1")


async def mark_day_case(tx: Transaction, encounter_id: UUID) -> None:
    """Note that a day-surgery case runs on this account."""
    await tx.conn.execute("UPDATE account SET day_case = true WHERE encounter_id = $1 AND NOT day_case", encounter_id)


async def mark_ward(tx: Transaction, encounter_id: UUID, ward: str) -> None:
    """Note where the patient lies now, account or not."""
    await tx.conn.execute(
        "INSERT INTO stay_ward (encounter_id, ward) VALUES ($1, $2)"
        " ON CONFLICT (encounter_id) DO UPDATE SET ward = excluded.ward WHERE stay_ward.ward <> excluded.ward",
        encounter_id,
        ward,
    )


async def lock_account(tx: Transaction, encounter_id: UUID) -> Account | None:
    """Lock the account of a stay against every other posting and return it as it is now."""
    row = await tx.conn.fetchrow(
        "SELECT a.id, a.patient_tok, a.state, a.day_case, a.settlements, a.receivable_fen, a.deposits_fen, a.interim_bill_id,"
        " w.ward FROM account a LEFT JOIN stay_ward w USING (encounter_id) WHERE a.encounter_id = $1 FOR NO KEY UPDATE OF a",
        encounter_id,
    )
    return None if row is None else _account(row, encounter_id)


async def lock_for_settlement(tx: Transaction, encounter_id: UUID) -> tuple[Account, tuple[Deposit, ...]] | None:
    """Lock the account of a stay and return it with what is left of its deposits, oldest first, in one round trip."""
    row = await tx.conn.fetchrow("SELECT * FROM lock_for_settlement($1)", encounter_id)
    if row is None or row["id"] is None:
        return None
    deposits = tuple(
        Deposit(entry_id, fen, LedgerAccount(money))
        for entry_id, fen, money in zip(
            row["deposit_ids"] or (), row["deposit_fens"] or (), row["deposit_methods"] or (), strict=True
        )
    )
    return _account(row, encounter_id), deposits


def _account(row: Any, encounter_id: UUID) -> Account:
    return Account(
        id=row["id"],
        encounter_id=encounter_id,
        patient_tok=row["patient_tok"],
        state=row["state"],
        day_case=row["day_case"],
        settlements=row["settlements"],
        receivable_fen=row["receivable_fen"],
        deposits_fen=row["deposits_fen"],
        ward=row["ward"],
        interim_in_work=row["interim_bill_id"] is not None,
    )


# ---- entries ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """What post_charge answered."""

    outcome: Literal["posted", "none", "billing", "closed", "voided", "too_much"]
    account_id: UUID | None
    patient_tok: UUID | None
    charged_fen: int | None
    ward: str | None


@dataclass(frozen=True, slots=True)
class ChargeAsked:
    """A charge as it is posted."""

    encounter_id: UUID
    entry_id: UUID
    item: str
    amount_fen: int


async def post_charges(conn: Connection, asked: Sequence[tuple[ChargeAsked, datetime]]) -> list[ChargeRow]:
    """Find and lock each stay's account, check it, write the charge with its lines and the new balance: one statement for all."""
    rows = await conn.fetch(
        "SELECT p.* FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[]) WITH ORDINALITY"
        "   AS c(encounter_id, entry_id, item, fen, at, no),"
        " LATERAL post_charge(c.encounter_id, c.entry_id, c.item, c.fen, c.at) p ORDER BY c.no",
        [charge.encounter_id for charge, _ in asked],
        [charge.entry_id for charge, _ in asked],
        [charge.item for charge, _ in asked],
        [charge.amount_fen for charge, _ in asked],
        [at for _, at in asked],
    )
    return [ChargeRow(*row) for row in rows]


async def get_entry(tx: Transaction, account_id: UUID, entry_id: UUID) -> Entry | None:
    """Return an entry of this account, where its money lies, whether it was reversed and how much of it went back."""
    row = await tx.conn.fetchrow(
        "SELECT e.id, e.kind, l.fen, l.ledger_account_id, EXISTS (SELECT FROM entry r WHERE r.reverses = e.id) AS reversed,"
        " coalesce((SELECT sum(pl.fen) FROM entry p JOIN line pl ON pl.entry_id = p.id AND pl.fen > 0"
        "   WHERE p.deposit_id = e.id AND p.kind = 'part_refunded'"
        "     AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = p.id)), 0)::bigint AS part_refunded_fen,"
        " applied_by_interim(e.account_id, e.id) AS applied_fen,"
        " EXISTS (SELECT FROM interim_line i WHERE i.entry_id = e.id) AS settled,"
        " EXISTS (SELECT FROM blood_waiver w JOIN priced_charge c ON c.entry_id = e.id JOIN price_item p ON p.id = c.price_id"
        "   WHERE w.account_id = e.account_id AND p.class = 'blood' AND blood_left(e.account_id) < e.charge_fen) AS waived"
        " FROM entry e JOIN line l ON l.entry_id = e.id AND l.fen > 0 WHERE e.id = $2 AND e.account_id = $1",
        account_id,
        entry_id,
    )
    if row is None:
        return None
    money = LedgerAccount(row["ledger_account_id"])
    return Entry(
        id=row["id"],
        kind=row["kind"],
        amount_fen=row["fen"],
        reversed=row["reversed"],
        money=money,
        part_refunded_fen=row["part_refunded_fen"],
        settled=row["settled"],
        applied_fen=row["applied_fen"],
        waived=row["waived"],
    )


async def list_live_charges(tx: Transaction, account_id: UUID) -> list[Entry]:
    """Return the charges that were not reversed, oldest first (V14)."""
    rows = await tx.conn.fetch(
        "SELECT e.id, l.fen FROM entry e JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = $2"
        " WHERE e.account_id = $1 AND e.kind = 'charge' AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)"
        " ORDER BY e.id",
        account_id,
        LedgerAccount.RECEIVABLE,
    )
    return [Entry(row["id"], "charge", row["fen"], reversed=False) for row in rows]


async def list_interim_charges(tx: Transaction, account_id: UUID) -> frozenset[UUID]:
    """Return the charges that interim bills settle or settled; they are in no later bill and not reversed."""
    rows = await tx.conn.fetch("SELECT entry_id FROM interim_line WHERE account_id = $1", account_id)
    return frozenset(row["entry_id"] for row in rows)


async def list_settlement_children(tx: Transaction, account_id: UUID, *, number: int | None = None) -> list[Entry]:
    """Return the entries of every settlement in force: the final one and its supplements, or those of an interim one."""
    rows = await tx.conn.fetch(
        "SELECT e.id, e.kind, e.deposit_id, l.fen, (SELECT c.ledger_account_id FROM line c"
        "   WHERE c.entry_id = e.id AND c.fen < 0) AS credited"
        " FROM entry e JOIN settlement s ON s.id = e.settlement_id JOIN line l ON l.entry_id = e.id AND l.fen > 0"
        " WHERE e.account_id = $1 AND s.reopened_at IS NULL"
        "   AND CASE WHEN $2::int IS NULL THEN s.kind <> 'interim' ELSE s.number = $2 END ORDER BY e.id",
        account_id,
        number,
    )
    return [
        Entry(
            row["id"],
            row["kind"],
            row["fen"],
            reversed=False,
            money=LedgerAccount(row["credited"]),
            deposit_id=row["deposit_id"],
        )
        for row in rows
    ]


async def list_settlements_in_force(tx: Transaction, account_id: UUID) -> list[UUID]:
    """Return the ids of the final settlement in force and of its supplements, the final one first."""
    rows = await tx.conn.fetch(
        "SELECT id FROM settlement WHERE account_id = $1 AND reopened_at IS NULL AND kind <> 'interim' ORDER BY number",
        account_id,
    )
    return [row["id"] for row in rows]


async def post_entries(
    tx: Transaction, account_id: UUID, postings: Sequence[Posting], *, cashier: UUID | None = None
) -> None:
    """Write entries with their lines and move the account's balances with them; cash is the cashier's."""
    await tx.conn.execute(
        "SELECT post_entries($1, NULL, $2, $3, $4, $5, $6, $7, $8, $9)",
        account_id,
        tx.now,
        cashier,
        *_columns(postings),
    )


async def post_reversals(
    tx: Transaction, account_id: UUID, reversals: Sequence[Reversal], *, reason: str, cashier: UUID | None = None
) -> None:
    """Write the exact opposite of each original; a second one of the same original is refused by the schema (V8)."""
    await tx.conn.execute(
        "SELECT post_reversals($1, $2, $3, $4, $5, $6)",
        account_id,
        *_originals_and_ids(reversals),
        reason,
        tx.now,
        cashier,
    )


async def insert_settlement(
    tx: Transaction, account_id: UUID, settlement: Settlement, *, cashier: UUID | None = None
) -> None:
    """Write a decided settlement with its entries and close the account: one statement."""
    await tx.conn.execute(
        "SELECT settle_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        account_id,
        settlement.id,
        settlement.kind,
        settlement.number,
        settlement.charged_fen,
        settlement.deposits_fen,
        settlement.payer_fen,
        settlement.collected_fen,
        settlement.refunded_fen,
        settlement.written_off_fen,
        tx.now,
        cashier,
        *_columns(settlement.postings),
    )


async def mark_settlements_reopened(
    tx: Transaction, account_id: UUID, reversals: Sequence[Reversal], *, reason: str, cashier: UUID | None = None
) -> None:
    """Reverse every child of the settlements in force and open their account again (V12)."""
    await tx.conn.execute(
        "SELECT reopen_settlements($1, $2, $3, $4, $5, $6)",
        account_id,
        *_originals_and_ids(reversals),
        reason,
        tx.now,
        cashier,
    )


async def mark_interim_reopened(
    tx: Transaction, account_id: UUID, bill_id: UUID, reversals: Sequence[Reversal], *, reason: str
) -> None:
    """Reverse every child of an interim settlement and give its lines back to what is still to be settled (V12)."""
    await tx.conn.execute(
        "SELECT reopen_interim($1, $2, $3, $4, $5, $6)",
        account_id,
        bill_id,
        *_originals_and_ids(reversals),
        reason,
        tx.now,
    )


async def get_blood_left(tx: Transaction, account_id: UUID) -> int:
    """Return what the live charges for blood come to beyond the waivers of this account."""
    left_fen: int = await tx.conn.fetchval("SELECT blood_left($1)", account_id)
    return left_fen


async def lock_approval(tx: Transaction, approval_no: str) -> None:
    """Keep everybody else from using this number of the blood centre until the end of this transaction."""
    await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 26))", approval_no)


async def is_approval_used(tx: Transaction, approval_no: str) -> bool:
    """Say whether a waiver that stands used this number of the blood centre; it is locked first."""
    used: bool = await tx.conn.fetchval("SELECT is_approval_used($1)", approval_no)
    return used


async def insert_blood_waiver(tx: Transaction, entry_id: UUID, account_id: UUID, approval_no: str) -> None:
    """Note under which number the blood centre pays a deposit."""
    await tx.conn.execute(
        "INSERT INTO blood_waiver (entry_id, account_id, approval_no) VALUES ($1, $2, $3)",
        entry_id,
        account_id,
        approval_no,
    )


async def begin_supplement(tx: Transaction, account_id: UUID) -> None:
    """Let a late charge into a closed account; this transaction must settle it again."""
    await tx.conn.execute("SELECT begin_supplement($1)", account_id)


async def mark_account_voided(tx: Transaction, account_id: UUID, reversals: Sequence[Reversal], *, reason: str) -> None:
    """Reverse the charges of an account and void it (A11)."""
    await tx.conn.execute(
        "SELECT void_account($1, $2, $3, $4, $5)", account_id, *_originals_and_ids(reversals), reason, tx.now
    )


def _columns(postings: Sequence[Posting]) -> tuple[list[Any], ...]:
    return (
        [posting.entry_id for posting in postings],
        [posting.kind for posting in postings],
        [posting.deposit_id for posting in postings],
        [posting.debit for posting in postings],
        [posting.credit for posting in postings],
        [posting.fen for posting in postings],
    )


def _originals_and_ids(reversals: Sequence[Reversal]) -> tuple[list[UUID], list[UUID]]:
    return [reversal.original.id for reversal in reversals], [reversal.entry_id for reversal in reversals]


# ---- reads -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """An account as people see it; a settled one shows what its settlement in force says."""

    account_id: UUID
    encounter_id: UUID
    patient_tok: UUID
    payer_kind: str
    state: AccountState
    settlements: int
    charged_fen: int
    deposits_fen: int
    waived_fen: int
    """What of the deposits is a claim on the blood centre."""
    interim_fen: int
    """What interim settlements in force settled before."""
    settled_at: datetime | None
    ward: str | None
    payment_group: str | None
    """The DRG or DIP group noted last, as it is printed (R61)."""


async def get_standing(tx: Transaction, encounter_id: UUID) -> Standing | None:
    """Return the account of a stay with its charged sum and the deposits held."""
    row = await tx.conn.fetchrow(
        "SELECT a.id AS account_id, a.encounter_id, a.patient_tok, a.payer_kind, a.settlements,"
        " CASE WHEN a.interim_bill_id IS NULL THEN a.state ELSE 'billing' END AS state,"
        " coalesce(s.charged_fen, a.receivable_fen) AS charged_fen, a.deposits_fen,"
        " waived_held(a.id) AS waived_fen, s.settled_at, w.ward,"
        " upper(g.scheme) || ' ' || g.code AS payment_group,"
        " CASE WHEN a.settlements = 0 THEN 0 ELSE (SELECT coalesce(sum(i.charged_fen), 0)::bigint FROM settlement i"
        "   WHERE i.account_id = a.id AND i.reopened_at IS NULL AND i.kind = 'interim') END AS interim_fen"
        " FROM account a LEFT JOIN settlement s ON s.account_id = a.id AND s.reopened_at IS NULL AND s.kind = 'final'"
        " LEFT JOIN payment_group g ON g.account_id = a.id"
        " LEFT JOIN stay_ward w USING (encounter_id) WHERE a.encounter_id = $1",
        encounter_id,
    )
    return None if row is None else Standing(**row)


@dataclass(frozen=True, slots=True)
class PreSettlement:
    """What is on an account now, counted line by line."""

    account_id: UUID
    patient_tok: UUID
    state: AccountState
    ward: str | None
    receivable_fen: int
    deposits_fen: int
    waived_fen: int
    charges: int
    charged_fen: int


async def get_pre_settlement(tx: Transaction, encounter_id: UUID) -> PreSettlement | None:
    """Return the live charges of an account, summed line by line, beside the balance its row keeps (V14)."""
    row = await tx.conn.fetchrow(
        "SELECT a.id AS account_id, a.patient_tok, a.state, w.ward, a.receivable_fen, a.deposits_fen,"
        " waived_held(a.id) AS waived_fen, live.charges, live.charged_fen"
        " FROM account a LEFT JOIN stay_ward w USING (encounter_id), LATERAL ("
        "   SELECT count(*) AS charges, coalesce(sum(e.charge_fen), 0)::bigint AS charged_fen FROM entry e"
        "   WHERE e.account_id = a.id AND e.kind = 'charge' AND e.id <> ALL (ARRAY("
        "     SELECT r.reverses FROM entry r WHERE r.account_id = a.id AND r.kind = 'reversal'"
        "     UNION ALL SELECT i.entry_id FROM interim_line i JOIN bill b ON b.id = i.bill_id"
        "       AND b.state IN ('settled', 'reopening') WHERE i.account_id = a.id))) live"
        " WHERE a.encounter_id = $1",
        encounter_id,
    )
    return None if row is None else PreSettlement(**row)


async def get_ward(tx: Transaction, encounter_id: UUID) -> str | None:
    """Return where the patient lies, as far as the bed pool has told."""
    ward: str | None = await tx.conn.fetchval("SELECT ward FROM stay_ward WHERE encounter_id = $1", encounter_id)
    return ward


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry of an account as it stands on the itemised list (清单)."""

    entry_id: UUID
    kind: str
    item: str | None
    amount_fen: int
    debit: str
    credit: str
    at: datetime
    reverses: UUID | None
    reversed_by: UUID | None
    recorded_at: datetime
    interim_number: int | None
    """The number of the interim bill that settles or settled this charge."""


async def list_statement(
    tx: Transaction, account_id: UUID, *, after: tuple[datetime, UUID] | None, rows_max: int
) -> list[StatementLine]:
    """Return the entries of an account as they were recorded, each with the two ledger accounts it moved between."""
    rows = await tx.conn.fetch(
        "SELECT e.id AS entry_id, e.kind, e.item, d.fen AS amount_fen, dl.code AS debit, cl.code AS credit, e.at,"
        " e.reverses, r.id AS reversed_by, e.recorded_at,"
        " (SELECT b.number FROM interim_line i JOIN bill b ON b.id = i.bill_id WHERE i.entry_id = e.id) AS interim_number"
        " FROM entry e JOIN line d ON d.entry_id = e.id AND d.fen > 0 JOIN ledger_account dl ON dl.id = d.ledger_account_id"
        " JOIN line c ON c.entry_id = e.id AND c.fen < 0 JOIN ledger_account cl ON cl.id = c.ledger_account_id"
        " LEFT JOIN entry r ON r.reverses = e.id"
        " WHERE e.account_id = $1 AND ($2::timestamptz IS NULL OR (e.recorded_at, e.id) > ($2, $3))"
        " ORDER BY e.recorded_at, e.id LIMIT $4",
        account_id,
        after[0] if after else None,
        after[1] if after else None,
        rows_max,
    )
    return [StatementLine(**row) for row in rows]
