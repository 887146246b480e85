"""Plays journeys through the public APIs, as the staff of the hospital would type them, long after they happened.

    inpatient     patient, stay, admission, deposit, charges, settlement, discharge, cleaning, follow-up
    day surgery   patient, case, slot, arrival, deposit, operation, charges, settlement, discharge, cleaning, follow-up
    no bed, or another stay at that time: cancelled, so that nothing is held for a patient who cannot come
    a death       is discharged before it is settled; nobody follows it up
    no end        stops after the charges: the patient is still there

Every step has a key made from the resource ids (R1). So a journey that was interrupted goes on where it stopped, and one
that was played before changes nothing. The sum of the claims is the sum the payer saw: billing refuses to settle any other.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson

from infra.journeys.catalogue import Deposit
from infra.journeys.client import PATIENCE_SECONDS, PAUSE_SECONDS, Answer, Client, Declined
from infra.journeys.model import Identifier, Journey, Person
from shared.contracts.envelope import PayerKind

SLOT_MIN = timedelta(minutes=30)
OPEN_SLOT = timedelta(hours=12)
"""The slot of a day case whose end is not known."""
CLEANING = timedelta(minutes=30)
"""How long after the patient left the bed is clean; no bundle says."""
IN_FLIGHT = 8

REFUSED_AT_IMPORT = "refused_at_import"

_NO_BED = frozenset({"bed_not_assigned_yet", "no_day_bed_yet"})
_CLEANED_BY_OTHERS = "not_to_clean"

How = Literal["completed", "still_admitted", "already_known", "refused"]


@dataclass(slots=True)
class Played:
    """How a journey went, and what the hospital answered."""

    journey: Journey
    how: How = "refused"
    reason: str = ""
    """Why it was refused: the step, the door's sentence and its code."""
    no_bed: bool = False
    anything_new: bool = False
    """Something was done that the hospital did not know."""
    lines: int = 0
    charged_fen: int = 0
    settled_fen: int = 0
    refunded_fen: int = 0
    had_bed: bool = False
    left_bed: bool = False
    plans: int = 0
    tasks: int = 0
    encounter_id: str = ""
    """What the hospital calls the stay."""


class _Visit:
    """One journey on its way: knows where it is, and whether anything was new to the hospital."""

    def __init__(self, client: Client, journey: Journey) -> None:
        self._client = client
        self.journey = journey
        self.played = Played(journey)
        self.step = ""
        self.anything_new = False

    async def do(
        self,
        step: str,
        service: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        key: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Answer:
        """Do a step at the time it happened, once."""
        self.step = step
        fact = {**(body or {}), "source": "import", "occurred_at": (at or self.journey.starts_at).isoformat()}
        answer = await self._client.post(
            service, path, key or self.journey.key(step), fact, patience_seconds=patience_seconds
        )
        self.anything_new = self.anything_new or not answer.known_before
        return answer

    async def look(self, step: str, service: str, path: str, *, wait: bool = True) -> Any:
        """Read something, waiting for it when it may come any moment."""
        self.step = step
        return (await self._client.get(service, path, wait=wait)).body


class Player:
    """Plays journeys one by one; many may be played side by side, those of one person only one after the other."""

    def __init__(self, client: Client, deposits: Mapping[PayerKind, Deposit]) -> None:
        self._client = client
        self._deposits = deposits
        self._tokens: dict[Identifier, str] = {}

    async def play(self, journey: Journey) -> Played:
        """Play one journey from its first to its last step; a door that says no ends it and nothing else.

        Raises:
            Unreachable: a service is gone; what it acknowledged is kept, and the same call goes on from there.
        """
        visit = _Visit(self._client, journey)
        played = visit.played
        try:
            if journey.kind == "inpatient":
                await self._inpatient(visit)
            else:
                await self._day_surgery(visit)
        except Declined as declined:
            played.how = "refused"
            played.reason = f"{visit.step}: {declined.detail} ({declined.code})"
            played.no_bed = declined.code in _NO_BED
        else:
            ended: How = "still_admitted" if journey.ends_at is None else "completed"
            played.how = ended if visit.anything_new else "already_known"
        played.anything_new = visit.anything_new
        return played

    # ---- the two ways through the hospital ---------------------------------------------------------------------------

    async def _inpatient(self, visit: _Visit) -> None:
        journey = visit.journey
        wanted = {
            "identifier": {"system": "fhir", "value": journey.reference},
            "patient_tok": await self._register(visit),
            "urgency": "emergency" if journey.emergency else "elective",
            "payer_kind": journey.payer_kind,
            "expected_admit_at": journey.starts_at.isoformat(),
        }
        # How long the stay will be is not told: nobody knew it then, and a stay that ends later keeps its key.
        stay = (await visit.do("registered", "admission", "/encounters", wanted)).body
        visit.played.encounter_id = stay["encounter_id"]
        place = f"/encounters/{stay['encounter_id']}"
        async with self._or_cancelled(visit, "admission", f"{place}/cancellation", {}):
            await self._into_bed(visit, "admitted", "admission", f"{place}/admission")
        await self._deposit(visit, place)
        await self._charge(visit, place)
        if journey.ends_at is None:
            return
        discharge = {"disposition": "5" if journey.died else "1"}
        if not journey.died:
            await self._settle(visit, place, journey.ends_at)
        await visit.do("discharged", "admission", f"{place}/discharge", discharge, at=journey.ends_at)
        if journey.died:
            await self._settle(visit, place, journey.ends_at)
        await self._leave(visit, place, journey.ends_at)

    async def _day_surgery(self, visit: _Visit) -> None:
        journey = visit.journey
        assert journey.operation is not None
        wanted = {
            "identifier": {"system": "fhir", "value": journey.reference},
            "patient_tok": await self._register(visit),
            "procedure": journey.operation.procedure,
            "payer_kind": journey.payer_kind,
        }
        case = (await visit.do("referred", "daysurgery", "/cases", wanted)).body
        visit.played.encounter_id = case["encounter_id"]
        steps, place = f"/cases/{case['case_id']}", f"/encounters/{case['encounter_id']}"
        ends_at = journey.starts_at + OPEN_SLOT if journey.ends_at is None else journey.ends_at
        slot = {
            "starts_at": journey.starts_at.isoformat(),
            "ends_at": max(ends_at, journey.starts_at + SLOT_MIN).isoformat(),
        }
        async with self._or_cancelled(visit, "daysurgery", f"{steps}/cancellation", {"by": "hospital"}):
            await visit.do("booked", "daysurgery", f"{steps}/booking", slot)
            await self._into_bed(visit, "arrived", "daysurgery", f"{steps}/arrival")
        await self._deposit(visit, place)
        for step, at in (("start", journey.operation.started_at), ("end", journey.operation.ended_at)):
            await visit.do(f"operation-{step}", "daysurgery", f"{steps}/operation-{step}", at=at)
        await self._charge(visit, place)
        if journey.ends_at is None:
            return
        discharge = {"disposition": "5" if journey.died else "1"}
        if not journey.died:
            await self._settle(visit, place, journey.ends_at)
        await visit.do("discharged", "daysurgery", f"{steps}/discharge", discharge, at=journey.ends_at)
        if journey.died:
            await self._settle(visit, place, journey.ends_at)
        await self._leave(visit, place, journey.ends_at)

    # ---- steps -------------------------------------------------------------------------------------------------------

    async def _register(self, visit: _Visit) -> str:
        """Return the person's token; a person who is known is not registered again."""
        person = visit.journey.person
        known = self._tokens.get(person.identifier)
        if known is not None:
            return known
        was_new = visit.anything_new
        body = {
            "identifier": {"system": person.identifier.system, "value": person.identifier.value},
            "name": person.name,
            "sex": person.sex,
            "birth_date": person.birth_date.isoformat() if person.birth_date else None,
            "phone": person.phone,
        }
        answer = await visit.do(
            "patient", "admission", "/patients", body, at=person.registered_at, key=_person_key(person, body)
        )
        visit.anything_new = was_new or not (answer.known_before or answer.body["known_before"])
        token = str(answer.body["patient_tok"])
        self._tokens[person.identifier] = token
        return token

    @asynccontextmanager
    async def _or_cancelled(
        self, visit: _Visit, service: str, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator[None]:
        """Cancel a stay whose patient could not be brought in, so that it holds no bed and no place in the queue.

        Raises:
            Declined: what the block met; in later runs, that an earlier one met it.
        """
        try:
            yield
        except Declined:
            step = visit.step
            try:
                cancelled = await visit.do("cancelled", service, path, {**body, "reason": REFUSED_AT_IMPORT})
            except Declined:
                pass  # the patient is in already: what was declined is told, and nothing is taken back
            else:
                if cancelled.known_before:
                    detail = "An earlier run could not bring the patient in, and cancelled."
                    raise Declined(409, "refused_before", detail) from None
            finally:
                visit.step = step
            raise

    async def _into_bed(self, visit: _Visit, step: str, service: str, path: str) -> None:
        """Bring the patient into the bed; as soon as the pool says that there is none, do not wait any longer.

        Raises:
            Declined: no bed is free for this stay, with the pool's reason; or the pool has not said anything for as long as
                we have patience.
        """
        began = time.monotonic()
        while not visit.played.had_bed:
            try:
                await visit.do(step, service, path, patience_seconds=0)
                visit.played.had_bed = True
            except Declined as declined:
                if not declined.not_yet or time.monotonic() - began > PATIENCE_SECONDS:
                    raise
                reason = await self._why_no_bed(visit) if declined.code in _NO_BED else None
                if reason is not None:
                    detail = f"{declined.detail} The pool says {reason}."
                    raise Declined(declined.status, declined.code, detail, not_yet=True) from None
                await asyncio.sleep(PAUSE_SECONDS)

    async def _why_no_bed(self, visit: _Visit) -> str | None:
        """Return why the pool lets this stay wait; nothing when it gave a bed or has not heard of the stay."""
        try:
            path = f"/encounters/{visit.played.encounter_id}/allocation"
            allocation = await visit.look(visit.step, "beds", path, wait=False)
        except Declined as declined:
            if declined.status != 404:
                raise
            return None
        return str(allocation["waiting_reason"]) if allocation["state"] == "waiting" else None

    async def _deposit(self, visit: _Visit, place: str) -> None:
        deposit = self._deposits.get(visit.journey.payer_kind)
        if deposit is not None:
            body = {"amount_fen": deposit.amount_fen, "method": deposit.method}
            await visit.do("deposit", "billing", f"{place}/deposits", body)

    async def _charge(self, visit: _Visit, place: str) -> None:
        for charge in visit.journey.charges:
            body = {"item": charge.item, "amount_fen": charge.amount_fen}
            await visit.do(f"charge:{charge.part}", "billing", f"{place}/charges", body, at=charge.charged_at)
            visit.played.lines += 1
            visit.played.charged_fen += charge.amount_fen

    async def _settle(self, visit: _Visit, place: str, ends_at: datetime) -> None:
        deposit = self._deposits.get(visit.journey.payer_kind)
        body = {
            "method": deposit.method if deposit is not None else "bank_transfer",
            "charged_fen": visit.journey.claimed_fen,
        }
        settlement = (await visit.do("settled", "billing", f"{place}/settlement", body, at=ends_at)).body
        visit.played.settled_fen = settlement["charged_fen"]
        visit.played.refunded_fen = settlement["refunded_fen"]

    async def _leave(self, visit: _Visit, place: str, ends_at: datetime) -> None:
        """Wait until the bed is empty, clean it, and see that the follow-up is planned."""
        played = visit.played
        bed = await visit.look("bed-left", "beds", f"{place}/allocation?until=left")
        played.left_bed = True
        try:
            await visit.do("cleaned", "beds", f"/beds/{bed['bed_id']}/cleaning-done", at=ends_at + CLEANING)
        except Declined as declined:
            if declined.code != _CLEANED_BY_OTHERS:
                raise
        if visit.journey.died or not visit.anything_new:
            return
        plan = await visit.look("follow-up", "followup", f"{place}/plan")
        played.plans, played.tasks = 1, len(plan["tasks"])


def _person_key(person: Person, body: Mapping[str, Any]) -> str:
    """Return the key of a registration: a digest of all that is told, which may change from file to file.

    The identifier itself is no part of it, because keys are kept where no patient may be named (S4).
    """
    told = orjson.dumps([body, person.registered_at.isoformat()])
    return f"replay:patient:{hashlib.sha256(told).hexdigest()[:32]}"


async def play_all(
    journeys: Sequence[Journey], play: Callable[[Journey], Awaitable[Played]], *, in_flight: int = IN_FLIGHT
) -> list[Played]:
    """Play journeys side by side, started in time order, each person's strictly one after the other.

    A person's next journey waits for the last one and holds up those after it: whoever came first gets a bed first.

    Raises:
        ExceptionGroup: something else than a refusal ended one; the others are stopped where they are.
    """
    slots = asyncio.Semaphore(in_flight)
    last: dict[Identifier, asyncio.Task[Played]] = {}
    tasks: list[asyncio.Task[Played]] = []

    async def one(journey: Journey) -> Played:
        try:
            return await play(journey)
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for journey in journeys:
            await slots.acquire()
            before = last.get(journey.person.identifier)
            if before is not None:
                await asyncio.wait((before,))
            task = group.create_task(one(journey))
            last[journey.person.identifier] = task
            tasks.append(task)
    return [task.result() for task in tasks]
