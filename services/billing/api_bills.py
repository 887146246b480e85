"""Doors of bills (结算单): quote, the payer's yes, payments, giving up, and the channel's notices.

What has to be asked outside is not waited for: the answer says how the bill stands, and `GET …/bills/{id}` says it again
until it rests. Every step can be repeated with its Idempotency-Key, from another tablet, after a reload (R05, R16).
"""

from typing import Annotated, Any, NoReturn
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints

from services.billing import bill_actions, bill_store, bills, price_actions
from services.billing.api_refusals import check_ward, refuse
from services.billing.bill_actions import NoSuchPayment, OnBill, OnPayment, PaymentInWork
from services.billing.bill_store import BillView, Payment
from services.billing.bills import (
    Bill,
    BillInWork,
    BillMoved,
    MoreThanDue,
    NoSuchBill,
    NothingToSettle,
    PayerNotConnected,
    QuoteDead,
)
from services.billing.domain import Account, PaymentMethod
from services.billing.outside import Outside
from services.billing.ports import ChannelMethod, ForgedNotice
from services.billing.settings import PriceRules
from shared import faults
from shared.access.policy import Permission
from shared.db import Transaction, transaction
from shared.errors import BadRequest, NotFound, Refused
from shared.money import PositiveFen
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door

NOTICE_PATH = "/channel/notices"


class Coverage(Body):
    """By whom the stay is insured; the number comes from the card or the e-voucher and is shown to nobody."""

    psn_no: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,40}$")]


class Draft(Body):
    """Make the bill of everything on the account."""

    as_self_pay: bool = Field(default=False, description="The family pays all, though the stay is insured (R56).")
    interim: bool = Field(
        default=False,
        description="The stay goes on (中途结算): what is settled is in no later bill, the account stays open.",
    )


class Confirmation(Body):
    """The payer's yes to exactly this quote."""

    lines_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] = Field(description="As the quote said.")


class DeskPayment(Body):
    """Money in cash or through a terminal of the desk."""

    amount_fen: PositiveFen
    method: PaymentMethod


class ChannelOrder(Body):
    """An order at the payment channel, to be paid by scanning its code."""

    amount_fen: PositiveFen
    method: ChannelMethod


class Nothing(Body):
    """Nothing more is to be said."""


def bill_router(door: Door, outside: Outside, rules: PriceRules) -> APIRouter:
    """Return the routes of bills and payments."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _quote_routes(routes, door, outside, rules)
    _payment_routes(routes, door)
    _notice_route(routes, door, outside)
    return routes


def _refuse(refusal: bill_actions.AnyRefusal, encounter_id: UUID) -> NoReturn:
    match refusal:
        case NoSuchBill():
            raise NotFound("This stay has no such bill.", code="no_such_bill")
        case NoSuchPayment():
            raise NotFound("This stay has no such payment.", code="no_such_payment")
        case BillInWork(bill_id=bill_id, state=state):
            raise Refused(
                "A bill of this account is being settled; go on with that one.",
                code="bill_in_work",
                bill_id=str(bill_id),
                state=state,
            )
        case BillMoved(state="payer_unknown"):
            raise Refused(
                "Nobody knows yet whether the fund has settled; do not pay again, the result will be shown.",
                code="payer_unknown",
                state="payer_unknown",
            )
        case BillMoved(state=state):
            raise Refused("The bill is not in a state that allows this.", code="bill_moved", state=state)
        case QuoteDead(why=why):
            raise Refused("This quote does not hold any more; make a new one and show it.", code="quote_dead", why=why)
        case PayerNotConnected(why="no_coverage"):
            raise Refused("Note the insured person's number first, or bill as self-pay.", code="no_coverage")
        case PayerNotConnected():
            raise Refused("No insurance fund is connected; bill as self-pay.", code="fund_not_connected")
        case NothingToSettle():
            raise Refused("Nothing is on the account that could be settled now.", code="nothing_to_settle")
        case MoreThanDue(due_fen=due_fen):
            raise Refused("This is more than is due.", code="more_than_due", due_fen=due_fen)
        case PaymentInWork(payment_id=payment_id):
            raise Refused(
                "A code of this account can still be paid; close it first.",
                code="payment_in_work",
                payment_id=str(payment_id),
            )
        case other:
            refuse(other, encounter_id, may_open=True)


def _shown(bill: Bill, deposits_fen: int, waived_fen: int) -> dict[str, Any]:
    settled = bill.state in ("settled", "reopening", "reopened")
    return {
        "bill_id": bill.id,
        "account_id": bill.account_id,
        "number": bill.number,
        "state": bill.state,
        "reason": bill.reason,
        "insured": bill.insured,
        "interim": bill.interim,
        "lines": bill.lines,
        "lines_hash": bill.lines_hash.hex(),
        "charged_fen": bill.charged_fen,
        "fund_fen": bill.fund_fen,
        "account_fen": bill.account_fen,
        "patient_fen": bill.patient_fen,
        "deposits_fen": deposits_fen,
        "waived_fen": waived_fen,
        "due_fen": 0 if settled else bills.due_fen(bill, deposits_fen),
        "refund_fen": 0 if settled else bills.refund_fen(bill, deposits_fen, waived_fen),
        "expires_at": bill.expires_at,
    }


def _shown_view(view: BillView) -> dict[str, Any]:
    stale = view.bill.state == "quoted" and view.version_now != view.bill.bill_version
    return {
        **_shown(view.bill, view.deposits_fen, view.waived_fen),
        "since": view.since,
        "line_changed": stale,
        "steps": view.steps,
        "payments": view.payments,
        "settlement": view.settlement,
        "receipt": view.receipt,
    }


def _shown_payment(payment: Payment) -> dict[str, Any]:
    return {
        "payment_id": payment.id,
        "order_no": payment.order_no,
        "method": payment.method,
        "state": payment.state,
        "amount_fen": payment.amount_fen,
        "qr_text": payment.qr_text,
        "expires_at": payment.expires_at,
    }


def _on_bill(outcome: OnBill | bill_actions.AnyRefusal, caller: Caller, encounter_id: UUID, status: int) -> Answered:
    if not isinstance(outcome, OnBill):
        _refuse(outcome, encounter_id)
    check_ward(caller, Permission.SETTLEMENTS_SETTLE, outcome.account.ward, encounter_id)
    shown = _shown(outcome.bill, outcome.deposits_fen, outcome.waived_fen)
    return Answered(shown, "bill", outcome.bill.id, outcome.account.patient_tok, status=status)


# ---- quote, yes, giving up -------------------------------------------------------------------------------------------


def _quote_routes(routes: APIRouter, door: Door, outside: Outside, rules: PriceRules) -> None:
    @routes.post("/encounters/{encounter_id}/coverage", summary="Note by whom a stay is insured (医保登记)")
    async def post_coverage(request: Request, encounter_id: UUID, body: Coverage) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.note_coverage(tx, encounter_id=encounter_id, psn_no=body.psn_no)
            if not isinstance(outcome, Account):
                _refuse(outcome, encounter_id)
            check_ward(caller, Permission.SETTLEMENTS_SETTLE, outcome.ward, encounter_id)
            return Answered({"account_id": outcome.id, "covered": True}, "coverage", outcome.id, outcome.patient_tok)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/bills", status_code=201, summary="Make the bill and have it quoted (预结算)"
    )
    async def post_bill(request: Request, encounter_id: UUID, body: Draft) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            connected = outside.insurance is not None
            running = await price_actions.bring_up_to_date(tx, rules, encounter_id=encounter_id, goes_on=body.interim)
            if running and not body.interim:
                raise Refused(
                    "Something charged by the hour still runs (医嘱未停); stop it first, or it is not on the bill.",
                    code="timed_items_run",
                    running=running,
                )
            outcome = await bill_actions.draft_bill(
                tx,
                encounter_id=encounter_id,
                as_self_pay=body.as_self_pay,
                fund_connected=connected,
                interim=body.interim,
            )
            return _on_bill(outcome, caller, encounter_id, 201)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)

    async def read_bill(request: Request, encounter_id: UUID, bill_id: UUID | None) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            view = await bill_store.get_bill_view(tx, encounter_id, bill_id)
            if view is None:
                _refuse(NoSuchBill(), encounter_id)
            check_ward(caller, Permission.ACCOUNTS_READ, view.ward, encounter_id)
            return Answered(_shown_view(view), "bill", view.bill.id, view.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.get(
        "/encounters/{encounter_id}/bills/latest", summary="The newest bill of a stay, with each step and its time"
    )
    async def get_latest_bill(request: Request, encounter_id: UUID) -> Response:
        return await read_bill(request, encounter_id, None)

    @routes.get("/encounters/{encounter_id}/bills/{bill_id}", summary="A bill, with each step and its time")
    async def get_bill(request: Request, encounter_id: UUID, bill_id: UUID) -> Response:
        return await read_bill(request, encounter_id, bill_id)

    @routes.post("/encounters/{encounter_id}/bills/{bill_id}/confirmation", summary="The payer's yes to a quote")
    async def post_confirmation(request: Request, encounter_id: UUID, bill_id: UUID, body: Confirmation) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.confirm_bill(
                tx, encounter_id=encounter_id, bill_id=bill_id, shown_hash=bytes.fromhex(body.lines_hash)
            )
            return _on_bill(outcome, caller, encounter_id, 200)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/bills/{bill_id}/cancellation", summary="Give a bill up before it is settled"
    )
    async def post_cancellation(request: Request, encounter_id: UUID, bill_id: UUID, body: Nothing) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.cancel_bill(tx, encounter_id=encounter_id, bill_id=bill_id)
            return _on_bill(outcome, caller, encounter_id, 200)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)


# ---- payments --------------------------------------------------------------------------------------------------------


def _payment_routes(routes: APIRouter, door: Door) -> None:
    @routes.post(
        "/encounters/{encounter_id}/bills/{bill_id}/payments", summary="Take part or all of what is due at the desk"
    )
    async def post_desk_payment(request: Request, encounter_id: UUID, bill_id: UUID, body: DeskPayment) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.pay_at_desk(
                tx, encounter_id=encounter_id, bill_id=bill_id, amount_fen=body.amount_fen, method=body.method
            )
            return _on_bill(outcome, caller, encounter_id, 200)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)

    async def order(
        request: Request, encounter_id: UUID, bill_id: UUID | None, body: ChannelOrder, permission: Permission
    ) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.order_payment(
                tx, encounter_id=encounter_id, bill_id=bill_id, amount_fen=body.amount_fen, method=body.method
            )
            if not isinstance(outcome, OnPayment):
                _refuse(outcome, encounter_id)
            check_ward(caller, permission, outcome.account.ward, encounter_id)
            payment = outcome.payment
            return Answered(_shown_payment(payment), "payment", payment.id, outcome.account.patient_tok, status=201)

        return await door.command(request, permission, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/bills/{bill_id}/orders",
        status_code=201,
        summary="Have the channel make a code that pays part or all of what is due",
    )
    async def post_bill_order(request: Request, encounter_id: UUID, bill_id: UUID, body: ChannelOrder) -> Response:
        return await order(request, encounter_id, bill_id, body, Permission.SETTLEMENTS_SETTLE)

    @routes.post(
        "/encounters/{encounter_id}/orders", status_code=201, summary="Have the channel make a code for a deposit"
    )
    async def post_deposit_order(request: Request, encounter_id: UUID, body: ChannelOrder) -> Response:
        return await order(request, encounter_id, None, body, Permission.DEPOSITS_TAKE)

    @routes.get("/encounters/{encounter_id}/orders/{payment_id}", summary="How an order at the channel stands")
    async def get_order(request: Request, encounter_id: UUID, payment_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            payment = await bill_store.find_payment(tx.conn, payment_id=payment_id)
            if payment is None or payment.encounter_id != encounter_id:
                _refuse(NoSuchPayment(), encounter_id)
            standing = await bill_store.get_account_of(tx, payment.account_id)
            check_ward(caller, Permission.ACCOUNTS_READ, standing.ward, encounter_id)
            return Answered(_shown_payment(payment), "payment", payment_id, standing.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.post(
        "/encounters/{encounter_id}/orders/{payment_id}/closing",
        summary="Have an order closed, so that the family can pay otherwise",
    )
    async def post_closing(request: Request, encounter_id: UUID, payment_id: UUID, body: Nothing) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.close_payment(tx, encounter_id=encounter_id, payment_id=payment_id)
            if not isinstance(outcome, OnPayment):
                _refuse(outcome, encounter_id)
            check_ward(caller, Permission.DEPOSITS_TAKE, outcome.account.ward, encounter_id)
            return Answered(_shown_payment(outcome.payment), "payment", payment_id, outcome.account.patient_tok)

        return await door.command(request, Permission.DEPOSITS_TAKE, act, body=body)


# ---- notices of the channel ------------------------------------------------------------------------------------------


def _notice_route(routes: APIRouter, door: Door, outside: Outside) -> None:
    @routes.post(NOTICE_PATH, summary="The channel tells that an order was paid (signed; no login)")
    async def post_notice(request: Request) -> Response:
        """Post a paid order once and say success only after the commit; a forged notice changes nothing (R53)."""
        if outside.channel is None:
            raise NotFound("No payment channel is connected.", code="channel_not_connected")
        try:
            notice = outside.channel.read_notice(request.headers, await request.body())
        except ForgedNotice:
            raise BadRequest("This notice is not from the channel.", code="forged_notice") from None
        faults.reached("K22")
        async with door.db.pool.acquire(timeout=10) as conn:
            payment = await bill_store.find_payment(conn, order_no=notice.order.order_no)
        if payment is None:
            raise NotFound("This order is not ours.", code="no_such_payment")
        async with transaction(door.db) as tx:
            tx.correlation_id = payment.encounter_id
            tx.actor = payment.ordered_by
            if not await bill_store.note_notice(tx, notice.nonce, notice.order.order_no):
                return JSONResponse({"code": "SUCCESS"})  # told again, because our answer was lost
            if notice.order.amount_fen != payment.amount_fen:
                # A signed notice with another sum is looked into, never believed: the channel is asked.
                await bill_store.insert_difference(
                    tx,
                    party="channel",
                    kind="amount_mismatch",
                    object_=payment.order_no,
                    ours_fen=payment.amount_fen,
                    theirs_fen=notice.order.amount_fen,
                )
                await bill_store.send_errand(tx, "payment", str(payment.id), anew=False)
            else:
                await bill_actions.take_paid_order(tx, payment.id, notice.order)
                tx.audit("channel notice", "payment", payment.id)
        faults.reached("K23")
        return JSONResponse({"code": "SUCCESS"})
