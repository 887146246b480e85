"""Where one embedded stack keeps its data, logs, secrets and state, and how these files are written."""

import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.errors import Missing, StackError

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def _user_dir() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise Missing(
            "This user has no home directory.",
            "Set HOME, or WARDSTREAM_HOME and XDG_CACHE_HOME, to directories of yours.",
        ) from None


def default_home() -> Path:
    """Return WARDSTREAM_HOME, else the per-user data directory."""
    named = os.environ.get("WARDSTREAM_HOME")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else _user_dir() / ".local" / "share") / "wardstream"


def cache_dir() -> Path:
    """Return the per-user cache directory; everything in it can be fetched again."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else _user_dir() / ".cache") / "wardstream"


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one embedded stack."""

    root: Path

    @classmethod
    def at(cls, root: Path | str | None) -> "Home":
        """Return the home at `root`, made absolute, without creating anything."""
        return cls(Path(os.path.abspath(default_home() if root is None else Path(root).expanduser())))

    @property
    def logs(self) -> Path:
        """Log files, one per process."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Passwords and keys, readable by the owner only (S9)."""
        return self.root / "secrets"

    @property
    def state_file(self) -> Path:
        """What the supervisor last knew: pids with start times, ports, readiness."""
        return self.root / "state.json"

    @property
    def options_file(self) -> Path:
        """What the last `up` asked for; `up` writes it, the supervisor reads it."""
        return self.root / "options.json"

    @property
    def env_file(self) -> Path:
        """Extra environment per service, read at every start of one: `{"beds": {"WARDSTREAM_FAULT_POINT": "K8"}}`."""
        return self.root / "env.json"

    @property
    def lock_file(self) -> Path:
        """Held by the living supervisor, so that a home never has two."""
        return self.root / "supervisor.lock"

    def create(self) -> None:
        """Create the home and its folders; what exists keeps its mode.

        Root's home may be passed through by others, because PostgreSQL refuses to run as root and its data lies inside.
        """
        try:
            self.root.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            for folder in (self.logs, self.secrets):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Missing(
                f"The home {self.root} cannot be created: {error.strerror}.",
                "Name a directory you may write: --home DIR or WARDSTREAM_HOME.",
            ) from None

    def identity(self) -> str:
        """Return a random name made once for this home, so that data kept elsewhere is never taken for another's."""
        path = self.root / "id"
        if not path.exists():
            write_private(path, secrets.token_hex(8))
        return path.read_text("utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` for the owner only, so that a reader sees the old or the new content, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(partial, path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, for the owner only."""
    write_private(path, json.dumps(value, indent=1, sort_keys=True))


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or an empty one when there is no such file.

    Raises:
        StackError: the file holds something else.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StackError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise StackError(f"{path} is no JSON object.")
    return value


def is_reachable(path: Path, uid: int) -> bool:
    """Say whether the unprivileged user `uid` may pass through every directory above `path` and read `path` itself."""
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:
            return False
        needed = stat.S_IXUSR if place != path or stat.S_ISDIR(found.st_mode) else 0
        needed |= stat.S_IRUSR if place == path else 0
        granted = found.st_mode if found.st_uid == uid else found.st_mode << 6
        if granted & needed != needed:
            return False
    return True
