"""What insight shows, which anybody could throw away, beside what the owners know."""

from typing import Any

from infra.audit.check import Check, Look, Seen, schema
from infra.audit.scene import Unanswered

_CENSUS = """
SELECT w.ward, count(b.bed_id) AS beds, count(*) FILTER (WHERE b.commitment = 'active') AS occupied, coalesce(max(h.held), 0) AS held
FROM beds.ward w JOIN beds.bed b USING (ward)
LEFT JOIN (SELECT b.ward, count(*) AS held FROM beds.bed_request r JOIN beds.bed b USING (bed_id) WHERE r.state = 'assigned'
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
_INDEXED = """
SELECT format('insight does not know event %s of {s}', o.event_id) FROM {s}.outbox o
WHERE NOT EXISTS (SELECT FROM insight.event_seen e WHERE e.event_id = o.event_id)
"""
_UNKNOWN = "SELECT format('insight knows event %s, which nobody announced', e.event_id) FROM insight.event_seen e WHERE {nowhere}"
_NOWHERE = "NOT EXISTS (SELECT FROM {s}.outbox o WHERE o.event_id = e.event_id)"


async def _asked(at: Look, path: str) -> Any:
    """Return what insight answers, or what a check says that cannot ask."""
    if at.scene.ask is None:
        return Seen(0, reason="Insight cannot be asked.")
    try:
        return await at.scene.ask(path)
    except Unanswered as error:
        return Seen(0, reason=str(error), finished=False)


async def census_is_what_the_pool_says(at: Look) -> Seen:
    """The live census of every ward equals the pool's own tables."""
    told = await _asked(at, "/api/insight/census")
    if isinstance(told, Seen):
        return told
    rows = await at.rows(_CENSUS)
    said = {ward: (counts["beds"], counts["occupied"], counts["held"]) for ward, counts in told["wards"].items()}
    known = {row["ward"]: (row["beds"], row["occupied"], row["held"]) for row in rows}
    return Seen(len(known), _differences("ward", said, known))


async def journeys_are_what_the_owners_say(at: Look) -> Seen:
    """The live count of journeys in each state equals the tables of admission and day surgery."""
    told = await _asked(at, "/api/insight/journeys-in-flight")
    if isinstance(told, Seen):
        return told
    rows = await at.rows(_JOURNEYS)
    said = {(kind, state): n for kind, states in told["journeys"].items() for state, n in states.items() if n}
    known = {(row["kind"], row["state"]): row["journeys"] for row in rows}
    everything = "SELECT (SELECT count(*) FROM admission.encounter) + (SELECT count(*) FROM daysurgery.day_case)"
    return Seen(await at.count(everything), _differences("journeys", said, known))


def _differences(what: str, said: dict[Any, Any], known: dict[Any, Any]) -> list[str]:
    return [
        f"{what} {_words(key)}: insight says {_words(said.get(key, 0))}, the owner {_words(known.get(key, 0))}"
        for key in sorted(said.keys() | known.keys(), key=str)
        if said.get(key, 0) != known.get(key, 0)
    ]


def _words(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


async def every_event_is_indexed(at: Look) -> Seen:
    """I13: insight's index of events holds exactly what was announced."""
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
