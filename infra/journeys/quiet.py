"""Waits until nothing is on its way any more: every outbox empty, every consumer at the end of its topics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.journeys.client import Client
from shared.contracts.registry import EVENT_TOPICS, SERVICES_WITH_EVENTS
from shared.messaging.broker import BEACON_TYPE, TopicPartition
from shared.messaging.reading import Extent, TopicReader

LOOK_SECONDS = 0.1
STILL_SECONDS_MAX = 60.0
"""How long nothing may move before we stop waiting for it."""

Ends = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is still on its way, and what was set aside."""

    unsent: int
    lag: int
    parked: int

    @property
    def quiet(self) -> bool:
        """Say whether everything was sent and applied; what is parked waits for a person, not for time."""
        return self.unsent == 0 and self.lag == 0


async def standing(client: Client, services: Sequence[str] = SERVICES_WITH_EVENTS) -> Standing:
    """Ask every service what is still on its way."""
    answers = await asyncio.gather(*(client.get(service, "/quiet") for service in services))
    return Standing(*(sum(answer.body[name] for answer in answers) for name in ("unsent", "lag", "parked")))


async def until_quiet(client: Client, ends: Callable[[], Awaitable[Ends]]) -> tuple[Standing, Ends]:
    """Return the standing and the ends of the topics once all is quiet, or once nothing moved for a minute.

    A service may look quiet while what it is about to hear is still with another one. So all are asked between two looks
    at the topics: when nothing was added meanwhile, nobody had anything left to say.
    """
    loop = asyncio.get_running_loop()
    moved_at = loop.time()
    last: Standing | None = None
    while True:
        found = await standing(client)
        if found.quiet:
            before = await ends()
            found = await standing(client)
            after = await ends()
            if found.quiet and before == after:
                return found, after
        if found != last:
            last, moved_at = found, loop.time()
        elif loop.time() - moved_at > STILL_SECONDS_MAX:
            return found, await ends()
        await asyncio.sleep(LOOK_SECONDS)


async def count_events(reader: TopicReader, before: Ends, after: Ends) -> dict[str, int]:
    """Return how many events each topic got between two looks; the relays' beacons are none (R11).

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    extents = {place: Extent(before.get(place, 0), end) for place, end in after.items()}
    counts = dict.fromkeys(EVENT_TOPICS, 0)
    beacon = ("ce_type", BEACON_TYPE.encode())
    async for batch in reader.records(extents):
        for record in batch:
            counts[record.topic] += beacon not in record.headers
    return counts
