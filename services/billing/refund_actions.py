"""Giving deposits back, small sums by one person and large ones by two, or to another account. One action = one transaction.

What one account got back by one person's word is added up over 24 hours, so that a large sum in small parts is a large sum.
"""

from dataclasses import dataclass
from uuid import UUID

from services.billing import actions, domain, refund_store, store
from services.billing.actions import Deposited, RefundDecided, Refunded
from services.billing.domain import (
    Account,
    AlreadyReversed,
    LedgerAccount,
    NoAccount,
    NoSuchEntry,
    NotOpen,
    Posting,
    TooMuch,
)
from services.billing.refund_store import RefundRequest
from shared.db import Transaction
from shared.ids import new_id

NoRefund = NoAccount | NotOpen | NoSuchEntry | AlreadyReversed | TooMuch


@dataclass(frozen=True, slots=True)
class Asked:
    """Nothing was given back yet; a second person has to agree."""

    account: Account
    request_id: UUID
    amount_fen: int


@dataclass(frozen=True, slots=True)
class AskedAlready:
    """Of this deposit a refund is being asked for; one at a time."""


@dataclass(frozen=True, slots=True)
class NoRequest:
    """There is no such request."""


@dataclass(frozen=True, slots=True)
class DecidedAlready:
    """Somebody decided this request before."""

    state: str


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """Nobody agrees to what they asked for themselves."""


@dataclass(frozen=True, slots=True)
class Turned:
    """The request is refused; nothing was given back."""

    request: RefundRequest


@dataclass(frozen=True, slots=True)
class Moved:
    """The money is on the other account now."""

    left: Refunded
    came: Deposited


@dataclass(frozen=True, slots=True)
class NotTheirs:
    """There is no such other account of this patient."""


async def give_back(
    tx: Transaction, *, encounter_id: UUID, entry_id: UUID, amount_fen: int | None, asked_by: UUID, alone_fen_max: int
) -> Refunded | Asked | AskedAlready | NoRefund:
    """Give a deposit or a part of it back, or ask for a second person when one alone may not."""
    decided = await actions.decide_refund(tx, encounter_id=encounter_id, entry_id=entry_id, amount_fen=amount_fen)
    if not isinstance(decided, RefundDecided):
        return decided
    alone_fen = await refund_store.sum_given_back_alone(tx, decided.account.id)
    if not domain.needs_second_person(decided.amount_fen, alone_fen, alone_fen_max):
        return await actions.post_refund(tx, decided, cashier=asked_by)
    request_id = new_id()
    kept = await refund_store.insert_request(
        tx,
        request_id,
        decided.account.id,
        deposit_entry_id=entry_id,
        amount_fen=decided.amount_fen,
        asked_by=asked_by,
    )
    return Asked(decided.account, request_id, decided.amount_fen) if kept else AskedAlready()


async def agree(
    tx: Transaction, *, request_id: UUID, agreed_by: UUID
) -> Refunded | NoRequest | DecidedAlready | OwnRequest | NoRefund:
    """Agree to a colleague's refund and give the money back, cash from the drawer of whoever asked."""
    request = await _lock(tx, request_id)
    if not isinstance(request, RefundRequest):
        return request
    if request.asked_by == agreed_by:
        return OwnRequest()
    decided = await actions.decide_refund(
        tx, encounter_id=request.encounter_id, entry_id=request.deposit_entry_id, amount_fen=request.amount_fen
    )
    if not isinstance(decided, RefundDecided):
        return decided
    refunded = await actions.post_refund(tx, decided, cashier=request.asked_by)
    await refund_store.mark_decided(
        tx, request_id, decided_by=agreed_by, refund_entry_id=refunded.entry_id, reason=None
    )
    return refunded


async def turn_down(
    tx: Transaction, *, request_id: UUID, decided_by: UUID, reason: str
) -> Turned | NoRequest | DecidedAlready:
    """Refuse a request, or take the own one back; nothing is given back."""
    request = await _lock(tx, request_id)
    if not isinstance(request, RefundRequest):
        return request
    await refund_store.mark_decided(tx, request_id, decided_by=decided_by, refund_entry_id=None, reason=reason)
    return Turned(request)


async def move_deposit(
    tx: Transaction, *, encounter_id: UUID, entry_id: UUID, amount_fen: int | None, to_encounter_id: UUID
) -> Moved | NotTheirs | NoRefund:
    """Move a deposit, or a part of it, to another account of the same patient; the money stays where it lies (R15).

    A later refund still goes back to where the money first came from.
    """
    for stay in sorted((encounter_id, to_encounter_id)):  # one order for all, so that two moves never wait in a circle
        await store.lock_account(tx, stay)
    decided = await actions.decide_refund(tx, encounter_id=encounter_id, entry_id=entry_id, amount_fen=amount_fen)
    if not isinstance(decided, RefundDecided):
        return decided
    if decided.deposit.money is LedgerAccount.BLOOD_CENTRE:  # agreed for the blood of this stay, and no money to move
        return NoSuchEntry()
    target = await store.lock_account(tx, to_encounter_id)
    if target is None or target.id == decided.account.id or target.patient_tok != decided.account.patient_tok:
        return NotTheirs()
    assert decided.deposit.money is not None, "A deposit is some money."
    posting = domain.deposit(target, new_id(), amount_fen=decided.amount_fen, money=decided.deposit.money)
    if not isinstance(posting, Posting):
        return posting
    left = await actions.post_refund(tx, decided, cashier=None, pays_out=False)
    came = await actions.post_deposit(tx, target, posting, method="moved", cashier=None)
    await refund_store.insert_move(tx, out_entry_id=left.entry_id, in_entry_id=came.entry_id)
    return Moved(left, came)


async def _lock(tx: Transaction, request_id: UUID) -> RefundRequest | NoRequest | DecidedAlready:
    """Return an open request that nobody else decides until the end of this transaction."""
    request = await refund_store.lock_request(tx, request_id)
    if request is None:
        return NoRequest()
    tx.correlation_id = request.encounter_id
    return request if request.state == "asked" else DecidedAlready(request.state)
