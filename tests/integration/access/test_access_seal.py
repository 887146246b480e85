"""The audit trail is sealed, and whoever touches it afterwards is found (S3, threat 10)."""

from uuid import uuid4

import asyncpg
import pytest

from shared.access import audit, seal
from shared.access.seal import Checkpoint, Finding
from shared.db import AuditRow

pytestmark = pytest.mark.asyncio


async def write(conn: asyncpg.Connection, *actions: str) -> None:
    await audit.insert(conn, [AuditRow(a, "patient", "p", uuid4()) for a in actions], actor=uuid4(), role="doctor")


async def as_dba(conn: asyncpg.Connection, sql: str) -> None:
    """Do what only somebody with the database's own rights can: switch the triggers off."""
    async with conn.transaction():
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute(sql)


async def test_rows_are_sealed_once_in_an_unbroken_chain(conn: asyncpg.Connection) -> None:
    assert await seal.seal(conn) is None
    await write(conn, "a", "b")
    await write(conn, "c")
    first = await seal.seal(conn)
    assert first is not None
    assert (first.seq, first.rows, first.from_tx) == (1, 3, 0)
    assert await seal.seal(conn) is None
    await write(conn, "d")
    second = await seal.seal(conn)
    assert second is not None
    assert (second.seq, second.rows, second.from_tx) == (2, 1, first.to_tx)
    assert await seal.verify(conn) == []
    assert await seal.head(conn) == Checkpoint(2, second.hash)


async def test_a_row_that_is_not_committed_yet_is_never_skipped(conn: asyncpg.Connection, access_dsn: str) -> None:
    slow = await asyncpg.connect(access_dsn)
    try:
        hanging = slow.transaction()
        await hanging.start()
        await write(slow, "begun first, committed last")
        await write(conn, "begun later, committed at once")
        assert await seal.seal(conn) is None, "nothing from the running transaction on is final"
        await hanging.commit()
        done = await seal.seal(conn)
        assert done is not None
        assert done.rows == 2
        assert await seal.verify(conn) == []
    finally:
        await slow.close()


async def test_one_writer_is_elected(conn: asyncpg.Connection, access_dsn: str) -> None:
    await write(conn, "a")
    other = await asyncpg.connect(access_dsn)
    try:
        async with other.transaction():
            await other.fetchval("SELECT pg_advisory_xact_lock(hashtext('audit_seal'), hashtext(current_schema()))")
            assert await seal.seal(conn) is None
        assert await seal.seal(conn) is not None
    finally:
        await other.close()


async def test_a_long_trail_is_sealed_in_pieces_that_never_cut_a_transaction(conn: asyncpg.Connection) -> None:
    await write(conn, "a", "b", "c", "d", "e")
    await write(conn, "f")
    await write(conn, "g")
    await write(conn, "h")
    sizes = []
    while done := await seal.seal(conn, rows_max=2):
        sizes.append(done.rows)
    assert sizes == [5, 2, 1]
    assert await seal.verify(conn) == []


async def test_nobody_changes_removes_or_empties_the_trail(conn: asyncpg.Connection) -> None:
    await write(conn, "a")
    await seal.seal(conn)
    for table in ("audit", "audit_seal"):
        for sql in (f"UPDATE {table} SET rows = 1" if table == "audit_seal" else "UPDATE audit SET role = 'x'",
                    f"DELETE FROM {table}", f"TRUNCATE {table}"):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(sql)


@pytest.mark.parametrize(
    ("sql", "finding", "row_id"),
    [
        ("UPDATE audit SET role = 'nurse' WHERE id = 2", Finding.ROW_CHANGED, 2),
        ("UPDATE audit SET at = at + interval '1 microsecond' WHERE id = 3", Finding.ROW_CHANGED, 3),
        ("UPDATE audit SET patient_tok = NULL WHERE id = 1", Finding.ROW_CHANGED, 1),
        ("DELETE FROM audit WHERE id = 2", Finding.ROW_REMOVED, 2),
        ("DELETE FROM audit WHERE id = 4", Finding.ROW_REMOVED, 4),
        (
            "INSERT INTO audit (id, tx, role, action, object_type, outcome) OVERRIDING SYSTEM VALUE "
            "SELECT 99, tx, 'doctor', 'x', 'patient', 'ok' FROM audit WHERE id = 1",
            Finding.ROW_INSERTED,
            99,
        ),
        ("UPDATE audit_seal SET row_digests = row_digests || 'x' WHERE seq = 1", Finding.SEAL_CHANGED, None),
        ("UPDATE audit_seal SET row_digests = substr(row_digests, 17) WHERE seq = 1", Finding.SEAL_CHANGED, None),
        ("UPDATE audit_seal SET rows = 9 WHERE seq = 1", Finding.SEAL_CHANGED, None),
        ("UPDATE audit_seal SET hash = prev_hash WHERE seq = 2", Finding.SEAL_CHANGED, None),
        ("UPDATE audit_seal SET prev_hash = hash WHERE seq = 2", Finding.CHAIN_BROKEN, None),
        ("DELETE FROM audit_seal WHERE seq = 1", Finding.SEAL_MISSING, None),
    ],
)
async def test_the_verifier_names_what_was_touched(
    conn: asyncpg.Connection, sql: str, finding: Finding, row_id: int | None
) -> None:
    await write(conn, "a", "b")
    await seal.seal(conn)
    await write(conn, "c", "d")
    await seal.seal(conn)
    assert await seal.verify(conn) == []
    await as_dba(conn, sql)
    found = await seal.verify(conn)
    assert (finding, row_id) in {(violation.finding, violation.row_id) for violation in found}
    if row_id is not None:
        assert len(found) == 1
        assert str(row_id) in found[0].sentence


async def test_a_row_changed_together_with_its_list_is_still_found(conn: asyncpg.Connection) -> None:
    await write(conn, "a", "b")
    await seal.seal(conn)
    await as_dba(conn, "UPDATE audit SET role = 'nurse' WHERE id = 1")
    row = await conn.fetchrow("SELECT * FROM audit WHERE id = 1")
    assert row is not None
    rows = await conn.fetch(seal._ROWS, 0, 2**62)
    listed = seal._pack((await seal._chain(seal.GENESIS, 1, 0, 1, rows))[1])
    await as_dba(conn, f"UPDATE audit_seal SET row_digests = '\\x{listed.hex()}' WHERE seq = 1")
    assert [violation.finding for violation in await seal.verify(conn)] == [Finding.SEAL_CHANGED]


async def test_a_chain_rewritten_or_cut_off_is_found_with_the_head_kept_elsewhere(conn: asyncpg.Connection) -> None:
    await write(conn, "a")
    await seal.seal(conn)
    await write(conn, "b")
    await seal.seal(conn)
    kept = await seal.head(conn)
    assert kept is not None
    assert await seal.verify(conn, checkpoint=kept) == []

    await as_dba(conn, "DELETE FROM audit_seal WHERE seq = 2")
    await as_dba(conn, "DELETE FROM audit WHERE action = 'b'")
    assert await seal.verify(conn) == []
    cut = await seal.verify(conn, checkpoint=kept)
    assert [violation.finding for violation in cut] == [Finding.SEAL_MISSING]

    await write(conn, "c")
    await seal.seal(conn)
    rewritten = await seal.verify(conn, checkpoint=kept)
    assert [violation.finding for violation in rewritten] == [Finding.SEAL_CHANGED]


async def test_after_a_dump_was_loaded_the_old_chain_is_not_continued(conn: asyncpg.Connection) -> None:
    await write(conn, "a")
    await conn.execute(
        "INSERT INTO audit_seal (seq, from_tx, to_tx, rows, row_digests, hash, prev_hash) "
        "VALUES (1, '0', '999999999', 0, '', '\\x00', '\\x00')"
    )
    with pytest.raises(seal.SealRefused, match="loaded from a dump"):
        await seal.seal(conn)
