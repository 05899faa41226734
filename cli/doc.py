"""Reads a server's JSON without trusting its shape: what is missing or odd is None, never an error."""

from __future__ import annotations

import re
from typing import Any

from core.reading import at, number, objects, word

__all__ = ["at", "code", "number", "objects", "word", "words"]


def code(value: Any) -> str | None:
    """A machine-readable word, its odd characters replaced, so that it may be printed as it is."""
    return re.sub(r"[^A-Za-z0-9_.:-]", "?", value)[:40] if isinstance(value, str) and value else None


def words(value: Any) -> list[str]:
    """The texts of a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
