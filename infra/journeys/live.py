"""A stay as it happens now, ten commands long: what benches and fault tests play through the doors."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from infra.journeys.client import Client

CHARGES_FEN = (18_000, 2_550, 99, 120_000, 1)


async def register_patient(client: Client, *, name: str = "Live Patient", sex: str = "female") -> UUID:
    """Register a new patient and return the token."""
    identifier = {"system": "live", "value": uuid4().hex}
    done = await client.post(
        "admission", "/patients", uuid4().hex, {"identifier": identifier, "name": name, "sex": sex}
    )
    return UUID(done.body["patient_tok"])


async def play_stay(client: Client, patient_tok: UUID) -> UUID:
    """Play one stay from request to clean bed and return its encounter; every command is repeated with its key until answered."""
    encounter = await begin_stay(client, patient_tok)
    settlement = {"method": "cash", "charged_fen": sum(CHARGES_FEN)}
    await client.post("billing", f"/encounters/{encounter}/settlement", uuid4().hex, settlement)
    await end_stay(client, encounter)
    return encounter


async def begin_stay(client: Client, patient_tok: UUID) -> UUID:
    """Admit a patient, charge what was done, and return the encounter."""
    registered = await client.post("admission", "/encounters", uuid4().hex, {"patient_tok": str(patient_tok)})
    stay = f"/encounters/{registered.body['encounter_id']}"
    await client.post("admission", f"{stay}/admission", uuid4().hex, {})
    for amount_fen in CHARGES_FEN:
        await client.post("billing", f"{stay}/charges", uuid4().hex, {"item": "live", "amount_fen": amount_fen})
    return UUID(registered.body["encounter_id"])


async def end_stay(client: Client, encounter: UUID) -> None:
    """Discharge a settled patient and clean the bed."""
    await client.post("admission", f"/encounters/{encounter}/discharge", uuid4().hex, {"disposition": "1"})
    left = await client.get("beds", f"/encounters/{encounter}/allocation?until=left", wait=True)
    await client.post("beds", f"/beds/{left.body['bed_id']}/cleaning-done", uuid4().hex, {})


async def play_day_case(client: Client, patient_tok: UUID) -> UUID:
    """Play one day-surgery case from referral to clean bed and return its encounter."""
    body = {"patient_tok": str(patient_tok), "procedure": "73761001", "payer_kind": "self_pay"}
    referred = await client.post("daysurgery", "/cases", uuid4().hex, body)
    case, encounter = f"/cases/{referred.body['case_id']}", referred.body["encounter_id"]
    starts_at = datetime.now(UTC)
    slot = {"starts_at": starts_at.isoformat(), "ends_at": (starts_at + timedelta(hours=4)).isoformat()}
    await client.post("daysurgery", f"{case}/booking", uuid4().hex, slot)
    await client.post("daysurgery", f"{case}/arrival", uuid4().hex, {})
    await client.post(
        "billing", f"/encounters/{encounter}/charges", uuid4().hex, {"item": "live", "amount_fen": 88_800}
    )
    await client.post("daysurgery", f"{case}/operation-start", uuid4().hex, {})
    await client.post("daysurgery", f"{case}/operation-end", uuid4().hex, {})
    settlement = {"method": "cash", "charged_fen": 88_800}
    await client.post("billing", f"/encounters/{encounter}/settlement", uuid4().hex, settlement)
    await client.post("daysurgery", f"{case}/discharge", uuid4().hex, {"disposition": "1"})
    left = await client.get("beds", f"/encounters/{encounter}/allocation?until=left", wait=True)
    await client.post("beds", f"/beds/{left.body['bed_id']}/cleaning-done", uuid4().hex, {})
    return UUID(encounter)


async def complete_first_task(client: Client, encounter: UUID) -> None:
    """Make the first follow-up contact of a stay."""
    plan = await client.get("followup", f"/encounters/{encounter}/plan", wait=True)
    task = plan.body["tasks"][0]["task_id"]
    await client.post("followup", f"/tasks/{task}/completion", uuid4().hex, {"outcome": "well"})
