"""What day surgery (日间手术) announces: one case from referral to discharge or conversion."""

from typing import ClassVar, Literal
from uuid import UUID

from shared.contracts.envelope import AgeYears, Code, Event, Instant, PayerKind, Sex, Topic

CASES = Topic("daysurgery.cases.v1", owner="daysurgery", key="case_id")

CancelledBy = Literal["patient", "hospital"]


class CaseEvent(Event):
    """A fact of one day-surgery case."""

    topic: ClassVar[Topic] = CASES
    key_field: ClassVar[str] = "case_id"
    case_id: UUID
    encounter_id: UUID
    patient_tok: UUID


class DaySurgeryReferred(CaseEvent):
    """A case was asked for; the procedure is in the catalogue (R21)."""

    procedure: Code


class DayBedRequested(CaseEvent):
    """A day bed is wanted for a time slot (R23)."""

    sex: Sex
    age_years: AgeYears | None
    starts_at: Instant
    ends_at: Instant


class DaySurgeryBooked(CaseEvent):
    """Slot and day bed are fixed."""

    bed_id: int
    starts_at: Instant
    ends_at: Instant


class DaySurgeryCancelled(CaseEvent):
    """The case will not happen; slot and bed go to the next patient (R41)."""

    cancelled_by: CancelledBy
    reason: Code
    temporary: bool


class DaySurgeryArrived(CaseEvent):
    """The patient was checked in; the account opens."""

    payer_kind: PayerKind
    arrived_at: Instant


class OperationStarted(CaseEvent):
    """The operation began, after the pre-op hard stop (R25)."""

    started_at: Instant


class OperationFinished(CaseEvent):
    """The operation ended."""

    finished_at: Instant


class DaySurgeryDischarged(CaseEvent):
    """The patient went home (or died: disposition 5)."""

    procedure: Code
    disposition: Literal["1", "2", "3", "4", "5", "9"]
    discharged_at: Instant


class DaySurgeryConverted(CaseEvent):
    """The case became an inpatient stay (转普通住院, A06) on the same encounter and account (DAY-6)."""

    sex: Sex
    age_years: AgeYears | None
    specialty: Code
    payer_kind: PayerKind
    bed_id: int
    ward: Code | None = None
    converted_at: Instant
