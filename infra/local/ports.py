"""Which port is free on loopback? Remembered ports are kept while nobody else has them, others are chosen."""

import socket
import zlib
from collections.abc import Collection
from pathlib import Path

_FIRST, _COUNT = 20_000, 12_000
"""Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that none takes ours."""


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose_ports(names: Collection[str], remembered: dict[str, int], seed: Path) -> dict[str, int]:
    """Return a free port for each name: the remembered one if nobody has it, else another.

    `seed` (the home) decides where the search begins, so that two homes started together do not race for one port.
    """
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        if port is not None and port not in chosen.values() and is_free(port):
            chosen[name] = port
    at = zlib.crc32(str(seed).encode())
    for name in names:
        while name not in chosen:
            at += 1
            port = _FIRST + at % _COUNT
            if port not in chosen.values() and is_free(port):
                chosen[name] = port
    return {name: chosen[name] for name in names}


def free_port(seed: Path) -> int:
    """Return one free loopback port."""
    return choose_ports(["one"], {}, seed)["one"]
