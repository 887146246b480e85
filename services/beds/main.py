"""Composition of the bed pool."""

from fastapi import APIRouter

from services.beds import actions, announced, desk, moves, upkeep
from services.beds.actions import Pool
from services.beds.api import router
from services.beds.consumers import subscriptions
from services.beds.settings import Settings
from shared.db import Database, transaction
from shared.service import Runtime, ServiceSpec, Timer, main
from shared.web import Door


def spec(settings: Settings, pool: Pool | None = None) -> ServiceSpec:
    """Return the service as this hospital sets it."""
    pool = pool or Pool(settings)

    def routes(door: Door) -> APIRouter:
        return router(door, pool)

    async def furnish(db: Database) -> None:
        async with transaction(db) as tx:
            await actions.furnish_when_empty(tx, settings)
        async with db.pool.acquire(timeout=10) as conn:
            await pool.mirror.look(conn)

    async def mirror(runtime: Runtime) -> None:
        await pool.mirror.run(runtime.db)

    async def plan(db: Database) -> None:
        await desk.plan_anew(db, pool)

    async def keep_time(db: Database) -> None:
        async with transaction(db) as tx:
            await upkeep.unblock_due_beds(tx)
            await actions.expire_holds(tx)
            await actions.extend_overruns(tx, pool)
            await actions.serve_waiting(tx, pool)

    async def keep_moves(db: Database) -> None:
        async with transaction(db) as tx:
            await announced.expire_moves(tx)
            await moves.serve_wanted_moves(tx, pool)

    async def tell(db: Database) -> None:
        async with transaction(db) as tx:
            await desk.escalate_silence(tx, pool)
            await upkeep.release_quotas(tx, pool.settings)

    return ServiceSpec(
        name="beds",
        title="Bed pool 全院床位池",
        router=routes,
        subscriptions=subscriptions(pool),
        timers=(
            Timer("keep_time", 1.0, keep_time),
            Timer("keep_moves", 1.0, keep_moves),
            Timer("tell", 5.0, tell),
            Timer("plan", settings.plan_seconds, plan),
        ),
        parts={"mirror": mirror},
        public_paths=frozenset({"/api/beds/queue-look"}),
        on_start=furnish,
    )


if __name__ == "__main__":
    chosen = Settings()
    main(spec(chosen), chosen)
