-- Follow-up archives, what is known of stays, plans and all their tasks (4-reliability R33, 2-domain.md section 1).

CREATE TABLE archive (
    patient_tok uuid PRIMARY KEY,
    deceased_at timestamptz
);
COMMENT ON TABLE archive IS 'The follow-up archive (随访档案) of a patient, by token (R30). Locked while anything of the patient''s plans is decided.';
COMMENT ON COLUMN archive.deceased_at IS 'Learned in a follow-up contact; a death in hospital is disposition 5 of a stay.';

CREATE TABLE stay (
    encounter_id uuid PRIMARY KEY,
    patient_tok uuid NOT NULL REFERENCES archive,
    began_at timestamptz,
    left_at timestamptz,
    ending text CHECK (ending IN ('discharged', 'cancelled')),
    disposition text CHECK (disposition IN ('1', '2', '3', '4', '5', '9')),
    CHECK ((ending IS NULL) = (left_at IS NULL)),
    CHECK ((ending IS NOT DISTINCT FROM 'discharged') = (disposition IS NOT NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE stay IS 'What admission and day surgery said of each stay; plans follow from it, whatever the order of events.';
CREATE INDEX stay_by_patient ON stay (patient_tok);

CREATE TABLE plan (
    plan_id uuid PRIMARY KEY,
    encounter_id uuid NOT NULL UNIQUE REFERENCES stay,
    patient_tok uuid NOT NULL,
    template text NOT NULL,
    items text[] NOT NULL CHECK (cardinality(items) > 0),
    state text NOT NULL CHECK (state IN ('active', 'on_hold', 'completed', 'revoked')),
    reason text,
    discharged_at timestamptz NOT NULL,
    disposition text NOT NULL CHECK (disposition IN ('1', '2', '3', '4', '5', '9')),
    CHECK ((state IN ('on_hold', 'revoked')) = (reason IS NOT NULL))
) WITH (fillfactor = 70);
COMMENT ON COLUMN plan.items IS 'What the template promised at the discharge; the tasks must be exactly these (I16).';
CREATE INDEX plan_by_patient ON plan (patient_tok);

CREATE TABLE task (
    task_id uuid PRIMARY KEY,
    plan_id uuid NOT NULL REFERENCES plan,
    item text NOT NULL,
    executor text NOT NULL CHECK (executor IN ('hospital_nurse', 'primary_care')),
    place text,
    method text NOT NULL,
    opens_after_hours int NOT NULL,
    closes_after_hours int NOT NULL CHECK (closes_after_hours > opens_after_hours),
    due_from_at timestamptz NOT NULL,
    due_to_at timestamptz NOT NULL CHECK (due_to_at > due_from_at),
    state text NOT NULL CHECK (state IN ('requested', 'on_hold', 'completed', 'missed', 'cancelled', 'not_needed')),
    outcome text,
    completed_at timestamptz,
    missed_at timestamptz,
    escalated_to text CHECK (escalated_to IN ('hospital_nurse', 'primary_care')),
    UNIQUE (plan_id, item),
    CHECK ((state = 'completed') = (completed_at IS NOT NULL AND outcome IS NOT NULL)),
    CHECK (state <> 'missed' OR (missed_at IS NOT NULL AND escalated_to IS NOT NULL))
) WITH (fillfactor = 70);
COMMENT ON COLUMN task.state IS 'not_needed: the whole window was over when the discharge was imported; nobody can be called in the past.';
COMMENT ON COLUMN task.place IS 'The community place that does it; empty: the hospital.';
COMMENT ON CONSTRAINT task_plan_id_item_key ON task IS 'A stay has one plan and each promise of it one task, however often the discharge is heard (R33).';
CREATE INDEX task_open ON task (due_to_at, task_id) WHERE state IN ('requested', 'missed');

CREATE FUNCTION lock_archive(p_patient uuid, p_encounter uuid, p_since timestamptz) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_deceased boolean;
    v_plans jsonb;
    v_encounters uuid[];
    v_since timestamptz;
BEGIN
    INSERT INTO archive (patient_tok) VALUES (p_patient) ON CONFLICT DO NOTHING;
    SELECT deceased_at IS NOT NULL INTO v_deceased FROM archive WHERE patient_tok = p_patient FOR UPDATE;
    -- Each statement of a volatile function sees what was committed while it waited for the lock above.
    PERFORM FROM plan WHERE patient_tok = p_patient AND (state <> 'completed' OR encounter_id = p_encounter)
        ORDER BY plan_id FOR UPDATE;
    IF FOUND THEN
        SELECT jsonb_agg(to_jsonb(p) || jsonb_build_object('tasks', (
                   SELECT jsonb_agg(to_jsonb(t) ORDER BY t.opens_after_hours, t.item) FROM task t WHERE t.plan_id = p.plan_id))),
               array_agg(p.encounter_id), min(p.discharged_at)
            INTO v_plans, v_encounters, v_since
            FROM plan p WHERE p.patient_tok = p_patient AND (p.state <> 'completed' OR p.encounter_id = p_encounter);
    END IF;
    RETURN jsonb_build_object(
        'deceased', v_deceased,
        'plans', coalesce(v_plans, '[]'),
        'stays', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM stay s WHERE s.patient_tok = p_patient AND (
            s.encounter_id = p_encounter OR s.encounter_id = ANY(v_encounters) OR s.ending IS NULL OR s.disposition = '5'
            OR s.left_at > least(p_since, v_since))));
END $$;
COMMENT ON FUNCTION lock_archive IS 'Locks a patient''s archive and plans that are not over, then returns them with the stays that matter since p_since.';

CREATE FUNCTION followup_violations() RETURNS TABLE ("check" text, object text, detail text) LANGUAGE sql STABLE AS $$
    SELECT 'discharge_without_plan', s.encounter_id::text, 'a living patient was discharged and nobody will ask how it goes'
    FROM stay s LEFT JOIN plan p USING (encounter_id)
    WHERE s.ending = 'discharged' AND s.disposition <> '5' AND p.plan_id IS NULL
    UNION ALL
    SELECT 'plan_differs_from_tasks', p.plan_id::text, format('planned %s, there are %s', p.items, t.items)
    FROM plan p LEFT JOIN LATERAL (SELECT array_agg(item ORDER BY opens_after_hours, item) AS items FROM task WHERE plan_id = p.plan_id) t ON true
    WHERE t.items IS DISTINCT FROM p.items
    UNION ALL
    SELECT 'plan_differs_from_stay', p.plan_id::text, format('plan %s, stay %s', p.state, coalesce(s.ending, 'in hospital'))
    FROM plan p JOIN stay s USING (encounter_id)
    WHERE (p.state = 'active' AND s.ending IS DISTINCT FROM 'discharged')
       OR (p.state IN ('active', 'completed') AND s.ending = 'discharged' AND s.disposition <> '5'
           AND (s.left_at, s.disposition) IS DISTINCT FROM (p.discharged_at, p.disposition))
    UNION ALL
    SELECT 'plan_state_differs_from_tasks', p.plan_id::text, format('a task is %s under a plan that is %s', t.state, p.state)
    FROM plan p JOIN task t USING (plan_id)
    WHERE (t.state IN ('requested', 'missed') AND p.state <> 'active') OR (t.state = 'on_hold' AND p.state <> 'on_hold')
       OR (t.state = 'cancelled' AND p.state <> 'revoked')
    UNION ALL
    SELECT 'active_plan_without_open_task', p.plan_id::text, 'nobody is to be contacted, yet the plan is active'
    FROM plan p
    WHERE p.state = 'active' AND NOT EXISTS (SELECT FROM task t WHERE t.plan_id = p.plan_id AND t.state IN ('requested', 'missed'))
    UNION ALL
    SELECT 'contact_after_death', t.task_id::text, 'the patient is known to be dead'
    FROM task t JOIN plan p USING (plan_id) JOIN archive a USING (patient_tok)
    WHERE t.state IN ('requested', 'missed', 'on_hold')
      AND (a.deceased_at IS NOT NULL
           OR EXISTS (SELECT FROM stay s WHERE s.patient_tok = p.patient_tok AND s.disposition = '5'))
    UNION ALL
    SELECT 'contact_in_hospital', p.plan_id::text, 'the patient is in hospital, yet the plan is active'
    FROM plan p
    WHERE p.state = 'active' AND EXISTS (SELECT FROM stay s WHERE s.patient_tok = p.patient_tok AND s.ending IS NULL
                                         AND s.encounter_id <> p.encounter_id AND s.began_at IS NOT NULL)
    UNION ALL
    SELECT 'plan_not_announced', p.plan_id::text, 'the first two events of a plan are its activation and all its tasks'
    FROM plan p
    LEFT JOIN outbox activated ON activated.aggregate_id = p.plan_id::text AND activated.version = 1
    LEFT JOIN outbox created ON created.aggregate_id = p.plan_id::text AND created.version = 2
    WHERE activated.type IS DISTINCT FROM 'wardstream.followup.FollowUpPlanActivated.v1'
       OR created.type IS DISTINCT FROM 'wardstream.followup.FollowUpTasksCreated.v1'
       OR jsonb_array_length(created.body -> 'tasks') IS DISTINCT FROM cardinality(p.items)
$$;
COMMENT ON FUNCTION followup_violations IS 'What must never be: one row per violation (I16 and the rules beside it). Empty when all is well.';

CREATE FUNCTION followup_examined() RETURNS TABLE ("check" text, examined bigint) LANGUAGE sql STABLE AS $$
    SELECT 'discharge_without_plan', count(*) FROM stay WHERE ending = 'discharged' AND disposition <> '5'
    UNION ALL SELECT unnest(ARRAY['plan_differs_from_tasks', 'plan_differs_from_stay', 'active_plan_without_open_task',
                                  'contact_in_hospital', 'plan_not_announced']), count(*) FROM plan
    UNION ALL SELECT unnest(ARRAY['plan_state_differs_from_tasks', 'contact_after_death']), count(*) FROM task
$$;
COMMENT ON FUNCTION followup_examined IS 'How many rows each check of followup_violations looked at.';

-- check: SELECT count(*) = 0 FROM followup_violations()
-- check: SELECT count(*) = 8 FROM followup_examined()
