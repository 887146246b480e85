-- The only ways money moves. These functions run with their owner's rights; the service's own role may read the ledger
-- and call them, and can neither write a line nor change a balance by itself (2.7).
--
-- Lock order: the patient account's row first and alone. Nothing of the whole hospital is ever locked, so two wards
-- never wait for each other and cannot deadlock.

-- Temporary tables come last, so that nobody can put one of their own in front of the ledger.
SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

CREATE FUNCTION post_charge(
    p_encounter_id uuid, p_entry_id uuid, p_item text, p_fen bigint, p_at timestamptz,
    OUT outcome text, OUT o_account_id uuid, OUT o_patient_tok uuid, OUT o_charged_fen bigint, OUT o_ward text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF p_fen <= 0 THEN
        RAISE EXCEPTION 'A charge is more than zero fen; corrections are reversals.' USING ERRCODE = '23514';
    END IF;
    -- Finds, locks, checks and adds in one go; after waiting for the lock the state is looked at again.
    UPDATE account SET receivable_fen = receivable_fen + p_fen
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
COMMENT ON FUNCTION post_charge IS 'Post one charge to the open account of a stay, or say why not: none (no account yet), closed, voided, too_much. One statement, because nothing happens more often.';

CREATE FUNCTION move_balances(p_account_id uuid, p_receivable_fen bigint, p_deposits_fen bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- A voided account only gives deposits back; a closed one must be reopened first.
    UPDATE account SET receivable_fen = receivable_fen + p_receivable_fen, deposits_fen = deposits_fen + p_deposits_fen
    WHERE id = p_account_id AND (state = 'open' OR (state = 'voided' AND p_receivable_fen = 0 AND p_deposits_fen < 0));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'This account does not take postings now.' USING ERRCODE = '23514';
    END IF;
END $$;

CREATE FUNCTION post_entries(
    p_account_id uuid, p_settlement_id uuid, p_at timestamptz, p_entry_ids uuid[], p_kinds text[], p_deposit_ids uuid[],
    p_debits smallint[], p_credits smallint[], p_fens bigint[])
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
    INSERT INTO entry (id, account_id, kind, deposit_id, settlement_id, at)
    SELECT e.id, p_account_id, e.kind, e.deposit_id, p_settlement_id, p_at
    FROM unnest(p_entry_ids, p_kinds, p_deposit_ids) AS e(id, kind, deposit_id);
    INSERT INTO line (entry_id, ledger_account_id, fen)
    SELECT m.id, side.ledger_account_id, side.fen
    FROM unnest(p_entry_ids, p_debits, p_credits, p_fens) AS m(id, debit, credit, fen),
         LATERAL (VALUES (m.debit, m.fen), (m.credit, -m.fen)) AS side(ledger_account_id, fen);
END $$;
COMMENT ON FUNCTION post_entries IS 'Post entries of one account, each moving an amount from the credited to the debited ledger account, and move its balances with them.';

CREATE FUNCTION post_reversals(
    p_account_id uuid, p_original_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz)
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
    INSERT INTO entry (id, account_id, kind, reverses, reason, at)
    SELECT r.id, p_account_id, 'reversal', r.original_id, p_reason, p_at
    FROM unnest(p_entry_ids, p_original_ids) AS r(id, original_id);
    INSERT INTO line (entry_id, ledger_account_id, fen)
    SELECT r.id, l.ledger_account_id, -l.fen
    FROM unnest(p_entry_ids, p_original_ids) AS r(id, original_id) JOIN line l ON l.entry_id = r.original_id;
END $$;
COMMENT ON FUNCTION post_reversals IS 'Reverse entries of one account, each by its own entry that names it; a second reversal of one is refused by entry_is_reversed_once (V8).';

CREATE FUNCTION lock_for_settlement(
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
    SELECT array_agg(d.id ORDER BY d.id), array_agg(l.fen ORDER BY d.id), array_agg(l.ledger_account_id ORDER BY d.id)
    INTO deposit_ids, deposit_fens, deposit_methods
    FROM account a
    JOIN entry d ON d.account_id = a.id AND d.kind = 'deposit'
    JOIN line l ON l.entry_id = d.id AND l.fen > 0
    WHERE a.encounter_id = p_encounter_id AND a.deposits_fen > 0 AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = d.id);
    SELECT w.ward INTO ward FROM stay_ward w WHERE w.encounter_id = p_encounter_id;
END $$;
COMMENT ON FUNCTION lock_for_settlement IS 'Lock the account of a stay and return it with its live deposits, oldest first, in one round trip.';

CREATE FUNCTION settle_account(
    p_account_id uuid, p_settlement_id uuid, p_number int, p_charged_fen bigint, p_deposits_fen bigint, p_payer_fen bigint,
    p_collected_fen bigint, p_refunded_fen bigint, p_at timestamptz, p_entry_ids uuid[], p_kinds text[], p_deposit_ids uuid[],
    p_debits smallint[], p_credits smallint[], p_fens bigint[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF cardinality(p_entry_ids) > 0 THEN
        PERFORM post_entries(
            p_account_id, p_settlement_id, p_at, p_entry_ids, p_kinds, p_deposit_ids, p_debits, p_credits, p_fens);
    END IF;
    INSERT INTO settlement (id, account_id, number, charged_fen, deposits_fen, payer_fen, collected_fen, refunded_fen, settled_at)
    VALUES (p_settlement_id, p_account_id, p_number, p_charged_fen, p_deposits_fen, p_payer_fen, p_collected_fen, p_refunded_fen, p_at);
    -- closed_means_paid refuses to close while a fen is owed or held.
    UPDATE account SET state = 'closed', settlements = p_number WHERE id = p_account_id AND state = 'open' AND settlements = p_number - 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only an open account is settled, with the next number.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION settle_account IS 'Write a decided settlement: its entries, its row, and the closed account, or nothing (R52).';

CREATE FUNCTION reopen_settlement(
    p_account_id uuid, p_settlement_id uuid, p_original_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    children bigint;
BEGIN
    UPDATE account SET state = 'open' WHERE id = p_account_id AND state = 'closed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only a closed account is reopened.' USING ERRCODE = '23514';
    END IF;
    UPDATE settlement SET reopened_at = p_at, reopen_reason = p_reason WHERE id = p_settlement_id AND account_id = p_account_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'An account is reopened with its own settlement.' USING ERRCODE = '23514';
    END IF;
    SELECT count(*) INTO children FROM entry WHERE account_id = p_account_id AND settlement_id = p_settlement_id;
    IF children <> cardinality(p_original_ids) THEN
        RAISE EXCEPTION 'Reopening a settlement reverses every child of it.' USING ERRCODE = '23514';
    END IF;
    IF children > 0 THEN
        PERFORM post_reversals(p_account_id, p_original_ids, p_entry_ids, p_reason, p_at);
    END IF;
END $$;
COMMENT ON FUNCTION reopen_settlement IS 'Take a settlement back: every child reversed by its own entry, the account open again (V12).';

CREATE FUNCTION void_account(
    p_account_id uuid, p_charge_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF cardinality(p_charge_ids) > 0 THEN
        PERFORM post_reversals(p_account_id, p_charge_ids, p_entry_ids, p_reason, p_at);
    END IF;
    -- voided_means_nothing_owed refuses while a charge is still alive.
    UPDATE account SET state = 'voided' WHERE id = p_account_id AND state = 'open';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only an open account is voided.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION void_account IS 'Void the account of an admission that never counted: its charges reversed, its deposits still to be given back (A11).';

-- Whoever was granted everything by default (the service's own role) keeps only what the functions do not do.
REVOKE EXECUTE ON FUNCTION post_charge, move_balances, post_entries, post_reversals, lock_for_settlement, settle_account,
    reopen_settlement, void_account FROM PUBLIC;
DO $$
DECLARE
    other text;
BEGIN
    FOR other IN
        SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'line' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON account, settlement, entry, line, ledger_account FROM %I', other);
        EXECUTE format('GRANT INSERT (id, encounter_id, patient_tok, payer_kind, day_case), UPDATE (day_case) ON account TO %I', other);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION move_balances FROM %I', other);
    END LOOP;
END $$;

-- check: SELECT count(*) = 0 FROM information_schema.role_table_grants WHERE table_schema = current_schema() AND table_name IN ('entry', 'line', 'settlement') AND grantee <> current_user AND privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
