"""The consumer loop of every service: effect, inbox and offset in one transaction; a batch when it works, one by one when not.

infrastructure error   stay on the event with growing waits; the partition is blocked on purpose (R15)
contract broken        park it with its reason; later events of that aggregate park behind it (R20)
a gap                  in offsets: read them again; in versions: hold the partition and ask the owner to send again (R13, R16)
the broker lost data   start the topic anew from the owner's outbox (R14)
anything unknown       a few tries, then crash unready; the offset does not move
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
import structlog
from pydantic import ValidationError

from shared import faults, telemetry
from shared.contracts.envelope import ContractBroken, Envelope, Event
from shared.contracts.registry import EVENTS, PARKED_TOPICS
from shared.db import CONTENTION, Database, Transaction
from shared.errors import Problem
from shared.messaging import outbox, parking
from shared.messaging.broker import (
    BEACON_TYPE,
    BROKER_TROUBLE,
    BrokerUnavailable,
    GroupConsumer,
    Headers,
    OnAssigned,
    Producer,
    Record,
    TopicPartition,
    digest_of,
)
from shared.messaging.relay import resync_topic_of

log = structlog.get_logger()

BATCH_MAX = 2000
BATCH_SECONDS_MAX = 0.1
UNKNOWN_ERROR_TRIES = 5
WAIT_SECONDS_MAX = 15.0
PARKS_PER_MINUTE_MAX = 20
BREAKER_SECONDS = 30.0
RESYNC_SECONDS = 10.0
CHECK_SECONDS = 60.0
COURTESY_SECONDS = 2.0
NOTE_SECONDS = 1.0

_POSITIONS_AND_INBOX = """
SELECT c.topic, c.part, c.next_offset, c.events, c.version_sum, c.digest, c.stream_epoch, clock_timestamp() AS now,
       NULL AS aggregate_id, NULL::int AS version, NULL::boolean AS parked
FROM consumed c JOIN unnest($1::text[], $2::int[]) AS w(topic, part) USING (topic, part)
UNION ALL
SELECT i.topic, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.aggregate_id, i.version, i.parked
FROM inbox i JOIN unnest($3::text[], $4::text[]) AS w(topic, aggregate_id) USING (topic, aggregate_id)
"""

Handler = Callable[[Transaction, Any, Envelope], Awaitable[None]]


class GroupFactory(Protocol):
    """Makes the group member for `topics`; `on_assigned` says where to read on."""

    def __call__(self, topics: Sequence[str], on_assigned: OnAssigned) -> GroupConsumer:
        """Return a consumer that has not started yet."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """This service reacts to `event` with `handler`."""

    event: type[Event]
    handler: Handler


class _VersionGap(Exception):
    def __init__(self, envelope: Envelope, known_version: int) -> None:
        super().__init__("An aggregate's version jumped.")
        self.envelope = envelope
        self.known_version = known_version


class _OffsetGap(Exception):
    def __init__(self, partition: TopicPartition, next_offset: int) -> None:
        super().__init__("Offsets are missing.")
        self.partition = partition
        self.next_offset = next_offset


class _NotMine(Exception):
    """Another member moved the offset: it owns the partition now."""


class PoisonFound(Exception):
    """One record cannot be applied; it is parked with `reason`."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record
        self.reason = reason


_NEVER_SEEN = (0, False)


@dataclass(slots=True)
class _Batch:
    """What one transaction did so far."""

    tx: Transaction
    inbox: dict[tuple[str, str], tuple[int, bool]]
    known: frozenset[tuple[str, str]]
    """Whose rows the inbox had when it was read; the others are inserted."""
    applied: set[tuple[str, str]] = field(default_factory=set)
    stored: dict[TopicPartition, Any] = field(default_factory=dict)
    moved: dict[TopicPartition, outbox.Moved] = field(default_factory=dict)
    parked: list[tuple[Record, str]] = field(default_factory=list)


class Consumer:
    """Applies a service's subscriptions. `run` returns only when stopped; it raises when a handler fails for no known reason."""

    def __init__(
        self,
        service: str,
        db: Database,
        subscriptions: Sequence[Subscription],
        make_group: GroupFactory,
        make_producer: Callable[[], Producer],
    ) -> None:
        self._service = service
        self._db = db
        self._handlers = {subscription.event.ce_type(): subscription for subscription in subscriptions}
        if len(self._handlers) != len(subscriptions):
            raise ValueError("Two handlers for one event in one service would apply it twice.")
        self.topics = sorted({subscription.event.topic.name for subscription in subscriptions})
        self._make_group = make_group
        self._make_producer = make_producer
        self._group: GroupConsumer | None = None
        self._producer: Producer | None = None
        self._stopping = asyncio.Event()
        self._asked_at: dict[tuple[str, str], float] = {}
        self._held: dict[TopicPartition, float] = {}
        self._park_times: list[float] = []
        self._courtesy: dict[TopicPartition, int] = {}
        self._unnoted: list[Record] = []
        self._note_at = 0.0
        self._uninteresting = frozenset(ce_type.encode() for ce_type in EVENTS if ce_type not in self._handlers)
        self.progress_at = time.monotonic()
        self.halted: dict[TopicPartition, str] = {}
        self.lag = 0
        self.behind_since: float | None = None

    @property
    def joined(self) -> bool:
        """Say whether this member has partitions to read."""
        return self._group is not None and bool(self._group.assignment())

    async def lag_now(self) -> int:
        """Return how many records of its partitions this member has not applied yet, asked of broker and database now."""
        if self._group is None or not self.joined:
            return 1
        ends = await self._group.end_offsets(list(self._group.assignment()))
        rows = await self._db.pool.fetch(
            "SELECT topic, part, next_offset FROM consumed WHERE topic = ANY($1)", self.topics
        )
        stored = {TopicPartition(row["topic"], row["part"]): int(row["next_offset"]) for row in rows}
        return sum(end - stored.get(partition, 0) for partition, end in ends.items())

    async def run(self) -> None:
        """Consume until `stop`; reconnect after broker failures with growing waits."""
        wait_seconds = 0.2
        while not self._stopping.is_set():
            try:
                await self._consume()
                wait_seconds = 0.2
            except BROKER_TROUBLE as error:
                log.warning(
                    "consumer_interrupted", service=self._service, error=type(error).__name__, wait_seconds=wait_seconds
                )
                self.progress_at = time.monotonic()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait_seconds)
                wait_seconds = min(wait_seconds * 2, 5.0)

    def stop(self) -> None:
        """Finish the current batch, commit it, leave the group, and let `run` return (R62)."""
        self._stopping.set()

    async def _consume(self) -> None:
        self._group = self._make_group(self.topics, self._on_assigned)
        self._producer = self._make_producer()
        try:
            await self._producer.start()
            await self._group.start()
            check_at = courtesy_at = time.monotonic()
            while not self._stopping.is_set():
                if time.monotonic() >= check_at:
                    await self._compare_with_broker()
                    check_at = time.monotonic() + CHECK_SECONDS
                self._release_held()
                if self._courtesy and time.monotonic() >= courtesy_at:
                    await self._group.commit_courtesy(self._courtesy)
                    self._courtesy = {}
                    courtesy_at = time.monotonic() + COURTESY_SECONDS
                records = await self._group.get_many(wait_seconds=0.5, records_max=BATCH_MAX)
                self.progress_at = time.monotonic()
                if records:
                    faults.reached("K1")
                    telemetry.consumed(self._service, records)
                await self.take(records)
        finally:
            try:
                with contextlib.suppress(Exception):
                    await self._group.stop()
            finally:
                with contextlib.suppress(Exception):
                    await self._producer.stop()

    # ---- where to read on ------------------------------------------------------------------------------------------

    async def _on_assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        async with self._db.pool.acquire(timeout=10) as conn:
            await conn.execute(
                "INSERT INTO consumed (topic, part, next_offset)"
                " SELECT t, p, 0 FROM unnest($1::text[], $2::int[]) AS new(t, p) ON CONFLICT DO NOTHING",
                [partition.topic for partition in partitions],
                [partition.partition for partition in partitions],
            )
            rows = await conn.fetch("SELECT topic, part, next_offset FROM consumed WHERE topic = ANY($1)", self.topics)
        stored = {TopicPartition(row["topic"], row["part"]): int(row["next_offset"]) for row in rows}
        self._held.clear()
        self._unnoted.clear()
        return {partition: stored[partition] for partition in partitions}

    async def _compare_with_broker(self) -> None:
        """Compare the stored offsets with the log: shorter means the broker lost data, later start means it was dropped (R14)."""
        group = self._require_group()
        partitions = sorted(group.assignment(), key=lambda p: (p.topic, p.partition))
        if not partitions:
            return
        ends = await group.end_offsets(partitions)
        begins = await group.beginning_offsets(partitions)
        async with self._db.pool.acquire(timeout=10) as conn:
            rows = await conn.fetch("SELECT topic, part, next_offset FROM consumed WHERE topic = ANY($1)", self.topics)
        lag = 0
        for row in rows:
            partition = TopicPartition(row["topic"], row["part"])
            if partition not in ends:
                continue
            if ends[partition] < row["next_offset"] or begins[partition] > row["next_offset"]:
                await self._start_stream_anew(partition, begins[partition])
            else:
                lag += ends[partition] - row["next_offset"]
        self.lag = lag

    async def _start_stream_anew(self, partition: TopicPartition, from_offset: int) -> None:
        log.error("broker_lost_events", service=self._service, topic=partition.topic, partition=partition.partition)
        async with self._db.pool.acquire(timeout=10) as conn:
            await conn.execute(
                "UPDATE consumed SET next_offset = $3, stream_epoch = stream_epoch + 1 WHERE topic = $1 AND part = $2",
                partition.topic,
                partition.partition,
                from_offset,
            )
        self._require_group().seek(partition, from_offset)
        await self._ask_again(partition.topic, None, 0)

    def _release_held(self) -> None:
        now = time.monotonic()
        for partition in [partition for partition, until in self._held.items() if until <= now]:
            del self._held[partition]
            self._require_group().resume(partition)

    async def _hold(self, partition: TopicPartition, seconds: float) -> None:
        self._held[partition] = time.monotonic() + seconds
        self._require_group().pause(partition)

    async def _ask_again(self, topic: str, aggregate_id: str | None, after_version: int) -> None:
        """Ask the owner to send again, at most every RESYNC_SECONDS for the same aggregate."""
        wanted = (topic, aggregate_id or "*")
        now = time.monotonic()
        if self._asked_at.get(wanted, 0.0) + RESYNC_SECONDS > now or self._producer is None:
            return
        self._asked_at[wanted] = now
        body = {"topic": topic, "aggregate_id": aggregate_id, "after_version": after_version, "asked_by": self._service}
        key = (aggregate_id or topic).encode()
        await (await self._producer.send(resync_topic_of(topic), key, orjson.dumps(body), []))

    # ---- applying records ------------------------------------------------------------------------------------------

    async def take(self, records: Sequence[Record]) -> None:
        """Apply fetched records; those nobody here reacts to only move the offset, which may wait for a second.

        Read again after a crash they change nothing, and a service that follows a busy topic for a few rare events does not
        commit for each of the others.
        """
        self._unnoted.extend(records)
        if not self._unnoted:
            return
        if any(self._is_of_interest(record) for record in records) or time.monotonic() >= self._note_at:
            records, self._unnoted = self._unnoted, []
            self._note_at = time.monotonic() + NOTE_SECONDS
            await self.apply(records)

    def _is_of_interest(self, record: Record) -> bool:
        ce_type = next((value for name, value in record.headers if name == "ce_type"), b"")
        return ce_type not in self._uninteresting

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply fetched records exactly once in effect and in order; returns when all are applied, parked or held."""
        left = list(records)
        one_by_one = False
        tries = 0
        wait_seconds = 0.1
        while left:
            step = left[:1] if one_by_one else left
            try:
                done = await self._apply_in_one_transaction(step)
                left = left[done:]
                tries, wait_seconds = 0, 0.1
                self.progress_at = time.monotonic()
            except _OffsetGap as gap:
                log.warning(
                    "offset_gap", service=self._service, topic=gap.partition.topic, partition=gap.partition.partition
                )
                self._require_group().seek(gap.partition, gap.next_offset)
                left = [r for r in left if TopicPartition(r.topic, r.partition) != gap.partition]
            except _VersionGap as gap:
                left = await self._hold_at_gap(gap, left)
            except _NotMine:
                left = await self._drop_what_others_did(left)
            except PoisonFound as poison:
                if not one_by_one:
                    one_by_one = True
                    continue
                await self._park_one(poison)
                left = left[1:]
            except CONTENTION as error:
                await asyncio.sleep(0.02)
                tries += 1
                if tries % 100 == 0:
                    log.warning("event_keeps_losing", service=self._service, error=type(error).__name__, tries=tries)
                one_by_one = one_by_one or tries > 3
            except BROKER_TROUBLE as error:
                log.warning(
                    "event_retried", service=self._service, error=type(error).__name__, wait_seconds=wait_seconds
                )
                self.progress_at = time.monotonic()
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, WAIT_SECONDS_MAX)
            except Exception as error:
                if not one_by_one:
                    one_by_one = True
                    continue
                tries += 1
                log.exception("handler_failed", service=self._service, error=type(error).__name__, tries=tries)
                if tries >= UNKNOWN_ERROR_TRIES:
                    raise
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, WAIT_SECONDS_MAX)

    async def _apply_in_one_transaction(self, records: Sequence[Record]) -> int:
        """Apply as many of `records` as fit the time box in one commit; returns how many that were."""
        envelopes = [_envelope_or_reason(record) for record in records]
        async with self._db.pool.acquire(timeout=10) as conn:
            transaction = conn.transaction()
            await transaction.start()
            try:
                batch, done = await self._apply_batch(conn, records, envelopes)
                applied = [
                    outbox.Applied(*place, *batch.inbox[place], place not in batch.known) for place in batch.applied
                ]
                moved = [moved for moved in batch.moved.values() if moved.next_offset > moved.was_offset]
                if not await outbox.flush_consumed(batch.tx, applied, moved):
                    raise _NotMine
                for point in ("K3", "K4", "K7", "K8"):
                    faults.reached(point)
            except BaseException:
                await transaction.rollback()
                raise
            await _commit(transaction)
        self._db.committed(batch.tx)
        faults.reached("K10")
        faults.reached("K11")
        self._courtesy.update({partition: moved.next_offset for partition, moved in batch.moved.items()})
        faults.reached("K12")
        for record, reason in batch.parked:
            await self._mirror_parked(record, reason)
        return done

    async def _apply_batch(
        self, conn: Any, records: Sequence[Record], envelopes: Sequence[Envelope | str | None]
    ) -> tuple[_Batch, int]:
        partitions = sorted({(record.topic, record.partition) for record in records})
        aggregates = sorted({(e.topic, e.aggregate_id) for e in envelopes if isinstance(e, Envelope)})
        faults.reached("K2")
        # One statement, so one snapshot: inbox and offsets always fit. Nothing is locked; the flush moves an offset only from
        # where it was read here, so of two members that both believe to own a partition one rolls back.
        rows = await conn.fetch(
            _POSITIONS_AND_INBOX,
            [topic for topic, _ in partitions],
            [part for _, part in partitions],
            [topic for topic, _ in aggregates],
            [aggregate_id for _, aggregate_id in aggregates],
        )
        positions = [row for row in rows if row["part"] is not None]
        inbox = {
            (row["topic"], row["aggregate_id"]): (row["version"], row["parked"]) for row in rows if row["part"] is None
        }
        batch = _Batch(Transaction(conn=conn, now=datetime.now(UTC)), inbox, frozenset(inbox))
        for row in positions:
            at = int(row["next_offset"])
            batch.stored[TopicPartition(row["topic"], row["part"])] = row
            batch.moved[TopicPartition(row["topic"], row["part"])] = outbox.Moved(row["topic"], row["part"], at, at)
        now = self._db.clock.stamp(positions[0]["now"])
        deadline = time.monotonic() + BATCH_SECONDS_MAX
        done = 0
        for record, envelope in zip(records, envelopes, strict=True):
            partition = TopicPartition(record.topic, record.partition)
            moved = batch.moved[partition]
            if record.offset > moved.next_offset:
                raise _OffsetGap(partition, moved.next_offset)
            if record.offset == moved.next_offset:
                batch.tx.now = now
                if type(envelope) is Envelope:
                    await self._apply_event(batch, moved, record, envelope)
                elif envelope is None:
                    self._compare_with_beacon(moved, batch.stored[partition], record)
                else:
                    raise PoisonFound(record, str(envelope))
                moved.next_offset += 1
            done += 1
            if done % 16 == 0 and time.monotonic() > deadline:
                break
        return batch, done

    async def _apply_event(self, batch: _Batch, moved: outbox.Moved, record: Record, envelope: Envelope) -> None:
        place = (record.topic, envelope.aggregate_id)
        version = envelope.version
        known_version, is_parked = batch.inbox.get(place, _NEVER_SEEN)
        if version <= known_version:
            return
        if version > known_version + 1:
            raise _VersionGap(envelope, known_version)
        if is_parked:
            await parking.insert(batch.tx.conn, record, envelope, "behind_a_parked_event", self._handler_name(envelope))
            batch.parked.append((record, "behind_a_parked_event"))
        elif (subscription := self._subscription_to(record, envelope)) is not None:
            await run_handler(batch.tx, subscription, envelope, self._service, record)
        batch.inbox[place] = (version, is_parked)
        batch.applied.add(place)
        moved.events += 1
        moved.version_sum += version
        moved.digest += digest_of(envelope.raw_id)

    def _subscription_to(self, record: Record, envelope: Envelope) -> Subscription | None:
        """Return who reacts to an event here. Raises PoisonFound for one that no contract knows."""
        subscription = self._handlers.get(envelope.ce_type)
        if subscription is None and envelope.ce_type not in EVENTS:
            raise PoisonFound(record, "unknown_event_type")
        return subscription

    def _handler_name(self, envelope: Envelope) -> str:
        subscription = self._handlers.get(envelope.ce_type)
        handler = subscription.handler if subscription else None
        return str(getattr(getattr(handler, "func", handler), "__name__", "none"))  # a partial has its function's name

    def _compare_with_beacon(self, moved: outbox.Moved, stored: Any, record: Record) -> None:
        """Compare what this consumer counted with what the owner says the partition holds (R11)."""
        if stored["stream_epoch"]:
            return  # after a broker lost its disk, re-sent events are counted nowhere; versions guard alone
        said = orjson.loads(record.value or b"{}")
        counted = (
            int(stored["events"]) + moved.events,
            int(stored["version_sum"]) + moved.version_sum,
            int(stored["digest"]) + moved.digest,
        )
        partition = TopicPartition(record.topic, record.partition)
        if counted == (said.get("events"), said.get("version_sum"), int(said.get("digest", -1))):
            self.halted.pop(partition, None)
        else:
            self.halted[partition] = "beacon_differs"
            log.error("beacon_differs", service=self._service, topic=record.topic, partition=record.partition)

    # ---- when something is wrong ----------------------------------------------------------------------------------

    async def _hold_at_gap(self, gap: _VersionGap, left: list[Record]) -> list[Record]:
        """Apply what comes before the gap, hold its partition, and ask the owner to send the missing events again (R16)."""
        partition = TopicPartition(gap.envelope.topic, gap.envelope.partition)
        log.warning("version_gap", service=self._service, topic=partition.topic, partition=partition.partition)
        before = []
        for record in left:
            if record.topic == partition.topic and record.partition == partition.partition:
                if record.offset < gap.envelope.offset:
                    before.append(record)
            else:
                before.append(record)
        missing = await self._fetch_missing(gap)
        if missing is None:
            await self._ask_again(gap.envelope.topic, gap.envelope.aggregate_id, gap.known_version)
            self._require_group().seek(partition, gap.envelope.offset)
            await self._hold(partition, 1.0)
            return before
        return left

    async def _fetch_missing(self, gap: _VersionGap) -> bool | None:
        """Apply re-sent events that lie behind the gap in the same partition; None when they are not there yet."""
        group = self._require_group()
        partition = TopicPartition(gap.envelope.topic, gap.envelope.partition)
        end = (await group.end_offsets([partition]))[partition]
        group.seek(partition, gap.envelope.offset + 1)
        found: list[Record] = []
        position = gap.envelope.offset + 1
        while position < end:
            records = [
                r
                for r in await group.get_many(wait_seconds=1.0, records_max=BATCH_MAX)
                if TopicPartition(r.topic, r.partition) == partition
            ]
            if not records:
                break
            position = records[-1].offset + 1
            found.extend(records)
        return await self._apply_out_of_line(gap, found)

    async def _apply_out_of_line(self, gap: _VersionGap, records: Sequence[Record]) -> bool | None:
        wanted: dict[int, tuple[Record, Envelope]] = {}
        for record in records:
            envelope = _envelope_or_reason(record)
            if isinstance(envelope, Envelope) and envelope.aggregate_id == gap.envelope.aggregate_id:
                wanted.setdefault(envelope.version, (record, envelope))
        needed = range(gap.known_version + 1, gap.envelope.version)
        if any(version not in wanted for version in needed):
            return None
        async with self._db.pool.acquire(timeout=10) as conn, conn.transaction():
            tx = Transaction(conn=conn, now=self._db.clock.stamp(await conn.fetchval("SELECT clock_timestamp()")))
            count, versions, digest = 0, 0, 0
            for version in needed:
                record, envelope = wanted[version]
                if (subscription := self._subscription_to(record, envelope)) is not None:
                    await run_handler(tx, subscription, envelope, self._service, record)
                count, versions, digest = count + 1, versions + version, digest + digest_of(envelope.raw_id)
            await outbox.flush(tx)
            await conn.execute(
                "INSERT INTO inbox (topic, aggregate_id, version) VALUES ($1, $2, $3)"
                " ON CONFLICT (topic, aggregate_id) DO UPDATE SET version = excluded.version",
                gap.envelope.topic,
                gap.envelope.aggregate_id,
                gap.envelope.version - 1,
            )
            await conn.execute(
                "UPDATE consumed SET events = events + $3, version_sum = version_sum + $4, digest = digest + $5"
                " WHERE topic = $1 AND part = $2",
                gap.envelope.topic,
                gap.envelope.partition,
                count,
                versions,
                digest,
            )
        self._db.committed(tx)
        self._require_group().seek(TopicPartition(gap.envelope.topic, gap.envelope.partition), gap.envelope.offset)
        return True

    async def _drop_what_others_did(self, left: list[Record]) -> list[Record]:
        async with self._db.pool.acquire(timeout=10) as conn:
            rows = await conn.fetch("SELECT topic, part, next_offset FROM consumed WHERE topic = ANY($1)", self.topics)
        stored = {TopicPartition(row["topic"], row["part"]): row["next_offset"] for row in rows}
        return [record for record in left if record.offset >= stored[TopicPartition(record.topic, record.partition)]]

    async def _park_one(self, poison: PoisonFound) -> None:
        """Set one record aside with its reason, and move on, in one transaction (R20)."""
        await self._breathe_when_too_many_are_parked()
        record = poison.record
        try:
            envelope: Envelope | None = envelope_of(record)
        except ContractBroken:
            envelope = None
        async with self._db.pool.acquire(timeout=10) as conn, conn.transaction():
            position = await conn.fetchval(
                "SELECT next_offset FROM consumed WHERE topic = $1 AND part = $2 FOR UPDATE",
                record.topic,
                record.partition,
            )
            if position != record.offset:
                return
            handler = self._handler_name(envelope) if envelope else "none"
            await parking.insert(conn, record, envelope, poison.reason, handler)
            tx = Transaction(conn=conn, now=datetime.now(UTC))
            moved = outbox.Moved(record.topic, record.partition, record.offset, record.offset + 1)
            applied = []
            if envelope is not None:
                place = (record.topic, envelope.aggregate_id)
                is_new = not await conn.fetchval(
                    "SELECT EXISTS (SELECT FROM inbox WHERE topic = $1 AND aggregate_id = $2)", *place
                )
                applied.append(outbox.Applied(*place, envelope.version, parked=True, is_new=is_new))
                moved.events, moved.version_sum, moved.digest = 1, envelope.version, digest_of(envelope.raw_id)
            await outbox.flush_consumed(tx, applied, [moved])
        log.error("event_parked", service=self._service, topic=record.topic, reason=poison.reason)
        telemetry.number("flow_parked_total").of(self._service, record.topic).inc()
        await self._mirror_parked(record, poison.reason)

    async def _breathe_when_too_many_are_parked(self) -> None:
        now = time.monotonic()
        self._park_times = [at for at in self._park_times if at > now - 60] + [now]
        if len(self._park_times) > PARKS_PER_MINUTE_MAX:
            log.error("too_many_events_parked", service=self._service, wait_seconds=BREAKER_SECONDS)
            self.behind_since = now
            end = now + BREAKER_SECONDS
            while time.monotonic() < end and not self._stopping.is_set():
                self.progress_at = time.monotonic()
                await asyncio.sleep(0.5)
            self._park_times.clear()
            self.behind_since = None

    async def _mirror_parked(self, record: Record, reason: str) -> None:
        if self._producer is None or f"{self._service}.parked.v1" not in PARKED_TOPICS:
            return
        headers: Headers = [("parked_topic", record.topic.encode()), ("parked_reason", reason.encode())]
        with contextlib.suppress(BrokerUnavailable):
            await (await self._producer.send(f"{self._service}.parked.v1", record.key or b"none", b"{}", headers))

    def _require_group(self) -> GroupConsumer:
        if self._group is None:
            raise RuntimeError("The consumer has not started.")
        return self._group


async def run_handler(
    tx: Transaction, subscription: Subscription, envelope: Envelope, consumer: str, record: Record
) -> None:
    """Let a handler apply one event, with what it writes caused by that event.

    Raises:
        PoisonFound: the body breaks the contract, or the domain refuses the event; it must be parked with this reason.
    """
    try:  # the validator itself: `model_validate_json` looks at options first that nobody gives here
        event = subscription.event.__pydantic_validator__.validate_json(record.value or b"")
    except ValidationError as error:
        raise PoisonFound(record, f"body_broken:{error.errors(include_input=False)[0]['type']}") from None
    tx.cause = envelope
    tx.correlation_id = None
    tx.source = source = envelope.source
    if source != "live":
        tx.now = envelope.occurred_at
    if (correlation := envelope.correlation) is not None:
        tx.signals.add(correlation)
    began = time.perf_counter()
    try:
        if (span := telemetry.processing(envelope, consumer)) is None:
            tx.traceparent = None
            await subscription.handler(tx, event, envelope)
        else:
            with span:
                tx.traceparent = telemetry.current_traceparent()
                await subscription.handler(tx, event, envelope)
    except Problem as problem:
        raise PoisonFound(record, problem.code) from problem
    finally:
        telemetry.processed(consumer, envelope.topic, began)
    faults.reached("K5")


def envelope_of(record: Record) -> Envelope:
    """Return the envelope of a record. Raises ContractBroken."""
    return Envelope(record.topic, record.partition, record.offset, record.headers)


def _envelope_or_reason(record: Record) -> Envelope | str | None:
    """Read a record's envelope: None for a beacon, a reason when it is broken."""
    try:
        return Envelope(record.topic, record.partition, record.offset, record.headers)
    except ContractBroken as broken:
        if ("ce_type", BEACON_TYPE.encode()) in record.headers:
            return None
        return f"{broken.code}:{broken.detail}"


async def _commit(transaction: Any) -> None:
    if faults.is_armed("K9"):
        commit = asyncio.ensure_future(transaction.commit())
        await asyncio.sleep(0)
        faults.reached("K9")
        await commit
        return
    await transaction.commit()
