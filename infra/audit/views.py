"""What insight shows, which anybody could throw away, beside what the owners know."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg

from infra.audit.check import Check, Look, Seen, schema
from infra.audit.scene import Unanswered
from shared.messaging.broker import TopicPartition

TRIES = 6
TRY_SECONDS = 0.5

Counts = Mapping[Any, Any]

_CENSUS = """
SELECT w.ward, count(b.bed_id) AS beds, count(*) FILTER (WHERE b.commitment IN ('active', 'leave')) AS occupied, coalesce(max(h.held), 0) AS held
FROM beds.ward w JOIN beds.bed b USING (ward)
LEFT JOIN (SELECT b.ward, count(*) AS held FROM beds.bed_claim c JOIN beds.bed b USING (bed_id) WHERE c.state = 'held'
           GROUP BY b.ward) h USING (ward)
GROUP BY w.ward
"""
_JOURNEYS = """
SELECT 'inpatient' AS kind, state, count(*) AS journeys FROM admission.encounter
WHERE state NOT IN ('discharged', 'cancelled', 'admission_cancelled') GROUP BY state
UNION ALL
SELECT 'day_surgery', state, count(*) FROM daysurgery.day_case
WHERE state NOT IN ('discharged', 'cancelled', 'converted') GROUP BY state
"""
_EVERYBODY = "SELECT (SELECT count(*) FROM admission.encounter) + (SELECT count(*) FROM daysurgery.day_case)"
_STANDING = """
SELECT coalesce((SELECT max(id) FROM {s}.outbox), 0) AS announced, (SELECT count(*) FROM {s}.outbox_unsent) AS unsent
"""
_READ = "SELECT topic, part, next_offset FROM {s}.consumed"
_INDEXED = """
SELECT format('insight does not know event %s of {s}', o.event_id) FROM {s}.outbox o
WHERE NOT EXISTS (SELECT FROM insight.event_seen e WHERE e.event_id = o.event_id)
"""
_UNKNOWN = "SELECT format('insight knows event %s, which nobody announced', e.event_id) FROM insight.event_seen e WHERE {nowhere}"
_NOWHERE = "NOT EXISTS (SELECT FROM {s}.outbox o WHERE o.event_id = e.event_id)"


async def census_is_what_the_pool_says(at: Look) -> Seen:
    """The live census of every ward equals the pool's own tables."""

    def said(told: Any) -> Counts:
        return {ward: (counts["beds"], counts["occupied"], counts["held"]) for ward, counts in told["wards"].items()}

    def known(rows: Sequence[asyncpg.Record]) -> Counts:
        return {row["ward"]: (row["beds"], row["occupied"], row["held"]) for row in rows}

    examined = await at.count("SELECT count(*) FROM beds.ward")
    return await _compared(at, "ward", examined, "/api/insight/census", said, _CENSUS, known)


async def journeys_are_what_the_owners_say(at: Look) -> Seen:
    """The live count of journeys in each state equals the tables of admission and day surgery."""

    def said(told: Any) -> Counts:
        return {(kind, state): n for kind, states in told["journeys"].items() for state, n in states.items() if n}

    def known(rows: Sequence[asyncpg.Record]) -> Counts:
        return {(row["kind"], row["state"]): row["journeys"] for row in rows}

    examined = await at.count(_EVERYBODY)
    return await _compared(at, "journeys", examined, "/api/insight/journeys-in-flight", said, _JOURNEYS, known)


async def _compared(
    at: Look,
    what: str,
    examined: int,
    path: str,
    said: Callable[[Any], Counts],
    query: str,
    known: Callable[[Sequence[asyncpg.Record]], Counts],
) -> Seen:
    """Compare a view with its owner at a moment in which nothing is on its way: counts of a moving hospital differ by nature."""
    if at.scene.ask is None:
        return Seen(0, reason="Insight cannot be asked.")
    behind = False
    conn = await asyncpg.connect(at.scene.dsn, server_settings={"default_transaction_read_only": "on"}, timeout=15)
    try:
        for _ in range(TRIES):
            before = await _standing(at, conn)
            if before is not None:
                behind = not (await at.scene.ask("/api/insight/progress"))["caught_up"]
                told = await at.scene.ask(path)
                async with conn.transaction(isolation="repeatable_read", readonly=True):
                    rows = await conn.fetch(query)
                    stood_still = await _standing(at, conn) == before
                if stood_still and not behind:
                    return Seen(examined, _differences(what, said(told), known(rows)))
            await asyncio.sleep(TRY_SECONDS)
    except Unanswered as error:
        return Seen(0, reason=str(error), finished=False)
    finally:
        await conn.close()
    if behind:
        return Seen(examined, ["insight does not catch up with the topics"])
    return Seen(examined, reason="Not judged: something was on its way the whole time.")


async def _standing(at: Look, conn: asyncpg.Connection) -> list[tuple[int, ...]] | None:
    """Return how far every service is, or nothing while something is unsent or unread."""
    ends = {} if at.scene.topics is None else await at.scene.topics.extents()
    found: list[tuple[int, ...]] = []
    for service in at.announcing:
        row = await conn.fetchrow(_STANDING.format(s=schema(service)))
        assert row is not None
        read = await conn.fetch(_READ.format(s=schema(service)))
        late = any(
            TopicPartition(r["topic"], r["part"]) in ends
            and r["next_offset"] < ends[TopicPartition(r["topic"], r["part"])].end
            for r in read
        )
        if row["unsent"] or late:
            return None
        found.append((row["announced"], sum(r["next_offset"] for r in read)))
    return found


def _differences(what: str, said: Counts, known: Counts) -> list[str]:
    return [
        f"{what} {_words(key)}: insight says {_words(said.get(key, 0))}, the owner {_words(known.get(key, 0))}"
        for key in sorted(said.keys() | known.keys(), key=str)
        if said.get(key, 0) != known.get(key, 0)
    ]


def _words(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


async def every_event_is_indexed(at: Look) -> Seen:
    """I13: insight's index of events holds exactly what was announced, once insight says that it has read all of it."""
    try:
        for _ in range(TRIES):
            if at.scene.ask is None or (await at.scene.ask("/api/insight/progress"))["caught_up"]:
                break
            await asyncio.sleep(TRY_SECONDS)
    except Unanswered as error:
        return Seen(0, reason=str(error), finished=False)
    examined = await at.count("SELECT count(*) FROM insight.event_seen")
    wrong: list[str] = []
    for service in at.announcing:
        wrong += await at.texts(_INDEXED.format(s=schema(service)))
    nowhere = " AND ".join(_NOWHERE.format(s=schema(service)) for service in at.announcing)
    wrong += await at.texts(_UNKNOWN.format(nowhere=nowhere or "true"))
    return Seen(examined, wrong)


CHECKS = (
    Check(
        "V-census",
        "insight's census is what the bed pool says",
        census_is_what_the_pool_says,
        frozenset({"beds", "insight"}),
        settles=True,
    ),
    Check(
        "V-journeys",
        "insight's journeys in flight are what their owners say",
        journeys_are_what_the_owners_say,
        frozenset({"admission", "daysurgery", "insight"}),
        settles=True,
    ),
    Check(
        "I13-index",
        "insight's index holds every event",
        every_event_is_indexed,
        frozenset({"insight"}),
        settles=True,
    ),
)
