"""Typst, set up so that the same text gives the same bytes: bundled font only, one clock, no network, no file but the templates.

Knows nothing of hospitals and imports nothing of them, so that a process made for one document starts at once:
`python -I typeset.py SECONDS` reads a view as JSON and writes a PDF.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Final

import typst

HERE = Path(__file__).parent
STANDARD: Final = "a-2u"
"""PDF/A-2u (ISO 19005-2): opens the same in thirty years, and every character can be searched and read aloud. Without tags
for the structure: they make a list of thousands of lines ten times as large."""


@cache
def _fonts() -> typst.Fonts:
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[HERE / "fonts"])


def typeset(view: str, made_at_seconds: int) -> bytes:
    """Return the PDF of a view given as JSON text.

    Raises:
        typst.TypstError: the templates do not understand the view.
    """
    pdf = typst.Compiler(
        HERE / "templates" / "document.typ",
        root=HERE / "templates",
        font_paths=_fonts(),
        ignore_system_fonts=True,
        sys_inputs={"document": view},
    ).compile(format="pdf", pdf_standards=STANDARD, timestamp=made_at_seconds, pdf_tags=False)
    assert isinstance(pdf, bytes)
    return pdf


if __name__ == "__main__":
    sys.stdout.buffer.write(typeset(sys.stdin.buffer.read().decode(), int(sys.argv[1])))
