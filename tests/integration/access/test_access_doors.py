"""Coming in, staying in, being put out; and who manages whom."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.access import bootstrap
from services.access.passwords import Passwords
from shared.access.actor import ALL_WARDS
from shared.access.policy import Permission
from shared.access.roles import Role
from tests.integration.access.conftest import PASSWORD, Hospital

pytestmark = pytest.mark.asyncio


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


NEW_NURSE = {
    "username": "li.na",
    "display_name": "Li Na",
    "password": "seven green lamps",
    "roles": ["ward_nurse"],
    "wards": ["W3"],
}


# ---- coming in --------------------------------------------------------------------------------------------------------


async def test_who_logs_in_is_known_to_every_service_with_roles_and_wards(hospital: Hospital) -> None:
    user_id = await hospital.hire("wang.fang", Role.WARD_NURSE, Role.FOLLOW_UP_NURSE, wards=("W1", "ICU"))
    answer = await hospital.log_in("wang.fang")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    actor = await hospital.verifier.verify(answer.json()["token"])
    assert actor.user_id == user_id
    assert actor.roles == {Role.WARD_NURSE, Role.FOLLOW_UP_NURSE}
    assert actor.wards == {"W1", "ICU"}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/api/access" in cookie
    assert "password" not in answer.text

    me = await hospital.http.get("/api/access/me", headers={"Authorization": f"Bearer {answer.json()['token']}"})
    assert me.json()["username"] == "wang.fang"
    assert "patients:read" in me.json()["permissions"]
    assert "deposits:refund" not in me.json()["permissions"]


async def test_a_wrong_password_and_an_unknown_name_look_and_take_the_same(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    answers, times = [], []
    for username in ("wang.fang", "nobody.here"):
        begun = time.perf_counter()
        answers.append(await hospital.log_in(username, "not the password"))
        times.append(time.perf_counter() - begun)
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
    assert "wang" not in answers[0].text
    assert min(times) >= 0.3
    assert abs(times[0] - times[1]) < 0.2
    outcomes = [row["outcome"] for row in await hospital.trail()]
    assert outcomes == ["rejected:wrong_password", "rejected:unknown_name"]


async def test_after_three_wrong_passwords_the_account_rests_longer_and_longer(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    for _ in range(4):
        assert (await hospital.log_in("wang.fang", "wrong wrong wrong")).status_code == 401
    assert (await hospital.log_in("wang.fang")).status_code == 401, "even the right one is not taken while it rests"
    hospital.clock.advance(timedelta(seconds=2))
    assert (await hospital.log_in("wang.fang", "wrong wrong wrong")).status_code == 401
    hospital.clock.advance(timedelta(seconds=3))
    assert (await hospital.log_in("wang.fang")).status_code == 401, "four seconds now"
    hospital.clock.advance(timedelta(seconds=1))
    assert (await hospital.log_in("wang.fang")).status_code == 200
    assert (await hospital.log_in("wang.fang", "wrong wrong wrong")).status_code == 401
    assert (await hospital.log_in("wang.fang")).status_code == 200, "a good login clears the count"


async def test_many_failed_logins_on_one_name_are_slowed_down_whether_it_exists_or_not(hospital: Hospital) -> None:
    tries = [hospital.log_in("nobody.here", "wrong wrong wrong") for _ in range(20)]
    assert {answer.status_code for answer in await asyncio.gather(*tries)} == {401}
    slowed = await hospital.log_in("nobody.here", "wrong wrong wrong")
    assert slowed.status_code == 429
    assert slowed.headers["retry-after"] == "60"
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    assert (await hospital.log_in("wang.fang")).status_code == 200, "other names come in meanwhile"


async def test_a_password_is_never_echoed_whatever_is_wrong_with_the_request(hospital: Hospital) -> None:
    secret = "canary-password-8731"
    for body in (
        {"username": 7, "password": secret},
        {"user": "x", "password": secret},
        {"password": [secret]},
        {"username": "a\u0000b", "password": secret},
        {"username": "x" * 65, "password": secret},
        {"username": "wang.fang", "password": secret * 10},
    ):
        answer = await hospital.http.post("/api/access/login", json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert secret not in answer.text


# ---- staying in -------------------------------------------------------------------------------------------------------


async def test_a_session_goes_on_with_a_new_cookie_and_the_roles_of_today(hospital: Hospital) -> None:
    user_id = await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    first = hospital.http.cookies["wardstream_refresh"]
    async with hospital.db.pool.acquire() as conn:
        await conn.execute("UPDATE account SET roles = '{doctor}' WHERE user_id = $1", user_id)
    hospital.clock.advance(timedelta(minutes=14))
    answer = await hospital.http.post("/api/access/refresh")
    assert answer.status_code == 200
    assert (await hospital.verifier.verify(answer.json()["token"])).roles == {Role.DOCTOR}
    assert hospital.http.cookies["wardstream_refresh"] != first


async def refresh_with(hospital: Hospital, token: str, **headers: str) -> int:
    hospital.http.cookies.clear()
    cookie = {"Cookie": f"wardstream_refresh={token}", **headers}
    return (await hospital.http.post("/api/access/refresh", headers=cookie)).status_code


async def test_a_stolen_refresh_token_ends_the_session_of_both(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    stolen = hospital.http.cookies["wardstream_refresh"]
    await hospital.http.post("/api/access/refresh")
    good = hospital.http.cookies["wardstream_refresh"]
    hospital.clock.advance(timedelta(seconds=5))
    assert await refresh_with(hospital, stolen) == 200, "two tabs at the same moment are no theft"
    hospital.clock.advance(timedelta(seconds=5))
    assert await refresh_with(hospital, stolen) == 401
    assert await refresh_with(hospital, good) == 401
    assert "rejected:reused" in [row["outcome"] for row in await hospital.trail()]


async def test_a_session_ends_when_it_is_left_alone_or_after_twelve_hours(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    hospital.clock.advance(timedelta(hours=1))
    assert (await hospital.http.post("/api/access/refresh")).status_code == 401

    await hospital.log_in("wang.fang")
    for _ in range(23):
        hospital.clock.advance(timedelta(minutes=30))
        assert (await hospital.http.post("/api/access/refresh")).status_code == 200
    hospital.clock.advance(timedelta(minutes=30))
    assert (await hospital.http.post("/api/access/refresh")).status_code == 401


async def test_logging_out_ends_the_session_and_clears_the_shared_device(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    token = hospital.http.cookies["wardstream_refresh"]
    answer = await hospital.http.post("/api/access/logout")
    assert answer.status_code == 204
    assert '"storage"' in answer.headers["clear-site-data"]
    assert await refresh_with(hospital, token) == 401
    assert (await hospital.http.post("/api/access/logout")).status_code == 401


async def test_another_site_cannot_use_the_cookie(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    token = hospital.http.cookies["wardstream_refresh"]
    assert await refresh_with(hospital, token, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await refresh_with(hospital, "no-such-token") == 401


async def test_who_changes_the_password_puts_everybody_else_out(hospital: Hospital) -> None:
    await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    other_screen = hospital.http.cookies["wardstream_refresh"]
    headers = await hospital.bearer("wang.fang")
    url = "/api/access/me/password"
    wrong = {"old_password": "not the password", "new_password": "blue boats sail at dawn"}
    assert (await hospital.http.post(url, json=wrong, headers=headers)).status_code == 403
    right = {"old_password": PASSWORD, "new_password": "blue boats sail at dawn"}
    assert (await hospital.http.post(url, json=right, headers=headers)).status_code == 204
    assert await refresh_with(hospital, other_screen) == 401
    assert (await hospital.log_in("wang.fang")).status_code == 401
    assert (await hospital.log_in("wang.fang", "blue boats sail at dawn")).status_code == 200


# ---- managing others --------------------------------------------------------------------------------------------------


async def test_an_administrator_opens_an_account_once_for_one_key(hospital: Hospital) -> None:
    await hospital.hire("boss", Role.ADMIN)
    headers = await hospital.bearer("boss") | key()
    first = await hospital.http.post("/api/access/users", json=NEW_NURSE, headers=headers)
    assert first.status_code == 201
    assert first.json()["roles"] == ["ward_nurse"]
    assert "password" not in first.text
    again = await hospital.http.post("/api/access/users", json=NEW_NURSE, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = await hospital.http.post("/api/access/users", json=NEW_NURSE | {"wards": ["W4"]}, headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"
    taken = await hospital.http.post("/api/access/users", json=NEW_NURSE, headers=headers | key())
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    shown = await hospital.http.get(first.headers["location"], headers=headers)
    assert (shown.json(), shown.headers["etag"]) == (first.json(), first.headers["etag"])
    assert (await hospital.log_in("li.na", "seven green lamps")).status_code == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"password": "short"}, "password_too_short"),
        ({"password": "x" * 12}, "password_too_plain"),
        ({"password": "li.na is my name"}, "password_contains_name"),
        ({"password": "x" * 129}, "invalid_fields"),
        ({"username": "Li Na"}, "invalid_fields"),
        ({"roles": []}, "invalid_fields"),
        ({"roles": ["emperor"]}, "invalid_fields"),
        ({"wards": ["*", "W1"]}, "wards_contradict"),
        ({"wards": ["W 1"]}, "invalid_fields"),
        ({"display_name": "Li\u0000Na"}, "invalid_fields"),
        ({"version": 7}, "invalid_fields"),
    ],
)
async def test_a_bad_account_is_refused_with_its_reason_and_nothing_is_stored(
    hospital: Hospital, changes: dict[str, object], code: str
) -> None:
    await hospital.hire("boss", Role.ADMIN)
    headers = await hospital.bearer("boss") | key()
    answer = await hospital.http.post("/api/access/users", json=NEW_NURSE | changes, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    listed = await hospital.http.get("/api/access/users", headers=headers)
    assert [user["username"] for user in listed.json()["users"]] == ["boss"]


async def test_two_administrators_cannot_overwrite_each_other(hospital: Hospital) -> None:
    await hospital.hire("boss", Role.ADMIN)
    nurse = await hospital.hire("wang.fang", Role.WARD_NURSE)
    url, headers = f"/api/access/users/{nurse}", await hospital.bearer("boss")
    etag = (await hospital.http.get(url, headers=headers)).headers["etag"]
    without = await hospital.http.patch(url, json={"wards": ["W2"]}, headers=headers | key())
    assert (without.status_code, without.json()["code"]) == (428, "version_required")
    done = await hospital.http.patch(url, json={"wards": ["W2"]}, headers=headers | key() | {"If-Match": etag})
    assert (done.status_code, done.json()["wards"]) == (200, ["W2"])
    late = await hospital.http.patch(url, json={"wards": ["W9"]}, headers=headers | key() | {"If-Match": etag})
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
    assert (await hospital.http.get(url, headers=headers)).json()["wards"] == ["W2"]
    nobody = f"/api/access/users/{uuid4()}"
    missing = await hospital.http.patch(nobody, json={"wards": []}, headers=headers | key() | {"If-Match": etag})
    assert missing.status_code == 404


async def test_a_disabled_account_is_out_and_can_be_let_in_again(hospital: Hospital) -> None:
    await hospital.hire("boss", Role.ADMIN)
    nurse = await hospital.hire("wang.fang", Role.WARD_NURSE)
    await hospital.log_in("wang.fang")
    session = hospital.http.cookies["wardstream_refresh"]
    url, headers = f"/api/access/users/{nurse}", await hospital.bearer("boss")
    done = await hospital.http.patch(url, json={"disabled": True}, headers=headers | key() | {"If-Match": 'W/"1"'})
    assert done.json()["disabled_at"] is not None
    assert await refresh_with(hospital, session) == 401
    assert (await hospital.log_in("wang.fang")).status_code == 401
    back = await hospital.http.patch(url, json={"disabled": False}, headers=headers | key() | {"If-Match": 'W/"2"'})
    assert back.json()["disabled_at"] is None
    assert (await hospital.log_in("wang.fang")).status_code == 200
    assert await refresh_with(hospital, session) == 401, "an old session does not come back"


async def test_the_last_administrator_cannot_be_taken_away_even_by_two_at_once(hospital: Hospital) -> None:
    one, two = await hospital.hire("boss", Role.ADMIN), await hospital.hire("chief", Role.ADMIN)
    headers = await hospital.bearer("boss") | {"If-Match": 'W/"1"'}
    changes = (
        hospital.http.patch(f"/api/access/users/{one}", json={"roles": ["doctor"]}, headers=headers | key()),
        hospital.http.patch(f"/api/access/users/{two}", json={"disabled": True}, headers=headers | key()),
    )
    answers = await asyncio.gather(*changes)
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "last_administrator"}


async def test_a_new_password_from_an_administrator_unlocks_the_account(hospital: Hospital) -> None:
    await hospital.hire("boss", Role.ADMIN)
    nurse = await hospital.hire("wang.fang", Role.WARD_NURSE)
    for _ in range(4):
        await hospital.log_in("wang.fang", "wrong wrong wrong")
    headers = await hospital.bearer("boss") | key() | {"If-Match": 'W/"1"'}
    url = f"/api/access/users/{nurse}/password"
    done = await hospital.http.put(url, json={"password": "blue boats sail at dawn"}, headers=headers)
    assert (done.status_code, done.headers["etag"]) == (200, 'W/"2"')
    assert (await hospital.log_in("wang.fang", "blue boats sail at dawn")).status_code == 200


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_only_administrators_manage_accounts_and_every_try_is_recorded(hospital: Hospital, role: Role) -> None:
    user_id = await hospital.hire("somebody", role, wards=(ALL_WARDS,))
    headers = await hospital.bearer("somebody") | key() | {"If-Match": 'W/"1"'}
    url = "/api/access/users"
    answers = [
        await hospital.http.get(url, headers=headers),
        await hospital.http.get(f"{url}/{user_id}", headers=headers),
        await hospital.http.post(url, json=NEW_NURSE, headers=headers),
        await hospital.http.patch(f"{url}/{user_id}", json={"roles": ["admin"]}, headers=headers),
        await hospital.http.put(f"{url}/{user_id}/password", json={"password": "any password"}, headers=headers),
    ]
    assert {answer.status_code for answer in answers} == {403}
    denied = [row for row in await hospital.trail() if row["outcome"] == "denied"]
    assert len(denied) == 5
    assert {row["actor"] for row in denied} == {user_id}


async def test_pages_of_accounts_go_on_where_they_ended(hospital: Hospital) -> None:
    await hospital.hire("boss", Role.ADMIN)
    for number in range(5):
        await hospital.hire(f"nurse.{number}", Role.WARD_NURSE)
    headers, url, seen = await hospital.bearer("boss"), "/api/access/users?limit=2", list[str]()
    while url:
        page = (await hospital.http.get(url, headers=headers)).json()
        seen += [user["username"] for user in page["users"]]
        url = page["next"]
    assert seen == ["boss", *(f"nurse.{number}" for number in range(5))]


# ---- the trail, the keys, the first accounts ---------------------------------------------------------------------------


async def test_the_privacy_officer_reads_who_did_what_and_nobody_else_does(hospital: Hospital) -> None:
    boss = await hospital.hire("boss", Role.ADMIN)
    officer = await hospital.hire("officer", Role.PRIVACY_OFFICER)
    headers = await hospital.bearer("boss")
    for number in range(3):
        body = NEW_NURSE | {"username": f"li.na.{number}"}
        await hospital.http.post("/api/access/users", json=body, headers=headers | key())
    assert (await hospital.http.get("/api/access/audit", headers=headers)).status_code == 403
    headers = await hospital.bearer("officer")
    url, seen = f"/api/access/audit?actor={boss}&limit=2", list[dict[str, Any]]()
    while url:
        page = (await hospital.http.get(url, headers=headers)).json()
        seen += page["rows"]
        url = page["next"]
    assert sum(row["action"].startswith("POST ") and row["action"].endswith("/users") for row in seen) == 3
    assert [row["id"] for row in seen] == sorted((row["id"] for row in seen), reverse=True)
    assert {row["actor"] for row in seen} == {str(boss)}
    own = [row for row in await hospital.trail() if row["actor"] == officer and row["object_type"] == "audit"]
    assert len(own) >= 3, "reading the trail leaves a trace"
    assert (await hospital.http.get("/api/access/audit?after=x", headers=headers)).status_code == 400


async def test_the_published_keys_verify_and_hold_nothing_private(hospital: Hospital) -> None:
    answer = await hospital.http.get("/api/access/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    [entry] = answer.json()["keys"]
    assert (entry["kty"], entry["crv"], entry["alg"]) == ("EC", "P-256", "ES256")
    assert "d" not in entry


async def test_without_a_token_every_other_door_is_closed(hospital: Hospital) -> None:
    for method, path in (("GET", "me"), ("GET", "users"), ("POST", "users"), ("GET", "audit"), ("POST", "me/password")):
        answer = await hospital.http.request(method, f"/api/access/{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")


async def test_the_first_accounts_are_made_once_and_then_left_to_people(hospital: Hospital, tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "accounts.json"
    credentials = bootstrap.read_or_make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert {role.value for role in Role} | {"replay"} == {credential.username for credential in credentials}
    assert len({credential.password for credential in credentials}) == len(credentials)
    assert bootstrap.read_or_make(path) == credentials
    await bootstrap.ensure_accounts(hospital.db, Passwords(), credentials)
    async with hospital.db.pool.acquire() as conn:
        await conn.execute("UPDATE account SET disabled_at = now(), version = 2 WHERE username = 'doctor'")
    await bootstrap.ensure_accounts(hospital.db, Passwords(), credentials)
    by_name = {credential.username: credential.password for credential in credentials}
    assert (await hospital.log_in("doctor", by_name["doctor"])).status_code == 401, "still disabled"
    answer = await hospital.log_in("replay", by_name["replay"])
    assert set(answer.json()["user"]["roles"]) == set(bootstrap.REPLAY_ROLES)
    me = await hospital.http.get("/api/access/me", headers={"Authorization": f"Bearer {answer.json()['token']}"})
    assert Permission.FACTS_IMPORT in me.json()["permissions"]
    path.chmod(0o644)
    with pytest.raises(bootstrap.BootstrapFileUnusable, match="chmod 600"):
        bootstrap.read_or_make(path)


async def test_the_database_knows_the_same_roles_and_refuses_others(conn: asyncpg.Connection) -> None:
    insert = "INSERT INTO account (user_id, username, display_name, password_hash, roles, wards) VALUES ($1, $2, 'x', $3, $4, '{}')"
    await conn.execute(insert, uuid4(), "all.roles", "$argon2id$x", [role.value for role in Role])
    for roles in ([], ["emperor"]):
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute(insert, uuid4(), "no.role", "$argon2id$x", roles)
    with pytest.raises(asyncpg.CheckViolationError):
        await conn.execute(insert, uuid4(), "plain", "secret", ["doctor"])
