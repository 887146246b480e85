"""Composition of the bed pool."""

from services.beds import actions
from services.beds.api import router
from services.beds.consumers import subscriptions
from services.beds.settings import Settings
from shared.db import Database, transaction
from shared.service import ServiceSpec, Timer, main


def spec(settings: Settings) -> ServiceSpec:
    """Return the service as this hospital sets it."""

    async def furnish(db: Database) -> None:
        async with transaction(db) as tx:
            await actions.furnish_when_empty(tx, settings)

    async def keep_time(db: Database) -> None:
        async with transaction(db) as tx:
            await actions.expire_holds(tx)
            await actions.extend_overruns(tx, settings)
            await actions.serve_waiting(tx, settings)

    return ServiceSpec(
        name="beds",
        title="Bed pool 全院床位池",
        router=router,
        subscriptions=subscriptions(settings),
        timers=(Timer("keep_time", 1.0, keep_time),),
        on_start=furnish,
    )


if __name__ == "__main__":
    chosen = Settings()
    main(spec(chosen), chosen)
