"""The published price list: what a file may say, what a new version may change, and what an hour costs."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from services.billing.prices import catalogue
from services.billing.prices.catalogue import Conflicts, PriceRow, Publication, Published, RefusedPrices, publication
from services.billing.prices.rules import timed_amount_fen, timed_steps
from services.billing.settings import PriceRules

HEADING = ",".join(catalogue.COLUMNS)
ROW = "LAB-CBC,血常规,Complete blood count,XCG,test,04,01,each,20.00,2026-01-01,,"
TODAY = date(2026, 3, 2)


def read(tmp_path: Path, *lines: str, heading: str = HEADING) -> tuple[PriceRow, ...] | list[str]:
    path = tmp_path / "prices.csv"
    path.write_text("\n".join([heading, *lines]) + "\n", "utf-8")
    found = catalogue.read(path)
    return (
        [str(each).removeprefix(f"{path}:") for each in found.problems] if isinstance(found, RefusedPrices) else found
    )


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_list_we_ship_can_be_used_says_that_it_is_made_up_and_prices_every_bed():
    rules = PriceRules()
    rows = catalogue.load(rules.prices_file)
    assert len(rows) >= 150
    assert all("example" in row.remark for row in rows)
    assert {row.code for row in rows if row.item_class == "bed"} >= set(rules.policy.items.values())
    assert {row.receipt_class for row in rows} <= set(catalogue.RECEIPT_CLASSES)


def test_every_day_surgery_procedure_has_a_price():
    procedures = Path(__file__).parents[3] / "services" / "daysurgery" / "data" / "procedures.csv"
    codes = {line.split(",")[0] for line in procedures.read_text("utf-8").splitlines()[1:]}
    assert codes <= {row.code for row in catalogue.load(PriceRules().prices_file)}


def test_a_row_is_read_to_the_fen(tmp_path: Path):
    ended = ROW.replace("2026-01-01,", "2026-01-01,2027-01-01").replace("20.00", "0.01")
    one, two = read(tmp_path, ended, ROW.replace("2026", "2027"))
    assert isinstance(one, PriceRow)
    assert isinstance(two, PriceRow)
    assert (one.price_fen, one.valid_to, two.price_fen, two.valid_to) == (1, date(2027, 1, 1), 20_00, None)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (ROW.replace("20.00", "20.001"), "price_yuan: '20.001' is no price in yuan with at most two decimals."),
        (ROW.replace("20.00", "0"), "price_yuan: '0' is out of range: more than 0, at most a million yuan."),
        (ROW.replace("20.00", "1e999999"), "price_yuan: '1e999999' is no price in yuan with at most two decimals."),
        (ROW.replace("2026-01-01", "2026-02-30"), "valid_from: '2026-02-30' is no day of the calendar."),
        (ROW.replace("2026-01-01", "1.1.2026"), "valid_from: '1.1.2026' is no day such as 2026-01-31."),
        (ROW.replace("2026-01-01,", "2026-01-01,2026-01-01"), "valid_to 2026-01-01 is not after valid_from 2026-01-01."),
        (ROW.replace(",04,", ",4711,"), f"receipt_class: '4711' is not known; there are {', '.join(catalogue.RECEIPT_CLASSES)}."),
        (ROW.replace("血常规", "=1+1"), "name_zh: '=1+1' is no name: a table program would take the = in front for a formula."),
        (ROW.replace("XCG", "xcg"), "pinyin: 'xcg' is no pinyin code: capital letters and digits."),
        (ROW.replace(",血常规,", ",,"), "The field name_zh is missing."),
        (
            "BED-X,床,Bed,C,bed,01,01,day,50.01,2026-01-01,,",
            "A bed is priced by the day, an even number of fen: half a day must be whole fen, too.",
        ),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, line: str, problem: str):
    good = ROW.replace("LAB-CBC", "LAB-OK")
    assert read(tmp_path, good, line) == [f"3: {problem}"]


def test_two_prices_for_one_day_are_refused_and_both_lines_are_named(tmp_path: Path):
    ended = ROW.replace("2026-01-01,", "2026-01-01,2026-06-01")
    assert read(tmp_path, ended, ROW.replace("2026-01-01", "2026-05-31")) == [
        "3: The item LAB-CBC has a price on line 2 for the same days."
    ]
    assert isinstance(read(tmp_path, ended, ROW.replace("2026-01-01", "2026-06-01")), tuple)


def test_a_file_without_prices_is_refused(tmp_path: Path):
    assert read(tmp_path) == ["1: There is no price in this file."]
    missing = [f"1: The column {name} is missing." for name in catalogue.REQUIRED if name != "code"]
    assert sorted(map(str, read(tmp_path, "x", heading="code"))) == sorted(missing)


# ---- a new version ---------------------------------------------------------------------------------------------------


def row(fen: int = 20_00, since: str = "2026-01-01", until: str | None = None, code: str = "LAB-CBC") -> PriceRow:
    end = None if until is None else date.fromisoformat(until)
    return PriceRow(
        code, "血常规", "Blood count", "XCG", "test", "04", "01", "each", fen, date.fromisoformat(since), end
    )


def decide(*wanted: PriceRow, known: tuple[PriceRow, ...] = (row(),)) -> Publication | Conflicts:
    return publication([Published(number, each) for number, each in enumerate(known, 1)], wanted, today=TODAY)


def test_a_price_that_begins_tomorrow_closes_the_one_before_it():
    assert decide(row(22_00, "2026-03-03")) == Publication(
        ((1, date(2026, 3, 3)),), (), (row(22_00, "2026-03-03"),), known=0
    )


def test_the_same_list_again_changes_nothing():
    decided = decide(row())
    assert isinstance(decided, Publication)
    assert decided.changes_nothing
    assert decided.known == 1


@pytest.mark.parametrize("since", ["2026-03-02", "2026-02-01", "2026-01-01", "2025-01-01"])
def test_no_day_up_to_today_gets_another_price(since: str):
    assert isinstance(decide(row(22_00, since)), Conflicts)


def test_a_new_item_may_begin_on_any_day():
    assert decide(row(since="2020-01-01", code="LAB-NEW")).add == (row(since="2020-01-01", code="LAB-NEW"),)  # type: ignore[union-attr]


def test_a_price_gets_an_end_from_tomorrow_on_and_not_before():
    assert decide(row(until="2026-03-03")) == Publication(((1, date(2026, 3, 3)),), (), (), known=1)
    assert isinstance(decide(row(until="2026-03-02")), Conflicts)
    assert isinstance(decide(row(until="2027-01-01"), known=(row(until="2026-03-01"),)), Conflicts)


def test_an_end_and_what_follows_it_come_in_one_file_in_any_order():
    ends, follows = row(until="2026-04-01"), row(22_00, "2026-04-01")
    expected = Publication(((1, date(2026, 4, 1)),), (), (follows,), known=1)
    assert decide(ends, follows) == expected
    assert decide(follows, ends) == expected


def test_a_price_that_does_not_hold_yet_may_be_replaced():
    known = (row(until="2026-04-01"), row(22_00, "2026-04-01"))
    assert decide(row(23_00, "2026-04-01"), known=known) == Publication((), (2,), (row(23_00, "2026-04-01"),), known=0)


def test_the_list_of_last_year_does_not_undo_the_price_of_next_month():
    known = (row(until="2026-04-01"), row(22_00, "2026-04-01"))
    assert isinstance(decide(row(), known=known), Conflicts)


def test_a_price_for_a_while_leaves_no_hole_behind_it():
    assert isinstance(decide(row(22_00, "2026-04-01", "2026-05-01")), Conflicts)


def test_with_one_conflict_nothing_is_decided_and_each_is_named_by_its_place():
    decided = decide(row(22_00, "2026-03-03", code="A"), row(22_00, "2026-02-01"))
    assert isinstance(decided, Conflicts)
    assert [index for index, _ in decided.of] == [1]


# ---- by the hour -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "step", "steps"), [(1, 60, 1), (60, 60, 1), (61, 60, 2), (180, 60, 3), (30, 30, 1), (210, 60, 4), (90, 1, 90)]
)  # fmt: skip
def test_v19_every_started_hour_counts_and_an_exact_number_of_hours_is_exact(minutes: int, step: int, steps: int):
    start = datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert timed_steps(start, start + timedelta(minutes=minutes), step) == steps


@pytest.mark.parametrize(
    ("price", "steps", "step", "fen"), [(4_00, 3, 60, 12_00), (5_01, 1, 30, 2_51), (1_00, 1, 1, 2), (1_00, 60, 1, 1_00)]
)
def test_a_part_of_an_hour_is_rounded_once_half_up(price: int, steps: int, step: int, fen: int):
    assert timed_amount_fen(price, steps, step) == fen
