"""Doors of the daily match (对账) under /api/billing: how a day stands, what differs, who looks into it, and why it did."""

from typing import Annotated, Any, NoReturn, assert_never
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.billing import recon_actions, recon_store
from services.billing.api_desk import cursor_after, cursor_of
from services.billing.api_prices import Day
from services.billing.recon_actions import AlreadyExplained, DayNotOver, NoSuchDifference
from services.billing.recon_store import DifferenceRow
from services.billing.reconciliation import Explanation, day_bounds
from services.billing.settings import PriceRules
from shared.access.policy import Permission
from shared.db import Transaction
from shared.errors import NotFound, Refused
from shared.web import PAGE_MAX, PROBLEM_RESPONSES, Answered, Body, Caller, Door, next_link, page_of

AskedDay = Annotated[Day, Query(alias="day", description="A business day of the hospital, such as 2026-03-01.")]


class MatchOrder(Body):
    """Which business day is to be matched (again)."""

    day: Day


class Ownership(Body):
    """Who looks into it; the one who says so when nobody is named."""

    owner: UUID | None = None


class Explaining(Body):
    """Why it is no difference any more."""

    explanation: Explanation


def recon_router(door: Door, rules: PriceRules) -> APIRouter:
    """Return the routes of the daily match."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _day_routes(routes, door, rules)
    _difference_routes(routes, door)
    return routes


def _shown(row: DifferenceRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in DifferenceRow.__dataclass_fields__}


def _day_routes(routes: APIRouter, door: Door, rules: PriceRules) -> None:
    @routes.get("/reconciliation", summary="How a business day was matched with channel, fund and drawers")
    async def get_day(request: Request, day: AskedDay) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            differences = await recon_store.list_differences_of(tx, day, rows_max=PAGE_MAX)
            body = {
                "day": day,
                "matched": await recon_store.list_days(tx, day),
                "ledger": await recon_store.get_ledger_sums(tx, day_bounds(day, rules.zone)),
                "open": sum(one.explained_at is None for one in differences),
                "differences": [_shown(one) for one in differences],
            }
            return Answered(body, "reconciliation", day)

        return await door.query(request, Permission.RECONCILIATION_MANAGE, read)

    @routes.post("/reconciliation", status_code=202, summary="Match a business day again; GET shows when it is done")
    async def post_day(request: Request, body: MatchOrder) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            parties = await recon_actions.order_day(tx, rules.zone, body.day)
            if isinstance(parties, DayNotOver):
                raise Refused("This day is not over yet.", code="day_not_over")
            return Answered({"day": body.day, "parties": parties}, "reconciliation", body.day, status=202)

        return await door.command(request, Permission.RECONCILIATION_MANAGE, act, body=body)


def _difference_routes(routes: APIRouter, door: Door) -> None:
    @routes.get("/differences", summary="Differences nobody has explained yet, oldest first")
    async def get_differences(request: Request) -> Response:
        page = page_of(request)
        after = cursor_of(page.after)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            rows = await recon_store.list_open_differences(tx, after=after, rows_max=page.limit)
            last = rows[-1] if len(rows) == page.limit else None
            link = next_link(request, None if last is None else cursor_after(last.found_at, last.id))
            return Answered({"differences": [_shown(row) for row in rows], "next": link}, "difference")

        return await door.query(request, Permission.RECONCILIATION_MANAGE, read)

    @routes.post("/differences/{difference_id}/owner", summary="Say who looks into a difference")
    async def post_owner(request: Request, difference_id: UUID, body: Ownership) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            owner = body.owner or caller.actor.user_id
            found = await recon_actions.take_difference(tx, difference_id=difference_id, owner=owner)
            if not isinstance(found, DifferenceRow):
                _refuse(found)
            return Answered({**_shown(found), "owner": owner}, "difference", difference_id)

        return await door.command(request, Permission.RECONCILIATION_MANAGE, act, body=body)

    @routes.post("/differences/{difference_id}/explanation", summary="Explain a difference; it leaves the list")
    async def post_explanation(request: Request, difference_id: UUID, body: Explaining) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            found = await recon_actions.explain_difference(
                tx, difference_id=difference_id, explanation=body.explanation
            )
            if not isinstance(found, DifferenceRow):
                _refuse(found)
            answer = {"difference_id": difference_id, "explanation": body.explanation}
            return Answered(answer, "difference", difference_id)

        return await door.command(request, Permission.RECONCILIATION_MANAGE, act, body=body)


def _refuse(refusal: NoSuchDifference | AlreadyExplained) -> NoReturn:
    match refusal:
        case NoSuchDifference():
            raise NotFound("There is no such difference.", code="no_such_difference")
        case AlreadyExplained():
            raise Refused("This difference was explained before.", code="already_explained")
        case _:
            assert_never(refusal)
