"""Which service reads which topic, as the services themselves declare it."""

from functools import lru_cache
from importlib import import_module
from typing import Any

from shared.contracts.registry import SERVICES_WITH_EVENTS


@lru_cache
def topics_read_by() -> dict[str, tuple[str, ...]]:
    """Return the topics each service subscribes to; a service reads every event of such a topic, handled or not."""
    return {
        service: tuple(sorted({subscription.event.topic.name for subscription in _subscriptions(service)}))
        for service in SERVICES_WITH_EVENTS
    }


def _subscriptions(service: str) -> tuple[Any, ...]:
    consumers = import_module(f"services.{service}.consumers")
    declared = getattr(consumers, "SUBSCRIPTIONS", None)
    if declared is None:  # handlers that need the hospital's settings; which settings makes no difference here
        settings = import_module(f"services.{service}.settings").Settings(database_url="unused")
        declared = consumers.subscriptions(settings)
    return tuple(declared)
