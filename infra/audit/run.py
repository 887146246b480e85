"""Runs the checks: one look at a single snapshot, further looks at what may still be on its way, then the verdict."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from infra.audit import beds, delivery, followup, journeys, logs, money, outside, privacy, topics, trail, views
from infra.audit.check import Check, Look, Progress, Seen, no_progress, schema
from infra.audit.scene import Scene
from infra.local.services import SERVICES
from shared.contracts.beds import INVENTORY
from shared.contracts.registry import EVENT_TOPICS

CHECKS: tuple[Check, ...] = (
    *beds.CHECKS,
    *journeys.CHECKS,
    *money.CHECKS,
    *outside.CHECKS,
    *followup.CHECKS,
    *delivery.CHECKS,
    *topics.CHECKS,
    *trail.CHECKS,
    *privacy.CHECKS,
    *logs.CHECKS,
    *views.CHECKS,
)
EXAMPLES_MAX = 5
WAITS_SECONDS = (1.0, 2.0)
"""How long after a look what still seems wrong between services is looked at again."""
STATEMENT_SECONDS_MAX = 300
DATABASE_AWAY: tuple[type[BaseException], ...] = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
"""After these there is no verdict; every other error of the database belongs to the check that made it."""
HAPPENINGS = frozenset(EVENT_TOPICS) - {INVENTORY.name}
"""Topics in which something lies only after somebody did something; the inventory tells of the first furnishing."""

_PRESENT = "SELECT s FROM unnest($1::text[]) AS s WHERE to_regclass(format('%I.outbox', s)) IS NOT NULL"
_ANYTHING = """
SELECT EXISTS (SELECT FROM {s}.outbox WHERE causation_id IS NOT NULL OR actor IS NOT NULL)
    OR EXISTS (SELECT FROM {s}.inbox WHERE topic <> 'beds.inventory.v1')
"""


class NoSuchCheck(ValueError):
    """Somebody asked for a check by an id that is none."""


async def audit(
    scene: Scene,
    *,
    only: Collection[str] | None = None,
    progress: Progress = no_progress,
    waits_seconds: Sequence[float] = WAITS_SECONDS,
) -> dict[str, Any]:
    """Run every check (or those with the ids in `only`) and return the verdict as `wardstream audit --json` prints it.

    A check is right when it found nothing wrong and examined something. A hospital in which nothing ever happened is the one
    exception: nothing is wrong there, `empty` says that nothing was proved either.

    Raises:
        NoSuchCheck: `only` names a check that does not exist.
        DATABASE_AWAY, asyncpg.PostgresError: the database does not answer, or lets nobody in.
        BrokerUnavailable: the broker does not answer.
    """
    if only is not None and (unknown := set(only) - {check.id for check in CHECKS}):
        known = ", ".join(check.id for check in CHECKS)
        raise NoSuchCheck(f"There is no check {', '.join(sorted(unknown))}; there are {known}.")
    wanted = [check for check in CHECKS if only is None or check.id in only]
    began = time.monotonic()
    extents = {} if scene.topics is None else await scene.topics.extents()
    seen: dict[str, Seen] = {}
    empty = True
    for number, wait_seconds in enumerate((0.0, *waits_seconds)):
        again = wanted if number == 0 else [check for check in wanted if check.settles and seen[check.id].wrong]
        if not again:
            break
        await asyncio.sleep(wait_seconds)
        async with _looking(scene, extents, progress) as at:
            if number == 0:
                empty = await _is_empty(at)
            for place, check in enumerate(again):
                progress(check.name, place, len(again))
                seen[check.id] = _still_wrong(await examine(check, at), seen.get(check.id))
    results = [verdict_of(check, seen[check.id], empty=empty) for check in wanted]
    return {
        "ok": all(result["ok"] for result in results),
        "empty": empty,
        "violations": sum(result["violations"] for result in results),
        "checks": results,
        "seconds": round(time.monotonic() - began, 2),
    }


@asynccontextmanager
async def _looking(scene: Scene, extents: Mapping[Any, Any], progress: Progress) -> AsyncIterator[Look]:
    conn = await asyncpg.connect(
        scene.dsn,
        timeout=15,
        command_timeout=STATEMENT_SECONDS_MAX + 5,
        server_settings={
            "application_name": "wardstream-audit",
            "default_transaction_read_only": "on",
            "timezone": "UTC",
            "jit": "off",
            "search_path": "pg_catalog",
            "statement_timeout": str(STATEMENT_SECONDS_MAX * 1000),
            "lock_timeout": "5000",
        },
    )
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            yield Look(conn, scene, await services_in(conn), extents, progress)
    finally:
        await conn.close()


async def services_in(conn: asyncpg.Connection) -> frozenset[str]:
    """Return the services whose tables are there."""
    return frozenset(row["s"] for row in await conn.fetch(_PRESENT, list(SERVICES)))


async def _is_empty(at: Look) -> bool:
    """Say whether nothing ever happened here: the pool was furnished, and nobody commanded, announced or read anything else."""
    for service in at.announcing:
        if await at.value(_ANYTHING.format(s=schema(service))):
            return False
    return not any(extent.end for place, extent in at.extents.items() if place.topic in HAPPENINGS)


async def examine(check: Check, at: Look) -> Seen:
    """Let one check look; it says so when the tables it needs are not there, or are not as it knows them.

    Raises:
        DATABASE_AWAY: one of these.
        BrokerUnavailable: the broker does not answer.
    """
    missing = sorted(check.needs - at.services)
    if missing:
        return Seen(0, reason=f"There are no tables of {', '.join(missing)}.")
    try:
        async with at.conn.transaction():  # a savepoint: the next check goes on where this one began
            return await check.look(at)
    except DATABASE_AWAY:
        raise
    except asyncpg.PostgresError as error:
        reason = f"The check could not be made: {type(error).__name__} ({error.sqlstate})."
        return Seen(0, reason=reason, finished=False)


def _still_wrong(seen: Seen, before: Seen | None) -> Seen:
    """Keep what was found before and is found again; what is new may still be on its way."""
    if before is None:
        return seen
    known = set(before.wrong)
    return Seen(seen.examined, [finding for finding in seen.wrong if finding in known], seen.reason, seen.finished)


def verdict_of(check: Check, seen: Seen, *, empty: bool) -> dict[str, Any]:
    """Return what the answer says of one check."""
    reason = seen.reason
    if not seen.examined and not reason:
        reason = "There was nothing to examine."
    ok = not seen.wrong and seen.finished and (seen.examined > 0 or empty)
    result = {
        "id": check.id,
        "name": check.name,
        "ok": ok,
        "examined": seen.examined,
        "violations": len(seen.wrong),
        "examples": list(seen.wrong[:EXAMPLES_MAX]),
    }
    return result | ({"reason": reason} if reason else {})
