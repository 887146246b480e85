"""The plan for everybody who waits: who would get which bed when all are looked at together. Values in, a plan out.

It is made again and again in the background and held by nobody until a person takes it; each proposal carries the bed's
version, so who takes it later is told when the bed changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.beds.rules import Need, Scored


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


def make_plan(waiting: Sequence[Waiting], choices: Sequence[Sequence[Scored]]) -> Plan:
    """Give beds to those whose waiting costs most first; `choices` are each one's possible beds, best first."""
    taken: set[int] = set()
    sexes: dict[str, str] = {}
    proposals: list[Proposal] = []
    unplaced: list[Waiting] = []
    order = sorted(range(len(waiting)), key=lambda number: -waiting[number].cost_of_waiting)
    for number in order:
        person = waiting[number]
        scored = next(
            (
                choice
                for choice in choices[number]
                if choice.bed.bed_id not in taken and sexes.get(choice.bed.room, person.need.sex) == person.need.sex
            ),
            None,
        )
        if scored is None:
            unplaced.append(person)
            continue
        taken.add(scored.bed.bed_id)
        sexes[scored.bed.room] = person.need.sex
        proposals.append(Proposal(person, scored))
    return Plan(proposals=tuple(proposals), unplaced=tuple(unplaced))
