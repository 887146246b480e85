"""`wardstream users` and `wardstream token` against a running stack, as an operator types them."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cli.accounts import credential_for
from infra.cli.answers import BadInput
from infra.local.errors import Missing
from infra.local.stack import Stack
from shared.access.roles import Role


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the access service running behind the front door."""
    root = tmp_path_factory.mktemp("access") / "home"
    stack = Stack(root)
    stack.up(services=["access"], stop_with=os.getpid())
    yield root
    stack.destroy()


def wardstream(home: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "infra.cli.main", *arguments, "--home", str(home)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def get(home: Path, path: str, token: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(Stack(home).base_url + path, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.timeout(180)
def test_a_token_for_every_role_and_for_the_replay(home: Path) -> None:
    code, out, _ = wardstream(home, "token", "--role", "ward_nurse", "--json")
    issued = json.loads(out)
    assert code == 0
    assert {"token", "expires_at"} <= issued.keys()
    assert get(home, "/api/access/me", issued["token"])[1]["roles"] == ["ward_nurse"]
    assert {credential_for(home, role=role.value).username for role in Role} == {role.value for role in Role}

    code, out, _ = wardstream(home, "token", "--username", "replay")
    assert code == 0
    _, me = get(home, "/api/access/me", out.strip())
    assert me["username"] == "replay"

    assert wardstream(home, "token")[0] == 2
    assert wardstream(home, "token", "--role", "emperor")[0] == 2
    assert wardstream(home, "token", "--username", "nobody")[0] == 2


@pytest.mark.timeout(180)
def test_an_account_is_opened_listed_and_disabled_and_its_password_is_told_once(home: Path) -> None:
    code, out, _ = wardstream(home, "users", "add", "zhang.wei", "--role", "doctor", "--ward", "W3", "--json")
    assert code == 0
    assert len(json.loads(out)["password"]) >= 20

    code, out, _ = wardstream(home, "users", "list", "--json")
    listed = {user["username"]: user for user in json.loads(out)["users"]}
    assert code == 0
    assert (listed["zhang.wei"]["roles"], listed["zhang.wei"]["wards"]) == (["doctor"], ["W3"])
    assert {role.value for role in Role} <= listed.keys()
    assert "password" not in out

    code, out, _ = wardstream(home, "users", "disable", "zhang.wei", "--json")
    assert (code, json.loads(out)["already_known"]) == (0, False)
    code, out, _ = wardstream(home, "users", "disable", "zhang.wei", "--json")
    assert (code, json.loads(out)["already_known"]) == (0, True)

    code, out, words = wardstream(home, "users", "add", "zhang.wei", "--role", "doctor")
    assert (code, out) == (2, "")
    assert "account with this name" in words
    code, _, words = wardstream(home, "users", "add", "li.na", "--role", "doctor", "--password-stdin", stdin="short\n")
    assert (code, "at least 12" in words, "short" in words.replace("too_short", "")) == (2, True, False)
    assert wardstream(home, "users", "disable", "nobody")[0] == 2


def test_neither_log_holds_a_password_or_a_token(home: Path) -> None:
    secret = credential_for(home, username="admin").password
    for log in (home / "logs").glob("*.log"):
        text = log.read_text("utf-8", errors="replace")
        assert secret not in text
        assert "eyJ" not in text


def test_without_a_stack_the_command_says_what_is_missing(tmp_path: Path) -> None:
    code, out, words = wardstream(tmp_path / "none", "token", "--role", "ops")
    assert (code, out) == (3, "")
    assert "wardstream up" in words
    with pytest.raises(Missing):
        credential_for(tmp_path / "none", role="ops")


def test_a_role_goes_to_the_account_named_after_it_and_a_stranger_to_nobody(tmp_path: Path) -> None:
    accounts = [
        {"username": "replay", "password": "x", "roles": ["doctor", "importer"]},
        {"username": "doctor", "password": "y", "roles": ["doctor"]},
    ]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "first-accounts.json").write_text(json.dumps({"accounts": accounts}))
    assert credential_for(tmp_path, role="doctor").username == "doctor"
    assert credential_for(tmp_path, role="importer").username == "replay"
    assert credential_for(tmp_path, role="doctor", username="replay").username == "replay"
    with pytest.raises(BadInput):
        credential_for(tmp_path, role="ops")
    with pytest.raises(BadInput):
        credential_for(tmp_path, role="ops", username="doctor")
