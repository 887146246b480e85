"""The pictures of docs/screens, from a running stack with a morning in it (tests/screens/scene.py).

python -m tests.screens.pictures --home DIR
"""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from infra.cli.accounts import credential_for
from infra.local.home import PROJECT_ROOT
from infra.local.stack import Stack
from tests.screens.windows import window

FOLDER = PROJECT_ROOT / "docs" / "screens"
DESK, PHONE, TABLET, WALL = (1440, 900), (390, 844), (820, 1180), (1920, 1080)
PATIENCE_MS = 60_000


def _nothing(page: Page) -> None:
    del page


def _fitting_request(page: Page) -> None:
    rows = page.locator(".queue-row").filter(has_not_text="重症床").filter(has_not_text="隔离")
    for number in range(rows.count()):
        rows.nth(number).click()
        page.get_by_role("heading", name="最合适的床").wait_for()
        page.wait_for_timeout(700)
        if page.locator(".proposal").count() > 1:
            return


def _refusal(page: Page) -> None:
    page.get_by_role("button", name="不能接收").and_(page.locator(":enabled")).first.click()
    page.get_by_text("人手不足").click()


def _drawer(page: Page) -> None:
    page.locator('.bed-tile[data-state="occupied"]').nth(4).click()
    page.get_by_role("dialog").wait_for()


def _move(page: Page) -> None:
    _drawer(page)
    page.locator('[data-act="transfer"]').click()
    page.locator(".choice").first.wait_for()
    page.get_by_role("button", name="预约转床，先占床").click()
    page.get_by_text("病情需要", exact=True).click()


def _acts(page: Page) -> None:
    _drawer(page)
    page.locator("[data-act]").last.scroll_into_view_if_needed()


def _newborn(page: Page) -> None:
    page.locator(".bed-tile", has_text="+1").first.click()
    page.get_by_text("与母亲同室").first.scroll_into_view_if_needed()


def _forecast(page: Page) -> None:
    page.get_by_role("button", name="出院预测").click()
    page.locator(".house").wait_for()


def _impossible(page: Page) -> None:
    page.locator(".queue-row").filter(has_text="重症床").first.click()
    page.get_by_role("heading", name="最快可用的床").wait_for()


def _elder(page: Page) -> None:
    page.get_by_role("button", name="大字").click()


def _night(page: Page) -> None:
    page.get_by_title("夜间模式").click()


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: whose page, how large, and what to do before."""

    name: str
    username: str | None
    path: str
    size: tuple[int, int] = DESK
    locale: str = "zh-CN"
    before: Callable[[Page], None] = _nothing


PICTURES = (
    Picture("login", None, "/login"),
    Picture("hospital", "bed_manager", "/beds"),
    Picture("hospital-en", "bed_manager", "/beds", locale="en-GB"),
    Picture("hospital-night", "bed_manager", "/beds", before=_night),
    Picture("ward", "ward_nurse", "/wards/{ward}"),
    Picture("ward-bed", "ward_nurse", "/wards/{ward}", before=_drawer),
    Picture("bed-acts", "bed_manager", "/wards/{ward}", before=_acts),
    Picture("move", "bed_manager", "/wards/{ward}", before=_move),
    Picture("newborn", "ward_nurse", "/wards/6B", before=_newborn),
    Picture("forecast", "bed_manager", "/beds", before=_forecast),
    Picture("ward-large", "ward_nurse", "/wards/{ward}", before=_elder),
    Picture("ward-refusal", "ward_nurse", "/wards/{ward}", before=_refusal),
    Picture("ward-tablet", "ward_nurse", "/wards/{ward}", size=TABLET),
    Picture("ward-wall", "ward_nurse", "/wards/{ward}?wall", size=WALL),
    Picture("desk", "bed_manager", "/desk", before=_fitting_request),
    Picture("desk-impossible", "bed_manager", "/desk", before=_impossible),
    Picture("print", "bed_manager", "/print"),
)


def log_in(page: Page, home: Path, base_url: str, username: str) -> None:
    account = credential_for(home, username=username)
    page.goto(f"{base_url}/login")
    page.fill("input[name=username]", account.username)
    page.fill("input[name=password]", account.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda address: "/login" not in address)


def _page(browser: Browser, picture: Picture) -> Page:
    width, height = picture.size
    context = window(browser, width=width, height=height, locale=picture.locale)
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


def _settle(page: Page) -> None:
    page.locator("h1:visible, h2:visible").first.wait_for()
    expect(page.locator(".skeleton")).to_have_count(0, timeout=PATIENCE_MS)
    page.wait_for_timeout(2_500)


def take(home: Path, chromium: str, ward: str, names: frozenset[str]) -> None:
    """Take the pictures with these names, or all."""
    base_url = Stack(home).base_url
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in PICTURES:
            if names and picture.name not in names:
                continue
            page = _page(browser, picture)
            if picture.username is not None:
                log_in(page, home, base_url, picture.username)
            page.goto(base_url + picture.path.format(ward=ward))
            _settle(page)
            picture.before(page)
            _settle(page)
            page.screenshot(path=FOLDER / f"{picture.name}.png", timeout=PATIENCE_MS)
            page.context.close()
        if not names or "queue" in names:
            _family(browser, home, base_url)
        browser.close()


def _family(browser: Browser, home: Path, base_url: str) -> None:
    desk = _page(browser, Picture("desk", "bed_manager", "/desk"))
    log_in(desk, home, base_url, "bed_manager")
    desk.goto(f"{base_url}/desk")
    _settle(desk)
    desk.locator(".queue-row").nth(8).click()
    desk.get_by_role("button", name="给家属排队链接").click()
    address = desk.get_by_label("给家属排队链接").input_value()
    family = _page(browser, Picture("queue", None, "", size=PHONE))
    family.goto(address)
    _settle(family)
    family.screenshot(path=FOLDER / "queue.png", timeout=PATIENCE_MS)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ward", default="8A")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    take(options.home, shutil.which("chromium") or "chromium", options.ward, frozenset(options.names))


if __name__ == "__main__":
    main()
