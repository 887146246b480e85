"""Counters, gauges and histograms of this process, and their text at /metrics (Prometheus format 0.0.4).

A small registry of our own: one `inc` or `observe` costs well under a microsecond, the SDK's several. FastAPI's own request
metrics go through the SDK and are written out here with the rest. Only names registered in `names.METRICS` exist.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Sum
from opentelemetry.sdk.metrics.view import DropAggregation, View

from shared.telemetry.names import LABELS_OF_HTTP, METRICS, Kind, Metric

SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[str, ...]


class Number:
    """One counter or gauge with fixed label values."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Add to it."""
        self.value += by

    def set(self, value: float) -> None:
        """Make it this value."""
        self.value = value


class Distribution:
    """One histogram with fixed label values."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.sum += seconds


Child = TypeVar("Child", Number, Distribution)


class Family(Generic[Child]):
    """All label values of one registered metric."""

    def __init__(self, metric: Metric, make: type[Child]) -> None:
        self.metric = metric
        self._make: type[Child] = make
        self._children: dict[Labels, Child] = {}
        self._watched: dict[Labels, Callable[[], float]] = {}

    def of(self, *labels: str) -> Child:
        """Return the child with these label values, in the order they are registered."""
        child = self._children.get(labels)
        if child is None:
            if len(labels) != len(self.metric.labels):
                raise ValueError(f"{self.metric.name} is told apart by {self.metric.labels}.")
            child = self._children[labels] = self._make()
        return child

    def watch(self, read: Callable[[], float], *labels: str) -> None:
        """Ask `read` at each scrape instead of being told."""
        self._watched[labels] = read

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Make these the only values, so that what no longer exists is no longer told."""
        self._children.clear()
        for labels, value in values.items():
            child = self.of(*labels)
            assert isinstance(child, Number)
            child.set(value)

    def lines(self) -> Iterator[str]:
        """Write the samples."""
        name = self.metric.exposed_name
        for labels, child in sorted(self._children.items()):
            if isinstance(child, Distribution):
                yield from _histogram_lines(name, _named(self.metric, labels), SECONDS_BUCKETS, child.counts, child.sum)
            else:
                yield _line(name, _named(self.metric, labels), child.value)
        for labels, read in sorted(self._watched.items(), key=lambda item: item[0]):
            yield _line(name, _named(self.metric, labels), read())


_numbers: dict[str, Family[Number]] = {}
_distributions: dict[str, Family[Distribution]] = {}


def _registered(name: str, *kinds: Kind) -> Metric:
    metric = METRICS.get(name)
    if metric is None or metric.kind not in kinds:
        raise ValueError(
            f"There is no registered {' or '.join(kinds)} {name}; write it into shared/telemetry/names.py."
        )
    return metric


def number(name: str) -> Family[Number]:
    """Return a registered counter or gauge; the same one each time."""
    if name not in _numbers:
        _numbers[name] = Family(_registered(name, "counter", "gauge"), Number)
    return _numbers[name]


def histogram(name: str) -> Family[Distribution]:
    """Return a registered histogram; the same one each time."""
    if name not in _distributions:
        _distributions[name] = Family(_registered(name, "histogram"), Distribution)
    return _distributions[name]


# ---- FastAPI's own metrics, through the SDK -------------------------------------------------------------------------

_reader: InMemoryMetricReader | None = None


def make_meter_provider() -> MeterProvider:
    """Return the provider FastAPI finds; it keeps the registered request metrics and drops everything else."""
    global _reader
    _reader = InMemoryMetricReader()
    keys = set(LABELS_OF_HTTP)
    return MeterProvider(
        metric_readers=[_reader],
        shutdown_on_exit=False,
        views=[
            View(instrument_name="http.server.request.duration", attribute_keys=keys),
            View(instrument_name="http.server.active_requests", attribute_keys=keys),
            View(instrument_name="*", aggregation=DropAggregation()),
        ],
    )


def _sdk_points() -> Iterator[tuple[Metric, Any]]:
    data = _reader.get_metrics_data() if _reader is not None else None
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for found in scope.metrics:
                if found.name in METRICS and isinstance(found.data, Histogram | Sum):
                    yield METRICS[found.name], found.data


def _sdk_lines() -> Iterator[str]:
    seen: set[str] = set()
    for metric, data in _sdk_points():
        if metric.name in seen:
            continue  # a view that matched twice
        seen.add(metric.name)
        yield from _head(metric)
        for point in data.data_points:
            attributes = point.attributes or {}
            labels = {label: str(attributes[key]) for key, label in LABELS_OF_HTTP.items() if key in attributes}
            if isinstance(data, Histogram):
                yield from _histogram_lines(
                    metric.exposed_name, labels, point.explicit_bounds, point.bucket_counts, point.sum
                )
            else:
                yield _line(metric.exposed_name, labels, point.value)


# ---- the text -------------------------------------------------------------------------------------------------------


def _named(metric: Metric, labels: Labels) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    shown = str(int(value)) if float(value).is_integer() else repr(float(value))
    return f"{name}{{{inside}}} {shown}" if inside else f"{name} {shown}"


def _histogram_lines(
    name: str, labels: Mapping[str, str], bounds: Sequence[float], counts: Sequence[int], total: float
) -> Iterator[str]:
    below = 0
    for bound, count in zip(bounds, counts, strict=False):
        below += count
        yield _line(f"{name}_bucket", {**labels, "le": repr(float(bound))}, below)
    yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, sum(counts))
    yield _line(f"{name}_sum", labels, total)
    yield _line(f"{name}_count", labels, sum(counts))


def _head(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.exposed_name} {metric.help}"
    yield f"# TYPE {metric.exposed_name} {metric.kind}"


def _process_lines() -> Iterator[str]:
    yield from _head(METRICS["process_cpu_seconds_total"])
    yield _line("process_cpu_seconds_total", {}, time.process_time())
    try:
        with open("/proc/self/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
    except (OSError, IndexError, ValueError):
        return  # not Linux: there is no cheap way to ask
    yield from _head(METRICS["process_resident_memory_bytes"])
    yield _line("process_resident_memory_bytes", {}, pages * os.sysconf("SC_PAGE_SIZE"))


def metrics_text() -> str:
    """Return everything counted in this process in the Prometheus text format."""
    lines: list[str] = []
    families: list[Family[Number] | Family[Distribution]] = [*_numbers.values(), *_distributions.values()]
    for family in families:
        samples = list(family.lines())
        if samples:
            lines.extend(_head(family.metric))
            lines.extend(samples)
    lines.extend(_sdk_lines())
    lines.extend(_process_lines())
    return "\n".join(lines) + "\n"
