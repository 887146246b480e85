-- The patient's account and the double-entry ledger behind it. Amounts are whole fen (R17, R50); nothing here is ever rounded.
--
-- Every entry belongs to one patient account, so every line does too: the ledger is sharded by patient. What the patient
-- owes and what we hold for the patient are running balances on the account's own row, the row every posting of that
-- patient locks anyway. What belongs to the whole hospital (revenue, cash by method) keeps no balance row: every ward
-- would queue for it with each charge. It is the sum of its lines (view ledger_balance).

CREATE TABLE account (
    id uuid PRIMARY KEY,
    encounter_id uuid NOT NULL UNIQUE,
    patient_tok uuid NOT NULL,
    payer_kind text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'voided')),
    day_case boolean NOT NULL DEFAULT false,
    settlements int NOT NULL DEFAULT 0 CHECK (settlements >= 0),
    receivable_fen bigint NOT NULL DEFAULT 0 CHECK (receivable_fen BETWEEN 0 AND 10000000000000),
    deposits_fen bigint NOT NULL DEFAULT 0 CHECK (deposits_fen BETWEEN 0 AND 10000000000000),
    CONSTRAINT closed_means_paid CHECK (state <> 'closed' OR (receivable_fen = 0 AND deposits_fen = 0)),
    CONSTRAINT voided_means_nothing_owed CHECK (state <> 'voided' OR receivable_fen = 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE account IS 'One account per stay, from first deposit to final settlement (R02). Balances change through posting functions only.';
COMMENT ON COLUMN account.receivable_fen IS 'What the patient owes: the sum of the live charges while the account is open (V14).';
COMMENT ON COLUMN account.deposits_fen IS 'Prepaid money held for the patient, a liability (R52).';
COMMENT ON COLUMN account.day_case IS 'A day-surgery case opened it or passed through it: cancelling a later admission does not undo the day surgery.';

CREATE TABLE stay_ward (
    encounter_id uuid PRIMARY KEY,
    ward text NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE stay_ward IS 'Where each patient lies now, as the bed pool told it, for checks by ward of duty (S1). May be known before the account.';

CREATE TABLE ledger_account (
    id smallint PRIMARY KEY,
    code text NOT NULL UNIQUE,
    balance_kept text NOT NULL CHECK (balance_kept IN ('on_account', 'from_lines')),
    meaning text NOT NULL
);
INSERT INTO ledger_account (id, code, balance_kept, meaning) VALUES
    (1, 'receivable', 'on_account', 'what the patient owes for charges (应收医疗款)'),
    (2, 'deposits', 'on_account', 'prepaid money held for the patient, a liability (预交金)'),
    (10, 'revenue', 'from_lines', 'what was charged (医疗收入)'),
    (11, 'payer_receivable', 'from_lines', 'what insurers and other payers owe (应收医保款)'),
    (20, 'cash', 'from_lines', 'the cash drawers (现金)'),
    (21, 'bank_card', 'from_lines', 'money through card terminals (银行卡)'),
    (22, 'wechat', 'from_lines', 'money through WeChat Pay (微信支付)'),
    (23, 'alipay', 'from_lines', 'money through Alipay (支付宝)'),
    (24, 'bank_transfer', 'from_lines', 'money through bank transfers (银行转账)');
COMMENT ON TABLE ledger_account IS 'The chart of accounts (会计科目). Rows are added by migrations and never change.';

CREATE TABLE settlement (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    number int NOT NULL CHECK (number > 0),
    charged_fen bigint NOT NULL CHECK (charged_fen >= 0),
    deposits_fen bigint NOT NULL CHECK (deposits_fen >= 0),
    payer_fen bigint NOT NULL CHECK (payer_fen >= 0),
    collected_fen bigint NOT NULL CHECK (collected_fen >= 0),
    refunded_fen bigint NOT NULL CHECK (refunded_fen >= 0),
    settled_at timestamptz NOT NULL,
    reopened_at timestamptz,
    reopen_reason text,
    UNIQUE (account_id, number),
    CONSTRAINT nothing_appears_or_vanishes CHECK (charged_fen + refunded_fen = deposits_fen + payer_fen + collected_fen),
    CONSTRAINT collects_or_refunds CHECK (collected_fen = 0 OR refunded_fen = 0),
    CONSTRAINT reopened_with_a_reason CHECK ((reopened_at IS NULL) = (reopen_reason IS NULL))
);
CREATE UNIQUE INDEX settlement_in_force ON settlement (account_id) WHERE reopened_at IS NULL;
COMMENT ON TABLE settlement IS 'Settlement n of an account; at most one is in force (I10). A reopened one stays, the next is n + 1 (V12).';

CREATE TABLE entry (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    kind text NOT NULL CHECK (kind IN (
        'charge', 'deposit', 'deposit_applied', 'rest_refunded', 'collected', 'payer_share', 'reversal')),
    reverses uuid REFERENCES entry,
    deposit_id uuid REFERENCES entry,
    settlement_id uuid REFERENCES settlement DEFERRABLE INITIALLY DEFERRED,
    item text,
    reason text,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT a_charge_names_its_item CHECK ((kind = 'charge') = (item IS NOT NULL)),
    CONSTRAINT a_reversal_names_its_original CHECK ((kind = 'reversal') = (reverses IS NOT NULL)),
    CONSTRAINT a_reversal_has_a_reason CHECK ((kind = 'reversal') = (reason IS NOT NULL)),
    CONSTRAINT a_settlements_child_names_it CHECK (
        (kind IN ('deposit_applied', 'rest_refunded', 'collected', 'payer_share')) = (settlement_id IS NOT NULL)),
    CONSTRAINT what_uses_a_deposit_names_it CHECK ((kind IN ('deposit_applied', 'rest_refunded')) = (deposit_id IS NOT NULL))
);
CREATE UNIQUE INDEX entry_is_reversed_once ON entry (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX entry_by_account ON entry (account_id);
COMMENT ON TABLE entry IS 'What happened to money. Its id is its idempotency key: posting it twice is refused (R52). Never changed or removed; corrections are reversals, each original at most once (R51, V8).';

CREATE TABLE line (
    entry_id uuid NOT NULL,
    ledger_account_id smallint NOT NULL,
    fen bigint NOT NULL CHECK (fen <> 0 AND fen BETWEEN -10000000000000 AND 10000000000000),
    PRIMARY KEY (entry_id, ledger_account_id)
);
COMMENT ON TABLE line IS 'Debit positive, credit negative; each entry has at least two lines and sums to zero at COMMIT (I4).';
COMMENT ON COLUMN line.ledger_account_id IS 'No foreign key: its check would lock the one row of revenue with every charge of the hospital. Posting functions are the only writers, the chart never shrinks, and ledger_violations() looks.';

-- Temporary tables come last, so that nobody can put one of their own in front of the ledger.
SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

-- I4, at COMMIT: whoever inserts an entry or a line, the entry must be there and balance. This is also the foreign key of
-- line to entry, without the row lock that a foreign key would write for each line; entries are never removed.
CREATE FUNCTION refuse_unbalanced_entry() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    of_entry uuid;
    lines int;
    sum_fen numeric;
BEGIN
    IF TG_TABLE_NAME = 'entry' THEN of_entry := NEW.id; ELSE of_entry := NEW.entry_id; END IF;
    SELECT count(line.fen), sum(line.fen) INTO lines, sum_fen
    FROM entry LEFT JOIN line ON line.entry_id = entry.id WHERE entry.id = of_entry;
    IF lines < 2 OR sum_fen <> 0 THEN
        RAISE EXCEPTION 'Entry % has % lines that sum to % fen.', of_entry, lines, coalesce(sum_fen, 0) USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER entry_balances AFTER INSERT ON entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unbalanced_entry();
CREATE CONSTRAINT TRIGGER line_balances AFTER INSERT ON line
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unbalanced_entry();

CREATE FUNCTION refuse_settlement_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.reopened_at IS NOT NULL OR NEW.reopened_at IS NULL
       OR (to_jsonb(NEW) - 'reopened_at' - 'reopen_reason') <> (to_jsonb(OLD) - 'reopened_at' - 'reopen_reason') THEN
        RAISE EXCEPTION 'A settlement can be reopened once and not changed otherwise.' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER entry_is_append_only BEFORE UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entry_is_not_truncated BEFORE TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER line_is_append_only BEFORE UPDATE OR DELETE ON line FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER line_is_not_truncated BEFORE TRUNCATE ON line FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_account_never_changes BEFORE UPDATE OR DELETE ON ledger_account FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_account_is_not_truncated BEFORE TRUNCATE ON ledger_account FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER settlement_only_reopens BEFORE UPDATE ON settlement FOR EACH ROW EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER settlement_is_not_deleted BEFORE DELETE ON settlement FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER settlement_is_not_truncated BEFORE TRUNCATE ON settlement FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER account_is_not_deleted BEFORE DELETE ON account FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER account_is_not_truncated BEFORE TRUNCATE ON account FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- check: SELECT count(*) = 9 FROM ledger_account
-- check: SELECT count(*) = 2 FROM ledger_account WHERE balance_kept = 'on_account'
