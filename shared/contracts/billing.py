"""What billing announces: accounts, deposits, charges and settlements, exact to the fen (R17)."""

from typing import ClassVar
from uuid import UUID

from shared.contracts.envelope import Code, Event, Instant, PayerKind, Topic
from shared.money import Fen, PositiveFen

ACCOUNTS = Topic("billing.accounts.v1", owner="billing", key="account_id")


class AccountEvent(Event):
    """A fact of one account."""

    topic: ClassVar[Topic] = ACCOUNTS
    key_field: ClassVar[str] = "account_id"
    account_id: UUID
    encounter_id: UUID


class AccountOpened(AccountEvent):
    """One account from first deposit to final settlement (R02)."""

    patient_tok: UUID
    payer_kind: PayerKind


class DepositReceived(AccountEvent):
    """Prepaid money (预交金) came in; it is a liability until it is applied (R52)."""

    entry_id: UUID
    amount_fen: PositiveFen
    method: Code


class DepositRefunded(AccountEvent):
    """A deposit, or what was left of it, went back; names its original (V8)."""

    entry_id: UUID
    deposit_entry_id: UUID
    amount_fen: PositiveFen


class ChargePosted(AccountEvent):
    """One charge line of one executed item."""

    entry_id: UUID
    item: Code
    amount_fen: Fen
    charged_at: Instant


class ChargeReversed(AccountEvent):
    """A wrong charge was reversed by its own entry; the original stays (R51)."""

    entry_id: UUID
    reverses_entry_id: UUID
    amount_fen: Fen


class AccountSettled(AccountEvent):
    """The bill is paid: charges = deposits applied + payer + collected + written off - refunded."""

    settlement_id: UUID
    number: int
    charged_fen: Fen
    deposits_fen: Fen
    payer_fen: Fen
    collected_fen: Fen
    refunded_fen: Fen
    written_off_fen: Fen = 0


class BillConfirmed(AccountEvent):
    """The payer said yes to exactly this bill (结算单); until it is settled or given up no line of it changes."""

    bill_id: UUID
    charged_fen: Fen
    patient_fen: Fen


class PayerSettled(AccountEvent):
    """The insurance fund settled its part of a bill (2304)."""

    bill_id: UUID
    fund_fen: Fen
    account_fen: Fen


class PayerOutcomeUnknown(AccountEvent):
    """Nobody knows whether the fund settled; it is asked until it is known, and nobody pays meanwhile (R53)."""

    bill_id: UUID


class PayerReversed(AccountEvent):
    """The fund took its part of a bill back (2305)."""

    bill_id: UUID


class BillWithdrawn(AccountEvent):
    """A confirmed bill came to nothing; the account is open again."""

    bill_id: UUID
    reason: Code


class OverpaymentReceived(AccountEvent):
    """Money came through the channel for an account that takes none any more; it is on its way back (R53)."""

    entry_id: UUID
    amount_fen: PositiveFen


class SupplementSettled(AccountEvent):
    """A late charge was settled, or written off by role, after the final settlement, which stays in force (V13)."""

    settlement_id: UUID
    number: int
    charged_fen: Fen
    collected_fen: Fen
    written_off_fen: Fen
    reason: Code


class InterimSettled(AccountEvent):
    """A part of a stay that goes on was settled (中途结算); the account stays open, deposits that were not used stay with it."""

    settlement_id: UUID
    number: int
    charged_fen: Fen
    deposits_fen: Fen
    payer_fen: Fen


class ReceiptIssued(AccountEvent):
    """The electronic receipt (电子票据) of a settlement exists."""

    settlement_id: UUID
    receipt_no: Code


class ReceiptVoided(AccountEvent):
    """A receipt was voided by a red one (冲红)."""

    receipt_no: Code
    red_receipt_no: Code


class AccountClosed(AccountEvent):
    """Nothing is owed and nothing may be charged without a reopening or a supplementary bill."""

    patient_tok: UUID


class SettlementReopened(AccountEvent):
    """A settlement was taken back (结算召回); every child of it is void (V12)."""

    settlement_id: UUID
    patient_tok: UUID
    reason: Code


class ArrearsRaised(AccountEvent):
    """The stay owes more beyond its deposits than it may (欠费, R55); items that are not urgent are refused."""

    owed_fen: Fen
    limit_fen: Fen


class ArrearsCleared(AccountEvent):
    """The stay owes no more than it may again."""

    owed_fen: Fen


class AccountVoided(AccountEvent):
    """The admission never counted; charges are void and deposits can be refunded."""

    reason: Code
