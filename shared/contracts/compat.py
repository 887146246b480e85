"""May a contract change like this? Two JSON Schemas in, what breaks out (R22, FULL_TRANSITIVE). Pure.

An old reader must find everything it knows in a new event, and a new reader must take every event ever written. So only this
passes: a new optional field, a new value in a list of codes, a wider bound, other words. Everything else is refused, also
what this module does not know. Each change is compared with the last one, and nothing is ever taken away, so every version
fits every other. A reader that does not know a new code yet parks the event (R20): deploy readers first.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_WORDS = frozenset({"title", "description", "examples", "$comment", "$schema", "$id", "$defs", "$ref"})
"""What changes no meaning, or is compared where it is pointed to."""

_LEAST = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_MOST = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})


def compare_all(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """Return what breaks between two sets of schemas by name; a new event breaks nothing."""
    found = [f"{name}: removed, but topics and outboxes still hold it" for name in sorted(old.keys() - new.keys())]
    for name in sorted(old.keys() & new.keys()):
        found += [f"{name}{problem}" for problem in compare(old[name], new[name])]
    return found


def compare(old: Schema, new: Schema) -> list[str]:
    """Return what breaks between two versions of one schema, each as `.field: what`; empty when the change is additive."""
    return list(_nodes(old, new, old, new, "", frozenset()))


def _resolved(node: Schema, root: Schema) -> Schema:
    reference = node.get("$ref")
    if reference is None:
        return node
    target: Any = root
    for step in str(reference).removeprefix("#/").split("/"):
        target = target[step]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _nodes(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[tuple[str, str]]
) -> Iterator[str]:
    pair = (str(old.get("$ref")), str(new.get("$ref")))
    if pair in seen:
        return
    if pair != ("None", "None"):
        seen |= {pair}
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if old.get("type") != new.get("type"):
        yield f"{at}: the type changed from {old.get('type')} to {new.get('type')}"
        return
    yield from _fields(old, new, old_root, new_root, at, seen)
    yield from _codes(old, new, at)
    for key in sorted((old.keys() | new.keys()) - _WORDS - {"type", "properties", "required", "enum", "const"}):
        before, after = old.get(key), new.get(key)
        if key in ("anyOf", "oneOf", "allOf"):
            yield from _branches(before or [], after or [], old_root, new_root, at, seen)
        elif key == "items" and before is not None and after is not None:
            yield from _nodes(before, after, old_root, new_root, f"{at}[]", seen)
        elif key in _LEAST | _MOST:
            yield from _bounds(key, before, after, at)
        elif before != after:
            yield f"{at}: {key} changed from {before} to {after}"


def _fields(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[tuple[str, str]]
) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    was_required, is_required = set(old.get("required", ())), set(new.get("required", ()))
    for name in before:
        if name not in after:
            yield f"{at}.{name}: removed, but readers of today look for it"
            continue
        if name in was_required - is_required:
            yield f"{at}.{name}: was required and is optional now, but readers of today count on it"
        if name in is_required - was_required:
            yield f"{at}.{name}: was optional and is required now, but old events may lack it"
        yield from _nodes(before[name], after[name], old_root, new_root, f"{at}.{name}", seen)
    for name in after:
        if name not in before and name in is_required:
            yield f"{at}.{name}: new and required, but old events lack it"


def _values(node: Schema) -> list[Any] | None:
    return list(node["enum"]) if "enum" in node else [node["const"]] if "const" in node else None


def _codes(old: Schema, new: Schema, at: str) -> Iterator[str]:
    before, after = _values(old), _values(new)
    if before is None and after is not None:
        yield f"{at}: any value was allowed, now only {after}"
    elif before is not None and after is None:
        yield f"{at}: the list of codes {before} is gone"
    elif before is not None and after is not None:
        gone = [value for value in before if value not in after]
        if gone:
            yield f"{at}: the codes {gone} are gone, but old events carry them"


def _branches(
    old: list[Schema], new: list[Schema], old_root: Schema, new_root: Schema, at: str, seen: frozenset[tuple[str, str]]
) -> Iterator[str]:
    def kind(node: Schema) -> str:
        return str(node.get("$ref") or node.get("type"))

    before, after = {kind(node): node for node in old}, {kind(node): node for node in new}
    if before.keys() != after.keys():
        yield f"{at}: the type changed from {sorted(before)} to {sorted(after)}"
        return
    for name, node in before.items():
        yield from _nodes(node, after[name], old_root, new_root, at, seen)


def _bounds(key: str, before: float | None, after: float | None, at: str) -> Iterator[str]:
    if after is None:
        return
    narrower = before is None or (after > before if key in _LEAST else after < before)
    if narrower:
        yield f"{at}: {key} became narrower, from {before} to {after}"
