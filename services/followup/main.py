"""Composition of the follow-up service."""

from services.followup import actions
from services.followup.api import router
from services.followup.consumers import POLICY, SUBSCRIPTIONS
from services.followup.settings import Settings
from shared.db import Database, transaction
from shared.service import ServiceSpec, Timer, main


async def escalate_overdue_tasks(db: Database) -> None:
    """Escalate what is overdue, a bounded number of plans in each transaction, until nothing is left (R33)."""
    missed = 1
    while missed:
        async with transaction(db) as tx:
            missed = await actions.escalate_overdue(tx, POLICY)


SPEC = ServiceSpec(
    name="followup",
    title="Follow-up 随访",
    router=router,
    subscriptions=SUBSCRIPTIONS,
    timers=(Timer("overdue", 60.0, escalate_overdue_tasks),),
)

if __name__ == "__main__":
    main(SPEC, Settings())
