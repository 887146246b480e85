"""Doors of the clerk's worklist under /api/billing: who left without settling (出院未结), and how a day of discharges went."""

from collections import Counter
from typing import Any

from fastapi import APIRouter, Request, Response

from services.billing import worklist_store
from services.billing.api_desk import cursor_after, cursor_of
from services.billing.api_recon import AskedDay
from services.billing.reconciliation import day_bounds
from services.billing.settings import DeskRules, PriceRules
from services.billing.worklist import Clocks, blocker, clocks
from services.billing.worklist_store import Unsettled
from shared.access.policy import Permission
from shared.db import Transaction
from shared.web import PAGE_MAX, PROBLEM_RESPONSES, Answered, Caller, Door, next_link, page_of


def worklist_router(door: Door, rules: PriceRules, desk: DeskRules) -> APIRouter:
    """Return the routes of the worklist."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _worklist_route(routes, door)
    _same_day_route(routes, door, rules, desk)
    return routes


def _worklist_route(routes: APIRouter, door: Door) -> None:
    @routes.get("/worklist", summary="Who left and is not settled, longest first, and what waits for the outside")
    async def get_worklist(request: Request) -> Response:
        page = page_of(request)
        after = cursor_of(page.after)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.SETTLEMENTS_SETTLE)
            wards = None if scope.everywhere else scope.wards
            rows = await worklist_store.list_unsettled(tx, wards, after=after, rows_max=page.limit)
            last = rows[-1] if len(rows) == page.limit else None
            body = {
                "unsettled": [_shown(row, tx) for row in rows],
                "next": next_link(request, None if last is None else cursor_after(last.left_at, last.encounter_id)),
            }
            if scope.everywhere and after is None:
                body["unknown"] = await worklist_store.list_unknown_bills(tx, rows_max=PAGE_MAX)
                body["refunds"] = await worklist_store.list_stuck_refunds(tx, rows_max=PAGE_MAX)
            return Answered(body, "worklist")

        return await door.query(request, Permission.SETTLEMENTS_SETTLE, read)


def _shown(row: Unsettled, tx: Transaction) -> dict[str, Any]:
    return {
        "encounter_id": row.encounter_id,
        "ward": row.ward,
        "left_at": row.left_at,
        "age_seconds": int((tx.now - row.left_at).total_seconds()),
        "blocker": blocker(row.standing, tx.now),
        "blocked_seconds": None if row.bill_since is None else int((tx.now - row.bill_since).total_seconds()),
        "bill_id": row.bill_id,
        "payer_kind": row.payer_kind,
        "charged_fen": row.charged_fen,
        "deposits_fen": row.deposits_fen,
    }


def _same_day_route(routes: APIRouter, door: Door, rules: PriceRules, desk: DeskRules) -> None:
    @routes.get(
        "/same-day-settlement",
        summary="Who left on a day: settled that day, within 24 hours, within three working days",
    )
    async def get_same_day(request: Request, day: AskedDay) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.RECONCILIATION_MANAGE)
            leavings = await worklist_store.list_leavings(tx, day_bounds(day, rules.zone))
            judged = [(stay, one, clocks(one, tx.now, rules.zone, desk.calendar)) for stay, one in leavings]
            said = [found for _, _, found in judged]
            body = {
                "day": day,
                "left": len(judged),
                **{name: _counted(said, name) for name in ("on_the_day", "within_24_hours", "within_3_working_days")},
                "reasons": Counter(found.miss for found in said if found.miss is not None),
                "misses": [
                    {
                        "encounter_id": stay,
                        "left_at": one.left_at,
                        "settled_at": one.settled_at,
                        "reason": found.miss,
                        "within_24_hours": found.within_24_hours,
                        "within_3_working_days": found.within_3_working_days,
                    }
                    for stay, one, found in judged
                    if found.miss is not None
                ],
            }
            return Answered(body, "same-day-settlement", day)

        return await door.query(request, Permission.RECONCILIATION_MANAGE, read)


def _counted(said: list[Clocks], name: str) -> dict[str, int]:
    """Return how many kept a limit, missed it, or still can keep it."""
    found = Counter(getattr(one, name) for one in said)
    return {"kept": found[True], "missed": found[False], "running": found[None]}
