"""Doors of the bed pool under /api/beds."""

from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from services.beds import actions, inventory, store, upkeep
from services.beds.actions import Pool
from services.beds.api_desk import add_desk_routes
from services.beds.api_leaving import add_leaving_routes
from services.beds.api_moves import add_move_routes
from services.beds.api_ward import add_ward_routes
from shared.access.policy import Permission
from shared.contracts.envelope import AgeYears, Code
from shared.db import Transaction
from shared.errors import NotFound
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, NotYet, RowId

Until = Literal["assigned", "arrived", "left"]
_ORDER = {"waiting": 0, "assigned": 1, "arrived": 2, "left": 3, "cancelled": 3}


Equipment = Literal["oxygen", "monitor", "negative_pressure", "ventilator", "bariatric", "telemetry", "infant_warmer"]
Equipments = Annotated[tuple[Equipment, ...], Field(max_length=16)]
BedClass = Literal["standard", "single", "vip"]
# No sign that a table program would take for a formula, no line break.
WardName = Annotated[str, Field(max_length=80, pattern=r"^([^=+\-@\x00-\x1f][^\x00-\x1f]*)?$")]
Codes = Annotated[tuple[Code, ...], Field(max_length=16)]


class NewBed(Body):
    """A bed, its place, and its ward when that is new."""

    code: Code
    campus: Code = "main"
    building: Code
    floor: Annotated[int, Field(ge=-5, le=99)]
    ward: Code
    ward_name_zh: WardName = ""
    ward_name_en: WardName = ""
    room: Code
    kind: Literal["inpatient", "day"] = "inpatient"
    level: Literal["normal", "critical"] = "normal"
    klass: Annotated[BedClass, Field(alias="class")] = "standard"
    specialty: Code = "general"
    auxiliary: Codes = ()
    exclusive: bool = False
    age_min: AgeYears = 0
    age_max: AgeYears = 130
    isolation: bool = False
    equipment: Equipments = ()
    extra: bool = False
    quota: Code | None = None

    @model_validator(mode="after")
    def _ages_in_order(self) -> Self:
        if self.age_min > self.age_max:
            raise ValueError("age_min is above age_max.")
        return self


class AddBeds(Body):
    """Beds to add; all or none."""

    beds: Annotated[list[NewBed], Field(min_length=1, max_length=2000)]


class ChangeBed(Body):
    """What is different about a bed from now on."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1, description="The bed's version as it was seen.")]
    room: Code | None = None
    klass: Annotated[BedClass | None, Field(alias="class")] = None
    isolation: bool | None = None
    equipment: Equipments | None = None
    quota: Code | None = None


class ChangeWard(Body):
    """What is different about a ward from now on."""

    ward_name_zh: WardName | None = None
    ward_name_en: WardName | None = None
    specialty: Code | None = None
    auxiliary: Codes | None = None
    exclusive: bool | None = None
    age_min: AgeYears | None = None
    age_max: AgeYears | None = None


def router(door: Door, pool: Pool) -> APIRouter:
    """Return the routes of the bed pool."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _read_routes(routes, door)
    _write_routes(routes, door)
    add_ward_routes(routes, door, pool)
    add_desk_routes(routes, door, pool)
    add_move_routes(routes, door, pool)
    add_leaving_routes(routes, door, pool)
    return routes


def _read_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/beds", summary="Beds with their three axes of state")
    async def list_beds(request: Request, ward: str | None = None, state: str | None = None) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.BEDS_READ)
            rows = await inventory.list_beds(
                tx, ward=ward, state=state, wards=None if scope.everywhere else sorted(scope.wards)
            )
            return Answered({"beds": [dict(row) for row in rows]}, "beds", audited=False)

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.get("/wards", summary="How each ward's beds partition")
    async def list_wards(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            rows = await inventory.list_ward_counts(tx)
            return Answered({"wards": [dict(row) for row in rows]}, "wards", audited=False)

        return await door.query(request, Permission.BEDS_READ, read)

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
            rows = [bed.model_dump() for bed in body.beds]
            added = await actions.add_beds(tx, rows, told=[bed.model_dump(exclude_unset=True) for bed in body.beds])
            return Answered({"added": added, "known": len(body.beds) - added}, "beds", status=201)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)

    @routes.post("/beds/{bed_id}/change", summary="Change a free bed's room, class, isolation, equipment or quota")
    async def change_bed(request: Request, bed_id: RowId, body: ChangeBed) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            facts = body.model_dump(exclude_unset=True, exclude={"version"})
            bed = await upkeep.change_bed(tx, bed_id, version=body.version, facts=facts)
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "changed": sorted(facts)}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)

    @routes.post("/wards/{ward}/change", summary="Change a ward's names, specialties or ages")
    async def change_ward(request: Request, ward: str, body: ChangeWard) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            facts = body.model_dump(exclude_unset=True)
            await upkeep.change_ward(tx, ward, facts)
            return Answered({"ward": ward, "changed": sorted(facts)}, "ward", ward)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)
