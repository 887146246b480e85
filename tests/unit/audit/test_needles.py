"""A name is found wherever it is written, and is not found where it is not."""

import json
import random
from urllib.parse import quote, quote_plus
from uuid import UUID

import pytest

from infra.audit.needles import Haystack, Needle, is_telling

NAMES = (
    "张三",
    "诸葛孔明",
    "阿依古丽·买买提",
    "Zoë Nguyễn",
    "O'Brien Li",
    "Abdul432 Koepp521",
    "Li Wei",
    "13912345678",
    "999-12-3456",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_found_in_every_form_and_at_every_place(name: str):
    haystack = Haystack([Needle(name, "it")])
    for form in (name, json.dumps(name)[1:-1], quote(name), quote_plus(name)):
        for place in range(17):
            text = b"." * place + form.encode() + b";" * (place % 5)
            assert haystack.find(text) == {"it"}, (form, place)
    assert haystack.find(b"nobody is named here, at 2026-03-02T08:00:00Z") == set()


def test_texts_of_every_length_are_found_at_every_place():
    seed = 11
    chance = random.Random(seed)
    for length in range(4, 60):
        text = "Q" + "".join(chance.choice("abcdef0123456789-") for _ in range(length - 2)) + "z"
        haystack = Haystack([Needle(text, "it")])
        for place in range(24):
            assert haystack.find(b" " * place + text.encode() + b" ") == {"it"}, f"seed {seed}"
            assert haystack.find(b" " * place + text[:-1].encode() + b"y ") == set(), f"seed {seed}"


def test_one_among_thousands_is_found_and_no_other():
    chance = random.Random(3)
    needles = [Needle(str(UUID(int=chance.getrandbits(128))), f"patient {number}") for number in range(2_000)]
    haystack = Haystack(needles)
    text = json.dumps([str(UUID(int=chance.getrandbits(128))) for _ in range(500)])
    assert haystack.find(text.encode()) == set()
    assert haystack.find((text + needles[1234].text + text).encode()) == {"patient 1234"}


def test_two_patients_of_one_name_are_both_told():
    assert Haystack([Needle("王秀英", "one"), Needle("王秀英", "two")]).find("王秀英".encode()) == {"one", "two"}


def test_a_number_inside_a_longer_number_or_word_means_something_else():
    haystack = Haystack([Needle("13912345678", "phone"), Needle("MRN12345", "number")])
    assert haystack.find(b"order 9913912345678, MRN123456, xMRN12345") == set()
    assert haystack.find(b"order 9913912345678, tel:13912345678;") == {"phone"}
    assert haystack.find("电话13912345678。".encode()) == {"phone"}


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("1001", False),
        ("123456", False),
        ("1234567", True),
        ("Bo", False),
        ("Anna", True),
        ("张", False),
        ("张三", True),
    ],
)
def test_what_would_be_met_by_chance_is_not_searched_for_and_is_counted(text: str, telling: bool):
    assert is_telling(text) is telling
    haystack = Haystack([Needle(text, "it")])
    assert haystack.unsearched == int(not telling)
    assert haystack.find(f"bed {text} costs {text} fen".encode()) == ({"it"} if telling else set())


def test_without_needles_nothing_is_found():
    haystack = Haystack([])
    assert haystack.size == 0
    assert haystack.find(b"anything") == set()


def test_a_text_cut_in_two_is_found_when_the_end_is_seen_again():
    haystack = Haystack([Needle(name, name) for name in NAMES])
    for name in NAMES:
        whole = b"x" * 50 + b" " + name.encode() + b" " + b"y" * 50
        for cut in range(50, 60 + len(name.encode())):
            first, second = whole[:cut], whole[cut:]
            assert name in haystack.find(first) | haystack.find(first[-haystack.tail_bytes :] + second)
