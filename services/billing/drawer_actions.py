"""Opening, showing and counting a cashier's drawer. One action = one transaction; the cashier's lock comes first.

Postings share that lock (migrations/0008), so that a drawer is counted when no cash is on its way into it. A posting takes
it after its account's row, these actions take nothing else: they cannot wait for each other in a circle.
"""

from uuid import UUID

from services.billing import bill_store, drawer, drawer_store
from services.billing.drawer import Counted, DifferenceReason, NoOpenShift, ReasonNeeded, Shift, ShiftOpen
from shared.db import Transaction
from shared.ids import new_id


async def open_shift(tx: Transaction, *, cashier: UUID, float_fen: int) -> Shift | ShiftOpen:
    """Open a cashier's drawer with its float; a cashier has one at a time."""
    await drawer_store.lock_drawer(tx, cashier)
    open_one = await drawer_store.get_open_shift(tx, cashier)
    if open_one is not None:
        return ShiftOpen(open_one.id)
    await drawer_store.insert_shift(tx, new_id(), cashier, float_fen)
    opened = await drawer_store.get_open_shift(tx, cashier)
    assert opened is not None, "It was opened a line ago."
    return opened


async def close_shift(
    tx: Transaction, *, cashier: UUID, counted_fen: int, reason: DifferenceReason | None
) -> Counted | NoOpenShift | ReasonNeeded:
    """Count a drawer and close it; what is too much or missing has a reason and goes on the list of differences."""
    await drawer_store.lock_drawer(tx, cashier)
    shift = await drawer_store.get_open_shift(tx, cashier)
    if shift is None:
        return NoOpenShift()
    counted = drawer.count(shift, counted_fen, reason)
    if isinstance(counted, ReasonNeeded):
        return counted
    await drawer_store.mark_closed(tx, counted)
    if counted.difference_fen:
        await bill_store.insert_difference(
            tx,
            party="drawer",
            kind="counted",
            object_=str(shift.id),
            ours_fen=shift.expected_fen,
            theirs_fen=counted_fen,
        )
    return counted
