"""Fields of a FHIR resource, looked at carefully: right, absent, or `Broken` with a sentence; never guessed."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from shared.money import NotAnAmount, fen_from_decimal_text

AMOUNT_DIGITS_MAX = 28
DAY_FORM = re.compile(r"^\d{4}-\d\d-\d\d$")
_INSTANT_FORM = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$")
Resource = Mapping[str, Any]


class Broken(Exception):
    """What was read cannot be right; the message says why, as a sentence."""


def object_of(value: object, name: str) -> Resource:
    """Return the object, an empty one when it is absent. Raises Broken when it is something else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Broken(f"{name} is not an object.")
    return value


def objects_of(value: object, name: str) -> list[Resource]:
    """Return a list of objects; one object alone, as other FHIR versions have it, is a list of one."""
    if value is None:
        return []
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Broken(f"{name} is not a list of objects.")
    return found


def text_of(value: object) -> str | None:
    """Return a text in one line without control characters, or nothing."""
    if not isinstance(value, str):
        return None
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in value).split())
    return line or None


def codes_of(concept: Resource, name: str, system: str = "") -> Iterator[str]:
    """Give the codes of a concept, of one code system when it is named."""
    for coding in objects_of(concept.get("coding"), f"{name}.coding"):
        code = coding.get("code")
        if isinstance(code, str) and system in str(coding.get("system") or system):
            yield code


def instant_of(value: object, name: str, *, last: bool = False) -> datetime | None:
    """Return a FHIR dateTime in UTC; a day alone is its first second, or its last when it ends something.

    Raises:
        Broken: no such time, less precise than a day, or without its zone.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            if DAY_FORM.match(value):
                return datetime.combine(date.fromisoformat(value), time(23, 59, 59) if last else time(), UTC)
            if _INSTANT_FORM.match(value):
                return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            raise Broken(f"{name} is a time that does not exist.") from None
    raise Broken(f"{name} is not a time with its zone, nor a day.")


def fen_of(value: object, name: str) -> int:
    """Return 100 x a decimal amount, exactly.

    Raises:
        Broken: no number, finer than one fen, or beyond what the ledger holds.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Broken(f"{name} is not a number.")
    if len(Decimal(value).as_tuple().digits) > AMOUNT_DIGITS_MAX:
        raise Broken(f"{name} has more digits than an amount has.")
    try:
        return fen_from_decimal_text(str(value))
    except NotAnAmount as error:
        reason = str(error)
        raise Broken(f"{name}: {reason[0].lower()}{reason[1:]}") from None
