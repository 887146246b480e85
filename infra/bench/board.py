"""The bed board of 1,200 beds: how soon it is painted, how soon a change is on a hundred boards, what five hundred cost in memory."""

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil

from infra.bench.rounds import machine
from infra.cli.accounts import credential_for, log_in
from infra.cli.answers import words
from infra.journeys.client import Client, Login
from infra.local.stack import Stack

BOARDS = 100
STREAMS = 500
CHANGES = 20
PAINTS = 5
SEEN_SECONDS_MAX = 30.0
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


class _Board(asyncio.Protocol):
    """One open board: a stream of changes, of which it looks for one bed."""

    def __init__(self) -> None:
        self.seen: asyncio.Future[float] | None = None
        self.heard = asyncio.Event()
        self._wanted = b""
        self._tail = b""

    def expect(self, text: bytes) -> "asyncio.Future[float]":
        """Return the moment at which this text is on the board."""
        self.seen = asyncio.get_running_loop().create_future()
        self._wanted, self._tail = text, b""
        return self.seen

    def data_received(self, data: bytes) -> None:
        self.heard.set()
        if self.seen is None or self.seen.done():
            return
        text = self._tail + data
        if self._wanted in text:
            self.seen.set_result(time.perf_counter())
        self._tail = text[-200:]


async def _open_boards(url: str, token: str, count: int) -> list[tuple[asyncio.Transport, _Board]]:
    """Open boards and wait until each has heard something."""
    address = urlsplit(url)
    request = (
        f"GET /api/beds/board/stream HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    ).encode()
    found = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        transport, board = await loop.create_connection(_Board, address.hostname or "", address.port or 80)
        transport.write(request)
        found.append((transport, board))
    async with asyncio.timeout(SEEN_SECONDS_MAX):
        for _, board in found:
            await board.heard.wait()
    return found


class _Bench:
    """A stack of its own with the hospital of 1,200 beds, and somebody who may block beds."""

    def __init__(self, stack: Stack, client: Client, token: str) -> None:
        self.stack, self.client, self.token = stack, client, token

    async def changes(self, url: str, count: int) -> list[float]:
        """Block and unblock beds; return for each change the seconds from its answer until the last board showed it."""
        opened = await _open_boards(url, self.token, count)
        beds = [bed for bed in (await self.beds()) if bed["commitment"] == "free" and bed["service"] == "active"]
        found = []
        try:
            for bed in beds[:CHANGES]:
                seen = [board.expect(b'"code":"%b"' % bed["code"].encode()) for _, board in opened]
                await self.client.post("beds", f"/beds/{bed['bed_id']}/block", uuid4().hex, {"reason": "bench"})
                began = time.perf_counter()
                async with asyncio.timeout(SEEN_SECONDS_MAX):
                    found.append(max(0.0, max(await asyncio.gather(*seen)) - began))
                await self.client.post("beds", f"/beds/{bed['bed_id']}/unblock", uuid4().hex, {})
                await asyncio.sleep(1.0)
        finally:
            for transport, _ in opened:
                transport.abort()
        return found

    async def beds(self) -> list[dict[str, Any]]:
        beds: list[dict[str, Any]] = (await self.client.get("beds", "/board")).body["beds"]
        return beds

    async def memory(self) -> dict[str, float]:
        """Return what one process of the bed service holds without streams, and with five hundred of them."""
        pid = self.stack.status().processes["beds"].pid
        before = _rss_mb(pid)
        opened = await _open_boards(self.stack.service_url("beds"), self.token, STREAMS)
        await asyncio.sleep(10)
        with_streams = _rss_mb(pid)
        for transport, _ in opened:
            transport.abort()
        return {"streams": STREAMS, "before_mb": before, "with_streams_mb": with_streams}


def _rss_mb(pid: int | None) -> float:
    resident: int = psutil.Process(pid).memory_info().rss
    return round(resident / 2**20, 1)


def _bare(boards: int) -> float:
    """Return the seconds a change takes onto as many sockets that only wait for it: one small write each, in one process."""

    async def measure() -> float:
        waiting: list[asyncio.StreamWriter] = []

        async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            waiting.append(writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        opened = [await loop.create_connection(_Board, "127.0.0.1", port) for _ in range(boards)]
        while len(waiting) < boards:
            await asyncio.sleep(0.01)
        took = []
        for number in range(CHANGES):
            text = b"change-%d." % number
            seen = [board.expect(text) for _, board in opened]
            began = time.perf_counter()
            for writer in waiting:
                writer.write(text)
            took.append(max(await asyncio.gather(*seen)) - began)
        for transport, _ in opened:
            transport.abort()
        server.close()
        return statistics.median(took)

    return asyncio.run(measure())


def _paints(base_url: str, account: Login) -> dict[str, Any] | None:
    """Return how long a real browser takes to the first paint and to all wards drawn; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    chromium = next((path for name in CHROMIUM_NAMES if (path := shutil.which(name)) is not None), None)
    if chromium is None:
        return None
    first, drawn = [], []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(f"{base_url}/login")
        page.fill("input[name=username]", account.username)
        page.fill("input[name=password]", account.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda address: "/login" not in address)
        for _ in range(PAINTS):
            page.goto(f"{base_url}/beds")
            page.wait_for_selector(".ward-card")
            drawn.append(page.evaluate("performance.now()"))
            first.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        browser.close()
    return {
        "times": PAINTS,
        "first_paint_ms": [round(value, 1) for value in first],
        "wards_drawn_ms": [round(value, 1) for value in drawn],
    }


async def bench_board() -> dict[str, Any]:
    """Measure the board of the default hospital of 1,200 beds.

    Goals: first paint <= 1.5 s, a change on 100 open boards <= 2 s, 500 streams of one process <= 300 MB. The bare limit is
    the same message written to as many sockets; ours looks for changes twice a second, which is most of its time.
    """
    before = machine()
    directory = Path(tempfile.mkdtemp(prefix="wardstream-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    stack = Stack(directory / "home")
    try:
        await asyncio.to_thread(stack.up)
        manager = credential_for(stack.home.root, username="bed_manager")
        account = Login(manager.username, manager.password)
        token = log_in(stack.base_url, manager).token
        client = Client({"beds": stack.service_url("beds")}, token=token)
        bench = _Bench(stack, client, token)
        words.print("board: a hundred boards through the front door")
        seen = await bench.changes(stack.base_url, BOARDS)
        words.print("board: five hundred streams")
        memory = await bench.memory()
        beds = len(await bench.beds())
        await client.close()
        words.print("board: paints")
        paints = await asyncio.to_thread(_paints, stack.base_url, account)
        bare = await asyncio.to_thread(_bare, BOARDS)
    finally:
        await asyncio.to_thread(stack.destroy)
        shutil.rmtree(directory, ignore_errors=True)
    ours = statistics.median(seen)
    return {
        "ours": ours,
        "bare": bare,
        "ratio": ours / bare,
        "unit": "s until a change is on all boards",
        "beds": beds,
        "boards": BOARDS,
        "changes": len(seen),
        "slowest_seconds": max(seen),
        "memory": memory,
        "paint": paints,
        "machine": before,
    }
