"""V1: many want the same beds at the same moment. As many get one as there are beds, and nobody is told "no bed" while one is free."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.beds import actions, desk, moves
from services.beds.actions import Assigned, Pool, Waitlisted
from shared.db import CONTENTION, Database, transaction
from shared.errors import Refused

pytestmark = pytest.mark.asyncio

SERVICE = "beds"
WANTING = 64


def row(code: str, ward: str, room: str, **more: Any) -> dict[str, Any]:
    """Return a bed of the layout."""
    return {
        "code": code,
        "campus": "main",
        "building": "A",
        "floor": 1,
        "ward": ward,
        "room": room,
        "kind": "inpatient",
        "level": "normal",
        "klass": "standard",
        "isolation": False,
        "equipment": [],
        "specialty": "general",
        "auxiliary": [],
        "exclusive": False,
        "age_min": 0,
        "age_max": 130,
        "ward_name_zh": "",
        "ward_name_en": "",
        "quota": None,
        **more,
    }


async def furnish(db: Database, pool: Pool, beds: int, *, wards: int = 4, beds_of_room: int = 1) -> None:
    """Put beds into the pool, spread over wards."""
    rows = []
    for number in range(beds):
        ward = f"W{number // beds_of_room % wards}"
        rows.append(row(f"{ward}-{number}", ward, f"{ward}-R{number // beds_of_room}"))
    async with transaction(db) as tx:
        await actions.add_beds(tx, rows)
    async with db.pool.acquire() as conn:
        await pool.mirror.look(conn)


async def want(db: Database, pool: Pool, sex: str) -> tuple[UUID, Assigned | Waitlisted | None]:
    """Ask for a bed as the consumer does: again after a lost race, until the pool has an answer."""
    encounter, patient = uuid4(), uuid4()
    for _ in range(200):
        try:
            async with transaction(db) as tx:
                facts = {
                    "kind": "inpatient",
                    "sex": sex,
                    "specialty": "general",
                    "urgency": "elective",
                    "isolation": "none",
                    "level": "normal",
                    "from_at": tx.now,
                    "until_at": None,
                    "age_years": 50,
                    "class": "any",
                    "equipment": [],
                    "stay_days": 3,
                    "partner": None,
                }
                return encounter, await actions.open_request(
                    tx, pool, encounter_id=encounter, patient_tok=patient, **facts
                )
        except CONTENTION:
            await asyncio.sleep(0.005)
    raise AssertionError("The pool gave no answer.")


@pytest.mark.parametrize("beds", [1, 10, 40])
@pytest.mark.parametrize("beds_of_room", [1, 4])
async def test_v1_as_many_patients_get_a_bed_as_there_are_beds(
    pool_db: Database, pool: Pool, beds: int, beds_of_room: int
):
    await furnish(pool_db, pool, beds, beds_of_room=beds_of_room)
    answers = await asyncio.gather(*(want(pool_db, pool, "female") for _ in range(WANTING)))
    winners = [answer for _, answer in answers if isinstance(answer, Assigned)]
    assert len(winners) == beds, "nobody is told that there is no bed while one is free"
    assert len({winner.bed.bed_id for winner in winners}) == beds
    reasons = {answer.reason for _, answer in answers if isinstance(answer, Waitlisted)}
    assert reasons == {"no_free_bed"}


async def test_v1_women_and_men_who_come_at_once_never_share_a_room(pool_db: Database, pool: Pool):
    await furnish(pool_db, pool, 24, wards=3, beds_of_room=4)
    await asyncio.gather(*(want(pool_db, pool, sex) for _ in range(32) for sex in ("female", "male")))
    mixed = await pool_db.pool.fetch(
        "SELECT room FROM bed WHERE commitment = 'held' GROUP BY room HAVING count(DISTINCT patient_sex) > 1"
    )
    assert not mixed
    held = await pool_db.pool.fetchval("SELECT count(*) FROM bed WHERE commitment = 'held'")
    assert held == 24, "both sexes fill their rooms"


async def test_v1_the_desk_cannot_give_one_bed_to_two_patients_it_looks_at_together(pool_db: Database, pool: Pool):
    pool.settings = pool.settings.model_copy(update={"auto_assign": False})
    await furnish(pool_db, pool, 3)
    waiting = [encounter for encounter, _ in [await want(pool_db, pool, "female") for _ in range(12)]]
    [bed] = await pool_db.pool.fetch("SELECT bed_id, version FROM bed ORDER BY bed_id LIMIT 1")

    async def give(encounter: UUID) -> str:
        for _ in range(100):
            try:
                async with transaction(pool_db) as tx:
                    await desk.assign_chosen_bed(
                        tx, pool, encounter, bed_id=bed["bed_id"], version=bed["version"], reason=None
                    )
                    return "held"
            except Refused as refused:
                return refused.code
            except CONTENTION:
                await asyncio.sleep(0.005)
        raise AssertionError("No answer.")

    answers = await asyncio.gather(*(give(encounter) for encounter in waiting))
    assert sorted(answers) == ["bed_changed"] * 11 + ["held"]


async def test_v17_patients_who_are_moved_at_once_and_against_each_other_end_in_one_bed_each(
    pool_db: Database, pool: Pool
):
    await furnish(pool_db, pool, 16, wards=4)
    stays = []
    for _ in range(8):
        encounter, _ = await want(pool_db, pool, "female")
        async with transaction(pool_db) as tx:
            await actions.occupy_bed(tx, encounter, tx.now)
        stays.append(encounter)

    async def wander(encounter: UUID, number: int) -> None:
        for _ in range(12):
            async with pool_db.pool.acquire() as conn:
                target = await conn.fetchrow(
                    "SELECT bed_id, version FROM bed WHERE commitment = 'free' AND condition = 'U' ORDER BY random() LIMIT 1"
                )
            try:
                async with transaction(pool_db) as tx:
                    if number % 2 or target is None:
                        other = stays[(number + 1) % len(stays)]
                        await moves.swap_patients(tx, pool, encounter, other, reason="test", may=lambda _: None)
                    else:
                        await moves.transfer_patient(
                            tx,
                            pool,
                            encounter,
                            bed_id=target["bed_id"],
                            version=target["version"],
                            reason="test",
                            override=False,
                            may=lambda _: None,
                        )
            except Refused:
                continue
            except CONTENTION:
                await asyncio.sleep(0.002)

    await asyncio.gather(*(wander(encounter, number) for number, encounter in enumerate(stays)))
    lying = await pool_db.pool.fetch(
        "SELECT encounter_id, count(*) AS beds FROM bed WHERE commitment = 'active' GROUP BY 1"
    )
    assert {row["encounter_id"]: row["beds"] for row in lying} == dict.fromkeys(stays, 1)
    claims = await pool_db.pool.fetchval(
        "SELECT count(*) FROM bed_claim WHERE state = 'occupied' AND upper_inf(during)"
    )
    assert claims == len(stays)
    moved = await pool_db.pool.fetchval("SELECT count(*) FROM outbox WHERE type LIKE '%BedTransferred%'")
    assert moved > 0


async def test_v15_the_database_itself_refuses_one_patient_in_two_beds_at_once(pool_db: Database, pool: Pool):
    await furnish(pool_db, pool, 2)
    encounter, _ = await want(pool_db, pool, "female")
    async with transaction(pool_db) as tx:
        await actions.occupy_bed(tx, encounter, tx.now)
    with pytest.raises(asyncpg.ExclusionViolationError, match="one_stay"):
        await pool_db.pool.execute(
            "INSERT INTO bed_claim (id, bed_id, encounter_id, patient_tok, during, state) SELECT gen_random_uuid(), b.bed_id,"
            " gen_random_uuid(), c.patient_tok, c.during, 'occupied' FROM bed_claim c, bed b"
            " WHERE c.state = 'occupied' AND b.bed_id <> c.bed_id"
        )
