"""A real stack that is hurt on purpose: every process, real Kafka, real PostgreSQL."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra.cli.accounts import credential_for
from infra.cli.audit import run_audit
from infra.journeys.client import Client, Declined, Login, Unreachable
from infra.journeys.live import complete_first_task, play_day_case, play_stay, register_patient
from infra.journeys.quiet import until_quiet
from infra.local.stack import Stack
from shared.contracts.registry import EVENT_TOPICS
from shared.messaging.broker import TopicPartition
from shared.messaging.lags import OffsetReader

INJECTED = frozenset(
    {"service_part_died", "handler_failed", "request_failed", "event_parked", "broker_lost_events", "service_stalled"}
)
"""Error lines that the injected faults may leave (I24)."""
SERVICES = ("admission", "beds", "billing", "daysurgery", "followup")


class Wounded:
    """The stack, who talks to it, and the verdict afterwards."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def client(self) -> Client:
        """Return a client with every right the journeys need."""
        credential = credential_for(self.stack.home.root, username="replay")
        return Client(self.stack.base_url, Login(credential.username, credential.password))

    def ops_client(self) -> Client:
        """Return a client of the engineer on call."""
        credential = credential_for(self.stack.home.root, role="ops")
        return Client(self.stack.base_url, Login(credential.username, credential.password))

    async def some_life(self, stays: int = 3, cases: int = 1) -> None:
        """Let patients come and go while things break; every command is repeated with its key until it is answered."""
        client = self.client()

        async def stay() -> None:
            encounter = await play_stay(client, await register_patient(client))
            follow_up = credential_for(self.stack.home.root, role="follow_up_nurse")
            nurse = Client(self.stack.base_url, Login(follow_up.username, follow_up.password))
            await complete_first_task(nurse, encounter)
            await nurse.close()

        async def case() -> None:
            await play_day_case(client, await register_patient(client))

        try:
            await asyncio.gather(*(stay() for _ in range(stays)), *(case() for _ in range(cases)))
        finally:
            await client.close()

    async def heal(self) -> None:
        """Disarm every service and wait until nothing is on its way."""
        for service in SERVICES:
            self.stack.set_env(service, {})
        await asyncio.to_thread(self.stack.wait_ready, seconds=120)
        client = self.ops_client()
        await self._insight_is_whole(client)
        offsets = OffsetReader(self.stack.kafka_bootstrap, "wardstream-faults")

        async def ends() -> Mapping[TopicPartition, int]:
            _, found = await offsets.begins_and_ends(EVENT_TOPICS.values())
            return found

        try:
            standing, _ = await until_quiet(client, ends)
        finally:
            await offsets.stop()
        await client.close()
        assert standing.quiet, f"Not quiet: {standing}"
        assert standing.parked == 0, f"{standing.parked} events were set aside"

    async def _insight_is_whole(self, client: Client) -> None:
        """Wait for insight, which ends and reads the topics from their beginning when its unlogged tables were emptied."""
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(Declined, Unreachable):
                    if (await client.get("insight", "/progress", wait=True)).body["caught_up"]:
                        return
                await asyncio.sleep(0.5)

    async def verdict(self) -> None:
        """Fail with the violations when the audit finds one."""
        found = await run_audit(self.stack, allowed_errors=INJECTED)
        wrong = [check for check in found["checks"] if not check["ok"]]
        assert not wrong, f"The audit found: {wrong}"


@pytest.fixture(scope="module")
def wounded() -> Iterator[Wounded]:
    """A whole stack for one module of tests."""
    directory = Path(tempfile.mkdtemp(prefix="wardstream-faults-", dir="/var/tmp"))
    directory.chmod(0o755)
    stack = Stack(directory / "home")
    try:
        stack.up(restart_waits=(0.2, 0.2, 0.5, 1, 2), steady_seconds=2)
        yield Wounded(stack)
    finally:
        stack.destroy()
        shutil.rmtree(directory, ignore_errors=True)
