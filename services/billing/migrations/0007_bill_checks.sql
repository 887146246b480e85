-- The checks again, with what bills, payments, refunds and write-offs add.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

CREATE OR REPLACE VIEW account_movement AS
SELECT a.id AS account_id, a.state, a.receivable_fen, a.deposits_fen,
       coalesce(m.owed_fen, 0) AS owed_by_lines_fen, coalesce(m.held_fen, 0) AS held_by_lines_fen,
       coalesce(m.charged_fen, 0) AS charged_fen, coalesce(m.deposited_fen, 0) AS deposited_fen,
       coalesce(m.collected_fen, 0) AS collected_fen, coalesce(m.payer_fen, 0) AS payer_fen,
       coalesce(m.refunded_fen, 0) AS refunded_fen, coalesce(m.entries, 0) AS entries,
       coalesce(m.written_off_fen, 0) AS written_off_fen
FROM account a LEFT JOIN (
    SELECT e.account_id, count(DISTINCT e.id) AS entries,
           sum(line.fen) FILTER (WHERE line.ledger_account_id = 1) AS owed_fen,
           -sum(line.fen) FILTER (WHERE line.ledger_account_id = 2) AS held_fen,
           -sum(line.fen) FILTER (WHERE line.ledger_account_id = 10) AS charged_fen,
           sum(line.fen) FILTER (WHERE line.ledger_account_id >= 20 AND o.kind = 'deposit') AS deposited_fen,
           sum(line.fen) FILTER (WHERE line.ledger_account_id >= 20 AND o.kind = 'collected') AS collected_fen,
           sum(line.fen) FILTER (WHERE line.ledger_account_id = 11) AS payer_fen,
           -sum(line.fen) FILTER (WHERE line.ledger_account_id >= 20 AND o.kind IN ('rest_refunded', 'part_refunded')) AS refunded_fen,
           sum(line.fen) FILTER (WHERE line.ledger_account_id = 12) AS written_off_fen
    FROM entry e JOIN line ON line.entry_id = e.id JOIN entry o ON o.id = coalesce(e.reverses, e.id)
    GROUP BY e.account_id) m ON m.account_id = a.id;
CREATE OR REPLACE FUNCTION ledger_violations() RETURNS TABLE (check_id text, object text, detail text)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT 'I4', 'entry ' || e.id, format('%s lines that sum to %s fen', count(line.fen), coalesce(sum(line.fen), 0))
    FROM entry e LEFT JOIN line ON line.entry_id = e.id
    GROUP BY e.id HAVING count(line.fen) < 2 OR sum(line.fen) <> 0
UNION ALL
    SELECT 'I4', 'ledger', format('all lines together sum to %s fen', sum(fen)) FROM line HAVING sum(fen) <> 0
UNION ALL
    SELECT 'I4', 'entry ' || line.entry_id, 'has lines, but is not there'
    FROM line LEFT JOIN entry e ON e.id = line.entry_id WHERE e.id IS NULL
UNION ALL
    SELECT 'I4', 'entry ' || line.entry_id, format('a line on %s, which is not in the chart of accounts', line.ledger_account_id)
    FROM line LEFT JOIN ledger_account l ON l.id = line.ledger_account_id WHERE l.id IS NULL
UNION ALL
    SELECT 'I4', 'entry ' || e.id, 'the reversal is not the exact opposite of its original'
    FROM entry e
    WHERE e.kind = 'reversal' AND EXISTS (
        SELECT FROM (SELECT ledger_account_id, fen FROM line WHERE entry_id = e.id) mine
        FULL JOIN (SELECT ledger_account_id, fen FROM line WHERE entry_id = e.reverses) original USING (ledger_account_id)
        WHERE coalesce(mine.fen, 0) + coalesce(original.fen, 0) <> 0)
UNION ALL
    SELECT 'I5', 'account ' || account_id,
           format('owes %s fen and has %s fen of deposits; its lines say %s and %s',
                  receivable_fen, deposits_fen, owed_by_lines_fen, held_by_lines_fen)
    FROM account_movement WHERE receivable_fen <> owed_by_lines_fen OR deposits_fen <> held_by_lines_fen
UNION ALL
    SELECT 'D3', 'account ' || account_id,
           format('deposits %s + payments %s + payer %s + written off %s <> charges %s + refunds %s + balance %s',
                  deposited_fen, collected_fen, payer_fen, written_off_fen, charged_fen, refunded_fen, deposits_fen - receivable_fen)
    FROM account_movement
    WHERE deposited_fen + collected_fen + payer_fen + written_off_fen <> charged_fen + refunded_fen + deposits_fen - receivable_fen
UNION ALL
    SELECT 'V14', 'account ' || a.id, format('owes %s fen, its live charges sum to %s', a.receivable_fen, coalesce(live.fen, 0))
    FROM account a LEFT JOIN (
        SELECT e.account_id, sum(line.fen) AS fen
        FROM entry e JOIN line ON line.entry_id = e.id AND line.ledger_account_id = 1
        WHERE e.kind = 'charge' AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)
        GROUP BY e.account_id) live ON live.account_id = a.id
    WHERE a.state = 'open' AND a.receivable_fen <> coalesce(live.fen, 0)
UNION ALL
    SELECT 'I7', 'entry ' || coalesce(e.id::text, o.entry_id), 'a charge and its event do not match one to one, to the fen'
    FROM (SELECT e.id, e.account_id, line.fen FROM entry e JOIN line ON line.entry_id = e.id AND line.ledger_account_id = 1
          WHERE e.kind = 'charge') e
    FULL JOIN (SELECT body ->> 'entry_id' AS entry_id, aggregate_id, (body ->> 'amount_fen')::bigint AS fen, count(*) AS events
               FROM outbox WHERE type LIKE '%.ChargePosted.v%' GROUP BY 1, 2, 3) o ON o.entry_id = e.id::text
    WHERE e.id IS NULL OR o.entry_id IS NULL OR o.events <> 1 OR o.fen <> e.fen OR o.aggregate_id <> e.account_id::text
UNION ALL
    SELECT 'I9', 'deposit ' || d.id, format('%s fen came in, %s fen were used or went back', deposit.fen, sum(-line.fen))
    FROM entry e
    LEFT JOIN entry o ON o.id = e.reverses
    JOIN entry d ON d.id = coalesce(e.deposit_id, o.deposit_id, o.id) AND d.kind = 'deposit'
    JOIN line deposit ON deposit.entry_id = d.id AND deposit.ledger_account_id <> 2
    JOIN line ON line.entry_id = e.id AND line.ledger_account_id <> 2
    GROUP BY d.id, deposit.fen HAVING sum(-line.fen) > deposit.fen OR sum(-line.fen) < 0
UNION ALL
    SELECT 'I10', 'account ' || a.id, format('is %s with %s settlements in force of %s', a.state, count(s.id) FILTER (WHERE s.reopened_at IS NULL AND s.kind = 'final'), a.settlements)
    FROM account a LEFT JOIN settlement s ON s.account_id = a.id
    GROUP BY a.id
    HAVING count(s.id) FILTER (WHERE s.reopened_at IS NULL AND s.kind = 'final') <> (a.state = 'closed')::int OR count(s.id) <> a.settlements
UNION ALL
    SELECT 'V12', 'settlement ' || s.id, 'a child of a reopened settlement is still alive'
    FROM settlement s JOIN entry e ON e.settlement_id = s.id
    WHERE s.reopened_at IS NOT NULL AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)
UNION ALL
    SELECT 'R52', 'settlement ' || s.id,
           format('says deposits %s, payer %s, collected %s, refunded %s, written off %s; its entries say %s, %s, %s, %s, %s', s.deposits_fen,
                  s.payer_fen, s.collected_fen, s.refunded_fen, s.written_off_fen, m.deposits_fen, m.payer_fen, m.collected_fen,
                  m.refunded_fen, m.written_off_fen)
    FROM settlement s, LATERAL (
        SELECT coalesce(sum(line.fen) FILTER (WHERE e.kind IN ('deposit_applied', 'rest_refunded')), 0) AS deposits_fen,
               coalesce(sum(line.fen) FILTER (WHERE e.kind = 'payer_share'), 0) AS payer_fen,
               coalesce(sum(line.fen) FILTER (WHERE e.kind = 'collected'), 0) AS collected_fen,
               coalesce(sum(line.fen) FILTER (WHERE e.kind = 'rest_refunded'), 0) AS refunded_fen,
               coalesce(sum(line.fen) FILTER (WHERE e.kind = 'written_off'), 0) AS written_off_fen
        FROM entry e JOIN line ON line.entry_id = e.id AND line.fen > 0 WHERE e.settlement_id = s.id) m
    WHERE (s.deposits_fen, s.payer_fen, s.collected_fen, s.refunded_fen, s.written_off_fen)
       <> (m.deposits_fen, m.payer_fen, m.collected_fen, m.refunded_fen, m.written_off_fen)
UNION ALL
    SELECT 'R53', 'bill ' || b.id, format('is %s, and no settlement %s in force says %s fen with %s fen of the payer', b.state, b.number,
                                          b.charged_fen, b.fund_fen + b.account_fen)
    FROM bill b
    WHERE b.state IN ('settled', 'reopening') AND NOT EXISTS (
        SELECT FROM settlement s WHERE s.account_id = b.account_id AND s.number = b.number AND s.reopened_at IS NULL
        AND s.charged_fen = b.charged_fen AND s.payer_fen = b.fund_fen + b.account_fen)
UNION ALL
    SELECT 'R53', 'settlement ' || s.id, 'the payer pays, and no bill in force says so'
    FROM settlement s
    WHERE s.payer_fen > 0 AND s.reopened_at IS NULL AND NOT EXISTS (
        SELECT FROM bill b WHERE b.account_id = s.account_id AND b.number = s.number AND b.state IN ('settled', 'reopening'))
UNION ALL
    SELECT 'I6', 'channel', format('the ledger holds %s fen, payments less refunds are %s', ledger.fen, orders.fen)
    FROM (SELECT coalesce(sum(fen), 0) AS fen FROM line WHERE ledger_account_id = 25) ledger,
         (SELECT (SELECT coalesce(sum(amount_fen), 0) FROM payment WHERE state = 'paid')
               - (SELECT coalesce(sum(amount_fen), 0) FROM refund WHERE state <> 'failed') AS fen) orders
    WHERE ledger.fen <> orders.fen
UNION ALL
    SELECT 'I17', w.kind || ' ' || w.object_id, format('is %s and nobody looks after it', w.state)
    FROM (SELECT 'bill' AS kind, id::text AS object_id, state FROM bill
          WHERE state IN ('drafting', 'locking', 'payer_pending', 'payer_unknown', 'payer_reversing', 'reopening')
          UNION ALL SELECT 'payment', id::text, state FROM payment WHERE state IN ('created', 'waiting', 'closing')
          UNION ALL SELECT 'refund', refund_no, state FROM refund WHERE state IN ('requested', 'processing', 'unknown')
          UNION ALL SELECT 'receipt', number, state FROM receipt WHERE state = 'reserved') w
    WHERE NOT EXISTS (SELECT FROM errand e WHERE e.kind = w.kind AND e.object_id = w.object_id)
UNION ALL
    SELECT 'I17', 'account ' || a.id, 'is being settled without a bill in work'
    FROM account a
    WHERE a.state = 'billing' AND NOT EXISTS (
        SELECT FROM bill b WHERE b.account_id = a.id AND b.state IN ('locking', 'payer_pending', 'payer_unknown', 'collecting', 'payer_reversing'))
$$;

CREATE OR REPLACE FUNCTION ledger_examined() RETURNS TABLE (check_id text, name text, examined bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT 'I4', 'every entry has two lines or more and sums to zero', count(*) FROM entry
UNION ALL SELECT 'I5', 'every balance is the sum of its lines', count(*) FROM account
UNION ALL SELECT 'D3', 'deposits + payments + payer = charges + refunds + balance', count(*) FROM account_movement WHERE entries > 0
UNION ALL SELECT 'V14', 'what an open account owes is the sum of its live charges', count(*) FROM account WHERE state = 'open'
UNION ALL SELECT 'I7', 'every charge has exactly one event, to the fen', count(*) FROM entry WHERE kind = 'charge'
UNION ALL SELECT 'I9', 'no deposit gives back more than came in', count(*) FROM entry WHERE kind = 'deposit'
UNION ALL SELECT 'I10', 'a closed account has exactly one settlement in force', count(*) FROM account
UNION ALL SELECT 'V12', 'a reopened settlement has no child alive', count(*) FROM settlement WHERE reopened_at IS NOT NULL
UNION ALL SELECT 'R52', 'every settlement is the sum of its entries', count(*) FROM settlement
UNION ALL SELECT 'R53', 'every bill in force is its settlement, to the fen and to the payer', count(*) FROM bill WHERE state IN ('settled', 'reopening')
UNION ALL SELECT 'I6', 'the channel money of the ledger is payments less refunds', count(*) FROM payment
UNION ALL SELECT 'I17', 'whatever waits for the outside has an errand', (SELECT count(*) FROM bill) + (SELECT count(*) FROM payment)
$$;

-- check: SELECT count(*) = 0 FROM ledger_violations()
-- check: SELECT sum(balance_fen) = 0 FROM ledger_balance
