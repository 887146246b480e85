"""SQL of the admission schema. One function, one statement; the first word tells cost and effect."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from shared.db import Transaction


async def insert_patient(
    tx: Transaction,
    patient_tok: UUID,
    *,
    system: str,
    value: str,
    name: str,
    sex: str,
    birth_date: date | None,
    phone: str | None,
) -> UUID | None:
    """Write a new patient, or return the token the identifier already has."""
    found: UUID | None = await tx.conn.fetchval(
        """
        WITH known AS (SELECT patient_tok FROM patient_identifier WHERE system = $2 AND value = $3),
             new AS (INSERT INTO patient (patient_tok, sex, birth_date, registered_at)
                     SELECT $1, $5, $6, $8 WHERE NOT EXISTS (SELECT FROM known) RETURNING patient_tok),
             named AS (INSERT INTO patient_identity (patient_tok, name, phone) SELECT patient_tok, $4, $7 FROM new),
             identified AS (INSERT INTO patient_identifier (system, value, patient_tok) SELECT $2, $3, patient_tok FROM new)
        SELECT patient_tok FROM known
        """,
        patient_tok,
        system,
        value,
        name,
        sex,
        birth_date,
        phone,
        tx.now,
    )
    return found


async def get_patient(tx: Transaction, patient_tok: UUID) -> Any:
    """Return the patient with the name and the ward of the stay that is open or about to begin, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT p.patient_tok, p.sex, p.birth_date, i.name, (SELECT e.ward FROM encounter e WHERE e.patient_tok = $1"
        " AND e.state IN ('pending_admit', 'admitted', 'discharge_ordered') ORDER BY e.state LIMIT 1) AS ward"
        " FROM patient p JOIN patient_identity i USING (patient_tok) WHERE patient_tok = $1",
        patient_tok,
    )


async def insert_encounter(tx: Transaction, encounter_id: UUID, patient_tok: UUID, **facts: Any) -> Any:
    """Write a stay that waits for a bed and return sex and birth date of its patient; nothing when there is no such patient."""
    return await tx.conn.fetchrow(
        """
        WITH who AS (SELECT sex, birth_date FROM patient WHERE patient_tok = $2),
             new AS (INSERT INTO encounter (encounter_id, patient_tok, identifier_system, identifier_value, state, urgency,
                                            specialty, payer_kind, isolation, level_of_care, expected_stay_days, registered_at)
                     SELECT $1, $2, $3, $4, 'pre_admitted', $5, $6, $7, $8, $9, $10, $11 FROM who)
        SELECT sex, birth_date FROM who
        """,
        encounter_id,
        patient_tok,
        facts["identifier_system"],
        facts["identifier_value"],
        facts["urgency"],
        facts["specialty"],
        facts["payer_kind"],
        facts["isolation"],
        facts["level_of_care"],
        facts["expected_stay_days"],
        tx.now,
    )


async def lock_encounter(tx: Transaction, encounter_id: UUID) -> Any:
    """Lock and return a stay, so that its events keep their order; nothing when there is none."""
    return await tx.conn.fetchrow("SELECT * FROM encounter WHERE encounter_id = $1 FOR UPDATE", encounter_id)


async def list_other_stays(tx: Transaction, encounter_id: UUID, patient_tok: UUID) -> list[Any]:
    """Return stays of this patient that are open, end later than `tx.now`, or whose bed is not released yet."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT encounter_id, discharged_at, bed_released_at FROM encounter WHERE patient_tok = $2 AND encounter_id <> $1"
        " AND (state IN ('admitted', 'discharge_ordered')"
        " OR (state = 'discharged' AND (discharged_at > $3 OR bed_released_at IS NULL)))",
        encounter_id,
        patient_tok,
        tx.now,
    )
    return rows


async def get_encounter(tx: Transaction, encounter_id: UUID) -> Any:
    """Return a stay, or nothing."""
    return await tx.conn.fetchrow("SELECT * FROM encounter WHERE encounter_id = $1", encounter_id)


async def get_encounter_by_identifier(tx: Transaction, system: str | None, value: str) -> Any:
    """Return the stay with this identifier of the sending system, or nothing."""
    return await tx.conn.fetchrow(
        "SELECT * FROM encounter WHERE identifier_value = $2 AND ($1::text IS NULL OR identifier_system = $1)"
        " ORDER BY encounter_id LIMIT 1",
        system,
        value,
    )


async def list_encounters(
    tx: Transaction, *, state: str | None, wards: list[str] | None, after: UUID | None, limit: int
) -> list[Any]:
    """Return stays in the order they were registered; `wards` None means all."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT * FROM encounter WHERE ($1::text IS NULL OR state = $1) AND ($2::text[] IS NULL OR ward = ANY($2))"
        " AND ($3::uuid IS NULL OR encounter_id > $3) ORDER BY encounter_id LIMIT $4",
        state,
        wards,
        after,
        limit,
    )
    return rows


async def mark_bed(
    tx: Transaction,
    encounter_id: UUID,
    *,
    state: str,
    bed_id: int | None,
    bed_code: str | None,
    ward: str | None,
    reason: str | None,
) -> None:
    """Write what the bed pool said of a stay that waits."""
    await tx.conn.execute(
        "UPDATE encounter SET state = $2, bed_id = $3, bed_code = $4, ward = $5, waiting_reason = $6, version = version + 1"
        " WHERE encounter_id = $1",
        encounter_id,
        state,
        bed_id,
        bed_code,
        ward,
        reason,
    )


async def mark_moved(tx: Transaction, encounter_id: UUID, *, bed_id: int, ward: str, occupied_at: datetime) -> None:
    """Write where the patient lies since `occupied_at`, as the bed pool says.

    That the bed was released later than this stays written: the two are told in different topics, in any order.
    """
    await tx.conn.execute(
        "UPDATE encounter SET bed_id = $2, ward = $3,"
        " bed_released_at = CASE WHEN bed_released_at >= $4 THEN bed_released_at END WHERE encounter_id = $1"
        " AND (bed_id IS DISTINCT FROM $2 OR ward IS DISTINCT FROM $3 OR bed_released_at < $4)",
        encounter_id,
        bed_id,
        ward,
        occupied_at,
    )


async def mark_admitted(tx: Transaction, encounter_id: UUID, *, paperwork_pending: bool) -> None:
    """The patient is in the bed since `tx.now`."""
    await tx.conn.execute(
        "UPDATE encounter SET state = 'admitted', admitted_at = $2, paperwork_pending = $3, version = version + 1"
        " WHERE encounter_id = $1",
        encounter_id,
        tx.now,
        paperwork_pending,
    )


async def mark_paperwork_completed(tx: Transaction, encounter_id: UUID) -> None:
    """The papers are done."""
    await tx.conn.execute(
        "UPDATE encounter SET paperwork_pending = false, version = version + 1 WHERE encounter_id = $1", encounter_id
    )


async def mark_state(
    tx: Transaction, encounter_id: UUID, state: str, *, discharge_ordered_at: datetime | None = None
) -> None:
    """Write a state that has no fields of its own, clearing what belonged to a discharge."""
    await tx.conn.execute(
        "UPDATE encounter SET state = $2, discharge_ordered_at = $3, discharged_at = NULL, disposition = NULL,"
        " version = version + 1 WHERE encounter_id = $1",
        encounter_id,
        state,
        discharge_ordered_at,
    )


async def mark_discharged(tx: Transaction, encounter_id: UUID, *, disposition: str, ordered_at: datetime) -> None:
    """The patient left at `tx.now`."""
    await tx.conn.execute(
        "UPDATE encounter SET state = 'discharged', discharged_at = $2, disposition = $3, discharge_ordered_at = $4,"
        " version = version + 1 WHERE encounter_id = $1",
        encounter_id,
        tx.now,
        disposition,
        ordered_at,
    )


async def mark_settled(tx: Transaction, encounter_id: UUID, settled_at: datetime | None) -> None:
    """Write what billing said of the account; a day case has no stay here, which is fine."""
    await tx.conn.execute("UPDATE encounter SET settled_at = $2 WHERE encounter_id = $1", encounter_id, settled_at)


async def mark_bed_released(tx: Transaction, encounter_id: UUID, released_at: datetime) -> None:
    """The bed is no longer this stay's."""
    await tx.conn.execute(
        "UPDATE encounter SET bed_released_at = $2 WHERE encounter_id = $1 AND state <> 'admitted'",
        encounter_id,
        released_at,
    )


async def add_live_charges(tx: Transaction, encounter_id: UUID, count: int) -> None:
    """Count charge lines that would stand in the way of cancelling the admission (A11)."""
    await tx.conn.execute(
        "UPDATE encounter SET live_charges = live_charges + $2 WHERE encounter_id = $1", encounter_id, count
    )


async def insert_converted(tx: Transaction, encounter_id: UUID, case_id: UUID, patient_tok: UUID, **facts: Any) -> None:
    """Write a stay that began as a day case, on the same encounter (A06, DAY-6)."""
    await tx.conn.execute(
        """
        WITH new AS (INSERT INTO encounter (encounter_id, patient_tok, state, urgency, specialty, payer_kind, isolation,
                                            level_of_care, expected_stay_days, bed_id, ward, registered_at, admitted_at)
                     VALUES ($1, $3, 'admitted', 'urgent', $4, $5, 'none', 'normal', 2, $6, $7, $8, $8))
        INSERT INTO converted_case (encounter_id, case_id) VALUES ($1, $2)
        """,
        encounter_id,
        case_id,
        patient_tok,
        facts["specialty"],
        facts["payer_kind"],
        facts["bed_id"],
        facts["ward"],
        tx.now,
    )
