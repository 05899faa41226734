"""Follows faces from one sampled frame to the next: greedy, by place and by looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.media.faces import Detection
from workers.media.picture import Picture

#: How long a face may be gone (turned away, covered, missed by the detector) and still be the same.
MAX_GAP_SECONDS: Final = 2.0
#: How far a face may move between two samples, in face sizes, when its boxes no longer overlap.
MAX_SHIFT: Final = 0.75
#: How much larger or smaller it may become between two samples.
MAX_GROWTH: Final = 1.8
#: Correlation of the inner faces below which two are different people (or too different to tell).
#: Measured: one talker 0.81 to 1 from sample to sample (0.58 when half the face is out of the picture
#: and its landmarks jump), different talkers 0.65 to 0.87: it parts only what is clearly different, the
#: rest is for cuts and places to tell.
MIN_LIKENESS: Final = 0.6
#: How much less alike a face may be that has not moved: this times the overlap of its boxes.
OVERLAP_TRUST: Final = 0.3
#: Mean absolute difference of two 32 x 18 grey miniatures, 0 to 255, brightness and contrast fitted first,
#: at which the whole picture has changed at once. Measured at five samples in two seconds: hard cuts between
#: talkers before the same studio wall 19 to 23, lights dimmed or a fade to black up to 4, a face covered
#: 11, a slow zoom up to 11, a still camera up to 2.
CUT_DIFFERENCE: Final = 14.0
#: Correlation at which the middle of a picture is found again in the next: the camera moved, nothing was
#: cut. Measured: a camera that pans by a sixth of its width a sample 0.96 to 1, the cuts above 0.5 to 0.67,
#: any two talkers before the same wall 0.85 at most, two portraits of one studio 0.93.
SAME_SCENE: Final = 0.94
#: Light may double between two samples; a larger factor would let a flat picture stand for any other.
MAX_GAIN: Final = 2.0
_MINIATURE: Final = (32, 18)
_SCENE: Final = (64, 36)
_FLAT: Final = 1.0  # spread of luma without anything to find again
#: Part of the picture that is looked for in the next one.
_MIDDLE: Final = 0.6
#: The inner face of a crop (eyes to mouth), free of hair and background, as parts of its side.
_INNER: Final = (0.3, 0.78, 0.27, 0.73)
_LOOKS: Final = 12

Looks = NDArray[np.float32]


@dataclass
class FaceTrack:
    """One face through time, still running or ended."""

    id: int
    start: float
    end: float
    box: tuple[float, float, float, float]
    looks: Looks
    frames: int = 1


@dataclass
class Tracker:
    """Gives every detection the id of its track. Feed it in order of time."""

    live: list[FaceTrack] = field(default_factory=list)
    ended: list[FaceTrack] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)  #: times of the first samples after a cut
    _count: int = 0
    _scene: Looks | None = None

    def see(self, picture: Picture, time: float) -> None:
        """Show the whole sampled frame; a scene cut ends every track."""
        small = cv2.resize(picture, _SCENE, interpolation=cv2.INTER_AREA)
        scene = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        before, self._scene = self._scene, scene
        if before is not None and is_cut(before, scene):
            self.cuts.append(time)
            self.end_all()

    def end_all(self) -> None:
        """No live track goes on."""
        self.ended += self.live
        self.live = []

    def assign(self, time: float, faces: Sequence[Detection], looks: Sequence[Looks]) -> list[FaceTrack]:
        """The track of each face, best matches first; what matches nothing begins a track."""
        self.ended += [track for track in self.live if time - track.end > MAX_GAP_SECONDS]
        self.live = [track for track in self.live if time - track.end <= MAX_GAP_SECONDS]
        matched = self._match(faces, looks)
        result: list[FaceTrack] = []
        for n, face in enumerate(faces):
            track = matched.get(n)
            if track is None:
                track = FaceTrack(self._count, time, time, face.box, looks[n], frames=0)
                self._count += 1
                self.live.append(track)
            track.end, track.box, track.looks = time, face.box, looks[n]
            track.frames += 1
            result.append(track)
        return result

    def _match(self, faces: Sequence[Detection], looks: Sequence[Looks]) -> dict[int, FaceTrack]:
        """Face number to live track, each used once, the most alike pair first."""
        pairs = [
            (score, n, k)
            for n, face in enumerate(faces)
            for k, track in enumerate(self.live)
            if (score := _score(track, face, looks[n])) is not None
        ]
        found: dict[int, FaceTrack] = {}
        taken: set[int] = set()
        for _, n, k in sorted(pairs, reverse=True):
            if n not in found and k not in taken:
                found[n] = self.live[k]
                taken.add(k)
        return found


def is_cut(before: Looks, after: Looks) -> bool:
    """Whether the picture changed at once, beyond what light and a moving camera do; 36 x 64 luma each."""
    one, two = (_shrunk(each) for each in (before, after))
    if max(_unexplained(one, two), _unexplained(two, one)) <= CUT_DIFFERENCE:
        return False
    return max(_found_in(before, after), _found_in(after, before)) < SAME_SCENE


def _shrunk(scene: Looks) -> Looks:
    """The picture as a miniature in which small things do not matter."""
    return np.asarray(cv2.resize(scene, _MINIATURE, interpolation=cv2.INTER_AREA), np.float32)


def _unexplained(one: Looks, two: Looks) -> float:
    """Mean absolute difference once `one` has the brightness and contrast that fit `two` best."""
    left, right = one - one.mean(), two - two.mean()
    gain = float((left * right).sum()) / max(float((left * left).sum()), 1e-6)
    return float(np.abs(right - np.clip(gain, 0, MAX_GAIN) * left).mean())


def _found_in(one: Looks, two: Looks) -> float:
    """Highest correlation of the middle of `one` with any place of `two`, -1 to 1."""
    height, width = one.shape
    top, left = (round(side * (1 - _MIDDLE) / 2) for side in (height, width))
    middle = one[top : height - top, left : width - left]
    if min(float(middle.std()), float(two.std())) < _FLAT:
        return 0.0  # correlation with an even surface has no meaning
    return float(cv2.matchTemplate(two, middle, cv2.TM_CCOEFF_NORMED).max())


def looks_of(crop: Picture) -> Looks:
    """The inner face as a 12 x 12 grey patch of mean 0 and norm 1, so that light does not matter."""
    top, bottom, left, right = (round(part * crop.shape[0]) for part in _INNER)
    inner = cv2.cvtColor(crop[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    patch = cv2.resize(inner, (_LOOKS, _LOOKS), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    patch -= patch.mean()
    return patch / max(float(np.linalg.norm(patch)), 1e-6)


def _score(track: FaceTrack, face: Detection, looks: Looks) -> float | None:
    """How well a face continues a track: overlap plus likeness; None when it cannot be the same."""
    size, before = (float(np.sqrt(max(box[2] * box[3], 1.0))) for box in (face.box, track.box))
    if not 1 / MAX_GROWTH <= size / before <= MAX_GROWTH:
        return None
    overlap = _overlap(track.box, face.box)
    shift = np.hypot(*(np.subtract(_middle(face.box), _middle(track.box)) / max(size, before)))
    likeness = float(track.looks @ looks)
    if likeness < MIN_LIKENESS - OVERLAP_TRUST * overlap or (overlap == 0 and shift > MAX_SHIFT):
        return None
    return overlap + likeness


def _middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    """Centre of an x, y, width, height box."""
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _overlap(one: tuple[float, float, float, float], two: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one[2] * one[3] + two[2] * two[3] - shared)
