"""What admission learns from the other services. Every handler may see a stay that moved on meanwhile, and then leaves it alone."""

from uuid import UUID

from services.admission import store
from services.admission.domain import WAITS_FOR_A_BED, State
from shared.contracts.admission import PatientAdmitted
from shared.contracts.beds import (
    BedAssigned,
    BedHoldExpired,
    BedOccupied,
    BedRefused,
    BedTransferred,
    BedVacated,
    BedWaitlisted,
    TransferCancelled,
)
from shared.contracts.billing import AccountClosed, ChargePosted, ChargeReversed, SettlementReopened
from shared.contracts.daysurgery import DaySurgeryConverted
from shared.contracts.envelope import Envelope
from shared.db import Transaction, refusing
from shared.messaging import outbox
from shared.messaging.consumer import Subscription


async def on_bed_assigned(tx: Transaction, event: BedAssigned, envelope: Envelope) -> None:
    """A waiting stay has its bed: the patient may come (A14)."""
    row = await store.lock_encounter(tx, event.encounter_id)
    if row is None:
        return  # a day case: its bed concerns day surgery
    if State(row["state"]) in WAITS_FOR_A_BED:
        await store.mark_bed(
            tx,
            event.encounter_id,
            state=State.PENDING_ADMIT,
            bed_id=event.bed_id,
            bed_code=event.bed_code,
            ward=event.ward,
            reason=None,
        )


async def on_bed_waitlisted(tx: Transaction, event: BedWaitlisted, envelope: Envelope) -> None:
    """No bed fits now; the patient sees why (R10)."""
    row = await store.lock_encounter(tx, event.encounter_id)
    if row is not None and State(row["state"]) in WAITS_FOR_A_BED:
        await store.mark_bed(
            tx, event.encounter_id, state=State.WAITLISTED, bed_id=None, bed_code=None, ward=None, reason=event.reason
        )


async def on_bed_hold_expired(tx: Transaction, event: BedHoldExpired, envelope: Envelope) -> None:
    """The patient did not come in time: back to the queue (A27)."""
    await _lose_bed(tx, event.encounter_id, event.bed_id, "hold_expired")


async def on_bed_refused(tx: Transaction, event: BedRefused, envelope: Envelope) -> None:
    """Ward or patient said no: back to the queue (A27, R36)."""
    await _lose_bed(tx, event.encounter_id, event.bed_id, "refused")


async def _lose_bed(tx: Transaction, encounter_id: UUID, bed_id: int, reason: str) -> None:
    row = await store.lock_encounter(tx, encounter_id)
    if row is not None and State(row["state"]) is State.PENDING_ADMIT and row["bed_id"] == bed_id:
        await store.mark_bed(
            tx, encounter_id, state=State.WAITLISTED, bed_id=None, bed_code=None, ward=None, reason=reason
        )


async def on_bed_transferred(tx: Transaction, event: BedTransferred, envelope: Envelope) -> None:
    """The patient lies in another bed now (A02)."""
    await store.mark_moved(
        tx, event.encounter_id, bed_id=event.bed_id, ward=event.ward, occupied_at=event.transferred_at
    )


async def on_transfer_cancelled(tx: Transaction, event: TransferCancelled, envelope: Envelope) -> None:
    """The move never counted: the patient lies in the old bed (A12)."""
    await store.mark_moved(tx, event.encounter_id, bed_id=event.bed_id, ward=event.ward, occupied_at=event.cancelled_at)


async def on_bed_occupied(tx: Transaction, event: BedOccupied, envelope: Envelope) -> None:
    """The patient lies in this bed now, after admission, move or recalled discharge."""
    await store.mark_moved(tx, event.encounter_id, bed_id=event.bed_id, ward=event.ward, occupied_at=event.occupied_at)


async def on_bed_vacated(tx: Transaction, event: BedVacated, envelope: Envelope) -> None:
    """The bed is empty; with a settled account the stay is closed (结案)."""
    await store.mark_bed_released(tx, event.encounter_id, event.vacated_at)


async def on_account_closed(tx: Transaction, event: AccountClosed, envelope: Envelope) -> None:
    """The bill is paid."""
    await store.mark_settled(tx, event.encounter_id, envelope.occurred_at)


async def on_settlement_reopened(tx: Transaction, event: SettlementReopened, envelope: Envelope) -> None:
    """The bill is open again; a discharge may be taken back now (A13)."""
    await store.mark_settled(tx, event.encounter_id, None)


async def on_charge_posted(tx: Transaction, event: ChargePosted, envelope: Envelope) -> None:
    """Something was executed: the admission cannot be cancelled as if it never was (A11)."""
    await store.add_live_charges(tx, event.encounter_id, 1)


async def on_charge_reversed(tx: Transaction, event: ChargeReversed, envelope: Envelope) -> None:
    """One charge less stands in the way of A11."""
    await store.add_live_charges(tx, event.encounter_id, -1)


_CANNOT_STAY = {
    "encounter_patient_tok_fkey": ("no_such_patient", "No patient has this token."),
    "one_open_stay_per_patient": ("already_in_hospital", "The patient lies in another bed of this hospital already."),
}


async def on_day_surgery_converted(tx: Transaction, event: DaySurgeryConverted, envelope: Envelope) -> None:
    """A day case became a stay on the same encounter; the day bed is kept until the patient is moved (A06, DAY-6)."""
    with refusing(_CANNOT_STAY):
        await store.insert_converted(
            tx,
            event.encounter_id,
            event.case_id,
            event.patient_tok,
            specialty=event.specialty,
            payer_kind=event.payer_kind,
            bed_id=event.bed_id,
            ward=event.ward,
        )
    outbox.append(
        tx,
        PatientAdmitted(
            encounter_id=event.encounter_id,
            patient_tok=event.patient_tok,
            encounter_class="inpatient",
            payer_kind=event.payer_kind,
            bed_id=event.bed_id,
            admitted_at=tx.now,
            emergency=False,
        ),
    )


SUBSCRIPTIONS = (
    Subscription(BedAssigned, on_bed_assigned),
    Subscription(BedWaitlisted, on_bed_waitlisted),
    Subscription(BedHoldExpired, on_bed_hold_expired),
    Subscription(BedRefused, on_bed_refused),
    Subscription(BedTransferred, on_bed_transferred),
    Subscription(TransferCancelled, on_transfer_cancelled),
    Subscription(BedOccupied, on_bed_occupied),
    Subscription(BedVacated, on_bed_vacated),
    Subscription(AccountClosed, on_account_closed),
    Subscription(SettlementReopened, on_settlement_reopened),
    Subscription(ChargePosted, on_charge_posted),
    Subscription(ChargeReversed, on_charge_reversed),
    Subscription(DaySurgeryConverted, on_day_surgery_converted),
)
