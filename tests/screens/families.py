"""Families at the bedside: somebody who lies in a bed, with charges and a deposit, made through the public doors only.

Every name is made up.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from infra.cli.accounts import credential_for
from infra.journeys.bedside import Simulators
from infra.journeys.client import Client, Login
from infra.local.home import Home
from infra.local.stack import Stack

CHARGES: Mapping[str, int] = {
    "NUR-1": 9,
    "CON-INPATIENT": 9,
    "LAB-COAG": 2,
    "IMG-CTA": 1,
    "OP-HERNIA": 1,
    "TRT-IV": 16,
    "DRG-LEVO": 12,
    "SUP-HIP": 1,
}
WAIT_SECONDS = 20
CAME_AGO = timedelta(days=9)


@dataclass(frozen=True, slots=True)
class Family:
    """Whom the tablet stands before."""

    encounter_id: UUID
    admission_no: str
    person: str
    psn_no: str
    deposit_entry_id: str | None


async def _come(
    client: Client,
    *,
    name: str,
    charges: Mapping[str, int],
    deposit_fen: int,
    sex: str,
    insured: bool,
    person: str,
    came_ago: timedelta,
) -> Family:
    async def post(service: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = (
            await client.post(service, path, uuid4().hex, body, patience_seconds=WAIT_SECONDS)
        ).body
        return found

    registered = {"identifier": {"system": "family", "value": person}, "name": name, "sex": sex}
    patient = await post("admission", "/patients", {**registered, "birth_date": "1959-03-05"})
    came = datetime.now(UTC) - came_ago
    past = {"source": "import", "occurred_at": came.isoformat()}
    admission_no = f"ZY{int(uuid4().hex[:8], 16):010d}"
    wish = {
        "patient_tok": patient["patient_tok"],
        "identifier": {"system": "his", "value": admission_no},
        "urgency": "emergency",
        "specialty": "general",
        "payer_kind": "basic_insurance" if insured else "self_pay",
        **past,
    }
    stay = str((await post("admission", "/encounters", wish))["encounter_id"])
    lies = {"source": "import", "occurred_at": (came + timedelta(minutes=20)).isoformat()}
    await post("admission", f"/encounters/{stay}/admission", lies)
    deposit = None
    if deposit_fen:
        taken = await post("billing", f"/encounters/{stay}/deposits", {"amount_fen": deposit_fen, "method": "cash"})
        deposit = str(taken["entry_id"])
    for item, quantity in charges.items():
        await post("billing", f"/encounters/{stay}/items", {"item": item, "quantity": quantity})
    await post("billing", f"/encounters/{stay}/bed-days", {})
    return Family(UUID(stay), admission_no, person, f"310{UUID(stay).hex[:17]}", deposit)


@dataclass(frozen=True, slots=True)
class Ward:
    """Lets families come, and the outside parties misbehave, while a browser runs in the same thread."""

    home: Home
    base_url: str
    login: Login
    simulators: Simulators

    @classmethod
    def of(cls, stack: Stack) -> "Ward":
        """Return the ward of a running stack."""
        account = credential_for(stack.home.root, username="replay")
        ports = {name: process.port for name, process in stack.status(measure=False).processes.items() if process.port}
        login = Login(account.username, account.password)
        return cls(stack.home, stack.base_url, login, Simulators(stack.home, ports))

    def family(
        self,
        name: str = "张晓明",
        *,
        charges: Mapping[str, int] = CHARGES,
        deposit_fen: int = 1_000_000,
        sex: str = "male",
        insured: bool = True,
        person: str | None = None,
        came_ago: timedelta = CAME_AGO,
    ) -> Family:
        """Let somebody, or the same person again, lie in a bed with these charges and this deposit."""

        async def come() -> Family:
            client = Client(self.base_url, self.login)
            try:
                return await _come(
                    client,
                    name=name,
                    charges=charges,
                    deposit_fen=deposit_fen,
                    sex=sex,
                    insured=insured,
                    person=person or uuid4().hex[:10],
                    came_ago=came_ago,
                )
            finally:
                await client.close()

        # The browser's own loop runs in this thread; another thread has room for ours.
        with ThreadPoolExecutor(1) as aside:
            return aside.submit(lambda: asyncio.run(come())).result()

    def charge(self, family: Family, item: str) -> None:
        """Let one more item be charged, as the ward does at any moment."""

        async def post() -> None:
            client = Client(self.base_url, self.login)
            try:
                await client.post("billing", f"/encounters/{family.encounter_id}/items", uuid4().hex, {"item": item})
            finally:
                await client.close()

        with ThreadPoolExecutor(1) as aside:
            aside.submit(lambda: asyncio.run(post())).result()

    def fund_is_silent(self, *, looks: int) -> None:
        """Let the fund settle and never say so, nor answer the first questions about it."""
        self.simulators.operate("insurance", "POST", "/faults", _fault("2304", "timeout_after_success", 1))
        if looks:
            self.simulators.operate("insurance", "POST", "/faults", _fault("5203", "silent_before", looks))

    def fund_is_well(self) -> None:
        """Let the fund behave."""
        self.simulators.operate("insurance", "DELETE", "/faults")

    def pay_code(self, order_no: str) -> None:
        """Scan the code and pay, as the family's telephone does."""
        self.simulators.operate("channel", "POST", f"/orders/{order_no}/pay", {})

    def settlements_at_fund(self, family: Family) -> int:
        """Return how often the fund has settled this stay."""
        truth = self.simulators.operate("insurance", "GET", "/truth")
        stays = {one["mdtrt_id"] for one in truth["stays"] if one["ipt_no"] == str(family.encounter_id)}
        return sum(one["mdtrt_id"] in stays and one["taken_back_at"] is None for one in truth["settlements"])


def _fault(operation: str, fault: str, times: int) -> dict[str, Any]:
    return {"operation": operation, "fault": fault, "times": times, "seconds": 8}
