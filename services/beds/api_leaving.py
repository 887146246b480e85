"""Doors of the way home: the expected day, and the milestones a ward ticks off or says why not (BED-11)."""

from dataclasses import asdict
from uuid import UUID

from fastapi import APIRouter, Request, Response

from services.beds import leaving
from services.beds.actions import Pool
from shared.access.policy import Permission
from shared.contracts.envelope import Code
from shared.db import Transaction
from shared.web import Answered, Body, Caller, Door, Moment


class ExpectLeaving(Body):
    """When the patient is expected to leave, and why that is another time than before."""

    at: Moment
    reason: Code


class Why(Body):
    """Why a step is late, or not done after all."""

    reason: Code


def add_leaving_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    """Add the doors of the way home."""

    @routes.get("/milestones", summary="The steps on the way home, and the reasons for delay")
    async def list_milestones(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            return Answered(asdict(pool.steps), "milestones", audited=False)

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.post("/encounters/{encounter_id}/expected-leaving", summary="When the patient is expected to leave")
    async def expect_leaving(request: Request, encounter_id: UUID, body: ExpectLeaving) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            await leaving.expect_leaving(tx, encounter_id, at=body.at, reason=body.reason, may=may)
            return Answered({"encounter_id": encounter_id, "leaving_at": body.at}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/encounters/{encounter_id}/milestones/{milestone}", summary="A step on the way home is done")
    async def reach_milestone(request: Request, encounter_id: UUID, milestone: str) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            await leaving.reach_milestone(tx, pool.steps, encounter_id, milestone, may=may)
            return Answered({"encounter_id": encounter_id, "state": "reached"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act)

    @routes.post(
        "/encounters/{encounter_id}/milestones/{milestone}/cancellation", summary="A step is not done after all"
    )
    async def cancel_milestone(request: Request, encounter_id: UUID, milestone: str, body: Why) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            await leaving.cancel_milestone(tx, pool.steps, encounter_id, milestone, reason=body.reason, may=may)
            return Answered({"encounter_id": encounter_id, "state": "open"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/encounters/{encounter_id}/milestones/{milestone}/delay", summary="Why a step is late")
    async def delay_milestone(request: Request, encounter_id: UUID, milestone: str, body: Why) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            await leaving.delay_milestone(tx, pool.steps, encounter_id, milestone, reason=body.reason, may=may)
            return Answered({"encounter_id": encounter_id, "delay_reason": body.reason}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)
