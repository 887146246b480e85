"""What can be done in day surgery. One action = one transaction; both doors use them.

A door locks the case with `lock_case` (or `lock_case_to_book`), checks who may do it there, and then acts on it.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from services.daysurgery import domain, store
from services.daysurgery.domain import Case, Catalogue, Policy, Refusal, Slot, State
from shared.contracts.daysurgery import (
    CancelledBy,
    DayBedRequested,
    DaySurgeryArrived,
    DaySurgeryBooked,
    DaySurgeryCancelled,
    DaySurgeryConverted,
    DaySurgeryDischarged,
    DaySurgeryReferred,
    OperationFinished,
    OperationStarted,
)
from shared.contracts.envelope import PayerKind
from shared.db import Transaction
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox
from shared.web import NotYet

Disposition = Literal["1", "2", "3", "4", "5", "9"]


@dataclass(frozen=True, slots=True)
class Referred:
    """The case, and whether the sender's identifier was known before."""

    case: Case
    known_before: bool


async def learn_patient(
    tx: Transaction, patient_tok: UUID, *, sex: Literal["male", "female", "unknown"], birth_year: int | None
) -> None:
    """Remember what the rules here need of a patient, and wake referrals that wait for it; no name comes here (S4)."""
    await store.upsert_patient(tx, patient_tok, sex=sex, birth_year=birth_year)
    tx.signals.add(str(patient_tok))


async def refer(
    tx: Transaction,
    *,
    patient_tok: UUID,
    procedure: str,
    payer_kind: PayerKind,
    identifier: tuple[str, str] | None,
    catalogue: Catalogue,
) -> Referred:
    """Open a case for a procedure of the catalogue (R21); the same identifier of the same sender opens one case only.

    Raises:
        NotYet: admission has not told of this patient yet. Refused: the procedure is not in the catalogue, or the
            identifier belongs to another patient or procedure.
    """
    if not catalogue.admits(procedure):
        raise Refused("This procedure is not in the day-surgery catalogue (R21).", code="procedure_not_in_catalogue")
    who = await store.get_patient(tx, patient_tok)
    if who is None:
        raise NotYet("Admission has not told of this patient yet.", code="patient_not_known_yet", wait_for=patient_tok)
    case = Case(
        case_id=new_id(),
        encounter_id=new_id(),
        patient_tok=patient_tok,
        sex=who["sex"],
        birth_year=who["birth_year"],
        procedure_code=procedure,
        catalogue_version=catalogue.version,
        payer_kind=payer_kind,
        state=State.REFERRED,
        referred_at=tx.now,
    )
    if not await store.insert_case(tx, case, identifier):
        return await _known_case(tx, case, identifier)
    tx.correlation_id = case.encounter_id
    outbox.append(
        tx,
        DaySurgeryReferred(
            case_id=case.case_id, encounter_id=case.encounter_id, patient_tok=patient_tok, procedure=procedure
        ),
    )
    return Referred(case, known_before=False)


async def _known_case(tx: Transaction, wanted: Case, identifier: tuple[str, str] | None) -> Referred:
    known = None if identifier is None else await store.get_case_by_identifier(tx, *identifier)
    if known is None:
        raise NotFound("There is no such case.")
    if (known.patient_tok, known.procedure_code) != (wanted.patient_tok, wanted.procedure_code):
        raise Refused("This identifier belongs to a case of another patient or procedure.", code="identifier_taken")
    tx.correlation_id = known.encounter_id
    return Referred(known, known_before=True)


async def lock_case(tx: Transaction, case_id: UUID) -> Case:
    """Lock and return a case; what follows in this transaction is about its encounter.

    Raises:
        NotFound: there is no such case.
    """
    return _found(tx, await store.lock_case(tx, case_id))


async def lock_case_to_book(tx: Transaction, case_id: UUID) -> Case:
    """Lock and return a case together with its patient, so that two slots of one patient are chosen one after the other.

    Raises:
        NotFound: there is no such case.
    """
    return _found(tx, await store.lock_case_and_patient(tx, case_id))


def _found(tx: Transaction, case: Case | None) -> Case:
    if case is None:
        raise NotFound("There is no such case.")
    tx.correlation_id = case.encounter_id
    return case


def _accepted(outcome: Case | Refusal, case: Case) -> Case:
    """Return the case after a step, or say no with the refusal's sentence."""
    match outcome:
        case Case():
            return outcome
        case Refusal():
            if outcome.may_come:
                raise NotYet(outcome.detail, code=outcome.code, wait_for=case.encounter_id)
            raise Refused(outcome.detail, code=outcome.code, state=case.state.value)


async def book_slot(tx: Transaction, case: Case, slot: Slot, policy: Policy) -> Case:
    """Ask the bed pool for a day bed in a slot (R12, R23); it answers with a bed or a reason to wait.

    Raises:
        Refused: a slot was asked before, is not real, or overlaps another case of the patient.
    """
    others = await store.list_slots(tx, case.patient_tok, but_case=case.case_id)
    asked = _accepted(domain.ask_slot(case, slot, others, tx.now, policy), case)
    await store.mark_case(tx, asked)
    outbox.append(
        tx,
        DayBedRequested(
            case_id=case.case_id,
            encounter_id=case.encounter_id,
            patient_tok=case.patient_tok,
            sex=case.sex,
            age_years=domain.age_years(case.birth_year, slot.starts_at, policy.zone),
            starts_at=slot.starts_at,
            ends_at=slot.ends_at,
        ),
    )
    return asked


async def take_bed(tx: Transaction, encounter_id: UUID, *, bed_id: int, ward: str) -> None:
    """Book the case into the bed the pool holds for it; a bed that is no longer wanted is left to the pool (R23)."""
    case = await store.lock_case_of_encounter(tx, encounter_id)
    if case is None or (case.bed_id, case.ward) == (bed_id, ward):
        return
    booked = domain.take_bed(case, bed_id, ward)
    if isinstance(booked, Refusal) or booked.slot is None:
        return
    await store.mark_case(tx, booked)
    outbox.append(
        tx,
        DaySurgeryBooked(
            case_id=case.case_id,
            encounter_id=case.encounter_id,
            patient_tok=case.patient_tok,
            bed_id=bed_id,
            starts_at=booked.slot.starts_at,
            ends_at=booked.slot.ends_at,
        ),
    )


async def wait_for_bed(tx: Transaction, encounter_id: UUID, *, reason: str) -> None:
    """Put the case on the waiting list with the pool's reason (R10)."""
    case = await store.lock_case_of_encounter(tx, encounter_id)
    if case is not None:
        await _mark_if_possible(tx, domain.wait_for_bed(case, reason))


async def lose_bed(tx: Transaction, encounter_id: UUID, *, bed_id: int) -> None:
    """Put the case back on the waiting list, because the patient did not come in time (A27)."""
    case = await store.lock_case_of_encounter(tx, encounter_id)
    if case is not None:
        await _mark_if_possible(tx, domain.lose_bed(case, bed_id))


async def follow_into_bed(tx: Transaction, encounter_id: UUID, *, bed_id: int, ward: str) -> None:
    """Remember the bed a day-ward patient really lies in, so that a conversion names the right one."""
    case = await store.lock_case_of_encounter(tx, encounter_id)
    if case is not None and (case.bed_id, case.ward) != (bed_id, ward):
        await _mark_if_possible(tx, domain.lie_in_bed(case, bed_id, ward))


async def _mark_if_possible(tx: Transaction, outcome: Case | Refusal) -> None:
    """Write what the pool said, unless the case moved on meanwhile: then the pool hears of that by its own event."""
    if isinstance(outcome, Case):
        await store.mark_case(tx, outcome)


async def arrive(tx: Transaction, case: Case, policy: Policy) -> Case:
    """Check the patient in; the account opens and the bed is occupied.

    Raises:
        NotYet: the bed pool holds no day bed yet. Refused: not the moment.
    """
    arrived = _accepted(domain.arrive(case, tx.now, policy), case)
    await store.mark_case(tx, arrived)
    outbox.append(
        tx,
        DaySurgeryArrived(
            case_id=case.case_id,
            encounter_id=case.encounter_id,
            patient_tok=case.patient_tok,
            payer_kind=case.payer_kind,
            arrived_at=tx.now,
        ),
    )
    return arrived


async def start_operation(tx: Transaction, case: Case) -> Case:
    """Record that the operation began."""
    started = _accepted(domain.start_operation(case, tx.now), case)
    await store.mark_case(tx, started)
    outbox.append(
        tx,
        OperationStarted(
            case_id=case.case_id, encounter_id=case.encounter_id, patient_tok=case.patient_tok, started_at=tx.now
        ),
    )
    return started


async def finish_operation(tx: Transaction, case: Case) -> Case:
    """Record that the operation ended."""
    finished = _accepted(domain.finish_operation(case, tx.now), case)
    await store.mark_case(tx, finished)
    outbox.append(
        tx,
        OperationFinished(
            case_id=case.case_id, encounter_id=case.encounter_id, patient_tok=case.patient_tok, finished_at=tx.now
        ),
    )
    return finished


async def discharge(tx: Transaction, case: Case, *, disposition: Disposition) -> Case:
    """Record that the patient left the day ward; the bed is freed and the follow-up planned (R28)."""
    left = _accepted(domain.discharge(case, disposition, tx.now), case)
    await store.mark_case(tx, left)
    outbox.append(
        tx,
        DaySurgeryDischarged(
            case_id=case.case_id,
            encounter_id=case.encounter_id,
            patient_tok=case.patient_tok,
            procedure=case.procedure_code,
            disposition=disposition,
            discharged_at=tx.now,
        ),
    )
    return left


async def convert_to_inpatient(tx: Transaction, case: Case, *, specialty: str, policy: Policy) -> Case:
    """Hand the case to admission as an inpatient stay on the same encounter and account (DAY-6, A06)."""
    converted = _accepted(domain.convert(case, specialty, tx.now), case)
    if converted.bed_id is None:
        raise Refused("The case has no day bed to be kept.", code="no_day_bed", state=case.state.value)
    await store.mark_case(tx, converted)
    outbox.append(
        tx,
        DaySurgeryConverted(
            case_id=case.case_id,
            encounter_id=case.encounter_id,
            patient_tok=case.patient_tok,
            sex=case.sex,
            age_years=domain.age_years(case.birth_year, tx.now, policy.zone),
            specialty=specialty,
            payer_kind=case.payer_kind,
            bed_id=converted.bed_id,
            ward=converted.ward,
            converted_at=tx.now,
        ),
    )
    return converted


async def cancel(tx: Transaction, case: Case, *, by: CancelledBy, reason: str, policy: Policy) -> Case:
    """Cancel a case before the patient arrived; slot and bed go to the next patient (R41)."""
    cancelled = _accepted(domain.cancel(case, by, reason, tx.now, policy), case)
    await store.mark_case(tx, cancelled)
    outbox.append(
        tx,
        DaySurgeryCancelled(
            case_id=case.case_id,
            encounter_id=case.encounter_id,
            patient_tok=case.patient_tok,
            cancelled_by=by,
            reason=reason,
            temporary=bool(cancelled.cancelled_temporarily),
        ),
    )
    return cancelled
