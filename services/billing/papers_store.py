"""SQL of the papers: everything a document shows, read in one statement, so that no posting falls between two reads."""

from uuid import UUID

from services.billing.domain import LedgerAccount
from services.billing.papers import Facts
from shared.db import Transaction

_FACTS = (
    "SELECT a.encounter_id, a.patient_tok, w.ward, l.left_at,"
    " (SELECT f.bed_id FROM bed_fact f WHERE f.encounter_id = a.encounter_id AND f.kind = 'came' ORDER BY f.at DESC LIMIT 1)"
    "   AS bed_id,"
    " coalesce((SELECT min(f.at) FROM bed_fact f WHERE f.encounter_id = a.encounter_id AND f.kind = 'came'),"
    "   (SELECT min(e.at) FROM entry e WHERE e.account_id = a.id), clock_timestamp()) AS opened_at,"
    " CASE WHEN s.id IS NOT NULL THEN to_jsonb(s) || jsonb_build_object('account_fen', (SELECT b.account_fen FROM bill b"
    "   WHERE b.account_id = a.id AND b.number = s.number AND b.state IN ('settled', 'reopening'))) END AS settlement,"
    " (SELECT jsonb_agg(jsonb_build_object('item', o.item, 'fen', l.fen, 'at', e.at, 'name_zh', p.name_zh, 'name_en', p.name_en,"
    "   'receipt_class', p.receipt_class, 'unit', p.unit, 'price_fen', p.price_fen,"
    "   'was_settled', s.id IS NOT NULL AND CASE WHEN s.kind = 'interim' THEN i.number = s.number"
    "     ELSE e.recorded_at <= s.recorded_at AND i.number IS NULL END) ORDER BY e.at, e.recorded_at, e.id)"
    " FROM entry e JOIN entry o ON o.id = coalesce(e.reverses, e.id) AND o.kind = 'charge'"
    " JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = $2"
    " LEFT JOIN (SELECT x.entry_id, b.number FROM interim_line x JOIN bill b ON b.id = x.bill_id) i ON i.entry_id = o.id"
    " LEFT JOIN priced_charge c ON c.entry_id = o.id LEFT JOIN price_item p ON p.id = c.price_id WHERE e.account_id = a.id) AS charges,"
    " (SELECT jsonb_agg(jsonb_build_object('entry_id', e.id, 'fen', l.fen, 'at', e.at, 'money', l.ledger_account_id,"
    "   'channel_method', y.method, 'reversed', EXISTS (SELECT FROM entry r WHERE r.reverses = e.id),"
    "   'held_fen', (SELECT -sum(h.fen) FROM entry b JOIN line h ON h.entry_id = b.id AND h.ledger_account_id = $3"
    "     WHERE b.account_id = a.id AND b.recorded_at <= e.recorded_at)) ORDER BY e.recorded_at, e.id)"
    " FROM entry e JOIN line l ON l.entry_id = e.id AND l.fen > 0 LEFT JOIN payment y ON y.entry_id = e.id"
    " WHERE e.account_id = a.id AND e.kind = 'deposit') AS deposits,"
    " (SELECT jsonb_agg(jsonb_build_object('kind', e.kind, 'deposit_id', e.deposit_id, 'fen', l.fen,"
    "   'money', l.ledger_account_id) ORDER BY e.recorded_at, e.id)"
    " FROM entry e JOIN line l ON l.entry_id = e.id AND l.fen > 0 WHERE e.settlement_id = s.id) AS moves,"
    " (SELECT jsonb_build_object('number', r.number, 'state', r.state, 'check_code', r.check_code, 'url', r.url, 'since', r.since)"
    " FROM receipt r WHERE r.settlement_id = s.id AND r.voids IS NULL) AS receipt,"
    " (SELECT upper(g.scheme) || ' ' || g.code FROM payment_group g WHERE g.account_id = a.id) AS payment_group"
    " FROM account a LEFT JOIN stay_ward w USING (encounter_id) LEFT JOIN stay_left l USING (encounter_id)"
    " LEFT JOIN LATERAL (SELECT * FROM settlement WHERE account_id = a.id AND reopened_at IS NULL AND kind <> 'supplementary'"
    "   ORDER BY number DESC LIMIT 1) s ON true"
    " WHERE a.encounter_id = $1 OR a.id = (SELECT e.account_id FROM entry e WHERE e.id = $4)"
)


async def get_facts(tx: Transaction, *, encounter_id: UUID | None = None, entry_id: UUID | None = None) -> Facts | None:
    """Return everything the ledger says of an account, as of one instant: of a stay, or of one of its entries."""
    row = await tx.conn.fetchrow(
        _FACTS,
        encounter_id,
        LedgerAccount.RECEIVABLE,
        LedgerAccount.DEPOSITS,
        entry_id,
    )
    if row is None:
        return None
    lists = {name: tuple(row[name] or ()) for name in ("charges", "deposits", "moves")}
    return Facts(**{**dict(row), **lists})


async def note_payment_group(tx: Transaction, account_id: UUID, scheme: str, code: str) -> None:
    """Note the group by which the fund pays a stay; told again, the last word counts."""
    await tx.conn.execute(
        "INSERT INTO payment_group (account_id, scheme, code, noted_by, noted_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (account_id) DO UPDATE SET scheme = excluded.scheme, code = excluded.code,"
        " noted_by = excluded.noted_by, noted_at = excluded.noted_at",
        account_id,
        scheme,
        code,
        tx.actor,
        tx.now,
    )
