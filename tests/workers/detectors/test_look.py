"""One score an interval, and occlusion that finds the region a detector is known to react to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Reason, Region, timeline
from core.evidence import CROP_SIDE, CropShard, Face, Frame, Manifest, MediaFacts, VideoFacts
from tests.workers.detectors.stand_ins import Lopsided, StandIn, Weighing
from workers.detectors import look as looking
from workers.detectors import regions
from workers.detectors.look import effect, look

SKIN = (180, 140, 120)
Crops = np.ndarray[Any, np.dtype[np.uint8]]


def face(row: int | None, track: int = 0, shard: int = 0, reason: Reason | None = None) -> Face:
    return Face(
        track=track,
        box=(10 + track, 10, 50, 50),
        confidence=0.9,
        landmarks=((1, 1),) * 5,
        sharpness=50,
        brightness=120,
        shard=None if row is None else shard,
        row=row,
        reason=reason,
    )


def manifest(intervals: Sequence[Sequence[Sequence[Face]]], *, cut_short: bool = False) -> Manifest:
    """Intervals of frames of faces, half a second a frame."""
    frames = [
        (index, place, faces) for index, frames in enumerate(intervals) for place, faces in enumerate(frames)
    ]
    video = VideoFacts(
        codec="h264",
        width=640,
        height=360,
        rotation=0,
        pixel_format="yuv420p",
        fps=25,
        frames=100,
        variable_frame_rate=False,
    )
    duration = 2.0 * len(intervals)
    return Manifest(
        facts=MediaFacts(
            container="mp4",
            duration=duration,
            declared_duration=duration,
            size_bytes=1,
            video=video,
            audio=None,
            cut_short=cut_short,
        ),
        interval_seconds=2,
        frames_per_interval=5,
        spans=timeline(duration, 2),
        frames=tuple(
            Frame(n=n, interval=index, time=2 * index + place / 2, faces=tuple(faces))
            for n, (index, place, faces) in enumerate(frames)
        ),
    )


def shard(rows: int, *intervals: int, number: int = 0) -> CropShard:
    return CropShard(shard=number, file=f"crops-{number}.npy", rows=rows, intervals=intervals)


def grey(*levels: int) -> Crops:
    """Crops of one brightness each; the score of a StandIn is the level through 255."""
    return np.stack([np.full((CROP_SIDE, CROP_SIDE, 3), level, np.uint8) for level in levels])


def one_track(rows: int) -> list[list[Face]]:
    return [[face(row)] for row in range(rows)]


def skin(count: int = 1) -> Crops:
    return np.broadcast_to(np.array(SKIN, np.uint8), (count, CROP_SIDE, CROP_SIDE, 3)).copy()


def painted(region: Region, count: int = 1) -> Crops:
    """Skin whose region is red."""
    picture = skin(count)
    picture[:, regions.mask(region, CROP_SIDE, CROP_SIDE) > 0.5] = (255, 0, 0)
    return picture


def test_an_interval_scores_the_mean_of_its_track(tmp_path: Path) -> None:
    video = manifest([[[face(0)], [face(1)], [face(2)]], [[face(3)]]])
    first, second = look(video, shard(4, 0, 1), grey(20, 40, 90, 100), StandIn.make(tmp_path / "x"))
    assert (first.index, second.index) == (0, 1)
    assert first.score == pytest.approx(50 / 255, abs=1e-5)
    assert second.score == pytest.approx(100 / 255, abs=1e-5)
    assert first.reason is None
    assert first.track == 0
    assert first.detectors == {"test/stand-in": first.score}


def test_the_strongest_track_gives_the_score_and_every_face_is_kept(tmp_path: Path) -> None:
    video = manifest([[[face(0, 0), face(1, 1)], [face(2, 0), face(3, 1)]]])
    (finding,) = look(video, shard(4, 0), grey(100, 120, 110, 60), StandIn.make(tmp_path / "x"))
    assert finding.track == 0  # mean 105 against 90, though the highest single face is the other's
    assert finding.score == pytest.approx(105 / 255, abs=1e-5)
    assert [(one.frame, one.track) for one in finding.faces] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [round(one.score * 255) for one in finding.faces] == [100, 120, 110, 60]
    assert finding.faces[3].box == (11, 10, 50, 50)
    assert finding.faces[3].time == 0.5


def test_faces_of_another_shard_are_not_looked_at(tmp_path: Path) -> None:
    video = manifest([[[face(0, shard=0)]], [[face(0, shard=1)]]])
    (finding,) = look(video, shard(1, 1, number=1), grey(77), StandIn.make(tmp_path / "x"))
    assert (finding.index, finding.faces[0].frame) == (1, 1)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([[], []], Reason.NO_FACE),
        ([[face(None, reason=Reason.BLURRED)], []], Reason.BLURRED),
        (
            [
                [face(None, reason=Reason.FACE_TOO_SMALL), face(None, 1, reason=Reason.BLURRED)],
                [face(None, 1, reason=Reason.BLURRED)],
            ],
            Reason.BLURRED,
        ),
        ([], Reason.NO_NEW_FRAME),
    ],
)
def test_an_interval_without_a_scorable_face_has_a_reason_and_no_score(
    tmp_path: Path, frames: list[list[Face]], reason: Reason
) -> None:
    video = manifest([[[face(0)]], frames])
    _, empty = look(video, shard(1, 0, 1), grey(80), StandIn.make(tmp_path / "x"))
    assert (empty.score, empty.reason, empty.track) == (None, reason, None)
    assert (empty.faces, empty.detectors, empty.regions) == ((), {}, ())


def test_frames_that_are_missing_because_the_file_ends_are_named_so(tmp_path: Path) -> None:
    video = manifest([[[face(0)]], []], cut_short=True)
    assert look(video, shard(1, 0, 1), grey(80), StandIn.make(tmp_path / "x"))[1].reason is Reason.CUT_SHORT


@pytest.mark.parametrize("rows", [0, 2])
def test_crops_that_are_not_those_of_the_shard_are_refused(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        look(manifest([one_track(1)]), shard(1, 0), skin(rows), StandIn.make(tmp_path / "x"))


@pytest.mark.parametrize("row", [-1, 1, 10**9])
def test_a_row_that_is_not_in_the_shard_is_refused(tmp_path: Path, row: int) -> None:
    with pytest.raises(ValueError, match="not in shard"):
        look(manifest([[[face(row)]]]), shard(1, 0), skin(1), StandIn.make(tmp_path / "x"))


@pytest.mark.parametrize("region", [one for one in Region if one is not Region.UNNATURAL_SYMMETRY])
def test_occlusion_finds_the_region_a_detector_reacts_to(tmp_path: Path, region: Region) -> None:
    area = regions.mask(region, CROP_SIDE, CROP_SIDE) > 0.5
    detector = Weighing.make(tmp_path / "x")
    (finding,) = look(manifest([one_track(3)]), shard(3, 0), painted(region, 3), detector.watch(area))
    assert finding.score is not None
    assert finding.score > 0.9
    assert finding.regions[0].region is region
    assert finding.regions[0].drop > 0.4
    assert finding.regions[0].spread == 0
    others = [one.drop for one in finding.regions[1:] if one.region is not Region.UNNATURAL_SYMMETRY]
    assert all(drop < 0.5 * finding.regions[0].drop for drop in others)


def test_a_difference_between_the_halves_is_named_as_that(tmp_path: Path) -> None:
    crop = skin(2)
    crop[:, :, : CROP_SIDE // 2] -= 50
    (finding,) = look(manifest([one_track(2)]), shard(2, 0), crop, Lopsided.make(tmp_path / "x"))
    assert finding.regions[0].region is Region.UNNATURAL_SYMMETRY
    assert finding.regions[0].drop > 0.7


def test_a_detector_that_looks_at_the_background_gives_no_region(tmp_path: Path) -> None:
    background = regions.outside(CROP_SIDE, CROP_SIDE) > 0.5
    crop = skin(2)
    crop[:, background] = (255, 0, 0)
    detector = Weighing.make(tmp_path / "x")
    (finding,) = look(manifest([one_track(2)]), shard(2, 0), crop, detector.watch(background))
    assert finding.score is not None
    assert finding.score > 0.9
    assert finding.regions == ()


def test_an_interval_that_is_not_suspicious_is_not_explained(tmp_path: Path) -> None:
    detector = StandIn.make(tmp_path / "x", batch_size=64)
    look(manifest([one_track(5)]), shard(5, 0), grey(10, 20, 127, 120, 100), detector)
    assert detector.batches == [5]


def test_the_cost_of_explaining_is_bounded_and_goes_to_the_strongest(tmp_path: Path) -> None:
    count = 3 * looking.INTERVALS_EXPLAINED
    video = manifest([[[face(2 * n)], [face(2 * n + 1)]] for n in range(count)])
    crops = np.concatenate([painted(Region.MOUTH, 2) for _ in range(count)])
    rng = np.random.default_rng(0)
    weak = rng.permutation(count)[: count - looking.INTERVALS_EXPLAINED]
    for n in weak:
        crops[2 * n : 2 * n + 2, :140] = np.minimum(crops[2 * n : 2 * n + 2, :140], 100)
        crops[2 * n : 2 * n + 2, :, :108] = SKIN
    detector = Weighing.make(tmp_path / "x", batch_size=1000)
    watched = detector.watch(regions.mask(Region.MOUTH, CROP_SIDE, CROP_SIDE) > 0.5)
    findings = look(video, shard(2 * count, *range(count)), crops, watched)
    explained = {finding.index for finding in findings if finding.regions}
    assert explained == set(range(count)) - set(weak.tolist())
    variants = 10
    assert detector.batches == [
        2 * count,
        looking.INTERVALS_EXPLAINED * looking.FRAMES_EXPLAINED * variants,
    ]


def test_the_checkpoint_is_called_before_every_batch_of_both_passes(tmp_path: Path) -> None:
    calls: list[int] = []
    detector = StandIn.make(tmp_path / "x", batch_size=2)
    look(
        manifest([one_track(4)]),
        shard(4, 0),
        grey(200, 201, 202, 203),
        detector,
        checkpoint=lambda: calls.append(len(detector.batches)),
    )
    assert calls == list(range(len(detector.batches)))
    assert len(calls) == 2 + 10


def test_what_the_checkpoint_raises_ends_the_look(tmp_path: Path) -> None:
    class Canceled(Exception):
        pass

    def cancel() -> None:
        raise Canceled

    detector = StandIn.make(tmp_path / "x")
    with pytest.raises(Canceled):
        look(manifest([one_track(1)]), shard(1, 0), skin(1), detector, checkpoint=cancel)
    assert detector.batches == []


@pytest.mark.parametrize(
    ("drops", "control", "kept"),
    [
        ([0.3, 0.2], 0.0, True),
        ([0.3, 0.2], 0.1, True),
        ([0.3, 0.2], 0.13, False),
        ([0.3, 0.2], -0.13, False),
        ([0.04, 0.05], 0.0, False),
        ([0.6, -0.1], 0.0, False),
        ([-0.3, -0.2], 0.0, False),
        ([0.2], 0.05, True),
    ],
)
def test_only_effects_clearly_above_noise_are_kept(drops: list[float], control: float, *, kept: bool) -> None:
    found = effect(Region.NOSE, drops, control)
    assert (found is not None) is kept
    if found:
        assert found.drop == pytest.approx(np.mean(drops))
        assert found.spread == pytest.approx(np.std(drops))


@given(
    drops=st.lists(st.floats(-1, 1), min_size=1, max_size=5),
    control=st.floats(-1, 1),
)
def test_an_effect_is_never_smaller_than_its_bounds(drops: list[float], control: float) -> None:
    found = effect(Region.CHIN, drops, control)
    if found is not None:
        assert found.drop >= looking.MIN_DROP - 1e-6
        assert found.drop >= looking.OVER_CONTROL * abs(control) - 1e-6
        assert found.drop > found.spread - 1e-6
