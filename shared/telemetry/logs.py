"""Log lines: JSON on stdout, one per event, with the trace they belong to. Fixed event names, listed fields, no free text (S8).

Third-party libraries log through the standard library. Of their lines only the fixed template and numbers are kept: what was
put into the template may quote anything.
"""

import ast
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson
import structlog
from opentelemetry import trace

from shared.telemetry.names import EVENT_NAME_FORM, FIELD_NAME_FORM, LOG_FIELDS
from shared.telemetry.scrub import REDACTED, looks_like_a_person, redacted_value

Line = MutableMapping[str, Any]

_ROOT = Path(__file__).parents[2]
_FRAMES_MAX = 12
_CAUSES_MAX = 5
_OURS = frozenset({"timestamp", "level", "event", "exception", "trace_id", "span_id"})
_OF_LIBRARIES = _OURS | {"logger", "at"}
_QUIET = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "uvicorn": logging.WARNING,
    "uvicorn.error": logging.CRITICAL,  # our doors say request_failed themselves
    "asyncio": logging.WARNING,
    "httpx2": logging.WARNING,
    "opentelemetry": logging.ERROR,
}


def _add_trace(_logger: Any, _method: str, line: Line) -> Line:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"] = f"{context.trace_id:032x}"
        line["span_id"] = f"{context.span_id:016x}"
    return line


def _place(file: str, number: int | None, name: str) -> str:
    path = Path(file)
    short = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else Path(*path.parts[-2:])
    return f"{short}:{number} {name}"


def exception_facts(error: BaseException) -> list[dict[str, Any]]:
    """Return kind and place of an error and of its causes. Not the message: a database quotes the row, a parser the input."""
    facts: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(facts) < _CAUSES_MAX:
        frames = traceback.extract_tb(current.__traceback__)[-_FRAMES_MAX:]
        fact: dict[str, Any] = {
            "type": f"{type(current).__module__}.{type(current).__qualname__}",
            "at": [_place(frame.filename, frame.lineno, frame.name) for frame in frames],
        }
        for detail in ("sqlstate", "constraint_name"):
            if isinstance(value := getattr(current, detail, None), str):
                fact[detail] = redacted_value(value)
        facts.append(fact)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return facts


def _tell_exception(_logger: Any, _method: str, line: Line) -> Line:
    info = line.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        line["exception"] = exception_facts(info)
    line.pop("stack_info", None)
    return line


def _keep_listed(_logger: Any, _method: str, line: Line) -> Line:
    of_library = line.pop("_of_library", False)
    always = _OF_LIBRARIES if of_library else _OURS
    kept: Line = {}
    dropped: list[str] = []
    for name, value in line.items():
        if name in always:
            kept[name] = value
        elif name in LOG_FIELDS:
            kept[name] = redacted_value(value)
        else:
            dropped.append(name if FIELD_NAME_FORM.fullmatch(name) else REDACTED)
    if not of_library and not EVENT_NAME_FORM.fullmatch(str(kept.get("event", ""))):
        kept["event"] = "unnamed_event"
    if dropped:
        kept["dropped"] = sorted(dropped)
    return kept


def _render(_logger: Any, _method: str, line: Line) -> bytes:
    return orjson.dumps(line, default=lambda _value: REDACTED)


_PROCESSORS: tuple[Any, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_trace,
    _tell_exception,
    _keep_listed,
    _render,
)


@lru_cache(maxsize=512)
def _is_written_there(template: str, file: str) -> bool:
    """Say whether a log template is a constant of the source file that logged it, and so was not put together at run time."""
    try:
        source = Path(file).read_text("utf-8", errors="replace")
    except OSError:
        return False
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.Constant) and node.value == template for node in ast.walk(tree))


def safe_message(record: logging.LogRecord) -> str:
    """Return a library's message with only numbers filled in; one that was put together before logging is left out."""
    template = str(record.msg)
    if not _is_written_there(template, record.pathname) or looks_like_a_person(template):
        return "library_message"
    if not record.args:
        return template[:200]
    values = record.args if isinstance(record.args, tuple) else (record.args,)
    shown = tuple(value if isinstance(value, int | float) else f"<{type(value).__name__}>" for value in values)
    try:
        return (template % shown)[:200]
    except (TypeError, ValueError):
        return template[:200]


def _level_of(record: logging.LogRecord) -> str:
    # Kafka's client calls every hiccup of a broker an error; our loops ride them out and say themselves what went wrong.
    if record.name.startswith("aiokafka") and record.levelno == logging.ERROR:
        return "warning"
    return record.levelname.lower()


class StandardLibraryBridge(logging.Handler):
    """Turns records of the standard library into our lines."""

    def __init__(self, output: BinaryIO) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a failure here never reaches the one who logged."""
        line: Line = {
            "_of_library": True,
            "event": safe_message(record),
            "logger": record.name,
            "at": _place(record.pathname, record.lineno, record.funcName),
        }
        if record.exc_info:
            line["exc_info"] = record.exc_info
        try:
            for process in _PROCESSORS:
                line = process(None, _level_of(record), line)
            self._output.write(line + b"\n")  # type: ignore[operator]  # the last processor returns bytes
            self._output.flush()
        except (OSError, ValueError):
            return


def _tell_uncaught(
    kind: type[BaseException],
    error: BaseException | None,
    traceback: TracebackType | None,  # noqa: ARG001 - the form of the hook
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        structlog.get_logger().critical("uncaught_error", error=kind.__name__, exc_info=error)


def configure_logs(level: str) -> None:
    """Send every log line of this process, ours and the libraries', to stdout as JSON; uncaught errors too."""
    least = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=list(_PROCESSORS),
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [StandardLibraryBridge(sys.stdout.buffer)]
    root.setLevel(least)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, least))
    logging.captureWarnings(capture=True)
    sys.excepthook = _tell_uncaught
    threading.excepthook = lambda args: _tell_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
