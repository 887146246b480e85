"""Settling one stay the way the tablet at the bedside does it: quote, yes, fund, payment, receipt (R05, R16).

What `wardstream settle`, the demo and the fault tests play through the doors.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from uuid import UUID, uuid4

import httpx2

from infra.journeys.client import Client
from infra.journeys.live import begin_stay, end_stay, register_patient
from infra.local.home import Home
from infra.local.services import simulator_secrets
from infra.local.stack import Stack

PayBy = Literal["cash", "wechat", "alipay"]
RESTS = frozenset({"settled", "failed", "cancelled", "expired", "reopened"})
SETTLED_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.1
AWAY_SECONDS_MAX = 20.0
DONE_BEFORE = 409
"""What a simulator says of an order that is paid already."""
DEPOSIT_FEN = 200_000


class NotSettled(Exception):
    """The bill came to rest otherwise, or not in time."""


@dataclass(frozen=True, slots=True)
class Simulators:
    """The outside parties of an embedded stack and the way to make them misbehave."""

    home: Home
    ports: Mapping[str, int]

    @classmethod
    def of(cls, stack: Stack) -> Self:
        """Return the simulators of a running stack."""
        processes = stack.status(measure=False).processes
        return cls(stack.home, {name: process.port for name, process in processes.items() if process.port})

    def operate(self, party: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Do something at a simulator's operator door and return its answer; while it is away, try again for a while.

        Raises:
            NotSettled: the simulator stays away, or refuses.
        """
        token = simulator_secrets(self.home)[party]["admin_token"]
        url = f"http://127.0.0.1:{self.ports[party]}/admin{path}"
        deadline = time.monotonic() + AWAY_SECONDS_MAX
        is_repeated = False
        while True:
            try:
                with httpx2.Client(timeout=10, trust_env=False) as client:
                    answer = client.request(method, url, json=body, headers={"Authorization": f"Bearer {token}"})
            except httpx2.HTTPError as error:
                if time.monotonic() > deadline:
                    raise NotSettled(f"The simulator {party} does not answer ({type(error).__name__}).") from None
                is_repeated = True
                time.sleep(0.5)
                continue
            if not answer.is_success and not (is_repeated and answer.status_code == DONE_BEFORE):
                raise NotSettled(f"The simulator {party} refused: {answer.text[:200]}")
            return answer.json() if answer.content else None


@dataclass(slots=True)
class Bedside:
    """A tablet at the bedside of one stay."""

    client: Client
    encounter_id: UUID
    simulators: Simulators | None = None
    bill: dict[str, Any] = field(default_factory=dict)

    @property
    def _stay(self) -> str:
        return f"/encounters/{self.encounter_id}"

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self.client.post("billing", f"{self._stay}{path}", uuid4().hex, dict(body))
        found: dict[str, Any] = answer.body
        return found

    async def deposit(self, amount_fen: int) -> None:
        """Take a deposit in cash."""
        await self._post("/deposits", {"amount_fen": amount_fen, "method": "cash"})

    async def look(self) -> dict[str, Any]:
        """Return the bill as it stands now."""
        self.bill = (await self.client.get("billing", f"{self._stay}/bills/latest")).body
        return self.bill

    async def until(self, *states: str, seconds: float = SETTLED_SECONDS_MAX) -> dict[str, Any]:
        """Wait until the bill is in one of these states, or rests in another.

        Raises:
            NotSettled: it rests otherwise, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while True:
            bill = await self.look()
            if bill["state"] in states:
                return bill
            if bill["state"] in RESTS or time.monotonic() > deadline:
                why = f" ({bill['reason']})" if bill["reason"] else ""
                raise NotSettled(f"The bill is {bill['state']}{why} instead of {' or '.join(states)}.")
            await asyncio.sleep(LOOK_SECONDS)

    async def reopen_when_settled(self, reason: str) -> bool:
        """Take a settlement in force back, so that the stay can be settled again; say whether there was one."""
        account = (await self.client.get("billing", f"{self._stay}/account")).body
        if account["state"] != "closed":
            return False
        reopened = await self._post("/settlement-reopening", {"reason": reason})
        if reopened["state"] == "reopening":
            await self.until("reopened")
        return True

    async def quote(self, *, psn_no: str | None = None) -> dict[str, Any]:
        """Note the insured person, if there is one, and have the bill quoted."""
        if psn_no is not None:
            await self._post("/coverage", {"psn_no": psn_no})
        self.bill = await self._post("/bills", {"as_self_pay": psn_no is None})
        return await self.until("quoted")

    async def confirm(self) -> dict[str, Any]:
        """Say yes to the quote that is shown."""
        self.bill = await self._post(
            f"/bills/{self.bill['bill_id']}/confirmation", {"lines_hash": self.bill["lines_hash"]}
        )
        return self.bill

    async def pay(self, by: PayBy) -> None:
        """Pay what is due, in cash or by scanning the code."""
        body = {"amount_fen": self.bill["due_fen"], "method": by}
        path = f"/bills/{self.bill['bill_id']}"
        if by == "cash":
            await self._post(f"{path}/payments", body)
            return
        assert self.simulators is not None, "Only a simulated channel is paid by a program."
        order = await self._post(f"{path}/orders", body)
        await self._until_coded(UUID(order["payment_id"]))
        await asyncio.to_thread(self.simulators.operate, "channel", "POST", f"/orders/{order['order_no']}/pay", {})

    async def _until_coded(self, payment_id: UUID) -> None:
        deadline = time.monotonic() + SETTLED_SECONDS_MAX
        while time.monotonic() < deadline:
            order = (await self.client.get("billing", f"{self._stay}/orders/{payment_id}")).body
            if order["state"] != "created":
                return
            await asyncio.sleep(LOOK_SECONDS)
        raise NotSettled("The channel made no code.")

    async def settle(self, *, psn_no: str | None, by: PayBy) -> dict[str, Any]:
        """Do all of it and return the settled bill; its receipt may still be on its way.

        Raises:
            NotSettled: it came to rest otherwise, or not in time. Declined: a door refused.
        """
        await self.quote(psn_no=psn_no)
        await self.confirm()
        bill = await self.until("collecting", "settled")
        if bill["state"] == "collecting":
            await self.pay(by)
        return await self.until("settled")

    async def receipt(self, seconds: float = 30.0) -> dict[str, Any] | None:
        """Return the receipt once it is issued; None when it is not in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = (await self.look())["receipt"]
            if found is not None and found["state"] == "issued":
                issued: dict[str, Any] = found
                return issued
            await asyncio.sleep(LOOK_SECONDS)
        return None


@dataclass(frozen=True, slots=True)
class Settled:
    """One stay of the demo: how it was settled, and the states its bill went through."""

    title: str
    encounter_id: UUID
    charged_fen: int
    payer_fen: int
    refunded_fen: int
    states: tuple[str, ...]


async def play_bedside_day(client: Client, simulators: Simulators) -> list[Settled]:
    """Settle three families as on any day: insured, paying by phone, and insured while the fund's answer is lost.

    Raises:
        NotSettled: one came to rest otherwise. Declined, Unreachable: a door refused or is away.
    """
    found = []
    for title, insured, by, fault in (
        ("insured, part of the deposit back", True, "cash", None),
        ("self-pay, code scanned", False, "wechat", None),
        ("insured, the fund's answer lost", True, "cash", "timeout-after-success"),
    ):
        encounter_id = await begin_stay(client, await register_patient(client))
        bedside = Bedside(client, encounter_id, simulators)
        if insured:
            await bedside.deposit(DEPOSIT_FEN)
        if fault is not None:
            plan = {"operation": "2304", "fault": fault, "times": 1}
            await asyncio.to_thread(simulators.operate, "insurance", "POST", "/faults", plan)
        method: PayBy = "wechat" if by == "wechat" else "cash"
        bill = await bedside.settle(psn_no=psn_no_of(encounter_id) if insured else None, by=method)
        await bedside.receipt()
        await end_stay(client, encounter_id)
        settlement = bill["settlement"]
        states = tuple(step["state"] for step in bill["steps"])
        found.append(
            Settled(
                title,
                encounter_id,
                settlement["charged_fen"],
                settlement["payer_fen"],
                settlement["refunded_fen"],
                states,
            )
        )
    return found


def psn_no_of(encounter_id: UUID) -> str:
    """Return the number under which the simulated fund insures whoever stays here; it knows the class by its beginning."""
    return f"310{encounter_id.hex[-17:]}"
