-- A large refund needs a second person: one asks, another says yes, and only then the money leaves. A deposit may move to
-- another account of the same patient.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

CREATE TABLE refund_request (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    deposit_entry_id uuid NOT NULL REFERENCES entry,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    asked_by uuid NOT NULL,
    asked_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'done', 'refused')),
    decided_by uuid,
    decided_at timestamptz,
    reason text,
    refund_entry_id uuid UNIQUE REFERENCES entry,
    CONSTRAINT decided_by_somebody CHECK ((state = 'asked') = (decided_by IS NULL) AND (decided_by IS NULL) = (decided_at IS NULL)),
    CONSTRAINT done_by_two_people CHECK (state <> 'done' OR decided_by <> asked_by),
    CONSTRAINT done_is_in_the_ledger CHECK ((state = 'done') = (refund_entry_id IS NOT NULL))
);
CREATE UNIQUE INDEX one_request_of_a_deposit ON refund_request (deposit_entry_id) WHERE state = 'asked';
CREATE INDEX refund_request_open ON refund_request (asked_at, id) WHERE state = 'asked';
COMMENT ON TABLE refund_request IS 'A refund above what one person may give back alone; asked by one, decided by another.';

CREATE FUNCTION refuse_request_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'asked' OR (NEW.id, NEW.account_id, NEW.deposit_entry_id, NEW.amount_fen, NEW.asked_by, NEW.asked_at)
       IS DISTINCT FROM (OLD.id, OLD.account_id, OLD.deposit_entry_id, OLD.amount_fen, OLD.asked_by, OLD.asked_at) THEN
        RAISE EXCEPTION 'What was asked does not change, and it is decided once.' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER request_is_only_decided BEFORE UPDATE ON refund_request FOR EACH ROW EXECUTE FUNCTION refuse_request_change();
CREATE TRIGGER request_is_not_deleted BEFORE DELETE ON refund_request FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE deposit_move (
    out_entry_id uuid PRIMARY KEY REFERENCES entry,
    in_entry_id uuid NOT NULL UNIQUE REFERENCES entry,
    moved_by uuid
);
COMMENT ON TABLE deposit_move IS 'Prepaid money that went from one account of a patient to another: what gave it back, and what took it in. The money itself did not move.';
CREATE TRIGGER deposit_move_is_append_only BEFORE UPDATE OR DELETE ON deposit_move FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_uneven_move() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (SELECT sum(l.fen) FROM line l WHERE l.entry_id IN (NEW.out_entry_id, NEW.in_entry_id) AND l.ledger_account_id >= 20) <> 0
       OR (SELECT count(DISTINCT a.patient_tok) FROM entry e JOIN account a ON a.id = e.account_id
           WHERE e.id IN (NEW.out_entry_id, NEW.in_entry_id)) <> 1 THEN
        RAISE EXCEPTION 'What leaves one account of a patient comes into another one of the same patient, to the fen and in the same money.'
            USING ERRCODE = '23514', CONSTRAINT = 'moves_are_even';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER moves_are_even AFTER INSERT ON deposit_move FOR EACH ROW EXECUTE FUNCTION refuse_uneven_move();

-- check: SELECT count(*) = 0 FROM deposit_move
-- check: SELECT count(*) = 0 FROM refund_request
