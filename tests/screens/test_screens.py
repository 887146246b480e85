"""What a nurse, a bed manager and a family see, and whether everybody can use it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.screens.axe import faults_of
from tests.screens.house import House

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
Open = Callable[..., Page]

PAGES = {
    "login": (None, "/login"),
    "hospital": ("bed_manager", "/beds"),
    "ward": ("ward_nurse", "/wards/3A"),
    "wall": ("ward_nurse", "/wards/3A?wall"),
    "desk": ("bed_manager", "/desk"),
    "print": ("bed_manager", "/print"),
    "no screen": ("follow_up_nurse", "/"),
    "whose bedside": ("billing_clerk", "/bedside"),
    "whose account": ("billing_clerk", "/accounts"),
    "prices": (None, "/prices"),
}


def settled(page: Page) -> Page:
    """Wait until the page has what it shows."""
    page.wait_for_selector("h1, h2")
    expect(page.locator(".skeleton")).to_have_count(0)
    return page


def a_ward_to_clean(page: Page) -> str:
    """Return a ward in which a bed waits for cleaning."""
    found = page.evaluate(
        """async () => {
            const login = await fetch('/api/access/refresh', {method: 'POST'})
            const {token} = await login.json()
            const answer = await fetch('/api/beds/board', {headers: {Authorization: `Bearer ${token}`}})
            const {beds} = await answer.json()
            return beds.find((bed) => bed.cleaning && bed.cleaning.state === 'requested')?.ward
        }"""
    )
    assert isinstance(found, str)
    return found


def test_a_wrong_password_is_said_in_words_and_nothing_typed_is_shown(open_as: Open) -> None:
    page = open_as(None, "/beds")
    page.wait_for_url(re.compile("/login"))
    page.fill("input[name=username]", "ward_nurse")
    page.fill("input[name=password]", "not-the-password")
    page.click("button[type=submit]")
    expect(page.get_by_role("alert")).to_contain_text("工号或密码不对")


def test_the_menu_shows_what_the_role_may_do(open_as: Open) -> None:
    manager = settled(open_as("bed_manager", "/beds"))
    expect(manager.get_by_role("navigation")).to_contain_text("床位调配")
    nurse = settled(open_as("ward_nurse", "/desk"))
    nurse.wait_for_url(re.compile("/beds"))
    expect(nurse.get_by_role("navigation")).not_to_contain_text("床位调配")


def test_the_whole_hospital_is_one_page_with_every_ward(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/beds"))
    expect(page.locator(".ward-card")).to_have_count(31)
    page.get_by_role("button", name="隔离空床").click()
    assert 0 < page.locator(".ward-card").count() < 31


def test_a_cleaned_bed_is_free_on_the_other_screen_without_reloading(open_as: Open, house: House) -> None:
    nurse = settled(open_as("ward_nurse", "/beds"))
    ward = a_ward_to_clean(nurse)
    nurse.goto(f"{house.base_url}/wards/{ward}")
    other = settled(open_as("bed_manager", f"/wards/{ward}"))
    row = nurse.locator(".one", has=nurse.get_by_role("button", name="开始消毒")).first
    number = row.locator(".bedno").inner_text()
    row.get_by_role("button", name="开始消毒").click()
    row = nurse.locator(".one", has_text=number).filter(has=nurse.get_by_role("button", name="消毒完成")).first
    row.get_by_role("button", name="消毒完成").click()
    tile = other.locator(f'[data-bed="{ward}-{number}"]')
    expect(tile).to_have_attribute("data-state", "free", timeout=5_000)
    expect(nurse.get_by_role("status").filter(has_text="已可分配")).to_be_visible()


def test_the_plan_works_by_keyboard_alone(open_as: Open) -> None:
    page = settled(open_as("ward_nurse", "/wards/3A"))
    tiles = page.locator(".bed-tile")
    tiles.first.focus()
    page.keyboard.press("ArrowRight")
    focused = page.evaluate("document.activeElement.getAttribute('data-bed')")
    assert focused is not None
    assert focused != tiles.first.get_attribute("data-bed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text(focused)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_function(f"document.activeElement.getAttribute('data-bed') === '{focused}'")


def test_slash_searches_and_enter_opens_the_bed(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/beds"))
    page.keyboard.press("/")
    page.keyboard.type("5A-07", delay=60)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/wards/5A\?bed="))
    expect(page.get_by_role("dialog")).to_contain_text("5A-07")


def test_old_data_says_that_it_is_old_and_the_board_goes_on_by_itself(open_as: Open, house: House) -> None:
    page = settled(open_as("bed_manager", "/beds"))
    expect(page.locator(".age")).to_contain_text("数据")
    with house.without_answers_of("beds"):
        expect(page.get_by_text("秒没有更新，正在重新连接")).to_be_visible(timeout=25_000)
        page.evaluate("(() => { window.real = Date.now; Date.now = () => window.real() + 61000 })()")
        expect(page.get_by_role("alert")).to_contain_text("没有更新")
        expect(page.get_by_role("link", name="打印停机快照")).to_be_visible()
        page.evaluate("Date.now = window.real")
    expect(page.locator(".age")).to_have_text(re.compile("刚刚更新|[123] 秒前"), timeout=40_000)


def test_the_board_goes_on_behind_its_last_change_when_the_service_was_restarted(open_as: Open, house: House) -> None:
    page = settled(open_as("bed_manager", "/wards/9C"))
    boards = []
    page.on("request", lambda request: boards.append(request.url) if request.url.endswith("/api/beds/board") else None)
    house.restart("beds")
    beds = house.ask("bed_manager", "GET", "/beds/beds?ward=9C&state=free")["beds"]
    bed = next(bed for bed in beds if bed["condition"] == "U" and bed["service"] == "active")
    tile = page.locator(f'[data-bed="{bed["code"]}"]')
    house.ask("bed_manager", "POST", f"/beds/beds/{bed['bed_id']}/block", {"reason": "repair"})
    expect(tile).to_have_attribute("data-state", "blocked", timeout=30_000)
    house.ask("bed_manager", "POST", f"/beds/beds/{bed['bed_id']}/unblock")
    expect(tile).to_have_attribute("data-state", "free", timeout=10_000)
    assert not boards, "nothing is loaded twice"


def test_the_desk_gives_the_first_in_the_queue_the_proposed_bed(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/desk"))
    before = page.locator(".queue-row").count()
    page.locator(".queue-row").filter(has_not_text="重症床").first.click()
    page.get_by_role("button", name="分配这张床").click()
    expect(page.get_by_role("status").filter(has_text="病区已收到")).to_be_visible()
    expect(page.locator(".queue-row")).to_have_count(before - 1)


def test_a_bed_against_a_firm_rule_is_refused_in_words(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/desk"))
    page.locator(".queue-row").first.click()
    page.get_by_label("指定别的床").fill("DAY-01")
    page.locator("form.other button").click()
    expect(page.get_by_role("alert")).to_contain_text("不能给这位患者")


def test_a_lost_answer_is_asked_for_again_with_the_same_key(open_as: Open, house: House) -> None:
    page = settled(open_as("ward_nurse", "/beds"))
    ward = a_ward_to_clean(page)
    page.goto(f"{house.base_url}/wards/{ward}")
    keys: list[str] = []

    def lose_the_first_answer(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/cleaning-start", lose_the_first_answer)
    page.get_by_role("button", name="开始消毒").first.click()
    expect(page.get_by_role("status").filter(has_text="开始消毒")).to_be_visible()
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert page.evaluate("sessionStorage.getItem('wardstream.unanswered')") is None


def test_a_family_sees_its_place_without_login_and_without_names(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/desk"))
    page.locator(".queue-row").first.click()
    page.get_by_role("button", name="给家属排队链接").click()
    address = page.get_by_label("给家属排队链接").input_value()
    path = re.sub(r"^https?://[^/]+", "", address)
    asked: list[str] = []
    family = open_as(None, "/login", width=390, height=844)
    family.on("request", lambda request: asked.append(request.url))
    family.goto(address)
    expect(family.get_by_text("您排在第")).to_be_visible()
    secret = path.partition("#")[2]
    assert secret
    assert not any(secret in url.partition("#")[0] for url in asked)
    assert "*" not in family.locator("main").inner_text()


def test_a_link_that_is_over_says_whom_to_ask(open_as: Open) -> None:
    page = open_as(None, "/queue#" + "x" * 32)
    expect(page.get_by_text("这个链接已失效")).to_be_visible()


def test_the_lock_covers_everything_and_gives_it_back(open_as: Open, house: House) -> None:
    page = settled(open_as("ward_nurse", "/wards/3A"))
    page.get_by_role("button", name="锁屏").click()
    page.reload()
    expect(page.get_by_role("dialog", name="已锁屏")).to_be_visible()
    page.locator(".cover input").fill(house.login("ward_nurse").password)
    page.get_by_role("button", name="解锁").click()
    expect(page.get_by_role("dialog", name="已锁屏")).to_have_count(0)
    expect(page).to_have_url(re.compile("/wards/3A"))


def test_no_name_and_no_token_is_kept_in_web_storage(open_as: Open) -> None:
    page = settled(open_as("ward_nurse", "/wards/3A"))
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "*" not in stored
    assert "eyJ" not in stored


def test_the_wall_shows_no_names_even_masked_ones(open_as: Open) -> None:
    page = settled(open_as("ward_nurse", "/wards/3A?wall"))
    page.wait_for_selector(".bed-tile")
    assert "*" not in page.locator("main").inner_text()
    assert not any("*" in text for text in page.locator("svg text").all_text_contents())


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("locale", "width"), [("zh-CN", 1440), ("en-GB", 768)])
def test_everybody_can_use_the_page_and_it_fits_a_tablet_held_upright(
    open_as: Open, name: str, locale: str, width: int
) -> None:
    username, path = PAGES[name]
    page = settled(open_as(username, path, locale=locale, width=width, height=1024))
    if name == "print":  # one ward's sheet is like those of all others
        page.locator("select").first.select_option("3A")
    page.wait_for_timeout(800)
    assert not faults_of(page)
    page.set_viewport_size({"width": 768, "height": 1024})
    page.wait_for_timeout(200)
    if name != "print":
        assert page.evaluate("document.documentElement.scrollWidth") <= 768
