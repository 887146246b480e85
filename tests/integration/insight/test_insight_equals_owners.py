"""Rebuilt from the topics alone, census and journeys in flight equal what the owners' tables say."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from services.insight.domain import Views
from shared.clock import FrozenClock
from shared.contracts.envelope import Envelope
from shared.contracts.registry import EVENTS
from tests.conftest import Databases
from tests.support.hospital import Hospital, opened_hospital

pytestmark = pytest.mark.asyncio

CENSUS = """
SELECT b.ward, count(DISTINCT b.bed_id)::int AS beds,
       count(*) FILTER (WHERE c.state = 'occupied')::int AS occupied, count(*) FILTER (WHERE c.state = 'held')::int AS held
FROM bed b LEFT JOIN bed_claim c ON c.bed_id = b.bed_id AND c.state IN ('occupied', 'held')
GROUP BY b.ward
"""
STAYS = """
SELECT state, count(*)::int AS count FROM encounter
WHERE state NOT IN ('discharged', 'cancelled', 'admission_cancelled') GROUP BY state
"""
CASES = """
SELECT state, count(*)::int AS count FROM day_case
WHERE state NOT IN ('discharged', 'converted', 'cancelled') GROUP BY state
"""


@pytest_asyncio.fixture
async def hospital(databases: Databases) -> AsyncIterator[Hospital]:
    async with opened_hospital(databases) as opened:
        yield opened


def rebuilt(hospital: Hospital) -> Views:
    """Return fresh views of everything the broker holds."""
    views = Views({}, {})
    for records in hospital.broker.logs.values():
        for record in records:
            if record.topic.endswith((".parked.v1", ".resync.v1")):
                continue
            envelope = Envelope(record.topic, record.partition, record.offset, record.headers)
            if (known := EVENTS.get(envelope.ce_type)) is not None:
                views.apply(known.model_validate_json(record.value or b""), envelope.version)
    return views


async def owners_say(hospital: Hospital) -> tuple[dict[str, Any], dict[str, Any]]:
    census = {
        row["ward"]: {"beds": row["beds"], "occupied": row["occupied"], "held": row["held"]}
        for row in await hospital.sql("beds", CENSUS)
    }
    stays = {row["state"]: row["count"] for row in await hospital.sql("admission", STAYS)}
    cases = {row["state"]: row["count"] for row in await hospital.sql("daysurgery", CASES)}
    return census, {"inpatient": stays, "day_surgery": cases}


async def assert_equal(hospital: Hospital) -> None:
    await hospital.drain()
    views = rebuilt(hospital)
    census, journeys = await owners_say(hospital)
    assert views.census() == census
    shown = views.journeys_in_flight()
    assert {"inpatient": shown.get("inpatient", {}), "day_surgery": shown.get("day_surgery", {})} == journeys


async def test_rebuilt_views_equal_the_owners_tables_through_every_step_and_its_undo(hospital: Hospital):
    waiting = await hospital.request_stay(await hospital.register_patient())
    cancelled = await hospital.request_stay(await hospital.register_patient())
    await assert_equal(hospital)
    await hospital.do(f"/admission/encounters/{cancelled}/cancellation", {"reason": "patient"})
    lying = await hospital.admit()
    never = await hospital.admit()
    await hospital.do(f"/admission/encounters/{never}/admission-cancellation", {"reason": "mistake"})
    await assert_equal(hospital)
    leaving = await hospital.admit()
    await hospital.do(f"/admission/encounters/{leaving}/discharge-order")
    await assert_equal(hospital)
    await hospital.do(f"/admission/encounters/{leaving}/discharge", {"disposition": "1"})
    await assert_equal(hospital)
    await hospital.do(f"/admission/encounters/{leaving}/discharge-cancellation", {"reason": "recall"})
    await assert_equal(hospital)
    census, journeys = await owners_say(hospital)
    assert sum(ward["occupied"] for ward in census.values()) >= 2
    assert journeys["inpatient"]["admitted"] == 2
    assert waiting != lying


async def test_rebuilt_views_equal_the_owners_tables_for_day_cases_and_conversions(hospital: Hospital):
    assert isinstance(hospital.clock, FrozenClock)
    now = hospital.clock.at
    cases = []
    for _ in range(3):
        patient = await hospital.register_patient()
        case = await hospital.do("/daysurgery/cases", {"patient_tok": patient, "procedure": "73761001"})
        cases.append(case["case_id"])
    await assert_equal(hospital)
    slot = {"starts_at": now.isoformat(), "ends_at": (now + timedelta(hours=6)).isoformat()}
    for case in cases:
        await hospital.do(f"/daysurgery/cases/{case}/booking", slot)
    await assert_equal(hospital)
    for case in cases[:2]:
        await hospital.do(f"/daysurgery/cases/{case}/arrival")
    await hospital.do(f"/daysurgery/cases/{cases[0]}/operation-start")
    await assert_equal(hospital)
    await hospital.do(f"/daysurgery/cases/{cases[1]}/conversion", {"specialty": "general"})
    await assert_equal(hospital)
    await hospital.do(f"/daysurgery/cases/{cases[0]}/operation-end")
    await hospital.do(f"/daysurgery/cases/{cases[0]}/discharge", {"disposition": "1"})
    await hospital.do(f"/daysurgery/cases/{cases[2]}/cancellation", {"by": "patient", "reason": "fever"})
    await assert_equal(hospital)
    _, journeys = await owners_say(hospital)
    assert journeys == {"inpatient": {"admitted": 1}, "day_surgery": {}}
