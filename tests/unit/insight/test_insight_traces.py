"""Traces are shown as they happened, kept whole or not at all, and nothing of a patient is in them."""

import gzip
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import SecretStr
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from services.insight.actions import SpanKeeper
from services.insight.api import INTAKE_PATH, TraceIntake
from services.insight.domain import LagClock, StoredSpan, keeps_trace, summary, waterfall
from services.insight.otlp import read_spans
from shared.errors import BadRequest

BEGAN = datetime(2026, 3, 1, 8, tzinfo=UTC)
CANARY = "CanaryLovelace"


def a_span(
    span_id: str, parent: str | None = None, *, at_ms: int = 0, ms: int = 10, service: str = "beds"
) -> StoredSpan:
    return StoredSpan(
        trace_id="a" * 32,
        span_id=span_id,
        parent_span_id=parent,
        service=service,
        name=f"process {span_id}",
        kind="consumer",
        started_at=BEGAN + timedelta(milliseconds=at_ms),
        duration_us=ms * 1000,
        failed=False,
        encounter_id=None,
        attributes={},
        links=[],
    )


def test_a_waterfall_shows_children_below_their_parent_in_the_order_they_began():
    spans = [
        a_span("c", "a", at_ms=5),
        a_span("a"),
        a_span("d", "b", at_ms=4),
        a_span("b", "a", at_ms=2),
        a_span("lost", "gone", at_ms=9),
    ]
    lines = [(line["span_id"], line["depth"], line["offset_ms"]) for line in waterfall(spans)]
    assert lines == [("a", 0, 0), ("b", 1, 2), ("d", 2, 4), ("c", 1, 5), ("lost", 0, 9)]


def test_a_span_that_was_sent_twice_is_shown_once():
    assert len(waterfall([a_span("a"), a_span("a")])) == 1
    assert summary("a" * 32, [a_span("a"), a_span("a")])["spans"] == 1


def test_a_trace_lasts_from_its_first_beginning_to_its_last_end():
    found = summary("a" * 32, [a_span("a", ms=5), a_span("b", "a", at_ms=100, ms=20, service="billing")])
    assert found["duration_ms"] == 120
    assert found["services"] == ["beds", "billing"]
    assert found["root"] == "process a"


def test_as_the_table_fills_whole_traces_are_left_out_never_parts_of_them():
    cap = 1000
    traces = [uuid4().hex for _ in range(2000)]
    assert all(keeps_trace(trace, 0, cap) for trace in traces)
    half = sum(keeps_trace(trace, 600, cap) for trace in traces)
    assert 850 < half < 1150
    assert sum(keeps_trace(trace, 990, cap) for trace in traces) < 100
    assert not any(keeps_trace(trace, cap, cap) for trace in traces)
    kept_late = [trace for trace in traces if keeps_trace(trace, 900, cap)]
    assert all(keeps_trace(trace, 600, cap) for trace in kept_late)


def test_the_lag_in_seconds_is_how_long_the_first_unread_event_has_waited():
    clock = LagClock()
    place = ("beds.allocations.v1", 0)
    clock.note(place, 10, at=100)
    clock.note(place, 20, at=105)
    clock.note(place, 30, at=110)
    assert clock.seconds(place, 30, at=111) == 0
    assert clock.seconds(place, 25, at=111) == 1
    assert clock.seconds(place, 12, at=111) == 6
    assert clock.seconds(place, 3, at=111) == 11


# ---- what comes over the wire ---------------------------------------------------------------------------------------


def attribute(key: str, value: str | int) -> KeyValue:
    return KeyValue(
        key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    )


def an_export(encounter_id: UUID | None = None) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(
        [attribute("service.name", "wardstream-admission"), attribute("host.name", CANARY)]
    )
    span = resource_spans.scope_spans.add().spans.add(
        trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
        name="POST /api/admission/encounters",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=1_772_352_000_000_000_000,
        end_time_unix_nano=1_772_352_000_010_000_000,
        trace_state=f"x={CANARY}",
    )
    span.attributes.extend(
        [
            attribute("http.route", "/api/admission/encounters"),
            attribute("http.response.status_code", 500),
            attribute("url.path", f"/api/admission/patients/{CANARY}"),
            attribute("url.query", f"name={CANARY}"),
            attribute("error.type", f"{CANARY} was refused"),
        ]
    )
    if encounter_id is not None:
        span.attributes.append(attribute("flow.encounter_id", str(encounter_id)))
    event = span.events.add(name="exception")
    event.attributes.extend(
        [attribute("exception.type", "ValueError"), attribute("exception.message", f"{CANARY} has no bed")]
    )
    link = span.links.add(trace_id=b"\3" * 16, span_id=b"\4" * 8, trace_state=CANARY)
    link.attributes.append(attribute("note", CANARY))
    span.status.code = Status.STATUS_CODE_ERROR
    span.status.message = f"{CANARY} failed"
    return request


def test_what_is_kept_of_a_span_names_no_patient_even_when_the_sender_did_not_scrub():
    stay = uuid4()
    [span] = list(read_spans(an_export(stay).SerializeToString()))
    assert CANARY not in repr(span)
    assert span.service == "admission"
    assert span.name == "POST /api/admission/encounters"
    assert span.encounter_id == stay
    assert span.failed
    assert span.duration_us == 10_000
    assert span.attributes == {
        "http.route": "/api/admission/encounters",
        "http.response.status_code": 500,
        "error.type": "ValueError",
    }
    assert span.links == [{"trace_id": "03" * 16, "span_id": "04" * 8}]


def test_a_body_that_is_no_export_is_refused():
    with pytest.raises(BadRequest):
        list(read_spans(b"\xff\xfenot protobuf"))


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("The intake must answer itself.")


def intake(token: str = "", *, peer: str = "127.0.0.1") -> tuple[TestClient, SpanKeeper]:
    keeper = SpanKeeper(1000)
    app = TraceIntake(_nobody, keeper, SecretStr(token))
    return TestClient(app, client=(peer, 5000), raise_server_exceptions=True), keeper


HEADERS = {"content-type": "application/x-protobuf"}


def test_a_process_of_this_machine_may_send_traces():
    client, keeper = intake()
    answer = client.post(INTAKE_PATH, content=an_export().SerializeToString(), headers=HEADERS)
    assert answer.status_code == 200
    assert len(keeper._queue) == 1


def test_traces_may_come_packed():
    client, keeper = intake()
    packed = gzip.compress(an_export().SerializeToString())
    answer = client.post(INTAKE_PATH, content=packed, headers={**HEADERS, "content-encoding": "gzip"})
    assert answer.status_code == 200
    assert len(keeper._queue) == 1


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.0.0.7", {}),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.7"}),
        ("127.0.0.1", {"via": "1.1 Caddy"}),
        ("10.0.0.7", {"x-wardstream-intake": "wrong"}),
    ],
)
def test_nobody_else_may_send_traces_not_even_through_the_front_door(peer: str, headers: dict[str, str]):
    client, keeper = intake("right", peer=peer)
    answer = client.post(INTAKE_PATH, content=an_export().SerializeToString(), headers={**HEADERS, **headers})
    assert answer.status_code == 403
    assert answer.json()["code"] == "not_from_here"
    assert not keeper._queue


def test_another_machine_may_send_traces_with_the_shared_token():
    client, _ = intake("right", peer="10.0.0.7")
    headers = {**HEADERS, "x-wardstream-intake": "right"}
    assert client.post(INTAKE_PATH, content=b"", headers=headers).status_code == 200


def test_a_bomb_is_not_unpacked():
    client, _ = intake()
    bomb = gzip.compress(b"\0" * 50_000_000)
    answer = client.post(INTAKE_PATH, content=bomb, headers={**HEADERS, "content-encoding": "gzip"})
    assert answer.status_code == 413


def test_an_export_that_is_too_large_or_of_another_kind_is_refused():
    client, _ = intake()
    assert client.post(INTAKE_PATH, content=b"\0" * 5_000_000, headers=HEADERS).status_code == 413
    assert client.post(INTAKE_PATH, content=b"{}", headers={"content-type": "application/json"}).status_code == 415
    assert client.get(INTAKE_PATH).status_code == 405
