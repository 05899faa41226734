"""What the picture says: a score for each track and interval, and which parts of the face moved it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from core.domain import Reason, Region
from core.evidence import CropShard, Manifest, RegionEffect, VideoFinding
from workers.detectors import regions
from workers.detectors.base import Crops, FrameDetector, Scores
from workers.detectors.sight import Sight, Suspect, by_track, sights

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


def look(
    manifest: Manifest,
    shard: CropShard,
    crops: Crops,
    detector: FrameDetector | None,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[VideoFinding, ...]:
    """One finding for each interval of the shard, in its order.

    An interval's score is the strongest track's mean over its frames there; an interval without a face to
    score has a reason instead, and so have all where there is no detector (`no_detector_weights`).
    `checkpoint` is called before every batch and may raise to stop.
    Raises DetectorFailed, and ValueError when the crops are not those of the shard.
    """
    if len(crops) != shard.rows:
        raise ValueError(f"shard {shard.shard} has {shard.rows} rows, the array {len(crops)}")
    seen = {sight.index: sight for sight in sights(manifest, shard)}
    if detector is None:
        absent = Reason.NO_DETECTOR_WEIGHTS
        return tuple(_nothing(sight, sight.reason or absent) for sight in seen.values())
    scores = detector.scores(crops, checkpoint=checkpoint)
    findings = [
        _nothing(sight, sight.reason) if sight.reason else _finding(sight, scores, detector.identity.id)
        for sight in seen.values()
    ]
    effects = _explain(findings, seen, crops, scores, detector, checkpoint)
    return tuple(
        finding.model_copy(update={"regions": effects[finding.index]})
        if finding.index in effects
        else finding
        for finding in findings
    )


def suspects(findings: Sequence[VideoFinding], manifest: Manifest, shard: CropShard) -> list[Suspect]:
    """Of the intervals that are explained, the face that is shown: the strongest of the strongest track."""
    rows = {
        (sight.index, one.frame.n, one.track): one.row
        for sight in sights(manifest, shard)
        for one in sight.seen
    }
    found = []
    for finding in _strongest(findings):
        face = max((f for f in finding.faces if f.track == finding.track), key=lambda one: one.score)
        found.append(Suspect(finding.index, rows[finding.index, face.frame, face.track], face))
    return found


def effect(region: Region, drops: Sequence[float], control: float) -> RegionEffect | None:
    """The mean drop over the frames, where it is clearly more than noise, else None.

    Clear is: at least MIN_DROP, every frame on the same side (for two frames: mean above spread), and
    OVER_CONTROL times what hiding the background of the same frames did.
    """
    drop, spread = float(np.mean(drops)), float(np.std(drops))
    if drop < max(MIN_DROP, OVER_CONTROL * abs(control)) or drop <= spread:
        return None
    return RegionEffect(region=region, drop=round(drop, 6), spread=round(spread, 6))


def _nothing(sight: Sight, reason: Reason) -> VideoFinding:
    return VideoFinding(index=sight.index, score=None, reason=reason)


def _finding(sight: Sight, scores: Scores, detector: str) -> VideoFinding:
    tracks = by_track(sight.seen, scores)
    strongest = tracks[0]
    return VideoFinding(
        index=sight.index,
        score=strongest.score,
        reason=None,
        track=strongest.track,
        faces=tuple(one.scored(float(scores[one.row])) for one in sight.seen),
        tracks=tracks,
        detectors={detector: strongest.score},
    )


def _strongest(findings: Sequence[VideoFinding]) -> list[VideoFinding]:
    """The intervals that are explained, the most suspicious first."""
    suspicious = [one for one in findings if one.score is not None and one.score >= SUSPICIOUS]
    return sorted(suspicious, key=lambda one: -(one.score or 0))[:INTERVALS_EXPLAINED]


def _explain(
    findings: Sequence[VideoFinding],
    seen: Mapping[int, Sight],
    crops: Crops,
    scores: Scores,
    detector: FrameDetector,
    checkpoint: Callable[[], None] | None,
) -> dict[int, tuple[RegionEffect, ...]]:
    """Effects of the suspicious intervals by index; one call to the detector for all of them."""
    rows = {one.index: _telling(seen[one.index], one.track, scores) for one in _strongest(findings)}
    variants = {row: _variants(crops[row]) for chosen in rows.values() for row in chosen}
    if not variants:
        return {}
    pictures = np.stack([picture for hidden in variants.values() for _, picture in hidden])
    answers = iter(detector.scores(pictures, checkpoint=checkpoint).tolist())
    drops = {row: _drops(float(scores[row]), hidden, answers) for row, hidden in variants.items()}
    return {index: _effects([drops[row] for row in chosen]) for index, chosen in rows.items()}


def _telling(sight: Sight, track: int | None, scores: Scores) -> list[int]:
    """Rows of the frames with the most to explain; their luck is in the control as well."""
    rows = sorted((one.row for one in sight.seen if one.track == track), key=lambda row: -float(scores[row]))
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
