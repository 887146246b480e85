"""What the live views are made of: census per ward, journeys in flight, how far the topics were read, and traces as waterfalls. Pure.

Two topics have no order between them, and a topic may be told twice. So nothing here depends on the order of topics, and
every event counts once: states follow the newest version of their aggregate, occupancies are counted.
"""

from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.contracts.admission import (
    AdmissionCancelled,
    DischargeCancelled,
    DischargeOrdered,
    DischargeOrderUndone,
    PatientAdmitted,
    PatientDischarged,
    PreAdmissionCancelled,
    PreAdmissionRegistered,
)
from shared.contracts.beds import (
    AnnouncedTransferCancelled,
    BedAdded,
    BedAssigned,
    BedHoldExpired,
    BedOccupied,
    BedRefused,
    BedRequestCancelled,
    BedTransferred,
    BedVacated,
    BedWaitlisted,
    TransferAnnounced,
    TransferCancelled,
)
from shared.contracts.daysurgery import (
    DayBedRequested,
    DaySurgeryArrived,
    DaySurgeryBooked,
    DaySurgeryCancelled,
    DaySurgeryConverted,
    DaySurgeryDischarged,
    DaySurgeryReferred,
    OperationFinished,
    OperationStarted,
)
from shared.contracts.envelope import Event

Count = Literal["beds", "occupied", "held"]
Kind = Literal["inpatient", "day_surgery"]

OVER = "over"
_WAITS = "waits_for_a_bed"

STATE_OF_STAY: Mapping[type[Event], str] = {
    PreAdmissionRegistered: _WAITS,
    PreAdmissionCancelled: OVER,
    PatientAdmitted: "admitted",
    AdmissionCancelled: OVER,
    DischargeOrdered: "discharge_ordered",
    DischargeOrderUndone: "admitted",
    PatientDischarged: OVER,
    DischargeCancelled: "admitted",
}
"""What a fact of admission makes of a stay; the names are those of the owner."""

STATE_OF_CASE: Mapping[type[Event], str] = {
    DaySurgeryReferred: "referred",
    DayBedRequested: _WAITS,
    DaySurgeryBooked: _WAITS,
    DaySurgeryCancelled: OVER,
    DaySurgeryArrived: "arrived",
    OperationStarted: "in_theatre",
    OperationFinished: "operated",
    DaySurgeryDischarged: OVER,
    DaySurgeryConverted: OVER,
}
"""What a fact of day surgery makes of a case."""

_WAITING_NAMES: Mapping[Kind, Mapping[str, str]] = {
    "inpatient": {"asked": "pre_admitted", "waiting": "waitlisted", "assigned": "pending_admit"},
    "day_surgery": {"asked": "booking_asked", "waiting": "waitlisted", "assigned": "booked"},
}
"""While somebody waits for a bed, the pool says how far that is; each owner has its own word for it."""


@dataclass(slots=True)
class _Newest:
    """A value and the version that set it; older facts do not change it."""

    value: Any = None
    version: int = 0

    def set(self, value: Any, version: int) -> bool:
        """Take the value unless a newer one is known."""
        if version <= self.version:
            return False
        self.value, self.version = value, version
        return True


@dataclass(slots=True)
class _Stay:
    """All that is remembered of one stay."""

    stay: _Newest = field(default_factory=_Newest)
    case: _Newest = field(default_factory=_Newest)
    request: _Newest = field(default_factory=_Newest)
    hold: _Newest = field(default_factory=_Newest)
    shown: tuple[Kind, str] | None = None
    lies_in: dict[int, tuple[str, int]] = field(default_factory=dict)


class Versions:
    """Says of each version of an aggregate whether it comes for the first time, in whatever order they come."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}
        self._missing: dict[tuple[str, str], set[int]] = {}

    def is_new(self, topic: str, aggregate_id: str, version: int) -> bool:
        """Remember the version; False when it was there before."""
        key = (topic, aggregate_id)
        last = self._last.get(key, 0)
        if version > last:
            if version > last + 1:
                self._missing.setdefault(key, set()).update(range(last + 1, version))
            self._last[key] = version
            return True
        missing = self._missing.get(key)
        if missing is None or version not in missing:
            return False
        missing.discard(version)
        if not missing:
            del self._missing[key]
        return True


class Views:
    """The live views. They are kept in the two mappings given, so that a stream processor's tables can hold them."""

    def __init__(
        self, census: MutableMapping[str, dict[str, int]], journeys: MutableMapping[str, dict[str, int]]
    ) -> None:
        self._census = census
        self._journeys = journeys
        self._versions = Versions()
        self._stays: dict[UUID, _Stay] = {}

    def apply(self, event: Event, version: int) -> bool:
        """Take in one fact; False when it was there before (a topic may be told twice, R16)."""
        if not self._versions.is_new(event.topic.name, event.aggregate_id, version):
            return False
        if isinstance(event, BedAdded):
            self._count(event.ward, "beds", 1)
        elif isinstance(event, BedVacated) and not event.shared:
            self._lie(self._stay(event.encounter_id), event.bed_id, event.ward, -1)
        elif type(event) in STATE_OF_STAY:
            self._take_state(event, "stay", STATE_OF_STAY[type(event)], version)
        elif type(event) in STATE_OF_CASE:
            self._take_state(event, "case", STATE_OF_CASE[type(event)], version)
        else:
            self._take_allocation(event, version)
        return True

    def census(self) -> dict[str, dict[str, int]]:
        """Return beds, occupied and held beds of every ward, equal to what the owner's tables say when all is read."""
        return {ward: dict(counts) for ward, counts in sorted(self._census.items())}

    def journeys_in_flight(self) -> dict[str, dict[str, int]]:
        """Return how many stays and day cases are in which state, those that are over left out."""
        return {
            kind: {state: count for state, count in sorted(states.items()) if count}
            for kind, states in sorted(self._journeys.items())
        }

    def _stay(self, encounter_id: UUID) -> _Stay:
        return self._stays.setdefault(encounter_id, _Stay())

    def _take_state(self, event: Any, part: Literal["stay", "case"], state: str, version: int) -> None:
        stay = self._stay(event.encounter_id)
        newest = stay.stay if part == "stay" else stay.case
        if newest.set(state, version):
            self._show(stay)

    def _take_allocation(self, event: Event, version: int) -> None:
        if isinstance(event, BedAssigned):
            stay = self._stay(event.encounter_id)
            stay.request.set("assigned", version)
            if not event.shared:
                self._hold(stay, event.ward, version)
        elif isinstance(event, TransferAnnounced):
            self._hold(self._stay(event.encounter_id), event.ward, version)
            return
        elif isinstance(event, BedWaitlisted):
            stay = self._stay(event.encounter_id)
            stay.request.set("waiting", version)
        elif isinstance(event, (BedHoldExpired, BedRefused)):
            stay = self._stay(event.encounter_id)
            stay.request.set("waiting", version)
            self._hold(stay, None, version)
        elif isinstance(event, (BedRequestCancelled, AnnouncedTransferCancelled)):
            stay = self._stay(event.encounter_id)
            self._hold(stay, None, version)
        elif isinstance(event, BedOccupied):
            stay = self._stay(event.encounter_id)
            self._hold(stay, None, version)
            if not event.shared:
                self._lie(stay, event.bed_id, event.ward, 1)
        elif isinstance(event, BedTransferred):
            stay = self._stay(event.encounter_id)
            if event.announced:
                self._hold(stay, None, version)
            if not event.from_shared:
                self._lie(stay, event.from_bed_id, event.from_ward, -1)
            if not event.shared:
                self._lie(stay, event.bed_id, event.ward, 1)
        elif isinstance(event, TransferCancelled):
            stay = self._stay(event.encounter_id)
            self._lie(stay, event.from_bed_id, event.from_ward, -1)
            self._lie(stay, event.bed_id, event.ward, 1)
        else:
            return
        self._show(stay)

    def _hold(self, stay: _Stay, ward: str | None, version: int) -> None:
        before = stay.hold.value
        if not stay.hold.set(ward, version) or before == ward:
            return
        if before is not None:
            self._count(before, "held", -1)
        if ward is not None:
            self._count(ward, "held", 1)

    def _lie(self, stay: _Stay, bed_id: int, ward: str, by: int) -> None:
        """Count comings and goings of a stay in a bed: leaving may be heard of before coming, they are on two topics."""
        known_ward, before = stay.lies_in.get(bed_id, (ward, 0))
        after = before + by
        stay.lies_in[bed_id] = (known_ward, after)
        change = int(after > 0) - int(before > 0)
        if change:
            self._count(known_ward, "occupied", change)

    def _count(self, ward: str, what: Count, by: int) -> None:
        counts = dict(self._census.get(ward) or {"beds": 0, "occupied": 0, "held": 0})
        counts[what] += by
        self._census[ward] = counts

    def _show(self, stay: _Stay) -> None:
        now = _shown_state(stay)
        if now == stay.shown:
            return
        if stay.shown is not None:
            self._count_journey(stay.shown, -1)
        if now is not None:
            self._count_journey(now, 1)
        stay.shown = now

    def _count_journey(self, where: tuple[Kind, str], by: int) -> None:
        kind, state = where
        states = dict(self._journeys.get(kind) or {})
        states[state] = states.get(state, 0) + by
        self._journeys[kind] = states


def _shown_state(stay: _Stay) -> tuple[Kind, str] | None:
    """Return where a journey is; a day case that became a stay is a stay (DAY-6)."""
    kind: Kind
    if stay.stay.value not in (None, OVER):
        kind, state = "inpatient", stay.stay.value
    elif stay.stay.value is None and stay.case.value not in (None, OVER):
        kind, state = "day_surgery", stay.case.value
    else:
        return None
    return kind, _WAITING_NAMES[kind][stay.request.value or "asked"] if state == _WAITS else state


# ---- how far the topics were read -----------------------------------------------------------------------------------

Place = tuple[str, int]
"""Topic and partition."""


class OffsetsJumped(Exception):
    """A record came that does not follow the last one: something was skipped, the views must be built anew."""


@dataclass(slots=True)
class Progress:
    """Where each partition is read on: `applied` in the views, `indexed` in the database."""

    applied: dict[Place, int] = field(default_factory=dict)
    indexed: dict[Place, int] = field(default_factory=dict)

    def take(self, place: Place, offset: int) -> bool:
        """Say whether this record is the next one; False when it was taken before.

        Raises:
            OffsetsJumped: records between the last one and this one are missing.
        """
        expected = self.applied.get(place)
        if expected is not None and offset < expected:
            return False
        if expected is not None and offset > expected:
            raise OffsetsJumped
        self.applied[place] = offset + 1
        return True

    def behind(self, ends: Mapping[Place, int], begins: Mapping[Place, int]) -> int:
        """Return how many records are not in the views and the index yet."""
        return sum(
            max(
                0,
                end - min(self.applied.get(place, begins.get(place, 0)), self.indexed.get(place, begins.get(place, 0))),
            )
            for place, end in ends.items()
        )


# ---- lags -----------------------------------------------------------------------------------------------------------


class LagClock:
    """Turns a lag in records into seconds: how long ago the end of the partition was where the group reads now."""

    def __init__(self, samples_max: int = 720) -> None:
        self._ends: dict[Place, deque[tuple[float, int]]] = {}
        self._samples_max = samples_max

    def note(self, place: Place, end: int, at: float) -> None:
        """Remember where a partition ended at an instant (monotonic seconds)."""
        samples = self._ends.setdefault(place, deque(maxlen=self._samples_max))
        if not samples or samples[-1][1] != end:
            samples.append((at, end))

    def seconds(self, place: Place, next_offset: int, at: float) -> float:
        """Return for how long the record at `next_offset` has been waiting, as far as samples tell; 0 when none waits."""
        samples = self._ends.get(place)
        if not samples or samples[-1][1] <= next_offset:
            return 0.0
        waiting_since = next(seen_at for seen_at, end in samples if end > next_offset)
        return max(0.0, at - waiting_since)


# ---- traces ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span as it is kept."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    name: str
    kind: str
    started_at: datetime
    duration_us: int
    failed: bool
    encounter_id: UUID | None
    attributes: Mapping[str, Any]
    links: Sequence[Mapping[str, str]]


def keeps_trace(trace_id: str, stored: int, cap: int) -> bool:
    """Decide from the trace id alone whether its spans are still kept, so that a trace is kept whole or not at all.

    Half of the room takes every trace, half of the rest every second one, and so on; a full table takes none.
    """
    if stored >= cap:
        return False
    one_in, room = 1, cap // 2
    while stored >= room and one_in < 4096:
        one_in *= 2
        room += (cap - room) // 2
    return int(trace_id[-6:], 16) % one_in == 0


def waterfall(spans: Iterable[StoredSpan]) -> list[dict[str, Any]]:
    """Return the spans of one trace as lines of a waterfall: children below their parent, in the order they began."""
    found = sorted({span.span_id: span for span in spans}.values(), key=lambda span: (span.started_at, span.span_id))
    if not found:
        return []
    began = found[0].started_at
    children: dict[str | None, list[StoredSpan]] = {}
    known = {span.span_id for span in found}
    for span in found:
        parent = span.parent_span_id if span.parent_span_id in known else None
        children.setdefault(parent, []).append(span)
    lines: list[dict[str, Any]] = []
    stack = [(span, 0) for span in reversed(children.get(None, []))]
    while stack:
        span, depth = stack.pop()
        lines.append(_waterfall_line(span, depth, began))
        stack.extend((child, depth + 1) for child in reversed(children.get(span.span_id, [])))
    return lines


def _waterfall_line(span: StoredSpan, depth: int, began: datetime) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "depth": depth,
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "started_at": span.started_at.isoformat(),
        "offset_ms": round((span.started_at - began).total_seconds() * 1000, 3),
        "duration_ms": round(span.duration_us / 1000, 3),
        "failed": span.failed,
        "attributes": dict(span.attributes),
        "links": [dict(link) for link in span.links],
    }


def summary(trace_id: str, spans: Sequence[StoredSpan]) -> dict[str, Any]:
    """Return what a list of traces says of one: when, how long, which services, whether something failed."""
    began = min(span.started_at for span in spans)
    root = min(spans, key=lambda span: (span.parent_span_id is not None, span.started_at))
    lasted = max((span.started_at - began).total_seconds() * 1000 + span.duration_us / 1000 for span in spans)
    return {
        "trace_id": trace_id,
        "started_at": began.isoformat(),
        "duration_ms": round(lasted, 3),
        "root": root.name,
        "services": sorted({span.service for span in spans}),
        "spans": len({span.span_id for span in spans}),
        "failed": any(span.failed for span in spans),
    }
