"""The EC P-256 keys that access tokens are signed with: one file, one or two keys, changed while running (S9).

A new key is published before it signs: verifiers re-read the published set at least every five minutes, so a token
signed with a key of that age is known everywhere. The old key stays valid until the next change, so two keys are
valid at once and nobody is logged out. Emergency (a key got out): delete the file and restart the access service;
every access token dies at once, and sessions go on with a fresh one at their next refresh.
"""

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from shared.access import private_file

CURVE = "P-256"
PUBLISH_SECONDS = 300
"""How long a new key is published before it signs; verifiers re-read the set at least this often."""
ROTATE_AFTER_SECONDS = 30 * 24 * 3600
"""A key this old is followed by a new one."""

Jwk = dict[str, str | list[str]]


class SigningKeyUnusable(Exception):
    """The key file cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A private key and the second it was made."""

    key: ECKey
    created_at: int

    @classmethod
    def make(cls, now: float) -> Self:
        """Make a new random key."""
        return cls(ECKey.generate_key(CURVE, parameters={"kid": secrets.token_urlsafe(12)}, private=True), int(now))

    @property
    def kid(self) -> str:
        """The name of the key that tokens carry."""
        return str(self.key.kid)

    def public(self) -> Jwk:
        """Return what verifiers may know."""
        return {**self.key.as_dict(private=False), "alg": "ES256", "use": "sig"}


@dataclass(frozen=True, slots=True)
class KeyRing:
    """One or two keys, newest first."""

    keys: tuple[StoredKey, ...]

    @classmethod
    def make(cls, now: float) -> Self:
        """Make a ring with one new key."""
        return cls((StoredKey.make(now),))

    def signing_key(self, now: float) -> StoredKey:
        """Return the newest key that verifiers can be expected to know; a lone key signs at once."""
        published = [stored for stored in self.keys if stored.created_at + PUBLISH_SECONDS <= now]
        return published[0] if published else self.keys[-1]

    def rotated(self, now: float) -> "KeyRing":
        """Return the ring with a new key in front and the present signing key behind it, never more than two."""
        return KeyRing((StoredKey.make(now), self.signing_key(now)))

    def jwks(self) -> dict[str, Sequence[Jwk]]:
        """Return the public keys as a JSON Web Key Set (RFC 7517)."""
        return {"keys": [stored.public() for stored in self.keys]}

    def dump(self) -> bytes:
        """Return the file's content, private parts included."""
        entries = [{**s.key.as_dict(private=True), "created_at": str(s.created_at)} for s in self.keys]
        return json.dumps({"keys": entries}, indent=1).encode()

    @classmethod
    def load(cls, content: bytes) -> Self:
        """Read a file's content back.

        Raises:
            ValueError: it is not one or two P-256 keys.
        """
        document = json.loads(content)
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list) or len(entries) not in (1, 2):
            raise ValueError("one or two keys are expected")
        stored = []
        for entry in entries:
            created_at = int(entry["created_at"])
            key = ECKey.import_key({k: v for k, v in entry.items() if k != "created_at"})
            if not key.is_private or key.kid is None or entry.get("crv") != CURVE:
                raise ValueError("each key must be a private P-256 key with a kid")
            stored.append(StoredKey(key, created_at))
        return cls(tuple(stored))


class KeyFile:
    """The key ring in a file only its owner can read; made if absent, read again when it changes (S9)."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._seen: tuple[int, int, int] | None = None
        self._ring: KeyRing | None = None

    def ring(self) -> KeyRing:
        """Return the present ring; a ring whose newest key is old gets a new one first.

        Raises:
            SigningKeyUnusable: the file is readable by others, or is not a key file.
        """
        ring = self._read()
        if ring.keys[0].created_at + ROTATE_AFTER_SECONDS <= self._now():
            ring = self.rotate()
        return ring

    def rotate(self) -> KeyRing:
        """Put a new key in front now; it starts to sign once it has been published long enough."""
        private_file.replace(self._path, self._read().rotated(self._now()).dump())
        return self._read()

    def _read(self) -> KeyRing:
        if not self._path.exists():
            private_file.create(self._path, KeyRing.make(self._now()).dump())
        info = self._path.stat()
        seen = (info.st_mtime_ns, info.st_ino, info.st_mode)
        if self._ring is None or seen != self._seen:
            try:
                self._ring = KeyRing.load(private_file.read(self._path))
            except private_file.NotPrivate as error:
                raise SigningKeyUnusable(str(error)) from None
            except (ValueError, KeyError, TypeError, JoseError) as error:
                # The cause may quote key material, so only its kind is told.
                kind = type(error).__name__
                raise SigningKeyUnusable(f"The key file {self._path} is not a key file ({kind}).") from None
            self._seen = seen
        return self._ring
