"""The byte form of an audit row is frozen: old seals must verify for ever."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.access.seal import canonical_v1

FIELDS = st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=5), st.uuids()), max_size=5)


def test_the_form_of_a_row_is_frozen() -> None:
    row = (7, "patients:read", None, UUID(int=1), datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "")
    assert canonical_v1(row).hex() == (
        "76310006"
        "690000000137"
        "730000000d" + b"patients:read".hex() + "3000000000"
        "7500000010" + "00" * 15 + "01"
        "7400000010" + b"1767323045000006".hex() + "7300000000"
    )


def test_the_same_instant_in_another_zone_is_the_same_row() -> None:
    utc = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert canonical_v1((utc,)) == canonical_v1((utc.astimezone(timezone(timedelta(hours=8))),))


@given(FIELDS, FIELDS)
def test_different_rows_have_different_forms(one: list[object], other: list[object]) -> None:
    assert (canonical_v1(one) == canonical_v1(other)) == (one == other)


def test_what_cannot_be_written_exactly_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical_v1((1.5,))
