-- Patients by token and the life of a stay (2-domain.md section 1).

CREATE TABLE patient (
    patient_tok uuid PRIMARY KEY,
    sex text NOT NULL CHECK (sex IN ('male', 'female', 'unknown')),
    birth_date date,
    registered_at timestamptz NOT NULL
);

CREATE TABLE patient_identity (
    patient_tok uuid PRIMARY KEY REFERENCES patient,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    phone text CHECK (length(phone) <= 40)
);
COMMENT ON TABLE patient_identity IS 'The only place a name is kept; it never leaves this schema (S4).';

CREATE TABLE patient_identifier (
    system text NOT NULL CHECK (length(system) BETWEEN 1 AND 120),
    value text NOT NULL CHECK (length(value) BETWEEN 1 AND 120),
    patient_tok uuid NOT NULL REFERENCES patient,
    PRIMARY KEY (system, value)
);

CREATE TABLE encounter (
    encounter_id uuid PRIMARY KEY,
    patient_tok uuid NOT NULL REFERENCES patient,
    identifier_system text,
    identifier_value text,
    class text NOT NULL DEFAULT 'inpatient' CHECK (class IN ('inpatient', 'day_surgery')),
    state text NOT NULL CHECK (state IN ('pre_admitted', 'waitlisted', 'pending_admit', 'admitted', 'discharge_ordered',
                                         'discharged', 'cancelled', 'admission_cancelled')),
    urgency text NOT NULL,
    specialty text NOT NULL,
    payer_kind text NOT NULL,
    isolation text NOT NULL,
    level_of_care text NOT NULL,
    expected_stay_days int NOT NULL,
    paperwork_pending boolean NOT NULL DEFAULT false,
    waiting_reason text,
    bed_id bigint,
    bed_code text,
    ward text,
    live_charges int NOT NULL DEFAULT 0,
    registered_at timestamptz NOT NULL,
    admitted_at timestamptz,
    discharge_ordered_at timestamptz,
    discharged_at timestamptz,
    disposition text CHECK (disposition IN ('1', '2', '3', '4', '5', '9')),
    settled_at timestamptz,
    bed_released_at timestamptz,
    version int NOT NULL DEFAULT 1,
    CHECK ((state IN ('admitted', 'discharge_ordered', 'discharged', 'admission_cancelled')) = (admitted_at IS NOT NULL)),
    CHECK ((state = 'discharged') = (discharged_at IS NOT NULL)),
    CHECK ((state = 'discharged') = (disposition IS NOT NULL)),
    CHECK (discharged_at IS NULL OR discharged_at >= admitted_at)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX encounter_by_identifier ON encounter (identifier_system, identifier_value) WHERE identifier_value IS NOT NULL;
CREATE UNIQUE INDEX one_open_stay_per_patient ON encounter (patient_tok) WHERE state IN ('admitted', 'discharge_ordered');
CREATE INDEX encounter_by_patient ON encounter (patient_tok);
CREATE INDEX encounter_by_state ON encounter (state, encounter_id) WHERE state NOT IN ('discharged', 'cancelled', 'admission_cancelled');

CREATE TABLE converted_case (
    encounter_id uuid PRIMARY KEY REFERENCES encounter,
    case_id uuid NOT NULL UNIQUE
);
COMMENT ON TABLE converted_case IS 'Day cases that became stays on the same encounter (DAY-6).';

-- check: SELECT count(*) = 0 FROM encounter WHERE state = 'admitted' AND admitted_at IS NULL
