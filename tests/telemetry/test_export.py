"""Spans reach the receiver; one that is away, slow or full costs spans and never the service."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from services.insight.otlp import read_spans
from shared.telemetry import traces
from shared.telemetry.traces import OtlpExporter, _Exporting, make_tracer_provider


class Receiver(BaseHTTPRequestHandler):
    """Remembers what came and answers with `status`."""

    status: ClassVar[int] = 200
    came: ClassVar[list[bytes]] = []
    tokens: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.came.append(body)
        self.tokens.append(self.headers.get("X-Wardstream-Intake"))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    Receiver.status = 200
    Receiver.came.clear()
    Receiver.tokens.clear()
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api/insight/v1/traces"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def deaf() -> Iterator[str]:
    """A receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"


def spans(count: int) -> list[ReadableSpan]:
    provider = make_tracer_provider("beds", ALWAYS_ON)
    found: list[ReadableSpan] = []
    for _ in range(count):
        span = provider.get_tracer("wardstream").start_span("run keep_time")
        span.end()
        assert isinstance(span, ReadableSpan)
        found.append(span)
    return found


def pipeline(endpoint: str) -> tuple[TracerProvider, _Exporting]:
    exporting = _Exporting(endpoint, "")
    provider = make_tracer_provider("beds", ALWAYS_ON)
    provider.add_span_processor(exporting.processor)
    return provider, exporting


def test_what_is_recorded_reaches_the_receiver_and_can_be_read_there(receiver: str):
    provider, exporting = pipeline(receiver)
    with provider.get_tracer("wardstream").start_as_current_span("run keep_time"):
        pass
    exporting.shutdown()
    [span] = [span for payload in Receiver.came for span in read_spans(payload)]
    assert (span.service, span.name) == ("beds", "run keep_time")


def test_the_shared_token_is_shown_to_a_receiver_elsewhere(receiver: str):
    OtlpExporter(receiver, "secret").export(spans(1))
    assert Receiver.tokens == ["secret"]


def test_spans_wait_for_a_receiver_that_is_away_for_a_moment(receiver: str):
    Receiver.status = 503
    exporter = OtlpExporter(receiver)
    exporter.export(spans(2))
    Receiver.status = 200
    exporter._away_until = 0.0
    exporter.export(spans(3))
    assert sum(len(list(read_spans(payload))) for payload in Receiver.came[1:]) == 5


def test_a_receiver_that_is_away_is_not_asked_again_and_again(receiver: str):
    Receiver.status = 503
    exporter = OtlpExporter(receiver)
    for _ in range(20):
        exporter.export(spans(1))
    assert len(Receiver.came) == 1
    assert len(exporter._held) <= traces.HELD_BATCHES_MAX


def test_spans_that_are_refused_are_not_sent_again(receiver: str):
    Receiver.status = 403
    exporter = OtlpExporter(receiver)
    exporter.export(spans(1))
    assert not exporter._held


def test_recording_does_not_wait_for_a_deaf_receiver(deaf: str):
    provider, exporting = pipeline(deaf)
    batches = 12
    began = time.monotonic()
    for _ in range(batches * traces.BATCH_SPANS_MAX):
        provider.get_tracer("wardstream").start_span("run keep_time").end()
    assert time.monotonic() - began < batches * traces.EXPORT_SECONDS_MAX, "each batch waits so long by itself"
    exporting.exporter.end_by(0)
    exporting.shutdown()


@pytest.mark.parametrize("full", [10, 4000])
def test_ending_takes_two_seconds_at_most_with_a_deaf_receiver(deaf: str, full: int):
    provider, exporting = pipeline(deaf)
    for _ in range(full):
        provider.get_tracer("wardstream").start_span("run keep_time").end()
    began = time.monotonic()
    exporting.shutdown()
    assert time.monotonic() - began <= traces.SHUTDOWN_SECONDS_MAX + 1, "a busy machine may take a moment more"


def test_ending_without_a_receiver_is_quick():
    provider, exporting = pipeline("http://127.0.0.1:9/v1/traces")
    provider.get_tracer("wardstream").start_span("run keep_time").end()
    began = time.monotonic()
    exporting.shutdown()
    assert time.monotonic() - began < 1
