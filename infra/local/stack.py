"""One embedded stack as tests, benches and the command line use it: bring it up, look at it, take it down.

stack = Stack(home)
stack.up(services=["beds"], env={"beds": {"WARDSTREAM_FAULT_POINT": "K8"}})
stack.postgres_dsn("ws_beds"), stack.kafka_bootstrap, stack.base_url, stack.status()
stack.down()
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import services as service_plan
from infra.local.errors import Missing, NotRunning, StackError
from infra.local.home import PROJECT_ROOT, Home, read_json, write_json
from infra.local.jars import class_path
from infra.local.kafka import ScratchKafka
from infra.local.machine import find_caddy, find_java, find_postgres
from infra.local.postgres import PostgresServer, ScratchPostgres, dsn_of
from infra.local.processes import end, is_same_process, rss_mb, send, started_at
from infra.local.supervisor import (
    READY_SECONDS_MAX,
    AlreadyRunning,
    Options,
    Supervisor,
    clean_up_leftovers,
    configure_log,
    holding,
)

__all__ = ["Process", "ScratchKafka", "ScratchPostgres", "Stack", "Status", "ensure_postgres_and_kafka"]

STOP_SECONDS_MAX = 120.0
LOCK_SECONDS_MAX = 10.0
_ALREADY_RUNNING_CODE = 4


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a stack as seen now."""

    name: str
    pid: int | None
    port: int
    ready: bool
    rss_mb: float
    restarts: int
    gave_up: bool
    message: str

    def as_json(self) -> dict[str, Any]:
        """Return what the command line prints."""
        return {
            "pid": self.pid,
            "port": self.port,
            "ready": self.ready,
            "rss_mb": self.rss_mb,
            "restarts": self.restarts,
            "gave_up": self.gave_up,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """A stack as seen now."""

    status: str
    """`stopped`, `starting`, `ready`, `degraded`, `stopping`, `failed`, or `killed` (the supervisor died)."""
    message: str
    home: str
    url: str | None
    processes: dict[str, Process]
    supervisor_pid: int | None
    supervisor_rss_mb: float
    ready_seconds: float | None

    @property
    def is_running(self) -> bool:
        """Say whether a supervisor lives."""
        return self.supervisor_pid is not None

    @property
    def rss_mb(self) -> float:
        """Return the resident memory of the whole stack in MiB."""
        return round(self.supervisor_rss_mb + sum(process.rss_mb for process in self.processes.values()), 1)

    def as_json(self) -> dict[str, Any]:
        """Return the answer of `up` and `status` (8-commands)."""
        answer: dict[str, Any] = {
            "status": self.status,
            "message": self.message,
            "home": self.home,
            "url": self.url,
            "services": {
                name: process.as_json() for name, process in self.processes.items() if name in service_plan.SERVICES
            },
            "simulators": {
                name: process.as_json() for name, process in self.processes.items() if name in service_plan.SIMULATORS
            },
            "postgres": None,
            "kafka": None,
            "front": None,
        }
        for name in ("postgres", "kafka", "front"):
            if name in self.processes:
                answer[name] = self.processes[name].as_json()
        supervisor = {"pid": self.supervisor_pid, "rss_mb": self.supervisor_rss_mb}
        return answer | {"supervisor": supervisor, "rss_mb": self.rss_mb, "ready_seconds": self.ready_seconds}


def check_machine() -> None:
    """Find every binary the stack needs, so that a lack is told before anything is started.

    Raises:
        Missing: one is not there, with what to do.
    """
    if sys.platform != "linux":
        raise Missing("The embedded stack runs on Linux only.", "Use docker compose instead: docker compose up")
    find_postgres()
    find_caddy()
    find_java()
    class_path()


class Stack:
    """The embedded stack of one home."""

    def __init__(self, home: Path | str | None = None) -> None:
        self.home = Home.at(home)

    # Up and down

    def up(
        self,
        services: Sequence[str] | None = None,
        *,
        simulators: bool | None = None,
        detach: bool = True,
        env: Mapping[str, Mapping[str, str | None]] | None = None,
        stores: bool = True,
        front_door: bool = True,
        prepare: bool = True,
        commands: Mapping[str, Sequence[str]] | None = None,
        restart_waits: Sequence[float] | None = None,
        steady_seconds: float | None = None,
        hang_seconds: float | None = None,
        stop_with: int | None = None,
        on_settled: Callable[[Status], None] | None = None,
    ) -> Status:
        """Bring the stack up and return once every process is ready or was given up; one that runs is left as it is.

        Args:
            services: which services; all by default.
            simulators: whether the parties outside the hospital are simulated; by default with all services only.
            detach: False keeps the supervisor in this process until SIGINT or SIGTERM.
            env: extra environment per service, written to `env.json`, which every (re)start of a service reads.
            stores: whether PostgreSQL and Kafka are started; without, the services find theirs through `env`.
            front_door: whether Caddy is started.
            prepare: whether database, migrations and topics are made ready.
            commands: other command lines for services, for tests.
            restart_waits: seconds before each restart in a row.
            steady_seconds: how long a process must have been ready for its deaths to be forgotten.
            hang_seconds: how long a service may give no answer at all.
            stop_with: pid of a process; the stack stops by itself when that is gone.
            on_settled: called with the status when everything is ready (only without `detach`).

        Raises:
            Missing: something the stack needs is not on this machine.
            StackError: it could not be brought up; says why and where to look.
        """
        began_at = time.monotonic()
        known = self.status()
        if known.is_running:
            return self._already_running(known)
        check_machine()
        self.home.create()
        defaults = Options()
        unknown = set(services or ()) - set(service_plan.SERVICES)
        if unknown:
            raise StackError(f"There is no service {', '.join(sorted(unknown))}.")
        Options(
            services=defaults.services if services is None else tuple(services),
            simulators=defaults.simulators if (services is None if simulators is None else simulators) else (),
            stores=stores,
            front_door=front_door,
            prepare=prepare,
            commands={name: list(command) for name, command in (commands or {}).items()},
            restart_waits=defaults.restart_waits if restart_waits is None else tuple(restart_waits),
            steady_seconds=defaults.steady_seconds if steady_seconds is None else steady_seconds,
            hang_seconds=defaults.hang_seconds if hang_seconds is None else hang_seconds,
            stop_with=None if stop_with is None else (stop_with, started_at(stop_with) or ""),
            began_at=began_at,
        ).write(self.home)
        if env is not None:
            write_json(self.home.env_file, env)
        if not detach:
            return self._run_here(on_settled)
        self._start_supervisor()
        return self._wait_until_settled()

    def _start_supervisor(self) -> None:
        with (self.home.logs / "supervisor.log").open("ab") as output:
            done = subprocess.run(
                [sys.executable, "-m", "infra.local.supervisor", str(self.home.root), "--detach"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=PROJECT_ROOT,
                check=False,
            )
        if done.returncode not in (0, _ALREADY_RUNNING_CODE):
            raise StackError(f"The supervisor could not be started. See {self.home.logs / 'supervisor.log'}.")

    def _run_here(self, on_settled: Callable[[Status], None] | None) -> Status:
        configure_log()

        async def tell() -> None:
            if on_settled is not None:
                on_settled(self.status())

        with holding(self.home):
            supervisor = Supervisor(self.home, Options.read(self.home), tell)
            supervisor.take_over()
            code = asyncio.run(supervisor.run())
        if code != 0:
            raise StackError(f"The stack could not be brought up: {read_json(self.home.state_file)['message']}")
        return self.status()

    def _already_running(self, known: Status) -> Status:
        if any(process.gave_up for process in known.processes.values()):
            self._signal_supervisor(signal.SIGUSR1)
            time.sleep(0.2)
        return self._wait_until_settled()

    def _wait_until_settled(self) -> Status:
        """Wait until the supervisor has nothing left to wait for."""
        until = time.monotonic() + 2 * READY_SECONDS_MAX
        while True:
            found = self.status(measure=False)
            if found.status == "failed":
                raise StackError(f"The stack could not be brought up: {found.message}")
            if not found.is_running:
                raise StackError(f"The stack was stopped while it started. See {self.home.logs / 'supervisor.log'}.")
            waiting = [process for process in found.processes.values() if not process.ready and not process.gave_up]
            if found.status == "ready" or (found.status == "degraded" and not waiting) or time.monotonic() > until:
                return self.status()
            time.sleep(0.05)

    def down(self) -> list[str]:
        """Stop everything of this home and return the names of what ran; leaves the data, and no process.

        Raises:
            StackError: something would not end.
        """
        before = self.status(measure=False)
        ran = [name for name, process in before.processes.items() if process.pid is not None]
        supervisor = read_json(self.home.state_file).get("supervisor", {})
        if supervisor:
            end(supervisor["pid"], supervisor["started"], seconds=STOP_SECONDS_MAX)
        if not self.home.lock_file.exists():
            return []
        # A supervisor that was killed holds its lock until the last of its children is gone as well.
        until = time.monotonic() + LOCK_SECONDS_MAX
        left: list[str] | None = None
        while left is None:
            try:
                with holding(self.home):
                    left = clean_up_leftovers(read_json(self.home.state_file))
                    if read_json(self.home.state_file).get("status") not in (None, "stopped", "failed"):
                        self._write_stopped()
            except AlreadyRunning:
                if time.monotonic() > until:
                    raise StackError(
                        f"The supervisor of {self.home.root} does not end. See {self.home.logs}."
                    ) from None
                time.sleep(0.05)
        return ran if before.is_running else left

    def _write_stopped(self) -> None:
        state = read_json(self.home.state_file)
        for process in state.get("processes", {}).values():
            process |= {"pid": None, "started": "", "ready": False}
        write_json(self.home.state_file, state | {"status": "stopped", "message": ""})

    def destroy(self) -> None:
        """Stop everything and delete the home with all its data."""
        self.down()
        if not (self.home.root / "id").exists() and not self.home.state_file.exists():
            return
        PostgresServer(self.home.root / "postgres", 0, "", self.home.identity()).remove()
        shutil.rmtree(self.home.root, ignore_errors=True)

    # Looking

    def status(self, *, measure: bool = True) -> Status:
        """Return what runs now; `measure` says whether memory is looked up, too."""
        state = read_json(self.home.state_file)
        supervisor = state.get("supervisor", {})
        lives = bool(supervisor) and is_same_process(supervisor["pid"], supervisor["started"])
        word = state.get("status", "stopped")
        message = state.get("message", "")
        if not lives and word not in ("stopped", "failed"):
            word = "killed"
            message = "The supervisor was killed. `wardstream up` cleans up and starts anew, `down` only cleans up."
        processes = {}
        for name, known in state.get("processes", {}).items():
            here = known["pid"] is not None and is_same_process(known["pid"], known["started"])
            processes[name] = Process(
                name=name,
                pid=known["pid"] if here else None,
                port=known["port"],
                ready=known["ready"] and here and lives,
                rss_mb=rss_mb(known["pid"]) if here and measure else 0.0,
                restarts=known["restarts"],
                gave_up=known["gave_up"] and lives,
                message=known["message"],
            )
        front = state.get("ports", {}).get("front")
        return Status(
            status=word,
            message=message,
            home=str(self.home.root),
            url=f"http://127.0.0.1:{front}" if lives and front is not None and state.get("front_door") else None,
            processes=processes if lives or word == "killed" else {},
            supervisor_pid=supervisor["pid"] if lives else None,
            supervisor_rss_mb=_own_rss_mb(supervisor["pid"]) if lives and measure else 0.0,
            ready_seconds=state.get("ready_seconds") if lives else None,
        )

    def _port(self, name: str) -> int:
        if not self.status(measure=False).is_running:
            raise NotRunning(self.home.root)
        port = read_json(self.home.state_file)["ports"][name]
        if not isinstance(port, int):
            raise StackError(f"{self.home.state_file} knows no port of {name}.")
        return port

    @property
    def base_url(self) -> str:
        """Return the front door's address."""
        return f"http://127.0.0.1:{self._port('front')}"

    def service_url(self, service: str) -> str:
        """Return the address of a service's or simulator's own port, behind the front door."""
        return f"http://127.0.0.1:{self._port(service)}"

    @property
    def kafka_bootstrap(self) -> str:
        """Return Kafka's bootstrap address."""
        return f"127.0.0.1:{self._port('kafka')}"

    def postgres_dsn(self, role: str = "postgres", database: str | None = None) -> str:
        """Return the address of a database (`wardstream` by default) for a role; see services.py for the roles."""
        secret = service_plan.passwords(self.home)
        if role not in secret:
            raise StackError(f"There is no role {role}; there are {', '.join(sorted(secret))}.")
        return dsn_of(self._port("postgres"), role, secret[role], database or service_plan.DATABASE)

    def log_file(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.home.logs / f"{name}.log"

    # Interfering, for fault tests

    def set_env(self, service: str, env: Mapping[str, str | None]) -> None:
        """Change the extra environment that the next start of `service` gets (null takes a variable away)."""
        self.home.create()
        write_json(self.home.env_file, {**read_json(self.home.env_file), service: env})

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal a process of the stack and return its pid; the supervisor starts it again."""
        process = self.status(measure=False).processes.get(name)
        if process is None or process.pid is None:
            raise StackError(f"{name} does not run.")
        os.kill(process.pid, number)
        return process.pid

    def wait_ready(
        self, names: Iterable[str] | None = None, *, seconds: float = 60, other_than: int | None = None
    ) -> Status:
        """Wait until these processes (all by default) are ready, as others than `other_than`, and return the status.

        Raises:
            StackError: they were not ready in time; says which and what they say.
        """
        chosen = None if names is None else set(names)
        until = time.monotonic() + seconds
        while True:
            found = self.status(measure=False)
            wanted = {name: process for name, process in found.processes.items() if chosen is None or name in chosen}
            late = {name: process for name, process in wanted.items() if not process.ready or process.pid == other_than}
            absent = (chosen or set()) - wanted.keys()
            if wanted and not late and not absent:
                return found
            if time.monotonic() > until:
                words = [f"{name}: {process.message or 'still starting'}" for name, process in late.items()]
                words += [f"{name}: not started" for name in sorted(absent)]
                raise StackError(f"Not ready: {'; '.join(words) or 'nothing runs'}")
            time.sleep(0.05)

    def _signal_supervisor(self, number: signal.Signals) -> None:
        supervisor = read_json(self.home.state_file).get("supervisor", {})
        if supervisor:
            send(supervisor["pid"], supervisor["started"], number)


def _own_rss_mb(pid: int) -> float:
    """Return the resident memory of one process without its children."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def ensure_postgres_and_kafka(home: Path | str, *, stop_with: int | None = None) -> Stack:
    """Return a stack with only PostgreSQL and Kafka running in `home`, started if it was not.

    `stop_with` (the test run's pid, say) makes it stop by itself when that process is gone.
    """
    stack = Stack(home)
    stack.up(services=(), front_door=False, prepare=False, stop_with=stop_with)
    return stack
