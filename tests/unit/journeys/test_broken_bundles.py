"""What cannot be right in a bundle is refused with file, resource and reason, and everything else is played."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from infra.journeys.fhir import NothingToRead, find_files, read
from tests.unit.journeys.bundles import (
    ANNA,
    BERT,
    RULES,
    Folder,
    a_bundle,
    a_claim,
    a_patient,
    a_procedure,
    an_encounter,
    as_text,
    urn,
    uuid,
)

WHOLE = a_bundle(a_patient(), an_encounter(), a_claim(100))
TEXT = as_text(WHOLE)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.json", b"", "empty"),
        ("words.json", b"Dear colleague, ...", "not JSON"),
        ("cut.json", TEXT[:-40], "cut short"),
        ("cut-in-a-word.json", TEXT[: TEXT.index(b"Muster") + 3], "cut short"),
        ("picture.json", b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8"),
        ("cut.json.gz", gzip.compress(TEXT)[:-20], "cut short"),
        ("damaged.json.gz", gzip.compress(TEXT)[:12] + b"\xff\xff\xff\xff" + gzip.compress(TEXT)[16:], "damaged"),
        ("deep.json", b"[" * 200_000, "nests too deep"),
        ("nan.json", TEXT.replace(b"100", b"NaN"), "not JSON"),
        ("list.json", b"[]", "not a FHIR Bundle"),
        ("patient.json", json.dumps(a_patient()).encode(), "not a FHIR Bundle"),
        ("entry.json", b'{"resourceType": "Bundle", "entry": "none"}', "entry is not a list"),
        ("null.json", b'{"resourceType": "Bundle", "entry": [null]}', "entry[0] is not a resource"),
        ("untyped.json", b'{"resourceType": "Bundle", "entry": [{"resource": {"id": "1"}}]}', "entry[0] is not"),
    ],
)
def test_a_file_that_is_no_whole_bundle_is_refused_and_the_next_one_is_played(
    folder: Folder, name: str, content: bytes, reason: str
):
    broken = folder.put(name, content)
    good = folder.put("whole.json.gz", WHOLE)
    found = read([broken, good], RULES)
    (refused,) = found.refused
    assert (refused.file, refused.id) == (str(broken), None)
    assert reason.lower() in refused.reason.lower()
    assert found.bundles == 1
    assert len(found.journeys) == 1


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ([an_encounter(subject=None)], "names no Patient"),
        ([an_encounter(patient=uuid(77))], "names no Patient"),
        ([an_encounter(subject={"display": "Anna"})], "names no Patient"),
        ([an_encounter(code="AMB", subject=None)], "names no Patient"),
        ([an_encounter(start="2015-03-05T10:00:00Z", end="2015-03-01T10:00:00Z")], "ends before it starts"),
        ([an_encounter("AMB", start="2015-03-05T10:00:00Z", end="2015-03-05T09:59:59Z")], "ends before it starts"),
        ([an_encounter(start=None)], "has no start"),
        ([an_encounter(start="2015-03")], "not a time with its zone"),
        ([an_encounter(start="2015-03-01T08:00:00")], "not a time with its zone"),
        ([an_encounter(start="2015-02-30T08:00:00Z")], "does not exist"),
        ([an_encounter(period="yesterday")], "period is not an object"),
        ([{**an_encounter(), "class": None}], "has no class"),
        ([{**an_encounter(), "class": {"system": "x"}}], "has no class"),
        ([an_encounter(), an_encounter(end=None)], "twice"),
        ([an_encounter(), a_claim(Decimal("10.001"))], "finer than one fen"),
        ([an_encounter(), a_claim(100, Decimal("0.125"))], "finer than one fen"),
        ([an_encounter(), a_claim(Decimal("1." + "0" * 30 + "1"))], "more digits"),
        ([an_encounter(), a_claim("100.00")], "not a number"),
        ([an_encounter(), a_claim(10**12)], "beyond what the ledger holds"),
        ([an_encounter(), a_claim(-1)], "less than nothing"),
        ([an_encounter(), {**a_claim(100), "total": "a lot"}], "not an object"),
        ([an_encounter(), a_claim(100, created="last week")], "not a time"),
        ([an_encounter(), a_claim(100, patient=urn(BERT))], "another patient"),
        (
            [
                an_encounter(),
                a_claim(100),
                {**a_claim(7, claim_id=uuid(901)), "total": {"value": 7, "currency": "EUR"}},
            ],
            "several currencies: EUR, USD",
        ),
        ([an_encounter(), a_claim(1), a_claim(2)], "twice"),
    ],
)
def test_a_stay_that_cannot_be_right_is_refused_by_its_id_and_the_others_are_played(
    folder: Folder, broken: list[dict[str, Any]], reason: str
):
    sound = an_encounter(uuid(2), patient=BERT)
    found = folder.read(a_patient(), a_patient(BERT), *broken, sound)
    (refused,) = found.refused
    assert refused.id == broken[0]["id"]
    assert refused.file.endswith("bundle.json")
    assert reason.lower() in refused.reason.lower()
    assert [journey.encounter_id for journey in found.journeys] == [uuid(2)]


def test_a_claim_over_two_stays_charges_neither_because_its_total_is_only_one(folder: Folder):
    claim = a_claim(100)
    claim["item"].append({"sequence": 2, "encounter": [urn(uuid(2))]})
    second = an_encounter(uuid(2), start="2016-01-01T00:00:00Z", end="2016-01-02T00:00:00Z")
    found = folder.read(a_patient(), an_encounter(), second, claim)
    assert not found.journeys
    assert {refused.id for refused in found.refused} == {uuid(1), uuid(2)}
    assert all("covers several stays" in refused.reason for refused in found.refused)


def test_a_claim_that_cannot_be_read_is_told_of_because_nobody_knows_whose_it_is(folder: Folder):
    found = folder.read(a_patient(), an_encounter(), a_claim(100, item="many"))
    assert [refused.id for refused in found.refused] == [uuid(900)]
    assert len(found.journeys) == 1


def test_a_patient_who_cannot_be_read_takes_only_their_own_stays_along(folder: Folder):
    found = folder.read(
        a_patient(birthDate="1960-13-01"), a_patient(BERT), an_encounter(), an_encounter(uuid(2), patient=BERT)
    )
    assert {refused.id for refused in found.refused} == {ANNA, uuid(1)}
    assert [journey.encounter_id for journey in found.journeys] == [uuid(2)]


def test_a_visit_without_a_time_is_history_and_no_fault(folder: Folder):
    found = folder.read(a_patient(), an_encounter(code="AMB", start=None, end=None), an_encounter(uuid(2)))
    assert not found.refused
    assert len(found.journeys) == 1


def test_stays_that_never_happened_are_not_played(folder: Folder):
    stays = [
        an_encounter(uuid(n), status=status) for n, status in enumerate(("cancelled", "entered-in-error", "planned"))
    ]
    found = folder.read(a_patient(), *stays)
    assert (found.journeys, found.refused) == ((), ())


def test_two_files_that_tell_different_things_of_one_stay_are_not_mixed(folder: Folder):
    first = folder.put("a.json", a_bundle(a_patient(), an_encounter(), a_claim(100)))
    second = folder.put("b.json", a_bundle(a_patient(), an_encounter(), a_claim(200)))
    found = read([first, second], RULES)
    assert [(journey.file, journey.claimed_fen) for journey in found.journeys] == [(str(first), 10_000)]
    (refused,) = found.refused
    assert (refused.file, refused.id) == (str(second), uuid(1))
    assert "a.json" in refused.reason


def test_a_bundle_that_was_copied_is_played_once(folder: Folder):
    files = [folder.put(name, WHOLE) for name in ("a.json", "b.json.gz")]
    found = read(files, RULES)
    assert (found.bundles, found.patients, len(found.journeys), found.refused) == (2, 1, 1, ())


def test_a_procedure_that_cannot_be_read_is_in_no_catalogue(folder: Folder):
    odd: list[Any] = [7, {"coding": 7}, {"coding": [{"code": []}]}, None]
    procedures = [{**a_procedure(), "code": code, "id": str(number)} for number, code in enumerate(odd)]
    found = folder.read(a_patient(), an_encounter(code="AMB"), *procedures)
    assert (found.journeys, found.refused) == ((), ())


def test_folders_are_searched_and_every_file_is_read_once(folder: Folder):
    inner = folder.path / "more"
    inner.mkdir()
    named = folder.put("b.json", WHOLE)
    Folder(inner).put("a.json.gz", WHOLE)
    folder.put("notes.txt", b"no bundle")
    folder.put(".hidden.json", b"no bundle")
    found = find_files([named, folder.path])
    assert [file.name for file in found] == ["b.json", "a.json.gz"]


def test_a_path_that_is_not_there_is_wrong_use(tmp_path: Path):
    with pytest.raises(NothingToRead, match="There is no"):
        find_files([tmp_path / "gone.json"])
    with pytest.raises(NothingToRead, match=r"no \.json"):
        find_files([tmp_path])
