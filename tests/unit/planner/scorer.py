"""What a plan costs, counted night by night and patient by patient straight from the instance's text.

Written from the description of the format, apart from the planner, and as plainly as it could be: it shares no code with it.
"""

from collections import defaultdict
from fractions import Fraction

AGE, SEX_MIX, NEEDED, PREFERRED = Fraction(10), Fraction(5), Fraction(5), Fraction(2)
CAPACITY, ROOM_ABSENT, ROOM_LEVEL, DEPARTMENT = Fraction(8, 10), Fraction(2), Fraction(1), Fraction(1)


def sections(text) -> dict[str, list[list[list[str]]]]:
    found, name = defaultdict(list), "HEAD"
    for line in text.splitlines():
        line = line.strip()
        if line.rstrip(":. ") in ("SPECIALISMS", "DEPARTMENTS", "ROOMPROPERTIES", "ROOMS", "BEDS", "PATIENTS", "END"):
            name = line.rstrip(":. ")
        elif line:
            found[name].append([part.split() for part in line.split("|")])
    return found


def score(text, plan_lines) -> tuple[list[str], dict[str, Fraction]]:
    """Return `(violations, cost by rule)` of a plan of lines `patient bed first_night last_night+1`."""
    found = sections(text)
    horizon = next(int(row[0][-1]) for row in found["HEAD"] if row[0][0] == "Planning")
    departments = {}
    for head, pairs in found["DEPARTMENTS"]:
        departments[head[0]] = (int(head[2]), int(head[3]), {pairs[i + 1] for i in range(0, len(pairs), 2)})
    rooms = {}
    for head, capacity, department, policy, pairs, has in found["ROOMS"]:
        levels = {pairs[i + 1]: int(pairs[i]) for i in range(0, len(pairs), 2)}
        rooms[head[0]] = (int(capacity[0]), department[0], policy[0], levels, has)
    room_of = {row[0][0]: row[0][1] for row in found["BEDS"]}
    patients = {row[0][0]: row for row in found["PATIENTS"]}

    violations: list[str] = []
    cost: defaultdict[str, Fraction] = defaultdict(Fraction)
    plan = {}
    for line in plan_lines:
        patient, bed, first, end = line.split()
        if patient in plan:
            violations.append(f"patient {patient} stands twice in the plan")
        plan[patient] = (bed, int(first), int(end))
    in_bed, in_room = defaultdict(list), defaultdict(list)
    for ident, (head, nights, parts, preferred_capacity, needed, preferred) in patients.items():
        first, end = int(nights[0]), int(nights[1])
        if first == end or first >= horizon:
            if ident in plan:
                violations.append(f"patient {ident} needs no bed")
            continue
        if ident not in plan:
            violations.append(f"patient {ident} has no bed")
            continue
        planned, from_night, to_night = plan[ident]
        if (from_night, to_night) != (first, end):
            violations.append(f"patient {ident} is planned for other nights than the stay has")
        if planned not in room_of:
            violations.append(f"there is no bed {planned}")
            continue
        specialism_of = []
        for i in range(int(parts[0])):
            specialism_of += [parts[1 + 2 * i]] * int(parts[2 + 2 * i])
        places, ward, takes, levels, has = rooms[room_of[planned]]
        age_min, age_max, knows = departments[ward]
        for night in range(first, end):
            in_bed[planned, night].append(ident)
            if night >= horizon:
                continue
            in_room[room_of[planned], night].append(head[3])
            age = int(head[2])
            if (age_min and age < age_min) or (age_max and age > age_max):
                cost["age"] += AGE
            if (takes == "M" and head[3] == "F") or (takes == "F" and head[3] == "M"):
                cost["sex_mix"] += SEX_MIX
            for flag, wish, there in zip(needed, preferred, has, strict=True):
                if there == "0" and flag == "1":
                    cost["needed_property"] += NEEDED
                elif there == "0" and wish == "1":
                    cost["preferred_property"] += PREFERRED
            if 0 < int(preferred_capacity[0]) < places:
                cost["room_preference"] += CAPACITY
            specialism = specialism_of[night - first]
            cost["room_specialism"] += (
                ROOM_ABSENT if specialism not in levels else ROOM_LEVEL * (levels[specialism] - 1)
            )
            if specialism not in knows:
                cost["department_specialism"] += DEPARTMENT
    for (bed, night), lying in in_bed.items():
        if len(lying) > 1:
            violations.append(f"bed {bed} holds patients {lying} on night {night}")
    for (room, _night), sexes in in_room.items():
        if rooms[room][2] == "D":
            cost["sex_mix"] += SEX_MIX * min(sexes.count("M"), sexes.count("F"))
    return violations, {rule: value for rule, value in cost.items() if value}
