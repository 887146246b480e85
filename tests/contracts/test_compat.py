"""What may change in a contract that is published, and what may not (R22)."""

import copy
from typing import Any

import pytest

from shared.contracts.compat import compare, compare_all

PUBLISHED: dict[str, Any] = {
    "title": "BedAssigned",
    "type": "object",
    "properties": {
        "encounter_id": {"type": "string", "format": "uuid"},
        "ward": {"type": "string", "pattern": "^[A-Z0-9]+$"},
        "urgency": {"type": "string", "enum": ["emergency", "elective"]},
        "days": {"type": "integer", "minimum": 0, "maximum": 365},
        "age": {"anyOf": [{"type": "integer", "maximum": 130}, {"type": "null"}]},
        "note": {"type": "string"},
        "tasks": {"type": "array", "items": {"$ref": "#/$defs/Task"}},
    },
    "required": ["encounter_id", "ward", "urgency", "days", "age", "tasks"],
    "$defs": {
        "Task": {
            "type": "object",
            "properties": {"item": {"type": "string"}, "kind": {"type": "string", "const": "phone"}},
            "required": ["item"],
        }
    },
    "x-wardstream": {"topic": "beds.allocations.v1", "key": "encounter_id", "partitions": 12},
}


def changed(**fields: Any) -> dict[str, Any]:
    """Return the published schema with some fields replaced; None takes one away."""
    schema = copy.deepcopy(PUBLISHED)
    for name, definition in fields.items():
        if definition is None:
            del schema["properties"][name]
            schema["required"] = [field for field in schema["required"] if field != name]
        else:
            schema["properties"][name] = definition
    return schema


def required(*names: str) -> dict[str, Any]:
    return {**copy.deepcopy(PUBLISHED), "required": list(names)}


def with_task(**parts: Any) -> dict[str, Any]:
    schema = copy.deepcopy(PUBLISHED)
    schema["$defs"]["Task"].update(parts)
    return schema


ADDITIVE = {
    "nothing changed": PUBLISHED,
    "a new optional field": changed(origin={"type": "string"}),
    "a new optional field of a task": with_task(
        properties={**PUBLISHED["$defs"]["Task"]["properties"], "place": {"type": "string"}}
    ),
    "one more code": changed(urgency={"type": "string", "enum": ["emergency", "elective", "urgent"]}),
    "a single code becomes a list": with_task(
        properties={"item": {"type": "string"}, "kind": {"type": "string", "enum": ["phone", "visit"]}}
    ),
    "wider bounds": changed(days={"type": "integer", "minimum": -1, "maximum": 3650}),
    "a bound less": changed(days={"type": "integer", "minimum": 0}),
    "other words": {**PUBLISHED, "description": "A bed is held.", "title": "Bed assigned"},
}

BREAKING = {
    "a removed field": (changed(ward=None), ".ward: removed"),
    "a removed optional field": (changed(note=None), ".note: removed"),
    "a new required field": (
        {**changed(origin={"type": "string"}), "required": [*PUBLISHED["required"], "origin"]},
        ".origin: new and required",
    ),
    "an optional field becomes required": (required(*PUBLISHED["required"], "note"), ".note: was optional"),
    "a required field becomes optional": (
        required(*(name for name in PUBLISHED["required"] if name != "ward")),
        ".ward: was required",
    ),
    "a code less": (
        changed(urgency={"type": "string", "enum": ["emergency"]}),
        ".urgency: the codes ['elective'] are gone",
    ),
    "free text becomes a list of codes": (
        changed(note={"type": "string", "enum": ["fever"]}),
        ".note: any value was allowed",
    ),
    "a list of codes becomes free text": (changed(urgency={"type": "string"}), ".urgency: the list of codes"),
    "another type": (changed(days={"type": "string"}), ".days: the type changed from integer to string"),
    "another format": (changed(encounter_id={"type": "string"}), ".encounter_id: format changed"),
    "another pattern": (changed(ward={"type": "string", "pattern": "^[A-Z]+$"}), ".ward: pattern changed"),
    "a narrower bound": (
        changed(days={"type": "integer", "minimum": 0, "maximum": 30}),
        ".days: maximum became narrower",
    ),
    "a new bound": (changed(note={"type": "string", "maxLength": 5}), ".note: maxLength became narrower"),
    "null is new": (changed(note={"anyOf": [{"type": "string"}, {"type": "null"}]}), ".note: the type changed"),
    "null is gone": (changed(age={"anyOf": [{"type": "integer", "maximum": 130}]}), ".age: the type changed"),
    "a narrower bound beside null": (
        changed(age={"anyOf": [{"type": "integer", "maximum": 99}, {"type": "null"}]}),
        ".age: maximum became narrower",
    ),
    "a removed field of a task": (
        with_task(properties={"kind": {"type": "string", "const": "phone"}}),
        ".tasks[].item: removed",
    ),
    "a new required field of a task": (
        with_task(
            properties={**PUBLISHED["$defs"]["Task"]["properties"], "place": {"type": "string"}},
            required=["item", "place"],
        ),
        ".tasks[].place: new and required",
    ),
    "another topic": (
        {**PUBLISHED, "x-wardstream": {**PUBLISHED["x-wardstream"], "topic": "beds.holds.v1"}},
        "x-wardstream changed",
    ),
    "another number of partitions": (
        {**PUBLISHED, "x-wardstream": {**PUBLISHED["x-wardstream"], "partitions": 24}},
        "x-wardstream changed",
    ),
    "unknown fields are refused from now on": (
        {**PUBLISHED, "additionalProperties": False},
        "additionalProperties changed",
    ),
    "a word this gate does not know": (
        {**PUBLISHED, "dependentRequired": {"ward": ["days"]}},
        "dependentRequired changed",
    ),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_an_additive_change_passes(name: str):
    assert compare(PUBLISHED, ADDITIVE[name]) == []


@pytest.mark.parametrize("name", BREAKING)
def test_a_change_that_breaks_a_reader_is_refused_and_named(name: str):
    schema, said = BREAKING[name]
    found = compare(PUBLISHED, schema)
    assert len(found) == 1, found
    assert said in found[0]


def test_a_new_event_passes_and_a_vanished_one_does_not():
    assert compare_all({"BedAssigned.v1": PUBLISHED}, {"BedAssigned.v1": PUBLISHED, "BedMoved.v1": PUBLISHED}) == []
    assert compare_all({"BedAssigned.v1": PUBLISHED}, {}) == [
        "BedAssigned.v1: removed, but topics and outboxes still hold it"
    ]


def test_a_schema_that_contains_itself_is_compared_and_ends():
    tree = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "below": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    "name": {"type": "string"},
                },
            }
        },
    }
    other = copy.deepcopy(tree)
    del other["$defs"]["Node"]["properties"]["name"]  # type: ignore[index]
    assert compare(tree, tree) == []
    assert compare(tree, other) == [".name: removed, but readers of today look for it"]
