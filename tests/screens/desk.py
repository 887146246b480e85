"""What a cashier's desk meets: people who left unsettled, a fund that does not say, a refund that came back, cash in a drawer.

Made through the public doors and the operators of the simulated outside parties only.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx2

from tests.screens.families import Family, Ward
from tests.screens.house import House

Found = TypeVar("Found")
FEW: Mapping[str, int] = {"NUR-1": 2, "LAB-COAG": 1}
PATIENCE_SECONDS = 40.0
LOOK_SECONDS = 0.3


def eventually(look: Callable[[], Found | None], what: str) -> Found:
    """Return what `look` finds, once it finds something.

    Raises:
        AssertionError: it does not in time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"Not in {PATIENCE_SECONDS:.0f} s: {what}.")


@dataclass(frozen=True, slots=True)
class MoneyDesk:
    """Lets a cashier's day happen."""

    house: House
    ward: Ward

    def _stay(self, family: Family, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return self.house.ask("billing_clerk", method, f"/billing/encounters/{family.encounter_id}{path}", body)

    def _bill(self, family: Family, *states: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            bill = self._stay(family, "GET", "/bills/latest")
            return bill if bill["state"] in states else None

        return eventually(look, f"a bill that is {' or '.join(states)}")

    # ---- stays -------------------------------------------------------------------------------------------------------

    def leaves(self, family: Family, *, hours_ago: float = 0.5) -> Family:
        """Let somebody have left, settled or not."""
        left_at = datetime.now(UTC) - timedelta(hours=hours_ago)
        body = {"disposition": "1", "source": "import", "occurred_at": left_at.isoformat()}
        self.house.ask("replay", "POST", f"/admission/encounters/{family.encounter_id}/discharge", body)
        return family

    def quoted(self, family: Family, *, insured: bool = False) -> dict[str, Any]:
        """Have the bill quoted."""
        if insured:
            self._stay(family, "POST", "/coverage", {"psn_no": family.psn_no})
        self._stay(family, "POST", "/bills", {"as_self_pay": not insured})
        return self._bill(family, "quoted")

    def confirmed(self, family: Family, *, insured: bool = False) -> dict[str, Any]:
        """Have the bill quoted, and say yes to it."""
        bill = self.quoted(family, insured=insured)
        path = f"/bills/{bill['bill_id']}/confirmation"
        return self._stay(family, "POST", path, {"lines_hash": bill["lines_hash"]})

    def nobody_knows(self, family: Family, *, looks: int) -> None:
        """Leave the bill of an insured family unknown for some looks at the fund."""
        self.ward.fund_is_silent(looks=looks)
        self.confirmed(family, insured=True)
        self._bill(family, "payer_unknown")

    def _code_of(self, family: Family) -> dict[str, Any]:
        bill = self.confirmed(family)
        bill = self._bill(family, "collecting")
        path = f"/bills/{bill['bill_id']}/orders"
        order = self._stay(family, "POST", path, {"amount_fen": bill["due_fen"], "method": "wechat"})
        eventually(
            lambda: self._stay(family, "GET", f"/orders/{order['payment_id']}")["state"] != "created", "a code to scan"
        )
        return order

    def paid_by_code(self, family: Family) -> None:
        """Have a family pay its bill by scanning the code."""
        self.ward.pay_code(self._code_of(family)["order_no"])
        self._bill(family, "settled")

    def pays_another_sum(self, family: Family) -> None:
        """Let the channel tell of another sum than was ordered."""
        order = self._code_of(family)
        paid_fen = {"amount_fen": order["amount_fen"] - 1_000}
        self.ward.simulators.operate("channel", "POST", f"/orders/{order['order_no']}/pay", paid_fen)

    def refund_comes_back(self, family: Family, *, amount_fen: int) -> str:
        """Have a family that paid by code reopened and given a little back, which the channel then cannot do."""
        self.paid_by_code(family)
        self._stay(family, "POST", "/settlement-reopening", {"reason": "wrong_charge"})
        operate = self.ward.simulators.operate
        operate("channel", "POST", "/faults", {"operation": "refund", "fault": "drop", "times": 1})
        lines = self._stay(family, "GET", "/statement?limit=200")["lines"]
        entry = next(one for one in lines if one["kind"] == "deposit" and one["reversed_by"] is None)
        self._stay(family, "POST", f"/deposits/{entry['entry_id']}/refund", {"amount_fen": amount_fen})

        def stuck(state: str) -> str | None:
            found = self.house.ask("billing_clerk", "GET", "/billing/worklist?limit=1")["refunds"]
            mine = [one for one in found if one["encounter_id"] == str(family.encounter_id) and one["state"] == state]
            return str(mine[0]["refund_no"]) if mine else None

        refund_no = eventually(lambda: stuck("unknown"), "a refund nobody knows about")
        operate("channel", "POST", f"/refunds/{refund_no}/fail")
        return eventually(lambda: stuck("failed"), "a refund that failed")

    def asks_back(self, family: Family) -> None:
        """Ask the whole deposit back, more than one person may give."""
        answer = self._stay(family, "POST", f"/deposits/{family.deposit_entry_id}/refund", {})
        assert answer["state"] == "asked"

    def deposits_fen(self, family: Family) -> int:
        """Return what is left of the deposits."""
        return int(self._stay(family, "GET", "/account")["deposits_fen"])

    # ---- drawers -----------------------------------------------------------------------------------------------------

    def take_cash(self, family: Family, amount_fen: int, *, by: str = "billing_clerk") -> None:
        """Take a deposit in cash."""
        path = f"/billing/encounters/{family.encounter_id}/deposits"
        self.house.ask(by, "POST", path, {"amount_fen": amount_fen, "method": "cash"})

    def shift_of(self, username: str) -> dict[str, Any] | None:
        """Return somebody's open drawer."""
        try:
            return self.house.ask(username, "GET", "/billing/cash-shifts/current")
        except httpx2.HTTPStatusError:
            return None

    def no_drawer(self, username: str) -> None:
        """Close the drawer somebody may have open, with what should be in it."""
        shift = self.shift_of(username)
        if shift is not None:
            body = {"counted_fen": shift["expected_fen"]}
            self.house.ask(username, "POST", "/billing/cash-shifts/current/closing", body)

    def closed_with(self, username: str, difference_fen: int) -> None:
        """Open a drawer with 500 yuan and close it with a difference."""
        self.no_drawer(username)
        self.house.ask(username, "POST", "/billing/cash-shifts", {"float_fen": 50_000})
        body = {"counted_fen": 50_000 + difference_fen, "reason": "miscounted_change"}
        self.house.ask(username, "POST", "/billing/cash-shifts/current/closing", body)

    # ---- the channel -------------------------------------------------------------------------------------------------

    def channel_states_nothing(self) -> None:
        """Let the channel not answer when it is asked for a day's statement."""
        fault = {"operation": "statement", "fault": "error", "times": 1000}
        self.ward.simulators.operate("channel", "POST", "/faults", fault)

    def channel_is_well(self) -> None:
        """Let the channel behave."""
        self.ward.simulators.operate("channel", "DELETE", "/faults")
