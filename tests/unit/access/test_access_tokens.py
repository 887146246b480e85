"""Tokens: who is asking, verified offline."""

import asyncio
import json
import time
from pathlib import Path
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from shared.access.actor import Actor
from shared.access.keys import PUBLISH_SECONDS, ROTATE_AFTER_SECONDS, KeyFile, KeyRing, SigningKeyUnusable
from shared.access.roles import Role
from shared.access.tokens import AUDIENCE, ISSUER, LEEWAY_SECONDS, TOKEN_SECONDS, TOKEN_TYPE, TokenSigner, TokenVerifier
from shared.errors import Unauthenticated, Unavailable

NOW = 1_800_000_000.0


class Watch:
    """A clock for both kinds of time that moves only when told."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at


def an_actor(*roles: Role) -> Actor:
    return Actor(uuid4(), "nurse.w1", frozenset(roles or (Role.WARD_NURSE,)), frozenset({"W1"}), uuid4())


class Published:
    """A published key set that counts how often it is read, and may be out of reach."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring, self.reads, self.reachable = ring, 0, True
        self.read_twice = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.reads += 1
        if self.reads == 2:
            self.read_twice.set()
        body = json.dumps(self.ring.jwks()).encode()
        status = b"200 OK" if self.reachable else b"503 Service Unavailable"
        writer.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()


async def code_of(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert token == "" or token not in caught.value.detail
    return caught.value.code


@pytest.mark.asyncio
async def test_a_token_tells_who_is_asking_with_roles_and_wards() -> None:
    ring, actor = KeyRing.make(NOW), an_actor(Role.DOCTOR, Role.WARD_NURSE)
    issued = TokenSigner(lambda: ring, now=lambda: NOW).sign(actor)
    assert await TokenVerifier(jwks=ring.jwks(), now=lambda: NOW).verify(issued.token) == actor
    assert issued.expires_at.timestamp() == NOW + TOKEN_SECONDS


@pytest.mark.asyncio
async def test_what_is_no_token_of_ours_is_refused_with_its_own_reason() -> None:
    watch, ring = Watch(), KeyRing.make(NOW)
    verifier = TokenVerifier(jwks=ring.jwks(), now=watch, monotonic=watch)
    signer = TokenSigner(lambda: ring, now=watch)
    good = signer.sign(an_actor()).token
    head, body, signature = good.split(".")
    assert await code_of(verifier, "") == "token_missing"
    for bad in (
        "x",
        "a.b.c",
        "é.b.c",
        good + "x" * 9000,
        f"{head}.{body}.",
        f"{head}.{body}.{signature[::-1]}",
        "\ud800",
    ):
        assert await code_of(verifier, bad) == "token_malformed"
    changed = body[:-2] + ("A" if body[-2] != "A" else "B") + body[-1]
    assert await code_of(verifier, f"{head}.{changed}.{signature}") == "token_malformed"
    other = KeyRing.make(NOW)
    assert await code_of(verifier, TokenSigner(lambda: other, now=watch).sign(an_actor()).token) == "token_key_unknown"


def forged(key: ECKey | OctKey, header: dict[str, str], **changes: object) -> str:
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": str(uuid4()), "sid": str(uuid4()), "name": "x",
        "roles": ["admin"], "wards": ["*"], "iat": int(NOW), "exp": int(NOW) + 60,
    }  # fmt: skip
    claims.update(changes)
    return jwt.encode({"typ": TOKEN_TYPE, **header}, claims, key, algorithms=[header["alg"]])


@pytest.mark.asyncio
async def test_every_claim_is_checked() -> None:
    ring = KeyRing.make(NOW)
    key, kid = ring.keys[0].key, ring.keys[0].kid
    verifier = TokenVerifier(jwks=ring.jwks(), now=lambda: NOW)
    header = {"alg": "ES256", "kid": kid}
    assert (await verifier.verify(forged(key, header))).roles == {Role.ADMIN}
    for changes, code in (
        ({"iss": "elsewhere"}, "token_wrong_issuer"),
        ({"aud": "elsewhere"}, "token_wrong_audience"),
        ({"aud": [AUDIENCE]}, "token_wrong_audience"),
        ({"iat": int(NOW) + LEEWAY_SECONDS + 1}, "token_not_yet_valid"),
        ({"exp": int(NOW) - LEEWAY_SECONDS}, "token_expired"),
        ({"exp": None}, "token_malformed"),
        ({"exp": True}, "token_malformed"),
        ({"exp": "tomorrow"}, "token_malformed"),
        ({"sub": "7"}, "token_malformed"),
        ({"sid": None}, "token_malformed"),
        ({"roles": "admin"}, "token_malformed"),
        ({"wards": [1]}, "token_malformed"),
        ({"name": 5}, "token_malformed"),
    ):
        assert await code_of(verifier, forged(key, header, **changes)) == code
    assert (await verifier.verify(forged(key, header, roles=["chief_magician"]))).roles == frozenset()


@pytest.mark.asyncio
async def test_another_algorithm_or_kind_of_token_is_refused_whatever_it_says() -> None:
    ring = KeyRing.make(NOW)
    key, kid = ring.keys[0].key, ring.keys[0].kid
    verifier = TokenVerifier(jwks=ring.jwks(), now=lambda: NOW)
    public = json.dumps(ring.keys[0].public())
    hmac_with_the_public_key = forged(OctKey.import_key(public.encode()), {"alg": "HS256", "kid": kid})
    assert await code_of(verifier, hmac_with_the_public_key) == "token_malformed"
    assert await code_of(verifier, forged(key, {"alg": "ES256", "kid": kid, "typ": "JWT"})) == "token_malformed"
    head, body, _ = forged(key, {"alg": "ES256", "kid": kid}).split(".")
    assert await code_of(verifier, f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{body}.") == "token_malformed"
    assert head


@pytest.mark.asyncio
async def test_a_token_dies_half_a_minute_after_its_end_even_when_it_is_remembered() -> None:
    watch, ring = Watch(), KeyRing.make(NOW)
    verifier = TokenVerifier(jwks=ring.jwks(), now=watch, monotonic=lambda: 0.0)
    token = TokenSigner(lambda: ring, now=watch).sign(an_actor()).token
    watch.at += TOKEN_SECONDS + LEEWAY_SECONDS - 1
    await verifier.verify(token)
    watch.at += 1
    assert await code_of(verifier, token) == "token_expired"


@pytest.mark.asyncio
async def test_keys_are_read_once_and_again_when_a_token_names_a_new_one_but_not_more_than_every_ten_seconds() -> None:
    watch, ring = Watch(), KeyRing.make(NOW - PUBLISH_SECONDS)
    published = Published(ring)
    server = await asyncio.start_server(published.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        verifier = TokenVerifier(jwks_url=f"http://127.0.0.1:{port}/jwks", now=watch, monotonic=watch)
        old = TokenSigner(lambda: ring, now=watch).sign(an_actor()).token
        await asyncio.gather(*(verifier.verify(old) for _ in range(20)))
        assert published.reads == 1

        published.ring = ring.rotated(watch.at)
        watch.at += 5
        fresh = TokenSigner(lambda: KeyRing(published.ring.keys[:1]), now=watch).sign(an_actor()).token
        assert await code_of(verifier, fresh) == "token_key_unknown"
        assert published.reads == 1
        watch.at += 5
        await verifier.verify(fresh)
        await verifier.verify(old)
        assert published.reads == 2

        foreign = KeyRing.make(NOW)
        for _ in range(5):
            stranger = TokenSigner(lambda: foreign, now=watch).sign(an_actor()).token
            assert await code_of(verifier, stranger) == "token_key_unknown"
        assert published.reads == 2


@pytest.mark.asyncio
async def test_without_any_key_nobody_can_be_known_and_the_caller_is_told_to_repeat() -> None:
    watch, ring = Watch(), KeyRing.make(NOW)
    published = Published(ring)
    published.reachable = False
    server = await asyncio.start_server(published.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        verifier = TokenVerifier(jwks_url=f"http://127.0.0.1:{port}/jwks", now=watch, monotonic=watch)
        token = TokenSigner(lambda: ring, now=watch).sign(an_actor()).token
        with pytest.raises(Unavailable):
            await verifier.verify(token)
        published.reachable = True
        watch.at += 1
        await verifier.verify(token)
        # The access service goes away: known keys go on.
        published.reachable = False
        watch.at += PUBLISH_SECONDS + 1
        await verifier.verify(token)
        await verifier.close()


@pytest.mark.asyncio
async def test_a_withdrawn_key_takes_its_tokens_with_it() -> None:
    watch, ring = Watch(), KeyRing.make(NOW - PUBLISH_SECONDS)
    published = Published(ring)
    server = await asyncio.start_server(published.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        verifier = TokenVerifier(jwks_url=f"http://127.0.0.1:{port}/jwks", now=watch, monotonic=watch)
        token = TokenSigner(lambda: ring, now=watch).sign(an_actor()).token
        await verifier.verify(token)
        published.ring = KeyRing.make(watch.at)
        watch.at += PUBLISH_SECONDS + 1
        await verifier.verify(token)  # notices that the keys are old and reads them beside
        async with asyncio.timeout(5):
            await published.read_twice.wait()
        await verifier.refresh()
        watch.at += 11
        assert await code_of(verifier, token) == "token_key_unknown"


@pytest.mark.asyncio
async def test_a_new_key_is_published_before_it_signs_and_the_old_one_stays_valid(tmp_path: Path) -> None:
    watch = Watch()
    keys = KeyFile(tmp_path / "secrets" / "signing.json", now=watch)
    signer = TokenSigner(keys.ring, now=watch)
    verifier = TokenVerifier(jwks=lambda: keys.ring().jwks(), now=watch, monotonic=watch)
    first = signer.sign(an_actor()).token
    keys.rotate()
    assert len(keys.ring().keys) == 2
    old_kid, new_kid = keys.ring().keys[1].kid, keys.ring().keys[0].kid
    assert keys.ring().signing_key(watch.at).kid == old_kid
    watch.at += PUBLISH_SECONDS
    assert keys.ring().signing_key(watch.at).kid == new_kid
    second = signer.sign(an_actor()).token
    await verifier.verify(first)
    await verifier.verify(second)


def test_the_key_file_is_for_its_owner_only_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "signing.json"
    one, two = KeyFile(path), KeyFile(path)
    assert one.ring().keys[0].kid == two.ring().keys[0].kid
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    path.chmod(0o644)
    with pytest.raises(SigningKeyUnusable, match="chmod 600"):
        one.ring()
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(SigningKeyUnusable, match="not a key file"):
        KeyFile(path).ring()


def test_a_key_of_a_month_is_followed_by_a_new_one_by_itself(tmp_path: Path) -> None:
    watch = Watch()
    keys = KeyFile(tmp_path / "signing.json", now=watch)
    before = keys.ring().keys[0].kid
    watch.at += ROTATE_AFTER_SECONDS
    assert [stored.kid for stored in keys.ring().keys][1:] == [before]


def test_the_published_set_holds_no_private_part() -> None:
    assert all("d" not in entry for entry in KeyRing.make(NOW).rotated(NOW).jwks()["keys"])


@pytest.mark.asyncio
async def test_a_remembered_token_costs_less_than_twenty_microseconds() -> None:
    ring = KeyRing.make(time.time())
    verifier = TokenVerifier(jwks=ring.jwks())
    token = TokenSigner(lambda: ring).sign(an_actor()).token
    await verifier.verify(token)
    rounds = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(1000):
            await verifier.verify(token)
        rounds.append((time.perf_counter() - begun) / 1000)
    assert min(rounds) < 20e-6
