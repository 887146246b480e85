"""The life of an inpatient stay (住院就诊): which step may follow which, and why not. Pure.

    pre_admitted / waitlisted  -> pending_admit  -> admitted -> discharge_ordered -> discharged (-> closed)
            |                        |   ^            |  ^            |                 |
            +-> cancelled (A38) <----+   +- A27       |  +-- A25 -----+                 |
                                   admission_cancelled (A11)            admitted <------+ A13

`closed` is not stored: it is discharged, settled and bed released, whichever comes last.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from shared.errors import Refused


class State(StrEnum):
    """Where a stay is (2-domain.md section 1)."""

    PRE_ADMITTED = "pre_admitted"
    WAITLISTED = "waitlisted"
    PENDING_ADMIT = "pending_admit"
    ADMITTED = "admitted"
    DISCHARGE_ORDERED = "discharge_ordered"
    DISCHARGED = "discharged"
    CANCELLED = "cancelled"
    ADMISSION_CANCELLED = "admission_cancelled"


class Step(StrEnum):
    """What can be done to a stay."""

    ADMIT = "admit"
    CANCEL = "cancel"
    CANCEL_ADMISSION = "cancel_admission"
    ORDER_DISCHARGE = "order_discharge"
    UNDO_DISCHARGE_ORDER = "undo_discharge_order"
    DISCHARGE = "discharge"
    CANCEL_DISCHARGE = "cancel_discharge"


NEXT: dict[tuple[State, Step], State] = {
    (State.PRE_ADMITTED, Step.CANCEL): State.CANCELLED,
    (State.WAITLISTED, Step.CANCEL): State.CANCELLED,
    (State.PENDING_ADMIT, Step.CANCEL): State.CANCELLED,
    (State.PENDING_ADMIT, Step.ADMIT): State.ADMITTED,
    (State.ADMITTED, Step.CANCEL_ADMISSION): State.ADMISSION_CANCELLED,
    (State.ADMITTED, Step.ORDER_DISCHARGE): State.DISCHARGE_ORDERED,
    (State.ADMITTED, Step.DISCHARGE): State.DISCHARGED,
    (State.DISCHARGE_ORDERED, Step.UNDO_DISCHARGE_ORDER): State.ADMITTED,
    (State.DISCHARGE_ORDERED, Step.DISCHARGE): State.DISCHARGED,
    (State.DISCHARGED, Step.CANCEL_DISCHARGE): State.ADMITTED,
}
"""Every step that is allowed; what is not here is refused."""

WAITS_FOR_A_BED = frozenset({State.PRE_ADMITTED, State.WAITLISTED})

_REFUSALS: dict[Step, str] = {
    Step.ADMIT: "This stay has no bed to be admitted to, or is past admission.",
    Step.CANCEL: "Only a stay that has not begun can be cancelled; cancel the admission instead.",
    Step.CANCEL_ADMISSION: "Only a stay in the ward can have its admission cancelled.",
    Step.ORDER_DISCHARGE: "Only a patient in the ward can be ordered to leave.",
    Step.UNDO_DISCHARGE_ORDER: "There is no discharge order to take back.",
    Step.DISCHARGE: "Only a patient in the ward can leave it.",
    Step.CANCEL_DISCHARGE: "Only a discharge that happened can be taken back.",
}


@dataclass(frozen=True, slots=True)
class Stay:
    """What the rules look at."""

    state: State
    live_charges: int = 0
    settled: bool = False
    admitted_at: datetime | None = None


def next_state(stay: Stay, step: Step) -> State:
    """Return the state after `step`.

    Raises:
        Refused: the step is not possible now; says what would make it possible.
    """
    after = NEXT.get((stay.state, step))
    if after is None:
        raise Refused(_REFUSALS[step], code="illegal_state_change", state=stay.state.value)
    if step is Step.CANCEL_ADMISSION and stay.live_charges:
        raise Refused("Charges were posted; reverse them first (A11).", code="charges_posted")
    if step is Step.CANCEL_ADMISSION and stay.settled:
        raise Refused("The account is settled; reopen the settlement first (A11).", code="settled")
    if step is Step.CANCEL_DISCHARGE and stay.settled:
        raise Refused("The account is settled; reopen the settlement first (A13).", code="settled")
    return after


def check_leaves_after_coming(admitted_at: datetime, discharged_at: datetime) -> None:
    """Refuse a discharge before the admission."""
    if discharged_at < admitted_at:
        raise Refused("The discharge lies before the admission.", code="end_before_start")


def age_years(birth_date: date | None, on: date) -> int | None:
    """Return the completed years of life on a day, or nothing when the birth date is not known."""
    if birth_date is None:
        return None
    return max(0, on.year - birth_date.year - ((on.month, on.day) < (birth_date.month, birth_date.day)))
