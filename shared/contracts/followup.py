"""What follow-up (随访) announces: plans and their tasks."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Code, Event, Instant, Topic

PLANS = Topic("followup.plans.v1", owner="followup", key="plan_id")

Executor = Literal["hospital_nurse", "primary_care"]


class PlanEvent(Event):
    """A fact of one follow-up plan."""

    topic: ClassVar[Topic] = PLANS
    key_field: ClassVar[str] = "plan_id"
    plan_id: UUID
    encounter_id: UUID


class PlannedTask(BaseModel):
    """One task of a plan with its window."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    task_id: UUID
    item: Code
    executor: Executor
    due_from_at: Instant
    due_to_at: Instant


class FollowUpPlanActivated(PlanEvent):
    """A discharge opened its follow-up plan (R30)."""

    patient_tok: UUID
    template: Code


class FollowUpTasksCreated(PlanEvent):
    """All tasks of the plan were written at once (R33)."""

    tasks: tuple[PlannedTask, ...]


class FollowUpTaskCompleted(PlanEvent):
    """A task was done."""

    task_id: UUID
    outcome: Code
    completed_at: Instant


class FollowUpTaskMissed(PlanEvent):
    """A task's window and grace passed without contact; it escalates and never expires silently (R33)."""

    task_id: UUID


class FollowUpPlanHeld(PlanEvent):
    """The patient is back in hospital; tasks wait."""

    reason: Code


class FollowUpPlanResumed(PlanEvent):
    """The patient left again; tasks go on."""

    reason: Code


class FollowUpPlanRevoked(PlanEvent):
    """Nobody will be contacted any more (death, wrong patient)."""

    reason: Code
