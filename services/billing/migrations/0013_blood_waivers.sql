-- Blood of donors (无偿献血者用血减免, BIL-9): what the blood centre pays of a patient's blood. Held as a deposit whose money is a
-- claim on the blood centre, so that settling, reopening and taking back go the one way deposits go; what a settlement does not
-- need of it is no money for anybody.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

INSERT INTO ledger_account (id, code, balance_kept, meaning) VALUES
    (26, 'blood_centre', 'from_lines', 'what the blood centre owes for the blood of donors (应收用血减免款)');

ALTER TABLE entry
    DROP CONSTRAINT entry_kind_check,
    ADD CONSTRAINT entry_kind_check CHECK (kind IN (
        'charge', 'deposit', 'deposit_applied', 'rest_refunded', 'waiver_released', 'part_refunded', 'collected', 'payer_share',
        'written_off', 'overpaid', 'reversal')),
    DROP CONSTRAINT a_settlements_child_names_it,
    ADD CONSTRAINT a_settlements_child_names_it CHECK (
        (kind IN ('deposit_applied', 'rest_refunded', 'waiver_released', 'collected', 'payer_share', 'written_off'))
        = (settlement_id IS NOT NULL)),
    DROP CONSTRAINT what_uses_a_deposit_names_it,
    ADD CONSTRAINT what_uses_a_deposit_names_it CHECK (
        (kind IN ('deposit_applied', 'rest_refunded', 'waiver_released', 'part_refunded')) = (deposit_id IS NOT NULL));

CREATE TABLE blood_waiver (
    entry_id uuid PRIMARY KEY REFERENCES entry,
    account_id uuid NOT NULL REFERENCES account,
    approval_no text NOT NULL CHECK (length(approval_no) BETWEEN 1 AND 64)
);
CREATE INDEX blood_waiver_by_account ON blood_waiver (account_id);
CREATE INDEX blood_waiver_by_approval ON blood_waiver (approval_no);
COMMENT ON TABLE blood_waiver IS 'Which deposit the blood centre pays, and the number under which it agreed to. Who the donor is stays with the blood centre.';
CREATE TRIGGER blood_waiver_is_append_only BEFORE UPDATE OR DELETE ON blood_waiver FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION waiver_fen(p_entry_id uuid) RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM entry r WHERE r.reverses = p_entry_id) THEN 0 ELSE l.fen - coalesce((
               SELECT sum(pl.fen) FROM entry p JOIN line pl ON pl.entry_id = p.id AND pl.fen > 0
               WHERE p.deposit_id = p_entry_id AND p.kind = 'part_refunded'
                 AND NOT EXISTS (SELECT FROM entry r WHERE r.reverses = p.id)), 0)::bigint END
    FROM line l WHERE l.entry_id = p_entry_id AND l.fen > 0
$$;
COMMENT ON FUNCTION waiver_fen IS 'What of a waiver was not taken back.';

CREATE FUNCTION blood_left(p_account_id uuid) RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT (SELECT coalesce(sum(e.charge_fen), 0)
            FROM account a JOIN priced_charge c ON c.encounter_id = a.encounter_id AND c.reversed_by IS NULL
            JOIN price_item p ON p.id = c.price_id AND p.class = 'blood' JOIN entry e ON e.id = c.entry_id
            WHERE a.id = p_account_id)::bigint
         - (SELECT coalesce(sum(waiver_fen(w.entry_id)), 0) FROM blood_waiver w WHERE w.account_id = p_account_id)::bigint
$$;
COMMENT ON FUNCTION blood_left IS 'What the live charges for blood come to beyond the waivers of the account.';

CREATE FUNCTION waived_held(p_account_id uuid) RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM blood_waiver w WHERE w.account_id = p_account_id) THEN (
        SELECT -coalesce(sum(l.fen), 0)::bigint
        FROM entry e LEFT JOIN entry o ON o.id = e.reverses
        JOIN blood_waiver w ON w.entry_id = coalesce(e.deposit_id, o.deposit_id, o.id, e.id)
        JOIN line l ON l.entry_id = e.id AND l.ledger_account_id = 2
        WHERE e.account_id = p_account_id) ELSE 0 END
$$;
COMMENT ON FUNCTION waived_held IS 'What of the deposits an account holds is a claim on the blood centre; looks at its entries only when there is one.';

CREATE FUNCTION is_approval_used(p_approval_no text, p_but_entry_id uuid DEFAULT NULL) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM blood_waiver w WHERE w.approval_no = p_approval_no
                   AND w.entry_id IS DISTINCT FROM p_but_entry_id AND waiver_fen(w.entry_id) > 0)
$$;
COMMENT ON FUNCTION is_approval_used IS 'Whether a waiver that was not taken back used this number of the blood centre.';

CREATE FUNCTION refuse_second_use() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.approval_no, 26));
    -- A statement of its own: it must see what committed while the first one waited.
    IF is_approval_used(NEW.approval_no, NEW.entry_id) THEN
        RAISE EXCEPTION 'This number of the blood centre is used already.' USING ERRCODE = '23505', CONSTRAINT = 'approval_is_used_once';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER approval_is_used_once BEFORE INSERT ON blood_waiver FOR EACH ROW EXECUTE FUNCTION refuse_second_use();

-- At COMMIT, whichever side moved: the blood centre pays for blood, no more than was charged, and never without its number.
CREATE FUNCTION refuse_waiver_beyond_blood() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    of_account account;
BEGIN
    IF TG_TABLE_NAME = 'line' THEN
        SELECT a.* INTO of_account FROM entry e JOIN account a ON a.id = e.account_id WHERE e.id = NEW.entry_id;
        IF EXISTS (SELECT FROM entry e WHERE e.id = NEW.entry_id AND e.kind = 'deposit'
                   AND NOT EXISTS (SELECT FROM blood_waiver w WHERE w.entry_id = e.id)) THEN
            RAISE EXCEPTION 'The blood centre pays under a number.' USING ERRCODE = '23514', CONSTRAINT = 'a_waiver_has_its_approval';
        END IF;
    ELSE
        SELECT a.* INTO of_account FROM account a WHERE a.encounter_id = NEW.encounter_id;
    END IF;
    IF of_account.state <> 'voided' AND EXISTS (SELECT FROM blood_waiver w WHERE w.account_id = of_account.id)
       AND blood_left(of_account.id) < 0 THEN
        RAISE EXCEPTION 'The blood centre pays for no more blood than was charged.'
            USING ERRCODE = '23514', CONSTRAINT = 'only_blood_is_waived';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER only_blood_is_waived AFTER INSERT ON line DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.ledger_account_id = 26) EXECUTE FUNCTION refuse_waiver_beyond_blood();
CREATE CONSTRAINT TRIGGER waived_blood_stays_charged AFTER UPDATE OF reversed_by ON priced_charge DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.reversed_by IS NOT NULL) EXECUTE FUNCTION refuse_waiver_beyond_blood();

-- Three places of older checks change; it is said when one is not there.
DO $$
DECLARE
    definitions text[] := ARRAY[
        'CREATE OR REPLACE VIEW account_movement AS ' || pg_get_viewdef('account_movement'::regclass),
        pg_get_functiondef('ledger_violations'::regproc), pg_get_functiondef('ledger_examined'::regproc)];
    befores text[] := ARRAY[
        '''rest_refunded''::text, ''part_refunded''::text',
        'UNION ALL
    SELECT ''I17'', ''account '' || a.id,',
        'UNION ALL SELECT ''I17'','];
    afters text[] := ARRAY[
        '''rest_refunded''::text, ''waiver_released''::text, ''part_refunded''::text',
        'UNION ALL
    SELECT ''BIL-9'', ''account '' || a.id, format(''the blood centre pays %s fen more than the blood costs'', -blood_left(a.id))
    FROM account a
    WHERE a.state <> ''voided'' AND EXISTS (SELECT FROM blood_waiver w WHERE w.account_id = a.id) AND blood_left(a.id) < 0
UNION ALL
    SELECT ''BIL-9'', ''entry '' || e.id, ''the blood centre pays without a number of its own, or something else pays under one''
    FROM entry e JOIN line l ON l.entry_id = e.id AND l.fen > 0
    WHERE e.kind = ''deposit'' AND (l.ledger_account_id = 26) <> EXISTS (SELECT FROM blood_waiver w WHERE w.entry_id = e.id)
UNION ALL
    SELECT ''I17'', ''account '' || a.id,',
        'UNION ALL SELECT ''BIL-9'', ''the blood centre pays for no more blood than was charged'', count(*) FROM account
UNION ALL SELECT ''I17'','];
BEGIN
    FOR place IN 1..cardinality(definitions) LOOP
        IF strpos(definitions[place], befores[place]) = 0 THEN
            RAISE EXCEPTION 'No older check says: %', befores[place];
        END IF;
        EXECUTE replace(definitions[place], befores[place], afters[place]);
    END LOOP;
END $$;

-- check: SELECT count(*) = 0 FROM blood_waiver
-- check: SELECT count(*) = 1 FROM ledger_account WHERE id = 26
-- check: SELECT count(*) = 0 FROM ledger_violations()
