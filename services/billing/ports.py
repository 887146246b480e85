"""What billing needs of parties outside the hospital: the insurance fund, the payment channel and the receipt office.

Small protocols of our own words, so that a hospital's real adapter replaces one file (`outside/`). Every call is answered
in one of three ways: `Done`, `Declined` (it certainly did not happen) or `Unknown` (it may have happened). `Unknown` is never
sent again under a new id: the same id is asked about, repeated, or reversed (R53). Amounts are whole fen; whoever
implements a port converts them from and to what the party speaks, exactly.

No adapter raises for what the outside does: silence, a broken connection, an unreadable or forged answer are `Unknown`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Generic, Literal, Protocol, TypeVar
from uuid import UUID

T = TypeVar("T", covariant=True)
Why = Literal["timeout", "connection_lost", "unreadable", "bad_signature", "server_error"]
ChannelMethod = Literal["wechat", "alipay"]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """It happened, and this is what came of it."""

    value: T


@dataclass(frozen=True, slots=True)
class Declined:
    """It certainly did not happen; the code is the party's own."""

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody here knows whether it happened."""

    why: Why


Outcome = Done[T] | Declined | Unknown


# ---- insurance fund (医保) -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InsuredStay:
    """A stay as the fund knows it: no name leaves the hospital here, the fund finds the person by its own number."""

    encounter_id: UUID
    psn_no: str
    admitted_at: datetime
    ward: str | None
    bed: str | None


@dataclass(frozen=True, slots=True)
class FeeLine:
    """One live charge line as it is uploaded (2301)."""

    entry_id: UUID
    item: str
    amount_fen: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Split:
    """Who pays what of a bill: fund + personal account + patient = charged, to the fen."""

    charged_fen: int
    fund_fen: int
    account_fen: int
    patient_fen: int

    def __post_init__(self) -> None:
        """Refuse to exist when the parts are not the whole (A1)."""
        parts = (self.fund_fen, self.account_fen, self.patient_fen)
        if min(parts) < 0 or sum(parts) != self.charged_fen:
            raise ArithmeticError("The payers' parts are not the whole bill.")

    @property
    def payer_fen(self) -> int:
        """Return what the patient does not pay at the desk."""
        return self.fund_fen + self.account_fen


@dataclass(frozen=True, slots=True)
class PayerSettlement:
    """A settlement as the fund made it (2304); `setl_id` is the fund's."""

    setl_id: str
    split: Split


@dataclass(frozen=True, slots=True)
class FundDay:
    """The fund's view of one business day (3201)."""

    matches: bool
    settlements: int
    payer_fen: int


class InsuranceGateway(Protocol):
    """The national insurance interface: one trade (交易) per method, `msgid` is its idempotency key."""

    async def register_stay(self, msgid: str, stay: InsuredStay) -> Outcome[str]:
        """Register the stay (1101, then 2401) and return the fund's `mdtrt_id`; a stay is registered once."""
        ...

    async def cancel_stay(self, msgid: str, mdtrt_id: str) -> Outcome[None]:
        """Take the registration back (2404)."""
        ...

    async def leave(self, msgid: str, mdtrt_id: str, at: datetime) -> Outcome[None]:
        """Tell the fund that the patient left (2402)."""
        ...

    async def cancel_leave(self, msgid: str, mdtrt_id: str) -> Outcome[None]:
        """Take the leaving back (2405)."""
        ...

    async def upload_lines(self, msgid: str, mdtrt_id: str, lines: Sequence[FeeLine]) -> Outcome[int]:
        """Upload charge lines (2301), each known by its entry id and counted once; return how many the fund now holds."""
        ...

    async def withdraw_lines(self, msgid: str, mdtrt_id: str, entry_ids: Sequence[UUID]) -> Outcome[int]:
        """Withdraw uploaded lines (2302); return how many the fund still holds."""
        ...

    async def pre_settle(self, msgid: str, mdtrt_id: str, charged_fen: int) -> Outcome[Split]:
        """Ask who would pay what of the uploaded lines (2303); declined when their sum is not `charged_fen`."""
        ...

    async def settle(
        self, msgid: str, mdtrt_id: str, charged_fen: int, *, interim: bool = False
    ) -> Outcome[PayerSettlement]:
        """Settle with the fund (2304), `interim` when the stay goes on; the same `msgid` again is the same settlement."""
        ...

    async def find_settlement(self, msgid: str, mdtrt_id: str, of_msgid: str) -> Outcome[PayerSettlement | None]:
        """Ask what came of the 2304 sent as `of_msgid` (5203); None: the fund never made it or it was reversed."""
        ...

    async def reverse_settlement(self, msgid: str, mdtrt_id: str, setl_id: str) -> Outcome[None]:
        """Take a settlement back (2305); taking it back again is done, too."""
        ...

    async def reverse_unknown(self, msgid: str, mdtrt_id: str, of_trade: str, of_msgid: str) -> Outcome[None]:
        """Make sure that a trade whose outcome is unknown never counts (冲正, 2601); done also when it never happened."""
        ...

    async def reconcile(self, msgid: str, day: date, settlements: int, payer_fen: int) -> Outcome[FundDay]:
        """Compare one business day with the fund (3201)."""
        ...


# ---- payment channel (WeChat, Alipay) --------------------------------------------------------------------------------

OrderState = Literal["unpaid", "paid", "closed"]
RefundState = Literal["processing", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Order:
    """A payment order as the channel knows it; `transaction_id` and `paid_at` are there once it is paid."""

    order_no: str
    state: OrderState
    amount_fen: int
    transaction_id: str | None = None
    paid_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChannelRefund:
    """A refund as the channel knows it."""

    refund_no: str
    order_no: str
    state: RefundState
    amount_fen: int


@dataclass(frozen=True, slots=True)
class StatementRow:
    """One row of the channel's daily statement: a payment, or a refund (`refund_no` is there)."""

    order_no: str
    transaction_id: str
    amount_fen: int
    at: datetime
    refund_no: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that is truly the channel's; one whose nonce was seen before is a repetition (or somebody playing it back)."""

    nonce: str
    order: Order


class ForgedNotice(Exception):
    """The notice is not from the channel, not for us, or not readable; it changes nothing."""


class PaymentChannel(Protocol):
    """One payment channel; `order_no` and `refund_no` are the idempotency keys."""

    async def create_order(
        self, order_no: str, amount_fen: int, method: ChannelMethod, expires_at: datetime
    ) -> Outcome[str]:
        """Create an order and return the text of its QR code; the same order again gives the same code."""
        ...

    async def query_order(self, order_no: str) -> Outcome[Order | None]:
        """Ask how an order stands; None: the channel never heard of it."""
        ...

    async def close_order(self, order_no: str) -> Outcome[Order]:
        """Close an order so that nobody can pay it any more; the answer may be that it was paid already."""
        ...

    async def refund(self, refund_no: str, order_no: str, amount_fen: int) -> Outcome[ChannelRefund]:
        """Give part or all of a paid order back; the same `refund_no` again is the same refund."""
        ...

    async def query_refund(self, refund_no: str) -> Outcome[ChannelRefund | None]:
        """Ask how a refund stands; None: the channel never heard of it."""
        ...

    async def statement(self, day: date) -> Outcome[Sequence[StatementRow]]:
        """Return the statement of one business day."""
        ...

    def read_notice(self, headers: Mapping[str, str], body: bytes) -> Notice:
        """Return the paid order a signed notice (callback) tells of; whether its nonce was used before the caller looks up.

        Raises:
            ForgedNotice: the signature, the merchant, the age or the shape is wrong.
        """
        ...


# ---- electronic receipts (财政电子票据) ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """An electronic receipt; `check_code` and `url` are what its QR code carries."""

    number: str
    check_code: str
    url: str
    red: bool


class ReceiptIssuer(Protocol):
    """The receipt office; `number` is reserved by us before the first call and is the idempotency key."""

    async def issue(self, number: str, amount_fen: int, lines: Sequence[FeeLine], at: datetime) -> Outcome[Receipt]:
        """Issue a receipt under a reserved number."""
        ...

    async def red_flush(self, number: str, of_number: str, reason: str) -> Outcome[Receipt]:
        """Void a receipt by a red one (冲红); a receipt is voided once."""
        ...

    async def query(self, number: str) -> Outcome[Receipt | None]:
        """Ask for a receipt; None: there is none under this number."""
        ...
