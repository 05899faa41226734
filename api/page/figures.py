"""Figures, times and foreign text as the page writes them."""

from __future__ import annotations

import unicodedata
from datetime import datetime

#: More of one foreign text helps nobody.
MAX_TEXT = 2000


def score(value: float | None) -> str:
    """A fake probability with three digits; what was not measured is a dash, never a number."""
    return "-" if value is None else f"{value:.3f}"


def measured(value: float | None, unit: str = "") -> str:
    """A figure of any size with four digits that count."""
    if value is None:
        return "-"
    text = f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"  # noqa: PLR2004 - four digits
    return f"{text} {unit}".strip()


def percent(share: float | None) -> str:
    """A share of 0 to 1 in hundredths."""
    return "-" if share is None else f"{100 * share:.0f}%"


def clock(seconds: float) -> str:
    """A place in the file as a player shows it: `0:04`, `1:02:03`."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def length(seconds: float | None) -> str:
    """How long something lasts, in words."""
    if seconds is None:
        return "unknown length"
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} min"  # noqa: PLR2004 - a minute


def size(count: int | None) -> str:
    """A number of bytes for people."""
    if count is None:
        return "unknown size"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 interval`, `2 intervals`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def moment(value: object) -> str:
    """A time stamp of the report, in UTC to the second; odd ones as they are."""
    try:
        return datetime.fromisoformat(str(value)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return shown(value)


def plain(name: object) -> str:
    """A machine's word for people: `voice_synthesis_artifacts` becomes `voice synthesis artifacts`."""
    return shown(name).replace("_", " ")


def shown(value: object) -> str:
    """Foreign text of a bearable length, harmless."""
    text = "" if value is None else str(value)
    return harmless(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…")


def harmless(text: str) -> str:
    """Text without what would steer a reader: controls and bidirectional overrides are marked.

    Escaping is the template's; this is about characters that are not HTML.
    """
    if text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(sign) else sign for sign in text)


def _steers(sign: str) -> bool:
    return sign not in "\n\t" and unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
