"""What day surgery learns from the other services. Every handler may see a case that moved on meanwhile, and then leaves it alone."""

from services.daysurgery import actions
from shared.contracts.admission import PatientRegistered
from shared.contracts.beds import BedAssigned, BedHoldExpired, BedOccupied, BedWaitlisted
from shared.contracts.envelope import Envelope
from shared.db import Transaction
from shared.messaging.consumer import Subscription


async def on_patient_registered(tx: Transaction, event: PatientRegistered, envelope: Envelope) -> None:
    """A person has a token: cases can be referred."""
    await actions.learn_patient(tx, event.patient_tok, sex=event.sex, birth_year=event.birth_year)


async def on_bed_assigned(tx: Transaction, event: BedAssigned, envelope: Envelope) -> None:
    """A day bed is held for the slot: the case is booked. Beds of inpatient stays concern admission."""
    await actions.take_bed(tx, event.encounter_id, bed_id=event.bed_id, ward=event.ward)


async def on_bed_waitlisted(tx: Transaction, event: BedWaitlisted, envelope: Envelope) -> None:
    """No day bed is free in the slot; the patient sees why (R10)."""
    await actions.wait_for_bed(tx, event.encounter_id, reason=event.reason)


async def on_bed_hold_expired(tx: Transaction, event: BedHoldExpired, envelope: Envelope) -> None:
    """The patient did not come in the slot: the bed is somebody else's (R43)."""
    await actions.lose_bed(tx, event.encounter_id, bed_id=event.bed_id)


async def on_bed_occupied(tx: Transaction, event: BedOccupied, envelope: Envelope) -> None:
    """The patient lies in this bed now."""
    await actions.follow_into_bed(tx, event.encounter_id, bed_id=event.bed_id, ward=event.ward)


SUBSCRIPTIONS = (
    Subscription(PatientRegistered, on_patient_registered),
    Subscription(BedAssigned, on_bed_assigned),
    Subscription(BedWaitlisted, on_bed_waitlisted),
    Subscription(BedHoldExpired, on_bed_hold_expired),
    Subscription(BedOccupied, on_bed_occupied),
)
