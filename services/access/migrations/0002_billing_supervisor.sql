-- A role of its own for whoever may give up money: the billing supervisor (收费主管).

ALTER TABLE account DROP CONSTRAINT account_roles_check;
ALTER TABLE account ADD CONSTRAINT account_roles_check CHECK (cardinality(roles) > 0 AND roles <@ ARRAY[
    'ward_nurse', 'bed_manager', 'service_centre_clerk', 'billing_clerk', 'billing_supervisor', 'doctor',
    'day_surgery_coordinator', 'follow_up_nurse', 'primary_care_worker', 'ops', 'privacy_officer', 'admin', 'importer']);

-- check: SELECT count(*) = 1 FROM pg_constraint WHERE conname = 'account_roles_check' AND conrelid = 'account'::regclass
