"""Spans and events are kept once, found by stay, and the oldest day makes room."""

import asyncio
import contextlib
import gc
import random
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.insight import actions, store
from services.insight.actions import EventIndex, SpanKeeper
from services.insight.domain import Progress, StoredSpan
from services.insight.store import SeenEvent
from shared.db import RETRYABLE, Database

pytestmark = pytest.mark.asyncio

SERVICE = "insight"
BEGAN = datetime(2026, 3, 1, 8, tzinfo=UTC)


def a_span(trace_id: str, *, stay: UUID | None = None, at_ms: int = 0, parent: str | None = None) -> StoredSpan:
    return StoredSpan(
        trace_id=trace_id,
        span_id=uuid4().hex[:16],
        parent_span_id=parent,
        service="beds",
        name="process admission.encounters.v1",
        kind="consumer",
        started_at=BEGAN + timedelta(milliseconds=at_ms),
        duration_us=1500,
        failed=False,
        encounter_id=stay,
        attributes={"messaging.kafka.offset": 7},
        links=[{"trace_id": "1" * 32, "span_id": "2" * 16}],
    )


def an_event(
    stay: UUID | None, offset: int, *, causation: UUID | None = None, correlation: UUID | None = None
) -> SeenEvent:
    return SeenEvent(
        event_id=uuid4(),
        type="wardstream.beds.BedAssigned.v1",
        topic="beds.allocations.v1",
        part=3,
        kafka_offset=offset,
        aggregate_id=str(stay),
        version=offset + 1,
        occurred_at=BEGAN + timedelta(seconds=offset),
        recorded_at=BEGAN + timedelta(seconds=offset),
        encounter_id=stay,
        correlation_id=correlation,
        causation_id=causation,
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
        source="live",
    )


async def test_the_traces_of_a_stay_are_found_whole(database: Database):
    stay, trace, other = uuid4(), uuid4().hex, uuid4().hex
    keeper = SpanKeeper(1000)
    first = a_span(trace, at_ms=0)
    keeper.take([first, a_span(trace, stay=stay, at_ms=5, parent=first.span_id), a_span(other)])
    await keeper.flush(database)
    async with database.pool.acquire() as conn:
        [found] = await actions.get_journey_traces(conn, stay)
        assert found["trace_id"] == trace
        assert [line["depth"] for line in found["waterfall"]] == [0, 1]
        assert found["waterfall"][1]["attributes"] == {"messaging.kafka.offset": 7}
        assert found["waterfall"][1]["links"] == [{"trace_id": "1" * 32, "span_id": "2" * 16}]
        assert {line["trace_id"] for line in await actions.list_traces(conn, None, 10)} == {trace, other}
        assert [line["trace_id"] for line in await actions.list_traces(conn, stay, 10)] == [trace]
        assert await actions.get_trace(conn, "f" * 32) is None


async def test_a_full_table_takes_no_more_spans(database: Database):
    keeper = SpanKeeper(1000)
    for _ in range(6):
        keeper.take([a_span(uuid4().hex) for _ in range(500)])
        await keeper.flush(database)
    async with database.pool.acquire() as conn:
        stored = await store.count_spans(conn, int(time.time() // 86_400) % 3)
    assert 500 <= stored <= 1000
    again = SpanKeeper(1000)
    await again.flush(database)
    assert again._stored == stored, "a new process counts what is there"


async def test_sessions_thrown_out_while_spans_are_written_lose_none_and_leave_no_error_behind(database: Database):
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unheard.append(str(told["message"])))
    keeper = SpanKeeper(100_000)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    written = thrown = 0
    async with database.pool.acquire() as ops:

        async def throw_out() -> int:
            await asyncio.sleep(chance.uniform(0, 0.01))
            return int(
                await ops.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            )

        for _ in range(60):
            throwing = asyncio.create_task(throw_out())
            while not throwing.done():
                written += keeper.take([a_span(uuid4().hex) for _ in range(40)])
                with contextlib.suppress(*RETRYABLE):
                    await keeper.flush(database)
            thrown += await throwing
    gc.collect()
    await asyncio.sleep(0)
    assert (unheard, thrown > 0) == ([], True), f"seed {seed}"
    await keeper.flush(database)
    async with database.pool.acquire() as conn:
        stored = await store.count_spans(conn, int(time.time() // 86_400) % 3)
    assert stored >= written, f"seed {seed}: some may be there twice, none is missing"


async def test_the_day_before_yesterday_makes_room(database: Database):
    today = int(time.time() // 86_400)
    async with database.pool.acquire() as conn:
        await store.insert_spans(conn, (today + 1) % 3, [a_span("d" * 32)])
        await store.insert_spans(conn, (today + 2) % 3, [a_span("e" * 32)])
    await SpanKeeper(1000).flush(database)
    async with database.pool.acquire() as conn:
        left = {line["trace_id"] for line in await actions.list_traces(conn, None, 10)}
    assert left == {"e" * 32}, "yesterday is kept"


async def test_every_event_of_a_stay_is_listed_with_what_caused_it(database: Database):
    stay, other = uuid4(), uuid4()
    progress = Progress()
    index = EventIndex(progress)
    await index.start(database, {})
    asked = an_event(stay, 0)
    assigned = an_event(stay, 1, causation=asked.event_id, correlation=stay)
    for_another = an_event(other, 2, correlation=stay, causation=uuid4())
    for row in (asked, assigned, for_another, an_event(other, 3)):
        await index.add(database, ("beds.allocations.v1", 3), row.kafka_offset, row)
    await index.flush(database)
    async with database.pool.acquire() as conn:
        events = await actions.get_journey_events(conn, stay)
    assert [event["offset"] for event in events] == [0, 1, 2]
    assert events[0]["cause"] == {"kind": "request", "event_id": None, "type": None}
    assert events[1]["cause"] == {"kind": "event", "event_id": str(asked.event_id), "type": "BedAssigned"}
    assert events[2]["cause"]["type"] is None
    assert events[0]["type"] == "BedAssigned"
    assert events[0]["trace_id"] == "a" * 32
    assert progress.indexed == {("beds.allocations.v1", 3): 4}


async def test_an_event_told_twice_is_listed_once(database: Database):
    stay = uuid4()
    row = an_event(stay, 0)
    place = ("beds.allocations.v1", 3)
    async with database.pool.acquire() as conn:
        await store.insert_events(conn, [row], {place: 1})
        await store.insert_events(conn, [row, an_event(stay, 1)], {place: 2})
        assert len(await actions.get_journey_events(conn, stay)) == 2


async def test_what_is_indexed_already_is_not_written_again_after_a_restart(database: Database):
    place = ("beds.allocations.v1", 3)
    async with database.pool.acquire() as conn:
        await store.insert_events(conn, [an_event(uuid4(), 0)], {place: 1})
    index = EventIndex(Progress())
    await index.start(database, {place: 5})
    await index.add(database, place, 0, an_event(uuid4(), 0))
    assert not index._rows
    await index.add(database, place, 1, an_event(uuid4(), 1))
    assert len(index._rows) == 1


async def test_a_partition_the_broker_lost_is_forgotten_and_indexed_anew(database: Database):
    stay = uuid4()
    place = ("beds.allocations.v1", 3)
    async with database.pool.acquire() as conn:
        await store.insert_events(conn, [an_event(stay, 0), an_event(stay, 1)], {place: 2})
    progress = Progress()
    await EventIndex(progress).start(database, {place: 1})
    assert progress.indexed == {}
    async with database.pool.acquire() as conn:
        assert await actions.get_journey_events(conn, stay) == []
