"""Which port is free on loopback? Remembered ports are kept while nobody else has them, others are chosen.

A chosen port is bound seconds later by a child, so a free one is not enough: two stacks started together would both find
the wished front door free, and Caddy shares a port with whoever asks the same way. So a port is claimed when it is
chosen, by an abstract Unix socket of its name: the kernel gives it to one process, of any user, and takes it back when
that process ends, however it ends.
"""

import socket
import zlib
from collections.abc import Collection
from pathlib import Path

_FIRST, _COUNT = 20_000, 12_000
"""Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that none takes ours."""


_claims: dict[int, Path] = {}


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


def _claim(port: int, home: Path) -> bool:
    """Claim a free port for this home until this process ends; say whether nobody else has it or has claimed it."""
    if not is_free(port):
        return False
    if port in _claims:
        return _claims[port] == home
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0wardstream/port/{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # held until this process ends
    _claims[port] = home
    return True


def choose_ports(names: Collection[str], remembered: dict[str, int], home: Path) -> dict[str, int]:
    """Return a free port for each name, claimed for this home: the remembered one if nobody has it, else another.

    The home decides where the search begins, so that it mostly finds the same ports again.
    """
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        if port is not None and port not in chosen.values() and _claim(port, home):
            chosen[name] = port
    at = zlib.crc32(str(home).encode())
    for name in names:
        while name not in chosen:
            at += 1
            port = _FIRST + at % _COUNT
            if port not in chosen.values() and _claim(port, home):
                chosen[name] = port
    return {name: chosen[name] for name in names}


def free_port(home: Path) -> int:
    """Return one free loopback port, claimed for this home."""
    return choose_ports(["one"], {}, home)["one"]
