"""What can be done in admission. One action = one transaction; both doors use them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from services.admission import domain, store
from services.admission.domain import State, Step
from shared.contracts.admission import (
    AdmissionCancelled,
    BedRequested,
    DischargeCancelled,
    DischargeOrdered,
    DischargeOrderUndone,
    Disposition,
    PaperworkCompleted,
    PatientAdmitted,
    PatientDischarged,
    PatientRegistered,
    PreAdmissionCancelled,
    PreAdmissionRegistered,
)
from shared.contracts.envelope import Sex
from shared.db import Transaction, refusing
from shared.errors import NotFound, Refused
from shared.ids import new_id
from shared.messaging import outbox
from shared.web import NotYet


@dataclass(frozen=True, slots=True)
class Registered:
    """The patient's token, and whether the identifier was known before."""

    patient_tok: UUID
    known_before: bool


async def register_patient(
    tx: Transaction, *, system: str, value: str, name: str, sex: Sex, birth_date: date | None, phone: str | None
) -> Registered:
    """Give a person a random token, or return the token the identifier already has (S4, R64)."""
    patient_tok = new_id()
    known = await store.insert_patient(
        tx, patient_tok, system=system, value=value, name=name, sex=sex, birth_date=birth_date, phone=phone
    )
    if known is not None:
        return Registered(known, known_before=True)
    tx.correlation_id = patient_tok
    outbox.append(
        tx,
        PatientRegistered.model_construct(
            patient_tok=patient_tok, sex=sex, birth_year=birth_date.year if birth_date else None
        ),
    )
    return Registered(patient_tok, known_before=False)


async def register_pre_admission(
    tx: Transaction,
    *,
    patient_tok: UUID,
    identifier: tuple[str, str] | None,
    urgency: Any,
    specialty: str,
    payer_kind: Any,
    isolation: Any,
    level_of_care: Any,
    expected_admit_at: datetime | None,
    expected_stay_days: int,
    equipment: tuple[str, ...] = (),
    bed_class: Any = "any",
    partner: str | None = None,
    travel_minutes: int | None = None,
) -> UUID:
    """Register a stay and ask the hospital-wide pool for a bed, in one commit (R03, R08).

    Raises:
        NotFound: no patient has this token.
    """
    encounter_id = new_id()
    tx.correlation_id = encounter_id
    known = "This identifier belongs to another stay already."
    with refusing({"encounter_by_identifier": ("identifier_known", known)}):
        who = await store.insert_encounter(
            tx,
            encounter_id,
            patient_tok,
            identifier_system=identifier[0] if identifier else None,
            identifier_value=identifier[1] if identifier else None,
            urgency=urgency,
            specialty=specialty,
            payer_kind=payer_kind,
            isolation=isolation,
            level_of_care=level_of_care,
            expected_stay_days=expected_stay_days,
        )
    if who is None:
        raise NotFound("No patient has this token.")
    from_at = expected_admit_at or tx.now
    outbox.append(
        tx,
        PreAdmissionRegistered(
            encounter_id=encounter_id,
            patient_tok=patient_tok,
            urgency=urgency,
            specialty=specialty,
            payer_kind=payer_kind,
            expected_admit_at=from_at,
            expected_stay_days=expected_stay_days,
        ),
    )
    outbox.append(
        tx,
        BedRequested(
            encounter_id=encounter_id,
            patient_tok=patient_tok,
            sex=who["sex"],
            age_years=domain.age_years(who["birth_date"], from_at.date()),
            specialty=specialty,
            urgency=urgency,
            isolation=isolation,
            level_of_care=level_of_care,
            from_at=from_at,
            expected_stay_days=expected_stay_days,
            equipment=equipment,
            bed_class=bed_class,
            partner=partner,
            travel_minutes=travel_minutes,
        ),
    )
    return encounter_id


Allowed = Callable[[str | None], object]
"""Refuses when the caller may not do this in the stay's ward; asked before anything of the stay is told."""


async def _lock(tx: Transaction, encounter_id: UUID, allowed: Allowed) -> Any:
    tx.correlation_id = encounter_id
    row = await store.lock_encounter(tx, encounter_id)
    if row is None:
        raise NotFound("There is no such stay.")
    allowed(row["ward"])
    return row


def _stay(row: Any) -> domain.Stay:
    return domain.Stay(State(row["state"]), row["live_charges"], row["settled_at"] is not None, row["admitted_at"])


async def admit_patient(tx: Transaction, encounter_id: UUID, *, allowed: Allowed, paperwork_pending: bool) -> Any:
    """Record that the patient lies in the assigned bed (A01); papers may follow later (R18).

    Raises:
        NotYet: the bed pool has not answered yet. Refused: no bed, or not the moment.
    """
    row = await _lock(tx, encounter_id, allowed)
    if State(row["state"]) in domain.WAITS_FOR_A_BED:
        raise NotYet(
            "No bed is assigned yet; the request is in the queue.", code="bed_not_assigned_yet", wait_for=encounter_id
        )
    domain.next_state(_stay(row), Step.ADMIT)
    await _check_no_other_stay(tx, row)
    with refusing({"one_open_stay_per_patient": ("already_in_hospital", "The patient is in hospital already.")}):
        await store.mark_admitted(tx, encounter_id, paperwork_pending=paperwork_pending)
    outbox.append(
        tx,
        PatientAdmitted(
            encounter_id=encounter_id,
            patient_tok=row["patient_tok"],
            encounter_class=row["class"],
            payer_kind=row["payer_kind"],
            bed_id=row["bed_id"],
            admitted_at=tx.now,
            emergency=row["urgency"] in ("critical", "emergency"),
        ),
    )
    if not paperwork_pending:
        outbox.append(
            tx, PaperworkCompleted(encounter_id=encounter_id, patient_tok=row["patient_tok"], completed_at=tx.now)
        )
    return row


async def _check_no_other_stay(tx: Transaction, row: Any) -> None:
    """Refuse a stay that overlaps another of the same patient, and wait for the pool to have seen the last one end.

    Without the wait the pool could hear of this admission before that discharge: they travel in different partitions.
    """
    for other in await store.list_other_stays(tx, row["encounter_id"], row["patient_tok"]):
        if other["discharged_at"] is None:
            raise Refused("The patient is in hospital already.", code="already_in_hospital")
        if other["discharged_at"] > tx.now:
            raise Refused("The patient has another stay at that time.", code="overlapping_stay")
        if other["bed_released_at"] is None:
            raise NotYet(
                "The bed of the last stay is not released yet.",
                code="last_bed_not_released",
                wait_for=other["encounter_id"],
            )


async def complete_paperwork(tx: Transaction, encounter_id: UUID, *, allowed: Allowed) -> Any:
    """Record that identity, consent and papers of an admitted patient are done (R18)."""
    row = await _lock(tx, encounter_id, allowed)
    if not row["paperwork_pending"]:
        raise Refused("No paperwork is pending for this stay.", code="nothing_pending")
    await store.mark_paperwork_completed(tx, encounter_id)
    outbox.append(
        tx, PaperworkCompleted(encounter_id=encounter_id, patient_tok=row["patient_tok"], completed_at=tx.now)
    )
    return row


async def cancel_pre_admission(tx: Transaction, encounter_id: UUID, *, allowed: Allowed, reason: str) -> Any:
    """Cancel a stay that has not begun (A38); the pool takes the bed back."""
    row = await _lock(tx, encounter_id, allowed)
    await store.mark_state(tx, encounter_id, domain.next_state(_stay(row), Step.CANCEL))
    outbox.append(tx, PreAdmissionCancelled(encounter_id=encounter_id, patient_tok=row["patient_tok"], reason=reason))
    return row


async def cancel_admission(tx: Transaction, encounter_id: UUID, *, allowed: Allowed, reason: str) -> Any:
    """Cancel an admission under which nothing was executed (A11); bed and account follow."""
    row = await _lock(tx, encounter_id, allowed)
    await store.mark_state(tx, encounter_id, domain.next_state(_stay(row), Step.CANCEL_ADMISSION))
    outbox.append(
        tx,
        AdmissionCancelled(
            encounter_id=encounter_id, patient_tok=row["patient_tok"], reason=reason, cancelled_at=tx.now
        ),
    )
    return row


async def order_discharge(tx: Transaction, encounter_id: UUID, *, allowed: Allowed) -> Any:
    """Order the discharge (A16); the bed stays taken until the patient leaves (V4)."""
    row = await _lock(tx, encounter_id, allowed)
    await store.mark_state(
        tx, encounter_id, domain.next_state(_stay(row), Step.ORDER_DISCHARGE), discharge_ordered_at=tx.now
    )
    outbox.append(tx, DischargeOrdered(encounter_id=encounter_id, patient_tok=row["patient_tok"], ordered_at=tx.now))
    return row


async def undo_discharge_order(tx: Transaction, encounter_id: UUID, *, allowed: Allowed, reason: str) -> Any:
    """Take the order back (A25)."""
    row = await _lock(tx, encounter_id, allowed)
    await store.mark_state(tx, encounter_id, domain.next_state(_stay(row), Step.UNDO_DISCHARGE_ORDER))
    outbox.append(tx, DischargeOrderUndone(encounter_id=encounter_id, patient_tok=row["patient_tok"], reason=reason))
    return row


async def discharge_patient(tx: Transaction, encounter_id: UUID, *, allowed: Allowed, disposition: Disposition) -> Any:
    """Record that the patient physically left (A03); a leaving without an order records the order with it."""
    row = await _lock(tx, encounter_id, allowed)
    domain.next_state(_stay(row), Step.DISCHARGE)
    domain.check_leaves_after_coming(row["admitted_at"], tx.now)
    ordered_before = row["discharge_ordered_at"] is not None
    await store.mark_discharged(
        tx, encounter_id, disposition=disposition, ordered_at=row["discharge_ordered_at"] or tx.now
    )
    if not ordered_before:
        outbox.append(
            tx, DischargeOrdered(encounter_id=encounter_id, patient_tok=row["patient_tok"], ordered_at=tx.now)
        )
    outbox.append(
        tx,
        PatientDischarged(
            encounter_id=encounter_id,
            patient_tok=row["patient_tok"],
            disposition=disposition,
            specialty=row["specialty"],
            discharged_at=tx.now,
        ),
    )
    return row


async def cancel_discharge(tx: Transaction, encounter_id: UUID, *, allowed: Allowed, reason: str) -> Any:
    """Take a discharge back (A13, 召回): the pool gives the old bed back, or another one."""
    row = await _lock(tx, encounter_id, allowed)
    if row["disposition"] == "5":
        raise Refused("A death is not taken back here; correct the record with medical records.", code="deceased")
    await store.mark_state(tx, encounter_id, domain.next_state(_stay(row), Step.CANCEL_DISCHARGE))
    outbox.append(
        tx,
        DischargeCancelled(
            encounter_id=encounter_id,
            patient_tok=row["patient_tok"],
            reason=reason,
            bed_id=row["bed_id"],
            cancelled_at=tx.now,
        ),
    )
    return row
