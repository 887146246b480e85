"""Composition of the billing service."""

from fastapi import APIRouter

from services.billing.api import router
from services.billing.api_bills import NOTICE_PATH
from services.billing.consumers import SUBSCRIPTIONS
from services.billing.errands import Errands
from services.billing.outside import connect
from services.billing.settings import Settings
from shared.service import Runtime, ServiceSpec, main
from shared.web import Door


def spec(settings: Settings) -> ServiceSpec:
    """Return the service as this hospital connects it."""
    outside = connect(settings)
    errands = Errands(outside)

    def routes(door: Door) -> APIRouter:
        return router(door, outside)

    async def run_errands(runtime: Runtime) -> None:
        try:
            await errands.run(runtime.db)
        finally:
            await outside.close()

    return ServiceSpec(
        name="billing",
        title="Billing 费用与结算",
        router=routes,
        subscriptions=SUBSCRIPTIONS,
        parts={"errands": run_errands},
        public_paths=frozenset({f"/api/billing{NOTICE_PATH}"}),
    )


if __name__ == "__main__":
    chosen = Settings()
    main(spec(chosen), chosen)
