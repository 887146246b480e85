"""All topics and all events by name; what the launcher, the relay, the consumers and the documents are made from."""

import inspect
from types import ModuleType

from shared.contracts import admission, beds, billing, daysurgery, followup
from shared.contracts.envelope import Event, Topic

MODULES: tuple[ModuleType, ...] = (admission, beds, billing, daysurgery, followup)
SERVICES_WITH_EVENTS = ("admission", "beds", "billing", "daysurgery", "followup")

EVENTS: dict[str, type[Event]] = {
    cls.ce_type(): cls
    for module in MODULES
    for cls in vars(module).values()
    if inspect.isclass(cls) and issubclass(cls, Event) and hasattr(cls, "topic") and not cls.__name__.endswith("Event")
}
"""CloudEvents type -> event class."""

EVENT_TOPICS: dict[str, Topic] = {cls.topic.name: cls.topic for cls in EVENTS.values()}
"""Topics that carry facts."""

PARKED_TOPICS: dict[str, Topic] = {
    f"{service}.parked.v1": Topic(f"{service}.parked.v1", owner=service, key="aggregate_id", partitions=1)
    for service in SERVICES_WITH_EVENTS
}
"""Mirrors of the parked tables, for alarms only."""

RESYNC_TOPICS: dict[str, Topic] = {
    f"{service}.resync.v1": Topic(f"{service}.resync.v1", owner="any consumer", key="aggregate_id", partitions=1)
    for service in SERVICES_WITH_EVENTS
}
"""Requests to the owner to send events again from its outbox (R16)."""

TOPICS: dict[str, Topic] = {**EVENT_TOPICS, **PARKED_TOPICS, **RESYNC_TOPICS}
"""Every topic the launcher creates; the broker creates none by itself (R17)."""
