-- Settling with parties outside the hospital: a bill (结算单) from quote to receipt, the payments and refunds that go through a
-- channel, the coverage by an insurance fund, and the errands that ask, repeat and look after what is not known yet (R53).
--
-- Rows here are written by the service itself; money still moves only through the functions at the end of this file.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- ---- the account while it is being settled --------------------------------------------------------------------------

ALTER TABLE account
    ADD COLUMN bill_version int NOT NULL DEFAULT 0,
    DROP CONSTRAINT account_state_check,
    ADD CONSTRAINT account_state_check CHECK (state IN ('open', 'billing', 'closed', 'voided'));
COMMENT ON COLUMN account.bill_version IS 'Goes up with every charge and every reversal of one; a quote of an older version is dead.';
COMMENT ON COLUMN account.state IS 'billing: a confirmed bill is being settled, so that no line may change; payments still come in.';

INSERT INTO ledger_account (id, code, balance_kept, meaning) VALUES
    (3, 'overpaid', 'from_lines', 'money that came in and belongs to no open account, to be given back (待退款)'),
    (12, 'bad_debt', 'from_lines', 'what was given up, with a reason and a role (坏账)'),
    (25, 'channel', 'from_lines', 'money through the payment channel, order by order (支付渠道)');

ALTER TABLE settlement
    ADD COLUMN written_off_fen bigint NOT NULL DEFAULT 0 CHECK (written_off_fen >= 0),
    ADD COLUMN kind text NOT NULL DEFAULT 'final' CHECK (kind IN ('final', 'supplementary')),
    DROP CONSTRAINT nothing_appears_or_vanishes,
    ADD CONSTRAINT nothing_appears_or_vanishes
        CHECK (charged_fen + refunded_fen = deposits_fen + payer_fen + collected_fen + written_off_fen);
DROP INDEX settlement_in_force;
CREATE UNIQUE INDEX settlement_in_force ON settlement (account_id) WHERE reopened_at IS NULL AND kind = 'final';
COMMENT ON COLUMN settlement.kind IS 'supplementary: a late charge settled by itself after the final settlement, which stays in force (V13).';

ALTER TABLE entry
    ADD COLUMN cashier uuid,
    DROP CONSTRAINT entry_kind_check,
    ADD CONSTRAINT entry_kind_check CHECK (kind IN (
        'charge', 'deposit', 'deposit_applied', 'rest_refunded', 'part_refunded', 'collected', 'payer_share', 'written_off',
        'overpaid', 'reversal')),
    DROP CONSTRAINT a_settlements_child_names_it,
    ADD CONSTRAINT a_settlements_child_names_it CHECK (
        (kind IN ('deposit_applied', 'rest_refunded', 'collected', 'payer_share', 'written_off')) = (settlement_id IS NOT NULL)),
    DROP CONSTRAINT what_uses_a_deposit_names_it,
    ADD CONSTRAINT what_uses_a_deposit_names_it CHECK (
        (kind IN ('deposit_applied', 'rest_refunded', 'part_refunded')) = (deposit_id IS NOT NULL));
CREATE INDEX entry_by_cashier ON entry (cashier, recorded_at) WHERE cashier IS NOT NULL;
CREATE INDEX entry_by_deposit ON entry (deposit_id) WHERE kind = 'part_refunded';
COMMENT ON COLUMN entry.cashier IS 'In whose drawer cash came or left; only entries that move cash have one.';

-- ---- the bill -------------------------------------------------------------------------------------------------------

CREATE TABLE coverage (
    account_id uuid PRIMARY KEY REFERENCES account,
    psn_no text NOT NULL CHECK (length(psn_no) BETWEEN 1 AND 40),
    mdtrt_id text,
    noted_at timestamptz NOT NULL
);
COMMENT ON TABLE coverage IS 'The insured person a stay is registered for at the fund (2401). psn_no is the fund''s number of the person and is shown to nobody.';

CREATE TABLE uploaded_line (
    entry_id uuid PRIMARY KEY REFERENCES entry,
    account_id uuid NOT NULL REFERENCES account
);
CREATE INDEX uploaded_line_by_account ON uploaded_line (account_id);
COMMENT ON TABLE uploaded_line IS 'Charge lines the fund holds (2301) and we did not withdraw (2302).';

CREATE TABLE bill_move (
    before text NOT NULL,
    after text NOT NULL,
    PRIMARY KEY (before, after)
);
INSERT INTO bill_move (before, after) VALUES
    ('drafting', 'quoted'), ('drafting', 'failed'), ('drafting', 'cancelled'),
    ('quoted', 'locking'), ('quoted', 'collecting'), ('quoted', 'expired'), ('quoted', 'cancelled'),
    ('locking', 'payer_pending'),
    ('payer_pending', 'collecting'), ('payer_pending', 'payer_unknown'), ('payer_pending', 'locking'), ('payer_pending', 'failed'),
    ('payer_pending', 'payer_reversing'),
    ('payer_unknown', 'collecting'), ('payer_unknown', 'locking'), ('payer_unknown', 'failed'), ('payer_unknown', 'payer_reversing'),
    ('collecting', 'settled'), ('collecting', 'payer_reversing'), ('collecting', 'cancelled'),
    ('payer_reversing', 'cancelled'),
    ('settled', 'reopening'), ('settled', 'reopened'), ('reopening', 'reopened'), ('reopening', 'settled');
COMMENT ON TABLE bill_move IS 'The only ways a bill changes its state; the same table is in domain code (bills.MOVES).';

CREATE TABLE bill (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    number int NOT NULL CHECK (number > 0),
    state text NOT NULL CHECK (state IN (
        'drafting', 'quoted', 'locking', 'payer_pending', 'payer_unknown', 'collecting', 'settled', 'payer_reversing',
        'reopening', 'cancelled', 'expired', 'failed', 'reopened')),
    since timestamptz NOT NULL,
    insured boolean NOT NULL,
    bill_version int NOT NULL,
    lines int NOT NULL CHECK (lines >= 0),
    lines_hash bytea NOT NULL,
    charged_fen bigint NOT NULL CHECK (charged_fen >= 0),
    fund_fen bigint NOT NULL DEFAULT 0 CHECK (fund_fen >= 0),
    account_fen bigint NOT NULL DEFAULT 0 CHECK (account_fen >= 0),
    patient_fen bigint NOT NULL CHECK (patient_fen >= 0),
    sends int NOT NULL DEFAULT 0,
    setl_id text,
    reason text,
    expires_at timestamptz NOT NULL,
    CONSTRAINT parts_are_the_whole CHECK (fund_fen + account_fen + patient_fen = charged_fen),
    CONSTRAINT only_a_fund_pays_a_share CHECK (insured OR fund_fen + account_fen = 0),
    CONSTRAINT paid_by_the_fund CHECK (NOT insured OR state NOT IN ('collecting', 'settled', 'payer_reversing', 'reopening')
                                       OR setl_id IS NOT NULL)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX one_bill_in_work ON bill (account_id)
    WHERE state IN ('drafting', 'quoted', 'locking', 'payer_pending', 'payer_unknown', 'collecting', 'payer_reversing', 'reopening');
CREATE UNIQUE INDEX one_bill_in_force ON bill (account_id) WHERE state IN ('settled', 'reopening');
CREATE INDEX bill_by_account ON bill (account_id, since);
COMMENT ON TABLE bill IS 'A bill the payer was shown (结算单): drafting, quoted, payer, collecting, settled. At most one is in work and at most one in force per account (I10).';

CREATE TABLE bill_step (
    bill_id uuid NOT NULL REFERENCES bill,
    state text NOT NULL,
    at timestamptz NOT NULL,
    why text
);
CREATE INDEX bill_step_by_bill ON bill_step (bill_id, at);
COMMENT ON TABLE bill_step IS 'When a bill came into each state, and why; never changed.';
CREATE TRIGGER bill_step_is_append_only BEFORE UPDATE OR DELETE ON bill_step FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_bill_move() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.state <> OLD.state AND NOT EXISTS (SELECT FROM bill_move m WHERE m.before = OLD.state AND m.after = NEW.state) THEN
        RAISE EXCEPTION 'A bill does not go from % to %.', OLD.state, NEW.state USING ERRCODE = '23514';
    END IF;
    IF OLD.state <> 'drafting' AND (NEW.charged_fen, NEW.lines_hash, NEW.number, NEW.account_id, NEW.fund_fen, NEW.account_fen)
       IS DISTINCT FROM (OLD.charged_fen, OLD.lines_hash, OLD.number, OLD.account_id, OLD.fund_fen, OLD.account_fen) THEN
        RAISE EXCEPTION 'What a bill says never changes once it was shown.' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER bill_moves_as_it_may BEFORE UPDATE ON bill FOR EACH ROW EXECUTE FUNCTION refuse_bill_move();
CREATE TRIGGER bill_is_not_deleted BEFORE DELETE ON bill FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- ---- payments and refunds through the channel -----------------------------------------------------------------------

CREATE TABLE payment (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    bill_id uuid REFERENCES bill,
    order_no text NOT NULL UNIQUE,
    method text NOT NULL CHECK (method IN ('wechat', 'alipay')),
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    state text NOT NULL CHECK (state IN ('created', 'waiting', 'closing', 'paid', 'closed', 'failed')),
    since timestamptz NOT NULL,
    qr_text text,
    expires_at timestamptz NOT NULL,
    ordered_by uuid,
    transaction_id text UNIQUE,
    entry_id uuid UNIQUE REFERENCES entry,
    CONSTRAINT paid_money_is_in_the_ledger CHECK ((state = 'paid') = (entry_id IS NOT NULL)),
    CONSTRAINT paid_money_has_a_transaction CHECK ((state = 'paid') = (transaction_id IS NOT NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX one_payment_in_work ON payment (account_id) WHERE state IN ('created', 'waiting', 'closing');
CREATE INDEX payment_by_account ON payment (account_id, since);
COMMENT ON TABLE payment IS 'One order at the payment channel; stored before it is sent. At most one of an account can still be paid (R53).';

CREATE TABLE refund (
    refund_no text PRIMARY KEY,
    entry_id uuid NOT NULL UNIQUE REFERENCES entry,
    payment_id uuid NOT NULL REFERENCES payment,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    state text NOT NULL CHECK (state IN ('requested', 'processing', 'unknown', 'done', 'failed')),
    since timestamptz NOT NULL,
    reason text
) WITH (fillfactor = 70);
CREATE INDEX refund_by_payment ON refund (payment_id);
COMMENT ON TABLE refund IS 'Money on its way back through the channel under a number that never changes; its ledger entry was posted when it was ordered.';

CREATE FUNCTION refuse_refund_beyond_payment() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM payment WHERE id = NEW.payment_id FOR NO KEY UPDATE;
    IF (SELECT coalesce(sum(r.amount_fen), 0) FROM refund r WHERE r.payment_id = NEW.payment_id)
       > (SELECT p.amount_fen FROM payment p WHERE p.id = NEW.payment_id AND p.state = 'paid') THEN
        RAISE EXCEPTION 'No more goes back than was paid.' USING ERRCODE = '23514', CONSTRAINT = 'no_refund_beyond_payment';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER no_refund_beyond_payment AFTER INSERT ON refund
    FOR EACH ROW EXECUTE FUNCTION refuse_refund_beyond_payment();

CREATE TABLE channel_notice (
    nonce text PRIMARY KEY,
    order_no text NOT NULL,
    received_at timestamptz NOT NULL
);
COMMENT ON TABLE channel_notice IS 'Nonces of the channel''s notices; one is taken once.';

-- ---- receipts -------------------------------------------------------------------------------------------------------

CREATE SEQUENCE receipt_number AS bigint START 1;
CREATE TABLE receipt (
    number text PRIMARY KEY,
    settlement_id uuid NOT NULL REFERENCES settlement,
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    state text NOT NULL CHECK (state IN ('reserved', 'issued', 'failed')),
    voids text UNIQUE REFERENCES receipt,
    since timestamptz NOT NULL,
    check_code text,
    url text,
    reason text
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX one_receipt_of_a_settlement ON receipt (settlement_id) WHERE voids IS NULL;
COMMENT ON TABLE receipt IS 'An electronic receipt (电子票据) under a number reserved before the first call; a red one (冲红) voids another, once.';

-- ---- errands and what was said to the outside ---------------------------------------------------------------------

CREATE TABLE errand (
    kind text NOT NULL CHECK (kind IN ('bill', 'payment', 'refund', 'receipt')),
    object_id text NOT NULL,
    due_at timestamptz NOT NULL,
    looks int NOT NULL DEFAULT 0,
    actor uuid,
    PRIMARY KEY (kind, object_id)
) WITH (fillfactor = 50);
CREATE INDEX errand_by_due ON errand (due_at);
COMMENT ON TABLE errand IS 'What still has to be asked outside, and when next; whoever takes one moves due_at ahead, so that two do not ask at once. Gone when the object rests (I17).';
COMMENT ON COLUMN errand.actor IS 'Whose command sent it; what comes of it happens in that name and is audited so.';

CREATE TABLE outside_request (
    msgid text PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    party text NOT NULL CHECK (party IN ('insurance', 'channel', 'receipts')),
    operation text NOT NULL,
    sent int NOT NULL DEFAULT 0,
    outcome text CHECK (outcome IN ('done', 'declined', 'unknown')),
    code text,
    stored_at timestamptz NOT NULL,
    answered_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX outside_request_by_account ON outside_request (account_id);
COMMENT ON TABLE outside_request IS 'Every request to the outside, stored before it is sent and never without its msgid again; what came of it, without any patient data.';

-- ---- the cash drawer and the daily match ----------------------------------------------------------------------------

CREATE TABLE cash_shift (
    id uuid PRIMARY KEY,
    cashier uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    float_fen bigint NOT NULL CHECK (float_fen >= 0),
    closed_at timestamptz,
    expected_fen bigint,
    counted_fen bigint CHECK (counted_fen >= 0),
    reason text,
    during tstzrange GENERATED ALWAYS AS (tstzrange(opened_at, closed_at)) STORED,
    CONSTRAINT one_drawer_at_a_time EXCLUDE USING gist (cashier WITH =, during WITH &&),
    CONSTRAINT closed_with_a_count CHECK ((closed_at IS NULL) = (counted_fen IS NULL) AND (closed_at IS NULL) = (expected_fen IS NULL)),
    CONSTRAINT a_difference_is_explained CHECK (counted_fen IS NOT DISTINCT FROM expected_fen OR reason IS NOT NULL)
);
COMMENT ON TABLE cash_shift IS 'A cashier''s drawer from opening to count; expected = float + cash in - cash out of the entries that name the cashier.';

CREATE TABLE recon_diff (
    id uuid PRIMARY KEY,
    day date NOT NULL,
    party text NOT NULL CHECK (party IN ('channel', 'insurance', 'drawer')),
    kind text NOT NULL,
    object text NOT NULL,
    ours_fen bigint,
    theirs_fen bigint,
    found_at timestamptz NOT NULL,
    owner uuid,
    explained_at timestamptz,
    explanation text,
    UNIQUE (day, party, kind, object),
    CONSTRAINT explained_with_a_reason CHECK ((explained_at IS NULL) = (explanation IS NULL))
);
COMMENT ON TABLE recon_diff IS 'Every difference between ledger, channel, fund and drawer, with owner and age, until somebody explains it.';

CREATE TABLE recon_day (
    day date NOT NULL,
    party text NOT NULL CHECK (party IN ('channel', 'insurance')),
    done_at timestamptz NOT NULL,
    rows int NOT NULL,
    ours_fen bigint NOT NULL,
    theirs_fen bigint NOT NULL,
    PRIMARY KEY (day, party)
);
COMMENT ON TABLE recon_day IS 'Which business days were matched, and with what sums.';

-- check: SELECT count(*) = 12 FROM ledger_account
