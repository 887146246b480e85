"""The simulators as part of an embedded stack: supervised, listed, told to billing, and their pages behind the front door."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import pytest

from infra.local import services
from infra.local.home import read_json
from infra.local.services import SIMULATORS
from infra.local.stack import Stack
from services.billing.outside import connect
from services.billing.ports import Done, InsuredStay, Order
from services.billing.settings import Settings
from tests.integration.simulators.conftest import a_number

pytestmark = [pytest.mark.asyncio]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of simulators and front door, without services and stores."""
    found = Stack(tmp_path_factory.mktemp("stack") / "home")
    found.up(services=[], simulators=True, stores=False, prepare=False, stop_with=os.getpid())
    yield found
    found.destroy()


def told_to_billing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings billing would start with in this stack."""
    told = services.environment(stack.home, "billing", read_json(stack.home.state_file)["ports"])
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return Settings()


async def test_the_simulators_are_supervised_and_listed(stack: Stack):
    status = stack.status()
    assert status.status == "ready"
    assert set(status.as_json()["simulators"]) == set(SIMULATORS)
    old = stack.kill("channel")
    risen = stack.wait_ready(["channel"], other_than=old)
    assert risen.processes["channel"].restarts == 1


async def test_billing_is_told_how_to_reach_them(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    outside = connect(told_to_billing(stack, monkeypatch))
    assert outside.insurance is not None
    assert outside.channel is not None
    assert outside.receipts is not None
    at = datetime.now(UTC)
    try:
        stay = InsuredStay(uuid4(), "310000000042", at, None, None)
        assert isinstance(await outside.insurance.register_stay(a_number(), stay), Done)
        assert isinstance(await outside.receipts.issue(a_number(), 0, [], at), Done)
        order_no = a_number()
        outcome = await outside.channel.create_order(order_no, 500, "wechat", datetime(2099, 1, 1, tzinfo=UTC))
        assert isinstance(outcome, Done)
        assert outcome.value.startswith(f"{stack.base_url}/sim/pay/")
        async with httpx2.AsyncClient(trust_env=False) as phone:
            assert "¥5.00" in (await phone.get(outcome.value)).text
            assert (await phone.post(outcome.value)).status_code == 303
        found = await outside.channel.query_order(order_no)
        assert isinstance(found, Done)
        assert isinstance(found.value, Order)
        assert found.value.state == "paid"
    finally:
        await outside.close()


async def test_only_their_pages_are_behind_the_front_door(stack: Stack):
    token = services.simulator_secrets(stack.home)["channel"]["admin_token"]
    async with httpx2.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {token}"}) as client:
        assert (await client.get(f"{stack.service_url('channel')}/admin/truth")).status_code == 200
        for path in ("/sim/admin/truth", "/sim/pay/..%2f..%2fadmin/truth", "/sim/pay/%2e%2e/%2e%2e/admin/truth"):
            answer = await client.get(stack.base_url + path)
            assert '"orders"' not in answer.text
        assert (await client.get(f"{stack.base_url}/sim/receipts/nothing")).status_code == 404


async def test_billing_without_simulators_is_told_of_nobody(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    ports = read_json(stack.home.state_file)["ports"]
    alone = {name: port for name, port in ports.items() if name not in SIMULATORS}
    monkeypatch.setattr("os.environ", {})
    told = services.environment(stack.home, "billing", alone)
    outside = connect(Settings(**{name.removeprefix("WARDSTREAM_").lower(): value for name, value in told.items()}))  # type: ignore[arg-type]
    assert (outside.insurance, outside.channel, outside.receipts) == (None, None, None)
