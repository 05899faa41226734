"""The timeline: a lane for picture, sound, traces and each face. Places are percent of the file's length.

Percent, not a view box: an SVG that is squeezed to a phone's width keeps its text, hatching and line widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from api.page.figures import clock, shown
from api.page.gallery import shown_faces
from api.page.material import Material, Seen
from api.page.words import NAMES, why
from core.domain import Modality, Reason
from core.fusion.inputs import IntervalEvidence
from core.reading import at, number

#: Pixels above the plot, for what marks a run.
HEAD = 9
TALL, LOW = 72, 40
#: Seconds below which an axis needs tenths.
SHORT = 30
#: Faces with a lane of their own.
MAX_FACE_LANES = 6
#: From so many intervals on, only suspicious bars say their score when pointed at.
MAX_TITLES = 240
#: Reasons named under a lane.
MAX_REASONS = 3


@dataclass(frozen=True)
class Bar:
    """One scored interval."""

    x: str
    width: str
    y: float
    height: float
    kind: str  #: low, middle or high, by the lane's thresholds; plain: below the only one
    title: str | None
    row: int | None  #: interval to go to


@dataclass(frozen=True)
class Gap:
    """Neighbouring intervals without a score, for one reason."""

    x: str
    width: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A run above the bars, or a place in time."""

    x: str
    width: str
    title: str
    kind: str  #: run, doubt or splice


@dataclass(frozen=True)
class Limit:
    """A threshold."""

    y: float
    name: str
    kind: str  #: suspicious or real


@dataclass(frozen=True)
class Lane:
    """One line of the timeline."""

    title: str
    note: str
    height: int
    bars: tuple[Bar, ...]
    gaps: tuple[Gap, ...]
    limits: tuple[Limit, ...] = ()
    marks: tuple[Mark, ...] = ()
    reasons: tuple[str, ...] = field(default=())  #: of the gaps, in words
    summary: str = ""  #: of what is drawn, for who cannot see it


@dataclass(frozen=True)
class Point:
    """What one interval has in one lane. Without score and reason it is blank."""

    row: IntervalEvidence
    score: float | None
    reason: str | None


def lanes(material: Material) -> list[Lane]:
    """Picture, sound, traces where they were looked for, then the faces with the highest scores."""
    found = [_modality(material, Modality.VIDEO), _modality(material, Modality.AUDIO)]
    if any(row.video.trace for row in material.intervals):
        found.append(_trace(material))
    faces = [face for face in shown_faces(material) if _scores(material, face)] or shown_faces(material)
    shown = sorted(faces[:MAX_FACE_LANES], key=lambda face: (face.start, face.id))
    return found + [_face(material, face) for face in shown]


def ticks(material: Material) -> list[str]:
    """Five times along the axis."""
    times = [material.duration * n / 4 for n in range(5)]
    return [clock(time) if material.duration >= SHORT else f"{time:.1f} s" for time in times]


def used(drawn: Sequence[Lane]) -> set[str]:
    """Kinds of bars, gaps, limits and marks that a legend has to explain."""
    kinds = {bar.kind for lane in drawn for bar in lane.bars}
    kinds |= {limit.kind for lane in drawn for limit in lane.limits}
    kinds |= {mark.kind for lane in drawn for mark in lane.marks}
    return kinds | ({"gap"} if any(lane.gaps for lane in drawn) else set())


def place(material: Material, start: float, end: float) -> tuple[str, str]:
    """Begin and width of a span as percentages."""
    first, last = (100 * min(max(at / material.duration, 0.0), 1.0) for at in (start, end))
    return f"{first:.3f}%", f"{max(last - first, 0.0):.3f}%"


def _modality(material: Material, modality: Modality) -> Lane:
    points = [Point(row, row.score(modality), why(row.reason(modality))) for row in material.intervals]
    limits = _limits(material, modality, TALL)
    coverage = at(material.report, "coverage", modality.value)
    marks = list(_runs(material, coverage))
    if modality is Modality.AUDIO:
        marks += _splices(material)
    return _lane(
        material,
        NAMES[modality].capitalize(),
        "; ".join(f"{limit.name} {_figure(limit, TALL)}" for limit in limits),
        points,
        limits=limits,
        marks=marks,
        height=TALL,
    )


def _trace(material: Material) -> Lane:
    findings = [(row, row.video.trace) for row in material.intervals]
    threshold = next((trace.threshold for _, trace in findings if trace), None)
    limits = (Limit(_y(threshold, LOW), "a trace from", "suspicious"),) if threshold is not None else ()
    points = [
        Point(row, trace.score, why(trace.reason) if trace.reason else None)
        if trace
        else Point(row, None, why(Reason.NOT_ANALYZED))
        for row, trace in findings
    ]
    note = "supports an accusation or takes REAL away, never accuses alone"
    note += f"; a trace from {threshold:.2f}" if threshold is not None else ""
    marks = list(_runs(material, material.report.get("trace")))
    return _lane(material, "Manipulation trace", note, points, limits=limits, marks=marks, height=LOW)


def _face(material: Material, face: Seen) -> Lane:
    scores = _scores(material, face)
    points = []
    for row in material.intervals:
        there = (row.start < face.end and row.end > face.start) or row.index in scores
        reason = "this face was seen here but not scored" if there else None
        points.append(Point(row, scores.get(row.index), reason))
    mean = f"mean {face.score:.3f}" if face.score is not None else "not scored"
    return _lane(
        material,
        f"Face {face.id}",
        f"{face.start:.1f}-{face.end:.1f} s, {mean}",
        points,
        limits=_limits(material, Modality.VIDEO, LOW),
        height=LOW,
    )


def _scores(material: Material, face: Seen) -> dict[int, float]:
    """Its score by interval; from its frames where an older report has no scores by track."""
    found: dict[int, float] = {}
    for row in material.intervals:
        told = [track.score for track in row.video.tracks if track.track == face.id]
        frames = [one.score for one in row.video.faces if one.track == face.id]
        if told or frames:
            found[row.index] = told[0] if told else sum(frames) / len(frames)
    return found


def _lane(
    material: Material,
    title: str,
    note: str,
    points: Sequence[Point],
    *,
    height: int,
    limits: tuple[Limit, ...] = (),
    marks: Sequence[Mark] = (),
) -> Lane:
    gaps = tuple(_gaps(material, points))
    bars = tuple(_bar(material, point, limits, height) for point in points if point.score is not None)
    reasons = dict.fromkeys(point.reason for point in points if point.score is None and point.reason)
    high = sum(bar.kind == "high" for bar in bars)
    return Lane(
        title=title,
        note=note,
        height=height,
        bars=bars,
        gaps=gaps,
        limits=limits,
        marks=tuple(marks),
        reasons=tuple(list(reasons)[:MAX_REASONS]),
        summary=f"{title}: {len(bars)} of {len(points)} intervals scored, {high} suspicious",
    )


def _bar(material: Material, point: Point, limits: tuple[Limit, ...], height: int) -> Bar:
    score = point.score or 0.0
    y = _y(score, height)
    high, low = (
        next((limit.y for limit in limits if limit.kind == kind), None) for kind in ("suspicious", "real")
    )
    calm = "plain" if low is None else "low" if y > low else "middle"
    kind = "high" if high is not None and y <= high else calm
    x, width = place(material, point.row.start, point.row.end)
    titled = kind == "high" or len(material.intervals) <= MAX_TITLES
    return Bar(
        x=x,
        width=width,
        y=min(y, HEAD + height - 1.5),
        height=max(HEAD + height - y, 1.5),
        kind=kind,
        title=f"{point.row.label} s: {score:.3f}" if titled else None,
        row=point.row.index if kind == "high" else None,
    )


def _gaps(material: Material, points: Sequence[Point]) -> Iterator[Gap]:
    """Neighbours of the same reason are one gap."""
    open_: list[Point] = []
    for point in [*points, None]:
        reason = point.reason if point and point.score is None else None
        if open_ and (reason is None or reason != open_[0].reason or point is None):
            first, last = open_[0].row, open_[-1].row
            x, width = place(material, first.start, last.end)
            yield Gap(x, width, f"{first.start:.1f}-{last.end:.1f} s not measured: {open_[0].reason}")
            open_ = []
        if point is not None and reason is not None:
            open_.append(point)


def _limits(material: Material, modality: Modality, height: int) -> tuple[Limit, ...]:
    names = (("suspicious", "suspicious from", "suspicious"), ("real_below", "looks real below", "real"))
    found = ((material.threshold(modality, key), name, kind) for key, name, kind in names)
    return tuple(Limit(_y(value, height), name, kind) for value, name, kind in found if value is not None)


def _figure(limit: Limit, height: int) -> str:
    return f"{1 - (limit.y - HEAD) / height:.2f}"


def _y(score: float, height: int) -> float:
    return round(HEAD + (1 - score) * height, 2)


def _runs(material: Material, coverage: object) -> Iterator[Mark]:
    for name, kind, words in (
        ("strongest_run", "run", "stand out together"),
        ("doubtful_run", "doubt", "stand out, but not enough to accuse"),
    ):
        run = at(coverage, name)
        start, end, mean = (number(at(run, key)) for key in ("start", "end", "mean"))
        if start is None or end is None or (kind == "doubt" and at(coverage, "strongest_run")):
            continue
        x, width = place(material, start, end)
        title = f"{shown(at(run, 'interval'))} s: neighbouring intervals that {words}"
        yield Mark(x, width, title + (f", mean {mean:.3f}" if mean is not None else ""), kind)


def _splices(material: Material) -> list[Mark]:
    found = [splice for row in material.intervals for splice in row.audio.splices]
    return [
        Mark(
            place(material, splice.time, splice.time)[0],
            "0",
            f"{splice.time:.2f} s: two recordings may have been joined ({splice.kind})",
            "splice",
        )
        for splice in found
    ]


def suspicious_spans(material: Material, modality: Modality) -> list[tuple[str, str, str]]:
    """Begin, width and label of the suspicious intervals of one modality."""
    rows = [row for row in material.intervals if material.is_suspicious(row, modality)]
    return [(*place(material, row.start, row.end), row.label) for row in rows]
