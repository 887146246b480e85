"""What is counted is written as Prometheus reads it, under the names dashboards know."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from starlette.testclient import TestClient

from shared import telemetry
from shared.contracts.envelope import Envelope
from shared.telemetry.metrics import make_meter_provider
from shared.telemetry.names import METRICS


def an_envelope(traceparent: str | None = None) -> Envelope:
    headers = [
        ("ce_id", str(uuid4()).encode()),
        ("ce_type", b"wardstream.beds.BedAssigned.v1"),
        ("ce_subject", b"a"),
        ("ce_aggregateversion", b"1"),
        ("ce_time", datetime.now(UTC).isoformat().encode()),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return Envelope("beds.allocations.v1", 3, 7, headers)


def sample(text: str, start: str) -> float:
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.rsplit(" ", 1)[1])


def test_handling_an_event_is_counted_and_timed_by_consumer_and_topic():
    telemetry.processed("metrics-test", an_envelope().topic, time.perf_counter())
    text = telemetry.metrics_text()
    labels = '{consumer="metrics-test",topic="beds.allocations.v1"}'
    assert sample(text, f"messaging_process_duration_seconds_count{labels}") == 1
    assert "# TYPE messaging_process_duration_seconds histogram" in text
    buckets = [line for line in text.splitlines() if line.startswith("messaging_process_duration_seconds_bucket")]
    values = [int(line.rsplit(" ", 1)[1]) for line in buckets if "metrics-test" in line]
    assert values == sorted(values), "buckets are cumulative"
    assert 'le="+Inf"' in text


@dataclass
class Fetched:
    topic: str


@dataclass
class Sent:
    partition: int
    offset: int


def a_row(traceparent: str | None = None) -> dict[str, Any]:
    return {
        "type": "wardstream.beds.BedAssigned.v1",
        "traceparent": traceparent,
        "event_id": uuid4(),
        "correlation_id": None,
    }


def test_fetched_and_acknowledged_messages_are_counted_by_topic():
    telemetry.consumed("metrics-test", [Fetched("beds.inventory.v1")] * 3)
    topic_of = {"wardstream.beds.BedAssigned.v1": "metrics.test.v1"}
    telemetry.sent([a_row(), a_row(), a_row()], topic_of, [Sent(0, 1), RuntimeError(), Sent(0, 2)], time.time())
    text = telemetry.metrics_text()
    consumed = 'messaging_client_consumed_messages_total{consumer="metrics-test",topic="beds.inventory.v1"}'
    assert sample(text, consumed) == 3
    assert sample(text, 'messaging_client_sent_messages_total{topic="metrics.test.v1"}') == 2


def test_lags_have_the_names_of_kafka_exporter():
    telemetry.number("kafka_consumergroup_lag").replace({("beds", "admission.encounters.v1", "3"): 12.0})
    line = 'kafka_consumergroup_lag{consumergroup="beds",topic="admission.encounters.v1",partition="3"}'
    assert sample(telemetry.metrics_text(), line) == 12
    telemetry.number("kafka_consumergroup_lag").replace({})
    assert line not in telemetry.metrics_text()


def test_requests_are_counted_by_declared_route():
    app = FastAPI(telemetry={"meter_provider": make_meter_provider(), "tracing": False, "logs": False})

    @app.get("/api/beds/beds/{bed_id}")
    async def get_bed(bed_id: int) -> int:
        return bed_id

    client = TestClient(app)
    client.get("/api/beds/beds/17")
    client.get("/api/beds/beds/18")
    text = telemetry.metrics_text()
    labels = '{method="GET",route="/api/beds/beds/{bed_id}",status="200"}'
    assert sample(text, f"http_server_request_duration_seconds_count{labels}") == 2
    assert "server_address" not in text
    assert text.count("# TYPE http_server_request_duration_seconds") == 1


def test_every_exposed_name_is_unique_and_explained():
    names = [metric.exposed_name for metric in METRICS.values()]
    assert len(set(names)) == len(names)
    assert all(metric.help.endswith(".") for metric in METRICS.values())


def test_an_event_that_is_not_sampled_costs_next_to_nothing():
    envelope = an_envelope()
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(1000):
            assert telemetry.processing(envelope, "metrics-test") is None
            telemetry.processed("metrics-test", envelope.topic, began)
        best = min(best, (time.perf_counter() - began) / 1000)
    assert best < 3e-6, f"{best * 1e6:.2f} microseconds"
