"""What the three parties share: a truth that survives, letters signed both ways, faults on demand, a door for the operator.

A letter is handled in one transaction of the truth, without any await, so that letters are handled one after the other.
"""

import asyncio
import hmac
import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_never
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from infra.simulators.faults import Fault, Faults
from infra.simulators.settings import SimulatorSettings
from services.billing.outside import wire
from shared.money import fen_from_decimal_text

LETTER_BYTES_MAX = 4 * 1024 * 1024
NONCES_KEPT_SECONDS = 2 * wire.AGE_SECONDS_MAX
_FOREIGN_KEY = b"the key of somebody else entirely"

_NONCES = """
CREATE TABLE IF NOT EXISTS nonce (nonce TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
"""


F = TypeVar("F", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the party answers."""

    status: int
    body: dict[str, Any]


class Refused(Exception):
    """The party says no; nothing was changed."""

    def __init__(self, code: str, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.status = status


@dataclass(frozen=True, slots=True)
class Letter:
    """A request that is truly from our customer."""

    nonce: str
    body: dict[str, Any]


class Silence(Response):
    """Nothing at all, until the one who asked gives up, or for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds or None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            await Dropped()(scope, receive, send)


class Dropped(Response):
    """An answer that is announced, and a connection that ends before it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})


def refusal(refused: Refused) -> Reply:
    """Return how channel and receipt office say no."""
    return Reply(refused.status, {"code": refused.code, "message": refused.why})


class Party:
    """One simulated party: its app, its truth, its plan of faults.

    Args:
        settings: where it listens and what it knows us by.
        schema: statements that make its tables when they are not there.
        believes: reads everything it believes, for the operator.
        says_no: how it says no.
        lifespan: what runs beside the doors.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        schema: str,
        believes: Callable[[], dict[str, Any]],
        says_no: Callable[[Refused], Reply] = refusal,
        lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        self.settings = settings
        self.truth = open_truth(settings.state_file, schema + _NONCES)
        self.faults = Faults()
        self._key = settings.key.get_secret_value().encode()
        self._says_no = says_no
        self.app = FastAPI(
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            lifespan=lifespan,
            telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        )
        self.app.include_router(self._health())
        self.admin = APIRouter(prefix="/admin", dependencies=[Depends(self._is_operator)])
        self._operator_doors(believes)

    # ---- the operator ------------------------------------------------------------------------------------------------

    async def _is_operator(self, request: Request) -> None:
        expected = f"Bearer {self.settings.admin_token.get_secret_value()}"
        if not hmac.compare_digest(expected.encode(), request.headers.get("authorization", "").encode()):
            raise HTTPException(401)

    def _operator_doors(self, believes: Callable[[], dict[str, Any]]) -> None:
        @self.admin.get("/truth")
        async def truth() -> dict[str, Any]:
            return believes()

        @self.admin.post("/faults", status_code=204)
        async def plan(fault: Fault) -> None:
            self.faults.add(fault)

        @self.admin.delete("/faults", status_code=204)
        async def behave() -> None:
            self.faults.clear()

    def _health(self) -> APIRouter:
        router = APIRouter()

        @router.get("/live")
        @router.get("/ready")
        async def ready() -> dict[str, bool]:
            return {"ready": True}

        return router

    # ---- letters -----------------------------------------------------------------------------------------------------

    async def receive(self, request: Request) -> Letter:
        """Return a letter that is signed by our customer, recent, and was not seen before.

        Raises:
            HTTPException: it is not (401), or it cannot be read (400, 413); unsigned, because nobody is known to answer to.
        """
        body = await _body_of(request)
        try:
            subject = f"{request.method} {request.url.path}"
            nonce = wire.verify(self._key, "request", self.settings.key_id, subject, request.headers, body)
        except wire.Forged:
            raise HTTPException(401) from None
        now = datetime.now(UTC).timestamp()
        with self.truth:
            self.truth.execute("DELETE FROM nonce WHERE at < ?", (now - NONCES_KEPT_SECONDS,))
            if self.truth.execute("INSERT OR IGNORE INTO nonce VALUES (?, ?)", (nonce, now)).rowcount == 0:
                raise HTTPException(401)
        try:
            content = wire.read_json(body) if body else {}
        except ValueError:
            raise HTTPException(400) from None
        if not isinstance(content, dict):
            raise HTTPException(400)
        return Letter(nonce, content)

    async def answer(self, letter: Letter, operation: str, act: Callable[[], dict[str, Any]]) -> Response:
        """Do what the letter asks and answer it, or misbehave as planned."""
        fault = self.faults.take(operation)
        if fault is None:
            return self._signed(letter, self._do(act))
        match fault.fault:
            case "error":
                return Response(status_code=500)
            case "silent_before":
                return Silence(fault.seconds)
            case "late":
                reply = self._do(act)
                await asyncio.sleep(fault.seconds)
                return self._signed(letter, reply)
            case "timeout_after_success":
                self._do(act)
                return Silence(fault.seconds)
            case "drop":
                self._do(act)
                return Dropped()
            case "duplicate":
                self._do(act)
                return self._signed(letter, self._do(act))
            case "contradict":
                reply = self._do(act)
                if fault.how == "refused":
                    return self._signed(letter, self._says_no(Refused("9999", "This is not true: it was done.")))
                return self._signed(letter, Reply(reply.status, one_fen_more(reply.body, fault.how)))
            case "forged":
                return self._signed(letter, self._do(act), key=_FOREIGN_KEY)
            case unknown:
                assert_never(unknown)

    def _do(self, act: Callable[[], dict[str, Any]]) -> Reply:
        try:
            with self.truth:
                return Reply(200, act())
        except Refused as refused:
            return self._says_no(refused)

    def _signed(self, letter: Letter, reply: Reply, key: bytes | None = None) -> Response:
        content = wire.write_json(reply.body)
        headers = wire.sign(
            key or self._key, "answer", self.settings.key_id, str(reply.status), content, nonce=letter.nonce
        )
        return Response(content, reply.status, headers, "application/json")

    def signed_notice(self, body: dict[str, Any], *, forged: bool = False) -> tuple[dict[str, str], bytes]:
        """Return headers and bytes of a notice to our customer."""
        content = wire.write_json(body)
        key = _FOREIGN_KEY if forged else self._key
        return wire.sign(key, "notice", self.settings.key_id, "", content), content

    # ---- the rest ----------------------------------------------------------------------------------------------------

    def day_of(self, at: str) -> date:
        """Return the business day of an instant in the truth."""
        return datetime.fromisoformat(at).astimezone(ZoneInfo(self.settings.hospital_zone)).date()

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return what a query finds."""
        return [dict(row) for row in self.truth.execute(statement, values)]

    def row(self, statement: str, *values: object) -> dict[str, Any] | None:
        """Return the first row a query finds."""
        found = self.truth.execute(statement, values).fetchone()
        return None if found is None else dict(found)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self.app.include_router(self.admin)
        uvicorn.run(
            self.app,
            host=self.settings.host,
            port=self.settings.port,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LETTER_BYTES_MAX:
            raise HTTPException(413)
    return bytes(body)


def open_truth(file: Path, schema: str) -> sqlite3.Connection:
    """Open the truth, made when absent; what a transaction wrote is there after a kill."""
    truth = sqlite3.connect(file, isolation_level="IMMEDIATE")
    truth.row_factory = sqlite3.Row
    truth.execute("PRAGMA journal_mode = WAL")
    truth.execute("PRAGMA foreign_keys = ON")
    truth.executescript(schema)
    return truth


_SUMS = frozenset({"medfee_sumamt", "psn_part_amt", "psn_cash_pay", "payer_sumamt", "payer_total", "refund", "amount"})
_PARTS = frozenset({"fund_pay_sumamt", "payments_total"})


def one_fen_more(answer: Any, how: Literal["amount", "parts"] = "amount") -> Any:
    """Return an answer that speaks of a fen more: of another sum, told without a slip, or of parts that are not the sum."""
    names = _SUMS if how == "amount" else _PARTS

    def changed(value: Any, name: str) -> Any:
        match value:
            case dict():
                return {key: changed(below, key) for key, below in value.items()}
            case list():
                return [changed(below, "") for below in value]
            case int() if name in names:
                return value + 1
            case str() if name in names:
                return wire.decimal_text(fen_from_decimal_text(value) + 1)
            case _:
                return value

    return changed(answer, "")


def now_text() -> str:
    """Return now as it stands in the truth."""
    return datetime.now(UTC).isoformat()


def text_of(given: Any, name: str) -> str:
    """Return a text that must be there.

    Raises:
        Refused: it is not.
    """
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, str) or not 1 <= len(value) <= 512:
        raise Refused("-1", f"{name} is missing.")
    return value


def read(form: type[F], letter: Letter) -> F:
    """Return what a letter asks in the form it must have.

    Raises:
        Refused: it has another.
    """
    try:
        return form.model_validate(letter.body)
    except ValidationError:
        raise Refused("PARAM_ERROR", "This letter is not complete, or wrong.") from None


def json_text(value: object) -> str:
    """Return JSON in one spelling, to compare letters by."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
