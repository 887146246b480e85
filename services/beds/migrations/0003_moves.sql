-- Shared beds, announced moves, leaves, silent wards, travel, milestones: tables beside the claims, which go on refusing everybody else (V1, V16).

ALTER TABLE bed_request
    ADD COLUMN share_id uuid,
    ADD COLUMN guests int NOT NULL DEFAULT 0 CHECK (guests >= 0),
    ADD COLUMN move_id uuid,
    ADD COLUMN leave_id uuid,
    ADD COLUMN last_bed_id bigint,
    ADD COLUMN travel_minutes int CHECK (travel_minutes >= 0),
    ADD COLUMN accepted_at timestamptz,
    ADD COLUMN escalated_at timestamptz,
    ADD COLUMN expected_at timestamptz;
UPDATE bed_request r SET last_bed_id = (SELECT c.bed_id FROM bed_claim c WHERE c.patient_tok = r.patient_tok AND c.encounter_id = r.encounter_id
                                        AND c.state = 'closed' ORDER BY upper(c.during) DESC LIMIT 1)
    WHERE r.recalled AND r.state IN ('waiting', 'assigned');
COMMENT ON COLUMN bed_request.last_bed_id IS 'Where a patient lay who is in the house and waits for a bed: that one was left, should the patient go home.';
COMMENT ON COLUMN bed_request.share_id IS 'In place of claim_id: the bed is the host''s, and this patient shares it as declared.';
COMMENT ON COLUMN bed_request.guests IS 'How many share this stay''s bed now; like move_id and leave_id it is here so that whoever locks the stay knows it.';
COMMENT ON COLUMN bed_request.expected_at IS 'Expected day of leaving (EDD) as somebody said it; without one the days asked for at admission hold.';
ALTER TABLE bed_request DROP CONSTRAINT bed_request_check;
ALTER TABLE bed_request ADD CONSTRAINT lies_in_one_place
    CHECK (state NOT IN ('assigned', 'arrived') OR (bed_id IS NOT NULL AND num_nonnulls(claim_id, share_id) = 1));
CREATE INDEX request_escalated ON bed_request (escalated_at) WHERE state = 'assigned' AND escalated_at IS NOT NULL;

CREATE TABLE bed_share (
    id uuid PRIMARY KEY,
    host_id uuid NOT NULL REFERENCES bed_request,
    kind text NOT NULL CHECK (kind IN ('newborn', 'companion')),
    guest_id uuid REFERENCES bed_request,
    guest_tok uuid,
    during tstzrange NOT NULL CHECK (NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during) AND NOT lower_inf(during)),
    ended_reason text,
    CHECK ((kind = 'newborn') = (guest_id IS NOT NULL)),
    CHECK ((guest_id IS NULL) = (guest_tok IS NULL)),
    CHECK (guest_id <> host_id),
    CHECK (upper_inf(during) = (ended_reason IS NULL)),
    CONSTRAINT one_share EXCLUDE USING gist (guest_tok WITH =, during WITH &&),
    CONSTRAINT one_companion EXCLUDE USING gist (host_id WITH =, during WITH &&) WHERE (kind = 'companion')
);
CREATE INDEX share_by_host ON bed_share (host_id) WHERE upper_inf(during);
COMMENT ON TABLE bed_share IS 'Who else stays in a patient''s bed or at it. It hangs on the host''s stay, not on a bed: so it moves with the host, and no claim is ever shared.';

CREATE FUNCTION shares_lie_with_their_host() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    host uuid := CASE WHEN TG_TABLE_NAME = 'bed_share' THEN (to_jsonb(NEW) ->> 'host_id')::uuid ELSE (to_jsonb(NEW) ->> 'encounter_id')::uuid END;
BEGIN
    -- Whoever moves the host at the same moment waits here, or is waited for: then one of the two sees the other.
    PERFORM FROM bed_request WHERE encounter_id = host FOR SHARE;
    PERFORM FROM bed_share s JOIN bed_request h ON h.encounter_id = s.host_id LEFT JOIN bed_request g ON g.encounter_id = s.guest_id
        WHERE s.host_id = host AND upper_inf(s.during) AND (h.state <> 'arrived' OR h.share_id IS NOT NULL
            OR (s.guest_id IS NOT NULL AND (g.share_id, g.bed_id, g.state IN ('assigned', 'arrived')) IS DISTINCT FROM (s.id, h.bed_id, true)));
    IF FOUND OR (SELECT guests FROM bed_request WHERE encounter_id = host)
             <> (SELECT count(*) FROM bed_share WHERE host_id = host AND upper_inf(during)) THEN
        RAISE EXCEPTION 'somebody shares a bed in which the host does not lie'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'shares_lie_with_their_host', TABLE = 'bed_share';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER share_lies_with_its_host AFTER INSERT OR UPDATE ON bed_share DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION shares_lie_with_their_host();
CREATE CONSTRAINT TRIGGER host_takes_guests_along AFTER UPDATE OF state, bed_id, guests ON bed_request DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.guests > 0 OR NEW.guests > 0)) EXECUTE FUNCTION shares_lie_with_their_host();
CREATE FUNCTION guest_stays_with_host() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM bed_share s JOIN bed_request g ON g.encounter_id = s.guest_id JOIN bed_request h ON h.encounter_id = s.host_id
        WHERE s.guest_id = NEW.encounter_id AND upper_inf(s.during)
        AND (g.share_id, g.bed_id, g.state IN ('assigned', 'arrived')) IS DISTINCT FROM (s.id, h.bed_id, true);
    IF FOUND OR EXISTS (SELECT FROM bed_request g LEFT JOIN bed_share s ON s.id = g.share_id AND upper_inf(s.during)
                        WHERE g.encounter_id = NEW.encounter_id AND g.share_id IS NOT NULL AND g.state IN ('assigned', 'arrived')
                        AND s.guest_id IS DISTINCT FROM g.encounter_id) THEN
        RAISE EXCEPTION 'a guest shares a bed without a share, or has a share without the bed'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'guest_stays_with_host', TABLE = 'bed_share';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER guest_stays_with_host AFTER UPDATE OF state, bed_id, share_id ON bed_request DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.share_id IS NOT NULL OR NEW.share_id IS NOT NULL)) EXECUTE FUNCTION guest_stays_with_host();

CREATE TABLE bed_move (
    id uuid PRIMARY KEY,
    encounter_id uuid NOT NULL REFERENCES bed_request,
    state text NOT NULL CHECK (state IN ('wanted', 'announced', 'done', 'cancelled')),
    reason text NOT NULL,
    urgent boolean NOT NULL DEFAULT false,
    bed_id bigint REFERENCES bed,
    claim_id uuid REFERENCES bed_claim,
    planned_at timestamptz,
    requested_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_reason text,
    CHECK (state <> 'announced' OR num_nonnulls(bed_id, claim_id, planned_at) = 3),
    CHECK (state <> 'wanted' OR num_nonnulls(bed_id, claim_id) = 0),
    CHECK ((state IN ('done', 'cancelled')) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX one_open_move ON bed_move (encounter_id) WHERE state IN ('wanted', 'announced');
COMMENT ON TABLE bed_move IS 'Moves of patients who lie in a bed: wanted since it broke down (BED-6), announced with the new bed held (A15), done or cancelled.';

CREATE TABLE bed_leave (
    id uuid PRIMARY KEY,
    encounter_id uuid NOT NULL REFERENCES bed_request,
    bed_id bigint NOT NULL REFERENCES bed,
    started_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    ended_at timestamptz,
    cancelled boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX one_open_leave ON bed_leave (encounter_id) WHERE ended_at IS NULL AND NOT cancelled;

CREATE TABLE discharge_step (
    encounter_id uuid NOT NULL REFERENCES bed_request,
    milestone text NOT NULL,
    reached_at timestamptz,
    delay_reason text,
    PRIMARY KEY (encounter_id, milestone)
);
COMMENT ON TABLE discharge_step IS 'How far a patient is on the way home, and why a step is late; which steps there are is data (BED-11).';

ALTER TABLE bed ADD COLUMN quota_told_on date;
COMMENT ON COLUMN bed.quota_told_on IS 'The day for which the release of the partner''s bed was announced last (R36).';
CREATE INDEX bed_with_quota ON bed (bed_id) WHERE quota IS NOT NULL;

-- check: SELECT count(*) = 0 FROM bed_request WHERE state IN ('assigned', 'arrived') AND num_nonnulls(claim_id, share_id) <> 1
