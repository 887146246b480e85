"""The simulated parties as real processes on loopback, billing's adapters to them, and a desk that takes notices."""

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from infra.local.ports import free_port
from infra.local.probes import http_status
from infra.local.processes import spawn
from infra.local.services import simulator_command
from services.billing.outside.calls import Caller, Party
from services.billing.outside.channel import SignedChannel
from services.billing.outside.insurance import NationalInsurance
from services.billing.outside.receipts import ReceiptOffice

HOSPITAL, MERCHANT = "H37010000001", "1900000001"
KEY, TOKEN = "a key for tests only, long enough", "a token for tests only"
PATIENCE_SECONDS = 1.5
"""How long the adapters of these tests wait for an answer."""


@dataclass
class Simulator:
    """A simulated party as a process of its own, and its operator's door."""

    name: str
    home: Path
    key_id: str
    port: int = 0
    process: Popen[bytes] | None = None
    more: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_file(self) -> Path:
        return self.home / f"{self.name}.sqlite"

    def start(self) -> None:
        self.port = self.port or free_port(self.home / self.name)
        environment = {
            "WARDSTREAM_SIM_PORT": str(self.port),
            "WARDSTREAM_SIM_STATE_FILE": str(self.state_file),
            "WARDSTREAM_SIM_ADMIN_TOKEN": TOKEN,
            "WARDSTREAM_SIM_KEY_ID": self.key_id,
            "WARDSTREAM_SIM_KEY": KEY,
            **self.more,
        }
        log = self.home / f"{self.name}.log"
        self.process = spawn(simulator_command(self.name), log=log, env=environment)
        until = time.monotonic() + 30
        while http_status(self.port, "/ready") != 200:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < until, "it never became ready"
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def operate(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> httpx2.Response:
        with httpx2.Client(trust_env=False, timeout=10) as client:
            headers = {"Authorization": f"Bearer {token}"}
            return client.request(method, f"{self.url}/admin{path}", json=body, headers=headers)

    def plan(self, operation: str, fault: str, **more: Any) -> None:
        answer = self.operate("POST", "/faults", {"operation": operation, "fault": fault, **more})
        assert answer.status_code == 204, answer.text

    def behave(self) -> None:
        assert self.operate("DELETE", "/faults").status_code == 204

    def truth(self) -> dict[str, Any]:
        found: dict[str, Any] = self.operate("GET", "/truth").json()
        return found

    def change_truth(self, statement: str) -> None:
        """Let time pass, or whatever else only the party itself could do."""
        with closing(sqlite3.connect(self.state_file)) as truth, truth:
            truth.execute(statement)

    def party(self, *, key: str = KEY, seconds: float = PATIENCE_SECONDS) -> Party:
        return Party(self.name, self.url, self.key_id, key.encode(), seconds)


@contextmanager
def running(simulator: Simulator) -> Iterator[Simulator]:
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.kill()


@pytest.fixture(scope="module")
def fund_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with running(Simulator("insurance", tmp_path_factory.mktemp("fund"), HOSPITAL)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def channel_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    quick = {"WARDSTREAM_SIM_SPEED": "100", "WARDSTREAM_SIM_REFUND_SECONDS": "30"}
    with running(Simulator("channel", tmp_path_factory.mktemp("channel"), MERCHANT, more=quick)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def office_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with running(Simulator("receipts", tmp_path_factory.mktemp("office"), HOSPITAL)) as simulator:
        yield simulator


@pytest_asyncio.fixture
async def fund(fund_server: Simulator) -> AsyncIterator[NationalInsurance]:
    fund_server.behave()
    adapter = NationalInsurance(Caller(fund_server.party()), area="370100")
    yield adapter
    fund_server.behave()
    await adapter.close()


@pytest_asyncio.fixture
async def channel(channel_server: Simulator, desk: "Desk") -> AsyncIterator[SignedChannel]:
    channel_server.behave()
    adapter = SignedChannel(Caller(channel_server.party()), notify_url=desk.url)
    yield adapter
    channel_server.behave()
    await adapter.close()


@pytest_asyncio.fixture
async def office(office_server: Simulator) -> AsyncIterator[ReceiptOffice]:
    office_server.behave()
    adapter = ReceiptOffice(Caller(office_server.party()))
    yield adapter
    office_server.behave()
    await adapter.close()


@dataclass
class Desk:
    """Takes notices and keeps them; answers 500 to the first `busy` of them."""

    url: str = ""
    busy: int = 0
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def wait_for(self, count: int, seconds: float = 10) -> list[tuple[dict[str, str], bytes]]:
        until = time.monotonic() + seconds
        while len(self.heard) < count:
            assert time.monotonic() < until, f"{len(self.heard)} of {count} notices came"
            time.sleep(0.02)
        return self.heard


@pytest.fixture
def desk() -> Iterator[Desk]:
    found = Desk()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.heard.append((dict(self.headers.items()), body))
            self.send_response(500 if len(found.heard) <= found.busy else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/api/billing/channel/notices"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def a_number(kind: str = "") -> str:
    """Return a number nobody used before."""
    return f"{kind}{uuid4().hex}"
