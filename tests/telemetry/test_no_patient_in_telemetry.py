"""A patient's name, number and telephone planted everywhere never leave in a span, a log line or a metric (S8, I21)."""

import contextlib
import io
import json
import logging
import sys
import threading
from uuid import uuid4

import pytest
import structlog
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState
from starlette.testclient import TestClient

from shared import telemetry
from shared.telemetry import logs
from shared.telemetry.names import METRICS, SPAN_ATTRIBUTES, span_name_or_unnamed
from shared.telemetry.scrub import looks_like_a_person
from tests.telemetry.conftest import Left

NAME_ZH = "诸葛秋水"
NAME = "CanaryLovelace"
CARD = "110101199003077758"
PHONE = "13912345678"
PLANTED = (NAME_ZH, NAME, CARD, PHONE)


def assert_clean(text: str) -> None:
    for canary in PLANTED:
        assert canary not in text
        assert json.dumps(canary)[1:-1] not in text


@pytest.fixture
def door() -> FastAPI:
    app = FastAPI(telemetry={"operation_spans": True, "logs": True})

    @app.post("/api/admission/patients/{patient_tok}")
    async def touch(request: Request, patient_tok: str) -> dict[str, str]:
        span = trace.get_current_span()
        span.set_attribute("patient.name", NAME)
        span.set_attribute("error.type", f"{NAME} is not here")
        span.set_attribute("flow.encounter_id", CARD)
        span.set_attribute("http.route", f"/api/admission/patients/{NAME}")
        span.add_event(f"met {NAME}", {"phone": PHONE})
        with contextlib.suppress(ValueError):
            await request.json()
        error = ValueError(f"{NAME_ZH} {PHONE} has no bed")
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"{NAME} failed"))
        raise error

    return app


def test_a_request_full_of_patient_data_leaves_nothing_of_it_in_its_spans(door: FastAPI, left: Left):
    client = TestClient(door, raise_server_exceptions=False)
    answer = client.post(
        f"/api/admission/patients/{NAME}-{CARD}?name={NAME_ZH}&phone={PHONE}",
        json={"name": NAME_ZH, "card": CARD},
        headers={
            "host": f"{NAME}.example",
            "user-agent": NAME,
            "x-note": PHONE,
            "baggage": f"patient={NAME}",
            "traceparent": f"00-{'7' * 32}-{'8' * 16}-01",
            "tracestate": f"ward={NAME}",
        },
    )
    assert answer.status_code == 500
    spans = left.spans()
    assert spans, "nothing was recorded, so nothing was tested"
    assert_clean(left.text())
    assert_clean(repr([(span.name, span.attributes, span.events, span.context, span.parent) for span in spans]))
    server = next(span for span in spans if span.kind is SpanKind.SERVER)
    assert server.attributes is not None
    assert server.attributes["http.response.status_code"] == 500
    assert f"{server.context.trace_id:032x}" == "7" * 32
    assert {key for span in spans for key in span.attributes or {}} <= set(SPAN_ATTRIBUTES)
    exceptions = [dict(event.attributes or {}) for span in spans for event in span.events]
    assert {"exception.type": "ValueError"} in exceptions
    assert all(set(found) <= {"exception.type"} for found in exceptions)


def test_a_path_that_fits_no_route_is_not_told(door: FastAPI, left: Left):
    TestClient(door).get(f"/api/{NAME}/{CARD}")
    assert [span.name for span in left.spans()] == ["GET"]
    assert_clean(left.text())


def test_a_name_put_into_a_span_of_our_own_does_not_leave(left: Left):
    tracer = trace.get_tracer(f"ward of {NAME}", NAME)
    state = TraceState([("patient", NAME)])
    other = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    with tracer.start_as_current_span(
        f"bed for {NAME}", attributes={"messaging.destination.name": NAME, NAME: 1}, links=[Link(other, {"who": NAME})]
    ):
        telemetry.name_encounter(NAME)
    span = left.one("internal")
    assert not span.attributes
    assert [link.context.span_id for link in span.links] == [2]
    assert_clean(left.text() + repr(span.instrumentation_scope) + repr(span.links))


def test_the_stay_is_named_on_the_span_by_its_random_id(left: Left):
    stay = uuid4()
    with telemetry.running("expire_holds"):
        telemetry.name_encounter(stay)
    assert dict(left.one("run expire_holds").attributes or {}) == {
        "flow.task": "expire_holds",
        "flow.encounter_id": str(stay),
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("GET /api/beds/wards", "GET /api/beds/wards"),
        ("POST /api/admission/encounters/{encounter_id}/discharge", None),
        ("GET /api/access/.well-known/jwks.json", None),
        ("send beds.allocations.v1", None),
        ("process admission.encounters.v1", None),
        ("process patients.of.wang", "internal"),
        (f"GET /api/admission/patients/{NAME}", "GET"),
        ("GET /api/admission/patients/12345", "GET"),
        (f"GET /api/admission/patients/{NAME_ZH}", "GET"),
        (f"find {NAME}", "internal"),
        (f"run {NAME}", "internal"),
    ],
)
def test_only_names_of_a_known_form_are_told(given: str, kept: str | None):
    assert span_name_or_unnamed(given) == (kept or given)


# ---- log lines ------------------------------------------------------------------------------------------------------


class Lines:
    def __init__(self, output: io.BytesIO) -> None:
        self._output = output

    def text(self) -> str:
        return self._output.getvalue().decode()

    def all(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch):
    """The log as it would be written to stdout."""
    output = io.BytesIO()
    stream = io.TextIOWrapper(output, write_through=True)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    monkeypatch.setattr(sys, "stdout", stream)
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}
    telemetry.configure_logs("INFO")
    yield Lines(output)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook = hooks
    structlog.reset_defaults()
    stream.detach()


def test_a_log_line_says_what_happened_where_in_which_trace(lines: Lines, left: Left):
    with telemetry.running("expire_holds"):
        structlog.get_logger().info("event_parked", service="beds", topic="beds.allocations.v1", tries=3)
    [line] = lines.all()
    assert line["event"] == "event_parked"
    assert line["service"] == "beds"
    assert line["tries"] == 3
    assert line["level"] == "info"
    assert line["trace_id"] == f"{left.one('run expire_holds').context.trace_id:032x}"


def test_fields_nobody_listed_and_free_text_are_not_written(lines: Lines):
    log = structlog.get_logger()
    log.info("event_parked", reason=f"{NAME_ZH} 转科", patient=NAME, error=f"tel {PHONE}")
    log.info(f"{NAME} was admitted")  # noqa: G004 - the mistake to survive
    log.info("event_parked", service=f"Card {CARD}", at=NAME, logger=NAME)
    assert_clean(lines.text())
    first, second, third = lines.all()
    assert first["reason"] == "[redacted]"
    assert first["error"] == "[redacted]"
    assert first["dropped"] == ["patient"]
    assert second["event"] == "unnamed_event"
    assert third["dropped"] == ["at", "logger"]


def test_of_an_error_its_kind_and_place_are_written_but_not_its_words(lines: Lines):
    try:
        try:
            raise KeyError(NAME)
        except KeyError as cause:
            raise ValueError(f"{NAME_ZH} {CARD} {PHONE}") from cause
    except ValueError:
        structlog.get_logger().exception("handler_failed", service="beds")
    assert_clean(lines.text())
    [line] = lines.all()
    exception = line["exception"]
    assert isinstance(exception, list)
    assert [fact["type"] for fact in exception] == ["builtins.ValueError", "builtins.KeyError"]
    assert "test_no_patient_in_telemetry.py" in exception[0]["at"][-1]


def test_libraries_may_say_their_fixed_sentences_and_numbers_only(lines: Lines):
    library = logging.getLogger("somelibrary.client")
    library.warning("Unable to reach node %s after %d tries", NAME, 3)
    library.warning(f"Bad value for {NAME}")
    library.error("Task failed", exc_info=ValueError(NAME))
    library.error(
        "The first half of a sentence; "  # a template written in two pieces is as fixed as one
        "the second half"
    )
    assert_clean(lines.text())
    first, second, third, fourth = lines.all()
    assert fourth["event"] == "The first half of a sentence; the second half"
    assert first["event"] == "Unable to reach node <str> after 3 tries"
    assert second["event"] == "library_message"
    assert "test_no_patient_in_telemetry.py" in str(second["at"])
    assert third["event"] == "Task failed"


def test_an_error_nobody_caught_is_written_without_its_words(lines: Lines):
    try:
        raise RuntimeError(f"{NAME} {PHONE}")
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    assert_clean(lines.text())
    assert lines.all()[0]["event"] == "uncaught_error"


@pytest.mark.parametrize(
    "text", [NAME_ZH, CARD, PHONE, "139 1234 5678", "a@b.cn", "Bearer abc", "postgresql://u:p@h/d"]
)
def test_the_second_net_knows_what_looks_like_a_person_or_a_secret(text: str):
    assert looks_like_a_person(f"x {text} y")


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_no_metric_is_told_apart_by_patient_stay_or_bed():
    labels = {label for metric in METRICS.values() for label in metric.labels}
    assert labels <= {
        "topic",
        "partition",
        "consumer",
        "consumergroup",
        "group",
        "operation",
        "method",
        "route",
        "status",
        "ward",
    }


def test_a_metric_nobody_registered_cannot_be_counted():
    with pytest.raises(ValueError, match="no registered"):
        telemetry.number("patients_named_total")
