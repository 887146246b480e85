"""I8: the ledger says what the outside believes: every order and refund of the channel, every settlement of the fund, every receipt.

Only a simulated outside can be asked for its whole truth; a real one is matched day by day (reconciliation).
"""

from collections.abc import Mapping
from typing import Any

from infra.audit.check import Check, Look, Seen

_PAID = "SELECT order_no, amount_fen FROM billing.payment WHERE state = 'paid'"
_REFUNDED = "SELECT refund_no, amount_fen FROM billing.refund WHERE state = 'done'"
_IN_FORCE = (
    "SELECT setl_id, fund_fen + account_fen AS fen FROM billing.bill"
    " WHERE insured AND state IN ('collecting', 'settled', 'payer_reversing', 'reopening')"
)
_RECEIPTS = "SELECT number, amount_fen FROM billing.receipt WHERE state = 'issued'"


async def _ours(at: Look, query: str) -> dict[str, int]:
    return {row[0]: row[1] for row in await at.rows(query)}


def _fen(fen: int | None) -> str:
    return "nothing" if fen is None else f"{fen} fen"


def _differences(what: str, ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[str]:
    return [
        f"{what} {number}: {_fen(ours.get(number))} here, {_fen(theirs.get(number))} outside"
        for number in sorted({*ours, *theirs})
        if ours.get(number) != theirs.get(number)
    ]


async def the_ledger_is_what_the_outside_believes(at: Look) -> Seen:
    """I8, order by order; and the channel's account in the ledger is the sum of what the channel holds for us."""
    accounts = await at.count("SELECT count(*) FROM billing.account")
    if at.scene.outside is None:
        return Seen(accounts, reason="no simulated outside to ask; a real one is matched by reconciliation")
    truths: Mapping[str, Any] = await at.scene.outside()
    channel, fund, office = truths["channel"], truths["insurance"], truths["receipts"]
    paid = {one["order_no"]: one["paid_fen"] for one in channel["orders"] if one["paid_fen"]}
    refunded = {one["refund_no"]: one["amount_fen"] for one in channel["refunds"] if one["state"] == "SUCCESS"}
    in_force = {
        one["setl_id"]: one["fund_fen"] + one["account_fen"]
        for one in fund["settlements"]
        if one["taken_back_at"] is None
    }
    receipts = {one["number"]: one["amount_fen"] for one in office["receipts"]}
    wrong = [
        *_differences("payment", await _ours(at, _PAID), paid),
        *_differences("refund", await _ours(at, _REFUNDED), refunded),
        *_differences("fund settlement", await _ours(at, _IN_FORCE), in_force),
        *_differences("receipt", await _ours(at, _RECEIPTS), receipts),
    ]
    held_fen = await at.count("SELECT sum(fen) FROM billing.line WHERE ledger_account_id = 25")
    believed_fen = channel["sums"]["paid_fen"] - channel["sums"]["refunded_fen"]
    if held_fen != believed_fen:
        wrong.append(f"channel: {held_fen} fen in the ledger, {believed_fen} at the channel")
    return Seen(accounts + len(paid) + len(refunded) + len(in_force) + len(receipts), wrong)


CHECKS = (
    Check(
        "I8",
        "the ledger is what channel, fund and receipt office believe",
        the_ledger_is_what_the_outside_believes,
        frozenset({"billing"}),
        settles=True,
    ),
)
