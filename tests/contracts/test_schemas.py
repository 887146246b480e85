"""The exported schemas and examples: there for every event, current, and written over only by additive changes (R22)."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
from jsonschema import Draft202012Validator

from shared.contracts import export
from shared.contracts.envelope import Event, Topic
from shared.contracts.export import NotAdditive, exported_examples, exported_schemas, problems, read, stem_of, write
from shared.contracts.registry import EVENTS

TOPIC = Topic("beds.moves.v1", owner="beds", key="thing")


def moved(**fields: object) -> type[Event]:
    """Return an event class as it might be written next year."""
    more = {name: (type(default) if default is not ... else str) for name, default in fields.items()}
    members = {
        "__annotations__": {"thing": str, **more, "topic": ClassVar[Topic], "key_field": ClassVar[str]},
        "__module__": __name__,
        "__doc__": "A patient was moved.",
        "topic": TOPIC,
        "key_field": "thing",
        **{name: default for name, default in fields.items() if default is not ...},
    }
    return type("PatientMoved", (Event,), members)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Export a world with one event only."""

    def published(event: type[Event], **example: object) -> Path:
        monkeypatch.setattr(export, "EVENTS", {event.ce_type(): event})
        monkeypatch.setattr(export, "example_of", lambda _: event.model_validate({"thing": "a", **example}))
        return tmp_path

    return published


def test_what_lies_in_the_folder_is_what_the_code_says():
    assert problems() == []


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.__name__)
def test_every_event_has_a_schema_and_an_example_that_fits_it(event: type[Event]):
    schema = exported_schemas()[stem_of(event)]
    Draft202012Validator.check_schema(schema)
    examples = exported_examples(event)
    assert examples, f"{event.__name__} has no example; run make schemas."
    for path in examples:
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(read(path))


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.__name__)
def test_a_schema_refuses_an_event_without_one_of_its_fields(event: type[Event]):
    validator = Draft202012Validator(exported_schemas()[stem_of(event)])
    example = read(exported_examples(event)[0])
    for name in validator.schema["required"]:
        less = {field: value for field, value in example.items() if field != name}
        assert not validator.is_valid(less), name


def test_examples_carry_ids_codes_times_and_amounts_only():
    for event in EVENTS.values():
        for path in exported_examples(event):
            text = path.read_text("utf-8")
            assert text.isascii(), f"{path.name} carries something that may be a name."
            assert " " not in json.dumps(read(path), separators=(",", ":")), f"{path.name} carries free text."


def test_a_new_optional_field_is_exported_and_the_old_example_stays(publish):
    folder = publish(moved())
    write(folder)
    before = (folder / "PatientMoved.v1.example.json").read_text("utf-8")
    publish(moved(reason="ward_closed"), reason="ward_closed")
    assert problems(folder=folder) == [
        "PatientMoved.v1: not exported as it is now",
        "PatientMoved.v1.example.2.json: not exported",
    ]
    write(folder)
    assert problems(folder=folder) == []
    assert (folder / "PatientMoved.v1.example.json").read_text("utf-8") == before
    assert read(folder / "PatientMoved.v1.example.2.json") == {"thing": "a", "reason": "ward_closed"}


def test_a_new_required_field_is_refused_and_nothing_is_written(publish):
    folder = publish(moved())
    write(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    publish(moved(reason=...), reason="ward_closed")
    with pytest.raises(NotAdditive, match="new and required"):
        write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_schema_that_was_thrown_away_is_still_compared_with_a_published_one(publish):
    folder = publish(moved())
    write(folder)
    published = exported_schemas(folder)
    (folder / "PatientMoved.v1.schema.json").unlink()
    publish(moved(reason=...), reason="ward_closed")
    write(folder)
    assert problems(published, folder) == ["PatientMoved.v1.reason: new and required, but old events lack it"]


def test_files_of_no_event_are_named(publish):
    folder = publish(moved())
    write(folder)
    (folder / "BedLost.v1.schema.json").write_text("{}", "utf-8")
    assert "BedLost.v1.schema.json: belongs to no event" in problems(folder=folder)
