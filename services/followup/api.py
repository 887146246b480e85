"""Doors of follow-up under /api/followup."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.followup import actions, store
from services.followup.domain import COMMUNITY, COMMUNITY_PLACE, DEATH, Outcome, Plan, Policy, Task
from services.followup.settings import Rules
from shared.access.policy import Permission
from shared.contracts.envelope import Instant
from shared.db import Transaction
from shared.errors import BadRequest, NotFound
from shared.web import PROBLEM_RESPONSES, Answered, Caller, Door, FactBody, NotYet, next_link, page_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class CompleteTask(FactBody):
    """What came of the contact."""

    outcome: Outcome


def _shown_task(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "item": task.item,
        "executor": task.executor,
        "method": task.method,
        "due_from_at": task.due_from_at,
        "due_to_at": task.due_to_at,
        "state": task.state.value,
        "outcome": task.outcome,
        "completed_at": task.completed_at,
        "missed_at": task.missed_at,
        "escalated_to": task.escalated_to,
    }


def _shown_plan(plan: Plan) -> dict[str, Any]:
    return {
        "plan_id": plan.plan_id,
        "encounter_id": plan.encounter_id,
        "patient_tok": plan.patient_tok,
        "template": plan.template,
        "state": plan.state.value,
        "reason": plan.reason,
        "discharged_at": plan.discharged_at,
        "disposition": plan.disposition,
        "tasks": [_shown_task(task) for task in plan.tasks],
    }


def router(door: Door, rules: Rules | None = None) -> APIRouter:
    """Return the routes of follow-up."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _plan_routes(routes, door)
    _task_routes(routes, door, actions.policy_of(rules or Rules()))
    return routes


def _plan_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/encounters/{encounter_id}/plan", summary="The plan of a stay; waits for it with `Prefer: wait=N`")
    async def get_plan(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            plan = await store.get_plan(tx, encounter_id)
            if plan is None:
                raise await _why_no_plan(tx, encounter_id)
            place = COMMUNITY_PLACE if plan.disposition == COMMUNITY else None
            caller.require(Permission.FOLLOWUP_READ, ward=place)
            return Answered(_shown_plan(plan), "follow_up_plan", plan.plan_id, plan.patient_tok)

        return await door.query(request, Permission.FOLLOWUP_READ, read)


async def _why_no_plan(tx: Transaction, encounter_id: UUID) -> Exception:
    if await store.get_stay_disposition(tx, encounter_id) == DEATH:
        return NotFound("There is no follow-up after a death.")
    return NotYet("No discharge of this stay is known here yet.", code="no_plan_yet", wait_for=encounter_id)


def _task_routes(routes: APIRouter, door: Door, policy: Policy) -> None:
    @routes.get("/tasks", summary="Open tasks whose window opens before then, overdue ones first")
    async def list_tasks(
        request: Request,
        due_before: Annotated[Instant | None, Query(description="Default: now.")] = None,
    ) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.FOLLOWUP_READ)
            rows = await store.list_open_tasks(
                tx,
                due_before=due_before or tx.now,
                places=None if scope.everywhere else sorted(scope.wards),
                after=_cursor(page.after),
                limit=page.limit,
            )
            following = _cursor_text(rows[-1]) if len(rows) == page.limit else None
            body = {"tasks": [dict(row) for row in rows], "next": next_link(request, following)}
            return Answered(body, "follow_up_tasks", due_before)

        return await door.query(request, Permission.FOLLOWUP_READ, read)

    @routes.post("/tasks/{task_id}/completion", summary="A contact was made, or will not be: what came of it")
    async def complete_task(request: Request, task_id: UUID, body: CompleteTask) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            task = await actions.find_task(tx, task_id)
            caller.require(Permission.FOLLOWUP_PERFORM, ward=task.place)
            plan = await actions.complete_task(tx, task, body.outcome, policy)
            answer = {"task_id": task_id, "state": "completed", "plan_id": plan.plan_id, "plan_state": plan.state.value}
            return Answered(answer, "follow_up_task", task_id, task.patient_tok)

        return await door.command(request, Permission.FOLLOWUP_PERFORM, act, body=body)


def _cursor_text(row: Any) -> str:
    return f"{(row['due_to_at'] - _EPOCH) // _MICROSECOND}.{row['task_id']}"


def _cursor(after: str | None) -> tuple[datetime, UUID] | None:
    if after is None:
        return None
    found = re.fullmatch(r"(-?\d{1,16})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", after)
    if found is None:
        raise BadRequest("after is no cursor of ours.", code="bad_cursor")
    return _EPOCH + int(found[1]) * _MICROSECOND, UUID(found[2])
