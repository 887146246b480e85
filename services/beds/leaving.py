"""What a ward does about patients who go home: expected day, steps reached, steps that are late and why (BED-11)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.beds import leaving_store, store
from services.beds.domain import May
from services.beds.milestones import ORDERED, Steps
from shared.contracts.beds import ExpectedLeavingChanged, MilestoneCancelled, MilestoneDelayed, MilestoneReached
from shared.db import Transaction
from shared.errors import NotFound, Refused
from shared.messaging import outbox


async def _leaving(tx: Transaction, encounter_id: UUID, may: May) -> Any:
    request = await store.locked_request(tx, encounter_id)
    if request["state"] != "arrived":
        raise Refused("This stay lies in no bed.", code="not_in_a_bed")
    may(request["ward"])
    return request


def _require_step(steps: Steps, milestone: str) -> None:
    if not steps.has_step(milestone):
        raise NotFound("There is no such milestone.", code="no_such_milestone")
    if milestone == ORDERED:
        raise Refused("The discharge is ordered by the doctor, not here.", code="ordered_by_doctor")


async def expect_leaving(tx: Transaction, encounter_id: UUID, *, at: datetime, reason: str, may: May) -> None:
    """Write when the patient is expected to leave (EDD); the board and the forecast go by it until it is changed.

    Raises:
        Refused: the stay lies in no bed, the day is past, or the discharge is ordered already.
    """
    request = await _leaving(tx, encounter_id, may)
    if at < tx.now:
        raise Refused("That time is past.", code="time_is_past")
    if request["discharge_ordered_at"] is not None:
        raise Refused("The discharge is ordered; the patient may go now.", code="ordered_already")
    await leaving_store.mark_expected(tx, encounter_id, at)
    outbox.append(
        tx,
        ExpectedLeavingChanged(
            encounter_id=encounter_id, patient_tok=request["patient_tok"], expected_at=at, reason=reason
        ),
    )


async def reach_milestone(tx: Transaction, steps: Steps, encounter_id: UUID, milestone: str, *, may: May) -> None:
    """Write that a step on the way home is done.

    Raises:
        NotFound: no such step. Refused: the stay lies in no bed, the step is reached (reached_already) or the doctor's.
    """
    request = await _leaving(tx, encounter_id, may)
    _require_step(steps, milestone)
    if not await leaving_store.mark_reached(tx, encounter_id, milestone):
        raise Refused("This is done already.", code="reached_already")
    outbox.append(
        tx,
        MilestoneReached(
            encounter_id=encounter_id, patient_tok=request["patient_tok"], milestone=milestone, reached_at=tx.now
        ),
    )


async def cancel_milestone(
    tx: Transaction, steps: Steps, encounter_id: UUID, milestone: str, *, reason: str, may: May
) -> None:
    """Write that a step on the way home is not done after all.

    Raises:
        NotFound: no such step. Refused: the stay lies in no bed, or the step is not reached (not_reached).
    """
    request = await _leaving(tx, encounter_id, may)
    _require_step(steps, milestone)
    if not await leaving_store.mark_not_reached(tx, encounter_id, milestone):
        raise Refused("This was not said to be done.", code="not_reached")
    outbox.append(
        tx,
        MilestoneCancelled(
            encounter_id=encounter_id, patient_tok=request["patient_tok"], milestone=milestone, reason=reason
        ),
    )


async def delay_milestone(
    tx: Transaction, steps: Steps, encounter_id: UUID, milestone: str, *, reason: str, may: May
) -> None:
    """Write why a step on the way home is late; a later reason takes the place of the earlier one.

    Raises:
        NotFound: no such step or reason. Refused: the stay lies in no bed, or the step is reached (reached_already).
    """
    request = await _leaving(tx, encounter_id, may)
    if not steps.has_step(milestone):
        raise NotFound("There is no such milestone.", code="no_such_milestone")
    if not steps.has_reason(reason):
        raise NotFound("There is no such reason for delay.", code="no_such_reason")
    if not await leaving_store.mark_delayed(tx, encounter_id, milestone, reason):
        raise Refused("This is done already.", code="reached_already")
    outbox.append(
        tx,
        MilestoneDelayed(
            encounter_id=encounter_id, patient_tok=request["patient_tok"], milestone=milestone, reason=reason
        ),
    )
