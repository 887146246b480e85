"""The bare limit of a journey: its 16 commits and 23 outbox rows, one libpq pipeline per commit, driven by pgbench.

Same tables, indexes and constraints as the services, in a database of its own on the same server; nothing that makes delivery
safe is done: no idempotency keys, no audit, no inbox, no marks, no relay, no broker (7-performance 1.1, B16_pipe).
Bodies are as large as the definition says (478 bytes).
"""

import os
import re
import subprocess
from pathlib import Path

from infra.local.machine import find_postgres

BODY_BYTES = 478
CLIENTS = 16
SCHEMAS = ("admission", "beds", "billing", "followup")

_BODY = '{"b":"' + "x" * (BODY_BYTES - 8) + '"}'
_J = "lpad(to_hex(:j::bigint), 32, '0')"


def _id(kind: str) -> str:
    """Return SQL for an id of this journey; `kind` is one hex digit or two."""
    return f"(lpad('{kind}', 8, '0') || lpad(to_hex(:j::bigint), 24, '0'))::uuid"


ENCOUNTER, PATIENT, CLAIM, CLEANING, ACCOUNT, SETTLEMENT, PLAN = (
    _id(kind) for kind in ("a0", "a1", "a2", "a3", "a4", "a5", "a6")
)


def _announce(schema: str, aggregate: str, version: str, event: str) -> str:
    return (
        f"INSERT INTO {schema}.outbox (event_id, aggregate_id, version, type, body, occurred_at, correlation_id)"
        f" VALUES (uuidv7(), {aggregate}, {version}, 'wardstream.{schema}.{event}.v1', '{_BODY}', now(), {ENCOUNTER});"
    )


def _entry(number: int, kind: str, extra: str = "NULL, NULL, 'x'") -> list[str]:
    entry = _id(f"e{number}")
    debit, credit = (1, 10) if kind == "charge" else (20, 1)
    return [
        "INSERT INTO billing.entry (id, account_id, kind, settlement_id, deposit_id, item, at, charge_fen)"
        f" VALUES ({entry}, {ACCOUNT}, '{kind}', {extra}, now(), {100 if kind == 'charge' else 'NULL'});",
        f"INSERT INTO billing.line (entry_id, ledger_account_id, fen) VALUES ({entry}, {debit}, 100), ({entry}, {credit}, -100);",
    ]


def _commits() -> list[list[str]]:
    """Return the statements of each of the 16 commits."""
    encounter = f"{ENCOUNTER}::text"
    account, plan = f"{ACCOUNT}::text", f"{PLAN}::text"
    bed = "(:client_id + 1)"
    next_bed_version = f"(SELECT coalesce(max(version), 0) + 1 FROM beds.outbox WHERE aggregate_id = {bed}::text)"
    charges = [
        [
            f"UPDATE billing.account SET receivable_fen = receivable_fen + 100 WHERE id = {ACCOUNT};",
            *_entry(number, "charge"),
            _announce("billing", account, str(number + 1), "ChargePosted"),
        ]
        for number in range(1, 6)
    ]
    return [
        [
            "INSERT INTO admission.encounter (encounter_id, patient_tok, state, urgency, specialty, payer_kind, isolation,"
            f" level_of_care, expected_stay_days, registered_at) VALUES ({ENCOUNTER}, lpad(:client_id::text, 32, '0')::uuid,"
            " 'pre_admitted', 'elective', 'general', 'self_pay', 'none', 'normal', 7, now());",
            _announce("admission", encounter, "1", "PreAdmissionRegistered"),
            _announce("admission", encounter, "2", "BedRequested"),
        ],
        [
            "INSERT INTO beds.bed_request (encounter_id, patient_tok, kind, state, sex, specialty, urgency, isolation, level, from_at,"
            f" source, requested_at) VALUES ({ENCOUNTER}, {PATIENT}, 'inpatient', 'waiting', 'male', 'general', 'elective', 'none',"
            " 'normal', now(), 'live', now());",
            _announce("beds", encounter, "1", "BedRequestOpened"),
        ],
        [
            "INSERT INTO beds.bed_claim (id, bed_id, encounter_id, patient_tok, during, state, hold_expires)"
            f" VALUES ({CLAIM}, {bed}, {ENCOUNTER}, {PATIENT}, tstzrange(clock_timestamp(), NULL), 'held', now() + interval '4 hours');",
            f"UPDATE beds.bed SET commitment = 'held', encounter_id = {ENCOUNTER}, patient_sex = 'male' WHERE bed_id = {bed};",
            f"UPDATE beds.bed_request SET state = 'assigned', bed_id = {bed}, claim_id = {CLAIM} WHERE encounter_id = {ENCOUNTER};",
            _announce("beds", encounter, "2", "BedAssigned"),
        ],
        [
            f"UPDATE admission.encounter SET state = 'admitted', admitted_at = now() WHERE encounter_id = {ENCOUNTER};",
            _announce("admission", encounter, "3", "PatientAdmitted"),
            _announce("admission", encounter, "4", "PaperworkCompleted"),
        ],
        [
            f"UPDATE beds.bed_claim SET state = 'occupied', hold_expires = NULL WHERE id = {CLAIM};",
            f"UPDATE beds.bed SET commitment = 'active', condition = 'O' WHERE bed_id = {bed};",
            f"UPDATE beds.bed_request SET state = 'arrived' WHERE encounter_id = {ENCOUNTER};",
            _announce("beds", encounter, "3", "BedOccupied"),
        ],
        [
            "INSERT INTO billing.account (id, encounter_id, patient_tok, payer_kind)"
            f" VALUES ({ACCOUNT}, {ENCOUNTER}, {PATIENT}, 'self_pay');",
            _announce("billing", account, "1", "AccountOpened"),
        ],
        *charges,
        [
            f"UPDATE billing.account SET receivable_fen = 0, state = 'closed', settlements = 1 WHERE id = {ACCOUNT};",
            "INSERT INTO billing.settlement (id, account_id, number, charged_fen, deposits_fen, payer_fen, collected_fen, refunded_fen,"
            f" settled_at) VALUES ({SETTLEMENT}, {ACCOUNT}, 1, 500, 0, 0, 500, 0, now());",
            *_entry(6, "collected", f"{SETTLEMENT}, NULL, NULL"),
            _announce("billing", account, "7", "AccountSettled"),
            _announce("billing", account, "8", "AccountClosed"),
        ],
        [
            "UPDATE admission.encounter SET state = 'discharged', discharged_at = now(), disposition = '1'"
            f" WHERE encounter_id = {ENCOUNTER};",
            _announce("admission", encounter, "5", "DischargeOrdered"),
            _announce("admission", encounter, "6", "PatientDischarged"),
        ],
        [
            "UPDATE beds.bed_claim SET state = 'closed', during = tstzrange(lower(during), clock_timestamp())"
            f" WHERE id = {CLAIM};",
            f"INSERT INTO beds.bed_claim (id, bed_id, during, state) SELECT {CLEANING}, {bed}, tstzrange(upper(during), NULL), 'cleaning'"
            f" FROM beds.bed_claim WHERE id = {CLAIM};",
            "UPDATE beds.bed SET commitment = 'free', condition = 'H', cleaning = 'requested', encounter_id = NULL, patient_sex = NULL"
            f" WHERE bed_id = {bed};",
            f"UPDATE beds.bed_request SET state = 'left' WHERE encounter_id = {ENCOUNTER};",
            _announce("beds", f"{bed}::text", next_bed_version, "BedVacated"),
            _announce("beds", f"{bed}::text", next_bed_version, "CleaningRequested"),
        ],
        [
            f"UPDATE beds.bed_claim SET during = tstzrange(lower(during), clock_timestamp()) WHERE id = {CLEANING};",
            f"UPDATE beds.bed SET condition = 'U', cleaning = NULL, busy_until = now() WHERE bed_id = {bed};",
            _announce("beds", f"{bed}::text", next_bed_version, "BedCleaned"),
            _announce("beds", f"{bed}::text", next_bed_version, "BedFreed"),
        ],
        [
            f"INSERT INTO followup.archive (patient_tok) VALUES ({PATIENT});",
            f"INSERT INTO followup.stay (encounter_id, patient_tok) VALUES ({ENCOUNTER}, {PATIENT});",
            "INSERT INTO followup.plan (plan_id, encounter_id, patient_tok, template, items, state, discharged_at, disposition)"
            f" VALUES ({PLAN}, {ENCOUNTER}, {PATIENT}, 'default', ARRAY['a', 'b', 'c'], 'active', now(), '1');",
            "INSERT INTO followup.task (task_id, plan_id, item, executor, method, opens_after_hours, closes_after_hours, due_from_at,"
            f" due_to_at, state) SELECT uuidv7(), {PLAN}, item, 'hospital_nurse', 'phone', 1, 2, now(), now() + interval '1 day',"
            " 'requested' FROM unnest(ARRAY['a', 'b', 'c']) item;",
            _announce("followup", plan, "1", "FollowUpPlanActivated"),
            _announce("followup", plan, "2", "FollowUpTasksCreated"),
        ],
    ]


COMMITS = len(_commits())


def script() -> str:
    """Return the pgbench script of one journey."""
    lines = [r"\set j random(1, 1152921504606846975)"]
    for statements in _commits():
        lines += [r"\startpipeline", "BEGIN;", *statements, "COMMIT;", r"\endpipeline"]
    return "\n".join(lines) + "\n"


def run(
    port: int,
    password: str,
    database: str,
    directory: Path,
    *,
    seconds: int | None = None,
    journeys: int = 0,
    text: str | None = None,
) -> tuple[float, int]:
    """Run bare journeys (or the pgbench script `text`) for `seconds`, or about as many as `journeys`.

    Returns how many per second, and how many.
    """
    path = directory / "bare.sql"
    path.write_text(script() if text is None else text, encoding="utf-8")
    done = subprocess.run(
        [
            str(find_postgres() / "bin" / "pgbench"),
            *("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-f", str(path)),
            *(("-T", str(seconds)) if seconds else ("-t", str(max(1, journeys // CLIENTS)))),
            *("-h", "127.0.0.1", "-p", str(port), "-U", "postgres", database),
        ],
        env={**os.environ, "PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    rate = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    count = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    if done.returncode or rate is None or count is None or (failed and failed.group(1) != "0"):
        raise RuntimeError(f"The bare journey failed: {done.stderr[-2000:]} {done.stdout[-500:]}")
    return float(rate.group(1)), int(count.group(1))
