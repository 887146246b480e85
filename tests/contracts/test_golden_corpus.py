"""The golden corpus: every consumer reads every example ever published of every event it subscribes to (R22)."""

import asyncio
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from infra.cli.house import readers, spec_of
from infra.local.services import SERVICES
from shared.contracts.envelope import Event
from shared.contracts.export import exported_examples
from shared.contracts.registry import EVENTS
from shared.messaging.broker import event_headers
from shared.messaging.consumer import Consumer
from shared.messaging.memory import MemoryBroker
from tests.conftest import Databases, opened

READ = readers()
CORPUS = [
    pytest.param(service, event, path, id=f"{service}-{path.name.removesuffix('.json')}")
    for service, events in READ.items()
    for event in events
    for path in exported_examples(event)
]
UNREADABLE = ("contract_broken", "body_broken", "unknown_event_type")


def headers_of(event: type[Event], aggregate_id: str, version: int) -> list[tuple[str, bytes]]:
    """Return the headers the relay would send."""
    at = "2026-03-02T02:05:00.000000Z"
    return event_headers(
        {
            "type": event.ce_type(),
            "event_id": str(uuid4()),
            "aggregate_id": aggregate_id,
            "version": version,
            "occurred_at": at,
            "recorded_at": at,
            "source": "live",
            "correlation_id": str(uuid4()),
            "causation_id": None,
            "actor": None,
            "traceparent": None,
        }
    )


@pytest.mark.parametrize(("service", "event", "path"), CORPUS)
def test_a_consumer_reads_every_event_ever_published(service: str, event: type[Event], path: Path):
    subscription = next(found for found in spec_of(service).subscriptions if found.event is event)
    subscription.event.model_validate_json(path.read_bytes())


def test_an_event_of_a_newer_writer_is_read_without_its_unknown_fields():
    for event in EVENTS.values():
        old = exported_examples(event)[0].read_text("utf-8")
        newer = old.rstrip().removesuffix("}") + ', "added_next_year": {"deep": [1]}}'
        assert event.model_validate_json(newer) == event.model_validate_json(old)


@pytest.mark.asyncio
@pytest.mark.parametrize("service", [service for service in SERVICES if service in READ])
async def test_a_service_takes_the_whole_corpus_and_can_read_all_of_it(service: str, databases: Databases):
    """A fresh service may refuse what it hears (no such stay), but never for not understanding it, and never by crashing."""
    broker, versions = MemoryBroker(), Counter[tuple[str, str]]()
    producer = broker.producer()
    sent = 0
    for event in READ[service]:
        for path in exported_examples(event):
            body = path.read_bytes()
            aggregate_id = event.model_validate_json(body).aggregate_id
            versions[event.topic.name, aggregate_id] += 1
            headers = headers_of(event, aggregate_id, versions[event.topic.name, aggregate_id])
            await (await producer.send(event.topic.name, aggregate_id.encode(), body, headers))
            sent += 1
    dsn = await databases.create(service)
    async with opened(dsn, service) as db:
        subscriptions = spec_of(service).subscriptions
        consumer = Consumer(service, db, subscriptions, broker.consumer, broker.producer)
        running = asyncio.create_task(consumer.run())
        async with asyncio.timeout(30):
            while await db.pool.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed") < sent:
                assert not running.done(), running.exception()
                await asyncio.sleep(0.05)
        consumer.stop()
        await running
        reasons = [row["reason"] for row in await db.pool.fetch("SELECT reason FROM parked")]
        assert [reason for reason in reasons if reason.startswith(UNREADABLE)] == []
        assert await db.pool.fetchval("SELECT sum(events) FROM consumed") == sent
    await databases.drop(dsn)
