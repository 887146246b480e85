"""`make setup`: a virtual environment with exactly the locked packages, the command line in it, the Kafka jars, the screens.

Standard library only, run by whatever `python3` the machine has; the second time it finds nothing to do.
The package index is pip's: its configuration (files and PIP_* variables) is translated for uv, so that a hospital's own
mirror works by its client configuration alone, and no address stands in this repository.
"""

import hashlib
import os
import subprocess
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said to whoever has an older one
    sys.exit(
        "Python 3.11 or newer is needed; this python3 is " + sys.version.split()[0] + ".\n"
        "Install one (Debian 12: apt-get install python3 python3-venv) or name it: make setup PYTHON=python3.12"
    )

import tempfile  # after the check, so that an old Python says the sentence above and nothing else
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
STAMP = VENV / ".wardstream-setup"
EXIT_MISSING = 3


def say(message: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(message + "\n")


def run(*command: "str | Path", env: "dict[str, str] | None" = None) -> None:
    """Run a command; its failure ends the setup with its own output and ours."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False)
    if done.returncode != 0:
        say("setup stopped: `" + " ".join(str(part) for part in command[:5]) + " …` failed")
        sys.exit(done.returncode if done.returncode == EXIT_MISSING else 1)


def pip_settings() -> "dict[str, str]":
    """Return pip's settings, the environment above the files, as `name -> value` with lists separated by spaces."""
    done = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    found = {}
    for wanted in ("global.", "install.", ":env:."):
        for line in done.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(wanted):
                words = value.strip().strip("'\"").replace("\\n", " ").split()
                found[name[len(wanted) :].replace("_", "-")] = " ".join(words)
    return found


def uv_environment() -> "dict[str, str]":
    """Return the environment for uv, so that it asks the same index as pip does; what is set for uv stays."""
    pip = pip_settings()
    translated = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": pip.get("extra-index-url"),
        "UV_INSECURE_HOST": pip.get("trusted-host"),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "UV_FIND_LINKS": ",".join(
            place for place in pip.get("find-links", "").split() if "://" in place or Path(place).is_dir()
        ),
        "UV_NO_INDEX": "1" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else None,
        "SSL_CERT_FILE": pip.get("cert"),
        "HTTPS_PROXY": pip.get("proxy"),
    }
    return {
        "UV_NO_PROGRESS": "1",
        **{name: value for name, value in translated.items() if value},
        **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
    }


def fingerprint(lock: Path) -> str:
    """Return what the environment depends on: the locks, the project's own metadata, the Python, and where it lies."""
    digest = hashlib.sha256()
    for path in (REQUIREMENTS / "uv.txt", lock, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    digest.update((str(ROOT) + sys.version + str(Path(sys.executable).resolve())).encode())
    return digest.hexdigest()


def create_environment() -> None:
    """Create `.venv` anew."""
    say("creating .venv with Python " + sys.version.split()[0])
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False, stdout=subprocess.PIPE)
    if done.returncode != 0:
        say("The venv module is incomplete. Debian: apt-get install python3-venv")
        sys.exit(EXIT_MISSING)


def install(lock: Path) -> None:
    """Install uv, the locked packages and the project, every package checked against its SHA-256."""
    run(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", REQUIREMENTS / "uv.txt")
    env = uv_environment()
    uv = VENV / "bin" / "uv"
    options = [
        "--quiet",
        "--compile-bytecode",
        "--require-hashes",
    ]  # compiled once, or every start of a service compiles
    run(uv, "pip", "sync", *options, "--python", PYTHON, lock, REQUIREMENTS / "uv.txt", env=env)
    # uv brings its own build backend, so this needs no network and no unlocked package.
    run(uv, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--offline", "--editable", ROOT, env=env)
    # The planner's search becomes machine code now, not while somebody waits for a plan.
    run(PYTHON, "-m", "services.beds.planner.contestant", "warm", "1", "0")


def lock_all(options: "list[str]") -> None:
    """Write all locks anew; `--upgrade` takes newer versions, at least a week old."""
    env = uv_environment()
    newer = ["--upgrade", "--exclude-newer", "1 week"] if "--upgrade" in options else []
    form = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--quiet"]
    for name, constraint in (("uv", None), ("run", None), ("test", "run"), ("web", None)):
        bounds = ["--constraint", "requirements/" + constraint + ".txt"] if constraint else []
        source, target = "requirements/" + name + ".in", "requirements/" + name + ".txt"
        run(VENV / "bin" / "uv", "pip", "compile", source, "--output-file", target, *form, *bounds, *newer, env=env)
        say(target + " written")
    run(PYTHON, "-m", "infra.local.jars", "lock")


def is_usable() -> bool:
    """Say whether `.venv` has a Python that runs and has pip."""
    if not PYTHON.exists():
        return False
    return subprocess.run([str(PYTHON), "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0


def main() -> None:
    """Set up; `--runtime` leaves out what only tests need. `lock` writes the locks anew instead."""
    if sys.argv[1:2] == ["lock"]:
        lock_all(sys.argv[2:])
        return
    lock = REQUIREMENTS / ("run.txt" if "--runtime" in sys.argv[1:] else "test.txt")
    wanted = fingerprint(lock)
    if not STAMP.exists() or STAMP.read_text("utf-8") != wanted:
        if not is_usable():
            create_environment()
        install(lock)
        with tempfile.NamedTemporaryFile("w", dir=VENV, delete=False) as partial:
            partial.write(wanted)
        os.replace(partial.name, STAMP)
    run(PYTHON, "-m", "infra.local.jars", "fetch")
    run(PYTHON, "-m", "infra.local.web")


if __name__ == "__main__":
    main()
