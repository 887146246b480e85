"""Composition of the admission service."""

from services.admission.api import router
from services.admission.consumers import SUBSCRIPTIONS
from services.admission.settings import Settings
from shared.service import ServiceSpec, main

SPEC = ServiceSpec(name="admission", title="Admission 入院", router=router, subscriptions=SUBSCRIPTIONS)

if __name__ == "__main__":
    main(SPEC, Settings())
