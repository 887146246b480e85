"""The daily match: every row agrees or is in exactly one difference, and no fen gets lost between two lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.ports import FundDay
from services.billing.reconciliation import Difference, Ours, Theirs, match, match_fund

keys = st.sampled_from([f"P{n}" for n in range(6)])
fens = st.integers(-5, 5).filter(bool)
theirs_rows = st.lists(st.builds(Theirs, keys, fens), max_size=8)
ours_rows = st.lists(
    st.builds(Ours, keys, fens, st.none(), st.booleans(), st.booleans(), st.booleans()),
    max_size=6,
    unique_by=lambda one: one.key,
)


def ours(key: str = "P1", fen: int = 5, **more) -> Ours:
    return Ours(key, fen, **{"ledger_fen": fen, "counts": True, "of_the_day": True, **more})


@pytest.mark.parametrize(
    ("mine", "said", "before", "kind"),
    [
        (ours(), [5], (), None),
        (None, [5], (), "missing_here"),
        (ours(counts=False, waits=True, of_the_day=False), [5], (), "missing_here"),
        (ours(), [], (), "missing_there"),
        (ours(), [], ("P1",), None),
        (ours(waits=True), [], (), None),
        (ours(of_the_day=False), [], (), None),
        (ours(), [6], (), "amount"),
        (ours(of_the_day=False), [6], (), "amount"),
        (ours(counts=False, of_the_day=False), [5], (), "state"),
        (ours(), [5, 5], (), "twice"),
        (ours(ledger_fen=4), [5], (), "ledger"),
    ],
)
def test_what_a_pair_of_rows_comes_to(mine: Ours | None, said: list[int], before: tuple[str, ...], kind: str | None):
    found = match([] if mine is None else [mine], [Theirs("P1", fen) for fen in said], before)
    assert [one.kind for one in found.differences] == ([] if kind is None else [kind])


@given(ours_rows, theirs_rows)
def test_every_row_agrees_or_is_in_exactly_one_difference(our_rows: list[Ours], their_rows: list[Theirs]):
    found = match(our_rows, their_rows)
    differing = [one.key for one in found.differences]
    assert len(differing) == len(set(differing))
    assert found.matched.isdisjoint(differing)
    looked_at = {row.key for row in their_rows} | {one.key for one in our_rows if one.of_the_day}
    assert found.matched | set(differing) == looked_at


@given(ours_rows, theirs_rows)
def test_the_differences_come_to_what_the_lists_differ_by(our_rows: list[Ours], their_rows: list[Theirs]):
    stated = {row.key for row in their_rows}
    looked_at = stated | {one.key for one in our_rows if one.of_the_day and not one.waits}
    ours_fen = sum(one.fen for one in our_rows if one.counts and one.key in looked_at)
    theirs_fen = sum(row.fen for row in their_rows)
    assert sum(one.fen for one in match(our_rows, their_rows).differences) == theirs_fen - ours_fen


def test_the_fund_agrees_only_in_number_and_sum():
    assert match_fund(3, 500, FundDay(True, 3, 500)) == ()
    assert match_fund(3, 500, FundDay(False, 2, 500)) == (Difference("totals", "3:2", 500, 500),)
    assert match_fund(3, 500, FundDay(False, 3, 501)) == (Difference("totals", "3:3", 500, 501),)
