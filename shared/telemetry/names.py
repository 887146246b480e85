"""Every name that leaves in a span, a metric or a log line, and the form its value must have. What is not here does not leave (S8).

The messaging conventions are those of semantic conventions 1.44; they still move, so they are written here and nowhere else.
Dashboards, tests and the checks of the house read these tables.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from shared.contracts.registry import EVENTS, TOPICS

# ---- forms of values ------------------------------------------------------------------------------------------------

_SEGMENT = r"(?:[a-z][a-z_-]{0,40}(?:\.json)?|\.well-known|v\d|\{[a-z_]{1,40}\})"
ROUTE_FORM = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT}){{0,8}})?")
"""A route as it is declared (`/api/admission/encounters/{encounter_id}`), never a path as it was asked for."""

CLASS_FORM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}(?:\.[A-Za-z_][A-Za-z0-9_]{0,60}){0,6}|\d{3}")
SERVICE_FORM = re.compile(r"wardstream-[a-z]{1,20}")
GROUP_FORM = re.compile(r"[a-z][a-z0-9_.-]{0,40}")
CODE_FORM = re.compile(r"[a-z][a-z0-9_:.]{0,60}")
TASK_FORM = re.compile(r"[a-z][a-z_]{2,40}")
UUID_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY", "_OTHER"})
OPERATIONS = frozenset({"send", "receive", "process", "settle"})

Form = re.Pattern[str] | frozenset[str] | Literal["int", "uuid"]


def has_form(form: Form, value: object) -> bool:
    """Say whether a value may leave under a name with this form."""
    if form == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    if form == "uuid":
        return UUID_FORM.fullmatch(value) is not None
    if isinstance(form, frozenset):
        return value in form
    assert isinstance(form, re.Pattern)
    return form.fullmatch(value) is not None


# ---- spans ----------------------------------------------------------------------------------------------------------

ENCOUNTER_ID = "flow.encounter_id"
"""Joins the traces of one stay; a random id, never a name or number of a person."""

SPAN_ATTRIBUTES: Mapping[str, Form] = {
    "http.request.method": METHODS,
    "http.route": ROUTE_FORM,
    "http.response.status_code": "int",
    "url.scheme": frozenset({"http", "https"}),
    "network.protocol.version": re.compile(r"\d(?:\.\d)?"),
    "error.type": CLASS_FORM,
    "messaging.system": frozenset({"kafka"}),
    "messaging.operation.name": OPERATIONS,
    "messaging.operation.type": OPERATIONS,
    "messaging.destination.name": frozenset(TOPICS),
    "messaging.destination.partition.id": re.compile(r"\d{1,5}"),
    "messaging.consumer.group.name": GROUP_FORM,
    "messaging.message.id": "uuid",
    "messaging.kafka.offset": "int",
    "flow.event_type": frozenset(EVENTS),
    "flow.task": TASK_FORM,
    ENCOUNTER_ID: "uuid",
}
"""Attributes a span may carry. Everything else, such as `url.path`, `url.query` and `server.address`, is dropped."""

EVENT_ATTRIBUTES: Mapping[str, Form] = {"exception.type": CLASS_FORM}
"""What is left of the event `exception`; messages and stack traces may quote a patient."""

RESOURCE_ATTRIBUTES: Mapping[str, Form] = {
    "service.name": SERVICE_FORM,
    "service.instance.id": re.compile(r"[0-9a-f]{8,32}"),
    "telemetry.sdk.language": frozenset({"python"}),
    "telemetry.sdk.name": frozenset({"opentelemetry"}),
    "telemetry.sdk.version": re.compile(r"\d+(?:\.\d+){1,3}"),
}

_MESSAGING_SPAN = re.compile(r"(send|process) (\S+)")
_TASK_SPAN = re.compile(r"run ([a-z][a-z_]{2,40})")
_HTTP_SPAN = re.compile(r"([A-Z]{3,7}|HTTP)(?: (\S+))?")
UNNAMED_SPAN = "internal"


def span_name_or_unnamed(name: str) -> str:
    """Return the name when it has one of the allowed forms, else `internal`.

    The forms: `<METHOD> <declared route>`, `<METHOD>`, `send <topic>`, `process <topic>`, `run <task>`.
    """
    if found := _MESSAGING_SPAN.fullmatch(name):
        return name if found[2] in TOPICS else UNNAMED_SPAN
    if _TASK_SPAN.fullmatch(name):
        return name
    if (found := _HTTP_SPAN.fullmatch(name)) and (found[1] in METHODS or found[1] == "HTTP"):
        return name if found[2] is None or ROUTE_FORM.fullmatch(found[2]) else found[1]
    return UNNAMED_SPAN


# ---- metrics --------------------------------------------------------------------------------------------------------

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is registered: its name in the conventions, its kind, its unit and what it is told apart by."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed_name(self) -> str:
        """Return the name in the Prometheus text format: dots become underscores, the unit and `_total` are appended."""
        name = self.name.replace(".", "_")
        if "." in self.name and self.unit == "s":
            name += "_seconds"
        return f"{name}_total" if self.kind == "counter" and not name.endswith("_total") else name


_ALL = (
    Metric("messaging.client.sent.messages", "counter", "{message}", "Events the broker acknowledged.", ("topic",)),
    Metric("messaging.client.consumed.messages", "counter", "{message}", "Records fetched.", ("consumer", "topic")),
    Metric("messaging.client.operation.duration", "histogram", "s", "One batch sent and acknowledged.", ("operation",)),
    Metric("messaging.process.duration", "histogram", "s", "One event handled.", ("consumer", "topic")),
    Metric("http.server.request.duration", "histogram", "s", "One request answered.", ("method", "route", "status")),
    Metric("http.server.active_requests", "gauge", "{request}", "Requests being answered.", ("method",)),
    Metric(
        "kafka_consumergroup_lag", "gauge", "", "Records a group has not read.", ("consumergroup", "topic", "partition")
    ),
    Metric(
        "kafka_consumergroup_current_offset",
        "gauge",
        "",
        "Where a group reads on.",
        ("consumergroup", "topic", "partition"),
    ),
    Metric("kafka_topic_partition_current_offset", "gauge", "", "The end of a partition.", ("topic", "partition")),
    Metric(
        "kafka_consumergroup_group_lag_seconds",
        "gauge",
        "s",
        "Age of the oldest record a group has not read.",
        ("group", "topic", "partition"),
    ),
    Metric("flow_outbox_oldest_seconds", "gauge", "s", "Age of the oldest event the broker does not have yet."),
    Metric("flow_consumer_unread_events", "gauge", "", "Records this service has not applied yet."),
    Metric("flow_parked_total", "counter", "{event}", "Events set aside.", ("consumer", "topic")),
    Metric("flow_spans_exported_total", "counter", "{span}", "Spans handed to the receiver."),
    Metric("flow_spans_dropped_total", "counter", "{span}", "Spans lost because the receiver was away or full."),
    Metric("flow_spans_stored", "gauge", "{span}", "Spans kept today."),
    Metric("flow_view_events_total", "counter", "{event}", "Events the live views took in.", ("topic",)),
    Metric("flow_view_unreadable_total", "counter", "{event}", "Records the live views could not read.", ("topic",)),
    Metric("flow_view_behind_events", "gauge", "{event}", "Records the live views have not taken in yet."),
    Metric("process_cpu_seconds_total", "counter", "s", "Processor time of this process."),
    Metric("process_resident_memory_bytes", "gauge", "By", "Memory of this process."),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric. No label ever names a patient, a stay or a bed; a ward would be fine."""

LABELS_OF_HTTP: Mapping[str, str] = {
    "http.request.method": "method",
    "http.route": "route",
    "http.response.status_code": "status",
}
"""How the attributes of FastAPI's own metrics are called as labels; the others are summed over."""

# ---- log lines ------------------------------------------------------------------------------------------------------

EVENT_NAME_FORM = re.compile(r"[a-z][a-z0-9_]{2,60}")
"""What happened, as a fixed name. A sentence built at run time could quote a patient."""

FIELD_NAME_FORM = re.compile(r"[a-z][a-z0-9_]{0,40}")

LOG_FIELDS = frozenset(
    {
        "service",
        "part",
        "timer",
        "error",
        "sqlstate",
        "constraint",
        "wait_seconds",
        "seconds",
        "epoch",
        "topic",
        "partition",
        "offset",
        "tries",
        "reason",
        "asked_by",
        "events",
        "records",
        "spans",
        "route",
        "status",
        "encounter_id",
        "trace_id",
        "span_id",
        "pid",
        "port",
        "count",
        "role",
        "code",
        "version",
    }
)
"""Fields a log line may carry beside time, level, logger and event; the names of others are listed under `dropped`."""


def canonical_uuid(value: object) -> str | None:
    """Return a UUID in its usual spelling, or nothing when it is none."""
    if isinstance(value, UUID):
        return str(value)
    return value if isinstance(value, str) and UUID_FORM.fullmatch(value) else None
