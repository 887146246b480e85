"""One signed question to a party outside and its verified answer. Whatever the outside does, this never raises for it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import httpx2
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from services.billing.outside import wire
from services.billing.ports import Declined, Unknown, Why
from shared.money import NotAnAmount, fen_from_decimal_text

log = structlog.get_logger()

ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""More than a large hospital's statement of a day."""


def _fen(value: object) -> int:
    if isinstance(value, str) or type(value) is int:
        return fen_from_decimal_text(str(value))
    raise NotAnAmount("This is not a decimal amount.")


DecimalFen = Annotated[int, BeforeValidator(_fen)]
"""Fen read from a decimal amount (16,2), exactly."""


class Form(BaseModel):
    """The shape of an answer; what else the party says is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


F = TypeVar("F", bound=Form)


class _Refusal(Form):
    code: Annotated[str, BeforeValidator(str)]


@dataclass(frozen=True, slots=True)
class Party:
    """Where a party is and the key we share with it.

    Args:
        name: what it is called in our log.
        url: its address.
        key_id: whom it knows us as: merchant or hospital.
        key: the secret.
        timeout_seconds: how long an answer is waited for, from the first byte sent to the last one read.
    """

    name: str
    url: str
    key_id: str
    key: bytes
    timeout_seconds: float


class Caller:
    """Asks one party; safe to use from many tasks of one event loop."""

    def __init__(self, party: Party) -> None:
        self._party = party
        self._client = httpx2.AsyncClient(
            base_url=party.url, timeout=party.timeout_seconds, trust_env=False, headers={"Accept-Encoding": "identity"}
        )

    @property
    def party(self) -> Party:
        """Whom it asks."""
        return self._party

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        question: Mapping[str, Any] | None,
        form: type[F],
        holds: Callable[[F], bool] = lambda _answer: True,
    ) -> F | Declined | Unknown:
        """Return the party's signed answer, its signed refusal, or why nobody here knows (R3).

        Args:
            operation: what the log calls it; never an identifier.
            method: of HTTP.
            path: below the party's address.
            question: sent as JSON; None sends nothing.
            form: what the answer must look like.
            holds: what else must be true of it, such as that it is about what was asked.
        """
        body = b"" if question is None else wire.write_json(question)
        outcome = await self._once(method, path, body)
        if isinstance(outcome, Declined):
            return outcome
        if isinstance(outcome, Unknown):
            return self._unknown(operation, outcome.why)
        return self.read(operation, form, outcome, holds)

    def read(
        self, operation: str, form: type[F], answer: object, holds: Callable[[F], bool] = lambda _answer: True
    ) -> F | Unknown:
        """Return the answer in its form; one that says what cannot be true is unreadable, signed or not."""
        try:
            told = form.model_validate(answer)
        except ValidationError:
            return self._unknown(operation, "unreadable")
        return told if holds(told) else self._unknown(operation, "unreadable")

    def _unknown(self, operation: str, why: Why) -> Unknown:
        log.warning("outside_outcome_unknown", service=self._party.name, part=operation, reason=why)
        return Unknown(why)

    async def _once(self, method: str, path: str, body: bytes) -> Any | Declined | Unknown:
        headers = wire.sign(self._party.key, "request", self._party.key_id, f"{method} {path}", body)
        try:
            async with asyncio.timeout(self._party.timeout_seconds):
                status, given, content = await self._send(method, path, headers, body)
        except (TimeoutError, httpx2.TimeoutException):
            return Unknown("timeout")
        except httpx2.HTTPError:
            return Unknown("connection_lost")
        return self._understood(status, given, content, headers[wire.NONCE])

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes | None]:
        sent = {**headers, "Content-Type": "application/json"}
        content = bytearray()
        async with self._client.stream(method, path, content=body, headers=sent) as response:
            async for part in response.aiter_raw():
                content += part
                if len(content) > ANSWER_BYTES_MAX:
                    return response.status_code, response.headers, None
            return response.status_code, response.headers, bytes(content)

    def _understood(
        self, status: int, headers: Mapping[str, str], content: bytes | None, nonce: str
    ) -> Any | Declined | Unknown:
        why: Why = "unreadable"
        if status >= 500:
            return Unknown("server_error")
        if content is None:
            return Unknown(why)
        try:
            answered = wire.verify(self._party.key, "answer", self._party.key_id, str(status), headers, content)
        except wire.Forged:
            return Unknown("bad_signature")
        if answered != nonce:
            return Unknown("bad_signature")
        try:
            answer = wire.read_json(content)
            return answer if status < 300 else Declined(_Refusal.model_validate(answer).code)
        except ValueError:
            return Unknown(why)
