"""Moves, leaves, shares and the way home, as nurses and bed managers do them in the drawer of a bed."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.screens.axe import faults_of
from tests.screens.house import House
from tests.screens.test_screens import settled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
Open = Callable[..., Page]

_used: set[int] = set()


def stays(bed: dict[str, Any]) -> bool:
    """Say whether nobody sends the patient home today."""
    leaving_at = bed["leaving_at"]
    return leaving_at is None or datetime.fromisoformat(leaving_at) > datetime.now(UTC) + timedelta(days=1)


def lying(house: House, fits: Callable[[dict[str, Any]], bool] | None = None, **wanted: Any) -> dict[str, Any]:
    """Return an ordinary bed with a patient in it that no other test has touched."""
    beds = house.ask("bed_manager", "GET", "/beds/board")["beds"]
    traits = {
        "commitment": "active",
        "service": "active",
        "kind": "inpatient",
        "level": "normal",
        "isolation_patient": False,
    }
    for bed in beds:
        if bed["bed_id"] in _used or (fits is not None and not fits(bed)):
            continue
        if all(bed[name] == value for name, value in {**traits, **wanted}.items()):
            _used.add(bed["bed_id"])
            return dict(bed)
    raise AssertionError("Nobody lies in such a bed.")


def drawer(open_as: Open, who: str, bed: dict[str, Any], **more: Any) -> Page:
    page = settled(open_as(who, f"/wards/{bed['ward']}?bed={bed['bed_id']}", **more))
    expect(page.get_by_role("dialog")).to_contain_text(bed["code"])
    expect(page.locator("[data-act]").first).to_be_visible()
    return page


def confirm(page: Page, reason: str | None, button: str) -> None:
    """Choose a reason and press the button of the dialog on top."""
    top = page.get_by_role("dialog").last
    if reason is not None:
        top.get_by_text(reason, exact=True).click()
    top.locator("footer").get_by_role("button", name=button, exact=False).last.click()


def said(page: Page, words: str) -> None:
    expect(page.get_by_role("status").filter(has_text=words)).to_be_visible()


def test_a_bed_manager_moves_a_patient_and_takes_it_back(open_as: Open, house: House) -> None:
    bed = lying(house)
    page = drawer(open_as, "bed_manager", bed)
    page.locator('[data-act="transfer"]').click()
    page.locator(".choice").first.wait_for()
    new = page.locator(".choice strong").first.inner_text()
    confirm(page, "病情需要", f"转到 {new} 床")
    said(page, f"患者已转到 {new} 床")
    board = {one["code"]: one for one in house.ask("bed_manager", "GET", "/beds/board")["beds"]}
    _used.add(board[new]["bed_id"])
    page = drawer(open_as, "bed_manager", board[new])
    page.locator('[data-act="undo"]').click()
    confirm(page, "登记错误", "撤销上次转床")
    said(page, f"患者在 {bed['code']} 床")


def test_a_move_is_announced_by_the_bed_manager_and_completed_by_the_ward(open_as: Open, house: House) -> None:
    bed = lying(house)
    page = drawer(open_as, "bed_manager", bed)
    page.locator('[data-act="transfer"]').click()
    page.locator(".choice").first.wait_for()
    new = page.locator(".choice strong").first.inner_text()
    page.get_by_role("button", name="预约转床，先占床").click()
    confirm(page, "病情需要", f"预约转到 {new} 床")
    said(page, f"已为转床预留 {new} 床")
    nurse = drawer(open_as, "ward_nurse", bed)
    expect(nurse.get_by_role("dialog")).to_contain_text(f"预约转到 {new} 床")
    expect(nurse.locator('[data-act="transfer"]')).to_be_disabled()
    nurse.get_by_role("button", name=f"患者已到 {new} 床").click()
    said(nurse, f"患者已转到 {new} 床")


def test_two_patients_swap_their_beds(open_as: Open, house: House) -> None:
    bed = lying(house)
    same = {"sex": bed["sex"], "class": bed["class"], "ward": bed["ward"]}
    try:
        other = lying(house, **same)
    except AssertionError:
        pytest.skip("Nobody of the same sex lies in this ward.")
    page = drawer(open_as, "bed_manager", bed)
    page.locator('[data-act="swap"]').click()
    page.get_by_label("与哪张床互换").fill(other["code"].lower())
    confirm(page, "患者要求", "互换")
    said(page, f"已互换：{other['code']} 与 {bed['code']}")


def test_a_patient_goes_on_leave_and_comes_back(open_as: Open, house: House) -> None:
    bed = lying(house)
    page = drawer(open_as, "ward_nurse", bed)
    page.locator('[data-act="leave"]').click()
    confirm(page, None, "登记外出")
    said(page, "已登记外出")
    expect(page.locator('[data-act="transfer"]')).to_be_disabled()
    page.get_by_role("button", name="患者已返回").click()
    said(page, "患者已返回")
    page.locator('[data-act="not_back"]').click()
    confirm(page, "登记错误", "撤销返回")
    said(page, "返回已撤销")
    page.get_by_role("button", name="患者已返回").click()


def test_a_companion_is_noted_once_and_goes(open_as: Open, house: House) -> None:
    bed = lying(house)
    page = drawer(open_as, "ward_nurse", bed)
    page.locator('[data-act="companion"]').click()
    said(page, "已登记陪护")
    expect(page.get_by_text("有陪护")).to_be_visible()
    page.get_by_role("button", name="陪护离开").click()
    expect(page.locator('[data-act="companion"]')).to_be_enabled()


def test_a_newborn_rooms_in_with_its_mother(open_as: Open, house: House) -> None:
    mother, child = house.scene.mothers[0]
    bed_id = house.ask("bed_manager", "GET", f"/beds/encounters/{mother}/allocation")["bed_id"]
    bed = next(one for one in house.ask("bed_manager", "GET", "/beds/board")["beds"] if one["bed_id"] == bed_id)
    page = drawer(open_as, "ward_nurse", bed)
    page.locator('[data-act="newborn"]').click()
    page.get_by_label("新生儿住院号").fill(child)
    confirm(page, None, "登记同室")
    said(page, "已登记母婴同室")
    found = house.ask("bed_manager", "GET", f"/beds/encounters/{child}/allocation")
    assert (found["state"], found["bed_id"]) == ("assigned", bed_id)


def test_what_a_nurse_may_not_do_is_shown_with_the_reason(open_as: Open, house: House) -> None:
    page = drawer(open_as, "ward_nurse", lying(house))
    for act in ("transfer", "swap", "undo", "block"):
        row = page.locator("li", has=page.locator(f'[data-act="{act}"]'))
        expect(row.locator("button")).to_be_disabled()
        expect(row).to_contain_text("您的岗位不能做这件事")
    expect(page.get_by_role("button", name="停收病人")).to_be_disabled()


def test_a_ward_is_closed_for_a_reason_and_opened_again(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/wards/10C"))
    page.get_by_role("button", name="停收病人").click()
    confirm(page, "感染控制", "停收病人")
    expect(page.locator(".closed")).to_contain_text("感染控制")
    page.get_by_role("button", name="恢复收治").click()
    expect(page.locator(".closed")).to_have_count(0)


def test_a_broken_bed_brings_its_patient_before_the_desk(open_as: Open, house: House) -> None:
    bed = lying(house)
    page = drawer(open_as, "bed_manager", bed)
    page.locator('[data-act="block"]').click()
    expect(page.get_by_role("dialog").last).to_contain_text("紧急转床")
    confirm(page, "维修", "停用")
    said(page, "已停用")
    desk = settled(open_as("bed_manager", "/desk"))
    expect(desk.locator(".watch")).to_contain_text(bed["code"])
    desk.locator(".watch li", has_text=bed["code"]).get_by_role("link").click()
    desk.wait_for_url(re.compile(f"bed={bed['bed_id']}"))


def test_a_late_step_on_the_way_home_is_explained_and_done(open_as: Open, house: House) -> None:
    bed = lying(house, stays)
    page = drawer(open_as, "ward_nurse", bed)
    if page.locator("details.home[open]").count() == 0:
        page.locator("details.home > summary").click()
    page.get_by_role("button", name="更改", exact=True).click()
    soon = page.evaluate("new Date(Date.now() + 8 * 3600e3 + 2 * 3600e3).toISOString().slice(0, 16)")
    page.get_by_role("dialog").last.locator("input[type=datetime-local]").fill(soon)
    confirm(page, "恢复良好", "更改")
    said(page, "预计出院时间已更改")
    step = page.locator('[data-step="transport_arranged"]')
    expect(step).to_contain_text("已晚")
    step.get_by_role("button", name="说明原因").click()
    confirm(page, "等家属", "说明原因")
    expect(step).to_contain_text("原因：等家属")
    step.get_by_role("button", name="完成").click()
    expect(step).to_contain_text("已完成")


def test_a_ward_takes_a_patient_who_is_on_the_way(open_as: Open, house: House) -> None:
    held = [one for one in house.ask("bed_manager", "GET", "/beds/board")["beds"] if one["commitment"] == "held"]
    bed = next(one for one in held if one["kind"] == "inpatient" and one["bed_id"] not in _used)
    page = settled(open_as("ward_nurse", f"/wards/{bed['ward']}"))
    number = bed["code"].removeprefix(f"{bed['ward']}-")
    page.get_by_role("button", name=f"接收 {number}", exact=True).click()
    said(page, "已确认接收")


def test_expected_leavers_are_told_by_ward_and_day_with_their_range(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/beds"))
    page.get_by_role("button", name="出院预测").click()
    row = page.locator(".house")
    expect(row).to_contain_text("全院")
    assert re.search(r"\d+\s*（\d+–\d+）", row.inner_text())


def test_who_fits_no_bed_is_told_why_and_what_comes_first(open_as: Open) -> None:
    page = settled(open_as("bed_manager", "/desk"))
    page.locator(".queue-row").filter(has_text="重症床").first.click()
    expect(page.get_by_role("heading", name="最快可用的床")).to_be_visible()


LOOKS = ("hospital", "ward", "drawer", "desk")


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("look", ["夜间模式", "大字"])
def test_everybody_can_use_the_page_at_night_and_in_large_text(
    open_as: Open, house: House, name: str, look: str
) -> None:
    if name == "drawer":
        page = drawer(open_as, "bed_manager", lying(house))
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    else:
        path = {"hospital": "/beds", "ward": "/wards/3A", "desk": "/desk"}[name]
        page = settled(open_as("bed_manager", path))
    page.get_by_role("button", name=look).click()
    if name == "drawer":
        page.locator('.bed-tile[data-state="occupied"]').first.click()
        expect(page.locator("[data-act]").first).to_be_visible()
    page.wait_for_timeout(800)
    assert not faults_of(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
