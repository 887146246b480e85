"""`wardstream topics`: what lies in the topics, and who has read how far."""

import asyncio

import typer
from rich.console import Console

from infra.cli.answers import AsJson, answer, home_of, table
from infra.local.stack import Stack


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("topics")(topics)


def topics(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show topics, partitions, owners, keys, end offsets, and the lag of every consumer group.

    The lag is what the groups told Kafka as a courtesy; what a service really applied stands in its table `consumed`.
    """
    from infra.kafka.topics import end_offsets, lags
    from shared.contracts.registry import TOPICS

    bootstrap = Stack(home_of(context)).kafka_bootstrap

    async def look() -> tuple[dict[str, dict[int, int]], list[dict[str, str | int]]]:
        ends = await end_offsets(bootstrap)
        groups: list[dict[str, str | int]] = [
            {"group": lag.group, "topic": lag.topic, "read": lag.read, "end": lag.end, "lag": lag.lag}
            for lag in await lags(bootstrap, ends)
        ]
        return ends, groups

    ends, consumers = asyncio.run(look())
    found = [
        {
            "name": name,
            "owner": TOPICS[name].owner if name in TOPICS else None,
            "key": TOPICS[name].key if name in TOPICS else None,
            "partitions": len(offsets),
            "records": sum(offsets.values()),
            "end_offsets": {str(partition): offset for partition, offset in offsets.items()},
        }
        for name, offsets in ends.items()
    ]

    def show(console: Console) -> None:
        rows = table("topic", "owner", "key", ">partitions", ">records")
        for topic in found:
            rows.add_row(
                *(str(topic[column] or "") for column in ("name", "owner", "key", "partitions")), str(topic["records"])
            )
        console.print(rows)
        rows = table("consumer", "topic", ">read", ">end", ">lag")
        for lag in consumers:
            rows.add_row(*(str(lag[column]) for column in ("group", "topic", "read", "end", "lag")))
        console.print()
        console.print(rows)

    answer({"topics": found, "consumers": consumers}, as_json=as_json, show=show)
