"""Doors of the bed pool under /api/beds."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.beds import actions, store
from shared.access.policy import Permission
from shared.contracts.envelope import Code
from shared.db import Transaction
from shared.errors import NotFound
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, FactBody, NotYet, RowId, page_of

Until = Literal["assigned", "arrived", "left"]
_ORDER = {"waiting": 0, "assigned": 1, "arrived": 2, "left": 3, "cancelled": 3}


class CleaningDone(FactBody):
    """The bed is clean."""


class NewBed(Body):
    """A bed and its place."""

    code: Code
    campus: Code = "main"
    building: Code
    floor: Annotated[int, Field(ge=-5, le=99)]
    ward: Code
    room: Code
    kind: Literal["inpatient", "day"] = "inpatient"
    level: Literal["normal", "critical"] = "normal"
    specialty: Code = "general"
    isolation: bool = False


class AddBeds(Body):
    """Beds to add; all or none."""

    beds: Annotated[list[NewBed], Field(min_length=1, max_length=2000)]


def router(door: Door) -> APIRouter:
    """Return the routes of the bed pool."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _read_routes(routes, door)
    _write_routes(routes, door)
    return routes


def _read_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/beds", summary="Beds with their three axes of state")
    async def list_beds(request: Request, ward: str | None = None, state: str | None = None) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.BEDS_READ)
            rows = await store.list_beds(
                tx, ward=ward, state=state, wards=None if scope.everywhere else sorted(scope.wards)
            )
            return Answered({"beds": [dict(row) for row in rows]}, "beds", audited=False)

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.get("/wards", summary="How each ward's beds partition")
    async def list_wards(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            rows = await store.list_ward_counts(tx)
            return Answered({"wards": [dict(row) for row in rows]}, "wards", audited=False)

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.get("/requests", summary="Who waits for a bed, and why, without names")
    async def list_requests(request: Request) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            rows = await store.list_queue(tx, limit=page.limit)
            return Answered({"requests": [dict(row) for row in rows]}, "bed_requests", audited=True)

        return await door.query(request, Permission.BEDS_ASSIGN, read)

    @routes.get("/encounters/{encounter_id}/allocation", summary="The bed of one stay, or its place in the queue")
    async def get_allocation(request: Request, encounter_id: UUID, until: Until | None = None) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            row = await store.get_allocation(tx, encounter_id)
            if until is not None and (row is None or _ORDER[row["state"]] < _ORDER[until]):
                raise NotYet("The stay has not come that far.", code="not_that_far_yet", wait_for=encounter_id)
            if row is None:
                raise NotFound("The pool has no request of this stay.")
            caller.require(Permission.BEDS_READ, ward=row["ward"])
            return Answered(dict(row), "allocation", encounter_id, row["patient_tok"])

        return await door.query(request, Permission.BEDS_READ, read)


def _write_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/beds", status_code=201, summary="Add beds to the pool")
    async def add_beds(request: Request, body: AddBeds) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            added = await actions.add_beds(tx, [bed.model_dump() for bed in body.beds])
            return Answered({"added": added, "known": len(body.beds) - added}, "beds", status=201)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)

    @routes.post("/beds/{bed_id}/cleaning-done", summary="The bed is clean and free")
    async def finish_cleaning(request: Request, bed_id: RowId, body: CleaningDone) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await actions.finish_cleaning(tx, bed_id)
            caller.require(Permission.BEDS_CLEAN, ward=bed["ward"])
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "free"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)
