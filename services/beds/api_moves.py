"""Doors of patients who lie in a bed: to another one at once or as announced, with each other, away for a while, shared; and back."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.beds import actions, desk, moves, moves_store, shares, store
from services.beds.actions import Pool
from services.beds.api_desk import BedId, Version
from services.beds.api_ward import moving
from services.beds.rules import Bed
from shared.access.policy import Permission
from shared.contracts.envelope import Code
from shared.db import Transaction
from shared.errors import NotFound
from shared.web import Answered, Body, Caller, Door, Moment, page_of


class TransferPatient(Body):
    """The bed a patient moves to."""

    bed_id: BedId
    version: Version
    reason: Code
    override: Annotated[bool, Field(description="Use the bed although a rule closes it.")] = False


class AnnounceTransfer(TransferPatient):
    """The bed a patient will move to, and when."""

    planned_at: Moment


class CancelTransfer(Body):
    """Why a move never counted, and whether somebody lay in the new bed all the same: then it is cleaned."""

    reason: Code
    lay_in_it: bool


class SwapPatients(Body):
    """Two patients who change beds."""

    first_encounter_id: UUID
    second_encounter_id: UUID
    reason: Code


class StartLeave(Body):
    """Until when the patient is away."""

    until: Moment


class Because(Body):
    """Why something is taken back."""

    reason: Code


class DeclareShare(Body):
    """Who stays in a patient's bed or at it: a newborn, by its own stay, or a companion, who is no patient."""

    kind: Literal["newborn", "companion"]
    guest_encounter_id: UUID | None = None


def add_move_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    """Add the doors of moves, leaves and shares."""
    _move_routes(routes, door, pool)
    _announced_routes(routes, door, pool)
    _leave_routes(routes, door)
    _share_routes(routes, door, pool)


def _now_in(encounter_id: UUID, bed: Bed) -> dict[str, object]:
    return {"encounter_id": encounter_id, "bed_id": bed.bed_id, "bed_code": bed.code, "ward": bed.ward}


def _move_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.post("/encounters/{encounter_id}/transfer", summary="Move a patient to another bed")
    async def transfer(request: Request, encounter_id: UUID, body: TransferPatient) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            bed = await moves.transfer_patient(
                tx,
                pool,
                encounter_id,
                bed_id=body.bed_id,
                version=body.version,
                reason=body.reason,
                override=body.override,
                may=caller.requiring(Permission.BEDS_ASSIGN),
            )
            return Answered(_now_in(encounter_id, bed), "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)

    @routes.post("/swaps", summary="Let two patients change beds: both or none")
    async def swap(request: Request, body: SwapPatients) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = body.first_encounter_id
            first, second = await moves.swap_patients(
                tx,
                pool,
                body.first_encounter_id,
                body.second_encounter_id,
                reason=body.reason,
                may=caller.requiring(Permission.BEDS_ASSIGN),
            )
            return Answered(
                {"first_bed_code": first.code, "second_bed_code": second.code}, "encounter", body.first_encounter_id
            )

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/transfer-cancellation", summary="The last move never counted: back to the old bed"
    )
    async def cancel_transfer(request: Request, encounter_id: UUID, body: CancelTransfer) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_ASSIGN)
            bed = await moves.cancel_transfer(
                tx, pool, encounter_id, reason=body.reason, lay_in_it=body.lay_in_it, may=may
            )
            return Answered(_now_in(encounter_id, bed), "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)

    @routes.get("/encounters/{encounter_id}/transfer-choices", summary="The five best beds for a patient who lies here")
    async def list_choices(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            row = await store.get_queued(tx, encounter_id)
            if row is None:
                raise NotFound("The pool has no request of this stay.")
            body = {"encounter_id": encounter_id, **desk.proposals(pool, actions.need_of(pool, row, tx.now))}
            return Answered(body, "bed_proposals", encounter_id, row["patient_tok"])

        return await door.query(request, Permission.BEDS_ASSIGN, read)


def _announced_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.get("/moves", summary="Who must or will move to another bed, the urgent first")
    async def list_moves(request: Request) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.BEDS_READ)
            wards = None if scope.everywhere else sorted(scope.wards)
            rows = await moves_store.list_moves(tx, wards=wards, limit=page.limit)
            return Answered({"moves": [moving(row) for row in rows]}, "bed_moves")

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.post(
        "/encounters/{encounter_id}/announced-transfer", status_code=201, summary="Hold the bed a patient will move to"
    )
    async def announce(request: Request, encounter_id: UUID, body: AnnounceTransfer) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            bed, held_until = await moves.announce_transfer(
                tx,
                pool,
                encounter_id,
                bed_id=body.bed_id,
                version=body.version,
                reason=body.reason,
                planned_at=body.planned_at,
                override=body.override,
                may=caller.requiring(Permission.BEDS_ASSIGN),
            )
            answer = {**_now_in(encounter_id, bed), "held_until": held_until}
            return Answered(answer, "encounter", encounter_id, status=201)

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/announced-transfer-cancellation", summary="The announced move will not happen"
    )
    async def cancel_announced(request: Request, encounter_id: UUID, body: Because) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_ASSIGN)
            await moves.cancel_announced_transfer(tx, encounter_id, reason=body.reason, may=may)
            return Answered({"encounter_id": encounter_id, "state": "arrived"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/announced-transfer-completion",
        summary="The patient moves into the bed held for the move",
    )
    async def complete_announced(request: Request, encounter_id: UUID) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            bed = await moves.complete_announced_transfer(tx, pool, encounter_id, may=may)
            return Answered(_now_in(encounter_id, bed), "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act)


def _leave_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/encounters/{encounter_id}/leave", summary="The patient is away, the bed is kept")
    async def start_leave(request: Request, encounter_id: UUID, body: StartLeave) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            await moves.start_leave(tx, encounter_id, until=body.until, may=caller.requiring(Permission.BEDS_CLEAN))
            return Answered({"encounter_id": encounter_id, "state": "on_leave"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/encounters/{encounter_id}/leave-end", summary="The patient is back")
    async def end_leave(request: Request, encounter_id: UUID) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            await moves.end_leave(tx, encounter_id, may=caller.requiring(Permission.BEDS_CLEAN))
            return Answered({"encounter_id": encounter_id, "state": "arrived"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act)

    @routes.post("/encounters/{encounter_id}/leave-cancellation", summary="The patient never went away")
    async def cancel_leave(request: Request, encounter_id: UUID, body: Because) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            await moves.cancel_leave(tx, encounter_id, reason=body.reason, may=may)
            return Answered({"encounter_id": encounter_id, "state": "arrived"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/encounters/{encounter_id}/leave-end-cancellation", summary="The patient is not back after all")
    async def cancel_leave_end(request: Request, encounter_id: UUID, body: Because) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            may = caller.requiring(Permission.BEDS_CLEAN)
            await moves.cancel_leave_end(tx, encounter_id, reason=body.reason, may=may)
            return Answered({"encounter_id": encounter_id, "state": "on_leave"}, "encounter", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)


def _share_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.post(
        "/encounters/{encounter_id}/shares", status_code=201, summary="A newborn or a companion stays with this patient"
    )
    async def declare_share(request: Request, encounter_id: UUID, body: DeclareShare) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            share_id = await shares.declare_share(
                tx,
                pool.settings,
                encounter_id,
                kind=body.kind,
                guest_id=body.guest_encounter_id,
                may=caller.requiring(Permission.BEDS_CLEAN),
            )
            answer = {"share_id": share_id, "encounter_id": encounter_id, "kind": body.kind}
            return Answered(answer, "bed_share", share_id, status=201)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/shares/{share_id}/end", summary="Somebody does not stay with a patient any more")
    async def end_share(request: Request, share_id: UUID, body: Because) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            may = caller.requiring(Permission.BEDS_CLEAN)
            host = await shares.end_share(tx, share_id, reason=body.reason, may=may)
            return Answered({"share_id": share_id, "encounter_id": host["encounter_id"]}, "bed_share", share_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)
