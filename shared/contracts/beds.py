"""What the bed pool announces: allocations by stay, and the physical life of each bed."""

from typing import ClassVar, Literal
from uuid import UUID

from shared.contracts.envelope import Code, Event, Instant, Topic

ALLOCATIONS = Topic("beds.allocations.v1", owner="beds", key="encounter_id")
INVENTORY = Topic("beds.inventory.v1", owner="beds", key="bed_id")

WaitingReason = Literal[
    "no_free_bed",
    "no_room_of_that_sex",
    "no_isolation_room",
    "no_bed_of_that_kind",
    "not_due_yet",
    "no_ward_for_age",
    "no_bed_of_that_class",
    "no_equipment",
    "ward_closed",
    "refused",
    "for_the_desk",
]
BedKind = Literal["inpatient", "day"]
Accommodation = Literal["standard", "single", "vip", "critical", "day"]
"""What a patient lies in, as it is charged (HL7 PV2-2): a day bed and intensive care come before the class of the room."""


class AllocationEvent(Event):
    """A fact of one stay's way to its bed."""

    topic: ClassVar[Topic] = ALLOCATIONS
    key_field: ClassVar[str] = "encounter_id"
    encounter_id: UUID
    patient_tok: UUID


class BedRequestOpened(AllocationEvent):
    """The pool has taken the request; it has a place in the queue."""

    kind: BedKind


class BedWaitlisted(AllocationEvent):
    """No bed fits now; the reason is shown to the patient (R10)."""

    reason: WaitingReason


class BedAssigned(AllocationEvent):
    """A bed is held for this stay until `held_until`; nobody else can take it (R03, V1)."""

    bed_id: int
    bed_code: Code
    ward: Code
    held_until: Instant


class BedHoldExpired(AllocationEvent):
    """The patient did not come in time; the request goes back to the queue (A27)."""

    bed_id: int


class BedRequestCancelled(AllocationEvent):
    """The request ended before the patient arrived; a held bed is free again."""

    bed_id: int | None


class BedOccupied(AllocationEvent):
    """The patient lies in the bed."""

    bed_id: int
    ward: Code
    occupied_at: Instant
    accommodation: Accommodation | None = None


class BedRefused(AllocationEvent):
    """Ward or patient said no to the bed that was held; the request waits again (R36)."""

    bed_id: int
    by: Literal["ward", "patient"]
    reason: Code


class BedTransferred(AllocationEvent):
    """The patient moved to another bed: the old one is empty, the new one occupied, in one fact (A02, V17)."""

    from_bed_id: int
    from_ward: Code
    bed_id: int
    bed_code: Code
    ward: Code
    reason: Code
    transferred_at: Instant
    accommodation: Accommodation | None = None


class LeaveStarted(AllocationEvent):
    """The patient is away and the bed is kept (A21)."""

    bed_id: int
    until: Instant


class LeaveEnded(AllocationEvent):
    """The patient is back in the bed (A22)."""

    bed_id: int


class InventoryEvent(Event):
    """A fact of one bed."""

    topic: ClassVar[Topic] = INVENTORY
    key_field: ClassVar[str] = "bed_id"
    bed_id: int


class BedAdded(InventoryEvent):
    """A bed joined the pool."""

    bed_code: Code
    ward: Code
    kind: BedKind


class BedVacated(InventoryEvent):
    """The patient physically left the bed (V4)."""

    encounter_id: UUID
    patient_tok: UUID
    ward: Code
    vacated_at: Instant


class CleaningRequested(InventoryEvent):
    """The bed must be cleaned before anybody may lie in it."""

    ward: Code
    terminal: bool


class CleaningStarted(InventoryEvent):
    """Somebody cleans the bed now."""

    started_at: Instant


class CleaningSuspended(InventoryEvent):
    """Cleaning stopped before it was done."""

    reason: Code


class BedBlocked(InventoryEvent):
    """The bed is out of service (BED-6)."""

    ward: Code
    reason: Code
    until: Instant | None


class BedUnblocked(InventoryEvent):
    """The bed is in service again."""

    ward: Code


class BedCleaned(InventoryEvent):
    """Cleaning is done."""

    cleaned_at: Instant


class BedFreed(InventoryEvent):
    """The bed can be allocated again."""

    ward: Code
