"""Doors of the board and of the wards: every bed live, a ward's work, cleaning, repair, moves of patients."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from services.beds import forecast, leaving_store, moves_store, store, upkeep
from services.beds.actions import Pool
from services.beds.milestones import Known, standing_of
from services.beds.mirror import mark_of
from shared.access.policy import Permission, scope_of
from shared.contracts.envelope import Code
from shared.db import Transaction
from shared.errors import NotFound
from shared.web import Answered, Body, Caller, Door, FactBody, Moment, RowId

HOURS_AHEAD = (4.0, 8.0, 24.0, 48.0, 72.0)


class CleaningStep(FactBody):
    """Cleaning goes on."""


class SuspendCleaning(Body):
    """Why cleaning stopped."""

    reason: Code


class BlockBed(Body):
    """Why a bed is out of service, and until when when that is known."""

    reason: Code
    until: Moment | None = None


class CloseWard(Body):
    """Why a ward takes nobody new."""

    reason: Code


def add_ward_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    """Add the doors of the board and of the wards."""
    _board_routes(routes, door, pool)
    _work_routes(routes, door, pool)
    _cleaning_routes(routes, door)
    _service_routes(routes, door)


def _board_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.get("/board", summary="Every ward and bed as they are now")
    async def get_board(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.BEDS_READ)
            mirror = pool.mirror
            beds = [view for view in mirror.views.values() if scope.everywhere or view["ward"] in scope.wards]
            wards = [ward for ward in mirror.ward_views if scope.everywhere or ward["ward"] in scope.wards]
            body = {
                "cursor": mirror.mark(),
                "as_of": mirror.as_of,
                "wards": wards,
                "beds": sorted(beds, key=lambda view: view["bed_id"]),
                "waiting": mirror.waiting,
            }
            return Answered(body, "board", audited=False)

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.get("/board/stream", summary="Every change of a bed from a cursor on, as server-sent events")
    async def stream_board(request: Request, after: str | None = None) -> Response:
        caller = Caller(request.state.actor)
        caller.require_somewhere(Permission.BEDS_READ)
        scope = scope_of(caller.actor, Permission.BEDS_READ)
        cursor = request.headers.get("last-event-id") or after or pool.mirror.mark()
        mark_of(cursor)
        events = pool.mirror.stream(cursor, None if scope.everywhere else scope.wards, door.db.stopping)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _work_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.get("/wards/{ward}/work", summary="Who comes, who leaves, and what is to be cleaned in one ward")
    async def get_ward_work(request: Request, ward: str) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_READ, ward=ward)
            if ward not in pool.mirror.wards:
                raise NotFound("There is no such ward.")
            rows = await store.list_ward_work(tx, ward)
            lying = [row for row in rows if row["state"] == "arrived"]
            steps: dict[UUID, dict[str, Known]] = {}
            for step in await leaving_store.list_steps(tx, [row["encounter_id"] for row in lying]):
                steps.setdefault(step["encounter_id"], {})[step["milestone"]] = Known(
                    step["reached_at"], step["delay_reason"]
                )
            views = [view for view in pool.mirror.views.values() if view["ward"] == ward]
            body = {
                "ward": ward,
                "as_of": tx.now,
                "arriving": [_arriving(row, pool) for row in rows if row["state"] == "assigned"],
                "lying": [_lying(row, steps.get(row["encounter_id"], {}), pool, tx.now) for row in lying],
                "shares": [dict(row) for row in await moves_store.list_ward_shares(tx, ward)],
                "moves": [moving(row) for row in await moves_store.list_moves(tx, wards=[ward], limit=100)],
                "cleaning": [view for view in views if view["cleaning"] is not None],
                "free": sum(view["commitment"] == "free" and view["condition"] == "U" for view in views),
            }
            return Answered(body, "ward_work", ward)

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.get("/forecast", summary="How many are expected to leave each ward, with intervals; without patients")
    async def get_forecast(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            scope = caller.scope_of(Permission.BEDS_READ)
            lengths: dict[str, list[float]] = {}
            for row in await store.list_past_stays(tx, pool.settings.history_days):
                lengths.setdefault(row["specialty"], []).append(row["hours"])
            lying = [forecast.Lying(**row) for row in await store.list_lying(tx)]
            found = forecast.forecast(forecast.Stays(lengths), lying, HOURS_AHEAD)
            wards = [
                {
                    "ward": ward or None,
                    "leaving": [{"within_hours": hours, **asdict(said)} for hours, said in told.items()],
                }
                for ward, told in found.items()
                if scope.everywhere or ward in scope.wards
            ]
            past = sum(map(len, lengths.values()))
            return Answered(
                {"as_of": tx.now, "interval": forecast.INTERVAL, "stays": past, "wards": wards},
                "forecast",
                audited=False,
            )

        return await door.query(request, Permission.BEDS_READ, read)


def _patient(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in ("patient_tok", "sex", "age_years", "isolation")}


def _arriving(row: Any, pool: Pool) -> dict[str, Any]:
    return {
        "encounter_id": row["encounter_id"],
        "bed_id": row["bed_id"],
        "code": row["code"],
        "kind": row["kind"],
        "patient": _patient(row),
        "held_until": row["hold_expires"],
        "refusable_until": row["since"] + pool.settings.refusal
        if row["kind"] == "inpatient" and row["host_id"] is None
        else None,
        "bed_ready": row["condition"] == "U",
        "travel_minutes": row["travel_minutes"],
        "accepted_at": row["accepted_at"],
        "escalated_at": row["escalated_at"],
        "host_encounter_id": row["host_id"],
    }


def _lying(row: Any, known: Mapping[str, Known], pool: Pool, now: datetime) -> dict[str, Any]:
    standing = standing_of(
        pool.steps.steps, known, leaving_at=_expected(row), ordered_at=row["discharge_ordered_at"], now=now
    )
    is_host = row["share_id"] is None
    return {
        "encounter_id": row["encounter_id"],
        "bed_id": row["bed_id"],
        "code": row["code"],
        "patient": _patient(row),
        "since": row["since"],
        "leaving_at": row["leaving_at"],
        "discharge_ordered_at": row["discharge_ordered_at"],
        "away": is_host and row["commitment"] == "leave",
        "away_until": row["away_until"] if is_host and row["commitment"] == "leave" else None,
        "came_back_at": row["back_at"],
        "host_encounter_id": row["host_id"],
        "milestones": [asdict(step) for step in standing],
    }


def _expected(row: Any) -> datetime | None:
    """Return when the patient was expected to leave before the order made it now."""
    if row["expected_at"] is not None or row["discharge_ordered_at"] is None:
        found: datetime | None = row["expected_at"] or row["leaving_at"]
        return found
    return None if row["stay_days"] is None else row["since"] + timedelta(days=row["stay_days"])


def moving(row: Any) -> dict[str, Any]:
    """Return one wanted or announced move as wards and the desk see it."""
    return {
        "encounter_id": row["encounter_id"],
        "patient": _patient(row),
        "state": row["state"],
        "reason": row["reason"],
        "urgent": row["urgent"],
        "from_bed_id": row["from_bed_id"],
        "from_code": row["from_code"],
        "from_ward": row["from_ward"],
        "to_bed_id": row["bed_id"],
        "to_code": row["to_code"],
        "to_ward": row["to_ward"],
        "planned_at": row["planned_at"],
        "held_until": row["hold_expires"],
        "requested_at": row["requested_at"],
    }


def _cleaning_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/beds/{bed_id}/cleaning-start", summary="Somebody cleans the bed now")
    async def start_cleaning(request: Request, bed_id: RowId, body: CleaningStep) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await upkeep.start_cleaning(tx, bed_id)
            caller.require(Permission.BEDS_CLEAN, ward=bed["ward"])
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "started"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/beds/{bed_id}/cleaning-suspension", summary="Cleaning stopped before it was done")
    async def suspend_cleaning(request: Request, bed_id: RowId, body: SuspendCleaning) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await upkeep.suspend_cleaning(tx, bed_id, body.reason)
            caller.require(Permission.BEDS_CLEAN, ward=bed["ward"])
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "suspended"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)

    @routes.post("/beds/{bed_id}/cleaning-done", summary="The bed is clean and free")
    async def finish_cleaning(request: Request, bed_id: RowId, body: CleaningStep) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await upkeep.finish_cleaning(tx, bed_id)
            caller.require(Permission.BEDS_CLEAN, ward=bed["ward"])
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "free"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_CLEAN, act, body=body)


def _service_routes(routes: APIRouter, door: Door) -> None:
    @routes.post("/beds/{bed_id}/block", summary="Take a bed out of service")
    async def block_bed(request: Request, bed_id: RowId, body: BlockBed) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await upkeep.block_bed(tx, bed_id, reason=body.reason, until=body.until)
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "blocked"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)

    @routes.post("/beds/{bed_id}/unblock", summary="Put a bed back into service")
    async def unblock_bed(request: Request, bed_id: RowId) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await upkeep.unblock_bed(tx, bed_id)
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "active"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_MANAGE, act)

    @routes.post("/beds/{bed_id}/retirement", summary="Take a bed out of the pool for good")
    async def retire_bed(request: Request, bed_id: RowId) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            bed = await upkeep.retire_bed(tx, bed_id)
            return Answered({"bed_id": bed_id, "bed_code": bed["code"], "state": "inactive"}, "bed", bed_id)

        return await door.command(request, Permission.BEDS_MANAGE, act)

    @routes.post("/wards/{ward}/closing", summary="Let nobody new into a ward")
    async def close_ward(request: Request, ward: str, body: CloseWard) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await upkeep.set_ward_open(tx, ward, reason=body.reason)
            return Answered({"ward": ward, "open": False}, "ward", ward)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)

    @routes.post("/wards/{ward}/opening", summary="Let patients into a ward again")
    async def open_ward(request: Request, ward: str) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await upkeep.set_ward_open(tx, ward, reason=None)
            return Answered({"ward": ward, "open": True}, "ward", ward)

        return await door.command(request, Permission.BEDS_MANAGE, act)
