"""Names and identifiers as they may be shown: masked on every screen, on the server, by default (S6, R62).

    张三          张*          a surname and one given character
    张小明        张*明        three characters or more: the last one stays
    欧阳明        欧阳*        a compound surname (复姓) stays whole
    欧阳小明      欧阳*明
    阿卜杜·买买提  阿**·***     names with · keep their first character only
    Mary Smith    M*** S***    other scripts keep the first letter of each part

At most one character of a given name is ever seen, and a masked name is never the name itself (A8). What counts as one
character is what a reader takes for one: combining marks and variation selectors stay with their base, and a character
of CJK extension B is one. Two people who look alike once masked are told apart by queue number or bed, never by showing
more. Unmasking is not here: only admission holds names, and it gives one out only to an audited reveal.
"""

import unicodedata

from shared.access.surnames import COMPOUND_SURNAMES

STAR = "*"
LATIN_TAIL = STAR * 3
SHOWN_DIGITS = 4
NAME_CHARACTERS_MIN_FOR_LAST = 3

_DOTS = frozenset("·•‧∙⋅・･᛫")
_JOINER = "\u200d"
_HAN_RANGES = (
    (0x3400, 0x4DBF),  # extension A
    (0x4E00, 0x9FFF),  # the common ones
    (0xF900, 0xFAFF),  # compatibility
    (0x20000, 0x3FFFF),  # extensions B and later
)
_HAN_SINGLES = frozenset("〇々〻")


def mask_name(name: str) -> str:
    """Return the name as it may be shown to somebody who has no reason to know it (S6); never the name itself (A8)."""
    plain = unicodedata.normalize("NFC", name).strip()
    masked = _mask(characters(plain))
    # A record may hold a name that is masked already ("张*"): then even that is hidden.
    while masked in (name, plain):
        masked = STAR * (len(masked) + 1)
    return masked


def mask_identifier(identifier: str) -> str:
    """Return an identity, card or phone number with its last four characters only; fewer when it is short.

    At least half of the characters are hidden, so a short number does not show itself whole.
    """
    shown = min(SHOWN_DIGITS, len(identifier) // 2)
    return STAR * max(len(identifier) - shown, 1) + identifier[len(identifier) - shown :]


def characters(text: str) -> list[str]:
    """Split text into what a reader takes for characters: a base with its marks, selectors and joined parts."""
    found: list[str] = []
    for point in text:
        if found and (_belongs_to_the_one_before(point) or found[-1].endswith(_JOINER)):
            found[-1] += point
        else:
            found.append(point)
    return found


def _belongs_to_the_one_before(point: str) -> bool:
    """Say whether a code point is a mark, a variation selector, a joiner or an emoji modifier."""
    return (
        unicodedata.category(point) in ("Mn", "Me", "Mc") or point == _JOINER or "\U0001f3fb" <= point <= "\U0001f3ff"
    )


def _mask(name: list[str]) -> str:
    if not name:
        return STAR
    if any(character in _DOTS for character in name):
        return _mask_dotted(name)
    if _is_han(name[0]):
        return _mask_chinese([character for character in name if not character.isspace()])
    parts = "".join(name).split()
    return " ".join(characters(part)[0] + LATIN_TAIL for part in parts)


def _mask_dotted(name: list[str]) -> str:
    """Keep the first character and the dots of a name such as 阿卜杜·买买提."""
    hidden = (character if character in _DOTS else STAR for character in name[1:])
    return (STAR if name[0] in _DOTS else name[0]) + "".join(hidden)


def _mask_chinese(name: list[str]) -> str:
    """Keep the surname, and of a name of three characters or more the last one, as long as one stays hidden."""
    if len(name) == 1:
        return STAR
    surname = 2 if len(name) > 2 and "".join(name[:2]) in COMPOUND_SURNAMES else 1
    given = len(name) - surname
    if len(name) < NAME_CHARACTERS_MIN_FOR_LAST or given == 1:
        return "".join(name[:surname]) + STAR * given
    return "".join(name[:surname]) + STAR * (given - 1) + name[-1]


def _is_han(character: str) -> bool:
    point = ord(character[0])
    return character[0] in _HAN_SINGLES or any(low <= point <= high for low, high in _HAN_RANGES)
