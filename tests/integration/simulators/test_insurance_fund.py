"""Billing and the simulated insurance fund: every trade, every way the fund can misbehave."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from services.billing.outside.calls import Caller
from services.billing.outside.insurance import NationalInsurance
from services.billing.ports import Declined, Done, FeeLine, InsuredStay, PayerSettlement, Split, Unknown
from tests.integration.simulators.conftest import Simulator, a_number

pytestmark = pytest.mark.asyncio

REUSED, REVERSED, NOBODY, NO_STAY, WRONG_STATE, SUM_DIFFERS, LINES_HELD = (
    Declined(code) for code in ("1002", "1003", "2001", "2002", "2003", "2005", "2006")
)
AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def a_stay(psn_no: str = "") -> InsuredStay:
    return InsuredStay(uuid4(), psn_no or f"310{uuid4().int % 10**9:09d}", AT, "MED", "MED-01")


def a_line(fen: int, item: str = "TEST-CBC") -> FeeLine:
    return FeeLine(uuid4(), item, fen, AT)


@dataclass
class Registered:
    mdtrt_id: str
    lines: list[FeeLine]

    @property
    def charged_fen(self) -> int:
        return sum(line.amount_fen for line in self.lines)


def done(outcome: object) -> Any:
    assert isinstance(outcome, Done), outcome
    return outcome.value


async def registered(fund: NationalInsurance, *fen: int, psn_no: str = "", item: str = "TEST-CBC") -> Registered:
    outcome = await fund.register_stay(a_number(), a_stay(psn_no))
    assert isinstance(outcome, Done)
    found = Registered(outcome.value, [a_line(one, item) for one in fen])
    if found.lines:
        assert await fund.upload_lines(a_number(), found.mdtrt_id, found.lines) == Done(len(fen))
    return found


async def settled(fund: NationalInsurance, *fen: int, psn_no: str = "") -> tuple[Registered, PayerSettlement, str]:
    stay = await registered(fund, *fen, psn_no=psn_no)
    msgid = a_number()
    outcome = await fund.settle(msgid, stay.mdtrt_id, stay.charged_fen)
    assert isinstance(outcome, Done)
    return stay, outcome.value, msgid


def settlements_of(server: Simulator, mdtrt_id: str) -> list[dict[str, Any]]:
    return [one for one in server.truth()["settlements"] if one["mdtrt_id"] == mdtrt_id]


def balance_of(server: Simulator, psn_no: str) -> int:
    found: int = next(one["balance_fen"] for one in server.truth()["persons"] if one["psn_no"] == psn_no)
    return found


# ---- stays -----------------------------------------------------------------------------------------------------------


async def test_a_stay_is_registered_once_and_the_same_letter_again_is_the_same_stay(fund, fund_server):
    stay, msgid = a_stay(), a_number()
    first = await fund.register_stay(msgid, stay)
    assert isinstance(first, Done)
    assert await fund.register_stay(msgid, stay) == first
    assert await fund.register_stay(a_number(), replace(stay, ward="ICU", bed=None)) == first
    other = await fund.register_stay(a_number(), replace(stay, encounter_id=uuid4()))
    assert isinstance(other, Done)
    assert other != first
    kept = [one for one in fund_server.truth()["stays"] if one["ipt_no"] == str(stay.encounter_id)]
    assert [(one["mdtrt_id"], one["ward"], one["bed"]) for one in kept] == [(first.value, "MED", "MED-01")]


async def test_whom_the_fund_does_not_know_it_does_not_register(fund, fund_server):
    stay = a_stay("999000000001")
    assert await fund.register_stay(a_number(), stay) == NOBODY
    assert str(stay.encounter_id) not in str(fund_server.truth())


async def test_a_msgid_is_never_used_for_two_letters(fund):
    stay = await registered(fund)
    msgid = a_number()
    assert await fund.upload_lines(msgid, stay.mdtrt_id, [a_line(100)]) == Done(1)
    assert await fund.upload_lines(msgid, stay.mdtrt_id, [a_line(200)]) == REUSED
    assert await fund.leave(msgid, stay.mdtrt_id, AT) == REUSED


async def test_leaving_can_be_taken_back_until_the_stay_is_settled(fund, fund_server):
    stay = await registered(fund, 500)
    assert await fund.leave(a_number(), stay.mdtrt_id, AT) == Done(None)
    left = [one["left_at"] for one in fund_server.truth()["stays"] if one["mdtrt_id"] == stay.mdtrt_id]
    assert left == [AT.isoformat()]
    assert await fund.cancel_leave(a_number(), stay.mdtrt_id) == Done(None)
    left = [one["left_at"] for one in fund_server.truth()["stays"] if one["mdtrt_id"] == stay.mdtrt_id]
    assert left == [None]
    assert isinstance(await fund.settle(a_number(), stay.mdtrt_id, 500), Done)
    assert await fund.cancel_leave(a_number(), stay.mdtrt_id) == WRONG_STATE


async def test_a_registration_is_taken_back_once_its_lines_are_withdrawn(fund):
    stay = await registered(fund, 100, 200)
    assert await fund.cancel_stay(a_number(), stay.mdtrt_id) == LINES_HELD
    assert await fund.withdraw_lines(a_number(), stay.mdtrt_id, [line.entry_id for line in stay.lines]) == Done(0)
    assert await fund.cancel_stay(a_number(), stay.mdtrt_id) == Done(None)
    assert await fund.cancel_stay(a_number(), stay.mdtrt_id) == Done(None)
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, [a_line(1)]) == WRONG_STATE
    assert await fund.leave(a_number(), "nothing", AT) == NO_STAY


# ---- lines -----------------------------------------------------------------------------------------------------------


async def test_a_line_is_counted_once_however_often_it_is_uploaded(fund):
    stay = await registered(fund)
    lines = [a_line(100), a_line(200)]
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, lines) == Done(2)
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, [*lines, a_line(300)]) == Done(3)
    assert await fund.withdraw_lines(a_number(), stay.mdtrt_id, [lines[0].entry_id]) == Done(2)
    assert await fund.withdraw_lines(a_number(), stay.mdtrt_id, [lines[0].entry_id]) == Done(2)
    assert isinstance(await fund.settle(a_number(), stay.mdtrt_id, 500), Done)


async def test_a_long_bill_goes_in_several_letters_that_can_be_repeated(fund, fund_server):
    stay, msgid = await registered(fund), a_number()
    lines = [a_line(fen) for fen in range(1, 251)]
    fund_server.plan("2301", "late", seconds=0)
    fund_server.plan("2301", "drop")
    assert await fund.upload_lines(msgid, stay.mdtrt_id, lines) == Unknown("connection_lost")
    assert await fund.upload_lines(msgid, stay.mdtrt_id, lines) == Done(250)
    assert isinstance(await fund.pre_settle(a_number(), stay.mdtrt_id, sum(range(1, 251))), Done)
    assert await fund.withdraw_lines(a_number(), stay.mdtrt_id, [line.entry_id for line in lines]) == Done(0)
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, []) == Declined("-1")


async def test_another_amount_under_a_known_line_is_refused_with_the_whole_letter(fund, fund_server):
    stay = await registered(fund, 100)
    other = FeeLine(stay.lines[0].entry_id, "TEST-CBC", 101, AT)
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, [a_line(700), other]) == Declined("2007")
    kept = [one["amount_fen"] for one in fund_server.truth()["lines"] if one["mdtrt_id"] == stay.mdtrt_id]
    assert kept == [100]


# ---- settling --------------------------------------------------------------------------------------------------------


async def test_fund_account_and_patient_pay_the_whole_bill_as_it_was_asked_before(fund):
    stay = await registered(fund, 123_457, 999_901)
    asked = await fund.pre_settle(a_number(), stay.mdtrt_id, 1_123_358)
    # 85 % of what is above 650.00 yuan, then 1,200.00 from the account.
    assert asked == Done(Split(1_123_358, 899_604, 120_000, 103_754))
    outcome = await fund.settle(a_number(), stay.mdtrt_id, 1_123_358)
    assert isinstance(outcome, Done)
    assert Done(outcome.value.split) == asked


async def test_a_sum_that_is_not_the_uploaded_lines_is_refused(fund, fund_server):
    stay = await registered(fund, 100, 200)
    assert await fund.pre_settle(a_number(), stay.mdtrt_id, 301) == SUM_DIFFERS
    assert await fund.settle(a_number(), stay.mdtrt_id, 299) == SUM_DIFFERS
    assert settlements_of(fund_server, stay.mdtrt_id) == []


async def test_a_refused_letter_may_be_sent_again_once_its_reason_is_gone(fund):
    stay, msgid = await registered(fund, 100), a_number()
    assert await fund.settle(msgid, stay.mdtrt_id, 300) == SUM_DIFFERS
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, [a_line(200)]) == Done(2)
    assert isinstance(await fund.settle(msgid, stay.mdtrt_id, 300), Done)


async def test_the_same_settlement_again_is_the_same_and_a_second_one_is_refused(fund, fund_server):
    stay, settlement, msgid = await settled(fund, 70_000)
    assert await fund.settle(msgid, stay.mdtrt_id, 70_000) == Done(settlement)
    assert await fund.settle(a_number(), stay.mdtrt_id, 70_000) == WRONG_STATE
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, [a_line(1)]) == WRONG_STATE
    assert len(settlements_of(fund_server, stay.mdtrt_id)) == 1


async def test_twenty_at_once_make_one_settlement(fund, fund_server):
    stay, msgid = await registered(fund, 70_000), a_number()
    outcomes = await asyncio.gather(*(fund.settle(msgid, stay.mdtrt_id, 70_000) for _ in range(20)))
    assert isinstance(outcomes[0], Done)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len(settlements_of(fund_server, stay.mdtrt_id)) == 1


async def test_a_settlement_taken_back_gives_the_account_its_money_again_once(fund, fund_server):
    psn_no = f"310{uuid4().int % 10**9:09d}"
    stay, settlement, msgid = await settled(fund, 70_000, psn_no=psn_no)
    assert balance_of(fund_server, psn_no) == 120_000 - settlement.split.account_fen < 120_000
    for _ in range(2):
        assert await fund.reverse_settlement(a_number(), stay.mdtrt_id, settlement.setl_id) == Done(None)
    assert balance_of(fund_server, psn_no) == 120_000
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, msgid) == Done(None)
    assert await fund.reverse_settlement(a_number(), stay.mdtrt_id, "nothing") == Declined("2004")
    assert isinstance(await fund.settle(a_number(), stay.mdtrt_id, 70_000), Done)


async def test_the_cap_of_the_year_is_shared_by_all_stays_of_a_person(fund):
    psn_no = f"310{uuid4().int % 10**9:09d}"
    _, first, _ = await settled(fund, 45_000_000, psn_no=psn_no)
    _, second, _ = await settled(fund, 45_000_000, psn_no=psn_no)
    assert first.split.fund_fen + second.split.fund_fen == 40_000_000
    assert second.split.patient_fen == 45_000_000 - second.split.fund_fen


# ---- what came of it -------------------------------------------------------------------------------------------------


async def test_what_came_of_a_settlement_can_be_asked(fund):
    stay, settlement, msgid = await settled(fund, 70_000)
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, msgid) == Done(settlement)
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, a_number()) == Done(None)


async def test_a_reversed_settlement_never_counts_even_if_its_letter_comes_afterwards(fund, fund_server):
    stay, late = await registered(fund, 70_000), a_number()
    assert await fund.reverse_unknown(a_number(), stay.mdtrt_id, "2304", late) == Done(None)
    assert await fund.settle(late, stay.mdtrt_id, 70_000) == REVERSED
    assert settlements_of(fund_server, stay.mdtrt_id) == []
    assert isinstance(await fund.settle(a_number(), stay.mdtrt_id, 70_000), Done)


async def test_a_settlement_that_was_made_is_reversed_whole(fund, fund_server):
    psn_no = f"310{uuid4().int % 10**9:09d}"
    stay, _, msgid = await settled(fund, 70_000, psn_no=psn_no)
    for _ in range(2):
        assert await fund.reverse_unknown(a_number(), stay.mdtrt_id, "2304", msgid) == Done(None)
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, msgid) == Done(None)
    assert await fund.settle(msgid, stay.mdtrt_id, 70_000) == REVERSED
    assert balance_of(fund_server, psn_no) == 120_000


async def test_a_reversed_taking_back_leaves_the_settlement_in_force(fund):
    stay, settlement, msgid = await settled(fund, 70_000)
    taking_back = a_number()
    assert await fund.reverse_settlement(taking_back, stay.mdtrt_id, settlement.setl_id) == Done(None)
    assert await fund.reverse_unknown(a_number(), stay.mdtrt_id, "2305", taking_back) == Done(None)
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, msgid) == Done(settlement)


async def test_a_reversed_registration_and_leaving_never_were(fund, fund_server):
    stay, registering, leaving = a_stay(), a_number(), a_number()
    outcome = await fund.register_stay(registering, stay)
    assert isinstance(outcome, Done)
    assert await fund.leave(leaving, outcome.value, AT) == Done(None)
    assert await fund.reverse_unknown(a_number(), outcome.value, "2402", leaving) == Done(None)
    assert await fund.reverse_unknown(a_number(), outcome.value, "2401", registering) == Done(None)
    kept = next(one for one in fund_server.truth()["stays"] if one["mdtrt_id"] == outcome.value)
    assert kept["left_at"] is None
    assert kept["cancelled_at"] is not None
    assert isinstance(await fund.register_stay(a_number(), stay), Done)
    assert await fund.reverse_unknown(a_number(), outcome.value, "2301", a_number()) == Declined("2008")


# ---- the day ---------------------------------------------------------------------------------------------------------


async def test_the_day_is_compared_without_what_was_taken_back_or_reversed(fund, fund_server):
    today = datetime.now(ZoneInfo("Asia/Shanghai")).date()
    before = done(await fund.reconcile(a_number(), today, 0, 0))
    _, kept, _ = await settled(fund, 70_000)
    stay, taken_back, _ = await settled(fund, 80_000)
    await fund.reverse_settlement(a_number(), stay.mdtrt_id, taken_back.setl_id)
    stay, _, msgid = await settled(fund, 90_000)
    await fund.reverse_unknown(a_number(), stay.mdtrt_id, "2304", msgid)
    count, payer_fen = before.settlements + 1, before.payer_fen + kept.split.payer_fen
    matched = done(await fund.reconcile(a_number(), today, count, payer_fen))
    assert (matched.matches, matched.settlements, matched.payer_fen) == (True, count, payer_fen)
    differs = done(await fund.reconcile(a_number(), today, count, payer_fen + 1))
    assert (differs.matches, differs.settlements, differs.payer_fen) == (False, count, payer_fen)
    fund_server.plan("3201", "contradict", how="amount")
    assert await fund.reconcile(a_number(), today, count, payer_fen) == Unknown("unreadable")
    in_force = fund_server.truth()["sums"]
    assert in_force["fund_fen"] + in_force["account_fen"] + in_force["cash_fen"] == in_force["total_fen"]


async def test_a_settlement_shortly_after_midnight_in_the_hospital_belongs_to_the_new_day(fund, fund_server):
    _, settlement, _ = await settled(fund, 70_000)
    statement = "UPDATE settlement SET at = '2026-03-01T16:00:01+00:00' WHERE setl_id = '%s'"
    fund_server.change_truth(statement % settlement.setl_id)
    payer_fen = settlement.split.payer_fen
    for day, count, fen in ((1, 0, 0), (2, 1, payer_fen)):
        found = done(await fund.reconcile(a_number(), datetime(2026, 3, day, tzinfo=UTC).date(), count, fen))
        assert (found.matches, found.settlements, found.payer_fen) == (True, count, fen)


async def test_whose_signing_in_is_over_signs_in_again_and_goes_on(fund, fund_server):
    await registered(fund, 100)
    fund_server.change_truth("UPDATE session SET signed_in_at = '2026-01-01T00:00:00+00:00'")
    assert isinstance(await fund.register_stay(a_number(), a_stay()), Done)
    fund_server.change_truth("UPDATE session SET signed_out_at = '2026-01-01T00:00:00+00:00'")
    outcomes = await asyncio.gather(*(fund.register_stay(a_number(), a_stay()) for _ in range(5)))
    assert all(isinstance(outcome, Done) for outcome in outcomes)


# ---- misbehaviour ----------------------------------------------------------------------------------------------------

MADE, NOT_MADE = 1, 0


@pytest.mark.parametrize(
    ("fault", "more", "expected", "made"),
    [
        ("late", {"seconds": 0.1}, Done, MADE),
        ("late", {"seconds": 5}, Unknown("timeout"), MADE),
        ("silent_before", {}, Unknown("timeout"), NOT_MADE),
        ("silent_before", {"seconds": 0.1}, Unknown("connection_lost"), NOT_MADE),
        ("timeout-after-success", {}, Unknown("timeout"), MADE),
        ("drop", {}, Unknown("connection_lost"), MADE),
        ("duplicate", {}, Done, MADE),
        ("contradict", {}, Declined("9999"), MADE),
        ("contradict", {"how": "amount"}, Unknown("unreadable"), MADE),
        ("contradict", {"how": "parts"}, Unknown("unreadable"), MADE),
        ("forged", {}, Unknown("bad_signature"), MADE),
        ("error", {}, Unknown("server_error"), NOT_MADE),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_however_the_fund_misbehaves_asking_and_repeating_end_in_one_settlement(
    fund, fund_server, fault, more, expected, made
):
    stay, msgid = await registered(fund, 70_000), a_number()
    fund_server.plan("2304", fault, **more)
    outcome = await fund.settle(msgid, stay.mdtrt_id, 70_000)
    assert isinstance(outcome, Done) if expected is Done else outcome == expected
    assert len(settlements_of(fund_server, stay.mdtrt_id)) == made
    found = done(await fund.find_settlement(a_number(), stay.mdtrt_id, msgid))
    assert (found is not None) == bool(made)
    repeated = done(await fund.settle(msgid, stay.mdtrt_id, 70_000))
    assert found in (None, repeated)
    assert len(settlements_of(fund_server, stay.mdtrt_id)) == 1


async def test_every_trade_survives_a_forged_answer(fund, fund_server):
    stay = await registered(fund, 70_000)
    forged = Unknown("bad_signature")
    fund_server.plan("*", "forged", times=100)
    day = AT.date()
    assert await fund.register_stay(a_number(), a_stay()) == forged
    assert await fund.cancel_stay(a_number(), stay.mdtrt_id) == forged
    assert await fund.leave(a_number(), stay.mdtrt_id, AT) == forged
    assert await fund.cancel_leave(a_number(), stay.mdtrt_id) == forged
    assert await fund.upload_lines(a_number(), stay.mdtrt_id, [a_line(1)]) == forged
    assert await fund.withdraw_lines(a_number(), stay.mdtrt_id, [uuid4()]) == forged
    assert await fund.pre_settle(a_number(), stay.mdtrt_id, 70_000) == forged
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, a_number()) == forged
    assert await fund.reverse_settlement(a_number(), stay.mdtrt_id, "x") == forged
    assert await fund.reverse_unknown(a_number(), stay.mdtrt_id, "2304", a_number()) == forged
    assert await fund.reconcile(a_number(), day, 0, 0) == forged


async def test_a_letter_signed_with_another_key_is_not_read(fund, fund_server):
    stay = await registered(fund, 70_000)
    stranger = NationalInsurance(Caller(fund_server.party(key="another key altogether, as long")), area="370100")
    assert await stranger.settle(a_number(), stay.mdtrt_id, 70_000) == Unknown("bad_signature")
    await stranger.close()
    assert settlements_of(fund_server, stay.mdtrt_id) == []


async def test_the_truth_outlives_a_kill(fund, fund_server):
    stay, settlement, msgid = await settled(fund, 70_000)
    before = fund_server.truth()
    fund_server.kill()
    assert await fund.find_settlement(a_number(), stay.mdtrt_id, msgid) == Unknown("connection_lost")
    fund_server.start()
    assert fund_server.truth() == before
    assert await fund.settle(msgid, stay.mdtrt_id, 70_000) == Done(settlement)


async def test_the_operator_needs_the_token(fund_server):
    assert fund_server.operate("GET", "/truth", token="somebody else's token").status_code == 401
    assert fund_server.operate("POST", "/faults", {"operation": "2304", "fault": "nonsense"}).status_code == 422
