"""Doors of access under /api/access.

Login, refresh and logout are neither commands nor queries of `shared.web.Door`: nobody is known yet, and their answers
hold tokens, which must not be kept for an Idempotency-Key. Everything else goes through the Door.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import BaseModel, Field, SecretStr, StringConstraints

from services.access import actions, domain, store
from services.access.domain import Account, AccountChange, LoggedIn, LoginRejected, SessionLimits
from services.access.passwords import Passwords
from services.access.settings import Settings
from shared.access.actor import Actor
from shared.access.keys import KeyFile
from shared.access.policy import Permission
from shared.access.roles import Role
from shared.access.tokens import TokenSigner
from shared.db import RETRYABLE, Transaction, transaction
from shared.errors import Forbidden, NotFound, TooManyRequests, Unauthenticated, Unavailable
from shared.web import (
    PROBLEM_RESPONSES,
    Answered,
    Body,
    Caller,
    Door,
    ProblemDocument,
    if_match,
    next_link,
    page_of,
)

T = TypeVar("T")

COOKIE = "wardstream_refresh"
COOKIE_PATH = "/api/access"
JWKS_SECONDS = 60
REJECTED_SECONDS_MIN = 0.3
"""Every rejected login takes at least this long, so that the time tells nothing about the name (S10)."""

PUBLIC_PATHS = frozenset(
    {"/api/access/login", "/api/access/refresh", "/api/access/logout", "/api/access/.well-known/jwks.json"}
)

Username = Annotated[str, StringConstraints(pattern=domain.USERNAME_FORM)]
Ward = Annotated[str, StringConstraints(pattern=domain.WARD_FORM)]
Wards = Annotated[frozenset[Ward], Field(max_length=200)]
Roles = Annotated[frozenset[Role], Field(min_length=1)]
DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=domain.DISPLAY_NAME_FORM)]
Password = Annotated[SecretStr, Field(max_length=domain.PASSWORD_CHARS_MAX)]


class LogIn(Body):
    """Who wants to come in."""

    username: Annotated[str, StringConstraints(max_length=64, pattern=domain.TYPED_NAME_FORM)]
    password: Password


class OpenAccount(Body):
    """A new member of staff. The password is no part of what an Idempotency-Key compares: no trace of it is kept."""

    username: Username
    display_name: DisplayName
    password: Password
    roles: Roles
    wards: Wards = frozenset()


class ChangeAccount(Body):
    """What to change; what is left out stays."""

    display_name: DisplayName | None = None
    roles: Roles | None = None
    wards: Wards | None = None
    disabled: bool | None = None


class NewPassword(Body):
    """A password set by an administrator."""

    password: Password


class OwnPassword(Body):
    """A password changed by its owner."""

    old_password: Password
    new_password: Password


class AccountShown(BaseModel):
    """An account as it is shown; never its password hash."""

    user_id: UUID
    username: str
    display_name: str
    roles: list[Role]
    wards: list[str]
    disabled_at: datetime | None
    locked_until: datetime | None
    version: int

    @classmethod
    def of(cls, account: Account) -> dict[str, Any]:
        """Return the shown form as plain data."""
        return cls(
            user_id=account.user_id,
            username=account.username,
            display_name=account.display_name,
            roles=sorted(account.roles),
            wards=sorted(account.wards),
            disabled_at=account.disabled_at,
            locked_until=account.locked_until,
            version=account.version,
        ).model_dump(mode="json")


class AccountPage(BaseModel):
    """Some accounts by name, and where the list goes on."""

    users: list[AccountShown]
    next: str | None


class TokenAnswer(BaseModel):
    """An access token; the refresh token travels beside it in a cookie no script can read."""

    token: str
    token_type: str
    expires_at: datetime
    session_expires_at: datetime
    user: AccountShown


class Me(BaseModel):
    """Who the token says is asking, and what it lets them do."""

    user_id: UUID
    username: str
    display_name: str
    roles: list[Role]
    wards: list[str]
    permissions: list[Permission]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the doors of this service need beside the database."""

    settings: Settings
    keys: KeyFile
    signer: TokenSigner
    passwords: Passwords
    limiter: FixedWindowRateLimiter

    @classmethod
    def of(cls, settings: Settings) -> "Desk":
        """Make the desk from the settings."""
        keys = KeyFile(settings.signing_key_file)
        keys.ring()  # a key file that cannot be used stops the start, not the first login
        limiter = FixedWindowRateLimiter(MemoryStorage())
        return cls(settings, keys, TokenSigner(keys.ring), Passwords(), limiter)

    @property
    def limits(self) -> SessionLimits:
        """How long sessions last."""
        return SessionLimits(
            lifetime=timedelta(seconds=self.settings.session_seconds_max),
            idle=timedelta(seconds=self.settings.session_idle_seconds_max),
        )


def router(door: Door, settings: Settings) -> APIRouter:
    """Return the routes of access."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    desk = Desk.of(settings)
    _session_routes(routes, door, desk)
    _own_routes(routes, door, desk)
    _user_routes(routes, door, desk)
    return routes


async def _transact(door: Door, work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Do the work and its audit rows in one transaction of nobody in particular.

    Raises:
        Unavailable: the database does not answer now.
    """
    try:
        async with transaction(door.db) as tx:
            return await work(tx)
    except RETRYABLE as error:
        raise Unavailable("The database does not answer now; try again.", retry_after_seconds=2) from error


def _session_routes(routes: APIRouter, door: Door, desk: Desk) -> None:
    too_many: dict[int | str, dict[str, Any]] = {429: {"model": ProblemDocument, "description": "Slow down"}}

    @routes.post("/login", response_model=TokenAnswer, responses=too_many, summary="Log in with name and password")
    async def log_in(request: Request, body: LogIn) -> Response:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        gates = _login_gates(desk.settings, request, body.username)
        for limit, names in gates:
            if not await desk.limiter.test(limit, *names):
                raise TooManyRequests("Too many failed logins; wait a minute.", retry_after_seconds=60)
        password = body.password.get_secret_value()
        password_hash = await _transact(door, lambda tx: store.get_password_hash(tx.conn, body.username))
        right = await desk.passwords.matches(password_hash, password)

        async def act(tx: Transaction) -> LoggedIn | LoginRejected:
            return await actions.log_in(tx, username=body.username, password_matches=right, limits=desk.limits)

        match await _transact(door, act):
            case LoginRejected():
                for limit, names in gates:
                    await desk.limiter.hit(limit, *names)
                await asyncio.sleep(max(0.0, begun + REJECTED_SECONDS_MIN - loop.time()))
                raise Unauthenticated(
                    "The name or the password is wrong, or there were too many tries; wait a little and try again.",
                    code="login_rejected",
                )
            case LoggedIn() as logged_in:
                return _token_response(desk, logged_in)

    @routes.post("/refresh", response_model=TokenAnswer, summary="Exchange the refresh cookie for a new token")
    async def refresh(request: Request) -> Response:
        refresh_token = _refresh_token_of(request)

        async def act(tx: Transaction) -> LoggedIn | LoginRejected:
            return await actions.refresh(tx, refresh_token=refresh_token, limits=desk.limits)

        match await _transact(door, act):
            case LoginRejected():
                raise Unauthenticated("The session has ended; log in again.", code="session_ended")
            case LoggedIn() as logged_in:
                return _token_response(desk, logged_in)

    @routes.post("/logout", status_code=204, response_class=Response, summary="End the session")
    async def log_out(request: Request) -> Response:
        refresh_token = _refresh_token_of(request)

        async def act(tx: Transaction) -> None:
            await actions.log_out(tx, refresh_token=refresh_token)

        await _transact(door, act)
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path=COOKIE_PATH, httponly=True, samesite="strict")
        response.headers["Clear-Site-Data"] = '"cache", "cookies", "storage"'
        response.headers["Cache-Control"] = "no-store"
        return response

    @routes.get("/.well-known/jwks.json", summary="The keys tokens are verified with (RFC 7517)")
    async def jwks() -> Response:
        content = orjson.dumps(desk.keys.ring().jwks())
        return Response(
            content, headers={"Cache-Control": f"max-age={JWKS_SECONDS}"}, media_type="application/jwk-set+json"
        )


def _login_gates(
    settings: Settings, request: Request, username: str
) -> tuple[tuple[RateLimitItemPerMinute, tuple[str, str]], ...]:
    """Return the two limits a failed login counts against: its name, known or not, and its client address (S10)."""
    address = request.client.host if request.client else "unknown"
    return (
        (RateLimitItemPerMinute(settings.failed_logins_per_minute_max), ("name", username)),
        (RateLimitItemPerMinute(settings.failed_logins_per_address_and_minute_max), ("address", address)),
    )


def _refresh_token_of(request: Request) -> str:
    """Return the refresh cookie.

    Raises:
        Forbidden: another site sent the browser here. Unauthenticated: there is no cookie.
    """
    # SameSite=Strict already keeps the cookie at home; this refuses even browsers that would not.
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This comes from another site.", code="cross_site")
    token = request.cookies.get(COOKIE)
    if not token:
        raise Unauthenticated("There is no session; log in.", code="session_missing")
    return token


def _token_response(desk: Desk, logged_in: LoggedIn) -> Response:
    account = logged_in.account
    actor = Actor(account.user_id, account.username, account.roles, account.wards, logged_in.session_id)
    issued = desk.signer.sign(actor, lifetime_seconds=desk.settings.token_seconds)
    answer = {
        "token": issued.token,
        "token_type": "Bearer",
        "expires_at": issued.expires_at,
        "session_expires_at": logged_in.session_ends_at,
        "user": AccountShown.of(account),
    }
    response = Response(orjson.dumps(answer), headers={"Cache-Control": "no-store"}, media_type="application/json")
    if logged_in.refresh_token is not None:
        response.set_cookie(
            COOKIE,
            logged_in.refresh_token,
            max_age=desk.settings.session_seconds_max,
            path=COOKIE_PATH,
            secure=desk.settings.secure_cookies,
            httponly=True,
            samesite="strict",
        )
    return response


def _own_routes(routes: APIRouter, door: Door, desk: Desk) -> None:
    @routes.get("/me", response_model=Me, summary="Who am I, and what may I do")
    async def me(request: Request) -> Response:
        actor: Actor = request.state.actor
        account = await _transact(door, lambda tx: store.get_account(tx.conn, actor.user_id))
        caller = Caller(actor)
        answer = Me(
            user_id=actor.user_id,
            username=actor.username,
            display_name=account.display_name if account else actor.username,
            roles=sorted(actor.roles),
            wards=sorted(actor.wards),
            permissions=[permission for permission in Permission if caller.scope_of(permission)],
        )
        return Response(answer.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")

    @routes.post("/me/password", status_code=204, response_class=Response, summary="Change my password")
    async def change_own_password(request: Request, body: OwnPassword) -> Response:
        actor: Actor = request.state.actor
        gate, names = _login_gates(desk.settings, request, actor.username)[0]
        if not await desk.limiter.hit(gate, *names):
            raise TooManyRequests("Too many tries; wait a minute.", retry_after_seconds=60)
        new_password = body.new_password.get_secret_value()
        domain.check_password(new_password, username=actor.username)
        old_hash = await _transact(door, lambda tx: store.get_password_hash(tx.conn, actor.username))
        if not await desk.passwords.matches(old_hash, body.old_password.get_secret_value()):
            raise Forbidden("The old password is wrong.", code="old_password_wrong")
        new_hash = await desk.passwords.hash(new_password)

        async def act(tx: Transaction) -> None:
            tx.actor = actor.user_id
            tx.role = ",".join(sorted(actor.roles))
            tx.audit("change_password", "account", actor.user_id)
            await actions.set_password(tx, user_id=actor.user_id, version=None, password_hash=new_hash)

        await _transact(door, act)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})


def _user_routes(routes: APIRouter, door: Door, desk: Desk) -> None:
    @routes.get("/users", response_model=AccountPage, summary="Staff accounts by name")
    async def list_users(request: Request) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.ACCOUNTS_STAFF_MANAGE)
            found = await store.list_accounts(tx.conn, after=page.after or "", rows_max=page.limit)
            following = found[-1].username if len(found) == page.limit else None
            answer = {"users": [AccountShown.of(account) for account in found], "next": next_link(request, following)}
            return Answered(answer, "accounts")

        return await door.query(request, Permission.ACCOUNTS_STAFF_MANAGE, read)

    @routes.get("/users/{user_id}", response_model=AccountShown, summary="One account, with its ETag")
    async def get_user(request: Request, user_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.ACCOUNTS_STAFF_MANAGE)
            account = await store.get_account(tx.conn, user_id)
            if account is None:
                raise NotFound("There is no such account.", code="account_unknown")
            return Answered(AccountShown.of(account), "account", user_id, etag=account.version)

        return await door.query(request, Permission.ACCOUNTS_STAFF_MANAGE, read)

    @routes.post("/users", status_code=201, response_model=AccountShown, summary="Open an account")
    async def open_account(request: Request, body: OpenAccount) -> Response:
        password = body.password.get_secret_value()
        domain.check_password(password, username=body.username)

        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.ACCOUNTS_STAFF_MANAGE)
            account = await actions.create_account(
                tx,
                username=body.username,
                display_name=body.display_name,
                password_hash=await desk.passwords.hash(password),
                roles=body.roles,
                wards=body.wards,
            )
            location = f"/api/access/users/{account.user_id}"
            return Answered(
                AccountShown.of(account),
                "account",
                account.user_id,
                status=201,
                etag=account.version,
                location=location,
            )

        return await door.command(request, Permission.ACCOUNTS_STAFF_MANAGE, act, body=body)

    @routes.patch("/users/{user_id}", response_model=AccountShown, summary="Change roles, wards or name; disable")
    async def change_user(request: Request, user_id: UUID, body: ChangeAccount) -> Response:
        version = if_match(request)
        change = AccountChange(body.display_name, body.roles, body.wards, body.disabled)

        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.ACCOUNTS_STAFF_MANAGE)
            account = await actions.change_account(tx, user_id=user_id, version=version, change=change)
            return Answered(AccountShown.of(account), "account", user_id, etag=account.version)

        return await door.command(request, Permission.ACCOUNTS_STAFF_MANAGE, act, body=body)

    @routes.put("/users/{user_id}/password", response_model=AccountShown, summary="Set a new password; sessions end")
    async def reset_password(request: Request, user_id: UUID, body: NewPassword) -> Response:
        version = if_match(request)
        password = body.password.get_secret_value()

        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.ACCOUNTS_STAFF_MANAGE)
            account = await store.get_account(tx.conn, user_id)
            if account is None:
                raise NotFound("There is no such account.", code="account_unknown")
            domain.check_password(password, username=account.username)
            changed = await actions.set_password(
                tx, user_id=user_id, version=version, password_hash=await desk.passwords.hash(password)
            )
            return Answered(AccountShown.of(changed), "account", user_id, etag=changed.version)

        return await door.command(request, Permission.ACCOUNTS_STAFF_MANAGE, act, body=body)
