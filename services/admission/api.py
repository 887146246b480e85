"""Doors of admission under /api/admission."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints, field_validator

from services.admission import actions, store
from services.admission.domain import State
from shared import telemetry
from shared.access.masking import mask_name
from shared.access.policy import Permission
from shared.contracts.admission import BedClass, Disposition, Isolation, LevelOfCare
from shared.contracts.envelope import Code, PayerKind, Sex, StayDays, TravelMinutes, Urgency
from shared.db import Transaction
from shared.errors import BadRequest, NotFound
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, FactBody, Moment, next_link, page_of

Text = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class Identifier(Body):
    """An identifier of another system, such as an id card or the sending HIS."""

    system: Text
    value: Text


class RegisterPatient(FactBody):
    """A person to be known under a token."""

    identifier: Identifier
    name: Text
    sex: Sex
    birth_date: date | None = None
    phone: Annotated[str, StringConstraints(max_length=40)] | None = None

    @field_validator("birth_date")
    @classmethod
    def _born_already(cls, value: date | None) -> date | None:
        if value is not None and not date(1850, 1, 1) <= value <= datetime.now(UTC).date():
            raise ValueError("Not a birth date of a living person.")
        return value

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("A name has no control characters.")
        return value


class RegisterPreAdmission(FactBody):
    """A stay that is wanted (入院申请)."""

    patient_tok: UUID
    identifier: Identifier | None = None
    urgency: Urgency = "elective"
    specialty: Code = "general"
    payer_kind: PayerKind = "self_pay"
    isolation: Isolation = "none"
    level_of_care: LevelOfCare = "normal"
    expected_admit_at: Moment | None = None
    expected_stay_days: StayDays = 7
    equipment: Annotated[tuple[Code, ...], Field(max_length=8, description="What the bed must have.")] = ()
    bed_class: BedClass = "any"
    partner: Annotated[Code | None, Field(description="The consortium partner that sends the patient.")] = None
    travel_minutes: Annotated[TravelMinutes | None, Field(description="How long the way to the hospital is.")] = None


class AdmitPatient(FactBody):
    """The patient lies in the bed."""

    paperwork_pending: bool = False


class PlainFact(FactBody):
    """A fact that needs no words."""


class WithReason(FactBody):
    """A change that needs a coded reason."""

    reason: Code


class DischargePatient(FactBody):
    """The patient left (离院方式)."""

    disposition: Disposition = "1"


class RevealName(Body):
    """Why the full name is needed; it is recorded (S6)."""

    purpose: Literal["identify", "call", "print", "correct", "emergency"]


def _shown(row: Any) -> dict[str, Any]:
    closed = row["state"] == State.DISCHARGED and row["settled_at"] is not None and row["bed_released_at"] is not None
    return {
        "encounter_id": row["encounter_id"],
        "patient_tok": row["patient_tok"],
        "class": row["class"],
        "state": "closed" if closed else row["state"],
        "urgency": row["urgency"],
        "specialty": row["specialty"],
        "payer_kind": row["payer_kind"],
        "paperwork_pending": row["paperwork_pending"],
        "waiting_reason": row["waiting_reason"],
        "bed_id": row["bed_id"],
        "bed_code": row["bed_code"],
        "ward": row["ward"],
        "registered_at": row["registered_at"],
        "admitted_at": row["admitted_at"],
        "discharged_at": row["discharged_at"],
        "disposition": row["disposition"],
        "settled_at": row["settled_at"],
    }


def router(door: Door) -> APIRouter:
    """Return the routes of admission."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _patient_routes(routes, door)
    _encounter_routes(routes, door)
    _step_routes(routes, door)
    return routes


def _patient_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/patients", status_code=201, summary="Register a patient; the name stays in admission")
    async def register_patient(request: Request, body: RegisterPatient) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            done = await actions.register_patient(
                tx,
                system=body.identifier.system,
                value=body.identifier.value,
                name=body.name,
                sex=body.sex,
                birth_date=body.birth_date,
                phone=body.phone,
            )
            answer = {
                "patient_tok": done.patient_tok,
                "masked_name": mask_name(body.name),
                "known_before": done.known_before,
            }
            return Answered(
                answer, "patient", done.patient_tok, done.patient_tok, status=200 if done.known_before else 201
            )

        return await door.command(request, Permission.PATIENTS_REGISTER, act, body=body)

    @routes.get("/patients/{patient_tok}", summary="See a patient, name masked")
    async def get_patient(request: Request, patient_tok: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            row = await _patient(tx, patient_tok)
            caller.require(Permission.PATIENTS_READ, ward=row["ward"])
            answer = {
                "patient_tok": patient_tok,
                "masked_name": mask_name(row["name"]),
                "sex": row["sex"],
                "birth_year": row["birth_date"].year if row["birth_date"] else None,
            }
            return Answered(answer, "patient", patient_tok, patient_tok)

        return await door.query(request, Permission.PATIENTS_READ, read)

    @routes.post("/patients/{patient_tok}/reveal", summary="Reveal the full name once; it is recorded")
    async def reveal_name(request: Request, patient_tok: UUID, body: RevealName) -> Response:
        # A query, not a command: the answer must not be kept for a key, because it holds a name.
        async def read(tx: Transaction, caller: Caller) -> Answered:
            row = await _patient(tx, patient_tok)
            caller.require(Permission.PATIENTS_REVEAL_NAME, ward=row["ward"])
            return Answered({"name": row["name"]}, "patient_name", patient_tok, patient_tok, purpose=body.purpose)

        return await door.query(request, Permission.PATIENTS_REVEAL_NAME, read)


async def _patient(tx: Transaction, patient_tok: UUID) -> Any:
    row = await store.get_patient(tx, patient_tok)
    if row is None:
        raise NotFound("No patient has this token.")
    return row


def _encounter_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/encounters", status_code=201, summary="Register a pre-admission and request a bed")
    async def register_pre_admission(request: Request, body: RegisterPreAdmission) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            encounter_id = await actions.register_pre_admission(
                tx,
                patient_tok=body.patient_tok,
                identifier=(body.identifier.system, body.identifier.value) if body.identifier else None,
                urgency=body.urgency,
                specialty=body.specialty,
                payer_kind=body.payer_kind,
                isolation=body.isolation,
                level_of_care=body.level_of_care,
                expected_admit_at=body.expected_admit_at,
                expected_stay_days=body.expected_stay_days,
                equipment=body.equipment,
                bed_class=body.bed_class,
                partner=body.partner,
                travel_minutes=body.travel_minutes,
            )
            telemetry.name_encounter(encounter_id)
            answer = {"encounter_id": encounter_id, "state": State.PRE_ADMITTED.value}
            return Answered(answer, "encounter", encounter_id, body.patient_tok, status=201)

        return await door.command(request, Permission.ENCOUNTERS_REGISTER, act, body=body)

    @routes.get("/encounters/{encounter_id}", summary="See a stay")
    async def get_encounter(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            row = await store.get_encounter(tx, encounter_id)
            if row is None:
                raise NotFound("There is no such stay.")
            caller.require(Permission.ENCOUNTERS_READ, ward=row["ward"])
            return Answered(_shown(row), "encounter", encounter_id, row["patient_tok"], etag=row["version"])

        return await door.query(request, Permission.ENCOUNTERS_READ, read)

    @routes.get("/encounters", summary="List stays, or find one by the sender's identifier")
    async def list_encounters(request: Request, state: str | None = None, identifier: str | None = None) -> Response:
        page = page_of(request)
        if state is not None and state not in set(State):
            raise BadRequest("There is no such state.", code="unknown_state")

        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.ENCOUNTERS_READ)
            if identifier is not None:
                system, _, value = identifier.rpartition("|")
                found = await store.get_encounter_by_identifier(tx, system or None, value)
                if found is None or not (scope.everywhere or found["ward"] in scope.wards):
                    raise NotFound("No stay has this identifier.")
                rows = [found]
            else:
                rows = await store.list_encounters(
                    tx,
                    state=state,
                    wards=None if scope.everywhere else sorted(scope.wards),
                    after=_cursor(page.after),
                    limit=page.limit,
                )
            following = str(rows[-1]["encounter_id"]) if len(rows) == page.limit else None
            answer = {"encounters": [_shown(row) for row in rows], "next": next_link(request, following)}
            return Answered(answer, "encounters", state)

        return await door.query(request, Permission.ENCOUNTERS_READ, read)


def _cursor(after: str | None) -> UUID | None:
    if after is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", after):
        raise BadRequest("after is no cursor of ours.", code="bad_cursor")
    return UUID(after)


def _step_routes(routes: APIRouter, door: Door) -> None:
    def answer(encounter_id: UUID, row: Any, state: State) -> Answered:
        telemetry.name_encounter(encounter_id)
        return Answered(
            {"encounter_id": encounter_id, "state": state.value, "bed_code": row["bed_code"]},
            "encounter",
            encounter_id,
            row["patient_tok"],
        )

    @routes.post("/encounters/{encounter_id}/admission", summary="Admit the patient into the assigned bed (A01)")
    async def admit_patient(request: Request, encounter_id: UUID, body: AdmitPatient) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.admit_patient(
                tx,
                encounter_id,
                allowed=caller.requiring(Permission.ENCOUNTERS_ADMIT),
                paperwork_pending=body.paperwork_pending,
            )
            return answer(encounter_id, row, State.ADMITTED)

        return await door.command(request, Permission.ENCOUNTERS_ADMIT, act, body=body)

    @routes.post("/encounters/{encounter_id}/paperwork", summary="Papers of an emergency admission are done (R18)")
    async def complete_paperwork(request: Request, encounter_id: UUID, body: PlainFact) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.complete_paperwork(
                tx, encounter_id, allowed=caller.requiring(Permission.ENCOUNTERS_ADMIT)
            )
            return answer(encounter_id, row, State(row["state"]))

        return await door.command(request, Permission.ENCOUNTERS_ADMIT, act, body=body)

    @routes.post("/encounters/{encounter_id}/cancellation", summary="Cancel a stay that has not begun (A38)")
    async def cancel_pre_admission(request: Request, encounter_id: UUID, body: WithReason) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.cancel_pre_admission(
                tx, encounter_id, allowed=caller.requiring(Permission.ENCOUNTERS_CANCEL), reason=body.reason
            )
            return answer(encounter_id, row, State.CANCELLED)

        return await door.command(request, Permission.ENCOUNTERS_CANCEL, act, body=body)

    @routes.post("/encounters/{encounter_id}/admission-cancellation", summary="Cancel an admission (A11)")
    async def cancel_admission(request: Request, encounter_id: UUID, body: WithReason) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.cancel_admission(
                tx, encounter_id, allowed=caller.requiring(Permission.ENCOUNTERS_CANCEL), reason=body.reason
            )
            return answer(encounter_id, row, State.ADMISSION_CANCELLED)

        return await door.command(request, Permission.ENCOUNTERS_CANCEL, act, body=body)

    @routes.post("/encounters/{encounter_id}/discharge-order", summary="Order the discharge (A16)")
    async def order_discharge(request: Request, encounter_id: UUID, body: PlainFact) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.order_discharge(
                tx, encounter_id, allowed=caller.requiring(Permission.ENCOUNTERS_DISCHARGE)
            )
            return answer(encounter_id, row, State.DISCHARGE_ORDERED)

        return await door.command(request, Permission.ENCOUNTERS_DISCHARGE, act, body=body)

    @routes.post("/encounters/{encounter_id}/discharge-order-undo", summary="Take the order to discharge back (A25)")
    async def undo_discharge_order(request: Request, encounter_id: UUID, body: WithReason) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.undo_discharge_order(
                tx, encounter_id, allowed=caller.requiring(Permission.ENCOUNTERS_DISCHARGE), reason=body.reason
            )
            return answer(encounter_id, row, State.ADMITTED)

        return await door.command(request, Permission.ENCOUNTERS_DISCHARGE, act, body=body)

    @routes.post("/encounters/{encounter_id}/discharge", summary="The patient left (A03)")
    async def discharge_patient(request: Request, encounter_id: UUID, body: DischargePatient) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.discharge_patient(
                tx,
                encounter_id,
                allowed=caller.requiring(Permission.ENCOUNTERS_DISCHARGE),
                disposition=body.disposition,
            )
            return answer(encounter_id, row, State.DISCHARGED)

        return await door.command(request, Permission.ENCOUNTERS_DISCHARGE, act, body=body)

    @routes.post("/encounters/{encounter_id}/discharge-cancellation", summary="Take a discharge back (A13)")
    async def cancel_discharge(request: Request, encounter_id: UUID, body: WithReason) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            row = await actions.cancel_discharge(
                tx, encounter_id, allowed=caller.requiring(Permission.ENCOUNTERS_DISCHARGE), reason=body.reason
            )
            return answer(encounter_id, row, State.ADMITTED)

        return await door.command(request, Permission.ENCOUNTERS_DISCHARGE, act, body=body)
