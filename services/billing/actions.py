"""What can be done with an account. One action = one transaction; every "no" is a value (`domain.Refusal`).

Each locks the account's row first, decides purely, writes through one posting function, announces, and passes kill point
K6 as soon as the ledger lines are written.
"""

from dataclasses import dataclass
from typing import Literal, assert_never
from uuid import UUID

from services.billing import arrears_actions, bill_store, domain, store
from services.billing.arrears import owed_fen
from services.billing.bills import Bill
from services.billing.domain import (
    MONEY_OF,
    Account,
    AlreadyReversed,
    ApprovalUsed,
    BloodWaived,
    ChargeSettled,
    Entry,
    LedgerAccount,
    MoreThanBlood,
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
from services.billing.store import ChargeAsked, ChargeRow
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
    InterimSettled,
    SettlementReopened,
    SupplementSettled,
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
    """The charge stands no more."""

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
class Refunded:
    """The deposit, or a part of it, went back to where it came from."""

    account: Account
    entry_id: UUID
    amount_fen: int


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
    if account.settlements and await store.list_interim_charges(tx, account.id):
        return NotOpen("closed")
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
    asked = ChargeAsked(encounter_id, entry_id or new_id(), item, amount_fen)
    (row,) = await store.post_charges(tx.conn, [(asked, tx.now)])
    return charge_posted(tx, asked, row)


def charge_posted(tx: Transaction, asked: ChargeAsked, row: ChargeRow) -> Charged | NoAccount | NotOpen | TooMuch:
    """Say what became of a charge, and announce it when it was posted."""
    match row.outcome:
        case "billing" | "closed" | "voided" as state:
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
            encounter_id=asked.encounter_id,
            entry_id=asked.entry_id,
            item=asked.item,
            amount_fen=asked.amount_fen,
            charged_at=tx.now,
        ),
    )
    return Charged(row.account_id, row.patient_tok, asked.entry_id, asked.amount_fen, row.charged_fen, row.ward)


async def reverse_charge(
    tx: Transaction, *, encounter_id: UUID, entry_id: UUID, reason: str
) -> Reversed | NoAccount | NotOpen | NoSuchEntry | AlreadyReversed | ChargeSettled | BloodWaived:
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
    posting = domain.deposit(account, new_id(), amount_fen=amount_fen, money=MONEY_OF[method])
    if not isinstance(posting, Posting):
        return posting
    return await post_deposit(tx, account, posting, method=method, cashier=tx.actor)


async def post_deposit(
    tx: Transaction, account: Account, posting: Posting, *, method: str, cashier: UUID | None
) -> Deposited:
    """Write a deposit that was decided, cash into the drawer of `cashier`, and announce it."""
    await store.post_entries(tx, account.id, (posting,), cashier=cashier)
    faults.reached("K6")
    outbox.append(
        tx,
        DepositReceived(
            account_id=account.id,
            encounter_id=account.encounter_id,
            entry_id=posting.entry_id,
            amount_fen=posting.fen,
            method=method,
        ),
    )
    deposits_fen = account.deposits_fen + posting.fen
    await arrears_actions.clear_flag(tx, account, owed_fen=owed_fen(account.receivable_fen, deposits_fen))
    return Deposited(account, posting.entry_id, deposits_fen)


async def waive_blood(
    tx: Transaction, *, encounter_id: UUID, amount_fen: int, approval_no: str
) -> Deposited | NoAccount | NotOpen | TooMuch | MoreThanBlood | ApprovalUsed:
    """Let the blood centre pay for a donor's blood under its approval number (用血减免, BIL-9); giving it back undoes it.

    The hospital lays the money out: the patient pays less at once, the claim on the blood centre stands in the ledger.
    """
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    left_fen = await store.get_blood_left(tx, account.id)
    posting = domain.waive_blood(account, new_id(), amount_fen=amount_fen, blood_left_fen=left_fen)
    if not isinstance(posting, Posting):
        return posting
    await store.lock_approval(tx, approval_no)
    if await store.is_approval_used(tx, approval_no):
        return ApprovalUsed()
    waived = await post_deposit(tx, account, posting, method="blood_centre", cashier=None)
    await store.insert_blood_waiver(tx, posting.entry_id, account.id, approval_no)
    return waived


@dataclass(frozen=True, slots=True)
class RefundDecided:
    """A refund that may be posted, of a deposit whose account is locked."""

    account: Account
    deposit: Entry
    by: Reversal | Posting

    @property
    def amount_fen(self) -> int:
        """What goes back."""
        return self.deposit.amount_fen if isinstance(self.by, Reversal) else self.by.fen


async def decide_refund(
    tx: Transaction, *, encounter_id: UUID, entry_id: UUID, amount_fen: int | None = None
) -> RefundDecided | NoAccount | NotOpen | NoSuchEntry | AlreadyReversed | TooMuch:
    """Lock the account and decide whether a deposit, or a part of it, may go back (V8, V9)."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    entry = await store.get_entry(tx, account.id, entry_id)
    decided = domain.refund_deposit(account, entry, amount_fen=amount_fen)
    if not isinstance(decided, Reversal | Posting):
        return decided
    assert entry is not None, "Only an entry is given back."
    return RefundDecided(account, entry, decided)


async def post_refund(
    tx: Transaction, refund: RefundDecided, *, cashier: UUID | None, pays_out: bool = True
) -> Refunded:
    """Give a deposit, or a part of it, back to where it came from; taking it again is the way back.

    What came through the channel goes back through it: the refund is ordered here and looked after until it is done. Cash
    leaves the drawer of `cashier`. Money that moves to another account is not paid out.
    """
    account, amount_fen = refund.account, refund.amount_fen
    match refund.by:
        case Reversal() as reversal:
            await store.post_reversals(tx, account.id, (reversal,), reason="refund", cashier=cashier)
        case Posting() as posting:
            await store.post_entries(tx, account.id, (posting,), cashier=cashier)
    faults.reached("K6")
    refund_id, deposit_id = refund.by.entry_id, refund.deposit.id
    if pays_out and refund.deposit.money is LedgerAccount.CHANNEL:
        await order_refund(tx, entry_id=refund_id, deposit_id=deposit_id, amount_fen=amount_fen)
    outbox.append(
        tx,
        DepositRefunded(
            account_id=account.id,
            encounter_id=account.encounter_id,
            entry_id=refund_id,
            deposit_entry_id=deposit_id,
            amount_fen=amount_fen,
        ),
    )
    return Refunded(account, refund_id, amount_fen)


async def order_refund(tx: Transaction, *, entry_id: UUID, deposit_id: UUID, amount_fen: int) -> None:
    """Order money back through the channel, under a number made from the entry that gave it back: ordered once (R53)."""
    payment_id = await bill_store.find_payment_of_deposit(tx, deposit_id)
    assert payment_id is not None, "Channel money came with a payment."
    refund_no = f"R{entry_id.hex}"
    await bill_store.insert_refund(
        tx, refund_no=refund_no, entry_id=entry_id, payment_id=payment_id, amount_fen=amount_fen
    )
    await bill_store.send_errand(tx, "refund", refund_no)


# ---- settlement ------------------------------------------------------------------------------------------------------


async def settle_account(
    tx: Transaction, *, encounter_id: UUID, quoted_fen: int, method: PaymentMethod
) -> Settled | NoAccount | NotOpen | QuoteOutdated:
    """Settle the bill the payer saw, to the fen, and close the account: two statements, two events, one commit (R52).

    The patient pays everything in one go; where a fund pays its part, or several payments come together, there is a bill
    (bill_actions.py).
    """
    locked = await store.lock_for_settlement(tx, encounter_id)
    if locked is None:
        return NoAccount()
    account, deposits = locked
    if account.state != "open":
        return NotOpen(account.state)
    match domain.settle(account, deposits, quoted_fen=quoted_fen, method=method):
        case Settlement() as settlement:
            await post_settlement(tx, account, settlement)
        case NotOpen() | QuoteOutdated() as refusal:
            return refusal
        case other:
            assert_never(other)
    return Settled(account, settlement)


async def post_interim(tx: Transaction, account: Account, settlement: Settlement) -> None:
    """Write a decided interim settlement and announce it; the account stays open."""
    await store.insert_settlement(tx, account.id, settlement)
    faults.reached("K6")
    outbox.append(
        tx,
        InterimSettled(
            account_id=account.id,
            encounter_id=account.encounter_id,
            settlement_id=settlement.id,
            number=settlement.number,
            charged_fen=settlement.charged_fen,
            deposits_fen=settlement.deposits_fen,
            payer_fen=settlement.payer_fen,
        ),
    )


async def post_settlement(tx: Transaction, account: Account, settlement: Settlement) -> None:
    """Write a decided final settlement, order what goes back through the channel, and announce it."""
    await store.insert_settlement(tx, account.id, settlement, cashier=tx.actor)
    faults.reached("K6")
    for posting in settlement.postings:
        if posting.kind == "rest_refunded" and posting.credit is LedgerAccount.CHANNEL:
            assert posting.deposit_id is not None
            await order_refund(tx, entry_id=posting.entry_id, deposit_id=posting.deposit_id, amount_fen=posting.fen)
    outbox.append(
        tx,
        AccountSettled(
            account_id=account.id,
            encounter_id=account.encounter_id,
            settlement_id=settlement.id,
            number=settlement.number,
            charged_fen=settlement.charged_fen,
            deposits_fen=settlement.deposits_fen,
            payer_fen=settlement.payer_fen,
            collected_fen=settlement.collected_fen,
            refunded_fen=settlement.refunded_fen,
            written_off_fen=settlement.written_off_fen,
        ),
    )
    outbox.append(
        tx, AccountClosed(account_id=account.id, encounter_id=account.encounter_id, patient_tok=account.patient_tok)
    )


async def settle_late_charge(
    tx: Transaction, *, encounter_id: UUID, item: str, amount_fen: int, method: PaymentMethod | None, reason: str
) -> Settled | NoAccount | NotSettled | TooMuch:
    """Post a late charge to a closed account and settle it by itself, collected by `method` or written off (V13).

    One transaction: the final settlement stays in force, and the account is never seen open.
    """
    locked = await store.lock_for_settlement(tx, encounter_id)
    if locked is None:
        return NoAccount()
    if locked[0].state != "closed":
        return NotSettled()
    await store.begin_supplement(tx, locked[0].id)
    charged = await post_charge(tx, encounter_id=encounter_id, item=item, amount_fen=amount_fen)
    if isinstance(charged, TooMuch):
        return charged
    reread = await store.lock_for_settlement(tx, encounter_id)
    assert reread is not None
    account, deposits = reread
    settlement = domain.settle(account, deposits, quoted_fen=amount_fen, method=method, kind="supplementary")
    assert isinstance(settlement, Settlement), "A closed account owes nothing, so the late charge is all it owes."
    await store.insert_settlement(tx, account.id, settlement, cashier=tx.actor)
    faults.reached("K6")
    outbox.append(
        tx,
        SupplementSettled(
            account_id=account.id,
            encounter_id=encounter_id,
            settlement_id=settlement.id,
            number=settlement.number,
            charged_fen=settlement.charged_fen,
            collected_fen=settlement.collected_fen,
            written_off_fen=settlement.written_off_fen,
            reason=reason,
        ),
    )
    return Settled(account, settlement)


async def write_off_debt(
    tx: Transaction, *, encounter_id: UUID, quoted_fen: int
) -> Settled | NoAccount | NotOpen | QuoteOutdated:
    """Close an account whose patient is gone without paying: deposits are used up, the rest is a bad debt (欠费离院)."""
    locked = await store.lock_for_settlement(tx, encounter_id)
    if locked is None:
        return NoAccount()
    account, deposits = locked
    if account.state != "open":
        return NotOpen(account.state)
    match domain.settle(account, deposits, quoted_fen=quoted_fen, method=None):
        case Settlement() as settlement:
            await post_settlement(tx, account, settlement)
            return Settled(account, settlement)
        case refusal:
            return refusal


async def reopen_settlement(tx: Transaction, *, encounter_id: UUID, reason: str) -> Reopened | NoAccount | NotSettled:
    """Take the settlement in force back (结算召回) with its supplements: every child void by its own entry (V12)."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    in_force = await store.list_settlements_in_force(tx, account.id)
    decided = domain.reopen(account, await store.list_settlement_children(tx, account.id))
    if isinstance(decided, NotSettled):
        return decided
    reversals, gone = decided
    await store.mark_settlements_reopened(tx, account.id, reversals, reason=reason, cashier=tx.actor)
    if gone:
        await store.post_entries(tx, account.id, gone)
    faults.reached("K6")
    await _void_receipts(tx, account.id)
    for settlement_id in in_force:
        _announce_reopened(tx, account, settlement_id, reason)
    for posting in gone:
        assert posting.deposit_id is not None
        outbox.append(
            tx,
            DepositRefunded(
                account_id=account.id,
                encounter_id=encounter_id,
                entry_id=posting.entry_id,
                deposit_entry_id=posting.deposit_id,
                amount_fen=posting.fen,
            ),
        )
    charged_fen, deposits_fen = domain.restored_by(reversals)
    return Reopened(account, in_force[0], charged_fen, deposits_fen - sum(posting.fen for posting in gone))


async def reopen_interim(tx: Transaction, account: Account, bill: Bill, *, reason: str) -> Reopened:
    """Take an interim settlement back while the stay goes on: its lines are on the next bill again (V12)."""
    children = await store.list_settlement_children(tx, account.id, number=bill.number)
    reversals = tuple(Reversal(domain.reversal_id_of(child.id), child) for child in children)
    await store.mark_interim_reopened(tx, account.id, bill.id, reversals, reason=reason)
    faults.reached("K6")
    await _void_receipts(tx, account.id)
    _announce_reopened(tx, account, bill.settlement_id, reason)
    return Reopened(account, bill.settlement_id, *domain.restored_by(reversals))


async def _void_receipts(tx: Transaction, account_id: UUID) -> None:
    for receipt in await bill_store.list_receipts_to_void(tx, account_id):
        red = await bill_store.reserve_receipt(tx, receipt.settlement_id, receipt.amount_fen, voids=receipt.number)
        await bill_store.send_errand(tx, "receipt", red)


def _announce_reopened(tx: Transaction, account: Account, settlement_id: UUID, reason: str) -> None:
    outbox.append(
        tx,
        SettlementReopened(
            account_id=account.id,
            encounter_id=account.encounter_id,
            settlement_id=settlement_id,
            patient_tok=account.patient_tok,
            reason=reason,
        ),
    )
