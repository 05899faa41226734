"""The written analysis: foreign text, escaped piece by piece, whose references lead to their intervals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from markupsafe import Markup, escape

from api.page.figures import harmless

#: `[4.0-6.0]`, as every narrator cites, or a command in backticks.
PIECE: Final = re.compile(r"\[(\d{1,6}(?:\.\d{1,3})?)-(\d{1,6}(?:\.\d{1,3})?)\]|`([^`\n]{1,200})`")
#: More is no explanation any more.
MAX_PARAGRAPHS: Final = 40
MAX_LENGTH: Final = 20_000
LINK: Final = Markup('<a class="cite" href="#i{}">[{}-{}]</a>')
CODE: Final = Markup("<code>{}</code>")


def paragraphs(text: str, rows: Mapping[float, int]) -> list[Markup]:
    """The text as HTML. `rows` says which row of the table begins when: start in seconds -> interval."""
    parts = [part.strip() for part in re.split(r"\n\s*\n", text[:MAX_LENGTH]) if part.strip()]
    return [_paragraph(part, rows) for part in parts[:MAX_PARAGRAPHS]]


def _paragraph(text: str, rows: Mapping[float, int]) -> Markup:
    found, end = Markup(), 0
    for piece in PIECE.finditer(text):
        found += escape(harmless(text[end : piece.start()]))
        found += _piece(piece, rows)
        end = piece.end()
    return found + escape(harmless(text[end:]))


def _piece(piece: re.Match[str], rows: Mapping[float, int]) -> Markup:
    start, last, command = piece.groups()
    if command is not None:
        return CODE.format(harmless(command))
    row = rows.get(float(start))
    return escape(piece[0]) if row is None else LINK.format(row, start, last)
