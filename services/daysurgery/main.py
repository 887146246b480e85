"""Composition of the day-surgery service."""

from services.daysurgery.api import router
from services.daysurgery.consumers import SUBSCRIPTIONS
from services.daysurgery.settings import Settings
from shared.service import ServiceSpec, main

SPEC = ServiceSpec(name="daysurgery", title="Day surgery 日间手术", router=router, subscriptions=SUBSCRIPTIONS)

if __name__ == "__main__":
    main(SPEC, Settings())
