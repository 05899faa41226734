"""What the picture says: one score an interval, and which parts of the face moved it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.domain import Region
from core.evidence import CropShard, FaceScore, Frame, Manifest, RegionEffect, VideoFinding
from workers.detectors import regions
from workers.detectors.base import Crops, FrameDetector, Scores

#: An interval is explained from here on: below it the detector says real, and there is nothing to place.
SUSPICIOUS: Final = 0.5
#: Frames an interval is explained by: the fewest that can disagree.
FRAMES_EXPLAINED: Final = 2
#: Intervals explained a shard, the highest scores first. Ten variants of two frames for six intervals are
#: 120 crops: explaining costs at most half of what the 256 crops of a full shard cost.
INTERVALS_EXPLAINED: Final = 6
#: Smallest drop worth a word; bf16 alone moves a probability by 0.005.
MIN_DROP: Final = 0.05
#: A region must move the score this many times as far as hiding the background does.
OVER_CONTROL: Final = 2.0


@dataclass(frozen=True)
class Seen:
    """One scorable face: where it is in the video, and its row in the shard."""

    frame: Frame
    track: int
    box: tuple[float, float, float, float]
    row: int


def look(
    manifest: Manifest,
    shard: CropShard,
    crops: Crops,
    detector: FrameDetector,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[VideoFinding, ...]:
    """One finding for each interval of the shard, in its order.

    An interval's score is the strongest track's mean over its frames there; an interval without a scorable
    face has a reason instead. `checkpoint` is called before every batch and may raise to stop.
    Raises DetectorFailed, and ValueError when the crops are not those of the shard.
    """
    if len(crops) != shard.rows:
        raise ValueError(f"shard {shard.shard} has {shard.rows} rows, the array {len(crops)}")
    seen = _seen(manifest, shard)
    scores = detector.scores(crops, checkpoint=checkpoint)
    frames = _by_interval(manifest)
    findings = [
        _finding(index, seen[index], scores, detector.identity.id)
        if seen[index]
        else VideoFinding(index=index, score=None, reason=manifest.unseen(frames[index]))
        for index in shard.intervals
    ]
    effects = _explain(findings, seen, crops, scores, detector, checkpoint)
    return tuple(
        finding.model_copy(update={"regions": effects[finding.index]})
        if finding.index in effects
        else finding
        for finding in findings
    )


def effect(region: Region, drops: Sequence[float], control: float) -> RegionEffect | None:
    """The mean drop over the frames, where it is clearly more than noise, else None.

    Clear is: at least MIN_DROP, every frame on the same side (for two frames: mean above spread), and
    OVER_CONTROL times what hiding the background of the same frames did.
    """
    drop, spread = float(np.mean(drops)), float(np.std(drops))
    if drop < max(MIN_DROP, OVER_CONTROL * abs(control)) or drop <= spread:
        return None
    return RegionEffect(region=region, drop=round(drop, 6), spread=round(spread, 6))


def _by_interval(manifest: Manifest) -> dict[int, list[Frame]]:
    frames: dict[int, list[Frame]] = defaultdict(list)
    for frame in manifest.frames:
        frames[frame.interval].append(frame)
    return frames


def _seen(manifest: Manifest, shard: CropShard) -> dict[int, list[Seen]]:
    """The scorable faces of each interval whose crops are in this shard."""
    found: dict[int, list[Seen]] = defaultdict(list)
    for frame in manifest.frames:
        for face in frame.faces:
            if face.shard == shard.shard and face.row is not None:
                if not 0 <= face.row < shard.rows:
                    raise ValueError(f"row {face.row} is not in shard {shard.shard}")
                found[frame.interval].append(Seen(frame, face.track, face.box, face.row))
    return found


def _finding(index: int, seen: Sequence[Seen], scores: Scores, detector: str) -> VideoFinding:
    tracks: dict[int, list[float]] = defaultdict(list)
    for one in seen:
        tracks[one.track].append(float(scores[one.row]))
    track = max(tracks, key=lambda each: float(np.mean(tracks[each])))
    score = round(float(np.mean(tracks[track])), 6)
    faces = tuple(
        FaceScore(
            frame=one.frame.n,
            time=one.frame.time,
            track=one.track,
            box=one.box,
            score=round(float(scores[one.row]), 6),
        )
        for one in seen
    )
    return VideoFinding(
        index=index, score=score, reason=None, track=track, faces=faces, detectors={detector: score}
    )


def _explain(
    findings: Sequence[VideoFinding],
    seen: dict[int, list[Seen]],
    crops: Crops,
    scores: Scores,
    detector: FrameDetector,
    checkpoint: Callable[[], None] | None,
) -> dict[int, tuple[RegionEffect, ...]]:
    """Effects of the suspicious intervals by index; one call to the detector for all of them."""
    suspicious = [one for one in findings if one.score is not None and one.score >= SUSPICIOUS]
    strongest = sorted(suspicious, key=lambda one: -(one.score or 0))[:INTERVALS_EXPLAINED]
    rows = {one.index: _telling(seen[one.index], one.track, scores) for one in strongest}
    variants = {row: _variants(crops[row]) for chosen in rows.values() for row in chosen}
    if not variants:
        return {}
    pictures = np.stack([picture for hidden in variants.values() for _, picture in hidden])
    answers = iter(detector.scores(pictures, checkpoint=checkpoint).tolist())
    drops = {row: _drops(float(scores[row]), hidden, answers) for row, hidden in variants.items()}
    return {index: _effects([drops[row] for row in chosen]) for index, chosen in rows.items()}


def _telling(seen: Sequence[Seen], track: int | None, scores: Scores) -> list[int]:
    """Rows of the frames with the most to explain; their luck is in the control as well."""
    rows = sorted((one.row for one in seen if one.track == track), key=lambda row: -float(scores[row]))
    return rows[:FRAMES_EXPLAINED]


def _variants(crop: Crops) -> list[tuple[Region | None, Crops]]:
    """The crop with each region hidden; None marks the control."""
    hidden = [(region, one) for region, ways in regions.occlusions(crop).items() for one in ways]
    return [*hidden, (None, regions.control(crop))]


def _drops(
    score: float, hidden: Sequence[tuple[Region | None, Crops]], answers: Iterator[float]
) -> dict[Region | None, float]:
    """How far the score of one frame fell, by region; the mean where a region was hidden in two ways."""
    fallen: dict[Region | None, list[float]] = defaultdict(list)
    for region, _ in hidden:
        fallen[region].append(score - next(answers))
    return {region: float(np.mean(values)) for region, values in fallen.items()}


def _effects(frames: Sequence[dict[Region | None, float]]) -> tuple[RegionEffect, ...]:
    control = float(np.mean([drops[None] for drops in frames]))
    found = [effect(region, [drops[region] for drops in frames], control) for region in Region]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: -one.drop))
