"""Billing and the simulated receipt office: receipts under our numbers, red ones that void them."""

from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import pytest

from services.billing.outside.receipts import ReceiptOffice
from services.billing.ports import Declined, Done, FeeLine, Receipt, Unknown
from tests.integration.simulators.conftest import Simulator, a_number

pytestmark = pytest.mark.asyncio

AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def a_bill(*fen: int) -> list[FeeLine]:
    return [FeeLine(uuid4(), "TEST-CBC", one, AT) for one in fen]


async def issued(office: ReceiptOffice, *fen: int) -> Receipt:
    outcome = await office.issue(a_number(), sum(fen), a_bill(*fen), AT)
    assert isinstance(outcome, Done), outcome
    return outcome.value


def kept(server: Simulator, number: str) -> list[int]:
    return [one["amount_fen"] for one in server.truth()["receipts"] if one["number"] == number]


async def test_a_receipt_is_issued_once_under_its_number(office, office_server):
    number, bill = a_number(), a_bill(1, 123_456_789)
    first = await office.issue(number, 123_456_790, bill, AT)
    assert isinstance(first, Done)
    assert (first.value.number, first.value.red) == (number, False)
    assert await office.issue(number, 123_456_790, bill[::-1], AT) == first
    assert await office.query(number) == first
    assert await office.issue(number, 5, a_bill(5), AT) == Declined("NUMBER_USED")
    assert kept(office_server, number) == [123_456_790]
    assert await office.query(a_number()) == Done(None)


async def test_a_receipt_whose_lines_are_another_sum_is_refused(office, office_server):
    number = a_number()
    assert await office.issue(number, 301, a_bill(100, 200), AT) == Declined("SUM_DIFFERS")
    assert kept(office_server, number) == []


async def test_a_receipt_is_voided_once_by_a_red_one(office, office_server):
    receipt, number = await issued(office, 500), a_number()
    red = await office.red_flush(number, receipt.number, "reopened")
    assert isinstance(red, Done)
    assert (red.value.number, red.value.red) == (number, True)
    assert await office.red_flush(number, receipt.number, "reopened") == red
    assert await office.query(number) == red
    assert await office.red_flush(a_number(), receipt.number, "again") == Declined("RED_ALREADY")
    assert await office.red_flush(a_number(), number, "a red one") == Declined("RED_ALREADY")
    assert await office.red_flush(a_number(), a_number(), "nothing") == Declined("NO_SUCH_RECEIPT")
    other = await issued(office, 500)
    assert await office.red_flush(receipt.number, other.number, "a taken number") == Declined("NUMBER_USED")
    assert kept(office_server, number) == [500]


async def test_the_code_on_a_receipt_leads_to_what_it_says(office):
    receipt = await issued(office, 123_456)
    async with httpx2.AsyncClient(trust_env=False) as phone:
        page = (await phone.get(receipt.url)).text
        assert "票据有效" in page
        assert "¥1,234.56" in page
        await office.red_flush(a_number(), receipt.number, "reopened")
        assert "已冲红" in (await phone.get(receipt.url)).text
        guessed = receipt.url.replace(f"check_code={receipt.check_code}", "check_code=none")
        assert (await phone.get(guessed)).status_code == 404


@pytest.mark.parametrize(
    ("fault", "more", "expected", "made"),
    [
        ("late", {"seconds": 0.1}, Done, True),
        ("silent_before", {}, Unknown("timeout"), False),
        ("timeout_after_success", {}, Unknown("timeout"), True),
        ("drop", {}, Unknown("connection_lost"), True),
        ("duplicate", {}, Done, True),
        ("contradict", {}, Declined("9999"), True),
        ("contradict", {"how": "amount"}, Unknown("unreadable"), True),
        ("forged", {}, Unknown("bad_signature"), True),
        ("error", {}, Unknown("server_error"), False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_however_the_office_misbehaves_repeating_ends_in_one_receipt(
    office, office_server, fault, more, expected, made
):
    number, bill = a_number(), a_bill(200, 300)
    office_server.plan("issue", fault, **more)
    outcome = await office.issue(number, 500, bill, AT)
    assert isinstance(outcome, Done) if expected is Done else outcome == expected
    assert kept(office_server, number) == ([500] if made else [])
    found = await office.query(number)
    assert isinstance(found, Done)
    assert (found.value is not None) == made
    assert isinstance(await office.issue(number, 500, bill, AT), Done)
    assert kept(office_server, number) == [500]


async def test_a_void_receipt_stays_void_after_a_kill(office, office_server):
    receipt, number = await issued(office, 500), a_number()
    red = await office.red_flush(number, receipt.number, "reopened")
    before = office_server.truth()
    office_server.kill()
    assert await office.query(number) == Unknown("connection_lost")
    office_server.start()
    assert office_server.truth() == before
    assert await office.query(number) == red
