"""Kill points for fault tests (4-reliability K1..K19). Does nothing unless `WARDSTREAM_FAULT_POINT` names one."""

import os
import signal

_armed, _, _pass = os.environ.get("WARDSTREAM_FAULT_POINT", "").partition(":")
_left = int(_pass) if _pass else 1


def reached(point: str) -> None:
    """Kill this process with SIGKILL when it passes the armed point for the n-th time (`K8:3` = third pass)."""
    global _left
    if point != _armed:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def is_armed(point: str) -> bool:
    """Say whether this process is to die at `point`."""
    return point == _armed
