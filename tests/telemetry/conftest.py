"""One tracer provider per test process that keeps what would have left, scrubbed as it would have been."""

from collections.abc import Iterator

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.telemetry.traces import ScrubbingExporter, make_tracer_provider, sampler_for

_left = InMemorySpanExporter()


@pytest.fixture(scope="session")
def provider() -> TracerProvider:
    """The provider of this process; OpenTelemetry takes only one."""
    made = make_tracer_provider("test", sampler_for(1.0))
    made.add_span_processor(SimpleSpanProcessor(ScrubbingExporter(_left)))
    trace.set_tracer_provider(made)
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    assert trace.get_tracer_provider() is made, "Another test set a tracer provider; run tests/telemetry on its own."
    return made


class Left:
    """The spans that left this process."""

    def spans(self) -> list[ReadableSpan]:
        return list(_left.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span

    def text(self) -> str:
        return "\n".join(span.to_json() for span in self.spans())


@pytest.fixture
def left(provider: TracerProvider) -> Iterator[Left]:
    """What left during this test."""
    _left.clear()
    yield Left()
    _left.clear()
