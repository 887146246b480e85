-- What a charge says is written on its entry too, so that the sum of a long bill is read from one table (V14, R05).

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

ALTER TABLE entry ADD COLUMN charge_fen bigint;
ALTER TABLE entry DISABLE TRIGGER entry_is_append_only;
UPDATE entry e SET charge_fen = line.fen FROM line
WHERE line.entry_id = e.id AND line.ledger_account_id = 1 AND e.kind = 'charge';
ALTER TABLE entry ENABLE TRIGGER entry_is_append_only;
ALTER TABLE entry ADD CONSTRAINT only_a_charge_says_its_sum CHECK ((kind = 'charge') = (charge_fen IS NOT NULL));
COMMENT ON COLUMN entry.charge_fen IS 'What a charge adds to what is owed; the same as its line, which is checked at COMMIT.';

CREATE OR REPLACE FUNCTION refuse_unbalanced_entry() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    of_entry uuid;
    lines int;
    sum_fen numeric;
    said_fen bigint;
    owed_fen numeric;
BEGIN
    IF TG_TABLE_NAME = 'entry' THEN of_entry := NEW.id; ELSE of_entry := NEW.entry_id; END IF;
    SELECT count(line.fen), sum(line.fen), max(entry.charge_fen), sum(line.fen) FILTER (WHERE line.ledger_account_id = 1)
    INTO lines, sum_fen, said_fen, owed_fen
    FROM entry LEFT JOIN line ON line.entry_id = entry.id WHERE entry.id = of_entry;
    IF lines < 2 OR sum_fen <> 0 THEN
        RAISE EXCEPTION 'Entry % has % lines that sum to % fen.', of_entry, lines, coalesce(sum_fen, 0) USING ERRCODE = '23514';
    END IF;
    IF said_fen <> coalesce(owed_fen, 0) THEN
        RAISE EXCEPTION 'Entry % says % fen and adds % fen to what is owed.', of_entry, said_fen, coalesce(owed_fen, 0)
            USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;

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
    INSERT INTO entry (id, account_id, kind, item, at, charge_fen) VALUES (p_entry_id, o_account_id, 'charge', p_item, p_at, p_fen);
    INSERT INTO line (entry_id, ledger_account_id, fen) VALUES (p_entry_id, 1, p_fen), (p_entry_id, 10, -p_fen);
    SELECT ward INTO o_ward FROM stay_ward WHERE encounter_id = p_encounter_id;
    outcome := 'posted';
END $$;

-- check: SELECT count(*) = 0 FROM entry e JOIN line ON line.entry_id = e.id AND line.ledger_account_id = 1 WHERE e.kind = 'charge' AND e.charge_fen <> line.fen
-- check: SELECT count(*) = 0 FROM ledger_violations()
