"""The rules of a bill (结算单): what the payer was shown, what the fund and the family do about it, and what may follow.

Pure. Every answer from outside has three values (ports.py); `Unknown` never leads to a second request under another id,
and never to taking money (R53). The database enforces the same moves again (migrations/0005).

    drafting        the fund is asked who would pay what (2303)
    quoted          shown to the payer; dies when a line changes or its time is over
    locking         confirmed, the account locked; the fund will be asked to settle
    payer_pending   the fund was asked (2304); whoever finds it so later does not know what came of it
    payer_unknown   nobody knows whether it did: do not pay again
    collecting      the fund has settled (or there is none); the rest is collected or given back
    settled         paid to the fen; reopening: the fund is asked to take its part back (2305); reopened
    payer_reversing given up after the fund had settled: its part is taken back first; then cancelled
    failed          the fund refused, or never answered and was made to forget it (2601)
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid5

from services.billing.domain import Account, NotOpen, difference, settlement_id_of
from services.billing.ports import Declined, Done, Outcome, PayerSettlement, Split, Unknown

BillState = Literal[
    "drafting",
    "quoted",
    "locking",
    "payer_pending",
    "payer_unknown",
    "collecting",
    "settled",
    "payer_reversing",
    "reopening",
    "cancelled",
    "expired",
    "failed",
    "reopened",
]
MOVES: Mapping[BillState, frozenset[BillState]] = {
    "drafting": frozenset({"quoted", "failed", "cancelled"}),
    "quoted": frozenset({"locking", "collecting", "expired", "cancelled"}),
    "locking": frozenset({"payer_pending"}),
    "payer_pending": frozenset({"collecting", "payer_unknown", "locking", "failed", "payer_reversing"}),
    "payer_unknown": frozenset({"collecting", "locking", "failed", "payer_reversing"}),
    "collecting": frozenset({"settled", "payer_reversing", "cancelled"}),
    "payer_reversing": frozenset({"cancelled"}),
    "settled": frozenset({"reopening", "reopened"}),
    "reopening": frozenset({"reopened", "settled"}),
    "cancelled": frozenset(),
    "expired": frozenset(),
    "failed": frozenset(),
    "reopened": frozenset(),
}
"""The only moves; the table bill_move holds the same."""
LOCKS_ACCOUNT: frozenset[BillState] = frozenset(
    {"locking", "payer_pending", "payer_unknown", "collecting", "payer_reversing"}
)
"""While a bill is in one of these no line of its account may change."""
ASKS_OUTSIDE: frozenset[BillState] = frozenset(
    {"drafting", "locking", "payer_pending", "payer_unknown", "payer_reversing", "reopening"}
)
"""In these the next move is an answer from outside, so there is an errand."""
DECLINED = "payer_declined:"
QUOTE_LIFETIME = timedelta(minutes=30)
SENDS_MAX = 3
"""How often a settlement is sent to the fund, always under one msgid and only after the fund said that it knows nothing of it."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill as it is while its account is locked."""

    id: UUID
    account_id: UUID
    number: int
    state: BillState
    insured: bool
    bill_version: int
    lines: int
    lines_hash: bytes
    charged_fen: int
    fund_fen: int
    account_fen: int
    patient_fen: int
    expires_at: datetime
    sends: int = 0
    setl_id: str | None = None
    reason: str | None = None
    interim: bool = False
    """A bill of a stay that goes on (中途结算)."""

    @property
    def payer_fen(self) -> int:
        """Return what the fund and the personal account pay."""
        return self.fund_fen + self.account_fen

    @property
    def settlement_id(self) -> UUID:
        """Return the id the settlement of this bill will have; there is no other way to make one."""
        return settlement_id_of(self.account_id, self.number)

    def msgid(self, trade: str) -> str:
        """Return the one id under which this bill sends this trade."""
        return uuid5(self.id, trade).hex


# ---- why not ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoSuchBill:
    """There is no such bill of this stay."""


@dataclass(frozen=True, slots=True)
class BillInWork:
    """Another bill of this account is being settled."""

    bill_id: UUID
    state: BillState


@dataclass(frozen=True, slots=True)
class BillMoved:
    """The bill is not in a state that allows this."""

    state: BillState


@dataclass(frozen=True, slots=True)
class QuoteDead:
    """The quote does not hold any more: a line changed, its time is over, or the payer saw another one."""

    why: Literal["line_changed", "expired", "other_quote"]


@dataclass(frozen=True, slots=True)
class PayerNotConnected:
    """This account is insured and no fund is connected, or the insured person is not known."""

    why: Literal["no_gateway", "no_coverage"]


@dataclass(frozen=True, slots=True)
class NothingToSettle:
    """Nothing is on the account that an interim bill could settle."""


@dataclass(frozen=True, slots=True)
class MoreThanDue:
    """The payment is more than what is still due."""

    due_fen: int


BillRefusal = NoSuchBill | BillInWork | BillMoved | QuoteDead | PayerNotConnected | NothingToSettle | MoreThanDue


# ---- decisions -------------------------------------------------------------------------------------------------------


def hash_of_lines(lines: Iterable[tuple[UUID, int]]) -> bytes:
    """Return the fingerprint of live lines (entry id, fen), whatever their order; one fen more or another line changes it."""
    found = hashlib.sha256()
    for entry_id, fen in sorted(lines):
        found.update(entry_id.bytes + fen.to_bytes(8, "big"))
    return found.digest()[:16]


def move(bill: Bill, state: BillState, reason: str | None = None) -> Bill:
    """Return the bill in its next state. Raises ArithmeticError for a move that does not exist (a bug, never a refusal)."""
    if state not in MOVES[bill.state]:
        raise ArithmeticError(f"A bill does not go from {bill.state} to {state}.")
    return replace(bill, state=state, reason=reason)


def draft(
    account: Account,
    bill_id: UUID,
    *,
    version: int,
    lines: int,
    lines_hash: bytes,
    insured: bool,
    now: datetime,
    interim: bool = False,
) -> Bill | NotOpen | NothingToSettle:
    """Make the bill of everything on the account; without a fund the patient pays all and it is quoted at once."""
    if account.state != "open":
        return NotOpen(account.state)
    if interim and account.receivable_fen == 0:
        return NothingToSettle()
    return Bill(
        id=bill_id,
        account_id=account.id,
        number=account.settlements + 1,
        state="drafting" if insured else "quoted",
        insured=insured,
        bill_version=version,
        lines=lines,
        lines_hash=lines_hash,
        charged_fen=account.receivable_fen,
        fund_fen=0,
        account_fen=0,
        patient_fen=account.receivable_fen,
        expires_at=now + QUOTE_LIFETIME,
        interim=interim,
    )


def quote(bill: Bill, split: Split) -> Bill:
    """Write down who pays what as the fund says, to the fen."""
    if split.charged_fen != bill.charged_fen:
        return move(bill, "failed", "payer_counts_another_sum")
    return replace(
        move(bill, "quoted"), fund_fen=split.fund_fen, account_fen=split.account_fen, patient_fen=split.patient_fen
    )


def confirm(bill: Bill, *, version: int, shown_hash: bytes, now: datetime) -> Bill | BillMoved | QuoteDead:
    """Take the payer's yes to exactly the quote that was shown; from here on no line of the account may change."""
    if bill.state != "quoted":
        return BillMoved(bill.state)
    if bill.bill_version != version:
        return QuoteDead("line_changed")
    if bill.lines_hash != shown_hash:
        return QuoteDead("other_quote")
    if now > bill.expires_at:
        return QuoteDead("expired")
    return move(bill, "locking" if bill.insured else "collecting")


def send(bill: Bill) -> Bill:
    """Count a sending of 2304 before it is sent: from here on only the fund's own word says what came of it."""
    return replace(move(bill, "payer_pending"), sends=bill.sends + 1)


def payer_answered(bill: Bill, answer: Outcome[PayerSettlement]) -> Bill:
    """Take the answer to 2304: settled with the split that was shown, refused, or unknown.

    A fund that settled another split than the one shown is made to take it back: the family agreed to a sum. A refusal is
    asked about before it is believed: whoever believes a wrong one lets the family pay the fund's part.
    """
    match answer:
        case Done(value=made) if made.split == Split(
            bill.charged_fen, bill.fund_fen, bill.account_fen, bill.patient_fen
        ):
            return replace(move(bill, "collecting"), setl_id=made.setl_id)
        case Done(value=made):
            return replace(move(bill, "payer_reversing", "payer_split_changed"), setl_id=made.setl_id)
        case Declined(code=code):
            return move(bill, "payer_unknown", f"{DECLINED}{code}"[:64])
        case Unknown(why=why):
            return move(bill, "payer_unknown", why)


def payer_found(bill: Bill, answer: Outcome[PayerSettlement | None]) -> Bill:
    """Take the answer to the question what came of a 2304 nobody answered (5203).

    Known: as if it had been answered. Never made: it may be sent again, under the same msgid. Anything else: still unknown.
    """
    match answer:
        case Done(value=PayerSettlement() as made):
            return payer_answered(bill, Done(made))
        case Done() if not is_forgettable(bill, answer):
            return move(bill, "locking", "sent_again")
        case _ if bill.state == "payer_pending":
            return move(bill, "payer_unknown", "not_recorded")
        case _:
            return bill


def is_forgettable(bill: Bill, answer: Outcome[PayerSettlement | None]) -> bool:
    """Say whether the fund knows nothing of what it refused or was sent often enough: it is made to forget it (2601)."""
    over = bill.sends >= SENDS_MAX or (bill.reason or "").startswith(DECLINED)
    return isinstance(answer, Done) and answer.value is None and over


def due_fen(bill: Bill, deposits_fen: int) -> int:
    """Return what the patient still has to pay, deposits counted; 0 when money goes back instead."""
    return difference(bill.patient_fen, deposits_fen)[0]


def refund_fen(bill: Bill, deposits_fen: int, waived_fen: int) -> int:
    """Return what goes back to the patient, deposits counted; 0 when something is due instead, or the stay goes on."""
    return 0 if bill.interim else difference(bill.patient_fen, deposits_fen, waived_fen)[1]


def cancel(bill: Bill) -> Bill | BillMoved:
    """Give a bill up before it is settled; what the fund settled is taken back first. Unknown cannot be given up."""
    match bill.state:
        case "drafting" | "quoted":
            return move(bill, "cancelled")
        case "collecting":
            return move(bill, "payer_reversing" if bill.insured else "cancelled", "given_up")
        case state:
            return BillMoved(state)


def look_again_seconds(looks: int) -> float:
    """Return how long to wait before the next look: 1, 2, 4 … 60 s; a person at the bedside waits for the first ones."""
    return float(min(2 ** min(looks, 6), 60))
