"""The catalogue of day-surgery procedures is data with a version."""

import pytest

from services.daysurgery.domain import read_catalogue
from services.daysurgery.settings import Rules

HEAD = "code,name_zh,name_en,since,until\n"


def test_the_hospitals_catalogue_holds_what_is_done_as_day_surgery() -> None:
    catalogue = read_catalogue(Rules().procedures())
    promised = {"73761001", "274031008", "22523008", "180325003", "18286008", "76164006", "699253003"}
    assert promised <= {code for code in catalogue.procedures if catalogue.admits(code)}
    assert all(p.name_zh and p.name_en for p in catalogue.procedures.values())


def test_a_procedure_that_is_not_in_the_catalogue_is_not_admitted() -> None:
    assert not read_catalogue(Rules().procedures()).admits("80146002")


def test_the_catalogue_grows_by_versions_and_a_withdrawn_procedure_is_not_admitted_any_more() -> None:
    first = read_catalogue(HEAD + "1,甲,A,1,\n2,乙,B,1,\n")
    second = read_catalogue(HEAD + "1,甲,A,1,1\n2,乙,B,1,\n3,丙,C,2,\n")
    assert (first.version, second.version) == (1, 2)
    assert first.admits("1")
    assert not second.admits("1")
    assert second.admits("3")


@pytest.mark.parametrize("line", ["1,甲,A,1,\n1,甲,A,1,\n", "1,,A,1,\n", ",甲,A,1,\n", "1,甲,A,first,\n"])
def test_a_catalogue_with_a_mistake_is_refused_when_the_service_starts(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() and ours
        read_catalogue(HEAD + line)
