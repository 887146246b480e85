"""What a bed is charged as."""

import pytest

from services.beds.domain import accommodation_of


@pytest.mark.parametrize(
    ("kind", "level", "bed_class", "charged_as"),
    [
        ("inpatient", "normal", "standard", "standard"),
        ("inpatient", "normal", "single", "single"),
        ("inpatient", "normal", "vip", "vip"),
        ("inpatient", "critical", "single", "critical"),
        ("day", "normal", "single", "day"),
        ("day", "critical", "standard", "day"),
    ],
)
def test_a_day_bed_and_intensive_care_come_before_the_class_of_the_room(
    kind: str, level: str, bed_class: str, charged_as: str
):
    assert accommodation_of(kind, level, bed_class) == charged_as
