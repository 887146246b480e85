"""What surrounds every event: CloudEvents 1.0 attributes in Kafka headers (binary mode), the body as JSON in the value.

Bodies carry ids, states, times, amounts and bed codes only; never a name, an id number, an address or free text (S4).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal, get_args
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from shared.errors import Problem

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


_SOURCES = {source.encode(): source for source in get_args(Source)}


class ContractBroken(Problem):
    """The record is no event a consumer can understand; it is parked with this reason."""

    status = 422
    code = "contract_broken"


class Envelope:
    """Where an event came from and what caused it, read from its CloudEvents headers.

    What every record needs is read at once; the rest when it is asked for, because most records are asked for little.
    """

    __slots__ = ("_found", "aggregate_id", "ce_type", "offset", "partition", "topic", "version")

    def __init__(self, topic: str, partition: int, offset: int, headers: Iterable[tuple[str, bytes]]) -> None:
        """Read the headers.

        Raises:
            ContractBroken: an attribute every event has is missing or unreadable; says which, never what it contained.
        """
        found = dict(headers)
        attribute = "ce_type"
        try:
            self.ce_type = found["ce_type"].decode()
            attribute = "ce_subject"
            self.aggregate_id = found["ce_subject"].decode()
            attribute = "ce_aggregateversion"
            self.version = int(found["ce_aggregateversion"])
            attribute = "ce_id or ce_time"
            if "ce_id" not in found or "ce_time" not in found or not self.aggregate_id or self.version < 1:
                raise ValueError
        except (KeyError, ValueError):
            raise ContractBroken(f"The header {attribute} is missing or unreadable.") from None
        self._found = found
        self.topic = topic
        self.partition = partition
        self.offset = offset

    def _uuid(self, attribute: str) -> UUID | None:
        raw = self._found.get(attribute)
        if raw is None:
            return None
        try:
            return UUID(raw.decode())
        except ValueError:
            raise ContractBroken(f"The header {attribute} is unreadable.") from None

    @property
    def raw_id(self) -> bytes:
        """Return the event's id as it was sent."""
        return self._found["ce_id"]

    @property
    def event_id(self) -> UUID:
        """Return the event's id. Raises ContractBroken when it is none."""
        return self._uuid("ce_id") or UUID(int=0)

    @property
    def correlation(self) -> str | None:
        """Return the correlation id as text."""
        raw = self._found.get("ce_correlationid")
        return None if raw is None else raw.decode("latin-1")

    @property
    def correlation_id(self) -> UUID | None:
        """Return what the event belongs to: the encounter."""
        return self._uuid("ce_correlationid")

    @property
    def causation_id(self) -> UUID | None:
        """Return the event that caused it."""
        return self._uuid("ce_causationid")

    @property
    def actor(self) -> UUID | None:
        """Return who did it first."""
        return self._uuid("ce_actor")

    @property
    def occurred_at(self) -> datetime:
        """Return when the fact happened. Raises ContractBroken when that is no instant."""
        try:
            at = datetime.fromisoformat(self._found["ce_time"].decode())
        except ValueError:
            raise ContractBroken("The header ce_time is unreadable.") from None
        if at.tzinfo is None:
            raise ContractBroken("The header ce_time has no time zone.")
        return at

    @property
    def recorded_at(self) -> datetime:
        """Return when the fact was written down here, long after it happened for an imported one. Raises ContractBroken."""
        try:
            at = datetime.fromisoformat(self._found["ce_recordedtime"].decode())
        except (KeyError, ValueError):
            raise ContractBroken("The header ce_recordedtime is missing or unreadable.") from None
        if at.tzinfo is None:
            raise ContractBroken("The header ce_recordedtime has no time zone.")
        return at

    @property
    def source(self) -> str:
        """Return whether the fact is live, imported or from paper."""
        raw = self._found.get("ce_factsource", b"live")
        return _SOURCES.get(raw) or raw.decode("latin-1")

    @property
    def traceparent(self) -> str | None:
        """Return the W3C trace context of what created the event."""
        raw = self._found.get("traceparent")
        return None if raw is None else raw.decode("latin-1")


Instant = AwareDatetime
StayDays = Annotated[int, Field(ge=0, le=3650)]
AgeYears = Annotated[int, Field(ge=0, le=130)]
TravelMinutes = Annotated[int, Field(ge=0, le=2880)]

__all__ = [
    "UUID",
    "AgeYears",
    "Code",
    "ContractBroken",
    "Envelope",
    "Event",
    "Instant",
    "PayerKind",
    "Sex",
    "Source",
    "StayDays",
    "Topic",
    "TravelMinutes",
    "Urgency",
]
