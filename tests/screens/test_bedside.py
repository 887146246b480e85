"""What happens between a family, a tablet and a clerk when a stay is settled at the bedside."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from infra.local.stack import Stack
from shared.money import capitals_zh, yuan_text
from tests.screens.axe import faults_of
from tests.screens.families import Family, Ward
from tests.screens.house import House
from tests.screens.windows import scan

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
Open = Callable[..., Page]
expect.set_options(timeout=20_000)  # a fund is asked, a receipt is issued: a bedside waits longer than a menu

TABLET = {"width": 820, "height": 1180}


@pytest.fixture(scope="package")
def ward(house: House) -> Ward:
    """The ward of the running stack, with its outside parties."""
    return Ward.of(Stack(house.home))


def scanned(open_as: Open, family: Family) -> Page:
    """Return the tablet at the costs of a family whose wristband was scanned."""
    page = open_as("billing_clerk", f"/bedside/{family.encounter_id}", **TABLET)
    page.get_by_role("textbox", name="腕带").fill(family.admission_no)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="费用清单")).to_be_visible()
    return page


def quoted(open_as: Open, family: Family, *, insured: bool) -> Page:
    """Return the tablet with the number the family is asked to confirm."""
    page = scanned(open_as, family)
    page.get_by_role("radio", name="医保结算" if insured else "自费结算").click()
    if insured:
        page.get_by_label("医保电子凭证").fill(family.psn_no)
    page.get_by_role("button", name="算应付金额").click()
    expect(page.get_by_role("button", name="家属确认")).to_be_visible()
    return page


def confirm(page: Page) -> None:
    """Let the family read it once more and say yes."""
    page.get_by_role("button", name="家属确认").click()
    page.get_by_role("button", name="我已看清").click()


def bill_of(house: House, family: Family) -> dict[str, Any]:
    """Return the bill as the door tells it."""
    return house.ask("billing_clerk", "GET", f"/billing/encounters/{family.encounter_id}/bills/latest")


def code_of(house: House, family: Family) -> dict[str, Any]:
    """Return the order the tablet shows a code for."""
    found: dict[str, Any] = bill_of(house, family)["payments"][-1]
    return found


def settlements_of(house: House, family: Family) -> int:
    """Return how often our own books have settled this stay."""
    account = house.ask("billing_clerk", "GET", f"/billing/encounters/{family.encounter_id}/account")
    return int(account["settlements"])


def test_money_is_not_spoken_of_before_the_right_wristband_was_scanned(open_as: Open, ward: Ward) -> None:
    family, other = ward.family(), ward.family("李桂英", sex="female")
    page = open_as("billing_clerk", f"/bedside/{family.encounter_id}", **TABLET)
    page.get_by_role("textbox", name="腕带").fill(other.admission_no)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("这不是这位患者的腕带")
    expect(page.get_by_role("button", name="看费用")).to_be_disabled()
    assert "¥" not in page.locator("main").inner_text()
    page.get_by_role("textbox", name="腕带").fill(family.admission_no)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="费用清单")).to_be_visible()


def test_an_insured_family_sees_its_refund_says_yes_once_and_takes_the_receipt_along(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family()
    page = quoted(open_as, family, insured=True)
    refund_fen = bill_of(house, family)["refund_fen"]
    assert refund_fen > 0
    expect(page.locator(".matters strong")).to_have_text(yuan_text(refund_fen))
    expect(page.locator(".matters")).to_contain_text(capitals_zh(refund_fen))
    assert page.locator(".matters strong").evaluate("(one) => getComputedStyle(one).fontSize") == "40px"
    page.get_by_role("button", name="家属确认").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("张*明")
    expect(dialog).to_contain_text(yuan_text(refund_fen))
    dialog.get_by_role("button", name="我已看清").click()
    expect(page.get_by_text("已结清", exact=True)).to_be_visible()
    expect(page.get_by_text("票据号码")).to_be_visible()
    expect(page.get_by_role("img", name="扫码查看")).to_be_visible()
    assert settlements_of(house, family) == 1
    assert ward.settlements_at_fund(family) == 1


def test_the_number_of_an_insured_person_is_neither_shown_nor_kept(open_as: Open, ward: Ward) -> None:
    family = ward.family()
    page = quoted(open_as, family, insured=True)
    assert family.psn_no not in page.content()
    assert family.psn_no not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


def test_a_family_pays_by_scanning_the_code_and_the_page_sees_it(open_as: Open, house: House, ward: Ward) -> None:
    family = ward.family("王秀兰", insured=False)
    page = quoted(open_as, family, insured=False)
    expect(page.locator(".matters strong")).to_have_text(yuan_text(bill_of(house, family)["due_fen"]))
    confirm(page)
    page.get_by_role("button", name="出示二维码").click()
    expect(page.get_by_role("img", name="微信付款二维码")).to_be_visible()
    expect(page.get_by_text(re.compile(r"还剩 [0-5]:\d\d"))).to_be_visible()
    page.reload()
    expect(page.get_by_role("img", name="微信付款二维码")).to_be_visible()
    ward.pay_code(code_of(house, family)["order_no"])
    expect(page.get_by_text("已结清", exact=True)).to_be_visible()
    assert settlements_of(house, family) == 1


def test_cash_is_taken_only_after_the_open_code_was_closed_and_in_parts(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family("王秀兰", insured=False)
    page = quoted(open_as, family, insured=False)
    confirm(page)
    page.get_by_role("button", name="出示二维码").click()
    page.get_by_role("img", name="微信付款二维码").wait_for()
    expect(page.get_by_role("button", name=re.compile("^收"))).to_have_count(0)
    page.get_by_role("button", name="改收现金").click()
    page.get_by_label("这次付多少").fill("1000")
    assert code_of(house, family)["state"] == "closed"
    page.get_by_role("button", name="收现金 ¥1,000.00").click()
    rest = yuan_text(bill_of(house, family)["due_fen"] - 100_000)
    expect(page.get_by_role("dialog")).to_contain_text(f"付后还差{rest}")
    page.get_by_role("button", name="已收到，记入").click()
    expect(page.locator(".matters strong")).to_have_text(rest)
    page.get_by_role("radio", name="银行卡").click()
    page.get_by_role("button", name=f"收银行卡 {rest}").click()
    page.get_by_role("button", name="已收到，记入").click()
    expect(page.get_by_text("已结清", exact=True)).to_be_visible()


def test_while_nobody_knows_what_the_fund_did_nothing_can_be_paid_and_the_family_is_told_later(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family("陈建国", deposit_fen=50_000)
    page = quoted(open_as, family, insured=True)
    ward.fund_is_silent(looks=2)
    try:
        confirm(page)
        expect(page.get_by_role("alert")).to_contain_text("正在与医保确认结果，请不要重复支付")
        expect(page.get_by_text("您可以先离开，结果会通知您")).to_be_visible()
        said = page.locator("main button:enabled, main a").all_inner_texts()
        assert not [text for text in said if re.search("付|收|确认|二维码|重新", text.replace("支付", ""))]
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("请不要重复支付")
        page.get_by_role("link", name="患者账户").click()
        expect(page.get_by_text("医保已确认，可以继续支付")).to_be_visible(timeout=60_000)
        page.get_by_role("link", name="去看").click()
        expect(page.get_by_role("button", name="出示二维码")).to_be_visible()
    finally:
        ward.fund_is_well()
    assert ward.settlements_at_fund(family) == 1


def test_a_yes_said_without_network_is_kept_over_a_reload_and_goes_on_by_itself(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family("周海燕", sex="female")
    page = quoted(open_as, family, insured=True)
    page.context.set_offline(True)
    confirm(page)
    expect(page.get_by_text("网络中断，已保存，恢复后自动继续")).to_be_visible()
    expect(page.get_by_role("button", name="家属确认")).to_be_disabled()
    page.context.set_offline(False)
    page.reload()
    expect(page.get_by_text("已结清", exact=True)).to_be_visible()
    assert settlements_of(house, family) == 1
    assert ward.settlements_at_fund(family) == 1


def test_a_yes_whose_answer_was_lost_is_asked_again_under_the_same_key(open_as: Open, house: House, ward: Ward) -> None:
    family = ward.family()
    page = quoted(open_as, family, insured=False)
    keys: list[str] = []

    def lose_the_first_answers(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) <= 2:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/confirmation", lose_the_first_answers)
    confirm(page)
    expect(page.get_by_role("button", name="出示二维码")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(keys) >= 3
    assert len(set(keys)) == 1


def test_a_double_tap_settles_once(open_as: Open, house: House, ward: Ward) -> None:
    family = ward.family()
    page = quoted(open_as, family, insured=True)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/confirmation") else None)
    page.get_by_role("button", name="家属确认").click()
    page.get_by_role("button", name="我已看清").evaluate("(button) => { button.click(); button.click() }")
    expect(page.get_by_text("已结清", exact=True)).to_be_visible()
    assert len(sent) == 1
    assert settlements_of(house, family) == 1
    assert ward.settlements_at_fund(family) == 1


def test_two_tablets_at_one_bed_show_one_bill_and_take_the_money_once(open_as: Open, house: House, ward: Ward) -> None:
    family = ward.family("郑小平", insured=False)
    first = quoted(open_as, family, insured=False)
    second = scanned(open_as, family)
    expect(second.get_by_role("button", name="家属确认")).to_be_visible()
    confirm(first)
    expect(second.get_by_role("button", name="出示二维码")).to_be_visible()
    second.route("**/bills/latest", lambda route: route.abort())
    first.get_by_role("button", name="出示二维码").click()
    first.get_by_role("img", name="微信付款二维码").wait_for()
    second.get_by_role("radio", name="现金").click()
    second.get_by_role("button", name=re.compile("^收现金")).click()
    second.unroute("**/bills/latest")
    second.get_by_role("button", name="已收到，记入").click()
    notice = second.get_by_role("alert").filter(has_text="有一个二维码还可以付款")
    expect(notice.get_by_role("button", name="不扫了")).to_be_visible()
    ward.pay_code(code_of(house, family)["order_no"])
    for page in (first, second):
        expect(page.get_by_text("已结清", exact=True)).to_be_visible()
    assert settlements_of(house, family) == 1


def test_a_quote_dies_when_a_line_changes_and_the_new_amounts_are_marked(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family("吴国庆")
    page = quoted(open_as, family, insured=True)
    before = yuan_text(bill_of(house, family)["charged_fen"])
    ward.charge(family, "LAB-HBV")
    expect(page.get_by_text("费用刚有变化")).to_be_visible()
    expect(page.get_by_role("button", name="家属确认")).to_have_count(0)
    page.get_by_role("button", name="重新计算").click()
    expect(page.get_by_text(f"原 {before}")).to_be_visible()
    expect(page.get_by_role("button", name="家属确认")).to_be_visible()


def test_a_nurse_reads_the_costs_and_settles_nothing(open_as: Open, ward: Ward) -> None:
    family = ward.family()
    page = open_as("ward_nurse", f"/bedside/{family.encounter_id}", **TABLET)
    page.get_by_role("textbox", name="腕带").fill(family.admission_no)
    page.keyboard.press("Enter")
    expect(page.get_by_text("结算由收费员办理")).to_be_visible()
    expect(page.get_by_role("button", name="算应付金额")).to_have_count(0)


def test_a_wristband_scanned_at_the_bedside_opens_the_costs_at_once(open_as: Open, ward: Ward) -> None:
    family = ward.family()
    page = open_as("billing_clerk", "/bedside", **TABLET)
    page.get_by_role("heading", name="床旁结算").click()
    scan(page, family.admission_no)
    expect(page.get_by_role("heading", name="费用清单")).to_be_visible()


def test_the_ledger_ends_where_the_account_stands_and_links_a_reversal_to_its_original(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family()
    page = open_as("billing_clerk", f"/accounts/{family.encounter_id}")
    account = house.ask("billing_clerk", "GET", f"/billing/encounters/{family.encounter_id}/account")
    left_fen = account["deposits_fen"] - account["charged_fen"]
    last = page.locator("tbody tr").last
    expect(last).to_contain_text(yuan_text(left_fen))
    page.get_by_role("button", name="收预交金").click()
    page.get_by_label("这次付多少").fill("3000")
    page.get_by_role("button", name="已收到，记入").click()
    expect(last).to_contain_text(yuan_text(left_fen + 300_000))
    page.get_by_role("button", name=re.compile("退预交金")).last.click()
    expect(page.get_by_role("dialog")).to_contain_text("叁仟元整")
    page.get_by_role("button", name="确认退款").click()
    expect(last).to_contain_text("冲销第")
    expect(last).to_contain_text(yuan_text(left_fen))
    page.get_by_role("link", name=re.compile("冲销第")).last.click()
    expect(page.locator("tr:target")).to_contain_text("收款（预交金）")


def test_a_settlement_is_reopened_with_a_reason_and_a_late_charge_stands_by_itself(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family("孙丽华", sex="female")
    page = quoted(open_as, family, insured=True)
    confirm(page)
    expect(page.get_by_text("已结清", exact=True)).to_be_visible()
    page.goto(f"{house.base_url}/accounts/{family.encounter_id}")
    page.get_by_role("button", name="补记费用").click()
    page.get_by_label("项目（").fill("LAB-HBV")
    page.get_by_text("报告晚出").click()
    page.get_by_role("button", name="收款并补记").click()
    expect(page.get_by_text("已补记 ¥60.00")).to_be_visible()
    page.get_by_role("button", name="重开结算").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="重开结算")).to_be_disabled()
    page.get_by_text("记费有误").click()
    page.get_by_role("dialog").get_by_role("button", name="重开结算").click()
    expect(page.get_by_role("button", name="收预交金")).to_be_visible()
    assert ward.settlements_at_fund(family) == 0


def test_a_patient_who_stays_settles_until_now_and_the_next_bill_has_only_what_came_since(
    open_as: Open, house: House, ward: Ward
) -> None:
    family = ward.family("万里云")
    page = scanned(open_as, family)
    page.get_by_role("radio", name="自费结算").click()
    page.get_by_role("checkbox", name="患者继续住院").check()
    page.get_by_role("button", name="算应付金额").click()
    expect(page.get_by_text("中途结算", exact=True)).to_be_visible()
    assert not faults_of(page)
    confirm(page)
    due = bill_of(house, family)["due_fen"]
    if due:
        page.get_by_role("radio", name="现金").click()
        page.get_by_role("button", name="收现金").click()
        ward.charge(family, "LAB-HBV")  # the ward does not wait for the family
        page.get_by_role("button", name="已收到，记入").click()
    expect(page.get_by_text("已中途结算", exact=True)).to_be_visible()
    settled = bill_of(house, family)
    account = house.ask("billing_clerk", "GET", f"/billing/encounters/{family.encounter_id}/account")
    assert (account["state"], account["interim_fen"]) == ("open", settled["charged_fen"])
    if not due:
        ward.charge(family, "LAB-HBV")
    page.get_by_role("button", name="结算之后的费用").click()
    expect(page.get_by_text("此前已中途结算")).to_be_visible()
    page.get_by_role("button", name="算应付金额").click()
    expect(page.get_by_role("button", name="家属确认")).to_be_visible()
    assert bill_of(house, family)["charged_fen"] == 6_000
    page.goto(f"{house.base_url}/accounts/{family.encounter_id}")
    page.get_by_role("button", name="撤回中途结算").click()
    page.get_by_text("记费有误").click()
    page.get_by_role("dialog").get_by_role("button", name="重开结算").click()
    expect(page.get_by_text("已重开")).to_be_visible()
    account = house.ask("billing_clerk", "GET", f"/billing/encounters/{family.encounter_id}/account")
    assert (account["interim_fen"], account["charged_fen"]) == (0, settled["charged_fen"] + 6_000)


def test_everybody_can_read_what_things_cost(open_as: Open) -> None:
    page = open_as(None, "/prices", width=390, height=844)
    page.get_by_role("searchbox").fill("一级护理")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text(re.compile(r"¥\d+\.\d\d"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])
def test_everybody_can_use_every_step(open_as: Open, ward: Ward, locale: str) -> None:
    family = ward.family(insured=False)
    page = open_as("billing_clerk", f"/bedside/{family.encounter_id}", locale=locale, **TABLET)
    page.locator("form input").wait_for()
    assert not faults_of(page)
    page.locator("form input").fill(family.admission_no)
    page.keyboard.press("Enter")
    page.locator(".group").first.click()
    assert not faults_of(page)
    page.locator(".bottom .main").click()
    page.locator(".matters").wait_for()
    assert not faults_of(page)
    page.locator(".bottom .main").click()
    page.get_by_role("dialog").wait_for()
    page.wait_for_timeout(500)
    assert not faults_of(page)
    page.get_by_role("dialog").locator(".main").click()
    page.locator(".bottom .main").click()
    page.locator("svg.qr").wait_for()
    assert not faults_of(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= TABLET["width"]
    small = "[...document.querySelectorAll('.bottom .act, .step .act')].filter((one) => one.offsetHeight < 44).length"
    assert page.evaluate(small) == 0
    page.goto(page.url.replace("/bedside/", "/accounts/"))
    page.locator("tbody tr").first.wait_for()
    assert not faults_of(page)


@pytest.mark.slow
def test_axe_is_content_while_nobody_knows(open_as: Open, ward: Ward) -> None:
    family = ward.family("陈建国")
    page = quoted(open_as, family, insured=True)
    ward.fund_is_silent(looks=1)
    try:
        confirm(page)
        expect(page.get_by_role("alert")).to_contain_text("请不要重复支付")
        assert not faults_of(page)
    finally:
        ward.fund_is_well()
