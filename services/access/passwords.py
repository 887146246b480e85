"""Password hashes: argon2id, two at a time, in threads, so that logins never stop the event loop or eat the memory."""

import asyncio

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE_MAX = 2
MEMORY_KIB = 19_456  # OWASP's first choice with two passes and one lane: 19 MiB, some 20 ms
PASSES = 2


class Passwords:
    """Makes and checks hashes; an unknown name costs as much as a known one."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1, type=Type.ID)
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of a password, with its salt and cost."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password_hash: str | None, password: str) -> bool:
        """Say whether the password is the hashed one; without a hash the same work is done for nothing."""
        async with self._turn:
            right = await asyncio.to_thread(self._verify, password_hash or self._nobody, password)
        return right and password_hash is not None

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
