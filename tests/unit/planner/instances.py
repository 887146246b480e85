"""Instances made up for tests: any size, any policy, tight or roomy."""

import random


def an_instance(
    *, seed=1, rooms=12, patients=60, nights=10, specialisms=3, properties=2, load=0.9, policies="DDDMFN", ages=True
) -> str:
    """Return the text of an instance whose nights never have more patients than beds."""
    rng = random.Random(seed)
    capacities = [rng.choice((1, 2, 4)) for _ in range(rooms)]
    beds = sum(capacities)
    free = [max(1, int(beds * load))] * (nights + 40)
    lines: list[str] = []
    for _ in range(patients * 30):
        if len(lines) == patients:
            break
        first = rng.randrange(nights)
        length = rng.choice((0, 1, 1, 2, 3, 5, 9))
        if any(free[night] < 1 for night in range(first, first + length)):
            continue
        for night in range(first, first + length):
            free[night] -= 1
        cut = rng.randrange(length + 1) if length > 1 and rng.random() < 0.3 else length
        parts = [(rng.randrange(specialisms) + 1, cut)]
        if cut < length:
            parts.append((rng.randrange(specialisms) + 1, length - cut))
        flags = [" ".join(str(rng.randrange(2)) for _ in range(properties)) for _ in range(2)]
        lines.append(
            f"{len(lines) + 1} P{len(lines) + 1} {rng.randrange(100)} {rng.choice('MF')} | {first} {first + length} | "
            f"{len(parts)} {' '.join(f'{s} {n}' for s, n in parts)} | {rng.choice((0, 1, 2, 4))} | {flags[0]} | {flags[1]}"
        )
    departments = 3
    text = ["ARTICLE BENCHMARK DATA SET", f"Rooms: {rooms}", f"Roomproperties: {properties}", f"Beds: {beds}"]
    text += [f"Departments: {departments}", f"Specialisms: {specialisms}", f"Patients: {len(lines)}"]
    text += [f"Planning horizon: {nights}", "", "", "SPECIALISMS:"]
    text += [f"{s + 1} Specialism{s + 1}" for s in range(specialisms)] + ["", "DEPARTMENTS:"]
    limits = ["0 0", "0 16", "60 0"] if ages else ["0 0"] * 3
    text += [f"{d + 1} Department{d + 1} {limits[d]} | 1 {d % specialisms + 1}" for d in range(departments)]
    text += ["", "ROOMPROPERTIES:"] + [f"{p + 1} property{p + 1}" for p in range(properties)] + ["", "ROOMS:"]
    for room, capacity in enumerate(capacities):
        pairs = " ".join(f"{rng.randint(1, 3)} {s + 1}" for s in range(specialisms) if rng.random() < 0.7)
        has = " ".join(str(rng.randrange(2)) for _ in range(properties))
        text.append(
            f"{room + 1} R{room + 1} | {capacity} | {rng.randint(1, 3)} | {rng.choice(policies)} | {pairs} | {has}"
        )
    text += ["", "BEDS:"]
    text += [f"{bed + 1} {room + 1}" for bed, room in enumerate(r for r, c in enumerate(capacities) for _ in range(c))]
    return "\n".join([*text, "", "PATIENTS:", *lines, "", "END."]) + "\n"
