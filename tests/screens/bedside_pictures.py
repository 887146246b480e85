"""The pictures of docs/screens that show money: one family after the other at the bedside and the desk of a running stack.

python -m tests.screens.bedside_pictures --home DIR [names]
"""

import argparse
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from infra.local.stack import Stack
from tests.screens.desk import FEW, MoneyDesk
from tests.screens.families import Family, Ward
from tests.screens.house import House
from tests.screens.pictures import DESK, FOLDER, PATIENCE_MS, PHONE, TABLET, log_in
from tests.screens.scene import Scene
from tests.screens.windows import window


class Studio:
    """Takes pictures of one browser against one stack."""

    def __init__(self, browser: Browser, ward: Ward) -> None:
        self.browser = browser
        self.ward = ward

    def open(
        self,
        path: str,
        *,
        username: str | None = "billing_clerk",
        size: tuple[int, int] = TABLET,
        locale: str = "zh-CN",
    ) -> Page:
        """Return a page somebody has opened."""
        context = window(self.browser, width=size[0], height=size[1], locale=locale)
        context.set_default_timeout(20_000)
        page = context.new_page()
        if username is not None:
            log_in(page, self.ward.home.root, self.ward.base_url, username)
        page.goto(self.ward.base_url + path)
        return page

    def desk(self) -> MoneyDesk:
        """Return the cashier's desk of this stack."""
        return MoneyDesk(House(self.ward.home.root, self.ward.base_url, Scene()), self.ward)

    def at_bedside(self, family: Family, **how: Any) -> Page:
        """Return the tablet at the costs of a family, the wristband scanned."""
        page = self.open(f"/bedside/{family.encounter_id}", **how)
        page.get_by_role("textbox").fill(family.admission_no)
        page.keyboard.press("Enter")
        page.locator(".costs li").first.wait_for()
        return page

    def quoted(self, family: Family, *, insured: bool, **how: Any) -> Page:
        """Return the tablet with the number the family is asked to confirm."""
        page = self.at_bedside(family, **how)
        page.locator("[role=radio]").nth(0 if insured else 1).click()
        if insured:
            page.locator("input[name=psn]").fill(family.psn_no)
        page.locator(".bottom .main").click()
        page.locator(".matters").wait_for()
        return page

    def confirmed(self, page: Page) -> Page:
        """Let the family say yes."""
        page.locator(".bottom .main").click()
        page.get_by_role("dialog").locator(".main").click()
        return page

    def shoot(self, page: Page, name: str) -> None:
        """Take the picture when nothing moves any more."""
        page.wait_for_function("document.querySelectorAll('.skeleton').length === 0")
        page.wait_for_timeout(700)
        page.screenshot(path=FOLDER / f"{name}.png", timeout=PATIENCE_MS)


def _find(studio: Studio) -> None:
    page = studio.open("/bedside")
    page.get_by_role("heading", name="床旁结算").wait_for()
    studio.shoot(page, "bedside-find")


def _check(studio: Studio) -> None:
    family, other = studio.ward.family(), studio.ward.family("李桂英", sex="female")
    page = studio.open(f"/bedside/{family.encounter_id}")
    page.get_by_role("button", name="姓名一致").click()
    studio.shoot(page, "bedside-check")
    page.get_by_role("textbox").fill(other.admission_no)
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    studio.shoot(page, "bedside-wrong-patient")


def _insured(studio: Studio) -> None:
    family = studio.ward.family()
    page = studio.at_bedside(family)
    studio.shoot(page, "bedside-costs")
    page.locator("input[name=psn]").fill(family.psn_no)
    page.get_by_role("button", name="算应付金额").click()
    page.locator(".matters").wait_for()
    page.locator(".group").nth(3).click()
    studio.shoot(page, "bedside-quote")
    page.get_by_role("button", name="家属确认").click()
    studio.shoot(page, "bedside-confirm")
    page.get_by_role("button", name="我已看清").click()
    page.get_by_text("票据号码").wait_for()
    studio.shoot(page, "bedside-settled")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})
    studio.shoot(page, "bedside-print")


def _by_code(studio: Studio) -> None:
    page = studio.confirmed(studio.quoted(studio.ward.family("王秀兰", sex="female"), insured=False))
    page.get_by_role("button", name="出示二维码").wait_for()
    studio.shoot(page, "bedside-payment")
    page.get_by_role("button", name="出示二维码").click()
    page.get_by_role("img", name="付款二维码").wait_for()
    studio.shoot(page, "bedside-qr")
    page.get_by_role("button", name="改收现金").click()
    page.get_by_role("radio", name="现金").wait_for()
    page.get_by_label("这次付多少").fill("1000")
    page.get_by_role("button", name="收现金").click()
    studio.shoot(page, "bedside-cash")


def _unknown(studio: Studio) -> None:
    page = studio.quoted(studio.ward.family("陈建国"), insured=True)
    studio.ward.fund_is_silent(looks=2)
    try:
        studio.confirmed(page)
        page.get_by_text("正在请医保结算").wait_for()
        studio.shoot(page, "bedside-waiting")
        page.get_by_text("请不要重复支付").wait_for()
        page.wait_for_timeout(4_000)
        studio.shoot(page, "bedside-unknown")
        page.get_by_role("button", name="EN").click()
        studio.shoot(page, "bedside-unknown-en")
        page.get_by_role("button", name="中", exact=True).click()
        page.get_by_role("link", name="患者账户").click()
        page.get_by_text("医保已确认").wait_for()
        studio.shoot(page, "bedside-told")
    finally:
        studio.ward.fund_is_well()


def _offline(studio: Studio) -> None:
    page = studio.quoted(studio.ward.family("周海燕", sex="female"), insured=True)
    page.context.set_offline(True)
    studio.confirmed(page)
    page.get_by_text("网络中断，已保存").wait_for()
    studio.shoot(page, "bedside-offline")
    page.context.set_offline(False)
    page.get_by_text("票据号码").wait_for()


def _changed(studio: Studio) -> None:
    family = studio.ward.family("吴国庆")
    page = studio.quoted(family, insured=True)
    studio.ward.charge(family, "LAB-HBV")
    page.get_by_text("费用刚有变化").wait_for()
    studio.shoot(page, "bedside-changed")
    page.get_by_role("button", name="重新计算").click()
    page.get_by_text("原 ¥").first.wait_for()
    studio.shoot(page, "bedside-changed-marked")


def _refused(studio: Studio) -> None:
    family = studio.ward.family("郑小平")
    first = studio.quoted(family, insured=False)
    second = studio.at_bedside(family)
    studio.confirmed(first)
    first.get_by_role("button", name="出示二维码").wait_for()
    second.get_by_role("button", name="出示二维码").wait_for()
    for page in (first, second):
        page.route("**/bills/latest", lambda route: route.abort())
    first.get_by_role("button", name="出示二维码").click()
    first.wait_for_timeout(1_500)
    second.get_by_role("radio", name="现金").click()
    second.get_by_role("button", name="收现金").click()
    second.get_by_role("button", name="已收到，记入").click()
    second.get_by_role("alert").wait_for()
    second.unroute("**/bills/latest")
    second.route("**/bills/latest", lambda route: route.continue_())
    studio.shoot(second, "bedside-refusal")


def _accounts(studio: Studio) -> None:
    family = studio.ward.family("孙丽华", sex="female")
    page = studio.confirmed(studio.quoted(family, insured=True))
    page.get_by_text("票据号码").wait_for()
    page = studio.open(f"/accounts/{family.encounter_id}", size=DESK)
    page.get_by_role("button", name="重开结算").click()
    page.get_by_text("记费有误").click()
    studio.shoot(page, "account-reopen")
    page.get_by_role("dialog").get_by_role("button", name="重开结算").click()
    page.get_by_role("button", name="收预交金").wait_for()
    studio.shoot(page, "account")
    page.get_by_role("button", name="退预交金").first.click()
    page.get_by_label("退多少").fill("2000")
    studio.shoot(page, "account-refund")
    _moved(studio)


def _moved(studio: Studio) -> None:
    first = studio.desk().leaves(studio.ward.family("车晓东", insured=False), hours_ago=20)
    came = timedelta(hours=6)
    again = studio.ward.family("车晓东", charges={}, deposit_fen=0, insured=False, person=first.person, came_ago=came)
    page = studio.open(f"/accounts/{first.encounter_id}", size=DESK)
    page.get_by_role("button", name="填病种分组").click()
    page.get_by_label("分组编码").fill("GB23")
    studio.shoot(page, "account-group")
    page.get_by_role("button", name="保存分组").click()
    page.get_by_role("button", name="病种分组 DRG GB23").wait_for()
    page.get_by_role("button", name="预交金转户").first.click()
    page.get_by_label("另一次住院").fill(again.admission_no)
    page.get_by_label("另一次住院").press("Enter")
    page.get_by_label("转多少").fill("3000.50")
    page.get_by_role("button", name="确认转户").and_(page.locator(":enabled")).wait_for()
    studio.shoot(page, "account-move")


def _waived(studio: Studio) -> None:
    charges = {**FEW, "BLD-RBC": 4, "BLD-PLT": 1}
    family = studio.ward.family("葛红梅", sex="female", charges=charges, deposit_fen=100_000, insured=False)
    page = studio.open(f"/accounts/{family.encounter_id}", size=DESK)
    page.get_by_role("button", name="用血减免").click()
    page.get_by_label("血站审核单号").fill("370-2026-000123")
    studio.shoot(page, "account-waiver")
    page.get_by_role("button", name="确认减免").click()
    page.get_by_text("已减免用血费用").wait_for()
    page = studio.quoted(family, insured=False)
    studio.shoot(page, "bedside-waiver")


def _interim(studio: Studio) -> None:
    family = studio.ward.family("万里云", deposit_fen=6_000_000)
    page = studio.at_bedside(family)
    page.locator("[role=radio]").nth(1).click()
    page.locator("input[name=interim]").check()
    studio.shoot(page, "bedside-interim-choice")
    page.locator(".bottom .main").click()
    page.locator(".matters").wait_for()
    studio.shoot(page, "bedside-interim-quote")
    studio.confirmed(page)
    page.get_by_text("票据号码").wait_for()
    studio.shoot(page, "bedside-interim")


def _prices(studio: Studio) -> None:
    page = studio.open("/prices", username=None, size=PHONE)
    page.get_by_role("row").nth(1).wait_for()
    studio.shoot(page, "prices")


def _english(studio: Studio) -> None:
    page = studio.quoted(studio.ward.family("张晓明"), insured=True, locale="en-GB")
    studio.shoot(page, "bedside-quote-en")


LEFT = (
    ("何秀珍", "female", 51, None),
    ("郭志强", "male", 27, "quoted"),
    ("欧阳雪", "female", 6, None),
    ("唐文斌", "male", 4, "confirmed"),
    ("冯丽萍", "female", 2, "quoted"),
)
"""Who left unsettled: name, sex, hours ago, and how far the bill went."""


def _worklist(studio: Studio) -> None:
    desk = studio.desk()
    for name, sex, hours, how in LEFT:
        family = studio.ward.family(name, sex=sex, insured=False, deposit_fen=1_000_000 if how else 1_500_000)
        if how == "quoted":
            desk.quoted(family)
        if how == "confirmed":
            desk.confirmed(family)
        desk.leaves(family, hours_ago=hours)
    for name in ("宋建平", "邓小红"):
        settled = studio.ward.family(name, charges=FEW, deposit_fen=0, insured=False)
        desk.paid_by_code(settled)
        desk.leaves(settled, hours_ago=0.1)
    desk.refund_comes_back(studio.ward.family("许国庆", charges=FEW, deposit_fen=0, insured=False), amount_fen=12_000)
    unknown = desk.leaves(studio.ward.family("程桂兰", sex="female"), hours_ago=1)
    desk.nobody_knows(unknown, looks=6)
    try:
        page = studio.open("/billing", size=DESK)
        page.locator(".count").nth(1).wait_for()
        page.keyboard.press("ArrowDown")
        studio.shoot(page, "worklist")
        page.get_by_role("button", name="EN").click()
        studio.shoot(page, "worklist-en")
        page.get_by_role("button", name="中", exact=True).click()
        page.get_by_title("夜间模式").click()
        page.set_viewport_size({"width": TABLET[0], "height": TABLET[1]})
        studio.shoot(page, "worklist-tablet")
    finally:
        studio.ward.fund_is_well()


def _second_person(studio: Studio) -> None:
    desk = studio.desk()
    for name, sex in (("贺建军", "male"), ("龚小兰", "female")):
        desk.asks_back(studio.ward.family(name, sex=sex, charges=FEW, insured=False))
    page = studio.open("/billing", username="billing_supervisor", size=DESK)
    page.locator("[data-part=second] li", has_text="贺*军").wait_for()
    studio.shoot(page, "second-person")
    page.get_by_role("button", name="复核同意").first.click()
    page.get_by_role("dialog").get_by_text("*").first.wait_for()
    studio.shoot(page, "second-person-agree")


def _shift(studio: Studio) -> None:
    desk = studio.desk()
    desk.no_drawer("billing_clerk")
    page = studio.open("/shift")
    page.get_by_label("备用金").fill("500")
    studio.shoot(page, "shift-open")
    page.get_by_role("button", name="开班", exact=True).click()
    page.get_by_role("button", name="点钞交班").wait_for()
    for name, fen in (("曾丽娟", 300_000), ("彭志刚", 123_450), ("肖玉兰", 86_000)):
        desk.take_cash(studio.ward.family(name, charges=FEW), fen)
    page.get_by_role("button", name="点钞交班").click()
    page.locator(".now dd", has_text="¥5,594.50").wait_for()
    for denomination, pieces in (("100", 52), ("50", 3), ("20", 7), ("10", 8), ("5", 2), ("1", 4), ("0.50", 1)):
        label = f"¥{denomination} 的张数" if "." in denomination else f"¥{denomination}.00 的张数"
        page.get_by_label(label, exact=True).fill(str(pieces))
    page.get_by_text("找零有误").click()
    page.locator(".bar button").click()
    page.set_viewport_size({"width": TABLET[0], "height": 1330})
    studio.shoot(page, "shift-count")
    page.get_by_role("button", name="交班", exact=True).click()
    page.get_by_role("dialog").wait_for()
    studio.shoot(page, "shift-confirm")
    page.get_by_role("button", name="点清了，交班").click()
    page.locator(".sheet").wait_for()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})
    studio.shoot(page, "shift-closing")


def _reconciliation(studio: Studio) -> None:
    desk = studio.desk()
    desk.refund_comes_back(
        studio.ward.family("田晓燕", sex="female", charges=FEW, deposit_fen=0, insured=False), amount_fen=6_000
    )
    desk.pays_another_sum(studio.ward.family("董志明", charges=FEW, deposit_fen=0, insured=False))
    desk.closed_with("service_centre_clerk", -2_000)
    page = studio.open("/reconciliation", size=DESK)
    page.get_by_role("button", name="全部未说明").click()
    page.get_by_role("button", name="我来查").first.click()
    page.get_by_text("已记下由您来查").wait_for()
    page.locator(".bar button").click()
    studio.shoot(page, "reconciliation")
    page.get_by_role("button", name="说明原因").last.click()
    page.get_by_text("收费员已补足").click()
    studio.shoot(page, "reconciliation-explain")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.get_by_role("button", name="按日").click()
    desk.channel_states_nothing()
    try:
        page.get_by_role("button", name="前一天").click()
        page.get_by_role("button", name="再对一次").click()
        page.get_by_text("还没有答复，已等").wait_for(timeout=PATIENCE_MS)
        studio.shoot(page, "reconciliation-silent")
    finally:
        desk.channel_is_well()


SCENES: dict[str, Callable[[Studio], None]] = {
    "find": _find,
    "check": _check,
    "insured": _insured,
    "code": _by_code,
    "unknown": _unknown,
    "offline": _offline,
    "changed": _changed,
    "refused": _refused,
    "english": _english,
    "accounts": _accounts,
    "waived": _waived,
    "interim": _interim,
    "prices": _prices,
    "worklist": _worklist,
    "second": _second_person,
    "shift": _shift,
    "reconciliation": _reconciliation,
}


def main() -> None:
    """Play the scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("names", nargs="*", choices=[*SCENES, []])
    options = parser.parse_args()
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium") or "chromium", args=["--no-sandbox"])
        studio = Studio(browser, Ward.of(Stack(options.home)))
        for name in options.names or SCENES:
            SCENES[name](studio)
        browser.close()


if __name__ == "__main__":
    main()
