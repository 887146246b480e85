"""Moves that are announced or wanted, as far as they end by themselves: the bed that was held for one is free again."""

from typing import Any

from services.beds import moves_store, store
from shared.contracts.beds import AnnouncedTransferCancelled
from shared.db import Transaction
from shared.messaging import outbox


async def cancel_move(tx: Transaction, request: Any, *, reason: str, still_wanted: bool = False) -> None:
    """End the open move of a locked stay, or let it wait for another bed (`still_wanted`); a held bed is free again (A26)."""
    move = await moves_store.get_move(tx, request["move_id"])
    await moves_store.release_move(tx, move, state="wanted" if still_wanted else "cancelled", reason=reason)
    outbox.append(
        tx,
        AnnouncedTransferCancelled(
            encounter_id=request["encounter_id"],
            patient_tok=request["patient_tok"],
            bed_id=move["bed_id"],
            reason=reason,
        ),
    )


async def expire_moves(tx: Transaction) -> int:
    """Free beds that were held for moves that did not happen in time; who lies in a broken bed goes on wanting one (R44)."""
    rows = await moves_store.list_expired_moves(tx)
    for row in rows:
        request = await store.locked_request(tx, row["encounter_id"])
        move = None if request["move_id"] is None else await moves_store.get_move(tx, request["move_id"])
        if move is None or move["state"] != "announced":
            continue
        tx.correlation_id = request["encounter_id"]
        await cancel_move(tx, request, reason="hold_expired", still_wanted=move["urgent"])
    return len(rows)
