"""Starting, recognising, measuring and stopping processes.

A process is known by pid *and* start time, so that a pid that was given to somebody else meanwhile is never signalled.
"""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.home import PROJECT_ROOT

_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True)
class Owner:
    """The unprivileged user a server is given to."""

    uid: int
    gid: int


def unprivileged_owner() -> Owner | None:
    """Return whom to run as what refuses root: nobody when we are root, else None (ourselves)."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(65534, 65534)
    return Owner(nobody.pw_uid, nobody.pw_gid)


def _wrapped(
    command: Sequence[str], owner: Owner | None, death_signal: signal.Signals, *, is_named: bool = False
) -> list[str]:
    uid, gid = (-1, -1) if owner is None else (owner.uid, owner.gid)
    numbers = (int(death_signal), os.getpid(), uid, gid, int(is_named))
    return [sys.executable, "-I", "-S", str(_CHILD), *map(str, numbers), *command]


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path = PROJECT_ROOT,
    owner: Owner | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log`; it gets `death_signal` when this one dies.

    Call it on a thread that lives as long as the child shall: the kernel ties the child to the thread.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            _wrapped(command, owner, death_signal),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )


def run_as(command: Sequence[str], *, owner: Owner | None, cwd: Path, is_named: bool = False) -> str:
    """Run a short command to its end and return its output.

    `is_named` says that it looks its user up by name, which a user without one is then lent.

    Raises:
        CalledProcessError: it failed; carries the output.
    """
    done = subprocess.run(
        _wrapped(command, owner, signal.SIGKILL, is_named=is_named),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        check=True,
    )
    return done.stdout.decode(errors="replace")


def _stat_fields(pid: int) -> list[str] | None:
    """Return /proc/<pid>/stat from the third field on; the name before it may contain anything, even brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def started_at(pid: int) -> str | None:
    """Return when the process started, as boot and clock ticks since, or None when there is no such living process."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text('utf-8').strip()}:{fields[19]}"


def is_same_process(pid: int, started: str) -> bool:
    """Say whether the process `pid` lives and is the one that was started at `started`."""
    return started_at(pid) == started


def children_of(pid: int) -> list[int]:
    """Return the pids of all living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat_fields(int(entry))
            if fields is not None and fields[0] not in "ZX":
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants in MiB; memory they share counts once."""
    private = shared = 0
    for member in (pid, *children_of(pid)):
        try:
            lines = Path(f"/proc/{member}/status").read_text("utf-8").splitlines()
        except OSError:
            continue
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
        private += kib.get("RssAnon", 0) + kib.get("RssFile", 0)
        shared = max(shared, kib.get("RssShmem", 0))
    return round((private + shared) / 1024, 1)


def is_listening(pid: int, port: int) -> bool:
    """Say whether this very process listens on the port."""
    try:
        held = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in held)


def send(pid: int, started: str, number: signal.Signals) -> bool:
    """Signal the process if it still is the one that started then; say whether it was."""
    if not is_same_process(pid, started):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(pid: int, started: str, seconds: float) -> bool:
    """Wait until the process is gone and say whether it is."""
    until = time.monotonic() + seconds
    while is_same_process(pid, started):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def end(pid: int, started: str, *, seconds: float) -> None:
    """End a process that is not our child: SIGTERM, and SIGKILL to its whole session when it does not go in time."""
    if not send(pid, started, signal.SIGTERM) or wait_gone(pid, started, seconds):
        return
    if is_same_process(pid, started):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
        wait_gone(pid, started, 10)
