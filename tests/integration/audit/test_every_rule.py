"""Every rule both ways: the played hospital keeps it, and whoever breaks it is found by the check of that rule."""

from typing import Any
from uuid import uuid4

import pytest

from infra.audit.run import CHECKS
from tests.integration.audit.conftest import IDENTIFIER, NAME, PHONE, Courtroom, Evidence
from tests.integration.simulators.conftest import Simulator

pytestmark = [pytest.mark.asyncio]


async def test_a_hospital_in_which_all_went_well_passes_every_check_and_every_check_looked_at_something(
    evidence: Evidence,
):
    found = await evidence.audit()
    assert [check for check in found["checks"] if not check["ok"] or not check["examined"]] == []
    assert found | {"seconds": 0, "checks": []} == {
        "ok": True,
        "empty": False,
        "violations": 0,
        "checks": [],
        "seconds": 0,
    }
    assert [check["id"] for check in found["checks"]] == [check.id for check in CHECKS]


_SOME = "ctid = (SELECT ctid FROM {table} WHERE {which} ORDER BY ctid LIMIT 1)"


def one(verb: str, table: str, which: str) -> str:
    """Return a statement that changes one row of those."""
    return f"{verb} WHERE {_SOME.format(table=table, which=which)}"


def update(table: str, change: str, which: str = "true") -> str:
    return one(f"UPDATE {table} SET {change}", table, which)


def delete(table: str, which: str = "true") -> str:
    return one(f"DELETE FROM {table}", table, which)


def _interim_bill(state: str) -> str:
    return (
        "INSERT INTO billing.bill (id, account_id, number, state, since, insured, bill_version, lines, lines_hash, charged_fen,"
        f" patient_fen, expires_at, interim) SELECT gen_random_uuid(), id, 900, '{state}', now(), false, 1, 1, '', 100, 100,"
        " now(), true FROM billing.account WHERE state = 'open' LIMIT 1"
    )


BROKEN: list[tuple[str, str, str, list[str]]] = [
    (
        "I1",
        "two patients are put into one bed",
        "begins before the one before it ends",
        [
            "ALTER TABLE beds.bed_claim DROP CONSTRAINT one_per_bed",
            "INSERT INTO beds.bed_claim (id, bed_id, encounter_id, patient_tok, during, state, slot) SELECT gen_random_uuid(), bed_id,"
            " gen_random_uuid(), gen_random_uuid(), during, state, slot FROM beds.bed_claim WHERE state = 'occupied' LIMIT 1",
        ],
    ),
    (
        "I2",
        "one patient is put into two beds",
        "begins before the one before it ends",
        [
            "ALTER TABLE beds.bed_claim DROP CONSTRAINT one_stay",
            "INSERT INTO beds.bed_claim (id, bed_id, encounter_id, patient_tok, during, state, slot)"
            " SELECT gen_random_uuid(), (SELECT max(bed_id) FROM beds.bed), encounter_id, patient_tok, during, state, slot"
            " FROM beds.bed_claim WHERE state = 'occupied' LIMIT 1",
        ],
    ),
    (
        "V2",
        "a bed with a patient is marked to clean",
        "exclude each other",
        [update("beds.bed", "condition = 'H', cleaning = 'requested'", "commitment = 'active'")],
    ),
    (
        "V2",
        "a claim is released behind the bed's back",
        "no claim says so",
        [update("beds.bed_claim", "state = 'released'", "state = 'occupied'")],
    ),
    (
        "V2",
        "a request forgets that its patient lies in bed",
        "its claim is occupied",
        [update("beds.bed_request", "state = 'left'", "state = 'arrived'")],
    ),
    (
        "V2",
        "a newborn shares a bed in which its mother does not lie",
        "shares the bed of stay",
        [update("beds.bed_request", "bed_id = bed_id + 1", "guests > 0")],
    ),
    (
        "V2",
        "a newborn shares a bed and nobody declared it",
        "no share says so",
        [delete("beds.bed_share", "guest_id IS NOT NULL AND upper_inf(during)")],
    ),
    ("V5", "a bed vanishes from the board", "is not in the pool", [delete("beds.bed", "commitment = 'free'")]),
    (
        "V5",
        "a bed nobody announced appears",
        "was never announced",
        [
            "INSERT INTO beds.bed (code, ward, room, kind, level, isolation)"
            " SELECT 'GHOST', ward, room, kind, level, isolation FROM beds.bed LIMIT 1"
        ],
    ),
    (
        "I3",
        "a record names another bed",
        "its record says",
        [update("admission.encounter", "bed_id = bed_id + 1", "state = 'admitted'")],
    ),
    (
        "I3",
        "a stay is deleted while its patient lies in bed",
        "is not in hospital",
        [delete("admission.encounter", "state = 'admitted'")],
    ),
    (
        "I3",
        "a bed is emptied on the board while its patient is there",
        "lies in no bed",
        [update("beds.bed", "commitment = 'free', condition = 'U', encounter_id = NULL", "commitment = 'active'")],
    ),
    (
        "I17",
        "a stay waits for an answer nobody will give",
        "is pre_admitted",
        [update("admission.encounter", "state = 'pre_admitted'", "state = 'waitlisted'")],
    ),
    (
        "I17",
        "a stay on the waiting list is in no queue",
        "its bed request is none",
        [delete("beds.bed_request", "state = 'waiting'")],
    ),
    (
        "I17",
        "a day case waits for a bed it has",
        "is booking_asked",
        [update("daysurgery.day_case", "state = 'booking_asked'", "state = 'booked'")],
    ),
    (
        "I17",
        "the pool keeps a request of nobody",
        "which is no stay and no case",
        [update("beds.bed_request", "encounter_id = gen_random_uuid()", "state = 'cancelled'")],
    ),
    (
        "I17",
        "a bed is never released after its patient left",
        "its bed is not released",
        [update("admission.encounter", "bed_released_at = NULL", "state = 'discharged'")],
    ),
    (
        "I17-accounts",
        "a patient in hospital has no account",
        "has no account",
        [delete("billing.account", "state = 'open'")],
    ),
    (
        "I17-accounts",
        "admission does not know that a bill is paid",
        "not settled",
        [update("admission.encounter", "settled_at = NULL", "state = 'discharged'")],
    ),
    (
        "I17-accounts",
        "admission counts a charge that is none",
        "live charges",
        [update("admission.encounter", "live_charges = live_charges + 1", "state = 'discharged'")],
    ),
    (
        "I17-accounts",
        "an admission that never counted keeps its account",
        "never counted",
        [update("billing.account", "state = 'open'", "state = 'voided'")],
    ),
    (
        "D10",
        "who left without paying is on nobody's list",
        "its account is voided",
        [update("billing.account", "state = 'voided'", "state = 'closed'")],
    ),
    (
        "D7",
        "a discharge is ordered without an event",
        "the last that was said of it is",
        [update("admission.encounter", "state = 'discharge_ordered'", "state = 'admitted'")],
    ),
    (
        "D7",
        "a case is forgotten that was announced",
        "is missing",
        [delete("daysurgery.day_case", "state = 'cancelled'")],
    ),
    ("I4", "a line grows by a fen", "sum to", [update("billing.line", "fen = fen + 1", "fen > 1")]),
    ("I4", "a line is torn out", "has 1 lines", [delete("billing.line")]),
    (
        "I5",
        "a balance grows by a fen",
        "its lines",
        [update("billing.account", "receivable_fen = receivable_fen + 1", "state = 'open'")],
    ),
    (
        "I6",
        "more money is in the ledger than was told",
        "by its events",
        [
            "UPDATE billing.line SET fen = fen + sign(fen)"
            " WHERE entry_id = (SELECT id FROM billing.entry WHERE kind = 'deposit' ORDER BY id LIMIT 1)"
        ],
    ),
    (
        "I7",
        "a charge was never announced",
        "was never announced",
        [delete("billing.outbox", "type LIKE '%.ChargePosted.%'")],
    ),
    (
        "I7",
        "a charge was announced twice",
        "was announced 2 times",
        [
            "INSERT INTO billing.outbox (event_id, aggregate_id, version, type, body, occurred_at) SELECT gen_random_uuid(), aggregate_id,"
            " 999, type, body, occurred_at FROM billing.outbox WHERE type LIKE '%.ChargePosted.%' LIMIT 1"
        ],
    ),
    (
        "I7",
        "a charge was announced with another amount",
        "with another amount",
        [update("billing.outbox", "body = jsonb_set(body, '{amount_fen}', '1')", "type LIKE '%.ChargePosted.%'")],
    ),
    (
        "I9",
        "a deposit is given back three times over",
        "was used or given back",
        [
            "UPDATE billing.line SET fen = fen * 3 WHERE entry_id = (SELECT r.id FROM billing.entry r"
            " JOIN billing.entry o ON o.id = r.reverses WHERE o.kind = 'deposit' LIMIT 1)"
        ],
    ),
    (
        "I10",
        "a closed account loses its settlement",
        "with 0 settlements in force",
        [update("billing.settlement", "reopened_at = now(), reopen_reason = 'x'", "reopened_at IS NULL")],
    ),
    (
        "I10",
        "a settlement is for more than was charged",
        "is settled for",
        [
            update(
                "billing.settlement",
                "charged_fen = charged_fen + 1, collected_fen = collected_fen + 1",
                "reopened_at IS NULL AND refunded_fen = 0",
            )
        ],
    ),
    (
        "I10-interim",
        "an interim bill is at work and its account does not know",
        "settles interim bill none, of its bills",
        [_interim_bill("locking")],
    ),
    (
        "I10-interim",
        "an interim bill is settled that no line is set apart for",
        "is settled for 100 fen, 0 fen of lines",
        [_interim_bill("settled")],
    ),
    (
        "R52",
        "billing itself sees a balance that is wrong",
        "I5 account",
        [update("billing.account", "receivable_fen = receivable_fen + 1", "state = 'open'")],
    ),
    ("I16", "a contact that is owed is missing", "0 such tasks are there", [delete("followup.task")]),
    ("I16", "a patient who left has no plan", "has no follow-up plan", [delete("followup.plan")]),
    (
        "I16-rules",
        "a plan is called completed with open tasks",
        "plan_state_differs_from_tasks",
        [update("followup.plan", "state = 'completed'", "state = 'active'")],
    ),
    (
        "I11",
        "a deposit that was acknowledged is gone",
        "which is not there",
        [delete("billing.entry", "kind = 'deposit'")],
    ),
    ("I11", "a patient who was registered is gone", "which is not there", [delete("admission.patient")]),
    (
        "I12",
        "an effect names a cause that never was",
        "an event that does not exist",
        [update("beds.outbox", "causation_id = gen_random_uuid()", "causation_id IS NOT NULL")],
    ),
    (
        "I12",
        "a command left no trace in the audit",
        "no audit row says so",
        [delete("admission.audit", "action = 'POST /encounters'")],
    ),
    (
        "I12",
        "a bed is occupied for no reason",
        "has no cause",
        [update("beds.outbox", "causation_id = NULL, actor = NULL", "type LIKE '%.BedOccupied.%'")],
    ),
    (
        "I13",
        "billing missed the last event of a stay",
        "billing has read",
        [update("billing.inbox", "version = version - 1", "version > 1")],
    ),
    ("I13", "a service forgot a stay", "up to version 0", [delete("followup.inbox")]),
    (
        "I13",
        "a service knows a stay nobody announced",
        "announced 0",
        [update("beds.inbox", "aggregate_id = 'nobody'")],
    ),
    (
        "I14",
        "a version is skipped",
        "not 1 to n",
        [update("admission.outbox", "version = version + 100", "version = 2")],
    ),
    (
        "I15-offsets",
        "a service stopped one event before the end",
        "which goes further",
        [update("beds.consumed", "next_offset = next_offset - 1", "next_offset > 0")],
    ),
    (
        "I15-offsets",
        "a service read what is not there",
        "beyond the end",
        [update("beds.consumed", "next_offset = next_offset + 9")],
    ),
    ("I15-offsets", "a service never read a partition", "never read", [delete("daysurgery.consumed")]),
    (
        "I15-offsets",
        "a service stopped for good",
        "stopped at",
        [update("beds.consumed", "halted_reason = 'beacon_differs'")],
    ),
    (
        "I15-consumed",
        "a service applied another event than was sent",
        "(others)",
        [update("followup.consumed", "digest = digest + 1", "events > 0")],
    ),
    (
        "I15-consumed",
        "a service applied an event twice",
        "were sent",
        [update("billing.consumed", "events = events + 1", "events > 0")],
    ),
    (
        "I15-sent",
        "a relay counts an event it never sent",
        "the relay counted",
        [update("beds.relay_sent", "events = events + 1")],
    ),
    (
        "I18",
        "an event is set aside",
        "set aside",
        [
            "INSERT INTO beds.parked (topic, part, kafka_offset, aggregate_id, version, event_id, type, headers, body, handler, reason)"
            " SELECT 'admission.encounters.v1', 0, 7, aggregate_id, version, event_id, type, '{}', '', 'on_patient_admitted', 'nothing_held'"
            " FROM admission.outbox LIMIT 1"
        ],
    ),
    (
        "I18",
        "a stay is frozen without reason",
        "says frozen, 0 of its events",
        [update("billing.inbox", "parked = true")],
    ),
    (
        "I23",
        "an event waits to be sent",
        "is not sent",
        ["INSERT INTO beds.outbox_unsent (id) SELECT max(id) FROM beds.outbox"],
    ),
    (
        "I15-topics",
        "a beacon tells of another event than lies there",
        "others",
        [update("beds.relay_sent", "digest = digest + 1")],
    ),
    ("I20-seals", "a sealed audit row is changed", "was changed", [update("admission.audit", "outcome = 'denied'")]),
    ("I20-seals", "a sealed audit row is removed", "was removed", [delete("billing.audit")]),
    (
        "I20-seals",
        "audit rows are not sealed any more",
        "not sealed",
        [
            "INSERT INTO beds.audit (at, role, action, object_type, outcome)"
            " VALUES (now() - interval '1 hour', 'ops', 'GET /beds', 'beds', 'ok')"
        ],
    ),
    (
        "I20-commands",
        "an answer was given and nobody wrote it down",
        "nobody wrote that down",
        [delete("billing.audit", "action LIKE 'POST %/charges'")],
    ),
    (
        "I20-commands",
        "the audit tells of a command that was never answered",
        "no answer is kept",
        [delete("admission.idem")],
    ),
    (
        "I21",
        "a name is written into a reason",
        "table billing.entry holds the name",
        [f"UPDATE billing.entry SET reason = 'Family of {NAME} asked' WHERE reason IS NOT NULL"],
    ),
    (
        "I21",
        "a phone number is in the body of an event",
        "table beds.outbox holds the phone",
        [update("beds.outbox", f"body = jsonb_set(body, '{{call}}', '\"{PHONE}\"')")],
    ),
    (
        "I21",
        "an identifier is in a key",
        "table daysurgery.idem holds an identifier",
        [update("daysurgery.idem", f"key = 'patient:{IDENTIFIER}'")],
    ),
    (
        "I21",
        "a name is in a record that was set aside",
        "table beds.parked holds the name",
        [
            "INSERT INTO beds.parked (topic, part, kafka_offset, aggregate_id, headers, body, handler, reason)"
            f" VALUES ('admission.encounters.v1', 0, 7, 'x', '{{}}', convert_to('{{\"name\": \"{NAME}\"}}', 'UTF8'), 'none', 'unknown')"
        ],
    ),
    (
        "I8",
        "a payment is booked that the channel never had",
        "nothing outside",
        [
            "INSERT INTO billing.payment (id, account_id, order_no, method, amount_fen, state, since, expires_at, transaction_id, entry_id)"
            " SELECT gen_random_uuid(), account_id, 'nobodys-order', 'wechat', 500, 'paid', now(), now(), 'nobodys', id"
            " FROM billing.entry LIMIT 1"
        ],
    ),
    (
        "I8",
        "a receipt is kept that the office never issued",
        "receipt 0001",
        [
            "INSERT INTO billing.receipt (number, settlement_id, amount_fen, state, since)"
            " SELECT '0001', id, 0, 'issued', now() FROM billing.settlement LIMIT 1"
        ],
    ),
    (
        "I8",
        "the ledger holds money of the channel that the channel has not",
        "at the channel",
        [update("billing.line", "ledger_account_id = 25")],
    ),
    (
        "I13-index",
        "insight knows an event nobody announced",
        "which nobody announced",
        [update("insight.event_seen", "event_id = gen_random_uuid()")],
    ),
]


@pytest.mark.parametrize(
    ("id_", "what", "said", "statements"), BROKEN, ids=[f"{row[0]}-{row[1].replace(' ', '_')}" for row in BROKEN]
)
async def test_who_breaks_a_rule_is_found(courtroom: Courtroom, id_: str, what: str, said: str, statements: list[str]):
    check = await courtroom.judge(id_, *statements)
    assert not check["ok"], what
    assert check["violations"] >= 1
    assert any(said in example for example in check["examples"]), check["examples"]
    assert len(check["examples"]) <= 5


async def test_money_the_channel_took_and_the_ledger_does_not_know_is_found(
    courtroom: Courtroom, outside: dict[str, Simulator]
):
    order = f"{uuid4().hex}"
    outside["channel"].change_truth(
        "INSERT INTO pay_order (order_no, amount_fen, method, description, expires_at, notify_url, token, state, paid_fen,"
        f" transaction_id, paid_at) VALUES ('{order}', 500, 'wechat', 'x', 'x', 'x', 'x', 'SUCCESS', 500, 'x', 'x')"
    )
    try:
        check = await courtroom.judge("I8")
    finally:
        outside["channel"].change_truth(f"DELETE FROM pay_order WHERE order_no = '{order}'")
    assert check["examples"] == [
        f"payment {order}: nothing here, 500 fen outside",
        "channel: 0 fen in the ledger, 500 at the channel",
    ]
    assert (await courtroom.judge("I8"))["ok"]


async def test_every_check_has_somebody_who_breaks_it():
    by_hand = {"I12-topics", "I13-topics", "I14-topics", "I24", "V-census", "V-journeys"}
    assert {row[0] for row in BROKEN} | by_hand == {check.id for check in CHECKS}


async def test_findings_name_ids_and_never_a_person(evidence: Evidence):
    await evidence.tamper(f"UPDATE billing.entry SET reason = '{NAME} {PHONE} {IDENTIFIER}' WHERE reason IS NOT NULL")
    found: dict[str, Any] = await evidence.audit()
    assert not found["ok"]
    assert not any(text in str(found) for text in (NAME, PHONE, IDENTIFIER))
