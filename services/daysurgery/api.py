"""Doors of day surgery under /api/daysurgery."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import StringConstraints

from services.daysurgery import actions, domain, store
from services.daysurgery.actions import Disposition
from services.daysurgery.domain import Case, Policy, Slot
from services.daysurgery.settings import Rules
from shared.access.policy import Permission
from shared.contracts.daysurgery import CancelledBy
from shared.contracts.envelope import Code, PayerKind
from shared.db import Transaction
from shared.errors import BadRequest, NotFound
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, FactBody, Moment, next_link, page_of

Text = Annotated[str, StringConstraints(min_length=1, max_length=120)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Identifier(Body):
    """An identifier of another system, such as the sending HIS."""

    system: Text
    value: Text


class Refer(FactBody):
    """A day-surgery case that is wanted (R20)."""

    patient_tok: UUID
    identifier: Identifier | None = None
    procedure: Code
    payer_kind: PayerKind = "self_pay"


class BookSlot(FactBody):
    """From when until when the day bed is wanted (R23)."""

    starts_at: Moment
    ends_at: Moment


class PlainFact(FactBody):
    """A fact that needs no words."""


class Discharge(FactBody):
    """The patient left (离院方式)."""

    disposition: Disposition = "1"


class Convert(FactBody):
    """Which specialty takes the patient over."""

    specialty: Code = "general"


class Cancel(FactBody):
    """Who cancelled, and why, as a code."""

    by: CancelledBy
    reason: Code


def policy_of(rules: Rules) -> Policy:
    """Return what the hospital decided as the value the rules take."""
    return Policy(
        zone=rules.hospital_zone,
        slot_max=timedelta(hours=rules.slot_hours_max),
        arrival_early_max=timedelta(minutes=rules.arrival_early_minutes_max),
        temporary_cancel_days=rules.temporary_cancel_days,
    )


def _shown(case: Case) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "encounter_id": case.encounter_id,
        "patient_tok": case.patient_tok,
        "state": case.state.value,
        "procedure": case.procedure_code,
        "catalogue_version": case.catalogue_version,
        "payer_kind": case.payer_kind,
        "referred_at": case.referred_at,
        "starts_at": case.slot.starts_at if case.slot else None,
        "ends_at": case.slot.ends_at if case.slot else None,
        "bed_id": case.bed_id,
        "ward": case.ward,
        "waiting_reason": case.waiting_reason,
        "arrived_at": case.arrived_at,
        "started_at": case.started_at,
        "finished_at": case.finished_at,
        "ended_at": case.ended_at,
        "disposition": case.disposition,
        "cancelled_by": case.cancelled_by,
        "cancel_reason": case.cancel_reason,
        "cancelled_temporarily": case.cancelled_temporarily,
    }


def _answer(case: Case, status: int = 200) -> Answered:
    body = {"case_id": case.case_id, "encounter_id": case.encounter_id, "state": case.state.value}
    return Answered(body, "day_case", case.case_id, case.patient_tok, status=status)


def router(door: Door, rules: Rules | None = None) -> APIRouter:
    """Return the routes of day surgery."""
    rules = rules or Rules()
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _catalogue_routes(routes, door, domain.read_catalogue(rules.procedures()))
    _case_routes(routes, door, rules.hospital_zone)
    _booking_routes(routes, door, policy_of(rules))
    _theatre_routes(routes, door, policy_of(rules))
    return routes


def _catalogue_routes(routes: APIRouter, door: Door, catalogue: domain.Catalogue) -> None:
    @routes.get("/procedures", summary="The day-surgery catalogue (R21)")
    async def list_procedures(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            admitted = [p for p in catalogue.procedures.values() if catalogue.admits(p.code)]
            shown = [{"code": p.code, "name_zh": p.name_zh, "name_en": p.name_en} for p in admitted]
            body = {"catalogue_version": catalogue.version, "procedures": shown}
            return Answered(body, "procedures", audited=False)

        return await door.query(request, Permission.DAYSURGERY_READ, read)

    @routes.post("/cases", status_code=201, summary="Refer a patient to day surgery (R20, R21)")
    async def refer(request: Request, body: Refer) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            referred = await actions.refer(
                tx,
                patient_tok=body.patient_tok,
                procedure=body.procedure,
                payer_kind=body.payer_kind,
                identifier=(body.identifier.system, body.identifier.value) if body.identifier else None,
                catalogue=catalogue,
            )
            return _answer(referred.case, 200 if referred.known_before else 201)

        return await door.command(request, Permission.DAYSURGERY_REFER, act, body=body)


def _case_routes(routes: APIRouter, door: Door, zone: str) -> None:
    @routes.get("/cases/{case_id}", summary="See a case")
    async def get_case(request: Request, case_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            case = await store.get_case(tx, case_id)
            if case is None:
                raise NotFound("There is no such case.")
            caller.require(Permission.DAYSURGERY_READ, ward=case.ward)
            return Answered(_shown(case), "day_case", case_id, case.patient_tok, etag=case.version)

        return await door.query(request, Permission.DAYSURGERY_READ, read)

    @routes.get("/cases", summary="The day list: cases by the start of their slot, or one by the sender's identifier")
    async def list_cases(
        request: Request,
        day: Annotated[
            date | None,
            Query(alias="date", ge=date(1900, 1, 1), le=date(2999, 12, 31), description="Business day of the slot."),
        ] = None,
        identifier: Annotated[str | None, Query(description="`system|value`, or the value alone.")] = None,
    ) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.DAYSURGERY_READ)
            if identifier is not None:
                system, _, value = identifier.rpartition("|")
                found = await store.get_case_by_identifier(tx, system or None, value)
                if found is None or not (scope.everywhere or found.ward in scope.wards):
                    raise NotFound("No case has this identifier.")
                cases = [found]
            else:
                cases = await store.list_cases(
                    tx,
                    during=domain.day_span(day, zone) if day else None,
                    wards=None if scope.everywhere else sorted(scope.wards),
                    after=_cursor(page.after),
                    limit=page.limit,
                )
            following = _cursor_text(cases[-1]) if len(cases) == page.limit else None
            body = {"cases": [_shown(case) for case in cases], "next": next_link(request, following)}
            return Answered(body, "day_cases", day)

        return await door.query(request, Permission.DAYSURGERY_READ, read)


def _cursor_text(case: Case) -> str | None:
    return None if case.slot is None else f"{(case.slot.starts_at - _EPOCH) // _MICROSECOND}.{case.case_id}"


def _cursor(after: str | None) -> tuple[datetime, UUID] | None:
    if after is None:
        return None
    found = re.fullmatch(r"(-?\d{1,16})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", after)
    if found is None:
        raise BadRequest("after is no cursor of ours.", code="bad_cursor")
    return _EPOCH + int(found[1]) * _MICROSECOND, UUID(found[2])


def _booking_routes(routes: APIRouter, door: Door, policy: Policy) -> None:
    @routes.post("/cases/{case_id}/booking", summary="Ask for a slot and a day bed (R23)")
    async def book_slot(request: Request, case_id: UUID, body: BookSlot) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            case = await actions.lock_case_to_book(tx, case_id)
            return _answer(await actions.book_slot(tx, case, Slot(body.starts_at, body.ends_at), policy))

        return await door.command(request, Permission.DAYSURGERY_BOOK, act, body=body)

    @routes.post("/cases/{case_id}/cancellation", summary="Cancel a case before the patient arrived (R41)")
    async def cancel(request: Request, case_id: UUID, body: Cancel) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            case = await actions.lock_case(tx, case_id)
            return _answer(await actions.cancel(tx, case, by=body.by, reason=body.reason, policy=policy))

        return await door.command(request, Permission.DAYSURGERY_BOOK, act, body=body)


def _theatre_routes(routes: APIRouter, door: Door, policy: Policy) -> None:
    async def lock(tx: Transaction, caller: Caller, case_id: UUID) -> Case:
        case = await actions.lock_case(tx, case_id)
        caller.require(Permission.DAYSURGERY_PROGRESS, ward=case.ward)
        return case

    @routes.post(
        "/cases/{case_id}/arrival", summary="Check the patient in; waits for the day bed with `Prefer: wait=N`"
    )
    async def arrive(request: Request, case_id: UUID, body: PlainFact) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            return _answer(await actions.arrive(tx, await lock(tx, caller, case_id), policy))

        return await door.command(request, Permission.DAYSURGERY_PROGRESS, act, body=body)

    @routes.post("/cases/{case_id}/operation-start", summary="The operation began")
    async def start_operation(request: Request, case_id: UUID, body: PlainFact) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            return _answer(await actions.start_operation(tx, await lock(tx, caller, case_id)))

        return await door.command(request, Permission.DAYSURGERY_PROGRESS, act, body=body)

    @routes.post("/cases/{case_id}/operation-end", summary="The operation ended")
    async def finish_operation(request: Request, case_id: UUID, body: PlainFact) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            return _answer(await actions.finish_operation(tx, await lock(tx, caller, case_id)))

        return await door.command(request, Permission.DAYSURGERY_PROGRESS, act, body=body)

    @routes.post("/cases/{case_id}/discharge", summary="The patient left the day ward")
    async def discharge(request: Request, case_id: UUID, body: Discharge) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            case = await lock(tx, caller, case_id)
            return _answer(await actions.discharge(tx, case, disposition=body.disposition))

        return await door.command(request, Permission.DAYSURGERY_PROGRESS, act, body=body)

    @routes.post(
        "/cases/{case_id}/conversion", summary="The case becomes an inpatient stay on the same account (DAY-6)"
    )
    async def convert(request: Request, case_id: UUID, body: Convert) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            case = await lock(tx, caller, case_id)
            return _answer(await actions.convert_to_inpatient(tx, case, specialty=body.specialty, policy=policy))

        return await door.command(request, Permission.DAYSURGERY_PROGRESS, act, body=body)
