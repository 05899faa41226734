"""The table of intervals, bounded: what is suspicious and what is cited stays, then the beginning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.page.figures import score
from api.page.material import Material
from api.page.words import why
from core.domain import Modality
from core.fusion.inputs import IntervalEvidence

#: Rows of one page; the API's list has all of them.
MAX_ROWS = 900
#: A longer table is folded away until it is asked for.
OPEN_ROWS = 40


@dataclass(frozen=True)
class Cell:
    """What one modality says of an interval."""

    text: str
    kind: str  #: high, middle, low or none
    reason: str | None  #: in words


@dataclass(frozen=True)
class TableRow:
    """One interval."""

    index: int
    label: str
    video: Cell
    audio: Cell
    notes: tuple[str, ...]


def table(material: Material) -> list[TableRow]:
    """At most MAX_ROWS of them, in the order of time."""
    ranked = sorted(material.intervals, key=lambda row: (not _matters(material, row), row.index))
    kept = sorted(ranked[:MAX_ROWS], key=lambda row: row.index)
    return [_row(material, row) for row in kept]


def starts(rows: Iterable[TableRow]) -> dict[float, int]:
    """Where the rows begin in seconds, for references."""
    return {float(row.label.partition("-")[0]): row.index for row in rows}


def _matters(material: Material, row: IntervalEvidence) -> bool:
    return any(material.is_suspicious(row, modality) for modality in Modality) or bool(row.audio.splices)


def _row(material: Material, row: IntervalEvidence) -> TableRow:
    video, audio = (_cell(material, row, modality) for modality in Modality)
    return TableRow(row.index, row.label, video, audio, tuple(_notes(row)))


def _cell(material: Material, row: IntervalEvidence, modality: Modality) -> Cell:
    found = row.score(modality)
    if found is None:
        return Cell("-", "none", why(row.reason(modality)))
    suspicious, real = (material.threshold(modality, name) for name in ("suspicious", "real_below"))
    high = suspicious is not None and found >= suspicious
    low = real is None or found < real
    return Cell(score(found), "high" if high else "low" if low else "middle", None)


def _notes(row: IntervalEvidence) -> Iterable[str]:
    """What else was found there, each a short clause."""
    if row.video.track is not None and len({face.track for face in row.video.faces}) > 1:
        yield f"strongest: face {row.video.track}"
    if row.video_regions:
        yield "hiding lowers the score: " + ", ".join(
            name.value.replace("_", " ") for name in row.video_regions
        )
    trace = row.video.trace
    if trace and trace.score is not None and trace.score >= trace.threshold:
        yield f"manipulation trace {trace.score:.3f}"
    if row.audio_regions:
        yield "sound: " + ", ".join(name.value.replace("_", " ") for name in row.audio_regions)
    if row.audio.splices:
        yield "possible splice at " + ", ".join(f"{splice.time:.2f} s" for splice in row.audio.splices[:4])
    if row.audio.notes:
        yield "; ".join(why(note) for note in row.audio.notes)
