"""How far the mouths of tracked faces are open, in every decoded frame between two sampled ones.

Faces are found in few frames (five in two seconds), too few for speech. In between the eyes and corners
of the mouth are interpolated, and two figures are taken from each frame: how the lips part, and the contrast
inside the mouth. Of thirty measures tried these were right for every talker, beard and skin; the darkness
of the mouth was not (docs/lips.md). No picture is kept beyond the next sampled frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from core.evidence import Face
from workers.media.crops import EYE_TO_MOUTH
from workers.media.faces import LONGEST_SIDE
from workers.media.lips import Opening
from workers.media.picture import TURNS, Picture

#: Frames closer together than this are passed over: syllables come at 2 to 8 Hz.
MIN_STEP: Final = 1 / 31
#: Between samples farther apart than this the head has moved in ways that no straight line tells.
MAX_STEP: Final = 1.0
#: Faces of a frame that are followed, the largest first.
MAX_FACES: Final = 3
#: A track's mouth is followed this long, and all of a file's together: more says no more, and costs.
TRACK_SECONDS: Final = 60.0
FILE_SECONDS: Final = 180.0
#: Grey miniatures that wait for the next sampled frame, in bytes; what does not fit is passed over.
WAITING_BYTES: Final = 48 * 1024 * 1024
#: Distance of the eyes in a miniature, in pixels, below which a mouth is a smudge.
MIN_EYE_DISTANCE: Final = 12.0
#: The patch: its side and the distance of the eyes in it, in pixels; where the mouth's middle lies.
_SIDE: Final = 64
_EYES: Final = 44.0
_CENTRE: Final = (32.0, 23.0)
#: Parts of the patch: the inner mouth, and both lips with the chin; rows, columns.
_INNER: Final = (slice(14, 38), slice(16, 48))
_LIPS: Final = (slice(9, 47), slice(16, 48))
#: Rows of the upper lip, and of the lower one with the chin, between the first and last of `_LIPS`.
_UPPER: Final = slice(0, 12)
_LOWER: Final = slice(16, 36)
#: Light of the patch after normalising; blur in pixels, so that a step of two or three still has a slope.
_LIGHT: Final = 128.0
_BLUR: Final = 1.5
#: Squared slope, summed over a part, below which it is flat and tells no motion.
_FLAT: Final = 50.0
#: Patches farther apart than this are not compared.
_MAX_PAUSE: Final = 0.25

Points = NDArray[np.float64]
Patch = NDArray[np.float32]  #: 64 x 64, mean 128
#: Pixel formats whose first plane is the luma, a byte a pixel: no conversion is needed to read it.
_LUMA_FIRST: Final = frozenset({"gray", "nv12", "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p"})


@dataclass(frozen=True)
class _Waiting:
    """A frame between samples: its grey miniature and the factor from full size to it."""

    time: float
    grey: Picture
    scale: float


@dataclass(frozen=True)
class _Sampled:
    """The landmarks of the faces that are followed, 5 x 2 in pixels of the full frame, by track."""

    time: float
    faces: dict[int, Points]


class MouthTracer:
    """Offer it every frame, then say where the faces of the sampled ones are, both in order of time."""

    def __init__(self) -> None:
        self.openings: dict[int, list[Opening]] = {}  #: by track, in order of time
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._last = -np.inf  # time of the newest miniature
        self._sampled: _Sampled | None = None
        self._patches: dict[int, tuple[float, Patch]] = {}  # the last lips of each track
        self._seconds: dict[int, float] = {}
        self.open = True  #: whether frames between samples are wanted at all now

    def offer(self, time: float | None, frame: VideoFrame, rotation: int) -> None:
        """Take any decoded frame; it is shrunk at once."""
        if not self.open or time is None or not np.isfinite(time) or time - self._last < MIN_STEP:
            return
        if self._bytes > WAITING_BYTES:
            return
        self._last = time
        waiting = _shrunk(time, frame, rotation)
        self._bytes += waiting.grey.nbytes
        self._waiting.append(waiting)

    def settle(self, time: float, faces: Sequence[Face]) -> None:
        """A sampled frame's faces are known: measure what lies between it and the one before."""
        now = {face.track: np.asarray(face.landmarks) for face in faces if face.reason is None}
        wanted = [track for track in now if self._seconds.get(track, 0) < TRACK_SECONDS][:MAX_FACES]
        before, self._sampled = self._sampled, _Sampled(time, {track: now[track] for track in wanted})
        if before is not None and 0 < time - before.time <= MAX_STEP:
            self._measure(before, self._sampled)
        while self._waiting and self._waiting[0].time < time:
            self._bytes -= self._waiting.popleft().grey.nbytes
        self._patches = {track: last for track, last in self._patches.items() if track in wanted}
        # Blind where no face can be followed: frames in between then need not even be decoded.
        self.open = bool(wanted) and sum(self._seconds.values()) < FILE_SECONDS

    def _measure(self, before: _Sampled, after: _Sampled) -> None:
        """The mouths of the tracks that both samples show."""
        span = after.time - before.time
        for track in before.faces.keys() & after.faces.keys():
            self._seconds[track] = self._seconds.get(track, 0) + span
            for waiting in self._waiting:
                if before.time <= waiting.time < after.time:
                    part = (waiting.time - before.time) / span
                    points = (1 - part) * before.faces[track] + part * after.faces[track]
                    self._look(track, waiting, points)

    def _look(self, track: int, waiting: _Waiting, landmarks: Points) -> None:
        """Add what one frame shows of one mouth."""
        patch = mouth_patch(waiting.grey, landmarks * waiting.scale)
        if patch is None:
            return
        found = self.openings.setdefault(track, [])
        last = self._patches.get(track)
        near = last is not None and waiting.time - last[0] <= _MAX_PAUSE
        seen = lips_of(patch)
        moved = parting(last[1], seen) if last is not None and near else 0.0
        so_far = found[-1].parting if found else 0.0
        found.append(Opening(waiting.time, so_far + moved, float(patch[_INNER].std())))
        self._patches[track] = (waiting.time, seen)


def _shrunk(time: float, frame: VideoFrame, rotation: int) -> _Waiting:
    """The frame's luma, longer side at most 640 pixels, upright."""
    grey = _luma(frame)
    height, width = grey.shape
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    turn = TURNS.get(rotation)
    return _Waiting(time, grey if turn is None else np.asarray(cv2.rotate(grey, turn), np.uint8), scale)


def _luma(frame: VideoFrame) -> Picture:
    """H x W, uint8; a copy, for the decoder needs its own picture back."""
    plane = frame.planes[0]
    stride, height, width = plane.line_size, frame.height, frame.width
    # A negative stride, of a picture stored bottom up, is for the converter as well.
    if frame.format.name not in _LUMA_FIRST or stride < width or plane.buffer_size < stride * height:
        return np.asarray(frame.reformat(format="gray", threads=1).to_ndarray(), np.uint8)
    rows = np.frombuffer(memoryview(plane), np.uint8, stride * height)
    return np.array(rows.reshape(height, stride)[:, :width])


def mouth_patch(grey: Picture, landmarks: Points) -> Patch | None:
    """The lower face upright, its eyes 44 pixels apart and its light the same; None where it cannot be seen.

    `landmarks` is 5 x 2 in pixels of the H x W picture: eyes, nose, corners of the mouth.
    """
    if not np.isfinite(landmarks).all():
        return None
    middle = landmarks[3:].mean(axis=0)
    across, down = landmarks[1] - landmarks[0], middle - landmarks[:2].mean(axis=0)
    distance = max(float(np.hypot(*across)), float(np.hypot(*down)) / EYE_TO_MOUTH)
    height, width = grey.shape
    inside = 0 <= middle[0] < width and 0 <= middle[1] < height
    if not inside or not MIN_EYE_DISTANCE <= distance <= max(width, height):
        return None
    angle, scale = float(np.arctan2(across[1], across[0])), _EYES / distance
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.column_stack([turn, np.array(_CENTRE) - turn @ middle])
    cut = cv2.warpAffine(
        grey, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    return np.asarray(cut * (_LIGHT / (float(cut.mean()) + 1.0)), np.float32)


def lips_of(patch: Patch) -> Patch:
    """Both lips of a patch, blurred: what `parting` compares."""
    return np.asarray(cv2.GaussianBlur(patch[_LIPS], (0, 0), _BLUR), np.float32)


def parting(before: Patch, after: Patch) -> float:
    """How many pixels the lower lip went down against the upper one from one `lips_of` to the next.

    One step of Lucas & Kanade (1981), vertical only, over each lip as a whole.
    """
    between = (before + after) / 2
    slope, change = (between[2:] - between[:-2]) / 2, (after - before)[1:-1]
    squares, products = slope * slope, slope * change

    def fall(rows: slice) -> float:
        return -float(products[rows].sum()) / (float(squares[rows].sum()) + _FLAT)

    return fall(_LOWER) - fall(_UPPER)
