"""Rules about accounts and sessions, as tables."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.access.domain import (
    BACKOFF_MAX,
    Account,
    AccountChange,
    Session,
    SessionLimits,
    SessionState,
    backoff_after,
    changed,
    check_password,
    check_somebody_stays_admin,
    hash_of,
    state_of,
    why_rejected,
)
from shared.access.roles import Role
from shared.errors import Invalid, Refused

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LIMITS = SessionLimits(lifetime=timedelta(hours=12), idle=timedelta(hours=1))


def an_account(
    *roles: Role, disabled_at: datetime | None = None, locked_until: datetime | None = None, version: int = 1
) -> Account:
    return Account(
        user_id=uuid4(),
        username="li.na",
        display_name="Li Na",
        roles=frozenset(roles or (Role.WARD_NURSE,)),
        wards=frozenset({"W1"}),
        disabled_at=disabled_at,
        failed_logins=0,
        locked_until=locked_until,
        version=version,
    )


def a_session(*, age: timedelta, idle: timedelta, ended_at: datetime | None = None) -> Session:
    return Session(uuid4(), uuid4(), hash_of("present"), hash_of("previous"), NOW - age, NOW - idle, ended_at)


@pytest.mark.parametrize(
    ("failed_logins", "seconds"),
    [(0, None), (1, None), (3, None), (4, 2), (5, 4), (6, 8), (7, 16), (12, 512), (13, 900), (10_000, 900)],
)
def test_three_wrong_passwords_are_free_then_the_rest_doubles_up_to_a_quarter_of_an_hour(
    failed_logins: int, seconds: int | None
) -> None:
    assert backoff_after(failed_logins) == (None if seconds is None else timedelta(seconds=seconds))
    assert timedelta(seconds=900) == BACKOFF_MAX


@pytest.mark.parametrize(
    ("account", "password_matches", "reason"),
    [
        (an_account(), True, None),
        (an_account(), False, "wrong_password"),
        (None, False, "unknown_name"),
        (None, True, "unknown_name"),
        (an_account(disabled_at=NOW), True, "disabled"),
        (an_account(locked_until=NOW + timedelta(seconds=1)), True, "locked"),
        (an_account(locked_until=NOW), True, None),
        (an_account(locked_until=NOW), False, "wrong_password"),
    ],
)
def test_why_a_login_is_rejected(account: Account | None, password_matches: bool, reason: str | None) -> None:
    assert why_rejected(account, password_matches=password_matches, now=NOW) == reason


MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("session", "token", "state"),
    [
        (a_session(age=HOUR, idle=MINUTE), "present", SessionState.GOOD),
        (a_session(age=HOUR, idle=timedelta(seconds=9)), "previous", SessionState.LATE),
        (a_session(age=HOUR, idle=timedelta(seconds=10)), "previous", SessionState.REUSED),
        (a_session(age=2 * HOUR, idle=HOUR), "present", SessionState.EXPIRED),
        (a_session(age=2 * HOUR, idle=HOUR - MINUTE), "present", SessionState.GOOD),
        (a_session(age=12 * HOUR, idle=MINUTE), "present", SessionState.EXPIRED),
        (a_session(age=12 * HOUR - MINUTE, idle=MINUTE), "present", SessionState.GOOD),
        (a_session(age=HOUR, idle=MINUTE, ended_at=NOW), "present", SessionState.ENDED),
    ],
)
def test_what_it_means_that_somebody_shows_a_refresh_token(session: Session, token: str, state: SessionState) -> None:
    assert state_of(session, hash_of(token), LIMITS, now=NOW) is state


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("elevenchars", "password_too_short"),
        ("x" * 129, "password_too_long"),
        ("abababababab", "password_too_plain"),
        ("my Li.Na pass", "password_contains_name"),
    ],
)
def test_a_weak_password_is_refused_without_being_repeated(password: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_password(password, username="li.na")
    assert caught.value.code == code
    assert password not in caught.value.detail


@pytest.mark.parametrize("password", ["twelve chars", "a" * 123 + "bcdef", "春眠不觉晓处处闻啼鸟夜来"])
def test_a_long_password_of_any_characters_is_welcome(password: str) -> None:
    check_password(password, username="li.na")


def test_what_is_left_out_of_a_change_stays() -> None:
    before = an_account(Role.DOCTOR, version=4)
    after = changed(before, AccountChange(wards=frozenset({"W9"})), now=NOW)
    assert (after.roles, after.display_name, after.disabled_at) == (before.roles, before.display_name, None)
    assert (after.wards, after.version) == (frozenset({"W9"}), 5)


def test_disabling_twice_keeps_the_first_time_and_enabling_clears_it() -> None:
    disabled = changed(an_account(), AccountChange(disabled=True), now=NOW)
    again = changed(disabled, AccountChange(disabled=True), now=NOW + HOUR)
    assert (disabled.disabled_at, again.disabled_at) == (NOW, NOW)
    assert changed(disabled, AccountChange(display_name="x"), now=NOW).disabled_at == NOW
    assert changed(disabled, AccountChange(disabled=False), now=NOW).disabled_at is None


def test_an_account_without_roles_or_with_contradicting_wards_is_refused() -> None:
    with pytest.raises(Invalid, match="at least one role"):
        changed(an_account(), AccountChange(roles=frozenset()), now=NOW)
    with pytest.raises(Invalid, match="for all wards or a list"):
        changed(an_account(), AccountChange(wards=frozenset({"*", "W1"})), now=NOW)


@pytest.mark.parametrize("wards", [set(), {"*"}, {"W1"}, {"W1", "W2"}])
def test_all_wards_some_wards_or_none_are_fine(wards: set[str]) -> None:
    assert changed(an_account(), AccountChange(wards=frozenset(wards)), now=NOW).wards == wards


def test_the_last_administrator_stays() -> None:
    admin = an_account(Role.ADMIN)
    gone = changed(admin, AccountChange(disabled=True), now=NOW)
    with pytest.raises(Refused, match="last administrator"):
        check_somebody_stays_admin(admin, gone, frozenset({admin.user_id}))
    check_somebody_stays_admin(admin, gone, frozenset({admin.user_id, uuid4()}))
    renamed = changed(admin, AccountChange(display_name="x"), now=NOW)
    check_somebody_stays_admin(admin, renamed, frozenset({admin.user_id}))
    nurse = an_account()
    check_somebody_stays_admin(nurse, changed(nurse, AccountChange(disabled=True), now=NOW), frozenset({uuid4()}))
