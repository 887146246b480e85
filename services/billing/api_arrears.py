"""Doors of arrears (欠费) and deposits asked for (预交金) under /api/billing (R55)."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.billing import arrears_actions, arrears_store
from services.billing.api_refusals import check_ward, refuse
from services.billing.arrears import LimitFen, owed_fen
from services.billing.domain import Account, NoAccount
from services.billing.settings import PriceRules
from shared.access.policy import Permission
from shared.contracts.envelope import Code, PayerKind
from shared.db import Transaction
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door


class Approval(Body):
    """What this stay may owe beyond its deposits, and why (信用就医)."""

    limit_fen: LimitFen
    reason: Code


def arrears_router(door: Door, rules: PriceRules) -> APIRouter:
    """Return the routes of arrears."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)

    @routes.get("/deposit-rule", summary="What is asked as a deposit on admission (预交金额度)")
    async def get_deposit_rule(
        request: Request, payer_kind: Annotated[PayerKind, Query()], disease: Annotated[Code | None, Query()] = None
    ) -> Response:
        async def read(_tx: Transaction, _caller: Caller) -> Answered:
            rule = rules.arrears.deposit(payer_kind, disease)
            return Answered(rule.model_dump(), "deposit-rule", audited=False)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.get("/encounters/{encounter_id}/arrears", summary="What a stay owes beyond its deposits, and what it may")
    async def get_arrears(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            view = await arrears_store.get_view(tx, encounter_id)
            if view is None:
                refuse(NoAccount(), encounter_id)
            check_ward(caller, Permission.ACCOUNTS_READ, view.ward, encounter_id)
            credit = await arrears_store.get_credit(tx, view.account_id)
            body: dict[str, Any] = {
                "account_id": view.account_id,
                "owed_fen": owed_fen(view.charged_fen, view.deposits_fen),
                "limit_fen": credit.limit_fen(rules.arrears),
                "raised_at": view.raised_at,
                "approved_by": view.approved_by,
                "reason": view.reason,
            }
            return Answered(body, "arrears", view.account_id, view.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.post("/encounters/{encounter_id}/credit", summary="Approve what a stay may owe, treatment first (信用就医)")
    async def post_credit(request: Request, encounter_id: UUID, body: Approval) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await arrears_actions.approve_credit(
                tx, rules.arrears, encounter_id=encounter_id, limit_fen=body.limit_fen, reason=body.reason
            )
            if not isinstance(outcome, Account):
                refuse(outcome, encounter_id, may_open=True)
            check_ward(caller, Permission.CREDIT_APPROVE, outcome.ward, encounter_id)
            answer = {"account_id": outcome.id, "limit_fen": body.limit_fen}
            return Answered(answer, "credit", outcome.id, outcome.patient_tok, purpose=body.reason)

        return await door.command(request, Permission.CREDIT_APPROVE, act, body=body)

    return routes
