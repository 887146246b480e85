"""Doors of prices under /api/billing: the public price list, what is charged by it, bed days and hours."""

import re
from datetime import date, datetime
from typing import Annotated, Any, NoReturn, Self, assert_never
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from services.billing import price_actions, price_store, store
from services.billing.actions import Charged
from services.billing.api_refusals import check_ward, refuse
from services.billing.arrears import ArrearsLimit
from services.billing.domain import ChargeSettled, NoAccount, NotOpen, TooMuch
from services.billing.price_actions import (
    AlreadyStopped,
    BarcodeMismatch,
    BarcodeUsed,
    BedDaysPriced,
    ChargedByTime,
    ItemStarted,
    ItemStopped,
    NoSuchTimedItem,
    NotByTheHour,
    NotInCatalogue,
    OrderBound,
    OrderCharged,
    OrderOfAnother,
    PriceRefusal,
    RunsAlready,
    StopsBeforeStart,
    TakenOff,
)
from services.billing.prices import catalogue
from services.billing.prices.catalogue import CLASSES, INSURANCE_CLASSES, RECEIPT_CLASSES, UNITS, Conflicts, PriceRow
from services.billing.prices.rules import BedDay, DayCharge
from services.billing.settings import PriceRules
from shared.access.policy import Permission
from shared.clock import business_date
from shared.contracts.envelope import Code
from shared.db import RETRYABLE, Transaction
from shared.errors import Invalid, NotFound, Refused, TooManyRequests, Unavailable
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door, FactBody, Moment, next_link, page_of

ITEMS_PER_VERSION_MAX = 5000
QUANTITY_MAX = 10_000


def _known(words: Any) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, str) or value not in words:
            raise ValueError("It is none of the known codes.")
        return value

    return BeforeValidator(check)


def _written_out(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return value
    raise ValueError("A day is written out, such as 2026-01-31.")


Name = Annotated[str, StringConstraints(min_length=1, max_length=catalogue.NAME_LENGTH_MAX, pattern=r"^[^\x00-\x1f]+$")]
Day = Annotated[date, BeforeValidator(_written_out)]
Quantity = Annotated[int, Field(strict=True, ge=1, le=QUANTITY_MAX)]


class PriceEntry(Body):
    """An item at a price, from a day until before another."""

    code: Code
    name_zh: Name
    name_en: Name
    pinyin: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,40}$")]
    item_class: Annotated[str, _known(CLASSES), Field(alias="class")]
    receipt_class: Annotated[str, _known(RECEIPT_CLASSES)]
    insurance_class: Annotated[str, _known(INSURANCE_CLASSES)]
    unit: Annotated[str, _known(UNITS)]
    price_fen: Annotated[int, Field(strict=True, gt=0, le=catalogue.PRICE_FEN_MAX)]
    valid_from: Day
    valid_to: Day | None = None
    remark: Annotated[str, StringConstraints(max_length=catalogue.NAME_LENGTH_MAX)] = ""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if (wrong := catalogue.why_not(self.row())) is not None:
            raise ValueError(wrong)
        return self

    def row(self) -> PriceRow:
        """Return it as the catalogue knows it."""
        return PriceRow(**self.model_dump())


class NewPrices(Body):
    """Prices to publish, all or none."""

    prices: Annotated[list[PriceEntry], Field(min_length=1, max_length=ITEMS_PER_VERSION_MAX)]
    note: Annotated[str, StringConstraints(max_length=200)] = ""
    check: Annotated[bool, Field(strict=True, description="Only say what would happen.")] = False

    @model_validator(mode="after")
    def _one_price_at_a_time(self) -> Self:
        if next(catalogue.overlapping(entry.row() for entry in self.prices), None) is not None:
            raise ValueError("An item has two prices for one day.")
        return self


class ItemCharge(FactBody):
    """What was used; with an order also the barcode that was scanned."""

    item: Code
    quantity: Quantity = 1
    order_id: Code | None = None
    barcode: Code | None = None
    at: Annotated[Moment | None, Field(description="When it was used; now when nothing is said.")] = None
    urgent: Annotated[
        bool, Field(strict=True, description="It cannot wait: arrears do not stop it (优先救治). On record.")
    ] = False
    override: Annotated[
        Code | None, Field(description="Why it goes through in spite of arrears; for who may say so. On record.")
    ] = None

    @model_validator(mode="after")
    def _barcode_needs_an_order(self) -> Self:
        if self.barcode is not None and self.order_id is None:
            raise ValueError("A barcode belongs to an order.")
        return self


class OrderBinding(FactBody):
    """Which item an order is for, and the one barcode of what will be used."""

    order_id: Code
    item: Code
    barcode: Code | None = None


class Start(FactBody):
    """What starts to run."""

    item: Code
    at: Moment | None = None


class Stop(FactBody):
    """It stops."""

    at: Moment | None = None


class Run(FactBody):
    """From when until when it really ran."""

    started_at: Moment
    stopped_at: Moment


class BedDaysUntilNow(FactBody):
    """Charge the bed days until now by the catalogue."""


def router(door: Door, rules: PriceRules) -> APIRouter:
    """Return the routes of prices."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)
    _catalogue_routes(routes, door, rules)
    _item_routes(routes, door, rules)
    _timed_routes(routes, door, rules)
    _bed_day_routes(routes, door, rules)
    return routes


def _refuse_price(
    refusal: PriceRefusal | NoAccount | NotOpen | TooMuch | ChargeSettled, encounter_id: UUID
) -> NoReturn:
    match refusal:
        case NoAccount() | NotOpen() | TooMuch() | ChargeSettled():
            refuse(refusal, encounter_id, may_open=True)
        case NotInCatalogue():
            raise Refused(
                "No price was published for this item and day; only published prices are charged.",
                code="not_in_catalogue",
            )
        case ChargedByTime():
            raise Refused("Bed days and hours are counted here and not charged by hand.", code="charged_by_time")
        case NotByTheHour():
            raise Refused("This item is not priced by the hour.", code="not_by_the_hour")
        case BarcodeMismatch():
            raise Refused("What was scanned is not what belongs to this order.", code="barcode_mismatch")
        case BarcodeUsed():
            raise Refused("This barcode belongs to another order.", code="barcode_used")
        case OrderOfAnother():
            raise Refused("This order is of another stay or for another item.", code="order_differs")
        case OrderCharged(entry_id=entry_id):
            raise Refused("This order was charged before.", code="order_charged", entry_id=entry_id)
        case RunsAlready():
            raise Refused("The same item ran for this patient at that time already.", code="runs_already")
        case NoSuchTimedItem():
            raise NotFound("The stay has no such timed item.", code="no_such_timed_item")
        case AlreadyStopped():
            raise Refused("It was stopped before; a wrong time is corrected.", code="already_stopped")
        case StopsBeforeStart():
            raise Refused("It would end before it began.", code="stops_before_start")
        case ArrearsLimit(owed_fen=owed_fen, limit_fen=limit_fen):
            raise Refused(
                "The stay would owe more than it may; take a deposit, or say that it is urgent.",
                code="arrears_limit",
                owed_fen=owed_fen,
                limit_fen=limit_fen,
            )
        case TakenOff():
            raise Refused("Its charge was reversed; a correction does not charge it anew.", code="charge_reversed")
        case _:
            assert_never(refusal)


async def _check(tx: Transaction, caller: Caller, permission: Permission, encounter_id: UUID) -> None:
    """Refuse who may do this in other wards only, before anything of the account is told (S1)."""
    tx.correlation_id = encounter_id
    check_ward(caller, permission, await store.get_ward(tx, encounter_id), encounter_id)


def _not_later(at: datetime | None, now: datetime) -> datetime:
    if at is not None and at > now:
        raise Invalid("What has not happened yet is not charged.", code="in_the_future")
    return at or now


# ---- the catalogue ---------------------------------------------------------------------------------------------------


def _catalogue_routes(routes: APIRouter, door: Door, rules: PriceRules) -> None:
    limiter = FixedWindowRateLimiter(MemoryStorage())
    looks = RateLimitItemPerMinute(rules.price_looks_per_minute_max)

    @routes.get("/prices", summary="The public price list (价格公示); no login")
    async def get_prices(
        request: Request,
        on: date | None = None,
        q: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
        item_class: Annotated[str | None, Query(alias="class", max_length=64)] = None,
    ) -> dict[str, Any]:
        page = page_of(request)
        if not await limiter.hit(looks, request.client.host if request.client else "unknown"):
            raise TooManyRequests(
                "Too many looks at the prices from this address; wait a minute.", retry_after_seconds=60
            )
        try:
            async with door.db.pool.acquire(timeout=10) as conn:
                now = door.db.clock.stamp(await conn.fetchval("SELECT clock_timestamp()"))
                day = on or business_date(now, rules.hospital_zone)
                rows = await price_store.list_prices(
                    Transaction(conn=conn, now=now),
                    on=day,
                    words=q,
                    item_class=item_class,
                    after=page.after,
                    rows_max=page.limit,
                )
        except RETRYABLE as error:
            raise Unavailable("The price list is not there now; try again.", retry_after_seconds=2) from error
        return {
            "on": day,
            "prices": [_shown_price(row) for row in rows],
            "next": next_link(request, rows[-1]["code"] if len(rows) == page.limit else None),
        }

    @routes.post("/price-versions", status_code=201, summary="Publish prices, all or none; what held is history")
    async def publish(request: Request, body: NewPrices) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            caller.require(Permission.PRICES_MANAGE)
            done = await price_actions.publish_prices(
                tx, rules, [entry.row() for entry in body.prices], note=body.note, check=body.check
            )
            if isinstance(done, Conflicts):
                raise Refused(
                    "Prices that are public already stand against it; nothing was published.",
                    code="prices_conflict",
                    conflicts=[{"index": index, "problem": why} for index, why in done.of],
                )
            answer = {name: getattr(done, name) for name in ("version", "added", "ended", "withdrawn", "known")}
            return Answered(answer, "price_version", done.version, status=201)

        return await door.command(request, Permission.PRICES_MANAGE, act, body=body)


def _shown_price(row: Any) -> dict[str, Any]:
    names = ("code", "name_zh", "name_en", "pinyin", "class", "receipt_class", "insurance_class", "unit", "price_fen",
             "valid_from", "valid_to", "remark", "version")  # fmt: skip
    return {
        **{name: row[name] for name in names},
        "receipt_name": RECEIPT_CLASSES[row["receipt_class"]],
        "insurance_name": INSURANCE_CLASSES[row["insurance_class"]],
        "unit_zh": UNITS[row["unit"]],
    }


# ---- items and orders ------------------------------------------------------------------------------------------------


def _item_routes(routes: APIRouter, door: Door, rules: PriceRules) -> None:
    @routes.post("/encounters/{encounter_id}/items", status_code=201, summary="Charge an item at its published price")
    async def charge_item(request: Request, encounter_id: UUID, body: ItemCharge) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await _check(tx, caller, Permission.CHARGES_POST, encounter_id)
            if body.override is not None:
                await _check(tx, caller, Permission.ARREARS_OVERRIDE, encounter_id)
            outcome = await price_actions.charge_item(
                tx,
                rules,
                encounter_id=encounter_id,
                item=body.item,
                quantity=body.quantity,
                at=_not_later(body.at, tx.now),
                order_id=body.order_id,
                barcode=body.barcode,
                let_through=body.urgent or body.override is not None,
            )
            if not isinstance(outcome, Charged):
                _refuse_price(outcome, encounter_id)
            answer = {
                "account_id": outcome.account_id,
                "entry_id": outcome.entry_id,
                "amount_fen": outcome.amount_fen,
                "charged_fen": outcome.charged_fen,
            }
            why = f"override:{body.override}" if body.override else "urgent" if body.urgent else None
            return Answered(answer, "charge", outcome.entry_id, outcome.patient_tok, status=201, purpose=why)

        return await door.command(request, Permission.CHARGES_POST, act, body=body)

    @routes.post(
        "/encounters/{encounter_id}/medical-orders",
        status_code=201,
        summary="Bind an order (医嘱) to its item and barcode",
    )
    async def bind_order(request: Request, encounter_id: UUID, body: OrderBinding) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await _check(tx, caller, Permission.CHARGES_POST, encounter_id)
            outcome = await price_actions.bind_order(
                tx, rules, encounter_id=encounter_id, order_id=body.order_id, item=body.item, barcode=body.barcode
            )
            if not isinstance(outcome, OrderBound):
                _refuse_price(outcome, encounter_id)
            answer = {"order_id": body.order_id, "item": body.item, "barcode": body.barcode}
            return Answered(answer, "order", body.order_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.CHARGES_POST, act, body=body)


# ---- what runs by the hour -------------------------------------------------------------------------------------------


def _timed_routes(routes: APIRouter, door: Door, rules: PriceRules) -> None:
    place = "/encounters/{encounter_id}/timed-items"

    @routes.get(place, summary="What runs and ran by the hour")
    async def list_timed(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            account = await _seen(tx, caller, encounter_id)
            items = await price_store.list_timed_items(tx, encounter_id)
            names = ("id", "item", "price_fen", "started_at", "stopped_at", "charged_by")
            body = {"timed_items": [{name: getattr(item, name) for name in names} for item in items]}
            return Answered(body, "timed_items", account.account_id, account.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.post(place, status_code=201, summary="Start oxygen, a monitor, or what else is priced by the hour")
    async def start(request: Request, encounter_id: UUID, body: Start) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await _check(tx, caller, Permission.CHARGES_POST, encounter_id)
            at = _not_later(body.at, tx.now)
            outcome = await price_actions.start_timed_item(tx, rules, encounter_id=encounter_id, item=body.item, at=at)
            if not isinstance(outcome, ItemStarted):
                _refuse_price(outcome, encounter_id)
            answer = {"timed_item_id": outcome.timed_item_id, "item": body.item, "started_at": at}
            return Answered(answer, "timed_item", outcome.timed_item_id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.CHARGES_POST, act, body=body)

    @routes.post(place + "/{timed_item_id}/stop", status_code=201, summary="Stop it and charge the started hours")
    async def stop(request: Request, encounter_id: UUID, timed_item_id: UUID, body: Stop) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await _check(tx, caller, Permission.CHARGES_POST, encounter_id)
            outcome = await price_actions.stop_timed_item(
                tx, rules, encounter_id=encounter_id, timed_item_id=timed_item_id, at=_not_later(body.at, tx.now)
            )
            if not isinstance(outcome, ItemStopped):
                _refuse_price(outcome, encounter_id)
            return _stopped(outcome, timed_item_id)

        return await door.command(request, Permission.CHARGES_POST, act, body=body)

    @routes.post(place + "/{timed_item_id}/correction", status_code=201, summary="Correct from when until when it ran")
    async def correct(request: Request, encounter_id: UUID, timed_item_id: UUID, body: Run) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await _check(tx, caller, Permission.CHARGES_REVERSE, encounter_id)
            outcome = await price_actions.correct_timed_item(
                tx,
                rules,
                encounter_id=encounter_id,
                timed_item_id=timed_item_id,
                started_at=body.started_at,
                stopped_at=_not_later(body.stopped_at, tx.now),
            )
            if not isinstance(outcome, ItemStopped):
                _refuse_price(outcome, encounter_id)
            return _stopped(outcome, timed_item_id)

        return await door.command(request, Permission.CHARGES_REVERSE, act, body=body)


def _stopped(outcome: ItemStopped, timed_item_id: UUID) -> Answered:
    answer = {
        "entry_id": outcome.entry_id,
        "steps": outcome.steps,
        "amount_fen": outcome.amount_fen,
        "charged_fen": outcome.charged_fen,
    }
    return Answered(answer, "timed_item", timed_item_id, outcome.account.patient_tok, status=201)


# ---- bed days --------------------------------------------------------------------------------------------------------


async def _seen(tx: Transaction, caller: Caller, encounter_id: UUID) -> store.Standing:
    standing = await store.get_standing(tx, encounter_id)
    if standing is None:
        raise NotFound("This stay has no account.", code="no_account")
    check_ward(caller, Permission.ACCOUNTS_READ, standing.ward, encounter_id)
    return standing


def _bed_day_routes(routes: APIRouter, door: Door, rules: PriceRules) -> None:
    @routes.get("/encounters/{encounter_id}/bed-days", summary="Bed days until now, as due and as charged")
    async def get_bed_days(request: Request, encounter_id: UUID) -> Response:
        async def read(tx: Transaction, caller: Caller) -> Answered:
            account = await _seen(tx, caller, encounter_id)
            found = await price_actions.due_days(tx, rules, encounter_id, until=tx.now)
            live = {posted.charge: posted for posted in found.posted if posted.live}
            body = {
                "due": [_shown_day(charge) for charge in found.due],
                "charged": [{**_shown_day(charge), "entry_id": live[charge].entry_id} for charge in live],
                "unpriced": [_shown_unpriced(day) for day in found.unpriced],
            }
            return Answered(body, "bed_days", account.account_id, account.patient_tok)

        return await door.query(request, Permission.ACCOUNTS_READ, read)

    @routes.post(
        "/encounters/{encounter_id}/bed-days",
        status_code=201,
        summary="Charge the bed days until now, correct wrong ones",
    )
    async def price_bed_days(request: Request, encounter_id: UUID, body: BedDaysUntilNow) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            await _check(tx, caller, Permission.CHARGES_POST, encounter_id)
            outcome = await price_actions.price_bed_days(tx, rules, encounter_id=encounter_id, until=tx.now)
            if not isinstance(outcome, BedDaysPriced):
                _refuse_price(outcome, encounter_id)
            answer = {
                "posted": [_shown_day(charge) for charge in outcome.posted],
                "reversed_fen": outcome.reversed_fen,
                "unpriced": [_shown_unpriced(day) for day in outcome.unpriced],
                "charged_fen": outcome.charged_fen,
            }
            return Answered(answer, "bed_days", outcome.account.id, outcome.account.patient_tok, status=201)

        return await door.command(request, Permission.CHARGES_POST, act, body=body)


def _shown_day(charge: DayCharge) -> dict[str, Any]:
    names = ("day", "first_half", "halves", "ward", "item", "amount_fen")
    return {name: getattr(charge, name) for name in names}


def _shown_unpriced(day: BedDay) -> dict[str, Any]:
    names = ("day", "first_half", "halves", "ward", "accommodation")
    return {name: getattr(day, name) for name in names}


__all__ = ["router"]
