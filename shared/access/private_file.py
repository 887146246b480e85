"""Files only their owner may read: signing keys and generated passwords (S9). Written whole or not at all."""

import os
import secrets
import stat
from pathlib import Path


class NotPrivate(Exception):
    """The file can be read by others; the sentence says what to do."""


def read(path: Path) -> bytes:
    """Return the content of a file that nobody else can read.

    Raises:
        NotPrivate: group or others may read it. FileNotFoundError: there is none.
    """
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise NotPrivate(f"The file {path} can be read by others; run: chmod 600 {path}")
    return path.read_bytes()


def create(path: Path, content: bytes) -> bool:
    """Make the file unless it exists, and say whether it was made; of several processes exactly one makes it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _draft(path, content)
    try:
        os.link(draft, path)  # unlike rename, this never replaces what another process made meanwhile
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def replace(path: Path, content: bytes) -> None:
    """Put new content in place of the old; a reader sees one or the other."""
    os.replace(_draft(path, content), path)


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft
