"""What people decide at the allocation desk: which of the proposed beds, against which rule, and what ward or patient refuses."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from services.beds import domain, inventory, store
from services.beds.actions import Assigned, Chosen, Pool, begins_at, hold, need_of, require_as_seen, require_open
from services.beds.domain import May
from services.beds.plan import Plan, Waiting, make_plan
from services.beds.rules import (
    Evaluation,
    HardRule,
    Need,
    Scored,
    closing_rule,
    evaluate,
    explanation,
    loads_of,
    parts_of,
    rooms_of,
    soonest,
)
from shared.contracts.beds import AssignmentAccepted, AssignmentEscalated, BedRefused
from shared.db import Database, Transaction, transaction
from shared.errors import NotFound, Refused
from shared.messaging import outbox

PROPOSALS_MAX = 5
PLANNED_MAX = 500
ARCS_MAX = 200
"""Beds looked at for each patient of a plan, the best first."""


def proposals(pool: Pool, need: Need) -> dict[str, Any]:
    """Return the five best beds of the whole hospital with the points against each, and why all others are closed (R03, R38)."""
    judged = pool.mirror.judge_all(need)
    return {
        "rules_version": pool.mirror.weights.version,
        "waiting_reason": None if judged.possible else judged.waiting_reason,
        "soonest": [] if judged.possible else _soonest(pool, need),
        "proposals": [proposal(scored) for scored in judged.possible[:PROPOSALS_MAX]],
        "closed": [
            {"rule": rule.value, "beds": count, "wards": list(judged.closed_wards[rule])}
            for rule, count in sorted(judged.closed.items(), key=lambda group: -group[1])
        ],
    }


def _soonest(pool: Pool, need: Need) -> list[dict[str, Any]]:
    """Return the beds that may be had next: those being cleaned first, then the dirty ones, then those whose patients leave."""
    mirror = pool.mirror
    found = soonest(need, mirror.beds.values(), mirror.wards, mirror.rooms)
    shown = [
        {
            "bed_id": bed.bed_id,
            "code": bed.code,
            "ward": bed.ward,
            "waits_for": rule.value,
            "cleaning": mirror.views[bed.bed_id]["cleaning"],
            "leaving_at": mirror.views[bed.bed_id]["leaving_at"],
        }
        for bed, rule in found
        if mirror.views[bed.bed_id]["cleaning"] or mirror.views[bed.bed_id]["leaving_at"] or rule is HardRule.QUOTA
    ]
    shown.sort(key=_turn)
    return shown[:PROPOSALS_MAX]


def _turn(bed: dict[str, Any]) -> tuple[int, str]:
    cleaning = bed["cleaning"]
    return 2 if cleaning is None else int(cleaning["state"] != "started"), bed["leaving_at"] or ""


def proposal(scored: Scored) -> dict[str, Any]:
    """Return one possible bed as the desk shows it."""
    bed = scored.bed
    return {
        "bed_id": bed.bed_id,
        "code": bed.code,
        "ward": bed.ward,
        "room": bed.room,
        "version": bed.version,
        "score": scored.points,
        "parts": [{"rule": rule.value, "points": points} for rule, points in scored.parts],
    }


async def assign_chosen_bed(
    tx: Transaction,
    pool: Pool,
    encounter_id: UUID,
    *,
    bed_id: int,
    version: int,
    reason: str | None,
    travel_minutes: int | None = None,
) -> Assigned:
    """Hold the bed a person chose, against a rule only with a reason (BED-2); the bed must be as that person saw it.

    Whoever comes from afar has it held longer by the way (R44).

    Raises:
        NotFound: no such bed. Refused: the request does not wait (not_waiting), the bed changed meanwhile (bed_changed), a
            rule closes it (rule_broken: repeat with a reason; rule_firm: nobody may).
    """
    request = await store.locked_request(tx, encounter_id)
    if request["state"] != "waiting":
        raise Refused("This request does not wait for a bed any more.", code="not_waiting", state=request["state"])
    if request["kind"] != "inpatient":
        raise Refused("A day bed is booked for its slot by day surgery.", code="day_bed_by_slot")
    bed_row = await inventory.get_bed(tx, bed_id)
    if bed_row is None:
        raise NotFound("There is no such bed.")
    need = need_of(pool, request, begins_at(tx, request))
    ward, beds = await store.lock_ward(tx, bed_row["ward"])
    rooms, loads = rooms_of(beds), loads_of(beds)
    bed = next(bed for bed in beds if bed.bed_id == bed_id)
    require_as_seen(bed, version)
    rule = closing_rule(need, bed, ward, rooms[bed.room])
    require_open(rule, overridden=reason is not None)
    judged = evaluate(need, beds, {ward.ward: ward}, pool.mirror.weights, rooms=rooms, loads=loads)
    parts = parts_of(need, bed, ward, rooms[bed.room], loads[ward.ward], pool.mirror.weights)
    mine = Scored(bed, sum(points for _, points in parts), parts)
    others = [scored for scored in judged.possible if scored.bed.bed_id != bed_id]
    if travel_minutes is not None:
        await store.mark_travel(tx, encounter_id, travel_minutes)
        request = {**request, "travel_minutes": travel_minutes}
    kept = explanation(Evaluation((mine, *others[:3]), judged.closed, judged.closed_wards))
    if rule is not None:
        kept["overridden"] = rule.value
    return await hold(tx, pool, request, Chosen(bed, kept, pool.mirror.weights), override_reason=reason)


async def refuse_bed(
    tx: Transaction, pool: Pool, encounter_id: UUID, *, by: Literal["ward", "patient"], reason: str, keeps_place: bool
) -> Any:
    """Ward or patient says no to the held bed; the request waits again, and that ward or bed is not offered again (R36).

    A ward that says nothing for `refusal_minutes` is too late, and the bed managers are told (`escalate_silence`). A patient
    who refuses keeps the place only when that is said.

    Raises:
        Refused: no bed is held (nothing_held), it is a day bed (day_bed_by_slot), the ward is too late (too_late_to_refuse).
    """
    request = await store.locked_request(tx, encounter_id)
    if request["state"] != "assigned":
        raise Refused("No bed is held for this stay.", code="nothing_held")
    if request["kind"] != "inpatient":
        raise Refused("A day bed is booked for its slot by day surgery.", code="day_bed_by_slot")
    limit = request["during"].lower + timedelta(minutes=pool.settings.refusal_minutes)
    if by == "ward" and tx.now > limit:
        raise Refused("The ward had its time to refuse; ask the bed manager.", code="too_late_to_refuse")
    await store.release_hold(tx, request, state="waiting")
    await store.note_refusal(tx, request, ward=request["ward"] if by == "ward" else None, loses_place=not keeps_place)
    outbox.append(
        tx,
        BedRefused(
            encounter_id=encounter_id,
            patient_tok=request["patient_tok"],
            bed_id=request["bed_id"],
            by=by,
            reason=reason,
        ),
    )
    return await store.get_queued(tx, encounter_id)


async def accept_assignment(tx: Transaction, encounter_id: UUID, *, may: May) -> None:
    """The ward takes the patient who was given a bed in it; said twice, it changes nothing more.

    Raises:
        Refused: no bed is held (nothing_held), or it is a day bed (day_bed_by_slot).
    """
    request = await store.locked_request(tx, encounter_id)
    may(request["ward"])
    if request["state"] != "assigned" or request["claim_id"] is None:
        raise Refused("No bed is held for this stay.", code="nothing_held")
    if request["kind"] != "inpatient":
        raise Refused("A day bed is booked for its slot by day surgery.", code="day_bed_by_slot")
    if await store.mark_accepted(tx, encounter_id):
        outbox.append(
            tx,
            AssignmentAccepted(
                encounter_id=encounter_id,
                patient_tok=request["patient_tok"],
                bed_id=request["bed_id"],
                ward=request["ward"],
            ),
        )


async def escalate_silence(tx: Transaction, pool: Pool) -> int:
    """Tell the bed managers of wards that neither took nor refused a patient in their time (R36); each assignment once."""
    rows = await store.list_silent(tx, pool.settings.refusal)
    for row in rows:
        tx.correlation_id = row["encounter_id"]
        await store.mark_escalated(tx, row["encounter_id"])
        outbox.append(
            tx,
            AssignmentEscalated(
                encounter_id=row["encounter_id"],
                patient_tok=row["patient_tok"],
                bed_id=row["bed_id"],
                ward=row["ward"],
                escalated_at=tx.now,
            ),
        )
    return len(rows)


async def accept_proposals(
    tx: Transaction, pool: Pool, items: Sequence[tuple[UUID, int, int]]
) -> tuple[list[UUID], list[dict[str, Any]]]:
    """Hold the beds of a plan, each on its own; returns who got one, and for the others what changed meanwhile."""
    accepted: list[UUID] = []
    changed: list[dict[str, Any]] = []
    for encounter_id, bed_id, version in items:
        tx.correlation_id = encounter_id
        try:
            async with tx.conn.transaction():
                await assign_chosen_bed(tx, pool, encounter_id, bed_id=bed_id, version=version, reason=None)
        except (Refused, NotFound) as problem:
            changed.append({"encounter_id": encounter_id, "code": problem.code})
        else:
            accepted.append(encounter_id)
    return accepted, changed


async def plan_anew(db: Database, pool: Pool) -> None:
    """Make the plan from the queue and the pool as they are now, outside the event loop."""
    async with transaction(db) as tx:
        rows = await store.list_queue(tx, limit=PLANNED_MAX)
        now = tx.now
        waiting = [
            Waiting(
                row["encounter_id"],
                need_of(pool, row, begins_at(tx, row)),
                domain.cost_of_waiting(row["urgency"], now - row["requested_at"]),
                int((now - row["requested_at"]).total_seconds() // 60),
            )
            for row in rows
            if row["kind"] == "inpatient"
        ]
    if not waiting:
        pool.plan = Plan()
        return
    choices = [pool.mirror.choose(person.need, limit=ARCS_MAX) for person in waiting]
    pool.plan = await asyncio.to_thread(make_plan, waiting, choices, pool.mirror.wards, dict(pool.mirror.rooms))
