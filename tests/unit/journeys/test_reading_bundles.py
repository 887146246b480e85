"""What a bundle becomes: who came when, what it cost, and how it ended."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.journeys.fhir import UNNAMED, Reading, _lines, find_files, load, read
from infra.journeys.model import Journey
from tests.unit.journeys.bundles import (
    ANNA,
    BERT,
    COLONOSCOPY,
    RULES,
    Folder,
    a_bundle,
    a_claim,
    a_patient,
    a_procedure,
    an_encounter,
    urn,
    uuid,
)

DEMO = Path(__file__).resolve().parents[3] / "data" / "synthea"
KEY_FORM = re.compile(r"^[A-Za-z0-9_.:/+=-]{8,200}$")
"""What the doors take (shared/web.py)."""


@pytest.fixture(scope="module")
def demo() -> Reading:
    """The forty patients the project brings along."""
    return read(find_files([DEMO]), RULES)


def amounts(journey: Journey) -> list[tuple[str, int]]:
    return [(charge.item, charge.amount_fen) for charge in journey.charges]


# ---- the forty patients of the demo ----------------------------------------------------------------------------------


def test_every_stay_of_the_forty_demo_patients_is_charged_the_sum_of_its_claims_to_the_fen(demo: Reading):
    """Computed here a second time, straight from the files and with fractions."""
    assert (demo.bundles, demo.patients, demo.refused) == (40, 40, ())
    charged = {journey.encounter_id: sum(charge.amount_fen for charge in journey.charges) for journey in demo.journeys}
    expected: dict[str, Fraction] = {}
    for file in find_files([DEMO]):
        resources = [entry["resource"] for entry in json.loads(load(file), parse_float=str)["entry"]]
        day = {
            one["encounter"]["reference"].removeprefix("urn:uuid:")
            for one in resources
            if one["resourceType"] == "Procedure" and one["code"]["coding"][0]["code"] in RULES.day_procedures
        }
        for one in resources:
            if one["resourceType"] == "Encounter" and (
                one["class"]["code"] == "IMP" or (one["class"]["code"] == "AMB" and one["id"] in day)
            ):
                expected[one["id"]] = Fraction(0)
        for one in resources:
            if one["resourceType"] == "Claim":
                stays = {ref["reference"] for item in one["item"] for ref in item.get("encounter", ())}
                for stay in {ref.removeprefix("urn:uuid:") for ref in stays} & expected.keys():
                    expected[stay] += 100 * Fraction(one["total"]["value"])
    assert charged == expected
    assert sum(journey.kind == "inpatient" for journey in demo.journeys) == 50
    assert sum(charged.values()) == 143_920_354


def test_the_demo_patients_come_in_time_order_and_emergencies_are_marked(demo: Reading):
    journeys = demo.journeys
    starts = [journey.starts_at for journey in journeys]
    assert starts == sorted(starts)
    assert sum(journey.emergency for journey in journeys) == 17
    assert sum(journey.died for journey in journeys) == 1
    assert all(journey.kind == "inpatient" for journey in journeys if journey.emergency)


# ---- charge lines ----------------------------------------------------------------------------------------------------


def test_every_priced_item_is_a_line_and_the_rest_of_the_total_is_one_more(folder: Folder):
    claim = a_claim(Decimal("129.16"), Decimal("20.10"), 0, Decimal("9.06"))
    (journey,) = folder.read(a_patient(), an_encounter(), claim).journeys
    assert amounts(journey) == [("1002", 2010), ("1004", 906), ("stay", 10_000)]


def test_what_a_pharmacy_bills_is_medication(folder: Folder):
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(Decimal("8.50"), kind="pharmacy")).journeys
    assert amounts(journey) == [("medication", 850)]


@pytest.mark.parametrize(
    ("total", "nets", "expected"),
    [
        (None, (10, 5), [1000, 500]),
        (0, (), []),
        (0, (10, 5), []),
        (9, (10, 5), [600, 300]),
        (Decimal("0.01"), (1, 1, 1), [1]),
        (10, (12, -2), [1000]),
        (20, (12, -2), [1200, 800]),
        (Decimal("1E+1"), (Decimal("2.50"),), [250, 750]),
        (Decimal("10.000"), (), [1000]),
    ],
)
def test_discounts_and_credits_come_off_the_lines_so_that_they_sum_to_the_total(
    folder: Folder, total: Any, nets: tuple[Any, ...], expected: list[int]
):
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(total, *nets)).journeys
    assert [charge.amount_fen for charge in journey.charges] == expected
    assert journey.claimed_fen == sum(expected)


@given(st.integers(0, 10**9), st.lists(st.integers(-(10**6), 10**8), max_size=12))
def test_whatever_the_items_say_the_lines_are_positive_and_sum_to_the_total(total: int, nets: list[int]):
    claim = a_claim(Decimal(total).scaleb(-2), *(Decimal(net).scaleb(-2) for net in nets))
    lines, total_fen = _lines(claim, set())
    assert total_fen == total
    assert sum(fen for _, _, fen in lines) == total
    assert all(fen > 0 for _, _, fen in lines)


def test_claims_that_were_withdrawn_or_belong_to_no_stay_charge_nobody(folder: Folder):
    withdrawn = a_claim(5, claim_id=uuid(901), status="entered-in-error")
    elsewhere = a_claim(7, claim_id=uuid(902), encounter=uuid(55))
    (journey,) = folder.read(a_patient(), an_encounter(), a_claim(100), withdrawn, elsewhere).journeys
    assert journey.claimed_fen == 10_000


def test_charges_lie_inside_the_stay(folder: Folder):
    early = a_claim(1, claim_id=uuid(901), created="2015-01-01")
    late = a_claim(2, claim_id=uuid(902), created="2016-01-01T00:00:00Z")
    (journey,) = folder.read(a_patient(), an_encounter(), late, early).journeys
    assert [charge.charged_at for charge in journey.charges] == [journey.starts_at, journey.ends_at]


def test_the_focal_coverage_says_who_pays_and_an_unknown_one_is_self_pay(folder: Folder):
    def payer(**more: Any) -> str:
        (journey,) = folder.read(
            a_patient(), an_encounter(), {"resourceType": "Coverage", "id": uuid(5), "payor": [{"display": "Humana"}]},
            a_claim(1, **more),
        ).journeys  # fmt: skip
        return journey.payer_kind

    assert payer(payer="private") == "commercial_insurance"
    assert payer(payer="Dual_Eligible") == "basic_insurance"
    assert payer(payer="MEDICAID") == "assistance"
    assert payer(payer="Wonderland Mutual") == "self_pay"
    assert payer(insurance=[{"coverage": {"reference": f"Coverage/{uuid(5)}"}}]) == "commercial_insurance"
    assert payer(insurance=None) == "self_pay"
    second = [{"coverage": {"display": "private"}}, {"focal": True, "coverage": {"display": "medicare"}}]
    assert payer(insurance=second) == "basic_insurance"


# ---- when and how ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("emergency", "marked"),
    [
        (("2015-03-01T00:00:00Z", "2015-03-01T01:00:00Z"), True),  # begins with the stay, as Synthea has it
        (("2015-02-28T00:30:00Z", "2015-02-28T01:00:00Z"), True),  # ended 23 h before
        (("2015-02-27T23:00:00Z", "2015-02-28T00:00:00Z"), True),  # ended exactly 24 h before
        (("2015-02-27T22:00:00Z", "2015-02-27T23:59:59Z"), False),
        (("2015-02-27T00:00:00Z", "2015-02-28T23:00:00Z"), True),  # lasted two days, ended 1 h before
        (("2014-01-01T00:00:00Z", "2035-01-01T00:00:00Z"), False),  # a visit somebody forgot to end
        (("2015-02-28T12:00:00Z", None), True),
        (("2015-03-01T00:30:00Z", "2015-03-01T01:00:00Z"), False),  # begins after the stay
    ],
)
def test_a_stay_within_a_day_of_an_emergency_visit_is_an_emergency(
    folder: Folder, emergency: tuple[str, str | None], marked: bool
):
    visit = an_encounter(uuid(9), "EMER", start=emergency[0], end=emergency[1])
    (journey,) = folder.read(a_patient(), an_encounter(start="2015-03-01T00:00:00Z"), visit).journeys
    assert journey.emergency is marked


def test_the_emergency_visit_of_another_patient_says_nothing(folder: Folder):
    visit = an_encounter(uuid(9), "EMER", patient=BERT)
    (journey,) = folder.read(a_patient(), a_patient(BERT), an_encounter(), visit).journeys
    assert not journey.emergency


def test_an_emergency_visit_may_stand_in_another_file_of_the_same_patient(folder: Folder):
    visit = folder.put("a.json", a_bundle(a_patient(), an_encounter(uuid(9), "EMER")))
    stay = folder.put("b.json", a_bundle(a_patient(), an_encounter()))
    (journey,) = read([stay, visit], RULES).journeys
    assert journey.emergency


@pytest.mark.parametrize(
    ("died_at", "died"),
    [
        ("2015-03-03T00:00:00Z", True),
        ("2015-03-05T10:00:00+08:00", True),
        ("2015-03-05", True),
        ("2015-03-05T10:00:01+08:00", False),
        ("2015-03-06", False),
        ("2015-02-27T00:00:00Z", False),
    ],
)
def test_a_death_inside_the_stay_is_how_it_ended(folder: Folder, died_at: str, died: bool):
    (journey,) = folder.read(a_patient(deceasedDateTime=died_at), an_encounter()).journeys
    assert journey.died is died


def test_a_stay_without_an_end_goes_on(folder: Folder):
    (journey,) = folder.read(a_patient(deceasedDateTime="2015-03-02T00:00:00Z"), an_encounter(end=None)).journeys
    assert (journey.ends_at, journey.died) == (None, False)


def test_days_without_hours_are_whole_days(folder: Folder):
    (journey,) = folder.read(a_patient(), an_encounter(start="2015-03-01", end="2015-03-01")).journeys
    assert journey.starts_at == datetime(2015, 3, 1, tzinfo=UTC)
    assert journey.ends_at == datetime(2015, 3, 1, 23, 59, 59, tzinfo=UTC)


def test_an_outpatient_visit_with_a_day_procedure_is_day_surgery_inside_its_own_time(folder: Folder):
    visit = an_encounter(code="AMB", start="2015-03-01T08:00:00Z", end="2015-03-01T09:00:00Z")
    performed = {"start": "2015-03-01T08:10:00Z", "end": "2015-03-01T11:00:00Z"}
    other = a_procedure("180325003", performedPeriod={"start": "2015-03-01T08:30:00Z"})
    (journey,) = folder.read(a_patient(), visit, other, a_procedure(performedPeriod=performed)).journeys
    assert journey.kind == "day_surgery"
    assert journey.operation is not None
    assert journey.operation.procedure == COLONOSCOPY
    assert journey.operation.started_at == datetime(2015, 3, 1, 8, 10, tzinfo=UTC)
    assert journey.operation.ended_at == journey.ends_at


@pytest.mark.parametrize(
    "procedure",
    [
        a_procedure("430193006"),
        a_procedure(status="not-done"),
        a_procedure(encounter=uuid(8)),
        {**a_procedure(), "code": {"coding": [{"system": "http://loinc.org", "code": COLONOSCOPY}]}},
    ],
)
def test_other_outpatient_visits_are_history(folder: Folder, procedure: dict[str, Any]):
    found = folder.read(a_patient(), an_encounter(code="AMB"), procedure)
    assert (found.journeys, found.refused) == ((), ())


# ---- other dialects of the same kind ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    [
        f"urn:uuid:{ANNA}",
        f"Patient/{ANNA}",
        f"https://hospital.example/fhir/Patient/{ANNA}",
        f"Patient/{ANNA}/_history/3",
        f"Patient?identifier=https://example.org/mrn|{ANNA}",
    ],
)
def test_a_patient_is_found_by_every_form_of_reference(folder: Folder, reference: str):
    (journey,) = folder.read(a_patient(), an_encounter(subject={"reference": reference})).journeys
    assert journey.person.name == "Anna Maria Muster"


def test_resources_named_only_by_their_full_url_are_found(folder: Folder):
    patient, stay = a_patient(), an_encounter()
    bundle = a_bundle(patient, stay)
    del patient["id"], stay["id"]
    (journey,) = read([folder.put("b.json", bundle)], RULES).journeys
    assert (journey.encounter_id, journey.person.identifier.value) == (uuid(1), ANNA)


@pytest.mark.parametrize(
    "class_", ["IMP", {"code": "IMP"}, [{"coding": [{"system": "http://x", "code": "IMP"}]}], [{"code": "IMP"}]]
)
def test_the_class_is_understood_in_every_version(folder: Folder, class_: Any):
    assert len(folder.read(a_patient(), an_encounter(**{"class": class_})).journeys) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([{"family": "Koepp521", "given": ["Abdul218", "Ali"], "prefix": ["Mr."]}], "Abdul218 Ali Koepp521"),
        ([{"use": "maiden", "family": "B"}, {"use": "official", "family": "A", "given": "X"}], "X A"),
        ([{"text": " 欧阳\t明明 "}], "欧阳 明明"),
        ([{"family": ["van", "Dyk"], "given": ["Jo"]}], "Jo van Dyk"),
        ([{"family": "x" * 500}], "x" * 120),
        ([{"given": [None]}], UNNAMED),
        (None, UNNAMED),
    ],
)
def test_names_have_many_parts_or_none(folder: Folder, names: Any, expected: str):
    (journey,) = folder.read(a_patient(name=names), an_encounter()).journeys
    assert journey.person.name == expected


def test_a_patient_of_whom_little_is_known_comes_all_the_same(folder: Folder):
    bare = {
        "resourceType": "Patient",
        "id": ANNA,
        "birthDate": "1960",
        "telecom": [{"system": "phone", "value": "1" * 50}],
    }
    person = folder.read(bare, an_encounter()).journeys[0].person
    assert (person.sex, person.birth_date, person.phone, person.name) == ("unknown", None, None, UNNAMED)
    assert (person.identifier.system, person.identifier.value) == ("fhir", ANNA)


def test_several_patients_in_one_bundle_keep_apart(folder: Folder):
    later = an_encounter(uuid(2), patient=BERT, start="2014-01-01T00:00:00Z", end="2014-01-02T00:00:00Z")
    found = folder.read(a_patient(), a_patient(BERT), an_encounter(), later, a_claim(3, encounter=uuid(2)))
    assert found.patients == 2
    assert [(one.person.identifier.value, one.claimed_fen) for one in found.journeys] == [(BERT, 300), (ANNA, 0)]


# ---- keys ------------------------------------------------------------------------------------------------------------


def keys_of(journey: Journey) -> list[str]:
    return [journey.key("admitted"), *(journey.key(f"charge:{charge.part}") for charge in journey.charges)]


def test_keys_come_from_the_resource_ids_alone_and_never_change(folder: Folder):
    bundle = a_bundle(a_patient(), an_encounter(), a_claim(100, 40))
    (first,) = read([folder.put("a.json", bundle)], RULES).journeys
    (again,) = read([folder.put("copy.json.gz", bundle)], RULES).journeys
    assert keys_of(first) == keys_of(again)
    assert keys_of(first) == [
        f"replay:{uuid(1)}:admitted",
        f"replay:{uuid(1)}:charge:{uuid(900)}:2",
        f"replay:{uuid(1)}:charge:{uuid(900)}:rest",
    ]


def test_a_stay_that_ended_since_keeps_the_keys_of_what_was_done_before(folder: Folder):
    (open_stay,) = folder.read(a_patient(), an_encounter(end=None), a_claim(100)).journeys
    (ended,) = folder.read(a_patient(), an_encounter(), a_claim(100), a_claim(5, claim_id=uuid(901))).journeys
    assert set(keys_of(open_stay)) < set(keys_of(ended))
    assert open_stay.person == ended.person


def test_ids_that_are_no_uuids_mean_a_stay_only_together_with_their_patient(folder: Folder):
    journeys = [
        folder.read(a_patient(f"p{n}"), an_encounter("e1", subject={"reference": f"Patient/p{n}"})).journeys[0]
        for n in (1, 2)
    ]
    first, second = (journey.reference for journey in journeys)
    assert first != second
    assert first.startswith("e1.")
    assert "p1" not in first


@pytest.mark.parametrize("odd", ["ä ö", "x" * 300, "a|b\nc", "-"])
def test_the_doors_take_every_key_whatever_the_ids_look_like(folder: Folder, odd: str):
    (journey,) = folder.read(
        a_patient(odd), an_encounter(odd, subject={"reference": f"Patient/{odd}"}),
        a_claim(3, claim_id=odd, item=[{"encounter": [{"reference": f"Encounter/{odd}"}]}]),
    ).journeys  # fmt: skip
    assert journey.charges
    assert all(KEY_FORM.match(key) for key in keys_of(journey))


def test_the_keys_of_the_demo_patients_are_all_different(demo: Reading):
    keys = [key for journey in demo.journeys for key in keys_of(journey)]
    assert len(keys) == len(set(keys))
    assert all(KEY_FORM.match(key) for key in keys)


def test_references_lead_nowhere_without_harm(folder: Folder):
    claim = a_claim(5)
    claim["item"] = [
        {"encounter": [urn("nobody"), {"reference": 5}, {}]},
        {"encounter": {"reference": f"Encounter/{uuid(1)}"}},
    ]
    (journey,) = folder.read(a_patient(), an_encounter(), claim).journeys
    assert journey.claimed_fen == 500
