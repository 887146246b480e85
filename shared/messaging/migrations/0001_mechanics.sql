-- Mechanics every service has in its own schema: outbox, relay, inbox, parking, idempotency, audit. See docs/adr/0001 and 0002.

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    aggregate_id text NOT NULL,
    version int NOT NULL CHECK (version > 0),
    type text NOT NULL,
    body jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    correlation_id uuid,
    causation_id uuid,
    actor uuid,
    source text NOT NULL DEFAULT 'live',
    traceparent text,
    UNIQUE (aggregate_id, version)
);
COMMENT ON TABLE outbox IS 'Every event this service ever announced, kept at least 13 months; the topics can be rebuilt from it (R6).';

CREATE TABLE outbox_unsent (
    id bigint PRIMARY KEY,
    resend boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE outbox_unsent IS 'Outbox rows the broker has not acknowledged yet. A row per event, not a cursor: ids commit out of order (R8).';

CREATE TABLE relay (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL DEFAULT 0
);
INSERT INTO relay DEFAULT VALUES;
COMMENT ON TABLE relay IS 'Fencing: marking as sent needs the newest epoch (R7).';

CREATE TABLE relay_sent (
    topic text NOT NULL,
    part int NOT NULL,
    events bigint NOT NULL DEFAULT 0,
    version_sum numeric NOT NULL DEFAULT 0,
    digest numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, part)
) WITH (fillfactor = 50);
COMMENT ON TABLE relay_sent IS 'What the beacon says: how many events, and which, each partition holds (R11).';

CREATE TABLE consumed (
    topic text NOT NULL,
    part int NOT NULL,
    next_offset bigint NOT NULL,
    events bigint NOT NULL DEFAULT 0,
    version_sum numeric NOT NULL DEFAULT 0,
    digest numeric NOT NULL DEFAULT 0,
    stream_epoch int NOT NULL DEFAULT 0,
    halted_reason text,
    PRIMARY KEY (topic, part)
) WITH (fillfactor = 50);
COMMENT ON TABLE consumed IS 'The truth about what was consumed; offsets in Kafka are a courtesy (R14).';

CREATE TABLE inbox (
    topic text NOT NULL,
    aggregate_id text NOT NULL,
    version int NOT NULL,
    parked boolean NOT NULL DEFAULT false,
    PRIMARY KEY (topic, aggregate_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE inbox IS 'Last applied version of each aggregate: a lower one is a duplicate, a jump is a gap (R12, R16).';

CREATE TABLE parked (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    part int NOT NULL,
    kafka_offset bigint NOT NULL,
    aggregate_id text NOT NULL,
    version int,
    event_id uuid,
    type text,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    handler text NOT NULL,
    reason text NOT NULL,
    attempts int NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL DEFAULT 'parked' CHECK (status IN ('parked', 'retried', 'discarded')),
    wanted text CHECK (wanted IN ('retry', 'discard')),
    wanted_by uuid,
    resolved_by uuid,
    resolved_at timestamptz,
    UNIQUE (topic, part, kafka_offset)
);
CREATE INDEX parked_open ON parked (topic, aggregate_id, version) WHERE status = 'parked';

CREATE TABLE idem (
    actor uuid NOT NULL,
    key text NOT NULL,
    route text NOT NULL,
    body_hash bytea NOT NULL,
    status smallint NOT NULL,
    response text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (actor, key)
);
COMMENT ON TABLE idem IS 'The answer given to each Idempotency-Key, so that a repeated request changes nothing (R1).';

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor uuid,
    role text NOT NULL,
    action text NOT NULL,
    object_type text NOT NULL,
    object_id text,
    patient_tok uuid,
    purpose text,
    outcome text NOT NULL
);
CREATE INDEX audit_by_patient ON audit (patient_tok, id) WHERE patient_tok IS NOT NULL;
CREATE INDEX audit_by_actor ON audit USING hash (actor);
CREATE INDEX audit_by_tx ON audit USING brin ((tx::text::bigint)) WITH (autosummarize = on);

CREATE TABLE audit_seal (
    seq bigint PRIMARY KEY,
    from_tx xid8 NOT NULL,
    to_tx xid8 NOT NULL,
    rows bigint NOT NULL,
    row_digests bytea NOT NULL,
    hash bytea NOT NULL,
    prev_hash bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Rows that are only ever added and found by key: statistics over their long texts, and early passes of autovacuum, would cost
-- more write-ahead log than they save (ADR 0002).
ALTER TABLE outbox ALTER COLUMN event_id SET STATISTICS 0, ALTER COLUMN body SET STATISTICS 0, ALTER COLUMN traceparent SET STATISTICS 0;
ALTER TABLE idem ALTER COLUMN key SET STATISTICS 0, ALTER COLUMN body_hash SET STATISTICS 0, ALTER COLUMN response SET STATISTICS 0;
ALTER TABLE audit ALTER COLUMN object_id SET STATISTICS 0;
ALTER TABLE outbox SET (autovacuum_analyze_threshold = 10000, autovacuum_vacuum_insert_threshold = 100000);
ALTER TABLE idem SET (autovacuum_analyze_threshold = 10000, autovacuum_vacuum_insert_threshold = 100000);
ALTER TABLE audit SET (autovacuum_analyze_threshold = 10000, autovacuum_vacuum_insert_threshold = 100000);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or removed', TG_TABLE_NAME USING ERRCODE = '42501';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_seal_is_append_only BEFORE UPDATE OR DELETE ON audit_seal FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_seal_is_not_truncated BEFORE TRUNCATE ON audit_seal FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER outbox_is_append_only BEFORE UPDATE OR DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER outbox_is_not_truncated BEFORE TRUNCATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- check: SELECT count(*) = 1 FROM relay
-- check: SELECT count(*) = 0 FROM outbox_unsent u LEFT JOIN outbox o USING (id) WHERE o.id IS NULL
