"""A document -> the bytes of its PDF. The same document gives the same bytes."""

import asyncio
import sys

import orjson

from services.billing.documents import typeset
from services.billing.documents.model import Document
from services.billing.documents.views import printed_at, view_of
from services.billing.documents.words import Language


class NotPrinted(RuntimeError):
    """The document is right but its PDF could not be made."""


def render(document: Document, language: Language) -> bytes:
    """Return a document as PDF/A, here and now; for scripts and tests, since nothing else of the process runs meanwhile."""
    return typeset.typeset(*_job(document, language))


def _job(document: Document, language: Language) -> tuple[str, int]:
    return orjson.dumps(view_of(document, language)).decode(), int(printed_at(document).timestamp())


class Press:
    """Makes PDFs for a service, each in a process of its own.

    A process, not a thread: Typst keeps what it set in a cache that is the whole process's and outlives ten documents, and
    a list of 10,000 lines takes nearly a gigabyte while it is set. A process gives all of it back, can be stopped when it takes too
    long, and takes no event handler with it when it dies.
    """

    def __init__(self, *, at_once: int = 1, seconds_max: float = 60) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._seconds_max = seconds_max

    async def render(self, document: Document, language: Language) -> bytes:
        """Return the same bytes as `render` while the event loop goes on; further documents wait for their turn.

        Raises:
            NotPrinted: it took longer than `seconds_max`, or the process ended without a PDF. Nothing is left behind.
        """
        view, made_at_seconds = await asyncio.to_thread(_job, document, language)
        async with self._turns:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", typeset.__file__, str(made_at_seconds)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(self._seconds_max):
                    pdf, complaint = await process.communicate(view.encode())
            except TimeoutError:
                raise NotPrinted(f"The document was not done after {self._seconds_max} seconds.") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode != 0:
            why = complaint.decode(errors="replace").strip().rpartition("\n")[2].partition(":")[0]
            raise NotPrinted(f"The document could not be set ({why or process.returncode}); `render` tells more.")
        return pdf
