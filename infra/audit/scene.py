"""What an audit looks at. A stack gives all of it; tests may leave parts out, and the checks say what they could not see."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.messaging.reading import TopicReader


class Unanswered(Exception):
    """A door gave no answer; the check that asked is not right, the others go on."""


Ask = Callable[[str], Awaitable[Any]]
"""Reads one door of the hospital as operations (`/api/insight/census`) and returns its JSON, or raises `Unanswered`."""

Outside = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns what the simulated channel, fund and receipt office believe, by party."""

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
"""Names the services that are not ready, and why; empty when all are."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A hospital from outside."""

    dsn: str
    """A database role that may read every schema."""
    topics: TopicReader | None = None
    logs: Path | None = None
    """The folder with one `<service>.log` per process."""
    logs_since: datetime | None = None
    """Error lines before this instant belong to an earlier run."""
    ask: Ask | None = None
    readiness: Readiness | None = None
    outside: Outside | None = None
    allowed_errors: frozenset[str] = frozenset()
    """Names of log events that may be errors, because somebody injected the fault on purpose (I24)."""
