"""A patient's own place in the queue, by a link without login and without names (R10)."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.beds import store
from services.beds.settings import Settings
from shared.db import Connection, Transaction
from shared.errors import NotFound


@dataclass(frozen=True, slots=True)
class Link:
    """Where the page is, and until when."""

    path: str
    expires_at: datetime


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def make_link(tx: Transaction, encounter_id: UUID, settings: Settings) -> Link:
    """Make a link to the place of a stay; only its hash is kept, so who reads the database cannot follow it.

    Raises:
        NotFound: the pool has no request of this stay.
    """
    row = await store.get_queued(tx, encounter_id)
    if row is None:
        raise NotFound("The pool has no request of this stay.")
    token = secrets.token_urlsafe(24)
    expires_at = tx.now + timedelta(days=settings.link_days)
    await store.insert_queue_link(tx, _hash(token), encounter_id, row["place"], expires_at)
    # After the mark, so that no server ever sees the secret in an address: the page sends it in a body.
    return Link(f"/queue#{token}", expires_at)


async def look(conn: Connection, token: str, now: datetime) -> dict[str, Any]:
    """Return place, how it moved, and why it is not yet time.

    Raises:
        NotFound: there is no such link any more.
    """
    row = await store.get_linked(conn, _hash(token), now)
    if row is None:
        raise NotFound("This link is not valid any more.")
    moved = row["first_place"] - row["place"] if row["place"] is not None and row["first_place"] is not None else None
    return {
        "state": row["state"],
        "place": row["place"],
        "of": row["waiting"],
        "moved": moved,
        "reason": row["waiting_reason"],
        "from_at": row["from_at"],
        "expires_at": row["expires_at"],
        "as_of": now,
    }
