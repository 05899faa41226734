"""Which pictures a page shows, and what it says of each."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from api.page.figures import plain
from api.page.material import Material, Seen, Still
from core.domain import Modality
from core.evidence import Frame, KeyPicture
from core.fusion.inputs import IntervalEvidence
from core.reading import at, number

#: Suspicious intervals shown as pictures; the highest scores first when there are more.
MAX_KEY_FRAMES = 6
#: Stills of a file in which no picture was suspicious: what was looked at.
MAX_PLAIN_FRAMES = 3
MAX_FACES_SHOWN = 12
#: Of all pictures of one page. Written as base64 they take a third more.
MAX_PICTURE_BYTES = 8 * 1024 * 1024
#: Of one of them; ours are far smaller.
MAX_ONE_PICTURE = 2 * 1024 * 1024
SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
METHODS = {"attention_rollout": "attention rollout", "occlusion_grid": "occlusion grid"}


@dataclass(frozen=True)
class Box:
    """A face in a still, in pixels of the frame."""

    x: float
    y: float
    width: float
    height: float
    label: str
    strongest: bool  #: it gave the interval its score


@dataclass(frozen=True)
class Effect:
    """A region whose hiding moved the score."""

    region: str
    drop: float
    spread: float
    spoke: bool  #: it moved the score beyond its own scatter


@dataclass(frozen=True)
class Look:
    """A suspicious face: its crop and where the model looked."""

    track: int
    time: float
    score: float
    crop: Markup | None  #: a data: address
    heatmap: Markup | None
    method: str


@dataclass(frozen=True)
class KeyFrame:
    """One interval as pictures."""

    row: IntervalEvidence
    time: float | None
    still: Markup | None
    boxes: tuple[Box, ...]
    width: float  #: of the frame in pixels, as the boxes are measured
    height: float
    looks: tuple[Look, ...]
    effects: tuple[Effect, ...]
    suspicious: bool


def chosen(material: Material) -> tuple[int, ...]:
    """Indices of the intervals that are shown, in the order of time."""
    rows = [row for row in material.intervals if row.index in material.stills or row.video.pictures]
    accused = [row for row in rows if material.is_suspicious(row, Modality.VIDEO)]
    if accused:
        strongest = sorted(accused, key=lambda row: -(row.video.score or 0))[:MAX_KEY_FRAMES]
        return tuple(sorted(row.index for row in strongest))
    scored = [row for row in rows if row.video.score is not None] or rows
    step = max(1, len(scored) / MAX_PLAIN_FRAMES)
    places = [int(step * (n + 0.5)) for n in range(MAX_PLAIN_FRAMES)]
    return tuple(sorted({scored[place].index for place in places if place < len(scored)}))


def wanted(material: Material) -> list[str]:
    """Object keys of the pictures, what a reader would miss most first."""
    rows = [row for row in material.intervals if row.index in set(chosen(material))]
    keys = [material.stills[row.index].key for row in rows if row.index in material.stills]
    keys += [look.heatmap for row in rows for look in row.video.pictures[:1] if look.heatmap]
    keys += [material.spectrogram] if material.spectrogram else []
    keys += [look.crop for row in rows for look in row.video.pictures[:1]]
    keys += [face.thumbnail for face in shown_faces(material) if face.thumbnail]
    return list(dict.fromkeys(keys))


def shown_faces(material: Material) -> list[Seen]:
    """The faces of the page, the highest scores first, then the longest seen."""
    unscored = -1.0  # after a score of 0
    ranked = sorted(
        material.faces, key=lambda face: (-(unscored if face.score is None else face.score), -face.frames)
    )
    return ranked[:MAX_FACES_SHOWN]


def kind(picture: bytes) -> str | None:
    """Its media type by its first bytes; None for anything but JPEG and PNG."""
    return next((name for start, name in SIGNATURES.items() if picture.startswith(start)), None)


def address(material: Material, key: str | None) -> Markup | None:
    """A picture as a data: address; None when it was erased, or is none."""
    content = material.pictures.get(key or "")
    media_type = kind(content) if content else None
    if content is None or media_type is None:
        return None
    return Markup(f"data:{media_type};base64,{base64.b64encode(content).decode()}")  # noqa: S704 - no sign of HTML


def key_frames(material: Material) -> list[KeyFrame]:
    """The intervals that are shown as pictures."""
    rows = {row.index: row for row in material.intervals}
    return [_key_frame(material, rows[index]) for index in chosen(material)]


def _key_frame(material: Material, row: IntervalEvidence) -> KeyFrame:
    still = material.stills.get(row.index)
    frame = _frame(material, row, still)
    width, height = _sides(material)
    return KeyFrame(
        row=row,
        time=frame.time if frame else None,
        still=address(material, still.key) if still else None,
        boxes=tuple(_boxes(row, frame)) if frame else (),
        width=width,
        height=height,
        looks=tuple(_look(material, picture) for picture in row.video.pictures[:1]),
        effects=_effects(row),
        suspicious=material.is_suspicious(row, Modality.VIDEO),
    )


def _frame(material: Material, row: IntervalEvidence, still: Still | None) -> Frame | None:
    if still is None:
        return None
    return next((frame for frame in material.frames.get(row.index, ()) if frame.n == still.frame), None)


def _sides(material: Material) -> tuple[float, float]:
    """Width and height of the upright frame, in which boxes are measured."""
    facts = at(material.report, "provenance", "facts", "video")
    return number(at(facts, "width")) or 16.0, number(at(facts, "height")) or 9.0


def _boxes(row: IntervalEvidence, frame: Frame) -> Iterator[Box]:
    scores = {face.track: face.score for face in row.video.faces if face.frame == frame.n}
    for face in frame.faces:
        told = scores.get(face.track)
        yield Box(
            *face.box,
            label=f"face {face.track}" + (f": {told:.3f}" if told is not None else ""),
            strongest=face.track == row.video.track,
        )


def _look(material: Material, picture: KeyPicture) -> Look:
    return Look(
        track=picture.track,
        time=picture.time,
        score=picture.score,
        crop=address(material, picture.crop),
        heatmap=address(material, picture.heatmap),
        method=METHODS.get(picture.method or "", "method unknown"),
    )


def _effects(row: IntervalEvidence) -> tuple[Effect, ...]:
    spoke = set(row.video_regions)
    ordered = sorted(row.video.regions, key=lambda effect: -effect.drop)
    return tuple(
        Effect(plain(one.region.value), one.drop, one.spread, one.region in spoke) for one in ordered[:4]
    )
