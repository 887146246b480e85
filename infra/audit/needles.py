r"""Finds any of many exact texts in any amount of bytes, with the standard library alone.

Each text is looked for as UTF-8, as JSON escapes (`\u5f20`) and percent-encoded. Its hooks are short pieces of it; a set
intersection over `memoryview.cast` compares the machine words of a chunk with all hooks in the interpreter's own C loops. A long
text has a hook for each way it can lie across the words, so one pass over the chunk finds it; a short one needs more passes.
Only where a hook is met the text itself is compared. So the cost does not grow with the number of texts.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, quote_plus

DIGITS_MIN = 7
LETTERS_MIN = 4
OTHERS_MIN = 2
_Kind = Literal["Q", "I"]
_WORDS: tuple[tuple[_Kind, int], ...] = (("Q", 8), ("I", 4))
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Needle:
    """One text to find; `label` says what it is without saying it."""

    text: str
    label: str


def is_telling(text: str) -> bool:
    """Say whether a text is long enough not to be met by chance: `1001` is a bed, a price and a number of somebody."""
    if text.isascii():
        return len(text) >= (DIGITS_MIN if text.isdigit() else LETTERS_MIN)
    return len(text) >= OTHERS_MIN


def _forms(text: str) -> Iterator[bytes]:
    yield text.encode()
    yield json.dumps(text)[1:-1].encode()
    yield quote(text).encode()
    yield quote_plus(text).encode()


def _always(_: bytes) -> bool:
    return True


def _not_ascii(text: bytes) -> bool:
    return not text.isascii()


def _has_escapes(text: bytes) -> bool:
    return b"\\u" in text


def _has_percents(text: bytes) -> bool:
    return b"%" in text


def _gate(form: bytes) -> Callable[[bytes], bool]:
    """Return what a chunk must have for this form to be in it at all; most chunks are plain ASCII."""
    if not form.isascii():
        return _not_ascii
    if b"\\u" in form:
        return _has_escapes
    return _has_percents if b"%" in form else _always


class Haystack:
    """Searches bytes for a fixed set of needles."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        self.unsearched = 0
        """How many needles would be met by chance and are not searched for."""
        self._labels: dict[bytes, set[str]] = {}
        for needle in needles:
            if not is_telling(needle.text):
                self.unsearched += 1
                continue
            for form in _forms(needle.text):
                self._labels.setdefault(form, set()).add(needle.label)
        nets: dict[tuple[Callable[[bytes], bool], str, int], _Net] = {}
        for form in self._labels:
            kind, length = next((kind, length) for kind, length in _WORDS if len(form) >= length)
            ways = min(length, 1 << ((len(form) - length + 1).bit_length() - 1))
            gate = _gate(form)
            if (gate, kind, ways) not in nets:
                nets[gate, kind, ways] = _Net(gate, kind, length, ways)
            nets[gate, kind, ways].add(form)
        self._nets = list(nets.values())
        self.tail_bytes = max((len(form) for form in self._labels), default=1) + 1
        """How much of a chunk must be seen again with the next one, so that a text cut in two is found."""

    @property
    def size(self) -> int:
        """Return how many texts are searched for, each in its forms."""
        return len(self._labels)

    def find(self, text: bytes) -> set[str]:
        """Return the labels of all needles in `text`, each found as a word of its own."""
        found: set[str] = set()
        for net in self._nets:
            for form in net.candidates(text):
                if _stands_alone(form, text):
                    found |= self._labels[form]
        return found


class _Net:
    """The texts that are found with the same words of a chunk: `ways` hooks each, so every `ways`-th alignment is enough."""

    def __init__(self, gate: Callable[[bytes], bool], kind: _Kind, length: int, ways: int) -> None:
        self._gate = gate
        self._kind = kind
        self._length = length
        self._ways = ways
        self._forms: dict[int, list[bytes]] = {}
        self._hooks: frozenset[int] | None = None

    def add(self, form: bytes) -> None:
        """Hang a text on its hooks."""
        for at in range(self._ways):
            hook = int.from_bytes(form[at : at + self._length], sys.byteorder)
            self._forms.setdefault(hook, []).append(form)

    def candidates(self, text: bytes) -> Iterator[bytes]:
        """Give the texts of which a hook occurs where it would if they did."""
        if not self._gate(text):
            return
        view = memoryview(text)
        if self._hooks is None:
            self._hooks = frozenset(self._forms)
        for start in range(0, self._length, self._ways):
            length = (len(text) - start) // self._length * self._length
            if length > 0:
                for hook in self._hooks.intersection(view[start : start + length].cast(self._kind)):
                    yield from self._forms[hook]


def _stands_alone(form: bytes, text: bytes) -> bool:
    """Say whether a text occurs in bytes, and not only inside a longer run of letters and digits, where it means something else."""
    at = text.find(form)
    while at >= 0:
        end = at + len(form)
        joined_before = at > 0 and form[0] in _WORD and text[at - 1] in _WORD
        joined_after = end < len(text) and form[-1] in _WORD and text[end] in _WORD
        if not joined_before and not joined_after:
            return True
        at = text.find(form, at + 1)
    return False
