"""The life of a day-surgery case: which step may follow which, and why not. Pure; a refusal is a value.

    referred -> booking_asked -> booked -> arrived -> in_theatre -> operated -> discharged
                   |      ^         |          |          |            |
                   v      |         v          +----------+------------+---> converted (A06)
                 waitlisted <-------+
    cancelled: from everything before arrived. From arrived on a case ends by discharge or conversion.

Not here yet: screening of patient and surgeon (R21), pre-op hard stop (R25), recovery scores and return to theatre (DAY-5).
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from shared.clock import business_date

DEATH = "5"
"""离院方式 5 of CV06.00.226."""


class State(StrEnum):
    """Where a case is."""

    REFERRED = "referred"
    BOOKING_ASKED = "booking_asked"
    WAITLISTED = "waitlisted"
    BOOKED = "booked"
    ARRIVED = "arrived"
    IN_THEATRE = "in_theatre"
    OPERATED = "operated"
    DISCHARGED = "discharged"
    CONVERTED = "converted"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """What can happen to a case."""

    ASK_SLOT = "ask_slot"
    TAKE_BED = "take_bed"
    WAIT = "wait"
    LOSE_BED = "lose_bed"
    ARRIVE = "arrive"
    START_OPERATION = "start_operation"
    FINISH_OPERATION = "finish_operation"
    DISCHARGE = "discharge"
    CONVERT = "convert"
    CANCEL = "cancel"


NEXT: Mapping[tuple[State, Step], State] = {
    (State.REFERRED, Step.ASK_SLOT): State.BOOKING_ASKED,
    (State.REFERRED, Step.CANCEL): State.CANCELLED,
    (State.BOOKING_ASKED, Step.TAKE_BED): State.BOOKED,
    (State.BOOKING_ASKED, Step.WAIT): State.WAITLISTED,
    (State.BOOKING_ASKED, Step.CANCEL): State.CANCELLED,
    (State.WAITLISTED, Step.TAKE_BED): State.BOOKED,
    (State.WAITLISTED, Step.WAIT): State.WAITLISTED,
    (State.WAITLISTED, Step.CANCEL): State.CANCELLED,
    (State.BOOKED, Step.TAKE_BED): State.BOOKED,
    (State.BOOKED, Step.WAIT): State.WAITLISTED,
    (State.BOOKED, Step.LOSE_BED): State.WAITLISTED,
    (State.BOOKED, Step.ARRIVE): State.ARRIVED,
    (State.BOOKED, Step.CANCEL): State.CANCELLED,
    (State.ARRIVED, Step.START_OPERATION): State.IN_THEATRE,
    (State.ARRIVED, Step.DISCHARGE): State.DISCHARGED,
    (State.ARRIVED, Step.CONVERT): State.CONVERTED,
    (State.IN_THEATRE, Step.FINISH_OPERATION): State.OPERATED,
    (State.IN_THEATRE, Step.DISCHARGE): State.DISCHARGED,
    (State.IN_THEATRE, Step.CONVERT): State.CONVERTED,
    (State.OPERATED, Step.DISCHARGE): State.DISCHARGED,
    (State.OPERATED, Step.CONVERT): State.CONVERTED,
}
"""Every step that is allowed; what is not here is refused."""

HAS_SLOT = frozenset(
    {State.BOOKING_ASKED, State.WAITLISTED, State.BOOKED, State.ARRIVED, State.IN_THEATRE, State.OPERATED}
)
"""States in which the slot is this patient's, so that no other case of the patient may overlap it."""

HAS_BED = frozenset({State.BOOKED, State.ARRIVED, State.IN_THEATRE, State.OPERATED})
IN_DAY_WARD = frozenset({State.ARRIVED, State.IN_THEATRE, State.OPERATED})
OVER = frozenset({State.DISCHARGED, State.CONVERTED, State.CANCELLED})

_REFUSALS: Mapping[Step, str] = {
    Step.ASK_SLOT: "A slot was asked for this case before; cancel it and refer the patient again to take another.",
    Step.TAKE_BED: "This case does not wait for a day bed.",
    Step.WAIT: "This case does not wait for a day bed.",
    Step.LOSE_BED: "This case holds no day bed it could lose.",
    Step.ARRIVE: "Only a patient with a booked day bed who has not arrived yet can arrive.",
    Step.START_OPERATION: "Only a patient who arrived and was not operated yet can be operated.",
    Step.FINISH_OPERATION: "There is no operation under way.",
    Step.DISCHARGE: "Only a patient who is in the day ward can leave it.",
    Step.CONVERT: "Only a patient who is in the day ward can become an inpatient.",
    Step.CANCEL: "Only a case whose patient has not arrived can be cancelled; discharge the patient or convert the case.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, and why, as a sentence; with `may_come` the missing fact may arrive any moment."""

    code: str
    detail: str
    may_come: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """From when until when the day bed is the patient's (R23)."""

    starts_at: datetime
    ends_at: datetime

    def overlaps(self, other: "Slot") -> bool:
        """Say whether both need the patient at the same time."""
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at


@dataclass(frozen=True, slots=True)
class Policy:
    """What the hospital decided about day surgery."""

    zone: str
    slot_max: timedelta
    arrival_early_max: timedelta
    temporary_cancel_days: int


@dataclass(frozen=True, slots=True)
class Case:
    """One day-surgery case with what the patient reference says."""

    case_id: UUID
    encounter_id: UUID
    patient_tok: UUID
    sex: Literal["male", "female", "unknown"]
    birth_year: int | None
    procedure_code: str
    catalogue_version: int
    payer_kind: Literal["self_pay", "basic_insurance", "commercial_insurance", "assistance"]
    state: State
    referred_at: datetime
    slot: Slot | None = None
    bed_id: int | None = None
    ward: str | None = None
    waiting_reason: str | None = None
    arrived_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ended_at: datetime | None = None
    disposition: str | None = None
    specialty: str | None = None
    cancelled_by: str | None = None
    cancel_reason: str | None = None
    cancelled_temporarily: bool | None = None
    version: int = 1


def _move(case: Case, step: Step) -> State | Refusal:
    after = NEXT.get((case.state, step))
    return Refusal("illegal_state_change", _REFUSALS[step]) if after is None else after


def _not_before(now: datetime, *milestones: datetime | None) -> Refusal | None:
    """Refuse a fact that lies before the one it follows."""
    if any(at is not None and now < at for at in milestones):
        return Refusal("before_the_step_it_follows", "This would have happened before the step it follows.")
    return None


def ask_slot(case: Case, slot: Slot, others: Iterable[Slot], now: datetime, policy: Policy) -> Case | Refusal:
    """Ask for a day bed in a slot that is real, short enough, not over, and in no other case of this patient (R23)."""
    after = _move(case, Step.ASK_SLOT)
    if isinstance(after, Refusal):
        return after
    if slot.ends_at <= slot.starts_at:
        return Refusal("slot_ends_before_it_starts", "The slot ends before it starts.")
    if slot.ends_at - slot.starts_at > policy.slot_max:
        return Refusal("slot_too_long", "The slot is longer than a day-surgery stay may be; ask for an inpatient bed.")
    if slot.ends_at <= now:
        return Refusal("slot_over", "The slot is over already.")
    if any(slot.overlaps(other) for other in others):
        return Refusal("patient_has_overlapping_case", "The patient has another day-surgery case at that time.")
    return replace(case, state=after, slot=slot, waiting_reason=None)


def take_bed(case: Case, bed_id: int, ward: str) -> Case | Refusal:
    """Book the case into the bed the pool holds for its slot."""
    after = _move(case, Step.TAKE_BED)
    if isinstance(after, Refusal):
        return after
    return replace(case, state=after, bed_id=bed_id, ward=ward, waiting_reason=None)


def wait_for_bed(case: Case, reason: str) -> Case | Refusal:
    """Put the case on the waiting list with the reason the patient hears (R10)."""
    after = _move(case, Step.WAIT)
    if isinstance(after, Refusal):
        return after
    return replace(case, state=after, bed_id=None, ward=None, waiting_reason=reason)


def lose_bed(case: Case, bed_id: int) -> Case | Refusal:
    """Put a booked case back on the waiting list, because its hold ran out (A27)."""
    after = _move(case, Step.LOSE_BED)
    if isinstance(after, Refusal):
        return after
    if case.bed_id != bed_id:
        return Refusal("another_bed", "The case holds another bed by now.")
    return replace(case, state=after, bed_id=None, ward=None, waiting_reason="hold_expired")


def lie_in_bed(case: Case, bed_id: int, ward: str) -> Case | Refusal:
    """Follow a patient of the day ward into the bed the pool says."""
    if case.state not in IN_DAY_WARD:
        return Refusal("not_in_the_day_ward", "The patient is not in the day ward.")
    return replace(case, bed_id=bed_id, ward=ward)


def arrive(case: Case, now: datetime, policy: Policy) -> Case | Refusal:
    """Check the patient in, inside the slot: before and after it the bed is somebody else's."""
    if case.state in (State.BOOKING_ASKED, State.WAITLISTED):
        return Refusal("no_day_bed_yet", "No day bed is held for this case yet.", may_come=True)
    after = _move(case, Step.ARRIVE)
    if isinstance(after, Refusal):
        return after
    if case.slot is None:
        return Refusal("no_slot", "The case has no slot.")
    if now < case.slot.starts_at - policy.arrival_early_max:
        return Refusal("slot_not_begun", "The slot has not begun; until then the day bed may be somebody else's.")
    if now >= case.slot.ends_at:
        return Refusal("slot_over", "The slot is over already.")
    return replace(case, state=after, arrived_at=now)


def start_operation(case: Case, now: datetime) -> Case | Refusal:
    """Begin the operation of a patient who arrived."""
    after = _move(case, Step.START_OPERATION)
    if isinstance(after, Refusal):
        return after
    return _not_before(now, case.arrived_at) or replace(case, state=after, started_at=now)


def finish_operation(case: Case, now: datetime) -> Case | Refusal:
    """End the operation that is under way."""
    after = _move(case, Step.FINISH_OPERATION)
    if isinstance(after, Refusal):
        return after
    return _not_before(now, case.started_at) or replace(case, state=after, finished_at=now)


def discharge(case: Case, disposition: str, now: datetime) -> Case | Refusal:
    """Let the patient leave; nobody but the dead leaves the theatre."""
    after = _move(case, Step.DISCHARGE)
    if isinstance(after, Refusal):
        return after
    if case.state is State.IN_THEATRE and disposition != DEATH:
        return Refusal("operation_under_way", "The operation is under way; end it first.")
    too_early = _not_before(now, case.arrived_at, case.started_at, case.finished_at)
    return too_early or replace(case, state=after, disposition=disposition, ended_at=now)


def convert(case: Case, specialty: str, now: datetime) -> Case | Refusal:
    """Make the case an inpatient stay on the same encounter; the day bed is kept until the patient is moved (DAY-6)."""
    after = _move(case, Step.CONVERT)
    if isinstance(after, Refusal):
        return after
    too_early = _not_before(now, case.arrived_at, case.started_at, case.finished_at)
    return too_early or replace(case, state=after, specialty=specialty, ended_at=now)


def cancel(case: Case, by: str, reason: str, now: datetime, policy: Policy) -> Case | Refusal:
    """Cancel a case whose patient has not arrived; close to its slot that counts as temporary (R41, DAY-7)."""
    after = _move(case, Step.CANCEL)
    if isinstance(after, Refusal):
        return after
    temporary = case.slot is not None and _days_before(case.slot.starts_at, now, policy) <= policy.temporary_cancel_days
    return replace(
        case, state=after, cancelled_by=by, cancel_reason=reason, cancelled_temporarily=temporary, ended_at=now
    )


def _days_before(starts_at: datetime, now: datetime, policy: Policy) -> int:
    return (business_date(starts_at, policy.zone) - business_date(now, policy.zone)).days


def age_years(birth_year: int | None, at: datetime, zone: str) -> int | None:
    """Return the age a patient reaches in that year; only the year of birth travels (S4)."""
    if birth_year is None:
        return None
    return min(130, max(0, business_date(at, zone).year - birth_year))


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure that may be done as day surgery, and since which version of the catalogue until which."""

    code: str
    name_zh: str
    name_en: str
    since: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The day-surgery procedures of this hospital; grows by versions, old cases keep theirs (R22)."""

    version: int
    procedures: Mapping[str, Procedure]

    def admits(self, code: str) -> bool:
        """Say whether a new case may be referred for this procedure (R21)."""
        found = self.procedures.get(code)
        return found is not None and (found.until is None or found.until >= self.version)


def read_catalogue(text: str) -> Catalogue:
    """Return the catalogue a CSV text describes; its version is the newest one any line mentions.

    Raises:
        ValueError: a line has no code, no name, a version that is no number, or a code twice.
    """
    procedures: dict[str, Procedure] = {}
    version = 0
    for row in csv.DictReader(io.StringIO(text)):
        since, until = int(row["since"]), int(row["until"]) if row["until"] else None
        procedure = Procedure(row["code"], row["name_zh"], row["name_en"], since, until)
        if not (procedure.code and procedure.name_zh and procedure.name_en) or procedure.code in procedures:
            raise ValueError("Every procedure has one line with a code and both names.")
        procedures[procedure.code] = procedure
        version = max(version, since, 0 if until is None else until + 1)
    return Catalogue(version, procedures)


def day_span(day: date, zone: str) -> Slot:
    """Return the civil day of the hospital as a span of time."""
    first = datetime.combine(day, time(), ZoneInfo(zone))
    following = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(zone))
    return Slot(first.astimezone(UTC), following.astimezone(UTC))
