"""Which service reads which topic, as the services themselves declare it."""

from functools import cache

from infra.cli.house import spec_of
from shared.contracts.registry import SERVICES_WITH_EVENTS


@cache
def topics_read_by() -> dict[str, tuple[str, ...]]:
    """Return the topics each service subscribes to; a service reads every event of such a topic, handled or not."""
    return {
        service: tuple(sorted({subscription.event.topic.name for subscription in spec_of(service).subscriptions}))
        for service in SERVICES_WITH_EVENTS
    }
