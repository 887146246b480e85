-- The posting functions again, for accounts that are being settled, cash with a cashier, write-offs, part refunds and late
-- charges. Lock order as before: the patient account's row first and alone.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

DROP FUNCTION post_entries(uuid, uuid, timestamptz, uuid[], text[], uuid[], smallint[], smallint[], bigint[]);
DROP FUNCTION post_reversals(uuid, uuid[], uuid[], text, timestamptz);
DROP FUNCTION settle_account;
DROP FUNCTION reopen_settlement;
DROP FUNCTION void_account;

CREATE OR REPLACE FUNCTION post_charge(
    p_encounter_id uuid, p_entry_id uuid, p_item text, p_fen bigint, p_at timestamptz,
    OUT outcome text, OUT o_account_id uuid, OUT o_patient_tok uuid, OUT o_charged_fen bigint, OUT o_ward text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF p_fen <= 0 THEN
        RAISE EXCEPTION 'A charge is more than zero fen; corrections are reversals.' USING ERRCODE = '23514';
    END IF;
    -- Finds, locks, checks and adds in one go; after waiting for the lock the state is looked at again.
    UPDATE account SET receivable_fen = receivable_fen + p_fen, bill_version = bill_version + 1
    WHERE encounter_id = p_encounter_id AND state = 'open' AND receivable_fen <= 10000000000000 - p_fen
    RETURNING id, patient_tok, receivable_fen INTO o_account_id, o_patient_tok, o_charged_fen;
    IF NOT FOUND THEN
        SELECT CASE WHEN state <> 'open' THEN state WHEN receivable_fen > 10000000000000 - p_fen THEN 'too_much' END
        INTO outcome FROM account WHERE encounter_id = p_encounter_id;
        outcome := coalesce(outcome, 'none');
        RETURN;
    END IF;
    INSERT INTO entry (id, account_id, kind, item, at) VALUES (p_entry_id, o_account_id, 'charge', p_item, p_at);
    INSERT INTO line (entry_id, ledger_account_id, fen) VALUES (p_entry_id, 1, p_fen), (p_entry_id, 10, -p_fen);
    SELECT ward INTO o_ward FROM stay_ward WHERE encounter_id = p_encounter_id;
    outcome := 'posted';
END $$;
COMMENT ON FUNCTION post_charge IS 'Post one charge to the open account of a stay, or say why not: none (no account yet), billing, closed, voided, too_much. One statement, because nothing happens more often.';

CREATE OR REPLACE FUNCTION move_balances(p_account_id uuid, p_receivable_fen bigint, p_deposits_fen bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF p_receivable_fen = 0 AND p_deposits_fen = 0 THEN
        RETURN;
    END IF;
    -- A voided account only gives deposits back, one that is being settled only takes payments; a closed one must be reopened.
    UPDATE account SET receivable_fen = receivable_fen + p_receivable_fen, deposits_fen = deposits_fen + p_deposits_fen,
                       bill_version = bill_version + (p_receivable_fen <> 0)::int
    WHERE id = p_account_id AND (state = 'open' OR (state = 'voided' AND p_receivable_fen = 0 AND p_deposits_fen < 0)
                                 OR (state = 'billing' AND p_receivable_fen = 0 AND p_deposits_fen > 0));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'This account does not take postings now.' USING ERRCODE = '23514';
    END IF;
END $$;

CREATE FUNCTION post_entries(
    p_account_id uuid, p_settlement_id uuid, p_at timestamptz, p_cashier uuid, p_entry_ids uuid[], p_kinds text[],
    p_deposit_ids uuid[], p_debits smallint[], p_credits smallint[], p_fens bigint[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    unknown bigint;
    receivable_fen bigint;
    held_fen bigint;
BEGIN
    SELECT count(*) FILTER (WHERE NOT EXISTS (SELECT FROM ledger_account l WHERE l.id = m.debit)
                               OR NOT EXISTS (SELECT FROM ledger_account l WHERE l.id = m.credit)
                               OR m.fen IS NULL OR m.fen <= 0),
           coalesce(sum(m.fen) FILTER (WHERE m.debit = 1), 0) - coalesce(sum(m.fen) FILTER (WHERE m.credit = 1), 0),
           coalesce(sum(m.fen) FILTER (WHERE m.credit = 2), 0) - coalesce(sum(m.fen) FILTER (WHERE m.debit = 2), 0)
    INTO unknown, receivable_fen, held_fen
    FROM unnest(p_debits, p_credits, p_fens) AS m(debit, credit, fen);
    IF unknown > 0 THEN
        RAISE EXCEPTION 'An entry moves more than zero fen between two accounts of the chart.' USING ERRCODE = '23514';
    END IF;
    PERFORM move_balances(p_account_id, receivable_fen, held_fen);
    INSERT INTO entry (id, account_id, kind, deposit_id, settlement_id, at, cashier)
    SELECT e.id, p_account_id, e.kind, e.deposit_id, p_settlement_id, p_at, CASE WHEN 20 IN (e.debit, e.credit) THEN p_cashier END
    FROM unnest(p_entry_ids, p_kinds, p_deposit_ids, p_debits, p_credits) AS e(id, kind, deposit_id, debit, credit);
    INSERT INTO line (entry_id, ledger_account_id, fen)
    SELECT m.id, side.ledger_account_id, side.fen
    FROM unnest(p_entry_ids, p_debits, p_credits, p_fens) AS m(id, debit, credit, fen),
         LATERAL (VALUES (m.debit, m.fen), (m.credit, -m.fen)) AS side(ledger_account_id, fen);
END $$;
COMMENT ON FUNCTION post_entries IS 'Post entries of one account, each moving an amount from the credited to the debited ledger account, and move its balances with them.';

CREATE FUNCTION post_reversals(
    p_account_id uuid, p_original_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz, p_cashier uuid)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    reversed bigint;
    receivable_fen bigint;
    held_fen bigint;
BEGIN
    -- The amounts come from the originals' own lines: a reversal can be refused, but it cannot be wrong.
    SELECT count(DISTINCT e.id), coalesce(sum(-l.fen) FILTER (WHERE l.ledger_account_id = 1), 0),
           coalesce(sum(l.fen) FILTER (WHERE l.ledger_account_id = 2), 0)
    INTO reversed, receivable_fen, held_fen
    FROM entry e JOIN line l ON l.entry_id = e.id
    WHERE e.id = ANY (p_original_ids) AND e.account_id = p_account_id AND e.kind <> 'reversal';
    IF reversed <> cardinality(p_original_ids) OR reversed <> cardinality(p_entry_ids) THEN
        RAISE EXCEPTION 'A reversal names one original of the same account.' USING ERRCODE = '23514';
    END IF;
    PERFORM move_balances(p_account_id, receivable_fen, held_fen);
    INSERT INTO entry (id, account_id, kind, reverses, reason, at, cashier)
    SELECT r.id, p_account_id, 'reversal', r.original_id, p_reason, p_at,
           CASE WHEN EXISTS (SELECT FROM line l WHERE l.entry_id = r.original_id AND l.ledger_account_id = 20) THEN p_cashier END
    FROM unnest(p_entry_ids, p_original_ids) AS r(id, original_id);
    INSERT INTO line (entry_id, ledger_account_id, fen)
    SELECT r.id, l.ledger_account_id, -l.fen
    FROM unnest(p_entry_ids, p_original_ids) AS r(id, original_id) JOIN line l ON l.entry_id = r.original_id;
END $$;
COMMENT ON FUNCTION post_reversals IS 'Reverse entries of one account, each by its own entry that names it; a second reversal of one is refused by entry_is_reversed_once (V8).';

CREATE OR REPLACE FUNCTION lock_for_settlement(
    p_encounter_id uuid,
    OUT id uuid, OUT patient_tok uuid, OUT state text, OUT day_case boolean, OUT settlements int, OUT receivable_fen bigint,
    OUT deposits_fen bigint, OUT ward text, OUT deposit_ids uuid[], OUT deposit_fens bigint[], OUT deposit_methods smallint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    SELECT a.id, a.patient_tok, a.state, a.day_case, a.settlements, a.receivable_fen, a.deposits_fen
    INTO id, patient_tok, state, day_case, settlements, receivable_fen, deposits_fen
    FROM account a WHERE a.encounter_id = p_encounter_id FOR NO KEY UPDATE;
    -- A statement of its own: it must see the deposits that committed while the first one waited for the lock.
    SELECT array_agg(d.id ORDER BY d.id), array_agg(d.left_fen ORDER BY d.id), array_agg(d.ledger_account_id ORDER BY d.id)
    INTO deposit_ids, deposit_fens, deposit_methods
    FROM (
        SELECT d.id, l.ledger_account_id, l.fen - coalesce((
                   SELECT sum(pl.fen) FROM entry p JOIN line pl ON pl.entry_id = p.id AND pl.fen > 0
                   WHERE p.deposit_id = d.id AND p.kind = 'part_refunded'
                     AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = p.id)), 0)::bigint AS left_fen
        FROM account a
        JOIN entry d ON d.account_id = a.id AND d.kind = 'deposit'
        JOIN line l ON l.entry_id = d.id AND l.fen > 0
        WHERE a.encounter_id = p_encounter_id AND a.deposits_fen > 0
          AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = d.id)) d
    WHERE d.left_fen > 0;
    SELECT w.ward INTO ward FROM stay_ward w WHERE w.encounter_id = p_encounter_id;
END $$;
COMMENT ON FUNCTION lock_for_settlement IS 'Lock the account of a stay and return it with what is left of its live deposits, oldest first, in one round trip.';

CREATE FUNCTION settle_account(
    p_account_id uuid, p_settlement_id uuid, p_kind text, p_number int, p_charged_fen bigint, p_deposits_fen bigint,
    p_payer_fen bigint, p_collected_fen bigint, p_refunded_fen bigint, p_written_off_fen bigint, p_at timestamptz, p_cashier uuid,
    p_entry_ids uuid[], p_kinds text[], p_deposit_ids uuid[], p_debits smallint[], p_credits smallint[], p_fens bigint[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET state = 'open' WHERE id = p_account_id AND state = 'billing';
    IF cardinality(p_entry_ids) > 0 THEN
        PERFORM post_entries(
            p_account_id, p_settlement_id, p_at, p_cashier, p_entry_ids, p_kinds, p_deposit_ids, p_debits, p_credits, p_fens);
    END IF;
    INSERT INTO settlement (id, account_id, kind, number, charged_fen, deposits_fen, payer_fen, collected_fen, refunded_fen,
                            written_off_fen, settled_at)
    VALUES (p_settlement_id, p_account_id, p_kind, p_number, p_charged_fen, p_deposits_fen, p_payer_fen, p_collected_fen,
            p_refunded_fen, p_written_off_fen, p_at);
    -- closed_means_paid refuses to close while a fen is owed or held.
    UPDATE account SET state = 'closed', settlements = p_number WHERE id = p_account_id AND state = 'open' AND settlements = p_number - 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only an open account is settled, with the next number.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION settle_account IS 'Write a decided settlement: its entries, its row, and the closed account, or nothing (R52).';

CREATE FUNCTION reopen_settlements(
    p_account_id uuid, p_original_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz, p_cashier uuid)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    children bigint;
BEGIN
    UPDATE account SET state = 'open' WHERE id = p_account_id AND state = 'closed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only a closed account is reopened.' USING ERRCODE = '23514';
    END IF;
    SELECT count(*) INTO children FROM entry e JOIN settlement s ON s.id = e.settlement_id
    WHERE e.account_id = p_account_id AND s.reopened_at IS NULL;
    IF children <> cardinality(p_original_ids) THEN
        RAISE EXCEPTION 'Reopening reverses every child of every settlement in force.' USING ERRCODE = '23514';
    END IF;
    UPDATE settlement SET reopened_at = p_at, reopen_reason = p_reason WHERE account_id = p_account_id AND reopened_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'An account is reopened with its own settlements.' USING ERRCODE = '23514';
    END IF;
    IF children > 0 THEN
        PERFORM post_reversals(p_account_id, p_original_ids, p_entry_ids, p_reason, p_at, p_cashier);
    END IF;
END $$;
COMMENT ON FUNCTION reopen_settlements IS 'Take the settlement in force and its supplements back: every child reversed by its own entry, the account open again (V12).';

CREATE FUNCTION void_account(
    p_account_id uuid, p_charge_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF cardinality(p_charge_ids) > 0 THEN
        PERFORM post_reversals(p_account_id, p_charge_ids, p_entry_ids, p_reason, p_at, NULL);
    END IF;
    -- voided_means_nothing_owed refuses while a charge is still alive.
    UPDATE account SET state = 'voided' WHERE id = p_account_id AND state = 'open';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only an open account is voided.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION void_account IS 'Void the account of an admission that never counted: its charges reversed, its deposits still to be given back (A11).';

CREATE FUNCTION begin_billing(p_account_id uuid, p_bill_version int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET state = 'billing' WHERE id = p_account_id AND state = 'open' AND bill_version = p_bill_version;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION begin_billing IS 'Lock an account for the bill that was confirmed, when no line changed since that was quoted.';

CREATE FUNCTION end_billing(p_account_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET state = 'open' WHERE id = p_account_id AND state = 'billing';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'This account is not being settled.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION end_billing IS 'Open an account again whose bill came to nothing.';

CREATE FUNCTION begin_supplement(p_account_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET state = 'open' WHERE id = p_account_id AND state = 'closed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only a closed account takes a supplement.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION begin_supplement IS 'Let a late charge in; the same transaction must settle it, or closed_is_settled refuses to commit (V13).';

-- I10 at COMMIT: a closed account has its final settlement in force, any other has none.
CREATE FUNCTION refuse_unsettled_close() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (SELECT a.state = 'closed' FROM account a WHERE a.id = NEW.id)
       <> EXISTS (SELECT FROM settlement s WHERE s.account_id = NEW.id AND s.reopened_at IS NULL AND s.kind = 'final') THEN
        RAISE EXCEPTION 'An account is closed if and only if it is settled.' USING ERRCODE = '23514', CONSTRAINT = 'closed_is_settled';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER closed_is_settled AFTER UPDATE OF state ON account
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION refuse_unsettled_close();

REVOKE EXECUTE ON FUNCTION post_entries, post_reversals, settle_account, reopen_settlements, void_account, begin_billing,
    end_billing, begin_supplement FROM PUBLIC;

-- check: SELECT count(*) = 8 FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname IN ('post_entries', 'post_reversals', 'settle_account', 'reopen_settlements', 'void_account', 'begin_billing', 'end_billing', 'begin_supplement')
