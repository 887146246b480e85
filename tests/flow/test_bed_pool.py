"""The hospital-wide pool as bed managers and ward nurses use it: V-numbers are the complaints of other systems' users."""

from datetime import timedelta
from typing import Any

import pytest

from services.insight.domain import Views
from shared.contracts.registry import EVENTS
from tests.support.hospital import Hospital

pytestmark = pytest.mark.asyncio

WANTED = {"urgency": "elective", "specialty": "general"}


async def bed(hospital: Hospital, bed_id: int) -> dict[str, Any]:
    [row] = await hospital.sql("beds", "SELECT * FROM bed WHERE bed_id = $1", bed_id)
    return dict(row)


async def free_bed(hospital: Hospital, ward: str, *, isolation: bool = False) -> dict[str, Any]:
    """Return an untouched bed of a ward, in a room where nobody lies."""
    rows = await hospital.sql(
        "beds",
        "SELECT * FROM bed b WHERE ward = $1 AND isolation = $2 AND commitment = 'free' AND condition = 'U' AND NOT EXISTS"
        " (SELECT FROM bed o WHERE o.room = b.room AND o.commitment <> 'free') ORDER BY bed_id LIMIT 1",
        ward,
        isolation,
    )
    return dict(rows[0])


def to(target: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"bed_id": target["bed_id"], "version": target["version"], "reason": "nearer_to_the_nurses", **more}


# ---- moving ------------------------------------------------------------------------------------------------------------


async def test_v17_a_patient_who_moves_leaves_the_old_bed_to_be_cleaned_in_the_same_moment(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    old = await hospital.bed_of(stay)
    target = await free_bed(hospital, "3B")
    moved = await hospital.do(f"/beds/encounters/{stay}/transfer", to(target))
    assert moved["bed_code"] == target["code"]
    assert (await bed(hospital, old["bed_id"]))["condition"] == "H"
    assert (await bed(hospital, old["bed_id"]))["commitment"] == "free"
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "active"
    assert (await hospital.see(f"/admission/encounters/{stay}"))["ward"] == "3B", (
        "admission knows where the patient lies"
    )
    await hospital.charge(stay, 100)
    await hospital.settle(stay)
    await hospital.do(f"/admission/encounters/{stay}/discharge")
    assert (await bed(hospital, target["bed_id"]))["condition"] == "H"


async def test_v15_a_patient_is_not_moved_twice_at_once_and_not_into_a_taken_bed(hospital: Hospital):
    stay, other = await hospital.admit(**WANTED), await hospital.admit(**WANTED)
    target = await free_bed(hospital, "3B")
    await hospital.do(f"/beds/encounters/{stay}/transfer", to(target))
    assert await hospital.refused(f"/beds/encounters/{stay}/transfer", to(target)) == "same_bed"
    assert await hospital.refused(f"/beds/encounters/{other}/transfer", to(target)) == "bed_changed"
    now = await bed(hospital, target["bed_id"])
    assert await hospital.refused(f"/beds/encounters/{other}/transfer", to(now, override=True)) == "rule_firm"
    with pytest.raises(Exception, match="one_per_bed"):
        await hospital.sql(
            "beds",
            "INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state) SELECT gen_random_uuid(), bed_id,"
            " gen_random_uuid(), gen_random_uuid(), during, 'occupied' FROM bed_claim WHERE encounter_id = $1 AND state = 'occupied'",
            stay,
        )


async def test_v3_nobody_is_moved_after_discharge(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    await hospital.do(f"/admission/encounters/{stay}/discharge")
    target = await free_bed(hospital, "3B")
    assert await hospital.refused(f"/beds/encounters/{stay}/transfer", to(target)) == "not_in_a_bed"


async def test_v4_a_bed_is_freed_when_the_patient_leaves_not_when_the_order_is_written(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    lies_in = (await hospital.bed_of(stay))["bed_id"]
    await hospital.do(f"/admission/encounters/{stay}/discharge-order")
    assert (await bed(hospital, lies_in))["commitment"] == "active"
    ward = (await bed(hospital, lies_in))["ward"]
    await hospital.look()
    work = await hospital.see(f"/beds/wards/{ward}/work")
    [lying] = [row for row in work["lying"] if row["encounter_id"] == stay]
    assert lying["discharge_ordered_at"] is not None, "the ward sees who may go"
    await hospital.do(f"/admission/encounters/{stay}/discharge")
    assert (await bed(hospital, lies_in))["commitment"] == "free"


async def test_v16_two_patients_swap_both_or_none_and_holds_stay_as_they_are(hospital: Hospital):
    first, second = await hospital.admit(**WANTED), await hospital.admit(specialty="cardiology")
    expected = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    held = await hospital.bed_of(expected)
    before = {stay: (await hospital.bed_of(stay))["bed_id"] for stay in (first, second)}
    body = {"first_encounter_id": first, "second_encounter_id": second, "reason": "family_request"}
    await hospital.do("/beds/swaps", body)
    assert (await hospital.bed_of(first))["bed_id"] == before[second]
    assert (await hospital.bed_of(second))["bed_id"] == before[first]
    assert await hospital.bed_of(expected) == held, "a pending move is kept"
    assert {(await bed(hospital, bed_id))["commitment"] for bed_id in before.values()} == {"active"}
    man = await hospital.admit(await hospital.register_patient(sex="male"), **WANTED)
    beside_a_woman = {"first_encounter_id": man, "second_encounter_id": first, "reason": "family_request"}
    women = await hospital.sql(
        "beds",
        "SELECT count(*) AS n FROM bed WHERE room = $1 AND commitment = 'active'",
        (await bed(hospital, before[second]))["room"],
    )
    if women[0]["n"] > 1:
        assert await hospital.refused("/beds/swaps", beside_a_woman) == "rule_broken"
    assert await hospital.refused("/beds/swaps", {**body, "second_encounter_id": first}) == "same_stay"


async def test_a_bed_is_kept_while_its_patient_is_on_leave(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    lies_in = (await hospital.bed_of(stay))["bed_id"]
    until = "2026-03-03T18:00:00+08:00"
    await hospital.do(f"/beds/encounters/{stay}/leave", {"until": until})
    assert (await bed(hospital, lies_in))["commitment"] == "leave"
    assert await hospital.refused(f"/beds/encounters/{stay}/leave", {"until": until}) == "on_leave"
    await hospital.do(f"/beds/encounters/{stay}/leave-end")
    assert (await bed(hospital, lies_in))["commitment"] == "active"
    assert await hospital.refused(f"/beds/encounters/{stay}/leave-end") == "not_on_leave"


# ---- refusing, cleaning, repair ----------------------------------------------------------------------------------------


async def test_a_ward_refuses_with_a_reason_and_the_patient_gets_a_bed_elsewhere(hospital: Hospital):
    stay = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    first = await hospital.bed_of(stay)
    answer = await hospital.do(f"/beds/encounters/{stay}/refusal", {"by": "ward", "reason": "staff_shortage"})
    assert answer == {"state": "waiting", "place": 1}
    assert (await hospital.see(f"/admission/encounters/{stay}"))["state"] == "waitlisted"
    await hospital.turn_timers()
    second = await hospital.bed_of(stay)
    assert second["state"] == "assigned"
    assert second["ward"] != first["ward"], "a ward that refused is not asked again"
    assert (await bed(hospital, first["bed_id"]))["commitment"] == "free"


async def test_a_ward_that_was_silent_for_half_an_hour_has_accepted(hospital: Hospital):
    stay = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    hospital.clock.at += timedelta(minutes=31)  # type: ignore[attr-defined]
    refusal = {"by": "ward", "reason": "staff_shortage"}
    assert await hospital.refused(f"/beds/encounters/{stay}/refusal", refusal) == "too_late_to_refuse"


async def test_a_patient_who_refuses_without_keeping_the_place_stands_behind_the_others(hospital: Hospital):
    await hospital.sql(
        "beds",
        "UPDATE bed SET service = 'suspended', suspended_reason = 'repair' WHERE bed_id <> (SELECT min(bed_id) FROM bed WHERE ward = '3A')",
    )
    first = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    second = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    hospital.clock.at += timedelta(minutes=5)  # type: ignore[attr-defined]
    refusal = {"by": "patient", "reason": "wants_single", "keeps_place": False}
    assert (await hospital.do(f"/beds/encounters/{first}/refusal", refusal))["place"] == 2
    assert (await hospital.bed_of(second))["place"] == 1


async def test_cleaning_is_started_suspended_and_done_and_nobody_gets_the_bed_before(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    lies_in = (await hospital.bed_of(stay))["bed_id"]
    await hospital.do(f"/admission/encounters/{stay}/discharge")
    path = f"/beds/beds/{lies_in}"
    assert (
        await hospital.refused(f"{path}/cleaning-suspension", {"reason": "emergency_elsewhere"})
        == "cleaning_not_started"
    )
    await hospital.do(f"{path}/cleaning-start")
    assert await hospital.refused(f"{path}/cleaning-start") == "cleaning_started"
    await hospital.do(f"{path}/cleaning-suspension", {"reason": "emergency_elsewhere"})
    await hospital.do(f"{path}/cleaning-start")
    await hospital.do(f"{path}/cleaning-done")
    now = await bed(hospital, lies_in)
    assert (now["condition"], now["cleaning"]) == ("U", None)
    assert await hospital.refused(f"{path}/cleaning-start") == "not_to_clean"


async def test_after_an_infectious_patient_the_bed_is_disinfected(hospital: Hospital):
    stay = await hospital.admit(isolation="airborne", specialty="infectious")
    lies_in = await hospital.bed_of(stay)
    assert (await bed(hospital, lies_in["bed_id"]))["isolation"]
    await hospital.do(f"/admission/encounters/{stay}/discharge")
    assert (await bed(hospital, lies_in["bed_id"]))["condition"] == "K"


async def test_a_broken_bed_takes_nobody_until_it_is_repaired(hospital: Hospital):
    broken = await free_bed(hospital, "3A")
    path = f"/beds/beds/{broken['bed_id']}"
    await hospital.do(f"{path}/block", {"reason": "repair"})
    assert await hospital.refused(f"{path}/block", {"reason": "repair"}) == "blocked"
    stay = await hospital.admit(**WANTED)
    now = await bed(hospital, broken["bed_id"])
    assert await hospital.refused(f"/beds/encounters/{stay}/transfer", to(now, override=True)) == "rule_firm"
    await hospital.do(f"{path}/unblock")
    assert await hospital.refused(f"{path}/unblock") == "not_blocked"


async def test_a_closed_ward_takes_nobody_new_and_keeps_who_is_inside(hospital: Hospital):
    inside = await hospital.admit(specialty="cardiology")
    assert (await hospital.bed_of(inside))["ward"] == "4A"
    await hospital.do("/beds/wards/4A/closing", {"reason": "infection_control"})
    new = await hospital.request_stay(await hospital.register_patient(), specialty="cardiology")
    assert (await hospital.bed_of(new))["ward"] != "4A"
    assert (await hospital.bed_of(inside))["state"] == "arrived"
    await hospital.do("/beds/wards/4A/opening")


# ---- the desk ----------------------------------------------------------------------------------------------------------


async def the_counts(hospital: Hospital) -> dict[str, int]:
    wards = (await hospital.see("/beds/wards"))["wards"]
    return {
        name: sum(ward[name] for ward in wards)
        for name in ("beds", "occupied", "held", "free", "to_clean", "out_of_service")
    }


async def test_v5_every_bed_is_counted_exactly_once(hospital: Hospital):
    await hospital.admit(**WANTED)
    await hospital.request_stay(await hospital.register_patient(), **WANTED)
    gone = await hospital.admit(**WANTED)
    await hospital.do(f"/admission/encounters/{gone}/discharge")
    await hospital.do(f"/beds/beds/{(await free_bed(hospital, '3C'))['bed_id']}/block", {"reason": "repair"})
    away = await hospital.admit(**WANTED)
    await hospital.do(f"/beds/encounters/{away}/leave", {"until": "2026-03-03T18:00:00+08:00"})
    counts = await the_counts(hospital)
    assert (counts["occupied"], counts["held"], counts["to_clean"], counts["out_of_service"]) == (2, 1, 1, 1)
    assert counts.pop("beds") == sum(counts.values())


async def test_v2_what_the_log_says_is_what_the_board_shows(hospital: Hospital):
    first = await hospital.admit(**WANTED)
    await hospital.do(f"/beds/encounters/{first}/transfer", to(await free_bed(hospital, "3B")))
    gone = await hospital.admit(**WANTED)
    await hospital.do(f"/admission/encounters/{gone}/discharge")
    waiting = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    await hospital.do(f"/beds/encounters/{waiting}/refusal", {"by": "patient", "reason": "not_today"})
    views = Views({}, {})
    for row in await hospital.sql("beds", "SELECT type, version, body FROM outbox ORDER BY id"):
        views.apply(EVENTS[row["type"]].model_validate(row["body"]), row["version"])
    shown = {ward["ward"]: (ward["occupied"], ward["held"]) for ward in (await hospital.see("/beds/wards"))["wards"]}
    rebuilt = {ward: (counts["occupied"], counts["held"]) for ward, counts in views.census().items()}
    assert rebuilt == shown


async def test_the_desk_sees_the_best_beds_with_their_points_and_why_all_others_are_closed(hospital: Hospital):
    stay = await hospital.request_stay(
        await hospital.register_patient(), specialty="cardiology", expected_admit_at="2026-03-09T08:00:00+08:00"
    )
    assert (await hospital.bed_of(stay))["waiting_reason"] == "not_due_yet"
    await hospital.look()
    seen = await hospital.see(f"/beds/requests/{stay}/proposals")
    best = seen["proposals"][0]
    assert best["ward"] == "4A", "the ward of the specialty comes first"
    assert best["score"] == sum(part["points"] for part in best["parts"])
    assert [choice["score"] for choice in seen["proposals"]] == sorted(choice["score"] for choice in seen["proposals"])
    closed = {group["rule"]: group["beds"] for group in seen["closed"]}
    assert closed["kind"] == 30, "the day beds"
    chosen = seen["proposals"][1]
    body = {"bed_id": chosen["bed_id"], "version": chosen["version"]}
    held = await hospital.do(f"/beds/requests/{stay}/assignment", body)
    assert held["bed_code"] == chosen["code"]
    assert await hospital.refused(f"/beds/requests/{stay}/assignment", body) == "not_waiting"


async def test_who_can_have_no_bed_now_is_told_why_and_which_bed_comes_first(hospital: Hospital):
    await hospital.sql(
        "beds",
        "UPDATE bed SET service = 'suspended', suspended_reason = 'repair', version = version + 1 WHERE room NOT IN ('3A-R03', '3A-R04')",
    )
    await hospital.look()
    stays = [await hospital.admit(**WANTED) for _ in range(2)]
    waiting = await hospital.request_stay(await hospital.register_patient(sex="male"), **WANTED)
    await hospital.look()
    seen = await hospital.see(f"/beds/requests/{waiting}/proposals")
    assert (seen["proposals"], seen["waiting_reason"]) == ([], "no_free_bed")
    beds = [await hospital.bed_of(stay) for stay in stays]
    assert {bed["code"] for bed in seen["soonest"]} == {bed["bed_code"] for bed in beds}, (
        "single rooms, whoever lies there"
    )
    await hospital.do(f"/admission/encounters/{stays[1]}/discharge")
    await hospital.look()
    first, *_ = (await hospital.see(f"/beds/requests/{waiting}/proposals"))["soonest"]
    assert (first["code"], first["waits_for"]) == (beds[1]["bed_code"], "condition")


async def test_a_rule_is_overridden_only_with_a_reason_which_is_kept(hospital: Hospital):
    stay = await hospital.request_stay(
        await hospital.register_patient(), **WANTED, expected_admit_at="2026-03-09T08:00:00+08:00"
    )
    cot = await free_bed(hospital, "6C")
    path, body = f"/beds/requests/{stay}/assignment", {"bed_id": cot["bed_id"], "version": cot["version"]}
    assert await hospital.refused(path, body) == "rule_broken"
    assert await hospital.refused(path, {**body, "version": 99}) == "bed_changed"
    await hospital.do(path, {**body, "reason": "surge"})
    [decision] = (await hospital.see(f"/beds/encounters/{stay}/decisions"))["decisions"]
    assert decision["override_reason"] == "surge"
    assert decision["explanation"]["overridden"] in ("ward_exclusive", "age")


async def test_each_decision_can_be_taken_again_from_what_it_saw_and_with_other_weights(hospital: Hospital):
    stay = await hospital.request_stay(await hospital.register_patient(), specialty="cardiology")
    [decision] = (await hospital.see(f"/beds/encounters/{stay}/decisions"))["decisions"]
    assert decision["taken_again"] == decision["bed_id"]
    made = await hospital.do(
        "/beds/rules", {"weights": [{"rule": "other_ward", "points": 0}, {"rule": "ward_load", "points": 500}]}
    )
    await hospital.look()
    assert (await hospital.see("/beds/rules"))["version"] == made["version"]
    later = await hospital.request_stay(await hospital.register_patient(), specialty="cardiology")
    [newer] = (await hospital.see(f"/beds/encounters/{later}/decisions"))["decisions"]
    assert newer["rules_version"] == made["version"]
    assert newer["taken_again"] == newer["bed_id"]
    [older] = (await hospital.see(f"/beds/encounters/{stay}/decisions"))["decisions"]
    assert older["rules_version"] == decision["rules_version"], "an old decision keeps the weights of its time"


async def test_who_waits_sees_the_own_place_by_a_link_without_a_name(hospital: Hospital):
    await hospital.sql("beds", "UPDATE bed SET service = 'suspended', suspended_reason = 'repair'")
    first = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    second = await hospital.request_stay(await hospital.register_patient(name="诸葛亮"), **WANTED)
    link = await hospital.do(f"/beds/encounters/{second}/queue-link")
    token = link["path"].partition("#")[2]
    seen = (await hospital.ask("POST", "/beds/queue-look", {"token": token})).json()
    assert seen.get("place") == 2, seen
    assert (seen["of"], seen["moved"]) == (2, 0)
    assert "诸葛" not in str(seen)
    assert second not in str(seen)
    await hospital.do(f"/admission/encounters/{first}/cancellation", {"reason": "patient_request"})
    seen = (await hospital.ask("POST", "/beds/queue-look", {"token": token})).json()
    assert (seen["place"], seen["moved"]) == (1, 1)
    assert await hospital.refused("/beds/queue-look", {"token": "x" * 32}) == "not_found"


async def test_the_plan_proposes_beds_and_says_what_changed_when_it_is_taken_late(hospital: Hospital):
    later = {"expected_admit_at": "2026-03-09T08:00:00+08:00"}
    stays = [await hospital.request_stay(await hospital.register_patient(), **WANTED, **later) for _ in range(3)]
    await hospital.turn_timers()
    plan = await hospital.see("/beds/plan")
    assert {row["encounter_id"] for row in plan["proposals"]} == set(stays)
    assert len({row["bed_id"] for row in plan["proposals"]}) == 3
    items = [{name: row[name] for name in ("encounter_id", "bed_id", "version")} for row in plan["proposals"]]
    await hospital.do(f"/beds/beds/{items[0]['bed_id']}/block", {"reason": "repair"})
    answer = await hospital.do("/beds/plan/acceptance", {"items": items})
    assert answer["accepted"] == [item["encounter_id"] for item in items[1:]]
    assert answer["changed"] == [{"encounter_id": items[0]["encounter_id"], "code": "bed_changed"}]


async def test_the_board_tells_every_change_from_a_cursor_on(hospital: Hospital):
    await hospital.look()
    board = await hospital.see("/beds/board")
    assert len(board["beds"]) == 1200
    stay = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    held = (await hospital.bed_of(stay))["bed_id"]
    await hospital.look()
    stream = hospital.pool.mirror.stream(board["cursor"], None, hospital.runtimes["beds"].db.stopping)
    told = await anext(stream)
    assert b"event: beds" in told
    assert f'"bed_id":{held},'.encode() in told
    of_another_ward = hospital.pool.mirror.stream(
        board["cursor"], frozenset({"DAY"}), hospital.runtimes["beds"].db.stopping
    )
    wards = await anext(of_another_ward)
    assert b'"ward":"DAY"' in wards
    assert b'"ward":"3A"' not in wards, "a nurse hears of the own wards only"
    assert b"event: tick" in await anext(of_another_ward)
    from_another_time = hospital.pool.mirror.stream(
        "999999999999.1.00000000", None, hospital.runtimes["beds"].db.stopping
    )
    assert b"event: reset" in await anext(from_another_time)


async def test_the_layout_is_changed_through_the_doors_and_never_against_itself(hospital: Hospital):
    extra = {"code": "3A-99", "building": "A", "floor": 3, "ward": "3A", "room": "3A-R05", "extra": True}
    answer = await hospital.do("/beds/beds", {"beds": [extra]})
    assert answer == {"added": 1, "known": 0}
    assert (
        await hospital.refused("/beds/beds", {"beds": [{**extra, "code": "3A-98", "floor": 9}]}) == "layout_disagrees"
    )
    assert (
        await hospital.refused("/beds/beds", {"beds": [{**extra, "code": "3B-98", "ward": "3B"}]}) == "layout_disagrees"
    )
    [row] = await hospital.sql("beds", "SELECT bed_id, version FROM bed WHERE code = '3A-99'")
    path = f"/beds/beds/{row['bed_id']}"
    await hospital.do(
        f"{path}/change", {"version": row["version"], "equipment": ["oxygen", "monitor"], "class": "single"}
    )
    assert await hospital.refused(f"{path}/change", {"version": row["version"], "class": "vip"}) == "bed_changed"
    await hospital.do(f"{path}/retirement")
    await hospital.do("/beds/wards/3A/change", {"ward_name_zh": "普通病房", "age_max": 110})
    assert await hospital.refused("/beds/wards/3A/change", {"age_min": 120}) == "ages_not_in_order"
    assert await hospital.refused("/beds/wards/nowhere/change", {"age_min": 1}) == "not_found"


async def test_the_house_is_told_how_many_will_leave(hospital: Hospital):
    for _ in range(3):
        stay = await hospital.admit(**WANTED)
        hospital.clock.at += timedelta(hours=30)  # type: ignore[attr-defined]
        await hospital.do(f"/admission/encounters/{stay}/discharge")
    stay = await hospital.admit(**WANTED)
    await hospital.do(f"/admission/encounters/{stay}/discharge-order")
    told = await hospital.see("/beds/forecast")
    assert told["stays"] == 3
    ward = (await hospital.bed_of(stay))["ward"]
    found = {row["ward"]: {step["within_hours"]: step for step in row["leaving"]} for row in told["wards"]}
    assert found[ward][24]["low"] == found[ward][24]["high"] == 1, "the order makes it nearly certain"
    assert found[None][24]["mean"] == pytest.approx(found[ward][24]["mean"])


async def test_a_partners_beds_are_kept_until_the_hour_of_their_release(hospital: Hospital):
    await hospital.sql("beds", "UPDATE bed SET service = 'suspended', suspended_reason = 'repair' WHERE ward <> '3A'")
    hospital.clock.at = hospital.clock.at.replace(hour=1)  # type: ignore[attr-defined]
    await hospital.sql("beds", "UPDATE bed SET quota = 'hexi_health_centre' WHERE ward = '3A'")
    waiting = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    assert (await hospital.bed_of(waiting))["state"] == "waiting"
    sent = await hospital.request_stay(await hospital.register_patient(), **WANTED, partner="hexi_health_centre")
    assert (await hospital.bed_of(sent))["state"] == "assigned"
    hospital.clock.at = hospital.clock.at.replace(hour=5, minute=59)  # type: ignore[attr-defined]
    await hospital.turn_timers()
    assert (await hospital.bed_of(waiting))["state"] == "waiting", "13:59 in Shanghai"
    hospital.clock.at = hospital.clock.at.replace(hour=6, minute=0)  # type: ignore[attr-defined]
    await hospital.turn_timers()
    assert (await hospital.bed_of(waiting))["state"] == "assigned"
