-- Day-surgery cases (2-domain.md section 1) and what this service knows of patients: token, sex, birth year (S4).

CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;

CREATE TABLE patient (
    patient_tok uuid PRIMARY KEY,
    sex text NOT NULL CHECK (sex IN ('male', 'female', 'unknown')),
    birth_year int
);
COMMENT ON TABLE patient IS 'Learned from admission.patients.v1; locked while a slot of the patient is chosen.';

CREATE TABLE day_case (
    case_id uuid PRIMARY KEY,
    encounter_id uuid NOT NULL UNIQUE,
    patient_tok uuid NOT NULL REFERENCES patient,
    identifier_system text,
    identifier_value text,
    procedure_code text NOT NULL,
    catalogue_version int NOT NULL,
    payer_kind text NOT NULL,
    state text NOT NULL CHECK (state IN ('referred', 'booking_asked', 'waitlisted', 'booked', 'arrived', 'in_theatre',
                                         'operated', 'discharged', 'converted', 'cancelled')),
    referred_at timestamptz NOT NULL,
    starts_at timestamptz,
    ends_at timestamptz,
    bed_id bigint,
    ward text,
    waiting_reason text,
    arrived_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    ended_at timestamptz,
    disposition text CHECK (disposition IN ('1', '2', '3', '4', '5', '9')),
    specialty text,
    cancelled_by text CHECK (cancelled_by IN ('patient', 'hospital')),
    cancel_reason text,
    cancelled_temporarily boolean,
    version int NOT NULL DEFAULT 1,
    CHECK ((identifier_system IS NULL) = (identifier_value IS NULL)),
    CHECK ((starts_at IS NULL) = (ends_at IS NULL)),
    CHECK (ends_at > starts_at AND ends_at <= starts_at + interval '24 hours'),
    CHECK (state IN ('referred', 'cancelled') OR starts_at IS NOT NULL),
    CHECK (state NOT IN ('booked', 'arrived', 'in_theatre', 'operated', 'converted') OR bed_id IS NOT NULL),
    CHECK (state NOT IN ('arrived', 'in_theatre', 'operated', 'discharged', 'converted') OR arrived_at IS NOT NULL),
    CHECK (state <> 'in_theatre' OR started_at IS NOT NULL),
    CHECK (state <> 'operated' OR finished_at IS NOT NULL),
    CHECK ((state = 'discharged') = (disposition IS NOT NULL)),
    CHECK ((state = 'converted') = (specialty IS NOT NULL)),
    CHECK ((state = 'cancelled') = (cancelled_by IS NOT NULL)),
    CHECK ((state IN ('discharged', 'converted', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (arrived_at <= coalesce(started_at, arrived_at) AND started_at <= coalesce(finished_at, started_at)),
    CHECK (ended_at >= coalesce(finished_at, started_at, arrived_at, ended_at)),
    CONSTRAINT one_case_at_a_time EXCLUDE USING gist (patient_tok WITH =, tstzrange(starts_at, ends_at) WITH &&)
        WHERE (state IN ('booking_asked', 'waitlisted', 'booked', 'arrived', 'in_theatre', 'operated'))
) WITH (fillfactor = 70);
COMMENT ON COLUMN day_case.catalogue_version IS 'The catalogue the procedure was admitted by; it does not change when the catalogue grows (R22).';
CREATE UNIQUE INDEX case_by_identifier ON day_case (identifier_value, identifier_system);
CREATE INDEX case_by_slot ON day_case (starts_at, case_id) WHERE starts_at IS NOT NULL;
CREATE INDEX case_by_patient ON day_case (patient_tok);

-- check: SELECT count(*) = 0 FROM day_case WHERE state = 'booked' AND bed_id IS NULL
-- check: SELECT count(*) = 1 FROM pg_constraint WHERE conname = 'one_case_at_a_time' AND conrelid = 'day_case'::regclass
