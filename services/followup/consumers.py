"""What follow-up learns from admission and day surgery. Their topics come in any order; the plans end up the same."""

from services.followup import actions
from services.followup.actions import Left
from services.followup.domain import Moment
from services.followup.settings import Rules
from shared.contracts.admission import AdmissionCancelled, DischargeCancelled, PatientAdmitted, PatientDischarged
from shared.contracts.daysurgery import DaySurgeryArrived, DaySurgeryDischarged
from shared.contracts.envelope import Envelope
from shared.db import Transaction
from shared.messaging.consumer import Subscription

POLICY = actions.policy_of(Rules())


def _moment(tx: Transaction, envelope: Envelope) -> Moment:
    """Return when this is learned: for an imported fact when it was recorded, so that a rebuild decides the same (R18)."""
    imported = tx.source == "import"
    return Moment(envelope.recorded_at if imported else tx.now, imported)


async def on_patient_admitted(tx: Transaction, event: PatientAdmitted, envelope: Envelope) -> None:
    """The patient is in hospital: older plans wait."""
    await actions.learn_admission(
        tx,
        event.encounter_id,
        event.patient_tok,
        began_at=event.admitted_at,
        moment=_moment(tx, envelope),
        policy=POLICY,
    )


async def on_day_surgery_arrived(tx: Transaction, event: DaySurgeryArrived, envelope: Envelope) -> None:
    """The patient is in the day ward: older plans wait."""
    await actions.learn_admission(
        tx,
        event.encounter_id,
        event.patient_tok,
        began_at=event.arrived_at,
        moment=_moment(tx, envelope),
        policy=POLICY,
    )


async def on_admission_cancelled(tx: Transaction, event: AdmissionCancelled, envelope: Envelope) -> None:
    """The patient was never in hospital: older plans go on (A11)."""
    await actions.cancel_stay(
        tx,
        event.encounter_id,
        event.patient_tok,
        cancelled_at=event.cancelled_at,
        moment=_moment(tx, envelope),
        policy=POLICY,
    )


async def on_patient_discharged(tx: Transaction, event: PatientDischarged, envelope: Envelope) -> None:
    """The patient left the ward: plan the follow-up (R30), and let older plans go on. Two statements."""
    await actions.plan_follow_up(
        tx,
        event.encounter_id,
        event.patient_tok,
        left_at=event.discharged_at,
        disposition=event.disposition,
        left=Left(specialty=event.specialty),
        moment=_moment(tx, envelope),
        policy=POLICY,
    )


async def on_day_surgery_discharged(tx: Transaction, event: DaySurgeryDischarged, envelope: Envelope) -> None:
    """The patient left the day ward: plan the follow-up by procedure (R28)."""
    await actions.plan_follow_up(
        tx,
        event.encounter_id,
        event.patient_tok,
        left_at=event.discharged_at,
        disposition=event.disposition,
        left=Left(procedure=event.procedure),
        moment=_moment(tx, envelope),
        policy=POLICY,
    )


async def on_discharge_cancelled(tx: Transaction, event: DischargeCancelled, envelope: Envelope) -> None:
    """The patient never left (召回): the plan waits (A13)."""
    await actions.take_back_discharge(
        tx,
        event.encounter_id,
        event.patient_tok,
        cancelled_at=event.cancelled_at,
        moment=_moment(tx, envelope),
        policy=POLICY,
    )


SUBSCRIPTIONS = (
    Subscription(PatientAdmitted, on_patient_admitted),
    Subscription(AdmissionCancelled, on_admission_cancelled),
    Subscription(PatientDischarged, on_patient_discharged),
    Subscription(DischargeCancelled, on_discharge_cancelled),
    Subscription(DaySurgeryArrived, on_day_surgery_arrived),
    Subscription(DaySurgeryDischarged, on_day_surgery_discharged),
)
