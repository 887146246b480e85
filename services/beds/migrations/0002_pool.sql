-- The hospital-wide pool (R03, R07, R36, R38, R44): what a bed and a ward are like, cleaning, refusals, decisions that explain themselves.

ALTER TABLE ward
    ADD COLUMN name_zh text NOT NULL DEFAULT '',
    ADD COLUMN name_en text NOT NULL DEFAULT '',
    ADD COLUMN auxiliary text[] NOT NULL DEFAULT '{}',
    ADD COLUMN exclusive boolean NOT NULL DEFAULT false,
    ADD COLUMN age_min int NOT NULL DEFAULT 0 CHECK (age_min >= 0),
    ADD COLUMN age_max int NOT NULL DEFAULT 130 CHECK (age_max <= 130),
    ADD COLUMN open boolean NOT NULL DEFAULT true,
    ADD COLUMN closed_reason text,
    ADD CONSTRAINT ages_in_order CHECK (age_min <= age_max),
    ADD CONSTRAINT closed_for_a_reason CHECK (open = (closed_reason IS NULL));
COMMENT ON COLUMN ward.exclusive IS 'Takes only its own specialties: intensive care, maternity, paediatrics.';

ALTER TABLE bed
    ADD COLUMN class text NOT NULL DEFAULT 'standard' CHECK (class IN ('standard', 'single', 'vip')),
    ADD COLUMN equipment text[] NOT NULL DEFAULT '{}',
    ADD COLUMN extra boolean NOT NULL DEFAULT false,
    ADD COLUMN quota text,
    ADD COLUMN suspended_reason text,
    ADD COLUMN suspended_until timestamptz,
    ADD COLUMN cleaning text CHECK (cleaning IN ('requested', 'started', 'suspended')),
    ADD COLUMN cleaning_requested_at timestamptz,
    ADD COLUMN cleaning_started_at timestamptz,
    ADD COLUMN since timestamptz,
    ADD COLUMN until timestamptz,
    ADD COLUMN isolation_patient boolean NOT NULL DEFAULT false,
    ADD COLUMN changed xid8 NOT NULL DEFAULT pg_current_xact_id();
UPDATE bed SET cleaning = 'requested', cleaning_requested_at = now() WHERE condition IN ('H', 'K');
ALTER TABLE bed
    ADD CONSTRAINT cleaning_is_of_dirty_beds CHECK ((condition IN ('H', 'K')) = (cleaning IS NOT NULL)),
    ADD CONSTRAINT suspended_for_a_reason CHECK ((service = 'suspended') <= (suspended_reason IS NOT NULL));
ALTER TABLE bed DROP CONSTRAINT bed_commitment_check;
ALTER TABLE bed ADD CONSTRAINT bed_commitment_check CHECK (commitment IN ('free', 'held', 'active', 'leave'));
COMMENT ON COLUMN bed.until IS 'While held: when the hold ends. While occupied: when the patient is expected to leave.';
COMMENT ON COLUMN bed.changed IS 'Transaction that changed the row last: who read everything below a horizon reads on from there and misses nothing.';

CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER bed_notes_its_change BEFORE UPDATE ON bed FOR EACH ROW EXECUTE FUNCTION note_change();

ALTER TABLE bed_request
    ADD COLUMN age_years int,
    ADD COLUMN class text NOT NULL DEFAULT 'any' CHECK (class IN ('any', 'standard', 'single', 'vip')),
    ADD COLUMN equipment text[] NOT NULL DEFAULT '{}',
    ADD COLUMN stay_days int,
    ADD COLUMN partner text,
    ADD COLUMN refused_wards text[] NOT NULL DEFAULT '{}',
    ADD COLUMN refused_beds bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN place_at timestamptz,
    ADD COLUMN leaving_at timestamptz,
    ADD COLUMN discharge_ordered_at timestamptz;
COMMENT ON COLUMN bed_request.place_at IS 'Since when this request has its place, when a refusal cost it the old one.';

CREATE TABLE decision (
    encounter_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    bed_id bigint NOT NULL,
    actor uuid,
    rules_version int NOT NULL,
    explanation jsonb NOT NULL,
    override_reason text,
    PRIMARY KEY (encounter_id, at)
);
ALTER TABLE decision ALTER COLUMN explanation SET STATISTICS 0;
COMMENT ON TABLE decision IS 'Why this bed and not the next three, with what was seen of them: each decision can be taken again from it (R38).';
CREATE TRIGGER decision_is_append_only BEFORE UPDATE OR DELETE ON decision FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER decision_is_not_truncated BEFORE TRUNCATE ON decision FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE rule_set (
    version int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    weights jsonb NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by uuid
);
COMMENT ON TABLE rule_set IS 'Weights of the soft rules; the newest holds, the others explain decisions of their time.';

CREATE TABLE queue_link (
    token_hash bytea PRIMARY KEY,
    encounter_id uuid NOT NULL REFERENCES bed_request,
    first_place int,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE queue_link IS 'A patient sees the own place by a link without login and without names (R10); only the hash of its token is kept.';

-- check: SELECT count(*) = 0 FROM bed WHERE (condition IN ('H', 'K')) <> (cleaning IS NOT NULL)
