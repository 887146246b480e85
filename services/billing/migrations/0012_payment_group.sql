-- The group by which the fund pays a stay (DRG or DIP, R61): worked out elsewhere, noted here, printed on the settlement list.

SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);

CREATE TABLE payment_group (
    account_id uuid PRIMARY KEY REFERENCES account,
    scheme text NOT NULL CHECK (scheme IN ('drg', 'dip')),
    code text NOT NULL CHECK (length(code) BETWEEN 2 AND 40),
    noted_by uuid,
    noted_at timestamptz NOT NULL
);
COMMENT ON TABLE payment_group IS 'The payment group of a stay as the coding office says it; the last word counts, the audit has the others.';

-- check: SELECT count(*) = 0 FROM payment_group
