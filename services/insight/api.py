"""Doors of insight under /api/insight, and the receiver of traces (OTLP/HTTP), which stands before every gate."""

import gzip
import hmac
import io
import re
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from services.insight import actions
from services.insight.actions import LagBoard, SpanKeeper
from services.insight.domain import Progress, Views
from services.insight.otlp import read_spans
from shared.access.policy import Permission, scope_of
from shared.db import Connection, Transaction
from shared.errors import BadRequest, Forbidden, NotFound, PayloadTooLarge, Problem, Unavailable, UnsupportedMediaType
from shared.messaging.broker import BrokerUnavailable
from shared.web import PROBLEM_RESPONSES, Answered, Caller, Door, page_of, problem_response

log = structlog.get_logger()

INTAKE_PATH = "/api/insight/v1/traces"
INTAKE_BYTES_MAX = 4 * 1024 * 1024
TRACE_ID = re.compile(r"[0-9a-f]{32}")
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"forwarded", b"via", b"x-real-ip"})


class Live(Protocol):
    """The running views, as the doors need them."""

    @property
    def views(self) -> Views:
        """The views as they are now."""

    @property
    def progress(self) -> Progress:
        """How far the topics were read."""

    def behind(self) -> int:
        """How many records are not taken in, by what the broker said last."""

    async def behind_now(self, conn: Connection) -> int:
        """How many records are not taken in, asking the broker and the database now."""


def router(door: Door, live: Live, board: LagBoard) -> APIRouter:
    """Return the routes of insight."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _view_routes(routes, door, live)
    _broker_routes(routes, door, live, board)
    _trace_routes(routes, door)
    _journey_routes(routes, door)
    return routes


def _permission_to_see_views(request: Request) -> Permission:
    """Bed staff may see the views for their wards, operations for the whole house; neither contains a patient."""
    return Permission.BEDS_READ if scope_of(request.state.actor, Permission.BEDS_READ) else Permission.OPS_READ


def _view_routes(routes: APIRouter, door: Door, live: Live) -> None:
    @routes.get("/census", summary="Beds, occupied and held beds of each ward, now")
    async def get_census(request: Request) -> Response:
        permission = _permission_to_see_views(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(permission)
            wards = live.views.census()
            shown = wards if scope.everywhere else {ward: wards[ward] for ward in wards if ward in scope.wards}
            return Answered({"wards": shown, "behind": live.behind()}, "census", audited=False)

        return await door.query(request, permission, read)

    @routes.get("/journeys-in-flight", summary="How many stays and day cases are in which state, now")
    async def get_journeys_in_flight(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            journeys = live.views.journeys_in_flight()
            return Answered({"journeys": journeys, "behind": live.behind()}, "journeys", audited=False)

        return await door.query(request, _permission_to_see_views(request), read)


def _broker_routes(routes: APIRouter, door: Door, live: Live, board: LagBoard) -> None:
    @routes.get("/progress", summary="How far each partition was read, and whether everything announced so far is in")
    async def get_progress(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            try:
                behind = await live.behind_now(tx.conn)
            except BrokerUnavailable:
                raise Unavailable("Kafka does not answer now.", code="broker_away", retry_after_seconds=2) from None
            partitions = [
                {
                    "topic": topic,
                    "partition": part,
                    "end_offset": end,
                    "applied_offset": live.progress.applied.get((topic, part), 0),
                    "indexed_offset": live.progress.indexed.get((topic, part), 0),
                }
                for (topic, part), end in sorted(board.ends.items())
            ]
            body = {"caught_up": behind == 0, "behind": behind, "partitions": partitions}
            return Answered(body, "progress", audited=False)

        return await door.query(request, Permission.OPS_READ, read)

    @routes.get("/lags", summary="How far each consumer group is behind, in events and in seconds")
    async def get_lags(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            sampled_at = board.sampled_at.isoformat() if board.sampled_at is not None else None
            body = {"sampled_at": sampled_at, "groups": board.summed(), "partitions": board.rows}
            return Answered(body, "lags", audited=False)

        return await door.query(request, Permission.OPS_READ, read)


def _trace_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/traces", summary="Traces of one stay, or the newest")
    async def list_traces(request: Request, encounter_id: UUID | None = None) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            traces = await actions.list_traces(tx.conn, encounter_id, page.limit)
            return Answered({"traces": traces}, "encounter", encounter_id, audited=encounter_id is not None)

        return await door.query(request, Permission.OPS_READ, read)

    @routes.get("/traces/{trace_id}", summary="One trace as a waterfall")
    async def get_trace(request: Request, trace_id: str) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            if TRACE_ID.fullmatch(trace_id) is None:
                raise BadRequest("A trace id is 32 hexadecimal digits.", code="bad_trace_id")
            found = await actions.get_trace(tx.conn, trace_id)
            if found is None:
                raise NotFound("There is no such trace, or it is older than a day.")
            return Answered(found, "trace", trace_id, audited=False)

        return await door.query(request, Permission.OPS_READ, read)


def _journey_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/journeys/{encounter_id}", summary="Every trace of one stay")
    async def get_journey(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            traces = await actions.get_journey_traces(tx.conn, encounter_id)
            return Answered({"encounter_id": str(encounter_id), "traces": traces}, "encounter", encounter_id)

        return await door.query(request, Permission.OPS_READ, read)

    @routes.get("/journeys/{encounter_id}/events", summary="Every event of one stay, where it lies and what caused it")
    async def get_journey_events(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            events = await actions.get_journey_events(tx.conn, encounter_id)
            return Answered({"encounter_id": str(encounter_id), "events": events}, "encounter", encounter_id)

        return await door.query(request, Permission.OPS_READ, read)


# ---- the receiver of traces -----------------------------------------------------------------------------------------


class _WrongMethod(Problem):
    status = 405
    code = "http_405"


class TraceIntake:
    """Takes OTLP exports before gates and tracing see them: a traced receiver would trace itself for ever.

    Only processes of this machine may send, directly and not through the front door; others need the shared token.
    """

    def __init__(self, app: ASGIApp, keeper: SpanKeeper, token: SecretStr) -> None:
        self._app = app
        self._keeper = keeper
        self._token = token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take an export, or hand anything else on."""
        if scope["type"] != "http" or scope["path"] != INTAKE_PATH:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._take(scope, receive)
        except Problem as problem:
            response = problem_response(problem)
        await response(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            raise _WrongMethod("Traces are sent by POST.")
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self._check_sender(scope, headers)
        if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/x-protobuf":
            raise UnsupportedMediaType("Send application/x-protobuf.", code="not_protobuf")
        payload = _unpacked(await _body(receive), headers.get(b"content-encoding", b""))
        self._keeper.take(list(read_spans(payload)))
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf")

    def _check_sender(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        shown = headers.get(b"x-wardstream-intake", b"")
        if self._token and hmac.compare_digest(shown, self._token):
            return
        client: Any = scope.get("client")
        here = client is not None and client[0] in _LOOPBACK and not _FORWARDED & headers.keys()
        if not here:
            raise Forbidden("Traces are taken from this machine only, or with the shared token.", code="not_from_here")


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The sender hung up.", code="hung_up")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > INTAKE_BYTES_MAX:
            raise PayloadTooLarge("The export is larger than 4 MiB.")
        if not message.get("more_body", False):
            return b"".join(chunks)


def _unpacked(body: bytes, encoding: bytes) -> bytes:
    if encoding in (b"", b"identity"):
        return body
    if encoding != b"gzip":
        raise UnsupportedMediaType("Send it plain or with gzip.", code="unknown_encoding")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            payload = packed.read(INTAKE_BYTES_MAX + 1)
    except (OSError, EOFError):
        raise BadRequest("The gzip is broken.", code="bad_gzip") from None
    if len(payload) > INTAKE_BYTES_MAX:
        raise PayloadTooLarge("The export is larger than 4 MiB.")
    return payload
