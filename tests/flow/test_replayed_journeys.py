"""Journeys from bundles, played through the real doors of all five services: to the fen, once, and on from where they stopped."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from infra.journeys import client as client_module
from infra.journeys.catalogue import read_rules
from infra.journeys.client import Answer, Client, Unreachable
from infra.journeys.fhir import find_files, read
from infra.journeys.model import Journey
from infra.journeys.player import Played, Player, play_all
from services.admission.consumers import on_bed_occupied
from shared.contracts.beds import BedOccupied
from shared.db import transaction
from tests.support.envelopes import envelope_for
from tests.support.hospital import Hospital
from tests.unit.journeys.bundles import BERT, Folder, a_claim, a_patient, a_procedure, an_encounter, uuid

pytestmark = pytest.mark.asyncio
DEMO = Path(__file__).resolve().parents[2] / "data" / "synthea"
RULES = read_rules()


@pytest_asyncio.fixture
async def addresses(hospital: Hospital) -> AsyncIterator[dict[str, str]]:
    """Every service on a port of its own, and events that flow by themselves."""
    servers: dict[str, uvicorn.Server] = {}
    tasks: list[asyncio.Task[None]] = []
    for name, app in hospital.apps.items():
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws="none")
        servers[name] = uvicorn.Server(config)
        tasks.append(asyncio.create_task(servers[name]._serve()))  # serve() would take the test run's signals
    while not all(server.started for server in servers.values()):  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)

    one_at_a_time, drain = asyncio.Lock(), hospital.drain

    async def drained(*, parked_is_fine: bool = False) -> None:
        async with one_at_a_time:
            await drain(parked_is_fine=parked_is_fine)

    hospital.drain = drained  # type: ignore[method-assign]

    async def flow() -> None:
        while True:
            await hospital.drain()
            await asyncio.sleep(0.005)

    flowing = asyncio.create_task(flow())
    ports = {name: server.servers[0].sockets[0].getsockname()[1] for name, server in servers.items()}
    yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    flowing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flowing
    for server in servers.values():
        server.should_exit = True
    await asyncio.gather(*tasks)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder for bundles."""
    return Folder(tmp_path)


@pytest_asyncio.fixture
async def client(addresses: dict[str, str]) -> AsyncIterator[Client]:
    """Somebody with every right."""
    made = Client(addresses, token="all")
    yield made
    await made.close()


async def played(client: Client, *journeys: Journey) -> list[Played]:
    return await play_all(journeys, Player(client, RULES.deposits).play, in_flight=4)


async def events(hospital: Hospital) -> Counter[str]:
    await hospital.drain()
    found: Counter[str] = Counter()
    for service in hospital.runtimes:
        rows = await hospital.sql(service, "SELECT type FROM outbox")
        found.update(row["type"].split(".")[2] for row in rows)
    return found


async def charged_fen(hospital: Hospital) -> dict[str, int]:
    """What each stay of the sender was charged, straight from the ledger."""
    names = {
        str(row["encounter_id"]): row["identifier_value"]
        for service, table in (("admission", "encounter"), ("daysurgery", "day_case"))
        for row in await hospital.sql(service, f"SELECT encounter_id, identifier_value FROM {table}")
    }
    rows = await hospital.sql(
        "billing",
        "SELECT a.encounter_id, coalesce(sum(l.fen) FILTER (WHERE e.kind = 'charge' AND l.fen > 0), 0)::bigint AS fen"
        " FROM account a LEFT JOIN entry e ON e.account_id = a.id LEFT JOIN line l ON l.entry_id = e.id GROUP BY 1",
    )
    return {names[str(row["encounter_id"])]: int(row["fen"]) for row in rows}


async def test_the_first_demo_patients_are_played_to_the_fen_and_known_afterwards(hospital: Hospital, client: Client):
    journeys = read(find_files([DEMO]), RULES).journeys[:12]
    assert {journey.kind for journey in journeys} == {"inpatient", "day_surgery"}
    first = await played(client, *journeys)
    assert {(one.how, one.reason) for one in first} == {("completed", "")}
    assert all(one.settled_fen == one.charged_fen == one.journey.claimed_fen for one in first)
    assert all(one.had_bed and one.left_bed for one in first)
    assert any(one.refunded_fen for one in first)
    assert await charged_fen(hospital) == {journey.encounter_id: journey.claimed_fen for journey in journeys}
    (beds,) = await hospital.sql(
        "beds", "SELECT count(*) FILTER (WHERE condition <> 'U' OR commitment <> 'free') AS n FROM bed"
    )
    assert beds["n"] == 0
    before = await events(hospital)
    again = await played(client, *journeys)
    assert {one.how for one in again} == {"already_known"}
    assert await events(hospital) == before


async def test_times_of_the_bundle_are_kept(hospital: Hospital, client: Client, folder: Folder):
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(100)).journeys
    (one,) = await played(client, journey)
    (stay,) = await hospital.sql("admission", "SELECT * FROM encounter")
    assert (stay["admitted_at"], stay["discharged_at"]) == (journey.starts_at, journey.ends_at)
    sources = await hospital.sql("admission", "SELECT DISTINCT source FROM outbox")
    assert [row["source"] for row in sources] == ["import"]
    assert str(stay["encounter_id"]) == one.encounter_id


async def test_a_stay_without_an_end_stays_and_is_taken_on_when_the_end_is_known(
    hospital: Hospital, client: Client, folder: Folder
):
    (still_there,) = folder.read(a_patient(), an_encounter(end=None), a_claim(100)).journeys
    assert [one.how for one in await played(client, still_there)] == ["still_admitted"]
    assert [one.how for one in await played(client, still_there)] == ["already_known"]
    (ended,) = folder.read(a_patient(), an_encounter(), a_claim(100), a_claim(7, claim_id=uuid(901))).journeys
    (one,) = await played(client, ended)
    assert (one.how, one.settled_fen) == ("completed", 10_700)
    assert await charged_fen(hospital) == {uuid(1): 10_700}


async def test_a_death_is_settled_by_the_family_and_followed_up_by_nobody(
    hospital: Hospital, client: Client, folder: Folder
):
    (journey,) = folder.read(a_patient(deceasedDateTime="2015-03-04"), an_encounter(), a_claim(100)).journeys
    (one,) = await played(client, journey)
    assert (one.how, one.plans, one.settled_fen) == ("completed", 0, 10_000)
    (stay,) = await hospital.sql("admission", "SELECT disposition FROM encounter")
    assert stay["disposition"] == "5"
    assert not await hospital.sql("followup", "SELECT 1 FROM plan")


async def test_a_day_case_of_a_few_minutes_gets_half_an_hour(hospital: Hospital, client: Client, folder: Folder):
    visit = an_encounter(code="AMB", start="2015-03-01T08:00:00Z", end="2015-03-01T08:10:00Z")
    (journey,) = folder.read(a_patient(), visit, a_procedure(), a_claim(20)).journeys
    (one,) = await played(client, journey)
    assert (one.how, one.reason, one.settled_fen) == ("completed", "", 2000)
    (case,) = await hospital.sql("daysurgery", "SELECT starts_at, ends_at, ended_at FROM day_case")
    assert (case["ends_at"] - case["starts_at"]).total_seconds() == 1800
    assert case["ended_at"] == journey.ends_at


async def test_a_stay_without_claims_costs_nothing_and_gives_the_deposit_back(client: Client, folder: Folder):
    (journey,) = folder.read(a_patient(), an_encounter()).journeys
    (one,) = await played(client, journey)
    deposit = RULES.deposits["self_pay"].amount_fen
    assert (one.how, one.settled_fen, one.refunded_fen) == ("completed", 0, deposit)


async def test_a_stay_the_hospital_refuses_stops_nobody_else_and_holds_no_bed(
    hospital: Hospital, client: Client, folder: Folder
):
    overlapping = an_encounter(uuid(2), start="2015-03-02T00:00:00Z", end="2015-03-09T00:00:00Z")
    journeys = folder.read(
        a_patient(), a_patient(BERT), an_encounter(), overlapping, an_encounter(uuid(3), patient=BERT)
    ).journeys
    first = {one.journey.encounter_id: one for one in await played(client, *journeys)}
    assert {name: one.how for name, one in first.items()} == {
        uuid(1): "completed",
        uuid(2): "refused",
        uuid(3): "completed",
    }
    assert first[uuid(2)].reason.startswith("admitted: ")
    assert "overlapping_stay" in first[uuid(2)].reason
    before = await events(hospital)
    assert not await hospital.sql("beds", "SELECT 1 FROM bed WHERE commitment <> 'free'")
    (refused,) = [one for one in await played(client, *journeys) if one.how == "refused"]
    assert "earlier run" in refused.reason
    assert await events(hospital) == before


async def test_a_full_hospital_refuses_with_the_reason_the_pool_gives(
    hospital: Hospital, client: Client, folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client_module, "WAIT_SECONDS", 1)
    await hospital.sql(
        "beds", "UPDATE bed SET service = 'suspended', suspended_reason = 'repair' WHERE kind = 'inpatient'"
    )
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(100)).journeys
    (one,) = await played(client, journey)
    assert (one.how, one.no_bed, one.had_bed) == ("refused", True, False)
    assert "The pool says no_free_bed." in one.reason
    await hospital.drain()
    assert not await hospital.sql("beds", "SELECT 1 FROM bed_request WHERE state = 'waiting'")


async def test_a_pool_that_hears_late_of_a_stay_is_asked_again_why_it_has_no_bed(
    hospital: Hospital, client: Client, folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client_module, "WAIT_SECONDS", 1)
    await hospital.sql(
        "beds", "UPDATE bed SET service = 'suspended', suspended_reason = 'repair' WHERE kind = 'inpatient'"
    )
    drain, why_no_bed = hospital.drain, Player._why_no_bed
    asked: list[str | None] = []

    async def after_the_first_question() -> None:
        if asked:
            await drain()

    async def why(player: Player, visit: Any) -> str | None:
        asked.append(await why_no_bed(player, visit))
        return asked[-1]

    monkeypatch.setattr(hospital, "drain", after_the_first_question)
    monkeypatch.setattr(Player, "_why_no_bed", why)
    await drain()  # one that was on its way would still hear
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(100)).journeys
    (one,) = await asyncio.wait_for(played(client, journey), 30)
    assert asked == [None, "no_free_bed"]
    assert (one.how, one.no_bed) == ("refused", True)
    assert "The pool says no_free_bed." in one.reason


class _Cut(Client):
    """A client whose line is cut for good after so many requests."""

    left = 0

    async def post(self, *args: Any, **more: Any) -> Answer:
        self.left -= 1
        if self.left < 0:
            raise Unreachable("cut")
        return await super().post(*args, **more)


async def test_a_journey_that_was_cut_off_anywhere_goes_on_from_there(
    hospital: Hospital, addresses: dict[str, str], client: Client, folder: Folder
):
    journeys: list[Journey] = []
    for number in range(1, 10):
        patient = a_patient(uuid(100 + number))
        stay = an_encounter(uuid(number), patient=uuid(100 + number))
        claim = a_claim(100, 30, encounter=uuid(number), claim_id=uuid(200 + number))
        (journey,) = folder.read(patient, stay, claim).journeys
        journeys.append(journey)
    for steps, journey in enumerate(journeys):
        cut = _Cut(addresses, token="all")
        cut.left = steps
        with contextlib.suppress(Unreachable):
            await Player(cut, RULES.deposits).play(journey)
        await cut.close()
    assert {one.how for one in await played(client, *journeys)} <= {"completed", "already_known"}
    assert await charged_fen(hospital) == {journey.encounter_id: 10_000 for journey in journeys}
    assert {one.how for one in await played(client, *journeys)} == {"already_known"}
    found = await events(hospital)
    assert found["PatientAdmitted"] == found["PatientDischarged"] == found["AccountSettled"] == len(journeys)
    assert found["BedCleaned"] == found["FollowUpPlanActivated"] == len(journeys)


async def test_a_bed_that_was_left_stays_left_when_it_is_told_late_that_it_was_taken(
    hospital: Hospital, client: Client, folder: Folder
):
    """Who lies in a bed and who left it are told in two topics; a fast replay has both within a millisecond."""
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(100)).journeys
    (one,) = await played(client, journey)
    await hospital.drain()
    (row,) = await hospital.sql("beds", "SELECT body::text AS body FROM outbox WHERE type LIKE '%.BedOccupied.%'")
    event = BedOccupied.model_validate_json(row["body"])
    async with transaction(hospital.runtimes["admission"].db) as tx:
        await on_bed_occupied(tx, event, envelope_for(event, at=event.occupied_at))
    stay = await hospital.see(f"/admission/encounters/{one.encounter_id}")
    assert stay["state"] == "closed"
