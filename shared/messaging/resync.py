"""The owner's side of a gap: a consumer asks, and the events go out once more from the outbox (R16)."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import orjson
import structlog

from shared.db import Database
from shared.messaging.broker import BROKER_TROUBLE, TopicPartition
from shared.messaging.consumer import GroupFactory
from shared.messaging.relay import resend

log = structlog.get_logger()


async def answer_resync_requests(service: str, db: Database, make_group: GroupFactory, stopping: asyncio.Event) -> None:
    """Send events again from this service's outbox when a consumer asks for them (R16)."""

    async def as_committed(_partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    while not stopping.is_set():
        group = make_group([f"{service}.resync.v1"], as_committed)
        try:
            await group.start()
            while not stopping.is_set():
                for record in await group.get_many(wait_seconds=1.0, records_max=50):
                    wanted = orjson.loads(record.value or b"{}")
                    async with db.pool.acquire(timeout=10) as conn:
                        count = await resend(
                            conn,
                            topic=wanted["topic"],
                            aggregate_id=wanted["aggregate_id"],
                            after_version=int(wanted["after_version"]),
                        )
                    log.warning("events_sent_again", service=service, asked_by=wanted.get("asked_by"), events=count)
                    db.wake_relay.set()
                    await group.commit_courtesy({TopicPartition(record.topic, record.partition): record.offset + 1})
        except BROKER_TROUBLE as error:
            log.warning("resync_interrupted", service=service, error=type(error).__name__)
            await asyncio.sleep(1.0)
        finally:
            with contextlib.suppress(Exception):
                await group.stop()
