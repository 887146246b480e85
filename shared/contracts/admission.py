"""What the admission service announces: patients by token, and the life of an inpatient stay (住院就诊)."""

from typing import ClassVar, Literal
from uuid import UUID

from shared.contracts.envelope import (
    AgeYears,
    Code,
    Event,
    Instant,
    PayerKind,
    Sex,
    StayDays,
    Topic,
    TravelMinutes,
    Urgency,
)

PATIENTS = Topic("admission.patients.v1", owner="admission", key="patient_tok")
ENCOUNTERS = Topic("admission.encounters.v1", owner="admission", key="encounter_id")

EncounterClass = Literal["inpatient", "day_surgery"]
Isolation = Literal["none", "contact", "droplet", "airborne", "protective"]
LevelOfCare = Literal["normal", "critical"]
BedClass = Literal["any", "standard", "single", "vip"]
Disposition = Literal["1", "2", "3", "4", "5", "9"]
"""离院方式 CV06.00.226: 1 doctor's order, 2 other hospital, 3 community, 4 against advice, 5 death, 9 other."""


class PatientRegistered(Event):
    """A person is known under a random token; the name stays in admission (S4)."""

    topic: ClassVar[Topic] = PATIENTS
    key_field: ClassVar[str] = "patient_tok"
    patient_tok: UUID
    sex: Sex
    birth_year: int | None


class EncounterEvent(Event):
    """A fact of one stay."""

    topic: ClassVar[Topic] = ENCOUNTERS
    key_field: ClassVar[str] = "encounter_id"
    encounter_id: UUID
    patient_tok: UUID


class PreAdmissionRegistered(EncounterEvent):
    """A stay was asked for (入院申请 / 预住院, A05); emergencies too, with their urgency (R08, R18)."""

    urgency: Urgency
    specialty: Code
    payer_kind: PayerKind
    expected_admit_at: Instant
    expected_stay_days: StayDays


class BedRequested(EncounterEvent):
    """A bed is wanted from the hospital-wide pool (R03)."""

    sex: Sex
    age_years: AgeYears | None
    specialty: Code
    urgency: Urgency
    isolation: Isolation
    level_of_care: LevelOfCare
    from_at: Instant
    expected_stay_days: StayDays
    equipment: tuple[Code, ...] = ()
    bed_class: BedClass = "any"
    partner: Code | None = None
    travel_minutes: TravelMinutes | None = None
    """How long the way to the hospital is: the bed is held longer for who comes from afar."""


class PreAdmissionCancelled(EncounterEvent):
    """The stay will not happen (A38); holds and requests end."""

    reason: Code


class PatientAdmitted(EncounterEvent):
    """The patient is in the bed (A01), or a day case became a stay (A06)."""

    encounter_class: EncounterClass
    payer_kind: PayerKind
    bed_id: int | None
    admitted_at: Instant
    emergency: bool


class PaperworkCompleted(EncounterEvent):
    """Identity, consent and admission papers are done (R18: treatment first, paperwork later)."""

    completed_at: Instant


class AdmissionCancelled(EncounterEvent):
    """The admission never counted (A11): nothing was executed, the bed goes back, the account is voided."""

    reason: Code
    cancelled_at: Instant


class DischargeOrdered(EncounterEvent):
    """The doctor ordered the discharge (A16). The bed stays taken until the patient leaves (V4)."""

    ordered_at: Instant


class DischargeOrderUndone(EncounterEvent):
    """The order to discharge was taken back (A25)."""

    reason: Code


class PatientDischarged(EncounterEvent):
    """The patient physically left (A03)."""

    disposition: Disposition
    specialty: Code
    discharged_at: Instant


class DischargeCancelled(EncounterEvent):
    """The discharge was taken back (A13, 召回); the settlement was reopened first."""

    reason: Code
    bed_id: int
    cancelled_at: Instant
