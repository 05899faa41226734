"""Which faces of a shard may be scored, interval by interval, and why an interval has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.domain import Reason
from core.evidence import CropShard, FaceScore, Frame, Manifest, TrackScore
from workers.detectors.base import Scores

#: Sampled frames of an interval from which on a face that only one of them shows, and no other interval,
#: is too short to score: detectors of faces flicker, and the strongest of many single looks is luck.
ENOUGH_TO_TELL: Final = 3


@dataclass(frozen=True)
class Seen:
    """One scorable face: where it is in the video, and its row in the shard."""

    frame: Frame
    track: int
    box: tuple[float, float, float, float]
    row: int

    def scored(self, score: float) -> FaceScore:
        """What a detector answered on it."""
        return FaceScore(
            frame=self.frame.n, time=self.frame.time, track=self.track, box=self.box, score=round(score, 6)
        )


@dataclass(frozen=True)
class Sight:
    """One interval: the faces to score, or the reason why there is none."""

    index: int
    seen: tuple[Seen, ...]
    reason: Reason | None  #: null where there are faces


@dataclass(frozen=True)
class Suspect:
    """The face that speaks most for fake in an interval that does."""

    interval: int
    row: int
    face: FaceScore


def sights(manifest: Manifest, shard: CropShard) -> tuple[Sight, ...]:
    """The intervals of the shard, in its order. Raises ValueError when a face names a row it has not."""
    frames: dict[int, list[Frame]] = defaultdict(list)
    for frame in manifest.frames:
        frames[frame.interval].append(frame)
    lengths = {track.id: track.frames for track in manifest.tracks}
    return tuple(_sight(manifest, shard, index, frames[index], lengths) for index in shard.intervals)


def by_track(seen: Sequence[Seen], scores: Scores) -> tuple[TrackScore, ...]:
    """Each face's mean over its frames, the strongest first; `scores` is by row of the shard."""
    tracks: dict[int, list[float]] = defaultdict(list)
    for one in seen:
        tracks[one.track].append(float(scores[one.row]))
    found = [
        TrackScore(track=track, score=round(float(np.mean(each)), 6), frames=len(each))
        for track, each in tracks.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.score, one.track)))


def suspect(sight: Sight, track: int | None, scores: Scores) -> Suspect:
    """The strongest face of a track in an interval that shows it."""
    rows = [one for one in sight.seen if one.track == track]
    face = max(rows, key=lambda one: float(scores[one.row]))
    return Suspect(sight.index, face.row, face.scored(float(scores[face.row])))


def _sight(
    manifest: Manifest, shard: CropShard, index: int, frames: Sequence[Frame], lengths: Mapping[int, int]
) -> Sight:
    found = [one for frame in frames for one in _scorable(frame, shard)]
    flickers = len(frames) >= ENOUGH_TO_TELL
    lasting = tuple(one for one in found if not (flickers and lengths.get(one.track) == 1))
    if lasting:
        return Sight(index, lasting, None)
    return Sight(index, (), _why(frames) if found else manifest.unseen(frames))


def _scorable(frame: Frame, shard: CropShard) -> list[Seen]:
    found = []
    for face in frame.faces:
        if face.shard == shard.shard and face.row is not None:
            if not 0 <= face.row < shard.rows:
                raise ValueError(f"row {face.row} is not in shard {shard.shard}")
            found.append(Seen(frame, face.track, face.box, face.row))
    return found


def _why(frames: Sequence[Frame]) -> Reason:
    """The commonest reason, where what could be scored was too short.

    A face in at least half of the frames that is another one each time is no flicker: it is there and cannot
    be followed. A gap, then, so that quick cuts take no picture out of the way of REAL.
    """
    reasons = [face.reason or Reason.TOO_SHORT for frame in frames for face in frame.faces]
    found = max(sorted(set(reasons)), key=reasons.count)
    fleeting = sum(any(face.reason is None for face in frame.faces) for frame in frames)
    return Reason.OUT_OF_DOMAIN if found is Reason.TOO_SHORT and 2 * fleeting >= len(frames) else found
