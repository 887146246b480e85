"""Events are never lost and never applied twice, on both brokers."""

import asyncio
import random
from collections.abc import Sequence

import psutil
import pytest

from shared.db import transaction
from shared.errors import Refused
from shared.messaging import outbox
from shared.messaging.broker import TopicPartition
from shared.messaging.relay import Relay, RelayFenced, resend
from tests.messaging.conftest import PUBLISHER, Bench, poisoned, record_effect

pytestmark = pytest.mark.asyncio


def versions_of(effects: list[tuple[str, int]], thing: str) -> list[int]:
    return [version for name, version in effects if name == thing]


async def relay_all(relay: Relay, conn, producer, epoch: int) -> None:
    """Relay until nothing is left and everything sent is marked."""
    while await relay.relay_batch(conn, producer, epoch):
        pass


def connections_to(broker: object) -> int:
    """Return how many connections this process has to Kafka; the memory broker has none."""
    if not isinstance(broker, str):
        return 0
    port = int(broker.rpartition(":")[2])
    return sum(bool(c.raddr) and c.raddr.port == port for c in psutil.Process().net_connections("tcp"))


async def test_every_committed_event_is_applied_once_and_in_order(bench: Bench):
    seed = 7
    things = [f"bed-{n}" for n in range(10)]
    order = [thing for thing in things for _ in range(20)]
    random.Random(seed).shuffle(order)
    bench.start_relay()
    bench.start_consumer()
    await asyncio.gather(*(bench.announce(thing) for thing in order))
    effects = await bench.eventually(lambda found: len(found) >= 200)
    assert all(versions_of(effects, thing) == list(range(1, 21)) for thing in things), f"seed {seed}"
    assert len(effects) == 200


async def test_an_event_of_a_rolled_back_decision_is_never_seen(bench: Bench):
    bench.start_relay()
    bench.start_consumer()

    async def change_ones_mind() -> None:
        async with transaction(bench.publisher) as tx:
            outbox.append(tx, bench.happened(thing="a", note="never"))
            raise RuntimeError("The ward changed its mind.")

    with pytest.raises(RuntimeError):
        await change_ones_mind()
    await bench.announce("a", "real")
    assert await bench.eventually(lambda found: len(found) >= 1) == [("a", 1)]


async def test_events_sent_again_by_a_crashed_relay_change_nothing(bench: Bench):
    consumer = bench.start_consumer()
    for _ in range(5):
        await bench.announce("a")
    relay = Relay(PUBLISHER, bench.publisher, bench.make_producer)
    producer = bench.make_producer()
    await producer.start()
    async with bench.publisher.pool.acquire() as conn:
        epoch = await conn.fetchval("UPDATE relay SET epoch = epoch + 1 RETURNING epoch")
        await relay_all(relay, conn, producer, epoch)
        assert await resend(conn, topic=bench.happened.topic.name, aggregate_id=None, after_version=0) == 5
        assert await relay.relay_batch(conn, producer, epoch) == 5
        await conn.execute("UPDATE relay SET epoch = epoch + 1")
        with pytest.raises(RelayFenced):
            await relay.relay_batch(conn, producer, epoch)
    await producer.stop()
    await bench.announce("b")
    bench.start_relay()
    effects = await bench.eventually(lambda found: ("b", 1) in found)
    assert versions_of(effects, "a") == [1, 2, 3, 4, 5]
    assert consumer.halted == {}


async def test_a_consumer_that_is_restarted_reads_on_where_the_database_says(bench: Bench):
    bench.start_relay()
    consumer = bench.start_consumer()
    await bench.announce("a")
    await bench.eventually(lambda found: len(found) == 1)
    consumer.stop()
    await bench.announce("a")
    bench.start_consumer()
    assert await bench.eventually(lambda found: len(found) == 2) == [("a", 1), ("a", 2)]


async def test_who_is_called_off_while_connecting_keeps_no_connection_open(bench: Bench, broker: object):
    before = connections_to(broker)
    for after_milliseconds in range(1, 13):
        for member in (bench.make_producer(), bench.make_group("called-off", [bench.happened.topic.name], _nowhere)):
            starting = asyncio.create_task(member.start())
            await asyncio.sleep(after_milliseconds / 1000)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await member.stop()
            assert connections_to(broker) == before, f"called off after {after_milliseconds} ms"


async def _nowhere(partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    return dict.fromkeys(partitions, 0)


async def test_a_consumer_called_off_while_it_leaves_its_group_keeps_no_connection_open(bench: Bench, broker: object):
    before = connections_to(broker)
    bench.start_relay()
    consumer = bench.start_consumer()
    await bench.announce("a")
    await bench.eventually(lambda found: len(found) == 1)
    group, leaving = consumer._require_group(), asyncio.Event()
    leave = group.stop

    async def stop() -> None:
        leaving.set()
        await leave()

    group.stop = stop  # type: ignore[method-assign]
    consumer.stop()
    await asyncio.wait_for(leaving.wait(), 10)
    await bench.stop()
    await asyncio.sleep(0.1)
    assert connections_to(broker) == before


async def test_a_handler_that_fails_for_a_while_is_retried_in_place(bench: Bench):
    failures = 3

    async def sometimes_down(tx, event, envelope):
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("The network is away.")
        await record_effect(tx, event, envelope)

    bench.handler = sometimes_down
    bench.start_relay()
    bench.start_consumer()
    for _ in range(3):
        await bench.announce("a")
    assert await bench.eventually(lambda found: len(found) == 3) == [("a", 1), ("a", 2), ("a", 3)]


async def test_a_bug_in_a_handler_stops_the_consumer_and_the_event_waits(bench: Bench):
    async def buggy(tx, event, envelope):
        raise ZeroDivisionError("bug")

    bench.handler = buggy
    bench.start_relay()
    consumer = bench.start_consumer()
    await bench.announce("a")
    task = bench.tasks[-1]
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(task, 30)
    assert await bench.subscriber.pool.fetchval("SELECT sum(next_offset) FROM consumed") == 0
    del consumer
    bench.handler = record_effect
    bench.start_consumer()
    assert await bench.eventually(lambda found: len(found) == 1) == [("a", 1)]


async def test_a_refused_event_is_parked_and_later_events_of_the_same_thing_park_behind_it(bench: Bench):
    async def refuses_the_second(tx, event, envelope):
        if event.note == "refused":
            raise Refused("The bed is gone.", code="bed_gone")
        await record_effect(tx, event, envelope)

    bench.handler = refuses_the_second
    bench.start_relay()
    bench.start_consumer()
    for thing, note in (("a", "ok"), ("a", "refused"), ("a", "later"), ("b", "ok")):
        await bench.announce(thing, note)
    await bench.eventually(lambda found: ("b", 1) in found)
    rows = []
    for _ in range(200):
        rows = await bench.subscriber.pool.fetch("SELECT aggregate_id, version, reason FROM parked ORDER BY version")
        if len(rows) == 2:
            break
        await asyncio.sleep(0.05)
    assert [tuple(row) for row in rows] == [("a", 2, "bed_gone"), ("a", 3, "behind_a_parked_event")]
    assert sorted(await bench.effects()) == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("what", "value", "headers"),
    [
        ("not JSON", b"{", None),
        ("wrong types", b'{"thing": 5, "note": []}', None),
        ("nothing", b"", None),
        ("bad UTF-8 and NUL", b'{"thing": "\xff\x00"}', None),
        ("no headers", b"{}", []),
        ("half a header", b"{}", [("ce_id", b"\xff")]),
        ("unknown type", b"{}", "unknown"),
        ("large", b"[" + b"1," * 400_000 + b"1]", None),
    ],
)
async def test_poison_is_parked_and_the_partition_goes_on(bench: Bench, what, value, headers):
    given = poisoned(bench.happened, "poison", 1) if headers is None else headers
    if headers == "unknown":
        given = [
            (k, b"wardstream.beds.NeverHeardOf.v9" if k == "ce_type" else v)
            for k, v in poisoned(bench.happened, "p", 1)
        ]
    await bench.send_raw(value, given, key=b"a")
    bench.start_relay()
    bench.start_consumer()
    await bench.announce("a")
    await bench.eventually(lambda found: found == [("a", 1)])
    reasons = [row["reason"] for row in await bench.subscriber.pool.fetch("SELECT reason FROM parked")]
    assert len(reasons) == 1, what


async def test_a_gap_in_versions_is_closed_from_the_outbox(bench: Bench):
    for _ in range(3):
        await bench.announce("a")
    await bench.publisher.pool.execute(
        "DELETE FROM outbox_unsent WHERE id = (SELECT id FROM outbox WHERE aggregate_id = 'a' AND version = 2)"
    )
    bench.start_relay()
    bench.start_resync()
    bench.start_consumer()
    assert await bench.eventually(lambda found: len(found) == 3) == [("a", 1), ("a", 2), ("a", 3)]


async def test_the_beacon_notices_a_lost_tail(bench: Bench):
    bench.start_consumer()
    relay = Relay(PUBLISHER, bench.publisher, bench.make_producer)
    producer = bench.make_producer()
    await producer.start()
    for _ in range(3):
        await bench.announce("a")
    async with bench.publisher.pool.acquire() as conn:
        epoch = await conn.fetchval("UPDATE relay SET epoch = epoch + 1 RETURNING epoch")
        await relay_all(relay, conn, producer, epoch)
        await bench.eventually(lambda found: len(found) == 3)
        await relay.send_beacons(conn, producer)
        await asyncio.sleep(1.0)
        assert bench.consumer is not None
        assert bench.consumer.halted == {}
        await conn.execute("UPDATE relay_sent SET events = events + 1, version_sum = version_sum + 4")
        await relay.send_beacons(conn, producer)
    await producer.stop()
    for _ in range(100):
        if bench.consumer.halted:
            break
        await asyncio.sleep(0.05)
    assert list(bench.consumer.halted.values()) == ["beacon_differs"]


async def test_two_relays_send_what_one_would(bench: Bench):
    bench.start_relay()
    bench.start_relay()
    bench.start_consumer()
    await asyncio.gather(*(bench.announce(f"bed-{n % 5}") for n in range(50)))
    effects = await bench.eventually(lambda found: len(found) >= 50)
    assert all(versions_of(effects, f"bed-{n}") == list(range(1, 11)) for n in range(5))


async def test_commands_go_on_while_the_broker_is_down(bench: Bench):
    if bench.memory is None:
        pytest.skip("The broker of the whole run is not taken down here; tests/faults does.")
    bench.memory.down = True
    bench.start_relay()
    bench.start_consumer()
    for _ in range(10):
        await bench.announce("a")
    assert await bench.effects() == []
    bench.memory.down = False
    assert len(await bench.eventually(lambda found: len(found) == 10)) == 10


async def test_a_broker_that_lost_its_disk_is_filled_again_from_the_outbox(bench: Bench):
    if bench.memory is None:
        pytest.skip("The broker of the whole run keeps its disk; tests/faults deletes one.")
    bench.start_relay()
    bench.start_resync()
    consumer = bench.start_consumer()
    for _ in range(4):
        await bench.announce("a")
    await bench.eventually(lambda found: len(found) == 4)
    consumer.stop()
    await bench.stop()
    bench.memory.lose_everything()
    bench.start_relay()
    bench.start_resync()
    bench.start_consumer()
    await bench.announce("a")
    assert await bench.eventually(lambda found: len(found) == 5) == [("a", n) for n in range(1, 6)]
