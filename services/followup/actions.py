"""What can be done in follow-up. One action = one transaction; doors, consumers and the overdue timer use them.

Everything learned of a stay goes one way: lock the patient's archive, add the fact, let the domain say what each plan of the
patient is now, write the difference, announce it. Two statements, however much changes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.followup import domain, store
from services.followup.domain import Archive, Moment, Outcome, Plan, PlanState, Policy, Refusal, Reviewed, Stay
from services.followup.settings import Rules
from shared.contracts.followup import (
    FollowUpPlanActivated,
    FollowUpPlanHeld,
    FollowUpPlanResumed,
    FollowUpPlanRevoked,
    FollowUpTaskCompleted,
    FollowUpTaskMissed,
    FollowUpTasksCreated,
    PlanEvent,
    PlannedTask,
)
from shared.db import Transaction
from shared.errors import NotFound, Refused
from shared.messaging import outbox

OVERDUE_PLANS_PER_TURN = 200


def policy_of(rules: Rules) -> Policy:
    """Return what the hospital decided as the value the rules take."""
    return Policy(
        templates=domain.read_templates(rules.templates(), rules.template_rules()),
        first_contact_against_advice_hours=rules.first_contact_against_advice_hours,
        readmission_max=timedelta(days=rules.readmission_days),
        overdue_grace=timedelta(hours=rules.overdue_grace_hours),
    )


def _announce(tx: Transaction, event: PlanEvent) -> None:
    """Append an event under the stay its plan belongs to, which may be an older one than the stay that caused it."""
    caused_under = tx.correlation_id
    tx.correlation_id = event.encounter_id
    outbox.append(tx, event)
    tx.correlation_id = caused_under


@dataclass(frozen=True, slots=True)
class Left:
    """How a patient left, as far as it chooses the template."""

    procedure: str | None = None
    specialty: str | None = None


async def learn_admission(
    tx: Transaction, encounter_id: UUID, patient_tok: UUID, *, began_at: datetime, moment: Moment, policy: Policy
) -> None:
    """Hold the patient's plans while the patient is in hospital again; a stay that ended meanwhile stays ended."""

    def begun(stay: Stay) -> Stay:
        return replace(stay, began_at=began_at if stay.began_at is None else min(stay.began_at, began_at))

    await _learn(tx, encounter_id, patient_tok, begun, since=began_at, moment=moment, policy=policy)


async def plan_follow_up(
    tx: Transaction,
    encounter_id: UUID,
    patient_tok: UUID,
    *,
    left_at: datetime,
    disposition: str,
    left: Left,
    moment: Moment,
    policy: Policy,
) -> None:
    """Write the plan of a discharge with all its tasks at once (R30, R33), or resume the plan the stay has.

    After a death there is no plan, and every plan of the patient is revoked. Repeating the discharge changes nothing.
    """

    def ended(stay: Stay) -> Stay:
        return replace(stay, left_at=left_at, ending="discharged", disposition=disposition)

    await _learn(tx, encounter_id, patient_tok, ended, since=left_at, moment=moment, policy=policy, left=left)


async def take_back_discharge(
    tx: Transaction, encounter_id: UUID, patient_tok: UUID, *, cancelled_at: datetime, moment: Moment, policy: Policy
) -> None:
    """Put the stay's plan on hold, because the patient never left (A13)."""

    def in_hospital(stay: Stay) -> Stay:
        return replace(stay, left_at=None, ending=None, disposition=None)

    await _learn(tx, encounter_id, patient_tok, in_hospital, since=cancelled_at, moment=moment, policy=policy)


async def cancel_stay(
    tx: Transaction, encounter_id: UUID, patient_tok: UUID, *, cancelled_at: datetime, moment: Moment, policy: Policy
) -> None:
    """Let the patient's other plans go on, because this admission never counted (A11)."""

    def never(stay: Stay) -> Stay:
        return replace(stay, left_at=cancelled_at, ending="cancelled", disposition=None)

    await _learn(tx, encounter_id, patient_tok, never, since=cancelled_at, moment=moment, policy=policy)


async def _learn(
    tx: Transaction,
    encounter_id: UUID,
    patient_tok: UUID,
    change: Callable[[Stay], Stay],
    *,
    since: datetime,
    moment: Moment,
    policy: Policy,
    left: Left | None = None,
) -> None:
    archive = await store.lock_archive(tx, patient_tok, encounter_id, since=since)
    known = archive.stays.get(encounter_id)
    stay = change(known or Stay(encounter_id, patient_tok))
    archive = archive.with_stay(stay)
    changed: list[Plan] = []
    if left is not None and stay.disposition != domain.DEATH and archive.plan_of(encounter_id) is None:
        changed.append(_open_plan(tx, stay, archive, left, moment, policy))
    for plan in archive.plans:
        reviewed = domain.review(plan, archive, policy, moment)
        _announce_review(tx, reviewed)
        if reviewed.plan != plan:
            changed.append(reviewed.plan)
    if stay != known or changed:
        await store.write_plans(tx, stay, changed)


def _open_plan(tx: Transaction, stay: Stay, archive: Archive, left: Left, moment: Moment, policy: Policy) -> Plan:
    """Announce a new plan with all its tasks, and at once that it is held or revoked when the patient is back or dead."""
    plan = domain.new_plan(stay, archive, policy, moment, procedure=left.procedure, specialty=left.specialty)
    _announce(
        tx,
        FollowUpPlanActivated(
            plan_id=plan.plan_id, encounter_id=plan.encounter_id, patient_tok=plan.patient_tok, template=plan.template
        ),
    )
    tasks = tuple(
        PlannedTask(
            task_id=task.task_id,
            item=task.item,
            executor=task.executor,
            due_from_at=task.due_from_at,
            due_to_at=task.due_to_at,
        )
        for task in plan.tasks
    )
    _announce(tx, FollowUpTasksCreated(plan_id=plan.plan_id, encounter_id=plan.encounter_id, tasks=tasks))
    if domain.standing(plan, archive, policy).state is PlanState.ACTIVE:
        return plan
    reviewed = domain.review(plan, archive, policy, moment)
    _announce_review(tx, reviewed)
    return reviewed.plan


def _announce_review(tx: Transaction, reviewed: Reviewed) -> None:
    plan_id, encounter_id = reviewed.plan.plan_id, reviewed.plan.encounter_id
    match reviewed.change:
        case "held":
            _announce(tx, FollowUpPlanHeld(plan_id=plan_id, encounter_id=encounter_id, reason=reviewed.reason))
        case "resumed":
            _announce(tx, FollowUpPlanResumed(plan_id=plan_id, encounter_id=encounter_id, reason=reviewed.reason))
        case "revoked":
            _announce(tx, FollowUpPlanRevoked(plan_id=plan_id, encounter_id=encounter_id, reason=reviewed.reason))
        case "none":
            pass


@dataclass(frozen=True, slots=True)
class TaskReference:
    """Whose task it is, and where it is done."""

    task_id: UUID
    patient_tok: UUID
    encounter_id: UUID
    place: str | None


async def find_task(tx: Transaction, task_id: UUID) -> TaskReference:
    """Return whose task this is; what follows in this transaction is about its stay.

    Raises:
        NotFound: there is no such task.
    """
    row = await store.get_task_reference(tx, task_id)
    if row is None:
        raise NotFound("There is no such task.")
    tx.correlation_id = row["encounter_id"]
    return TaskReference(task_id, row["patient_tok"], row["encounter_id"], row["place"])


async def complete_task(tx: Transaction, task: TaskReference, outcome: Outcome, policy: Policy) -> Plan:
    """Record what came of a contact, once; when it was that the patient died, nobody is contacted any more.

    Raises:
        Refused: the task is done, on hold, or not to be done.
    """
    archive = await store.lock_archive(tx, task.patient_tok, task.encounter_id, since=tx.now)
    plan = archive.plan_of(task.encounter_id)
    if plan is None:
        raise NotFound("There is no such task.")
    done = domain.complete(plan, task.task_id, outcome, tx.now)
    if isinstance(done, Refusal):
        raise Refused(done.detail, code=done.code)
    _announce(
        tx,
        FollowUpTaskCompleted(
            plan_id=plan.plan_id,
            encounter_id=plan.encounter_id,
            task_id=task.task_id,
            outcome=outcome.value,
            completed_at=tx.now,
        ),
    )
    changed = [done]
    if outcome is Outcome.DECEASED:
        await store.mark_deceased(tx, task.patient_tok)
        archive = replace(archive, deceased=True)
        others = [other for other in archive.plans if other.plan_id != plan.plan_id]
        reviews = [domain.review(each, archive, policy, Moment(tx.now)) for each in (done, *others)]
        for reviewed in reviews:
            _announce_review(tx, reviewed)
        changed = [reviewed.plan for reviewed in reviews]
    await store.write_plans(tx, None, changed)
    return changed[0]


async def escalate_overdue(tx: Transaction, policy: Policy) -> int:
    """Turn tasks whose window and grace passed into tasks for the hospital's nurses, and return how many (R33).

    They stay open until somebody does them: a missed contact is late, never forgotten.
    """
    before = tx.now - policy.overdue_grace
    plan_ids = await store.lock_overdue_plans(tx, before=before, limit=OVERDUE_PLANS_PER_TURN)
    if not plan_ids:
        return 0
    missed = await store.mark_missed(tx, plan_ids, before=before)
    for row in missed:
        _announce(
            tx, FollowUpTaskMissed(plan_id=row["plan_id"], encounter_id=row["encounter_id"], task_id=row["task_id"])
        )
    return len(missed)
