"""Who is contacted after a discharge, when, by whom, and when nobody may be. Pure.

    plan   active -> completed              task   requested -> completed
           active <-> on_hold                      requested -> missed (escalated) -> completed
           any -> revoked                          requested <-> on_hold; open -> cancelled with its plan
                                                   not_needed: its whole window was over when it was imported

A plan's state is never stepped by hand: it follows from what is known of the patient's stays (`standing`), so events of
different topics may come in any order and end in the same plan.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from uuid import UUID, uuid5

from shared.contracts.followup import Executor

DEATH = "5"
AGAINST_ADVICE = "4"
COMMUNITY = "3"
"""离院方式 of CV06.00.226."""

COMMUNITY_PLACE = "primary_care"
"""The place of tasks given to primary care until a site is named: workers on duty there see them (R28, R35)."""

_PLANS = UUID("6f1c7a52-6f0e-4d5e-9d0e-1f6a5f2b7c11")


class PlanState(StrEnum):
    """Where a plan is."""

    ACTIVE = "active"
    ON_HOLD = "on_hold"
    COMPLETED = "completed"
    REVOKED = "revoked"


class TaskState(StrEnum):
    """Where a task is (FHIR Task, business state)."""

    REQUESTED = "requested"
    ON_HOLD = "on_hold"
    COMPLETED = "completed"
    MISSED = "missed"
    CANCELLED = "cancelled"
    NOT_NEEDED = "not_needed"


OPEN = frozenset({TaskState.REQUESTED, TaskState.MISSED})
"""Somebody should contact the patient."""


class Outcome(StrEnum):
    """What came of a contact; two taps on the nurse's screen."""

    WELL = "well"
    NEEDS_CARE = "needs_care"
    DECLINED = "declined"
    UNREACHABLE = "unreachable"
    DECEASED = "deceased"


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, and why, as a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Item:
    """One contact of a template, counted from the discharge."""

    code: str
    opens_after_hours: int
    closes_after_hours: int
    method: str


@dataclass(frozen=True, slots=True)
class Templates:
    """The follow-up templates and which discharge takes which; procedure before specialty before default."""

    items: Mapping[str, tuple[Item, ...]]
    by_procedure: Mapping[str, str]
    by_specialty: Mapping[str, str]
    default: str

    def choose(self, procedure: str | None, specialty: str | None) -> str:
        """Return the template for a discharge (FUP-1)."""
        return self.by_procedure.get(procedure or "") or self.by_specialty.get(specialty or "") or self.default


@dataclass(frozen=True, slots=True)
class Policy:
    """What the hospital decided about follow-up."""

    templates: Templates
    first_contact_against_advice_hours: int
    readmission_max: timedelta
    overdue_grace: timedelta


@dataclass(frozen=True, slots=True)
class Stay:
    """What is known of one stay; `ending` is empty while the patient is there."""

    encounter_id: UUID
    patient_tok: UUID
    began_at: datetime | None = None
    left_at: datetime | None = None
    ending: Literal["discharged", "cancelled"] | None = None
    disposition: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One contact that is owed."""

    task_id: UUID
    item: str
    executor: Executor
    place: str | None
    method: str
    opens_after_hours: int
    closes_after_hours: int
    due_from_at: datetime
    due_to_at: datetime
    state: TaskState
    outcome: str | None = None
    completed_at: datetime | None = None
    missed_at: datetime | None = None
    escalated_to: Executor | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All contacts owed for one discharge."""

    plan_id: UUID
    encounter_id: UUID
    patient_tok: UUID
    template: str
    state: PlanState
    reason: str | None
    discharged_at: datetime
    disposition: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """The follow-up archive (随访档案) of one patient: the stays that matter now and the plans that are not over (R30)."""

    patient_tok: UUID
    deceased: bool = False
    stays: Mapping[UUID, Stay] = field(default_factory=dict)
    plans: Sequence[Plan] = ()

    def plan_of(self, encounter_id: UUID) -> Plan | None:
        """Return the plan of a stay, or nothing."""
        return next((plan for plan in self.plans if plan.encounter_id == encounter_id), None)

    def with_stay(self, stay: Stay) -> "Archive":
        """Return the archive with what is now known of a stay."""
        return replace(self, stays={**self.stays, stay.encounter_id: stay})

    @property
    def has_died(self) -> bool:
        """Say whether the patient is known to be dead: nobody is contacted any more."""
        return self.deceased or any(s.ending == "discharged" and s.disposition == DEATH for s in self.stays.values())


@dataclass(frozen=True, slots=True)
class Standing:
    """What a plan should be, and why it is not active."""

    state: Literal[PlanState.ACTIVE, PlanState.ON_HOLD, PlanState.REVOKED]
    reason: str | None = None


def standing(plan: Plan, archive: Archive, policy: Policy) -> Standing:
    """Return what a plan should be now, from the facts known of the patient, whatever their order."""
    if archive.has_died:
        return Standing(PlanState.REVOKED, "death")
    own = archive.stays[plan.encounter_id]
    if own.ending == "cancelled":
        return Standing(PlanState.REVOKED, "admission_cancelled")
    if own.ending is None or own.left_at is None:
        return Standing(PlanState.ON_HOLD, "discharge_cancelled")
    back_since = [
        stay.began_at
        for stay in archive.stays.values()
        if stay.encounter_id != plan.encounter_id and stay.ending is None and stay.began_at is not None
    ]
    if not back_since:
        return Standing(PlanState.ACTIVE)
    within = min(back_since) - own.left_at <= policy.readmission_max
    return Standing(PlanState.ON_HOLD, "readmitted_within_31_days" if within else "readmitted_later")


def _absences(plan: Plan, left_at: datetime, archive: Archive) -> list[tuple[datetime, datetime]]:
    """Return when the patient was in hospital again after this discharge and has left since, in order."""
    found = [
        (max(stay.began_at, left_at), stay.left_at)
        for stay in archive.stays.values()
        if stay.encounter_id != plan.encounter_id
        and stay.ending == "discharged"
        and stay.began_at is not None
        and stay.left_at is not None
        and stay.left_at > left_at
    ]
    return sorted(found)


def _window(
    task: Task,
    *,
    first: bool,
    left_at: datetime,
    disposition: str,
    absences: Iterable[tuple[datetime, datetime]],
    policy: Policy,
) -> tuple[datetime, datetime]:
    """Return a task's window: counted from the discharge, and moved by the time the patient was in hospital before it closed."""
    opens, closes = timedelta(hours=task.opens_after_hours), timedelta(hours=task.closes_after_hours)
    earliest = timedelta(hours=policy.first_contact_against_advice_hours)
    if first and disposition == AGAINST_ADVICE and closes > earliest:
        opens, closes = earliest / 2, earliest
    due_from, due_to = left_at + opens, left_at + closes
    counted_until = left_at
    for began_at, ended_at in absences:
        if began_at > due_to:
            break
        away = ended_at - max(began_at, counted_until)
        if away > timedelta():
            due_from, due_to = due_from + away, due_to + away
            counted_until = ended_at
    return due_from, due_to


def _executor(disposition: str) -> tuple[Executor, str | None]:
    return ("primary_care", COMMUNITY_PLACE) if disposition == COMMUNITY else ("hospital_nurse", None)


def plan_id_of(encounter_id: UUID) -> UUID:
    """Return the id of a stay's plan: made from the stay, so that a rebuild gives the same one (R18)."""
    return uuid5(_PLANS, str(encounter_id))


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A plan after a review, and what became of it: nothing, held, resumed or revoked."""

    plan: Plan
    change: Literal["none", "held", "resumed", "revoked"]
    reason: str


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is learned. For an imported fact that is when it was recorded, which may be years after it happened."""

    now: datetime
    imported: bool = False


def new_plan(
    stay: Stay, archive: Archive, policy: Policy, moment: Moment, *, procedure: str | None, specialty: str | None
) -> Plan:
    """Return the plan of a discharge with all its tasks (R33).

    At an import a task whose whole window is over is `not_needed`: nobody can be called in the past. It is kept, so that the
    plan stays whole (I16), and never counts as missed, so that years of history do not flood the nurses.
    """
    if stay.left_at is None or stay.disposition is None:
        raise ValueError("Only a discharge has a plan.")
    template = policy.templates.choose(procedure, specialty)
    plan_id = plan_id_of(stay.encounter_id)
    executor, place = _executor(stay.disposition)
    tasks = tuple(
        Task(
            task_id=uuid5(plan_id, item.code),
            item=item.code,
            executor=executor,
            place=place,
            method=item.method,
            opens_after_hours=item.opens_after_hours,
            closes_after_hours=item.closes_after_hours,
            due_from_at=stay.left_at,
            due_to_at=stay.left_at,
            state=TaskState.REQUESTED,
        )
        for item in policy.templates.items[template]
    )
    plan = Plan(
        plan_id=plan_id,
        encounter_id=stay.encounter_id,
        patient_tok=stay.patient_tok,
        template=template,
        state=PlanState.ACTIVE,
        reason=None,
        discharged_at=stay.left_at,
        disposition=stay.disposition,
        tasks=tasks,
    )
    return _counted_from_discharge(plan, stay, archive, policy, moment)


def _counted_from_discharge(plan: Plan, own: Stay, archive: Archive, policy: Policy, moment: Moment) -> Plan:
    """Return the plan with every unfinished task asked for anew, counted from the discharge that holds now."""
    if own.left_at is None or own.disposition is None:
        return plan
    executor, place = _executor(own.disposition)
    tasks = []
    for task, (due_from, due_to) in zip(plan.tasks, _windows(plan, own, archive, policy), strict=True):
        if task.state is TaskState.COMPLETED:
            tasks.append(task)
            continue
        past = moment.imported and due_to < moment.now
        tasks.append(
            replace(
                task,
                executor=executor,
                place=place,
                due_from_at=due_from,
                due_to_at=due_to,
                state=TaskState.NOT_NEEDED if past else TaskState.REQUESTED,
                missed_at=None,
                escalated_to=None,
            )
        )
    return _settled(
        replace(plan, discharged_at=own.left_at, disposition=own.disposition, tasks=tuple(tasks), reason=None)
    )


def _windows(plan: Plan, own: Stay, archive: Archive, policy: Policy) -> list[tuple[datetime, datetime]]:
    if own.left_at is None or own.disposition is None:
        return [(task.due_from_at, task.due_to_at) for task in plan.tasks]
    absences = _absences(plan, own.left_at, archive)
    first = min((task.opens_after_hours for task in plan.tasks), default=0)
    return [
        _window(
            task,
            first=task.opens_after_hours == first,
            left_at=own.left_at,
            disposition=own.disposition,
            absences=absences,
            policy=policy,
        )
        for task in plan.tasks
    ]


def _settled(plan: Plan) -> Plan:
    """Return an active plan as completed when nobody is to be contacted any more."""
    open_tasks = any(task.state in OPEN for task in plan.tasks)
    return replace(plan, state=PlanState.ACTIVE if open_tasks else PlanState.COMPLETED, reason=None)


def review(plan: Plan, archive: Archive, policy: Policy, moment: Moment) -> Reviewed:
    """Return what a plan is after something was learned of the patient's stays, and what to announce."""
    wanted = standing(plan, archive, policy)
    match wanted.state:
        case PlanState.REVOKED:
            return _revoked(plan, wanted)
        case PlanState.ON_HOLD:
            return _held(plan, wanted)
        case PlanState.ACTIVE:
            return _active(plan, archive, policy, moment)


def _revoked(plan: Plan, wanted: Standing) -> Reviewed:
    reason = wanted.reason or "revoked"
    ends = {TaskState.REQUESTED, TaskState.MISSED, TaskState.ON_HOLD}
    if plan.state in (PlanState.REVOKED, PlanState.COMPLETED):
        return Reviewed(plan, "none", reason)
    tasks = tuple(replace(t, state=TaskState.CANCELLED) if t.state in ends else t for t in plan.tasks)
    return Reviewed(replace(plan, state=PlanState.REVOKED, reason=reason, tasks=tasks), "revoked", reason)


def _held(plan: Plan, wanted: Standing) -> Reviewed:
    reason = wanted.reason or "held"
    undone = reason == "discharge_cancelled"
    waits = OPEN | {TaskState.CANCELLED} | ({TaskState.NOT_NEEDED} if undone else set())
    tasks = tuple(replace(t, state=TaskState.ON_HOLD) if t.state in waits else t for t in plan.tasks)
    if not undone and not any(task.state is TaskState.ON_HOLD for task in tasks):
        return Reviewed(plan, "none", reason)
    held = replace(plan, state=PlanState.ON_HOLD, reason=reason, tasks=tasks)
    return Reviewed(held, "none" if plan.state is PlanState.ON_HOLD else "held", reason)


def _active(plan: Plan, archive: Archive, policy: Policy, moment: Moment) -> Reviewed:
    own = archive.stays[plan.encounter_id]
    waited = plan.state in (PlanState.ON_HOLD, PlanState.REVOKED)
    if own.left_at != plan.discharged_at or own.disposition != plan.disposition:
        anew = _counted_from_discharge(plan, own, archive, policy, moment)
        return Reviewed(anew, "resumed" if waited else "none", "discharged_again")
    tasks = []
    for task, (due_from, due_to) in zip(plan.tasks, _windows(plan, own, archive, policy), strict=True):
        if task.state in (TaskState.COMPLETED, TaskState.NOT_NEEDED):
            tasks.append(task)
            continue
        # A task that was missed before stays missed, unless the time in hospital moved its window past now.
        missed = task.missed_at is not None and due_to < moment.now
        moved = replace(task, due_from_at=due_from, due_to_at=due_to)
        if missed:
            tasks.append(replace(moved, state=TaskState.MISSED))
        else:
            tasks.append(replace(moved, state=TaskState.REQUESTED, missed_at=None, escalated_to=None))
    return Reviewed(_settled(replace(plan, tasks=tuple(tasks))), "resumed" if waited else "none", "left_again")


_CANNOT_COMPLETE: Mapping[TaskState, Refusal] = {
    TaskState.COMPLETED: Refusal("task_done", "This task is done already."),
    TaskState.ON_HOLD: Refusal(
        "task_on_hold", "The plan is on hold because the patient is in hospital; wait until then."
    ),
    TaskState.CANCELLED: Refusal("task_cancelled", "Nobody may be contacted for this plan any more."),
    TaskState.NOT_NEEDED: Refusal("task_not_needed", "The window of this task was over before it was recorded here."),
}


def complete(plan: Plan, task_id: UUID, outcome: Outcome, now: datetime) -> Plan | Refusal:
    """Return the plan with one task done, late ones too; the last one completes the plan."""
    tasks = []
    for task in plan.tasks:
        if task.task_id != task_id:
            tasks.append(task)
        elif task.state not in OPEN:
            return _CANNOT_COMPLETE[task.state]
        else:
            tasks.append(replace(task, state=TaskState.COMPLETED, outcome=outcome.value, completed_at=now))
    return _settled(replace(plan, tasks=tuple(tasks)))


def read_templates(items_text: str, rules_text: str) -> Templates:
    """Return the templates two CSV texts describe.

    Raises:
        ValueError: a window that closes before it opens, an item twice, a rule for an unknown template, or no default.
    """
    items: dict[str, list[Item]] = {}
    for row in csv.DictReader(io.StringIO(items_text)):
        opens, closes = int(row["opens_after_days"]) * 24, int(row["closes_after_days"]) * 24
        known = items.setdefault(row["template"], [])
        if closes <= opens or any(item.code == row["item"] for item in known):
            raise ValueError("Every item of a template is there once and closes after it opens.")
        known.append(Item(row["item"], opens, closes, row["method"]))
    rules: dict[str, dict[str, str]] = {"procedure": {}, "specialty": {}, "default": {}}
    for row in csv.DictReader(io.StringIO(rules_text)):
        if row["template"] not in items:
            raise ValueError("A rule names a template that does not exist.")
        rules[row["by"]][row["code"]] = row["template"]
    if "" not in rules["default"]:
        raise ValueError("One rule is the default.")
    return Templates(
        items={name: tuple(sorted(found, key=lambda item: item.opens_after_hours)) for name, found in items.items()},
        by_procedure=rules["procedure"],
        by_specialty=rules["specialty"],
        default=rules["default"][""],
    )
