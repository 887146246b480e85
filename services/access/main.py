"""Composition of the access service."""

import asyncio

from fastapi import APIRouter

from services.access import bootstrap
from services.access.api import PUBLIC_PATHS, router
from services.access.settings import Settings
from shared.service import ServiceSpec, main
from shared.web import Door


def spec_of(settings: Settings) -> ServiceSpec:
    """Return the service with these settings; it publishes no events, so it runs no relay."""

    def routes(door: Door) -> APIRouter:
        return router(door, settings)

    return ServiceSpec(name="access", title="Access 账户", router=routes, publishes=False, public_paths=PUBLIC_PATHS)


if __name__ == "__main__":
    SETTINGS = Settings()
    asyncio.run(bootstrap.run(SETTINGS))
    main(spec_of(SETTINGS), SETTINGS)
