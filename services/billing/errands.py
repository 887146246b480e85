"""Asking the outside: every request is stored before it is sent, and what came of it is written under the account's lock.

An errand is taken with a lease, so that two processes do not ask at once; if they do, the id of the request is the same.
A process that dies anywhere leaves the errand behind: whoever takes it next finds out what happened before doing anything
again (kill points K20, K21, K23).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import TypeVar
from uuid import UUID

import structlog

from services.billing import bill_actions, bill_store, bills, recon_actions, store
from services.billing.bill_store import Errand, Insured
from services.billing.bills import Bill
from services.billing.domain import Account, Deposit
from services.billing.outside import Outside
from services.billing.ports import (
    ChannelRefund,
    Declined,
    Done,
    FeeLine,
    InsuranceGateway,
    InsuredStay,
    Order,
    Outcome,
    PaymentChannel,
    ReceiptIssuer,
    Split,
    Unknown,
)
from shared import faults
from shared.contracts.billing import ReceiptIssued, ReceiptVoided
from shared.db import RETRYABLE, Database, Transaction, transaction
from shared.ids import new_id
from shared.messaging import outbox

log = structlog.get_logger()

T = TypeVar("T")
AT_ONCE = 24
"""How many errands are out at a time; more wait their turn in the table."""
LINES_PER_UPLOAD = 500
MISMATCH_LOOKS = 4
"""How often the channel must say that another sum was paid than was ordered before it is believed."""
DRAFT_LOOKS_MAX = 8
"""How often a fund is asked for a quote before the desk is told that it does not answer."""


class Errands:
    """The loop that runs the errands to the parties this hospital is connected to."""

    def __init__(self, outside: Outside) -> None:
        """Take an adapter for each party that is connected."""
        self.fund: InsuranceGateway | None = outside.insurance
        self.channel: PaymentChannel | None = outside.channel
        self.receipts: ReceiptIssuer | None = outside.receipts
        self._out: set[asyncio.Task[None]] = set()

    async def run(self, db: Database) -> None:
        """Run errands as they fall due, until the service stops; woken at once by what this process sends off itself."""
        async with db.signals.listening("errand") as sent:
            while not db.stopping.is_set():
                sent.clear()
                found = False
                if len(self._out) < AT_ONCE:
                    try:
                        found = await self._take(db)
                    except RETRYABLE as error:
                        log.warning("errands_wait", error=type(error).__name__)
                        await asyncio.sleep(1)
                if not found:
                    waits = {asyncio.ensure_future(sent.wait()), *self._out}
                    await asyncio.wait(waits, timeout=1, return_when=asyncio.FIRST_COMPLETED)
                    for wait in waits - self._out:
                        wait.cancel()

    async def _take(self, db: Database) -> bool:
        async with db.pool.acquire(timeout=10) as conn:
            taken = await bill_store.take_errands(conn, rows_max=AT_ONCE - len(self._out))
        for errand in taken:
            task = asyncio.create_task(self._attempt(db, errand))
            self._out.add(task)
            task.add_done_callback(self._out.discard)
        return bool(taken)

    async def _attempt(self, db: Database, errand: Errand) -> None:
        """Run one errand; trouble with the database leaves it to its lease, a bug is told and put off."""
        try:
            await self.run_errand(db, errand)
        except RETRYABLE as error:
            log.warning("errand_waits", kind=errand.kind, error=type(error).__name__)
        except Exception:
            log.exception("errand_failed", kind=errand.kind, object_id=errand.object_id)

    async def run_errand(self, db: Database, errand: Errand) -> None:
        """Ask once what this errand is about and write what came of it."""
        run: dict[str, Callable[[Database, Errand], Awaitable[None]]] = {
            "bill": self._run_bill,
            "payment": self._run_payment,
            "refund": self._run_refund,
            "receipt": self._run_receipt,
            "match": self._run_match,
        }
        await run[errand.kind](db, errand)

    async def _ask(
        self, db: Database, msgid: str, account_id: UUID, party: str, operation: str, call: Awaitable[Outcome[T]]
    ) -> Outcome[T]:
        """Store the request, send it, note what came of it (R53)."""
        async with db.pool.acquire(timeout=10) as conn:
            await bill_store.store_request(conn, msgid=msgid, account_id=account_id, party=party, operation=operation)
        faults.reached("K20")
        answer = await call
        faults.reached("K21")
        outcome, code = _said(answer)
        async with db.pool.acquire(timeout=10) as conn:
            await bill_store.note_answer(conn, msgid, outcome, code)
        return answer

    async def _run_match(self, db: Database, errand: Errand) -> None:
        """Match a business day with one party; who does not answer is asked again, a question changes nothing outside."""
        party, _, day = errand.object_id.partition(":")
        if not await recon_actions.match_day(db, party, date.fromisoformat(day), fund=self.fund, channel=self.channel):
            async with transaction(db) as tx:
                await bill_store.put_off_errand(tx, errand, min(30.0 * errand.looks, 1800))

    # ---- bills and the fund ------------------------------------------------------------------------------------------

    async def _run_bill(self, db: Database, errand: Errand) -> None:
        bill_id = UUID(errand.object_id)
        async with db.pool.acquire(timeout=10) as conn:
            owner = await bill_store.get_bill_owner(conn, bill_id)
        assert owner is not None, "Bills are never removed."
        async with _locked_bill(db, errand, owner.encounter_id, bill_id) as (tx, _, _, bill):
            if bill.state not in bills.ASKS_OUTSIDE:
                await bill_store.end_errand(tx, "bill", errand.object_id)
                return
            if self.fund is None:
                await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))
                return
            is_first = bill.state == "locking"
            if is_first:
                bill = bills.send(bill)
                await bill_store.update_bill(tx, bill)
        mdtrt_id = owner.mdtrt_id or ""
        match bill.state:
            case "drafting":
                await self._draft(db, errand, owner.encounter_id, bill)
            case "payer_pending" if is_first:
                call = self.fund.settle(bill.msgid("2304"), mdtrt_id, bill.charged_fen, interim=bill.interim)
                made = await self._ask(db, bill.msgid("2304"), bill.account_id, "insurance", "2304", call)
                await self._move(db, errand, owner.encounter_id, bill, lambda now: bills.payer_answered(now, made))
            case "payer_pending" | "payer_unknown":
                await self._find_out(db, errand, owner.encounter_id, bill, mdtrt_id)
            case _:
                await self._take_back(db, errand, owner.encounter_id, bill, mdtrt_id)

    async def _find_out(self, db: Database, errand: Errand, encounter_id: UUID, bill: Bill, mdtrt_id: str) -> None:
        """Ask what came of a settlement nobody answered; never send it again before the fund says it knows nothing of it."""
        assert self.fund is not None
        msgid = new_id().hex  # a question, asked anew each time
        call = self.fund.find_settlement(msgid, mdtrt_id, bill.msgid("2304"))
        found = await self._ask(db, msgid, bill.account_id, "insurance", "5203", call)
        if not bills.is_forgettable(bill, found):
            await self._move(db, errand, encounter_id, bill, lambda now: bills.payer_found(now, found))
            return
        forget = self.fund.reverse_unknown(bill.msgid("2601"), mdtrt_id, "2304", bill.msgid("2304"))
        forgotten = await self._ask(db, bill.msgid("2601"), bill.account_id, "insurance", "2601", forget)
        await self._move(
            db,
            errand,
            encounter_id,
            bill,
            lambda now: (
                bills.move(now, "failed", now.reason or "payer_never_settled") if isinstance(forgotten, Done) else now
            ),
        )

    async def _take_back(self, db: Database, errand: Errand, encounter_id: UUID, bill: Bill, mdtrt_id: str) -> None:
        """Have the fund take its settlement back (2305); asking again is harmless, it is done once."""
        assert self.fund is not None
        assert bill.setl_id is not None, "Only what the fund settled is taken back."
        msgid = bill.msgid("2305")
        call = self.fund.reverse_settlement(msgid, mdtrt_id, bill.setl_id)
        answer = await self._ask(db, msgid, bill.account_id, "insurance", "2305", call)
        if isinstance(answer, Declined):
            # Asked about before it is believed: what the fund took back is not settled any more, whatever it said.
            asking = new_id().hex
            find = self.fund.find_settlement(asking, mdtrt_id, bill.msgid("2304"))
            found = await self._ask(db, asking, bill.account_id, "insurance", "5203", find)
            if not isinstance(found, Done):
                answer = Unknown("unreadable")
            elif found.value is None:
                answer = Done(None)
        async with _locked_bill(db, errand, encounter_id, bill.id) as (tx, account, deposits, now):
            if now.state != bill.state:
                return
            match answer:
                case Done():
                    await bill_actions.payer_reversed(tx, account, deposits, now)
                case Declined(code=code) if now.state == "reopening":
                    refused = bills.move(now, "settled", f"payer_keeps_it:{code}"[:64])
                    if now.interim:
                        await bill_store.end_interim(tx, now, gives_lines_back=False)
                    await bill_actions.advance(tx, account, deposits, refused)
                case _:
                    await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))

    async def _move(
        self, db: Database, errand: Errand, encounter_id: UUID, asked: Bill, decide: Callable[[Bill], Bill]
    ) -> None:
        """Write what an answer means for the bill, unless it moved on meanwhile; no news means: ask again later."""
        async with _locked_bill(db, errand, encounter_id, asked.id) as (tx, account, deposits, now):
            if now.state != asked.state or now.sends != asked.sends:
                return
            after = decide(now)
            if after.state != now.state:
                await bill_actions.advance(tx, account, deposits, after)
            if after.state in ("payer_unknown", now.state):
                await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))

    async def _draft(self, db: Database, errand: Errand, encounter_id: UUID, bill: Bill) -> None:
        """Register the stay, bring the fund's lines up to date, and ask who would pay what (2401, 2301, 2302, 2303)."""
        async with db.pool.acquire(timeout=10) as conn:
            insured = await bill_store.get_insured(conn, bill.account_id)
        split = await self._quote(db, bill, insured, errand.looks)

        def decide(now: Bill) -> Bill:
            match split:
                case Done(value=parts):
                    return bills.quote(now, parts)
                case Declined(code=code):
                    return bills.move(now, "failed", f"{bills.DECLINED}{code}"[:64])
                case Unknown() if errand.looks >= DRAFT_LOOKS_MAX:
                    return bills.move(now, "failed", "payer_silent")
                case Unknown():
                    return now

        await self._move(db, errand, encounter_id, bill, decide)

    async def _quote(self, db: Database, bill: Bill, insured: Insured, looks: int) -> Outcome[Split]:
        assert self.fund is not None

        def ask(trade: str, msgid: str, call: Awaitable[Outcome[T]]) -> Awaitable[Outcome[T]]:
            return self._ask(db, msgid, bill.account_id, "insurance", trade, call)

        mdtrt_id = insured.mdtrt_id
        if mdtrt_id is None:
            stay = InsuredStay(insured.encounter_id, insured.psn_no, insured.noted_at, insured.ward, None)
            msgid = bill.msgid("2401")
            registered = await ask("2401", msgid, self.fund.register_stay(msgid, stay))
            if not isinstance(registered, Done):
                return registered
            mdtrt_id = registered.value
            async with transaction(db) as tx:
                await bill_store.note_registration(tx, bill.account_id, mdtrt_id)
        if insured.to_withdraw:
            msgid = bill.msgid(f"2302.{bills.hash_of_lines((one, 0) for one in insured.to_withdraw).hex()}")
            withdrawn = await ask("2302", msgid, self.fund.withdraw_lines(msgid, mdtrt_id, insured.to_withdraw))
            if not isinstance(withdrawn, Done):
                return withdrawn
            async with db.pool.acquire(timeout=10) as conn:
                await bill_store.note_withdrawn(conn, insured.to_withdraw)
        for first in range(0, len(insured.to_upload), LINES_PER_UPLOAD):
            lines = insured.to_upload[first : first + LINES_PER_UPLOAD]
            msgid = bill.msgid(f"2301.{bills.hash_of_lines((one.entry_id, one.amount_fen) for one in lines).hex()}")
            uploaded = await ask("2301", msgid, self.fund.upload_lines(msgid, mdtrt_id, lines))
            if not isinstance(uploaded, Done):
                return uploaded
            async with db.pool.acquire(timeout=10) as conn:
                await bill_store.note_uploaded(conn, bill.account_id, [line.entry_id for line in lines])
        msgid = bill.msgid(f"2303.{looks}")
        return await ask("2303", msgid, self.fund.pre_settle(msgid, mdtrt_id, bill.charged_fen))

    # ---- payments and the channel ------------------------------------------------------------------------------------

    async def _run_payment(self, db: Database, errand: Errand) -> None:
        payment_id = UUID(errand.object_id)
        async with transaction(db) as tx:
            payment = await bill_store.find_payment(tx.conn, payment_id=payment_id)
            assert payment is not None, "Payments are never removed."
            overdue = tx.now > payment.expires_at
            if self.channel is None:
                await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))
                return
        if payment.state == "created":
            call = self.channel.create_order(payment.order_no, payment.amount_fen, payment.method, payment.expires_at)
            made = await self._ask(db, payment.order_no, payment.account_id, "channel", "create", call)
            if isinstance(made, Declined):
                # Believing a wrong refusal would take the family's money twice.
                query = self.channel.query_order(payment.order_no)
                known = await self._ask(db, f"{payment.order_no}.query", payment.account_id, "channel", "query", query)
                if isinstance(known, Done) and known.value is not None and known.value.state != "unpaid":
                    await self.write_order(db, errand, payment, known)
                    return
                if not isinstance(known, Done) or known.value is not None:
                    made = Unknown("unreadable")
            await self._write_created(db, errand, payment, made)
            return
        if payment.state not in bill_store.PAYABLE:
            async with transaction(db) as tx:
                await bill_store.end_errand(tx, "payment", errand.object_id)
            return
        order: Outcome[Order | None]
        if payment.state == "closing" or overdue:
            closing = self.channel.close_order(payment.order_no)
            order = await self._ask(db, f"{payment.order_no}.close", payment.account_id, "channel", "close", closing)
            if isinstance(order, Declined):
                query = self.channel.query_order(payment.order_no)
                order = await self._ask(db, f"{payment.order_no}.query", payment.account_id, "channel", "query", query)
                if isinstance(order, Done) and order.value is None:  # it never heard of it, so nobody can pay it
                    order = Done(Order(payment.order_no, "closed", payment.amount_fen))
        else:
            query = self.channel.query_order(payment.order_no)
            order = await self._ask(db, f"{payment.order_no}.query", payment.account_id, "channel", "query", query)
        await self.write_order(db, errand, payment, order)

    async def _write_created(
        self, db: Database, errand: Errand, payment: bill_store.Payment, made: Outcome[str]
    ) -> None:
        async with transaction(db) as tx:
            await store.lock_account(tx, payment.encounter_id)
            tx.signals.add(str(payment.encounter_id))
            now = await bill_store.find_payment(tx.conn, payment_id=payment.id)
            assert now is not None
            if now.state != "created":
                return
            match made:
                case Done(value=qr_text):
                    await bill_store.mark_payment(tx, payment.id, "waiting", qr_text=qr_text)
                    await bill_store.put_off_errand(tx, errand, 2)
                case Declined():
                    await bill_store.mark_payment(tx, payment.id, "failed")
                    await bill_store.end_errand(tx, "payment", errand.object_id)
                case Unknown():
                    await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))

    async def write_order(
        self, db: Database, errand: Errand, payment: bill_store.Payment, order: Outcome[Order | None]
    ) -> None:
        """Write how an order stands; only the channel's own word closes one or makes it paid."""
        async with _working(db, errand, payment.encounter_id) as tx:
            match order:
                case Done(value=Order(state="paid") as paid):
                    if paid.amount_fen != payment.amount_fen and errand.looks < MISMATCH_LOOKS:
                        await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))
                        return
                    await bill_actions.take_paid_order(tx, payment.id, paid)
                case Done(value=Order(state="closed")):
                    await store.lock_account(tx, payment.encounter_id)
                    now = await bill_store.find_payment(tx.conn, payment_id=payment.id)
                    if now is not None and now.state in bill_store.PAYABLE:
                        await bill_store.mark_payment(tx, payment.id, "closed")
                    await bill_store.end_errand(tx, "payment", errand.object_id)
                    tx.signals.add(str(payment.encounter_id))
                case _:
                    await bill_store.put_off_errand(tx, errand, min(2.0 + errand.looks, 30))

    async def _run_refund(self, db: Database, errand: Errand) -> None:
        async with transaction(db) as tx:
            refund = await bill_store.find_refund(tx.conn, errand.object_id)
            assert refund is not None, "Refunds are never removed."
            if self.channel is None:
                await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))
                return
        call = self.channel.refund(refund.refund_no, refund.order_no, refund.amount_fen)
        answer = await self._ask(db, refund.refund_no, refund.account_id, "channel", "refund", call)
        if not isinstance(answer, Unknown) and not _is_done(answer, refund):
            answer = await self._doubt_refund(db, refund, answer)
        async with _working(db, errand, refund.encounter_id) as tx:
            await store.lock_account(tx, refund.encounter_id)
            match answer:
                case Done(value=made) if made.state == "done" and made.amount_fen == refund.amount_fen:
                    await bill_store.mark_refund(tx, refund.refund_no, "done")
                    await bill_store.end_errand(tx, "refund", refund.refund_no)
                case Done(value=made) if made.state == "failed":
                    await bill_actions.refund_failed(tx, refund, "failed")
                case Declined(code=code):
                    await bill_actions.refund_failed(tx, refund, code[:64])
                case Done():
                    await bill_store.mark_refund(tx, refund.refund_no, "processing")
                    await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))
                case Unknown(why=why):
                    await bill_store.mark_refund(tx, refund.refund_no, "unknown", why)
                    await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))

    async def _doubt_refund(
        self, db: Database, refund: bill_store.Refund, said: Outcome[ChannelRefund]
    ) -> Outcome[ChannelRefund]:
        """Ask how a refund stands that was refused or answered oddly: believing a wrong refusal would pay it twice."""
        assert self.channel is not None
        query = self.channel.query_refund(refund.refund_no)
        asked = await self._ask(db, f"{refund.refund_no}.query", refund.account_id, "channel", "refund_query", query)
        match asked:
            case Done(value=ChannelRefund() as known):
                return Done(known)
            case Done():
                return said if isinstance(said, Declined) else Unknown("unreadable")
            case _:
                return Unknown("unreadable")

    # ---- receipts ----------------------------------------------------------------------------------------------------

    async def _run_receipt(self, db: Database, errand: Errand) -> None:
        async with transaction(db) as tx:
            receipt = await bill_store.find_receipt(tx.conn, errand.object_id)
            assert receipt is not None, "Receipts are never removed."
            if self.receipts is None:
                await bill_store.put_off_errand(tx, errand, 60)
                return
            if receipt.voids is not None:
                voided = await bill_store.find_receipt(tx.conn, receipt.voids)
                if voided is not None and voided.state == "reserved":
                    await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))
                    return
        if receipt.voids is None:
            lines = await self._lines_of(db, receipt)
            call = self.receipts.issue(receipt.number, receipt.amount_fen, lines, receipt.since)
            made = await self._ask(db, receipt.number, receipt.account_id, "receipts", "issue", call)
        else:
            flush = self.receipts.red_flush(receipt.number, receipt.voids, "reopened")
            made = await self._ask(db, receipt.number, receipt.account_id, "receipts", "red_flush", flush)
        if isinstance(made, Declined):
            query = self.receipts.query(receipt.number)
            known = await self._ask(db, f"{receipt.number}.query", receipt.account_id, "receipts", "query", query)
            if isinstance(known, Done) and known.value is not None:
                made = Done(known.value)
            elif not isinstance(known, Done):
                made = Unknown("unreadable")
        async with db.pool.acquire(timeout=10) as conn:
            encounter_id = await bill_store.get_encounter(conn, receipt.account_id)
        async with _working(db, errand, encounter_id) as tx:
            await store.lock_account(tx, encounter_id)
            tx.signals.add(str(encounter_id))
            now = await bill_store.find_receipt(tx.conn, receipt.number)
            if now is None or now.state != "reserved":
                return
            match made:
                case Done(value=issued):
                    await bill_store.mark_receipt(
                        tx, receipt.number, "issued", check_code=issued.check_code, url=issued.url
                    )
                    ids = {"account_id": receipt.account_id, "encounter_id": encounter_id}
                    if receipt.voids is None:
                        settlement_id = receipt.settlement_id
                        outbox.append(tx, ReceiptIssued(**ids, settlement_id=settlement_id, receipt_no=receipt.number))
                    else:
                        outbox.append(tx, ReceiptVoided(**ids, receipt_no=receipt.voids, red_receipt_no=receipt.number))
                    await bill_store.end_errand(tx, "receipt", receipt.number)
                case Declined(code=code):
                    await bill_store.mark_receipt(tx, receipt.number, "failed", reason=code[:64])
                    await bill_store.end_errand(tx, "receipt", receipt.number)
                case Unknown():
                    await bill_store.put_off_errand(tx, errand, bills.look_again_seconds(errand.looks))

    async def _lines_of(self, db: Database, receipt: bill_store.ReceiptRow) -> list[FeeLine]:
        async with db.pool.acquire(timeout=10) as conn:
            return await bill_store.list_fee_lines(conn, receipt.settlement_id)


def _is_done(answer: Outcome[ChannelRefund], refund: bill_store.Refund) -> bool:
    return isinstance(answer, Done) and answer.value.state == "done" and answer.value.amount_fen == refund.amount_fen


def _said(answer: Outcome[T]) -> tuple[str, str | None]:
    match answer:
        case Done():
            return "done", None
        case Declined(code=code):
            return "declined", code[:64]
        case Unknown(why=why):
            return "unknown", why


@asynccontextmanager
async def _working(db: Database, errand: Errand, encounter_id: UUID) -> AsyncIterator[Transaction]:
    """Open a transaction in the name of whoever sent the errand; what it announces is audited (S3)."""
    async with transaction(db) as tx:
        tx.correlation_id = encounter_id
        tx.actor = errand.actor
        yield tx
        if tx.events:
            tx.audit(f"errand {errand.kind}", errand.kind, errand.object_id)


@asynccontextmanager
async def _locked_bill(
    db: Database, errand: Errand, encounter_id: UUID, bill_id: UUID
) -> AsyncIterator[tuple[Transaction, Account, tuple[Deposit, ...], Bill]]:
    """Open a transaction with the account of a bill locked and the bill as it is now."""
    async with _working(db, errand, encounter_id) as tx:
        found = await store.lock_for_settlement(tx, encounter_id)
        assert found is not None, "A bill has an account."
        bill = await bill_store.get_bill(tx, found[0].id, bill_id)
        assert bill is not None, "Bills are never removed."
        yield tx, found[0], found[1], bill
