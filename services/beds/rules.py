"""The rules of allocation: which beds a patient may have at all, and what each of the others would cost. Pure.

Hard rules close a bed; each closed bed names the first rule that closed it. Soft rules have weights, and the weights are
data (`Weights`): a hospital changes them without code, and every decision keeps the version it was taken with.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.contracts.beds import WaitingReason


class HardRule(StrEnum):
    """What can close a bed to a patient, in the order it is asked."""

    KIND = "kind"
    LEVEL = "level"
    WARD_EXCLUSIVE = "ward_exclusive"
    AGE = "age"
    CLASS = "class"
    EQUIPMENT = "equipment"
    REFUSED = "refused"
    QUOTA = "quota"
    WARD_CLOSED = "ward_closed"
    SERVICE = "service"
    COMMITMENT = "commitment"
    CONDITION = "condition"
    ISOLATION = "isolation"
    SEX_OF_ROOM = "sex_of_room"


class SoftRule(StrEnum):
    """What makes a possible bed a worse one."""

    OTHER_WARD = "other_ward"
    AUXILIARY_WARD = "auxiliary_ward"
    OPENS_EMPTY_ROOM = "opens_empty_room"
    WASTES_ISOLATION = "wastes_isolation"
    WASTES_SINGLE = "wastes_single"
    WASTES_EQUIPMENT = "wastes_equipment"
    WARD_LOAD = "ward_load"
    EXTRA_BED = "extra_bed"


DEFAULT_WEIGHTS: Mapping[SoftRule, int] = {
    SoftRule.OTHER_WARD: 100,
    SoftRule.AUXILIARY_WARD: 30,
    SoftRule.OPENS_EMPTY_ROOM: 20,
    SoftRule.WASTES_ISOLATION: 60,
    SoftRule.WASTES_SINGLE: 40,
    SoftRule.WASTES_EQUIPMENT: 8,
    SoftRule.WARD_LOAD: 10,
    SoftRule.EXTRA_BED: 50,
}

_WAITING: Mapping[HardRule, WaitingReason] = {
    HardRule.KIND: "no_bed_of_that_kind",
    HardRule.LEVEL: "no_bed_of_that_kind",
    HardRule.WARD_EXCLUSIVE: "no_bed_of_that_kind",
    HardRule.AGE: "no_ward_for_age",
    HardRule.CLASS: "no_bed_of_that_class",
    HardRule.EQUIPMENT: "no_equipment",
    HardRule.REFUSED: "no_free_bed",
    HardRule.QUOTA: "no_free_bed",
    HardRule.WARD_CLOSED: "ward_closed",
    HardRule.SERVICE: "no_free_bed",
    HardRule.COMMITMENT: "no_free_bed",
    HardRule.CONDITION: "no_free_bed",
    HardRule.ISOLATION: "no_isolation_room",
    HardRule.SEX_OF_ROOM: "no_room_of_that_sex",
}
ADULT_YEARS = 18
OVERRIDABLE = frozenset(
    {
        HardRule.WARD_EXCLUSIVE,
        HardRule.CLASS,
        HardRule.EQUIPMENT,
        HardRule.REFUSED,
        HardRule.AGE,
        HardRule.SEX_OF_ROOM,
        HardRule.QUOTA,
    }
)
"""What a bed manager may override with a reason; a taken, dirty, broken or infectious bed nobody may."""
_NEAREST = (
    HardRule.SEX_OF_ROOM,
    HardRule.ISOLATION,
    HardRule.COMMITMENT,
    HardRule.CONDITION,
    HardRule.SERVICE,
    HardRule.WARD_CLOSED,
    HardRule.QUOTA,
    HardRule.REFUSED,
)
"""Rules that close a bed which would do otherwise, the one that is nearest to a bed first."""
_ORDER = {rule: number for number, rule in enumerate(HardRule)}


@dataclass(frozen=True, slots=True)
class Ward:
    """A ward as the rules see it."""

    ward: str
    specialty: str = "general"
    auxiliary: frozenset[str] = frozenset()
    exclusive: bool = False
    age_min: int = 0
    age_max: int = 130
    open: bool = True


@dataclass(frozen=True, slots=True)
class Bed:
    """A bed as the rules see it: what it is, and its three axes of state."""

    bed_id: int
    code: str
    ward: str
    room: str
    kind: str = "inpatient"
    level: str = "normal"
    bed_class: str = "standard"
    isolation: bool = False
    equipment: frozenset[str] = frozenset()
    extra: bool = False
    quota: str | None = None
    service: str = "active"
    condition: str = "U"
    commitment: str = "free"
    sex: str | None = None
    isolation_patient: bool = False
    busy_until: datetime | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Need:
    """What a patient needs of a bed."""

    sex: str
    from_at: datetime
    specialty: str = "general"
    isolation: str = "none"
    level: str = "normal"
    kind: str = "inpatient"
    bed_class: str = "any"
    equipment: frozenset[str] = frozenset()
    age_years: int | None = None
    partner: str | None = None
    quotas_released: bool = False
    refused_wards: frozenset[str] = frozenset()
    refused_beds: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of the soft rules and the version they have."""

    version: int = 0
    points: Mapping[SoftRule, int] = field(default_factory=lambda: DEFAULT_WEIGHTS)


@dataclass(frozen=True, slots=True)
class Room:
    """The beds of one room, and what those in it make of it."""

    beds: tuple[Bed, ...]
    sexes: frozenset[str | None]
    isolated: bool

    @property
    def empty(self) -> bool:
        """Say whether nobody lies in the room or is expected there."""
        return not self.sexes


@dataclass(frozen=True, slots=True)
class Scored:
    """A bed the patient may have, with what each soft rule says against it; fewer points are better."""

    bed: Bed
    points: int
    parts: tuple[tuple[SoftRule, int], ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every bed judged for one patient: possible ones best first, closed ones counted by the first rule that closed them."""

    possible: tuple[Scored, ...]
    closed: Mapping[HardRule, int]
    closed_wards: Mapping[HardRule, tuple[str, ...]]

    @property
    def waiting_reason(self) -> WaitingReason:
        """Return why the patient must wait: what keeps the beds that would do, else what no bed does."""
        for rule in _NEAREST:
            if self.closed.get(rule):
                return _WAITING[rule]
        return _WAITING[max(self.closed, key=_ORDER.__getitem__)] if self.closed else "no_bed_of_that_kind"


def room_of(beds: Iterable[Bed]) -> Room:
    """Return what the people in a room make of it."""
    all_beds = tuple(beds)
    taken = [bed for bed in all_beds if bed.commitment != "free"]
    return Room(all_beds, frozenset(bed.sex for bed in taken), any(bed.isolation_patient for bed in taken))


def soonest(
    need: Need, beds: Iterable[Bed], wards: Mapping[str, Ward], rooms: Mapping[str, Room]
) -> list[tuple[Bed, HardRule]]:
    """Return the beds this patient may have as soon as they are clean, empty or theirs to give, with what they wait for.

    It answers "when, then?" where no bed is possible now (R10): a dirty bed, one whose patient leaves, a partner's bed before
    its hour. A room is judged without the bed's own patient.
    """
    found: list[tuple[Bed, HardRule]] = []
    for bed in beds:
        ward, room = wards[bed.ward], rooms[bed.room]
        rule = closing_rule(need, bed, ward, room)
        if rule not in (HardRule.COMMITMENT, HardRule.CONDITION, HardRule.QUOTA):
            continue
        then = replace(bed, commitment="free", condition="U", busy_until=None, quota=None)
        around = room_of(then if other.bed_id == bed.bed_id else other for other in room.beds)
        if closing_rule(need, then, ward, around) is None:
            found.append((bed, rule))
    return found


def _ward_takes(need: Need, ward: Ward) -> bool:
    """Say whether an exclusive ward is for this patient; a child belongs to the children's ward whatever the specialty."""
    if not ward.exclusive or need.level == "critical" or need.kind == "day":
        return True
    children = ward.age_max < ADULT_YEARS and need.age_years is not None and need.age_years <= ward.age_max
    return children or need.specialty == ward.specialty or need.specialty in ward.auxiliary


def closing_rule(need: Need, bed: Bed, ward: Ward, room: Room) -> HardRule | None:
    """Return the first hard rule that closes this bed to this patient, or nothing."""
    if bed.kind != need.kind:
        return HardRule.KIND
    if bed.level != need.level:
        return HardRule.LEVEL
    if not _ward_takes(need, ward):
        return HardRule.WARD_EXCLUSIVE
    if need.age_years is not None and not ward.age_min <= need.age_years <= ward.age_max:
        return HardRule.AGE
    if need.bed_class not in ("any", bed.bed_class):
        return HardRule.CLASS
    if not need.equipment <= bed.equipment:
        return HardRule.EQUIPMENT
    if ward.ward in need.refused_wards or bed.bed_id in need.refused_beds:
        return HardRule.REFUSED
    if bed.quota not in (None, need.partner) and not need.quotas_released:
        return HardRule.QUOTA
    if not ward.open:
        return HardRule.WARD_CLOSED
    if bed.service != "active":
        return HardRule.SERVICE
    if bed.commitment != "free" or (bed.busy_until is not None and bed.busy_until > need.from_at):
        return HardRule.COMMITMENT
    if bed.condition != "U":
        return HardRule.CONDITION
    if need.isolation != "none":
        if not bed.isolation or not room.empty:
            return HardRule.ISOLATION
    elif room.isolated:
        return HardRule.ISOLATION
    # Intensive care looks after all in one hall; elsewhere a room is of one sex, and unknown shares with nobody.
    shares = need.level == "normal" and need.kind == "inpatient" and not room.empty
    if shares and (need.sex == "unknown" or room.sexes != {need.sex}):
        return HardRule.SEX_OF_ROOM
    return None


def parts_of(
    need: Need, bed: Bed, ward: Ward, room: Room, load_percent: int, weights: Weights
) -> tuple[tuple[SoftRule, int], ...]:
    """Return what each soft rule says against this bed."""
    points = weights.points
    found: list[tuple[SoftRule, int]] = []
    if need.specialty in ward.auxiliary:
        found.append((SoftRule.AUXILIARY_WARD, points[SoftRule.AUXILIARY_WARD]))
    elif need.specialty != ward.specialty:
        found.append((SoftRule.OTHER_WARD, points[SoftRule.OTHER_WARD]))
    if room.empty and len(room.beds) > 1:
        found.append((SoftRule.OPENS_EMPTY_ROOM, points[SoftRule.OPENS_EMPTY_ROOM] * (len(room.beds) - 1)))
    if bed.isolation and need.isolation == "none":
        found.append((SoftRule.WASTES_ISOLATION, points[SoftRule.WASTES_ISOLATION]))
    if bed.bed_class != "standard" and need.bed_class == "any":
        found.append((SoftRule.WASTES_SINGLE, points[SoftRule.WASTES_SINGLE]))
    if unused := len(bed.equipment - need.equipment):
        found.append((SoftRule.WASTES_EQUIPMENT, points[SoftRule.WASTES_EQUIPMENT] * unused))
    if load := points[SoftRule.WARD_LOAD] * load_percent // 100:
        found.append((SoftRule.WARD_LOAD, load))
    if bed.extra:
        found.append((SoftRule.EXTRA_BED, points[SoftRule.EXTRA_BED]))
    return tuple(found)


def _tie(scored: Scored) -> tuple[int, float, int]:
    """Prefer fewer points, then the bed used most recently, so that untouched rooms stay whole."""
    used_at = scored.bed.busy_until.timestamp() if scored.bed.busy_until else float("-inf")
    return (scored.points, -used_at, scored.bed.bed_id)


def rooms_of(beds: Iterable[Bed]) -> dict[str, Room]:
    """Return the rooms of these beds; every bed of a room must be among them."""
    rooms: dict[str, list[Bed]] = {}
    for bed in beds:
        rooms.setdefault(bed.room, []).append(bed)
    return {room: room_of(found) for room, found in rooms.items()}


def loads_of(beds: Iterable[Bed]) -> dict[str, int]:
    """Return how full each ward is, in percent."""
    taken: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for bed in beds:
        total[bed.ward] += 1
        taken[bed.ward] += bed.commitment != "free"
    return {ward: 100 * taken[ward] // total[ward] for ward in total}


def evaluate(
    need: Need,
    beds: Iterable[Bed],
    wards: Mapping[str, Ward],
    weights: Weights,
    *,
    rooms: Mapping[str, Room],
    loads: Mapping[str, int],
) -> Evaluation:
    """Judge each of these beds for one patient."""
    possible: list[Scored] = []
    closed: Counter[HardRule] = Counter()
    closed_wards: dict[HardRule, dict[str, None]] = {}
    for bed in beds:
        ward, room = wards[bed.ward], rooms[bed.room]
        rule = closing_rule(need, bed, ward, room)
        if rule is not None:
            closed[rule] += 1
            closed_wards.setdefault(rule, {})[bed.ward] = None
            continue
        parts = parts_of(need, bed, ward, room, loads[bed.ward], weights)
        possible.append(Scored(bed, sum(points for _, points in parts), parts))
    possible.sort(key=_tie)
    return Evaluation(tuple(possible), dict(closed), {rule: tuple(found)[:5] for rule, found in closed_wards.items()})


# ---- explanations ----------------------------------------------------------------------------------------------------


def explanation(evaluation: Evaluation) -> dict[str, Any]:
    """Return what a decision keeps: the best four beds with the points against each, and the closed groups."""
    return {
        "choices": [
            {
                "bed_id": scored.bed.bed_id,
                "code": scored.bed.code,
                "version": scored.bed.version,
                "parts": {rule.value: points for rule, points in scored.parts},
            }
            for scored in evaluation.possible[:4]
        ],
        "closed": {rule.value: count for rule, count in evaluation.closed.items()},
    }


def decide_again(kept: Mapping[str, Any], then: Weights, now: Weights) -> int | None:
    """Return the bed that the kept decision takes under other weights: each part is scaled by what its rule weighs now.

    With the weights of its own time this is the bed that was chosen, for every decision the pool took by itself.
    """
    best: tuple[float, int] | None = None
    for number, choice in enumerate(kept["choices"]):
        points = sum(
            part * now.points[SoftRule(rule)] / then.points[SoftRule(rule)] if then.points[SoftRule(rule)] else part
            for rule, part in choice["parts"].items()
        )
        if best is None or points < best[0] - 1e-9:
            best = (points, number)
    return None if best is None else int(kept["choices"][best[1]]["bed_id"])


def weights_of(version: int, stored: Mapping[str, int]) -> Weights:
    """Return stored weights; a rule that is newer than they are has its default."""
    return Weights(version, {rule: int(stored.get(rule, DEFAULT_WEIGHTS[rule])) for rule in SoftRule})


def taken_for(bed: Bed, need: Need) -> Bed:
    """Return the bed as it is once it is held for this patient, for decisions that come after it in one plan."""
    return replace(
        bed, commitment="held", sex=need.sex, isolation_patient=need.isolation != "none", version=bed.version + 1
    )
