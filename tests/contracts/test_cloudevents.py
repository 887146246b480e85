"""What the relay really sends is CloudEvents 1.0 (Kafka binding, binary mode), as the SDK of that standard reads it."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator

from shared.contracts.admission import BedRequested
from shared.contracts.asyncapi import HEADERS
from shared.contracts.beds import BedAssigned, BedVacated
from shared.contracts.envelope import Envelope
from shared.contracts.examples import example_of
from shared.contracts.export import schema_of
from shared.db import Database, transaction
from shared.messaging import outbox
from shared.messaging.broker import Record, event_headers
from shared.messaging.memory import MemoryBroker
from shared.messaging.relay import Relay

SERVICE = "beds"
STAY, ACTOR, CAUSE = uuid4(), uuid4(), uuid4()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def cause() -> Envelope:
    """Return what the relay of admission sent before."""
    at = "2026-03-02T02:04:00.000000Z"
    row = {
        "type": BedRequested.ce_type(),
        "event_id": str(CAUSE),
        "aggregate_id": str(STAY),
        "version": 2,
        "occurred_at": at,
        "recorded_at": at,
        "source": "live",
        "correlation_id": str(STAY),
        "causation_id": None,
        "actor": str(ACTOR),
        "traceparent": None,
    }
    return Envelope(BedRequested.topic.name, 3, 17, event_headers(row))


async def relayed(database: Database) -> list[Record]:
    """Send everything unsent through the real relay and return what lies in the topics."""
    broker = MemoryBroker()
    relay = Relay(SERVICE, database, broker.producer)
    async with database.pool.acquire() as conn:
        epoch = await conn.fetchval("SELECT epoch FROM relay")
        await relay.relay_batch(conn, broker.producer(), epoch)
    return [record for log in broker.logs.values() for record in log]


@pytest.mark.asyncio
async def test_an_event_from_the_relay_is_a_cloudevent_with_everything_a_reader_needs(database: Database):
    event = example_of(BedAssigned)
    happened_at = datetime(2026, 3, 2, 2, 5, tzinfo=UTC)
    async with transaction(database) as tx:
        tx.cause, tx.source, tx.traceparent = cause(), "import", TRACE
        outbox.append(tx, event, occurred_at=happened_at)
    (record,) = await relayed(database)
    message = KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value or b"")
    read = from_binary(message, JSONFormat())

    assert read.get_specversion() == "1.0"
    assert read.get_type() == "wardstream.beds.BedAssigned.v1"
    assert read.get_source() == "/wardstream/beds"
    assert read.get_subject() == event.aggregate_id
    assert read.get_time() == happened_at
    assert read.get_datacontenttype() == "application/json"
    assert read.get_extension("partitionkey") == event.aggregate_id
    assert read.get_extension("aggregateversion") == "1"
    assert read.get_extension("factsource") == "import"
    assert read.get_extension("correlationid") == str(STAY)
    assert read.get_extension("causationid") == str(CAUSE)
    assert read.get_extension("actor") == str(ACTOR)
    assert dict(record.headers)["traceparent"].decode() == TRACE
    Draft202012Validator(schema_of(BedAssigned)).validate(read.get_data())
    envelope = Envelope(record.topic, record.partition, record.offset, record.headers)
    assert UUID(read.get_id()) == envelope.event_id
    assert envelope.occurred_at == happened_at


@pytest.mark.asyncio
async def test_the_headers_are_those_the_asyncapi_document_names(database: Database):
    async with transaction(database) as tx:
        outbox.append(tx, example_of(BedVacated))
    async with transaction(database) as tx:
        tx.cause, tx.traceparent = cause(), TRACE
        outbox.append(tx, example_of(BedAssigned))
    validator = Draft202012Validator(HEADERS, format_checker=Draft202012Validator.FORMAT_CHECKER)
    seen: set[str] = set()
    for record in await relayed(database):
        headers = {name: value.decode() for name, value in record.headers}
        validator.validate(headers)
        assert headers.keys() <= HEADERS["properties"].keys()
        assert headers["ce_subject"].encode() == record.key
        seen |= headers.keys()
    assert seen == HEADERS["properties"].keys()
