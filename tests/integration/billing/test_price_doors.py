"""The doors of prices: a list anybody may read, publications by whoever may, and a stay that is charged by it."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from services.billing.consumers import RULES
from services.billing.prices.catalogue import load
from shared.access.roles import Role
from tests.integration.billing.conftest import Doors

pytestmark = pytest.mark.asyncio
PRICE = {
    "code": "LAB-NEW",
    "name_zh": "新项目检测",
    "name_en": "New test",
    "pinyin": "XXMJC",
    "class": "test",
    "receipt_class": "04",
    "insurance_class": "02",
    "unit": "each",
    "price_fen": 12_34,
    "valid_from": "2026-03-01",
}


@pytest_asyncio.fixture
async def priced(doors: Doors) -> Doors:
    """Doors with the price list we ship behind them."""
    await doors.desk.furnish()
    return doors


async def look(doors: Doors, query: str = "") -> dict[str, Any]:
    answer = await doors.http.get(f"/api/billing/prices{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def publish(doors: Doors, who: dict[str, str], *prices: dict[str, Any], **more: Any) -> httpx2.Response:
    headers = {"Idempotency-Key": uuid4().hex, **who}
    return await doors.http.post("/api/billing/price-versions", json={"prices": prices, **more}, headers=headers)


async def test_anybody_reads_the_whole_price_list_page_by_page_without_a_login(priced: Doors):
    shown: list[str] = []
    query = "?limit=50"
    while query:
        page = await look(priced, query)
        shown += [price["code"] for price in page["prices"]]
        query = "?" + page["next"].split("?")[1] if page["next"] else ""
    assert shown == sorted(shown)
    assert len(shown) == len(set(shown)) == len(load(RULES.prices_file))


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("?q=XCG", ["LAB-CBC"]),
        ("?q=xcg", ["LAB-CBC"]),
        ("?q=血常规", ["LAB-CBC"]),
        ("?q=complete blood", ["LAB-CBC"]),
        ("?q=LAB-CB", ["LAB-CBC"]),
        ("?class=bed", ["BED-DAY", "BED-ICU", "BED-SINGLE", "BED-STANDARD", "BED-VIP"]),
        ("?class=nothing", []),
        ("?on=2019-12-31", []),
        ("?q=LAB_C", []),
    ],
)
async def test_a_price_is_found_by_name_pinyin_code_class_and_day(priced: Doors, query: str, codes: list[str]):
    assert [price["code"] for price in (await look(priced, query))["prices"]] == codes


async def test_a_price_is_told_with_its_unit_receipt_line_and_insurance_class(priced: Doors):
    (price,) = (await look(priced, "?q=LAB-CBC"))["prices"]
    assert (price["price_fen"], price["unit_zh"], price["receipt_name"], price["insurance_name"]) == (
        20_00, "次", "化验费", "甲类",
    )  # fmt: skip
    assert "示例" in price["remark"]


async def test_an_address_that_looks_too_often_waits(priced: Doors):
    answers = [
        await priced.http.get("/api/billing/prices?limit=1") for _ in range(RULES.price_looks_per_minute_max + 2)
    ]
    assert answers[0].status_code == 200
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "too_many_requests")
    assert answers[-1].headers["Retry-After"] == "60"


async def test_only_who_manages_prices_publishes_them(priced: Doors):
    for role in Role:
        answer = await publish(priced, priced.somebody(role, wards=("*",)), PRICE, check=True)
        allowed = role in (Role.BILLING_SUPERVISOR, Role.ADMIN)
        assert (answer.status_code == 201) == allowed, role
    assert (await look(priced, "?q=LAB-NEW"))["prices"] == [], "to check is not to publish"


async def test_what_was_published_is_public_from_its_day_on(priced: Doors):
    supervisor = priced.somebody(Role.BILLING_SUPERVISOR)
    done = await publish(priced, supervisor, PRICE, note="2026 年第 1 号价格公示")
    assert done.json() == {"version": 2, "added": 1, "ended": 0, "withdrawn": 0, "known": 0}
    assert [price["version"] for price in (await look(priced, "?q=LAB-NEW"))["prices"]] == [2]
    dearer = {**PRICE, "price_fen": 20_00, "valid_from": "2026-03-03"}
    assert (await publish(priced, supervisor, dearer)).json()["ended"] == 1
    for day, fen in (("2026-03-02", 12_34), ("2026-03-03", 20_00)):
        assert [price["price_fen"] for price in (await look(priced, f"?q=LAB-NEW&on={day}"))["prices"]] == [fen]


async def test_a_price_that_was_public_is_not_changed_and_the_row_is_named(priced: Doors):
    supervisor = priced.somebody(Role.BILLING_SUPERVISOR)
    good = {**PRICE, "code": "LAB-OTHER"}
    known = {**PRICE, "code": "LAB-CBC"}
    answer = await publish(priced, supervisor, good, known)
    assert (answer.status_code, answer.json()["code"]) == (409, "prices_conflict")
    assert answer.json()["facts"]["conflicts"] == [
        {"index": 1, "problem": "There is a price since 2020-01-01; another one begins tomorrow or later."}
    ]
    assert (await look(priced, "?q=LAB-OTHER"))["prices"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"price_fen": 0},
        {"price_fen": 1.5},
        {"valid_to": "2026-03-01"},
        {"class": "bed", "unit": "day", "price_fen": 50_01},
        {"class": "bed", "unit": "each"},
        {"unit": "furlong"},
        {"receipt_class": "15"},
        {"valid_from": 20260301},
    ],
)
async def test_a_price_that_contradicts_itself_is_refused(priced: Doors, wrong: dict[str, Any]):
    answer = await publish(priced, priced.somebody(Role.BILLING_SUPERVISOR), {**PRICE, **wrong})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")


async def test_two_prices_of_one_item_for_one_day_are_refused(priced: Doors):
    answer = await publish(priced, priced.somebody(Role.BILLING_SUPERVISOR), PRICE, {**PRICE, "price_fen": 1})
    assert answer.status_code == 422


async def test_a_nurse_charges_what_was_used_and_what_ran_and_the_bill_shows_it(priced: Doors):
    stay = await priced.desk.open(ward="4A")
    nurse, other = priced.somebody(Role.WARD_NURSE, wards=("4A",)), priced.somebody(Role.WARD_NURSE, wards=("5B",))
    item = {"item": "LAB-CBC", "quantity": 2}
    assert (await priced.post(other, f"{stay}/items", item)).json()["code"] == "not_your_ward"
    done = await priced.post(nurse, f"{stay}/items", item)
    assert (done.status_code, done.json()["amount_fen"], done.json()["charged_fen"]) == (201, 40_00, 40_00)
    scan = {"item": "SUP-STENT", "order_id": "O-1", "barcode": "690123"}
    assert (await priced.post(nurse, f"{stay}/medical-orders", scan)).status_code == 201
    wrong = await priced.post(nurse, f"{stay}/items", {**scan, "barcode": "690124"})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "barcode_mismatch")
    first = await priced.post(nurse, f"{stay}/items", scan)
    again = await priced.post(nurse, f"{stay}/items", scan)
    assert (again.status_code, again.json()["code"]) == (409, "order_charged")
    assert again.json()["facts"] == {"entry_id": first.json()["entry_id"]}
    started = await priced.post(nurse, f"{stay}/timed-items", {"item": "OXY-HOUR", "at": "2026-03-02T09:30:00Z"})
    place = f"{stay}/timed-items/{started.json()['timed_item_id']}"
    later = await priced.post(nurse, f"{place}/stop", {"at": "2026-03-02T12:00:01Z"})
    assert (later.status_code, later.json()["code"]) == (422, "in_the_future")
    stopped = await priced.post(nurse, f"{place}/stop", {})
    assert (stopped.json()["steps"], stopped.json()["amount_fen"]) == (3, 12_00)
    run = {"started_at": "2026-03-02T10:00:00Z", "stopped_at": "2026-03-02T12:00:00Z"}
    assert (await priced.post(nurse, f"{place}/correction", run)).status_code == 403, "a clerk corrects"
    corrected = await priced.post(priced.somebody(Role.BILLING_CLERK), f"{place}/correction", run)
    assert (corrected.json()["amount_fen"], corrected.json()["charged_fen"]) == (8_00, 40_00 + 780_00 + 8_00)
    runs = (await priced.get(nurse, f"{stay}/timed-items")).json()["timed_items"]
    assert [(each["item"], each["charged_by"]) for each in runs] == [("OXY-HOUR", corrected.json()["entry_id"])]
    account = (await priced.get(nurse, f"{stay}/account")).json()
    assert account["charged_fen"] == 828_00


async def test_a_barcode_without_an_order_is_refused(priced: Doors):
    stay = await priced.desk.open()
    answer = await priced.post(priced.somebody(Role.BILLING_CLERK), f"{stay}/items", {"item": "X", "barcode": "1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")
