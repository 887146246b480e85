"""SQL of beds and wards as things: what they are, cleaning, service. One function, one statement; claims and requests are in `store`."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from shared.db import Transaction


async def get_bed(tx: Transaction, bed_id: int) -> Any:
    """Return one bed, or nothing."""
    return await tx.conn.fetchrow("SELECT * FROM bed WHERE bed_id = $1", bed_id)


async def lock_bed(tx: Transaction, bed_id: int) -> Any:
    """Lock and return one bed, or nothing."""
    return await tx.conn.fetchrow("SELECT * FROM bed WHERE bed_id = $1 FOR UPDATE", bed_id)


async def mark_cleaning(tx: Transaction, bed_id: int, state: str) -> None:
    """Note how far cleaning is."""
    await tx.conn.execute(
        "UPDATE bed SET cleaning = $2, cleaning_started_at = CASE WHEN $2 = 'started' THEN $3 ELSE cleaning_started_at END,"
        " version = version + 1 WHERE bed_id = $1",
        bed_id,
        state,
        tx.now,
    )


async def mark_service(
    tx: Transaction, bed_id: int, service: str, *, reason: str | None, until: datetime | None
) -> None:
    """Write whether a bed may be used at all, and why not."""
    await tx.conn.execute(
        "UPDATE bed SET service = $2, suspended_reason = $3, suspended_until = $4, version = version + 1 WHERE bed_id = $1",
        bed_id,
        service,
        reason,
        until,
    )


async def list_due_blocks(tx: Transaction) -> list[int]:
    """Return blocked beds whose time is over."""
    rows = await tx.conn.fetch(
        "SELECT bed_id FROM bed WHERE service = 'suspended' AND suspended_until <= clock_timestamp() ORDER BY bed_id"
    )
    return [row["bed_id"] for row in rows]


async def mark_quotas_told(tx: Transaction, day: date) -> list[Any]:
    """Note and return partners' free beds whose release was not told today; what a page has seen of them stays true."""
    rows: list[Any] = await tx.conn.fetch(
        "UPDATE bed SET quota_told_on = $1 WHERE bed_id IN (SELECT bed_id FROM bed WHERE quota IS NOT NULL AND commitment = 'free'"
        " AND service = 'active' AND quota_told_on IS DISTINCT FROM $1 ORDER BY bed_id LIMIT 200 FOR UPDATE SKIP LOCKED)"
        " RETURNING bed_id, ward, quota",
        day,
    )
    return rows


async def has_later_claims(tx: Transaction, bed_id: int) -> bool:
    """Say whether anybody has a claim to this bed now or later, cleaning left out."""
    found: bool = await tx.conn.fetchval(
        "SELECT EXISTS (SELECT FROM bed_claim WHERE bed_id = $1 AND state IN ('held', 'occupied'))", bed_id
    )
    return found


async def mark_ward_open(tx: Transaction, ward: str, closed_reason: str | None) -> bool:
    """Open a ward, or close it for a reason; its beds show it; False when there is no such ward."""
    done: str = await tx.conn.execute(
        "WITH shown AS (UPDATE bed SET version = version + 1 WHERE ward = $1)"
        " UPDATE ward SET open = $2::text IS NULL, closed_reason = $2 WHERE ward = $1",
        ward,
        closed_reason,
    )
    return done.endswith("1")


async def mark_cleaned(tx: Transaction, bed_id: int) -> None:
    """The bed is clean since `tx.now`; its cleaning claim ends."""
    await tx.conn.execute(
        """
        WITH done AS (UPDATE bed_claim SET during = tstzrange(lower(during), greatest($2::timestamptz, lower(during) + interval '1 microsecond'))
                      WHERE bed_id = $1 AND state = 'cleaning' AND (upper(during) IS NULL OR upper(during) > $2::timestamptz))
        UPDATE bed SET condition = 'U', cleaning = NULL, cleaning_requested_at = NULL, cleaning_started_at = NULL,
                       busy_until = greatest(busy_until, $2::timestamptz + interval '1 microsecond'), version = version + 1
        WHERE bed_id = $1
        """,
        bed_id,
        tx.now,
    )


async def list_beds(tx: Transaction, *, ward: str | None, state: str | None, wards: Sequence[str] | None) -> list[Any]:
    """Return beds with their three axes, by ward and bed."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT bed_id, code, ward, room, kind, level, class, isolation, equipment, quota, service, condition, commitment, encounter_id, version"
        " FROM bed WHERE ($1::text IS NULL OR ward = $1) AND ($3::text[] IS NULL OR ward = ANY($3))"
        " AND ($2::text IS NULL OR commitment = $2 OR condition = $2) ORDER BY ward, bed_id",
        ward,
        state,
        wards,
    )
    return rows


async def list_ward_counts(tx: Transaction) -> list[Any]:
    """Return per ward how its beds partition (V5): every bed is in exactly one column."""
    rows: list[Any] = await tx.conn.fetch(
        "SELECT w.ward, w.building, w.floor, w.specialty, count(*) AS beds,"
        " count(*) FILTER (WHERE service <> 'active') AS out_of_service,"
        " count(*) FILTER (WHERE service = 'active' AND commitment IN ('active', 'leave')) AS occupied,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'held') AS held,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'free' AND condition = 'U') AS free,"
        " count(*) FILTER (WHERE service = 'active' AND commitment = 'free' AND condition <> 'U') AS to_clean"
        " FROM ward w JOIN bed b USING (ward) GROUP BY w.ward ORDER BY w.building, w.floor, w.ward"
    )
    return rows


async def insert_beds(tx: Transaction, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Add beds and their wards; returns the new beds."""
    wards = {row["ward"]: row for row in rows}.values()
    await tx.conn.execute(
        "INSERT INTO ward (ward, campus, building, floor, specialty, exclusive, age_min, age_max, name_zh, name_en, auxiliary)"
        " SELECT w.ward, w.campus, w.building, w.floor, w.specialty, w.exclusive, w.age_min, w.age_max, w.name_zh, w.name_en,"
        " string_to_array(w.auxiliary, ' ')"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::boolean[], $7::int[], $8::int[], $9::text[],"
        " $10::text[], $11::text[]) AS w(ward, campus, building, floor, specialty, exclusive, age_min, age_max, name_zh, name_en,"
        " auxiliary) ON CONFLICT DO NOTHING",
        *(
            [row[name] for row in wards]
            for name in ("ward", "campus", "building", "floor", "specialty", "exclusive", "age_min", "age_max")
        ),
        [row["ward_name_zh"] for row in wards],
        [row["ward_name_en"] for row in wards],
        [" ".join(row["auxiliary"]) for row in wards],
    )
    added: list[Any] = await tx.conn.fetch(
        "INSERT INTO bed (code, ward, room, kind, level, isolation, class, quota, equipment, extra)"
        " SELECT b.code, b.ward, b.room, b.kind, b.level, b.isolation, b.class, b.quota, string_to_array(b.equipment, ' '), b.extra"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[], $9::text[],"
        " $10::boolean[]) AS b(code, ward, room, kind, level, isolation, class, quota, equipment, extra)"
        " ON CONFLICT (code) DO NOTHING RETURNING bed_id, code, ward, kind",
        *(
            [row[name] for row in rows]
            for name in ("code", "ward", "room", "kind", "level", "isolation", "klass", "quota")
        ),
        [" ".join(row["equipment"]) for row in rows],
        [row.get("extra", False) for row in rows],
    )
    return added


async def list_places(
    tx: Transaction, wards: Sequence[str], rooms: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what is known of these wards, by the names a layout uses, and in which ward each of these rooms lies."""
    found = await tx.conn.fetch(
        "SELECT ward, campus, building, floor, specialty, auxiliary, exclusive, age_min, age_max, name_zh AS ward_name_zh,"
        " name_en AS ward_name_en FROM ward WHERE ward = ANY($1)",
        wards,
    )
    places = await tx.conn.fetch("SELECT DISTINCT room, ward FROM bed WHERE room = ANY($1)", rooms)
    known = {
        row["ward"]: {name: value for name, value in row.items() if name != "ward" and value != ""} for row in found
    }
    return known, {row["room"]: row["ward"] for row in places}


async def update_bed(tx: Transaction, bed_id: int, facts: Mapping[str, Any]) -> None:
    """Change what a bed is; what is not named stays."""
    await tx.conn.execute(
        "UPDATE bed SET room = coalesce($2, room), class = coalesce($3, class), isolation = coalesce($4, isolation),"
        " equipment = coalesce($5, equipment), quota = CASE WHEN $6 THEN $7 ELSE quota END, version = version + 1 WHERE bed_id = $1",
        bed_id,
        facts.get("room"),
        facts.get("klass"),
        facts.get("isolation"),
        facts.get("equipment"),
        "quota" in facts,
        facts.get("quota"),
    )


async def update_ward(tx: Transaction, ward: str, facts: Mapping[str, Any]) -> bool:
    """Change what a ward is; what is not named stays; False when there is no such ward."""
    done: str = await tx.conn.execute(
        "UPDATE ward SET specialty = coalesce($2, specialty), auxiliary = coalesce($3, auxiliary), exclusive = coalesce($4, exclusive),"
        " age_min = coalesce($5, age_min), age_max = coalesce($6, age_max), name_zh = coalesce($7, name_zh),"
        " name_en = coalesce($8, name_en) WHERE ward = $1",
        ward,
        *(
            facts.get(name)
            for name in (
                "specialty",
                "auxiliary",
                "exclusive",
                "age_min",
                "age_max",
                "ward_name_zh",
                "ward_name_en",
            )
        ),
    )
    return done.endswith("1")


async def count_beds(tx: Transaction) -> int:
    """Return how many beds the pool has."""
    count: int = await tx.conn.fetchval("SELECT count(*) FROM bed")
    return count
