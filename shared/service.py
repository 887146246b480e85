"""What every service is made of: pool, relay, consumer, seals, timers, watchdog and doors in one event loop.

`services/<name>/main.py` says which; nothing here knows a hospital rule.
"""

import asyncio
import contextlib
import gc
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import FrameType

import asyncpg
import orjson
import structlog
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp

from shared import telemetry
from shared.access import seal
from shared.access.audit_door import audit_router
from shared.access.policy import Permission
from shared.access.tokens import TokenVerifier
from shared.clock import Clock
from shared.db import RETRYABLE, Database, Transaction, create_pool
from shared.errors import BadRequest, Refused
from shared.messaging import parking
from shared.messaging.broker import OnAssigned, Producer
from shared.messaging.consumer import (
    Consumer,
    GroupFactory,
    PoisonFound,
    Subscription,
    run_handler,
)
from shared.messaging.kafka import KafkaConsumer, KafkaProducer
from shared.messaging.relay import Relay
from shared.messaging.resync import answer_resync_requests
from shared.settings import ServiceSettings
from shared.web import Answered, Caller, Door, Gate, RowId, install_problem_handlers, page_of

log = structlog.get_logger()

_DATABASE_TROUBLE: tuple[type[BaseException], ...] = (asyncpg.PostgresError, *RETRYABLE)
STALL_SECONDS = 60.0
SEAL_SECONDS = 5.0
OLDEST_UNSENT_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Timer:
    """Work that comes round by itself; each turn is one transaction of its own making."""

    name: str
    every_seconds: float
    turn: Callable[[Database], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as its `main.py` composes it."""

    name: str
    title: str
    router: Callable[[Door], APIRouter]
    subscriptions: Sequence[Subscription] = ()
    timers: Sequence[Timer] = ()
    on_start: Callable[[Database], Awaitable[None]] | None = None
    publishes: bool = True
    public_paths: frozenset[str] = frozenset()
    parts: Mapping[str, Callable[["Runtime"], Awaitable[None]]] = field(default_factory=dict)
    """Further work that runs by itself beside relay and consumer; one that fails ends the process."""
    wrap: Callable[[ASGIApp], ASGIApp] | None = None
    """Takes requests before every gate and every trace."""
    unready: Callable[[], Sequence[str]] | None = None
    """What of `parts` is not ready yet."""


@dataclass(slots=True)
class Runtime:
    """A running service; the flow tests drive it by hand, `main` lets it run."""

    spec: ServiceSpec
    settings: ServiceSettings
    db: Database
    verifier: TokenVerifier
    make_producer: Callable[[], Producer]
    make_group: GroupFactory
    relay: Relay = field(init=False)
    consumer: Consumer | None = field(init=False, default=None)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    turned_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Make the relay and, where there are subscriptions, the consumer."""
        self.relay = Relay(self.spec.name, self.db, self.make_producer)
        if self.spec.subscriptions:
            self.consumer = Consumer(
                self.spec.name, self.db, self.spec.subscriptions, self.make_group, self.make_producer
            )

    def start(self) -> None:
        """Start everything that runs by itself."""
        if self.spec.publishes:
            self._spawn("relay", self.relay.run())
            self._spawn("resync", answer_resync_requests(self.spec.name, self.db, self._resync_group, self.stopping))
        if self.consumer is not None:
            self._spawn("consumer", self.consumer.run())
        self._spawn("seals", self._seal_for_ever())
        for timer in self.spec.timers:
            self._spawn(timer.name, self._turn_for_ever(timer))
        for name, part in self.spec.parts.items():
            self._spawn(name, part(self))
        self._show_gauges()

    def _show_gauges(self) -> None:
        if self.spec.publishes:
            telemetry.number("flow_outbox_oldest_seconds").watch(lambda: self.relay.oldest_unsent_seconds)
        consumer = self.consumer
        if consumer is not None:
            telemetry.number("flow_consumer_unread_events").watch(lambda: float(consumer.lag))

    def _resync_group(self, topics: Sequence[str], on_assigned: OnAssigned) -> "KafkaConsumer":
        return KafkaConsumer(self.settings.kafka_bootstrap, f"{self.spec.name}.resync", topics, on_assigned)

    def _spawn(self, name: str, work: "asyncio.Future[None] | Awaitable[None]") -> None:
        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException:
                log.exception("service_part_died", service=self.spec.name, part=name)
                os._exit(1)  # unready for good: the supervisor starts a fresh process, the offset has not moved

        self.tasks.append(asyncio.create_task(watched(), name=f"{self.spec.name}:{name}"))

    async def stop(self) -> None:
        """Finish the current event, commit, leave the group, release the relay's lock (R62)."""
        self.stopping.set()
        if self.consumer is not None:
            self.consumer.stop()
            for task in self.tasks:
                if task.get_name().endswith(":consumer"):
                    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                        await asyncio.wait_for(asyncio.shield(task), 10)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.verifier.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.db.pool.close(), 5)

    async def _seal_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SEAL_SECONDS)
            try:
                async with self.db.pool.acquire(timeout=10) as conn:
                    while await seal.seal(conn):
                        pass
            except RETRYABLE as error:
                log.warning("seal_interrupted", service=self.spec.name, error=type(error).__name__)

    async def _turn_for_ever(self, timer: Timer) -> None:
        while True:
            await asyncio.sleep(timer.every_seconds)
            try:
                await timer.turn(self.db)
            except RETRYABLE as error:
                log.warning("timer_interrupted", service=self.spec.name, timer=timer.name, error=type(error).__name__)

    # ---- health -------------------------------------------------------------------------------------------------

    def stalled(self) -> str | None:
        """Name the part that made no progress for a minute, if any (R61)."""
        limit = time.monotonic() - STALL_SECONDS
        if self.consumer is not None and self.consumer.progress_at < limit:
            return "consumer"
        if self.spec.publishes and self.relay.turned_at < limit:
            return "relay"
        return None

    async def ready(self) -> tuple[bool, dict[str, object]]:
        """Say whether this service can do its work now, and what is missing if not (R61)."""
        reasons: list[str] = []
        try:
            async with self.db.pool.acquire(timeout=2) as conn:
                await conn.fetchval("SELECT 1", timeout=2)
        except _DATABASE_TROUBLE:
            reasons.append("database")
        if self.consumer is not None:
            if not self.consumer.joined:
                reasons.append("consumer_not_joined")
            if self.consumer.lag > self.settings.ready_lag_max:
                reasons.append("lag")
            if self.consumer.behind_since is not None:
                reasons.append("too_many_parked")
        if self.spec.unready is not None:
            reasons.extend(self.spec.unready())
        if self.relay.oldest_unsent_seconds > OLDEST_UNSENT_SECONDS_MAX:
            reasons.append("outbox_age")
        facts = {"ready": not reasons, "reasons": reasons, "relay": "leading" if self.relay.leading else "standing_by"}
        return not reasons, facts


def create_app(spec: ServiceSpec, runtime_of: Callable[[], Runtime], verifier: TokenVerifier, *, run: bool) -> FastAPI:
    """Return the ASGI app of a service; with `run`, its lifespan starts and stops the runtime."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        runtime = runtime_of()
        if run:
            if spec.on_start is not None:
                await spec.on_start(runtime.db)
            runtime.start()
        yield
        if run:
            await runtime.stop()

    prefix = f"/api/{spec.name}"
    app = FastAPI(
        title=spec.title,
        version="1",
        openapi_url=f"{prefix}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry={
            "operation_spans": False,
            "logs": False,
            "metrics": True,
            "auto_configure": False,
            "exclude": lambda scope: not str(scope.get("path", "")).startswith("/api/"),
        },
    )
    install_problem_handlers(app)
    app.include_router(spec.router(Door(runtime_of().db)), prefix=prefix)
    app.include_router(audit_router(Door(runtime_of().db)), prefix=prefix)
    if spec.publishes:
        app.include_router(_parked_router(spec, runtime_of), prefix=prefix)
    app.include_router(_health_router(runtime_of))
    public = frozenset({f"{prefix}/openapi.json", *spec.public_paths})
    app.add_middleware(Gate, verifier=verifier, public=public)
    return app


def _health_router(runtime_of: Callable[[], Runtime]) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/live")
    async def live() -> Response:
        part = runtime_of().stalled()
        return Response(orjson.dumps({"live": part is None, "stalled": part}), 200 if part is None else 503)

    @router.get("/ready")
    async def ready() -> Response:
        ok, facts = await runtime_of().ready()
        return Response(orjson.dumps(facts), 200 if ok else 503, media_type="application/json")

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(telemetry.metrics_text(), media_type="text/plain; version=0.0.4")

    return router


def _parked_router(spec: ServiceSpec, runtime_of: Callable[[], Runtime]) -> APIRouter:
    """Return the doors to events set aside: list, show, retry, discard (R20, R21)."""
    router = APIRouter(tags=["parked"])
    door = Door(runtime_of().db)
    handlers = {subscription.event.ce_type(): subscription for subscription in spec.subscriptions}

    def shown(row: asyncpg.Record) -> dict[str, object]:
        return {name: (value.isoformat() if name == "first_at" else value) for name, value in row.items()}

    @router.get("/quiet", summary="What is still on its way: unsent, unread, set aside")
    async def quiet(request: Request) -> Response:
        consumer = runtime_of().consumer

        async def read(tx: Transaction, _caller: Caller) -> Answered:
            row = await tx.conn.fetchrow(
                "SELECT (SELECT count(*) FROM outbox_unsent) AS unsent,"
                " (SELECT count(*) FROM parked WHERE status = 'parked') AS parked"
            )
            assert row is not None
            lag = 0 if consumer is None else await consumer.lag_now()
            answer = {"unsent": row["unsent"], "lag": lag, "parked": row["parked"]}
            return Answered(answer, "quiet", audited=False)

        return await door.query(request, Permission.OPS_READ, read)

    @router.get("/parked", summary="Events set aside, oldest first")
    async def list_parked(request: Request) -> Response:
        page = page_of(request)
        if page.after is not None and not re.fullmatch(r"[0-9]{1,18}", page.after):
            raise BadRequest("after is no cursor of ours.", code="bad_cursor")

        async def read(tx: Transaction, _caller: Caller) -> Answered:
            rows = await parking.list_parked(tx.conn, after_id=int(page.after or 0), limit=page.limit)
            return Answered({"parked": [shown(row) for row in rows]}, "parked", audited=False)

        return await door.query(request, Permission.OPS_READ, read)

    @router.post("/parked/{parked_id}/retry", summary="Apply an event that was set aside")
    async def retry(request: Request, parked_id: RowId) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await parking.lock_for_decision(tx, parked_id)
            actor = caller.actor.user_id
            if not await parking.confirm_second_person(tx, row, service=spec.name, wish="retry", actor=actor):
                return Answered({"status": "second_person_needed"}, "parked", parked_id, status=202)
            envelope = parking.envelope_of(row)
            subscription = handlers.get(envelope.ce_type)
            if subscription is not None:
                try:
                    await run_handler(tx, subscription, envelope, spec.name, parking.record_of(row))
                except PoisonFound as poison:
                    raise Refused("The event is still refused.", code="still_refused", reason=poison.reason) from None
            await parking.mark_decided(tx, row, status="retried", actor=actor)
            return Answered({"status": "retried"}, "parked", parked_id)

        return await door.command(request, Permission.OPS_PARKED, act)

    @router.post("/parked/{parked_id}/discard", summary="Drop an event that was set aside")
    async def discard(request: Request, parked_id: RowId) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await parking.lock_for_decision(tx, parked_id)
            actor = caller.actor.user_id
            if not await parking.confirm_second_person(tx, row, service=spec.name, wish="discard", actor=actor):
                return Answered({"status": "second_person_needed"}, "parked", parked_id, status=202)
            await parking.mark_decided(tx, row, status="discarded", actor=actor)
            return Answered({"status": "discarded"}, "parked", parked_id)

        return await door.command(request, Permission.OPS_PARKED, act)

    return router


def _watch(runtime: Runtime, ended: threading.Event) -> None:
    """End the process when its event loop or a part of it stands still for a minute; a fresh one starts (R61)."""
    while not ended.wait(5.0):
        stalled = runtime.stalled()
        if stalled is not None or time.monotonic() - runtime.turned_at > STALL_SECONDS:
            log.error("service_stalled", service=runtime.spec.name, part=stalled or "event_loop")
            os._exit(1)


async def serve(spec: ServiceSpec, settings: ServiceSettings) -> None:
    """Run one service until SIGTERM or SIGINT."""
    telemetry.configure(spec.name, settings)
    pool = await create_pool(settings)
    verifier = TokenVerifier(settings.jwks_url)
    runtime = Runtime(
        spec=spec,
        settings=settings,
        db=Database(pool, Clock()),
        verifier=verifier,
        make_producer=lambda: KafkaProducer(settings.kafka_bootstrap, spec.name),
        make_group=lambda topics, on_assigned: KafkaConsumer(settings.kafka_bootstrap, spec.name, topics, on_assigned),
    )
    app = create_app(spec, lambda: runtime, verifier, run=True)
    config = uvicorn.Config(
        app if spec.wrap is None else spec.wrap(app),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=65,
        limit_concurrency=1500,
        http="httptools",
        lifespan="on",
    )
    ended = threading.Event()
    threading.Thread(target=_watch, args=(runtime, ended), daemon=True).start()
    beat = asyncio.create_task(_beat(runtime))
    await _Server(config, runtime.db).serve()
    ended.set()
    beat.cancel()
    await asyncio.to_thread(telemetry.shutdown)


class _Server(uvicorn.Server):
    """Ends open streams when it is asked to stop; it would wait for them until its patience ends."""

    def __init__(self, config: uvicorn.Config, db: Database) -> None:
        super().__init__(config)
        self._db = db
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM or SIGINT."""
        self._loop.call_soon_threadsafe(self._db.stopping.set)
        super().handle_exit(sig, frame)


async def _beat(runtime: Runtime) -> None:
    while True:
        runtime.turned_at = time.monotonic()
        await asyncio.sleep(1.0)


COLLECTOR_THRESHOLDS = (50_000, 20, 50)
"""Allocations between collections of cycles: a batch of events is some ten thousand objects and none of them is a cycle."""


def settle_collector() -> None:
    """Let the collector of cycles leave alone what was imported, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def main(spec: ServiceSpec, settings: ServiceSettings) -> None:
    """Run one service in this process; the entry of every `services/<name>/main.py`."""
    settle_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(spec, settings))
