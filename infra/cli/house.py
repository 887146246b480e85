"""The house as the code says it is: which service reads which events, and the pictures and tables of README.md made from that."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

from infra.local.home import PROJECT_ROOT
from infra.local.services import SERVICES
from shared.contracts.envelope import Event
from shared.contracts.registry import EVENT_TOPICS, EVENTS
from shared.service import ServiceSpec
from shared.settings import ServiceSettings

README = PROJECT_ROOT / "README.md"
VIEWER = "insight"
"""Reads every topic for views that can be thrown away (Faust); the arrows of facts leave it out."""


def settings_of(service: str, scratch: Path = Path(os.devnull)) -> ServiceSettings:
    """Return the settings a service has by default; its addresses lead nowhere, what it makes goes into `scratch`."""
    made: ServiceSettings = import_module(f"services.{service}.settings").Settings(
        database_url="postgresql://127.0.0.1:1/none", signing_key_file=scratch / "signing-keys.json"
    )
    return made


def spec_of(service: str, scratch: Path = Path(os.devnull)) -> ServiceSpec:
    """Return a service as its `main.py` composes it, with default settings; nothing is started."""
    module = import_module(f"services.{service}.main")
    for name in ("SPEC", "spec", "spec_of"):
        found = getattr(module, name, None)
        if found is not None:
            made: ServiceSpec = found if isinstance(found, ServiceSpec) else found(settings_of(service, scratch))
            return made
    raise LookupError(f"services/{service}/main.py composes no service.")


@cache
def readers() -> Mapping[str, tuple[type[Event], ...]]:
    """Return which events each service subscribes to, in the order of the registry."""
    order = {event: number for number, event in enumerate(EVENTS.values())}
    read = {
        service: tuple(sorted((taken.event for taken in spec_of(service).subscriptions), key=order.__getitem__))
        for service in SERVICES
    }
    return {service: events for service, events in read.items() if events}


def _readers_of_topic(read: Mapping[str, Sequence[type[Event]]], topic: str) -> list[str]:
    return [service for service, events in read.items() if any(event.topic.name == topic for event in events)]


def mermaid(read: Mapping[str, Sequence[type[Event]]]) -> str:
    """Return the picture of services and topics for a Markdown viewer that draws."""
    lines = ["```mermaid", "flowchart LR"]
    for topic in EVENT_TOPICS.values():
        node = topic.name.replace(".", "_")
        lines.append(f'    {topic.owner} --> {node}[("{topic.name}")]')
        lines += [f"    {node} --> {service}" for service in _readers_of_topic(read, topic.name)]
    return "\n".join([*lines, "```"])


def plain_picture(read: Mapping[str, Sequence[type[Event]]]) -> str:
    """Return the same picture as text."""
    rows = [
        (topic.owner, topic.name, ", ".join(_readers_of_topic(read, topic.name)) or "(nobody yet)")
        for topic in EVENT_TOPICS.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{owner:<{widths[0]}} --> {topic:<{widths[1]}} --> {who}" for owner, topic, who in rows]
    return "\n".join(["```text", *lines, "```"])


def event_table(read: Mapping[str, Sequence[type[Event]]]) -> str:
    """Return the table of all events, topic by topic."""
    lines = []
    for topic in EVENT_TOPICS.values():
        lines += [
            f"**`{topic.name}`**, written by {topic.owner}, key `{topic.key}`, {topic.partitions} partitions",
            "",
            "| event | what happened | who acts on it |",
            "|---|---|---|",
        ]
        for event in EVENTS.values():
            if event.topic == topic:
                who = ", ".join(service for service, events in read.items() if event in events)
                said = (event.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
                lines.append(f"| `{event.__name__}` | {said} | {who or '–'} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def with_generated_blocks(text: str) -> str:
    """Return the README with its generated blocks as the code says now.

    Raises:
        LookupError: a block is marked that nobody makes, or one is missing.
    """
    read = readers()
    blocks = {"picture": f"{mermaid(read)}\n\n{plain_picture(read)}", "events": event_table(read)}
    for name, block in blocks.items():
        begin, end = f"<!-- {name}: made by `make schemas` -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise LookupError(f"README.md has no block {begin} … {end}.")
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, made=f"{begin}\n{block}\n{end}": made,  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text
