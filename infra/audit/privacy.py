"""No name, phone or identifier of a patient outside its table: every other table, every record, every log file (I21, S4, S8)."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

from infra.audit.check import FINDINGS_MAX, Check, Look, Seen
from infra.audit.identities import haystack_of
from infra.audit.needles import Haystack
from infra.audit.topics import reading

SECONDS_MAX = 600.0
"""Longer than this is not searched; then the check is not right."""
CHUNK_BYTES = 1 << 20
ROWS_PER_CHUNK = 500

ALLOWED = frozenset({"admission.patient_identity", "admission.patient_identifier", "access.account"})
"""Where such texts belong. Staff have names, too, and some are patients."""

_TABLES = """
SELECT n.nspname AS schema, c.relname AS name,
       array_agg(quote_ident(a.attname) || CASE WHEN a.atttypid = 'bytea'::regtype THEN '' ELSE '::text' END ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND n.nspname = ANY($1) GROUP BY 1, 2 ORDER BY 1, 2
"""


class _Search:
    """Searches piece by piece until the time is over."""

    def __init__(self, at: Look, haystack: Haystack) -> None:
        self._at = at
        self._haystack = haystack
        self._until = time.monotonic() + SECONDS_MAX
        self.examined = 0
        self.found: set[str] = set()
        self.finished = True

    @property
    def is_over(self) -> bool:
        """Say whether the time is over."""
        if time.monotonic() > self._until:
            self.finished = False
        return not self.finished

    def look_in(self, where: str, text: bytes) -> None:
        """Search one piece."""
        for label in self._haystack.find(text):
            if len(self.found) < FINDINGS_MAX:
                self.found.add(f"{where} holds {label}")

    async def tables(self) -> None:
        """Search every row of every table of ours, as text; binary columns as they are."""
        for table in await self._at.rows(_TABLES, sorted(self._at.services)):
            where = f"{table['schema']}.{table['name']}"
            if where not in ALLOWED:
                self._at.progress(f"searching {where}", 0, 0)
                async for rows, text in self._pieces(where, table["columns"]):
                    self.examined += rows
                    self.look_in(f"table {where}", text)
                    if self.is_over:
                        return

    async def _pieces(self, table: str, columns: list[str]) -> AsyncIterator[tuple[int, bytes]]:
        """Give the rows of a table some hundred at a time: every column as text, binary ones as they are."""
        query = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - both from the catalogue of our own schemas
        cursor = await self._at.conn.cursor(query)
        while rows := await cursor.fetch(ROWS_PER_CHUNK):
            parts = []
            for row in rows:
                parts += [value if isinstance(value, bytes) else value.encode() for value in row if value is not None]
            yield len(rows), b"\n".join(parts)

    def log_file(self, path: Path) -> None:
        """Search one log file; a text cut in two by the end of a chunk is found with the next one."""
        with path.open("rb") as file:
            tail = b""
            while chunk := file.read(CHUNK_BYTES):
                self.examined += chunk.count(b"\n")
                self.look_in(f"log {path.name}", tail + chunk)
                tail = chunk[-self._haystack.tail_bytes :]
                if self.is_over:
                    return


async def nothing_tells_who_a_patient_is(at: Look) -> Seen:
    """I21: names, phones and identifiers occur in their own tables only; asked as exact texts, in every form they travel in."""
    haystack = await haystack_of(at)
    if haystack is None:
        return Seen(0, reason="Admission has no tables here, so there are no names to look for.")
    if not haystack.size:
        return Seen(0, reason="There is no patient whose name could be looked for.")
    search = _Search(at, haystack)
    await search.tables()
    for path in sorted(at.scene.logs.glob("*.log*")) if at.scene.logs is not None else ():
        if path.is_file() and not search.is_over:
            at.progress(f"searching {path.name}", 0, 0)
            search.log_file(path)
    if at.scene.topics is not None:
        found = await reading(at)
        search.found |= found.exposed
        search.examined += found.records
        search.finished = search.finished and found.finished
    reasons = [f"{haystack.unsearched} texts are too short to be told from chance."] if haystack.unsearched else []
    reasons += [] if search.finished else [f"The search was not finished in {SECONDS_MAX:.0f} s."]
    return Seen(search.examined, sorted(search.found), " ".join(reasons), search.finished)


CHECKS = (
    Check(
        "I21",
        "no name, phone or identifier of a patient outside its table",
        nothing_tells_who_a_patient_is,
        frozenset({"admission"}),
    ),
)
