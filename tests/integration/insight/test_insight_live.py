"""The live views on a real Kafka: complete, counted once, and the same after every restart."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio

from infra.kafka.topics import create_topics
from services.insight.actions import LagBoard
from services.insight.api import router
from services.insight.settings import Settings
from services.insight.streams import LiveViews, StreamStopped
from shared.access.actor import Actor
from shared.access.roles import Role
from shared.contracts import admission, beds, billing
from shared.contracts.envelope import Event
from shared.contracts.registry import TOPICS
from shared.db import Database
from shared.messaging.broker import TopicPartition, event_headers
from shared.messaging.kafka import KafkaConsumer, KafkaProducer
from shared.messaging.lags import OffsetReader
from shared.service import Runtime, ServiceSpec, create_app
from tests.support.hospital import OpenGate
from tests.support.servers import Server

pytestmark = [pytest.mark.asyncio, pytest.mark.kafka]

SERVICE = "insight"
AT = datetime(2026, 3, 1, 8, tzinfo=UTC)


class House:
    """Tells Kafka what happened, as the relays would."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._versions: dict[str, int] = {}
        self.ward = f"W{uuid4().hex[:8]}"
        self.patient = uuid4()

    async def tell(self, event: Event, *, correlation: UUID | None = None, times: int = 1) -> UUID:
        self._versions[event.aggregate_id] = self._versions.get(event.aggregate_id, 0) + 1
        event_id = uuid4()
        row = {
            "type": event.ce_type(),
            "event_id": str(event_id),
            "aggregate_id": event.aggregate_id,
            "version": self._versions[event.aggregate_id],
            "occurred_at": AT.isoformat(),
            "recorded_at": AT.isoformat(),
            "correlation_id": str(correlation) if correlation else None,
            "causation_id": None,
            "actor": None,
            "source": "live",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        }
        for _ in range(times):
            sending = await self._producer.send(
                event.topic.name, event.aggregate_id.encode(), event.model_dump_json().encode(), event_headers(row)
            )
            await sending
        return event_id

    async def raw(self, topic: str, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        await (await self._producer.send(topic, b"k", value, headers))  # type: ignore[arg-type]

    async def a_stay(self, bed_id: int, *, occupied: bool = True, times: int = 1) -> UUID:
        stay, common = uuid4(), {"patient_tok": self.patient}
        await self.tell(
            beds.BedAdded(bed_id=bed_id, bed_code=f"B{bed_id}", ward=self.ward, kind="inpatient"), times=times
        )
        await self.tell(
            admission.PreAdmissionRegistered(
                encounter_id=stay,
                urgency="elective",
                specialty="general",
                payer_kind="self_pay",
                expected_admit_at=AT,
                expected_stay_days=3,
                **common,
            ),
            correlation=stay,
            times=times,
        )
        await self.tell(
            beds.BedAssigned(encounter_id=stay, bed_id=bed_id, bed_code="x", ward=self.ward, held_until=AT, **common),
            correlation=stay,
            times=times,
        )
        if occupied:
            await self.tell(
                beds.BedOccupied(encounter_id=stay, bed_id=bed_id, ward=self.ward, occupied_at=AT, **common),
                correlation=stay,
                times=times,
            )
        return stay


@pytest_asyncio.fixture
async def house(kafka: Server) -> AsyncIterator[House]:
    await create_topics(kafka.address, TOPICS)
    producer = KafkaProducer(kafka.address, "house")
    await producer.start()
    yield House(producer)
    await producer.stop()


class Running:
    """Insight's views running on this test's database."""

    def __init__(self, kafka: Server, db: Database) -> None:
        settings = Settings(database_url="unused", kafka_bootstrap=kafka.address)
        self.board = LagBoard()
        self.reader = OffsetReader(kafka.address, "insight-test")
        self.live = LiveViews(settings, self.board, self.reader)
        self.db = db
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Running":
        self._task = asyncio.create_task(self.live.run(self.db))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        finally:
            await self.reader.stop()

    async def caught_up(self) -> None:
        async with asyncio.timeout(60):
            while not self.live.running or await self._behind():
                assert self._task is not None
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.1)

    async def _behind(self) -> int:
        async with self.db.pool.acquire() as conn:
            return await self.live.behind_now(conn)


@pytest.fixture
def running(kafka: Server, database: Database):
    return lambda: Running(kafka, database)


async def test_the_census_is_right_after_every_restart_and_events_told_twice_count_once(house: House, running: Any):
    await house.a_stay(int(uuid4().int % 10**9), times=2)
    async with running() as first:
        await first.caught_up()
        assert first.live.views.census()[house.ward] == {"beds": 1, "occupied": 1, "held": 0}
        await house.a_stay(int(uuid4().int % 10**9), occupied=False)
        await first.caught_up()
        before = first.live.views.census()[house.ward]
        assert before == {"beds": 2, "occupied": 1, "held": 1}
        journeys = first.live.views.journeys_in_flight()
    async with running() as second:
        await second.caught_up()
        assert second.live.views.census()[house.ward] == before
        assert second.live.views.journeys_in_flight() == journeys


async def test_an_index_emptied_by_a_crash_of_the_database_is_never_shown_as_complete(house: House, running: Any):
    stay = await house.a_stay(int(uuid4().int % 10**9))

    async def lose_the_index() -> None:
        async with running() as insight:
            await insight.caught_up()
            # What crash recovery does to unlogged tables.
            await insight.db.pool.execute("DELETE FROM event_seen")
            await insight.db.pool.execute("DELETE FROM event_index_position")
            for _ in range(40):  # told of on and on, so that it must not be added behind the hole
                await house.a_stay(int(uuid4().int % 10**9))
            await insight.caught_up()

    with pytest.raises(StreamStopped):
        await lose_the_index()
    async with running() as anew:
        await anew.caught_up()
        known = await anew.db.pool.fetchval("SELECT count(*) FROM event_seen WHERE encounter_id = $1", stay)
        assert known == 3, "a fresh process reads the topics from their beginning"


async def test_a_record_nobody_can_read_is_passed_over(house: House, running: Any):
    await house.raw("beds.allocations.v1", b"\xff not json", [("ce_type", b"wardstream.beds.BedAssigned.v1")])
    await house.raw("beds.allocations.v1", None, [])
    await house.raw("beds.allocations.v1", b"{}", [("ce_type", b"a\0b"), ("ce_id", b"x")])
    await house.a_stay(int(uuid4().int % 10**9))
    async with running() as insight:
        await insight.caught_up()
        assert insight.live.views.census()[house.ward]["occupied"] == 1


async def test_every_event_of_a_stay_is_listed_with_topic_partition_and_offset(house: House, running: Any):
    stay = await house.a_stay(int(uuid4().int % 10**9))
    account = uuid4()
    await house.tell(
        billing.AccountOpened(account_id=account, encounter_id=stay, patient_tok=house.patient, payer_kind="self_pay")
    )
    async with running() as insight, client_of(insight) as http:
        await insight.caught_up()
        answer = await http.get(f"/api/insight/journeys/{stay}/events", headers={"Authorization": "Bearer ops"})
        assert answer.status_code == 200
        events = answer.json()["events"]
        assert sorted(event["type"] for event in events) == [
            "AccountOpened",
            "BedAssigned",
            "BedOccupied",
            "PreAdmissionRegistered",
        ]
        assert {event["topic"] for event in events} == {
            "admission.encounters.v1",
            "beds.allocations.v1",
            "billing.accounts.v1",
        }
        assert all(event["offset"] >= 0 and event["trace_id"] == "a" * 32 for event in events)


@contextlib.asynccontextmanager
async def client_of(insight: Running) -> AsyncIterator[httpx2.AsyncClient]:
    gate = OpenGate()
    gate.people["icu-nurse"] = Actor(uuid4(), "nurse", frozenset({Role.WARD_NURSE}), frozenset({"ICU"}), uuid4())
    spec = ServiceSpec(
        name="insight", title="Insight", router=lambda door: router(door, insight.live, insight.board), publishes=False
    )
    runtime = Runtime(
        spec=spec,
        settings=Settings(database_url="unused"),
        db=insight.db,
        verifier=gate,
        make_producer=lambda: None,  # type: ignore[arg-type, return-value]
        make_group=lambda topics, on_assigned: None,  # type: ignore[arg-type]
    )
    app = create_app(spec, lambda: runtime, gate, run=False)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://insight") as http:
        yield http


async def test_the_doors_show_census_journeys_progress_and_lags_to_those_who_may(
    house: House, running: Any, kafka: Server
):
    stay = await house.a_stay(int(uuid4().int % 10**9))
    async with running() as insight, client_of(insight) as http:
        await insight.caught_up()

        async def get(path: str, who: str) -> httpx2.Response:
            return await http.get(f"/api/insight{path}", headers={"Authorization": f"Bearer {who}"})

        census = (await get("/census", "bed_manager")).json()
        assert census["wards"][house.ward] == {"beds": 1, "occupied": 1, "held": 0}
        assert house.ward in (await get("/census", "ops")).json()["wards"]
        assert (await get("/census", "icu-nurse")).json()["wards"].keys() <= {"ICU"}
        assert (await get("/census", "billing_clerk")).status_code == 403
        journeys = (await get("/journeys-in-flight", "bed_manager")).json()["journeys"]
        assert journeys["inpatient"]["pending_admit"] >= 1
        progress = (await get("/progress", "ops")).json()
        assert progress["caught_up"] is True
        assert all(line["applied_offset"] == line["end_offset"] for line in progress["partitions"])
        assert (await get("/progress", "doctor")).status_code == 403
        assert (await get(f"/journeys/{stay}", "ops")).json()["traces"] == []
        assert (await get("/traces/abc", "ops")).json()["code"] == "bad_trace_id"
        assert (await get(f"/traces/{'0' * 32}", "ops")).status_code == 404
        audited = await insight.db.pool.fetch("SELECT object_type, object_id FROM audit ORDER BY id")
        assert ("encounter", str(stay)) in [tuple(row) for row in audited]
        await insight.board.sample(insight.reader)
        assert (await get("/lags", "ops")).json()["sampled_at"] is not None


async def test_a_consumer_that_stands_still_is_seen_with_its_lag_in_events_and_seconds(
    house: House, running: Any, kafka: Server
):
    place = TopicPartition("followup.plans.v1", 0)
    group = f"slow-{uuid4().hex[:8]}"

    async def from_zero(partitions: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    consumer = KafkaConsumer(kafka.address, group, [place.topic], from_zero)
    await consumer.start()
    await consumer.get_many(wait_seconds=0.5, records_max=1)
    await consumer.commit_courtesy({place: 0})
    insight = running()
    await insight.board.sample(insight.reader)
    end = insight.board.ends[tuple(place)]
    for _ in range(3):
        sending = await house._producer.send(place.topic, b"k", b"{}", [], partition=0)
        await sending
    await insight.board.sample(insight.reader)
    await asyncio.sleep(1.1)
    await insight.board.sample(insight.reader)
    [line] = [line for line in insight.board.summed() if line["group"] == group]
    assert line["lag"] == end + 3
    assert line["lag_seconds"] >= 1
    await consumer.stop()
    await insight.reader.stop()
