"""When a check is right: it found nothing wrong and examined something, unless nothing ever happened."""

import pytest

from infra.audit.check import Check, Look, Seen, schema
from infra.audit.run import CHECKS, verdict_of
from infra.audit.subscriptions import topics_read_by
from infra.local.services import SERVICES


async def _never(at: Look) -> Seen:
    raise AssertionError("Nobody looks here.")


CHECK = Check("I0", "the sun rises", _never)


@pytest.mark.parametrize(
    ("seen", "empty", "ok"),
    [
        (Seen(3), False, True),
        (Seen(3, ["one"]), False, False),
        (Seen(0), False, False),
        (Seen(0), True, True),
        (Seen(0, ["one"]), True, False),
        (Seen(3, finished=False), False, False),
        (Seen(3, reason="2 were left out."), False, True),
    ],
)
def test_a_check_is_right_when_it_examined_something_and_found_nothing_wrong(seen: Seen, empty: bool, ok: bool):
    assert verdict_of(CHECK, seen, empty=empty)["ok"] is ok


def test_a_check_that_examined_nothing_says_so():
    assert verdict_of(CHECK, Seen(0), empty=False)["reason"] == "There was nothing to examine."
    assert verdict_of(CHECK, Seen(0, reason="No broker."), empty=False)["reason"] == "No broker."
    assert "reason" not in verdict_of(CHECK, Seen(1), empty=False)


def test_at_most_five_examples_are_told_and_all_are_counted():
    told = verdict_of(CHECK, Seen(9, [str(number) for number in range(9)]), empty=False)
    assert (told["violations"], told["examples"]) == (9, ["0", "1", "2", "3", "4"])


def test_every_check_has_an_id_and_a_name_of_its_own():
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.needs <= set(SERVICES) for check in CHECKS)


def test_only_schemas_of_ours_go_into_a_query():
    with pytest.raises(ValueError, match="no service of ours"):
        schema("beds; DROP TABLE bed")


def test_every_service_with_events_reads_what_it_declares():
    read = topics_read_by()
    assert "admission.encounters.v1" in read["beds"]
    assert "beds.allocations.v1" in read["admission"]
    assert all(topics for topics in read.values())
