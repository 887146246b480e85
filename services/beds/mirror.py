"""The pool in memory: what the board shows, what streams tell, and the free list of the online decision (R03, R07).

It is read from the database and never trusted alone: whoever takes a bed checks it again under its ward's lock. Every change
of a bed notes its transaction, and each look asks for all rows from the horizon of the last look on; below a horizon every
transaction has ended, so nothing is missed, and what is read twice has the same version.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from services.beds.planner.freelist import BEST, FreeList
from services.beds.rules import Bed, Evaluation, Need, Room, Scored, Ward, Weights, evaluate, room_of, weights_of
from shared.db import RETRYABLE, Connection, Database
from shared.errors import BadRequest

LOOK_SECONDS = 0.5
TICK_SECONDS = 2.0
BATCHES_KEPT = 2_000
CURSORS_AHEAD_MAX = 100_000
"""Another process of this service may have looked a moment later; further ahead is the cursor of another database."""
STREAM_SECONDS_MAX = 600.0
"""A stream ends before its token does; the page goes on with a new one where it was."""

_CHANGED = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, b.*, b.changed::text::bigint AS changed_tx
FROM (SELECT 1) one LEFT JOIN bed b ON b.changed >= $1::bigint::text::xid8
"""
_WARDS = """
SELECT ward, name_zh, name_en, campus, building, floor, specialty, auxiliary, exclusive, age_min, age_max, open, closed_reason
FROM ward ORDER BY building, floor, ward
"""
_WAITING = """
SELECT kind, specialty, urgency, count(*) AS count, min(requested_at) AS since FROM bed_request WHERE state = 'waiting'
GROUP BY kind, specialty, urgency ORDER BY kind, specialty, urgency
"""
_WEIGHTS = "SELECT version, weights FROM rule_set ORDER BY version DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one look found changed: from the horizon before it to its own."""

    number: int
    since: int
    cursor: int
    mark: str
    as_of: str
    views: tuple[dict[str, Any], ...]
    told: bytes


def view_of(row: Any) -> dict[str, Any]:
    """Return a bed as the board shows it."""
    cleaning = None
    if row["cleaning"] is not None:
        cleaning = {
            "state": row["cleaning"],
            "terminal": row["condition"] == "K",
            "requested_at": _iso(row["cleaning_requested_at"]),
            "started_at": _iso(row["cleaning_started_at"]),
        }
    lying = row["commitment"] in ("active", "leave")
    return {
        "bed_id": row["bed_id"],
        "code": row["code"],
        "ward": row["ward"],
        "room": row["room"],
        "kind": row["kind"],
        "level": row["level"],
        "class": row["class"],
        "isolation": row["isolation"],
        "equipment": row["equipment"],
        "extra": row["extra"],
        "quota": row["quota"],
        "service": row["service"],
        "suspended_reason": row["suspended_reason"],
        "suspended_until": _iso(row["suspended_until"]),
        "condition": row["condition"],
        "commitment": row["commitment"],
        "sex": row["patient_sex"],
        "isolation_patient": row["isolation_patient"],
        "encounter_id": None if row["encounter_id"] is None else str(row["encounter_id"]),
        "since": _iso(row["since"]),
        "held_until": _iso(row["until"]) if row["commitment"] == "held" else None,
        "leaving_at": _iso(row["until"]) if lying else None,
        "cleaning": cleaning,
        "version": row["version"],
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def bed_of(row: Any) -> Bed:
    """Return a bed as the rules see it."""
    return Bed(
        bed_id=row["bed_id"],
        code=row["code"],
        ward=row["ward"],
        room=row["room"],
        kind=row["kind"],
        level=row["level"],
        bed_class=row["class"],
        isolation=row["isolation"],
        equipment=frozenset(row["equipment"]),
        extra=row["extra"],
        quota=row["quota"],
        service=row["service"],
        condition=row["condition"],
        commitment=row["commitment"],
        sex=row["patient_sex"],
        isolation_patient=row["isolation_patient"],
        busy_until=row["busy_until"],
        version=row["version"],
    )


def ward_of(row: Any) -> Ward:
    """Return a ward as the rules see it."""
    return Ward(
        ward=row["ward"],
        specialty=row["specialty"],
        auxiliary=frozenset(row["auxiliary"]),
        exclusive=row["exclusive"],
        age_min=row["age_min"],
        age_max=row["age_max"],
        open=row["open"],
    )


class PoolMirror:
    """Every bed, ward and weight as they were at the last look."""

    def __init__(self) -> None:
        self.cursor = 0
        self.as_of = datetime.now(UTC)
        self.beds: dict[int, Bed] = {}
        self.views: dict[int, dict[str, Any]] = {}
        self.wards: dict[str, Ward] = {}
        self.ward_views: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []
        self._wards_number = 0
        self.weights = Weights()
        self.rooms: dict[str, Room] = {}
        self.loads: dict[str, int] = {}
        self._of_room: dict[str, set[int]] = {}
        self._of_ward: dict[str, set[int]] = {}
        self._free = FreeList((), self.weights)
        self._taken: dict[int, float] = {}
        self._batches: deque[Batch] = deque(maxlen=BATCHES_KEPT)
        self._number = 0
        self._process = secrets.token_hex(4)
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()

    async def look(self, conn: Connection) -> None:
        """Take in what changed since the last look, all of it from one moment."""
        async with self._looking, conn.transaction(isolation="repeatable_read", readonly=True):
            rows = await conn.fetch(_CHANGED, self.cursor)
            ward_rows = await conn.fetch(_WARDS)
            waiting = [dict(row) for row in await conn.fetch(_WAITING)]
            weights = await conn.fetchrow(_WEIGHTS)
        wards = {row["ward"]: ward_of(row) for row in ward_rows}
        if wards != self.wards:
            self.wards = wards
            self._free.set_wards(wards.values())
        ward_views = [_ward_view(row) for row in ward_rows]
        if (ward_views, waiting) != (self.ward_views, self.waiting):
            self.ward_views, self.waiting = ward_views, waiting
            self._wards_number += 1
        if weights is not None and weights["version"] != self.weights.version:
            self.weights = weights_of(weights["version"], weights["weights"])
            self._free.set_weights(self.weights)
        self._take(rows)

    def _take(self, rows: list[asyncpg.Record]) -> None:
        since, horizon = self.cursor, int(rows[0]["horizon"])
        self.as_of = datetime.now(UTC)
        news = []
        for row in rows:
            if row["bed_id"] is None:
                continue
            known = self.beds.get(row["bed_id"])
            if known is not None and known.version >= row["version"]:
                continue
            bed = bed_of(row)
            if known is not None and known.room != bed.room:
                self._of_room[known.room].discard(bed.bed_id)
            self.beds[bed.bed_id] = bed
            self._of_room.setdefault(bed.room, set()).add(bed.bed_id)
            self._of_ward.setdefault(bed.ward, set()).add(bed.bed_id)
            self._free.put(bed)
            self.views[row["bed_id"]] = view_of(row)
            news.append(self.views[row["bed_id"]])
        for room in {view["room"] for view in news}:
            self.rooms[room] = room_of(self.beds[bed_id] for bed_id in sorted(self._of_room[room]))
        for ward in {view["ward"] for view in news}:
            beds = self._of_ward[ward]
            taken = sum(self.beds[bed_id].commitment != "free" for bed_id in beds)
            self.loads[ward] = 100 * taken // len(beds)
        self.cursor = max(since, horizon)
        if news:
            as_of = self.as_of.isoformat()
            self._number += 1
            mark = self.mark()
            told = _told(mark, as_of, news)
            self._batches.append(Batch(self._number, since, self.cursor, mark, as_of, tuple(news), told))
            self._changed.set()
            self._changed = asyncio.Event()

    def choose(self, need: Need, *, limit: int = BEST) -> tuple[Scored, ...]:
        """Return the best free beds for one patient, without those this process has just given away."""
        now = time.monotonic()
        for bed_id in [bed_id for bed_id, until in self._taken.items() if until < now]:
            del self._taken[bed_id]
        found = self._free.best(need, limit=limit + len(self._taken))
        return tuple(scored for scored in found if scored.bed.bed_id not in self._taken)[:limit]

    def judge_all(self, need: Need) -> Evaluation:
        """Judge every bed of the hospital for one patient, for people who ask why."""
        return evaluate(need, self.beds.values(), self.wards, self.weights, rooms=self.rooms, loads=self.loads)

    def note_taken(self, bed_id: int) -> None:
        """Leave a bed out of the free list until the next looks have seen what became of it."""
        self._taken[bed_id] = time.monotonic() + 3 * LOOK_SECONDS

    async def run(self, db: Database) -> None:
        """Look twice a second, so that a change shows on every board within a second or two; a database that is away is asked again."""
        while True:
            with contextlib.suppress(*RETRYABLE):
                async with db.pool.acquire(timeout=10) as conn:
                    await self.look(conn)
            await asyncio.sleep(LOOK_SECONDS)

    def mark(self) -> str:
        """Return where a page is that shows everything taken in so far: the horizon, and our own count of batches."""
        return f"{self.cursor}.{self._number}.{self._process}"

    async def stream(self, after: str, wards: frozenset[str] | None, stopping: asyncio.Event) -> AsyncIterator[bytes]:
        """Tell every change after the mark `after` in the wards given (None: all), wards and queue when they change, and ticks.

        It ends after ten minutes, and when the service stops.

        A page that comes from another process of this service, or from this one before it was started anew, is told from the
        horizon of its mark on: some changes twice, which have the same version, and none too few. A page whose mark is older
        than what is kept, or of another database, is told to load the board anew.

        Raises:
            BadRequest: the mark is none of ours.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + STREAM_SECONDS_MAX
        told = self._number_after(after)
        if told is None:
            yield b"event: reset\ndata: {}\n\n"
            return
        told_of_wards = -1
        while loop.time() < end and not stopping.is_set():
            changed = self._changed
            for batch in [batch for batch in self._batches if batch.number > told]:
                told = batch.number
                if wards is None:
                    yield batch.told
                elif views := [view for view in batch.views if view["ward"] in wards]:
                    yield _told(batch.mark, batch.as_of, views)
            if self._wards_number != told_of_wards:
                told_of_wards = self._wards_number
                shown = [ward for ward in self.ward_views if wards is None or ward["ward"] in wards]
                yield b"event: wards\ndata: " + orjson.dumps({"wards": shown, "waiting": self.waiting}) + b"\n\n"
            tick = orjson.dumps({"cursor": self.mark(), "as_of": self.as_of.isoformat()})
            yield b"event: tick\ndata: " + tick + b"\n\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), TICK_SECONDS)

    def _number_after(self, mark: str) -> int | None:
        """Return the last batch a page has seen; None when what it misses is not kept any more."""
        horizon, number, process = mark_of(mark)
        first = self._batches[0].number if self._batches else self._number + 1
        if process == self._process:
            return number if first - 1 <= number <= self._number else None
        since = self._batches[0].since if self._batches else self.cursor
        if not since <= horizon <= self.cursor + CURSORS_AHEAD_MAX:
            return None
        return next((batch.number - 1 for batch in self._batches if batch.cursor >= horizon), self._number)


def mark_of(text: str) -> tuple[int, int, str]:
    """Read a mark.

    Raises:
        BadRequest: it is none of ours.
    """
    found = re.fullmatch(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9a-f]{8})", text)
    if found is None:
        raise BadRequest("after is no cursor of ours.", code="bad_cursor")
    return int(found[1]), int(found[2]), found[3]


def _told(mark: str, as_of: str, views: list[dict[str, Any]]) -> bytes:
    data = orjson.dumps({"cursor": mark, "as_of": as_of, "beds": views})
    return b"id: %b\nevent: beds\ndata: %b\n\n" % (mark.encode(), data)


def _ward_view(row: Any) -> dict[str, Any]:
    return {
        name: row[name]
        for name in (
            "ward",
            "name_zh",
            "name_en",
            "campus",
            "building",
            "floor",
            "specialty",
            "open",
            "closed_reason",
        )
    }
