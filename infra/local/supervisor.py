"""The one process per home that starts, watches, restarts and stops all the others.

It imports no driver and no web framework, so that it stays small. Run as `python -m infra.local.supervisor HOME
[--detach]`. SIGTERM, SIGINT or SIGHUP: stop everything. SIGUSR1: try again what was given up. When it is killed, the
kernel ends every child (see child.py); what might be left is cleaned up by the next start.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.local import front, probes, services
from infra.local.errors import Missing, StackError
from infra.local.home import Home, read_json, write_json
from infra.local.kafka import KafkaServer
from infra.local.ports import choose_ports
from infra.local.postgres import ROLE_OF_ALL, PostgresServer
from infra.local.processes import end, is_listening, is_same_process, send, spawn, started_at

log = logging.getLogger("supervisor")

FRONT_PORT_WISH = 8480
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log file that grows beyond is moved to `<name>.1` and begun anew, so a process keeps at most twice this."""
LOG_CHECK_SECONDS = 5.0
PROBE_SECONDS_STARTING = 0.15
PROBE_SECONDS_READY = 2.0
PROBE_SECONDS_STORES = 5.0
"""PostgreSQL and Kafka are asked less often: every question costs the database a process."""
READY_SECONDS_MAX = 120.0
_ALREADY_RUNNING = 4


@dataclass(frozen=True, slots=True)
class Options:
    """What `up` asked for; kept in the home, so that the supervisor and whoever asks later agree."""

    simulators: tuple[str, ...] = services.SIMULATORS
    services: tuple[str, ...] = services.SERVICES
    stores: bool = True
    """False: no PostgreSQL and no Kafka of its own; the services find theirs through `env.json`."""
    front_door: bool = True
    prepare: bool = True
    commands: dict[str, list[str]] = field(default_factory=dict)
    """Other command lines for services, by name."""
    restart_waits: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    """How long to wait before each restart in a row; after the last one it stays down."""
    steady_seconds: float = 30.0
    """A process that was ready for this long has no deaths in a row behind it."""
    hang_seconds: float = 60.0
    """A process that speaks HTTP and gives no answer at all for this long is killed and started again."""
    stop_with: tuple[int, str] | None = None
    """Pid and start time of a process; when it is gone, the stack stops."""
    began_at: float = 0.0
    """When `up` was called, on the machine's monotonic clock."""

    @classmethod
    def read(cls, home: Home) -> "Options":
        """Return what the last `up` wrote."""
        raw: dict[str, Any] = read_json(home.options_file)
        for name in ("services", "simulators", "restart_waits", "stop_with"):
            if raw.get(name) is not None:
                raw[name] = tuple(raw[name])
        return cls(**raw)

    def write(self, home: Home) -> None:
        """Keep it for the supervisor."""
        write_json(home.options_file, asdict(self))


@dataclass(slots=True)
class Child:
    """One supervised process."""

    name: str
    port: int
    start: Callable[[], subprocess.Popen[bytes]]
    is_ready: Callable[[], bool]
    answers: Callable[[], bool] | None = None
    """Says whether it answers at all; None: never killed for silence (a database may recover for long)."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    process: subprocess.Popen[bytes] | None = None
    started: str = ""
    ready: bool = False
    ready_since: float = 0.0
    restarts: int = 0
    deaths: int = 0
    """Deaths in a row: since it was last steady."""
    gave_up: bool = False
    message: str = ""
    revived: asyncio.Event = field(default_factory=asyncio.Event)

    def listens(self) -> bool:
        """Say whether it is this process that has the port, and not somebody who was there before it."""
        return self.process is not None and is_listening(self.process.pid, self.port)

    def as_state(self) -> dict[str, Any]:
        """Return what the state file says about it."""
        running = self.process is not None
        return {
            "pid": self.process.pid if self.process is not None else None,
            "started": self.started if running else "",
            "port": self.port,
            "ready": self.ready,
            "restarts": self.restarts,
            "gave_up": self.gave_up,
            "message": self.message,
        }


async def _gone(pid: int) -> None:
    """Wait, without polling, until the process ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a child and return its exit code (negative: the signal that killed it)."""
    await _gone(process.pid)
    return process.wait()


def _how_it_ended(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Supervisor:
    """Starts, watches, restarts and stops the processes of one home."""

    def __init__(self, home: Home, options: Options, on_settled: Callable[[], Awaitable[None]] | None = None) -> None:
        self._home = home
        self._options = options
        self._on_settled = on_settled
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._settled = False
        self._status = "starting"
        self._message = ""
        self._ready_seconds: float | None = None
        self._ports: dict[str, int] = {}

    # What others see

    def _write_state(self) -> None:
        if self._settled and not self._stopping.is_set():
            self._status = "ready" if all(child.ready for child in self._children.values()) else "degraded"
        write_json(
            self._home.state_file,
            {
                "status": self._status,
                "message": self._message,
                "supervisor": {"pid": os.getpid(), "started": started_at(os.getpid())},
                "ports": self._ports,
                "processes": {name: child.as_state() for name, child in self._children.items()},
                "ready_seconds": self._ready_seconds,
                "front_door": self._options.front_door,
            },
        )

    def _note(self, child: Child, message: str) -> None:
        child.message = message
        if message:
            log.info("%s: %s", child.name, message)
        self._write_state()

    # One process

    async def _keep(self, child: Child) -> None:
        """Start a process and start it again when it dies, until the stack stops or it died too often in a row."""
        waits = self._options.restart_waits
        while not self._stopping.is_set():
            try:
                child.process = child.start()
            except (OSError, StackError, Missing) as error:
                how = f"could not be started: {error}"
            else:
                child.started = started_at(child.process.pid) or ""
                self._write_state()
                watcher = asyncio.create_task(self._watch(child))
                code = await _ended(child.process)
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher
                how = f"died ({_how_it_ended(code)})"
            if child.ready and time.monotonic() - child.ready_since >= self._options.steady_seconds:
                child.deaths = 0
            child.process, child.ready = None, False
            child.deaths += 1
            if self._stopping.is_set():
                self._write_state()
                return
            if child.deaths > len(waits):
                await self._give_up(child, how)
                continue
            wait = waits[child.deaths - 1]
            self._note(child, f"It {how}; restart {child.deaths} of {len(waits)} in a row follows in {wait:g} s.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            child.restarts += 1

    async def _give_up(self, child: Child, how: str) -> None:
        """Leave a process down until somebody asks for it again."""
        child.gave_up = True
        self._note(
            child,
            f"It {how} and was restarted {len(self._options.restart_waits)} times in a row, so it stays down. "
            f"See {self._home.logs / (child.name + '.log')}; `wardstream up` tries again.",
        )
        child.revived.clear()
        waiting = [asyncio.create_task(event.wait()) for event in (child.revived, self._stopping)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        child.gave_up, child.deaths, child.message = False, 0, ""

    async def _watch(self, child: Child) -> None:
        """Ask a living process again and again whether it is ready; kill one that gives no answer at all for long."""
        answered_at = time.monotonic()
        while True:
            ready = await asyncio.to_thread(child.is_ready) and (child.ready or await asyncio.to_thread(child.listens))
            now = time.monotonic()
            if ready or child.answers is None or (not ready and await asyncio.to_thread(child.answers)):
                answered_at = now
            if ready != child.ready:
                child.ready, child.ready_since = ready, now
                self._note(child, "" if ready else "It says that it is not ready.")
            if now - answered_at > self._options.hang_seconds and child.process is not None:
                self._note(child, f"It gave no answer for {self._options.hang_seconds:g} s and is killed.")
                child.process.kill()
                return
            pause = PROBE_SECONDS_STORES if child.answers is None else PROBE_SECONDS_READY
            await asyncio.sleep(pause if ready else PROBE_SECONDS_STARTING)

    def _launch(self, child: Child) -> None:
        self._children[child.name] = child
        self._keepers[child.name] = asyncio.create_task(self._keep(child))

    async def _until_ready(self, names: Sequence[str], seconds: float) -> bool:
        """Wait until these are ready, and say whether they are; end early when one was given up or the stack stops."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set():
            watched = [self._children[name] for name in names]
            if all(child.ready for child in watched):
                return True
            if any(child.gave_up for child in watched):
                return False
            await asyncio.sleep(0.05)
        return False

    # The stack

    def _log_of(self, name: str) -> Path:
        return self._home.logs / f"{name}.log"

    def _postgres(self) -> PostgresServer:
        return PostgresServer(
            directory=self._home.root / "postgres",
            port=self._ports["postgres"],
            password=services.passwords(self._home)[ROLE_OF_ALL],
            identity=self._home.identity(),
        )

    async def _start_postgres_and_kafka(self) -> None:
        postgres = self._postgres()
        kafka = KafkaServer(self._home.root / "kafka", self._ports["kafka"], self._ports["kafka_controller"])

        async def begin(server: PostgresServer | KafkaServer, child: Child) -> None:
            await asyncio.to_thread(server.prepare)
            if not self._stopping.is_set():
                self._launch(child)

        await asyncio.gather(
            begin(
                postgres,
                Child(
                    "postgres",
                    postgres.port,
                    lambda: postgres.start(self._log_of("postgres")),
                    postgres.accepts,
                    stop_signal=signal.SIGINT,
                    stop_seconds=30,
                ),
            ),
            begin(
                kafka,
                Child("kafka", kafka.port, lambda: kafka.start(self._log_of("kafka")), kafka.accepts, stop_seconds=30),
            ),
        )

    async def _prepare(self) -> None:
        """Run `infra.local.prepare`; it waits for Kafka itself while the database is made ready."""
        if not await self._until_ready(["postgres"], READY_SECONDS_MAX):
            if self._stopping.is_set():
                return
            raise StackError(f"PostgreSQL did not become ready. See {self._log_of('postgres')}.")
        output = self._log_of("prepare")
        command = [sys.executable, "-m", "infra.local.prepare", str(self._home.root), *self._options.services]
        process = spawn(command, log=output)
        waiting = asyncio.create_task(_ended(process))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not waiting.done():
            process.kill()
        if await waiting != 0 and not self._stopping.is_set():
            lines = output.read_text("utf-8", errors="replace").strip().splitlines()
            raise StackError(
                f"Database and topics could not be prepared: {lines[-1] if lines else 'no reason given'} (see {output})"
            )

    async def _start_stores(self) -> None:
        """Start PostgreSQL and Kafka and make ready what the services need in them."""
        await self._start_postgres_and_kafka()
        if self._options.prepare:
            await self._prepare()
        if not await self._until_ready(["postgres", "kafka"], READY_SECONDS_MAX) and not self._stopping.is_set():
            raise StackError(f"PostgreSQL and Kafka did not become ready. See the logs in {self._home.logs}.")

    def _start_service(self, name: str) -> None:
        command = self._options.commands.get(name) or services.command(name)
        absent = set(services.SIMULATORS) - set(self._options.simulators)
        ports = {name: port for name, port in self._ports.items() if name not in absent}
        self._start_server(name, command, lambda: services.environment(self._home, name, ports))

    def _start_simulator(self, name: str) -> None:
        (self._home.root / "simulators").mkdir(mode=0o700, exist_ok=True)
        command = services.simulator_command(name)
        self._start_server(name, command, lambda: services.simulator_environment(self._home, name, self._ports))

    def _start_server(self, name: str, command: Sequence[str], environment: Callable[[], dict[str, str]]) -> None:
        port = self._ports[name]

        def start() -> subprocess.Popen[bytes]:
            return spawn(command, log=self._log_of(name), env=environment())

        self._launch(
            Child(
                name,
                port,
                start,
                lambda: probes.http_status(port, "/ready") == 200,
                lambda: probes.http_status(port, "/live") != 0,
            )
        )

    def _start_front_door(self) -> None:
        port = self._ports["front"]
        storage = self._home.root / "front"
        storage.mkdir(mode=0o700, exist_ok=True)
        upstreams = {name: self._ports[name] for name in (*services.SERVICES, *services.WITH_PAGES)}

        def start() -> subprocess.Popen[bytes]:
            return spawn(front.command(), log=self._log_of("front"), env=front.environment(port, upstreams, storage))

        self._launch(
            Child(
                "front",
                port,
                start,
                lambda: probes.http_status(port, "/") == 200,
                lambda: probes.tcp_answers(port),
                stop_seconds=5,
            )
        )

    async def _start(self) -> None:
        if self._options.stores:
            await self._start_stores()
        if self._stopping.is_set():
            return
        for name in self._options.simulators:
            self._start_simulator(name)
        for name in self._options.services:
            self._start_service(name)
        if self._options.front_door:
            self._start_front_door()
        await self._until_settled(READY_SECONDS_MAX)

    async def _until_settled(self, seconds: float) -> None:
        """Wait until every process is ready or given up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set():
            if all(child.ready or child.gave_up for child in self._children.values()):
                return
            await asyncio.sleep(0.05)

    async def _stop_some(self, names: Sequence[str]) -> None:
        """Stop these at the same time: their own stop signal, and SIGKILL when they do not end in time."""
        stopped = [self._children[name] for name in names if name in self._children]
        for child in stopped:
            if child.process is not None:
                child.process.send_signal(child.stop_signal)
        for child in stopped:
            keeper = self._keepers[child.name]
            done, _ = await asyncio.wait([keeper], timeout=child.stop_seconds)
            if not done and child.process is not None:
                log.warning("%s did not end within %g s and is killed", child.name, child.stop_seconds)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
            await asyncio.wait([keeper], timeout=10)

    async def _stop(self) -> None:
        """Stop in order: who asks before who answers, so that nobody loses what it needs while it finishes its work."""
        self._stopping.set()
        if self._status != "failed":
            self._status = "stopping"
        self._write_state()
        await self._stop_some(self._options.services)
        await self._stop_some(["front", *self._options.simulators])
        await self._stop_some(["kafka"])
        await self._stop_some(["postgres"])

    async def _watch_owner(self) -> None:
        """Stop when the process that this stack was started for is gone."""
        if self._options.stop_with is None:
            return
        if is_same_process(*self._options.stop_with):
            await _gone(self._options.stop_with[0])
        log.info("the process this stack was started for is gone")
        self._stopping.set()

    async def _bound_logs(self) -> None:
        """Keep log files within their limit: copy and empty, because the writers hold them open (a line may be cut)."""
        while True:
            for path in self._home.logs.glob("*.log"):
                try:
                    if path.stat().st_size > LOG_BYTES_MAX:
                        await asyncio.to_thread(shutil.copyfile, path, path.with_name(f"{path.name}.1"))
                        os.truncate(path, 0)
                except OSError as error:
                    log.warning("%s could not be shortened: %s", path, error.strerror)
            await asyncio.sleep(LOG_CHECK_SECONDS)

    def _revive(self) -> None:
        for child in self._children.values():
            child.revived.set()

    def _choose_ports(self, remembered: dict[str, int]) -> dict[str, int]:
        names = ["front", "postgres", "kafka", "kafka_controller", *services.SERVICES, *services.SIMULATORS]
        return choose_ports(names, {"front": FRONT_PORT_WISH, **remembered}, self._home.root)

    def _clean_up_after_the_last(self, state: dict[str, Any]) -> None:
        """End what a killed supervisor of this home left behind, each known by pid and start time."""
        clean_up_leftovers(state)
        for path in self._home.root.glob(".state.json.*"):
            path.unlink(missing_ok=True)

    def take_over(self) -> None:
        """Clean up after a killed predecessor, choose the ports and say that we are here."""
        state = read_json(self._home.state_file)
        self._clean_up_after_the_last(state)
        self._ports = self._choose_ports(state.get("ports", {}))
        self._write_state()

    async def run(self) -> int:
        """Run the stack until it is told to stop; return 0, or 1 when it could not be brought up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._revive)
        helpers = [asyncio.create_task(self._watch_owner()), asyncio.create_task(self._bound_logs())]
        log.info("starting in %s", self._home.root)
        code = 0
        starting = asyncio.create_task(self._start())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await asyncio.wait([starting], timeout=30)
            if starting.done():
                starting.result()
            if not self._stopping.is_set():
                await self._settle()
                await self._stopping.wait()
        except (StackError, Missing) as error:
            code = 1
            self._status = "failed"
            self._message = str(error) if isinstance(error, StackError) else f"{error} {error.fix}"
            log.warning("the stack could not be brought up: %s", self._message)
        finally:
            for helper in (*helpers, starting, stopped):
                helper.cancel()
            await self._stop()
            if self._status != "failed":
                self._status = "stopped"
            self._write_state()
            log.info("stopped")
        return code

    async def _settle(self) -> None:
        """Note how long it took; from now on the state follows the processes."""
        self._ready_seconds = round(time.monotonic() - self._options.began_at, 2)
        self._settled = True
        self._write_state()
        log.info("%s after %.1f s", self._status, self._ready_seconds)
        if self._on_settled is not None:
            await self._on_settled()


def clean_up_leftovers(state: dict[str, Any]) -> list[str]:
    """End the processes that `state` names and that still are the same ones; return their names."""
    left = []
    for name, process in state.get("processes", {}).items():
        if process["pid"] is not None and is_same_process(process["pid"], process["started"]):
            left.append(name)
            # PostgreSQL understands SIGINT as a fast, clean shutdown; the others were to die with their supervisor.
            number = signal.SIGINT if name == "postgres" else signal.SIGKILL
            send(process["pid"], process["started"], number)
    for name in left:
        end(state["processes"][name]["pid"], state["processes"][name]["started"], seconds=20)
    return left


class AlreadyRunning(StackError):
    """Another supervisor holds this home."""


@contextlib.contextmanager
def holding(home: Home) -> Iterator[None]:
    """Hold the home's lock, which the kernel lets go when this process ends in whatever way.

    Raises:
        AlreadyRunning: another supervisor has it.
    """
    with home.lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"A stack already runs for the home {home.root}.") from None
        yield


def configure_log() -> None:
    """Write one line per event to stderr, which `up --detach` points to logs/supervisor.log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)


def main() -> None:
    """Supervise the home named on the command line; with --detach, return once the state file says who we are."""
    home = Home.at(Path(sys.argv[1]))
    read_end, write_end = os.pipe()
    if "--detach" in sys.argv[2:]:
        if os.fork() > 0:
            os.close(write_end)
            answer = os.read(read_end, 1)
            os._exit(answer[0] if answer else 1)
        os.setsid()
    configure_log()
    try:
        with holding(home):
            supervisor = Supervisor(home, Options.read(home))
            supervisor.take_over()
            os.write(write_end, b"\0")
            os.close(write_end)
            code = asyncio.run(supervisor.run())
    except AlreadyRunning:
        os.write(write_end, bytes([_ALREADY_RUNNING]))
        code = _ALREADY_RUNNING
    sys.exit(code)


if __name__ == "__main__":
    main()
