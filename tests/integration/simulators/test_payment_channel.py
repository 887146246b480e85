"""Billing and the simulated payment channel: orders, refunds, statements, notices, and the family that pays."""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta

import httpx2
import pytest

from services.billing.outside import wire
from services.billing.outside.calls import Caller
from services.billing.outside.channel import SignedChannel
from services.billing.ports import ChannelRefund, Declined, Done, ForgedNotice, Order, StatementRow, Unknown
from tests.integration.simulators.conftest import KEY, MERCHANT, Desk, Simulator, a_number

pytestmark = pytest.mark.asyncio

SOON = datetime(2099, 1, 1, tzinfo=UTC)


async def ordered(channel: SignedChannel, fen: int, expires_at: datetime = SOON) -> tuple[str, str]:
    """Create an order and return its number and the text of its QR code."""
    order_no = a_number()
    outcome = await channel.create_order(order_no, fen, "wechat", expires_at)
    assert isinstance(outcome, Done), outcome
    return order_no, outcome.value


async def paid(channel: SignedChannel, server: Simulator, fen: int) -> Order:
    order_no, _ = await ordered(channel, fen)
    assert server.operate("POST", f"/orders/{order_no}/pay").status_code == 200
    outcome = await channel.query_order(order_no)
    assert isinstance(outcome, Done)
    assert outcome.value is not None
    assert outcome.value.transaction_id is not None
    return outcome.value


def order_in(server: Simulator, order_no: str) -> dict[str, object]:
    return next(one for one in server.truth()["orders"] if one["order_no"] == order_no)


def refunds_in(server: Simulator, order_no: str) -> list[int]:
    return [one["amount_fen"] for one in server.truth()["refunds"] if one["order_no"] == order_no]


# ---- orders ----------------------------------------------------------------------------------------------------------


async def test_the_same_order_again_has_the_same_code_and_another_under_its_number_is_refused(channel):
    order_no, code = await ordered(channel, 12_345)
    assert await channel.create_order(order_no, 12_345, "wechat", SOON) == Done(code)
    assert await channel.create_order(order_no, 12_346, "wechat", SOON) == Declined("OUT_TRADE_NO_USED")
    assert await channel.create_order(order_no, 12_345, "alipay", SOON) == Declined("OUT_TRADE_NO_USED")
    assert await channel.query_order(order_no) == Done(Order(order_no, "unpaid", 12_345))


async def test_of_an_order_it_never_heard_of_the_channel_says_so(channel):
    assert await channel.query_order(a_number()) == Done(None)
    assert await channel.query_refund(a_number()) == Done(None)
    assert await channel.close_order(a_number()) == Declined("ORDER_NOT_EXIST")


async def test_the_family_scans_and_presses_once_or_twice_and_pays_once(channel, channel_server, desk):
    order_no, code = await ordered(channel, 123_456)
    assert code.startswith(f"{channel_server.url}/sim/pay/")
    async with httpx2.AsyncClient(trust_env=False) as phone:
        page = await phone.get(code)
        assert "¥1,234.56" in page.text
        assert "支付" in page.text
        assert order_no not in page.text
        for _ in range(2):
            assert (await phone.post(code)).status_code == 303
        assert "已支付" in (await phone.get(code)).text
        assert (await phone.get(f"{channel_server.url}/sim/pay/nothing")).status_code == 404
    outcome = await channel.query_order(order_no)
    assert isinstance(outcome, Done)
    order = outcome.value
    assert order is not None
    assert (order.state, order.amount_fen) == ("paid", 123_456)
    assert order.transaction_id
    assert order.paid_at is not None
    assert abs((datetime.now(UTC) - order.paid_at).total_seconds()) < 60
    assert channel.read_notice(*desk.wait_for(1)[0]).order == order


async def test_a_closed_order_cannot_be_paid_and_a_paid_one_cannot_be_closed(channel, channel_server):
    order_no, code = await ordered(channel, 500)
    for _ in range(2):
        assert await channel.close_order(order_no) == Done(Order(order_no, "closed", 500))
    assert channel_server.operate("POST", f"/orders/{order_no}/pay").status_code == 409
    async with httpx2.AsyncClient(trust_env=False) as phone:
        await phone.post(code)
        assert "没有扣款" in (await phone.get(code)).text
    assert await channel.query_order(order_no) == Done(Order(order_no, "closed", 500))
    assert await channel.create_order(order_no, 500, "wechat", SOON) == Declined("ORDER_CLOSED")
    order = await paid(channel, channel_server, 600)
    assert await channel.close_order(order.order_no) == Done(order)


async def test_an_expired_order_cannot_be_paid(channel, channel_server):
    order_no, code = await ordered(channel, 500, datetime.now(UTC) - timedelta(seconds=1))
    assert channel_server.operate("POST", f"/orders/{order_no}/pay").status_code == 409
    async with httpx2.AsyncClient(trust_env=False) as phone:
        assert "已过期" in (await phone.get(code)).text
    assert await channel.query_order(order_no) == Done(Order(order_no, "unpaid", 500))


async def test_closing_and_paying_at_once_end_in_one_of_the_two(channel, channel_server):
    for _ in range(10):
        order_no, code = await ordered(channel, 500)
        async with httpx2.AsyncClient(trust_env=False) as phone:
            closed, _ = await asyncio.gather(channel.close_order(order_no), phone.post(code))
        assert isinstance(closed, Done)
        assert closed.value.state in ("closed", "paid")
        assert await channel.query_order(order_no) == closed


async def test_another_sum_than_was_asked_is_told_as_it_is(channel, channel_server, desk):
    order_no, _ = await ordered(channel, 500)
    answer = channel_server.operate("POST", f"/orders/{order_no}/pay", {"amount_fen": 499})
    assert answer.status_code == 200
    outcome = await channel.query_order(order_no)
    assert isinstance(outcome, Done)
    assert outcome.value is not None
    assert (outcome.value.state, outcome.value.amount_fen) == ("paid", 499)
    assert channel.read_notice(*desk.wait_for(1)[0]).order == outcome.value


# ---- refunds ---------------------------------------------------------------------------------------------------------


async def test_a_refund_is_made_once_and_all_together_never_exceed_what_was_paid(channel, channel_server):
    order = await paid(channel, channel_server, 1_000)
    refund_no = a_number()
    first = await channel.refund(refund_no, order.order_no, 600)
    assert isinstance(first, Done)
    assert await channel.refund(refund_no, order.order_no, 601) == Declined("OUT_REFUND_NO_USED")
    assert await channel.refund(a_number(), order.order_no, 401) == Declined("NOT_ENOUGH")
    assert isinstance(await channel.refund(refund_no, order.order_no, 600), Done)
    assert isinstance(await channel.refund(a_number(), order.order_no, 400), Done)
    assert await channel.refund(a_number(), order.order_no, 1) == Declined("NOT_ENOUGH")
    assert refunds_in(channel_server, order.order_no) == [600, 400]


async def test_ten_refunds_at_once_of_a_third_each_give_back_three(channel, channel_server):
    order = await paid(channel, channel_server, 999)
    outcomes = await asyncio.gather(*(channel.refund(a_number(), order.order_no, 333) for _ in range(10)))
    assert sum(isinstance(outcome, Done) for outcome in outcomes) == 3
    assert sum(refunds_in(channel_server, order.order_no)) == 999


async def test_a_refund_is_processed_then_done(channel, channel_server):
    order = await paid(channel, channel_server, 1_000)
    refund_no = a_number()
    assert await channel.refund(refund_no, order.order_no, 10) == Done(
        ChannelRefund(refund_no, order.order_no, "processing", 10)
    )
    await asyncio.sleep(0.35)  # 30 s at the speed of these tests
    done = Done(ChannelRefund(refund_no, order.order_no, "done", 10))
    assert await channel.query_refund(refund_no) == done


async def test_a_failed_refund_leaves_the_money_to_be_refunded_again(channel, channel_server):
    order = await paid(channel, channel_server, 1_000)
    refund_no = a_number()
    assert isinstance(await channel.refund(refund_no, order.order_no, 1_000), Done)
    assert channel_server.operate("POST", f"/refunds/{refund_no}/fail").status_code == 200
    assert await channel.query_refund(refund_no) == Done(ChannelRefund(refund_no, order.order_no, "failed", 1_000))
    assert isinstance(await channel.refund(a_number(), order.order_no, 1_000), Done)


async def test_what_was_not_paid_is_not_refunded(channel):
    order_no, _ = await ordered(channel, 500)
    assert await channel.refund(a_number(), order_no, 1) == Declined("TRADE_STATE_ERROR")
    assert await channel.refund(a_number(), a_number(), 1) == Declined("ORDER_NOT_EXIST")


# ---- the statement ---------------------------------------------------------------------------------------------------


async def test_the_statement_of_a_day_is_the_truth_of_that_day(channel, channel_server):
    """Business days are the hospital's: 16:00 UTC is midnight in Shanghai."""
    evening, midnight = "2026-05-01T15:59:59+00:00", "2026-05-01T16:00:00+00:00"
    one, other = [await paid(channel, channel_server, fen) for fen in (700, 800)]
    refund_no, failed_no = a_number(), a_number()
    assert isinstance(await channel.refund(refund_no, one.order_no, 300), Done)
    assert isinstance(await channel.refund(failed_no, one.order_no, 100), Done)
    channel_server.operate("POST", f"/refunds/{failed_no}/fail")
    for table, key, number, at in (
        ("pay_order", "paid_at", one.order_no, evening),
        ("pay_order", "paid_at", other.order_no, midnight),
        ("refund", "at", one.order_no, midnight),
    ):
        channel_server.change_truth(f"UPDATE {table} SET {key} = '{at}' WHERE order_no = '{number}'")
    first = await channel.statement(date(2026, 5, 1))
    assert first == Done([StatementRow(one.order_no, one.transaction_id or "", 700, datetime.fromisoformat(evening))])
    assert await channel.statement(date(2026, 5, 2)) == Done(
        [
            StatementRow(other.order_no, other.transaction_id or "", 800, datetime.fromisoformat(midnight)),
            StatementRow(one.order_no, one.transaction_id or "", 300, datetime.fromisoformat(midnight), refund_no),
        ]
    )
    assert await channel.statement(date(2026, 5, 3)) == Done([])
    channel_server.plan("statement", "contradict", how="parts")
    assert await channel.statement(date(2026, 5, 2)) == Unknown("unreadable")


# ---- notices ---------------------------------------------------------------------------------------------------------


async def test_a_notice_comes_again_until_it_is_taken_and_each_time_with_a_fresh_nonce(channel, channel_server, desk):
    desk.busy = 3
    order = await paid(channel, channel_server, 500)
    notices = [channel.read_notice(*heard) for heard in desk.wait_for(4)]
    assert [notice.order for notice in notices] == [order] * 4
    assert len({notice.nonce for notice in notices}) == 4
    await asyncio.sleep(0.3)
    assert len(desk.heard) == 4
    kept = next(one for one in channel_server.truth()["notices"] if one["order_no"] == order.order_no)
    assert kept["acknowledged_at"] is not None


async def test_a_duplicated_notice_is_the_same_letter_twice_and_the_same_news_in_another(channel, channel_server, desk):
    channel_server.plan("notice", "duplicate")
    order = await paid(channel, channel_server, 500)
    notices = [channel.read_notice(*heard) for heard in desk.wait_for(3)]
    assert [notice.order for notice in notices] == [order] * 3
    assert notices[0].nonce == notices[1].nonce != notices[2].nonce


async def test_a_lost_notice_is_sent_again(channel, channel_server, desk):
    channel_server.plan("notice", "drop", times=2)
    order = await paid(channel, channel_server, 500)
    assert channel.read_notice(*desk.wait_for(1)[0]).order == order


async def test_a_forged_notice_is_refused_and_the_true_one_that_follows_is_not(channel, channel_server, desk):
    desk.busy = 1
    channel_server.plan("notice", "forged")
    order = await paid(channel, channel_server, 500)
    forged, true = desk.wait_for(2)
    with pytest.raises(ForgedNotice):
        channel.read_notice(*forged)
    assert channel.read_notice(*true).order == order


async def test_a_notice_that_contradicts_is_seen_by_its_sum_or_refused(channel, channel_server, desk):
    channel_server.plan("notice", "contradict", how="amount")
    await paid(channel, channel_server, 500)
    assert channel.read_notice(*desk.wait_for(1)[0]).order.amount_fen == 501
    channel_server.plan("notice", "contradict")
    await paid(channel, channel_server, 500)
    with pytest.raises(ForgedNotice):
        channel.read_notice(*desk.wait_for(2)[1])


async def test_a_notice_that_was_changed_is_old_or_is_for_somebody_else_is_refused(channel, channel_server, desk):
    await paid(channel, channel_server, 500)
    headers, body = desk.wait_for(1)[0]
    assert channel.read_notice(headers, body).order.amount_fen == 500
    plain = {name.lower(): value for name, value in headers.items()}
    stale = wire.sign(KEY.encode(), "notice", MERCHANT, "", body)
    changed = [
        (headers, body.replace(b'"payer_total":500', b'"payer_total":999')),
        (headers, b""),
        ({**plain, "x-nonce": "f" * 32}, body),
        ({**plain, "x-timestamp": str(int(time.time()) - 301)}, body),
        ({**plain, "x-key-id": "1900000002"}, body),
        ({name: value for name, value in plain.items() if name != "x-signature"}, body),
        (wire.sign(KEY.encode(), "answer", MERCHANT, "", body), body),
        (wire.sign(KEY.encode(), "notice", "1900000002", "", body), body),
        (wire.sign(KEY.encode(), "notice", MERCHANT, "", b"[]"), b"[]"),
        (wire.sign(KEY.encode(), "notice", MERCHANT, "", b"[" * 100_000), b"[" * 100_000),
    ]
    foreign = body.replace(MERCHANT.encode(), b"1900000002")
    changed.append((wire.sign(KEY.encode(), "notice", MERCHANT, "", foreign), foreign))
    assert channel.read_notice(stale, body)
    for given, content in changed:
        with pytest.raises(ForgedNotice):
            channel.read_notice(given, content)


async def test_a_notice_of_six_minutes_ago_is_refused_though_truly_signed(channel, channel_server, desk, monkeypatch):
    await paid(channel, channel_server, 500)
    headers, body = desk.wait_for(1)[0]
    signed_at = next(int(value) for name, value in headers.items() if name.lower() == wire.TIMESTAMP)
    for moved in (299, -299):
        monkeypatch.setattr(time, "time", lambda moved=moved: signed_at + moved)
        assert channel.read_notice(headers, body)
    for moved in (301, -301):
        monkeypatch.setattr(time, "time", lambda moved=moved: signed_at + moved)
        with pytest.raises(ForgedNotice):
            channel.read_notice(headers, body)


# ---- misbehaviour ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "more", "expected", "made"),
    [
        ("late", {"seconds": 0.1}, Done, True),
        ("late", {"seconds": 5}, Unknown("timeout"), True),
        ("silent_before", {}, Unknown("timeout"), False),
        ("timeout-after-success", {}, Unknown("timeout"), True),
        ("drop", {}, Unknown("connection_lost"), True),
        ("duplicate", {}, Done, True),
        ("contradict", {}, Declined("9999"), True),
        ("contradict", {"how": "amount"}, Unknown("unreadable"), True),
        ("forged", {}, Unknown("bad_signature"), True),
        ("error", {}, Unknown("server_error"), False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_however_the_channel_misbehaves_repeating_ends_in_one_refund(
    channel, channel_server, fault, more, expected, made
):
    order, refund_no = await paid(channel, channel_server, 1_000), a_number()
    channel_server.plan("refund", fault, **more)
    outcome = await channel.refund(refund_no, order.order_no, 600)
    assert isinstance(outcome, Done) if expected is Done else outcome == expected
    assert refunds_in(channel_server, order.order_no) == ([600] if made else [])
    found = await channel.query_refund(refund_no)
    assert isinstance(found, Done)
    assert (found.value is not None) == made
    assert isinstance(await channel.refund(refund_no, order.order_no, 600), Done)
    assert refunds_in(channel_server, order.order_no) == [600]


async def test_every_question_survives_a_forged_answer(channel, channel_server):
    order = await paid(channel, channel_server, 500)
    channel_server.plan("*", "forged", times=100)
    forged = Unknown("bad_signature")
    assert await channel.create_order(a_number(), 1, "alipay", SOON) == forged
    assert await channel.query_order(order.order_no) == forged
    assert await channel.close_order(order.order_no) == forged
    assert await channel.refund(a_number(), order.order_no, 1) == forged
    assert await channel.query_refund(a_number()) == forged
    assert await channel.statement(date(2026, 5, 1)) == forged


async def test_a_letter_sent_twice_by_somebody_in_between_is_not_done_twice(channel, channel_server):
    order_no, _ = await ordered(channel, 500)
    path = f"/v3/orders/{order_no}"
    headers = wire.sign(KEY.encode(), "request", MERCHANT, f"GET {path}", b"")
    async with httpx2.AsyncClient(trust_env=False, base_url=channel_server.url) as between:
        assert (await between.get(path, headers=headers)).status_code == 200
        assert (await between.get(path, headers=headers)).status_code == 401
        assert (await between.get(path)).status_code == 401


async def test_orders_money_and_notices_outlive_a_kill(channel, channel_server, desk):
    desk.busy = 1_000_000
    order = await paid(channel, channel_server, 500)
    desk.wait_for(1)
    channel_server.kill()
    assert await channel.query_order(order.order_no) == Unknown("connection_lost")
    channel_server.start()
    assert await channel.query_order(order.order_no) == Done(order)
    desk.busy = 0
    heard = len(desk.heard)
    assert channel.read_notice(*desk.wait_for(heard + 1)[-1]).order == order


async def test_who_has_another_key_learns_and_changes_nothing(channel_server, desk: Desk):
    stranger = SignedChannel(Caller(channel_server.party(key="another key altogether, as long")), notify_url=desk.url)
    order_no = a_number()
    assert await stranger.create_order(order_no, 500, "wechat", SOON) == Unknown("bad_signature")
    await stranger.close()
    assert order_no not in str(channel_server.truth())
