"""Every record on the broker, read once from the first to the last, beside the outboxes it must come from (I13-I15).

The reading is bounded in memory: batches of records are looked up in the outbox of their owner by id, what was seen is one bit
per outbox row. The same pass searches every record for names (privacy.py), because reading is what costs.
"""

import re
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from infra.audit.check import FINDINGS_MAX, Check, Look, Seen, schema, types_of
from infra.audit.identities import haystack_of
from infra.audit.needles import Haystack
from shared.contracts.registry import EVENT_TOPICS, TOPICS
from shared.messaging.broker import BEACON_TYPE, Record, TopicPartition, digest_of

SECONDS_MAX = 600.0
"""Longer than this the topics are not read; then the checks that hang on it are not right."""

_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LOOK_UP = """
SELECT id, event_id::text AS event_id, aggregate_id, version, type, body::text AS body
FROM {s}.outbox WHERE event_id = ANY($1::uuid[])
"""
_UNSENT = "SELECT id FROM {s}.outbox_unsent WHERE NOT resend"
_SENT = "SELECT id, event_id, recorded_at FROM {s}.outbox WHERE type = ANY($1) AND id > $2 ORDER BY id LIMIT 20000"
_ANEW = "SELECT topic, part FROM {s}.consumed WHERE stream_epoch > 0"
_RELAYED = "SELECT topic, part, events, version_sum, digest FROM {s}.relay_sent"


@dataclass(slots=True)
class Partition:
    """What one partition was found to hold of what the snapshot calls sent, each event once however often it was sent."""

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
    dropped: set[TopicPartition] = field(default_factory=set)
    """Partitions whose oldest records the broker has dropped (retention)."""


async def reading(at: Look) -> Reading:
    """Return what one pass over all topics finds; several checks share it."""
    if "reading" not in at.kept:
        at.kept["reading"] = await TopicsPass(at, await haystack_of(at)).run()
    found: Reading = at.kept["reading"]
    return found


class TopicsPass:
    """One pass over the broker's topics."""

    def __init__(self, at: Look, haystack: Haystack | None) -> None:
        self._at = at
        self._haystack = haystack
        self._found = Reading()
        self._seen = {service: bytearray() for service in at.announcing}
        self._unsent: dict[str, set[int]] = {}
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._begun: set[TopicPartition] = set()
        self._kept_since: dict[str, datetime] = {}
        self._anew: set[TopicPartition] = set()

    async def run(self) -> Reading:
        """Read everything the broker holds now and compare it with the snapshot of this look.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        reader, found = self._at.scene.topics, self._found
        if reader is None:
            raise ValueError("There is no broker to read.")
        for service in self._at.announcing:
            self._anew |= {_place_of(row) for row in await self._at.rows(_ANEW.format(s=schema(service)))}
            self._unsent[service] = {row["id"] for row in await self._at.rows(_UNSENT.format(s=schema(service)))}
        # Asked after the snapshot was taken: what the snapshot calls sent is there by now.
        extents = await reader.extents()
        found.dropped = {place for place, extent in extents.items() if extent.begin and place.topic in EVENT_TOPICS}
        self._next = {place: extent.begin for place, extent in extents.items()}
        total = sum(extent.records for extent in extents.values())
        until = time.monotonic() + SECONDS_MAX
        async with aclosing(reader.records(extents)) as batches:  # type: ignore[type-var]  # an async generator
            async for batch in batches:
                await self._take(batch)
                found.records += len(batch)
                self._at.progress("reading topics", found.records, total)
                if time.monotonic() > until:
                    found.finished = False
                    break
        found.keys = len(self._last)
        if found.finished:
            for name, topic in EVENT_TOPICS.items():
                if topic.owner in self._at.announcing:
                    await self._look_for_lost(name, topic.owner)
        return found

    async def _take(self, batch: Sequence[Record]) -> None:
        by_owner: dict[str, list[tuple[Record, dict[str, bytes]]]] = {}
        self._search(batch)
        for record in batch:
            place = TopicPartition(record.topic, record.partition)
            expected = self._next[place]
            if record.offset != expected:
                _add(self._found.lost, f"{record.topic}/{record.partition} has no record at {expected}")
            self._next[place] = record.offset + 1
            if record.topic not in TOPICS:
                _add(self._found.foreign, f"{record.topic} is no topic of ours")
            if record.topic not in EVENT_TOPICS:
                continue
            headers = dict(record.headers)
            if headers.get("ce_type") == BEACON_TYPE.encode():
                continue
            if place in self._found.dropped:
                self._note_oldest(place, headers)
            by_owner.setdefault(EVENT_TOPICS[record.topic].owner, []).append((record, headers))
        for owner, records in by_owner.items():
            if owner in self._seen:
                await self._compare(owner, records)

    def _note_oldest(self, place: TopicPartition, headers: dict[str, bytes]) -> None:
        """Remember since when a topic with dropped records must be complete: since its youngest beginning."""
        if place in self._begun:
            return
        self._begun.add(place)
        try:
            at = datetime.fromisoformat(headers.get("ce_recordedtime", b"").decode())
        except ValueError:
            return
        if at.tzinfo is not None:
            self._kept_since[place.topic] = max(at, self._kept_since.get(place.topic, at))

    def _search(self, batch: Sequence[Record]) -> None:
        """Search a batch at once, and its records one by one only when something was found."""
        if self._haystack is None:
            return
        texts = [_text_of(record) for record in batch]
        if not self._haystack.find(b"\n".join(texts)):
            return
        for record, text in zip(batch, texts, strict=True):
            for label in self._haystack.find(text):
                if len(self._found.exposed) < FINDINGS_MAX:
                    self._found.exposed.add(f"a record in {record.topic} holds {label}")

    async def _compare(self, owner: str, records: Sequence[tuple[Record, dict[str, bytes]]]) -> None:
        ids = sorted({_id_of(headers) for _, headers in records} - {""})
        query = _LOOK_UP.format(s=schema(owner))
        known = {row["event_id"]: row for row in await self._at.rows(query, ids)}
        late = {event_id for event_id in ids if event_id not in known}
        if late:  # announced after the snapshot, or by nobody
            fresh = await asyncpg.connect(self._at.scene.dsn)
            try:
                known |= {row["event_id"]: row for row in await fresh.fetch(query, sorted(late))}
            finally:
                await fresh.close()
        for record, headers in records:
            event_id = _id_of(headers)
            row = known.get(event_id)
            where = f"the record at {record.topic}/{record.partition}/{record.offset}"
            if row is None:
                _add(self._found.foreign, f"{where} is no event of {owner}'s outbox")
            elif not _is_same(record, headers, row):
                _add(self._found.foreign, f"{where} is not what {owner}'s outbox says of {event_id}")
            else:
                self._follow(record, row)
                if _mark(self._seen[owner], row["id"]):
                    self._count(owner, record, row, in_snapshot=event_id not in late)

    def _follow(self, record: Record, row: Any) -> None:
        """Check that a key stays in one partition and its versions come one after the other; repetitions do not matter (R9)."""
        place = TopicPartition(record.topic, record.partition)
        key = (record.topic, row["aggregate_id"])
        last, part = self._last.get(key, (0, record.partition))
        if part != record.partition:
            _add(self._found.disordered, f"{record.topic}: {row['aggregate_id']} lies in two partitions")
        elif row["version"] > last:
            excused = place in self._anew or (last == 0 and place in self._found.dropped)
            if row["version"] != last + 1 and not excused:
                detail = f"version {row['version']} of {row['aggregate_id']} comes after {last}"
                _add(self._found.disordered, f"{record.topic}: {detail}")
            self._last[key] = (row["version"], part)

    def _count(self, owner: str, record: Record, row: Any, *, in_snapshot: bool) -> None:
        self._found.events += 1
        if in_snapshot and row["id"] not in self._unsent[owner]:
            place = TopicPartition(record.topic, record.partition)
            counted = self._found.partitions.setdefault(place, Partition())
            counted.events += 1
            counted.version_sum += row["version"]
            counted.digest += digest_of(dict(record.headers)["ce_id"])

    async def _look_for_lost(self, topic: str, owner: str) -> None:
        """Find events the snapshot calls sent that the pass did not meet, dropped ones excused."""
        seen, unsent, after = self._seen[owner], self._unsent[owner], 0
        has_dropped = any(place.topic == topic for place in self._found.dropped)
        since = self._kept_since.get(topic, datetime.max.replace(tzinfo=UTC)) if has_dropped else None
        while rows := await self._at.rows(_SENT.format(s=schema(owner)), types_of(topic), after):
            after = rows[-1]["id"]
            for row in rows:
                if _is_marked(seen, row["id"]) or row["id"] in unsent or (since and row["recorded_at"] < since):
                    continue
                _add(self._found.lost, f"{topic} does not hold event {row['event_id']}, which was sent")


def _add(findings: list[str], finding: str) -> None:
    if len(findings) < FINDINGS_MAX:
        findings.append(finding)


def _place_of(row: Any) -> TopicPartition:
    return TopicPartition(row["topic"], row["part"])


def _text_of(record: Record) -> bytes:
    """Return everything a record carries, but the names of our own headers."""
    parts = [record.key or b"", record.value or b""]
    for name, value in record.headers:
        parts += (value or b"",) if name.startswith("ce_") else (name.encode(), value or b"")
    return b"\n".join(parts)


def _id_of(headers: dict[str, bytes]) -> str:
    """Return the event id a record carries, or nothing when it has not the form of one."""
    raw = headers.get("ce_id", b"")
    return raw.decode() if _ID.fullmatch(raw) else ""


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


# ---- the checks -----------------------------------------------------------------------------------------------------

_NO_BROKER = Seen(0, reason="There is no broker to read.")


def _seen(found: Reading, examined: int, wrong: list[str]) -> Seen:
    reasons = []
    if not found.finished:
        reasons.append(f"Only {found.records} records could be read in {SECONDS_MAX:.0f} s.")
    if found.dropped:
        reasons.append(
            f"{len(found.dropped)} partitions dropped their oldest records; what is older is not looked for."
        )
    return Seen(examined, wrong, " ".join(reasons), found.finished)


async def topics_hold_what_was_sent(at: Look) -> Seen:
    """I13: every event an outbox calls sent is on its topic, no offset is missing."""
    if at.scene.topics is None:
        return _NO_BROKER
    found = await reading(at)
    return _seen(found, found.events, found.lost)


async def topics_hold_nothing_else(at: Look) -> Seen:
    """I12: every record is an event of its topic's owner, the same to the byte, or a beacon."""
    if at.scene.topics is None:
        return _NO_BROKER
    found = await reading(at)
    return _seen(found, found.records, found.foreign)


async def topics_keep_the_order(at: Look) -> Seen:
    """I14: the events of a key lie in one partition, each version first met right after the one before it."""
    if at.scene.topics is None:
        return _NO_BROKER
    found = await reading(at)
    return _seen(found, found.keys, found.disordered)


async def beacons_tell_the_truth(at: Look) -> Seen:
    """I15: count, version sum and digest the relay keeps of a partition are those of the events that lie in it."""
    if at.scene.topics is None:
        return _NO_BROKER
    found = await reading(at)
    examined = 0
    wrong: list[str] = []
    for owner in at.announcing:
        said = {_place_of(row): row for row in await at.rows(_RELAYED.format(s=schema(owner)))}
        held = {place for place in found.partitions if EVENT_TOPICS[place.topic].owner == owner}
        for place in sorted(said.keys() | held):
            if place in found.dropped:
                continue
            examined += 1
            row, counted = said.get(place), found.partitions.get(place, Partition())
            told = (int(row["events"]), int(row["version_sum"]), int(row["digest"])) if row is not None else (0, 0, 0)
            if told != (counted.events, counted.version_sum, counted.digest):
                detail = f"the relay sent {told[0]}, it holds {counted.events}"
                wrong.append(
                    f"{place.topic}/{place.partition}: {detail}" + ("" if told[0] != counted.events else " others")
                )
    return _seen(found, examined, wrong)


CHECKS = (
    Check("I12-topics", "every record on the topics is an event of its owner, to the byte", topics_hold_nothing_else),
    Check("I13-topics", "the topics hold every event that was sent", topics_hold_what_was_sent),
    Check("I14-topics", "the topics keep every key in one partition and in order", topics_keep_the_order),
    Check("I15-topics", "beacons say what the partitions hold", beacons_tell_the_truth),
)
