"""Reads OTLP trace exports (protobuf) and keeps what may be kept: the lists of shared.telemetry apply once more (S8). Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.insight.domain import StoredSpan
from shared.errors import BadRequest
from shared.telemetry.names import (
    CLASS_FORM,
    ENCOUNTER_ID,
    RESOURCE_ATTRIBUTES,
    SPAN_ATTRIBUTES,
    has_form,
    span_name_or_unnamed,
)
from shared.telemetry.scrub import allowed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Mapping[int, str] = {
    Span.SPAN_KIND_INTERNAL: "internal",
    Span.SPAN_KIND_SERVER: "server",
    Span.SPAN_KIND_CLIENT: "client",
    Span.SPAN_KIND_PRODUCER: "producer",
    Span.SPAN_KIND_CONSUMER: "consumer",
}
LINKS_MAX = 16
DURATION_MAX = timedelta(days=2)


def read_spans(payload: bytes) -> Iterator[StoredSpan]:
    """Decode an export request into spans as they are kept.

    Raises:
        BadRequest: the payload is no ExportTraceServiceRequest.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(payload)
    except DecodeError:
        raise BadRequest("The body is no OTLP trace export.", code="not_otlp") from None
    for resource_spans in request.resource_spans:
        resource = allowed(_attributes(resource_spans.resource.attributes), RESOURCE_ATTRIBUTES)
        service = str(resource.get("service.name", "unknown")).removeprefix("wardstream-")
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if (kept := _kept(span, service)) is not None:
                    yield kept


def _kept(span: Span, service: str) -> StoredSpan | None:
    lasted_ns = span.end_time_unix_nano - span.start_time_unix_nano
    if len(span.trace_id) != 16 or len(span.span_id) != 8 or not 0 <= lasted_ns <= DURATION_MAX.total_seconds() * 1e9:
        return None
    attributes = allowed(_attributes(span.attributes), SPAN_ATTRIBUTES)
    for event in span.events:
        kind = _attributes(event.attributes).get("exception.type")
        if event.name == "exception" and has_form(CLASS_FORM, kind):
            attributes.setdefault("error.type", kind)
    encounter_id = attributes.pop(ENCOUNTER_ID, None)
    try:
        started_at = _EPOCH + timedelta(microseconds=span.start_time_unix_nano // 1000)
    except OverflowError:
        return None
    return StoredSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        service=service,
        name=span_name_or_unnamed(span.name),
        kind=_KINDS.get(span.kind, "internal"),
        started_at=started_at,
        duration_us=lasted_ns // 1000,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        encounter_id=UUID(encounter_id) if encounter_id is not None else None,
        attributes=attributes,
        links=[
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()}
            for link in span.links[:LINKS_MAX]
            if len(link.trace_id) == 16 and len(link.span_id) == 8
        ],
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind in ("string_value", "int_value", "bool_value", "double_value"):
            found[pair.key] = getattr(pair.value, kind)
    return found
