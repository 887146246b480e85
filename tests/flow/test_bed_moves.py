"""Shared beds, announced moves, what is taken back, silent wards, broken beds, the way home: as wards and bed managers live with them."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from services.billing.prices.rules import CameToBed, LeftBed, bed_intervals
from services.insight.domain import Views
from shared.contracts.registry import EVENTS
from tests.flow.test_bed_pool import WANTED, bed, free_bed, to
from tests.support.hospital import Hospital

pytestmark = pytest.mark.asyncio

WRONG = {"reason": "entered_wrongly"}


def later(hospital: Hospital, **time: float) -> None:
    hospital.clock.at += timedelta(**time)  # type: ignore[attr-defined]


async def told(hospital: Hospital, event: str) -> list[dict[str, Any]]:
    """Return the bodies of every fact of this name, in order."""
    rows = await hospital.sql("beds", "SELECT body FROM outbox WHERE type LIKE $1 ORDER BY id", f"%.{event}.v1")
    return [dict(row["body"]) for row in rows]


async def mother_and_child(hospital: Hospital) -> tuple[str, str]:
    """Return a mother in her bed and her child, born today, registered and not yet admitted."""
    mother = await hospital.admit(await hospital.register_patient(born="1995-02-03"), specialty="obstetrics")
    child = await hospital.register_patient(name="小宝", sex="male", born="2026-03-02")
    return mother, await hospital.request_stay(child, specialty="obstetrics", urgency="elective")


async def rooming_in(hospital: Hospital) -> tuple[str, str, str]:
    """Return mother, child and their share, the child admitted beside her."""
    mother, child = await mother_and_child(hospital)
    share = await hospital.do(f"/beds/encounters/{mother}/shares", {"kind": "newborn", "guest_encounter_id": child})
    await hospital.do(f"/admission/encounters/{child}/admission")
    return mother, child, share["share_id"]


async def the_log_says_what_the_board_shows(hospital: Hospital) -> None:
    views = Views({}, {})
    for row in await hospital.sql("beds", "SELECT type, version, body FROM outbox ORDER BY id"):
        views.apply(EVENTS[row["type"]].model_validate(row["body"]), row["version"])
    shown = await hospital.sql(
        "beds",
        "SELECT ward, count(*) FILTER (WHERE commitment IN ('active', 'leave')) AS occupied,"
        " count(*) FILTER (WHERE commitment = 'held') AS held FROM bed GROUP BY ward",
    )
    rebuilt = {ward: (counts["occupied"], counts["held"]) for ward, counts in views.census().items()}
    assert rebuilt == {row["ward"]: (row["occupied"], row["held"]) for row in shown}


# ---- shared beds -----------------------------------------------------------------------------------------------------


async def test_a_newborn_stays_with_its_mother_on_an_account_of_its_own_and_takes_no_bed(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    mothers, childs = await hospital.bed_of(mother), await hospital.bed_of(child)
    assert (childs["state"], childs["bed_id"]) == ("arrived", mothers["bed_id"])
    await hospital.charge(child, 100)
    await hospital.charge(mother, 900)
    owed = [
        (await hospital.see(f"/billing/encounters/{stay}/pre-settlement"))["charged_fen"] for stay in (mother, child)
    ]
    assert owed == [900, 100]
    work = await hospital.see(f"/beds/wards/{mothers['ward']}/work")
    assert [(row["kind"], row["guest_id"]) for row in work["shares"]] == [("newborn", child)]
    assert {row["encounter_id"]: row["host_encounter_id"] for row in work["lying"]} == {mother: None, child: mother}
    await the_log_says_what_the_board_shows(hospital)


async def test_where_the_mother_goes_the_newborn_and_the_companion_go(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    await hospital.do(f"/beds/encounters/{mother}/shares", {"kind": "companion"})
    target = await free_bed(hospital, (await hospital.bed_of(mother))["ward"])
    await hospital.do(f"/beds/encounters/{mother}/transfer", to(target))
    assert (await hospital.bed_of(child))["bed_id"] == target["bed_id"]
    assert (await hospital.see(f"/admission/encounters/{child}"))["bed_id"] == target["bed_id"]
    work = await hospital.see(f"/beds/wards/{target['ward']}/work")
    assert sorted(row["kind"] for row in work["shares"]) == ["companion", "newborn"]
    assert {row["host_id"] for row in work["shares"]} == {mother}
    await the_log_says_what_the_board_shows(hospital)


async def test_a_newborn_whose_admission_is_still_to_come_is_told_the_mothers_new_bed(hospital: Hospital):
    mother, child = await mother_and_child(hospital)
    await hospital.do(f"/beds/encounters/{mother}/shares", {"kind": "newborn", "guest_encounter_id": child})
    target = await free_bed(hospital, (await hospital.bed_of(mother))["ward"])
    await hospital.do(f"/beds/encounters/{mother}/transfer", to(target))
    assert (await hospital.see(f"/admission/encounters/{child}"))["bed_id"] == target["bed_id"]
    await hospital.do(f"/admission/encounters/{child}/admission")
    assert (await hospital.bed_of(child))["bed_id"] == target["bed_id"]


async def test_a_newborn_that_moves_to_a_bed_of_its_own_leaves_the_mother_in_hers(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    target = await free_bed(hospital, "6C")
    await hospital.do(f"/beds/encounters/{child}/transfer", to(target, override=True))
    mothers = await bed(hospital, (await hospital.bed_of(mother))["bed_id"])
    assert (mothers["commitment"], mothers["condition"]) == ("active", "O"), "nothing is to be cleaned"
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "active"
    assert [fact["reason"] for fact in await told(hospital, "ShareEnded")] == ["own_bed"]
    await the_log_says_what_the_board_shows(hospital)


async def test_a_newborn_that_goes_home_leaves_no_dirty_bed_behind(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    await hospital.charge(child, 100)
    await hospital.settle(child)
    await hospital.do(f"/admission/encounters/{child}/discharge")
    assert (await bed(hospital, (await hospital.bed_of(mother))["bed_id"]))["condition"] == "O"
    assert (await hospital.see(f"/admission/encounters/{child}"))["state"] == "closed"
    await the_log_says_what_the_board_shows(hospital)


async def test_a_mother_who_leaves_first_leaves_a_newborn_that_waits_in_the_house(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    await hospital.do(f"/beds/encounters/{mother}/shares", {"kind": "companion"})
    await hospital.do(f"/admission/encounters/{mother}/discharge")
    waits = await hospital.bed_of(child)
    assert waits["state"] in ("waiting", "arrived")
    assert len(await told(hospital, "ShareEnded")) == 2
    await hospital.turn_timers()
    lies = await hospital.bed_of(child)
    assert lies["state"] == "arrived", "it lies down as soon as a bed is found"
    assert (await bed(hospital, lies["bed_id"]))["encounter_id"] is not None
    await the_log_says_what_the_board_shows(hospital)


async def test_a_newborn_that_waits_in_the_house_can_go_home(hospital: Hospital):
    _, child, share = await rooming_in(hospital)
    await hospital.do(f"/beds/shares/{share}/end", {"reason": "child_observed"})
    assert (await hospital.bed_of(child))["state"] == "waiting"
    await hospital.do(f"/admission/encounters/{child}/discharge")
    assert (await hospital.bed_of(child))["state"] == "left"
    assert await hospital.refused(f"/beds/shares/{share}/end", {"reason": "child_observed"}) == "share_over"


async def test_who_may_not_share_a_bed_is_told_why(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    man = await hospital.admit(await hospital.register_patient(sex="male"), **WANTED)
    woman = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    path = f"/beds/encounters/{mother}/shares"
    for who, body, code in [
        (mother, {"kind": "newborn", "guest_encounter_id": child}, "shares_already"),
        (mother, {"kind": "newborn", "guest_encounter_id": woman}, "not_a_newborn"),
        (man, {"kind": "newborn", "guest_encounter_id": child}, "not_the_mother"),
        (mother, {"kind": "newborn"}, "guest_needed"),
        (mother, {"kind": "newborn", "guest_encounter_id": mother}, "same_stay"),
        (mother, {"kind": "companion", "guest_encounter_id": woman}, "guest_not_known"),
        (woman, {"kind": "companion"}, "host_not_in_bed"),
        (child, {"kind": "companion"}, "host_is_guest"),
    ]:
        assert await hospital.refused(f"/beds/encounters/{who}/shares", body) == code
    await hospital.do(path, {"kind": "companion"})
    assert await hospital.refused(path, {"kind": "companion"}) == "companion_there"
    other = {"first_encounter_id": child, "second_encounter_id": man, "reason": "family_request"}
    assert await hospital.refused("/beds/swaps", other) == "is_guest"


async def test_the_database_itself_refuses_a_guest_without_a_host_in_the_bed(hospital: Hospital):
    mother, child, share = await rooming_in(hospital)
    target = await free_bed(hospital, "3B")
    for statement in (
        f"UPDATE bed_request SET bed_id = {target['bed_id']} WHERE encounter_id = '{mother}'",
        f"UPDATE bed_request SET bed_id = {target['bed_id']} WHERE encounter_id = '{child}'",
        f"UPDATE bed_request SET state = 'left' WHERE encounter_id = '{mother}'",
        f"UPDATE bed_request SET state = 'left' WHERE encounter_id = '{child}'",
        f"UPDATE bed_share SET during = tstzrange(lower(during), lower(during) + interval '1 hour'), ended_reason = 'x' WHERE id = '{share}'",
        f"INSERT INTO bed_share (id, host_id, kind, during) VALUES (gen_random_uuid(), '{mother}', 'companion', tstzrange(now(), NULL))",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=r"shares a bed|without a share"):
            await hospital.sql("beds", statement)
    with pytest.raises(asyncpg.ExclusionViolationError, match="one_per_bed"):
        await hospital.sql(
            "beds",
            "INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state) SELECT gen_random_uuid(), c.bed_id,"
            " r.encounter_id, r.patient_tok, c.during, 'occupied' FROM bed_claim c, bed_request r WHERE c.encounter_id = $1"
            " AND c.state = 'occupied' AND r.encounter_id = $2",
            mother,
            child,
        )


# ---- announced moves -------------------------------------------------------------------------------------------------


async def announced(hospital: Hospital, stay: str, ward: str = "3B") -> dict[str, Any]:
    """Announce a move for in an hour and return the bed that is held for it."""
    target = await free_bed(hospital, ward)
    at = hospital.clock.at + timedelta(hours=1)  # type: ignore[attr-defined]
    await hospital.do(f"/beds/encounters/{stay}/announced-transfer", to(target, planned_at=at.isoformat()))
    return target


async def test_an_announced_move_holds_the_new_bed_until_the_patient_moves(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    old = await hospital.bed_of(stay)
    target = await announced(hospital, stay)
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "held"
    assert (await hospital.bed_of(stay))["bed_id"] == old["bed_id"], "the patient still lies in the old bed"
    await the_log_says_what_the_board_shows(hospital)
    other = await free_bed(hospital, "3B")
    assert await hospital.refused(f"/beds/encounters/{stay}/transfer", to(other)) == "move_announced"
    for ward in (old["ward"], "3B"):
        await hospital.look()
        [move] = (await hospital.see(f"/beds/wards/{ward}/work"))["moves"]
        assert (move["from_code"], move["to_code"], move["state"]) == (old["bed_code"], target["code"], "announced")
    later(hospital, minutes=50)
    moved = await hospital.do(f"/beds/encounters/{stay}/announced-transfer-completion")
    assert moved["bed_code"] == target["code"]
    assert (await bed(hospital, old["bed_id"]))["condition"] == "H"
    assert (await hospital.see(f"/admission/encounters/{stay}"))["bed_id"] == target["bed_id"]
    assert (await hospital.see("/beds/moves"))["moves"] == []
    again = f"/beds/encounters/{stay}/announced-transfer-completion"
    assert await hospital.refused(again) == "no_move_announced"
    await the_log_says_what_the_board_shows(hospital)


async def test_an_announced_move_is_called_off_and_the_bed_is_free_again(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    target = await announced(hospital, stay)
    path = f"/beds/encounters/{stay}/announced-transfer-cancellation"
    await hospital.do(path, {"reason": "patient_unwell"})
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "free"
    assert await hospital.refused(path, {"reason": "patient_unwell"}) == "no_move_announced"
    await the_log_says_what_the_board_shows(hospital)


async def test_v16_a_swap_keeps_the_announced_move_of_a_patient(hospital: Hospital):
    first, second = await hospital.admit(**WANTED), await hospital.admit(specialty="cardiology")
    target = await announced(hospital, first)
    later(hospital, minutes=5)
    body = {"first_encounter_id": first, "second_encounter_id": second, "reason": "family_request"}
    await hospital.do("/beds/swaps", body)
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "held"
    await the_log_says_what_the_board_shows(hospital)
    later(hospital, minutes=5)
    await hospital.do(f"/beds/encounters/{first}/announced-transfer-completion")
    assert (await hospital.bed_of(first))["bed_id"] == target["bed_id"]
    await the_log_says_what_the_board_shows(hospital)


async def test_a_move_that_does_not_happen_in_time_frees_its_bed(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    target = await announced(hospital, stay)
    await hospital.sql("beds", "UPDATE bed_claim SET hold_expires = now() WHERE bed_id = $1", target["bed_id"])
    await hospital.turn_timers()
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "free"
    [fact] = await told(hospital, "AnnouncedTransferCancelled")
    assert (fact["bed_id"], fact["reason"]) == (target["bed_id"], "hold_expired")


async def test_who_goes_home_needs_no_announced_bed_any_more(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    target = await announced(hospital, stay)
    await hospital.do(f"/admission/encounters/{stay}/discharge")
    assert (await bed(hospital, target["bed_id"]))["commitment"] == "free"
    await the_log_says_what_the_board_shows(hospital)


# ---- taken back ------------------------------------------------------------------------------------------------------


async def test_a_transfer_that_never_counted_leaves_the_patient_where_the_patient_was_all_the_time(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    old = await hospital.bed_of(stay)
    later(hospital, hours=2)
    target = await free_bed(hospital, "3B")
    await hospital.do(f"/beds/encounters/{stay}/transfer", to(target))
    later(hospital, minutes=10)
    path = f"/beds/encounters/{stay}/transfer-cancellation"
    await hospital.do(path, {"reason": "wrong_patient", "lay_in_it": False})
    assert (await hospital.bed_of(stay))["bed_id"] == old["bed_id"]
    before, after = await bed(hospital, old["bed_id"]), await bed(hospital, target["bed_id"])
    assert (before["commitment"], before["condition"], before["cleaning"]) == ("active", "O", None)
    assert (after["commitment"], after["condition"]) == ("free", "U")
    claims = await hospital.sql("beds", "SELECT * FROM bed_claim WHERE encounter_id = $1 AND state <> 'released'", stay)
    assert [(claim["bed_id"], claim["during"].upper) for claim in claims] == [(old["bed_id"], None)]
    assert (await hospital.see(f"/admission/encounters/{stay}"))["ward"] == old["ward"]
    assert await hospital.refused(path, {"reason": "wrong_patient", "lay_in_it": False}) == "no_transfer"
    await the_log_says_what_the_board_shows(hospital)


async def charged_for(hospital: Hospital, stay: str) -> list[tuple[str | None, Any, Any]]:
    """Return the beds a stay pays for: what kind, from when, until when (nothing: still)."""
    rows = await hospital.sql("billing", "SELECT * FROM bed_fact WHERE encounter_id = $1", stay)
    came = [
        CameToBed(row["version"], row["at"], row["bed_id"], row["ward"], row["accommodation"])
        for row in rows
        if row["kind"] == "came"
    ]
    left = [LeftBed(row["bed_id"], row["at"]) for row in rows if row["kind"] == "left"]
    now = hospital.clock.at  # type: ignore[attr-defined]
    return [(lay.accommodation, lay.start, lay.end) for lay in bed_intervals(came, left, until=now)]


async def test_v11_a_transfer_that_never_counted_and_a_newborns_share_cost_no_bed_day(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    begin = hospital.clock.at  # type: ignore[attr-defined]
    later(hospital, hours=20)
    ward = (await hospital.bed_of(mother))["ward"]
    [single] = await hospital.sql(
        "beds",
        "SELECT * FROM bed WHERE ward = $1 AND class = 'single' AND NOT isolation AND commitment = 'free' LIMIT 1",
        ward,
    )
    await hospital.do(f"/beds/encounters/{mother}/transfer", to(dict(single), override=True))
    later(hospital, hours=20)
    before = await charged_for(hospital, mother)
    assert [kind for kind, _, _ in before] == ["standard", "single"]
    body = {"reason": "wrong_patient", "lay_in_it": False}
    await hospital.do(f"/beds/encounters/{mother}/transfer-cancellation", body)
    after = await charged_for(hospital, mother)
    assert {kind for kind, _, _ in after} == {"standard"}
    assert (after[0][1], after[-1][2]) == (begin, hospital.clock.at)  # type: ignore[attr-defined]
    assert await charged_for(hospital, child) == []


async def test_a_bed_somebody_lay_in_is_cleaned_although_the_transfer_never_counted(hospital: Hospital):
    mother, child, _ = await rooming_in(hospital)
    old = await hospital.bed_of(mother)
    later(hospital, hours=2)
    target = await free_bed(hospital, old["ward"])
    await hospital.do(f"/beds/encounters/{mother}/transfer", to(target))
    later(hospital, minutes=10)
    body = {"reason": "wrong_patient", "lay_in_it": True}
    await hospital.do(f"/beds/encounters/{mother}/transfer-cancellation", body)
    assert (await bed(hospital, target["bed_id"]))["condition"] == "H"
    assert (await hospital.bed_of(child))["bed_id"] == old["bed_id"]
    await the_log_says_what_the_board_shows(hospital)


async def test_a_transfer_is_not_taken_back_into_a_bed_that_is_being_cleaned_or_somebody_elses(hospital: Hospital):
    await hospital.sql(
        "beds",
        "UPDATE bed SET service = 'suspended', suspended_reason = 'repair' WHERE room NOT IN ('3A-R03', '3A-R04')",
    )
    await hospital.look()
    stay = await hospital.admit(**WANTED)
    old = await hospital.bed_of(stay)
    later(hospital, hours=2)
    [target] = await hospital.sql("beds", "SELECT * FROM bed WHERE service = 'active' AND bed_id <> $1", old["bed_id"])
    await hospital.do(f"/beds/encounters/{stay}/transfer", to(dict(target)))
    later(hospital, minutes=10)
    path, body = f"/beds/encounters/{stay}/transfer-cancellation", {"reason": "wrong_patient", "lay_in_it": False}
    await hospital.do(f"/beds/beds/{old['bed_id']}/cleaning-start")
    assert await hospital.refused(path, body) == "being_cleaned"
    await hospital.do(f"/beds/beds/{old['bed_id']}/cleaning-done")
    later(hospital, minutes=1)
    other = await hospital.admit(await hospital.register_patient(sex="male"), **WANTED)
    assert (await hospital.bed_of(other))["bed_id"] == old["bed_id"]
    assert await hospital.refused(path, body) == "old_bed_gone"


async def test_a_leave_and_its_end_are_taken_back(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    lies_in = (await hospital.bed_of(stay))["bed_id"]
    path = f"/beds/encounters/{stay}"
    assert await hospital.refused(f"{path}/leave-cancellation", WRONG) == "not_on_leave"
    assert await hospital.refused(f"{path}/leave-end-cancellation", WRONG) == "no_leave_ended"
    await hospital.do(f"{path}/leave", {"until": "2026-03-03T18:00:00+08:00"})
    await hospital.do(f"{path}/leave-cancellation", WRONG)
    assert (await bed(hospital, lies_in))["commitment"] == "active"
    assert await hospital.refused(f"{path}/leave-end-cancellation", WRONG) == "no_leave_ended"
    later(hospital, minutes=5)
    await hospital.do(f"{path}/leave", {"until": "2026-03-03T18:00:00+08:00"})
    target = await free_bed(hospital, "3B")
    assert await hospital.refused(f"{path}/transfer", to(target)) == "on_leave"
    await hospital.do(f"{path}/leave-end")
    await hospital.do(f"{path}/leave-end-cancellation", WRONG)
    assert (await bed(hospital, lies_in))["commitment"] == "leave"
    assert await hospital.refused(f"{path}/leave-end-cancellation", WRONG) == "no_leave_ended"
    await hospital.do(f"{path}/leave-end")
    later(hospital, minutes=5)
    await hospital.do(f"{path}/transfer", to(await free_bed(hospital, "3B")))
    assert await hospital.refused(f"{path}/leave-end-cancellation", WRONG) == "no_leave_ended"
    await the_log_says_what_the_board_shows(hospital)


# ---- wards that say nothing, patients from afar, broken beds ------------------------------------------------------------


async def test_a_ward_that_says_nothing_is_brought_before_the_bed_managers_once(hospital: Hospital):
    silent = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    heard = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    await hospital.do(f"/beds/encounters/{heard}/acceptance")
    later(hospital, minutes=29)
    await hospital.turn_timers()
    assert (await hospital.see("/beds/escalations"))["escalations"] == []
    later(hospital, minutes=2)
    await hospital.turn_timers()
    await hospital.turn_timers()
    [row] = (await hospital.see("/beds/escalations"))["escalations"]
    assert row["encounter_id"] == silent
    assert [fact["encounter_id"] for fact in await told(hospital, "AssignmentEscalated")] == [silent]
    await hospital.do(f"/beds/encounters/{silent}/acceptance")
    assert (await hospital.see("/beds/escalations"))["escalations"] == []
    assert await hospital.refused(f"/beds/encounters/{await hospital.admit()}/acceptance") == "nothing_held"


async def test_a_patient_from_afar_has_the_bed_held_longer(hospital: Hospital):
    near = await hospital.request_stay(await hospital.register_patient(), **WANTED)
    far = await hospital.request_stay(await hospital.register_patient(), **WANTED, travel_minutes=90)
    very_far = await hospital.request_stay(await hospital.register_patient(), **WANTED, travel_minutes=2000)
    held = [
        row["minutes"]
        for stay in (near, far, very_far)
        for row in await hospital.sql(
            "beds",
            "SELECT round(extract(epoch FROM hold_expires - clock_timestamp()) / 60)::int AS minutes FROM bed_claim WHERE encounter_id = $1",
            stay,
        )
    ]
    assert held == [240, 330, 600]


async def test_who_lies_in_a_bed_that_breaks_down_gets_another_one_first_of_all(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    old = await hospital.bed_of(stay)
    await hospital.do(f"/beds/beds/{old['bed_id']}/block", {"reason": "repair"})
    [move] = (await hospital.see("/beds/moves"))["moves"]
    assert (move["encounter_id"], move["state"], move["urgent"]) == (stay, "wanted", True)
    assert [fact["reason"] for fact in await told(hospital, "TransferRequested")] == ["breakdown"]
    await hospital.turn_timers()
    [move] = (await hospital.see("/beds/moves"))["moves"]
    assert move["state"] == "announced"
    call_off = f"/beds/encounters/{stay}/announced-transfer-cancellation"
    await hospital.do(call_off, {"reason": "plan_changed"})
    [move] = (await hospital.see("/beds/moves"))["moves"]
    assert move["state"] == "wanted", "the bed is still broken"
    await hospital.turn_timers()
    later(hospital, minutes=5)
    await hospital.do(f"/beds/encounters/{stay}/announced-transfer-completion")
    left = await bed(hospital, old["bed_id"])
    assert (left["service"], left["condition"]) == ("suspended", "H")
    await the_log_says_what_the_board_shows(hospital)


async def test_a_bed_that_is_repaired_under_its_patient_asks_nobody_to_move(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    lies_in = (await hospital.bed_of(stay))["bed_id"]
    await hospital.do(f"/beds/beds/{lies_in}/block", {"reason": "repair"})
    await hospital.do(f"/beds/beds/{lies_in}/unblock")
    assert (await hospital.see("/beds/moves"))["moves"] == []
    await hospital.turn_timers()
    assert await told(hospital, "TransferAnnounced") == []


async def test_the_release_of_a_partners_bed_is_told_once_a_day(hospital: Hospital):
    await hospital.sql("beds", "UPDATE bed SET quota = 'hexi_health_centre' WHERE code = '3A-05'")
    hospital.clock.at = hospital.clock.at.replace(hour=5, minute=59)  # type: ignore[attr-defined]
    await hospital.turn_timers()
    assert await told(hospital, "QuotaReleased") == []
    for _ in range(2):
        hospital.clock.at = hospital.clock.at.replace(hour=6, minute=0)  # type: ignore[attr-defined]
        await hospital.turn_timers()
        await hospital.turn_timers()
        later(hospital, days=1)
    assert [fact["partner"] for fact in await told(hospital, "QuotaReleased")] == ["hexi_health_centre"] * 2


# ---- the way home ----------------------------------------------------------------------------------------------------


async def steps_of(hospital: Hospital, stay: str) -> dict[str, dict[str, Any]]:
    await hospital.look()
    work = await hospital.see(f"/beds/wards/{(await hospital.bed_of(stay))['ward']}/work")
    [lying] = [row for row in work["lying"] if row["encounter_id"] == stay]
    return {step["code"]: step for step in lying["milestones"]}


async def test_bed_11_the_ward_sees_which_step_on_the_way_home_is_late_and_why(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    path = f"/beds/encounters/{stay}"
    assert {step["code"] for step in (await hospital.see("/beds/milestones"))["steps"]} == set(
        await steps_of(hospital, stay)
    )
    at = (hospital.clock.at + timedelta(hours=3, minutes=30)).isoformat()  # type: ignore[attr-defined]
    await hospital.do(f"{path}/expected-leaving", {"at": at, "reason": "recovers_well"})
    steps = await steps_of(hospital, stay)
    assert steps["transport_arranged"]["state"] == "late"
    assert steps["discharge_ordered"]["state"] == "due"
    assert steps["medication_ready"]["state"] == "open"
    await hospital.do(f"{path}/milestones/transport_arranged/delay", {"reason": "awaiting_family"})
    assert (await steps_of(hospital, stay))["transport_arranged"]["delay_reason"] == "awaiting_family"
    await hospital.do(f"{path}/milestones/transport_arranged")
    assert await hospital.refused(f"{path}/milestones/transport_arranged") == "reached_already"
    assert (await steps_of(hospital, stay))["transport_arranged"]["state"] == "reached"
    await hospital.do(f"{path}/milestones/transport_arranged/cancellation", WRONG)
    assert await hospital.refused(f"{path}/milestones/transport_arranged/cancellation", WRONG) == "not_reached"
    await hospital.do(f"/admission/encounters/{stay}/discharge-order")
    later(hospital, minutes=61)
    steps = await steps_of(hospital, stay)
    assert steps["discharge_ordered"]["state"] == "reached"
    assert (steps["medication_ready"]["state"], steps["bill_ready"]["state"]) == ("late", "due")
    assert await hospital.refused(f"{path}/milestones/discharge_ordered") == "ordered_by_doctor"
    assert await hospital.refused(f"{path}/milestones/nothing") == "no_such_milestone"
    assert await hospital.refused(f"{path}/milestones/bill_ready/delay", {"reason": "bored"}) == "no_such_reason"
    assert await hospital.refused(f"{path}/expected-leaving", {"at": at, "reason": "other"}) == "ordered_already"


async def test_the_expected_day_of_leaving_comes_back_when_the_order_is_taken_back(hospital: Hospital):
    stay = await hospital.admit(**WANTED)
    at = hospital.clock.at + timedelta(days=2)  # type: ignore[attr-defined]
    path = f"/beds/encounters/{stay}/expected-leaving"
    past = (hospital.clock.at - timedelta(minutes=1)).isoformat()  # type: ignore[attr-defined]
    assert await hospital.refused(path, {"at": past, "reason": "other"}) == "time_is_past"
    await hospital.do(path, {"at": at.isoformat(), "reason": "recovers_slowly"})
    await hospital.do(f"/admission/encounters/{stay}/discharge-order")
    await hospital.do(f"/admission/encounters/{stay}/discharge-order-undo", WRONG)
    assert (await bed(hospital, (await hospital.bed_of(stay))["bed_id"]))["until"] == at
