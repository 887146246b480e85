"""The free list in memory says what the rules say, bed by bed, however the beds change."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.beds.planner.freelist import FreeList
from services.beds.rules import (
    DEFAULT_WEIGHTS,
    Bed,
    Need,
    Scored,
    SoftRule,
    Ward,
    Weights,
    evaluate,
    loads_of,
    rooms_of,
)

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
THINGS = ("oxygen", "telemetry", "lift")
WARDS = (
    Ward("A", "surgery", frozenset({"general"})),
    Ward("B", "general", frozenset({"surgery", "heart"}), age_min=14),
    Ward("C", "paediatrics", exclusive=True, age_max=14),
    Ward("D", "heart", exclusive=True),
    Ward("E", "general", open=False),
)


def a_bed(rng, number) -> Bed:
    ward = rng.choice(WARDS)
    bed = Bed(
        number,
        f"bed {number}",
        ward.ward,
        f"{ward.ward}{rng.randrange(8)}",
        kind=rng.choices(("inpatient", "day"), (9, 1))[0],
        level=rng.choices(("normal", "critical"), (8, 2))[0],
        bed_class=rng.choices(("standard", "single"), (8, 2))[0],
        isolation=rng.random() < 0.3,
        equipment=frozenset(thing for thing in THINGS if rng.random() < 0.4),
        extra=rng.random() < 0.1,
        quota="surgery" if rng.random() < 0.1 else None,
    )
    return changed(rng, bed)


def changed(rng: random.Random, bed: Bed) -> Bed:
    """Return the bed as something that may have happened to it leaves it."""
    taken = rng.random() < 0.4
    return replace(
        bed,
        service=rng.choices(("active", "suspended"), (9, 1))[0],
        condition=rng.choices(("U", "C"), (9, 1))[0],
        commitment=rng.choice(("held", "active")) if taken else "free",
        sex=rng.choice(("male", "female", "unknown")) if taken else None,
        isolation_patient=taken and rng.random() < 0.15,
        busy_until=NOW + timedelta(minutes=rng.randint(-3000, 200)) if rng.random() < 0.8 else None,
        version=bed.version + 1,
    )


def a_need(rng) -> Need:
    return Need(
        sex=rng.choice(("male", "female", "unknown")),
        from_at=NOW + timedelta(minutes=rng.choice((0, 0, 60, 300))),
        specialty=rng.choice(("surgery", "general", "heart", "paediatrics", "eyes")),
        isolation=rng.choices(("none", "contact"), (8, 2))[0],
        level=rng.choices(("normal", "critical"), (8, 2))[0],
        kind=rng.choices(("inpatient", "day"), (9, 1))[0],
        bed_class=rng.choices(("any", "single", "standard"), (8, 1, 1))[0],
        equipment=frozenset(thing for thing in THINGS if rng.random() < 0.15),
        age_years=rng.choice((None, 3, 13, 14, 40, 90)),
        refused_wards=frozenset(ward.ward for ward in WARDS if rng.random() < 0.05),
        refused_beds=frozenset(number for number in range(120) if rng.random() < 0.03),
    )


def by_the_rules(need, beds, weights, limit) -> tuple[Scored, ...]:
    wards = {ward.ward: ward for ward in WARDS}
    judged = evaluate(need, beds, wards, weights, rooms=rooms_of(beds), loads=loads_of(beds))
    return judged.possible[:limit]


@pytest.mark.parametrize("seed", range(12))
def test_the_list_gives_the_beds_the_rules_give_with_the_same_parts(seed):
    rng = random.Random(seed)
    beds = {number: a_bed(rng, number) for number in range(120)}
    weights = Weights(1, {rule: rng.randrange(0, 100) for rule in SoftRule})
    free = FreeList(WARDS, weights, beds.values())
    for _ in range(60):
        need, limit = a_need(rng), rng.choice((1, 5, 20))
        assert free.best(need, limit=limit) == by_the_rules(need, beds.values(), weights, limit)


@pytest.mark.parametrize("seed", range(6))
def test_the_list_follows_every_change_of_a_bed_a_ward_and_the_weights(seed):
    rng = random.Random(1000 + seed)
    beds = {number: a_bed(rng, number) for number in range(120)}
    weights = Weights()
    free = FreeList(WARDS, weights, list(beds.values())[:60])
    for number in range(60, 120):
        free.put(beds[number])
    for _ in range(250):
        event = rng.random()
        number = rng.randrange(120)
        if event < 0.05:
            beds.pop(number, None)
            free.forget(number)
        elif event < 0.1:
            beds[number] = a_bed(rng, number)  # to another room, or a new bed
            free.put(beds[number])
        elif number in beds:
            beds[number] = changed(rng, beds[number])
            free.put(beds[number])
        if event > 0.97:
            weights = Weights(1, {rule: rng.randrange(0, 100) for rule in SoftRule})
            free.set_weights(weights)
        if event > 0.6:
            need = a_need(rng)
            assert free.best(need) == by_the_rules(need, beds.values(), weights, 5)


def test_a_closed_ward_gives_no_bed_until_it_opens():
    bed = Bed(1, "1", "E", "E1")
    free = FreeList(WARDS, Weights(), [bed])
    need = Need("male", NOW)
    assert free.best(need) == ()
    free.set_wards([replace(WARDS[4], open=True)])
    assert [scored.bed for scored in free.best(need)] == [bed]


def test_a_bed_that_is_taken_leaves_the_list_and_closes_the_room_to_the_other_sex():
    beds = [Bed(1, "1", "B", "B1"), Bed(2, "2", "B", "B1")]
    free = FreeList(WARDS, Weights(0, DEFAULT_WEIGHTS), beds)
    free.put(replace(beds[0], commitment="held", sex="female"))
    assert len(free) == 1
    assert free.best(Need("male", NOW)) == ()
    assert [scored.bed.bed_id for scored in free.best(Need("female", NOW))] == [2]
