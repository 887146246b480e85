"""A hospital on an ordinary morning, made through the public doors only: people in beds, on the way, leaving, waiting.

    python -m tests.screens.scene --home DIR [--patients 900]

Every name is made up. The same seed makes the same morning.
"""

import argparse
import asyncio
import random
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from infra.cli.accounts import credential_for
from infra.journeys.client import Client, Declined, Login
from infra.local.stack import Stack

SURNAMES = "王李张刘陈杨黄赵周吴徐孙朱马胡郭林何高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉萍红建国文辉力健宁晨曦雨桐梓涵浩然思远"
COMPOUND = ("欧阳", "司马", "上官", "诸葛")
SPECIALTIES = (
    *("general",) * 6,
    *("surgery",) * 4,
    *("orthopaedics",) * 4,
    *("cardiology",) * 3,
    *("respiratory",) * 3,
    *("neurology",) * 3,
    *("gastroenterology",) * 3,
    *("oncology",) * 3,
    *("urology",) * 2,
    *("geriatrics",) * 2,
    *("gynaecology", "nephrology", "endocrinology", "ent", "neurosurgery", "rehabilitation", "emergency"),
)
AT_ONCE = 8
SEED = 20_261_123


@dataclass(slots=True)
class Scene:
    """What was made."""

    stays: list[str] = field(default_factory=list)
    """Everybody who lies in a bed."""
    waiting: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    mothers: list[tuple[str, str]] = field(default_factory=list)
    """Mothers in their beds, each with her child that is registered and waits."""


class Morning:
    """Makes the morning, one person after the other, some side by side."""

    def __init__(self, client: Client, *, seed: int = SEED) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._tag = uuid4().hex[:8]
        self.scene = Scene()

    async def _post(self, service: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        done = await self._client.post(service, path, uuid4().hex, body, patience_seconds=20)
        found: dict[str, Any] = done.body
        return found

    def _person(self) -> dict[str, Any]:
        surname = self._random.choice(COMPOUND) if self._random.random() < 0.02 else self._random.choice(SURNAMES)
        given = "".join(self._random.sample(GIVEN, self._random.choice((1, 2, 2))))
        age = int(self._random.triangular(18, 92, 64))
        return {
            "identifier": {"system": f"scene-{self._tag}", "value": uuid4().hex[:12]},
            "name": surname + given,
            "sex": self._random.choice(("male", "female")),
            "birth_date": f"{datetime.now(UTC).year - age}-03-05",
        }

    def _wish(self, **wish: Any) -> dict[str, Any]:
        return {
            "urgency": "emergency",
            "specialty": self._random.choice(SPECIALTIES),
            "expected_stay_days": self._random.randint(3, 12),
            **wish,
        }

    async def _asks(self, person: dict[str, Any], wish: dict[str, Any]) -> str:
        patient = await self._post("admission", "/patients", person)
        stay = await self._post("admission", "/encounters", {"patient_tok": patient["patient_tok"], **wish})
        return str(stay["encounter_id"])

    async def lies_in_bed(self, person: dict[str, Any], wish: dict[str, Any], days: float) -> None:
        """Somebody who came `days` ago, or would have, had there been a bed."""
        came = datetime.now(UTC) - timedelta(days=days)
        past = {"source": "import", "occurred_at": came.isoformat()}
        stay = await self._asks(person, {**wish, **past})
        later = {"source": "import", "occurred_at": (came + timedelta(minutes=20)).isoformat()}
        try:
            await self._post("admission", f"/encounters/{stay}/admission", later)
        except Declined:
            self.scene.waiting.append(stay)
        else:
            self.scene.stays.append(stay)

    async def fill(self, count: int) -> None:
        """Let `count` people have come within the last nine days."""
        people = [
            (
                self._person(),
                self._wish(
                    isolation=self._random.choices(("none", "contact", "droplet"), (95, 3, 2))[0],
                    expected_stay_days=min(30, int(days) + self._random.randint(1, 6)),
                ),
                days,
            )
            for days in (self._random.uniform(0.1, 9) for _ in range(count))
        ]
        people.sort(key=lambda one: -one[2])
        await _all([self.lies_in_bed(*one) for one in people])

    async def go_home(self, ordered: int, gone: int) -> None:
        """Let some be told that they may go home today, and some have left just now, so that their beds are dirty."""
        chosen = self._random.sample(self.scene.stays, min(len(self.scene.stays), ordered + gone))
        await _all([self._post("admission", f"/encounters/{stay}/discharge-order", {}) for stay in chosen])
        left = chosen[:gone]
        await _all([self._post("admission", f"/encounters/{stay}/discharge", {"disposition": "1"}) for stay in left])
        self.scene.left += left

    async def clean(self, started: int) -> None:
        """Let somebody have begun to clean some of those beds."""
        for stay in self.scene.left[:started]:
            answer = await self._client.get("beds", f"/encounters/{stay}/allocation?until=left", wait=True)
            await self._post("beds", f"/beds/{answer.body['bed_id']}/cleaning-start", {})

    async def block(self, count: int) -> None:
        """Let some free beds be out of order."""
        board = (await self._client.get("beds", "/board")).body
        free = [bed for bed in board["beds"] if bed["commitment"] == "free" and bed["condition"] == "U"]
        for bed in self._random.sample(free, min(count, len(free))):
            reason = self._random.choice(("repair", "infection_control", "staff_shortage"))
            until = datetime.now(UTC) + timedelta(hours=self._random.randint(3, 40))
            await self._post("beds", f"/beds/{bed['bed_id']}/block", {"reason": reason, "until": until.isoformat()})

    async def give_birth(self, count: int) -> None:
        """Let mothers lie in maternity whose newborns are registered, the last of them rooming in already."""
        for number in range(count):
            mother = {**self._person(), "sex": "female", "birth_date": f"{datetime.now(UTC).year - 29}-04-02"}
            lies = await self._asks(mother, self._wish(specialty="obstetrics"))
            await self._post("admission", f"/encounters/{lies}/admission", {})
            await self._client.get("beds", f"/encounters/{lies}/allocation?until=arrived", wait=True)
            child = {**self._person(), "birth_date": datetime.now(UTC).date().isoformat()}
            born = await self._asks(child, self._wish(specialty="obstetrics", urgency="elective"))
            await self._known_to_the_pool(born)
            if number == count - 1:
                share = {"kind": "newborn", "guest_encounter_id": born}
                await self._post("beds", f"/encounters/{lies}/shares", share)
                await self._post("admission", f"/encounters/{born}/admission", {})
            else:
                self.scene.mothers.append((lies, born))

    async def _known_to_the_pool(self, stay: str) -> None:
        for _ in range(100):
            with suppress(Declined):
                await self._client.get("beds", f"/encounters/{stay}/allocation")
                return
            await asyncio.sleep(0.2)

    async def stay_with(self, count: int) -> None:
        """Let companions stay with some, and some be on leave."""
        chosen = self._random.sample(self.scene.stays, min(len(self.scene.stays), 2 * count))
        for stay in chosen[:count]:
            with suppress(Declined):  # nobody stays with who is isolated or critically ill
                await self._post("beds", f"/encounters/{stay}/shares", {"kind": "companion"})
        until = (datetime.now(UTC) + timedelta(hours=9)).isoformat()
        for stay in chosen[count:]:
            with suppress(Declined):  # who has left meanwhile
                await self._post("beds", f"/encounters/{stay}/leave", {"until": until})

    async def on_the_way(self, count: int) -> None:
        """Let emergencies be on their way to a bed that is held for them."""
        await _all([self._asks(self._person(), self._wish()) for _ in range(count)])

    async def wait_for_beds(self, count: int) -> None:
        """Let people wait: for long those whose needs no bed meets, since just now those whom the desk has not seen."""
        asked = []
        for number in range(count):
            wish = self._wish(urgency=self._random.choice(("elective", "elective", "urgent")))
            if number % 3 == 0:
                wish |= {"specialty": "infectious", "isolation": "airborne", "level_of_care": "critical"}
                wish["equipment"] = ["ventilator", "telemetry"]
                hours = self._random.uniform(2, 70)
                wish |= {"source": "import", "occurred_at": (datetime.now(UTC) - timedelta(hours=hours)).isoformat()}
            elif number % 5 == 1:
                wish["isolation"] = "contact"
            elif number % 5 == 2:
                wish["equipment"] = ["monitor"]
            elif number % 7 == 3:
                wish["expected_admit_at"] = (datetime.now(UTC) + timedelta(days=self._random.randint(2, 6))).isoformat()
            asked.append(self._asks(self._person(), wish))
        self.scene.waiting += await _all(asked)


async def _all(work: Sequence[Awaitable[Any]]) -> list[Any]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(act: Awaitable[Any]) -> Any:
        async with gate:
            return await act

    return await asyncio.gather(*(one(act) for act in work))


async def make_morning(base_url: str, login: Login, *, patients: int) -> Scene:
    """Make a morning with about `patients` people in the house, and return whom."""
    client = Client(base_url, login)
    try:
        morning = Morning(client)
        await morning.fill(patients)
        await morning.go_home(ordered=max(3, patients // 12), gone=max(3, patients // 22))
        await morning.clean(max(1, patients // 60))
        await morning.block(max(2, patients // 60))
        await morning.give_birth(2)
        await morning.stay_with(max(2, patients // 40))
        await morning.on_the_way(max(2, patients // 45))
        await morning.wait_for_beds(max(6, patients // 20))
        return morning.scene
    finally:
        await client.close()


def main() -> None:
    """Make the morning in a running stack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=900)
    options = parser.parse_args()
    account = credential_for(options.home, username="replay")
    login = Login(account.username, account.password)
    asyncio.run(make_morning(Stack(options.home).base_url, login, patients=options.patients))


if __name__ == "__main__":
    main()
