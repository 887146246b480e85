"""Spans: how they are opened at the doors, in the relay and in the consumers, and how they leave, scrubbed and without hurting anybody.

A stay is one trace per cause: a request, the events it announced, what consumers did with them, the events those announced.
`flow.encounter_id` joins the traces of one stay. Links say where deferred work came from.
"""

import atexit
import http.client
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.contracts.envelope import Envelope
from shared.ids import new_id
from shared.telemetry import metrics
from shared.telemetry.names import ENCOUNTER_ID
from shared.telemetry.scrub import scrubbed_span

EXPORT_SECONDS_MAX = 1.0
SHUTDOWN_SECONDS_MAX = 2.0
HELD_BATCHES_MAX = 8
AWAY_SECONDS_MAX = 30.0
QUEUE_SPANS_MAX = 4096
BATCH_SPANS_MAX = 512
DELAY_MS = 500

_ODD = frozenset("13579bdf")
"""Last digits of a traceparent that is sampled; looked at first, because most are not."""

_tracer = trace.get_tracer("wardstream")
_sent = metrics.number("messaging.client.sent.messages")
_consumed = metrics.number("messaging.client.consumed.messages")
_operation_seconds = metrics.histogram("messaging.client.operation.duration")
_process_seconds = metrics.histogram("messaging.process.duration")
_exported = metrics.number("flow_spans_exported_total").of()
_dropped = metrics.number("flow_spans_dropped_total").of()


# ---- where spans begin ----------------------------------------------------------------------------------------------


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the current recorded span, or nothing when it is not sampled."""
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN:
        return None
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def name_encounter(encounter_id: UUID | str | None) -> None:
    """Write on the current span which stay this is about, so that the traces of one stay are found together."""
    span = trace.get_current_span()
    if encounter_id is not None and span.is_recording():
        span.set_attribute(ENCOUNTER_ID, str(encounter_id))


def _span_context(traceparent: str) -> SpanContext | None:
    """Return the sampled span a traceparent names; nothing when it is unreadable or not sampled."""
    parts = traceparent.split("-")
    try:
        flags = TraceFlags(int(parts[3], 16))
        context = SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=flags)
    except (IndexError, ValueError):
        return None
    return context if flags.sampled and context.is_valid else None


def _below(origin: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(origin), Context())


class _Processing:
    """The `process` span of one event."""

    __slots__ = ("_consumer", "_envelope", "_origin", "_span", "_token")

    def __init__(self, envelope: Envelope, consumer: str, origin: SpanContext) -> None:
        self._envelope = envelope
        self._consumer = consumer
        self._origin = origin

    def __enter__(self) -> None:
        envelope, origin = self._envelope, self._origin
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": envelope.topic,
            "messaging.destination.partition.id": str(envelope.partition),
            "messaging.kafka.offset": envelope.offset,
            "messaging.consumer.group.name": self._consumer,
            "messaging.message.id": str(envelope.event_id),
            "flow.event_type": envelope.ce_type,
        }
        if envelope.correlation_id is not None:
            attributes[ENCOUNTER_ID] = str(envelope.correlation_id)
        span = _tracer.start_span(
            f"process {envelope.topic}", _below(origin), SpanKind.CONSUMER, attributes, links=[Link(origin)]
        )
        self._span = span
        self._token = attach(trace.set_span_in_context(span))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        span = self._span
        detach(self._token)
        if kind is not None:
            span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def processing(envelope: Envelope, consumer: str) -> _Processing | None:
    """Return the `process` span of one event, child of and linked to the span that announced it; none when it is not sampled."""
    traceparent = envelope.traceparent
    if traceparent is None or traceparent[-1:] not in _ODD or (origin := _span_context(traceparent)) is None:
        return None
    return _Processing(envelope, consumer, origin)


def processed(consumer: str, topic: str, began: float) -> None:
    """Count how long the handling of one event took that began at `time.perf_counter()` = `began`."""
    _process_seconds.of(consumer, topic).observe(time.perf_counter() - began)


@contextmanager
def running(task: str, origin: str | None = None) -> Iterator[None]:
    """Open a new trace for work that comes round by itself, linked to what asked for it long ago (`origin`: a traceparent)."""
    asked_by = _span_context(origin) if origin is not None else None
    with _tracer.start_as_current_span(
        f"run {task}",
        context=Context(),
        attributes={"flow.task": task},
        links=[Link(asked_by)] if asked_by is not None else [],
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
            span.set_status(Status(StatusCode.ERROR))
            raise


def consumed(consumer: str, records: Sequence[Any]) -> None:
    """Count fetched records by topic."""
    for topic, count in Counter(map(attrgetter("topic"), records)).items():
        _consumed.of(consumer, topic).inc(count)


def sent(
    rows: Sequence[Mapping[str, Any]], topic_of: Mapping[str, str], outcomes: Sequence[Any], began_at: float
) -> None:
    """Count acknowledged outbox rows and write a `send` span for each sampled one, below the span that announced it.

    Args:
        rows: outbox rows as the relay read them.
        topic_of: the topic of each event type.
        outcomes: per row where it lies, or why it was not acknowledged.
        began_at: `time.time()` when the first was handed to the producer.
    """
    now = time.time()
    counts: dict[str, int] = {}
    for row, outcome in zip(rows, outcomes, strict=True):
        topic = topic_of[row["type"]]
        failed = isinstance(outcome, BaseException)
        if not failed:
            counts[topic] = counts.get(topic, 0) + 1
        traceparent = row["traceparent"]
        if traceparent is not None and (origin := _span_context(traceparent)) is not None:
            _write_send_span(row, topic, outcome, origin, began_at, now)
    for topic, count in counts.items():
        _sent.of(topic).inc(count)
    _operation_seconds.of("send").observe(now - began_at)


def _write_send_span(
    row: Mapping[str, Any], topic: str, outcome: Any, origin: SpanContext, began_at: float, ended_at: float
) -> None:
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "messaging.message.id": str(row["event_id"]),
        "flow.event_type": row["type"],
    }
    if row["correlation_id"] is not None:
        attributes[ENCOUNTER_ID] = str(row["correlation_id"])
    if isinstance(outcome, BaseException):
        attributes["error.type"] = type(outcome).__qualname__
    else:
        attributes["messaging.destination.partition.id"] = str(outcome.partition)
        attributes["messaging.kafka.offset"] = outcome.offset
    span = _tracer.start_span(
        f"send {topic}", _below(origin), SpanKind.PRODUCER, attributes, start_time=int(began_at * 1e9)
    )
    if "error.type" in attributes:
        span.set_status(Status(StatusCode.ERROR))
    span.end(int(ended_at * 1e9))


# ---- how spans leave ------------------------------------------------------------------------------------------------


class ScrubbingExporter(SpanExporter):
    """Hands scrubbed copies to another exporter; what cannot be scrubbed does not leave (S8)."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Scrub and hand on."""
        return self._inner.export([scrubbed_span(span) for span in spans])

    def shutdown(self) -> None:
        """End the other exporter."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Let the other exporter send what it holds."""
        return self._inner.force_flush(timeout_millis)


class OtlpExporter(SpanExporter):
    """Sends OTLP/HTTP protobuf with one short attempt per batch; a receiver that is away costs spans, never the service.

    The exporter of the SDK sleeps and retries inside the call, for up to a minute at shutdown. This one keeps a few
    batches for later, asks a receiver that is away again after growing waits, and ends when it is told to.
    """

    def __init__(self, endpoint: str, token: str = "") -> None:
        parts = urlsplit(endpoint)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port
        self._path = parts.path or "/v1/traces"
        self._headers = {"Content-Type": "application/x-protobuf"} | ({"X-Wardstream-Intake": token} if token else {})
        self._held: deque[tuple[int, bytes]] = deque()
        self._away_until = 0.0
        self._away_seconds = 1.0
        self._end_by: float | None = None

    def end_by(self, at: float) -> None:
        """Give up everything that would take longer than until `at` (monotonic seconds)."""
        self._end_by = at

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans, or keep them for later; the oldest kept ones are dropped first."""
        self._held.append((len(spans), encode_spans(spans).SerializeToString()))
        self._send_held()
        while len(self._held) > HELD_BATCHES_MAX:
            _dropped.inc(self._held.popleft()[0])
        return SpanExportResult.SUCCESS if not self._held else SpanExportResult.FAILURE

    def _send_held(self) -> None:
        while self._held and time.monotonic() >= self._away_until:
            seconds = EXPORT_SECONDS_MAX
            if self._end_by is not None:
                seconds = min(seconds, (self._end_by - time.monotonic()) / 3)
                if seconds <= 0.01:
                    return
            count, payload = self._held[0]
            try:
                status = self._post(payload, seconds)
            except (OSError, http.client.HTTPException):
                self._stay_away()
                return
            if status in (429, 502, 503, 504):
                self._stay_away()
                return
            self._held.popleft()
            self._away_seconds = 1.0
            (_exported if status < 300 else _dropped).inc(count)

    def _stay_away(self) -> None:
        self._away_until = time.monotonic() + self._away_seconds
        self._away_seconds = min(self._away_seconds * 2, AWAY_SECONDS_MAX)

    def _post(self, payload: bytes, seconds: float) -> int:
        """Send one batch; every wait in it is bounded by `seconds`, and no proxy of the environment is asked."""
        connect = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = connect(self._host, self._port, timeout=seconds)
        try:
            connection.request("POST", self._path, payload, self._headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def shutdown(self) -> None:
        """Drop what was not taken."""
        for count, _ in self._held:
            _dropped.inc(count)
        self._held.clear()


def sampler_for(ratio: float) -> Sampler:
    """Return the sampler: a trace that began elsewhere is followed as it was decided there, of new ones a share is recorded."""
    return ParentBased(TraceIdRatioBased(ratio))


def make_tracer_provider(service: str, sampler: Sampler) -> TracerProvider:
    """Return a provider that names the service and knows nothing else about the machine."""
    resource = Resource(
        {
            "service.name": f"wardstream-{service}",
            "service.instance.id": new_id().hex[-12:],
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version,
        }
    )
    return TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)


class _Exporting:
    """The one span pipeline of this process."""

    def __init__(self, endpoint: str, token: str) -> None:
        self.exporter = OtlpExporter(endpoint, token)
        self.processor = BatchSpanProcessor(
            ScrubbingExporter(self.exporter),
            max_queue_size=QUEUE_SPANS_MAX,
            schedule_delay_millis=DELAY_MS,
            max_export_batch_size=BATCH_SPANS_MAX,
        )

    def shutdown(self) -> None:
        """Send what is left within two seconds, or leave it."""
        self.exporter.end_by(time.monotonic() + SHUTDOWN_SECONDS_MAX * 0.8)
        ending = threading.Thread(target=self.processor.shutdown, daemon=True)
        ending.start()
        ending.join(SHUTDOWN_SECONDS_MAX)


_exporting: _Exporting | None = None


def configure_traces(service: str, *, endpoint: str, ratio: float, token: str = "") -> None:
    """Record spans of this process and send them to `endpoint`; without one, requests get trace ids and nothing is recorded."""
    global _exporting
    # Baggage of a client is neither read nor passed on: it may contain anything.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    provider = make_tracer_provider(service, sampler_for(ratio) if endpoint else ALWAYS_OFF)
    if endpoint:
        _exporting = _Exporting(endpoint, token)
        provider.add_span_processor(_exporting.processor)
        atexit.register(shutdown)
    trace.set_tracer_provider(provider)


def shutdown() -> None:
    """Send the spans that wait and stop; never takes longer than two seconds."""
    global _exporting
    exporting, _exporting = _exporting, None
    if exporting is not None:
        exporting.shutdown()
