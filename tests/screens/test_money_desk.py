"""What a cashier sees of a day: who left unsettled, what is in the drawer, and what does not agree."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, Route, expect

from infra.local.stack import Stack
from shared.money import capitals_zh
from tests.screens.axe import faults_of
from tests.screens.desk import FEW, MoneyDesk
from tests.screens.families import Ward
from tests.screens.house import House
from tests.screens.windows import scan

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
Open = Callable[..., Page]
expect.set_options(timeout=20_000)

TABLET = {"width": 820, "height": 1180}
PAGES = ("/billing", "/shift", "/reconciliation")
ZONE = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def desk(house: House) -> Iterator[MoneyDesk]:
    """The cashier's desk of the running stack; whoever comes next finds no drawer open and everybody outside well."""
    found = MoneyDesk(house, Ward.of(Stack(house.home)))
    yield found
    found.ward.fund_is_well()
    found.channel_is_well()
    for username in ("billing_clerk", "service_centre_clerk"):
        found.no_drawer(username)


def row_of(page: Page, name: str) -> str:
    """Return what the list says of somebody by the masked name."""
    return page.locator("ol > li", has_text=name).first.inner_text()


def today() -> str:
    """Return the hospital's day."""
    return datetime.now(UTC).astimezone(ZONE).date().isoformat()


# ---- the worklist ----------------------------------------------------------------------------------------------------


def test_whoever_left_unsettled_is_listed_longest_first_with_one_word_and_a_masked_name(
    open_as: Open, desk: MoneyDesk
) -> None:
    desk.leaves(desk.ward.family("钱学敏", charges=FEW, insured=False), hours_ago=30)
    with_quote = desk.ward.family("孔令辉", charges=FEW, deposit_fen=0, insured=False)
    desk.quoted(with_quote)
    desk.leaves(with_quote, hours_ago=3)
    page = open_as("billing_clerk", "/billing")
    rows = page.locator("ol > li")
    expect(rows.filter(has_text="钱*敏")).to_contain_text("未开单")
    expect(rows.filter(has_text="孔*辉")).to_contain_text("待确认")
    assert "离院 1 天" in row_of(page, "钱*敏")
    names = rows.all_inner_texts()
    first, second = (next(i for i, text in enumerate(names) if name in text) for name in ("钱*敏", "孔*辉"))
    assert first < second
    assert "钱学敏" not in page.content()


def test_the_list_is_walked_with_arrows_and_opened_with_enter(open_as: Open, desk: MoneyDesk) -> None:
    for name in ("华国锋利", "华小美"):
        desk.leaves(desk.ward.family(name, charges=FEW, insured=False), hours_ago=40)
    page = open_as("billing_clerk", "/billing")
    links = page.locator("ol > li a.lead")
    expect(links.nth(1)).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    page.wait_for_timeout(6_000)  # the list is read again meanwhile; the place is kept
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(links.nth(0)).to_be_focused()
    target = links.nth(0).get_attribute("href")
    assert target is not None
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(re.escape(target)))


def test_a_touch_anywhere_on_a_row_opens_it(open_as: Open, desk: MoneyDesk) -> None:
    family = desk.leaves(desk.ward.family("施小云", sex="female", charges=FEW, insured=False), hours_ago=2)
    page = open_as("billing_clerk", "/billing", **TABLET)
    sums = page.locator("ol > li", has_text="施*云").locator("dl")
    sums.scroll_into_view_if_needed()
    box = sums.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 8, box["y"] + 8)
    page.wait_for_url(re.compile(f"/bedside/{family.encounter_id}"))


@pytest.mark.slow
def test_a_bill_nobody_knows_about_is_counted_by_the_second_until_it_is_known(open_as: Open, desk: MoneyDesk) -> None:
    family = desk.ward.family("陶建国", charges=FEW)
    desk.nobody_knows(family, looks=2)
    page = open_as("billing_clerk", "/billing")
    part = page.locator("[data-part=unknown]")
    expect(part).to_contain_text("陶*国")
    expect(part).to_contain_text("不要向家属收医保这一部分")
    count = part.locator(".count")
    before = count.inner_text()
    assert re.search(r"\d+ 秒", before)
    expect(count).not_to_have_text(before, timeout=3_000)
    assert not faults_of(page)
    desk.ward.fund_is_well()
    expect(part).not_to_contain_text("陶*国", timeout=60_000)


def test_a_refund_the_channel_did_not_do_is_shown_and_explained_in_the_daily_match(
    open_as: Open, desk: MoneyDesk
) -> None:
    family = desk.ward.family("魏小梅", sex="female", charges=FEW, deposit_fen=0, insured=False)
    refund_no = desk.refund_comes_back(family, amount_fen=1_200)
    page = open_as("billing_clerk", "/billing")
    part = page.locator("[data-part=refunds]")
    expect(part).to_contain_text("¥12.00")
    expect(part).to_contain_text("渠道没有退成")
    part.get_by_role("link", name="去对账").click()
    page.get_by_role("button", name=re.compile("全部未说明")).click()
    found = page.locator("tbody", has_text=refund_no)
    expect(found).to_contain_text("与家属另定退法")
    found.get_by_role("button", name=re.compile("说明原因")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("重新点过")).to_have_count(0)
    dialog.get_by_text("已手工退还").click()
    dialog.get_by_role("button", name="说明，移出清单").click()
    expect(found).to_have_count(0)


def test_the_day_of_leaving_is_held_against_the_day_of_settling(open_as: Open, house: House, desk: MoneyDesk) -> None:
    kept = desk.ward.family("严小宝", charges=FEW, deposit_fen=0, insured=False)
    desk.paid_by_code(kept)
    desk.leaves(kept, hours_ago=0.01)
    desk.leaves(desk.ward.family("严大伟", charges=FEW, insured=False), hours_ago=30)
    page = open_as("billing_clerk", "/billing")
    part = page.locator("[data-part=same-day]")
    day = house.ask("billing_clerk", "GET", f"/billing/same-day-settlement?day={today()}")
    assert day["on_the_day"]["kept"] >= 1
    expect(part.locator(".big strong")).to_have_text(f"{day['on_the_day']['kept']} / {day['left']} 人")
    before = (datetime.now(UTC) - timedelta(hours=30)).astimezone(ZONE).date().isoformat()
    part.get_by_label("日期").fill(before)
    part.get_by_label("日期").press("Enter")
    expect(part).to_contain_text("还没有结清")
    expect(part).to_contain_text("严*伟")


def test_a_large_refund_goes_back_only_when_a_second_person_agrees(open_as: Open, desk: MoneyDesk) -> None:
    family = desk.ward.family("贺建军", charges=FEW, insured=False)
    clerk = open_as("billing_clerk", f"/accounts/{family.encounter_id}")
    clerk.get_by_role("button", name="退预交金").first.click()
    clerk.get_by_role("button", name="确认退款").click()
    expect(clerk.get_by_text("¥10,000.00 还没有退")).to_be_visible()
    clerk.get_by_role("button", name="退预交金").first.click()
    clerk.get_by_role("button", name="确认退款").click()
    expect(clerk.get_by_text("这笔预交金的退款已在等待复核。")).to_be_visible()
    clerk.get_by_role("link", name="出院未结").click()
    own = clerk.locator("[data-part=second] li", has_text="贺*军")
    expect(own).to_contain_text("您提出的，请另一位同事复核。")
    expect(own.get_by_role("button", name="复核同意")).to_have_count(0)

    second = open_as("billing_supervisor", "/billing")
    asked = second.locator("[data-part=second] li", has_text="贺*军")
    expect(asked).to_contain_text("¥10,000.00")
    assert not faults_of(second)
    asked.get_by_role("button", name="复核同意").click()
    dialog = second.get_by_role("dialog")
    expect(dialog).to_contain_text("贺*军")
    expect(dialog).to_contain_text("壹万元整")
    dialog.get_by_role("button", name="复核同意").click()
    expect(second.get_by_text("已同意，退还 ¥10,000.00。")).to_be_visible()
    expect(asked).to_have_count(0)
    assert desk.deposits_fen(family) == 0


def test_a_large_refund_that_is_refused_or_taken_back_gives_nothing_back(open_as: Open, desk: MoneyDesk) -> None:
    families = [desk.ward.family(name, charges=FEW, insured=False) for name in ("龚小兰", "文志远")]
    for family in families:
        desk.asks_back(family)
    second = open_as("billing_supervisor", "/billing")
    asked = second.locator("[data-part=second] li", has_text="龚*兰")
    asked.get_by_role("button", name="不同意").click()
    dialog = second.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="不同意")).to_be_disabled()
    dialog.get_by_text("不该退").click()
    dialog.get_by_role("button", name="不同意").click()
    expect(asked).to_have_count(0)
    clerk = open_as("billing_clerk", "/billing")
    own = clerk.locator("[data-part=second] li", has_text="文*远")
    own.get_by_role("button", name="撤回").click()
    expect(own).to_have_count(0)
    assert [desk.deposits_fen(family) for family in families] == [1_000_000, 1_000_000]


def test_a_deposit_moves_to_the_patients_next_stay_and_to_nobody_elses(open_as: Open, desk: MoneyDesk) -> None:
    first = desk.leaves(desk.ward.family("车晓东", charges=FEW, insured=False), hours_ago=20)
    again = desk.ward.family(
        "车晓东", charges=FEW, deposit_fen=0, insured=False, person=first.person, came_ago=timedelta(hours=6)
    )
    other = desk.ward.family("牛文海", charges=FEW, insured=False)
    page = open_as("billing_clerk", f"/accounts/{first.encounter_id}")
    page.get_by_role("button", name="预交金转户").first.click()
    dialog = page.get_by_role("dialog")
    yes, number = dialog.get_by_role("button", name="确认转户"), dialog.get_by_label("另一次住院")
    expect(yes).to_be_disabled()
    for typed, said in (
        (other.admission_no, "那次住院是另一位患者的"),
        (first.admission_no, "这就是当前的住院"),
        ("ZY0000000001", "没有找到这次住院"),
    ):
        number.fill(typed)
        number.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text(said)
        expect(yes).to_be_disabled()
    number.fill(again.admission_no)
    number.press("Enter")
    dialog.get_by_label("转多少").fill("3000.50")
    expect(dialog).to_contain_text("叁仟元伍角")
    assert not faults_of(page)
    yes.click()
    expect(page.get_by_text("已转出 ¥3,000.50。")).to_be_visible()
    assert [desk.deposits_fen(stay) for stay in (first, again, other)] == [699_950, 300_050, 1_000_000]


def test_a_wristband_scanned_while_a_deposit_is_moved_says_where_it_goes(open_as: Open, desk: MoneyDesk) -> None:
    first = desk.leaves(desk.ward.family("古月明", charges=FEW, insured=False), hours_ago=20)
    again = desk.ward.family(
        "古月明", charges=FEW, deposit_fen=0, insured=False, person=first.person, came_ago=timedelta(hours=6)
    )
    page = open_as("billing_clerk", f"/accounts/{first.encounter_id}")
    page.get_by_role("button", name="预交金转户").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("预交金转户").first.click()
    scan(page, again.admission_no)
    expect(dialog).to_contain_text(f"…{str(again.encounter_id)[-4:]}")
    expect(page).to_have_url(re.compile(str(first.encounter_id)))
    expect(dialog.get_by_role("button", name="确认转户")).to_be_enabled()


def test_the_payment_group_is_noted_on_the_account_and_the_last_word_counts(open_as: Open, desk: MoneyDesk) -> None:
    family = desk.ward.family("白玉兰", sex="female", charges=FEW, insured=False)
    page = open_as("billing_clerk", f"/accounts/{family.encounter_id}")
    page.get_by_role("button", name="填病种分组").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("分组编码").fill("fr 23")
    expect(dialog.get_by_role("button", name="保存分组")).to_be_disabled()
    dialog.get_by_label("分组编码").fill("fr23")
    dialog.get_by_role("button", name="保存分组").click()
    expect(page.get_by_text("病种分组已记为 DRG FR23。")).to_be_visible()
    page.get_by_role("button", name="病种分组 DRG FR23").click()
    dialog.get_by_role("radio", name="DIP").click()
    dialog.get_by_label("分组编码").fill("I25.1:36.07")
    assert not faults_of(page)
    dialog.get_by_role("button", name="保存分组").click()
    expect(page.get_by_role("button", name="病种分组 DIP I25.1:36.07")).to_be_visible()


def test_a_donors_blood_is_waived_and_the_family_sees_it_apart_from_its_own_money(
    open_as: Open, desk: MoneyDesk
) -> None:
    family = desk.ward.family("葛红梅", sex="female", charges={**FEW, "BLD-RBC": 2}, deposit_fen=10_000, insured=False)
    page = open_as("billing_clerk", f"/accounts/{family.encounter_id}")
    page.get_by_role("button", name="用血减免").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("¥440.00")
    yes = dialog.get_by_role("button", name="确认减免")
    expect(yes).to_be_disabled()
    dialog.get_by_label("血站审核单号").fill("XZ 26")
    expect(yes).to_be_disabled()
    dialog.get_by_label("血站审核单号").fill("370-2026-000123")
    dialog.get_by_label("减免多少").fill("440.01")
    expect(yes).to_be_disabled()
    dialog.get_by_label("减免多少").fill("400")
    expect(dialog).to_contain_text(capitals_zh(40_000))
    assert not faults_of(page)
    yes.click()
    expect(page.get_by_text("已减免用血费用 ¥400.00。")).to_be_visible()
    expect(page.locator(".sums")).to_contain_text("用血减免¥400.00")
    expect(page.locator(".sums")).to_contain_text("预交金¥100.00")
    bill = desk.quoted(family)
    page.goto(f"{desk.house.base_url}/bedside/{family.encounter_id}")
    page.get_by_role("textbox").fill(family.admission_no)
    page.keyboard.press("Enter")
    expect(page.locator(".part dl").first).to_contain_text("血站支付（献血减免） ¥400.00")
    page.goto(f"{desk.house.base_url}/accounts/{family.encounter_id}")
    page.get_by_role("button", name="撤回用血减免").click()
    dialog.get_by_role("button", name="确认撤回").click()
    expect(page.get_by_text("已撤回用血减免 ¥400.00。")).to_be_visible()
    assert desk.quoted(family)["due_fen"] == bill["due_fen"] + 40_000


# ---- the shift -------------------------------------------------------------------------------------------------------


def count(page: Page, pieces: dict[str, int]) -> None:
    """Type how many of each."""
    for denomination, number in pieces.items():
        page.get_by_label(f"{denomination} 的张数", exact=True).fill(str(number))


def test_a_drawer_is_closed_only_when_its_difference_has_a_reason_and_somebody_explains_it_later(
    open_as: Open, house: House, desk: MoneyDesk
) -> None:
    family = desk.ward.family("卫小兰", sex="female", charges=FEW)
    page = open_as("billing_clerk", "/shift")
    page.get_by_label("备用金").fill("500.5")
    page.get_by_role("button", name="开班", exact=True).click()
    expect(page.locator(".now dd")).to_have_text("¥500.50")
    desk.take_cash(family, 123_450)
    expect(page.locator(".now dd")).to_have_text("¥1,735.00")
    page.get_by_role("button", name="点钞交班").click()
    shut = page.get_by_role("button", name="交班", exact=True)
    expect(shut).to_be_disabled()
    count(page, {"¥100.00": 17, "¥20.00": 1, "¥10.00": 1, "¥0.50": 8, "¥0.10": 3})
    expect(page.locator(".counted dd")).to_have_text("¥1,734.30")
    expect(page.locator(".sums .verdict")).to_contain_text("短款 ¥0.70")
    expect(shut).to_be_disabled()
    page.reload()
    expect(page.locator(".counted dd")).to_have_text("¥1,734.30")
    page.get_by_text("找零有误").click()
    shut.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(capitals_zh(173_430))
    expect(dialog).to_contain_text("短款 ¥0.70")
    dialog.get_by_role("button", name="点清了，交班").click()
    sheet = page.locator(".sheet")
    expect(sheet).to_contain_text("收费员交班单")
    expect(sheet).to_contain_text("¥1,734.30")
    expect(sheet).to_contain_text("找零有误")
    page.emulate_media(media="print")
    expect(sheet).to_be_visible()
    expect(page.locator("section.list")).to_be_hidden()
    page.emulate_media(media="screen")
    assert desk.shift_of("billing_clerk") is None
    closed = house.ask("billing_clerk", "GET", "/billing/cash-shifts?limit=1")["shifts"][0]
    assert (closed["expected_fen"], closed["counted_fen"], closed["reason"]) == (173_500, 173_430, "miscounted_change")

    page.goto(f"{house.base_url}/reconciliation")
    page.get_by_role("button", name=re.compile("全部未说明")).click()
    found = page.locator("tbody", has_text=f"班次 …{closed['id'][-4:]}")
    expect(found).to_contain_text("钱箱多或少")
    expect(found).to_contain_text("还没有人查")
    expect(found).to_contain_text("-¥0.70")
    found.get_by_role("button", name=re.compile("我来查")).click()
    expect(found.locator("dd").first).to_contain_text("我")
    found.get_by_role("button", name=re.compile("说明原因")).click()
    page.get_by_role("dialog").get_by_text("收费员已补足").click()
    page.get_by_role("button", name="说明，移出清单").click()
    expect(found).to_have_count(0)
    page.get_by_role("button", name="按日").click()
    page.get_by_label("业务日").fill(today())
    page.get_by_label("业务日").press("Enter")
    expect(found).to_contain_text("收费员已补足")
    expect(found).to_contain_text("我")


def test_the_count_is_typed_with_arrows_and_a_drawer_that_agrees_needs_no_reason(
    open_as: Open, house: House, desk: MoneyDesk
) -> None:
    house.ask("service_centre_clerk", "POST", "/billing/cash-shifts", {"float_fen": 30_005})
    page = open_as("service_centre_clerk", "/shift", **TABLET)
    page.get_by_role("button", name="点钞交班").click()
    page.get_by_label("¥100.00 的张数", exact=True).focus()
    page.keyboard.type("3")
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    page.keyboard.type("5")
    expect(page.locator(".sums .verdict")).to_contain_text("相符")
    page.get_by_label("¥50.00 的张数", exact=True).fill("1.5")
    expect(page.get_by_role("alert")).to_contain_text("整数")
    expect(page.get_by_role("button", name="交班", exact=True)).to_be_disabled()
    page.get_by_label("¥50.00 的张数", exact=True).fill("")
    page.get_by_role("button", name="交班", exact=True).click()
    page.get_by_role("button", name="点清了，交班").click()
    expect(page.locator(".sheet")).to_contain_text("相符")
    expect(page.get_by_text("已交班", exact=True)).to_have_count(0)  # whose drawers these are is not theirs to see


def test_cash_that_comes_in_while_notes_are_counted_is_not_closed_away_unseen(
    open_as: Open, house: House, desk: MoneyDesk
) -> None:
    family = desk.ward.family("水小清", sex="female", charges=FEW)
    house.ask("billing_clerk", "POST", "/billing/cash-shifts", {"float_fen": 20_000})
    page = open_as("billing_clerk", "/shift")
    page.get_by_role("button", name="点钞交班").click()
    count(page, {"¥100.00": 2})
    expect(page.locator(".sums .verdict")).to_contain_text("相符")
    page.get_by_role("button", name="交班", exact=True).click()
    page.get_by_role("dialog").wait_for()
    page.route("**/cash-shifts/current", lambda route: route.abort())
    desk.take_cash(family, 10_000)
    page.get_by_role("button", name="点清了，交班").click()
    page.unroute("**/cash-shifts/current")
    expect(page.get_by_role("alert").first).to_contain_text("点钞期间钱箱又有进出")
    assert desk.shift_of("billing_clerk") is not None
    expect(page.locator(".sums .verdict")).to_contain_text("短款 ¥100.00")


def test_a_closing_whose_answer_was_lost_is_done_once(open_as: Open, house: House, desk: MoneyDesk) -> None:
    house.ask("billing_clerk", "POST", "/billing/cash-shifts", {"float_fen": 10_000})
    page = open_as("billing_clerk", "/shift")
    page.get_by_role("button", name="点钞交班").click()
    count(page, {"¥100.00": 1})
    keys: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/cash-shifts/current/closing", lose)
    page.get_by_role("button", name="交班", exact=True).click()
    page.get_by_role("button", name="点清了，交班").click()
    expect(page.locator(".sheet")).to_contain_text("¥100.00")
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_the_closing_sheet_is_one_page_of_paper(open_as: Open, desk: MoneyDesk) -> None:
    desk.closed_with("billing_clerk", 300)
    page = open_as("billing_clerk", "/shift")
    page.get_by_role("button", name="看交班单").first.click()
    page.emulate_media(media="print")
    expect(page.locator(".sheet")).to_contain_text("长款 ¥3.00")
    expect(page.locator(".shell-nav")).to_be_hidden()
    expect(page.locator("section.list")).to_be_hidden()
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins, at 96 dots to the inch
    assert page.evaluate("document.documentElement.scrollHeight") <= 1000
    assert page.evaluate("document.documentElement.scrollWidth") <= 718


# ---- the daily match -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_party_that_does_not_answer_is_said_plainly_until_it_does(open_as: Open, desk: MoneyDesk) -> None:
    desk.channel_states_nothing()
    page = open_as("billing_supervisor", "/reconciliation")
    day = (datetime.now(UTC).astimezone(ZONE).date() - timedelta(days=2)).isoformat()
    page.get_by_label("业务日").fill(day)
    page.get_by_label("业务日").press("Enter")
    channel, fund = page.locator("[data-party=channel]"), page.locator("[data-party=insurance]")
    expect(channel).to_contain_text("没有答复或没有接通")
    page.get_by_role("button", name="再对一次").click()
    expect(fund).to_contain_text("相符")
    expect(channel).to_contain_text("还没有答复", timeout=30_000)
    expect(page.get_by_text("现在没有差异不等于相符")).to_be_visible()
    assert not faults_of(page)
    desk.channel_is_well()
    expect(channel).to_contain_text("相符", timeout=90_000)
    expect(page.get_by_text("这一天没有查到不一致")).to_be_visible()


def test_a_difference_somebody_else_explained_is_refused_in_words(open_as: Open, house: House, desk: MoneyDesk) -> None:
    desk.closed_with("billing_clerk", -1_000)
    page = open_as("billing_supervisor", "/reconciliation")
    page.get_by_role("button", name=re.compile("全部未说明")).click()
    page.get_by_role("button", name=re.compile("说明原因")).last.click()
    page.get_by_text("由医院承担").click()
    page.route("**/billing/differences?*", lambda route: route.abort())
    for one in house.ask("billing_clerk", "GET", "/billing/differences?limit=200")["differences"]:
        path = f"/billing/differences/{one['id']}/explanation"
        house.ask("billing_clerk", "POST", path, {"explanation": "drawer_recounted"})
    page.get_by_role("button", name="说明，移出清单").click()
    expect(page.get_by_role("dialog")).to_contain_text("已经有人说明过")
    page.unroute("**/billing/differences?*")


# ---- for everybody ---------------------------------------------------------------------------------------------------


def test_each_sees_what_is_theirs(open_as: Open) -> None:
    menus = {
        "billing_clerk": ["出院未结", "收费班次", "对账"],
        "billing_supervisor": ["当日结算", "收费班次", "对账"],
        "service_centre_clerk": ["收费班次"],
        "ward_nurse": [],
    }
    for username, expected in menus.items():
        page = open_as(username, "/")
        page.locator("nav a").first.wait_for()
        words = page.locator("nav a").all_inner_texts()
        assert [one.strip() for one in words if one.strip() in {"出院未结", "当日结算", "收费班次", "对账"}] == expected
    page = open_as("ward_nurse", "/reconciliation")
    page.wait_for_url(lambda address: "/reconciliation" not in address)


def test_a_supervisor_who_takes_no_cash_sees_the_drawers_of_others(open_as: Open, desk: MoneyDesk) -> None:
    desk.closed_with("billing_clerk", 500)
    page = open_as("billing_supervisor", "/shift")
    expect(page.get_by_text("您不收现金")).to_be_visible()
    expect(page.locator("section.list li").first).to_contain_text("长款 ¥5.00")


def too_wide(page: Page, width: int) -> list[str]:
    """Return what makes the page scroll sideways."""
    script = """(width) => document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll('body *')]
        .filter((one) => one.getBoundingClientRect().right > width)
        .map((one) => `${one.tagName}.${one.className} ${Math.round(one.getBoundingClientRect().right)}`)"""
    found: list[str] = page.evaluate(script, width)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])
@pytest.mark.parametrize("width", [820, 1440])
def test_everybody_can_use_the_desk_by_day_by_night_and_in_large_type(
    open_as: Open, house: House, desk: MoneyDesk, locale: str, width: int
) -> None:
    desk.leaves(desk.ward.family("欧阳明", insured=False), hours_ago=26)
    desk.closed_with("service_centre_clerk", -2_050)
    house.ask("billing_clerk", "POST", "/billing/cash-shifts", {"float_fen": 123_456_789})
    page = open_as("billing_clerk", "/billing", locale=locale, width=width, height=1100)
    for path in PAGES:
        for shade, elder in (("day", False), ("day", True), ("night", False)):
            look = {"locale": locale[:2], "shade": shade, "elder": elder}
            page.evaluate("(look) => localStorage.setItem('wardstream.look', JSON.stringify(look))", look)
            page.goto(f"{house.base_url}{path}")
            page.locator("main h1").first.wait_for()
            assert page.url.endswith(path), page.locator("body").inner_text()
            expect(page.locator(".skeleton")).to_have_count(0)
            if path == "/shift" and page.locator(".drawer .main").count():
                page.locator(".drawer .main").click()
                page.locator("input[inputmode=numeric]").first.fill("9999")
            if path == "/reconciliation":
                page.get_by_role("button", name=re.compile("全部未说明|All unexplained")).click()
                page.locator("tbody").first.wait_for()
            page.wait_for_timeout(300)
            assert too_wide(page, width) == [], (path, look)
            assert not faults_of(page), (path, look)
