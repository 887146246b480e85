"""Composition of the billing service."""

from fastapi import APIRouter

from services.billing import api, api_bills, api_prices, arrears_actions, price_actions, recon_actions
from services.billing.api_arrears import arrears_router
from services.billing.api_desk import desk_router
from services.billing.api_papers import PressRoom, papers_router
from services.billing.api_recon import recon_router
from services.billing.api_refunds import refund_router
from services.billing.api_worklist import worklist_router
from services.billing.consumers import RULES, SUBSCRIPTIONS
from services.billing.documents.model import Letterhead
from services.billing.errands import Errands
from services.billing.outside import connect
from services.billing.prices import catalogue
from services.billing.settings import DeskRules, Settings
from shared.db import Database, transaction
from shared.service import Runtime, ServiceSpec, Timer, main
from shared.web import Door

BED_DAYS_SECONDS = 600.0
RECONCILIATION_SECONDS = 900.0
ARREARS_SECONDS = 300.0
DESK = DeskRules()


async def furnish(db: Database) -> None:
    """Give a new, empty catalogue the prices of its file."""
    async with transaction(db) as tx:
        await price_actions.furnish_when_empty(tx, catalogue.load(RULES.prices_file))


async def price_bed_days(db: Database) -> None:
    """Charge the bed days that came to an end since the last look."""
    if RULES.policy.auto:
        await price_actions.price_open_stays(db, RULES)


async def judge_arrears(db: Database) -> None:
    """Put every arrears flag as it should be."""
    await arrears_actions.judge_all(db, RULES.arrears)


async def match_yesterday(db: Database) -> None:
    """Have yesterday matched with every party, once."""
    async with transaction(db) as tx:
        await recon_actions.order_yesterday(tx, RULES.zone)


def spec(settings: Settings) -> ServiceSpec:
    """Return the service as this hospital connects it."""
    outside = connect(settings)
    errands = Errands(outside)
    room = PressRoom(Letterhead(DESK.hospital_name_zh, DESK.hospital_name_en, RULES.hospital_zone))

    def routes(door: Door) -> APIRouter:
        found = api.router(door)
        found.include_router(api_bills.bill_router(door, outside, RULES))
        found.include_router(api_prices.router(door, RULES))
        found.include_router(refund_router(door, DESK))
        found.include_router(desk_router(door))
        found.include_router(recon_router(door, RULES))
        found.include_router(worklist_router(door, RULES, DESK))
        found.include_router(papers_router(door, room))
        found.include_router(arrears_router(door, RULES))
        return found

    async def run_errands(runtime: Runtime) -> None:
        try:
            await errands.run(runtime.db)
        finally:
            await outside.close()

    return ServiceSpec(
        name="billing",
        title="Billing 费用与结算",
        router=routes,
        subscriptions=SUBSCRIPTIONS,
        timers=(
            Timer("bed_days", BED_DAYS_SECONDS, price_bed_days),
            Timer("arrears", ARREARS_SECONDS, judge_arrears),
            Timer("reconciliation", RECONCILIATION_SECONDS, match_yesterday),
        ),
        parts={"errands": run_errands},
        public_paths=frozenset({f"/api/billing{api_bills.NOTICE_PATH}", "/api/billing/prices"}),
        on_start=furnish,
    )


if __name__ == "__main__":
    chosen = Settings()
    main(spec(chosen), chosen)
