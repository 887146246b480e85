"""How a caller proves who is asking: short-lived ES256 tokens, verified by every service offline.

The access service signs, everybody verifies with the published keys (JWKS). A verified token is remembered by its hash
until it expires, because this stands in front of every request. Nothing in a token names a patient.

What offline costs: a role taken away or an account disabled takes effect elsewhere when the running token expires,
at most `TOKEN_SECONDS` later. The access service itself looks at the account on every refresh.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard
from uuid import UUID

import httpx2
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from shared.access.actor import ALL_WARDS, Actor
from shared.access.keys import PUBLISH_SECONDS, Jwk, KeyRing
from shared.access.roles import Role
from shared.errors import Unauthenticated, Unavailable

__all__ = ["ALL_WARDS", "TOKEN_SECONDS", "Actor", "IssuedToken", "TokenSigner", "TokenVerifier"]

ALGORITHM: Final = "ES256"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - the media type of RFC 9068
ISSUER: Final = "wardstream-access"
AUDIENCE: Final = "wardstream"
TOKEN_SECONDS: Final = 15 * 60
LEEWAY_SECONDS: Final = 30
TOKEN_CHARS_MAX: Final = 8192
REFETCH_SECONDS: Final = 10
REFETCH_WITHOUT_KEYS_SECONDS: Final = 1
FETCH_TIMEOUT_SECONDS: Final = 3.0
JWKS_BYTES_MAX: Final = 65_536
REMEMBERED_MAX: Final = 10_000

_KNOWN_ROLES: Final = {role.value: role for role in Role}
_REGISTRY: Final = JWSRegistry(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and the instant it stops being valid."""

    token: str
    expires_at: datetime


class TokenSigner:
    """Issues tokens with the key of the ring that verifiers know."""

    def __init__(self, ring: Callable[[], KeyRing], *, now: Callable[[], float] = time.time) -> None:
        self._ring = ring
        self._now = now

    def sign(self, actor: Actor, *, lifetime_seconds: int = TOKEN_SECONDS) -> IssuedToken:
        """Issue a token that says who the actor is for `lifetime_seconds`, and no longer."""
        now = int(self._now())
        expires = now + lifetime_seconds
        stored = self._ring().signing_key(now)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(actor.user_id),
            "sid": str(actor.session_id),
            "name": actor.username,
            "roles": sorted(actor.roles),
            "wards": sorted(actor.wards),
            "iat": now,
            "exp": expires,
        }
        header = {"alg": ALGORITHM, "kid": stored.kid}
        token = jwt.encode(header, claims, stored.key, registry=_REGISTRY, default_type=TOKEN_TYPE)
        return IssuedToken(token, datetime.fromtimestamp(expires, UTC))


class _UnknownKey(Exception):
    """The token names a key that is not in the set at hand."""


class TokenVerifier:
    """Turns a token into an `Actor`, or refuses it; needs the access service only when it meets a new key.

    Exactly one of `jwks_url` (a running service) and `jwks` (a fixed set, for tests and for the access service itself)
    is given. `jwks` may be a function, so that the access service always verifies with its present keys.
    """

    def __init__(
        self,
        jwks_url: str | None = None,
        *,
        jwks: Mapping[str, Sequence[Jwk]] | Callable[[], Mapping[str, Sequence[Jwk]]] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if (jwks_url is None) == (jwks is None):
            raise ValueError("Give either the address of the signing keys or the keys themselves.")
        self._url = jwks_url
        self._source = jwks
        self._now = now
        self._monotonic = monotonic
        self._keys: dict[str, ECKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._remembered: dict[bytes, tuple[Actor, float]] = {}

    async def verify(self, token: str) -> Actor:
        """Return who is asking; the same token asked again costs one hash and one look-up.

        Raises:
            Unauthenticated: the token is missing, malformed, expired, not from here, or signed with an unknown key.
            Unavailable: the signing keys were never read and cannot be read now, so nobody can be known.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._now()
        if self._keys and self._keys_are_old():
            self._refresh_soon()
        remembered = self._remembered.get(digest)
        if remembered is not None:
            if now < remembered[1]:
                return remembered[0]
            del self._remembered[digest]
        if not token:
            raise Unauthenticated("This needs a token; log in first.", code="token_missing")
        if len(token) > TOKEN_CHARS_MAX:
            raise _malformed()
        actor, valid_until = await self._verify_new(token, now)
        if len(self._remembered) >= REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = (actor, valid_until)
        return actor

    async def refresh(self) -> None:
        """Read the signing keys now, so that the first request does not wait for them.

        Raises:
            Unavailable: they cannot be read and none are known.
        """
        await self._fetch(least_gap_seconds=0)
        if not self._keys:
            raise _no_keys()

    async def close(self) -> None:
        """Give up a reading of the keys that goes on beside the requests."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _keys_are_old(self) -> bool:
        return self._monotonic() - self._fetched_at > PUBLISH_SECONDS

    def _refresh_soon(self) -> None:
        """Read the keys again beside the requests, which go on with the known ones meanwhile."""
        if (self._refreshing is None or self._refreshing.done()) and self._gap_is_over(REFETCH_SECONDS):
            self._refreshing = asyncio.create_task(self._fetch(least_gap_seconds=REFETCH_SECONDS))

    def _least_gap_seconds(self) -> float:
        """Return how often an unknown key may cause a reading; keys of this same process cost nothing to read."""
        if self._url is None:
            return 0
        return REFETCH_SECONDS if self._keys else REFETCH_WITHOUT_KEYS_SECONDS

    def _gap_is_over(self, least_gap_seconds: float) -> bool:
        return self._monotonic() - self._tried_at >= least_gap_seconds

    async def _verify_new(self, token: str, now: float) -> tuple[Actor, float]:
        try:
            return self._check(token, now)
        except _UnknownKey:
            await self._fetch(least_gap_seconds=self._least_gap_seconds())
        try:
            return self._check(token, now)
        except _UnknownKey:
            if not self._keys:
                raise _no_keys() from None
            raise Unauthenticated("The token is signed with an unknown key.", code="token_key_unknown") from None

    def _check(self, token: str, now: float) -> tuple[Actor, float]:
        """Check signature, type, issuer, audience and times with the keys at hand; the algorithm is pinned."""
        try:
            signed = jws.extract_compact(token.encode("ascii"), registry=_REGISTRY)
            header = signed.headers()
            if header.get("alg") != ALGORITHM or header.get("typ") != TOKEN_TYPE:
                raise _malformed()
            key = self._keys.get(str(header.get("kid")))
            if key is None:
                raise _UnknownKey
            if not jws.validate_compact(signed, key, registry=_REGISTRY):
                raise _malformed()
            claims = json.loads(signed.payload)
        except (JoseError, ValueError) as error:
            del error  # it may quote the token
            raise _malformed() from None
        return _actor_of(claims, now)

    async def _fetch(self, *, least_gap_seconds: float) -> None:
        """Read the key set unless that was tried too recently; when it cannot be read, the known keys stay."""
        async with self._fetching:
            if not self._gap_is_over(least_gap_seconds):
                return
            self._tried_at = self._monotonic()
            try:
                keys = _import_keys(await self._download())
            except (httpx2.HTTPError, JoseError, ValueError, KeyError, TypeError):
                return  # the caller decides: known keys go on, no keys is `Unavailable`
            if keys.keys() != self._keys.keys():
                self._remembered.clear()  # a key that was withdrawn takes its tokens with it
            self._keys = keys
            self._fetched_at = self._monotonic()

    async def _download(self) -> Any:
        if self._url is None:
            return self._source() if callable(self._source) else self._source
        async with httpx2.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS, trust_env=False) as client:
            response = await client.get(self._url)
            response.raise_for_status()
            if len(response.content) > JWKS_BYTES_MAX:
                raise ValueError("the key set is too large")
            return response.json()


def _no_keys() -> Unavailable:
    detail = "The signing keys cannot be read; try again."
    return Unavailable(detail, code="keys_unavailable", retry_after_seconds=REFETCH_WITHOUT_KEYS_SECONDS)


def _malformed() -> Unauthenticated:
    return Unauthenticated("The token is not one of ours; log in again.", code="token_malformed")


def _import_keys(document: Any) -> dict[str, ECKey]:
    """Return the P-256 verification keys of a key set by their names; other kinds are passed over."""
    found = {}
    for entry in document["keys"]:
        if entry.get("kty") == "EC" and entry.get("crv") == "P-256" and isinstance(entry.get("kid"), str):
            found[entry["kid"]] = ECKey.import_key(entry)
    if not found:
        raise ValueError("the key set has no usable key")
    return found


def _actor_of(claims: Any, now: float) -> tuple[Actor, float]:
    """Return the actor and the instant up to which the token is valid, leeway included."""
    if not isinstance(claims, dict):
        raise _malformed()
    if claims.get("iss") != ISSUER:
        raise Unauthenticated("The token was issued by somebody else.", code="token_wrong_issuer")
    if claims.get("aud") != AUDIENCE:
        raise Unauthenticated("The token was issued for somebody else.", code="token_wrong_audience")
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or not isinstance(expires, int) or isinstance(expires, bool):
        raise _malformed()
    if issued > now + LEEWAY_SECONDS:
        raise Unauthenticated("The token is not valid yet; check this machine's clock.", code="token_not_yet_valid")
    if expires + LEEWAY_SECONDS <= now:
        raise Unauthenticated("The token has expired; refresh it or log in again.", code="token_expired")
    roles, wards, name = claims.get("roles"), claims.get("wards"), claims.get("name")
    if not (isinstance(name, str) and _are_words(roles) and _are_words(wards)):
        raise _malformed()
    try:
        user_id, session_id = UUID(str(claims.get("sub"))), UUID(str(claims.get("sid")))
    except ValueError:
        raise _malformed() from None
    # A role this version does not know grants nothing.
    known = frozenset(_KNOWN_ROLES[role] for role in roles if role in _KNOWN_ROLES)
    actor = Actor(user_id=user_id, username=name, roles=known, wards=frozenset(wards), session_id=session_id)
    return actor, expires + LEEWAY_SECONDS


def _are_words(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
