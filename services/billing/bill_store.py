"""SQL of bills, payments, refunds, receipts and errands. One function, one statement.

The account's row is locked before any of these is decided upon (store.lock_for_settlement); rows here are locked with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from services.billing.bills import Bill, BillState
from services.billing.domain import LedgerAccount
from services.billing.ports import ChannelMethod, FeeLine
from shared.db import Connection, Transaction

ErrandKind = Literal["bill", "payment", "refund", "receipt", "match"]
PaymentState = Literal["created", "waiting", "closing", "paid", "closed", "failed"]
PAYABLE: frozenset[PaymentState] = frozenset({"created", "waiting", "closing"})
"""Somebody may still pay an order in one of these."""
LEASE = timedelta(seconds=20)
"""How long whoever took an errand has it alone; longer than a call outside may take."""

# ---- the account as a bill sees it -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LiveLines:
    """What a bill of an account would consist of, and which bill is in work."""

    version: int
    payer_kind: str
    lines: tuple[tuple[UUID, int], ...]
    has_coverage: bool
    bill_id: UUID | None
    bill_state: BillState | None


async def get_live_lines(tx: Transaction, account_id: UUID) -> LiveLines:
    """Return the live charges of a locked account with its bill version, and the bill in work, if any."""
    row = await tx.conn.fetchrow(
        "SELECT a.bill_version, a.payer_kind, live.ids, live.fens, b.id AS bill_id, b.state AS bill_state,"
        " EXISTS (SELECT FROM coverage c WHERE c.account_id = a.id) AS has_coverage"
        " FROM account a LEFT JOIN bill b ON b.account_id = a.id AND b.state IN ('drafting', 'quoted', 'locking',"
        "   'payer_pending', 'payer_unknown', 'collecting', 'payer_reversing', 'reopening'), LATERAL ("
        "   SELECT array_agg(e.id) AS ids, array_agg(l.fen) AS fens"
        "   FROM entry e JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = $2"
        "   WHERE e.account_id = a.id AND e.kind = 'charge'"
        "     AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)"
        "     AND NOT EXISTS (SELECT FROM interim_line i WHERE i.entry_id = e.id)) live WHERE a.id = $1",
        account_id,
        LedgerAccount.RECEIVABLE,
    )
    assert row is not None, "The account is locked, so it is there."
    return LiveLines(
        version=row["bill_version"],
        payer_kind=row["payer_kind"],
        lines=tuple(zip(row["ids"] or (), row["fens"] or (), strict=True)),
        has_coverage=row["has_coverage"],
        bill_id=row["bill_id"],
        bill_state=row["bill_state"],
    )


async def begin_billing(tx: Transaction, account_id: UUID, version: int) -> bool:
    """Lock the account for the confirmed bill; False when a line changed since the quote."""
    done: bool = await tx.conn.fetchval("SELECT begin_billing($1, $2)", account_id, version)
    return done


async def begin_interim(tx: Transaction, bill: Bill) -> bool:
    """Set the lines of a confirmed interim bill apart; False when a line changed since the quote."""
    done: bool = await tx.conn.fetchval("SELECT begin_interim($1, $2, $3)", bill.account_id, bill.id, bill.bill_version)
    return done


async def end_interim(tx: Transaction, bill: Bill, *, gives_lines_back: bool) -> None:
    """End the work on an interim bill; one that came to nothing gives its lines back to what is still to be settled."""
    await tx.conn.execute("SELECT end_interim($1, $2, $3)", bill.account_id, bill.id, gives_lines_back)


async def begin_interim_reopening(tx: Transaction, bill: Bill) -> None:
    """Note that an interim settlement is being taken back: nothing else is settled meanwhile."""
    await tx.conn.execute("SELECT begin_interim_reopening($1, $2)", bill.account_id, bill.id)


async def end_billing(tx: Transaction, account_id: UUID) -> None:
    """Open the account again whose bill came to nothing."""
    await tx.conn.execute("SELECT end_billing($1)", account_id)


# ---- coverage --------------------------------------------------------------------------------------------------------


async def note_coverage(tx: Transaction, account_id: UUID, psn_no: str) -> None:
    """Note the insured person of a stay; another person needs another registration."""
    await tx.conn.execute(
        "INSERT INTO coverage (account_id, psn_no, noted_at) VALUES ($1, $2, $3) ON CONFLICT (account_id) DO UPDATE"
        " SET psn_no = excluded.psn_no, mdtrt_id = NULL, noted_at = excluded.noted_at"
        " WHERE coverage.psn_no <> excluded.psn_no",
        account_id,
        psn_no,
        tx.now,
    )


async def note_registration(tx: Transaction, account_id: UUID, mdtrt_id: str) -> None:
    """Note under which id the fund knows the stay."""
    await tx.conn.execute("UPDATE coverage SET mdtrt_id = $2 WHERE account_id = $1", account_id, mdtrt_id)


@dataclass(frozen=True, slots=True)
class Insured:
    """What the fund has to be told about a stay before it can say who pays what."""

    account_id: UUID
    encounter_id: UUID
    psn_no: str
    mdtrt_id: str | None
    ward: str | None
    noted_at: datetime
    to_upload: tuple[FeeLine, ...]
    to_withdraw: tuple[UUID, ...]


async def get_insured(conn: Connection, account_id: UUID) -> Insured:
    """Return the coverage of an account with the lines the fund still lacks and those it holds in vain."""
    row = await conn.fetchrow(
        "SELECT a.id, a.encounter_id, c.psn_no, c.mdtrt_id, c.noted_at, w.ward FROM account a"
        " JOIN coverage c ON c.account_id = a.id LEFT JOIN stay_ward w USING (encounter_id) WHERE a.id = $1",
        account_id,
    )
    assert row is not None, "A bill is insured only where there is a coverage."
    lines = await conn.fetch(
        "SELECT e.id, e.item, l.fen, e.at, u.entry_id IS NOT NULL AS held,"
        " EXISTS (SELECT FROM entry r WHERE r.reverses = e.id) AS dead"
        " FROM entry e JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = $2"
        " LEFT JOIN uploaded_line u ON u.entry_id = e.id WHERE e.account_id = $1 AND e.kind = 'charge'"
        "   AND NOT EXISTS (SELECT FROM interim_line i WHERE i.entry_id = e.id) ORDER BY e.id",
        account_id,
        LedgerAccount.RECEIVABLE,
    )
    return Insured(
        account_id=row["id"],
        encounter_id=row["encounter_id"],
        psn_no=row["psn_no"],
        mdtrt_id=row["mdtrt_id"],
        ward=row["ward"],
        noted_at=row["noted_at"],
        to_upload=tuple(
            FeeLine(x["id"], x["item"], x["fen"], x["at"]) for x in lines if not x["held"] and not x["dead"]
        ),
        to_withdraw=tuple(x["id"] for x in lines if x["held"] and x["dead"]),
    )


async def note_uploaded(conn: Connection, account_id: UUID, entry_ids: Sequence[UUID]) -> None:
    """Note that the fund holds these lines."""
    await conn.execute(
        "INSERT INTO uploaded_line (entry_id, account_id) SELECT x, $1 FROM unnest($2::uuid[]) x ON CONFLICT DO NOTHING",
        account_id,
        list(entry_ids),
    )


async def note_withdrawn(conn: Connection, entry_ids: Sequence[UUID]) -> None:
    """Note that the fund holds these lines no more."""
    await conn.execute("DELETE FROM uploaded_line WHERE entry_id = ANY ($1)", list(entry_ids))


# ---- bills -----------------------------------------------------------------------------------------------------------


def _bill(row: Any) -> Bill:
    return Bill(**{name: row[name] for name in Bill.__dataclass_fields__})


async def insert_bill(tx: Transaction, bill: Bill) -> None:
    """Write a new bill and its first step. One in work per account: the index one_bill_in_work refuses a second."""
    await tx.conn.execute(
        "WITH new AS (INSERT INTO bill (id, account_id, number, state, since, insured, bill_version, lines, lines_hash,"
        " charged_fen, patient_fen, expires_at, interim) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13))"
        " INSERT INTO bill_step (bill_id, state, at) VALUES ($1, $4, clock_timestamp())",
        bill.id,
        bill.account_id,
        bill.number,
        bill.state,
        tx.now,
        bill.insured,
        bill.bill_version,
        bill.lines,
        bill.lines_hash,
        bill.charged_fen,
        bill.patient_fen,
        bill.expires_at,
        bill.interim,
    )


async def update_bill(tx: Transaction, bill: Bill) -> None:
    """Write the bill's new state with the step that led there; the table bill_move refuses a move that does not exist."""
    await tx.conn.execute(
        "WITH moved AS (UPDATE bill SET state = $2, since = CASE WHEN state = $2 THEN since ELSE clock_timestamp() END,"
        " fund_fen = $3, account_fen = $4, patient_fen = $5, sends = $6, setl_id = $7, reason = $8 WHERE id = $1)"
        " INSERT INTO bill_step (bill_id, state, at, why) VALUES ($1, $2, clock_timestamp(), $8)",
        bill.id,
        bill.state,
        bill.fund_fen,
        bill.account_fen,
        bill.patient_fen,
        bill.sends,
        bill.setl_id,
        bill.reason,
    )


async def get_bill(tx: Transaction, account_id: UUID, bill_id: UUID) -> Bill | None:
    """Return a bill of this account; current while the account is locked."""
    row = await tx.conn.fetchrow("SELECT * FROM bill WHERE id = $2 AND account_id = $1", account_id, bill_id)
    return None if row is None else _bill(row)


async def get_bill_in_force(tx: Transaction, account_id: UUID) -> Bill | None:
    """Return the settled bill of this account, or the one whose settlement is being taken back: the last one first."""
    row = await tx.conn.fetchrow(
        "SELECT * FROM bill WHERE account_id = $1 AND state IN ('settled', 'reopening') ORDER BY number DESC LIMIT 1",
        account_id,
    )
    return None if row is None else _bill(row)


@dataclass(frozen=True, slots=True)
class BillOwner:
    """Whose bill it is, for whoever knows only its id."""

    account_id: UUID
    encounter_id: UUID
    mdtrt_id: str | None


async def get_bill_owner(conn: Connection, bill_id: UUID) -> BillOwner | None:
    """Return the stay of a bill and the fund's id of it."""
    row = await conn.fetchrow(
        "SELECT a.id AS account_id, a.encounter_id, c.mdtrt_id FROM bill b JOIN account a ON a.id = b.account_id"
        " LEFT JOIN coverage c ON c.account_id = a.id WHERE b.id = $1",
        bill_id,
    )
    return None if row is None else BillOwner(**row)


@dataclass(frozen=True, slots=True)
class BillView:
    """A bill as the bedside shows it."""

    bill: Bill
    encounter_id: UUID
    patient_tok: UUID
    ward: str | None
    since: datetime
    account_state: str
    version_now: int
    deposits_fen: int
    waived_fen: int
    steps: tuple[dict[str, Any], ...]
    payments: tuple[dict[str, Any], ...]
    receipt: dict[str, Any] | None
    settlement: dict[str, Any] | None


async def get_bill_view(tx: Transaction, encounter_id: UUID, bill_id: UUID | None) -> BillView | None:
    """Return a bill of a stay, or its newest one, with its steps, payments, settlement and receipt: one statement."""
    row = await tx.conn.fetchrow(
        "SELECT b.*, a.encounter_id, a.patient_tok, w.ward, a.state AS account_state,"
        " a.bill_version AS version_now, a.deposits_fen, waived_held(a.id) AS waived_fen,"
        " (SELECT jsonb_agg(jsonb_build_object('state', s.state, 'at', s.at, 'why', s.why) ORDER BY s.at) FROM bill_step s"
        "   WHERE s.bill_id = b.id) AS steps,"
        " (SELECT jsonb_agg(jsonb_build_object('payment_id', p.id, 'order_no', p.order_no, 'method', p.method, 'state', p.state,"
        "   'amount_fen', p.amount_fen, 'qr_text', p.qr_text, 'expires_at', p.expires_at, 'since', p.since) ORDER BY p.since)"
        "   FROM payment p WHERE p.bill_id = b.id) AS payments,"
        " (SELECT jsonb_build_object('settlement_id', s.id, 'settled_at', s.settled_at, 'charged_fen', s.charged_fen,"
        "   'deposits_fen', s.deposits_fen, 'payer_fen', s.payer_fen, 'refunded_fen', s.refunded_fen, 'waived_fen', ("
        "     SELECT coalesce(sum(l.fen), 0)::bigint FROM blood_waiver x JOIN entry e ON e.deposit_id = x.entry_id"
        "       AND e.kind = 'deposit_applied' AND e.settlement_id = s.id JOIN line l ON l.entry_id = e.id AND l.fen > 0"
        "     WHERE x.account_id = s.account_id),"
        "   'reopened_at', s.reopened_at) FROM settlement s WHERE s.account_id = b.account_id AND s.number = b.number"
        "   AND b.state IN ('settled', 'reopening', 'reopened')) AS settlement,"
        " (SELECT jsonb_build_object('number', r.number, 'state', r.state, 'check_code', r.check_code, 'url', r.url)"
        "   FROM receipt r JOIN settlement s ON s.id = r.settlement_id WHERE s.account_id = b.account_id"
        "   AND s.number = b.number AND r.voids IS NULL) AS receipt"
        " FROM account a JOIN bill b ON b.account_id = a.id LEFT JOIN stay_ward w USING (encounter_id)"
        " WHERE a.encounter_id = $1 AND ($2::uuid IS NULL OR b.id = $2) ORDER BY b.id DESC LIMIT 1",
        encounter_id,
        bill_id,
    )
    if row is None:
        return None
    fields = dict(row)
    return BillView(
        bill=_bill(row),
        encounter_id=fields["encounter_id"],
        patient_tok=fields["patient_tok"],
        ward=fields["ward"],
        since=fields["since"],
        account_state=fields["account_state"],
        version_now=fields["version_now"],
        deposits_fen=fields["deposits_fen"],
        waived_fen=fields["waived_fen"],
        steps=tuple(fields["steps"] or ()),
        payments=tuple(fields["payments"] or ()),
        receipt=fields["receipt"],
        settlement=fields["settlement"],
    )


# ---- payments and refunds --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Payment:
    """An order at the channel as it is while its account is locked."""

    id: UUID
    account_id: UUID
    encounter_id: UUID
    bill_id: UUID | None
    order_no: str
    method: ChannelMethod
    amount_fen: int
    state: PaymentState
    qr_text: str | None
    expires_at: datetime
    transaction_id: str | None
    entry_id: UUID | None
    ordered_by: UUID | None


def _payment(row: Any) -> Payment:
    return Payment(**{name: row[name] for name in Payment.__dataclass_fields__})


async def insert_payment(tx: Transaction, payment: Payment) -> None:
    """Write a new order before anybody outside hears of it. One in work per account: one_payment_in_work refuses a second."""
    await tx.conn.execute(
        "INSERT INTO payment (id, account_id, bill_id, order_no, method, amount_fen, state, since, expires_at,"
        " ordered_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        payment.id,
        payment.account_id,
        payment.bill_id,
        payment.order_no,
        payment.method,
        payment.amount_fen,
        payment.state,
        tx.now,
        payment.expires_at,
        payment.ordered_by,
    )


async def find_payment(
    conn: Connection, *, payment_id: UUID | None = None, order_no: str | None = None
) -> Payment | None:
    """Return a payment by its id or by its order number."""
    row = await conn.fetchrow(
        "SELECT p.*, a.encounter_id FROM payment p JOIN account a ON a.id = p.account_id WHERE p.id = $1 OR p.order_no = $2",
        payment_id,
        order_no,
    )
    return None if row is None else _payment(row)


async def find_payment_of_deposit(tx: Transaction, entry_id: UUID) -> UUID | None:
    """Return the payment whose money a deposit is, wherever it was moved from."""
    found: UUID | None = await tx.conn.fetchval(
        "WITH RECURSIVE came(entry_id) AS (SELECT $1::uuid UNION ALL"
        "  SELECT coalesce(o.deposit_id, o.reverses) FROM came c JOIN deposit_move m ON m.in_entry_id = c.entry_id"
        "  JOIN entry o ON o.id = m.out_entry_id)"
        " SELECT p.id FROM came c JOIN payment p USING (entry_id)",
        entry_id,
    )
    return found


async def find_payment_in_work(tx: Transaction, account_id: UUID) -> Payment | None:
    """Return the order of this account somebody may still pay."""
    row = await tx.conn.fetchrow(
        "SELECT p.*, a.encounter_id FROM payment p JOIN account a ON a.id = p.account_id"
        " WHERE p.account_id = $1 AND p.state IN ('created', 'waiting', 'closing')",
        account_id,
    )
    return None if row is None else _payment(row)


async def mark_payment(tx: Transaction, payment_id: UUID, state: PaymentState, *, qr_text: str | None = None) -> None:
    """Write a payment's state, and its QR code when it has one now."""
    await tx.conn.execute(
        "UPDATE payment SET state = $2, since = clock_timestamp(), qr_text = coalesce($3, qr_text) WHERE id = $1",
        payment_id,
        state,
        qr_text,
    )


async def mark_paid(tx: Transaction, payment_id: UUID, *, transaction_id: str, entry_id: UUID, amount_fen: int) -> None:
    """Write that an order was paid, with what really came in; one transaction of the channel counts once."""
    await tx.conn.execute(
        "UPDATE payment SET state = 'paid', since = clock_timestamp(), transaction_id = $2, entry_id = $3, amount_fen = $4"
        " WHERE id = $1",
        payment_id,
        transaction_id,
        entry_id,
        amount_fen,
    )


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back."""

    refund_no: str
    account_id: UUID
    encounter_id: UUID
    payment_id: UUID
    order_no: str
    amount_fen: int
    state: str


async def insert_refund(tx: Transaction, *, refund_no: str, entry_id: UUID, payment_id: UUID, amount_fen: int) -> None:
    """Order a refund; more than was paid is refused by the schema (I9)."""
    await tx.conn.execute(
        "INSERT INTO refund (refund_no, entry_id, payment_id, amount_fen, state, since)"
        " VALUES ($1, $2, $3, $4, 'requested', $5)",
        refund_no,
        entry_id,
        payment_id,
        amount_fen,
        tx.now,
    )


async def find_refund(conn: Connection, refund_no: str) -> Refund | None:
    """Return a refund with the order it belongs to."""
    row = await conn.fetchrow(
        "SELECT r.refund_no, p.account_id, a.encounter_id, p.id AS payment_id, p.order_no, r.amount_fen, r.state"
        " FROM refund r JOIN payment p ON p.id = r.payment_id JOIN account a ON a.id = p.account_id WHERE r.refund_no = $1",
        refund_no,
    )
    return None if row is None else Refund(**row)


async def mark_refund(tx: Transaction, refund_no: str, state: str, reason: str | None = None) -> None:
    """Write a refund's state."""
    await tx.conn.execute(
        "UPDATE refund SET state = $2, since = clock_timestamp(), reason = $3 WHERE refund_no = $1",
        refund_no,
        state,
        reason,
    )


async def note_notice(tx: Transaction, nonce: str, order_no: str) -> bool:
    """Note the nonce of a notice; False when it was taken before."""
    status: str = await tx.conn.execute(
        "INSERT INTO channel_notice (nonce, order_no, received_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        nonce,
        order_no,
        tx.now,
    )
    return status.endswith("1")


# ---- receipts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt with what its issuer needs."""

    number: str
    account_id: UUID
    settlement_id: UUID
    amount_fen: int
    state: str
    voids: str | None
    since: datetime


async def reserve_receipt(tx: Transaction, settlement_id: UUID, amount_fen: int, *, voids: str | None = None) -> str:
    """Reserve the next receipt number for a settlement, or for the red receipt that voids another."""
    number: str = await tx.conn.fetchval(
        "INSERT INTO receipt (number, settlement_id, amount_fen, state, voids, since)"
        " VALUES ('WS' || lpad(nextval('receipt_number')::text, 12, '0'), $1, $2, 'reserved', $3, $4) RETURNING number",
        settlement_id,
        amount_fen,
        voids,
        tx.now,
    )
    return number


async def find_receipt(conn: Connection, number: str) -> ReceiptRow | None:
    """Return a receipt by its number."""
    row = await conn.fetchrow(
        "SELECT r.number, s.account_id, r.settlement_id, r.amount_fen, r.state, r.voids, r.since"
        " FROM receipt r JOIN settlement s ON s.id = r.settlement_id WHERE r.number = $1",
        number,
    )
    return None if row is None else ReceiptRow(**row)


async def list_receipts_to_void(tx: Transaction, account_id: UUID) -> list[ReceiptRow]:
    """Return the receipts of settlements that were taken back, as far as no red one voids them yet."""
    rows = await tx.conn.fetch(
        "SELECT r.number, s.account_id, r.settlement_id, r.amount_fen, r.state, r.voids, r.since"
        " FROM receipt r JOIN settlement s ON s.id = r.settlement_id WHERE s.account_id = $1 AND r.voids IS NULL"
        " AND s.reopened_at IS NOT NULL AND r.state <> 'failed' AND NOT EXISTS (SELECT FROM receipt v WHERE v.voids = r.number)",
        account_id,
    )
    return [ReceiptRow(**row) for row in rows]


async def mark_receipt(
    tx: Transaction,
    number: str,
    state: str,
    *,
    check_code: str | None = None,
    url: str | None = None,
    reason: str | None = None,
) -> None:
    """Write what came of a receipt."""
    await tx.conn.execute(
        "UPDATE receipt SET state = $2, since = clock_timestamp(), check_code = $3, url = $4, reason = $5 WHERE number = $1",
        number,
        state,
        check_code,
        url,
        reason,
    )


async def list_fee_lines(conn: Connection, settlement_id: UUID) -> list[FeeLine]:
    """Return the live charge lines a settlement stands for, oldest first: of an interim one its own, else all the others."""
    rows = await conn.fetch(
        "SELECT e.id, e.item, l.fen, e.at FROM settlement s JOIN entry e ON e.account_id = s.account_id AND e.kind = 'charge'"
        " JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = $2"
        " LEFT JOIN interim_line i ON i.entry_id = e.id LEFT JOIN bill b ON b.id = i.bill_id"
        " WHERE s.id = $1 AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)"
        "   AND CASE WHEN s.kind = 'interim' THEN b.number = s.number ELSE i.entry_id IS NULL END"
        " ORDER BY e.at, e.id",
        settlement_id,
        LedgerAccount.RECEIVABLE,
    )
    return [FeeLine(row["id"], row["item"], row["fen"], row["at"]) for row in rows]


@dataclass(frozen=True, slots=True)
class AccountOf:
    """Whose account it is and where the patient lies."""

    patient_tok: UUID
    ward: str | None


async def get_account_of(tx: Transaction, account_id: UUID) -> AccountOf:
    """Return whose an account is, for the audit row and the check of the ward."""
    row = await tx.conn.fetchrow(
        "SELECT a.patient_tok, w.ward FROM account a LEFT JOIN stay_ward w USING (encounter_id) WHERE a.id = $1",
        account_id,
    )
    assert row is not None, "Accounts are never removed."
    return AccountOf(**row)


async def get_encounter(conn: Connection, account_id: UUID) -> UUID:
    """Return the stay of an account."""
    encounter_id: UUID = await conn.fetchval("SELECT encounter_id FROM account WHERE id = $1", account_id)
    return encounter_id


# ---- errands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to ask outside now."""

    kind: ErrandKind
    object_id: str
    looks: int
    actor: UUID | None
    """In whose name: whoever gave the command that sent it."""


async def send_errand(tx: Transaction, kind: ErrandKind, object_id: str, *, anew: bool = True) -> None:
    """Have somebody ask outside at once; an errand that is out already comes round at once.

    It begins its looks anew, unless it asks what it asked before: an answer believed only after some looks would never be.
    """
    tx.signals.add("errand")
    await tx.conn.execute(
        "INSERT INTO errand (kind, object_id, due_at, actor) VALUES ($1, $2, clock_timestamp(), $3)"
        " ON CONFLICT (kind, object_id) DO UPDATE SET due_at = excluded.due_at,"
        " looks = CASE WHEN $4 THEN 0 ELSE errand.looks END, actor = coalesce(excluded.actor, errand.actor)",
        kind,
        object_id,
        tx.actor,
        anew,
    )


async def take_errands(conn: Connection, *, rows_max: int) -> list[Errand]:
    """Take what is due, oldest first, and keep it from others for the time a call may take."""
    rows = await conn.fetch(
        "UPDATE errand e SET due_at = clock_timestamp() + $2, looks = e.looks + 1 FROM ("
        "   SELECT kind, object_id FROM errand WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT $1"
        "   FOR UPDATE SKIP LOCKED) due"
        " WHERE (e.kind, e.object_id) = (due.kind, due.object_id) RETURNING e.kind, e.object_id, e.looks,"
        " e.actor",
        rows_max,
        LEASE,
    )
    return [Errand(row["kind"], row["object_id"], row["looks"], row["actor"]) for row in rows]


async def put_off_errand(tx: Transaction, errand: Errand, seconds: float) -> None:
    """Ask again in so many seconds."""
    await tx.conn.execute(
        "UPDATE errand SET due_at = clock_timestamp() + $3 WHERE kind = $1 AND object_id = $2",
        errand.kind,
        errand.object_id,
        timedelta(seconds=seconds),
    )


async def end_errand(tx: Transaction, kind: ErrandKind, object_id: str) -> None:
    """Nothing more is to be asked."""
    await tx.conn.execute("DELETE FROM errand WHERE kind = $1 AND object_id = $2", kind, object_id)


# ---- requests to the outside -----------------------------------------------------------------------------------------


async def store_request(conn: Connection, *, msgid: str, account_id: UUID, party: str, operation: str) -> None:
    """Store a request before it is sent (R53); sending it again counts, its first row stays."""
    await conn.execute(
        "INSERT INTO outside_request (msgid, account_id, party, operation, sent, stored_at)"
        " VALUES ($1, $2, $3, $4, 1, clock_timestamp())"
        " ON CONFLICT (msgid) DO UPDATE SET sent = outside_request.sent + 1, outcome = NULL, answered_at = NULL",
        msgid,
        account_id,
        party,
        operation,
    )


async def note_answer(conn: Connection, msgid: str, outcome: str, code: str | None) -> None:
    """Note what came of a request."""
    await conn.execute(
        "UPDATE outside_request SET outcome = $2, code = $3, answered_at = clock_timestamp() WHERE msgid = $1",
        msgid,
        outcome,
        code,
    )


# ---- differences -----------------------------------------------------------------------------------------------------


async def insert_difference(
    tx: Transaction, *, party: str, kind: str, object_: str, ours_fen: int | None, theirs_fen: int | None
) -> None:
    """Write down that we and somebody outside do not agree; found once a day, it stays until somebody explains it."""
    await tx.conn.execute(
        "INSERT INTO recon_diff (id, day, party, kind, object, ours_fen, theirs_fen, found_at)"
        " VALUES (gen_random_uuid(), (clock_timestamp() AT TIME ZONE 'Asia/Shanghai')::date, $1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (day, party, kind, object) WHERE explained_at IS NULL DO NOTHING",
        party,
        kind,
        object_,
        ours_fen,
        theirs_fen,
        tx.now,
    )
