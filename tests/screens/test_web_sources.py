"""The sources of the screens: types, and the tests of what they compute."""

import subprocess

import pytest

from infra.local import web
from infra.local.errors import Missing


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("script", ["types", "test"])
def test_the_sources_of_the_screens_hold_what_they_promise(script: str) -> None:
    try:
        node = web.find_node()
    except Missing as missing:
        pytest.skip(f"{missing} {missing.fix}")
    if not web.MODULES.is_dir():
        pytest.skip("The packages of the screens are not installed: make setup.")
    done = subprocess.run(
        [str(node.npm), "run", "--silent", script],
        cwd=web.WEB,
        env=node.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fingerprint_of_the_sources_changes_with_every_file() -> None:
    paths = web.sources()
    assert web.WEB / "package-lock.json" in paths
    assert not any("node_modules" in path.parts or "dist" in path.parts for path in paths)
    assert web.fingerprint(paths) != web.fingerprint(paths[1:])


def test_the_lock_of_the_screens_names_no_host() -> None:
    lock = (web.WEB / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert '"integrity": "sha512-' in lock
