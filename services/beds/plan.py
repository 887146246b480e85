"""The plan for everybody who waits: who would get which bed when all are looked at together. Values in, a plan out.

It is made again and again in the background and held by nobody until a person takes it; each proposal carries the bed's
version, so who takes it later is told when the bed changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np

from services.beds.planner.batch import ANY, FEMALE, MALE, OPEN, UNKNOWN, BatchProblem, plan_batch
from services.beds.rules import Need, Room, Scored, Ward, closing_rule, room_of, taken_for

PLAN_SECONDS_MAX = 0.3
_SEXES = {"male": MALE, "female": FEMALE}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One patient of the plan."""

    encounter_id: UUID
    need: Need
    cost_of_waiting: int
    waited_minutes: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A bed for a patient, as it was when the plan was made."""

    waiting: Waiting
    scored: Scored


@dataclass(frozen=True, slots=True)
class Plan:
    """Who would get which bed, and who would go on waiting."""

    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    proposals: tuple[Proposal, ...] = ()
    unplaced: tuple[Waiting, ...] = ()

    def shown(self) -> dict[str, Any]:
        """Return the plan as the desk shows it."""
        return {
            "made_at": self.made_at,
            "quality": {"placed": len(self.proposals), "waiting": len(self.proposals) + len(self.unplaced)},
            "proposals": [
                {
                    "encounter_id": proposal.waiting.encounter_id,
                    "bed_id": proposal.scored.bed.bed_id,
                    "code": proposal.scored.bed.code,
                    "ward": proposal.scored.bed.ward,
                    "version": proposal.scored.bed.version,
                    "waited_minutes": proposal.waiting.waited_minutes,
                    "parts": [{"rule": rule.value, "points": points} for rule, points in proposal.scored.parts],
                }
                for proposal in self.proposals
            ],
            "unplaced": [{"encounter_id": waiting.encounter_id} for waiting in self.unplaced],
        }


def make_plan(
    waiting: Sequence[Waiting],
    choices: Sequence[Sequence[Scored]],
    wards: Mapping[str, Ward],
    rooms: Mapping[str, Room],
    *,
    deadline_seconds: float = PLAN_SECONDS_MAX,
) -> Plan:
    """Give beds to all who wait, so that points and waiting together cost least; `choices` are each one's possible beds.

    The matching knows beds, points and sexes. What it does not know, such as two isolated patients for one room, is asked of
    the rules once more, in the order in which waiting costs most, with the patients placed before in their beds.
    """
    beds = {scored.bed.bed_id: scored.bed for found in choices for scored in found}
    number_of_bed = {bed_id: number for number, bed_id in enumerate(beds)}
    number_of_room = {room: number for number, room in enumerate(dict.fromkeys(bed.room for bed in beds.values()))}
    arcs = [
        (number, number_of_bed[scored.bed.bed_id], scored.points)
        for number, found in enumerate(choices)
        for scored in found
    ]
    arc_columns = np.array(arcs, np.int64).reshape(-1, 3)
    found = plan_batch(
        BatchProblem(
            requests=len(waiting),
            beds=len(beds),
            room_of_bed=np.array([number_of_room[bed.room] for bed in beds.values()], np.int64),
            room_sex=np.array([_sex_of(rooms[room]) for room in number_of_room], np.int64),
            sex_of_request=np.array([_SEXES.get(person.need.sex, UNKNOWN) for person in waiting], np.int64),
            arc_request=arc_columns[:, 0],
            arc_bed=arc_columns[:, 1],
            arc_cost=arc_columns[:, 2],
            unassigned_cost=np.array([person.cost_of_waiting for person in waiting], np.int64),
        ),
        deadline_seconds=deadline_seconds,
    )
    bed_ids = list(beds)
    proposals: list[Proposal] = []
    unplaced: list[Waiting] = []
    rooms_then = dict(rooms)
    for number in sorted(range(len(waiting)), key=lambda index: -waiting[index].cost_of_waiting):
        person, place = waiting[number], int(found.bed_of_request[number])
        bed = None if place < 0 else beds[bed_ids[place]]
        if bed is None or closing_rule(person.need, bed, wards[bed.ward], rooms_then[bed.room]) is not None:
            unplaced.append(person)
            continue
        scored = next(scored for scored in choices[number] if scored.bed.bed_id == bed.bed_id)
        proposals.append(Proposal(person, scored))
        rooms_then[bed.room] = room_of(
            taken_for(bed, person.need) if other.bed_id == bed.bed_id else other for other in rooms_then[bed.room].beds
        )
    return Plan(proposals=tuple(proposals), unplaced=tuple(unplaced))


def _sex_of(room: Room) -> int:
    """Return what a room is to the matching; intensive care has no rule of sex, and there all are in one hall."""
    if any(bed.level == "critical" for bed in room.beds):
        return ANY
    if room.empty:
        return OPEN
    return _SEXES.get(next(iter(room.sexes)) or "unknown", ANY) if len(room.sexes) == 1 else ANY
