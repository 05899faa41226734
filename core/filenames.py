"""Names that strangers give their files: shown to people, never used to open anything."""

from __future__ import annotations

import unicodedata
from typing import Final

#: What common file systems take as one name.
MAX_FILENAME: Final = 255


def display_name(sent: str) -> str | None:
    """The file's name as people may see it; never a path, never used to open anything.

    Control characters, bidirectional overrides and the like go; the extension survives shortening.
    """
    base = sent.replace("\\", "/").rpartition("/")[2]
    normal = unicodedata.normalize("NFC", base)
    shown = "".join(" " if sign.isspace() else sign for sign in normal if not _hidden(sign))
    name = " ".join(shown.split()).strip()
    if name.strip(".") == "":
        return None
    if len(name) <= MAX_FILENAME:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = f"{dot}{extension}" if stem and len(extension) <= 10 else ""  # noqa: PLR2004 - `.mp4`, `.mpeg`, not prose
    return name[: MAX_FILENAME - len(tail)] + tail


def _hidden(sign: str) -> bool:
    """Unicode category C: control, format, surrogate, private, unassigned; spaces are not hidden."""
    return unicodedata.category(sign).startswith("C") and not sign.isspace()
