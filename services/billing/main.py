"""Composition of the billing service."""

from services.billing.api import router
from services.billing.consumers import SUBSCRIPTIONS
from services.billing.settings import Settings
from shared.service import ServiceSpec, main

SPEC = ServiceSpec(name="billing", title="Billing 费用与结算", router=router, subscriptions=SUBSCRIPTIONS)

if __name__ == "__main__":
    main(SPEC, Settings())
