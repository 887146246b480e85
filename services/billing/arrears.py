"""Arrears (欠费, R55): what a stay may owe beyond its deposits, and when an item is refused for it. Pure; limits are data.

Treatment comes first: what is urgent is never refused, and somebody who may can let the rest through with a reason. Credit
admission (信用就医) is a limit of the account's own, approved by a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.envelope import Code, PayerKind
from shared.money import FEN_MAX

LimitFen = Annotated[int, Field(strict=True, ge=0, le=FEN_MAX)]


class DepositRule(BaseModel):
    """What is asked as a deposit of whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    payer_kind: PayerKind
    disease: Code | None = None
    deposit_fen: LimitFen


class ArrearsPolicy(BaseModel):
    """What a hospital decides about arrears and deposits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits_fen: Mapping[PayerKind, LimitFen]
    deposits: tuple[DepositRule, ...]

    @model_validator(mode="after")
    def _nobody_is_forgotten(self) -> Self:
        kinds = set(get_args(PayerKind))
        if (
            set(self.limits_fen) != kinds
            or {rule.payer_kind for rule in self.deposits if rule.disease is None} != kinds
        ):
            raise ValueError("Every kind of payer has its limit and a deposit for any disease.")
        return self

    def deposit(self, payer_kind: PayerKind, disease: str | None) -> DepositRule:
        """Return the first rule that fits."""
        return next(rule for rule in self.deposits if rule.payer_kind == payer_kind and rule.disease in (None, disease))


@dataclass(frozen=True, slots=True)
class Credit:
    """How far an account may go: the limit of its payer, or the one a person approved (信用就医)."""

    payer_kind: PayerKind
    approved_fen: int | None
    in_arrears: bool

    def limit_fen(self, policy: ArrearsPolicy) -> int:
        """Return what may be owed beyond the deposits."""
        return policy.limits_fen[self.payer_kind] if self.approved_fen is None else self.approved_fen


@dataclass(frozen=True, slots=True)
class ArrearsLimit:
    """The stay would owe more than it may; what is urgent goes through, or what somebody who may lets through."""

    owed_fen: int
    limit_fen: int


def owed_fen(charged_fen: int, deposits_fen: int) -> int:
    """Return what is owed beyond the deposits."""
    return max(charged_fen - deposits_fen, 0)


def check(owed_after_fen: int, limit_fen: int, *, let_through: bool) -> ArrearsLimit | None:
    """Refuse what would bring a stay beyond its limit, unless it is urgent or somebody lets it through; up to the limit is fine."""
    if owed_after_fen <= limit_fen or let_through:
        return None
    return ArrearsLimit(owed_after_fen, limit_fen)
