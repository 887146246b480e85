"""One patient's whole stay, and every way to take a step back."""

from datetime import timedelta

import pytest

from shared.clock import FrozenClock
from tests.support.hospital import Hospital

pytestmark = pytest.mark.asyncio


async def types_of(hospital: Hospital, encounter: str) -> list[str]:
    """Return the names of all events of one stay, service by service."""
    found = []
    for service in hospital.runtimes:
        rows = await hospital.sql(
            service, "SELECT type FROM outbox WHERE correlation_id = $1::uuid ORDER BY id", encounter
        )
        found += [row["type"].split(".")[2] for row in rows]
    return found


async def test_a_stay_runs_from_request_to_follow_up_with_its_23_events(hospital: Hospital):
    encounter = await hospital.request_stay(await hospital.register_patient())
    assert (await hospital.see(f"/admission/encounters/{encounter}"))["state"] == "pending_admit"
    await hospital.do(f"/admission/encounters/{encounter}/admission")
    bed = await hospital.bed_of(encounter)
    assert bed["state"] == "arrived"
    await hospital.charge(encounter, 100, 250, 1, 12_345, 99)
    settled = await hospital.settle(encounter)
    assert settled["charged_fen"] == 12_795
    await hospital.do(f"/admission/encounters/{encounter}/discharge", {"disposition": "1"})
    await hospital.do(f"/beds/beds/{bed['bed_id']}/cleaning-done")
    stay = await hospital.see(f"/admission/encounters/{encounter}")
    assert stay["state"] == "closed"
    plan = await hospital.see(f"/followup/encounters/{encounter}/plan")
    assert len(plan["tasks"]) == 3
    assert sorted(await types_of(hospital, encounter)) == sorted(
        ["PreAdmissionRegistered", "BedRequested", "PatientAdmitted", "PaperworkCompleted", "DischargeOrdered", "PatientDischarged"]
        + ["BedRequestOpened", "BedAssigned", "BedOccupied", "BedVacated", "CleaningRequested"]
        + ["AccountOpened"] + ["ChargePosted"] * 5 + ["AccountSettled", "AccountClosed"]
        + ["FollowUpPlanActivated", "FollowUpTasksCreated"]
    )  # fmt: skip
    freed = await hospital.sql(
        "beds", "SELECT type FROM outbox WHERE type LIKE '%BedCleaned%' OR type LIKE '%BedFreed%'"
    )
    assert len(freed) == 2


async def test_no_name_leaves_admission(hospital: Hospital):
    tok = await hospital.register_patient("司马相如")
    encounter = await hospital.admit(tok)
    await hospital.charge(encounter, 500)
    for service in hospital.runtimes:
        rows = await hospital.sql(service, "SELECT body::text FROM outbox")
        assert all("司马" not in row["body"] for row in rows)
        answers = await hospital.sql(service, "SELECT response FROM idem")
        assert all("司马相如" not in row["response"] for row in answers)
    for log in hospital.broker.logs.values():
        assert all("司马".encode() not in (record.value or b"") for record in log)
    shown = await hospital.see(f"/admission/patients/{tok}")
    assert shown["masked_name"] != "司马相如"


async def test_revealing_a_name_is_written_down(hospital: Hospital):
    tok = await hospital.register_patient("张三丰")
    response = await hospital.ask("POST", f"/admission/patients/{tok}/reveal", {"purpose": "call"}, who="ward_nurse")
    assert response.json()["name"] == "张三丰"
    rows = await hospital.sql("admission", "SELECT purpose, role FROM audit WHERE object_type = 'patient_name'")
    assert [tuple(row) for row in rows] == [("call", "ward_nurse")]


async def test_a_cancelled_pre_admission_gives_its_bed_back(hospital: Hospital):
    encounter = await hospital.request_stay(await hospital.register_patient())
    bed = await hospital.bed_of(encounter)
    await hospital.do(f"/admission/encounters/{encounter}/cancellation", {"reason": "patient_wish"})
    rows = await hospital.sql("beds", "SELECT commitment, condition FROM bed WHERE bed_id = $1", bed["bed_id"])
    assert [tuple(row) for row in rows] == [("free", "U")]
    assert (await hospital.bed_of(encounter))["state"] == "cancelled"
    assert await hospital.refused(f"/admission/encounters/{encounter}/admission") == "illegal_state_change"


async def test_an_admission_with_charges_is_not_cancelled_before_they_are_reversed(hospital: Hospital):
    encounter = await hospital.admit()
    [entry] = await hospital.charge(encounter, 4_200)
    cancel = f"/admission/encounters/{encounter}/admission-cancellation"
    assert await hospital.refused(cancel, {"reason": "wrong_patient"}) == "charges_posted"
    await hospital.do(f"/billing/encounters/{encounter}/charges/{entry}/reversal", {"reason": "wrong_patient"})
    await hospital.do(cancel, {"reason": "wrong_patient"})
    assert (await hospital.bed_of(encounter))["state"] == "left"
    account = await hospital.see(f"/billing/encounters/{encounter}/account")
    assert account["state"] == "voided"


async def test_a_recalled_patient_gets_the_old_bed_back_after_the_settlement_is_reopened(hospital: Hospital):
    encounter = await hospital.admit()
    await hospital.charge(encounter, 1_000)
    await hospital.settle(encounter)
    await hospital.do(f"/admission/encounters/{encounter}/discharge")
    old = await hospital.bed_of(encounter)
    recall = f"/admission/encounters/{encounter}/discharge-cancellation"
    assert await hospital.refused(recall, {"reason": "relapse"}) == "settled"
    await hospital.do(f"/billing/encounters/{encounter}/settlement-reopening", {"reason": "relapse"})
    await hospital.do(recall, {"reason": "relapse"})
    bed = await hospital.bed_of(encounter)
    assert (bed["state"], bed["bed_id"]) == ("arrived", old["bed_id"])
    plan = await hospital.see(f"/followup/encounters/{encounter}/plan")
    assert plan["state"] == "on_hold"
    await hospital.charge(encounter, 500)
    assert (await hospital.settle(encounter))["charged_fen"] == 1_500
    await hospital.do(f"/admission/encounters/{encounter}/discharge")
    assert (await hospital.see(f"/followup/encounters/{encounter}/plan"))["state"] == "active"


async def test_a_recalled_patient_gets_another_bed_when_the_old_one_is_taken(hospital: Hospital):
    encounter = await hospital.admit()
    await hospital.do(f"/admission/encounters/{encounter}/discharge")
    old = await hospital.bed_of(encounter)
    await hospital.do(f"/beds/beds/{old['bed_id']}/cleaning-done")
    await hospital.do(f"/beds/beds/{old['bed_id']}/block", {"reason": "repair"})
    await hospital.do(f"/admission/encounters/{encounter}/discharge-cancellation", {"reason": "relapse"})
    bed = await hospital.bed_of(encounter)
    assert bed["state"] == "arrived"
    assert bed["bed_id"] != old["bed_id"]


async def test_an_order_to_leave_can_be_taken_back(hospital: Hospital):
    encounter = await hospital.admit()
    await hospital.do(f"/admission/encounters/{encounter}/discharge-order")
    assert (await hospital.bed_of(encounter))["state"] == "arrived", "V4: the bed is freed only when the patient leaves"
    await hospital.do(f"/admission/encounters/{encounter}/discharge-order-undo", {"reason": "fever"})
    assert (await hospital.see(f"/admission/encounters/{encounter}"))["state"] == "admitted"


async def test_a_patient_is_not_admitted_twice(hospital: Hospital):
    tok = await hospital.register_patient()
    await hospital.admit(tok)
    second = await hospital.request_stay(tok)
    assert await hospital.refused(f"/admission/encounters/{second}/admission") == "already_in_hospital"


async def test_a_hold_that_ran_out_goes_back_to_the_queue(hospital: Hospital):
    encounter = await hospital.request_stay(await hospital.register_patient())
    await hospital.sql("beds", "UPDATE bed_claim SET hold_expires = now() - interval '1 minute' WHERE state = 'held'")
    await hospital.turn_timers()
    assert (await hospital.bed_of(encounter))["state"] == "assigned", (
        "a bed is free, so the next one is offered at once"
    )
    types = await types_of(hospital, encounter)
    assert types.count("BedHoldExpired") == 1
    assert types.count("BedAssigned") == 2


async def test_the_dead_are_not_called(hospital: Hospital):
    encounter = await hospital.admit()
    await hospital.do(f"/admission/encounters/{encounter}/discharge", {"disposition": "5"})
    response = await hospital.ask("GET", f"/followup/encounters/{encounter}/plan")
    assert response.status_code == 404
    assert (
        await hospital.refused(f"/admission/encounters/{encounter}/discharge-cancellation", {"reason": "x"})
        == "deceased"
    )


async def test_a_day_case_books_arrives_and_goes_home(hospital: Hospital):
    tok = await hospital.register_patient()
    assert isinstance(hospital.clock, FrozenClock)
    starts, ends = hospital.clock.at + timedelta(hours=1), hospital.clock.at + timedelta(hours=7)
    case = await hospital.do(
        "/daysurgery/cases", {"patient_tok": tok, "procedure": "73761001", "payer_kind": "self_pay"}
    )
    path, encounter = f"/daysurgery/cases/{case['case_id']}", case["encounter_id"]
    await hospital.do(f"{path}/booking", {"starts_at": starts.isoformat(), "ends_at": ends.isoformat()})
    hospital.clock.advance(timedelta(hours=1))
    await hospital.do(f"{path}/arrival")
    bed = await hospital.bed_of(encounter)
    assert bed["state"] == "arrived"
    await hospital.charge(encounter, 88_800)
    await hospital.do(f"{path}/operation-start")
    hospital.clock.advance(timedelta(hours=1))
    await hospital.do(f"{path}/operation-end")
    await hospital.settle(encounter)
    hospital.clock.advance(timedelta(hours=2))
    await hospital.do(f"{path}/discharge", {"disposition": "1"})
    await hospital.do(f"/beds/beds/{bed['bed_id']}/cleaning-done")
    assert len((await hospital.see(f"/followup/encounters/{encounter}/plan"))["tasks"]) >= 1


async def test_a_converted_day_case_keeps_its_account_and_its_bed_until_moved_v7(hospital: Hospital):
    tok = await hospital.register_patient()
    assert isinstance(hospital.clock, FrozenClock)
    starts, ends = hospital.clock.at, hospital.clock.at + timedelta(hours=6)
    case = await hospital.do(
        "/daysurgery/cases", {"patient_tok": tok, "procedure": "73761001", "payer_kind": "self_pay"}
    )
    path, encounter = f"/daysurgery/cases/{case['case_id']}", case["encounter_id"]
    await hospital.do(f"{path}/booking", {"starts_at": starts.isoformat(), "ends_at": ends.isoformat()})
    await hospital.do(f"{path}/arrival")
    await hospital.charge(encounter, 70_000)
    bed = await hospital.bed_of(encounter)
    hospital.clock.advance(timedelta(hours=2))
    await hospital.do(f"{path}/conversion", {"specialty": "surgery"})
    stay = await hospital.see(f"/admission/encounters/{encounter}")
    assert (stay["state"], stay["bed_id"]) == ("admitted", bed["bed_id"])
    await hospital.charge(encounter, 30_000)
    assert (await hospital.settle(encounter))["charged_fen"] == 100_000
    [target] = await hospital.sql(
        "beds", "SELECT * FROM bed WHERE ward = '5A' AND class = 'standard' AND commitment = 'free' LIMIT 1"
    )
    to_ward = {"bed_id": target["bed_id"], "version": target["version"], "reason": "clinical_need"}
    await hospital.do(f"/beds/encounters/{encounter}/transfer", to_ward)
    assert (await hospital.see(f"/admission/encounters/{encounter}"))["ward"] == "5A"
    hospital.clock.advance(timedelta(days=2))
    await hospital.do(f"/admission/encounters/{encounter}/discharge")
    assert (await hospital.bed_of(encounter))["state"] == "left"
    assert (await hospital.see(f"/admission/encounters/{encounter}"))["state"] == "closed"


async def test_repeating_any_step_with_its_key_changes_nothing(hospital: Hospital):
    tok = await hospital.register_patient()
    body = {"patient_tok": tok}
    first = await hospital.ask("POST", "/admission/encounters", body, key="the-same-key")
    again = await hospital.ask("POST", "/admission/encounters", body, key="the-same-key")
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = await hospital.ask("POST", "/admission/encounters", {**body, "urgency": "urgent"}, key="the-same-key")
    assert other.json()["code"] == "idempotency_key_reused"
    assert len(await hospital.sql("admission", "SELECT 1 FROM encounter")) == 1


async def test_a_patient_who_waited_gets_the_bed_that_was_cleaned_meanwhile(hospital: Hospital):
    assert isinstance(hospital.clock, FrozenClock)
    await hospital.sql(
        "beds",
        "UPDATE bed SET service = 'suspended', suspended_reason = 'repair' WHERE bed_id <> (SELECT min(bed_id) FROM bed)",
    )
    first = await hospital.admit()
    waiting = await hospital.request_stay(await hospital.register_patient(sex="male"))
    assert (await hospital.bed_of(waiting))["state"] == "waiting"
    hospital.clock.advance(timedelta(hours=1))
    await hospital.do(f"/admission/encounters/{first}/discharge")
    bed = await hospital.bed_of(first)
    hospital.clock.advance(timedelta(minutes=30))
    await hospital.do(f"/beds/beds/{bed['bed_id']}/cleaning-done")
    hospital.clock.advance(timedelta(minutes=1))
    await hospital.turn_timers()
    assert (await hospital.bed_of(waiting))["bed_id"] == bed["bed_id"]


async def test_a_stay_keeps_its_times_however_late_the_pool_hears_of_it(hospital: Hospital):
    assert isinstance(hospital.clock, FrozenClock)
    encounter = await hospital.request_stay(await hospital.register_patient())
    admitted_at = hospital.clock.at
    stay = f"/admission/encounters/{encounter}"
    assert (await hospital.ask("POST", f"{stay}/admission", {})).status_code == 200
    hospital.clock.advance(timedelta(hours=2))
    assert (await hospital.ask("POST", f"{stay}/discharge", {})).status_code == 200
    await hospital.drain()
    [row] = await hospital.sql(
        "beds", "SELECT lower(during) AS came, upper(during) AS left FROM bed_claim WHERE state = 'closed'"
    )
    assert (row["came"], row["left"]) == (admitted_at, admitted_at + timedelta(hours=2))
