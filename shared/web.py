"""The door of every service: who is asking, may they, once only, and every refusal as a problem document.

Gate      before anything is read: size, JSON, depth, load, token (ASGI middleware)
Door      one command = one transaction with its idempotency key, audit row and events; one query = one audited read
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
import orjson
import structlog
from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import telemetry
from shared.access.actor import Actor
from shared.access.policy import MATRIX, Permission, require, scope_of
from shared.access.policy import Scope as Reach
from shared.access.roles import Role
from shared.access.tokens import TokenVerifier
from shared.commands import Acted, Ahead, Command, Known, Together, do_alone
from shared.contracts.envelope import Instant, Source
from shared.db import CONTENTION, RETRYABLE, AuditRow, Connection, Database, Transaction
from shared.errors import (
    BadRequest,
    Forbidden,
    Invalid,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    Problem,
    Refused,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from shared.messaging import outbox

log = structlog.get_logger()

BODY_BYTES_MAX = 1_048_576
JSON_DEPTH_MAX = 32
REQUESTS_IN_FLIGHT_MAX = 256
STREAMS_OPEN_MAX = 800
"""Boards that stay open are no load while nothing happens; they have a limit of their own."""
CONTENTION_TRIES = 6
WAIT_SECONDS_MAX = 30.0
PAGE_MAX = 200

PROBLEM_JSON = "application/problem+json"
_TITLES = {
    400: "The request cannot be read",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Refused",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Not JSON",
    422: "Not valid",
    428: "Version needed",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
}
_ADDRESS_WRONG = {404: "There is nothing at this address.", 405: "This address takes another method."}
_KEY_FORM = re.compile(r"^[A-Za-z0-9_.:/+=-]{8,200}$")


class NotYet(Refused):
    """Refused now, but the fact it waits for may arrive any moment; `Prefer: wait=N` waits for it (RFC 7240)."""

    code = "not_yet"

    def __init__(self, detail: str, *, code: str, wait_for: UUID) -> None:
        super().__init__(detail, code=code, retry_after_seconds=1)
        self.wait_for = str(wait_for)


def problem_response(problem: Problem, *, errors: Sequence[dict[str, str]] = ()) -> Response:
    """Return the RFC 9457 document of a problem; it never repeats what was sent."""
    span = trace.get_current_span().get_span_context()
    document: dict[str, object] = {
        "type": f"urn:wardstream:problem:{problem.code}",
        "title": _TITLES.get(problem.status, "Problem"),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "trace_id": f"{span.trace_id:032x}" if span.is_valid else None,
    }
    if problem.facts:
        document["facts"] = problem.facts
    if errors:
        document["errors"] = list(errors)
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(problem.retry_after_seconds)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(document, default=str), problem.status, headers, PROBLEM_JSON)


class ProblemDocument(BaseModel):
    """RFC 9457, for the interface documents."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    trace_id: str | None = None


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDocument, "description": _TITLES[status]} for status in (400, 401, 403, 404, 409, 422, 503)
}


def json_depth(body: bytes) -> int:
    """Return how deep the brackets of a JSON text nest, without parsing it."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in body:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


class Gate:
    """Refuses what no handler should see, and names who is asking in `scope["state"]["actor"]`."""

    def __init__(self, app: ASGIApp, *, verifier: TokenVerifier, public: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._verifier = verifier
        self._public = public
        self._in_flight = 0
        self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then hand it on with its body already read."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        is_stream = scope["path"].endswith("/stream")
        if self._streams >= STREAMS_OPEN_MAX if is_stream else self._in_flight >= REQUESTS_IN_FLIGHT_MAX:
            busy = Unavailable("The service is busy; repeat with the same key.", code="busy", retry_after_seconds=1)
            await problem_response(busy)(scope, receive, send)
            return
        self._in_flight += not is_stream
        self._streams += is_stream
        try:
            headers = dict(scope["headers"])
            if scope["path"] not in self._public:
                scope.setdefault("state", {})["actor"] = await self._who(headers)
            receive = await self._checked_body(scope, headers, receive)
            await self._app(scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        finally:
            self._in_flight -= not is_stream
            self._streams -= is_stream

    async def _who(self, headers: MutableMapping[bytes, bytes]) -> Actor:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A bearer token is needed.", code="token_missing")
        return await self._verifier.verify(token)

    @staticmethod
    async def _checked_body(scope: Scope, headers: MutableMapping[bytes, bytes], receive: Receive) -> Receive:
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive
        too_large = PayloadTooLarge("The body is larger than 1 MiB.")
        if int(headers.get(b"content-length", b"0") or 0) > BODY_BYTES_MAX:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return receive
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > BODY_BYTES_MAX:
                raise too_large
            more = message.get("more_body", False)
        body = b"".join(chunks)
        if body:
            media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
            if media_type != b"application/json":
                raise UnsupportedMediaType("Send application/json.")
            if body.count(b"{") + body.count(b"[") > JSON_DEPTH_MAX and json_depth(body) > JSON_DEPTH_MAX:
                raise BadRequest("The JSON nests too deep.", code="json_too_deep")
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return replay


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of this app a problem document that never echoes input (FastAPI's own 422 would)."""

    @app.exception_handler(Problem)
    async def on_problem(_request: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(item["type"] == "json_invalid" for item in found):
            return problem_response(_not_json())
        errors = [{"pointer": _pointer(item["loc"], item["type"]), "problem": item["type"]} for item in found[:20]]
        return problem_response(
            Invalid("Some fields are missing, unknown or wrong.", code="invalid_fields"), errors=errors
        )

    @app.exception_handler(asyncpg.CharacterNotInRepertoireError)
    @app.exception_handler(asyncpg.UntranslatableCharacterError)
    async def on_unstorable(_request: Request, _error: Exception) -> Response:
        # A zero byte is a character to JSON and to addresses, but not to PostgreSQL.
        return problem_response(Invalid("Some text contains a character that is none.", code="invalid_fields"))

    @app.exception_handler(HTTPException)
    async def on_http(_request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # FastAPI's word for a body that is no UTF-8, or a number too long to be read
            return problem_response(_not_json())
        problem = Problem(
            _ADDRESS_WRONG.get(error.status_code, "The request cannot be served."), code=f"http_{error.status_code}"
        )
        response = problem_response(problem)
        document = orjson.loads(response.body)
        document["status"], document["title"] = error.status_code, _TITLES.get(error.status_code, "Problem")
        headers = {"Cache-Control": "no-store", **(error.headers or {})}
        return Response(orjson.dumps(document), error.status_code, headers, PROBLEM_JSON)

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> Response:
        log.error("request_failed", route=_route_of(request), error=type(error).__name__, exc_info=error)
        return problem_response(
            Problem("Something went wrong here; nothing was changed by a request without an answer you saw.")
        )


def _not_json() -> BadRequest:
    return BadRequest("The body is not JSON.", code="not_json")


def _pointer(location: Sequence[str | int], problem: str) -> str:
    # Unknown fields are named by the caller: say that there is one, not what it is called.
    if problem == "extra_forbidden":
        location = location[:-1]
    return "/" + "/".join(
        str(part) for part in location if isinstance(part, int) or re.fullmatch(r"[a-z_]{1,40}", str(part))
    )


def _route_of(request: Request) -> str:
    route = request.scope.get("route")
    return f"{request.method} {getattr(route, 'path', 'unknown')}"


class Body(BaseModel):
    """The body of a command: unknown fields are refused, so that a typing error never silently loses a fact."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


def _written_out(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise ValueError("An instant is written out; a number would be read as seconds since 1970.")


Moment = Annotated[Instant, BeforeValidator(_written_out)]
"""An instant as people send it: RFC 3339 with its offset, never a number."""

RowId = Annotated[int, Path(ge=1, le=2**63 - 1)]
"""The number of a row in an address."""


class FactBody(Body):
    """A body that records a fact; the past may be recorded only with a source that says so."""

    source: Source = "live"
    occurred_at: Annotated[
        Moment | None, Field(description="When it happened; only with source import or downtime.")
    ] = None

    @model_validator(mode="after")
    def _past_needs_a_source(self) -> Self:
        if (self.source != "live") != (self.occurred_at is not None):
            raise ValueError("occurred_at goes with source import or downtime, and live goes without.")
        return self


@dataclass(slots=True)
class Caller:
    """Who is asking, for checks that need the object's ward; remembers the role that allowed it, for the audit."""

    actor: Actor
    role: Role | None = None

    def require(self, permission: Permission, *, ward: str | None = None) -> Role:
        """Return the role that allows this here, or refuse (S1)."""
        self.role = require(self.actor, permission, ward=ward)
        return self.role

    def require_somewhere(self, permission: Permission) -> None:
        """Refuse when no role of the actor holds this anywhere; where exactly is asked once the ward is known."""
        self.role = next((role for role in MATRIX if role in self.actor.roles and permission in MATRIX[role]), None)
        if self.role is None:
            require(self.actor, permission)

    def requiring(self, permission: Permission) -> Callable[[str | None], Role]:
        """Return `require` of this permission as a function of the ward, for actions that learn the ward when they lock."""
        return lambda ward: self.require(permission, ward=ward)

    def scope_of(self, permission: Permission) -> Reach:
        """Return the wards in which this is allowed."""
        return scope_of(self.actor, permission)

    @property
    def said_role(self) -> str:
        """Return the role for the audit row; of a refused one all roles."""
        return self.role.value if self.role else ",".join(sorted(role.value for role in self.actor.roles))


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of a command or query: what to tell, and what to write into the audit."""

    body: Any
    object_type: str
    object_id: object = None
    patient_tok: UUID | None = None
    status: int = 200
    etag: int | None = None
    purpose: str | None = None
    audited: bool = True
    location: str | None = None


Action = Callable[[Transaction, Caller], Awaitable[Answered]]


def if_match(request: Request) -> int:
    """Return the version the caller read.

    Raises:
        PreconditionRequired: no If-Match. BadRequest: not one of our tags.
    """
    tag = request.headers.get("if-match")
    if tag is None:
        raise PreconditionRequired("Send If-Match with the ETag you read.")
    found = re.fullmatch(r'(?:W/)?"(\d{1,18})"', tag.strip())
    if found is None:
        raise BadRequest("If-Match is not an ETag of ours.", code="bad_if_match")
    return int(found.group(1))


def check_version(expected: int, actual: int) -> None:
    """Refuse when somebody else changed the thing since it was read (412)."""
    if expected != actual:
        raise PreconditionFailed("Somebody changed this since you read it; read it again.")


def wait_seconds_of(request: Request) -> float:
    """Return how long the caller prefers to wait for a fact that may arrive any moment (`Prefer: wait=N`)."""
    found = re.search(r"(?:^|,)\s*wait=(\d{1,3})(?:\s*(?:,|;|$))", request.headers.get("prefer", ""))
    return min(float(found.group(1)), WAIT_SECONDS_MAX) if found else 0.0


class Door:
    """Runs commands and queries of one service, each in one transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._together: dict[Callable[..., Any], Together] = {}

    @property
    def db(self) -> Database:
        """The service's database, for the few doors that are neither command nor query, such as the login."""
        return self._db

    async def command(
        self,
        request: Request,
        permission: Permission,
        action: Action,
        *,
        body: BaseModel | None = None,
        ahead: Ahead | None = None,
    ) -> Response:
        """Do `action` once for this Idempotency-Key, with its events and audit row, or change nothing (R1, R2, R3).

        Commands that begin with one statement that serves many (`ahead`) share a commit with others of their kind that come
        at the same time; its answer is `tx.ahead`.

        Raises:
            Problem: the refusal; the transaction was rolled back. Unavailable: not known or not possible now; the same
                key is safe to repeat.
        """
        actor: Actor = request.state.actor
        key = request.headers.get("idempotency-key")
        if key is None:
            raise BadRequest("Send an Idempotency-Key.", code="idempotency_key_missing")
        if not _KEY_FORM.match(key):
            raise BadRequest("The Idempotency-Key has a form we do not take.", code="idempotency_key_bad")
        caller = Caller(actor)
        await self._require_anywhere(request, caller, permission)
        try:
            occurred_at, source = _fact_time(body, caller)
        except Forbidden:
            await self._audit_denial(request, actor, Permission.FACTS_IMPORT)
            raise
        command = self._command(request, caller, action, key, body, occurred_at, source, ahead)
        deadline = asyncio.get_running_loop().time() + wait_seconds_of(request)
        tries = 0
        while True:
            try:
                together = None if ahead is None else await self._together_of(ahead).do(command)
                done = together or await do_alone(self._db, command)
                if isinstance(done, Known):
                    return _stored_answer(done, _body_hash(request, body))
                telemetry.name_encounter(done.tx.correlation_id)
                answered: Answered = done.answered
                return _response(answered.status, done.content, answered.etag, answered.location, repeated=False)
            except NotYet as not_yet:
                await self._wait_for(not_yet, deadline)
            except _RACES as error:
                if isinstance(error, asyncpg.UniqueViolationError) and error.table_name not in ("idem", "outbox"):
                    raise
                tries = await _again_or_give_up(tries, error)
            except Forbidden:
                await self._audit_denial(request, actor, permission)
                raise
            except RETRYABLE as error:
                tries = await _again_or_give_up(tries + 2, error)

    def _command(
        self,
        request: Request,
        caller: Caller,
        action: Action,
        key: str,
        body: BaseModel | None,
        occurred_at: datetime | None,
        source: str,
        ahead: Ahead | None,
    ) -> Command:
        route, body_hash, traceparent = _route_of(request), _body_hash(request, body), telemetry.current_traceparent()
        actor_id = caller.actor.user_id

        async def act(conn: Connection, at: datetime, answer_ahead: Any) -> Acted:
            tx = Transaction(
                conn=conn, now=at, actor=actor_id, source=source, traceparent=traceparent, ahead=answer_ahead
            )
            answered = await action(tx, caller)
            tx.role = caller.said_role
            tx.audits.append(_audit_row(route, answered))
            content = _json(answered.body)
            remembered = _remember(answered, content)
            answer = outbox.Answer(actor_id, key, route, body_hash, answered.status, remembered)
            return Acted(tx, answer, answered, content)

        def happens_at(now: datetime) -> datetime:
            return occurred_at or self._db.clock.stamp(now)

        return Command(actor_id, key, happens_at, act, ahead)

    def _together_of(self, ahead: Ahead) -> Together:
        return self._together.setdefault(ahead.run, Together(self._db))

    async def query(self, request: Request, permission: Permission, read: Action) -> Response:
        """Read, and write who read what of whom into the audit before the answer leaves (S3)."""
        caller = Caller(request.state.actor)
        await self._require_anywhere(request, caller, permission)
        deadline = asyncio.get_running_loop().time() + wait_seconds_of(request)
        tries = 0
        while True:
            try:
                async with self._db.pool.acquire(timeout=10) as conn, conn.transaction():
                    now = self._db.clock.stamp(await conn.fetchval("SELECT clock_timestamp()"))
                    tx = Transaction(conn=conn, now=now, actor=caller.actor.user_id)
                    answered = await read(tx, caller)
                    if answered.audited:
                        tx.role = caller.said_role
                        tx.audits.append(_audit_row(_route_of(request), answered))
                        await outbox.flush(tx)
                return _response(
                    answered.status, _json(answered.body), answered.etag, answered.location, repeated=False
                )
            except NotYet as not_yet:
                await self._wait_for(not_yet, deadline)
            except Forbidden:
                await self._audit_denial(request, caller.actor, permission)
                raise
            except RETRYABLE as error:
                tries = await _again_or_give_up(tries + 2, error)

    async def _require_anywhere(self, request: Request, caller: Caller, permission: Permission) -> None:
        try:
            caller.require_somewhere(permission)
        except Forbidden:
            await self._audit_denial(request, caller.actor, permission)
            raise

    async def _audit_denial(self, request: Request, actor: Actor, permission: Permission) -> None:
        async with self._db.pool.acquire(timeout=10) as conn, conn.transaction():
            tx = Transaction(conn=conn, now=await conn.fetchval("SELECT clock_timestamp()"), actor=actor.user_id)
            tx.role = ",".join(sorted(role.value for role in actor.roles))
            tx.audits.append(AuditRow(_route_of(request), "permission", permission.value, outcome="denied"))
            await outbox.flush(tx)

    async def _wait_for(self, not_yet: NotYet, deadline: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise not_yet
        async with self._db.signals.listening(not_yet.wait_for) as told:
            # Another replica may consume the fact: look again after half a second even if nobody tells.
            try:
                await asyncio.wait_for(told.wait(), min(left, 0.5))
            except TimeoutError:
                return


_RACES: tuple[type[BaseException], ...] = (asyncpg.UniqueViolationError, *CONTENTION)


def _body_hash(request: Request, body: BaseModel | None) -> bytes:
    text = b"" if body is None else body.model_dump_json().encode()
    return hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + text).digest()[:16]


def _fact_time(body: BaseModel | None, caller: Caller) -> tuple[datetime | None, str]:
    if not isinstance(body, FactBody) or body.occurred_at is None:
        return None, "live"
    caller.require(Permission.FACTS_IMPORT)
    return body.occurred_at, body.source


def _audit_row(route: str, answered: Answered) -> AuditRow:
    object_id = None if answered.object_id is None else str(answered.object_id)
    return AuditRow(route, answered.object_type, object_id, answered.patient_tok, answered.purpose)


def _json(body: object) -> bytes:
    return orjson.dumps(body, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, UUID):  # asyncpg's own subclass, which orjson does not know
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form.")


def _remember(answered: Answered, content: bytes) -> str:
    return orjson.dumps({"etag": answered.etag, "location": answered.location}).decode() + "\n" + content.decode()


def _stored_answer(known: Known, body_hash: bytes) -> Response:
    if known.body_hash != body_hash:
        raise Invalid("This Idempotency-Key was used for another request.", code="idempotency_key_reused")
    extra, _, content = known.response.partition("\n")
    kept = orjson.loads(extra)
    return _response(known.status, content.encode(), kept["etag"], kept["location"], repeated=True)


def _response(status: int, content: bytes, etag: int | None, location: str | None, *, repeated: bool) -> Response:
    headers = {"Cache-Control": "no-store"}
    if etag is not None:
        headers["ETag"] = f'W/"{etag}"'
    if location is not None:
        headers["Location"] = location
    if repeated:
        headers["Idempotency-Replayed"] = "true"
    return Response(content, status, headers, "application/json")


async def _again_or_give_up(tries: int, error: BaseException) -> int:
    if tries >= CONTENTION_TRIES:
        log.warning("request_gave_up", error=type(error).__name__)
        raise Unavailable(
            "The answer is not known now; repeat with the same key.", code="try_again", retry_after_seconds=2
        ) from error
    await asyncio.sleep(random.uniform(0.005, 0.03) * (tries + 1))  # noqa: S311 - jitter, not a secret
    return tries + 1


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list goes on: rows after `after`, at most `limit` (keyset, so that new rows never shift a page)."""

    after: str | None
    limit: int


def page_of(request: Request) -> Page:
    """Return the page asked for by `?after=…&limit=…`.

    Raises:
        BadRequest: the limit is no number from 1 to 200, or the cursor has a form we never gave.
    """
    limit = request.query_params.get("limit", "50")
    after = request.query_params.get("after")
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= PAGE_MAX:
        raise BadRequest("limit is a number from 1 to 200.", code="bad_limit")
    if after is not None and not re.fullmatch(r"[A-Za-z0-9_.:|-]{1,80}", after):
        raise BadRequest("after is no cursor of ours.", code="bad_cursor")
    return Page(after, int(limit))


def next_link(request: Request, cursor: str | None) -> str | None:
    """Return the address of the next page, relative to the origin."""
    return None if cursor is None else f"{request.url.path}?{request.url.include_query_params(after=cursor).query}"
