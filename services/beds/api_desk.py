"""Doors of the allocation desk: the queue, proposals with their reasons, assignment, refusal, rules, a patient's own place."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.beds import actions, desk, links, store
from services.beds.actions import Pool
from services.beds.rules import SoftRule, decide_again, weights_of
from shared.access.policy import Permission
from shared.contracts.envelope import Code, TravelMinutes
from shared.db import Transaction
from shared.errors import NotFound
from shared.web import Answered, Body, Caller, Door, page_of

Version = Annotated[int, Field(ge=1, le=2**31 - 1, description="The bed's version as it was seen.")]
BedId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class AssignBed(Body):
    """The bed somebody chose for a waiting patient."""

    bed_id: BedId
    version: Version
    reason: Annotated[Code | None, Field(description="Why a rule is overridden.")] = None
    travel_minutes: Annotated[TravelMinutes | None, Field(description="How long the way to the hospital is.")] = None


class RefuseBed(Body):
    """Ward or patient says no to the held bed."""

    by: Literal["ward", "patient"]
    reason: Code
    keeps_place: bool = True


class PlanItem(Body):
    """One proposal of a plan, as it was seen."""

    encounter_id: UUID
    bed_id: BedId
    version: Version


class AcceptPlan(Body):
    """Proposals to take."""

    items: Annotated[list[PlanItem], Field(min_length=1, max_length=100)]


class Weight(Body):
    """What one soft rule weighs."""

    rule: SoftRule
    points: Annotated[int, Field(ge=0, le=10_000)]


class SetWeights(Body):
    """What soft rules weigh from now on; rules that are not named keep their weight."""

    weights: Annotated[list[Weight], Field(min_length=1, max_length=len(SoftRule))]


class LinkToken(Body):
    """The secret part of a patient's link."""

    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{20,80}$")]


def queued(row: Any, now: Any) -> dict[str, Any]:
    """Return one waiting request as people see it: no name, but what the patient needs, the place, and why that place."""
    needs = [row["level"]] if row["level"] != "normal" else []
    needs += [f"isolation_{row['isolation']}"] if row["isolation"] != "none" else []
    needs += [f"class_{row['class']}"] if row["class"] != "any" else []
    needs += list(row["equipment"])
    return {
        "encounter_id": row["encounter_id"],
        "patient": {
            "patient_tok": row["patient_tok"],
            "sex": row["sex"],
            "age_years": row["age_years"],
            "isolation": row["isolation"],
        },
        "kind": row["kind"],
        "state": row["state"],
        "urgency": row["urgency"],
        "specialty": row["specialty"],
        "needs": needs,
        "place": row["place"],
        "waiting_reason": row["waiting_reason"],
        "why": {
            "priority": row["urgency"],
            "booked": row["from_at"] > row["requested_at"],
            "waited_minutes": max(0, int((now - row["requested_at"]).total_seconds() // 60)),
            "place_lost": row["place_at"] is not None,
        },
        "travel_minutes": row["travel_minutes"],
        "from_at": row["from_at"],
        "requested_at": row["requested_at"],
    }


def silent(row: Any) -> dict[str, Any]:
    """Return one assignment whose ward is silent, as the desk shows it."""
    return {
        "encounter_id": row["encounter_id"],
        "patient": {name: row[name] for name in ("patient_tok", "sex", "age_years", "isolation")},
        "urgency": row["urgency"],
        "bed_id": row["bed_id"],
        "code": row["code"],
        "ward": row["ward"],
        "held_since": row["held_since"],
        "held_until": row["hold_expires"],
        "escalated_at": row["escalated_at"],
    }


def add_desk_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    """Add the doors of the desk."""
    _queue_routes(routes, door, pool)
    _decision_routes(routes, door, pool)
    _plan_routes(routes, door, pool)
    _link_routes(routes, door, pool)


def _queue_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.get("/requests", summary="Who waits for a bed, in which place and why, without names")
    async def list_requests(request: Request) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            rows = await store.list_queue(tx, limit=page.limit)
            return Answered({"requests": [queued(row, tx.now) for row in rows]}, "bed_requests", audited=True)

        return await door.query(request, Permission.BEDS_ASSIGN, read)

    @routes.get("/requests/{encounter_id}/proposals", summary="The five best beds for a request, and why no others")
    async def list_proposals(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            row = await store.get_queued(tx, encounter_id)
            if row is None:
                raise NotFound("The pool has no request of this stay.")
            need = actions.need_of(pool, row, actions.begins_at(tx, row))
            body = {"request": queued(row, tx.now), **desk.proposals(pool, need)}
            return Answered(body, "bed_proposals", encounter_id, row["patient_tok"])

        return await door.query(request, Permission.BEDS_ASSIGN, read)

    @routes.post("/requests/{encounter_id}/assignment", summary="Hold the chosen bed for a waiting patient")
    async def assign(request: Request, encounter_id: UUID, body: AssignBed) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            tx.correlation_id = encounter_id
            held = await desk.assign_chosen_bed(
                tx,
                pool,
                encounter_id,
                bed_id=body.bed_id,
                version=body.version,
                reason=body.reason,
                travel_minutes=body.travel_minutes,
            )
            answer = {
                "encounter_id": encounter_id,
                "bed_id": held.bed.bed_id,
                "bed_code": held.bed.code,
                "held_until": held.held_until,
            }
            return Answered(answer, "bed_request", encounter_id)

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)

    @routes.post("/encounters/{encounter_id}/refusal", summary="Ward or patient says no to the held bed")
    async def refuse(request: Request, encounter_id: UUID, body: RefuseBed) -> Response:
        permission = Permission.BEDS_CLEAN if body.by == "ward" else Permission.BEDS_ASSIGN

        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            held = await store.locked_request(tx, encounter_id)
            caller.require(permission, ward=held["ward"])
            row = await desk.refuse_bed(
                tx, pool, encounter_id, by=body.by, reason=body.reason, keeps_place=body.keeps_place
            )
            return Answered(
                {"state": row["state"], "place": row["place"]}, "bed_request", encounter_id, row["patient_tok"]
            )

        return await door.command(request, permission, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/acceptance", summary="The ward takes the patient who was given a bed in it"
    )
    async def accept(request: Request, encounter_id: UUID) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            await desk.accept_assignment(tx, encounter_id, may=caller.requiring(Permission.BEDS_CLEAN))
            return Answered({"encounter_id": encounter_id, "state": "accepted"}, "bed_request", encounter_id)

        return await door.command(request, Permission.BEDS_CLEAN, act)

    @routes.get("/escalations", summary="Beds given to wards that have said neither yes nor no in their time")
    async def list_escalations(request: Request) -> Response:
        page = page_of(request)

        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            rows = await store.list_escalated(tx, limit=page.limit)
            return Answered({"escalations": [silent(row) for row in rows]}, "bed_escalations")

        return await door.query(request, Permission.BEDS_ASSIGN, read)


def _decision_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.get("/encounters/{encounter_id}/decisions", summary="Why this stay got the beds it got")
    async def list_decisions(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            rows = await store.list_decisions(tx, encounter_id)
            found = []
            for row in rows:
                then = weights_of(row["rules_version"], row["weights"] or {})
                found.append(
                    {
                        "at": row["at"],
                        "bed_id": row["bed_id"],
                        "by": row["actor"],
                        "rules_version": row["rules_version"],
                        "explanation": row["explanation"],
                        "override_reason": row["override_reason"],
                        "taken_again": decide_again(row["explanation"], then, then),
                        "with_todays_weights": decide_again(row["explanation"], then, pool.mirror.weights),
                    }
                )
            return Answered({"decisions": found}, "bed_decisions", encounter_id)

        return await door.query(request, Permission.BEDS_ASSIGN, read)

    @routes.get("/rules", summary="What each soft rule weighs")
    async def get_rules(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            weights = pool.mirror.weights
            return Answered(
                {
                    "version": weights.version,
                    "weights": {rule.value: points for rule, points in weights.points.items()},
                },
                "rules",
                audited=False,
            )

        return await door.query(request, Permission.BEDS_READ, read)

    @routes.post("/rules", status_code=201, summary="Change what soft rules weigh; older decisions keep theirs")
    async def set_rules(request: Request, body: SetWeights) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            weights = {**pool.mirror.weights.points, **{weight.rule: weight.points for weight in body.weights}}
            version = await store.insert_weights(tx, {rule.value: points for rule, points in weights.items()})
            return Answered({"version": version}, "rules", version, status=201)

        return await door.command(request, Permission.BEDS_MANAGE, act, body=body)


def _plan_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.get("/plan", summary="The planner's proposals for everybody who waits; nothing is held yet")
    async def get_plan(request: Request) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            return Answered(pool.plan.shown(), "bed_plan", audited=True)

        return await door.query(request, Permission.BEDS_ASSIGN, read)

    @routes.post("/plan/acceptance", summary="Take proposals of the plan; what changed meanwhile is said, not taken")
    async def accept_plan(request: Request, body: AcceptPlan) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            items = [(item.encounter_id, item.bed_id, item.version) for item in body.items]
            accepted, changed = await desk.accept_proposals(tx, pool, items)
            return Answered({"accepted": accepted, "changed": changed}, "bed_plan")

        return await door.command(request, Permission.BEDS_ASSIGN, act, body=body)


def _link_routes(routes: APIRouter, door: Door, pool: Pool) -> None:
    @routes.post("/encounters/{encounter_id}/queue-link", status_code=201, summary="A link to the patient's own place")
    async def make_link(request: Request, encounter_id: UUID) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.BEDS_ASSIGN)
            link = await links.make_link(tx, encounter_id, pool.settings)
            return Answered({"path": link.path, "expires_at": link.expires_at}, "queue_link", encounter_id, status=201)

        return await door.command(request, Permission.BEDS_ASSIGN, act)

    @routes.post(
        "/queue-look", summary="A patient's own place in the queue, by the secret of the link; no login, no names"
    )
    async def look(body: LinkToken) -> dict[str, Any]:
        async with door.db.pool.acquire(timeout=10) as conn:
            now = door.db.clock.stamp(await conn.fetchval("SELECT clock_timestamp()"))
            return await links.look(conn, body.token, now)
