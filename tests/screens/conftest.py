"""One stack, one morning and one browser for all tests of the screens."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from infra.cli.accounts import credential_for
from infra.journeys.client import Login
from infra.local import web
from infra.local.errors import Missing
from infra.local.home import PROJECT_ROOT
from infra.local.stack import Stack
from tests.screens.house import House
from tests.screens.scene import make_morning
from tests.screens.windows import window

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENTS = 60
COMMAND_SECONDS_MAX = 240
NETWORK_WORDS = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "ERR_ABORTED", "Failed to load resource")
"""What the browser says of requests that a test cut or that a door refused; everything else it says is a fault."""


def _wardstream(home: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "infra.cli.main", "--home", str(home), *arguments]
    subprocess.run(command, check=True, timeout=COMMAND_SECONDS_MAX, cwd=PROJECT_ROOT)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return where the browser is, or skip."""
    found = next((path for name in CHROMIUM_NAMES if (path := shutil.which(name)) is not None), None)
    if found is None:
        pytest.skip("There is no Chromium on this machine: apt-get install chromium fonts-noto-cjk.")
    return found


@pytest.fixture(scope="package")
def house(chromium_path: str) -> Iterator[House]:
    """Start a stack whose desk decides (no bed is given by itself but to emergencies), and let a morning happen in it."""
    if not web.is_built():
        try:
            web.build()
        except Missing as missing:
            pytest.skip(f"The screens cannot be built here. {missing} {missing.fix}")
    # As root PostgreSQL runs as another user, who must be able to reach its data.
    home = Path(tempfile.mkdtemp(prefix="wardstream-screens-", dir="/var/tmp"))
    try:
        (home / "env.json").write_text(json.dumps({"beds": {"WARDSTREAM_AUTO_ASSIGN": "false"}}), "utf-8")
        _wardstream(home, "up", "--detach")
        base_url = Stack(home).base_url
        account = credential_for(home, username="replay")
        scene = asyncio.run(make_morning(base_url, Login(account.username, account.password), patients=PATIENTS))
        yield House(home, base_url, scene)
    finally:
        _wardstream(home, "down")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="package")
def browser(chromium_path: str) -> Iterator[Browser]:
    """One browser for all tests here; while it runs, its own event loop runs in this thread, which other tests cannot have."""
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium_path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def open_as(house: House, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page as somebody (or nobody); what the console calls an error fails the test, a broken content policy too."""
    faults: list[str] = []
    contexts: list[BrowserContext] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(word in message.text for word in NETWORK_WORDS):
            faults.append(message.text)

    def opened(
        username: str | None, path: str = "/", *, width: int = 1440, height: int = 900, locale: str = "zh-CN"
    ) -> Page:
        context = window(browser, width=width, height=height, locale=locale, has_touch=width < 1000)
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: faults.append(str(error)))
        if username is not None:
            account = house.login(username)
            said = {"username": account.username, "password": account.password}
            assert context.request.post(f"{house.base_url}/api/access/login", data=said).ok
        page.goto(f"{house.base_url}{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults
