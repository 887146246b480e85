-- Prices as data: the published catalogue, where patients lay as far as it is charged, what ran by the hour, executed orders,
-- and which entry of the ledger charged which of them, so that a correction reverses exactly those.

CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;

-- ---- the catalogue --------------------------------------------------------------------------------------------------

CREATE TABLE price_version (
    number int PRIMARY KEY CHECK (number > 0),
    published_at timestamptz NOT NULL,
    published_by uuid,
    note text NOT NULL CHECK (length(note) <= 200)
);
COMMENT ON TABLE price_version IS 'Each publication of prices (价格公示) that changed something; published_by is empty for the list a new hospital starts with.';

CREATE TABLE price_item (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version int NOT NULL REFERENCES price_version,
    code text NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    pinyin text NOT NULL,
    class text NOT NULL,
    receipt_class text NOT NULL CHECK (receipt_class ~ '^(0[1-9]|1[0-4])$'),
    insurance_class text NOT NULL CHECK (insurance_class IN ('01', '02', '03')),
    unit text NOT NULL,
    price_fen bigint NOT NULL CHECK (price_fen BETWEEN 1 AND 100000000),
    remark text NOT NULL,
    valid daterange NOT NULL CHECK (NOT isempty(valid) AND lower(valid) IS NOT NULL),
    withdrawn_in int REFERENCES price_version,
    CONSTRAINT half_a_bed_day_is_whole_fen CHECK (class <> 'bed' OR (unit = 'day' AND price_fen % 2 = 0)),
    CONSTRAINT one_price_at_a_time EXCLUDE USING gist (code WITH =, valid WITH &&) WHERE (withdrawn_in IS NULL)
);
CREATE INDEX price_item_by_code ON price_item (code) WHERE withdrawn_in IS NULL;
COMMENT ON TABLE price_item IS 'An item at a price on the days of valid [from, to). Never removed: a price that was public stays known (R59).';
COMMENT ON COLUMN price_item.withdrawn_in IS 'The version that replaced it before it ever held.';

CREATE FUNCTION refuse_price_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.withdrawn_in IS NOT NULL OR lower(NEW.valid) <> lower(OLD.valid)
       OR (to_jsonb(NEW) - 'valid' - 'withdrawn_in') <> (to_jsonb(OLD) - 'valid' - 'withdrawn_in') THEN
        RAISE EXCEPTION 'A published price gets another end or is withdrawn; it does not change.' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER price_only_ends BEFORE UPDATE ON price_item FOR EACH ROW EXECUTE FUNCTION refuse_price_change();
CREATE TRIGGER price_is_not_deleted BEFORE DELETE ON price_item FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER price_is_not_truncated BEFORE TRUNCATE ON price_item FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER price_version_is_append_only BEFORE UPDATE OR DELETE ON price_version FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE VIEW price AS
SELECT id, version, code, name_zh, name_en, pinyin, class, receipt_class, insurance_class, unit, price_fen, remark, valid,
       lower(valid) AS valid_from, upper(valid) AS valid_to
FROM price_item WHERE withdrawn_in IS NULL;
COMMENT ON VIEW price IS 'The catalogue as it was and is public.';

-- ---- what is charged by time ----------------------------------------------------------------------------------------

CREATE TABLE bed_fact (
    encounter_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('came', 'left', 'away', 'back')),
    bed_id bigint NOT NULL,
    version int NOT NULL CHECK (version > 0),
    at timestamptz NOT NULL,
    ward text,
    accommodation text,
    source text NOT NULL,
    PRIMARY KEY (encounter_id, kind, bed_id, version),
    CONSTRAINT who_came_lies_in_a_ward CHECK ((kind = 'came') = (ward IS NOT NULL))
);
COMMENT ON TABLE bed_fact IS 'What the bed pool told of each stay. Facts of two topics come in any order; where the patient lay is derived from all of them (prices/rules.py: bed_intervals), so the order is all one.';
COMMENT ON COLUMN bed_fact.version IS 'The version of the event at its aggregate: the stay, or the bed for the one that was left.';

CREATE TABLE priced_stay (
    encounter_id uuid PRIMARY KEY REFERENCES account (encounter_id)
);
COMMENT ON TABLE priced_stay IS 'Stays charged by the catalogue: bed days are added by themselves. Others (imported, free amounts) are left alone.';

CREATE TABLE timed_item (
    id uuid PRIMARY KEY,
    encounter_id uuid NOT NULL REFERENCES account (encounter_id),
    item text NOT NULL,
    price_id bigint NOT NULL REFERENCES price_item,
    started_at timestamptz NOT NULL,
    stopped_at timestamptz,
    CONSTRAINT stops_after_it_starts CHECK (stopped_at > started_at),
    CONSTRAINT runs_once_at_a_time EXCLUDE USING gist (
        encounter_id WITH =, item WITH =, tstzrange(started_at, stopped_at) WITH &&)
);
COMMENT ON TABLE timed_item IS 'Oxygen, monitor and what else is priced by the hour: from when until when it ran (V19). At the price of its start.';

CREATE TABLE executed_order (
    order_id text PRIMARY KEY,
    encounter_id uuid NOT NULL REFERENCES account (encounter_id),
    item text NOT NULL,
    barcode text UNIQUE,
    bound_at timestamptz NOT NULL
);
COMMENT ON TABLE executed_order IS 'An order (医嘱), what it is for and the one barcode of what was used (高值耗材唯一条码, R73). Neither changes.';
CREATE TRIGGER executed_order_is_append_only BEFORE UPDATE OR DELETE ON executed_order FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- ---- which entry charged what ---------------------------------------------------------------------------------------

CREATE TABLE priced_charge (
    entry_id uuid PRIMARY KEY REFERENCES entry,
    encounter_id uuid NOT NULL,
    price_id bigint NOT NULL REFERENCES price_item,
    quantity int NOT NULL CHECK (quantity > 0),
    executed_at timestamptz NOT NULL,
    day date,
    halves int4range,
    ward text,
    timed_item_id uuid REFERENCES timed_item,
    order_id text REFERENCES executed_order,
    reversed_by uuid REFERENCES entry,
    reversal_reason text,
    CONSTRAINT charges_one_thing CHECK (num_nonnulls(day, timed_item_id, order_id) <= 1),
    CONSTRAINT a_day_has_its_halves_and_ward CHECK (num_nonnulls(day, halves, ward) IN (0, 3)),
    CONSTRAINT a_day_has_two_halves CHECK (halves <@ int4range(0, 2) AND NOT isempty(halves)),
    CONSTRAINT reversed_with_a_reason CHECK ((reversed_by IS NULL) = (reversal_reason IS NULL)),
    CONSTRAINT half_a_day_is_charged_once EXCLUDE USING gist (encounter_id WITH =, day WITH =, halves WITH &&)
        WHERE (reversed_by IS NULL AND day IS NOT NULL)
);
CREATE UNIQUE INDEX a_timed_item_is_charged_once ON priced_charge (timed_item_id) WHERE reversed_by IS NULL AND timed_item_id IS NOT NULL;
CREATE UNIQUE INDEX an_order_is_charged_once ON priced_charge (order_id) WHERE reversed_by IS NULL AND order_id IS NOT NULL;
CREATE INDEX priced_charge_by_stay ON priced_charge (encounter_id);
CREATE INDEX priced_charge_by_timed_item ON priced_charge (timed_item_id) WHERE timed_item_id IS NOT NULL;
COMMENT ON TABLE priced_charge IS 'Which entry charged which bed day, timed item, order or piece, and at which published price.';
COMMENT ON COLUMN priced_charge.quantity IS 'Halves of a day, steps of a timed item, pieces of anything else.';

CREATE VIEW timed_run AS
SELECT t.id, t.encounter_id, t.item, t.price_id, p.price_fen, t.started_at, t.stopped_at,
       (SELECT c.entry_id FROM priced_charge c WHERE c.timed_item_id = t.id AND c.reversed_by IS NULL) AS charged_by,
       (SELECT count(*) FROM priced_charge c WHERE c.timed_item_id = t.id) AS times_charged
FROM timed_item t JOIN price_item p ON p.id = t.price_id;
COMMENT ON VIEW timed_run IS 'Each timed item with its price and its live charge.';

-- Whoever reverses an entry, what it charged is free to be charged again; the money does not ask this table.
SELECT set_config('search_path', format('%I, pg_temp', current_schema()), true);
CREATE FUNCTION note_reversed_price() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE priced_charge SET reversed_by = NEW.id, reversal_reason = NEW.reason WHERE entry_id = NEW.reverses;
    RETURN NULL;
END $$;
CREATE TRIGGER entry_frees_what_it_charged AFTER INSERT ON entry FOR EACH ROW WHEN (NEW.kind = 'reversal')
    EXECUTE FUNCTION note_reversed_price();

-- check: SELECT count(*) = 1 FROM pg_constraint WHERE conname = 'one_price_at_a_time' AND connamespace = current_schema()::regnamespace
-- check: SELECT count(*) = 1 FROM pg_constraint WHERE conname = 'half_a_day_is_charged_once' AND connamespace = current_schema()::regnamespace
