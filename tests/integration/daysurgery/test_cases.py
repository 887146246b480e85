"""A day-surgery case at its desk: every step through its door, on a real database."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.access.roles import Role
from shared.contracts.admission import PatientRegistered
from shared.contracts.beds import BedAssigned, BedHoldExpired, BedOccupied
from tests.integration.daysurgery.conftest import MORNING, Desk

pytestmark = pytest.mark.asyncio


async def test_a_patient_comes_is_operated_and_goes_home(desk: Desk) -> None:
    case = await desk.refer()
    assert (await desk.ask_slot(case)).json()["state"] == "booking_asked"
    await desk.assign_bed(case)
    assert await desk.state(case) == "booked"
    for step, state in [
        ("arrival", "arrived"),
        ("operation-start", "in_theatre"),
        ("operation-end", "operated"),
    ]:
        desk.clock.advance(timedelta(minutes=30))
        assert (await desk.done(case, step))["state"] == state
    desk.clock.advance(timedelta(hours=3))
    assert (await desk.done(case, "discharge", {"disposition": "1"}))["state"] == "discharged"
    assert await desk.names() == [
        "DaySurgeryReferred",
        "DayBedRequested",
        "DaySurgeryBooked",
        "DaySurgeryArrived",
        "OperationStarted",
        "OperationFinished",
        "DaySurgeryDischarged",
    ]
    home = (await desk.told("DaySurgeryDischarged"))[0]
    assert home["encounter_id"] == case["encounter_id"]
    assert home["procedure"] == "73761001"
    assert home["discharged_at"].startswith("2026-03-09T04:30:00")
    correlations = await desk.db.pool.fetch("SELECT DISTINCT correlation_id FROM outbox")
    assert [row["correlation_id"] for row in correlations] == [UUID(case["encounter_id"])]


async def test_the_pool_is_asked_with_sex_age_and_slot_and_no_more_of_the_patient(desk: Desk) -> None:
    case = await desk.refer(await desk.know_patient("male", 1950))
    await desk.ask_slot(case)
    asked = (await desk.told("DayBedRequested"))[0]
    assert asked.keys() == {
        "case_id", "encounter_id", "patient_tok", "sex", "age_years", "starts_at", "ends_at",
    }  # fmt: skip
    assert (asked["sex"], asked["age_years"]) == ("male", 76)


async def test_a_procedure_outside_the_catalogue_is_refused(desk: Desk) -> None:
    patient_tok = await desk.know_patient()
    answer = await desk.post("/cases", {"patient_tok": str(patient_tok), "procedure": "80146002"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "procedure_not_in_catalogue"
    assert await desk.names() == []


async def test_the_catalogue_can_be_read_with_chinese_and_english_names(desk: Desk) -> None:
    answer = (await desk.get("/procedures")).json()
    assert answer["catalogue_version"] == 1
    assert {"code": "73761001", "name_zh": "结肠镜检查", "name_en": "Colonoscopy"} in answer["procedures"]


async def test_a_referral_waits_for_a_patient_that_admission_is_just_telling_of(desk: Desk) -> None:
    patient_tok = uuid4()
    body = {"patient_tok": str(patient_tok), "procedure": "22523008"}
    at_once = await desk.post("/cases", body)
    assert (at_once.status_code, at_once.json()["code"]) == (409, "patient_not_known_yet")

    async def tell_soon() -> None:
        await asyncio.sleep(0.1)
        await desk.hear(PatientRegistered(patient_tok=patient_tok, sex="male", birth_year=1980))

    waited, _ = await asyncio.gather(desk.post("/cases", body, Prefer="wait=10"), tell_soon())
    assert waited.status_code == 201


async def test_an_arrival_waits_for_the_day_bed(desk: Desk) -> None:
    case = await desk.refer()
    await desk.ask_slot(case)
    at_once = await desk.step(case, "arrival")
    assert (at_once.status_code, at_once.json()["code"]) == (409, "no_day_bed_yet")

    async def assign_soon() -> None:
        await asyncio.sleep(0.1)
        await desk.assign_bed(case)

    waited, _ = await asyncio.gather(desk.step(case, "arrival", Prefer="wait=10"), assign_soon())
    assert waited.json()["state"] == "arrived"


async def test_the_same_identifier_opens_one_case_however_often_it_is_sent(desk: Desk) -> None:
    patient_tok = await desk.know_patient()
    identifier = {"system": "his", "value": "visit-1"}
    body = {"patient_tok": str(patient_tok), "procedure": "73761001", "identifier": identifier}
    answers = await asyncio.gather(*(desk.post("/cases", body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["case_id"] for answer in answers}) == 1
    assert await desk.names() == ["DaySurgeryReferred"]
    found = (await desk.get("/cases?identifier=his%7Cvisit-1")).json()
    assert found["cases"][0]["case_id"] == answers[0].json()["case_id"]
    other = await desk.post("/cases", {**body, "procedure": "22523008"})
    assert other.json()["code"] == "identifier_taken"


async def test_a_repeated_request_with_the_same_key_changes_nothing(desk: Desk) -> None:
    case = await desk.booked()
    first = await desk.step(case, "arrival", key="arrival-of-this-case")
    again = await desk.step(case, "arrival", key="arrival-of-this-case")
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await desk.names()).count("DaySurgeryArrived") == 1


async def test_illegal_moves_are_refused_with_a_sentence_and_change_nothing(desk: Desk) -> None:
    case = await desk.refer()
    before = await desk.names()
    for step, body in [
        ("arrival", None),
        ("operation-start", None),
        ("operation-end", None),
        ("discharge", {"disposition": "1"}),
        ("conversion", {"specialty": "general"}),
    ]:
        answer = await desk.step(case, step, body)
        assert answer.status_code == 409, step
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].endswith(".")
        assert answer.json()["facts"] == {"state": "referred"}
    assert await desk.names() == before
    assert await desk.state(case) == "referred"


async def test_a_case_that_is_not_there_is_not_found(desk: Desk) -> None:
    nowhere = {"case_id": uuid4()}
    for step, body in [("arrival", None), ("cancellation", {"by": "patient", "reason": "fever"})]:
        assert (await desk.step(nowhere, step, body)).status_code == 404
    assert (await desk.get(f"/cases/{uuid4()}")).status_code == 404


async def test_two_cases_of_one_patient_cannot_overlap(desk: Desk) -> None:
    first = await desk.booked()
    second = await desk.refer(first["patient_tok"])
    overlapping = await desk.ask_slot(second, MORNING + timedelta(hours=7))
    assert overlapping.json()["code"] == "patient_has_overlapping_case"
    assert (await desk.ask_slot(second, MORNING + timedelta(hours=8))).status_code == 200


async def test_a_cancelled_slot_can_be_taken_again(desk: Desk) -> None:
    first = await desk.booked()
    await desk.done(first, "cancellation", {"by": "hospital", "reason": "no_anaesthetist"})
    second = await desk.refer(first["patient_tok"])
    assert (await desk.ask_slot(second)).status_code == 200
    cancelled = (await desk.told("DaySurgeryCancelled"))[0]
    assert (cancelled["cancelled_by"], cancelled["temporary"]) == ("hospital", True)


async def test_the_database_itself_refuses_overlapping_cases_of_one_patient(desk: Desk) -> None:
    first = await desk.booked()
    second = await desk.refer(first["patient_tok"])
    with pytest.raises(asyncpg.ExclusionViolationError, match="one_case_at_a_time"):
        await desk.db.pool.execute(
            "UPDATE day_case SET state = 'booking_asked', starts_at = $2, ends_at = $3 WHERE case_id = $1",
            UUID(second["case_id"]),
            MORNING + timedelta(hours=1),
            MORNING + timedelta(hours=2),
        )


async def test_when_two_coordinators_book_the_same_case_one_slot_is_asked_for(desk: Desk) -> None:
    case = await desk.refer()
    answers = await asyncio.gather(*(desk.ask_slot(case, MORNING + timedelta(hours=hour)) for hour in range(0, 160, 8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"illegal_state_change"}
    assert (await desk.names()).count("DayBedRequested") == 1


async def test_when_two_cases_of_one_patient_are_booked_at_once_they_do_not_overlap(desk: Desk) -> None:
    patient_tok = await desk.know_patient()
    cases = [await desk.refer(patient_tok) for _ in range(20)]
    answers = await asyncio.gather(*(desk.ask_slot(case) for case in cases))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    refused = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert refused == {"patient_has_overlapping_case"}


async def test_a_waiting_case_shows_why_and_is_booked_when_a_bed_comes(desk: Desk) -> None:
    case = await desk.refer()
    await desk.ask_slot(case)
    await desk.waitlist(case)
    seen = (await desk.get(f"/cases/{case['case_id']}")).json()
    assert (seen["state"], seen["waiting_reason"]) == ("waitlisted", "no_free_bed")
    await desk.assign_bed(case)
    seen = (await desk.get(f"/cases/{case['case_id']}")).json()
    assert (seen["state"], seen["waiting_reason"], seen["bed_id"]) == ("booked", None, 7)


async def test_a_bed_told_twice_books_once(desk: Desk) -> None:
    case = await desk.booked()
    await desk.assign_bed(case)
    assert (await desk.names()).count("DaySurgeryBooked") == 1
    await desk.assign_bed(case, bed_id=8)
    assert [event["bed_id"] for event in await desk.told("DaySurgeryBooked")] == [7, 8]


async def test_a_bed_that_comes_after_the_cancellation_is_left_to_the_pool(desk: Desk) -> None:
    case = await desk.refer()
    await desk.ask_slot(case)
    await desk.done(case, "cancellation", {"by": "patient", "reason": "fever"})
    await desk.assign_bed(case)
    await desk.waitlist(case)
    assert await desk.state(case) == "cancelled"
    assert (await desk.names())[-1] == "DaySurgeryCancelled"


async def test_beds_of_inpatients_do_not_concern_the_day_ward(desk: Desk) -> None:
    stay, patient_tok = uuid4(), uuid4()
    held_until = MORNING + timedelta(hours=4)
    await desk.hear(
        BedAssigned(
            encounter_id=stay, patient_tok=patient_tok, bed_id=1, bed_code="W1-1", ward="W1", held_until=held_until
        )
    )
    await desk.hear(BedHoldExpired(encounter_id=stay, patient_tok=patient_tok, bed_id=1))
    assert await desk.names() == []


async def test_a_patient_who_did_not_come_loses_the_bed_and_can_only_be_cancelled(desk: Desk) -> None:
    case = await desk.booked()
    patient_tok = case["patient_tok"]
    await desk.hear(BedHoldExpired(encounter_id=case["encounter_id"], patient_tok=patient_tok, bed_id=7))
    seen = (await desk.get(f"/cases/{case['case_id']}")).json()
    assert (seen["state"], seen["bed_id"], seen["waiting_reason"]) == ("waitlisted", None, "hold_expired")
    assert (await desk.step(case, "arrival")).json()["code"] == "no_day_bed_yet"
    await desk.done(case, "cancellation", {"by": "patient", "reason": "no_show"})


async def test_a_case_becomes_an_inpatient_stay_on_the_same_encounter_and_keeps_the_bed_it_lies_in(desk: Desk) -> None:
    case = await desk.booked()
    await desk.done(case, "arrival")
    moved = BedOccupied(
        encounter_id=case["encounter_id"], patient_tok=case["patient_tok"], bed_id=9, ward="DAY", occupied_at=MORNING
    )
    await desk.hear(moved)
    await desk.done(case, "operation-start")
    await desk.done(case, "conversion", {"specialty": "cardiology"})
    converted = (await desk.told("DaySurgeryConverted"))[0]
    assert converted["encounter_id"] == case["encounter_id"]
    assert (converted["bed_id"], converted["specialty"], converted["age_years"]) == (9, "cardiology", 66)
    assert (await desk.step(case, "discharge", {"disposition": "1"})).status_code == 409
    await desk.assign_bed(case, bed_id=30, ward="W1")
    assert await desk.state(case) == "converted"


async def test_a_case_whose_patient_arrived_is_discharged_or_converted_but_not_cancelled(desk: Desk) -> None:
    case = await desk.booked()
    await desk.done(case, "arrival")
    assert (await desk.step(case, "cancellation", {"by": "hospital", "reason": "fever"})).status_code == 409
    await desk.done(case, "discharge", {"disposition": "4"})


async def test_recorded_facts_keep_their_own_time(desk: Desk) -> None:
    past = MORNING - timedelta(days=365)

    def at(hours: float, **more: object) -> dict[str, object]:
        return {"source": "import", "occurred_at": (past + timedelta(hours=hours)).isoformat(), **more}

    patient_tok = await desk.know_patient()
    body = at(-24, patient_tok=str(patient_tok), procedure="73761001")
    referred = await desk.post("/cases", body)
    case = {**referred.json(), "patient_tok": patient_tok}
    slot = {"starts_at": past.isoformat(), "ends_at": (past + timedelta(minutes=75)).isoformat()}
    assert (await desk.step(case, "booking", at(-24, **slot))).status_code == 200
    await desk.assign_bed(case)
    await desk.done(case, "arrival", at(0))
    await desk.done(case, "operation-start", at(0.25))
    await desk.done(case, "operation-end", at(1))
    await desk.done(case, "discharge", at(1.25, disposition="1"))
    rows = await desk.db.pool.fetch("SELECT type, occurred_at, source FROM outbox ORDER BY id")
    assert rows[-1]["occurred_at"] == past + timedelta(hours=1.25)
    assert {row["source"] for row in rows if "Booked" not in row["type"]} == {"import"}


async def test_the_day_list_shows_the_cases_of_the_hospitals_day_in_order_and_in_pages(desk: Desk) -> None:
    for hour in (5, 1, 3):
        case = await desk.refer()
        await desk.ask_slot(case, MORNING + timedelta(hours=hour), hours=1)
    tomorrow = await desk.refer()
    await desk.ask_slot(tomorrow, MORNING + timedelta(hours=17), hours=1)  # one o'clock at night, next day
    page = (await desk.get("/cases?date=2026-03-09&limit=2")).json()
    rest = (await desk.http.get(page["next"], headers={"Authorization": "Bearer all"})).json()
    starts = [case["starts_at"] for case in page["cases"] + rest["cases"]]
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert rest["next"] is None
    assert [case["case_id"] for case in (await desk.get("/cases?date=2026-03-10")).json()["cases"]] == [
        tomorrow["case_id"]
    ]


@pytest.mark.parametrize(
    "path",
    ["/cases?date=tomorrow", "/cases?after=x", "/cases?limit=1000", "/cases/no-id"],
    ids=["date", "cursor", "limit", "id"],
)
async def test_a_question_that_cannot_be_read_gets_a_problem_document(desk: Desk, path: str) -> None:
    answer = await desk.get(path)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"starts_at": "2026-03-09T08:00:00", "ends_at": "2026-03-09T09:00:00"},
        {"starts_at": "2026-03-09T08:00:00Z", "ends_at": "2026-03-09T09:00:00Z", "bed_id": 7},
        {"starts_at": "2026-03-09T09:00:00Z", "ends_at": "2026-03-09T08:00:00Z"},
    ],
    ids=["empty", "naive time", "unknown field", "ends before it starts"],
)
async def test_a_slot_that_cannot_be_read_or_is_none_changes_nothing(desk: Desk, body: dict[str, object]) -> None:
    case = await desk.refer()
    answer = await desk.step(case, "booking", body)
    assert answer.status_code in (409, 422)
    assert await desk.state(case) == "referred"


async def test_a_ward_nurse_moves_the_patients_of_her_own_ward_only(desk: Desk) -> None:
    case = await desk.booked()
    here = desk.hire("nurse-of-the-day-ward", Role.WARD_NURSE, wards=("DAY",))
    elsewhere = desk.hire("nurse-of-another-ward", Role.WARD_NURSE, wards=("W1",))
    assert (await desk.step(case, "arrival", who=elsewhere)).status_code == 403
    assert (await desk.get(f"/cases/{case['case_id']}", who=elsewhere)).status_code == 403
    assert (await desk.get("/cases", who=elsewhere)).json()["cases"] == []
    assert len((await desk.get("/cases", who=here)).json()["cases"]) == 1
    assert (await desk.step(case, "arrival", who=here)).status_code == 200


@pytest.mark.parametrize(
    ("role", "step"),
    [
        (Role.WARD_NURSE, "booking"),
        (Role.BILLING_CLERK, "arrival"),
        (Role.DOCTOR, "cancellation"),
        (Role.OPS, "arrival"),
    ],
)
async def test_whose_duty_it_is_not_is_refused(desk: Desk, role: Role, step: str) -> None:
    case = await desk.refer()
    bodies = {"booking": {"starts_at": "2026-03-09T08:00:00Z", "ends_at": "2026-03-09T09:00:00Z"},
              "cancellation": {"by": "patient", "reason": "fever"}}  # fmt: skip
    assert (await desk.step(case, step, bodies.get(step), who=role.value)).status_code == 403
    assert await desk.state(case) == "referred"


async def test_every_read_and_every_step_is_in_the_audit_trail(desk: Desk) -> None:
    case = await desk.booked()
    await desk.get(f"/cases/{case['case_id']}")
    rows = await desk.db.pool.fetch("SELECT action, object_type, patient_tok FROM audit ORDER BY id")
    assert [row["action"] for row in rows] == [
        "POST /cases",
        "POST /cases/{case_id}/booking",
        "GET /cases/{case_id}",
    ]
    assert {row["patient_tok"] for row in rows} == {case["patient_tok"]}
