"""What a journey is. Values only; where they came from (a FHIR bundle, a bench) does not matter here."""

import hashlib
import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from shared.contracts.envelope import PayerKind, Sex

Kind = Literal["inpatient", "day_surgery"]

_SAFE_FOR_KEYS = re.compile(r"^[A-Za-z0-9_./-]{1,100}$")


def key_part(text: str) -> str:
    """Return `text` as a part of an Idempotency-Key: itself, or its digest when it is long or has other characters."""
    return text if _SAFE_FOR_KEYS.match(text) else hashlib.sha256(text.encode()).hexdigest()[:32]


def is_uuid(text: str) -> bool:
    """Say whether the text is a UUID, so that no other source can mean something else by it."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def reference_of(encounter_id: str, patient_id: str) -> str:
    """Return what a stay is called outside: its id where nothing else has it, else with a digest of the patient's id.

    The patient's own id is often a record number, which may not stand where this is written (S4).
    """
    if is_uuid(encounter_id):
        return encounter_id
    return f"{key_part(encounter_id)}.{hashlib.sha256(patient_id.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name another system gave."""

    system: str
    value: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who the journey is about; equal identifiers are one person."""

    identifier: Identifier
    name: str
    sex: Sex
    birth_date: date | None
    phone: str | None
    registered_at: datetime
    """When the person was first seen."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One charge line."""

    part: str
    """What makes its key: claim id and the place in it."""
    item: str
    amount_fen: int
    charged_at: datetime


@dataclass(frozen=True, slots=True)
class Operation:
    """What was done in theatre, and when."""

    procedure: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Journey:
    """One stay, from the request for a bed to the follow-up plan."""

    kind: Kind
    file: str
    encounter_id: str
    """The resource id, as people look for it."""
    reference: str
    """The same, or with a digest of the patient's id where it alone could mean another stay; every key is made from it."""
    person: Person
    starts_at: datetime
    ends_at: datetime | None
    """None: the patient is still there."""
    emergency: bool
    died: bool
    payer_kind: PayerKind
    charges: tuple[Charge, ...]
    claimed_fen: int
    """100 x the sum of the totals of its claims; the charges sum to exactly this."""
    operation: Operation | None = None
    """Only day surgery has one."""

    def __post_init__(self) -> None:
        """Refuse to exist when a fen appeared or vanished (A3)."""
        if sum(charge.amount_fen for charge in self.charges) != self.claimed_fen:
            raise ArithmeticError("The charges of this journey are not the sum of its claims.")
        if any(charge.amount_fen <= 0 for charge in self.charges):
            raise ArithmeticError("A charge line has no amount.")
        if (self.operation is not None) != (self.kind == "day_surgery"):
            raise ValueError("Day surgery, and nothing else, has an operation.")

    def key(self, step: str) -> str:
        """Return the Idempotency-Key of a step: the same in every run, whatever file the stay was read from (R1)."""
        return f"replay:{key_part(self.reference)}:{step}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A file or a stay that is not played, or not to its end, and why."""

    file: str
    id: str | None
    reason: str
