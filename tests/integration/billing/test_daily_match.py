"""The daily match (对账) against the simulated channel and fund as real processes, on a real database."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import pytest_asyncio

from services.billing import actions, bill_actions, bill_store, recon_actions
from services.billing.bill_store import Errand
from services.billing.errands import Errands
from services.billing.outside import Outside
from services.billing.outside.calls import Caller
from services.billing.outside.channel import SignedChannel
from services.billing.outside.insurance import NationalInsurance
from shared.access.roles import Role
from shared.db import transaction
from tests.integration.billing.conftest import Desk, Doors
from tests.integration.simulators.conftest import HOSPITAL, MERCHANT, Simulator, running

pytestmark = pytest.mark.asyncio
ZONE = ZoneInfo("Asia/Shanghai")


@pytest.fixture(scope="module")
def channel_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with running(Simulator("channel", tmp_path_factory.mktemp("channel"), MERCHANT)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def fund_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with running(Simulator("insurance", tmp_path_factory.mktemp("fund"), HOSPITAL)) as simulator:
        yield simulator


@dataclass
class Counter:
    """A desk with its channel and fund, and somebody who runs the errands by hand."""

    desk: Desk
    channel_server: Simulator
    fund_server: Simulator
    channel: SignedChannel
    fund: NationalInsurance

    @property
    def errands(self) -> Errands:
        return Errands(Outside(insurance=self.fund, channel=self.channel))

    async def run_errands(self, kind: str) -> None:
        for row in await self.desk.fetch("SELECT kind, object_id FROM errand WHERE kind = $1", kind):
            await self.errands.run_errand(self.desk.db, Errand(row["kind"], row["object_id"], 1, None))

    async def order(self, fen: int, stay: UUID | None = None) -> tuple[UUID, str]:
        """Make a code for a deposit and return the stay and the order's number."""
        stay = stay or await self.desk.open()
        async with transaction(self.desk.db) as tx:
            tx.now = datetime.now(UTC)  # the channel's clock does not stand still
            made = await bill_actions.order_payment(
                tx, encounter_id=stay, bill_id=None, amount_fen=fen, method="wechat"
            )
        assert isinstance(made, bill_actions.OnPayment)
        await self.run_errands("payment")
        return stay, made.payment.order_no

    def pay(self, order_no: str) -> None:
        assert self.channel_server.operate("POST", f"/orders/{order_no}/pay").status_code == 200

    async def match(self, party: str = "channel") -> bool:
        return await recon_actions.match_day(self.desk.db, party, today(), fund=self.fund, channel=self.channel)

    async def found(self) -> list[tuple[str, str, int | None, int | None]]:
        rows = await self.desk.fetch(
            "SELECT kind, object, ours_fen, theirs_fen FROM recon_diff WHERE explained_at IS NULL ORDER BY kind, object"
        )
        return [tuple(row) for row in rows]


def today() -> date:
    return datetime.now(ZONE).date()


@pytest_asyncio.fixture
async def counter(desk: Desk, channel_server: Simulator, fund_server: Simulator) -> AsyncIterator[Counter]:
    for simulator, tables in (
        (channel_server, ("notice", "refund", "pay_order")),
        (fund_server, ("settlement", "line", "stay", "message")),
    ):
        simulator.behave()
        for table in tables:
            simulator.change_truth(f"DELETE FROM {table}")
    channel = SignedChannel(Caller(channel_server.party(seconds=5)), notify_url="http://127.0.0.1:9/nobody-listens")
    fund = NationalInsurance(Caller(fund_server.party(seconds=5)), area="370100")
    yield Counter(desk, channel_server, fund_server, channel, fund)
    await channel.close()
    await fund.close()


async def test_a_day_on_which_all_agree_has_no_difference_and_is_written_down(counter: Counter):
    stay, order_no = await counter.order(100_00)
    counter.pay(order_no)
    await counter.run_errands("payment")
    deposit = await counter.desk.value("SELECT entry_id FROM payment WHERE order_no = $1", order_no)
    await counter.desk.refund_part(stay, deposit, 30_01)
    await counter.run_errands("refund")
    assert await counter.match()
    assert await counter.found() == []
    rows = await counter.desk.fetch("SELECT party, rows, ours_fen, theirs_fen FROM recon_day")
    assert [tuple(row) for row in rows] == [("channel", 2, 69_99, 69_99)]


async def test_a_payment_nobody_told_us_of_is_found_and_the_money_is_posted(counter: Counter):
    stay, order_no = await counter.order(88_00)
    counter.pay(order_no)
    await counter.desk.fetch("DELETE FROM errand")  # as if whoever looked after it had lost it
    assert await counter.match()
    assert await counter.found() == [("missing_here", order_no, None, 88_00)]
    await counter.run_errands("payment")
    assert await counter.desk.account(stay) == ("open", 0, 88_00)
    assert await counter.match()
    assert await counter.found() == []
    assert await counter.desk.value("SELECT explanation FROM recon_diff") == "matched_later"


async def test_money_of_an_order_we_took_for_closed_is_posted_too(counter: Counter):
    stay, order_no = await counter.order(12_00)
    counter.pay(order_no)
    await counter.desk.fetch("DELETE FROM errand")
    await counter.desk.fetch("UPDATE payment SET state = 'closed' WHERE order_no = $1", order_no)
    assert await counter.match()
    assert await counter.found() == [("state", order_no, None, 12_00)]
    assert await counter.desk.account(stay) == ("open", 0, 12_00)
    assert await counter.match()
    assert await counter.found() == []


async def test_what_the_channel_does_not_state_and_another_sum_are_differences(counter: Counter):
    orders = []
    for fen in (10_00, 20_00):
        _, order_no = await counter.order(fen)
        counter.pay(order_no)
        await counter.run_errands("payment")
        orders.append(order_no)
    counter.channel_server.change_truth(f"DELETE FROM notice WHERE order_no = '{orders[0]}'")
    counter.channel_server.change_truth(f"DELETE FROM pay_order WHERE order_no = '{orders[0]}'")
    counter.channel_server.change_truth(f"UPDATE pay_order SET paid_fen = 2001 WHERE order_no = '{orders[1]}'")
    assert await counter.match()
    expected = [("amount", orders[1], 20_00, 20_01), ("missing_there", orders[0], 10_00, None)]
    assert await counter.found() == expected
    assert await counter.match()
    assert await counter.found() == expected, "matched again, the same differences are found once"


async def test_an_order_that_is_not_ours_at_all_is_a_difference_and_changes_no_money(counter: Counter):
    foreign = f"P{uuid4().hex}"
    await counter.channel.create_order(foreign, 5_00, "alipay", datetime.now(UTC) + timedelta(minutes=5))
    counter.pay(foreign)
    assert await counter.match()
    assert await counter.found() == [("missing_here", foreign, None, 5_00)]
    assert await counter.desk.balances() == {}


async def test_a_channel_that_does_not_answer_leaves_the_day_unmatched(counter: Counter):
    counter.channel_server.plan("statement", "drop")
    assert not await counter.match()
    assert await counter.desk.value("SELECT count(*) FROM recon_day") == 0


async def test_the_fund_and_we_count_the_same_settlements(counter: Counter):
    desk = counter.desk
    stay = await desk.open(ward="W1")
    await desk.charge(stay, 300_00)
    await desk.do(bill_actions.note_coverage, encounter_id=stay, psn_no="310A0001")
    await desk.do(bill_actions.draft_bill, encounter_id=stay, as_self_pay=False, fund_connected=True)
    await counter.run_errands("bill")
    bill = (await desk.fetch("SELECT id, state, reason, lines_hash, fund_fen + account_fen AS payer_fen FROM bill"))[0]
    assert bill["state"] == "quoted", bill["reason"]
    await desk.do(bill_actions.confirm_bill, encounter_id=stay, bill_id=bill["id"], shown_hash=bill["lines_hash"])
    await counter.run_errands("bill")
    assert await desk.value("SELECT setl_id FROM bill") is not None
    assert await counter.match("insurance")
    assert await counter.found() == []
    rows = await desk.fetch("SELECT rows, ours_fen, theirs_fen FROM recon_day")
    assert [tuple(row) for row in rows] == [(1, bill["payer_fen"], bill["payer_fen"])]
    counter.fund_server.change_truth("UPDATE settlement SET void = 1")
    assert await counter.match("insurance")
    assert await counter.found() == [("totals", "1:0", bill["payer_fen"], 0)]


async def test_cash_outside_a_drawer_is_a_difference_of_its_cashier(counter: Counter):
    desk, anna = counter.desk, uuid4()
    stay = await desk.open()
    async with transaction(desk.db) as tx:
        tx.actor = anna
        await actions.take_deposit(tx, encounter_id=stay, amount_fen=9_00, method="cash")
    assert await counter.match("drawer")
    assert await counter.found() == [("outside_shift", str(anna), 9_00, None)]


async def test_yesterday_is_matched_once_by_itself_and_again_when_asked_for(counter: Counter):
    desk = counter.desk

    async def turn() -> list[str]:
        async with transaction(desk.db) as tx:
            await recon_actions.order_yesterday(tx, ZONE)
        return [row["object_id"] for row in await desk.fetch("SELECT object_id FROM errand ORDER BY 1")]

    wanted = [f"{party}:2026-03-01" for party in ("channel", "drawer", "insurance")]
    assert await turn() == wanted
    assert await turn() == wanted
    await counter.run_errands("match")
    assert await turn() == []
    assert await desk.value("SELECT count(*) FROM recon_day WHERE day = '2026-03-01'") == 3
    async with transaction(desk.db) as tx:
        await recon_actions.order_day(tx, ZONE, date(2026, 3, 1))
        assert isinstance(await recon_actions.order_day(tx, ZONE, date(2026, 3, 2)), recon_actions.DayNotOver)
    assert len(await desk.fetch("SELECT FROM errand")) == 3


async def test_a_clerk_takes_a_difference_explains_it_and_it_leaves_the_list(doors: Doors):
    clerk, nurse = doors.somebody(Role.BILLING_CLERK), doors.somebody(Role.WARD_NURSE, wards=("W1",))
    async with transaction(doors.desk.db) as tx:
        for number in range(3):
            await bill_store.insert_difference(
                tx, party="channel", kind="amount", object_=f"P{number}", ours_fen=number, theirs_fen=9
            )
    first = (await doors.get(clerk, "../differences?limit=2")).json()
    second = (await doors.get(clerk, first["next"].replace("/api/billing", ".."))).json()
    shown = [one["object"] for page in (first, second) for one in page["differences"]]
    assert sorted(shown) == ["P0", "P1", "P2"]
    assert first["differences"][0]["age_seconds"] > 0
    path = f"../differences/{first['differences'][0]['id']}"
    owned = await doors.post(clerk, f"{path}/owner", {})
    assert (owned.status_code, owned.json()["owner"] is None) == (200, False)
    assert (await doors.post(clerk, f"{path}/explanation", {"explanation": "because"})).status_code == 422
    assert (await doors.post(nurse, f"{path}/explanation", {"explanation": "test_transaction"})).status_code == 403
    done = await doors.post(clerk, f"{path}/explanation", {"explanation": "test_transaction"})
    assert done.status_code == 200
    again = await doors.post(clerk, f"{path}/explanation", {"explanation": "posted_by_hand"})
    assert (again.status_code, again.json()["code"]) == (409, "already_explained")
    assert len((await doors.get(clerk, "../differences")).json()["differences"]) == 2
    day = datetime.now(ZONE).date()
    seen = (await doors.get(clerk, f"../reconciliation?day={day}")).json()
    assert (seen["open"], len(seen["differences"])) == (2, 3)
    assert (await doors.post(clerk, f"../differences/{uuid4()}/owner", {})).status_code == 404
    assert (await doors.post(clerk, "../reconciliation", {"day": "2026-03-02"})).json()["code"] == "day_not_over"
    ordered = await doors.post(clerk, "../reconciliation", {"day": "2026-03-01"})
    assert (ordered.status_code, len(ordered.json()["parties"])) == (202, 3)


async def test_what_was_found_never_changes(desk: Desk):
    async with transaction(desk.db) as tx:
        await bill_store.insert_difference(tx, party="channel", kind="amount", object_="P1", ours_fen=1, theirs_fen=2)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="what was found"):
        await desk.fetch("UPDATE recon_diff SET theirs_fen = 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await desk.fetch("DELETE FROM recon_diff")
