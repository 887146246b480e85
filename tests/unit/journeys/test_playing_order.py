"""Who is played when: in time order, side by side, but nobody twice at the same time."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from infra.cli.replay import peak
from infra.journeys.client import Unreachable
from infra.journeys.model import Journey
from infra.journeys.player import Played, play_all
from tests.unit.journeys.bundles import BERT, Folder, a_claim, a_patient, an_encounter, uuid


@pytest.fixture
def stay(folder: Folder) -> Journey:
    return folder.read(a_patient(), an_encounter(), a_claim(100)).journeys[0]


@pytest.fixture
def other_patient(folder: Folder) -> Journey:
    return folder.read(a_patient(BERT), an_encounter(patient=BERT)).journeys[0]


def moved(stay: Journey, days: int, number: int) -> Journey:
    assert stay.ends_at is not None
    by = timedelta(days=days)
    return replace(
        stay,
        encounter_id=uuid(number),
        reference=uuid(number),
        starts_at=stay.starts_at + by,
        ends_at=stay.ends_at + by,
    )


class Theatre:
    """Notes who was on stage with whom."""

    def __init__(self) -> None:
        self.here: list[Journey] = []
        self.began: list[str] = []
        self.ended: list[str] = []
        self.most = 0
        self.twice = False

    async def play(self, journey: Journey) -> Played:
        self.twice = self.twice or any(one.person == journey.person for one in self.here)
        self.here.append(journey)
        self.began.append(journey.encounter_id)
        self.most = max(self.most, len(self.here))
        await asyncio.sleep(0.001 * (len(self.began) % 3))
        self.here.remove(journey)
        self.ended.append(journey.encounter_id)
        return Played(journey, how="completed")


@pytest.mark.asyncio
async def test_one_patients_journeys_follow_each_other_while_others_go_on(stay: Journey, other_patient: Journey):
    journeys = [moved(stay if n % 3 else other_patient, n * 10, n) for n in range(30)]
    theatre = Theatre()
    played = await play_all(journeys, theatre.play, in_flight=4)
    assert [one.journey for one in played] == journeys
    assert theatre.began == [journey.encounter_id for journey in journeys]
    assert not theatre.twice
    assert theatre.most == 2


@pytest.mark.asyncio
async def test_no_more_journeys_are_in_flight_than_asked_for(stay: Journey):
    people = [
        replace(stay.person, identifier=replace(stay.person.identifier, value=str(number))) for number in range(20)
    ]
    journeys = [replace(moved(stay, n, n), person=person) for n, person in enumerate(people)]
    theatre = Theatre()
    await play_all(journeys, theatre.play, in_flight=3)
    assert theatre.most == 3
    assert theatre.began == [journey.encounter_id for journey in journeys]


@pytest.mark.asyncio
async def test_a_lost_service_stops_everything(stay: Journey):
    ended: list[str] = []

    async def play(journey: Journey) -> Played:
        if journey.encounter_id == uuid(2):
            raise Unreachable("gone")
        await asyncio.sleep(0.001)
        ended.append(journey.encounter_id)
        return Played(journey)

    with pytest.raises(ExceptionGroup) as caught:
        await play_all([moved(stay, n * 10, n) for n in range(1, 9)], play, in_flight=1)
    assert caught.group_contains(Unreachable)
    assert ended == [uuid(1)]


def test_the_peak_counts_who_lay_at_the_same_time(stay: Journey):
    assert stay.ends_at is not None
    assert peak([]) == 0
    assert peak([stay]) == 1
    assert peak([moved(stay, 0, 1), moved(stay, 2, 2), moved(stay, 100, 3)]) == 2
    follows = replace(stay, starts_at=stay.ends_at, ends_at=None)
    assert peak([stay, follows]) == 1
    assert peak([stay, follows, follows]) == 2
    assert peak([replace(stay, ends_at=stay.starts_at)]) == 1
