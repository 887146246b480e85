"""The free beds in memory, for the one decision that somebody waits for: the five best with their parts, in microseconds.

It gives what `rules.evaluate` gives, over arrays instead of one bed after the other. It proposes; the bed is taken under its ward's
lock, where the rules are asked again, so a list that is a moment old can cost a second try and never a wrong bed.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from services.beds.rules import ADULT_YEARS, Bed, Need, Room, Scored, SoftRule, Ward, Weights, parts_of, room_of

BEST = 5
SIZE_FIRST = 1024

Longs = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_NOBODY, _CLOSED, _ISOLATED = 0, -1, -2
"""The sex of an empty room, of one that nobody may share whom its sex concerns, and of one with somebody isolated in it."""

STATES = 16
"""Room for all sexes that are written down, and the states below zero at the end."""

_MAIN, _AUXILIARY, _OTHER = 0, 1, 2

_LONGS = ("_ident", "_ward", "_kind", "_class", "_equipment", "_isolation", "_room_sex", "_own_points", "_quota")
_REALS = ("_ready",)


class _Names:
    """A number from 1 for every name ever seen."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._known.setdefault(name, len(self._known) + 1)

    def bits(self, names: Iterable[str]) -> int:
        found = 0
        for name in names:
            number = self[name]
            if number > 62:
                raise ValueError("The free list knows at most 62 kinds of equipment.")
            found |= 1 << number
        return found


class FreeList:
    """Every bed that is in service, clean and free. One writer: `put` after each commit that changed a bed."""

    _ident: Longs
    _ward: Longs
    _kind: Longs
    _class: Longs
    _equipment: Longs
    _isolation: Longs
    _room_sex: Longs
    _own_points: Longs
    _quota: Longs
    _ready: Reals

    def __init__(self, wards: Iterable[Ward], weights: Weights, beds: Iterable[Bed] = ()) -> None:
        self._beds: dict[int, Bed] = {}
        self._place: dict[int, int] = {}
        self._of_room: dict[str, set[int]] = {}
        self._rooms: dict[str, Room] = {}
        self._kinds, self._classes, self._sexes, self._things = _Names(), _Names(), _Names(), _Names()
        self._partners = _Names()
        self._taken = np.zeros(0, np.int64)
        self._total = np.zeros(0, np.int64)
        self._load_points = np.zeros(0, np.int64)
        self._ready_last = -np.inf
        self._joining: dict[tuple[str, bool, bool], Flags] = {}
        self.weights = weights
        self.set_wards(wards)
        for name in _LONGS:
            setattr(self, name, np.zeros(SIZE_FIRST, np.int64))
        self._ready = np.zeros(SIZE_FIRST)
        for bed in beds:
            self._settle(bed)
        for room in self._of_room:
            self._tell_room(room)

    def __len__(self) -> int:
        return len(self._place)

    def set_wards(self, wards: Iterable[Ward]) -> None:
        """Take over what the wards are now; a ward that was known keeps its place."""
        known = {ward.ward: ward for ward in getattr(self, "_wards", ())}
        known.update({ward.ward: ward for ward in wards})
        self._wards = list(known.values())
        self._ward_at = {name: place for place, name in enumerate(known)}
        more = len(self._wards) - len(self._total)
        self._taken = np.concatenate([self._taken, np.zeros(more, np.int64)])
        self._total = np.concatenate([self._total, np.zeros(more, np.int64)])
        self._load_points = np.concatenate([self._load_points, np.zeros(more, np.int64)])
        self._exclusive = np.array([ward.exclusive for ward in self._wards], np.bool_)
        self._age_min = np.array([ward.age_min for ward in self._wards], np.int64)
        self._age_max = np.array([ward.age_max for ward in self._wards], np.int64)
        self._is_open = np.array([ward.open for ward in self._wards], np.bool_)
        self._distance: dict[str, Longs] = {}
        self._taking: dict[tuple[str, int | None, bool], Flags] = {}

    def set_weights(self, weights: Weights) -> None:
        """Weigh by these from now on."""
        self.weights = weights
        self._distance = {}
        for ward in range(len(self._wards)):
            self._weigh_load(ward)
        for bed_id, place in self._place.items():
            self._weigh(self._beds[bed_id], place)

    def put(self, bed: Bed) -> None:
        """Take over what a bed is now; the other free beds of its room change with it."""
        before = self._beds.get(bed.bed_id)
        self._settle(bed)
        if before is not None and before.room != bed.room:
            self._tell_room(before.room)
        self._tell_room(bed.room)

    def forget(self, bed_id: int) -> None:
        """Forget a bed that is no more."""
        bed = self._beds.get(bed_id)
        if bed is not None:
            self._uncount(bed)
            del self._beds[bed_id]
            if bed_id in self._place:
                self._drop(bed_id)
            self._tell_room(bed.room)

    def best(self, need: Need, *, limit: int = BEST) -> tuple[Scored, ...]:
        """Return the best beds for this need with the points of each soft rule, fewest points first; none when none fits.

        They are the first of `rules.evaluate` over all beds. Why none fits, that one says.
        """
        size = len(self._place)
        ward = self._ward[:size]
        fits = self._takes(need)[ward]
        fits &= self._kind[:size] == self._kinds[need.kind + "/" + need.level]
        fits &= self._joins(need)[self._room_sex[:size]]
        if need.isolation != "none":
            fits &= self._isolation[:size] == 1
        if not need.quotas_released:
            kept = self._quota[:size]
            fits &= (kept == 0) | (kept == (self._partners[need.partner] if need.partner else 0))
        if need.bed_class != "any":
            fits &= self._class[:size] == self._classes[need.bed_class]
        if need.equipment:
            wanted = self._things.bits(need.equipment)
            fits &= (self._equipment[:size] & wanted) == wanted
        from_at = need.from_at.timestamp()
        if from_at < self._ready_last:
            fits &= self._ready[:size] <= from_at
        found = fits.nonzero()[0]
        if need.refused_beds:
            found = found[~np.isin(self._ident[found], list(need.refused_beds))]
        if not len(found):
            return ()
        # What isolation, class and equipment cost is for all that fit the same but for a constant, so they rank alike.
        points = (self._kinship_points(need.specialty) + self._load_points)[ward[found]] + self._own_points[found]
        if len(found) > limit:
            near = points <= np.partition(points, limit - 1)[limit - 1]
            found, points = found[near], points[near]
        order = np.lexsort((self._ident[found], -self._ready[found], points))[:limit]
        return tuple([self._scored(need, ident) for ident in self._ident[found[order]].tolist()])

    def _joins(self, need: Need) -> Flags:
        """Return for each state of a room whether the patient may come into it; states below zero count from the end."""
        sharing = need.level == "normal" and need.kind == "inpatient"
        key = (need.sex, need.isolation != "none", sharing)
        joins = self._joining.get(key)
        if joins is None:
            joins = np.zeros(STATES, np.bool_)
            joins[_NOBODY] = True
            if need.isolation == "none" and not sharing:
                joins[:] = True
                joins[_ISOLATED] = False
            elif need.isolation == "none" and need.sex != "unknown":
                joins[self._sexes[need.sex]] = True
            self._joining[key] = joins
        return joins

    def _scored(self, need: Need, bed_id: int) -> Scored:
        bed = self._beds[bed_id]
        place = self._ward_at[bed.ward]
        load = 100 * int(self._taken[place]) // int(self._total[place])
        parts = parts_of(need, bed, self._wards[place], self._rooms[bed.room], load, self.weights)
        return Scored(bed, sum(points for _, points in parts), parts)

    def _takes(self, need: Need) -> Flags:
        """Return for every ward whether it takes such a patient at all."""
        watched = need.level == "critical" or need.kind == "day"
        key = (need.specialty, need.age_years, watched)
        takes = self._taking.get(key)
        if takes is None:
            takes = self._is_open.copy()
            if not watched:
                may = ~self._exclusive | (self._kinship(need.specialty) != _OTHER)
                if need.age_years is not None:
                    may |= (self._age_max < ADULT_YEARS) & (need.age_years <= self._age_max)
                takes &= may
            if need.age_years is not None:
                takes &= (self._age_min <= need.age_years) & (need.age_years <= self._age_max)
            self._taking[key] = takes
        if need.refused_wards:
            takes = takes.copy()
            takes[[self._ward_at[name] for name in need.refused_wards if name in self._ward_at]] = False
        return takes

    def _kinship(self, specialty: str) -> Longs:
        return np.array(
            [
                _AUXILIARY if specialty in ward.auxiliary else _MAIN if specialty == ward.specialty else _OTHER
                for ward in self._wards
            ],
            np.int64,
        )

    def _kinship_points(self, specialty: str) -> Longs:
        """Return for every ward what its distance from the specialty costs."""
        points = self._distance.get(specialty)
        if points is None:
            weigh = self.weights.points
            table = np.array([0, weigh[SoftRule.AUXILIARY_WARD], weigh[SoftRule.OTHER_WARD]], np.int64)
            points = table[self._kinship(specialty)]
            self._distance[specialty] = points
        return points

    def _settle(self, bed: Bed) -> None:
        before = self._beds.get(bed.bed_id)
        if before is not None:
            self._uncount(before)
        self._beds[bed.bed_id] = bed
        self._of_room.setdefault(bed.room, set()).add(bed.bed_id)
        ward = self._ward_at[bed.ward]
        self._total[ward] += 1
        self._taken[ward] += bed.commitment != "free"
        self._weigh_load(ward)
        if bed.service == "active" and bed.condition == "U" and bed.commitment == "free":
            self._enter(bed)
        elif bed.bed_id in self._place:
            self._drop(bed.bed_id)

    def _uncount(self, bed: Bed) -> None:
        self._of_room[bed.room].discard(bed.bed_id)
        ward = self._ward_at[bed.ward]
        self._total[ward] -= 1
        self._taken[ward] -= bed.commitment != "free"
        self._weigh_load(ward)

    def _weigh_load(self, ward: int) -> None:
        load = 100 * int(self._taken[ward]) // max(1, int(self._total[ward]))
        self._load_points[ward] = self.weights.points[SoftRule.WARD_LOAD] * load // 100

    def _enter(self, bed: Bed) -> None:
        place = self._place.setdefault(bed.bed_id, len(self._place))
        if place == len(self._ident):
            for name in (*_LONGS, *_REALS):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._ident[place] = bed.bed_id
        self._ward[place] = self._ward_at[bed.ward]
        self._kind[place] = self._kinds[bed.kind + "/" + bed.level]
        self._class[place] = self._classes[bed.bed_class]
        self._equipment[place] = self._things.bits(bed.equipment)
        self._isolation[place] = int(bed.isolation)
        self._quota[place] = 0 if bed.quota is None else self._partners[bed.quota]
        self._ready[place] = bed.busy_until.timestamp() if bed.busy_until else -np.inf
        self._ready_last = max(self._ready_last, float(self._ready[place]))
        self._weigh(bed, place)

    def _weigh(self, bed: Bed, place: int) -> None:
        """Write down the points a patient without wishes would find against the bed."""
        weigh, room = self.weights.points, self._rooms.get(bed.room)
        points = weigh[SoftRule.WASTES_EQUIPMENT] * len(bed.equipment)
        points += weigh[SoftRule.EXTRA_BED] if bed.extra else 0
        points += weigh[SoftRule.WASTES_ISOLATION] if bed.isolation else 0
        points += weigh[SoftRule.WASTES_SINGLE] if bed.bed_class != "standard" else 0
        if room is not None and room.empty:
            points += weigh[SoftRule.OPENS_EMPTY_ROOM] * (len(room.beds) - 1)
        self._own_points[place] = points

    def _drop(self, bed_id: int) -> None:
        """Take a bed out; the last one moves into its place."""
        place = self._place.pop(bed_id)
        last = len(self._place)
        if place != last:
            for name in (*_LONGS, *_REALS):
                column = getattr(self, name)
                column[place] = column[last]
            self._place[int(self._ident[place])] = place

    def _tell_room(self, name: str) -> None:
        """Write into a room's free beds who may still come."""
        room = room_of(self._beds[bed_id] for bed_id in sorted(self._of_room[name]))
        self._rooms[name] = room
        only = next(iter(room.sexes)) if len(room.sexes) == 1 else None
        sex = _CLOSED if only in (None, "unknown") else self._sexes[str(only)]
        if room.empty:
            sex = _NOBODY
        elif room.isolated:
            sex = _ISOLATED
        for bed in room.beds:
            place = self._place.get(bed.bed_id)
            if place is not None:
                self._room_sex[place] = sex
                self._weigh(bed, place)
