-- What insight keeps. Every table can be emptied, so none writes to the WAL: after a crash the topics fill them again (spans are lost).

CREATE UNLOGGED TABLE event_seen (
    event_id uuid PRIMARY KEY,
    type text NOT NULL,
    topic text NOT NULL,
    part int NOT NULL,
    kafka_offset bigint NOT NULL,
    aggregate_id text NOT NULL,
    version int NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    encounter_id uuid,
    correlation_id uuid,
    causation_id uuid,
    traceparent text,
    source text NOT NULL
);
COMMENT ON TABLE event_seen IS 'Where each event lies and what caused it; its body stays in the topic.';
CREATE INDEX event_seen_by_encounter ON event_seen (encounter_id) WHERE encounter_id IS NOT NULL;
CREATE INDEX event_seen_by_correlation ON event_seen (correlation_id) WHERE correlation_id IS NOT NULL;

CREATE UNLOGGED TABLE event_index_position (
    topic text NOT NULL,
    part int NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, part)
) WITH (fillfactor = 50);
COMMENT ON TABLE event_index_position IS 'Records below are in event_seen already; written in the same transaction.';

CREATE TABLE span (
    slot smallint NOT NULL,
    trace_id text NOT NULL,
    span_id text NOT NULL,
    parent_span_id text,
    service text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    started_at timestamptz NOT NULL,
    duration_us bigint NOT NULL,
    failed boolean NOT NULL,
    encounter_id uuid,
    attributes text NOT NULL,
    links text NOT NULL
) PARTITION BY LIST (slot);
COMMENT ON TABLE span IS 'Spans by day of arrival modulo 3: the slot of the day before yesterday is emptied before it is filled again.';
COMMENT ON COLUMN span.attributes IS 'JSON as text, because COPY takes text as it is.';
CREATE UNLOGGED TABLE span_0 PARTITION OF span FOR VALUES IN (0);
CREATE UNLOGGED TABLE span_1 PARTITION OF span FOR VALUES IN (1);
CREATE UNLOGGED TABLE span_2 PARTITION OF span FOR VALUES IN (2);
CREATE INDEX span_by_trace ON span (trace_id);
CREATE INDEX span_by_encounter ON span (encounter_id) WHERE encounter_id IS NOT NULL;
CREATE INDEX span_by_start ON span (started_at);

-- The service's role may not truncate; this empties exactly one slot.
CREATE FUNCTION empty_span_slot(wanted int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    CASE wanted
        WHEN 0 THEN TRUNCATE span_0;
        WHEN 1 THEN TRUNCATE span_1;
        WHEN 2 THEN TRUNCATE span_2;
    END CASE;
END $$;

-- check: SELECT count(*) = 3 FROM pg_inherits WHERE inhparent = 'span'::regclass
-- check: SELECT prosecdef FROM pg_proc WHERE oid = 'empty_span_slot'::regproc
