"""Which log lines are errors nobody expected."""

from datetime import UTC, datetime

import pytest

from infra.audit.logs import _error_in

SINCE = datetime(2026, 3, 2, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (b'{"level":"info","event":"relay_elected","timestamp":"2026-03-02T09:00:00Z"}', ""),
        (
            b'{"level":"error","event":"version_gap","timestamp":"2026-03-02T09:00:00Z"}',
            "version_gap at 2026-03-02T09:00:00Z",
        ),
        (
            b'{"level":"critical","event":"uncaught_error","error":"KeyError","timestamp":"2026-03-02T09:00:00Z"}',
            "uncaught_error (KeyError) at 2026-03-02T09:00:00Z",
        ),
        (b'{"level":"error","event":"version_gap","timestamp":"2026-03-02T07:59:59Z"}', ""),
        (b'{"level":"error","event":"injected","timestamp":"2026-03-02T09:00:00Z"}', ""),
        (b'{"level":"error","event":"no_time"}', "no_time at "),
        (b'{"level":"error","event":"no_zone","timestamp":"2026-03-02T07:00:00"}', "no_zone at 2026-03-02T07:00:00"),
        (b'rror","event":"cut","timestamp":"2026-03-02T09:00:00Z"}', ""),
        (
            b'{"level":"error","event":"Exception in ASGI application\\n","timestamp":"2026-03-02T09:00:00Z"}',
            "Exception in ASGI application at 2026-03-02T09:00:00Z",
        ),
        (b"[1, 2]", ""),
        (b"Traceback (most recent call last):\n", "a traceback outside the log"),
    ],
)
def test_error_lines_since_the_stack_came_up_are_told_by_name_and_time(line: bytes, finding: str):
    assert _error_in(line, SINCE, frozenset({"injected"})) == finding


def test_without_a_beginning_every_error_line_counts():
    assert _error_in(b'{"level":"error","event":"old","timestamp":"1999-01-01T00:00:00Z"}', None, frozenset()) != ""
