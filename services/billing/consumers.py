"""What billing learns from the other services. Handlers change nothing when the fact is known already.

Topics run side by side: the ward may be told before the account exists, and a converted day case may be admitted before
its arrival is read. Whatever comes first opens the account, and it opens once.
"""

from services.billing import actions
from services.billing.domain import NotOpen
from shared.contracts.admission import AdmissionCancelled, PatientAdmitted
from shared.contracts.beds import BedOccupied, BedTransferred, TransferCancelled
from shared.contracts.daysurgery import DaySurgeryArrived
from shared.contracts.envelope import Envelope
from shared.db import Transaction
from shared.errors import Refused
from shared.messaging.consumer import Subscription


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


async def on_bed_occupied(tx: Transaction, event: BedOccupied, envelope: Envelope) -> None:
    """The patient lies in this ward now; its nurses may charge to the account (S1)."""
    await actions.note_ward(tx, encounter_id=event.encounter_id, ward=event.ward)


async def on_bed_transferred(tx: Transaction, event: BedTransferred, envelope: Envelope) -> None:
    """The patient lies in another ward now (A02)."""
    await actions.note_ward(tx, encounter_id=event.encounter_id, ward=event.ward)


async def on_transfer_cancelled(tx: Transaction, event: TransferCancelled, envelope: Envelope) -> None:
    """The patient is in the ward from before the move (A12)."""
    await actions.note_ward(tx, encounter_id=event.encounter_id, ward=event.ward)


SUBSCRIPTIONS = (
    Subscription(PatientAdmitted, on_patient_admitted),
    Subscription(AdmissionCancelled, on_admission_cancelled),
    Subscription(DaySurgeryArrived, on_day_surgery_arrived),
    Subscription(BedOccupied, on_bed_occupied),
    Subscription(BedTransferred, on_bed_transferred),
    Subscription(TransferCancelled, on_transfer_cancelled),
)
