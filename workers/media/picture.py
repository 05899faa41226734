"""One forward pass over the picture stream; only frames that are due become arrays."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import av
import cv2
import numpy as np
from av.codec.context import ThreadType
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from workers.media.plan import EPSILON, Due
from workers.media.probe import Presentation

#: H x W x 3, uint8; RGB unless its name says BGR.
Picture = NDArray[np.uint8]

#: Codecs in which "non-reference" means that no other frame is ever predicted from it, so leaving
#: such a frame undecoded changes no pixel of any other. Not HEVC: there the mark holds within one
#: temporal sub-layer only. Not VP8, VP9 and AV1: their decoders do not know the mark.
SKIPPABLE: Final = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
#: More decoder threads than this cost memory (each holds frames) and bring little at 1080p.
MAX_THREADS: Final = 4
TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Sampled:
    """A due frame, not yet converted."""

    due: Due
    time: float
    frame: VideoFrame
    corrupt: bool  #: the decoder had to conceal damage: what it shows was partly invented by it


class Onlooker(Protocol):
    """Who wants to see the frames between the due ones as well."""

    @property
    def open(self) -> bool:
        """Whether it does now; while not, frames that nobody needs are not even decoded."""

    def offer(self, time: float | None, frame: VideoFrame, rotation: int) -> None:
        """Look at a frame that came out undamaged, due or not, in order of time."""


class PictureReader:
    """Feeds packets to the decoder and hands out the frames that are due."""

    def __init__(
        self, stream: VideoStream, shown: Presentation, times: Sequence[float], dues: Sequence[Due], *,
        max_pixels: int, onlooker: Onlooker | None = None,
    ) -> None:  # fmt: skip
        self.stream = stream
        self._shown = shown
        self._times = times
        self._dues = dues
        self._onlooker = onlooker
        self._next = 0
        self.outputs = 0  #: frames that came out, due or not
        self._skips = shown.exact and stream.codec_context.name in SKIPPABLE
        self._wanted = {shown.ticks[due.position] for due in dues}
        self.errors = 0  #: packets that could not be decoded
        self.concealed = 0  #: frames that the decoder had to repair
        self.rotation = 0
        context = stream.codec_context
        context.thread_type = ThreadType.AUTO
        context.thread_count = min(MAX_THREADS, len(os.sched_getaffinity(0)))
        context.options = {"max_pixels": str(max_pixels)}  # a stream may grow in its middle

    def feed(self, packet: Packet[VideoStream]) -> Iterator[Sampled]:
        """Decode one packet; an empty one flushes. Damage is counted, not raised."""
        if self._skips:
            watched = self._onlooker is not None and self._onlooker.open
            wanted = watched or not packet.size or packet.pts in self._wanted
            self.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            self.errors += 1
            return
        for frame in frames:
            self.concealed += frame.is_corrupt
            sampled = self._sample(frame)
            if sampled is not None:
                yield sampled

    def _sample(self, frame: VideoFrame) -> Sampled | None:
        """The frame with the earliest due it satisfies; None when nothing is due yet."""
        time = self._time(frame)
        if not self.outputs:
            self.rotation = clockwise_turn(frame)
        self.outputs += 1
        if self._onlooker is not None and not frame.is_corrupt:
            self._onlooker.offer(time, frame, self.rotation)
        if time is None or self._next >= len(self._dues) or time < self._dues[self._next].time - EPSILON:
            return None
        due = self._dues[self._next]
        while self._next < len(self._dues) and self._dues[self._next].time <= time + EPSILON:
            due = self._dues[self._next]
            self._next += 1
        return Sampled(due, time, frame, frame.is_corrupt)

    def _time(self, frame: VideoFrame) -> float | None:
        """Seconds from the origin; by order of output where the container gives no such times."""
        if not self._shown.exact:
            return self._times[self.outputs] if self.outputs < len(self._times) else None
        if frame.pts is None:
            return None
        return self._times[0] + float((frame.pts - self._shown.ticks[0]) * self._shown.base)


def clockwise_turn(frame: VideoFrame) -> int:
    """Degrees (0, 90, 180, 270) that a player turns the picture clockwise, by its display matrix.

    Read off where the matrix sends the picture's vertical axis, so that a mirrored picture, which has
    no angle of its own, still comes out upright.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")  # the stub lists motion vectors alone
    if data is None:
        return 0
    matrix = struct.unpack("<9i", bytes(data)[:36])  # 16.16 fixed point: a b u, c d v, x y w
    return round(math.degrees(math.atan2(-matrix[3], matrix[4])) / 90) * 90 % 360


def upright(frame: VideoFrame, rotation: int) -> Picture:
    """The frame as H x W x 3 uint8 RGB, turned as a player would show it."""
    rgb = frame.reformat(format="rgb24", threads=1).to_ndarray()
    turn = TURNS.get(rotation)
    return np.ascontiguousarray(rgb if turn is None else cv2.rotate(rgb, turn))
