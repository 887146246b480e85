"""Who pays what of a bill, by the rules in data/shares.yaml. Pure; fen are whole and every split sums to its whole (R50)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.money import fen_from_decimal_text, split_by_weight

Level = Literal["甲", "乙", "丙"]
DEFAULT_LEVEL: Level = "甲"
Percent = Annotated[int, Field(ge=0, le=100)]
_Fen = Annotated[int, BeforeValidator(fen_from_decimal_text), Field(ge=0)]


class InsuranceClass(BaseModel):
    """What one class of insurance (险种) pays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    deductible: _Fen
    fund_percent: Percent
    cap_per_year: _Fen
    account: _Fen


class Rules(BaseModel):
    """How the fund shares bills."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: dict[str, InsuranceClass]
    levels: dict[Level, Percent]
    items: dict[Level, tuple[str, ...]]

    def class_of(self, psn_no: str) -> str | None:
        """Return the insurance class of a person, or None when the fund does not know them."""
        return next((code for code in self.classes if psn_no.startswith(code)), None)

    def level_of(self, item: str) -> Level:
        """Return the class of an item (甲乙丙)."""
        found = [
            (len(start), level) for level, starts in self.items.items() for start in starts if item.startswith(start)
        ]
        return max(found, default=(0, DEFAULT_LEVEL))[1]


@cache
def rules() -> Rules:
    """Return the rules of data/shares.yaml."""
    text = Path(__file__).with_name("data").joinpath("shares.yaml").read_text("utf-8")
    return Rules.model_validate(yaml.safe_load(text))


@dataclass(frozen=True, slots=True)
class Shares:
    """A bill shared: fund + account + cash = total."""

    total_fen: int
    out_of_scope_fen: int
    deductible_fen: int
    fund_fen: int
    account_fen: int
    cash_fen: int

    def __post_init__(self) -> None:
        """Refuse to exist when the parts are not the whole."""
        parts = (self.fund_fen, self.account_fen, self.cash_fen)
        if min(parts) < 0 or sum(parts) != self.total_fen:
            raise ArithmeticError("The shares are not the whole bill.")


def share(
    insurance: InsuranceClass,
    levels: dict[Level, Percent],
    lines: Iterable[tuple[Level, int]],
    *,
    balance_fen: int,
    paid_this_year_fen: int,
) -> Shares:
    """Share the sum of these lines among the fund, the person's own account and the person.

    Args:
        insurance: the person's class.
        levels: what percentage of each class of item is in scope.
        lines: class and amount of each line.
        balance_fen: what the person's account holds.
        paid_this_year_fen: what the fund paid for this person in this calendar year.
    """
    sums: dict[Level, int] = {}
    for level, fen in lines:
        sums[level] = sums.get(level, 0) + fen
    total_fen = sum(sums.values())
    in_scope_fen = sum(_percent(fen, levels[level]) for level, fen in sums.items())
    deductible_fen = min(insurance.deductible, in_scope_fen)
    cap_left_fen = max(insurance.cap_per_year - paid_this_year_fen, 0)
    fund_fen = min(_percent(in_scope_fen - deductible_fen, insurance.fund_percent), cap_left_fen)
    account_fen = min(balance_fen, total_fen - fund_fen)
    return Shares(
        total_fen=total_fen,
        out_of_scope_fen=total_fen - in_scope_fen,
        deductible_fen=deductible_fen,
        fund_fen=fund_fen,
        account_fen=account_fen,
        cash_fen=total_fen - fund_fen - account_fen,
    )


def _percent(fen: int, percent: int) -> int:
    """Return so many percent of an amount; what is over a fen falls to the larger remainder."""
    return split_by_weight(fen, [percent, 100 - percent])[0]
