-- Interim settlements (中途结算): the bill of a stay that goes on. Its lines are taken out of what is still to be settled, the
-- deposits it does not use stay where they are, the account stays open and takes charges all the time.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

ALTER TABLE settlement DROP CONSTRAINT settlement_kind_check,
    ADD CONSTRAINT settlement_kind_check CHECK (kind IN ('final', 'supplementary', 'interim'));
COMMENT ON COLUMN settlement.kind IS 'supplementary: a late charge settled by itself after the final settlement, which stays in force (V13). interim: a part of a stay that goes on.';

ALTER TABLE bill ADD COLUMN interim boolean NOT NULL DEFAULT false;
DROP INDEX one_bill_in_force;
CREATE UNIQUE INDEX one_bill_in_force ON bill (account_id) WHERE state IN ('settled', 'reopening') AND NOT interim;
COMMENT ON COLUMN bill.interim IS 'A bill of a stay that goes on; several may be in force beside the last one.';

ALTER TABLE account ADD COLUMN interim_bill_id uuid REFERENCES bill,
    ADD CONSTRAINT only_an_open_account_is_settled_in_between CHECK (interim_bill_id IS NULL OR state = 'open');
COMMENT ON COLUMN account.interim_bill_id IS 'The confirmed interim bill that is being settled or taken back; charges go on, deposits are counted on.';

CREATE TABLE interim_line (
    entry_id uuid PRIMARY KEY REFERENCES entry,
    bill_id uuid NOT NULL REFERENCES bill,
    account_id uuid NOT NULL REFERENCES account
);
CREATE INDEX interim_line_by_account ON interim_line (account_id);
CREATE INDEX interim_line_by_bill ON interim_line (bill_id);
COMMENT ON TABLE interim_line IS 'Charges that an interim bill settles or settled: in no later bill, and not reversed before that settlement is taken back. One bill settles a charge, once.';

CREATE FUNCTION refuse_reversal_of_settled() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM interim_line i WHERE i.entry_id = NEW.reverses) THEN
        RAISE EXCEPTION 'This charge is settled; take the interim settlement back first.'
            USING ERRCODE = '23514', CONSTRAINT = 'settled_is_not_reversed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER settled_is_not_reversed BEFORE INSERT ON entry FOR EACH ROW WHEN (NEW.kind = 'reversal')
    EXECUTE FUNCTION refuse_reversal_of_settled();

-- A deposit that an interim settlement used in part is used as long as that settlement is in force.
CREATE FUNCTION applied_by_interim(p_account_id uuid, p_deposit_id uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM interim_line i WHERE i.account_id = p_account_id) THEN (
        SELECT coalesce(sum(l.fen), 0)::bigint
        FROM entry e JOIN settlement s ON s.id = e.settlement_id AND s.kind = 'interim' AND s.reopened_at IS NULL
        JOIN line l ON l.entry_id = e.id AND l.fen > 0
        WHERE e.account_id = p_account_id AND e.deposit_id = p_deposit_id AND e.kind = 'deposit_applied') ELSE 0 END
$$;
COMMENT ON FUNCTION applied_by_interim IS 'What interim settlements in force used of a deposit; looks at the account''s entries only when there is one, so that no other settlement pays for an index.';
DROP FUNCTION lock_for_settlement;
CREATE FUNCTION lock_for_settlement(
    p_encounter_id uuid,
    OUT id uuid, OUT patient_tok uuid, OUT state text, OUT day_case boolean, OUT settlements int, OUT receivable_fen bigint,
    OUT deposits_fen bigint, OUT interim_bill_id uuid, OUT ward text, OUT deposit_ids uuid[], OUT deposit_fens bigint[],
    OUT deposit_methods smallint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    SELECT a.id, a.patient_tok, a.state, a.day_case, a.settlements, a.receivable_fen, a.deposits_fen, a.interim_bill_id
    INTO id, patient_tok, state, day_case, settlements, receivable_fen, deposits_fen, interim_bill_id
    FROM account a WHERE a.encounter_id = p_encounter_id FOR NO KEY UPDATE;
    -- A statement of its own: it must see the deposits that committed while the first one waited for the lock.
    SELECT array_agg(d.id ORDER BY d.id), array_agg(d.left_fen ORDER BY d.id), array_agg(d.ledger_account_id ORDER BY d.id)
    INTO deposit_ids, deposit_fens, deposit_methods
    FROM (
        SELECT d.id, l.ledger_account_id, l.fen - coalesce((
                   SELECT sum(pl.fen) FROM entry p JOIN line pl ON pl.entry_id = p.id AND pl.fen > 0
                   WHERE p.deposit_id = d.id AND p.kind = 'part_refunded'
                     AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = p.id)), 0)::bigint
               - applied_by_interim(a.id, d.id) AS left_fen
        FROM account a
        JOIN entry d ON d.account_id = a.id AND d.kind = 'deposit'
        JOIN line l ON l.entry_id = d.id AND l.fen > 0
        WHERE a.encounter_id = p_encounter_id AND a.deposits_fen > 0
          AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = d.id)) d
    WHERE d.left_fen > 0;
    SELECT w.ward INTO ward FROM stay_ward w WHERE w.encounter_id = p_encounter_id;
END $$;
COMMENT ON FUNCTION lock_for_settlement IS 'Lock the account of a stay and return it with what is left of its live deposits, oldest first, in one round trip.';

CREATE FUNCTION begin_interim(p_account_id uuid, p_bill_id uuid, p_bill_version int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET interim_bill_id = p_bill_id
    WHERE id = p_account_id AND state = 'open' AND interim_bill_id IS NULL AND bill_version = p_bill_version;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO interim_line (entry_id, bill_id, account_id)
    SELECT e.id, p_bill_id, p_account_id FROM entry e
    WHERE e.account_id = p_account_id AND e.kind = 'charge' AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)
      AND NOT EXISTS (SELECT FROM interim_line i WHERE i.entry_id = e.id);
    RETURN true;
END $$;
COMMENT ON FUNCTION begin_interim IS 'Set the lines of a confirmed interim bill apart, when no line changed since it was quoted; what is charged from now on is not on it.';

CREATE FUNCTION end_interim(p_account_id uuid, p_bill_id uuid, p_gives_lines_back boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET interim_bill_id = NULL WHERE id = p_account_id AND interim_bill_id = p_bill_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'This interim bill is not being settled.' USING ERRCODE = '23514';
    END IF;
    IF p_gives_lines_back THEN
        DELETE FROM interim_line WHERE bill_id = p_bill_id;
    END IF;
END $$;
COMMENT ON FUNCTION end_interim IS 'End the work on an interim bill; one that came to nothing gives its lines back to what is still to be settled.';

CREATE FUNCTION begin_interim_reopening(p_account_id uuid, p_bill_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE account SET interim_bill_id = p_bill_id WHERE id = p_account_id AND state = 'open' AND interim_bill_id IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'An interim settlement is taken back while the stay goes on.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION begin_interim_reopening IS 'Note that the fund is asked to take an interim settlement back; nothing else is settled meanwhile.';

CREATE FUNCTION reopen_interim(
    p_account_id uuid, p_bill_id uuid, p_original_ids uuid[], p_entry_ids uuid[], p_reason text, p_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    taken_back uuid;
    children bigint;
BEGIN
    UPDATE account SET interim_bill_id = NULL
    WHERE id = p_account_id AND state = 'open' AND (interim_bill_id IS NULL OR interim_bill_id = p_bill_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'An interim settlement is taken back while the stay goes on.' USING ERRCODE = '23514';
    END IF;
    UPDATE settlement s SET reopened_at = p_at, reopen_reason = p_reason FROM bill b
    WHERE b.id = p_bill_id AND s.account_id = p_account_id AND s.number = b.number AND s.kind = 'interim' AND s.reopened_at IS NULL
    RETURNING s.id INTO taken_back;
    SELECT count(*) INTO children FROM entry e WHERE e.settlement_id = taken_back;
    IF taken_back IS NULL OR children <> cardinality(p_original_ids) THEN
        RAISE EXCEPTION 'Taking a settlement back reverses every child of it.' USING ERRCODE = '23514';
    END IF;
    DELETE FROM interim_line WHERE bill_id = p_bill_id;
    IF children > 0 THEN
        PERFORM post_reversals(p_account_id, p_original_ids, p_entry_ids, p_reason, p_at, NULL);
    END IF;
END $$;
COMMENT ON FUNCTION reopen_interim IS 'Take an interim settlement back: every child reversed by its own entry, its lines to be settled again (V12).';

CREATE OR REPLACE FUNCTION settle_account(
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
    IF p_kind = 'interim' THEN
        UPDATE account a SET interim_bill_id = NULL, settlements = p_number
        WHERE a.id = p_account_id AND a.state = 'open' AND a.settlements = p_number - 1
          AND p_charged_fen = (SELECT sum(e.charge_fen) FROM interim_line i JOIN entry e ON e.id = i.entry_id
                               WHERE i.bill_id = a.interim_bill_id);
    ELSE
        -- closed_means_paid refuses to close while a fen is owed or held.
        UPDATE account SET state = 'closed', settlements = p_number
        WHERE id = p_account_id AND state = 'open' AND settlements = p_number - 1 AND interim_bill_id IS NULL;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Only an open account is settled, with the next number.' USING ERRCODE = '23514';
    END IF;
END $$;
COMMENT ON FUNCTION settle_account IS 'Write a decided settlement: its entries, its row, and the closed account, or the open one when it is an interim one; or nothing (R52).';

-- Three places of older functions change; it is said when one is not there.
DO $$
DECLARE
    functions text[] := ARRAY['reopen_settlements', 'reopen_settlements', 'ledger_violations'];
    befores text[] := ARRAY[
        'AND s.reopened_at IS NULL;',
        'AND reopened_at IS NULL;',
        'AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)
        GROUP BY e.account_id) live'];
    afters text[] := ARRAY[
        'AND s.reopened_at IS NULL AND s.kind <> ''interim'';',
        'AND reopened_at IS NULL AND kind <> ''interim'';',
        'AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = e.id)
          AND NOT EXISTS (SELECT FROM interim_line i JOIN bill b ON b.id = i.bill_id AND b.state IN (''settled'', ''reopening'')
                          WHERE i.entry_id = e.id)
        GROUP BY e.account_id) live'];
    body text;
BEGIN
    FOR place IN 1..cardinality(functions) LOOP
        body := pg_get_functiondef(functions[place]::regproc);
        IF strpos(body, befores[place]) = 0 THEN
            RAISE EXCEPTION 'The function % does not say: %', functions[place], befores[place];
        END IF;
        EXECUTE replace(body, befores[place], afters[place]);
    END LOOP;
END $$;

REVOKE EXECUTE ON FUNCTION lock_for_settlement, begin_interim, end_interim, begin_interim_reopening, reopen_interim
    FROM PUBLIC;
DO $$
DECLARE
    other text;
BEGIN
    FOR other IN
        SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'interim_line' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON interim_line FROM %I', other);
    END LOOP;
END $$;

-- check: SELECT count(*) = 0 FROM interim_line
-- check: SELECT count(*) = 4 FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname IN ('begin_interim', 'end_interim', 'begin_interim_reopening', 'reopen_interim')
