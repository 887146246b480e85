-- The cashier's desk: which drawer cash belongs to, the daily match, who left without settling, and what may be owed.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

-- ---- cash belongs to exactly one drawer ------------------------------------------------------------------------------

ALTER TABLE entry ADD COLUMN cash_shift_id uuid REFERENCES cash_shift;
CREATE INDEX entry_by_cash_shift ON entry (cash_shift_id) WHERE cash_shift_id IS NOT NULL;
COMMENT ON COLUMN entry.cash_shift_id IS 'The drawer that was open when the cash moved; none when the cashier had none open, which the daily match shows.';

-- Posting shares the cashier's lock, opening and closing take it alone: a drawer is counted when no cash is on its way into it.
CREATE FUNCTION put_into_drawer() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(NEW.cashier::text, 20));
    -- A statement of its own: it must see the drawer that was opened while the first one waited.
    SELECT id INTO NEW.cash_shift_id FROM cash_shift WHERE cashier = NEW.cashier AND closed_at IS NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER cash_goes_into_the_open_drawer BEFORE INSERT ON entry FOR EACH ROW WHEN (NEW.cashier IS NOT NULL)
    EXECUTE FUNCTION put_into_drawer();

CREATE FUNCTION cash_of_shift(p_shift_id uuid) RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT coalesce(sum(line.fen), 0)::bigint FROM entry e JOIN line ON line.entry_id = e.id AND line.ledger_account_id = 20
    WHERE e.cash_shift_id = p_shift_id
$$;
COMMENT ON FUNCTION cash_of_shift IS 'Cash that came into a drawer less cash that left it, from the ledger.';

CREATE FUNCTION refuse_shift_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF OLD.closed_at IS NOT NULL OR (NEW.id, NEW.cashier, NEW.opened_at, NEW.float_fen)
       IS DISTINCT FROM (OLD.id, OLD.cashier, OLD.opened_at, OLD.float_fen) THEN
        RAISE EXCEPTION 'A drawer is closed once and not changed otherwise.' USING ERRCODE = '42501';
    END IF;
    IF NEW.expected_fen IS DISTINCT FROM OLD.float_fen + cash_of_shift(OLD.id) THEN
        RAISE EXCEPTION 'What a drawer should hold is its float and the cash of its entries.'
            USING ERRCODE = '23514', CONSTRAINT = 'expected_is_the_ledger';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER shift_only_closes BEFORE UPDATE ON cash_shift FOR EACH ROW EXECUTE FUNCTION refuse_shift_change();
CREATE TRIGGER shift_is_not_deleted BEFORE DELETE ON cash_shift FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- ---- the daily match -------------------------------------------------------------------------------------------------

ALTER TABLE recon_day DROP CONSTRAINT recon_day_party_check,
    ADD CONSTRAINT recon_day_party_check CHECK (party IN ('channel', 'insurance', 'drawer'));
ALTER TABLE errand DROP CONSTRAINT errand_kind_check,
    ADD CONSTRAINT errand_kind_check CHECK (kind IN ('bill', 'payment', 'refund', 'receipt', 'match'));
ALTER TABLE recon_diff ADD COLUMN explained_by uuid;
COMMENT ON COLUMN recon_diff.explained_by IS 'Who explained it; nobody when the difference was gone at the next match.';
ALTER TABLE recon_diff DROP CONSTRAINT recon_diff_day_party_kind_object_key;
CREATE UNIQUE INDEX one_open_difference ON recon_diff (day, party, kind, object) WHERE explained_at IS NULL;
CREATE INDEX recon_diff_by_day ON recon_diff (day, party);
CREATE INDEX recon_diff_open ON recon_diff (found_at, id) WHERE explained_at IS NULL;
CREATE INDEX payment_by_since ON payment (since) WHERE state = 'paid';
CREATE INDEX refund_by_since ON refund (since);

CREATE TABLE stated (
    day date NOT NULL,
    key text NOT NULL,
    position int NOT NULL,
    fen bigint NOT NULL CHECK (fen <> 0),
    PRIMARY KEY (day, position)
);
CREATE INDEX stated_by_key ON stated (key);
COMMENT ON TABLE stated IS 'What the channel stated, day by day: order or refund number and fen, money out negative. A day matched again is stated anew.';

CREATE FUNCTION refuse_diff_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.explained_at IS NOT NULL
       OR (to_jsonb(NEW) - 'owner' - 'explained_at' - 'explained_by' - 'explanation')
          <> (to_jsonb(OLD) - 'owner' - 'explained_at' - 'explained_by' - 'explanation') THEN
        RAISE EXCEPTION 'A difference gets an owner and one explanation; what was found does not change.' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER difference_only_gets_explained BEFORE UPDATE ON recon_diff FOR EACH ROW EXECUTE FUNCTION refuse_diff_change();
CREATE TRIGGER difference_is_not_deleted BEFORE DELETE ON recon_diff FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- ---- who left -------------------------------------------------------------------------------------------------------

CREATE TABLE stay_left (
    encounter_id uuid PRIMARY KEY,
    left_at timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX stay_left_by_time ON stay_left (left_at, encounter_id);
COMMENT ON TABLE stay_left IS 'Who physically left the hospital (A03) and when; gone when the discharge is taken back (A13). May be known before the account.';

CREATE VIEW left_unsettled AS
SELECT l.encounter_id, l.left_at, a.id AS account_id, a.state AS account_state, a.receivable_fen, a.deposits_fen, a.bill_version,
       a.payer_kind
FROM stay_left l LEFT JOIN account a USING (encounter_id)
WHERE a.state IS NULL OR a.state NOT IN ('closed', 'voided');
COMMENT ON VIEW left_unsettled IS 'Who left and did not settle (出院未结): the clerk''s worklist, complete by construction (D10).';

-- ---- papers ---------------------------------------------------------------------------------------------------------

-- What was charged before this instant was settled by it; a late charge comes after and has a settlement of its own (V13).
ALTER TABLE settlement ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN settlement.recorded_at IS 'When the row was written. Settlements older than this column count everything on their account as theirs.';

-- ---- arrears --------------------------------------------------------------------------------------------------------

CREATE TABLE arrears (
    account_id uuid PRIMARY KEY REFERENCES account,
    limit_fen bigint NOT NULL CHECK (limit_fen >= 0),
    raised_at timestamptz NOT NULL
);
COMMENT ON TABLE arrears IS 'Stays that owe more beyond their deposits than they may (欠费, R55), with the limit that was passed.';

CREATE TABLE credit (
    account_id uuid PRIMARY KEY REFERENCES account,
    limit_fen bigint NOT NULL CHECK (limit_fen BETWEEN 0 AND 10000000000000),
    reason text NOT NULL,
    approved_by uuid NOT NULL,
    approved_at timestamptz NOT NULL
);
COMMENT ON TABLE credit IS 'Credit admission (信用就医, R55): what a person let this account owe, instead of the limit of its payer.';

-- check: SELECT count(*) = 0 FROM entry WHERE cash_shift_id IS NOT NULL AND cashier IS NULL
