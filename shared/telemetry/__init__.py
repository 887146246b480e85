"""Traces, metrics and logs: one story from the door through outbox, Kafka and consumers, without a word about who the patient is (S8).

names.py     every name that may leave, and the form of its value
scrub.py     keeps everything else in
traces.py    spans: opened at doors, relay and consumers; sent without ever hurting the service
metrics.py   counters and their text at /metrics
logs.py      JSON lines on stdout
"""

from opentelemetry import metrics as otel_metrics

from shared.settings import ServiceSettings
from shared.telemetry.logs import configure_logs
from shared.telemetry.metrics import histogram, make_meter_provider, metrics_text, number
from shared.telemetry.traces import (
    configure_traces,
    consumed,
    current_traceparent,
    name_encounter,
    processed,
    processing,
    running,
    sent,
    shutdown,
)

__all__ = [
    "configure",
    "configure_logs",
    "configure_traces",
    "consumed",
    "current_traceparent",
    "histogram",
    "metrics_text",
    "name_encounter",
    "number",
    "processed",
    "processing",
    "running",
    "sent",
    "shutdown",
]


def configure(service: str, settings: ServiceSettings) -> None:
    """Start logs, metrics and traces of this process; call once, before anything is traced."""
    configure_logs(settings.log_level)
    otel_metrics.set_meter_provider(make_meter_provider())
    configure_traces(
        service,
        endpoint=settings.otlp_endpoint,
        ratio=settings.trace_ratio,
        token=settings.otlp_token.get_secret_value(),
    )
