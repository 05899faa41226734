"""Interval scores as bars of text: fake probability to the right, thresholds marked, null hatched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from cli.doc import code, number
from cli.plain import speaks_unicode

#: A screenful; a longer timeline is merged so that each row shows its strongest interval.
MAX_ROWS = 40
BAR_WIDTH = range(8, 25)
MODALITIES: Final = ("video", "audio")
#: How people call them.
NAMES: Final = {"video": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Marks:
    """Where the operating point lies; None where the report does not say."""

    real_below: float | None
    suspicious: float | None

    def style(self, score: float) -> str:
        """Colour of a score; without thresholds it has none."""
        if self.suspicious is not None and score >= self.suspicious:
            return "red"
        if self.real_below is not None and score >= self.real_below:
            return "yellow"
        return "" if self.real_below is None else "green"


@dataclass(frozen=True)
class Glyphs:
    """What a bar is drawn with."""

    full: str
    mark: str
    null: str


UNICODE: Final = Glyphs("█", "│", "·")
ASCII: Final = Glyphs("#", "|", ".")


def glyphs(console: Console) -> Glyphs:
    """Blocks where they can be shown."""
    return UNICODE if speaks_unicode(console) else ASCII


@dataclass(frozen=True)
class Cell:
    """One modality of one row. Exactly one is None."""

    score: float | None
    reason: str | None


@dataclass(frozen=True)
class Row:
    """One interval, or several that were merged."""

    start: float
    end: float
    cells: tuple[Cell, ...]  #: in the order of `MODALITIES`


def rows(intervals: Sequence[dict[str, Any]], limit: int = MAX_ROWS) -> tuple[list[Row], int]:
    """At most `limit` rows in the order of time, and how many intervals each of them stands for."""
    known = [row for row in intervals if number(row.get("start")) is not None]
    known.sort(key=lambda row: number(row.get("start")) or 0.0)
    size = max(1, ceil(len(known) / limit))
    groups = [known[first : first + size] for first in range(0, len(known), size)]
    return [_row(group) for group in groups], size


def _row(group: Sequence[dict[str, Any]]) -> Row:
    start, end = number(group[0].get("start")) or 0.0, number(group[-1].get("end")) or 0.0
    return Row(start, end, tuple(_cell(group, modality) for modality in MODALITIES))


def _cell(group: Sequence[dict[str, Any]], modality: str) -> Cell:
    """The highest score, so that merging never hides a suspicion; else the most common reason."""
    scores = [score for row in group if (score := number(row.get(f"{modality}_score"))) is not None]
    if scores:
        return Cell(max(scores), None)
    reasons = Counter(code(row.get(f"{modality}_reason")) or "not_analyzed" for row in group)
    return Cell(None, reasons.most_common(1)[0][0])


def bar(cell: Cell, width: int, marks: Marks, drawn: Glyphs) -> Text:
    """`width` columns: a filled part with threshold marks, or a hatched one with the reason in it."""
    if cell.score is None:
        label = f" {cell.reason} " if width > len(cell.reason or "") + 2 else (cell.reason or "")[:width]
        return Text(label.center(width, drawn.null), style="dim")
    filled = round(min(max(cell.score, 0.0), 1.0) * width)
    drawing = list(drawn.full * filled + " " * (width - filled))
    for threshold in (marks.real_below, marks.suspicious):
        if threshold is not None:
            drawing[min(int(threshold * width), width - 1)] = drawn.mark
    return Text("".join(drawing), style=marks.style(cell.score))


def chart(console: Console, intervals: Sequence[dict[str, Any]], marks: dict[str, Marks]) -> list[Text]:
    """A heading and a line a row, at most as wide as the console; nothing without intervals."""
    found, size = rows(intervals)
    if not found:
        return []
    labels = [f"{row.start:.1f}-{row.end:.1f}" for row in found]
    first = max(map(len, labels))
    width = _bar_width(console.width, first)
    note = f" (each row: the highest of {size} intervals)" if size > 1 else ""
    heading = " " * first + "".join(f" {NAMES[modality]:<{width + 5}}" for modality in MODALITIES)
    lines = [Text(f"Intervals in seconds{note}", style="bold"), Text(heading.rstrip(), style="dim")]
    for label, row in zip(labels, found, strict=True):
        line = Text(f"{label:>{first}}")
        for modality, cell in zip(MODALITIES, row.cells, strict=True):
            line.append(" ").append_text(bar(cell, width, marks[modality], glyphs(console)))
            line.append(" ----" if cell.score is None else f" {cell.score:.2f}")
        lines.append(line)
    return lines


def _bar_width(columns: int, first: int) -> int:
    each = (columns - 1 - first) // len(MODALITIES) - len(" ") - len(" 0.00")
    return min(max(each, BAR_WIDTH.start), BAR_WIDTH.stop - 1)
