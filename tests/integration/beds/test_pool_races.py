"""V1: many want the same beds at the same moment. As many get one as there are beds, and nobody is told "no bed" while one is free."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.beds import actions, desk, moves, shares
from services.beds.actions import Assigned, Pool, Waitlisted
from shared.db import CONTENTION, Database, Transaction, transaction
from shared.errors import Refused

pytestmark = pytest.mark.asyncio

SERVICE = "beds"
WANTING = 64
TRIED_AGAIN: tuple[type[BaseException], ...] = (*CONTENTION, asyncpg.UniqueViolationError)
"""What a door tries again after; the second when two facts of one stay are written at once."""


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


async def want(db: Database, pool: Pool, sex: str, age_years: int = 50) -> tuple[UUID, Assigned | Waitlisted | None]:
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
                    "age_years": age_years,
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


async def a_stay_in_bed(db: Database, pool: Pool, sex: str = "female") -> UUID:
    """Let a patient come and lie down."""
    encounter, _ = await want(db, pool, sex)
    async with transaction(db) as tx:
        await actions.occupy_bed(tx, encounter, tx.now)
    return encounter


async def tried(db: Database, act: Callable[[Transaction], Awaitable[Any]]) -> str:
    """Do something as the door does: again after a lost race; returns "done" or why not."""
    for _ in range(200):
        try:
            async with transaction(db) as tx:
                await act(tx)
            return "done"
        except Refused as refused:
            return refused.code
        except TRIED_AGAIN:
            await asyncio.sleep(0.005)
    raise AssertionError("No answer.")


async def test_v1_a_bed_is_shared_only_as_declared_whatever_happens_at_once(pool_db: Database, pool: Pool):
    """Mothers are moved, swapped and sent home while their newborns are put to them, taken away and moved."""
    await furnish(pool_db, pool, 24, wards=3)
    mothers = [await a_stay_in_bed(pool_db, pool) for _ in range(4)]
    children = []
    for _ in range(4):
        child, _ = await want(pool_db, pool, "male", age_years=0)
        children.append(child)

    async def act(number: int, turn: int) -> None:
        mother, child = mothers[number % 4], children[(number + turn) % 4]
        async with pool_db.pool.acquire() as conn:
            target = await conn.fetchrow(
                "SELECT bed_id, version FROM bed WHERE commitment = 'free' AND condition = 'U' ORDER BY random() LIMIT 1"
            )
            share = await conn.fetchval("SELECT id FROM bed_share WHERE upper_inf(during) ORDER BY random() LIMIT 1")

        async def do(tx: Transaction) -> None:
            match (number + turn) % 6:
                case 0 | 1:
                    await shares.declare_share(
                        tx, pool.settings, mother, kind="newborn", guest_id=child, may=lambda _: None
                    )
                case 2 if target is not None:
                    await moves.transfer_patient(
                        tx, pool, mother, **dict(target), reason="test", override=False, may=lambda _: None
                    )
                case 3:
                    other = mothers[(number + 1) % 4]
                    await moves.swap_patients(tx, pool, mother, other, reason="test", may=lambda _: None)
                case 4 if share is not None:
                    await shares.end_share(tx, share, reason="test", may=lambda _: None)
                case _:
                    await actions.occupy_bed(tx, child, tx.now)

        await tried(pool_db, do)

    async def live(number: int) -> None:
        for turn in range(20):
            await act(number, turn)

    await asyncio.gather(*(live(number) for number in range(8)))

    async def leave(tx: Transaction, mother: UUID) -> None:
        await actions.vacate_bed(tx, mother, tx.now)

    await asyncio.gather(
        *(tried(pool_db, partial(leave, mother=mother)) for mother in mothers[:2]),
        *(live(number) for number in range(4)),
    )
    declared = await pool_db.pool.fetchval("SELECT count(*) FROM outbox WHERE type LIKE '%ShareDeclared%'")
    assert declared > 4, "beds were shared meanwhile"
    assert not await pool_db.pool.fetch(
        "SELECT bed_id FROM bed_claim WHERE state = 'occupied' GROUP BY bed_id HAVING count(*) > 1"
    )
    assert not await pool_db.pool.fetch(
        "SELECT r.bed_id, array_agg(r.encounter_id) FROM bed_request r WHERE r.state = 'arrived' AND r.share_id IS NULL"
        " GROUP BY r.bed_id HAVING count(*) > 1"
    ), "two lie in one bed and nobody declared it"
    assert not await pool_db.pool.fetch(
        "SELECT FROM bed_request g JOIN bed_share s ON s.id = g.share_id JOIN bed_request h ON h.encounter_id = s.host_id"
        " WHERE g.state IN ('assigned', 'arrived') AND (h.state <> 'arrived' OR h.bed_id <> g.bed_id OR NOT upper_inf(s.during))"
    ), "who shares a bed lies where the host lies"
    assert not await pool_db.pool.fetch(
        "SELECT FROM bed_request h WHERE h.guests <> (SELECT count(*) FROM bed_share s WHERE s.host_id = h.encounter_id AND upper_inf(s.during))"
    )


async def test_v1_the_database_refuses_a_share_of_a_bed_whose_patient_leaves_at_that_moment(
    pool_db: Database, pool: Pool
):
    await furnish(pool_db, pool, 2)
    insert = (
        "WITH share AS (INSERT INTO bed_share (id, host_id, kind, during)"
        " VALUES (gen_random_uuid(), $1, 'companion', tstzrange(now(), NULL)))"
        " UPDATE bed_request SET guests = guests + 1 WHERE encounter_id = $1"
    )
    leave = "UPDATE bed_request SET state = 'left' WHERE encounter_id = $1"
    for first, second in ((insert, leave), (leave, insert)):
        host = await a_stay_in_bed(pool_db, pool)
        async with pool_db.pool.acquire() as one, pool_db.pool.acquire() as other:
            begun = one.transaction()
            await begun.start()
            await one.execute(first, host)
            waiting = asyncio.create_task(other.execute(second, host))
            await asyncio.sleep(0.1)
            await begun.commit()
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="the host does not lie"):
                await waiting


async def test_v1_one_free_bed_is_announced_to_one_patient_of_many(pool_db: Database, pool: Pool):
    await furnish(pool_db, pool, 9, wards=1)
    stays = [await a_stay_in_bed(pool_db, pool) for _ in range(8)]
    target = await pool_db.pool.fetchrow("SELECT bed_id, version FROM bed WHERE commitment = 'free'")
    assert target is not None

    async def announce(tx: Transaction, stay: UUID) -> None:
        await moves.announce_transfer(
            tx,
            pool,
            stay,
            bed_id=target["bed_id"],
            version=target["version"],
            reason="test",
            planned_at=tx.now,
            override=False,
            may=lambda _: None,
        )

    answers = await asyncio.gather(*(tried(pool_db, partial(announce, stay=stay)) for stay in stays))
    assert sorted(answers) == ["bed_changed"] * 7 + ["done"]
    winner = stays[answers.index("done")]

    async def complete(tx: Transaction) -> None:
        await moves.complete_announced_transfer(tx, pool, winner, may=lambda _: None)

    async def call_off(tx: Transaction) -> None:
        await moves.cancel_announced_transfer(tx, winner, reason="test", may=lambda _: None)

    answers = await asyncio.gather(*(tried(pool_db, act) for act in (complete, call_off, complete, call_off)))
    assert sorted(answers) == ["done", "no_move_announced", "no_move_announced", "no_move_announced"]
    held = await pool_db.pool.fetchval("SELECT count(*) FROM bed WHERE commitment = 'held'")
    assert held == 0
