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
    """The bill is paid: charges = deposits applied + payer + collected - refunded."""

    settlement_id: UUID
    number: int
    charged_fen: Fen
    deposits_fen: Fen
    payer_fen: Fen
    collected_fen: Fen
    refunded_fen: Fen


class AccountClosed(AccountEvent):
    """Nothing is owed and nothing may be charged without a reopening or a supplementary bill."""

    patient_tok: UUID


class SettlementReopened(AccountEvent):
    """A settlement was taken back (结算召回); every child of it is void (V12)."""

    settlement_id: UUID
    patient_tok: UUID
    reason: Code


class AccountVoided(AccountEvent):
    """The admission never counted; charges are void and deposits can be refunded."""

    reason: Code
