"""A stay that is charged by the catalogue: its bed days come from the bed pool by themselves, and no other stay gets any."""

from datetime import timedelta

import pytest

from shared.clock import FrozenClock
from tests.support.hospital import Hospital

pytestmark = pytest.mark.asyncio


async def days_later(hospital: Hospital, days: int) -> None:
    assert isinstance(hospital.clock, FrozenClock)
    hospital.clock.advance(timedelta(days=days))


async def test_v10_v11_bed_days_follow_the_patient_from_bed_to_bed_until_the_bed_is_left(hospital: Hospital):
    stay = await hospital.admit()
    await hospital.do(f"/billing/encounters/{stay}/items", {"item": "LAB-CBC"})
    await days_later(hospital, 2)
    vip = (
        await hospital.sql(
            "beds",
            "SELECT bed_id, version FROM bed WHERE class = 'vip' AND commitment = 'free' AND condition = 'U' LIMIT 1",
        )
    )[0]
    move = {"bed_id": vip["bed_id"], "version": vip["version"], "reason": "patient_wish", "override": True}
    await hospital.do(f"/beds/encounters/{stay}/transfer", move)
    seen = await hospital.see(f"/billing/encounters/{stay}/bed-days")
    assert [day["item"] for day in seen["charged"]] == ["BED-STANDARD"] * 2, "the move put the days so far on the bill"
    await days_later(hospital, 3)
    await hospital.turn_timers("billing")
    owed = (await hospital.see(f"/billing/encounters/{stay}/account"))["charged_fen"]
    assert owed == 20_00 + 2 * 50_00 + 3 * 880_00
    await hospital.do(f"/admission/encounters/{stay}/discharge", {"disposition": "1"})
    assert (await hospital.see(f"/billing/encounters/{stay}/account"))["charged_fen"] == owed, "the exit day is free"
    seen = await hospital.see(f"/billing/encounters/{stay}/bed-days")
    assert (len(seen["due"]), len(seen["charged"]), seen["unpriced"]) == (5, 5, [])
    assert (await hospital.settle(stay))["charged_fen"] == owed


async def test_a_stay_of_free_amounts_is_settled_for_exactly_what_was_posted(hospital: Hospital):
    stay = await hospital.admit()
    await hospital.charge(stay, 18_000, 99)
    await days_later(hospital, 9)
    await hospital.turn_timers("billing")
    await hospital.do(f"/admission/encounters/{stay}/discharge", {"disposition": "1"})
    assert (await hospital.settle(stay))["charged_fen"] == 18_099
    assert await hospital.sql("billing", "SELECT 1 FROM priced_charge") == []


async def test_the_bed_pool_says_what_every_bed_is_charged_as(hospital: Hospital):
    await hospital.admit()
    await hospital.admit(level_of_care="critical", urgency="emergency")
    rows = await hospital.sql(
        "billing", "SELECT accommodation FROM bed_fact WHERE kind = 'came' ORDER BY accommodation"
    )
    assert [row["accommodation"] for row in rows] == ["critical", "standard"]
