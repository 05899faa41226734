"""Inside the sandbox: parts of a picture stream, one after another, and what delivery does to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from core.errors import MediaError
from workers.media.formats import open_input, open_output
from workers.media.job import Job
from workers.media.picture import MAX_THREADS, Picture, clockwise_turn, upright
from workers.media.plan import EPSILON
from workers.media.probe import Presentation, Probe, probe

#: Ticks a second of what is written: those of broadcasting, in which every usual frame rate is whole.
TICKS: Final = 90_000
#: Between two parts farther from each other than this it is quicker to seek than to decode.
SEEK_SECONDS: Final = 5.0
#: Containers with an index that can be believed.
_SEEKABLE: Final = ("mov,", "matroska", "avi")
#: Of the last part: where frames end earlier, the last one is shown once more there, so that the part has
#: its length; see `Cut.write`.
_HELD: Final = 0.95
_ENCODER: Final = {"preset": "veryfast"}  # medium takes four times as long and moves no score by more
_FULL_RATE: Final = 25
#: Frames closer to each other than those of 60 a second are left out, as every platform does.
_LEAST_GAP: Final = TICKS // 61
#: Longer side of what is encoded: beyond it x264 needs more memory than a decoder may have.
LONGEST: Final = 3840
LEAST: Final = 16  #: of either side, pixels


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to each frame before it is encoded."""

    crf: int  #: of x264: 0 loses nothing, 51 nearly everything
    scale: float = 1.0  #: of both sides
    margin: float = 0.0  #: cut off each edge, as a part of its side


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the parent asks for."""

    parts: tuple[tuple[float, float], ...]  #: start and end in seconds of the timeline, in order of time
    recipe: Recipe
    job: Job  #: for its limits

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Order:
        """The inverse of `to_dict`."""
        return cls(
            parts=tuple((float(start), float(end)) for start, end in values["parts"]),
            recipe=Recipe(**values["recipe"]),
            job=Job(**values["job"]),
        )


def cut(source: str, target: Path, order: Order) -> list[int]:
    """Write the parts of `source` (a path) to `target`; the numbers of those that have a frame.

    Raises MediaError: what `probe` raises, `no_streams` without a picture, `undecodable_media` without
    a frame.
    """
    with open_input(source) as container:
        found = probe(container, order.job)
    if found.video_index is None or found.picture is None:
        raise MediaError("The file has no picture.", code="no_streams")
    writer = _Writer(target, order, rate=_rate(found.picture))
    for number, time, frame in _frames(source, found, found.picture, order):
        writer.add(number, time, frame)
    writer.close()
    if not writer.kept:
        raise MediaError("None of the parts could be decoded.")
    return writer.kept


def _rate(shown: Presentation) -> Fraction:
    """Frames a second, for the encoder's own bookkeeping alone."""
    spread = (shown.ticks[-1] - shown.ticks[0]) * shown.base
    rate = Fraction(len(shown.ticks) - 1) / spread if spread > 0 else Fraction(_FULL_RATE)
    return min(max(rate, Fraction(1)), Fraction(60)).limit_denominator(1001)


def _frames(
    source: str, found: Probe, shown: Presentation, order: Order
) -> Iterator[tuple[int, float, VideoFrame]]:
    """Number of the part, seconds of the timeline and frame, in order of time."""
    for first, last in _runs(order.parts):
        window = (order.parts[first][0], order.parts[last][1])
        for time, frame in _window(source, found, shown, window, order.job):
            for number in range(first, last + 1):
                start, end = order.parts[number]
                if start - EPSILON <= time < end - EPSILON:
                    yield number, time, frame


def _runs(parts: Sequence[tuple[float, float]]) -> Iterator[tuple[int, int]]:
    """First and last number of parts that are read in one go."""
    breaks = [n + 1 for n, (one, two) in enumerate(pairwise(parts)) if two[0] - one[1] > SEEK_SECONDS]
    for first, beyond in pairwise([0, *breaks, len(parts)]):
        yield first, beyond - 1


def _window(
    source: str, found: Probe, shown: Presentation, window: tuple[float, float], job: Job
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames from `start` to `end` and perhaps some before: all from the file's beginning if a seek fails."""
    start, end = window
    with open_input(source) as container:
        seekable = shown.exact and container.format.name.startswith(_SEEKABLE) and start > SEEK_SECONDS
        if seekable:
            frames = _decoded(container, found, shown, job, seek=start)
            head = next(frames, None)
            if head is not None and head[0] <= start + EPSILON:
                yield head
                yield from _until(frames, end)
                return
    with open_input(source) as container:
        yield from _until(_decoded(container, found, shown, job), end)


def _until(frames: Iterator[tuple[float, VideoFrame]], end: float) -> Iterator[tuple[float, VideoFrame]]:
    for time, frame in frames:
        if time >= end - EPSILON:
            return
        yield time, frame


def _decoded(
    container: InputContainer, found: Probe, shown: Presentation, job: Job, *, seek: float | None = None
) -> Iterator[tuple[float, VideoFrame]]:
    """Every frame with its seconds on the timeline; what cannot be decoded is left out."""
    stream = container.streams[found.video_index or 0]
    if not isinstance(stream, VideoStream):
        raise MediaError("The file changed its streams while it was read.")
    stream.codec_context.options = {"max_pixels": str(job.max_pixels)}  # a stream may grow in its middle
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = _threads()
    if seek is not None:
        container.seek(int((Fraction(seek) + found.origin) / shown.base), stream=stream)
    outputs = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            continue
        for frame in frames:
            tick = frame.pts if shown.exact else _nth(shown.ticks, outputs)
            outputs += 1
            if tick is not None and not frame.is_corrupt:  # in a variant, damage would look whole
                yield float(tick * shown.base - found.origin), frame


def _nth(ticks: Sequence[int], number: int) -> int | None:
    """By order of output where the container gives no times, as extraction has it."""
    return ticks[number] if number < len(ticks) else None


class _Writer:
    """Encodes the parts one behind the other.

    Part n of those that have frames begins at the sum of the lengths before it, so that intervals of the
    result are the parts, as long as all but the last are as long as an interval.
    """

    def __init__(self, target: Path, order: Order, *, rate: Fraction) -> None:
        self.kept: list[int] = []
        self._order = order
        self._target = str(target)
        self._rate = rate
        self._container: Any = None
        self._stream: Any = None
        self._rotation = 0
        self._begin = 0  # tick at which the part in hand begins
        self._shift = 0.0  # of the first part alone: our first frame is at nought
        self._tick = -TICKS
        self._gap = 0  # ticks between the last two frames of a part, for which an MP4 shows its last one too
        self._last: Picture | None = None

    def add(self, number: int, time: float, frame: VideoFrame) -> None:
        """The next frame of part `number`."""
        start, _ = self._order.parts[number]
        if not self.kept or self.kept[-1] != number:
            if self.kept:
                self._begin += self._ticks(self.kept[-1])
            else:
                self._shift = time - start
                self._rotation = clockwise_turn(frame)
            self.kept.append(number)
        within = round((time - start - (self._shift if len(self.kept) == 1 else 0.0)) * TICKS)
        picture = changed(upright(frame, self._rotation), self._order.recipe)
        self._encode(picture, self._begin + max(0, min(within, self._ticks(number) - 1)))

    def _ticks(self, number: int) -> int:
        start, end = self._order.parts[number]
        return -int(-(end - start) * TICKS // 1)  # upwards: no frame may fall before its interval

    def _encode(self, picture: Picture, tick: int) -> None:
        if tick - self._tick < _LEAST_GAP:
            return  # also two frames at one moment, or out of order
        if self._container is None:
            self._open(picture)
        elif self._last is not None and picture.shape != self._last.shape:
            picture = _resized(picture, self._last.shape[1::-1])
        self._gap = tick - self._tick if self._tick >= self._begin else 0
        self._tick, self._last = tick, picture
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def _open(self, picture: Picture) -> None:
        self._container = open_output(self._target)
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.thread_count = _threads()
        stream.options = {"crf": str(self._order.recipe.crf), **_ENCODER}
        self._stream = stream

    def close(self) -> None:
        """Write what the encoder holds, and the index.

        The last frame is held where the last part would otherwise end so early that it counts as a sliver
        of the one before.
        """
        if self._container is None or self._last is None:
            return
        held = self._begin + int(_HELD * self._ticks(self.kept[-1]))
        if self._tick + self._gap < held:
            self._encode(self._last, held)
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _threads() -> int:
    return min(MAX_THREADS, len(os.sched_getaffinity(0)))


def changed(picture: Picture, recipe: Recipe) -> Picture:
    """The picture cropped and scaled, with even sides as 4:2:0 needs them, LEAST to LONGEST pixels each."""
    height, width = picture.shape[:2]
    top, left = int(height * recipe.margin), int(width * recipe.margin)
    cropped = picture[top : height - top, left : width - left]
    scale = min(recipe.scale, LONGEST / max(cropped.shape))
    sides = [max(LEAST, int(side * scale) // 2 * 2) for side in cropped.shape[1::-1]]
    if scale == 1.0 and min(cropped.shape[:2]) >= LEAST:
        return np.ascontiguousarray(cropped[: sides[1], : sides[0]])  # at most a row and a column less
    return _resized(cropped, sides)


def _resized(picture: Picture, sides: Sequence[int]) -> Picture:
    """To width and height."""
    return cv2.resize(picture, tuple(sides), interpolation=cv2.INTER_AREA).astype(np.uint8)
