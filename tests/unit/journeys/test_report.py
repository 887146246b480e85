"""What a replay answers: every journey is counted in exactly one way, and money only where something was done."""

from dataclasses import replace

import pytest

from infra.cli.replay import Report
from infra.journeys.fhir import Reading
from infra.journeys.model import Journey, Refused
from infra.journeys.player import Played
from infra.journeys.quiet import Standing
from tests.unit.journeys.bundles import Folder, a_claim, a_patient, an_encounter

FIELDS = {
    "bundles", "patients", "journeys", "charges", "settled_fen", "refunded_fen", "beds", "follow_up", "events",
    "seconds", "journeys_per_second", "quiet", "parked", "audit",
}  # fmt: skip


@pytest.fixture
def journey(folder: Folder) -> Journey:
    return folder.read(a_patient(), an_encounter(), a_claim(100)).journeys[0]


def a_report(
    *played: Played, refused: tuple[Refused, ...] = (), parked: int = 0, lag: int = 0, ok: bool = True
) -> Report:
    reading = Reading(1, 1, tuple(one.journey for one in played), refused)
    audit = {"ok": ok, "checks": [{"ok": ok}], "violations": 0 if ok else 2}
    return Report(reading, played, Standing(0, lag, 3 + parked), 3, {"x": 1}, 2.0, audit)


def completed(journey: Journey) -> Played:
    return Played(
        journey, "completed", anything_new=True, lines=1, charged_fen=10_000, settled_fen=10_000, had_bed=True,
        left_bed=True, plans=1, tasks=3,
    )  # fmt: skip


def test_every_journey_is_counted_in_one_way(journey: Journey):
    still = replace(journey, ends_at=None)
    known = Played(journey, "already_known", lines=1, charged_fen=10_000, settled_fen=10_000, had_bed=True)
    stopped = Played(journey, "refused", reason="admitted: no", no_bed=True)
    report = a_report(completed(journey), Played(still, "still_admitted", anything_new=True), known, stopped)
    answer = report.as_json()
    assert set(answer) == FIELDS
    hows = answer["journeys"]
    assert hows["inpatient"] + hows["day_surgery"] == 4
    assert hows["completed"] + hows["still_admitted"] + hows["already_known"] + len(hows["refused"]) == 4
    assert hows["refused"] == [{"file": journey.file, "id": journey.encounter_id, "reason": "admitted: no"}]
    assert answer["charges"] == {"lines": 1, "sum_fen": 10_000}
    assert answer["beds"] == {"assigned": 1, "released": 1, "peak_occupied": 1, "refused_no_bed": 1}
    assert answer["follow_up"] == {"plans": 1, "tasks": 3}
    assert answer["journeys_per_second"] == 2.0


def test_known_journeys_count_no_money(journey: Journey):
    answer = a_report(Played(journey, "already_known", lines=1, charged_fen=5, settled_fen=5, had_bed=True)).as_json()
    assert (answer["charges"]["sum_fen"], answer["settled_fen"], answer["beds"]["assigned"]) == (0, 0, 0)


def test_all_is_right_only_when_everything_is(journey: Journey):
    done = completed(journey)
    assert a_report(done).is_right
    assert not a_report(done, ok=False).is_right
    assert not a_report(done, parked=1).is_right
    assert not a_report(done, lag=1).is_right
    assert not a_report(done, refused=(Refused("f", None, "broken"),)).is_right
    assert not a_report(done, Played(journey, "refused", reason="no")).is_right
