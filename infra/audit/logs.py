"""No error line in the services' logs since the stack came up, but those somebody expects (I24)."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from infra.audit.check import FINDINGS_MAX, Check, Look, Seen
from infra.local.services import SERVICES

ERRORS = frozenset({"error", "critical"})


async def no_unexpected_error_is_logged(at: Look) -> Seen:
    """I24: error lines name an event on the allowed list; a traceback that is no line of ours is never allowed."""
    if at.scene.logs is None:
        return Seen(0, reason="There are no log files to read.")
    examined = 0
    wrong: list[str] = []
    for service in SERVICES:
        for path in (at.scene.logs / f"{service}.log.1", at.scene.logs / f"{service}.log"):
            for line in _lines(path):
                examined += 1
                finding = _error_in(line, at.scene.logs_since, at.scene.allowed_errors)
                if finding and len(wrong) < FINDINGS_MAX:
                    wrong.append(f"{service}: {finding}")
    return Seen(examined, wrong)


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from file


def _error_in(line: bytes, since: datetime | None, allowed: frozenset[str]) -> str:
    """Return what kind of error a line tells, with the place of an exception and no value of it; nothing when it is none."""
    if line.startswith(b"Traceback (most recent call last)"):
        return "a traceback outside the log"
    try:
        entry: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""  # what programs say while they start and end, and lines cut where a log file was begun anew
    if not isinstance(entry, dict) or entry.get("level") not in ERRORS or entry.get("event") in allowed:
        return ""
    at = str(entry.get("timestamp", ""))
    if since is not None and _is_before(at, since):
        return ""
    kind = "" if "error" not in entry else f" ({entry['error']})"
    event = " ".join(str(entry.get("event", "an error")).split())
    return f"{event}{kind}{_library(entry)} at {at}"


def _library(entry: dict[str, Any]) -> str:
    """Return which library says it, where, and of which exceptions: its own words may hold anything, so they are no part of a log."""
    if "logger" not in entry:
        return ""
    causes = ", ".join(str(cause.get("type")) for cause in entry.get("exception", ()))
    return f" of {entry['logger']} in {entry.get('at')}" + (f" ({causes})" if causes else "")


def _is_before(at: str, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(at) < since
    except (ValueError, TypeError):
        return False


CHECKS = (Check("I24", "no unexpected error in the services' logs", no_unexpected_error_is_logged),)
