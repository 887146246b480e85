"""The running stack that the tests of the screens look at."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.cli.accounts import credential_for
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
