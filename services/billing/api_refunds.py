"""Doors of refunds under /api/billing: a deposit back to where it came from, alone or with a second person."""

from typing import Any, NoReturn
from uuid import UUID

from fastapi import APIRouter, Request, Response

from services.billing import refund_actions, refund_store
from services.billing.actions import Refunded
from services.billing.api_desk import cursor_after, cursor_of
from services.billing.api_refusals import check_ward, refuse
from services.billing.refund_actions import (
    Asked,
    AskedAlready,
    DecidedAlready,
    Moved,
    NoRequest,
    NotTheirs,
    OwnRequest,
    Turned,
)
from services.billing.settings import DeskRules
from shared.access.policy import Permission
from shared.contracts.envelope import Code
from shared.db import Transaction
from shared.errors import Forbidden, NotFound, Refused
from shared.money import PositiveFen
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, FactBody, next_link, page_of


class Refund(FactBody):
    """Give the deposit back, whole or in part, to where it came from."""

    amount_fen: PositiveFen | None = None


class Move(FactBody):
    """Which account of the same patient the deposit, or a part of it, goes to."""

    to_encounter_id: UUID
    amount_fen: PositiveFen | None = None


class TurningDown(Body):
    """Why a refund is not given."""

    reason: Code


def refund_router(door: Door, desk: DeskRules) -> APIRouter:
    """Return the routes of refunds."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _refund_route(routes, door, desk)
    _move_route(routes, door)
    _request_routes(routes, door)
    return routes


def _shown(refunded: Refunded, deposit_entry_id: UUID | None = None) -> dict[str, Any]:
    return {
        "account_id": refunded.account.id,
        "entry_id": refunded.entry_id,
        "amount_fen": refunded.amount_fen,
        "deposits_fen": refunded.account.deposits_fen - refunded.amount_fen,
        **({} if deposit_entry_id is None else {"deposit_entry_id": deposit_entry_id}),
    }


def _refund_route(routes: APIRouter, door: Door, desk: DeskRules) -> None:
    @routes.post(
        "/encounters/{encounter_id}/deposits/{entry_id}/refund",
        status_code=201,
        summary="Give a deposit back; 202 when a second person has to agree first",
    )
    async def post_refund(request: Request, encounter_id: UUID, entry_id: UUID, body: Refund) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await refund_actions.give_back(
                tx,
                encounter_id=encounter_id,
                entry_id=entry_id,
                amount_fen=body.amount_fen,
                asked_by=caller.actor.user_id,
                alone_fen_max=desk.refund_alone_fen_max,
            )
            if isinstance(outcome, AskedAlready):
                raise Refused("A refund of this deposit waits for a second person already.", code="refund_asked")
            if not isinstance(outcome, Refunded | Asked):
                refuse(outcome, encounter_id)
            check_ward(caller, Permission.DEPOSITS_REFUND, outcome.account.ward, encounter_id)
            if isinstance(outcome, Asked):
                answer = {"request_id": outcome.request_id, "amount_fen": outcome.amount_fen, "state": "asked"}
                return Answered(answer, "refund-request", outcome.request_id, outcome.account.patient_tok, status=202)
            answer = _shown(outcome, entry_id)
            return Answered(answer, "deposit", entry_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.DEPOSITS_REFUND, act, body=body)


def _move_route(routes: APIRouter, door: Door) -> None:
    @routes.post(
        "/encounters/{encounter_id}/deposits/{entry_id}/move",
        status_code=201,
        summary="Move a deposit to another account of the same patient",
    )
    async def post_move(request: Request, encounter_id: UUID, entry_id: UUID, body: Move) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await refund_actions.move_deposit(
                tx,
                encounter_id=encounter_id,
                entry_id=entry_id,
                amount_fen=body.amount_fen,
                to_encounter_id=body.to_encounter_id,
            )
            if isinstance(outcome, NotTheirs):
                raise Refused("The patient has no such other account.", code="not_their_account")
            if not isinstance(outcome, Moved):
                refuse(outcome, encounter_id)
            left, came = outcome.left, outcome.came
            for account in (left.account, came.account):
                check_ward(caller, Permission.DEPOSITS_REFUND, account.ward, account.encounter_id)
            answer = {**_shown(left, entry_id), "to_account_id": came.account.id, "to_entry_id": came.entry_id}
            return Answered(answer, "deposit", entry_id, left.account.patient_tok, status=201)

        return await door.command(request, Permission.DEPOSITS_REFUND, act, body=body)


def _request_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/refund-requests", summary="Large refunds that wait for a second person, oldest first")
    async def get_requests(request: Request) -> Response:
        page = page_of(request)
        after = cursor_of(page.after)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.REFUNDS_APPROVE)
            rows = await refund_store.list_open_requests(tx, after=after, rows_max=page.limit)
            last = rows[-1] if len(rows) == page.limit else None
            following = None if last is None else cursor_after(last["asked_at"], last["request_id"])
            shown = [{**row, "own": row["asked_by"] == caller.actor.user_id} for row in rows]
            return Answered({"requests": shown, "next": next_link(request, following)}, "refund-request")

        return await door.query(request, Permission.REFUNDS_APPROVE, read)

    @routes.post("/refund-requests/{request_id}/approval", status_code=201, summary="Agree to a colleague's refund")
    async def post_approval(request: Request, request_id: UUID) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.REFUNDS_APPROVE)
            outcome = await refund_actions.agree(tx, request_id=request_id, agreed_by=caller.actor.user_id)
            if isinstance(outcome, OwnRequest):
                raise Forbidden("A second person agrees; nobody agrees to the own refund.", code="own_request")
            if isinstance(outcome, NoRequest | DecidedAlready):
                _refuse_request(outcome)
            if not isinstance(outcome, Refunded):
                refuse(outcome, request_id)
            return Answered(_shown(outcome), "refund-request", request_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.REFUNDS_APPROVE, act)

    @routes.post("/refund-requests/{request_id}/refusal", summary="Refuse a refund, or take the own request back")
    async def post_refusal(request: Request, request_id: UUID, body: TurningDown) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.REFUNDS_APPROVE)
            outcome = await refund_actions.turn_down(
                tx, request_id=request_id, decided_by=caller.actor.user_id, reason=body.reason
            )
            if not isinstance(outcome, Turned):
                _refuse_request(outcome)
            tx.correlation_id = outcome.request.encounter_id
            answer = {"request_id": request_id, "state": "refused"}
            return Answered(answer, "refund-request", request_id, purpose=body.reason)

        return await door.command(request, Permission.REFUNDS_APPROVE, act, body=body)


def _refuse_request(outcome: NoRequest | DecidedAlready) -> NoReturn:
    if isinstance(outcome, NoRequest):
        raise NotFound("There is no such request.", code="no_such_request")
    raise Refused("This request is decided already.", code="request_decided", state=outcome.state)
