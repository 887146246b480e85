"""How a function becomes machine code: compiled once per machine, kept beside the source, run without the interpreter lock."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
T = TypeVar("T")


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function as machine code with the same signature; arrays and numbers only."""
    try:
        found = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # nowhere to keep it: then each process compiles for itself
        found = numba.njit(nogil=True)(function)
    return cast("Callable[P, T]", found)
