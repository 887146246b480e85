"""Who may share a bed, and how long a bed waits for somebody from afar."""

from datetime import timedelta

import pytest

from services.beds.domain import NoShare, ShareKind, Sharer, hold_for, why_no_share

MOTHER = Sharer("female", age_years=31)
CHILD = Sharer("male", age_years=0, lies=False)


@pytest.mark.parametrize(
    ("kind", "host", "guest", "expected"),
    [
        ("newborn", MOTHER, CHILD, None),
        ("newborn", MOTHER, Sharer("female", age_years=0, lies=True), None),
        ("newborn", MOTHER, Sharer("female", age_years=29, lies=False), "not_a_newborn"),
        ("newborn", MOTHER, Sharer("female", age_years=None, lies=False), "not_a_newborn"),
        ("newborn", Sharer("male", age_years=31), CHILD, "not_the_mother"),
        ("newborn", MOTHER, None, "guest_needed"),
        ("newborn", MOTHER, Sharer("male", age_years=0, level="critical"), "needs_critical_care"),
        ("newborn", Sharer("female", isolation="contact"), CHILD, "needs_isolation"),
        ("newborn", MOTHER, Sharer("male", age_years=0, isolation="airborne"), "needs_isolation"),
        ("newborn", Sharer("female", lies=False), CHILD, "host_not_in_bed"),
        ("newborn", Sharer("female", kind="day"), CHILD, "host_not_in_bed"),
        ("newborn", Sharer("female", is_guest=True), CHILD, "host_is_guest"),
        ("newborn", MOTHER, Sharer("male", age_years=0, is_guest=True), "shares_already"),
        ("companion", Sharer("male", age_years=84), None, None),
        ("companion", Sharer("male", isolation="droplet"), None, "needs_isolation"),
        ("companion", Sharer("male", level="critical"), None, "needs_critical_care"),
        ("companion", MOTHER, CHILD, "guest_not_known"),
    ],
)
def test_a_bed_is_shared_by_a_newborn_with_its_mother_or_a_companion_and_by_nobody_else(
    kind: ShareKind, host: Sharer, guest: Sharer | None, expected: NoShare | None
):
    assert why_no_share(kind, host, guest, newborns=0, newborns_max=4) == expected


def test_a_mother_has_as_many_newborns_beside_her_as_the_hospital_allows():
    assert why_no_share("newborn", MOTHER, CHILD, newborns=3, newborns_max=4) is None
    assert why_no_share("newborn", MOTHER, CHILD, newborns=4, newborns_max=4) == "too_many_guests"


@pytest.mark.parametrize(("travel_minutes", "held_minutes"), [(None, 240), (0, 240), (90, 330), (360, 600), (900, 600)])
def test_who_comes_from_afar_has_the_bed_longer_but_not_without_end(travel_minutes: int | None, held_minutes: int):
    held = hold_for(timedelta(minutes=240), travel_minutes, timedelta(minutes=360))
    assert held == timedelta(minutes=held_minutes)
