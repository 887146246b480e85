"""The seal on the audit trail: a hash chain over its rows, so that a changed, removed or inserted row is found (S3).

Rows are sealed afterwards, not as they are written, so no request ever waits for the chain. One elected writer per
service calls `seal` every few seconds, again at once while it returns a seal. Each seal covers the rows whose
transaction number lies in [from_tx, to_tx), in order of id:

    hash = SHA-256(prev_hash || header || canonical_v1(row) || canonical_v1(row) || ...)

**Why the sealed set is final.** `to_tx` is never above `pg_snapshot_xmin(pg_current_snapshot())`: the lowest
transaction number still running, or the next one to be given out. Every transaction below it has ended, so its rows are
visible now or never will be; every transaction that begins later gets a higher number. `audit.tx` is the number of the
transaction that wrote the row (`pg_current_xact_id()`, given by the server). So no ordinary insert can add a row to a
sealed range, and the next seal begins exactly where this one ended. An id cursor could not promise that: ids are taken
before COMMIT and commit out of order.

**Naming the row.** Besides the hash, a seal keeps for each row its id and the first 8 bytes of its own digest, 16 bytes
a row (`row_digests`). The hash decides; the list only helps to name the culprit, and a list that was changed together
with its rows is reported as a changed seal.

**What this cannot show alone.** Who can rewrite the whole table can compute a whole new chain, or cut off its end.
Therefore `head` is sent to another machine regularly, and `verify` takes such a checkpoint. Transaction numbers belong
to one cluster: after a *logical* restore (dump and load) they start anew, and `seal` refuses to go on; a physical
restore keeps them.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from shared.db import Connection

ROWS_MAX = 10_000
"""Most rows of one seal, unless one transaction wrote more."""
ROWS_BETWEEN_BREATHS = 500
GENESIS = bytes(32)
ID_BYTES = 8
DIGEST_BYTES = 8
ENTRY_BYTES = ID_BYTES + DIGEST_BYTES
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_IS_ELECTED = "SELECT pg_try_advisory_xact_lock(hashtext('audit_seal'), hashtext(current_schema()))"
_LAST = "SELECT seq, to_tx::text::bigint AS to_tx, hash FROM audit_seal ORDER BY seq DESC LIMIT 1"
_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
# `tx::text::bigint` is the indexed expression; xid8 has no arithmetic and no BRIN operators of its own.
_FIRST_TRANSACTIONS = """
SELECT count(*) AS rows, min(t.tx) AS lowest, max(t.tx) AS highest
FROM (
    SELECT tx::text::bigint AS tx FROM audit
    WHERE tx::text::bigint >= $1 AND tx::text::bigint < $2
    ORDER BY 1 LIMIT $3
) t
"""
_ROWS = """
SELECT id, tx::text::bigint AS tx, at, actor, role, action, object_type, object_id, patient_tok, purpose, outcome
FROM audit
WHERE tx::text::bigint >= $1 AND tx::text::bigint < $2
ORDER BY id
"""
_INSERT = """
INSERT INTO audit_seal (seq, from_tx, to_tx, rows, row_digests, hash, prev_hash)
VALUES ($1, $2::bigint::text::xid8, $3::bigint::text::xid8, $4, $5, $6, $7)
"""
_SEALS = """
SELECT seq, from_tx::text::bigint AS from_tx, to_tx::text::bigint AS to_tx, rows, row_digests, hash, prev_hash
FROM audit_seal WHERE seq > $1 ORDER BY seq LIMIT 100
"""


class SealRefused(Exception):
    """The trail cannot be sealed; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What was sealed."""

    seq: int
    from_tx: int
    to_tx: int
    rows: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the chain as it was told to another machine."""

    seq: int
    hash: bytes


class Finding(StrEnum):
    """What is wrong with a sealed row, or with a seal."""

    ROW_CHANGED = "row_changed"
    ROW_REMOVED = "row_removed"
    ROW_INSERTED = "row_inserted"
    SEAL_CHANGED = "seal_changed"
    SEAL_MISSING = "seal_missing"
    CHAIN_BROKEN = "chain_broken"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not verify: in which seal, which row (when it can be told), and a sentence."""

    seal_seq: int
    finding: Finding
    row_id: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Digest:
    """The identity of a row in a seal: its id and the beginning of its digest."""

    row_id: int
    short: bytes


def canonical_v1(row: Sequence[object]) -> bytes:
    """Return the one byte form of a row: version, number of fields, then each field tagged and length-prefixed.

    Fields are integers, texts, uuids, aware instants (microseconds since 1970, UTC) or nothing; two different rows
    never give the same bytes. This form is frozen: a new one gets a new version, old seals keep theirs.
    """
    parts = [b"v1", len(row).to_bytes(2, "big")]
    for value in row:
        tag, content = _field(value)
        parts += (tag, len(content).to_bytes(4, "big"), content)
    return b"".join(parts)


def _field(value: object) -> tuple[bytes, bytes]:
    match value:
        case None:
            return b"0", b""
        case UUID():
            return b"u", value.bytes
        case str():
            return b"s", value.encode()
        case int():
            return b"i", str(value).encode()
        case datetime():
            return b"t", str((value.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)).encode()
        case _:
            raise TypeError("An audit row holds integers, texts, uuids and instants only.")


async def seal(conn: Connection, *, rows_max: int = ROWS_MAX) -> Seal | None:
    """Seal the next rows of this schema's audit trail, whose set is final, and commit; nothing when there are none.

    Safe to call from several processes: one is elected for the length of the transaction, the others get nothing (S3).

    Raises:
        SealRefused: transaction numbers went back, so the database was restored from a dump.
    """
    async with conn.transaction():
        if not await conn.fetchval(_IS_ELECTED):
            return None
        last = await conn.fetchrow(_LAST)
        seq, from_tx, prev_hash = (last["seq"] + 1, last["to_tx"], last["hash"]) if last else (1, 0, GENESIS)
        xmin: int = await conn.fetchval(_XMIN)
        if xmin < from_tx:
            raise SealRefused(
                "Transaction numbers are lower than those already sealed: this database was loaded from a dump. "
                "Keep the old trail as an archive and start a new chain."
            )
        first = await conn.fetchrow(_FIRST_TRANSACTIONS, from_tx, xmin, rows_max + 1)
        if first is None or first["rows"] == 0:
            return None
        to_tx = xmin
        if first["rows"] > rows_max:  # stop before the transaction that would be cut in two, or after it if it is alone
            to_tx = first["highest"] if first["highest"] > first["lowest"] else first["highest"] + 1
        rows = await conn.fetch(_ROWS, from_tx, to_tx)
        made_hash, digests = await _chain(prev_hash, seq, from_tx, to_tx, rows)
        await conn.execute(_INSERT, seq, from_tx, to_tx, len(rows), _pack(digests), made_hash, prev_hash)
        return Seal(seq=seq, from_tx=from_tx, to_tx=to_tx, rows=len(rows), hash=made_hash)


async def head(conn: Connection) -> Checkpoint | None:
    """Return the end of the chain, to be kept on another machine and given to `verify` later (S3)."""
    last = await conn.fetchrow(_LAST)
    return Checkpoint(seq=last["seq"], hash=last["hash"]) if last else None


async def verify(conn: Connection, *, checkpoint: Checkpoint | None = None) -> list[Violation]:
    """Recompute the whole chain and return what does not verify, naming seal and row; empty means untouched (S3).

    Rows newer than the last seal are not looked at. With a `checkpoint` also a rewritten or shortened chain is found.
    """
    found: list[Violation] = []
    seq, to_tx, prev_hash = 0, 0, GENESIS
    reached: bytes | None = None
    while seals := await conn.fetch(_SEALS, seq):
        for row in seals:
            found += _links(row, seq, to_tx, prev_hash)
            found += await _contents(conn, row)
            seq, to_tx, prev_hash = row["seq"], row["to_tx"], row["hash"]
            if checkpoint is not None and checkpoint.seq == seq:
                reached = prev_hash
    if checkpoint is not None and reached is None:
        sentence = f"Seal {checkpoint.seq} was told to another machine and is gone; the chain ends at {seq}."
        found.append(Violation(checkpoint.seq, Finding.SEAL_MISSING, None, sentence))
    elif checkpoint is not None and reached != checkpoint.hash:
        sentence = f"Seal {checkpoint.seq} is not the one that was told to another machine: the chain was rewritten."
        found.append(Violation(checkpoint.seq, Finding.SEAL_CHANGED, None, sentence))
    return found


def _links(row: Any, last_seq: int, last_to_tx: int, last_hash: bytes) -> Iterable[Violation]:
    """Check that a seal follows the one before it."""
    seq: int = row["seq"]
    for missing in range(last_seq + 1, min(seq, last_seq + 101)):
        yield Violation(missing, Finding.SEAL_MISSING, None, f"Seal {missing} is missing.")
    if seq == last_seq + 1 and (row["from_tx"] != last_to_tx or row["prev_hash"] != last_hash):
        sentence = f"Seal {seq} does not continue seal {last_seq}: one of the two was changed."
        yield Violation(seq, Finding.CHAIN_BROKEN, None, sentence)


async def _contents(conn: Connection, row: Any) -> list[Violation]:
    """Check a seal against the rows it covers, and name those that differ."""
    seq: int = row["seq"]
    rows = await conn.fetch(_ROWS, row["from_tx"], row["to_tx"])
    made_hash, digests = await _chain(row["prev_hash"], seq, row["from_tx"], row["to_tx"], rows)
    listed: bytes = row["row_digests"]
    if made_hash == row["hash"] and _pack(digests) == listed and len(rows) == row["rows"]:
        return []
    if len(listed) % ENTRY_BYTES:
        return [Violation(seq, Finding.SEAL_CHANGED, None, f"Seal {seq} was changed: its list of rows cannot be read.")]
    sealed = {entry.row_id: entry.short for entry in _unpack(listed)}
    present = {entry.row_id: entry.short for entry in digests}
    found = []
    for row_id in sorted(sealed.keys() | present.keys()):
        if row_id not in present:
            sentence = f"Audit row {row_id} of seal {seq} was removed."
            found.append(Violation(seq, Finding.ROW_REMOVED, row_id, sentence))
        elif row_id not in sealed:
            sentence = f"Audit row {row_id} was inserted into seal {seq} after it was closed."
            found.append(Violation(seq, Finding.ROW_INSERTED, row_id, sentence))
        elif sealed[row_id] != present[row_id]:
            sentence = f"Audit row {row_id} of seal {seq} was changed."
            found.append(Violation(seq, Finding.ROW_CHANGED, row_id, sentence))
    if not found or made_hash == row["hash"]:
        # Hash right, list wrong: the list was changed. Hash wrong, list right: rows and list were changed together.
        return [Violation(seq, Finding.SEAL_CHANGED, None, f"Seal {seq} was changed: its hash and its list disagree.")]
    return found


async def _chain(
    prev_hash: bytes, seq: int, from_tx: int, to_tx: int, rows: Sequence[Any]
) -> tuple[bytes, list[Digest]]:
    """Return the hash of a seal and the digest of each of its rows; other tasks get a turn in between."""
    running = hashlib.sha256(prev_hash)
    running.update(canonical_v1((seq, from_tx, to_tx, len(rows))))
    digests = []
    for number, row in enumerate(rows, start=1):
        form = canonical_v1(tuple(row))
        running.update(form)
        digests.append(Digest(row["id"], hashlib.sha256(form).digest()[:DIGEST_BYTES]))
        if number % ROWS_BETWEEN_BREATHS == 0:
            await asyncio.sleep(0)
    return running.digest(), digests


def _pack(digests: Iterable[Digest]) -> bytes:
    return b"".join(entry.row_id.to_bytes(ID_BYTES, "big", signed=True) + entry.short for entry in digests)


def _unpack(listed: bytes) -> Iterable[Digest]:
    for start in range(0, len(listed), ENTRY_BYTES):
        entry = listed[start : start + ENTRY_BYTES]
        yield Digest(int.from_bytes(entry[:ID_BYTES], "big", signed=True), entry[ID_BYTES:])
