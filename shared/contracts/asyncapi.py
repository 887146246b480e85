"""The topics as an AsyncAPI 3.0 document: channels with owner and key, messages with their headers, who sends, who receives.

Made from the registry, so it cannot say anything else than what is on the wire; `wardstream asyncapi` prints it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from shared.contracts.envelope import Event, Topic
from shared.contracts.examples import example_of
from shared.contracts.export import PlainSchema
from shared.contracts.registry import EVENT_TOPICS, EVENTS, PARKED_TOPICS, RESYNC_TOPICS, TOPICS

JSON = "application/json"
_UUID: Mapping[str, str] = {"type": "string", "format": "uuid"}
_INSTANT: Mapping[str, str] = {"type": "string", "format": "date-time"}

HEADERS: Mapping[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka binding, binary mode: one Kafka header per attribute, the body in the value.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {**_UUID, "description": "Id of the event; the same one in every delivery."},
        "ce_source": {"type": "string", "description": "The service that owns the fact, such as /wardstream/beds."},
        "ce_type": {"type": "string", "description": "wardstream.<owner>.<Event>.v<n>"},
        "ce_time": {**_INSTANT, "description": "When it happened."},
        "ce_subject": {
            "type": "string",
            "description": "Id of what it happened to; also the Kafka key, so everything about it stays in order.",
        },
        "ce_aggregateversion": {
            "type": "string",
            "pattern": "^[1-9][0-9]*$",
            "description": "1, 2, 3 … per key; a jump is a gap.",
        },
        "ce_recordedtime": {
            **_INSTANT,
            "description": "When it was written down; later than ce_time for imported facts.",
        },
        "ce_factsource": {"type": "string", "enum": ["live", "import", "downtime"]},
        "ce_correlationid": {**_UUID, "description": "The stay (encounter) all of this belongs to."},
        "ce_causationid": {**_UUID, "description": "The event that caused this one."},
        "ce_actor": {**_UUID, "description": "Who decided, as a staff id."},
        "traceparent": {"type": "string", "description": "W3C Trace Context; authoritative for tracing."},
        "content-type": {"type": "string", "const": JSON},
    },
    "required": [
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_subject",
        "ce_aggregateversion",
        "ce_recordedtime",
        "ce_factsource",
        "content-type",
    ],
}

_BEACON: Mapping[str, Any] = {
    "name": "wardstream.relay.Beacon.v1",
    "title": "Beacon",
    "summary": "What this partition must hold up to here, so that a reader notices a lost tail (R11). Readers skip it.",
    "contentType": JSON,
    "payload": {
        "type": "object",
        "properties": {
            "events": {"type": "integer"},
            "version_sum": {"type": "integer"},
            "digest": {"type": "string", "pattern": "^[0-9]+$"},
        },
        "required": ["events", "version_sum", "digest"],
    },
}
_PARKED: Mapping[str, Any] = {
    "title": "Parked",
    "summary": "An event was set aside, for alarms; the event itself is in the table `parked` (R20).",
    "contentType": JSON,
    "headers": {
        "type": "object",
        "properties": {"parked_topic": {"type": "string"}, "parked_reason": {"type": "string"}},
        "required": ["parked_topic", "parked_reason"],
    },
    "payload": {"type": "object"},
}
_RESYNC: Mapping[str, Any] = {
    "title": "Resync",
    "summary": "Send these events again from your outbox (R16).",
    "contentType": JSON,
    "payload": {
        "type": "object",
        "properties": {
            "topic": {"type": "string"},
            "aggregate_id": {"type": ["string", "null"]},
            "after_version": {"type": "integer", "minimum": 0},
            "asked_by": {"type": "string"},
        },
        "required": ["topic", "aggregate_id", "after_version", "asked_by"],
    },
}


def _messages_of(topic: Topic) -> list[str]:
    if topic.name in PARKED_TOPICS:
        return ["Parked"]
    if topic.name in RESYNC_TOPICS:
        return ["Resync"]
    return [*(event.__name__ for event in EVENTS.values() if event.topic == topic), "Beacon"]


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": topic.name,
        "description": f"Written by {topic.owner}. Key: {topic.key}; what has the same key stays in order.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages_of(topic)},
        "bindings": {"kafka": {"topic": topic.name, "partitions": topic.partitions}},
        "x-owner": topic.owner,
        "x-key": topic.key,
    }


def _message(event: type[Event]) -> dict[str, Any]:
    return {
        "name": event.ce_type(),
        "title": event.__name__,
        "summary": (event.__doc__ or "").strip().splitlines()[0],
        "contentType": JSON,
        "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
        "x-key": event.key_field,
        "examples": [{"name": event.__name__, "payload": example_of(event).model_dump(mode="json")}],
    }


def _operation(action: str, topic: Topic, names: Sequence[str], who: str) -> dict[str, Any]:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "title": f"{who} {action}s {topic.name}",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in names],
        "x-service": who,
    }


def document(readers: Mapping[str, Sequence[type[Event]]]) -> dict[str, Any]:
    """Return the AsyncAPI document; `readers` says which service reads which events."""
    operations = {
        f"{topic.owner}.sends.{topic.name}": _operation("send", topic, _messages_of(topic), topic.owner)
        for topic in EVENT_TOPICS.values()
    }
    for service, events in readers.items():
        for name in sorted({event.topic.name for event in events}):
            names = [event.__name__ for event in events if event.topic.name == name]
            operations[f"{service}.receives.{name}"] = _operation("receive", EVENT_TOPICS[name], names, service)
    _, definitions = models_json_schema(
        [(event, "validation") for event in EVENTS.values()],
        ref_template="#/components/schemas/{model}",
        schema_generator=PlainSchema,
    )
    messages = {event.__name__: _message(event) for event in EVENTS.values()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Wardstream",
            "version": "1.0.0",
            "description": "Every event of the hospital. Bodies carry ids, codes, times and amounts; never a name (S4).",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "The hospital's broker.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "WARDSTREAM_KAFKA_BOOTSTRAP"}},
            }
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS.values()},
        "operations": operations,
        "components": {
            "messages": {**messages, "Beacon": dict(_BEACON), "Parked": dict(_PARKED), "Resync": dict(_RESYNC)},
            "schemas": {"CloudEventHeaders": dict(HEADERS), **definitions["$defs"]},
        },
    }
