"""What keeps patient data out of spans and log lines: allow-lists first, a search for what looks like a person second (S8).

Used where spans leave a service, once more where they are stored, and for every log line.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.status import Status

from shared.telemetry.names import (
    EVENT_ATTRIBUTES,
    RESOURCE_ATTRIBUTES,
    SPAN_ATTRIBUTES,
    UUID_FORM,
    Form,
    has_form,
    span_name_or_unnamed,
)

REDACTED = "[redacted]"
TEXT_CHARS_MAX = 200

_LOOKS_LIKE_A_PERSON = re.compile(
    r"""
      [\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]   # Han script, extensions too
    | \d[\d\s-]{5,}\d [\dXx]?                              # telephone, card, record and id-card numbers
    | [^\s@]+@[^\s@]+\.[^\s@]+                             # a mail address
    | eyJ[\w-]{6,}\.                                       # a token
    | (?:bearer|basic)\s+\S+
    | ://[^/\s:@]+:[^/\s@]+@                               # an address with a password
    """,
    re.VERBOSE | re.IGNORECASE,
)
_HEX_ID = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_ .,:;/(){}<>\[\]*+=%'-]{0,200}")


def looks_like_a_person(text: str) -> bool:
    """Say whether a text contains what could name or identify a patient, or a secret."""
    return _LOOKS_LIKE_A_PERSON.search(text) is not None


def redacted_value(value: object) -> object:
    """Return a log field's value as it may be written: numbers and ids as they are, plain short text, nothing else."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    if UUID_FORM.fullmatch(text) or _HEX_ID.fullmatch(text):
        return text
    if len(text) > TEXT_CHARS_MAX or not _PLAIN_TEXT.fullmatch(text) or looks_like_a_person(text):
        return REDACTED
    return text


def allowed(attributes: Mapping[str, Any] | None, forms: Mapping[str, Form]) -> dict[str, Any]:
    """Return the attributes that are on the list and whose values have the form written there."""
    if not attributes:
        return {}
    return {key: value for key, value in attributes.items() if key in forms and has_form(forms[key], value)}


def _bare(context: SpanContext | None) -> SpanContext | None:
    """Return the ids without the trace state, which any client may fill with anything."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _events_left(events: Sequence[Event]) -> list[Event]:
    return [
        Event("exception", allowed(event.attributes, EVENT_ATTRIBUTES), event.timestamp)
        for event in events
        if event.name == "exception"
    ]


_SCOPES = {name: InstrumentationScope(name) for name in ("fastapi", "wardstream")}
_OTHER_SCOPE = InstrumentationScope("other")


def scrubbed_span(span: ReadableSpan) -> ReadableSpan:
    """Return a copy of the span that carries only what the lists allow: form of name, attributes, exception types, bare links."""
    scope = span.instrumentation_scope
    return ReadableSpan(
        name=span_name_or_unnamed(span.name),
        context=_bare(span.get_span_context()),
        parent=_bare(span.parent),
        resource=Resource(allowed(span.resource.attributes, RESOURCE_ATTRIBUTES)),
        attributes=allowed(span.attributes, SPAN_ATTRIBUTES),
        events=_events_left(span.events),
        links=[Link(bare) for link in span.links if (bare := _bare(link.context)) is not None],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=_SCOPES.get(scope.name, _OTHER_SCOPE) if scope is not None else _OTHER_SCOPE,
    )
