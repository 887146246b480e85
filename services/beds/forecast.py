"""How many will leave: expected discharges of each ward, with an honest interval (R38, BED-10). Pure.

Each patient in a bed leaves within the next hours with a probability taken from how long earlier patients of the same
specialty stayed, given that this one has stayed so long already. A doctor's order makes it nearly certain. The number of
leavers is a sum of unlike coins, so its distribution is exact, not a bell curve: small wards are where that matters.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ORDERED_LEAVES_TODAY = 0.97
"""Chance that a patient whose discharge is ordered leaves within a day."""
STAYS_NEEDED = 30
"""With fewer earlier stays of a specialty the whole hospital's are taken."""
PRIOR_STAYS = 2.0
"""Weight of the expected day against history that is thin: so many stays that ended then."""
INTERVAL = 0.8


@dataclass(frozen=True, slots=True)
class Lying:
    """A patient in a bed."""

    ward: str
    specialty: str
    stayed_hours: float
    expected_in_hours: float | None
    """Until the day that was expected at admission; negative when it is past."""
    ordered: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """How many are expected to leave, and between which numbers it will be in four of five cases."""

    mean: float
    low: int
    high: int


class Stays:
    """Lengths of earlier stays, in hours, by specialty."""

    def __init__(self, lengths: Mapping[str, Sequence[float]]) -> None:
        self._by_specialty = {specialty: sorted(hours) for specialty, hours in lengths.items()}
        self._all = sorted(hour for hours in lengths.values() for hour in hours)

    def chance_to_leave(self, person: Lying, within_hours: float) -> float:
        """Return the chance that this patient leaves within the hours given."""
        if person.ordered:
            return ORDERED_LEAVES_TODAY if within_hours >= 24 else ORDERED_LEAVES_TODAY * within_hours / 24
        known = self._by_specialty.get(person.specialty, [])
        hours = known if len(known) >= STAYS_NEEDED else self._all
        longer = len(hours) - bisect_right(hours, person.stayed_hours)
        leaving = bisect_right(hours, person.stayed_hours + within_hours) - bisect_right(hours, person.stayed_hours)
        due = person.expected_in_hours is not None and person.expected_in_hours <= within_hours
        return (
            (leaving + PRIOR_STAYS * due) / (longer + PRIOR_STAYS)
            if longer or due
            else 0.5 * min(1.0, within_hours / 24)
        )


def distribution(chances: Sequence[float]) -> list[float]:
    """Return the probability of 0, 1, 2 … leavers (Poisson binomial, by adding one patient after the other)."""
    found = [1.0]
    for chance in chances:
        found.append(0.0)
        for number in range(len(found) - 1, 0, -1):
            found[number] = found[number] * (1 - chance) + found[number - 1] * chance
        found[0] *= 1 - chance
    return found


def expected(chances: Sequence[float]) -> Expected:
    """Return mean and the central interval that holds at least INTERVAL of the probability."""
    outside = (1 - INTERVAL) / 2
    probabilities = distribution(chances)
    cumulated, low, high = 0.0, None, len(chances)
    for number, probability in enumerate(probabilities):
        cumulated += probability
        if low is None and cumulated > outside:
            low = number
        if cumulated >= 1 - outside:
            high = number
            break
    return Expected(sum(chances), low or 0, high)


def forecast(stays: Stays, lying: Sequence[Lying], hours_ahead: Sequence[float]) -> dict[str, dict[float, Expected]]:
    """Return for each ward, and for the house under "", how many leave within each of the times ahead."""
    wards: dict[str, list[Lying]] = {"": list(lying)}
    for person in lying:
        wards.setdefault(person.ward, []).append(person)
    return {
        ward: {hours: expected([stays.chance_to_leave(person, hours) for person in people]) for hours in hours_ahead}
        for ward, people in sorted(wards.items())
    }
