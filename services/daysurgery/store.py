"""SQL of the daysurgery schema. One function, one statement; the first word tells cost and effect.

Lock order: case, then patient.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.daysurgery.domain import HAS_SLOT, Case, Slot, State
from shared.db import Transaction

_CASE = "c.*, p.sex, p.birth_year FROM day_case c JOIN patient p USING (patient_tok)"


def _case(row: Any) -> Case:
    return Case(
        case_id=row["case_id"],
        encounter_id=row["encounter_id"],
        patient_tok=row["patient_tok"],
        sex=row["sex"],
        birth_year=row["birth_year"],
        procedure_code=row["procedure_code"],
        catalogue_version=row["catalogue_version"],
        payer_kind=row["payer_kind"],
        state=State(row["state"]),
        referred_at=row["referred_at"],
        slot=None if row["starts_at"] is None else Slot(row["starts_at"], row["ends_at"]),
        bed_id=row["bed_id"],
        ward=row["ward"],
        waiting_reason=row["waiting_reason"],
        arrived_at=row["arrived_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        ended_at=row["ended_at"],
        disposition=row["disposition"],
        specialty=row["specialty"],
        cancelled_by=row["cancelled_by"],
        cancel_reason=row["cancel_reason"],
        cancelled_temporarily=row["cancelled_temporarily"],
        version=row["version"],
    )


async def upsert_patient(tx: Transaction, patient_tok: UUID, *, sex: str, birth_year: int | None) -> None:
    """Write what admission says of a patient; the newest word holds."""
    await tx.conn.execute(
        "INSERT INTO patient (patient_tok, sex, birth_year) VALUES ($1, $2, $3)"
        " ON CONFLICT (patient_tok) DO UPDATE SET sex = excluded.sex, birth_year = excluded.birth_year",
        patient_tok,
        sex,
        birth_year,
    )


async def get_patient(tx: Transaction, patient_tok: UUID) -> Any:
    """Return sex and birth year of a patient, or nothing when admission has not told yet."""
    return await tx.conn.fetchrow("SELECT sex, birth_year FROM patient WHERE patient_tok = $1", patient_tok)


async def insert_case(tx: Transaction, case: Case, identifier: tuple[str, str] | None) -> bool:
    """Write a new case; False when the sender's identifier has one already."""
    done: str = await tx.conn.execute(
        "INSERT INTO day_case (case_id, encounter_id, patient_tok, identifier_system, identifier_value, procedure_code,"
        " catalogue_version, payer_kind, state, referred_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        " ON CONFLICT (identifier_system, identifier_value) DO NOTHING",
        case.case_id,
        case.encounter_id,
        case.patient_tok,
        identifier[0] if identifier else None,
        identifier[1] if identifier else None,
        case.procedure_code,
        case.catalogue_version,
        case.payer_kind,
        case.state,
        case.referred_at,
    )
    return done.endswith(" 1")


async def get_case(tx: Transaction, case_id: UUID) -> Case | None:
    """Return a case, or nothing."""
    row = await tx.conn.fetchrow(f"SELECT {_CASE} WHERE c.case_id = $1", case_id)
    return None if row is None else _case(row)


async def get_case_by_identifier(tx: Transaction, system: str | None, value: str) -> Case | None:
    """Return the case with the sender's identifier, or nothing; without a system the oldest of that value."""
    row = await tx.conn.fetchrow(
        f"SELECT {_CASE} WHERE ($1::text IS NULL OR c.identifier_system = $1) AND c.identifier_value = $2"
        " ORDER BY c.case_id LIMIT 1",
        system,
        value,
    )
    return None if row is None else _case(row)


async def lock_case(tx: Transaction, case_id: UUID) -> Case | None:
    """Lock and return a case, so that its events keep their order; nothing when there is none."""
    row = await tx.conn.fetchrow(f"SELECT {_CASE} WHERE c.case_id = $1 FOR UPDATE OF c", case_id)
    return None if row is None else _case(row)


async def lock_case_of_encounter(tx: Transaction, encounter_id: UUID) -> Case | None:
    """Lock and return the case of an encounter; nothing when it is no day-surgery encounter."""
    row = await tx.conn.fetchrow(f"SELECT {_CASE} WHERE c.encounter_id = $1 FOR UPDATE OF c", encounter_id)
    return None if row is None else _case(row)


async def lock_case_and_patient(tx: Transaction, case_id: UUID) -> Case | None:
    """Lock and return a case and its patient, so that no other slot of the patient is chosen meanwhile."""
    row = await tx.conn.fetchrow(f"SELECT {_CASE} WHERE c.case_id = $1 FOR UPDATE OF c FOR NO KEY UPDATE OF p", case_id)
    return None if row is None else _case(row)


async def list_slots(tx: Transaction, patient_tok: UUID, *, but_case: UUID) -> list[Slot]:
    """Return the slots the patient's other cases have."""
    rows = await tx.conn.fetch(
        "SELECT starts_at, ends_at FROM day_case WHERE patient_tok = $1 AND case_id <> $2 AND state = ANY($3)",
        patient_tok,
        but_case,
        list(HAS_SLOT),
    )
    return [Slot(row["starts_at"], row["ends_at"]) for row in rows]


async def list_cases(
    tx: Transaction,
    *,
    during: Slot | None,
    wards: list[str] | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Case]:
    """Return cases whose slot starts in `during`, by start; `wards` None means all wards."""
    rows = await tx.conn.fetch(
        f"SELECT {_CASE} WHERE c.starts_at IS NOT NULL"
        " AND ($1::timestamptz IS NULL OR c.starts_at >= $1) AND ($2::timestamptz IS NULL OR c.starts_at < $2)"
        " AND ($3::text[] IS NULL OR c.ward = ANY($3))"
        " AND ($4::timestamptz IS NULL OR (c.starts_at, c.case_id) > ($4, $5::uuid))"
        " ORDER BY c.starts_at, c.case_id LIMIT $6",
        during.starts_at if during else None,
        during.ends_at if during else None,
        wards,
        after[0] if after else None,
        after[1] if after else None,
        limit,
    )
    return [_case(row) for row in rows]


async def mark_case(tx: Transaction, case: Case) -> None:
    """Write everything of a case that can change; it is locked by now."""
    await tx.conn.execute(
        "UPDATE day_case SET state = $2, starts_at = $3, ends_at = $4, bed_id = $5, ward = $6, waiting_reason = $7,"
        " arrived_at = $8, started_at = $9, finished_at = $10, ended_at = $11, disposition = $12, specialty = $13,"
        " cancelled_by = $14, cancel_reason = $15, cancelled_temporarily = $16, version = version + 1 WHERE case_id = $1",
        case.case_id,
        case.state,
        case.slot.starts_at if case.slot else None,
        case.slot.ends_at if case.slot else None,
        case.bed_id,
        case.ward,
        case.waiting_reason,
        case.arrived_at,
        case.started_at,
        case.finished_at,
        case.ended_at,
        case.disposition,
        case.specialty,
        case.cancelled_by,
        case.cancel_reason,
        case.cancelled_temporarily,
    )
