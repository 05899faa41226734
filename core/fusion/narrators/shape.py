"""Is a text plain English prose? Whatever a page, a terminal or a reader could take for more is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from core.fusion.narrators.narration import MAX_CHARACTERS

#: Letters, digits and punctuation of English prose; letters of other scripts can spell another verdict.
_FOREIGN: Final = re.compile(
    r"[^\x20-\x7e\n\u2010-\u2015\u2018\u2019\u201c\u201d\u2026\u2212\u00b1\u00d7\u00b0]"
)
_MARKUP: Final = re.compile(
    r"//|www\.|@|&#?\w+;|[<>{}|\\^~$=*`]|!\[|\][(\[]"
    r"|^\s*(?:#|[-+>]\s|\d+[.)]\s)"  # headings, lists, quotes
    r"|['\"]\s*:"  # JSON
    r"|\b[a-z0-9-]+\.[a-z]{2,}\b",  # names of hosts and files
    re.IGNORECASE | re.MULTILINE,
)
#: Square brackets cite intervals and nothing else.
_BRACKETS: Final = re.compile(r"\[[^\]]*[^\]\d\s.\u2010-\u2015sto-][^\]]*\]?")
_SENTENCES: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_WORDS: Final = re.compile(r"[a-z]{2,}", re.IGNORECASE)
#: Words without which hardly an English sentence is made, and which no neighbouring language shares.
_COMMON: Final = frozenset({
    "the", "of", "and", "is", "are", "it", "its", "this", "that", "these", "those", "which", "with", "from",
    "not", "for", "by", "to", "be", "has", "have", "been", "were", "they", "there", "but", "than", "because",
    "each", "see", "both", "all", "cannot", "could", "below",
})  # fmt: skip
_LONG: Final = 3  # words; shorter is a name or a word of the verdict


def faults(text: str, figures: dict[str, Any]) -> Iterator[str]:
    """Stable codes for a cleaned text that is empty, too long, marked up or in another language."""
    if not text:
        yield "empty"
    if len(text) > MAX_CHARACTERS:
        yield "too_long"
    prose = _without_commands(text, figures)
    if _MARKUP.search(prose) or _BRACKETS.search(prose):
        yield "markup_or_link"
    if _FOREIGN.search(text):
        yield "foreign_script"
    for sentence in sentences(prose):
        words = {word.lower() for word in _WORDS.findall(sentence)}
        if len(words) >= _LONG and not words & _COMMON:
            yield f"language: {sentence[:60]}"


def sentences(text: str) -> list[str]:
    """The text in sentences, roughly; a number's point ends none."""
    return [part for part in _SENTENCES.split(text) if part.strip()]


def _without_commands(text: str, figures: dict[str, Any]) -> str:
    """The text without the commands it was given: they alone may stand between backticks."""
    for command in sorted({r["command"] for r in figures["reasons"] if r["command"]}, key=len, reverse=True):
        text = text.replace(f"`{command}`", "the command").replace(command, "the command")
    return text
