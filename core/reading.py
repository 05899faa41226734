"""Reads JSON without trusting its shape: a report of an older release stays readable, a server may be any.

What is missing or odd is None, never an error.
"""

from __future__ import annotations

import math
from typing import Any


def at(document: Any, *path: str) -> Any:
    """The value at a path of object members; None where the path ends early."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def number(value: Any) -> float | None:
    """A finite number; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def word(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; anything else in it is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []
