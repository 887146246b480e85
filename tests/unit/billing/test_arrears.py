"""What a stay may owe: up to the limit is fine, one fen more is not, and what is urgent always goes through (R55)."""

from typing import get_args

import pytest
from pydantic import ValidationError

from services.billing.arrears import ArrearsLimit, ArrearsPolicy, Credit, check, owed_fen
from services.billing.settings import PriceRules
from shared.contracts.envelope import PayerKind

POLICY = PriceRules().arrears


@pytest.mark.parametrize(
    ("owed", "let_through", "refused"),
    [(999, False, False), (1000, False, False), (1001, False, True), (1001, True, False)],
)
def test_one_fen_beyond_the_limit_is_refused_unless_it_is_let_through(owed: int, let_through: bool, refused: bool):
    found = check(owed, 1000, let_through=let_through)
    assert found == (ArrearsLimit(owed, 1000) if refused else None)


def test_deposits_count_against_what_is_owed_and_nobody_owes_less_than_nothing():
    assert owed_fen(100_01, 100_00) == 1
    assert owed_fen(100_00, 100_01) == 0


def test_an_approved_credit_counts_instead_of_the_limit_of_the_payer_even_when_it_is_lower():
    assert Credit("self_pay", None, in_arrears=False).limit_fen(POLICY) == POLICY.limits_fen["self_pay"]
    assert Credit("self_pay", 0, in_arrears=False).limit_fen(POLICY) == 0
    assert Credit("self_pay", 9, in_arrears=True).limit_fen(POLICY) == 9


@pytest.mark.parametrize("payer_kind", get_args(PayerKind))
def test_every_payer_has_a_deposit_for_any_disease_and_the_closer_rule_counts(payer_kind: PayerKind):
    assert POLICY.deposit(payer_kind, "something_rare").disease is None
    assert POLICY.deposit(payer_kind, None).payer_kind == payer_kind
    assert POLICY.deposit("self_pay", "delivery").disease == "delivery"


def test_a_policy_that_forgets_somebody_is_refused():
    with pytest.raises(ValidationError, match="Every kind of payer"):
        ArrearsPolicy.model_validate({"limits_fen": {"self_pay": 1}, "deposits": []})
