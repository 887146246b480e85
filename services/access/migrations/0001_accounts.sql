-- Staff accounts and their sessions. No patient data, and no signing key, is ever kept here.

CREATE TABLE account (
    user_id uuid PRIMARY KEY,
    username text NOT NULL UNIQUE CHECK (username ~ '^[a-z][a-z0-9._-]{1,31}$'),
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 80),
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    roles text[] NOT NULL CHECK (cardinality(roles) > 0 AND roles <@ ARRAY[
        'ward_nurse', 'bed_manager', 'service_centre_clerk', 'billing_clerk', 'doctor', 'day_surgery_coordinator',
        'follow_up_nurse', 'primary_care_worker', 'ops', 'privacy_officer', 'admin', 'importer']),
    wards text[] NOT NULL,
    disabled_at timestamptz,
    failed_logins int NOT NULL DEFAULT 0 CHECK (failed_logins >= 0),
    locked_until timestamptz,
    version int NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN account.wards IS 'Wards of duty; * is all of them. For a primary-care worker: community centres.';
COMMENT ON COLUMN account.version IS 'What people edit: names, roles, wards, disabled. Failed logins do not count.';
CREATE INDEX account_admins ON account (user_id) WHERE disabled_at IS NULL AND 'admin' = ANY (roles);

CREATE TABLE session (
    session_id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES account,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    previous_hash bytea UNIQUE CHECK (octet_length(previous_hash) = 32),
    created_at timestamptz NOT NULL,
    refreshed_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_reason text CHECK (ended_reason IN ('logged_out', 'expired', 'reused', 'disabled', 'password_changed')),
    CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
);
COMMENT ON COLUMN session.token_hash IS 'SHA-256 of the refresh token; the token itself is only in the browser.';
COMMENT ON COLUMN session.previous_hash IS 'The token before the last refresh: whoever shows it again holds a stolen one.';
CREATE INDEX session_by_age ON session (refreshed_at);
CREATE INDEX session_open_by_user ON session (user_id) WHERE ended_at IS NULL;

-- check: SELECT count(*) = 0 FROM account WHERE NOT ('{}'::text[] <@ roles)
-- check: SELECT count(*) = 0 FROM session s LEFT JOIN account a USING (user_id) WHERE a.user_id IS NULL
