"""How billing says no: each refusal with its problem document, and the check of the ward (S1)."""

from typing import NoReturn, assert_never
from uuid import UUID

from services.billing.domain import (
    AlreadyReversed,
    ApprovalUsed,
    BloodWaived,
    ChargeSettled,
    MoreThanBlood,
    NoAccount,
    NoSuchEntry,
    NotOpen,
    NotSettled,
    QuoteOutdated,
    Refusal,
    TooMuch,
)
from shared.access.policy import Permission
from shared.errors import NotFound, Refused
from shared.web import Caller, NotYet


def refuse(refusal: Refusal, encounter_id: UUID, *, may_open: bool = False) -> NoReturn:
    """Answer a refusal with its problem document; with `may_open` the account may be opened any moment."""
    match refusal:
        case NoAccount() if may_open:
            raise NotYet(
                "This stay has no account yet; it opens when the patient is admitted or arrives for day surgery.",
                code="no_account_yet",
                wait_for=encounter_id,
            )
        case NoAccount():
            raise NotFound("This stay has no account.", code="no_account")
        case NotOpen(state="voided"):
            raise Refused("The account is void, because the admission was cancelled.", code="account_voided")
        case NotOpen(state="billing"):
            raise Refused(
                "A bill of this account is being settled; finish it or give it up first.", code="account_billing"
            )
        case NotOpen():
            raise Refused("The account is settled and closed; reopen the settlement first.", code="account_closed")
        case TooMuch():
            raise Refused("This is more than the account holds or can hold.", code="amount_too_large")
        case NoSuchEntry():
            raise NotFound("The account has no such entry.", code="no_such_entry")
        case AlreadyReversed():
            raise Refused("This was reversed before; nothing is reversed twice.", code="already_reversed")
        case ChargeSettled():
            raise Refused(
                "An interim settlement settled this charge; take that back first, then correct it.",
                code="charge_settled",
            )
        case MoreThanBlood(left_fen=left_fen):
            raise Refused(
                "This is more than the blood on the account costs beyond what is waived already.",
                code="more_than_blood",
                left_fen=left_fen,
            )
        case ApprovalUsed():
            raise Refused("The blood centre paid under this approval number before.", code="approval_used")
        case BloodWaived():
            raise Refused(
                "The blood centre pays for this blood; take the waiver back first, then correct the charge.",
                code="blood_waived",
            )
        case QuoteOutdated(charged_fen=charged_fen):
            raise Refused(
                "The bill is not the sum the payer saw; show the new sum first.",
                code="quote_outdated",
                charged_fen=charged_fen,
            )
        case NotSettled():
            raise Refused("There is no settlement in force to take back.", code="not_settled")
        case _:
            assert_never(refusal)


def check_ward(caller: Caller, permission: Permission, ward: str | None, encounter_id: UUID) -> None:
    """Refuse who may do this in other wards only (S1); where the patient lies may be told any moment."""
    if ward is None and not caller.scope_of(permission).everywhere:
        raise NotYet("Where this patient lies is not known yet.", code="ward_not_known_yet", wait_for=encounter_id)
    caller.require(permission, ward=ward)
