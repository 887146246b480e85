"""Fetch the Kafka jars that `infra/kafka/jgo.lock.toml` names into the per-user cache, and verify every SHA-256.

jgo resolves and downloads, but neither enforces the sums of its lock nor writes atomically; a jar becomes visible here
only after its sum was right. Mirrors: jgo's own configuration file (`[repositories]`), or WARDSTREAM_MAVEN_REPOSITORY.
"""

import hashlib
import os
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local.errors import Missing
from infra.local.home import PROJECT_ROOT, cache_dir

if TYPE_CHECKING:
    from jgo.maven import MavenContext

SPEC = PROJECT_ROOT / "infra" / "kafka" / "jgo.toml"
LOCK = PROJECT_ROOT / "infra" / "kafka" / "jgo.lock.toml"
DOWNLOADS_AT_ONCE = 4
TRIES = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """Return the file name."""
        return f"{self.artifact}-{self.version}.jar"


def locked_jars() -> list[Jar]:
    """Return what the lock file names."""
    lock = tomllib.loads(LOCK.read_text("utf-8"))
    return [
        Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in lock["dependencies"]
    ]


def jars_dir() -> Path:
    """Return the cache directory of exactly this lock, so that a new lock never runs with old jars."""
    digest = hashlib.sha256("".join(sorted(jar.sha256 for jar in locked_jars())).encode()).hexdigest()
    return cache_dir() / f"kafka-{digest[:16]}"


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong_jars() -> list[str]:
    """Return the locked jars that are absent or whose SHA-256 is not the locked one."""
    folder = jars_dir()
    return [
        jar.name
        for jar in locked_jars()
        if not (folder / jar.name).exists() or _sum_of(folder / jar.name) != jar.sha256
    ]


def class_path() -> str:
    """Return the class path of the verified jars.

    Raises:
        Missing: a jar is absent or has a wrong sum.
    """
    wrong = wrong_jars()
    if wrong:
        raise Missing(
            f"{len(wrong)} of {len(locked_jars())} Kafka jars are absent or damaged in {jars_dir()}, first {wrong[0]}.",
            "Run `make setup`, which fetches them.",
        )
    return os.pathsep.join(str(jars_dir() / jar.name) for jar in locked_jars())


def _context(repo_cache: Path) -> "MavenContext":
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    named = os.environ.get("WARDSTREAM_MAVEN_REPOSITORY")
    repositories = {"mirror": named.rstrip("/")} if named else GlobalSettings.load().repositories or None
    return MavenContext(repo_cache=repo_cache, remote_repos=repositories, timeout=60)


def fetch() -> int:
    """Fetch what is absent or damaged and return how many jars that were; a jar with a wrong sum is thrown away.

    Raises:
        Missing: a jar could not be fetched, or what the repository gave has another sum than the lock says.
    """
    wrong = set(wrong_jars())
    if not wrong:
        return 0
    folder = jars_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        context = _context(Path(scratch))
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(lambda jar: _fetch_one(context, jar, folder), [j for j in locked_jars() if j.name in wrong]))
    return len(wrong)


def _fetch_one(context: "MavenContext", jar: Jar, folder: Path) -> None:
    problem = ""
    for _ in range(TRIES):
        artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
        try:
            path = artifact.resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            problem = f"it could not be fetched ({type(error).__name__})"
            partial = context.repo_cache / artifact.component.path_prefix / artifact.filename
            partial.unlink(missing_ok=True)
            continue
        if _sum_of(path) == jar.sha256:
            os.replace(path, folder / jar.name)
            return
        problem = "its SHA-256 is not the one in infra/kafka/jgo.lock.toml"
        path.unlink()
    raise Missing(
        f"The jar {jar.group}:{jar.artifact}:{jar.version} is not there: {problem}.",
        "Check the network and the Maven mirror (WARDSTREAM_MAVEN_REPOSITORY or jgo.conf), then run `make setup`.",
    )


def lock() -> int:
    """Resolve `jgo.toml` anew, write `jgo.lock.toml` without addresses or times, and return the number of jars."""
    from jgo.env import EnvironmentSpec, LockFile

    spec = EnvironmentSpec.load(SPEC)
    with tempfile.TemporaryDirectory() as scratch:
        context = _context(Path(scratch))
        named, needed = context.resolver.resolve([context.create_dependency(c) for c in spec.coordinates])
        found = LockFile.from_resolved_dependencies([*named, *needed], environment_name=spec.name)
    lines = [
        "# Written by `make lock` from jgo.toml. Every jar is verified against its SHA-256 after it was fetched.\n"
    ]
    for dependency in sorted(found.dependencies, key=lambda d: (d.groupId, d.artifactId)):
        lines += ["\n[[dependencies]]\n"]
        lines += [f'{key} = "{value}"\n' for key, value in dependency.to_dict().items()]
    LOCK.write_text("".join(lines), "utf-8")
    return len(found.dependencies)


def main() -> None:
    """Run `python -m infra.local.jars fetch|lock`."""
    if sys.argv[1:] == ["lock"]:
        sys.stderr.write(f"{lock()} jars locked in {LOCK.relative_to(PROJECT_ROOT)}\n")
    elif sys.argv[1:] == ["fetch"]:
        try:
            count = fetch()
        except Missing as error:
            sys.stderr.write(f"{error}\n{error.fix}\n")
            sys.exit(3)
        sys.stderr.write(f"{count} Kafka jars fetched, {len(locked_jars())} verified in {jars_dir()}\n")
    else:
        sys.exit("usage: python -m infra.local.jars fetch|lock")


if __name__ == "__main__":
    main()
