"""Census and journeys in flight are right whatever order the topics come in, and however often they are told."""

import random
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID, uuid4

import pytest

from services.insight.domain import OffsetsJumped, Progress, Versions, Views
from shared.contracts import admission, beds, daysurgery
from shared.contracts.envelope import Event

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
PATIENT = uuid4()


class House:
    """Tells what happened, each fact with the version its owner would give it."""

    def __init__(self) -> None:
        self.told: list[tuple[Event, int]] = []
        self._versions: dict[tuple[str, str], int] = {}

    def tell(self, event: Event) -> None:
        key = (event.topic.name, event.aggregate_id)
        self._versions[key] = self._versions.get(key, 0) + 1
        self.told.append((event, self._versions[key]))

    def bed(self, bed_id: int, ward: str = "ICU") -> None:
        self.tell(beds.BedAdded(bed_id=bed_id, bed_code=f"{ward}-{bed_id}", ward=ward, kind="inpatient"))

    def ask_for_a_bed(self, stay: UUID) -> None:
        self.tell(
            admission.PreAdmissionRegistered(
                encounter_id=stay,
                patient_tok=PATIENT,
                urgency="elective",
                specialty="general",
                payer_kind="self_pay",
                expected_admit_at=AT,
                expected_stay_days=3,
            )
        )
        self.tell(
            admission.BedRequested(
                encounter_id=stay,
                patient_tok=PATIENT,
                sex="female",
                age_years=40,
                specialty="general",
                urgency="elective",
                isolation="none",
                level_of_care="normal",
                from_at=AT,
                expected_stay_days=3,
            )
        )

    def assign(self, stay: UUID, bed_id: int, ward: str = "ICU") -> None:
        self.tell(
            beds.BedAssigned(
                encounter_id=stay, patient_tok=PATIENT, bed_id=bed_id, bed_code="x", ward=ward, held_until=AT
            )
        )

    def waitlist(self, stay: UUID) -> None:
        self.tell(beds.BedWaitlisted(encounter_id=stay, patient_tok=PATIENT, reason="no_free_bed"))

    def hold_expires(self, stay: UUID, bed_id: int) -> None:
        self.tell(beds.BedHoldExpired(encounter_id=stay, patient_tok=PATIENT, bed_id=bed_id))

    def admit(self, stay: UUID, bed_id: int, ward: str = "ICU") -> None:
        self.tell(
            admission.PatientAdmitted(
                encounter_id=stay,
                patient_tok=PATIENT,
                encounter_class="inpatient",
                payer_kind="self_pay",
                bed_id=bed_id,
                admitted_at=AT,
                emergency=False,
            )
        )
        self.occupy(stay, bed_id, ward)

    def occupy(self, stay: UUID, bed_id: int, ward: str = "ICU") -> None:
        self.tell(beds.BedOccupied(encounter_id=stay, patient_tok=PATIENT, bed_id=bed_id, ward=ward, occupied_at=AT))

    def vacate(self, stay: UUID, bed_id: int, ward: str = "ICU") -> None:
        self.tell(beds.BedVacated(bed_id=bed_id, encounter_id=stay, patient_tok=PATIENT, ward=ward, vacated_at=AT))

    def discharge(self, stay: UUID, bed_id: int, ward: str = "ICU") -> None:
        self.tell(admission.DischargeOrdered(encounter_id=stay, patient_tok=PATIENT, ordered_at=AT))
        self.tell(
            admission.PatientDischarged(
                encounter_id=stay, patient_tok=PATIENT, disposition="1", specialty="general", discharged_at=AT
            )
        )
        self.vacate(stay, bed_id, ward)

    def refer(self, case: UUID, stay: UUID) -> None:
        self.tell(
            daysurgery.DaySurgeryReferred(case_id=case, encounter_id=stay, patient_tok=PATIENT, procedure="73761001")
        )
        self.tell(
            daysurgery.DayBedRequested(
                case_id=case,
                encounter_id=stay,
                patient_tok=PATIENT,
                sex="male",
                age_years=50,
                starts_at=AT,
                ends_at=AT,
            )
        )

    def arrive(self, case: UUID, stay: UUID) -> None:
        self.tell(
            daysurgery.DaySurgeryArrived(
                case_id=case, encounter_id=stay, patient_tok=PATIENT, payer_kind="self_pay", arrived_at=AT
            )
        )

    def convert(self, case: UUID, stay: UUID, bed_id: int) -> None:
        self.tell(
            daysurgery.DaySurgeryConverted(
                case_id=case,
                encounter_id=stay,
                patient_tok=PATIENT,
                sex="male",
                age_years=50,
                specialty="general",
                payer_kind="self_pay",
                bed_id=bed_id,
                converted_at=AT,
            )
        )

    def views(self) -> Views:
        return seen(self.told)


def seen(told: list[tuple[Event, int]]) -> Views:
    views = Views({}, {})
    for event, version in told:
        views.apply(event, version)
    return views


@pytest.fixture
def house() -> House:
    return House()


def test_an_assigned_bed_is_held_and_a_bed_with_a_patient_is_occupied(house: House):
    house.bed(1)
    house.bed(2)
    mei, lan = uuid4(), uuid4()
    house.ask_for_a_bed(mei)
    house.assign(mei, 1)
    house.ask_for_a_bed(lan)
    house.assign(lan, 2)
    house.admit(lan, 2)
    assert house.views().census() == {"ICU": {"beds": 2, "occupied": 1, "held": 1}}
    assert house.views().journeys_in_flight() == {"inpatient": {"admitted": 1, "pending_admit": 1}}


def test_a_discharged_patient_leaves_the_census_and_the_journeys(house: House):
    house.bed(1)
    mei = uuid4()
    house.ask_for_a_bed(mei)
    house.assign(mei, 1)
    house.admit(mei, 1)
    house.discharge(mei, 1)
    assert house.views().census() == {"ICU": {"beds": 1, "occupied": 0, "held": 0}}
    assert house.views().journeys_in_flight() == {"inpatient": {}}


def test_a_patient_who_did_not_come_in_time_waits_again_and_the_bed_is_no_longer_held(house: House):
    mei = uuid4()
    house.ask_for_a_bed(mei)
    house.assign(mei, 1)
    house.hold_expires(mei, 1)
    assert house.views().census()["ICU"]["held"] == 0
    assert house.views().journeys_in_flight() == {"inpatient": {"waitlisted": 1}}


def test_a_bed_left_is_free_even_when_leaving_is_heard_of_before_coming(house: House):
    mei = uuid4()
    house.bed(1)
    house.vacate(mei, 1)
    house.occupy(mei, 1)
    assert house.views().census() == {"ICU": {"beds": 1, "occupied": 0, "held": 0}}


def test_a_recalled_discharge_puts_the_patient_back_into_the_bed(house: House):
    mei = uuid4()
    house.ask_for_a_bed(mei)
    house.assign(mei, 1)
    house.admit(mei, 1)
    house.discharge(mei, 1)
    house.tell(
        admission.DischargeCancelled(encounter_id=mei, patient_tok=PATIENT, reason="recall", bed_id=1, cancelled_at=AT)
    )
    house.occupy(mei, 1)
    assert house.views().census()["ICU"]["occupied"] == 1
    assert house.views().journeys_in_flight() == {"inpatient": {"admitted": 1}}


def test_a_day_case_that_became_a_stay_is_counted_as_a_stay_only(house: House):
    case, stay = uuid4(), uuid4()
    house.refer(case, stay)
    assert house.views().journeys_in_flight() == {"day_surgery": {"booking_asked": 1}}
    house.assign(stay, 9, "DAY")
    assert house.views().journeys_in_flight() == {"day_surgery": {"booked": 1}}
    house.arrive(case, stay)
    house.occupy(stay, 9, "DAY")
    assert house.views().journeys_in_flight() == {"day_surgery": {"arrived": 1}}
    house.convert(case, stay, 9)
    assert house.views().journeys_in_flight() == {"day_surgery": {}}
    house.tell(
        admission.PatientAdmitted(
            encounter_id=stay,
            patient_tok=PATIENT,
            encounter_class="inpatient",
            payer_kind="self_pay",
            bed_id=9,
            admitted_at=AT,
            emergency=False,
        )
    )
    assert house.views().journeys_in_flight() == {"day_surgery": {}, "inpatient": {"admitted": 1}}
    assert house.views().census()["DAY"] == {"beds": 0, "occupied": 1, "held": 0}


def a_busy_week(house: House, seed: int) -> None:
    chance = random.Random(seed)
    for bed_id in range(1, 9):
        house.bed(bed_id, "ICU" if bed_id < 4 else "MED")
    for bed_id in range(1, 9):
        ward = "ICU" if bed_id < 4 else "MED"
        for _ in range(chance.randint(1, 3)):
            stay = uuid4()
            house.ask_for_a_bed(stay)
            if chance.random() < 0.3:
                house.waitlist(stay)
            house.assign(stay, bed_id, ward)
            if chance.random() < 0.2:
                house.hold_expires(stay, bed_id)
                continue
            house.admit(stay, bed_id, ward)
            house.discharge(stay, bed_id, ward)
        last = uuid4()
        house.ask_for_a_bed(last)
        house.assign(last, bed_id, ward)
        if chance.random() < 0.5:
            house.admit(last, bed_id, ward)


@pytest.mark.parametrize("seed", range(5))
def test_the_views_do_not_depend_on_the_order_between_topics_nor_on_repetitions(house: House, seed: int):
    a_busy_week(house, seed)
    straight = house.views()
    by_topic = [
        list(group)
        for _, group in groupby(sorted(house.told, key=lambda told: told[0].topic.name), lambda t: t[0].topic.name)
    ]
    chance = random.Random(seed)
    for _ in range(5):
        queues = [list(queue) for queue in by_topic]
        told: list[tuple[Event, int]] = []
        while any(queues):
            queue = chance.choice([queue for queue in queues if queue])
            told.append(queue.pop(0))
            if chance.random() < 0.2:
                told.append(chance.choice(told))
        shuffled = seen(told)
        assert shuffled.census() == straight.census()
        assert shuffled.journeys_in_flight() == straight.journeys_in_flight()


def test_a_version_that_was_lost_and_is_sent_again_counts_once():
    versions = Versions()
    assert versions.is_new("t", "a", 1)
    assert versions.is_new("t", "a", 4)
    assert versions.is_new("t", "a", 2)
    assert not versions.is_new("t", "a", 2)
    assert not versions.is_new("t", "a", 4)
    assert versions.is_new("t", "a", 3)
    assert not versions.is_new("t", "a", 1)


def test_a_record_that_was_read_is_not_taken_twice_and_a_skipped_one_is_noticed():
    progress = Progress()
    assert progress.take(("t", 0), 5)
    assert not progress.take(("t", 0), 5)
    assert progress.take(("t", 0), 6)
    with pytest.raises(OffsetsJumped):
        progress.take(("t", 0), 8)


def test_progress_is_behind_until_views_and_index_have_everything():
    progress = Progress()
    ends = {("t", 0): 3, ("t", 1): 0}
    assert progress.behind(ends, {}) == 3
    for offset in range(3):
        progress.take(("t", 0), offset)
    assert progress.behind(ends, {}) == 3
    progress.indexed[("t", 0)] = 3
    assert progress.behind(ends, {}) == 0
