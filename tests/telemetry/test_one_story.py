"""What one request sets in motion is one trace: door, outbox, broker, consumers, and what they announce in turn."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from tests.conftest import Databases
from tests.support.hospital import Hospital, opened_hospital
from tests.telemetry.conftest import Left

pytestmark = pytest.mark.asyncio

NAME = "诸葛秋水"


@pytest_asyncio.fixture
async def hospital(databases: Databases) -> AsyncIterator[Hospital]:
    async with opened_hospital(databases) as opened:
        yield opened


def of_stay(spans: list[ReadableSpan], stay: str) -> list[ReadableSpan]:
    return [span for span in spans if (span.attributes or {}).get("flow.encounter_id") == stay]


def processed(spans: list[ReadableSpan], consumer: str, event: str) -> ReadableSpan:
    """Return the span of one consumer handling one kind of event."""
    found = [
        span
        for span in spans
        if span.kind is SpanKind.CONSUMER
        and span.attributes is not None
        and span.attributes["messaging.consumer.group.name"] == consumer
        and str(span.attributes["flow.event_type"]).split(".")[2] == event
    ]
    assert len(found) == 1, f"{consumer} handled {event} {len(found)} times"
    return found[0]


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return (
        child.parent is not None
        and child.parent.span_id == parent.context.span_id
        and child.context.trace_id == parent.context.trace_id
    )


async def test_a_request_for_a_bed_is_one_story_from_the_door_to_the_assigned_bed(hospital: Hospital, left: Left):
    patient = await hospital.register_patient(NAME)
    stay = await hospital.request_stay(patient)
    spans = of_stay(left.spans(), stay)
    door = next(span for span in spans if span.name == "POST /api/admission/encounters")
    assert door.kind is SpanKind.SERVER
    sent = [span for span in spans if span.name == "send admission.encounters.v1"]
    assert sent
    assert all(is_below(span, door) and span.kind is SpanKind.PRODUCER for span in sent)
    taken = processed(spans, "beds", "BedRequested")
    assert is_below(taken, door)
    assert [link.context.span_id for link in taken.links] == [door.context.span_id]
    told = processed(spans, "admission", "BedAssigned")
    assert is_below(told, taken), "the next event belongs to the consumer that announced it"


async def test_a_stay_from_request_to_follow_up_plan_is_found_by_its_id(hospital: Hospital, left: Left):
    stay = await hospital.admit(await hospital.register_patient(NAME))
    await hospital.charge(stay, 120_00, 30_00)
    await hospital.do(f"/admission/encounters/{stay}/discharge", {"disposition": "1"})
    spans = of_stay(left.spans(), stay)
    names = {span.name for span in spans}
    assert {
        "POST /api/admission/encounters",
        "POST /api/admission/encounters/{encounter_id}/admission",
        "POST /api/billing/encounters/{encounter_id}/charges",
        "POST /api/admission/encounters/{encounter_id}/discharge",
        "send followup.plans.v1",
    } <= names
    discharge = next(span for span in spans if span.name.endswith("/discharge"))
    planned = processed(spans, "followup", "PatientDischarged")
    vacated = processed(spans, "beds", "PatientDischarged")
    assert is_below(planned, discharge)
    assert is_below(vacated, discharge)


async def test_the_whole_story_names_nobody(hospital: Hospital, left: Left):
    patient = await hospital.register_patient(NAME)
    stay = await hospital.request_stay(patient)
    await hospital.see(f"/admission/patients/{patient}")
    await hospital.see(f"/admission/encounters/{stay}")
    text = left.text()
    assert left.spans()
    assert NAME not in text
    assert NAME.encode("unicode_escape").decode() not in text


async def test_a_handler_that_says_no_is_seen_in_the_trace(hospital: Hospital, left: Left):
    stay = await hospital.admit(await hospital.register_patient(NAME))
    left_before = len(left.spans())
    code = await hospital.refused(f"/admission/encounters/{stay}/admission")
    assert code
    refused = [span for span in left.spans()[left_before:] if span.kind is SpanKind.SERVER]
    assert [(span.attributes or {})["http.response.status_code"] for span in refused] == [409]
