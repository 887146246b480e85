"""One stay settled against simulated parties that misbehave: any history of clerks, families and faults, then the truth."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from hypothesis import strategies as st

from infra.audit.money import INTERIM_AT_ODDS
from services.billing import actions, bill_actions, bill_store
from services.billing.actions import Charged, Deposited
from services.billing.bill_actions import OnBill, OnPayment
from services.billing.errands import Errands
from services.billing.outside import Outside
from services.billing.outside.calls import Caller
from services.billing.outside.channel import SignedChannel
from services.billing.outside.insurance import NationalInsurance
from services.billing.outside.receipts import ReceiptOffice
from tests.integration.simulators.conftest import HOSPITAL, MERCHANT, Simulator, running

if TYPE_CHECKING:
    from tests.integration.billing.conftest import Desk

PATIENCE_SECONDS = 0.4
NOBODY_LISTENS = "http://127.0.0.1:9/notices"
IN_FORCE = ("collecting", "settled", "payer_reversing", "reopening")

_fens = st.one_of(st.integers(1, 9), st.integers(1, 3_000_000))
_faults = st.sampled_from(
    ("silent_before", "timeout_after_success", "drop", "duplicate", "contradict", "forged", "error")
)
_interim = st.sampled_from((False, False, True))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), _fens),
        st.tuples(st.just("reverse")),
        st.tuples(st.just("deposit"), _fens),
        st.tuples(st.just("blood"), st.integers(1, 3)),
        st.tuples(st.just("waive"), st.integers(1, 110)),
        st.tuples(st.just("refund")),
        st.tuples(st.just("quote"), st.booleans(), _interim),
        st.tuples(st.just("confirm")),
        st.tuples(st.just("settle_through"), st.booleans(), _interim),
        st.tuples(st.just("cash"), st.integers(1, 100)),
        st.tuples(st.just("order"), st.integers(1, 100)),
        st.tuples(st.just("family_pays"), st.sampled_from((0, 0, 0, 1, -1))),
        st.tuples(st.just("close_order")),
        st.tuples(st.just("pay_by_code"), st.integers(50, 100)),
        st.tuples(st.just("deposit_by_code"), _fens),
        st.tuples(st.just("cancel")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("late_charge"), _fens),
        st.tuples(
            st.just("fund_fault"), st.sampled_from(("2303", "2304", "2304", "2304", "5203", "2305", "2601")), _faults
        ),
        st.tuples(st.just("channel_fault"), st.sampled_from(("create", "query", "close", "refund")), _faults),
        st.tuples(st.just("errands")),
        st.tuples(st.just("errands")),
    ),
    min_size=8,
    max_size=40,
)
"""Any history; what is not possible at its moment is refused and changes nothing."""


@dataclass
class World:
    """A desk, the parties it is connected to, and their operators' doors."""

    desk: "Desk"
    errands: Errands
    fund: Simulator
    channel: Simulator
    office: Simulator


@contextlib.contextmanager
def parties(home: Path) -> Iterator[tuple[Simulator, Simulator, Simulator]]:
    """Run the three parties as processes."""
    quick = {"WARDSTREAM_SIM_SPEED": "100", "WARDSTREAM_SIM_REFUND_SECONDS": "10"}
    with (
        running(Simulator("insurance", home, HOSPITAL)) as fund,
        running(Simulator("channel", home, MERCHANT, more=quick)) as channel,
        running(Simulator("receipts", home, HOSPITAL)) as office,
    ):
        yield fund, channel, office


@contextlib.asynccontextmanager
async def connected(desk: "Desk", three: tuple[Simulator, Simulator, Simulator]) -> AsyncIterator[World]:
    """Connect a desk to running parties."""
    fund, channel, office = three
    outside = Outside(
        NationalInsurance(Caller(fund.party(seconds=PATIENCE_SECONDS)), area="370100"),
        SignedChannel(Caller(channel.party(seconds=PATIENCE_SECONDS)), notify_url=NOBODY_LISTENS),
        ReceiptOffice(Caller(office.party(seconds=PATIENCE_SECONDS))),
    )
    try:
        yield World(desk, Errands(outside), fund, channel, office)
    finally:
        await outside.close()


@dataclass
class History:
    """What clerks and family do on one stay, step by step."""

    world: World
    stay: UUID
    bill: Any = None
    order: Any = None
    is_paid: bool = False
    charges: list[UUID] = field(default_factory=list)
    deposits: list[UUID] = field(default_factory=list)

    @property
    def _on_bill(self) -> dict[str, Any]:
        return {"encounter_id": self.stay, "bill_id": self.bill.id if self.bill else uuid4()}

    async def do(self, step: tuple[Any, ...]) -> None:
        verb, *rest = step
        await getattr(self, f"_{verb}")(*rest)

    async def _charge(self, fen: int) -> None:
        done = await self.world.desk.charge(self.stay, fen)
        if isinstance(done, Charged):
            self.charges.append(done.entry_id)

    async def _reverse(self) -> None:
        if self.charges:
            await self.world.desk.reverse(self.stay, self.charges[-1])

    async def _blood(self, units: int) -> None:
        done = await self.world.desk.transfuse(self.stay, units)
        if isinstance(done, Charged):
            self.charges.append(done.entry_id)

    async def _waive(self, percent: int) -> None:
        left = await self.world.desk.value("SELECT blood_left(id) FROM account WHERE encounter_id = $1", self.stay)
        done = await self.world.desk.waive(self.stay, left * percent // 100 or 1)
        assert not isinstance(done, Deposited) or percent <= 100
        if isinstance(done, Deposited):
            self.deposits.append(done.entry_id)

    async def _deposit(self, fen: int) -> None:
        done = await self.world.desk.deposit(self.stay, fen)
        if isinstance(done, Deposited):
            self.deposits.append(done.entry_id)

    async def _refund(self) -> None:
        if self.deposits:
            await self.world.desk.refund(self.stay, self.deposits[-1])

    async def _quote(self, insured: bool, interim: bool = False) -> None:
        if insured:
            number = f"310{self.stay.hex[:15]}"
            await self.world.desk.do(bill_actions.note_coverage, encounter_id=self.stay, psn_no=number)
        done = await self.world.desk.do(
            bill_actions.draft_bill,
            encounter_id=self.stay,
            as_self_pay=not insured,
            fund_connected=True,
            interim=interim,
        )
        if isinstance(done, OnBill):
            self.bill = done.bill
            await self._errands()

    async def _confirm(self) -> None:
        if self.bill is not None:
            shown = {"shown_hash": self.bill.lines_hash}
            await self.world.desk.do(bill_actions.confirm_bill, **self._on_bill, **shown)
            await self._errands()

    async def _settle_through(self, insured: bool, interim: bool = False) -> None:
        await self._quote(insured, interim)
        await self._confirm()
        await self._cash(100)

    async def _cash(self, percent: int) -> None:
        if fen := await self._share_of_due(percent):
            await self.world.desk.do(bill_actions.pay_at_desk, **self._on_bill, amount_fen=fen, method="cash")

    async def _order(self, percent: int) -> None:
        if fen := await self._share_of_due(percent):
            done = await self.world.desk.do(
                bill_actions.order_payment, **self._on_bill, amount_fen=fen, method="wechat"
            )
            if isinstance(done, OnPayment):
                self.order, self.is_paid = done.payment, False
                await self._errands()

    async def _share_of_due(self, percent: int) -> int:
        _, _, held = await self.world.desk.account(self.stay)
        if self.bill is None:
            return 0
        rows = await self.world.desk.fetch("SELECT patient_fen FROM bill WHERE id = $1", self.bill.id)
        due = max(rows[0]["patient_fen"] - held, 0)
        return max(due * percent // 100, 1) if due else 0

    async def _family_pays(self, off_by: int) -> None:
        if self.order is not None:
            body = {"amount_fen": max(self.order.amount_fen + off_by, 1)} if off_by else {}
            path = f"/orders/{self.order.order_no}/pay"
            answer = await asyncio.to_thread(self.world.channel.operate, "POST", path, body)
            self.is_paid = answer.is_success

    async def _pay_by_code(self, percent: int) -> None:
        await self._order(percent)
        await self._family_pays(0)
        await self._errands()

    async def _deposit_by_code(self, fen: int) -> None:
        done = await self.world.desk.do(
            bill_actions.order_payment, encounter_id=self.stay, bill_id=None, amount_fen=fen, method="alipay"
        )
        if isinstance(done, OnPayment):
            self.order, self.is_paid = done.payment, False
            await self._errands()
            await self._family_pays(0)
            await self._errands()
            if entry_id := await self.world.desk.value("SELECT entry_id FROM payment WHERE id = $1", self.order.id):
                self.deposits.append(entry_id)

    async def _close_order(self) -> None:
        if self.order is not None:
            await self.world.desk.do(bill_actions.close_payment, encounter_id=self.stay, payment_id=self.order.id)

    async def _cancel(self) -> None:
        await self.world.desk.do(bill_actions.cancel_bill, **self._on_bill)

    async def _reopen(self) -> None:
        await self.world.desk.do(bill_actions.reopen, encounter_id=self.stay, reason="late_charge")

    async def _late_charge(self, fen: int) -> None:
        late = {"item": "late", "amount_fen": fen, "method": "cash", "reason": "forgotten"}
        await self.world.desk.do(actions.settle_late_charge, encounter_id=self.stay, **late)

    async def _fund_fault(self, operation: str, fault: str) -> None:
        await asyncio.to_thread(self.world.fund.plan, operation, fault)

    async def _channel_fault(self, operation: str, fault: str) -> None:
        await asyncio.to_thread(self.world.channel.plan, operation, fault)

    async def _errands(self) -> int:
        """Run every errand once, as if its time had come; return how many there were."""
        desk = self.world.desk
        await desk.value("UPDATE errand SET due_at = clock_timestamp() - interval '1 s'")
        async with desk.db.pool.acquire() as conn:
            taken = await bill_store.take_errands(conn, rows_max=100)
        for errand in taken:
            await self.world.errands.run_errand(desk.db, errand)
        return len(taken)

    async def _errands_until_known(self) -> None:
        """Run errands until the order is neither to be made nor to be asked about any more; a slow answer is asked for again."""
        state = "created"
        for _ in range(40):
            await self._errands()
            state = await self.world.desk.value("SELECT state FROM payment WHERE id = $1", self.order.id)
            if state != "created" and state != "closing" and not (state == "waiting" and self.is_paid):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"The order is still {state}.")

    async def come_to_rest(self) -> None:
        """Let everybody behave, close what can still be paid, and run errands until none is left."""
        await asyncio.to_thread(self.world.fund.behave)
        await asyncio.to_thread(self.world.channel.behave)
        for _ in range(60):
            await self._close_order()
            if not await self._errands():
                return
            await asyncio.sleep(0.02)
        left = await self.world.desk.fetch("SELECT kind, object_id, looks FROM errand")
        raise AssertionError(f"Errands that never end: {left}")

    async def check(self) -> None:
        """Ledger, channel, fund and drawer say the same; nobody paid twice; nothing went back that had not come."""
        desk = self.world.desk
        assert await desk.violations() == []
        assert await desk.fetch(INTERIM_AT_ODDS) == []
        account_id = await desk.value("SELECT id FROM account WHERE encounter_id = $1", self.stay)
        await self._check_fund(account_id)
        await self._check_channel(account_id)
        state, owed, held = await desk.account(self.stay)
        patients, centres = await desk.value(
            "SELECT ARRAY[coalesce(sum(l.fen) FILTER (WHERE l.ledger_account_id < 26), 0),"
            "   coalesce(sum(l.fen) FILTER (WHERE l.ledger_account_id = 26), 0)]::bigint[]"
            " FROM line l JOIN entry e ON e.id = l.entry_id WHERE e.account_id = $1 AND l.ledger_account_id >= 20",
            account_id,
        )
        assert patients >= 0, "more went back than came in"
        blood = await desk.value(
            "SELECT coalesce(sum(e.charge_fen), 0)::bigint FROM priced_charge c JOIN entry e ON e.id = c.entry_id"
            " WHERE c.encounter_id = $1 AND c.reversed_by IS NULL",
            self.stay,
        )
        assert 0 <= centres <= blood, "the blood centre pays for blood only"
        money = patients + centres
        if state == "closed":
            charged = await desk.value(
                "SELECT coalesce(-sum(l.fen), 0)::bigint FROM line l JOIN entry e ON e.id = l.entry_id"
                " WHERE e.account_id = $1 AND l.ledger_account_id = 10",
                account_id,
            )
            payer = await desk.value(
                "SELECT coalesce(sum(payer_fen), 0)::bigint FROM settlement WHERE account_id = $1 AND reopened_at IS NULL",
                account_id,
            )
            suspense = await desk.value(
                "SELECT coalesce(-sum(l.fen), 0)::bigint FROM line l JOIN entry e ON e.id = l.entry_id"
                " WHERE e.account_id = $1 AND l.ledger_account_id = 3",
                account_id,
            )
            assert (owed, held) == (0, 0)
            assert charged == payer + money - suspense, "everything was paid, once"

    async def _check_fund(self, account_id: UUID) -> None:
        rows = await self.world.desk.fetch(
            "SELECT setl_id, fund_fen + account_fen AS fen, state, interim FROM bill WHERE account_id = $1 AND insured"
            " AND state = ANY ($2)",
            account_id,
            list(IN_FORCE),
        )
        truth = await asyncio.to_thread(self.world.fund.truth)
        mine = {one["mdtrt_id"] for one in truth["stays"] if one["ipt_no"] == str(self.stay)}
        theirs = {
            one["setl_id"]: one["fund_fen"] + one["account_fen"]
            for one in truth["settlements"]
            if one["mdtrt_id"] in mine and one["taken_back_at"] is None
        }
        assert {row["setl_id"]: row["fen"] for row in rows} == theirs
        assert sum(not row["interim"] for row in rows) <= 1

    async def _check_channel(self, account_id: UUID) -> None:
        truth = await asyncio.to_thread(self.world.channel.truth)
        ours = {
            row["order_no"]: row
            for row in await self.world.desk.fetch(
                "SELECT order_no, state, amount_fen FROM payment WHERE account_id = $1", account_id
            )
        }
        paid = {
            one["order_no"]: one["paid_fen"]
            for one in truth["orders"]
            if one["order_no"] in ours and one["paid_fen"] is not None
        }
        assert {no: row["amount_fen"] for no, row in ours.items() if row["state"] == "paid"} == paid
        back = {
            one["refund_no"]: one["amount_fen"]
            for one in truth["refunds"]
            if one["order_no"] in ours and one["state"] == "SUCCESS"
        }
        refunds = await self.world.desk.fetch(
            "SELECT r.refund_no, r.amount_fen FROM refund r JOIN payment p ON p.id = r.payment_id"
            " WHERE p.account_id = $1 AND r.state = 'done'",
            account_id,
        )
        assert {row["refund_no"]: row["amount_fen"] for row in refunds} == back
        held = await self.world.desk.value(
            "SELECT coalesce(sum(l.fen), 0)::bigint FROM line l JOIN entry e ON e.id = l.entry_id"
            " WHERE e.account_id = $1 AND l.ledger_account_id = 25",
            account_id,
        )
        assert held == sum(paid.values()) - sum(back.values())
