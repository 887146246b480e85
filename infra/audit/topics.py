"""Every record on the broker, read once from the first to the last, beside the outboxes it must come from (I13-I15).

The reading is bounded in memory: batches of records are looked up in the outbox of their owner by id, what was seen is one bit
per outbox row. The same pass searches every record for names (privacy.py), because reading is what costs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.audit.check import FINDINGS_MAX, Check, Look, Seen, schema, types_of
from infra.audit.needles import Haystack
from shared.contracts.registry import EVENT_TOPICS, TOPICS
from shared.messaging.broker import BEACON_TYPE, Record, TopicPartition, digest_of

SECONDS_MAX = 600.0
"""Longer than this the topics are not read; then the checks that hang on it are not right."""

_LOOK_UP = """
SELECT id, event_id::text AS event_id, aggregate_id, version, type, body::text AS body FROM {s}.outbox WHERE event_id = ANY($1::uuid[])
"""
_SENT = """
SELECT o.id, o.event_id::text AS event_id, o.recorded_at FROM {s}.outbox o LEFT JOIN outbox_unsent u ON u.id = o.id AND NOT u.resend
WHERE u.id IS NULL AND o.type = ANY($1) AND o.id > $2 ORDER BY o.id LIMIT 20000
"""


@dataclass(slots=True)
class Partition:
    """What one partition was found to hold, each event counted once however often it was sent."""

    events: int = 0
    version_sum: int = 0
    digest: int = 0


@dataclass(slots=True)
class Reading:
    """What one pass over all topics found."""

    records: int = 0
    events: int = 0
    keys: int = 0
    finished: bool = True
    lost: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    exposed: set[str] = field(default_factory=set)
    partitions: dict[TopicPartition, Partition] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    """Topics whose oldest records the broker has dropped already."""


class TopicsPass:
    """One pass over the broker's topics."""

    def __init__(self, at: Look, haystack: Haystack | None) -> None:
        self._at = at
        self._haystack = haystack
        self.found = Reading()
        self._seen = {service: bytearray() for service in at.announcing}
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._oldest: dict[str, Any] = {}
        self._anew: set[TopicPartition] = set()

    async def run(self) -> Reading:
        """Read everything the broker holds now and compare it with the snapshot of this look."""
        reader = self._at.scene.topics
        if reader is None:
            raise ValueError("There is no broker to read.")
        # Asked after the snapshot was taken: what the snapshot calls sent is there by now.
        extents = await reader.extents()
        self._anew = await self._partitions_begun_anew()
        self.found.dropped = {place.topic for place, extent in extents.items() if extent.begin and place.topic in EVENT_TOPICS}
        self._next = {place: extent.begin for place, extent in extents.items()}
        total = sum(extent.records for extent in extents.values())
        until = time.monotonic() + SECONDS_MAX
        async for batch in reader.records(extents):
            await self._take(batch)
            self.found.records += len(batch)
            self._at.progress("reading topics", self.found.records, total)
            if time.monotonic() > until:
                self.found.finished = False
                break
        self.found.keys = len(self._last)
        if self.found.finished:
            for name in EVENT_TOPICS:
                if EVENT_TOPICS[name].owner in self._at.announcing:
                    await self._compare_with_outbox(name)
        return self.found

    async def _partitions_begun_anew(self) -> set[TopicPartition]:
        """Return partitions some consumer began anew, because the broker lost them; sent again, they have no order to keep (R14)."""
        found: set[TopicPartition] = set()
        for service in self._at.announcing:
            query = "SELECT topic, part FROM {s}.consumed WHERE stream_epoch > 0".format(s=schema(service))  # noqa: UP032
            found |= {TopicPartition(row["topic"], row["part"]) for row in await self._at.rows(query)}
        return found

    async def _take(self, batch: Sequence[Record]) -> None:
        by_owner: dict[str, list[tuple[Record, dict[str, bytes]]]] = {}
        for record in batch:
            self._search(record)
            place = TopicPartition(record.topic, record.partition)
            if record.offset != self._next[place]:
                self._wrong(self.found.lost, f"{record.topic}/{record.partition} has no record at {self._next[place]}")
            self._next[place] = record.offset + 1
            if record.topic not in EVENT_TOPICS:
                if record.topic not in TOPICS and not record.topic.startswith("insight-"):
                    self._wrong(self.found.foreign, f"{record.topic} is no topic of ours")
                continue
            headers = dict(record.headers)
            if headers.get("ce_type") != BEACON_TYPE.encode():
                by_owner.setdefault(EVENT_TOPICS[record.topic].owner, []).append((record, headers))
        for owner, records in by_owner.items():
            if owner in self._seen:
                await self._compare(owner, records)

    def _search(self, record: Record) -> None:
        if self._haystack is None:
            return
        parts = [record.key or b"", record.value or b"", *(part for name, value in record.headers for part in (name.encode(), value or b""))]
        for label in self._haystack.find(b"\n".join(parts)):
            if len(self.found.exposed) < FINDINGS_MAX:
                self.found.exposed.add(f"a record in {record.topic} holds {label}")

    async def _compare(self, owner: str, records: Sequence[tuple[Record, dict[str, bytes]]]) -> None:
        ids = {_id_of(headers) for _, headers in records} - {None}
        known = {row["event_id"]: row for row in await self._at.rows(_LOOK_UP.format(s=schema(owner)), sorted(map(str, ids)))}
        late = [event_id for event_id in ids if event_id not in known]
        if late:  # announced after the snapshot, or by nobody
            known |= await self._announced_since(owner, late)
        for record, headers in records:
            event_id = _id_of(headers)
            row = known.get(event_id or "")
            if row is None:
                self._wrong(self.found.foreign, f"{_place(record)} is no event of {owner}'s outbox")
            elif not _is_same(record, headers, row):
                self._wrong(self.found.foreign, f"{_place(record)} is not what {owner}'s outbox says of {event_id}")
            else:
                self._count(owner, record, row)

    async def _announced_since(self, owner: str, ids: Sequence[str | None]) -> dict[str, Any]:
        import asyncpg  # noqa: PLC0415

        fresh = await asyncpg.connect(self._at.scene.dsn)
        try:
            rows = await fresh.fetch(_LOOK_UP.format(s=schema(owner)), ids)
        finally:
            await fresh.close()
        return {row["event_id"]: row for row in rows}

    def _count(self, owner: str, record: Record, row: Any) -> None:
        place = TopicPartition(record.topic, record.partition)
        key = (record.topic, row["aggregate_id"])
        last, part = self._last.get(key, (0, record.partition))
        if part != record.partition:
            self._wrong(self.found.disordered, f"{record.topic}: {row['aggregate_id']} lies in two partitions")
        elif row["version"] > last:
            begins_late = last == 0 and record.topic in self.found.dropped
            if row["version"] != last + 1 and not begins_late and place not in self._anew:
                detail = f"version {row['version']} of {row['aggregate_id']} comes after {last}"
                self._wrong(self.found.disordered, f"{record.topic}: {detail}")
            self._last[key] = (row["version"], part)
        if _mark(self._seen[owner], row["id"]):
            counted = self.found.partitions.setdefault(place, Partition())
            counted.events += 1
            counted.version_sum += row["version"]
            counted.digest += digest_of(dict(record.headers)["ce_id"])
            self.found.events += 1

    async def _compare_with_outbox(self, topic: str) -> None:
        """Find the events the snapshot calls sent that the pass did not meet."""
        owner = schema(EVENT_TOPICS[topic].owner)
        seen, after = self._seen[owner], 0
        async with self._at.in_schema(owner):
            while rows := await self._at.rows(_SENT.format(s=owner), types_of(topic), after):
                after = rows[-1]["id"]
                for row in rows:
                    if not _is_marked(seen, row["id"]) and topic not in self.found.dropped:
                        self._wrong(self.found.lost, f"{topic} does not hold event {row['event_id']}, which was sent")

    @staticmethod
    def _wrong(where: list[str], finding: str) -> None:
        if len(where) < FINDINGS_MAX:
            where.append(finding)


def _place(record: Record) -> str:
    return f"the record at {record.topic}/{record.partition}/{record.offset}"


def _id_of(headers: dict[str, bytes]) -> str | None:
    """Return the event id a record carries, when it has the form of one."""
    raw = headers.get("ce_id", b"").decode("ascii", "replace").lower()
    return raw if len(raw) == 36 and raw.count("-") == 4 and set(raw) <= set("0123456789abcdef-") else None


def _is_same(record: Record, headers: dict[str, bytes], row: Any) -> bool:
    """Say whether a record is what the relay makes of this outbox row: key, headers and body to the byte."""
    aggregate = row["aggregate_id"].encode()
    return (
        record.key == aggregate
        and headers.get("ce_subject") == aggregate
        and headers.get("ce_type") == row["type"].encode()
        and headers.get("ce_aggregateversion") == b"%d" % row["version"]
        and record.value == row["body"].encode()
    )


def _mark(seen: bytearray, number: int) -> bool:
    """Mark a row as seen and say whether it is seen for the first time."""
    byte, bit = divmod(number, 8)
    if byte >= len(seen):
        seen.extend(bytes(byte - len(seen) + 4096))
    first = not seen[byte] & (1 << bit)
    seen[byte] |= 1 << bit
    return first


def _is_marked(seen: bytearray, number: int) -> bool:
    byte, bit = divmod(number, 8)
    return byte < len(seen) and bool(seen[byte] & (1 << bit))
