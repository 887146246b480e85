"""Doors of billing under /api/billing. A stay that was admitted a moment ago may have no account yet: `Prefer: wait=10`."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.billing import actions, bill_actions, domain, store
from services.billing.actions import Charged, Deposited, Reopened, Reversed, Settled
from services.billing.api_refusals import check_ward, refuse
from services.billing.bill_actions import OnBill
from services.billing.bills import BillMoved
from services.billing.domain import NoAccount, NotOpen, PaymentMethod
from services.billing.store import ChargeAsked
from shared.access.policy import Permission
from shared.commands import Ahead
from shared.contracts.envelope import Code
from shared.db import Transaction
from shared.errors import BadRequest, Refused
from shared.ids import new_id
from shared.money import FEN_MAX, PositiveFen
from shared.web import PROBLEM_RESPONSES, Answered, Caller, Door, FactBody, next_link, page_of


class Deposit(FactBody):
    """Prepaid money (预交金)."""

    amount_fen: PositiveFen
    method: PaymentMethod


class Charge(FactBody):
    """One executed item and its price."""

    item: Code
    amount_fen: PositiveFen


class ChargeReversal(FactBody):
    """Why the charge was wrong."""

    reason: Code


class SettlementOrder(FactBody):
    """The sum the payer saw, and how the difference is paid."""

    method: PaymentMethod
    charged_fen: Annotated[int, Field(strict=True, ge=0, le=FEN_MAX, description="What the payer saw.")]


class Reopening(FactBody):
    """Why the settlement is taken back."""

    reason: Code


class LateCharge(FactBody):
    """A charge that came after the final settlement; collected now, or written off when there is no method (V13)."""

    item: Code
    amount_fen: PositiveFen
    method: PaymentMethod | None = None
    reason: Code


class BloodWaiver(FactBody):
    """What the blood centre pays of this stay's blood, and the number under which it agreed to; the donor stays with it."""

    amount_fen: PositiveFen
    approval_no: Code


class BadDebt(FactBody):
    """What is given up, because the patient is gone (欠费离院)."""

    charged_fen: Annotated[int, Field(strict=True, ge=0, le=FEN_MAX, description="What the clerk saw.")]
    reason: Code


def router(door: Door) -> APIRouter:
    """Return the routes of billing."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _read_routes(routes, door)
    _deposit_routes(routes, door)
    _charge_routes(routes, door)
    _settlement_routes(routes, door)
    _after_settlement_routes(routes, door)
    return routes


# ---- reads -----------------------------------------------------------------------------------------------------------


async def _standing(tx: Transaction, caller: Caller, encounter_id: UUID) -> store.Standing:
    standing = await store.get_standing(tx, encounter_id)
    if standing is None:
        refuse(NoAccount(), encounter_id)
    check_ward(caller, Permission.ACCOUNTS_READ, standing.ward, encounter_id)
    return standing


def _read_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/encounters/{encounter_id}/account", summary="The account of a stay")
    async def get_account(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            standing = await _standing(tx, caller, encounter_id)
            body = {
                "account_id": standing.account_id,
                "encounter_id": standing.encounter_id,
                "state": standing.state,
                "payer_kind": standing.payer_kind,
                "charged_fen": standing.charged_fen,
                "deposits_fen": standing.deposits_fen,
                "waived_fen": standing.waived_fen,
                "settlements": standing.settlements,
                "interim_fen": standing.interim_fen,
                "settled_at": standing.settled_at,
                "payment_group": standing.payment_group,
            }
            return Answered(body, "account", standing.account_id, standing.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.get("/encounters/{encounter_id}/statement", summary="The itemised list of an account, as it was recorded")
    async def get_statement(request: Request, encounter_id: UUID) -> Response:
        page = page_of(request)
        after = _cursor(page.after)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            standing = await _standing(tx, caller, encounter_id)
            lines = await store.list_statement(tx, standing.account_id, after=after, rows_max=page.limit)
            body = {
                "account_id": standing.account_id,
                "charged_fen": standing.charged_fen,
                "lines": [_shown(line) for line in lines],
                "next": next_link(request, _cursor_after(lines[-1]) if len(lines) == page.limit else None),
            }
            return Answered(body, "statement", standing.account_id, standing.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.get("/encounters/{encounter_id}/pre-settlement", summary="What a settlement now would come to (预结算)")
    async def get_pre_settlement(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            bill = await store.get_pre_settlement(tx, encounter_id)
            if bill is None:
                refuse(NoAccount(), encounter_id, may_open=True)
            check_ward(caller, Permission.ACCOUNTS_READ, bill.ward, encounter_id)
            if bill.state != "open":
                refuse(NotOpen(bill.state), encounter_id)
            domain.check_bill(bill.receivable_fen, bill.charged_fen)
            collects_fen, refunds_fen = domain.difference(bill.charged_fen, bill.deposits_fen, bill.waived_fen)
            body = {
                "account_id": bill.account_id,
                "charged_fen": bill.charged_fen,
                "charges": bill.charges,
                "deposits_fen": bill.deposits_fen,
                "waived_fen": bill.waived_fen,
                "payer_fen": 0,
                "collects_fen": collects_fen,
                "refunds_fen": refunds_fen,
            }
            return Answered(body, "pre-settlement", bill.account_id, bill.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)


def _shown(line: store.StatementLine) -> dict[str, Any]:
    return {
        "entry_id": line.entry_id,
        "kind": line.kind,
        "item": line.item,
        "amount_fen": line.amount_fen,
        "debit": line.debit,
        "credit": line.credit,
        "at": line.at,
        "reverses": line.reverses,
        "reversed_by": line.reversed_by,
        "interim_number": line.interim_number,
    }


def _cursor_after(line: store.StatementLine) -> str:
    return f"{line.recorded_at.astimezone(UTC):%Y%m%dT%H%M%S.%f}_{line.entry_id}"


def _cursor(text: str | None) -> tuple[datetime, UUID] | None:
    if text is None:
        return None
    at, _, entry_id = text.partition("_")
    try:
        return datetime.strptime(at, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC), UUID(entry_id)
    except ValueError:
        raise BadRequest("after is no cursor of ours.", code="bad_cursor") from None


# ---- deposits --------------------------------------------------------------------------------------------------------


def _deposit_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/encounters/{encounter_id}/deposits", status_code=201, summary="Take a deposit")
    async def post_deposit(request: Request, encounter_id: UUID, body: Deposit) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await actions.take_deposit(
                tx, encounter_id=encounter_id, amount_fen=body.amount_fen, method=body.method
            )
            if not isinstance(outcome, Deposited):
                refuse(outcome, encounter_id, may_open=True)
            check_ward(caller, Permission.DEPOSITS_TAKE, outcome.account.ward, encounter_id)
            answer = _shown_deposit(outcome, body.amount_fen)
            return Answered(answer, "deposit", outcome.entry_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.DEPOSITS_TAKE, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/blood-waivers",
        status_code=201,
        summary="The blood centre pays a donor's blood (用血减免)",
    )
    async def post_blood_waiver(request: Request, encounter_id: UUID, body: BloodWaiver) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            # First, because a refusal tells what blood is on the account.
            ward = await store.get_ward(tx, encounter_id)
            check_ward(caller, Permission.SETTLEMENTS_SETTLE, ward, encounter_id)
            outcome = await actions.waive_blood(
                tx, encounter_id=encounter_id, amount_fen=body.amount_fen, approval_no=body.approval_no
            )
            if not isinstance(outcome, Deposited):
                refuse(outcome, encounter_id, may_open=True)
            answer = _shown_deposit(outcome, body.amount_fen)
            return Answered(answer, "deposit", outcome.entry_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)


def _shown_deposit(outcome: Deposited, amount_fen: int) -> dict[str, Any]:
    return {
        "account_id": outcome.account.id,
        "entry_id": outcome.entry_id,
        "amount_fen": amount_fen,
        "deposits_fen": outcome.deposits_fen,
    }


# ---- charges ---------------------------------------------------------------------------------------------------------


def _charge_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/encounters/{encounter_id}/charges", status_code=201, summary="Post a charge")
    async def post_charge(request: Request, encounter_id: UUID, body: Charge) -> Response:
        asked = ChargeAsked(encounter_id, new_id(), body.item, body.amount_fen)

        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = actions.charge_posted(tx, asked, tx.ahead)
            if isinstance(outcome, NotOpen):
                # The state of an account is nobody's business in another ward.
                ward = await store.get_ward(tx, encounter_id)
                check_ward(caller, Permission.CHARGES_POST, ward, encounter_id)
            if not isinstance(outcome, Charged):
                refuse(outcome, encounter_id, may_open=True)
            # The ward comes back with the posting, to spare a statement: a nurse of another ward rolls it back.
            check_ward(caller, Permission.CHARGES_POST, outcome.ward, encounter_id)
            answer = {
                "account_id": outcome.account_id,
                "entry_id": outcome.entry_id,
                "amount_fen": outcome.amount_fen,
                "charged_fen": outcome.charged_fen,
            }
            return Answered(answer, "charge", outcome.entry_id, outcome.patient_tok, status=201)

        ahead = Ahead(store.post_charges, asked, order=str(encounter_id))
        return await door.command(request, Permission.CHARGES_POST, act, body=body, ahead=ahead)

    @routes.post(
        "/encounters/{encounter_id}/charges/{entry_id}/reversal", status_code=201, summary="Reverse a wrong charge"
    )
    async def post_reversal(request: Request, encounter_id: UUID, entry_id: UUID, body: ChargeReversal) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await actions.reverse_charge(tx, encounter_id=encounter_id, entry_id=entry_id, reason=body.reason)
            if not isinstance(outcome, Reversed):
                refuse(outcome, encounter_id)
            check_ward(caller, Permission.CHARGES_REVERSE, outcome.account.ward, encounter_id)
            answer = {
                "account_id": outcome.account.id,
                "entry_id": outcome.entry_id,
                "reverses_entry_id": entry_id,
                "amount_fen": outcome.amount_fen,
                "charged_fen": outcome.account.receivable_fen - outcome.amount_fen,
            }
            return Answered(answer, "charge", entry_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.CHARGES_REVERSE, act, body=body)


# ---- settlement ------------------------------------------------------------------------------------------------------


def _settlement_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/encounters/{encounter_id}/settlement", status_code=201, summary="Settle the bill the payer saw")
    async def post_settlement(request: Request, encounter_id: UUID, body: SettlementOrder) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await actions.settle_account(
                tx, encounter_id=encounter_id, quoted_fen=body.charged_fen, method=body.method
            )
            return _settled(outcome, caller, Permission.SETTLEMENTS_SETTLE, encounter_id)

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)


def _after_settlement_routes(routes: APIRouter, door: Door) -> None:
    @routes.post(
        "/encounters/{encounter_id}/settlement-reopening", status_code=201, summary="Take a settlement back (结算召回)"
    )
    async def post_reopening(request: Request, encounter_id: UUID, body: Reopening) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await bill_actions.reopen(tx, encounter_id=encounter_id, reason=body.reason)
            if isinstance(outcome, BillMoved):
                raise Refused(
                    "The fund is being asked to take its part back already.", code="bill_moved", state="reopening"
                )
            if not isinstance(outcome, Reopened | OnBill):
                refuse(outcome, encounter_id)
            check_ward(caller, Permission.SETTLEMENTS_REOPEN, outcome.account.ward, encounter_id)
            account = outcome.account
            if isinstance(outcome, OnBill):
                # The fund takes its part back first; the account opens when it has (GET …/bills/latest).
                answer: dict[str, Any] = {
                    "account_id": account.id,
                    "bill_id": outcome.bill.id,
                    "state": outcome.bill.state,
                }
                return Answered(answer, "bill", outcome.bill.id, account.patient_tok, status=202)
            answer = {
                "account_id": account.id,
                "settlement_id": outcome.settlement_id,
                "number": account.settlements,
                "state": "open",
                "charged_fen": outcome.charged_fen,
                "deposits_fen": outcome.deposits_fen,
            }
            return Answered(answer, "settlement", outcome.settlement_id, account.patient_tok, status=201)

        return await door.command(request, Permission.SETTLEMENTS_REOPEN, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/late-charges",
        status_code=201,
        summary="Settle a late charge by itself, or write it off (补收)",
    )
    async def post_late_charge(request: Request, encounter_id: UUID, body: LateCharge) -> Response:
        permission = Permission.SETTLEMENTS_REOPEN if body.method else Permission.DEBTS_WRITE_OFF

        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await actions.settle_late_charge(
                tx,
                encounter_id=encounter_id,
                item=body.item,
                amount_fen=body.amount_fen,
                method=body.method,
                reason=body.reason,
            )
            return _settled(outcome, caller, permission, encounter_id)

        return await door.command(request, permission, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/bad-debt", status_code=201, summary="Close an account nobody will pay (欠费离院)"
    )
    async def post_bad_debt(request: Request, encounter_id: UUID, body: BadDebt) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            outcome = await actions.write_off_debt(tx, encounter_id=encounter_id, quoted_fen=body.charged_fen)
            return _settled(outcome, caller, Permission.DEBTS_WRITE_OFF, encounter_id)

        return await door.command(request, Permission.DEBTS_WRITE_OFF, act, body=body)


def _settled(outcome: Settled | domain.Refusal, caller: Caller, permission: Permission, encounter_id: UUID) -> Answered:
    if not isinstance(outcome, Settled):
        refuse(outcome, encounter_id, may_open=True)
    check_ward(caller, permission, outcome.account.ward, encounter_id)
    settlement = outcome.settlement
    answer = {
        "account_id": outcome.account.id,
        "settlement_id": settlement.id,
        "number": settlement.number,
        "state": "closed",
        "charged_fen": settlement.charged_fen,
        "deposits_fen": settlement.deposits_fen,
        "payer_fen": settlement.payer_fen,
        "collected_fen": settlement.collected_fen,
        "refunded_fen": settlement.refunded_fen,
        "written_off_fen": settlement.written_off_fen,
    }
    return Answered(answer, "settlement", settlement.id, outcome.account.patient_tok, status=201)
