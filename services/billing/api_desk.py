"""Doors of the cashier's desk under /api/billing: the own cash drawer (收费员班次)."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.billing import drawer_actions, drawer_store
from services.billing.drawer import DifferenceReason, NoOpenShift, ReasonNeeded, Shift, ShiftOpen
from shared.access.policy import Permission
from shared.db import Transaction
from shared.errors import BadRequest, NotFound, Refused
from shared.money import FEN_MAX
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, next_link, page_of

DrawerFen = Annotated[int, Field(strict=True, ge=0, le=FEN_MAX)]


class Opening(Body):
    """What lies in the drawer at the start (备用金)."""

    float_fen: DrawerFen


class Count(Body):
    """What was counted at the end; a difference has a reason."""

    counted_fen: DrawerFen
    reason: DifferenceReason | None = None


def desk_router(door: Door) -> APIRouter:
    """Return the routes of the cash drawer; everybody opens and counts the own one, whoever matches the day sees all."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _shift_routes(routes, door)
    return routes


def cursor_of(text: str | None) -> tuple[datetime, UUID] | None:
    """Return where a list by time goes on.

    Raises:
        BadRequest: it is no cursor of ours.
    """
    if text is None:
        return None
    at, _, row_id = text.partition("_")
    try:
        return datetime.strptime(at, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC), UUID(row_id)
    except ValueError:
        raise BadRequest("after is no cursor of ours.", code="bad_cursor") from None


def cursor_after(at: datetime, row_id: UUID) -> str:
    """Return the cursor behind a row."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%f}_{row_id}"


def _shown(shift: Shift) -> dict[str, Any]:
    return {
        "shift_id": shift.id,
        "opened_at": shift.opened_at,
        "float_fen": shift.float_fen,
        "cash_fen": shift.cash_fen,
        "entries": shift.entries,
        "expected_fen": shift.expected_fen,
    }


def _shift_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/cash-shifts", status_code=201, summary="Open the own cash drawer (开班)")
    async def post_shift(request: Request, body: Opening) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.DEPOSITS_TAKE)
            opened = await drawer_actions.open_shift(tx, cashier=caller.actor.user_id, float_fen=body.float_fen)
            if isinstance(opened, ShiftOpen):
                raise Refused(
                    "Your drawer is open already; count it first.", code="shift_open", shift_id=str(opened.shift_id)
                )
            return Answered(_shown(opened), "cash-shift", opened.id, status=201)

        return await door.command(request, Permission.DEPOSITS_TAKE, act, body=body)

    @routes.get("/cash-shifts/current", summary="The own open drawer, and what should be in it now")
    async def get_current(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.DEPOSITS_TAKE)
            shift = await drawer_store.get_open_shift(tx, caller.actor.user_id)
            if shift is None:
                raise NotFound("You have no drawer open.", code="no_open_shift")
            return Answered(_shown(shift), "cash-shift", shift.id)

        return await door.query(request, Permission.DEPOSITS_TAKE, read)

    @routes.post("/cash-shifts/current/closing", summary="Count the own drawer and close it (交班)")
    async def post_closing(request: Request, body: Count) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.DEPOSITS_TAKE)
            outcome = await drawer_actions.close_shift(
                tx, cashier=caller.actor.user_id, counted_fen=body.counted_fen, reason=body.reason
            )
            if isinstance(outcome, NoOpenShift):
                raise NotFound("You have no drawer open.", code="no_open_shift")
            if isinstance(outcome, ReasonNeeded):
                raise Refused(
                    "What you counted is not what should be there; count again or give a reason.",
                    code="reason_needed",
                    difference_fen=outcome.difference_fen,
                )
            answer = {
                **_shown(outcome.shift),
                "counted_fen": outcome.counted_fen,
                "difference_fen": outcome.difference_fen,
                "reason": outcome.reason,
            }
            return Answered(answer, "cash-shift", outcome.shift.id)

        return await door.command(request, Permission.DEPOSITS_TAKE, act, body=body)

    @routes.get("/cash-shifts", summary="Drawers that were counted, newest first")
    async def get_shifts(request: Request) -> Response:
        page = page_of(request)
        after = cursor_of(page.after)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            shifts = await drawer_store.list_closed_shifts(tx, after=after, rows_max=page.limit)
            last = shifts[-1] if len(shifts) == page.limit else None
            body = {
                "shifts": [
                    {
                        **{name: getattr(one, name) for name in drawer_store.ClosedShift.__dataclass_fields__},
                        "difference_fen": one.counted_fen - one.expected_fen,
                    }
                    for one in shifts
                ],
                "next": next_link(request, None if last is None else cursor_after(last.closed_at, last.id)),
            }
            return Answered(body, "cash-shift")

        return await door.query(request, Permission.RECONCILIATION_MANAGE, read)
