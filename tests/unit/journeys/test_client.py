"""The client repeats what is safe to repeat, with the same key, and takes no for an answer. Against real sockets that misbehave."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from infra.journeys import client as client_module
from infra.journeys.client import Client, Declined, Login, Unreachable

pytestmark = pytest.mark.asyncio

CUT = b""
"""The line is cut before any answer."""


def an_answer(status: int, body: Any = None, *headers: str, chunked: bool = False) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Word", "Content-Type: application/json", *headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        half = len(content) // 2
        content = (
            b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:half], content[half:])) + b"0\r\n\r\n"
        )
    else:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def a_problem(status: int, code: str, *headers: str) -> bytes:
    return an_answer(status, {"status": status, "code": code, "detail": "A sentence."}, *headers)


DONE = an_answer(201, {"done": True})
NOT_YET = a_problem(409, "bed_not_assigned_yet", "Retry-After: 0")


class Doorman:
    """Gives the answers of a script, one per request, and notes what it was asked; the last answer is given for ever."""

    def __init__(self, script: Sequence[bytes]) -> None:
        self.script = list(script)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.url = ""
        self.serving: set[asyncio.Task[Any]] = set()

    @property
    def keys(self) -> list[str | None]:
        return [headers.get("idempotency-key") for _, headers, _ in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append((head[0], headers, body))
                answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if answer == CUT:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def leave(self) -> None:
        await asyncio.gather(*self.serving)


@pytest_asyncio.fixture
async def at_door() -> AsyncIterator[Callable[..., Awaitable[tuple[Doorman, Client]]]]:
    """Open a door with a script and a client that stands before it."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_door(*script: bytes, login: Login | None = None) -> tuple[Doorman, Client]:
            doorman = Doorman(script)
            server = await asyncio.start_server(doorman.serve, "127.0.0.1", 0)
            stack.push_async_callback(doorman.leave)
            stack.callback(server.close)
            doorman.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            client = Client(doorman.url, login)
            stack.push_async_callback(client.close)
            return doorman, client

        yield open_door


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for a third of a second only."""
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.3)


async def test_a_command_is_sent_whole_and_its_answer_read(at_door):
    doorman, client = await at_door(an_answer(200, {"a": 1}, "Idempotency-Replayed: true", chunked=True))
    answer = await client.post("billing", "/encounters/7/charges", "key-0001", {"amount_fen": 5})
    assert (answer.status, answer.body, answer.known_before) == (200, {"a": 1}, True)
    line, headers, body = doorman.asked[0]
    assert line == "POST /api/billing/encounters/7/charges HTTP/1.1"
    assert headers["prefer"] == "wait=20"
    assert json.loads(body) == {"amount_fen": 5}


async def test_requests_one_after_the_other_share_a_connection(at_door):
    doorman, client = await at_door(DONE)
    for number in range(5):
        await client.post("beds", "/x", f"key-000{number}", {})
    assert (len(doorman.asked), doorman.connections) == (5, 1)


@pytest.mark.parametrize(
    "trouble",
    [
        CUT,
        a_problem(503, "try_again", "Retry-After: 0"),
        a_problem(429, "too_many_requests"),
        a_problem(409, "in_progress", "Retry-After: 0"),
        NOT_YET,
        a_problem(500, "internal_error"),
        an_answer(502, None),
        b"HTTP/1.1 201 Word\r\nContent-Length: 99\r\n\r\n{",
        b"nonsense\r\n\r\n",
    ],
)
async def test_trouble_is_met_with_the_same_request_and_the_same_key(at_door, trouble: bytes, monkeypatch):
    monkeypatch.setattr(client_module, "ANSWER_SECONDS_MAX", 0.2)
    doorman, client = await at_door(trouble, trouble, DONE)
    answer = await client.post("beds", "/x", "key-0001", {"a": 1})
    assert answer.body == {"done": True}
    assert doorman.keys == ["key-0001"] * 3
    assert {body for _, _, body in doorman.asked} == {b'{"a":1}'}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (a_problem(409, "overlapping_stay"), "overlapping_stay"),
        (a_problem(422, "idempotency_key_reused"), "idempotency_key_reused"),
        (an_answer(404, {"title": "Not Found"}), "http_404"),
        (an_answer(403, None), "http_403"),
    ],
)
async def test_a_no_is_asked_only_once(at_door, answer: bytes, code: str):
    doorman, client = await at_door(answer)
    with pytest.raises(Declined) as caught:
        await client.post("beds", "/x", "key-0001", {})
    assert (caught.value.code, caught.value.not_yet, len(doorman.asked)) == (code, False, 1)


async def test_which_fields_are_wrong_is_told(at_door):
    problem = {"code": "invalid_fields", "detail": "Some fields.", "errors": [{"pointer": "/body/name"}]}
    _, client = await at_door(an_answer(422, problem))
    with pytest.raises(Declined, match=r"Some fields\. /body/name"):
        await client.post("beds", "/x", "key-0001", {})


async def test_not_yet_is_taken_for_no_when_there_is_no_patience(at_door):
    doorman, client = await at_door(NOT_YET)
    with pytest.raises(Declined) as caught:
        await client.post("beds", "/x", "key-0001", {}, patience_seconds=0)
    assert (caught.value.not_yet, len(doorman.asked)) == (True, 1)


async def test_a_bug_on_the_other_side_is_not_repeated_for_ever(at_door):
    doorman, client = await at_door(a_problem(500, "internal_error"))
    with pytest.raises(Declined, match="sentence"):
        await client.post("beds", "/x", "key-0001", {})
    assert len(doorman.asked) == 3


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("trouble", [CUT, a_problem(503, "busy", "Retry-After: 0")])
async def test_a_service_that_is_gone_is_called_gone(at_door, trouble: bytes):
    _, client = await at_door(trouble)
    with pytest.raises(Unreachable, match="beds"):
        await client.get("beds", "/quiet")


@pytest.mark.usefixtures("hasty")
async def test_a_closed_port_is_a_service_that_is_gone():
    client = Client({"beds": "http://127.0.0.1:9"})
    with pytest.raises(Unreachable):
        await client.get("beds", "/quiet")


def a_token(name: str, seconds: int) -> bytes:
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    return an_answer(200, {"token": name, "expires_at": expires_at.isoformat()})


async def test_a_token_is_fetched_once_and_used_until_shortly_before_it_ends(at_door):
    doorman, client = await at_door(a_token("first", 900), DONE, login=Login("replay", "secret"))
    await asyncio.gather(*(client.post("beds", "/x", f"key-000{n}", {}) for n in range(3)))
    assert [line.split()[1] for line, _, _ in doorman.asked] == ["/api/access/login", *["/api/beds/x"] * 3]
    assert {headers.get("authorization") for _, headers, _ in doorman.asked[1:]} == {"Bearer first"}


async def test_a_token_that_is_about_to_end_is_renewed(at_door):
    script = (a_token("first", 30), DONE, a_token("second", 900), DONE)
    doorman, client = await at_door(*script, login=Login("replay", "secret"))
    for number in range(2):
        await client.post("beds", "/x", f"key-000{number}", {})
    assert [headers.get("authorization") for _, headers, _ in doorman.asked] == [
        None,
        "Bearer first",
        None,
        "Bearer second",
    ]


async def test_a_token_that_is_refused_is_renewed_once(at_door):
    expired = a_problem(401, "token_expired")
    script = (a_token("first", 900), expired, a_token("second", 900), DONE)
    doorman, client = await at_door(*script, login=Login("replay", "secret"))
    assert (await client.post("beds", "/x", "key-0001", {})).status == 201
    assert doorman.asked[-1][1]["authorization"] == "Bearer second"
    doorman, client = await at_door(
        a_token("first", 900), expired, a_token("second", 900), expired, login=Login("a", "b")
    )
    with pytest.raises(Declined):
        await client.post("beds", "/x", "key-0001", {})


async def test_an_answer_that_comes_too_late_is_never_given_to_the_next_request(at_door, monkeypatch):
    monkeypatch.setattr(client_module, "ANSWER_SECONDS_MAX", 0.05)
    late = asyncio.Event()
    served: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        served.append(head)
        if len(served) == 1:
            await late.wait()
        with contextlib.suppress(ConnectionError):
            writer.write(an_answer(200, {"number": len(served) if late.is_set() else 0}))
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    asyncio.get_running_loop().call_later(0.2, late.set)
    answers = [(await client.get("beds", "/x")).body for _ in range(2)]
    assert len(answers) == 2
    assert all(answer["number"] != 1 for answer in answers)
    await client.close()
    server.close()
    await asyncio.sleep(0.3)


async def test_a_wrong_password_is_tried_only_once(at_door):
    doorman, client = await at_door(a_problem(401, "login_rejected"), login=Login("replay", "old"))
    with pytest.raises(Unreachable, match="The login as replay was refused"):
        await client.post("beds", "/x", "key-0001", {})
    assert len(doorman.asked) == 1
