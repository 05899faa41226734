"""Makes foreign text harmless: file names and answers of a server may carry terminal commands."""

from __future__ import annotations

import unicodedata
from typing import Final

from rich.console import Console
from rich.text import Text

#: Unicode categories that print nothing of their own but can move the cursor, hide or reorder text.
INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def harmless(text: str) -> str:
    """The text with control and invisible characters replaced one by one; it keeps its length."""
    return "".join(REPLACEMENT if unicodedata.category(c) in INVISIBLE else c for c in text)


def plain(value: object, limit: int = 4000) -> str:
    """Any value on one harmless line: blanks joined, cut at `limit`."""
    text = " ".join(str(value)[: limit + 1].split())
    return harmless(text if len(text) <= limit else text[: limit - 1] + "…")


def speaks_unicode(console: Console) -> bool:
    """Whether bars, dots and accents can be shown."""
    return console.encoding.lower().replace("-", "").startswith("utf")


def fitting(console: Console, text: str) -> str:
    """The text with what the console cannot encode replaced by `?`; it keeps its length."""
    return text.encode(console.encoding, "replace").decode(console.encoding)


def shown(console: Console, value: object, style: str = "") -> Text:
    """Foreign text for this console: no markup, no emoji codes, no links are read in it."""
    return Text(fitting(console, plain(value)), style=style)
