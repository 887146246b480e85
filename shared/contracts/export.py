"""The contracts as files: one JSON Schema and one example per event version in `schemas/`, and whether they are current.

`wardstream schemas` writes them, `wardstream schemas --check` is the gate in CI. A schema is overwritten only by an additive
change (compat.py); an example is written once and then kept for ever, because it is what old events look like. When an
event gets a field, its next example shows it: `<Event>.v1.example.json`, then `<Event>.v1.example.2.json`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from shared.contracts.compat import compare_all
from shared.contracts.envelope import Event
from shared.contracts.examples import example_of
from shared.contracts.registry import EVENTS

SCHEMAS = Path(__file__).with_name("schemas")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class NotAdditive(Exception):
    """A change would break readers of old events or old readers of new ones; `problems` says which."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            "These changes are not additive; make a new event, or a new version beside the old one: "
            + "; ".join(problems)
        )
        self.problems = problems


class PlainSchema(GenerateJsonSchema):
    """pydantic's JSON Schema without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's hook
        """Never."""
        return False


def stem_of(event: type[Event]) -> str:
    """Return how the files of this event version begin."""
    return f"{event.__name__}.v{event.schema_version}"


def schema_of(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event's body, with its topic and key, which may not change either (R17)."""
    return {
        "$schema": DIALECT,
        "$id": f"urn:wardstream:event:{stem_of(event)}",
        **event.model_json_schema(schema_generator=PlainSchema),
        "x-wardstream": {
            "type": event.ce_type(),
            "topic": event.topic.name,
            "key": event.key_field,
            "partitions": event.topic.partitions,
        },
    }


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every event by the stem of its file."""
    return {stem_of(event): schema_of(event) for event in EVENTS.values()}


def exported_schemas(folder: Path = SCHEMAS) -> dict[str, dict[str, Any]]:
    """Return the schemas that lie in the folder."""
    ending = ".schema.json"
    return {path.name.removesuffix(ending): read(path) for path in sorted(folder.glob(f"*{ending}"))}


def exported_examples(event: type[Event], folder: Path = SCHEMAS) -> list[Path]:
    """Return the examples ever published of an event version, oldest first."""
    found = folder.glob(f"{stem_of(event)}.example*.json")
    return sorted(found, key=lambda path: (len(path.name), path.name))


def read(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


def text_of(document: Mapping[str, Any]) -> str:
    """Return a document as it is written to a file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def shape_of(value: Any) -> Any:
    """Return the fields of a body without their values."""
    if isinstance(value, Mapping):
        return {name: shape_of(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return None


def _missing_examples(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for event in EVENTS.values():
        example = example_of(event).model_dump(mode="json")
        known = exported_examples(event, folder)
        if not any(shape_of(read(path)) == shape_of(example) for path in known):
            number = f".{len(known) + 1}" if known else ""
            yield folder / f"{stem_of(event)}.example{number}.json", example


def problems(published: Mapping[str, Mapping[str, Any]] | None = None, folder: Path = SCHEMAS) -> list[str]:
    """Return why the exported files must not be used: not additive, or not current.

    Args:
        published: schemas to be compatible with; those in the folder by default.
        folder: where the exported files lie.
    """
    exported, current = exported_schemas(folder), schemas()
    found = compare_all(exported if published is None else published, current)
    found += [f"{name}: not exported as it is now" for name, now in current.items() if exported.get(name) != now]
    found += [f"{path.name}: not exported" for path, _ in _missing_examples(folder)]
    known = {path.name for event in EVENTS.values() for path in exported_examples(event, folder)}
    known |= {f"{name}.schema.json" for name in current}
    found += [f"{path.name}: belongs to no event" for path in sorted(folder.iterdir()) if path.name not in known]
    return found


def write(folder: Path = SCHEMAS, *, told: Callable[[Path], None] = lambda _: None) -> None:
    """Bring the exported files up to date, telling each file that changes.

    Raises:
        NotAdditive: readers would break; nothing was written.
    """
    folder.mkdir(exist_ok=True)
    exported, current = exported_schemas(folder), schemas()
    broken = compare_all(exported, current)
    if broken:
        raise NotAdditive(broken)
    texts = {folder / f"{name}.schema.json": now for name, now in current.items() if exported.get(name) != now}
    texts |= dict(_missing_examples(folder))
    for path, document in texts.items():
        path.write_text(text_of(document), "utf-8")
        told(path)
