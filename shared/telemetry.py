"""Traces: one story from the door through outbox, Kafka and consumers. No patient data in any attribute (S8, V-list of 5-ecosystem 0.7).

Names of spans and attributes live here only, because the messaging conventions still move.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from shared.contracts.envelope import Envelope

_tracer = trace.get_tracer("wardstream")


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the current recorded span, or nothing when it is not sampled."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def _span_context(traceparent: str) -> SpanContext | None:
    parts = traceparent.split("-")
    try:
        return SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=TraceFlags(int(parts[3], 16)))
    except (IndexError, ValueError):
        return None


@contextmanager
def processing(envelope: Envelope, consumer: str) -> Iterator[None]:
    """Open the `process` span of one event, child of and linked to the span that created the event."""
    if envelope.traceparent is None or (origin := _span_context(envelope.traceparent)) is None:
        yield
        return
    parent = trace.set_span_in_context(NonRecordingSpan(origin), Context())
    with _tracer.start_as_current_span(
        f"process {envelope.topic}",
        context=parent,
        kind=SpanKind.CONSUMER,
        links=[Link(origin)],
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": envelope.topic,
            "messaging.destination.partition.id": str(envelope.partition),
            "messaging.consumer.group.name": consumer,
            "messaging.message.id": str(envelope.event_id),
            "flow.event_type": envelope.ce_type,
            "flow.encounter_id": str(envelope.correlation_id or ""),
        },
    ):
        yield
