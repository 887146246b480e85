"""The live views as one Faust app: reads every event topic from its beginning into fresh tables, at each start.

Nothing that must not be lost hangs on Faust's offsets: it never commits any (an agent's error would, 4-reliability 1), and a
record out of line, a crash or a standstill ends the process, which builds the views anew. The tables have no changelog.
"""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import faust
import structlog
from faust.contrib.asgi import faust_app_running
from pydantic import ValidationError

from services.insight.actions import EventIndex, IndexLost, LagBoard
from services.insight.domain import Place, Progress, Views
from services.insight.settings import Settings
from services.insight.store import SeenEvent
from shared import telemetry
from shared.contracts.envelope import ContractBroken, Envelope, Event
from shared.contracts.registry import EVENT_TOPICS, EVENTS
from shared.db import Connection, Database
from shared.messaging.broker import BEACON_TYPE, BrokerUnavailable, Record
from shared.messaging.lags import OffsetReader

log = structlog.get_logger()

BUFFER_RECORDS_MAX = 512
STOP_SECONDS_MAX = 8.0
COMPARE_SECONDS = 30.0
VERSION_MAX = 2**31 - 1
TEXT_CHARS_MAX = 200

_events = telemetry.number("flow_view_events_total")
_unreadable = telemetry.number("flow_view_unreadable_total")


class StreamStopped(Exception):
    """The stream ended or stands still; a fresh process builds the views anew."""


class _InMemory(faust.App):
    """A Faust app that leaves nothing on the disk."""

    def _create_directories(self) -> None:
        """Make none; the store is in memory."""


class ViewTable(faust.Table[str, dict[str, int]]):
    """A table in memory without a changelog: what it holds is rebuilt from the topics, never recovered."""

    def on_key_set(self, key: str, value: object) -> None:
        """Tell the sensors only."""
        self._sensor_on_set(self, key, value)

    def on_key_del(self, key: str) -> None:
        """Tell the sensors only."""
        self._sensor_on_del(self, key)


class LiveViews:
    """The views and how far they are; the doors read here."""

    def __init__(self, settings: Settings, board: LagBoard, reader: OffsetReader) -> None:
        self._settings = settings
        self._board = board
        self._reader = reader
        self.progress = Progress()
        self.views = Views({}, {})
        self._index = EventIndex(self.progress)
        self._failed: BaseException | None = None
        self._progressed_at = time.monotonic()
        self.running = False

    # ---- what the doors ask ----------------------------------------------------------------------------------------

    def behind(self) -> int:
        """Return how many records the views or the index have not taken in, by what the broker said last."""
        behind = self.progress.behind(self._board.ends, self._board.begins)
        return max(1, behind) if self._failed is not None else behind

    async def behind_now(self, conn: Connection) -> int:
        """Ask the broker for its ends, then say how far behind; 0 means: everything announced before the question is in.

        Raises:
            BrokerUnavailable: it does not answer.
        """
        await self._board.look_at_ends(self._reader)
        try:
            await self._index.check(conn)
        except IndexLost as lost:
            self._failed = lost
        return self.behind()

    def unready(self) -> Sequence[str]:
        """Say what is missing for this service to be ready (R61)."""
        if not self.running:
            return ("stream_not_joined",)
        return ("lag",) if self.behind() > self._settings.ready_lag_max else ()

    # ---- running ---------------------------------------------------------------------------------------------------

    async def run(self, db: Database) -> None:
        """Build the views and keep them up to date.

        Raises:
            StreamStopped: Faust ended, or took in nothing for a minute although records wait.
        """
        await self._wait_for_broker()
        await self._index.start(db, self._board.ends)
        app = self._app(db)
        indexing = asyncio.create_task(self._index.run(db))
        try:
            async with faust_app_running(app, stop_timeout=STOP_SECONDS_MAX):
                self.running = True
                self._progressed_at = time.monotonic()
                log.info("views_running", records=self.behind())
                await self._watch(app, indexing)
        finally:
            self.running = False
            indexing.cancel()

    async def _wait_for_broker(self) -> None:
        wait_seconds = 0.2
        while True:
            try:
                await self._board.look_at_ends(self._reader)
            except BrokerUnavailable:
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, 5.0)
            else:
                return

    async def _watch(self, app: faust.App, indexing: "asyncio.Task[None]") -> None:
        behind_gauge = telemetry.number("flow_view_behind_events").of()
        compare_at = time.monotonic() + COMPARE_SECONDS
        while True:
            await asyncio.sleep(1)
            if time.monotonic() >= compare_at:
                await self._compare_with_broker()
                compare_at = time.monotonic() + COMPARE_SECONDS
            behind = self.behind()
            behind_gauge.set(behind)
            if self._failed is not None:
                raise StreamStopped("An event could not be taken in.") from self._failed
            if indexing.done():
                raise StreamStopped("The event index ended.") from indexing.exception()
            if app.should_stop or app.crashed:
                raise StreamStopped("Faust stopped.")
            if not behind:
                self._progressed_at = time.monotonic()
            elif time.monotonic() - self._progressed_at > self._settings.stall_seconds:
                raise StreamStopped("Nothing was taken in although records wait.")

    async def _compare_with_broker(self) -> None:
        """Notice a broker that lost records: what comes next would look like a repetition and be left out (R14)."""
        applied = dict(self.progress.applied)
        try:
            await self._board.look_at_ends(self._reader)
        except BrokerUnavailable:
            return
        if any(self._board.ends.get(place, 0) < offset for place, offset in applied.items()):
            raise StreamStopped("The broker lost records; the views are built anew.")

    def _app(self, db: Database) -> faust.App:
        app = _InMemory(
            f"insight-{uuid4().hex[:12]}",  # a new group at each start: it begins at the beginning
            broker=f"kafka://{self._settings.kafka_bootstrap.replace(',', ';')}",
            store="memory://",
            autodiscover=False,
            web_enabled=False,  # Faust would serve the tables on 0.0.0.0
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            stream_buffer_maxsize=BUFFER_RECORDS_MAX,
            broker_session_timeout=30,
            broker_heartbeat_interval=5,
        )
        self.progress.applied.clear()
        self.views = Views(ViewTable(app, name="census"), ViewTable(app, name="journeys_in_flight"))
        events = app.topic(
            *sorted(EVENT_TOPICS),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
            acks=False,  # never commits
        )

        async def take_in(stream: faust.StreamT[bytes]) -> None:
            async for event in stream.events():
                message = event.message
                try:
                    await self._take(
                        db,
                        Record(
                            message.topic,
                            message.partition,
                            message.offset,
                            message.key,
                            message.value,
                            tuple(dict(message.headers or ()).items()),
                        ),
                    )
                except Exception as error:
                    self._failed = error  # Faust would go on with the next event
                    raise

        app.agent(events, name="views")(take_in)
        return app

    async def _take(self, db: Database, record: Record) -> None:
        """Take in one record: into the views at once, into the index with the next batch."""
        place = (record.topic, record.partition)
        if not self.progress.take(place, record.offset):
            return
        self._progressed_at = time.monotonic()
        await self._index.add(db, place, record.offset, self._apply(record, place))

    def _apply(self, record: Record, place: Place) -> SeenEvent | None:
        headers = dict(record.headers)
        if headers.get("ce_type") == BEACON_TYPE.encode():
            return None
        try:
            envelope = Envelope(record.topic, record.partition, record.offset, headers.items())
            known = EVENTS.get(envelope.ce_type)
            event = None if known is None else known.model_validate_json(record.value or b"")
            row = _seen(envelope, event, place)
        except (ContractBroken, ValidationError):
            # The services that need it park it and tell; a view is only poorer by it.
            _unreadable.of(record.topic).inc()
            return None
        if event is not None:
            self.views.apply(event, row.version)
        _events.of(record.topic).inc()
        return row


def _seen(envelope: Envelope, event: Event | None, place: Place) -> SeenEvent:
    """Return what the index keeps of an event.

    Raises:
        ContractBroken: a header is unreadable, or the database could not keep it.
    """
    texts = (envelope.ce_type, envelope.aggregate_id, envelope.source, envelope.traceparent or "")
    if envelope.version > VERSION_MAX or any("\0" in text or len(text) > TEXT_CHARS_MAX for text in texts):
        raise ContractBroken("A header is too long, too large or contains NUL.")
    named: UUID | None = getattr(event, "encounter_id", None)
    return SeenEvent(
        event_id=envelope.event_id,
        type=envelope.ce_type,
        topic=place[0],
        part=place[1],
        kafka_offset=envelope.offset,
        aggregate_id=envelope.aggregate_id,
        version=envelope.version,
        occurred_at=envelope.occurred_at,
        recorded_at=envelope.recorded_at,
        encounter_id=named,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        traceparent=envelope.traceparent,
        source=envelope.source,
    )
