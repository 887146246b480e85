"""The running stack that the tests of the screens look at."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from infra.cli.accounts import credential_for, log_in
from infra.journeys.client import Login
from infra.local.stack import Stack
from tests.screens.scene import Scene


@dataclass(frozen=True, slots=True)
class House:
    """A running stack with a morning in it."""

    home: Path
    base_url: str
    scene: Scene

    def login(self, username: str) -> Login:
        """Return a first account with its password."""
        found = credential_for(self.home, username=username)
        return Login(found.username, found.password)

    def ask(self, username: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Do something at a public door that must succeed, as somebody at another machine would."""
        token = log_in(self.base_url, credential_for(self.home, username=username)).token
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid4().hex}
        response = httpx2.request(method, f"{self.base_url}/api{path}", json=body, headers=headers)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def restart(self, service: str) -> None:
        """Kill a service; the supervisor starts a fresh one, and this waits until it is ready."""
        stack = Stack(self.home)
        pid = stack.kill(service, signal.SIGKILL)
        stack.wait_ready([service], seconds=60, other_than=pid)

    @contextmanager
    def without_answers_of(self, service: str) -> Iterator[None]:
        """Let a service stand still, connections open, as a hung machine does; afterwards it goes on."""
        pid = Stack(self.home).status().processes[service].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
