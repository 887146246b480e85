"""What the bed pool learns from admission and day surgery."""

from functools import partial

from services.beds import actions
from services.beds.actions import Pool
from shared.contracts.admission import (
    AdmissionCancelled,
    BedRequested,
    DischargeCancelled,
    DischargeOrdered,
    DischargeOrderUndone,
    PatientAdmitted,
    PatientDischarged,
    PreAdmissionCancelled,
)
from shared.contracts.daysurgery import (
    DayBedRequested,
    DaySurgeryArrived,
    DaySurgeryCancelled,
    DaySurgeryConverted,
    DaySurgeryDischarged,
)
from shared.contracts.envelope import Envelope
from shared.db import Transaction
from shared.messaging.consumer import Subscription


async def on_bed_requested(pool: Pool, tx: Transaction, event: BedRequested, envelope: Envelope) -> None:
    """Take the request and give it a bed when one fits."""
    await actions.open_request(
        tx,
        pool,
        encounter_id=event.encounter_id,
        patient_tok=event.patient_tok,
        kind="inpatient",
        sex=event.sex,
        specialty=event.specialty,
        urgency=event.urgency,
        isolation=event.isolation,
        level=event.level_of_care,
        from_at=event.from_at,
        until_at=None,
        age_years=event.age_years,
        equipment=list(event.equipment),
        stay_days=event.expected_stay_days,
        partner=event.partner,
        travel_minutes=event.travel_minutes,
        **{"class": event.bed_class},
    )


async def on_day_bed_requested(pool: Pool, tx: Transaction, event: DayBedRequested, envelope: Envelope) -> None:
    """Book a day bed for the slot."""
    await actions.open_request(
        tx,
        pool,
        encounter_id=event.encounter_id,
        patient_tok=event.patient_tok,
        kind="day",
        sex=event.sex,
        specialty="day_surgery",
        urgency="elective",
        isolation="none",
        level="normal",
        from_at=event.starts_at,
        until_at=event.ends_at,
        age_years=None,
        equipment=[],
        stay_days=None,
        partner=None,
        **{"class": "any"},
    )


async def on_patient_admitted(tx: Transaction, event: PatientAdmitted, envelope: Envelope) -> None:
    """The patient lies in the bed."""
    await actions.occupy_bed(tx, event.encounter_id, event.admitted_at)


async def on_pre_admission_cancelled(tx: Transaction, event: PreAdmissionCancelled, envelope: Envelope) -> None:
    """The bed is free again."""
    await actions.cancel_request(tx, event.encounter_id, tx.now)


async def on_admission_cancelled(tx: Transaction, event: AdmissionCancelled, envelope: Envelope) -> None:
    """The patient was in the bed: it is cleaned before the next (A11)."""
    await actions.cancel_request(tx, event.encounter_id, event.cancelled_at)


async def on_discharge_ordered(tx: Transaction, event: DischargeOrdered, envelope: Envelope) -> None:
    """The patient may go; the bed is not free before that (V4)."""
    await actions.note_discharge_order(tx, event.encounter_id, tx.now)


async def on_discharge_order_undone(tx: Transaction, event: DischargeOrderUndone, envelope: Envelope) -> None:
    """The patient stays."""
    await actions.note_discharge_order(tx, event.encounter_id, None)


async def on_patient_discharged(tx: Transaction, event: PatientDischarged, envelope: Envelope) -> None:
    """The bed is empty and to be cleaned."""
    await actions.vacate_bed(tx, event.encounter_id, event.discharged_at)


async def on_discharge_cancelled(pool: Pool, tx: Transaction, event: DischargeCancelled, envelope: Envelope) -> None:
    """The patient comes back (A13)."""
    await actions.take_back(tx, pool, event.encounter_id, event.cancelled_at)


async def on_day_surgery_arrived(pool: Pool, tx: Transaction, event: DaySurgeryArrived, envelope: Envelope) -> None:
    """The day patient is here."""
    await actions.occupy_day_bed(tx, pool, event.encounter_id, event.arrived_at)


async def on_day_surgery_cancelled(tx: Transaction, event: DaySurgeryCancelled, envelope: Envelope) -> None:
    """The slot is free again."""
    await actions.cancel_request(tx, event.encounter_id, tx.now)


async def on_day_surgery_discharged(tx: Transaction, event: DaySurgeryDischarged, envelope: Envelope) -> None:
    """The day bed is empty and to be cleaned."""
    await actions.vacate_bed(tx, event.encounter_id, event.discharged_at)


async def on_day_surgery_converted(pool: Pool, tx: Transaction, event: DaySurgeryConverted, envelope: Envelope) -> None:
    """The day bed is kept until the patient is moved."""
    await actions.keep_day_bed(tx, pool, event.encounter_id, event.specialty)


def subscriptions(pool: Pool) -> tuple[Subscription, ...]:
    """Return what this service reacts to, with the hospital's pool."""
    return (
        Subscription(BedRequested, partial(on_bed_requested, pool)),
        Subscription(PatientAdmitted, on_patient_admitted),
        Subscription(PreAdmissionCancelled, on_pre_admission_cancelled),
        Subscription(AdmissionCancelled, on_admission_cancelled),
        Subscription(DischargeOrdered, on_discharge_ordered),
        Subscription(DischargeOrderUndone, on_discharge_order_undone),
        Subscription(PatientDischarged, on_patient_discharged),
        Subscription(DischargeCancelled, partial(on_discharge_cancelled, pool)),
        Subscription(DayBedRequested, partial(on_day_bed_requested, pool)),
        Subscription(DaySurgeryArrived, partial(on_day_surgery_arrived, pool)),
        Subscription(DaySurgeryCancelled, on_day_surgery_cancelled),
        Subscription(DaySurgeryDischarged, on_day_surgery_discharged),
        Subscription(DaySurgeryConverted, partial(on_day_surgery_converted, pool)),
    )
