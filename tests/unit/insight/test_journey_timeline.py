"""`wardstream journey` tells one case as its events do."""

import io
from typing import Any

import pytest
from rich.console import Console

from infra.cli.journey import _show

EVENT: dict[str, Any] = {
    "time": "2026-03-01T00:30:00+00:00",
    "type": "BedAssigned",
    "version": 2,
    "topic": "beds.allocations.v1",
    "partition": 7,
    "offset": 41,
    "cause": {"kind": "event", "event_id": "x", "type": "BedRequested"},
    "trace_id": "386af3197639a338c338ed0c8873b461",
}
TRACE: dict[str, Any] = {
    "trace_id": "386af3197639a338c338ed0c8873b461",
    "started_at": "2026-03-01T00:30:00+00:00",
    "duration_ms": 134.2,
    "spans": 8,
    "root": "POST /api/admission/encounters",
    "services": ["admission", "beds"],
    "failed": True,
}


def told(events: list[dict[str, Any]], traces: list[dict[str, Any]]) -> str:
    output = io.StringIO()
    _show(Console(file=output, width=220, highlight=False), events, traces)
    return output.getvalue()


def test_each_event_is_told_with_time_place_and_cause(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WARDSTREAM_HOSPITAL_ZONE", raising=False)
    text = told([EVENT], [TRACE])
    line = next(line for line in text.splitlines() if "BedAssigned" in line)
    for part in ("2026-03-01 08:30:00", "beds.allocations.v1", "7", "41", "BedRequested", "386af319"):
        assert part in line
    assert "1 events, times in Asia/Shanghai." in text
    trace = next(line for line in text.splitlines() if "POST /api/admission/encounters" in line)
    assert "admission, beds" in trace
    assert "failed" in trace


def test_what_a_person_asked_for_and_what_is_not_known_is_said_so():
    asked = {**EVENT, "cause": {"kind": "request", "event_id": None, "type": None}, "trace_id": None}
    lost = {**EVENT, "cause": {"kind": "event", "event_id": "y", "type": None}}
    text = told([asked, lost], [])
    assert "a request" in text
    assert "an event not known here" in text
    assert "No trace of this stay is kept" in text
