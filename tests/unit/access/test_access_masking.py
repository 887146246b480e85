"""Names and numbers as they may be shown (S6, R62, A8)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.access.masking import characters, mask_identifier, mask_name
from shared.access.surnames import COMPOUND_SURNAMES

HAN = st.one_of(
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
    st.characters(min_codepoint=0x20000, max_codepoint=0x2A6DF),
)
LATIN = st.from_regex(r"[A-Z][a-z]{1,9}", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("张三", "张*"),
        ("张小明", "张*明"),
        ("王一二三", "王**三"),
        ("欧阳明", "欧阳*"),
        ("欧阳小明", "欧阳*明"),
        ("歐陽小明", "歐陽*明"),
        ("司马一二三", "司马**三"),
        ("欧阳", "欧*"),
        ("张", "*"),
        ("王 小明", "王*明"),
        ("阿卜杜·买买提", "阿**·***"),
        ("阿卜杜•买买提", "阿**•***"),
        ("Abdulla·Memet", "A******·*****"),
        ("𠮷田明", "𠮷*明"),
        ("张𠮷", "张*"),
        ("葛\U000e0100城", "葛\U000e0100*"),
        ("葛\U000e0100城人", "葛\U000e0100*人"),
        ("Mary Smith", "M*** S***"),
        ("Abe604 Runolfsdottir785", "A*** R***"),
        ("e\u0301va Nagy", "é*** N***"),
        ("김민수", "김***"),
        ("张*", "***"),
        ("张*明", "****"),
        ("*", "****"),
        ("", "*"),
        ("   ", "*"),
        ("·", "*"),
    ],
)
def test_a_name_is_shown_masked(name: str, shown: str) -> None:
    assert mask_name(name) == shown


@given(st.text(max_size=40))
def test_a_masked_name_is_never_the_name(name: str) -> None:
    masked = mask_name(name)
    assert masked != name
    assert masked.strip() not in {name.strip(), unicodedata.normalize("NFC", name).strip()}
    assert "*" in masked


@given(HAN, st.lists(HAN, min_size=1, max_size=5))
def test_at_most_one_character_of_a_chinese_given_name_is_seen(surname: str, given_name: list[str]) -> None:
    name = unicodedata.normalize("NFC", surname + "".join(given_name))
    masked = mask_name(name)
    assert len(masked) == len(name)
    assert masked[0] == name[0]
    assert sum(shown != "*" for shown in masked[1:]) <= 1
    assert all(shown in ("*", real) for shown, real in zip(masked, name, strict=True))


@given(st.sampled_from(sorted(COMPOUND_SURNAMES)), st.lists(HAN, min_size=1, max_size=4))
def test_a_compound_surname_stays_whole_and_one_character_at_most_follows(surname: str, given_name: list[str]) -> None:
    masked = mask_name(surname + "".join(given_name))
    assert masked.startswith(surname)
    assert sum(shown != "*" for shown in masked[2:]) == (0 if len(given_name) == 1 else 1)


@given(HAN, st.lists(HAN, min_size=1, max_size=4), st.lists(HAN, min_size=1, max_size=4), st.sampled_from("·•・"))
def test_a_name_with_a_dot_shows_its_first_character_only(
    first: str, rest: list[str], last: list[str], dot: str
) -> None:
    masked = mask_name(first + "".join(rest) + dot + "".join(last))
    assert set(masked[1:]) == {"*", dot}


@given(st.lists(LATIN, min_size=1, max_size=4))
def test_a_latin_name_tells_its_initials_and_not_its_length(parts: list[str]) -> None:
    assert mask_name(" ".join(parts)) == " ".join(f"{part[0]}***" for part in parts)


@given(st.text(max_size=30))
def test_splitting_into_characters_loses_nothing(text: str) -> None:
    assert "".join(characters(text)) == text


def test_a_mark_stays_with_its_letter_and_a_joined_picture_is_one_character() -> None:
    assert characters("e\u0301a") == ["e\u0301", "a"]
    assert characters("👩\u200d⚕\ufe0f张") == ["👩\u200d⚕\ufe0f", "张"]


@pytest.mark.parametrize("point", [0x3400, 0x4DBF, 0x4E00, 0x9FFF, 0x20000, 0x2A6DF, 0x30000, 0x3FFFF, 0x3007])
def test_every_block_of_chinese_characters_is_masked_by_the_chinese_rule(point: int) -> None:
    assert mask_name(chr(point) + "小明") == chr(point) + "*明"


@pytest.mark.parametrize("point", [0x33FF, 0x4DC0, 0xA000, 0x1FFFF])
def test_what_lies_beside_those_blocks_is_not_taken_for_chinese(point: int) -> None:
    assert mask_name(chr(point) + "小明") == chr(point) + "***"


@pytest.mark.parametrize(("point", "joined"), [(0x1F3FA, False), (0x1F3FB, True), (0x1F3FF, True), (0x1F400, False)])
def test_a_skin_tone_belongs_to_its_picture(point: int, joined: bool) -> None:
    assert len(characters("👩" + chr(point))) == (1 if joined else 2)


def test_every_compound_surname_has_two_characters() -> None:
    assert {len(surname) for surname in COMPOUND_SURNAMES} == {2}


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [
        ("110101199001011234", "**************1234"),
        ("13800138000", "*******8000"),
        ("12345", "***45"),
        ("1", "*"),
        ("", "*"),
    ],
)
def test_a_number_is_shown_by_its_last_four_at_most(identifier: str, shown: str) -> None:
    assert mask_identifier(identifier) == shown


@given(st.from_regex(r"[0-9A-Z]{1,30}", fullmatch=True))
def test_half_of_a_number_is_always_hidden(identifier: str) -> None:
    masked = mask_identifier(identifier)
    assert len(masked) == len(identifier)
    assert masked.count("*") >= (len(identifier) + 1) // 2
    assert sum(character != "*" for character in masked) <= 4
