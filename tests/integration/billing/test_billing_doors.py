"""The doors of billing: who may do what where, what bad input gets, and how a stay's first second is waited for."""

import asyncio
from uuid import uuid4

import pytest

from shared.access.roles import Role
from tests.integration.billing.conftest import Doors

pytestmark = pytest.mark.asyncio


async def test_a_journey_through_the_doors(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    deposit = await doors.post(clerk, f"{stay}/deposits", {"amount_fen": 500_00, "method": "wechat"})
    assert deposit.status_code == 201
    charged = [
        (await doors.post(clerk, f"{stay}/charges", {"item": "blood.count", "amount_fen": fen})).json()
        for fen in (123_45, 1)
    ]
    assert [answer["charged_fen"] for answer in charged] == [123_45, 123_46]
    wrong = await doors.post(clerk, f"{stay}/charges/{charged[1]['entry_id']}/reversal", {"reason": "wrong_item"})
    assert (wrong.status_code, wrong.json()["charged_fen"]) == (201, 123_45)
    quote = (await doors.get(clerk, f"{stay}/pre-settlement")).json()
    assert {
        name: quote[name]
        for name in ("charged_fen", "charges", "deposits_fen", "payer_fen", "collects_fen", "refunds_fen")
    } == {
        "charged_fen": 123_45,
        "charges": 1,
        "deposits_fen": 500_00,
        "payer_fen": 0,
        "collects_fen": 0,
        "refunds_fen": 376_55,
    }
    outdated = await doors.post(clerk, f"{stay}/settlement", {"method": "cash", "charged_fen": 123_46})
    assert (outdated.status_code, outdated.json()["code"]) == (409, "quote_outdated")
    assert outdated.json()["facts"] == {"charged_fen": 123_45}
    settled = await doors.post(clerk, f"{stay}/settlement", {"method": "cash", "charged_fen": 123_45})
    assert (settled.status_code, settled.json()["state"], settled.json()["refunded_fen"]) == (201, "closed", 376_55)
    account = (await doors.get(clerk, f"{stay}/account")).json()
    assert (account["state"], account["charged_fen"], account["deposits_fen"], account["settlements"]) == (
        "closed",
        123_45,
        0,
        1,
    )
    late = await doors.post(clerk, f"{stay}/charges", {"item": "late", "amount_fen": 1})
    assert (late.status_code, late.json()["code"]) == (409, "account_closed")
    assert (await doors.get(clerk, f"{stay}/pre-settlement")).json()["code"] == "account_closed"
    again = await doors.post(clerk, f"{stay}/settlement-reopening", {"reason": "late_charge"})
    assert (again.status_code, again.json()["charged_fen"], again.json()["deposits_fen"]) == (201, 123_45, 500_00)
    refund = await doors.post(clerk, f"{stay}/deposits/{deposit.json()['entry_id']}/refund", {})
    assert (refund.status_code, refund.json()["amount_fen"], refund.json()["deposits_fen"]) == (201, 500_00, 0)
    twice = await doors.post(clerk, f"{stay}/deposits/{deposit.json()['entry_id']}/refund", {})
    assert (twice.status_code, twice.json()["code"]) == (409, "already_reversed")


async def test_the_itemised_list_shows_every_entry_page_by_page(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    await doors.desk.deposit(stay, 5_00)
    charges = [await doors.desk.charge(stay, fen) for fen in range(1, 6)]
    charge = charges[-1]
    reversal = await doors.desk.reverse(stay, charge.entry_id)
    await doors.desk.settle(stay, 10)
    path, shown = f"{stay}/statement?limit=3", []
    while path:
        page = (await doors.get(clerk, path)).json()
        shown += page["lines"]
        path = page["next"] and page["next"].split("/encounters/")[1]
    assert [line["kind"] for line in shown] == [
        "deposit", *["charge"] * 5, "reversal", "deposit_applied", "rest_refunded",
    ]  # fmt: skip
    assert (shown[5]["reversed_by"], shown[6]["reverses"]) == (str(reversal.entry_id), str(charge.entry_id))
    assert (shown[0]["debit"], shown[0]["credit"], shown[0]["amount_fen"]) == ("cash", "deposits", 5_00)
    assert (await doors.get(clerk, f"{stay}/statement?after=nonsense")).json()["code"] == "bad_cursor"


async def test_a_nurse_charges_to_the_patients_of_the_own_ward_only(doors: Doors):
    stay = await doors.desk.open(ward="W1")
    own, other = doors.somebody(Role.WARD_NURSE, wards=("W1",)), doors.somebody(Role.WARD_NURSE, wards=("W2",))
    body = {"item": "dressing", "amount_fen": 5_00}
    refused = await doors.post(other, f"{stay}/charges", body)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_your_ward")
    assert await doors.desk.account(stay) == ("open", 0, 0), "the refused charge left nothing behind"
    assert (await doors.post(own, f"{stay}/charges", body)).status_code == 201
    for path in ("account", "statement", "pre-settlement"):
        assert (await doors.get(own, f"{stay}/{path}")).status_code == 200
        assert (await doors.get(other, f"{stay}/{path}")).status_code == 403
    await doors.desk.settle(stay, 5_00)
    assert (await doors.post(own, f"{stay}/charges", body)).json()["code"] == "account_closed"
    assert (await doors.post(other, f"{stay}/charges", body)).json()["code"] == "not_your_ward"


async def test_a_nurse_waits_until_the_bed_pool_has_told_where_the_patient_lies(doors: Doors):
    stay = await doors.desk.open()
    nurse = doors.somebody(Role.WARD_NURSE, wards=("W1",))
    body = {"item": "dressing", "amount_fen": 5_00}
    early = await doors.post(nurse, f"{stay}/charges", body)
    assert (early.status_code, early.json()["code"]) == (409, "ward_not_known_yet")
    assert await doors.desk.account(stay) == ("open", 0, 0)
    waiting = asyncio.create_task(doors.post(nurse, f"{stay}/charges", body, Prefer="wait=10"))
    await asyncio.sleep(0.2)
    await doors.desk.value("INSERT INTO stay_ward VALUES ($1, 'W1')", stay)
    assert (await waiting).status_code == 201


async def test_what_comes_before_the_account_waits_for_it(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    for path, body in (
        ("charges", {"item": "x", "amount_fen": 5}),
        ("deposits", {"amount_fen": 5, "method": "cash"}),
        ("settlement", {"method": "cash", "charged_fen": 0}),
    ):
        stay = uuid4()
        early = await doors.post(clerk, f"{stay}/{path}", body)
        assert (early.status_code, early.json()["code"]) == (409, "no_account_yet")
        assert early.headers["Retry-After"] == "1"
        waiting = asyncio.create_task(doors.post(clerk, f"{stay}/{path}", body, Prefer="wait=10"))
        await asyncio.sleep(0.2)
        await doors.desk.value(
            "INSERT INTO account (id, encounter_id, patient_tok, payer_kind)"
            " VALUES (gen_random_uuid(), $1, $1, 'self_pay')",
            stay,
        )
        assert (await waiting).status_code == 201


async def test_an_unknown_stay_or_entry_is_not_found(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    for path in ("account", "statement"):
        answer = await doors.get(clerk, f"{uuid4()}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_account")
    for path, body, code in (
        (f"{uuid4()}/settlement-reopening", {"reason": "x"}, "no_account"),
        (f"{stay}/charges/{uuid4()}/reversal", {"reason": "x"}, "no_such_entry"),
        (f"{stay}/deposits/{uuid4()}/refund", {}, "no_such_entry"),
    ):
        answer = await doors.post(clerk, path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    answer = await doors.post(clerk, f"{stay}/settlement-reopening", {"reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_settled")


BAD_BODIES: tuple[tuple[str, dict[str, object]], ...] = (
    ("charges", {"item": "x", "amount_fen": 0}),
    ("charges", {"item": "x", "amount_fen": -5}),
    ("charges", {"item": "x", "amount_fen": 5.0}),
    ("charges", {"item": "x", "amount_fen": "5"}),
    ("charges", {"item": "x", "amount_fen": True}),
    ("charges", {"item": "x", "amount_fen": 10_000_000_000_001}),
    ("charges", {"item": "free text", "amount_fen": 5}),
    ("charges", {"item": "x", "amount_fen": 5, "zhang_san": "x"}),
    ("charges", {"amount_fen": 5}),
    ("deposits", {"amount_fen": 5, "method": "seashells"}),
    ("settlement", {"method": "cash", "charged_fen": -1}),
    ("settlement", {"method": "cash"}),
    ("settlement-reopening", {}),
)


async def test_bad_input_is_refused_and_changes_nothing(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    for path, body in BAD_BODIES:
        answer = await doors.post(clerk, f"{stay}/{path}", body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields"), (path, body)
        assert "zhang" not in answer.text
    assert await doors.desk.value("SELECT count(*) FROM entry") == 0


async def test_an_account_full_to_the_brim_says_so(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    for path, body in (
        ("charges", {"item": "x", "amount_fen": 10_000_000_000_000}),
        ("deposits", {"method": "cash", "amount_fen": 10_000_000_000_000}),
    ):
        assert (await doors.post(clerk, f"{stay}/{path}", body)).status_code == 201
        more = await doors.post(clerk, f"{stay}/{path}", {**body, "amount_fen": 1})
        assert (more.status_code, more.json()["code"]) == (409, "amount_too_large")


async def test_only_clerks_move_money_beyond_charges_and_deposits_and_only_supervisors_give_it_up(doors: Doors):
    stay = await doors.desk.open(ward="W1")
    for role in Role:
        who = doors.somebody(role, wards=("*",))
        both = {Role.BILLING_CLERK, Role.BILLING_SUPERVISOR}
        for path, body, may in (
            (f"{stay}/settlement", {"method": "cash", "charged_fen": 1}, {Role.BILLING_CLERK}),
            (f"{stay}/settlement-reopening", {"reason": "x"}, both),
            (f"{stay}/charges/{uuid4()}/reversal", {"reason": "x"}, both),
            (f"{stay}/deposits/{uuid4()}/refund", {}, both),
            (f"{stay}/late-charges", {"item": "x", "amount_fen": 1, "method": "cash", "reason": "x"}, both),
            (f"{stay}/late-charges", {"item": "x", "amount_fen": 1, "reason": "x"}, {Role.BILLING_SUPERVISOR}),
            (f"{stay}/bad-debt", {"charged_fen": 1, "reason": "x"}, {Role.BILLING_SUPERVISOR}),
        ):
            answer = await doors.post(who, path, body)
            assert (answer.status_code == 403) == (role not in may), (role, path)
    assert await doors.desk.account(stay) == ("open", 0, 0)


async def test_the_past_is_recorded_by_an_importer_only_and_kept_as_it_happened(doors: Doors):
    stay = await doors.desk.open()
    body = {"item": "x", "amount_fen": 5, "source": "import", "occurred_at": "2024-02-29T08:00:00+08:00"}
    assert (await doors.post(doors.somebody(Role.BILLING_CLERK), f"{stay}/charges", body)).status_code == 403
    importer = doors.somebody(Role.BILLING_CLERK, Role.IMPORTER)
    assert (await doors.post(importer, f"{stay}/charges", body)).status_code == 201
    assert str(await doors.desk.value("SELECT at FROM entry")) == "2024-02-29 00:00:00+00:00"


async def test_every_read_and_write_leaves_an_audit_row_with_the_patients_token(doors: Doors):
    clerk = doors.somebody(Role.BILLING_CLERK)
    stay = await doors.desk.open()
    await doors.post(clerk, f"{stay}/charges", {"item": "x", "amount_fen": 5})
    await doors.get(clerk, f"{stay}/account")
    rows = await doors.desk.fetch("SELECT object_type, patient_tok, outcome FROM audit ORDER BY id")
    patient = await doors.desk.value("SELECT patient_tok FROM account WHERE encounter_id = $1", stay)
    assert [tuple(row) for row in rows] == [("charge", patient, "ok"), ("account", patient, "ok")]
