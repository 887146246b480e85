"""SQL of prices: the catalogue, what is charged by time, and which entry charged what. One function, one statement.

Money is not moved here; `services.billing.actions` posts and reverses, this remembers what an entry was for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from services.billing.prices.catalogue import PriceRow, Published
from services.billing.prices.rules import CameToBed, DayCharge, LeftBed, PostedDay, Price
from shared.db import Transaction, refusing

REPRICED = "repriced"
"""The reason of a reversal that repricing made; any other reason is a person's, and what a person took off stays off."""

# ---- the catalogue ---------------------------------------------------------------------------------------------------


async def lock_catalogue(tx: Transaction) -> None:
    """Wait until nobody else publishes; two publications are two versions, one after the other."""
    await tx.conn.execute("SELECT pg_advisory_xact_lock(hashtext('billing.prices'))")


async def get_version(tx: Transaction) -> int:
    """Return the number of the newest publication, 0 when there is none."""
    number: int = await tx.conn.fetchval("SELECT coalesce(max(number), 0) FROM price_version")
    return number


async def list_published(tx: Transaction, codes: Sequence[str]) -> list[Published]:
    """Return every price ever published of these items, but those that were withdrawn."""
    rows = await tx.conn.fetch("SELECT * FROM price WHERE code = ANY($1) ORDER BY id", codes)
    return [Published(row["id"], _price_row(row)) for row in rows]


def _price_row(row: Any) -> PriceRow:
    return PriceRow(
        code=row["code"],
        name_zh=row["name_zh"],
        name_en=row["name_en"],
        pinyin=row["pinyin"],
        item_class=row["class"],
        receipt_class=row["receipt_class"],
        insurance_class=row["insurance_class"],
        unit=row["unit"],
        price_fen=row["price_fen"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        remark=row["remark"],
    )


async def insert_version(tx: Transaction, number: int, note: str) -> None:
    """Write a new publication."""
    await tx.conn.execute(
        "INSERT INTO price_version (number, published_at, published_by, note) VALUES ($1, $2, $3, $4)",
        number,
        tx.now,
        tx.actor,
        note,
    )


async def end_prices(tx: Transaction, ends: Sequence[tuple[int, date | None]]) -> None:
    """Let prices hold until another day; when they began does not change."""
    await tx.conn.execute(
        "UPDATE price_item p SET valid = daterange(lower(p.valid), e.valid_to)"
        " FROM unnest($1::bigint[], $2::date[]) AS e(id, valid_to) WHERE p.id = e.id",
        [price_id for price_id, _ in ends],
        [end for _, end in ends],
    )


async def withdraw_prices(tx: Transaction, price_ids: Sequence[int], version: int) -> None:
    """Take back prices that never held."""
    await tx.conn.execute("UPDATE price_item SET withdrawn_in = $2 WHERE id = ANY($1)", price_ids, version)


async def insert_prices(tx: Transaction, version: int, rows: Sequence[PriceRow]) -> None:
    """Publish new prices; the schema refuses two for one day (R59)."""
    await tx.conn.execute(
        "INSERT INTO price_item (version, code, name_zh, name_en, pinyin, class, receipt_class, insurance_class, unit, price_fen,"
        " remark, valid) SELECT $1, p.code, p.name_zh, p.name_en, p.pinyin, p.class, p.receipt_class, p.insurance_class, p.unit,"
        " p.price_fen, p.remark, daterange(p.valid_from, p.valid_to)"
        " FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[],"
        " $11::text[], $12::date[], $13::date[]) AS p(code, name_zh, name_en, pinyin, class, receipt_class, insurance_class, unit,"
        " price_fen, remark, valid_from, valid_to)",
        version,
        *(
            [getattr(row, name) for row in rows]
            for name in (
                "code",
                "name_zh",
                "name_en",
                "pinyin",
                "item_class",
                "receipt_class",
                "insurance_class",
                "unit",
                "price_fen",
                "remark",
                "valid_from",
                "valid_to",
            )
        ),
    )


async def list_prices(
    tx: Transaction, *, on: date, words: str | None, item_class: str | None, after: str | None, rows_max: int
) -> list[Any]:
    """Return the prices that hold on a day, by code; `words` are part of a name, or the beginning of a code or pinyin code."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT * FROM price WHERE valid @> $1::date"
        " AND ($2::text IS NULL OR starts_with(upper(code), upper($2)) OR starts_with(pinyin, upper($2))"
        "      OR position($2 in name_zh) > 0 OR position(lower($2) in lower(name_en)) > 0)"
        " AND ($3::text IS NULL OR class = $3) AND ($4::text IS NULL OR code > $4) ORDER BY code LIMIT $5",
        on,
        words,
        item_class,
        after,
        rows_max,
    )
    return rows


async def list_prices_between(tx: Transaction, items: Iterable[str], first: date, last: date) -> list[Price]:
    """Return the prices of these items that hold on any day from first to last."""
    rows = await tx.conn.fetch(
        "SELECT id, code, class, unit, price_fen, valid_from, valid_to FROM price"
        " WHERE code = ANY($1) AND valid && daterange($2, $3, '[]') ORDER BY code, valid_from",
        list(items),
        first,
        last,
    )
    return [
        Price(
            row["id"],
            row["code"],
            row["class"],
            row["unit"],
            row["price_fen"],
            row["valid_from"],
            row["valid_to"],
        )
        for row in rows
    ]


# ---- where patients lay ----------------------------------------------------------------------------------------------


async def insert_bed_fact(
    tx: Transaction,
    *,
    encounter_id: UUID,
    kind: Literal["came", "left", "away", "back"],
    bed_id: int,
    version: int,
    at: datetime,
    ward: str | None = None,
    accommodation: str | None = None,
) -> bool:
    """Keep what the bed pool told, once; say whether the stay is charged by the catalogue."""
    is_priced: bool = await tx.conn.fetchval(
        "WITH told AS (INSERT INTO bed_fact (encounter_id, kind, bed_id, version, at, ward, accommodation, source)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING)"
        " SELECT EXISTS (SELECT FROM priced_stay WHERE encounter_id = $1)",
        encounter_id,
        kind,
        bed_id,
        version,
        at,
        ward,
        accommodation,
        tx.source,
    )
    return is_priced


@dataclass(frozen=True, slots=True)
class BedFacts:
    """What the bed pool told of one stay; `imported` when any of it is older than this system."""

    came: tuple[CameToBed, ...]
    left: tuple[LeftBed, ...]
    away: tuple[tuple[int, datetime, bool], ...]
    imported: bool


async def list_bed_facts(tx: Transaction, encounter_id: UUID) -> BedFacts:
    """Return what the bed pool told of a stay."""
    rows = await tx.conn.fetch("SELECT * FROM bed_fact WHERE encounter_id = $1", encounter_id)
    return BedFacts(
        came=tuple(
            CameToBed(row["version"], row["at"], row["bed_id"], row["ward"], row["accommodation"])
            for row in rows
            if row["kind"] == "came"
        ),
        left=tuple(LeftBed(row["bed_id"], row["at"]) for row in rows if row["kind"] == "left"),
        away=tuple(
            (row["version"], row["at"], row["kind"] == "away") for row in rows if row["kind"] in ("away", "back")
        ),
        imported=any(row["source"] == "import" for row in rows),
    )


# ---- stays charged by the catalogue ----------------------------------------------------------------------------------


async def mark_priced(tx: Transaction, encounter_id: UUID) -> None:
    """Note that a stay is charged by the catalogue from now on."""
    await tx.conn.execute("INSERT INTO priced_stay (encounter_id) VALUES ($1) ON CONFLICT DO NOTHING", encounter_id)


async def is_priced(tx: Transaction, encounter_id: UUID) -> bool:
    """Say whether a stay is charged by the catalogue."""
    found: bool = await tx.conn.fetchval(
        "SELECT EXISTS (SELECT FROM priced_stay WHERE encounter_id = $1)", encounter_id
    )
    return found


async def list_stays_to_price(tx: Transaction, *, after: UUID | None, rows_max: int) -> list[UUID]:
    """Return open stays charged by the catalogue, none of them imported."""
    rows = await tx.conn.fetch(
        "SELECT p.encounter_id FROM priced_stay p JOIN account a USING (encounter_id)"
        " WHERE a.state = 'open' AND ($1::uuid IS NULL OR p.encounter_id > $1)"
        " AND NOT EXISTS (SELECT FROM bed_fact f WHERE f.encounter_id = p.encounter_id AND f.source = 'import')"
        " ORDER BY p.encounter_id LIMIT $2",
        after,
        rows_max,
    )
    return [row["encounter_id"] for row in rows]


async def list_posted_days(tx: Transaction, encounter_id: UUID) -> list[PostedDay]:
    """Return every bed day that was ever charged to a stay, with what became of it."""
    rows = await tx.conn.fetch(
        "SELECT c.*, e.item, l.fen FROM priced_charge c JOIN entry e ON e.id = c.entry_id"
        " JOIN line l ON l.entry_id = e.id AND l.fen > 0 WHERE c.encounter_id = $1 AND c.day IS NOT NULL ORDER BY c.day, c.halves",
        encounter_id,
    )
    return [
        PostedDay(
            row["entry_id"],
            DayCharge(
                row["day"],
                row["halves"].lower,
                row["halves"].upper - row["halves"].lower,
                row["ward"],
                row["price_id"],
                row["item"],
                row["fen"],
            ),
            live=row["reversed_by"] is None,
            waived=row["reversed_by"] is not None and row["reversal_reason"] != REPRICED,
        )
        for row in rows
    ]


async def insert_day_charge(
    tx: Transaction, entry_id: UUID, encounter_id: UUID, charge: DayCharge, executed_at: datetime
) -> None:
    """Note which bed day an entry charged; the schema refuses the same half of a day twice."""
    await tx.conn.execute(
        "INSERT INTO priced_charge (entry_id, encounter_id, price_id, quantity, executed_at, day, halves, ward)"
        " VALUES ($1, $2, $3, $4, $5, $6, int4range($7, $8), $9)",
        entry_id,
        encounter_id,
        charge.price_id,
        charge.halves,
        executed_at,
        charge.day,
        charge.first_half,
        charge.first_half + charge.halves,
        charge.ward,
    )


async def insert_priced_charge(
    tx: Transaction,
    entry_id: UUID,
    encounter_id: UUID,
    *,
    price_id: int,
    quantity: int,
    executed_at: datetime,
    order_id: str | None = None,
    timed_item_id: UUID | None = None,
) -> None:
    """Note what an entry charged; the schema refuses an order or a timed item twice (R73, V19)."""
    await tx.conn.execute(
        "INSERT INTO priced_charge (entry_id, encounter_id, price_id, quantity, executed_at, order_id, timed_item_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        entry_id,
        encounter_id,
        price_id,
        quantity,
        executed_at,
        order_id,
        timed_item_id,
    )


# ---- executed orders -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it was bound; `charged_by` is its live charge."""

    order_id: str
    encounter_id: UUID
    item: str
    barcode: str | None
    charged_by: UUID | None


async def insert_order(tx: Transaction, order_id: str, encounter_id: UUID, *, item: str, barcode: str | None) -> bool:
    """Bind an order to its item and barcode; False when the order is known, or the barcode is another order's."""
    done: str = await tx.conn.execute(
        "INSERT INTO executed_order (order_id, encounter_id, item, barcode, bound_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        order_id,
        encounter_id,
        item,
        barcode,
        tx.now,
    )
    return done.endswith("1")


async def get_order(tx: Transaction, order_id: str) -> Order | None:
    """Return an order with its live charge."""
    row = await tx.conn.fetchrow(
        "SELECT o.order_id, o.encounter_id, o.item, o.barcode, c.entry_id AS charged_by FROM executed_order o"
        " LEFT JOIN priced_charge c ON c.order_id = o.order_id AND c.reversed_by IS NULL WHERE o.order_id = $1",
        order_id,
    )
    return None if row is None else Order(**row)


_RUNS_ONCE = {"runs_once_at_a_time": ("runs_already", "The same item ran for this patient at that time already.")}

# ---- timed items -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TimedItem:
    """What runs or ran by the hour, with its price and its live charge."""

    id: UUID
    item: str
    price_id: int
    price_fen: int
    started_at: datetime
    stopped_at: datetime | None
    charged_by: UUID | None
    times_charged: int


async def insert_timed_item(
    tx: Transaction, timed_item_id: UUID, encounter_id: UUID, price: Price, started_at: datetime
) -> bool:
    """Start an item; False when it runs already, or ran then."""
    done: str = await tx.conn.execute(
        "INSERT INTO timed_item (id, encounter_id, item, price_id, started_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        timed_item_id,
        encounter_id,
        price.item,
        price.id,
        started_at,
    )
    return done.endswith("1")


async def get_timed_item(tx: Transaction, encounter_id: UUID, timed_item_id: UUID) -> TimedItem | None:
    """Return a timed item of this stay."""
    row = await tx.conn.fetchrow(
        "SELECT id, item, price_id, price_fen, started_at, stopped_at, charged_by, times_charged FROM timed_run"
        " WHERE encounter_id = $1 AND id = $2",
        encounter_id,
        timed_item_id,
    )
    return None if row is None else TimedItem(**row)


async def list_timed_items(tx: Transaction, encounter_id: UUID) -> list[TimedItem]:
    """Return the timed items of a stay, by when they started."""
    rows = await tx.conn.fetch(
        "SELECT id, item, price_id, price_fen, started_at, stopped_at, charged_by, times_charged FROM timed_run"
        " WHERE encounter_id = $1 ORDER BY started_at, id",
        encounter_id,
    )
    return [TimedItem(**row) for row in rows]


async def mark_timed_item(
    tx: Transaction, timed_item_id: UUID, started_at: datetime, stopped_at: datetime | None, price_id: int
) -> None:
    """Write from when until when an item ran, at the price of its start.

    Raises:
        Refused: another run of the same item has some of that time.
    """
    with refusing(_RUNS_ONCE):
        await tx.conn.execute(
            "UPDATE timed_item SET started_at = $2, stopped_at = $3, price_id = $4 WHERE id = $1",
            timed_item_id,
            started_at,
            stopped_at,
            price_id,
        )
