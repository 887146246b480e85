"""What can be done with a bill (结算单), at the desk, at the bedside, or because an answer came from outside.

One action = one transaction; each locks the account's row first, decides purely (bills.py), writes, and announces. Nothing
here talks to the outside: what has to be asked is stored first and an errand is sent (errands.py).
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal
from uuid import UUID, uuid5

from services.billing import actions, bill_store, bills, domain, store
from services.billing.actions import Deposited, Reopened
from services.billing.bill_store import PAYABLE, Payment
from services.billing.bills import (
    Bill,
    BillInWork,
    BillMoved,
    BillRefusal,
    MoreThanDue,
    NoSuchBill,
    NothingToSettle,
    PayerNotConnected,
    QuoteDead,
)
from services.billing.domain import (
    MONEY_OF,
    Account,
    Deposit,
    LedgerAccount,
    NoAccount,
    NotOpen,
    NotSettled,
    PaymentMethod,
    Posting,
    QuoteOutdated,
    Refusal,
    Reversal,
    Settlement,
    TooMuch,
)
from services.billing.ports import ChannelMethod, Order
from shared.contracts.billing import (
    BillConfirmed,
    BillWithdrawn,
    OverpaymentReceived,
    PayerOutcomeUnknown,
    PayerReversed,
    PayerSettled,
)
from shared.db import Transaction
from shared.ids import new_id
from shared.messaging import outbox

ORDER_LIFETIME = timedelta(minutes=5)
"""How long a QR code can be paid."""


@dataclass(frozen=True, slots=True)
class PaymentInWork:
    """Somebody may still pay an order of this account; close it first (R53)."""

    payment_id: UUID


@dataclass(frozen=True, slots=True)
class NoSuchPayment:
    """There is no such payment of this stay."""


@dataclass(frozen=True, slots=True)
class OnBill:
    """What was done to a bill, and how it stands now."""

    account: Account
    bill: Bill
    deposits_fen: int
    waived_fen: int = 0
    """What of the deposits is a claim on the blood centre."""


@dataclass(frozen=True, slots=True)
class OnPayment:
    """What was done to a payment, and how it stands now."""

    account: Account
    payment: Payment


AnyRefusal = Refusal | BillRefusal | PaymentInWork | NoSuchPayment


@dataclass(frozen=True, slots=True)
class _Locked:
    account: Account
    deposits: tuple[Deposit, ...]
    bill: Bill


async def _lock(tx: Transaction, encounter_id: UUID, bill_id: UUID) -> _Locked | NoAccount | NoSuchBill:
    found = await store.lock_for_settlement(tx, encounter_id)
    if found is None:
        return NoAccount()
    account, deposits = found
    bill = await bill_store.get_bill(tx, account.id, bill_id)
    return NoSuchBill() if bill is None else _Locked(account, deposits, bill)


# ---- from quote to yes -----------------------------------------------------------------------------------------------


async def note_coverage(
    tx: Transaction, *, encounter_id: UUID, psn_no: str
) -> Account | NoAccount | NotOpen | BillInWork:
    """Note by whom the stay is insured; not while a bill is in work."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    if account.state != "open":
        return NotOpen(account.state)
    live = await bill_store.get_live_lines(tx, account.id)
    if live.bill_id is not None and live.bill_state is not None and live.bill_state not in ("drafting", "quoted"):
        return BillInWork(live.bill_id, live.bill_state)
    await bill_store.note_coverage(tx, account.id, psn_no)
    return account


async def draft_bill(
    tx: Transaction, *, encounter_id: UUID, as_self_pay: bool, fund_connected: bool, interim: bool = False
) -> OnBill | NoAccount | NotOpen | BillInWork | PayerNotConnected | NothingToSettle:
    """Make the bill of everything on the account; one that was drafted or quoted before gives way to it.

    An insured stay is drafted and the fund is asked (2303); any other is quoted at once. An interim bill (中途结算) is of a
    stay that goes on: what it settles is in no later bill, and the account stays open.
    """
    found = await store.lock_for_settlement(tx, encounter_id)
    if found is None:
        return NoAccount()
    account, deposits = found
    live = await bill_store.get_live_lines(tx, account.id)
    insured = (live.has_coverage or live.payer_kind == "basic_insurance") and not as_self_pay
    if insured and not fund_connected:
        return PayerNotConnected("no_gateway")
    if insured and not live.has_coverage:
        return PayerNotConnected("no_coverage")
    if live.bill_id is not None and live.bill_state is not None:
        if live.bill_state not in ("drafting", "quoted"):
            return BillInWork(live.bill_id, live.bill_state)
        old = await bill_store.get_bill(tx, account.id, live.bill_id)
        assert old is not None
        await _write(tx, account, bills.move(old, "cancelled", "drafted_anew"))
    drafted = bills.draft(
        account,
        new_id(),
        version=live.version,
        lines=len(live.lines),
        lines_hash=bills.hash_of_lines(live.lines),
        insured=insured,
        now=tx.now,
        interim=interim,
    )
    if not isinstance(drafted, Bill):
        return drafted
    domain.check_bill(account.receivable_fen, sum(fen for _, fen in live.lines))
    await bill_store.insert_bill(tx, drafted)
    if insured:
        await bill_store.send_errand(tx, "bill", str(drafted.id))
    return OnBill(account, drafted, account.deposits_fen, domain.waived_fen(deposits))


async def confirm_bill(
    tx: Transaction, *, encounter_id: UUID, bill_id: UUID, shown_hash: bytes
) -> OnBill | NoAccount | NoSuchBill | BillMoved | QuoteDead | PaymentInWork:
    """Take the payer's yes to exactly the quote that was shown, lock the account, and go on: the fund, or the payment."""
    locked = await _lock(tx, encounter_id, bill_id)
    if not isinstance(locked, _Locked):
        return locked
    account = locked.account
    live = await bill_store.get_live_lines(tx, account.id)
    confirmed = bills.confirm(locked.bill, version=live.version, shown_hash=shown_hash, now=tx.now)
    if not isinstance(confirmed, Bill):
        return confirmed
    if confirmed.interim:
        is_begun = await bill_store.begin_interim(tx, confirmed)
        account = replace(account, interim_in_work=is_begun)
    else:
        is_begun = await bill_store.begin_billing(tx, account.id, confirmed.bill_version)
    if not is_begun:
        return QuoteDead("line_changed")
    outbox.append(
        tx,
        BillConfirmed(
            account_id=account.id,
            encounter_id=encounter_id,
            bill_id=bill_id,
            charged_fen=confirmed.charged_fen,
            patient_fen=confirmed.patient_fen,
        ),
    )
    return await advance(tx, account, locked.deposits, confirmed)


async def advance(tx: Transaction, account: Account, deposits: tuple[Deposit, ...], bill: Bill) -> OnBill:
    """Write a bill that moved and do what follows from its new state at once: settle when nothing is due any more.

    The account is as it was locked; a bill that comes to nothing opens it again.
    """
    await _write(tx, account, bill)
    match bill.state:
        case "payer_unknown" if not (bill.reason or "").startswith(bills.DECLINED):
            outbox.append(
                tx, PayerOutcomeUnknown(account_id=account.id, encounter_id=account.encounter_id, bill_id=bill.id)
            )
        case "collecting":
            if bill.insured:
                outbox.append(
                    tx,
                    PayerSettled(
                        account_id=account.id,
                        encounter_id=account.encounter_id,
                        bill_id=bill.id,
                        fund_fen=bill.fund_fen,
                        account_fen=bill.account_fen,
                    ),
                )
            return await _settle_when_covered(tx, account, deposits, bill)
        case "failed" | "cancelled" if account.is_billing:
            if bill.interim:
                await bill_store.end_interim(tx, bill, gives_lines_back=True)
            else:
                await bill_store.end_billing(tx, account.id)
            outbox.append(
                tx,
                BillWithdrawn(
                    account_id=account.id,
                    encounter_id=account.encounter_id,
                    bill_id=bill.id,
                    reason=bill.reason or bill.state,
                ),
            )
        case _:
            pass
    return OnBill(account, bill, account.deposits_fen, domain.waived_fen(deposits))


async def _write(tx: Transaction, account: Account, bill: Bill) -> None:
    await bill_store.update_bill(tx, bill)
    if bill.state in bills.ASKS_OUTSIDE:
        await bill_store.send_errand(tx, "bill", str(bill.id))
    elif bill.insured:
        await bill_store.end_errand(tx, "bill", str(bill.id))
    tx.signals.add(str(account.encounter_id))


async def _settle_when_covered(tx: Transaction, account: Account, deposits: tuple[Deposit, ...], bill: Bill) -> OnBill:
    held_fen = sum(deposit.amount_fen for deposit in deposits)
    if bills.due_fen(bill, held_fen) > 0:
        return OnBill(account, bill, held_fen, domain.waived_fen(deposits))
    settled = bills.move(bill, "settled")
    await _write(tx, account, settled)
    settlement: Settlement | NotOpen | QuoteOutdated
    if bill.interim:
        settlement = domain.settle_interim(account, deposits, charged_fen=bill.charged_fen, payer_fen=bill.payer_fen)
        await actions.post_interim(tx, account, settlement)
    else:
        settlement = domain.settle(
            account, deposits, quoted_fen=bill.charged_fen, method="cash", payer_fen=bill.payer_fen
        )
        assert isinstance(settlement, Settlement), "No line changes while a bill is being settled."
        await actions.post_settlement(tx, account, settlement)
    number = await bill_store.reserve_receipt(tx, settlement.id, bill.charged_fen)
    await bill_store.send_errand(tx, "receipt", number)
    if not bill.interim:
        return OnBill(account, settled, 0)
    used = {posting.deposit_id: posting.fen for posting in settlement.postings}
    left = [replace(one, amount_fen=one.amount_fen - used.get(one.entry_id, 0)) for one in deposits]
    return OnBill(account, settled, held_fen - settlement.deposits_fen, domain.waived_fen(left))


async def cancel_bill(
    tx: Transaction, *, encounter_id: UUID, bill_id: UUID
) -> OnBill | NoAccount | NoSuchBill | BillMoved | PaymentInWork:
    """Give a bill up; what the fund settled is taken back first. Not while nobody knows what the fund did."""
    locked = await _lock(tx, encounter_id, bill_id)
    if not isinstance(locked, _Locked):
        return locked
    open_order = await bill_store.find_payment_in_work(tx, locked.account.id)
    if open_order is not None and open_order.bill_id == bill_id:
        return PaymentInWork(open_order.id)
    cancelled = bills.cancel(locked.bill)
    if isinstance(cancelled, BillMoved):
        return cancelled
    return await advance(tx, locked.account, locked.deposits, cancelled)


async def reopen(
    tx: Transaction, *, encounter_id: UUID, reason: str
) -> Reopened | OnBill | NoAccount | NotSettled | BillMoved:
    """Take the settlement in force back (结算召回); where a fund paid its part, it is asked first (2305)."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    bill = await bill_store.get_bill_in_force(tx, account.id)
    if bill is None or (bill.interim and account.state == "closed"):  # closed at the desk without a bill
        return await actions.reopen_settlement(tx, encounter_id=encounter_id, reason=reason)
    if bill.state == "reopening":
        return BillMoved(bill.state)
    if bill.interim:
        return await _reopen_interim(tx, account, bill, reason)
    if bill.insured:
        return await advance(tx, account, (), bills.move(bill, "reopening", reason))
    reopened = await actions.reopen_settlement(tx, encounter_id=encounter_id, reason=reason)
    await _write(tx, account, bills.move(bill, "reopened", reason))
    return reopened


async def _reopen_interim(
    tx: Transaction, account: Account, bill: Bill, reason: str
) -> Reopened | OnBill | NotSettled | BillMoved:
    """Take the last interim settlement back while the stay goes on; not while another bill is being settled."""
    if account.state != "open":
        return NotSettled()
    live = await bill_store.get_live_lines(tx, account.id)
    if live.bill_id is not None and live.bill_state is not None:
        if live.bill_state not in ("drafting", "quoted"):
            return BillMoved(live.bill_state)
        drafted = await bill_store.get_bill(tx, account.id, live.bill_id)
        assert drafted is not None
        await _write(tx, account, bills.move(drafted, "cancelled", "lines_come_back"))
    if bill.insured:
        await bill_store.begin_interim_reopening(tx, bill)
        return await advance(tx, account, (), bills.move(bill, "reopening", reason))
    reopened = await actions.reopen_interim(tx, account, bill, reason=reason)
    await _write(tx, account, bills.move(bill, "reopened", reason))
    return reopened


async def payer_reversed(tx: Transaction, account: Account, deposits: tuple[Deposit, ...], bill: Bill) -> None:
    """The fund took its part back: a given-up bill is cancelled, a settlement that was to be reopened is reopened."""
    outbox.append(tx, PayerReversed(account_id=account.id, encounter_id=account.encounter_id, bill_id=bill.id))
    if bill.state == "payer_reversing":
        await advance(tx, account, deposits, bills.move(bill, "cancelled", bill.reason))
        return
    reason = bill.reason or "reopened"
    if bill.interim:
        await actions.reopen_interim(tx, account, bill, reason=reason)
    else:
        reopened = await actions.reopen_settlement(tx, encounter_id=account.encounter_id, reason=reason)
        assert isinstance(reopened, Reopened), "A bill that is being reopened has its settlement in force."
    await _write(tx, account, bills.move(bill, "reopened", bill.reason))


# ---- payments --------------------------------------------------------------------------------------------------------


async def pay_at_desk(
    tx: Transaction, *, encounter_id: UUID, bill_id: UUID, amount_fen: int, method: PaymentMethod
) -> OnBill | NoAccount | NoSuchBill | BillMoved | PaymentInWork | MoreThanDue | NotOpen | TooMuch:
    """Take part or all of what is due in cash or at a terminal; the bill is settled in the same commit when it is covered.

    While somebody may still pay an order at the channel nothing else is taken: it is closed first (R53).
    """
    locked = await _lock(tx, encounter_id, bill_id)
    if not isinstance(locked, _Locked):
        return locked
    account, bill = locked.account, locked.bill
    if bill.state != "collecting":
        return BillMoved(bill.state)
    open_order = await bill_store.find_payment_in_work(tx, account.id)
    if open_order is not None:
        return PaymentInWork(open_order.id)
    due_fen = bills.due_fen(bill, account.deposits_fen)
    if amount_fen > due_fen:
        return MoreThanDue(due_fen)
    posting = domain.deposit(account, new_id(), amount_fen=amount_fen, money=MONEY_OF[method], for_bill=True)
    if not isinstance(posting, Posting):
        return posting
    await actions.post_deposit(tx, account, posting, method=method, cashier=tx.actor)
    deposits = (*locked.deposits, Deposit(posting.entry_id, amount_fen, MONEY_OF[method]))
    return await _settle_when_covered(tx, account, deposits, bill)


async def order_payment(
    tx: Transaction, *, encounter_id: UUID, bill_id: UUID | None, amount_fen: int, method: ChannelMethod
) -> OnPayment | NoAccount | NoSuchBill | BillMoved | PaymentInWork | MoreThanDue | NotOpen | TooMuch:
    """Store an order for the channel and have it sent: for what is due on a bill, or as a deposit when there is none."""
    found = await store.lock_for_settlement(tx, encounter_id)
    if found is None:
        return NoAccount()
    account, _ = found
    if bill_id is None:
        if account.state != "open" or account.is_billing:
            return NotOpen("billing" if account.is_billing else account.state)
        if not domain.fits(account.deposits_fen, amount_fen):
            return TooMuch()
    else:
        bill = await bill_store.get_bill(tx, account.id, bill_id)
        if bill is None:
            return NoSuchBill()
        if bill.state != "collecting":
            return BillMoved(bill.state)
        due_fen = bills.due_fen(bill, account.deposits_fen)
        if amount_fen > due_fen:
            return MoreThanDue(due_fen)
    open_order = await bill_store.find_payment_in_work(tx, account.id)
    if open_order is not None:
        return PaymentInWork(open_order.id)
    payment_id = new_id()
    payment = Payment(
        id=payment_id,
        account_id=account.id,
        encounter_id=encounter_id,
        bill_id=bill_id,
        order_no=f"P{payment_id.hex}",
        method=method,
        amount_fen=amount_fen,
        state="created",
        qr_text=None,
        expires_at=tx.now + ORDER_LIFETIME,
        transaction_id=None,
        entry_id=None,
        ordered_by=tx.actor,
    )
    await bill_store.insert_payment(tx, payment)
    await bill_store.send_errand(tx, "payment", str(payment_id))
    return OnPayment(account, payment)


async def close_payment(
    tx: Transaction, *, encounter_id: UUID, payment_id: UUID
) -> OnPayment | NoAccount | NoSuchPayment:
    """Have an order closed at the channel, so that the family can pay otherwise; it may turn out to be paid already."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    payment = await bill_store.find_payment(tx.conn, payment_id=payment_id)
    if payment is None or payment.account_id != account.id:
        return NoSuchPayment()
    if payment.state in PAYABLE:
        await bill_store.mark_payment(tx, payment_id, "closing")
        await bill_store.send_errand(tx, "payment", str(payment_id), anew=payment.state != "closing")
        payment = await bill_store.find_payment(tx.conn, payment_id=payment_id)
        assert payment is not None
    return OnPayment(account, payment)


async def take_paid_order(tx: Transaction, payment_id: UUID, order: Order) -> Literal["posted", "overpaid", "known"]:
    """Post the money of a paid order once, however often it is told (R53): to the account, and settle its bill when covered.

    Money for an account that takes none any more, or another sum than was ordered, is a debt of the hospital and goes back.
    """
    assert order.transaction_id is not None, "A paid order has a transaction."
    named = await bill_store.find_payment(tx.conn, payment_id=payment_id)
    assert named is not None, "Payments are never removed."
    found = await store.lock_for_settlement(tx, named.encounter_id)
    assert found is not None
    account, deposits = found
    payment = await bill_store.find_payment(tx.conn, payment_id=payment_id)
    assert payment is not None
    if payment.state == "paid":
        return "known"
    entry_id = uuid5(payment.id, "paid")
    posting: Posting | NotOpen | TooMuch = NotOpen(account.state)
    if order.amount_fen == payment.amount_fen and account.state in ("open", "billing"):
        posting = domain.deposit(
            account,
            entry_id,
            amount_fen=order.amount_fen,
            money=LedgerAccount.CHANNEL,
            for_bill=account.is_billing,
        )
    if isinstance(posting, Posting):
        await actions.post_deposit(tx, account, posting, method=payment.method, cashier=tx.actor)
    else:
        overpaid = Posting(entry_id, "overpaid", LedgerAccount.CHANNEL, LedgerAccount.OVERPAID, order.amount_fen)
        await store.post_entries(tx, account.id, (overpaid,))
    await bill_store.mark_paid(
        tx, payment.id, transaction_id=order.transaction_id, entry_id=entry_id, amount_fen=order.amount_fen
    )
    await bill_store.end_errand(tx, "payment", str(payment.id))
    tx.signals.add(str(account.encounter_id))
    if not isinstance(posting, Posting):
        await _give_back(tx, account, payment, order)
        return "overpaid"
    live = await bill_store.get_live_lines(tx, account.id)
    if live.bill_id is not None and live.bill_state == "collecting":
        bill = await bill_store.get_bill(tx, account.id, live.bill_id)
        assert bill is not None
        held = (*deposits, Deposit(entry_id, order.amount_fen, LedgerAccount.CHANNEL))
        await _settle_when_covered(tx, account, held, bill)
    return "posted"


async def _give_back(tx: Transaction, account: Account, payment: Payment, order: Order) -> None:
    entry_id = uuid5(payment.id, "paid")
    original = domain.Entry(entry_id, "overpaid", order.amount_fen, reversed=False)
    reversal = Reversal(domain.reversal_id_of(entry_id), original)
    await store.post_reversals(tx, account.id, (reversal,), reason="overpaid")
    await actions.order_refund(tx, entry_id=reversal.entry_id, deposit_id=entry_id, amount_fen=order.amount_fen)
    _announce_overpaid(tx, account.id, account.encounter_id, entry_id, order.amount_fen)


def _announce_overpaid(tx: Transaction, account_id: UUID, encounter_id: UUID, entry_id: UUID, amount_fen: int) -> None:
    outbox.append(
        tx,
        OverpaymentReceived(account_id=account_id, encounter_id=encounter_id, entry_id=entry_id, amount_fen=amount_fen),
    )


async def refund_failed(tx: Transaction, refund: bill_store.Refund, reason: str) -> None:
    """The channel will not give it back: it is still ours to give, and a person has to find another way."""
    await bill_store.mark_refund(tx, refund.refund_no, "failed", reason)
    await bill_store.end_errand(tx, "refund", refund.refund_no)
    kept = Posting(
        uuid5(refund.payment_id, f"kept:{refund.refund_no}"),
        "overpaid",
        LedgerAccount.CHANNEL,
        LedgerAccount.OVERPAID,
        refund.amount_fen,
    )
    await store.post_entries(tx, refund.account_id, (kept,))
    _announce_overpaid(tx, refund.account_id, refund.encounter_id, kept.entry_id, refund.amount_fen)
    await bill_store.insert_difference(
        tx, party="channel", kind="refund_failed", object_=refund.refund_no, ours_fen=refund.amount_fen, theirs_fen=0
    )


__all__ = ["AnyRefusal", "Deposited", "OnBill", "OnPayment", "PaymentInWork"]
