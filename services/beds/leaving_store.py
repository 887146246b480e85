"""SQL of the way home: expected day and milestones. One function, one statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db import Transaction


async def mark_expected(tx: Transaction, encounter_id: UUID, at: datetime) -> None:
    """Write when a patient is expected to leave, for the stay and on the board."""
    await tx.conn.execute(
        "WITH stay AS (UPDATE bed_request SET expected_at = $2, leaving_at = $2 WHERE encounter_id = $1 RETURNING bed_id)"
        " UPDATE bed SET until = $2, version = version + 1 FROM stay WHERE bed.bed_id = stay.bed_id AND bed.encounter_id = $1",
        encounter_id,
        at,
    )


async def mark_reached(tx: Transaction, encounter_id: UUID, milestone: str) -> bool:
    """Write that a step is done now; False when it was done before."""
    done: str = await tx.conn.execute(
        "INSERT INTO discharge_step AS s (encounter_id, milestone, reached_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (encounter_id, milestone) DO UPDATE SET reached_at = $3 WHERE s.reached_at IS NULL",
        encounter_id,
        milestone,
        tx.now,
    )
    return done.endswith("1")


async def mark_not_reached(tx: Transaction, encounter_id: UUID, milestone: str) -> bool:
    """Write that a step is not done; False when nobody said it was."""
    done: str = await tx.conn.execute(
        "UPDATE discharge_step SET reached_at = NULL WHERE encounter_id = $1 AND milestone = $2 AND reached_at IS NOT NULL",
        encounter_id,
        milestone,
    )
    return done.endswith("1")


async def mark_delayed(tx: Transaction, encounter_id: UUID, milestone: str, reason: str) -> bool:
    """Write why a step is late; False when it is done."""
    done: str = await tx.conn.execute(
        "INSERT INTO discharge_step AS s (encounter_id, milestone, delay_reason) VALUES ($1, $2, $3)"
        " ON CONFLICT (encounter_id, milestone) DO UPDATE SET delay_reason = $3 WHERE s.reached_at IS NULL",
        encounter_id,
        milestone,
        reason,
    )
    return done.endswith("1")


async def list_steps(tx: Transaction, encounter_ids: Sequence[UUID]) -> list[Any]:
    """Return what is written of the steps of these stays."""
    rows: list[Any] = await tx.conn.fetch("SELECT * FROM discharge_step WHERE encounter_id = ANY ($1)", encounter_ids)
    return rows
