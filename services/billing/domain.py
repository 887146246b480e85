"""The rules of money: what an account takes in which state, what may be reversed, and how a bill is settled.

Pure: amounts are whole fen (R50), every decision is a value, "no" is a value too. The database enforces the same laws
again (migrations/0001, 0002, 0005, 0006). How a bill goes from quote to receipt is in bills.py.

    account     open -> closed (settled) -> open (reopened) ... ; open -> billing (a confirmed bill is being settled) -> closed
                or open again; open -> voided (the admission never counted); open all along an interim settlement
    charge      alive until reversed, once
    deposit     held until refunded, or applied by a settlement; a reopened settlement gives it back
    settlement  in force until reopened; the next one is n + 1; a supplementary one settles a late charge by itself
    waiver      what the blood centre pays of a donor's blood (用血减免), held as a deposit whose money is a claim on it; a
                settlement uses it first, and what it does not need is no money for anybody
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, assert_never
from uuid import UUID, uuid5

from shared.money import FEN_MAX

AccountState = Literal["open", "billing", "closed", "voided"]
PaymentMethod = Literal["cash", "bank_card", "wechat", "alipay", "bank_transfer"]
DepositMethod = PaymentMethod | Literal["blood_centre"]
"""How a deposit came in: money, or a claim on the blood centre."""
EntryKind = Literal[
    "charge",
    "deposit",
    "deposit_applied",
    "rest_refunded",
    "waiver_released",
    "part_refunded",
    "collected",
    "payer_share",
    "written_off",
    "overpaid",
    "reversal",
]
SettlementKind = Literal["final", "supplementary", "interim"]


class LedgerAccount(IntEnum):
    """The chart of accounts (会计科目); the same rows are in the table ledger_account."""

    RECEIVABLE = 1
    DEPOSITS = 2
    OVERPAID = 3
    REVENUE = 10
    PAYER_RECEIVABLE = 11
    BAD_DEBT = 12
    CASH = 20
    BANK_CARD = 21
    WECHAT = 22
    ALIPAY = 23
    BANK_TRANSFER = 24
    CHANNEL = 25
    BLOOD_CENTRE = 26


MONEY_OF: dict[PaymentMethod, LedgerAccount] = {
    "cash": LedgerAccount.CASH,
    "bank_card": LedgerAccount.BANK_CARD,
    "wechat": LedgerAccount.WECHAT,
    "alipay": LedgerAccount.ALIPAY,
    "bank_transfer": LedgerAccount.BANK_TRANSFER,
}
"""Where money of each way of paying (R17) lies when a person took it; what came through the channel lies in CHANNEL."""

PAYS_CHARGES: frozenset[EntryKind] = frozenset({"deposit_applied", "collected", "payer_share", "written_off"})
USES_DEPOSITS: frozenset[EntryKind] = frozenset({"deposit_applied", "rest_refunded", "waiver_released"})


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is while its row is locked."""

    id: UUID
    encounter_id: UUID
    patient_tok: UUID
    state: AccountState
    day_case: bool
    settlements: int
    receivable_fen: int
    deposits_fen: int
    ward: str | None
    interim_in_work: bool = False
    """A confirmed interim bill is being settled or taken back: charges go on, deposits are counted on."""

    @property
    def is_billing(self) -> bool:
        """Say whether a confirmed bill counts on the deposits."""
        return self.state == "billing" or self.interim_in_work


@dataclass(frozen=True, slots=True)
class Deposit:
    """A live deposit and where its money lies."""

    entry_id: UUID
    amount_fen: int
    money: LedgerAccount

    @property
    def is_waiver(self) -> bool:
        """Say whether the blood centre pays it: never money to give back to a patient."""
        return self.money is LedgerAccount.BLOOD_CENTRE


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as far as a reversal needs it."""

    id: UUID
    kind: EntryKind
    amount_fen: int
    reversed: bool
    money: LedgerAccount | None = None
    """Where the money of a deposit lies, or where a refund took it from."""
    part_refunded_fen: int = 0
    deposit_id: UUID | None = None
    settled: bool = False
    """An interim bill settles or settled this charge."""
    applied_fen: int = 0
    """What an interim settlement used of a deposit."""
    waived: bool = False
    """The blood centre pays this charge, or a part of it."""


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount to be moved from the credited to the debited ledger account, under the entry's id."""

    entry_id: UUID
    kind: EntryKind
    debit: LedgerAccount
    credit: LedgerAccount
    fen: int
    deposit_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Reversal:
    """An original and the entry that will reverse it."""

    entry_id: UUID
    original: Entry


@dataclass(frozen=True, slots=True)
class Settlement:
    """A decided settlement: charges + refunds = deposits + payer + collected + written off, to the fen (invariant 3)."""

    id: UUID
    number: int
    charged_fen: int
    deposits_fen: int
    payer_fen: int
    collected_fen: int
    refunded_fen: int
    postings: tuple[Posting, ...]
    written_off_fen: int = 0
    kind: SettlementKind = "final"

    def __post_init__(self) -> None:
        """Refuse to exist when a fen appeared or vanished (A3)."""
        came = self.deposits_fen + self.payer_fen + self.collected_fen + self.written_off_fen
        if came != self.charged_fen + self.refunded_fen or min(self.collected_fen, self.refunded_fen) != 0:
            raise ArithmeticError("This settlement does not conserve money.")


# ---- why not ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoAccount:
    """The stay has no account (yet)."""


@dataclass(frozen=True, slots=True)
class NotOpen:
    """The account takes no such posting in its state."""

    state: AccountState


@dataclass(frozen=True, slots=True)
class NoSuchEntry:
    """The account has no entry of this kind under that id."""


@dataclass(frozen=True, slots=True)
class AlreadyReversed:
    """The entry was reversed before; nothing is reversed twice (V8)."""


@dataclass(frozen=True, slots=True)
class ChargeSettled:
    """An interim bill settles or settled the charge; that is taken back first."""


@dataclass(frozen=True, slots=True)
class QuoteOutdated:
    """The bill is not the sum the payer agreed to."""

    charged_fen: int


@dataclass(frozen=True, slots=True)
class NotSettled:
    """There is no settlement in force to take back."""


@dataclass(frozen=True, slots=True)
class TooMuch:
    """The account would hold more than the ledger can settle in one entry."""


@dataclass(frozen=True, slots=True)
class MoreThanBlood:
    """The waiver, with those before it, is more than the blood on the account costs."""

    left_fen: int


@dataclass(frozen=True, slots=True)
class ApprovalUsed:
    """The blood centre paid under this number before; it agrees to one waiver at a time."""


@dataclass(frozen=True, slots=True)
class BloodWaived:
    """The blood centre pays this charge or a part of it; that waiver is taken back first."""


Refusal = (
    NoAccount
    | NotOpen
    | TooMuch
    | NoSuchEntry
    | AlreadyReversed
    | ChargeSettled
    | QuoteOutdated
    | NotSettled
    | MoreThanBlood
    | ApprovalUsed
    | BloodWaived
)


# ---- ids that are idempotency keys (R52) -----------------------------------------------------------------------------


def settlement_id_of(account_id: UUID, number: int) -> UUID:
    """Return the id of settlement n of an account; there is no other way to make one, so n exists once."""
    return uuid5(account_id, f"settle:{number}")


def reversal_id_of(original_id: UUID) -> UUID:
    """Return the id of the one entry that can reverse this one."""
    return uuid5(original_id, "reversal")


# ---- decisions -------------------------------------------------------------------------------------------------------


def fits(balance_fen: int, amount_fen: int) -> bool:
    """Say whether a balance can grow by this much and still be settled in one entry."""
    return balance_fen + amount_fen <= FEN_MAX


def takes_charges(state: AccountState) -> bool:
    """Say whether a charge may be posted: on an open account only, late charges need a reopening first (V13)."""
    match state:
        case "open":
            return True
        case "billing" | "closed" | "voided":
            return False
        case _:
            assert_never(state)


def deposit(
    account: Account, entry_id: UUID, *, amount_fen: int, money: LedgerAccount, for_bill: bool = False
) -> Posting | NotOpen | TooMuch:
    """Decide to take prepaid money: no more than one entry can settle, and while a bill is being settled only for that bill."""
    if account.state not in ("open", "billing") or account.is_billing != for_bill:
        return NotOpen("billing" if account.is_billing else account.state)
    if not fits(account.deposits_fen, amount_fen):
        return TooMuch()
    return Posting(entry_id, "deposit", money, LedgerAccount.DEPOSITS, amount_fen)


def waive_blood(
    account: Account, entry_id: UUID, *, amount_fen: int, blood_left_fen: int
) -> Posting | NotOpen | TooMuch | MoreThanBlood:
    """Decide to let the blood centre pay for a donor's blood: no more than the live charges for blood not waived yet (BIL-9).

    Held like a deposit, so that reopening gives it back, and used first by the settlement.
    """
    if account.state != "open" or account.is_billing:
        return NotOpen("billing" if account.is_billing else account.state)
    if amount_fen > blood_left_fen:
        return MoreThanBlood(blood_left_fen)
    return deposit(account, entry_id, amount_fen=amount_fen, money=LedgerAccount.BLOOD_CENTRE)


def waived_fen(deposits: Iterable[Deposit]) -> int:
    """Return what of these deposits is a claim on the blood centre."""
    return sum(deposit.amount_fen for deposit in deposits if deposit.is_waiver)


def reverse_charge(
    account: Account, entry: Entry | None
) -> Reversal | NotOpen | NoSuchEntry | AlreadyReversed | ChargeSettled | BloodWaived:
    """Decide the reversal of one charge: of an open account, by its own entry, once (R51, V8)."""
    if entry is None or entry.kind != "charge":
        return NoSuchEntry()
    if entry.reversed:
        return AlreadyReversed()
    if not takes_charges(account.state):
        return NotOpen(account.state)
    if entry.settled:
        return ChargeSettled()
    if entry.waived:
        return BloodWaived()
    return Reversal(reversal_id_of(entry.id), entry)


def refund_deposit(
    account: Account, entry: Entry | None, *, amount_fen: int | None = None
) -> Reversal | Posting | NotOpen | NoSuchEntry | AlreadyReversed | TooMuch:
    """Decide to give a deposit back to where it came from: whole by its reversal, once, or a part of what is left (V8, V9).

    A settlement in force has used it up, and while a bill is being settled it is counted on.
    """
    if entry is None or entry.kind != "deposit" or entry.money is None:
        return NoSuchEntry()
    if account.is_billing or account.state == "closed":
        return NotOpen("billing" if account.is_billing else account.state)
    left_fen = entry.amount_fen - entry.part_refunded_fen - entry.applied_fen
    if entry.reversed or left_fen == 0:
        return AlreadyReversed()
    wanted_fen = left_fen if amount_fen is None else amount_fen
    if wanted_fen > left_fen:
        return TooMuch()
    if wanted_fen == entry.amount_fen:
        return Reversal(reversal_id_of(entry.id), entry)
    entry_id = uuid5(entry.id, f"part_refunded:{entry.part_refunded_fen}")
    return Posting(entry_id, "part_refunded", LedgerAccount.DEPOSITS, entry.money, wanted_fen, entry.id)


def needs_second_person(wanted_fen: int, alone_fen: int, alone_fen_max: int) -> bool:
    """Say whether somebody else has to agree: with what one account got back by one person's word before, it is too much."""
    return wanted_fen + alone_fen > alone_fen_max


def settle(
    account: Account,
    deposits: Sequence[Deposit],
    *,
    quoted_fen: int,
    method: PaymentMethod | None,
    payer_fen: int = 0,
    kind: SettlementKind = "final",
) -> Settlement | NotOpen | QuoteOutdated:
    """Decide the settlement of everything on the account, or say that the payer saw another sum (R52).

    The payer's share comes off first, then what the blood centre pays, then deposits in the order they came in. What is
    missing is collected by `method`, or written off when there is none; what is left of each deposit goes back to where that
    deposit came from, and of a waiver nothing is left: the claim is smaller.
    """
    if account.state not in ("open", "billing") or account.interim_in_work:
        return NotOpen("billing" if account.interim_in_work else account.state)
    charged_fen = account.receivable_fen
    if quoted_fen != charged_fen:
        return QuoteOutdated(charged_fen)
    if not 0 <= payer_fen <= charged_fen:
        raise ValueError("A payer pays no more than was charged.")
    number = account.settlements + 1
    settlement_id = settlement_id_of(account.id, number)
    postings: list[Posting] = []

    def post(
        kind: EntryKind, debit: LedgerAccount, credit: LedgerAccount, fen: int, deposit_id: UUID | None = None
    ) -> None:
        if fen:
            entry_id = uuid5(settlement_id, str(len(postings) + 1))
            postings.append(Posting(entry_id, kind, debit, credit, fen, deposit_id))

    post("payer_share", LedgerAccount.PAYER_RECEIVABLE, LedgerAccount.RECEIVABLE, payer_fen)
    due_fen = charged_fen - payer_fen
    deposits_fen = refunded_fen = 0
    for deposit in _waivers_first(deposits):
        applied_fen = min(due_fen, deposit.amount_fen)
        rest_fen = deposit.amount_fen - applied_fen
        rest: EntryKind = "waiver_released" if deposit.is_waiver else "rest_refunded"
        post("deposit_applied", LedgerAccount.DEPOSITS, LedgerAccount.RECEIVABLE, applied_fen, deposit.entry_id)
        post(rest, LedgerAccount.DEPOSITS, deposit.money, rest_fen, deposit.entry_id)
        due_fen -= applied_fen
        deposits_fen += applied_fen if deposit.is_waiver else deposit.amount_fen
        refunded_fen += 0 if deposit.is_waiver else rest_fen
    if method is None:
        post("written_off", LedgerAccount.BAD_DEBT, LedgerAccount.RECEIVABLE, due_fen)
    else:
        post("collected", MONEY_OF[method], LedgerAccount.RECEIVABLE, due_fen)
    return Settlement(
        id=settlement_id,
        number=number,
        charged_fen=charged_fen,
        deposits_fen=deposits_fen,
        payer_fen=payer_fen,
        collected_fen=0 if method is None else due_fen,
        refunded_fen=refunded_fen,
        postings=tuple(postings),
        written_off_fen=due_fen if method is None else 0,
        kind=kind,
    )


def settle_interim(
    account: Account, deposits: Sequence[Deposit], *, charged_fen: int, payer_fen: int = 0
) -> Settlement:
    """Decide the settlement of a part of a stay that goes on: the payer's share, then waivers and deposits as far as needed.

    What is left of the deposits stays with the account. The caller has seen that they cover it.

    Raises:
        ArithmeticError: they do not, or more is settled than is owed (a bug, never a refusal).
    """
    if not 0 < charged_fen <= account.receivable_fen:
        raise ArithmeticError("An interim settlement settles a part of what is owed.")
    number = account.settlements + 1
    settlement_id = settlement_id_of(account.id, number)
    moves: list[tuple[EntryKind, LedgerAccount, int, UUID | None]] = [
        ("payer_share", LedgerAccount.PAYER_RECEIVABLE, payer_fen, None)
    ]
    due_fen = charged_fen - payer_fen
    for deposit in _waivers_first(deposits):
        applied_fen = min(due_fen, deposit.amount_fen)
        moves.append(("deposit_applied", LedgerAccount.DEPOSITS, applied_fen, deposit.entry_id))
        due_fen -= applied_fen
    if due_fen:
        raise ArithmeticError("An interim settlement is covered before it is settled.")
    return Settlement(
        id=settlement_id,
        number=number,
        charged_fen=charged_fen,
        deposits_fen=charged_fen - payer_fen,
        payer_fen=payer_fen,
        collected_fen=0,
        refunded_fen=0,
        postings=tuple(
            Posting(uuid5(settlement_id, str(no)), kind, debit, LedgerAccount.RECEIVABLE, fen, deposit_id)
            for no, (kind, debit, fen, deposit_id) in enumerate(moves, 1)
            if fen
        ),
        kind="interim",
    )


def _waivers_first(deposits: Sequence[Deposit]) -> list[Deposit]:
    return sorted(deposits, key=lambda deposit: not deposit.is_waiver)


def difference(owed_fen: int, deposits_fen: int, waived_fen: int = 0) -> tuple[int, int]:
    """Return what settling this now would collect and what it would give back; one of them is zero.

    Args:
        owed_fen: the patient's part.
        deposits_fen: everything held, waivers with it.
        waived_fen: what of it is a claim on the blood centre; none of that goes back to a patient.
    """
    return max(owed_fen - deposits_fen, 0), max(deposits_fen - max(owed_fen, waived_fen), 0)


def check_bill(balance_fen: int, charged_fen: int) -> None:
    """Halt when the balance of an open account is not the sum of its live charges (A2, V14); never show a guess."""
    if balance_fen != charged_fen:
        raise ArithmeticError("The account's balance is not the sum of its live charges.")


def reopen(
    account: Account, children: Sequence[Entry]
) -> tuple[tuple[Reversal, ...], tuple[Posting, ...]] | NotSettled:
    """Decide to take the settlement in force back: every child void by its own reversing entry (V12).

    What went back through the channel is with the patient already: the deposit comes back less that part.
    """
    if account.state != "closed":
        return NotSettled()
    reversals = tuple(Reversal(reversal_id_of(child.id), child) for child in children)
    gone = tuple(
        Posting(
            uuid5(child.id, "went_back"),
            "part_refunded",
            LedgerAccount.DEPOSITS,
            LedgerAccount.CHANNEL,
            child.amount_fen,
            child.deposit_id,
        )
        for child in children
        if child.kind == "rest_refunded" and child.money is LedgerAccount.CHANNEL
    )
    return reversals, gone


def restored_by(reversals: Sequence[Reversal]) -> tuple[int, int]:
    """Return what a reopening makes the patient owe again, and what it puts back among the deposits."""
    owed = sum(r.original.amount_fen for r in reversals if r.original.kind in PAYS_CHARGES)
    held = sum(r.original.amount_fen for r in reversals if r.original.kind in USES_DEPOSITS)
    return owed, held


def void(account: Account, live_charges: Sequence[Entry]) -> tuple[Reversal, ...] | NotOpen:
    """Decide to void the account of an admission that never counted: every live charge reversed (A11)."""
    if account.state != "open" or account.interim_in_work:
        return NotOpen("billing" if account.interim_in_work else account.state)
    return tuple(Reversal(reversal_id_of(charge.id), charge) for charge in live_charges)
