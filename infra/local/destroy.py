"""`make clean ALL=1`: stop the stack of the default home (or WARDSTREAM_HOME) and delete its data."""

import sys

from infra.local.stack import Stack


def main() -> None:
    """Destroy it and say so."""
    stack = Stack()
    stack.destroy()
    sys.stderr.write(f"{stack.home.root} is gone\n")


if __name__ == "__main__":
    main()
