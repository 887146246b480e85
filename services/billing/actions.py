"""What can be done with an account. One action = one transaction; every "no" is a value (`domain.Refusal`).

Each locks the account's row first, decides purely, writes through one posting function, announces, and passes kill point
K6 as soon as the ledger lines are written.
"""

from dataclasses import dataclass
from typing import Literal, assert_never
from uuid import UUID

from services.billing import domain, store
from services.billing.domain import (
    Account,
    AlreadyReversed,
    NoAccount,
    NoSuchEntry,
    NotOpen,
    NotSettled,
    PaymentMethod,
    Posting,
    QuoteOutdated,
    Reversal,
    Settlement,
    TooMuch,
)
from shared import faults
from shared.contracts.billing import (
    AccountClosed,
    AccountOpened,
    AccountSettled,
    AccountVoided,
    ChargePosted,
    ChargeReversed,
    DepositReceived,
    DepositRefunded,
    SettlementReopened,
)
from shared.contracts.envelope import PayerKind
from shared.db import Transaction
from shared.ids import new_id
from shared.messaging import outbox


@dataclass(frozen=True, slots=True)
class Charged:
    """The charge stands; the account's charges now sum to `charged_fen`."""

    account_id: UUID
    patient_tok: UUID
    entry_id: UUID
    amount_fen: int
    charged_fen: int
    ward: str | None


@dataclass(frozen=True, slots=True)
class Reversed:
    """The original stands no more."""

    account: Account
    entry_id: UUID
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Deposited:
    """The money is held for the patient."""

    account: Account
    entry_id: UUID
    deposits_fen: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The bill is paid and the account closed."""

    account: Account
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Reopened:
    """The settlement is void with all its children; the account is open again."""

    account: Account
    settlement_id: UUID
    charged_fen: int
    deposits_fen: int


# ---- the account itself ----------------------------------------------------------------------------------------------


async def open_account(
    tx: Transaction, *, encounter_id: UUID, patient_tok: UUID, payer_kind: PayerKind, day_case: bool
) -> bool:
    """Open the account of a stay, once: a day case that becomes a stay keeps its account (R02, V7). Say whether it is new."""
    account_id = new_id()
    opened = await store.insert_account(
        tx, account_id, encounter_id=encounter_id, patient_tok=patient_tok, payer_kind=payer_kind, day_case=day_case
    )
    if opened:
        outbox.append(
            tx,
            AccountOpened(
                account_id=account_id, encounter_id=encounter_id, patient_tok=patient_tok, payer_kind=payer_kind
            ),
        )
    elif day_case:
        await store.mark_day_case(tx, encounter_id)
    return opened


async def void_account(tx: Transaction, *, encounter_id: UUID, reason: str) -> Literal["voided", "kept"] | NotOpen:
    """Void the account of an admission that never counted: charges reversed, deposits refundable (A11).

    An account a day-surgery case runs on is kept: the surgery did take place. A voided one stays as it is; a settled one
    is refused, because somebody must reopen the settlement first.
    """
    account = await store.lock_account(tx, encounter_id)
    if account is None or account.state == "voided" or account.day_case:
        return "kept"
    match domain.void(account, await store.list_live_charges(tx, account.id)):
        case NotOpen() as refusal:
            return refusal
        case reversals:
            await store.mark_account_voided(tx, account.id, reversals, reason=reason)
            faults.reached("K6")
    for reversal in reversals:
        _announce_charge_reversed(tx, account, reversal)
    outbox.append(tx, AccountVoided(account_id=account.id, encounter_id=encounter_id, reason=reason))
    return "voided"


async def note_ward(tx: Transaction, *, encounter_id: UUID, ward: str) -> None:
    """Remember where the patient lies, so that a ward nurse reaches the accounts of the own wards and no others (S1)."""
    await store.mark_ward(tx, encounter_id, ward)


# ---- charges ---------------------------------------------------------------------------------------------------------


async def post_charge(
    tx: Transaction, *, encounter_id: UUID, item: str, amount_fen: int, entry_id: UUID | None = None
) -> Charged | NoAccount | NotOpen | TooMuch:
    """Post one charge to the open account of a stay, in one statement; late charges are refused (V13).

    An `entry_id` that follows from what is charged makes posting it twice impossible (R52).
    """
    entry_id = entry_id or new_id()
    row = await store.post_charge(tx, encounter_id, entry_id, item=item, amount_fen=amount_fen)
    match row.outcome:
        case "closed" | "voided" as state:
            return NotOpen(state)
        case "too_much":
            return TooMuch()
        case "none":
            return NoAccount()
        case "posted":
            pass
    assert row.account_id is not None
    assert row.patient_tok is not None
    assert row.charged_fen is not None
    faults.reached("K6")
    outbox.append(
        tx,
        ChargePosted(
            account_id=row.account_id,
            encounter_id=encounter_id,
            entry_id=entry_id,
            item=item,
            amount_fen=amount_fen,
            charged_at=tx.now,
        ),
    )
    return Charged(row.account_id, row.patient_tok, entry_id, amount_fen, row.charged_fen, row.ward)


async def reverse_charge(
    tx: Transaction, *, encounter_id: UUID, entry_id: UUID, reason: str
) -> Reversed | NoAccount | NotOpen | NoSuchEntry | AlreadyReversed:
    """Reverse one charge by its own entry that names it; a second reversal is refused (R51, V8)."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    match domain.reverse_charge(account, await store.get_entry(tx, account.id, entry_id)):
        case Reversal() as reversal:
            await store.post_reversals(tx, account.id, (reversal,), reason=reason)
            faults.reached("K6")
            _announce_charge_reversed(tx, account, reversal)
            return Reversed(account, reversal.entry_id, reversal.original.amount_fen)
        case refusal:
            return refusal


def _announce_charge_reversed(tx: Transaction, account: Account, reversal: Reversal) -> None:
    outbox.append(
        tx,
        ChargeReversed(
            account_id=account.id,
            encounter_id=account.encounter_id,
            entry_id=reversal.entry_id,
            reverses_entry_id=reversal.original.id,
            amount_fen=reversal.original.amount_fen,
        ),
    )


# ---- deposits --------------------------------------------------------------------------------------------------------


async def take_deposit(
    tx: Transaction, *, encounter_id: UUID, amount_fen: int, method: PaymentMethod
) -> Deposited | NoAccount | NotOpen | TooMuch:
    """Take prepaid money: a liability of the hospital until it is applied or given back (R52)."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    posting = domain.deposit(account, new_id(), amount_fen=amount_fen, method=method)
    if not isinstance(posting, Posting):
        return posting
    await store.post_entries(tx, account.id, (posting,))
    faults.reached("K6")
    outbox.append(
        tx,
        DepositReceived(
            account_id=account.id,
            encounter_id=encounter_id,
            entry_id=posting.entry_id,
            amount_fen=amount_fen,
            method=method,
        ),
    )
    return Deposited(account, posting.entry_id, account.deposits_fen + amount_fen)


async def refund_deposit(
    tx: Transaction, *, encounter_id: UUID, entry_id: UUID
) -> Reversed | NoAccount | NotOpen | NoSuchEntry | AlreadyReversed:
    """Give one deposit back to where it came from, once (V8, V9); taking it again is the way back."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    match domain.refund_deposit(account, await store.get_entry(tx, account.id, entry_id)):
        case Reversal() as reversal:
            await store.post_reversals(tx, account.id, (reversal,), reason="refund")
            faults.reached("K6")
            amount_fen = reversal.original.amount_fen
            outbox.append(
                tx,
                DepositRefunded(
                    account_id=account.id,
                    encounter_id=encounter_id,
                    entry_id=reversal.entry_id,
                    deposit_entry_id=entry_id,
                    amount_fen=amount_fen,
                ),
            )
            return Reversed(account, reversal.entry_id, amount_fen)
        case refusal:
            return refusal


# ---- settlement ------------------------------------------------------------------------------------------------------


async def settle_account(
    tx: Transaction, *, encounter_id: UUID, quoted_fen: int, method: PaymentMethod
) -> Settled | NoAccount | NotOpen | QuoteOutdated:
    """Settle the bill the payer saw, to the fen, and close the account: two statements, two events, one commit (R52).

    The patient pays everything: the share of an insurer is not split off yet, whatever the payer kind.
    """
    locked = await store.lock_for_settlement(tx, encounter_id)
    if locked is None:
        return NoAccount()
    account, deposits = locked
    match domain.settle(account, deposits, quoted_fen=quoted_fen, method=method):
        case Settlement() as settlement:
            await store.insert_settlement(tx, account.id, settlement)
            faults.reached("K6")
        case NotOpen() | QuoteOutdated() as refusal:
            return refusal
        case other:
            assert_never(other)
    outbox.append(
        tx,
        AccountSettled(
            account_id=account.id,
            encounter_id=encounter_id,
            settlement_id=settlement.id,
            number=settlement.number,
            charged_fen=settlement.charged_fen,
            deposits_fen=settlement.deposits_fen,
            payer_fen=settlement.payer_fen,
            collected_fen=settlement.collected_fen,
            refunded_fen=settlement.refunded_fen,
        ),
    )
    outbox.append(tx, AccountClosed(account_id=account.id, encounter_id=encounter_id, patient_tok=account.patient_tok))
    return Settled(account, settlement)


async def reopen_settlement(tx: Transaction, *, encounter_id: UUID, reason: str) -> Reopened | NoAccount | NotSettled:
    """Take the settlement in force back (结算召回): every child void by its own entry, the account open again (V12)."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    settlement_id = domain.settlement_id_of(account.id, account.settlements)
    match domain.reopen(account, await store.list_settlement_children(tx, account.id, settlement_id)):
        case NotSettled() as refusal:
            return refusal
        case reversals:
            await store.mark_settlement_reopened(tx, account.id, settlement_id, reversals, reason=reason)
            faults.reached("K6")
    outbox.append(
        tx,
        SettlementReopened(
            account_id=account.id,
            encounter_id=encounter_id,
            settlement_id=settlement_id,
            patient_tok=account.patient_tok,
            reason=reason,
        ),
    )
    charged_fen, deposits_fen = domain.restored_by(reversals)
    return Reopened(account, settlement_id, charged_fen, deposits_fen)
