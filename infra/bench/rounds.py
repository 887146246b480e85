"""Paired rounds: what is measured is the ratio to the bare limit in the same minutes on the same machine (7-performance 1.4)."""

import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.cli.answers import words
from infra.local.kafka import ScratchKafka
from infra.local.postgres import ScratchPostgres


@dataclass(frozen=True, slots=True)
class Servers:
    """A PostgreSQL with fsync on and a Kafka, both only for this measurement."""

    postgres: ScratchPostgres
    kafka: ScratchKafka


@contextmanager
def scratch_servers() -> Iterator[Servers]:
    """Start both servers in a directory that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="wardstream-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    durable = {
        "fsync": "on",
        "synchronous_commit": "on",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "30min",
        "max_connections": "150",
    }
    try:
        with ScratchPostgres(directory, durable) as postgres, ScratchKafka(directory) as kafka:
            yield Servers(postgres, kafka)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def machine() -> dict[str, Any]:
    """Say on what was measured, and how busy it was with other things."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": platform.system() + " " + platform.release(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "others_cpu_percent": round(_others_cpu_percent(), 1),
    }


def _others_cpu_percent() -> float:
    """Return how much of the machine somebody else uses right now (0-100 of all cores)."""
    return float(psutil.cpu_percent(interval=1.0))


Measure = Callable[[], Awaitable[float]]


async def paired(bare: Measure, ours: Measure, *, rounds: int, what: str) -> list[dict[str, float]]:
    """Measure bare and ours in turn; the first pair warms up and is dropped."""
    found: list[dict[str, float]] = []
    for number in range(rounds + 1):
        pair = {"bare": await bare(), "ours": await ours()}
        words.print(f"{what}: round {number} of {rounds}: bare {pair['bare']:.6g}, ours {pair['ours']:.6g}")
        if number:
            found.append(pair)
    return found


def summary(rounds: list[dict[str, float]], unit: str, before: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a bench: medians and the median of the paired ratios."""
    ratios = [pair["ours"] / pair["bare"] for pair in rounds]
    return {
        "ours": statistics.median(pair["ours"] for pair in rounds),
        "bare": statistics.median(pair["bare"] for pair in rounds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "unit": unit,
        "rounds": rounds,
        "machine": before,
    }
