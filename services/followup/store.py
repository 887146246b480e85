"""SQL of the followup schema. One function, one statement; the first word tells cost and effect.

Lock order: archive, then plan, then task. Whoever announces something of a plan holds its row.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.followup.domain import Archive, Plan, PlanState, Stay, Task, TaskState
from shared.db import Transaction


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _stay(row: dict[str, Any]) -> Stay:
    return Stay(
        encounter_id=UUID(row["encounter_id"]),
        patient_tok=UUID(row["patient_tok"]),
        began_at=_at(row["began_at"]),
        left_at=_at(row["left_at"]),
        ending=row["ending"],
        disposition=row["disposition"],
    )


def _task(row: dict[str, Any]) -> Task:
    return Task(
        task_id=UUID(row["task_id"]),
        item=row["item"],
        executor=row["executor"],
        place=row["place"],
        method=row["method"],
        opens_after_hours=row["opens_after_hours"],
        closes_after_hours=row["closes_after_hours"],
        due_from_at=datetime.fromisoformat(row["due_from_at"]),
        due_to_at=datetime.fromisoformat(row["due_to_at"]),
        state=TaskState(row["state"]),
        outcome=row["outcome"],
        completed_at=_at(row["completed_at"]),
        missed_at=_at(row["missed_at"]),
        escalated_to=row["escalated_to"],
    )


def _plan(row: dict[str, Any]) -> Plan:
    return Plan(
        plan_id=UUID(row["plan_id"]),
        encounter_id=UUID(row["encounter_id"]),
        patient_tok=UUID(row["patient_tok"]),
        template=row["template"],
        state=PlanState(row["state"]),
        reason=row["reason"],
        discharged_at=datetime.fromisoformat(row["discharged_at"]),
        disposition=row["disposition"],
        tasks=tuple(_task(task) for task in row["tasks"] or ()),
    )


async def lock_archive(tx: Transaction, patient_tok: UUID, encounter_id: UUID, *, since: datetime) -> Archive:
    """Lock a patient's archive and plans and return them with the stays that matter since then (R2, R30)."""
    found = await tx.conn.fetchval("SELECT lock_archive($1, $2, $3)", patient_tok, encounter_id, since)
    stays = [_stay(row) for row in found["stays"]]
    return Archive(
        patient_tok=patient_tok,
        deceased=found["deceased"],
        stays={stay.encounter_id: stay for stay in stays},
        plans=tuple(_plan(row) for row in found["plans"]),
    )


def _stay_row(stay: Stay) -> dict[str, Any]:
    return {
        "encounter_id": stay.encounter_id,
        "patient_tok": stay.patient_tok,
        "began_at": stay.began_at,
        "left_at": stay.left_at,
        "ending": stay.ending,
        "disposition": stay.disposition,
    }


def _plan_row(plan: Plan) -> dict[str, Any]:
    return {
        "plan_id": plan.plan_id,
        "encounter_id": plan.encounter_id,
        "patient_tok": plan.patient_tok,
        "template": plan.template,
        "items": [task.item for task in plan.tasks],
        "state": plan.state.value,
        "reason": plan.reason,
        "discharged_at": plan.discharged_at,
        "disposition": plan.disposition,
    }


def _task_row(plan: Plan, task: Task) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "plan_id": plan.plan_id,
        "item": task.item,
        "executor": task.executor,
        "place": task.place,
        "method": task.method,
        "opens_after_hours": task.opens_after_hours,
        "closes_after_hours": task.closes_after_hours,
        "due_from_at": task.due_from_at,
        "due_to_at": task.due_to_at,
        "state": task.state.value,
        "outcome": task.outcome,
        "completed_at": task.completed_at,
        "missed_at": task.missed_at,
        "escalated_to": task.escalated_to,
    }


_WRITE = """
WITH known AS (
    INSERT INTO stay SELECT * FROM jsonb_populate_recordset(NULL::stay, $1)
    ON CONFLICT (encounter_id) DO UPDATE
    SET began_at = excluded.began_at, left_at = excluded.left_at, ending = excluded.ending, disposition = excluded.disposition
), planned AS (
    INSERT INTO plan SELECT * FROM jsonb_populate_recordset(NULL::plan, $2)
    ON CONFLICT (plan_id) DO UPDATE
    SET state = excluded.state, reason = excluded.reason, discharged_at = excluded.discharged_at,
        disposition = excluded.disposition
)
INSERT INTO task SELECT * FROM jsonb_populate_recordset(NULL::task, $3)
ON CONFLICT (task_id) DO UPDATE
SET executor = excluded.executor, place = excluded.place, due_from_at = excluded.due_from_at, due_to_at = excluded.due_to_at,
    state = excluded.state, outcome = excluded.outcome, completed_at = excluded.completed_at, missed_at = excluded.missed_at,
    escalated_to = excluded.escalated_to
"""


async def write_plans(tx: Transaction, stay: Stay | None, plans: Sequence[Plan]) -> None:
    """Write what is known of a stay, and new or changed plans with all their tasks, all of it or nothing (R33)."""
    await tx.conn.execute(
        _WRITE,
        [] if stay is None else [_stay_row(stay)],
        [_plan_row(plan) for plan in plans],
        [_task_row(plan, task) for plan in plans for task in plan.tasks],
    )


async def mark_deceased(tx: Transaction, patient_tok: UUID) -> None:
    """Write that a contact learned of the patient's death."""
    await tx.conn.execute("UPDATE archive SET deceased_at = $2 WHERE patient_tok = $1", patient_tok, tx.now)


async def get_plan(tx: Transaction, encounter_id: UUID) -> Plan | None:
    """Return the plan of a stay with its tasks, or nothing."""
    found = await tx.conn.fetchval(
        "SELECT to_jsonb(p) || jsonb_build_object('tasks', (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.opens_after_hours, t.item)"
        " FROM task t WHERE t.plan_id = p.plan_id)) FROM plan p WHERE p.encounter_id = $1",
        encounter_id,
    )
    return None if found is None else _plan(found)


async def get_stay_disposition(tx: Transaction, encounter_id: UUID) -> str | None:
    """Return how a stay ended, or nothing while it has not."""
    disposition: str | None = await tx.conn.fetchval(
        "SELECT disposition FROM stay WHERE encounter_id = $1", encounter_id
    )
    return disposition


async def get_task_reference(tx: Transaction, task_id: UUID) -> Any:
    """Return patient, stay and place of a task, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT p.patient_tok, p.encounter_id, t.place FROM task t JOIN plan p USING (plan_id) WHERE t.task_id = $1",
        task_id,
    )


async def list_open_tasks(
    tx: Transaction,
    *,
    due_before: datetime,
    places: list[str] | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Any]:
    """Return open tasks whose window opens before then, overdue ones first; `places` None means all."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT t.task_id, t.plan_id, p.encounter_id, p.patient_tok, t.item, t.executor, t.method, t.due_from_at, t.due_to_at,"
        " t.state, t.escalated_to FROM task t JOIN plan p USING (plan_id)"
        " WHERE t.state IN ('requested', 'missed') AND t.due_from_at < $1 AND ($2::text[] IS NULL OR t.place = ANY($2))"
        " AND ($3::timestamptz IS NULL OR (t.due_to_at, t.task_id) > ($3, $4::uuid))"
        " ORDER BY t.due_to_at, t.task_id LIMIT $5",
        due_before,
        places,
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )
    return rows


async def lock_overdue_plans(tx: Transaction, *, before: datetime, limit: int) -> list[UUID]:
    """Lock and return plans with a task that should have been done before then; those being worked on elsewhere are left out."""
    rows = await tx.conn.fetch(
        "SELECT plan_id FROM plan WHERE state = 'active' AND plan_id IN (SELECT plan_id FROM task WHERE state = 'requested'"
        " AND due_to_at < $1 ORDER BY due_to_at LIMIT $2) ORDER BY plan_id FOR UPDATE SKIP LOCKED",
        before,
        limit,
    )
    return [row["plan_id"] for row in rows]


async def mark_missed(tx: Transaction, plan_ids: Sequence[UUID], *, before: datetime) -> list[Any]:
    """Escalate the overdue tasks of locked plans to the hospital's nurses and return them, each plan's in order."""
    rows: list[Any] = await tx.conn.fetch(
        "WITH missed AS (UPDATE task SET state = 'missed', missed_at = $3, escalated_to = 'hospital_nurse',"
        " executor = 'hospital_nurse', place = NULL WHERE plan_id = ANY($1) AND state = 'requested' AND due_to_at < $2"
        " RETURNING task_id, plan_id, due_to_at)"
        " SELECT task_id, plan_id, encounter_id FROM missed JOIN plan USING (plan_id) ORDER BY plan_id, due_to_at, task_id",
        plan_ids,
        before,
        tx.now,
    )
    return rows
