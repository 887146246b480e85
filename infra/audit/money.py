"""Money, recomputed from the lines: the ledger balances, agrees with its events, and closed accounts are paid (I4-I7, I9, I10, R52).

The queries are their own and use no view of billing; only R52 asks billing's own list of broken laws, as a second opinion.
"""

from infra.audit.check import Check, Look, Seen, sql_check

_NEEDS = frozenset({"billing"})

_ENTRIES = """
SELECT format('entry %s has %s lines that sum to %s fen', coalesce(e.id, l.entry_id), coalesce(l.lines, 0), coalesce(l.fen, 0))
FROM billing.entry e
FULL JOIN (SELECT entry_id, count(*) AS lines, sum(fen) AS fen FROM billing.line GROUP BY entry_id) l ON l.entry_id = e.id
WHERE e.id IS NULL OR l.lines IS NULL OR l.lines < 2 OR l.fen <> 0
UNION ALL
SELECT format('the whole ledger sums to %s fen', sum(fen)) FROM billing.line HAVING sum(fen) <> 0
UNION ALL
SELECT format('entry %s has a line on account %s, which is not in the chart', entry_id, ledger_account_id)
FROM billing.line WHERE ledger_account_id NOT IN (SELECT id FROM billing.ledger_account)
"""
_BALANCES = """
SELECT format('account %s says %s owed and %s held, its lines %s and %s', a.id, a.receivable_fen, a.deposits_fen,
              coalesce(l.owed, 0), coalesce(l.held, 0))
FROM billing.account a LEFT JOIN (
    SELECT e.account_id, coalesce(sum(fen) FILTER (WHERE ledger_account_id = 1), 0) AS owed,
           coalesce(-sum(fen) FILTER (WHERE ledger_account_id = 2), 0) AS held
    FROM billing.entry e JOIN billing.line ON line.entry_id = e.id GROUP BY e.account_id) l ON l.account_id = a.id
WHERE (a.receivable_fen, a.deposits_fen) <> (coalesce(l.owed, 0), coalesce(l.held, 0))
"""
_CASH = """
WITH event AS (SELECT aggregate_id AS account_id, split_part(type, '.', 3) AS fact, body FROM billing.outbox),
reopened AS (SELECT body ->> 'settlement_id' AS id FROM event WHERE fact = 'SettlementReopened'),
said AS (
    SELECT account_id, sum(CASE fact
        WHEN 'DepositReceived' THEN (body ->> 'amount_fen')::bigint
        WHEN 'DepositRefunded' THEN -(body ->> 'amount_fen')::bigint
        ELSE (body ->> 'collected_fen')::bigint - coalesce((body ->> 'refunded_fen')::bigint, 0) END) AS fen
    FROM event
    WHERE fact IN ('DepositReceived', 'DepositRefunded')
       OR (fact IN ('AccountSettled', 'SupplementSettled') AND body ->> 'settlement_id' NOT IN (SELECT id FROM reopened))
    GROUP BY account_id),
held AS (
    SELECT e.account_id::text AS account_id, sum(fen) AS fen
    FROM billing.entry e JOIN billing.line ON line.entry_id = e.id JOIN billing.entry o ON o.id = coalesce(e.reverses, e.id)
    WHERE ledger_account_id >= 20 AND o.kind <> 'overpaid' GROUP BY e.account_id)
SELECT format('account %s: %s fen of money came in by the ledger, %s by its events', coalesce(h.account_id, s.account_id),
              coalesce(h.fen, 0), coalesce(s.fen, 0))
FROM held h FULL JOIN said s USING (account_id) WHERE coalesce(h.fen, 0) <> coalesce(s.fen, 0)
"""
_EVENTS = """
WITH amount AS (SELECT entry_id, sum(fen) FILTER (WHERE fen > 0) AS fen FROM billing.line GROUP BY entry_id),
done AS (
    SELECT CASE WHEN e.kind = 'charge' THEN 'ChargePosted' WHEN e.kind = 'deposit' THEN 'DepositReceived'
                WHEN e.kind = 'part_refunded' THEN 'DepositRefunded' WHEN e.kind = 'overpaid' THEN 'OverpaymentReceived'
                WHEN o.kind = 'charge' THEN 'ChargeReversed' ELSE 'DepositRefunded' END AS fact,
           e.id::text AS id, e.account_id::text AS account_id, m.fen
    FROM billing.entry e LEFT JOIN billing.entry o ON o.id = e.reverses LEFT JOIN amount m ON m.entry_id = e.id
    WHERE e.kind IN ('charge', 'deposit', 'part_refunded', 'overpaid') OR o.kind IN ('charge', 'deposit')
    UNION ALL
    SELECT CASE kind WHEN 'final' THEN 'AccountSettled' WHEN 'interim' THEN 'InterimSettled' ELSE 'SupplementSettled' END,
           id::text, account_id::text, charged_fen
    FROM billing.settlement
    UNION ALL
    SELECT 'SettlementReopened', id::text, account_id::text, NULL FROM billing.settlement WHERE reopened_at IS NOT NULL),
said AS (
    SELECT split_part(type, '.', 3) AS fact, coalesce(body ->> 'entry_id', body ->> 'settlement_id') AS id,
           min(aggregate_id) AS account_id, count(*) AS times, sum(coalesce((body ->> 'amount_fen')::bigint, (body ->> 'charged_fen')::bigint)) AS fen
    FROM billing.outbox
    WHERE split_part(type, '.', 3) IN ('ChargePosted', 'ChargeReversed', 'DepositReceived', 'DepositRefunded', 'AccountSettled', 'SettlementReopened',
                                      'SupplementSettled', 'InterimSettled', 'OverpaymentReceived')
    GROUP BY 1, 2)
SELECT CASE WHEN d.id IS NULL THEN format('%s was announced of %s, the ledger has no such thing', s.fact, s.id)
            WHEN s.id IS NULL THEN format('%s was never announced of %s', d.fact, d.id)
            WHEN s.times <> 1 THEN format('%s was announced %s times of %s', s.fact, s.times, s.id)
            WHEN s.account_id <> d.account_id THEN format('%s was announced of %s under another account', s.fact, s.id)
            ELSE format('%s was announced of %s with another amount', s.fact, s.id) END
FROM done d FULL JOIN said s USING (fact, id)
WHERE d.id IS NULL OR s.id IS NULL OR s.times <> 1 OR s.account_id <> d.account_id OR s.fen IS DISTINCT FROM d.fen
"""
_REFUNDS = """
WITH money AS (
    SELECT e.account_id, sum(fen) AS fen
    FROM billing.entry e JOIN billing.line ON line.entry_id = e.id WHERE ledger_account_id >= 20 GROUP BY e.account_id),
deposit AS (
    SELECT CASE WHEN root.kind = 'deposit' THEN root.id ELSE root.deposit_id END AS id,
           coalesce(-sum(fen) FILTER (WHERE e.kind = 'deposit'), 0) AS came_in,
           coalesce(sum(fen) FILTER (WHERE e.kind <> 'deposit'), 0) AS used
    FROM billing.line JOIN billing.entry e ON e.id = line.entry_id JOIN billing.entry root ON root.id = coalesce(e.reverses, e.id)
    WHERE ledger_account_id = 2 GROUP BY 1)
SELECT format('account %s gave back %s fen more than came in', account_id, -fen) FROM money WHERE fen < 0
UNION ALL
SELECT format('deposit %s of %s fen was used or given back to %s fen', coalesce(id::text, 'unknown'), came_in, used)
FROM deposit WHERE id IS NULL OR used NOT BETWEEN 0 AND came_in
"""
_SETTLED = """
WITH live AS (
    SELECT e.account_id, sum(line.fen) AS fen
    FROM billing.entry e JOIN billing.line ON line.entry_id = e.id AND line.ledger_account_id = 10
    WHERE e.kind = 'charge' AND NOT EXISTS (SELECT FROM billing.entry r WHERE r.reverses = e.id) GROUP BY e.account_id),
force AS (
    SELECT account_id, count(*) FILTER (WHERE kind = 'final') AS settlements, sum(charged_fen) AS charged_fen,
           sum(deposits_fen + payer_fen + collected_fen + written_off_fen - refunded_fen) AS paid_fen
    FROM billing.settlement WHERE reopened_at IS NULL GROUP BY account_id)
SELECT CASE WHEN coalesce(f.settlements, 0) <> (a.state = 'closed')::int
            THEN format('account %s is %s with %s settlements in force', a.id, a.state, coalesce(f.settlements, 0))
            ELSE format('account %s is settled for %s fen, %s were charged and %s paid', a.id, f.charged_fen, coalesce(-l.fen, 0), f.paid_fen) END
FROM billing.account a LEFT JOIN force f ON f.account_id = a.id LEFT JOIN live l ON l.account_id = a.id
WHERE coalesce(f.settlements, 0) <> (a.state = 'closed')::int
   OR (a.state = 'closed' AND (f.charged_fen, f.paid_fen) IS DISTINCT FROM (coalesce(-l.fen, 0), coalesce(-l.fen, 0)))
"""
INTERIM_AT_ODDS = """
WITH work AS (
    SELECT id, account_id FROM billing.bill
    WHERE interim AND state IN ('locking', 'payer_pending', 'payer_unknown', 'collecting', 'payer_reversing', 'reopening')),
apart AS (
    SELECT i.bill_id, sum(l.fen) AS fen
    FROM billing.interim_line i JOIN billing.line l ON l.entry_id = i.entry_id AND l.fen > 0 GROUP BY i.bill_id)
SELECT format('account %s settles interim bill %s, of its bills %s is at work', a.id, coalesce(a.interim_bill_id::text, 'none'),
              coalesce(w.id::text, 'none'))
FROM billing.account a LEFT JOIN work w ON w.account_id = a.id WHERE a.interim_bill_id IS DISTINCT FROM w.id
UNION ALL
SELECT format('bill %s is %s for %s fen, %s fen of lines are set apart for it', b.id, b.state, b.charged_fen, coalesce(p.fen, 0))
FROM billing.bill b LEFT JOIN apart p ON p.bill_id = b.id
WHERE coalesce(p.fen, 0) <> CASE WHEN b.id IN (SELECT id FROM work) OR (b.interim AND b.state = 'settled') THEN b.charged_fen ELSE 0 END
"""
_ACCOUNTS = "SELECT count(*) FROM billing.account"


async def no_law_of_the_ledger_is_broken(at: Look) -> Seen:
    """R52: billing's own list of broken laws (ledger_violations) is empty."""
    async with at.in_schema("billing"):
        examined = await at.count("SELECT sum(examined)::bigint FROM ledger_examined()")
        wrong = await at.texts("SELECT format('%s %s', check_id, object) FROM ledger_violations()")
    return Seen(examined, wrong)


CHECKS = (
    sql_check(
        "I4",
        "every entry has two lines or more that sum to zero",
        needs=_NEEDS,
        examined="SELECT count(*) FROM billing.entry",
        wrong=_ENTRIES,
    ),
    sql_check("I5", "every balance is the sum of its lines", needs=_NEEDS, examined=_ACCOUNTS, wrong=_BALANCES),
    sql_check(
        "I6",
        "money in the ledger is what the events say came in and went out",
        needs=_NEEDS,
        examined=_ACCOUNTS,
        wrong=_CASH,
    ),
    sql_check(
        "I7",
        "every charge, deposit and settlement has exactly one event, to the fen",
        needs=_NEEDS,
        examined="SELECT (SELECT count(*) FROM billing.entry) + (SELECT count(*) FROM billing.settlement)",
        wrong=_EVENTS,
    ),
    sql_check("I9", "nothing gives back more than came in", needs=_NEEDS, examined=_ACCOUNTS, wrong=_REFUNDS),
    sql_check(
        "I10",
        "a closed account has one settlement in force, for exactly what was charged and paid",
        needs=_NEEDS,
        examined=_ACCOUNTS,
        wrong=_SETTLED,
    ),
    sql_check(
        "I10-interim",
        "an interim settlement has exactly its lines set apart, and its account knows of it while it is at work",
        needs=_NEEDS,
        examined=_ACCOUNTS,
        wrong=INTERIM_AT_ODDS,
    ),
    Check("R52", "billing's own list of broken laws is empty", no_law_of_the_ledger_is_broken, _NEEDS),
)
