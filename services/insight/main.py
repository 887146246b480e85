"""Composition of insight."""

import os

from fastapi import APIRouter
from starlette.types import ASGIApp

from services.insight.actions import LagBoard, SpanKeeper
from services.insight.api import TraceIntake, router
from services.insight.settings import Settings
from services.insight.streams import LiveViews
from shared.messaging.lags import OffsetReader
from shared.service import Runtime, ServiceSpec, main
from shared.web import Door


def spec(settings: Settings) -> ServiceSpec:
    """Return the service: views, spans and lags beside its doors. It announces nothing, so it runs no relay."""
    board = LagBoard()
    keeper = SpanKeeper(settings.span_count_max)
    reader = OffsetReader(settings.kafka_bootstrap, "insight")
    live = LiveViews(settings, board, reader)

    def routes(door: Door) -> APIRouter:
        return router(door, live, board)

    def before_the_gates(app: ASGIApp) -> ASGIApp:
        return TraceIntake(app, keeper, settings.otlp_token)

    async def keep_views(runtime: Runtime) -> None:
        await live.run(runtime.db)

    async def keep_spans(runtime: Runtime) -> None:
        await keeper.run(runtime.db)

    async def watch_lags(_: Runtime) -> None:
        await board.run(reader, settings.lag_seconds)

    return ServiceSpec(
        name="insight",
        title="Insight 运行洞察",
        router=routes,
        publishes=False,
        parts={"views": keep_views, "spans": keep_spans, "lags": watch_lags},
        wrap=before_the_gates,
        unready=live.unready,
    )


if __name__ == "__main__":
    os.nice(10)  # views give way to wards and money when the machine is busy (R63)
    chosen = Settings()
    main(spec(chosen), chosen)
