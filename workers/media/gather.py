"""Sampled frames in, evidence out: faces, tracks, crops and thumbnails, written as they come."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2

from core.domain import Span
from core.evidence import CropShard, Face, Frame, Track
from workers.media.crops import align, brightness, sharpness, unscorable
from workers.media.faces import Detection, FaceDetector, small_bgr
from workers.media.job import FACE_BUDGET
from workers.media.mouth import MouthTracer
from workers.media.picture import Picture, Sampled, upright
from workers.media.plan import Due
from workers.media.shards import ShardWriter
from workers.media.tracks import FaceTrack, Tracker, looks_of

#: Pictures in flight between decoder and face detector, in bytes of RGB and of decoder frame.
PENDING_BYTES: Final = 96 * 1024 * 1024
MAX_DETECTOR_THREADS: Final = 4
_JPEG: Final = (cv2.IMWRITE_JPEG_QUALITY, 85)


@dataclass(frozen=True)
class _Seen:
    """A sampled frame after conversion and detection."""

    picture: Picture
    small: Picture  #: BGR, longer side at most 640
    faces: list[Detection]


@dataclass(frozen=True)
class _Thumbnail:
    """The best crop of a live track so far."""

    rank: tuple[bool, float]  #: scorable, sharpness
    crop: Picture


@dataclass(frozen=True)
class _Still:
    """The picture of the current interval so far."""

    interval: int
    distance: float  #: seconds from its middle
    picture: Picture  #: BGR
    frame: int  #: Frame.n


class Gatherer:
    """Detection runs in threads beside the decoder; everything after it in order of time."""

    def __init__(
        self, folder: Path, spans: Sequence[Span], dues: Sequence[Due], *, max_faces: int, pixels: int,
        mouths: MouthTracer | None = None,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._mouths = mouths
        self._spans = spans
        self._share = max(1, min(max_faces, FACE_BUDGET // max(1, len(dues))))
        self._dues = [0] * len(spans)
        for due in dues:
            self._dues[due.interval] += 1
        workers = min(MAX_DETECTOR_THREADS, len(os.sched_getaffinity(0)))
        self._room = max(1, min(2 * workers, PENDING_BYTES // (6 * pixels)))
        self._pool = ThreadPoolExecutor(workers)
        self._detector = FaceDetector()
        self._pending: deque[tuple[Sampled, Future[_Seen]]] = deque()
        self._tracker = Tracker()
        self._shards = ShardWriter(folder)
        self._best: dict[int, _Thumbnail] = {}
        self._still: _Still | None = None
        self.frames: list[Frame] = []
        self.tracks: list[Track] = []
        self.stills: dict[int, str] = {}
        self.still_frames: dict[int, int] = {}

    @property
    def cuts(self) -> tuple[float, ...]:
        """Times at which the whole picture changed at once."""
        return tuple(self._tracker.cuts)

    @property
    def shards(self) -> list[CropShard]:
        """What was written; complete after `finish`."""
        return self._shards.shards

    def offer(self, sampled: Sampled, rotation: int) -> None:
        """Take a frame; waits while too many are in flight."""
        self._pending.append((sampled, self._pool.submit(self._see, sampled, rotation)))
        while len(self._pending) > self._room:
            self._settle_first()

    def finish(self) -> None:
        """Work off what is in flight and complete every file."""
        while self._pending:
            self._settle_first()
        self._pool.shutdown()
        self._tracker.end_all()
        self._close_tracks()
        self._close_still()
        self._shards.close()
        self.tracks.sort(key=lambda track: track.id)

    def _see(self, sampled: Sampled, rotation: int) -> _Seen:
        """In a thread: convert and detect. Keeps only the largest faces, as many as a frame may have."""
        picture = upright(sampled.frame, rotation)
        small, factor = small_bgr(picture)
        return _Seen(picture, small, self._detector.detect(small, factor)[: self._share])

    def _settle_first(self) -> None:
        """Track, crop and write the oldest frame in flight."""
        sampled, future = self._pending.popleft()
        seen = future.result()
        self._offer_still(sampled, seen.small)
        self._tracker.see(seen.small, sampled.time)
        size = (seen.picture.shape[1], seen.picture.shape[0])
        crops = [align(seen.picture, face) for face in seen.faces]
        tracks = self._tracker.assign(sampled.time, seen.faces, [looks_of(crop) for crop in crops])
        faces = tuple(
            self._face(sampled, face, crop, track, size)
            for face, crop, track in zip(seen.faces, crops, tracks, strict=True)
        )
        self.frames.append(
            Frame(
                n=len(self.frames),
                interval=sampled.due.interval,
                time=sampled.time,
                faces=faces,
                damaged=sampled.corrupt,
            )
        )
        if self._mouths is not None:
            self._mouths.settle(sampled.time, faces)
        self._close_tracks()

    def _face(
        self, sampled: Sampled, found: Detection, crop: Picture, track: FaceTrack, size: tuple[int, int]
    ) -> Face:
        """One face's record; its crop goes to a shard when it is worth a score."""
        sharp, bright = sharpness(crop), brightness(crop)
        reason = unscorable(found, size, crop, corrupt=sampled.corrupt)
        shard = row = None
        if reason is None:
            interval = sampled.due.interval
            shard, row = self._shards.add(
                crop, interval=interval, expected=self._dues[interval] * self._share
            )
        rank = (reason is None, sharp)
        best = self._best.get(track.id)
        if best is None or rank > best.rank:
            self._best[track.id] = _Thumbnail(rank, crop)
        return Face(
            track=track.id,
            box=found.box,
            confidence=found.confidence,
            landmarks=found.landmarks,
            sharpness=sharp,
            brightness=bright,
            shard=shard,
            row=row,
            reason=reason,
        )

    def _close_tracks(self) -> None:
        """Write the thumbnails of tracks that ended and let their crops go."""
        for track in self._tracker.ended:
            name = f"track-{track.id}.jpg"
            crop = self._best.pop(track.id).crop
            cv2.imwrite(str(self._folder / name), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), _JPEG)
            self.tracks.append(
                Track(id=track.id, start=track.start, end=track.end, frames=track.frames, thumbnail=name)
            )
        self._tracker.ended.clear()

    def _offer_still(self, sampled: Sampled, small: Picture) -> None:
        """Keep the frame nearest to the middle of its interval as the interval's picture."""
        span = self._spans[sampled.due.interval]
        distance = abs(sampled.time - (span.start + span.end) / 2)
        if self._still is not None and self._still.interval != span.index:
            self._close_still()
        if self._still is None or distance < self._still.distance:
            self._still = _Still(span.index, distance, small, len(self.frames))

    def _close_still(self) -> None:
        """Write the picture of the interval that has ended."""
        if self._still is None:
            return
        still, self._still = self._still, None
        name = f"frame-{still.interval}.jpg"
        cv2.imwrite(str(self._folder / name), still.picture, _JPEG)
        self.stills[still.interval] = name
        self.still_frames[still.interval] = still.frame
