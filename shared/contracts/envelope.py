"""What surrounds every event: CloudEvents 1.0 attributes in Kafka headers (binary mode), the body as JSON in the value.

Bodies carry ids, states, times, amounts and bed codes only; never a name, an id number, an address or free text (S4).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

Code = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:+-]{1,64}$")]
"""A code from a table, never free text."""

Sex = Literal["male", "female", "unknown"]
Urgency = Literal["critical", "emergency", "urgent", "elective"]
PayerKind = Literal["self_pay", "basic_insurance", "commercial_insurance", "assistance"]
Source = Literal["live", "import", "downtime"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A stream of facts with one writer; everything with the same key stays in order. The partition count never changes (R17)."""

    name: str
    owner: str
    key: str
    partitions: int = 12


class Event(BaseModel):
    """A fact that happened. Unknown fields are ignored when read, so that an older reader survives a newer writer (R22)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[Topic]
    key_field: ClassVar[str]
    schema_version: ClassVar[int] = 1

    @classmethod
    def ce_type(cls) -> str:
        """Return the CloudEvents type, such as `wardstream.beds.BedAssigned.v1`."""
        return f"wardstream.{cls.topic.owner}.{cls.__name__}.v{cls.schema_version}"

    @property
    def aggregate_id(self) -> str:
        """Return the id of what must stay in order; it is the Kafka key."""
        return str(getattr(self, self.key_field))


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where an event came from and what caused it."""

    event_id: UUID
    ce_type: str
    topic: str
    partition: int
    offset: int
    aggregate_id: str
    version: int
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: UUID | None
    causation_id: UUID | None
    actor: UUID | None
    source: str
    traceparent: str | None


Instant = AwareDatetime
StayDays = Annotated[int, Field(ge=0, le=3650)]
AgeYears = Annotated[int, Field(ge=0, le=130)]
__all__ = [
    "UUID",
    "AgeYears",
    "Code",
    "Envelope",
    "Event",
    "Instant",
    "PayerKind",
    "Sex",
    "Source",
    "StayDays",
    "Topic",
    "Urgency",
]
