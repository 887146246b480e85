"""The audit trail: one row for every read of patient data and every write, in the commit of the effect (S3).

A row says who (account and the role that allowed it), what, of which thing, of which patient (by token), for what
purpose and with what outcome; never the data itself. Doors note rows with `Transaction.audit`, and the flush before
COMMIT writes them; `insert` is for the rest, above all for refusals, whose transaction is rolled back.

The table is append-only for everybody (42501), and `shared.access.seal` shows when somebody got around that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.db import AuditRow, Connection

__all__ = ["AuditEntry", "AuditRow", "insert", "list_audit"]

SYSTEM_ROLE = "system"
"""The role of a row that no person caused directly: a consumer, a timer, a failed login."""

_INSERT = """
INSERT INTO audit (actor, role, action, object_type, object_id, patient_tok, purpose, outcome)
SELECT $1, $2, a.action, a.object_type, a.object_id, a.patient_tok, a.purpose, a.outcome
FROM unnest($3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::text[])
     AS a(action, object_type, object_id, patient_tok, purpose, outcome)
"""

_LIST = """
SELECT id, at, actor, role, action, object_type, object_id, patient_tok, purpose, outcome
FROM audit
WHERE ($1::uuid IS NULL OR patient_tok = $1) AND ($2::uuid IS NULL OR actor = $2) AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC
LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of the trail as it is read back."""

    id: int
    at: datetime
    actor: UUID | None
    role: str
    action: str
    object_type: str
    object_id: str | None
    patient_tok: UUID | None
    purpose: str | None
    outcome: str


async def insert(conn: Connection, rows: Sequence[AuditRow], *, actor: UUID | None, role: str = SYSTEM_ROLE) -> None:
    """Write rows of one actor in one statement, in whatever transaction `conn` is in."""
    await conn.execute(
        _INSERT,
        actor,
        role,
        [row.action for row in rows],
        [row.object_type for row in rows],
        [row.object_id for row in rows],
        [row.patient_tok for row in rows],
        [row.purpose for row in rows],
        [row.outcome for row in rows],
    )


async def list_audit(
    conn: Connection, *, patient_tok: UUID | None, actor: UUID | None, before_id: int | None, rows_max: int
) -> list[AuditEntry]:
    """Return rows newest first, of one patient or one actor or both, older than `before_id` (keyset)."""
    rows = await conn.fetch(_LIST, patient_tok, actor, before_id, rows_max)
    return [AuditEntry(**row) for row in rows]
