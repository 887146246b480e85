"""Broker and database go away and come back; duplicates, reordering and poison arrive: afterwards the audit is clean."""

import asyncio
import signal

import asyncpg
import pytest

from infra.journeys.live import play_stay, register_patient
from shared.messaging.kafka import KafkaProducer
from shared.messaging.relay import resend
from tests.faults.conftest import SERVICES, Wounded

pytestmark = [pytest.mark.asyncio, pytest.mark.slow, pytest.mark.timeout(600)]


async def test_commands_go_on_while_the_broker_is_restarted(wounded: Wounded):
    living = asyncio.create_task(wounded.some_life(stays=4, cases=1))
    await asyncio.sleep(1)
    pid = wounded.stack.kill("kafka", signal.SIGKILL)
    client = wounded.client()
    assert await register_patient(client) is not None, "a patient can be registered while the broker is away"
    await asyncio.to_thread(wounded.stack.wait_ready, ["kafka"], seconds=120, other_than=pid)
    await living
    await client.close()
    await wounded.heal()
    await wounded.verdict()


async def test_sessions_thrown_out_of_the_database_cost_nothing(wounded: Wounded):
    living = asyncio.create_task(wounded.some_life(stays=6, cases=2))
    conn = await asyncpg.connect(wounded.stack.postgres_dsn())
    for _ in range(4):
        await asyncio.sleep(0.7)
        thrown = await conn.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename LIKE 'ws%' AND pid <> pg_backend_pid()"
        )
        assert thrown > 0
    await conn.close()
    await living
    await wounded.heal()
    await wounded.verdict()


async def test_the_database_crashes_and_recovers_under_load(wounded: Wounded):
    living = asyncio.create_task(wounded.some_life(stays=4, cases=1))
    await asyncio.sleep(1.5)
    pid = wounded.stack.kill("postgres", signal.SIGQUIT)
    await asyncio.to_thread(wounded.stack.wait_ready, ["postgres"], seconds=120, other_than=pid)
    await living
    await wounded.heal()
    await wounded.verdict()


async def test_every_event_sent_twice_and_late_changes_nothing(wounded: Wounded):
    await wounded.some_life(stays=2, cases=1)
    await wounded.heal()
    counts = {}
    for service, topic in (
        ("admission", "admission.encounters.v1"),
        ("billing", "billing.accounts.v1"),
        ("beds", "beds.inventory.v1"),
    ):
        conn = await asyncpg.connect(wounded.stack.postgres_dsn(), server_settings={"search_path": service})
        counts[topic] = await resend(conn, topic=topic, aggregate_id=None, after_version=0)
        await conn.close()
    assert all(counts.values()), counts
    await wounded.heal()
    await wounded.verdict()


async def test_poison_is_set_aside_and_the_ward_goes_on(wounded: Wounded):
    producer = KafkaProducer(wounded.stack.kafka_bootstrap, "poison")
    await producer.start()
    for value in (b"{", b"\xff\x00", b"[" * 100, b"x" * 500_000):
        await (
            await producer.send(
                "admission.encounters.v1", b"poison", value, [("ce_type", b"wardstream.nobody.Nothing.v9")]
            )
        )
    await producer.stop()
    client = wounded.client()
    await asyncio.wait_for(play_stay(client, await register_patient(client)), 60)
    await client.close()
    parked = 0
    for service in SERVICES:
        conn = await asyncpg.connect(wounded.stack.postgres_dsn(), server_settings={"search_path": service})
        parked += await conn.fetchval("SELECT count(*) FROM parked WHERE status = 'parked' AND aggregate_id = 'poison'")
        await conn.close()
    assert parked >= 4 * 3, "each of the services that read the stays sets each broken record aside"
