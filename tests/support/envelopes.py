"""Envelopes for tests that hand an event to a consumer without a broker."""

from datetime import datetime
from uuid import UUID, uuid4

from shared.contracts.envelope import Envelope, Event


def envelope_for(
    event: Event, *, at: datetime, correlation_id: UUID | None = None, source: str = "live", version: int = 1
) -> Envelope:
    """Return the envelope an event would arrive in."""
    headers = {
        "ce_id": str(uuid4()),
        "ce_type": event.ce_type(),
        "ce_subject": event.aggregate_id,
        "ce_aggregateversion": str(version),
        "ce_time": at.isoformat(),
        "ce_factsource": source,
    }
    if correlation_id is not None:
        headers["ce_correlationid"] = str(correlation_id)
    return Envelope(event.topic.name, 0, 0, [(name, value.encode()) for name, value in headers.items()])
