"""What billing learns from the other services. Handlers change nothing when the fact is known already.

Topics run side by side: the ward may be told before the account exists, and a converted day case may be admitted before
its arrival is read. Whatever comes first opens the account, and it opens once.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from services.billing import actions, price_actions, price_store, worklist_store
from services.billing.domain import NotOpen
from services.billing.settings import PriceRules
from shared.contracts.admission import AdmissionCancelled, DischargeCancelled, PatientAdmitted, PatientDischarged
from shared.contracts.beds import (
    BedOccupied,
    BedTransferred,
    BedVacated,
    LeaveCancelled,
    LeaveEndCancelled,
    LeaveEnded,
    LeaveStarted,
    TransferCancelled,
)
from shared.contracts.daysurgery import DaySurgeryArrived, DaySurgeryDischarged
from shared.contracts.envelope import Envelope
from shared.db import Transaction
from shared.errors import Refused
from shared.messaging.consumer import Subscription

RULES = PriceRules()


async def on_patient_admitted(tx: Transaction, event: PatientAdmitted, envelope: Envelope) -> None:
    """The stay begins: open its account, unless a day-surgery case opened it before (R02, DAY-6)."""
    await actions.open_account(
        tx,
        encounter_id=event.encounter_id,
        patient_tok=event.patient_tok,
        payer_kind=event.payer_kind,
        day_case=event.encounter_class == "day_surgery",
    )


async def on_day_surgery_arrived(tx: Transaction, event: DaySurgeryArrived, envelope: Envelope) -> None:
    """The day patient is checked in: open the account."""
    await actions.open_account(
        tx,
        encounter_id=event.encounter_id,
        patient_tok=event.patient_tok,
        payer_kind=event.payer_kind,
        day_case=True,
    )


async def on_admission_cancelled(tx: Transaction, event: AdmissionCancelled, envelope: Envelope) -> None:
    """The admission never counted: void the account (A11).

    Raises:
        Refused: it is settled already; the event is parked until somebody reopens the settlement.
    """
    outcome = await actions.void_account(tx, encounter_id=event.encounter_id, reason=event.reason)
    if isinstance(outcome, NotOpen):
        raise Refused("The account of this admission is settled; reopen the settlement first.", code="account_settled")


async def on_patient_discharged(tx: Transaction, event: PatientDischarged, envelope: Envelope) -> None:
    """The patient left: until the account is settled the stay is on the clerk's worklist (D10)."""
    await worklist_store.note_left(tx, event.encounter_id, event.discharged_at)


async def on_day_surgery_discharged(tx: Transaction, event: DaySurgeryDischarged, envelope: Envelope) -> None:
    """The day patient went home: until the account is settled the case is on the clerk's worklist (D10)."""
    await worklist_store.note_left(tx, event.encounter_id, event.discharged_at)


async def on_discharge_cancelled(tx: Transaction, event: DischargeCancelled, envelope: Envelope) -> None:
    """The discharge was taken back (A13): the patient has not left."""
    await worklist_store.remove_left(tx, event.encounter_id)


async def on_bed_occupied(tx: Transaction, event: BedOccupied, envelope: Envelope) -> None:
    """The patient lies in this ward now: its nurses may charge to the account (S1), and the bed is charged from now on (V10)."""
    await actions.note_ward(tx, encounter_id=event.encounter_id, ward=event.ward)
    if event.shared:
        return  # a newborn beside its mother has no bed of its own to pay for
    await _note_bed(
        tx,
        envelope,
        "came",
        event.encounter_id,
        event.bed_id,
        event.occupied_at,
        ward=event.ward,
        accommodation=event.accommodation,
    )


async def on_bed_transferred(tx: Transaction, event: BedTransferred, envelope: Envelope) -> None:
    """The patient lies in another ward, or in a bed of another price, now (A02, V11)."""
    await actions.note_ward(tx, encounter_id=event.encounter_id, ward=event.ward)
    if event.shared:  # a newborn that had a bed of its own left it for its mother's
        if not event.from_shared:
            await _note_bed(tx, envelope, "left", event.encounter_id, event.from_bed_id, event.transferred_at)
        return
    await _note_bed(
        tx,
        envelope,
        "came",
        event.encounter_id,
        event.bed_id,
        event.transferred_at,
        ward=event.ward,
        accommodation=event.accommodation,
    )


async def on_leave_started(tx: Transaction, event: LeaveStarted, envelope: Envelope) -> None:
    """The patient is away and the bed kept (A21)."""
    await _note_bed(tx, envelope, "away", event.encounter_id, event.bed_id, envelope.occurred_at)


async def on_leave_ended(tx: Transaction, event: LeaveEnded, envelope: Envelope) -> None:
    """The patient is back (A22)."""
    await _note_bed(tx, envelope, "back", event.encounter_id, event.bed_id, envelope.occurred_at)


async def on_leave_cancelled(tx: Transaction, event: LeaveCancelled, envelope: Envelope) -> None:
    """The patient never was away (A52)."""
    await _note_bed(tx, envelope, "back", event.encounter_id, event.bed_id, event.started_at)


async def on_leave_end_cancelled(tx: Transaction, event: LeaveEndCancelled, envelope: Envelope) -> None:
    """The patient has been away all the time since the leave began (A53)."""
    await _note_bed(tx, envelope, "away", event.encounter_id, event.bed_id, event.ended_at)


async def on_bed_vacated(tx: Transaction, event: BedVacated, envelope: Envelope) -> None:
    """The patient physically left the bed: its days end here, whatever time the discharge says (V4, V10)."""
    await _note_bed(tx, envelope, "left", event.encounter_id, event.bed_id, event.vacated_at)


async def _note_bed(
    tx: Transaction,
    envelope: Envelope,
    kind: Literal["came", "left", "away", "back"],
    encounter_id: UUID,
    bed_id: int,
    at: datetime,
    *,
    ward: str | None = None,
    accommodation: str | None = None,
) -> None:
    """Keep where the patient lay; a stay that is charged by the catalogue gets its bed days at once.

    What was written down later (imported, or from paper) is priced by the timer, whose clock is the real one.
    """
    is_priced = await price_store.insert_bed_fact(
        tx,
        encounter_id=encounter_id,
        kind=kind,
        bed_id=bed_id,
        version=envelope.version,
        at=at,
        ward=ward,
        accommodation=accommodation,
    )
    if not (is_priced and RULES.policy.auto and tx.source == "live"):
        return
    if kind == "left":
        await price_actions.stop_what_runs(tx, RULES, encounter_id=encounter_id, at=at)
    await price_actions.price_bed_days(tx, RULES, encounter_id=encounter_id, until=max(at, tx.now), by_itself=True)


async def on_transfer_cancelled(tx: Transaction, event: TransferCancelled, envelope: Envelope) -> None:
    """The patient has lain in the bed from before the move all the time (A12): it is charged, the other one is not (V11)."""
    await actions.note_ward(tx, encounter_id=event.encounter_id, ward=event.ward)
    await _note_bed(
        tx,
        envelope,
        "came",
        event.encounter_id,
        event.bed_id,
        event.transferred_at,
        ward=event.ward,
        accommodation=event.accommodation,
    )


SUBSCRIPTIONS = (
    Subscription(PatientAdmitted, on_patient_admitted),
    Subscription(AdmissionCancelled, on_admission_cancelled),
    Subscription(PatientDischarged, on_patient_discharged),
    Subscription(DischargeCancelled, on_discharge_cancelled),
    Subscription(DaySurgeryArrived, on_day_surgery_arrived),
    Subscription(DaySurgeryDischarged, on_day_surgery_discharged),
    Subscription(BedOccupied, on_bed_occupied),
    Subscription(BedTransferred, on_bed_transferred),
    Subscription(TransferCancelled, on_transfer_cancelled),
    Subscription(LeaveStarted, on_leave_started),
    Subscription(LeaveEnded, on_leave_ended),
    Subscription(LeaveCancelled, on_leave_cancelled),
    Subscription(LeaveEndCancelled, on_leave_end_cancelled),
    Subscription(BedVacated, on_bed_vacated),
)
