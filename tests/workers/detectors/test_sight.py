"""Which faces are scored: every track by itself, and a face that only flickered up is too short."""

from __future__ import annotations

import numpy as np
import pytest

from core.domain import Reason
from core.evidence import Face, Manifest, Track
from core.fusion.inputs import NOTHING_TO_SCORE
from tests.workers.detectors.test_look import face, manifest, shard
from workers.detectors.sight import by_track, sights


def tracked(video: Manifest, **frames: int) -> Manifest:
    """With tracks `t0`, `t1`, … of so many frames over the whole video."""
    tracks = tuple(
        Track(id=int(name[1:]), start=0, end=1, frames=count, thumbnail=None)
        for name, count in frames.items()
    )
    return video.model_copy(update={"tracks": tracks})


def frames(*faces: list[Face]) -> list[list[Face]]:
    return list(faces)


def test_a_face_seen_once_among_many_frames_is_too_short() -> None:
    video = tracked(manifest([frames([face(0)], [], [], [], [])]), t0=1)
    (found,) = sights(video, shard(1, 0))
    assert (found.seen, found.reason) == ((), Reason.TOO_SHORT)


def test_another_face_in_every_frame_is_a_gap_and_no_absence() -> None:
    """Quick cuts must not take the picture out of the way of REAL."""
    video = tracked(manifest([frames(*([face(n, n)] for n in range(5)))]), t0=1, t1=1, t2=1, t3=1, t4=1)
    (found,) = sights(video, shard(5, 0))
    assert (found.seen, found.reason) == ((), Reason.OUT_OF_DOMAIN)
    assert found.reason not in NOTHING_TO_SCORE


def test_it_is_left_out_beside_one_that_lasts() -> None:
    video = tracked(manifest([frames([face(0), face(1, 1)], [face(2)], [face(3)], [], [])]), t0=3, t1=1)
    (found,) = sights(video, shard(4, 0))
    assert [(one.track, one.row) for one in found.seen] == [(0, 0), (0, 2), (0, 3)]
    assert found.reason is None


def test_a_face_that_other_intervals_show_too_is_scored_on_one_frame() -> None:
    video = tracked(manifest([frames([face(0)], [face(1)], [face(2)]), frames([face(3)], [], [])]), t0=4)
    assert [len(one.seen) for one in sights(video, shard(4, 0, 1))] == [3, 1]


@pytest.mark.parametrize("sampled", [1, 2])
def test_where_there_is_hardly_more_than_one_frame_one_is_enough(sampled: int) -> None:
    """A photograph, or the last instant of a clip."""
    video = tracked(manifest([[[face(0)], *([] for _ in range(sampled - 1))]]), t0=1)
    (found,) = sights(video, shard(1, 0))
    assert len(found.seen) == 1


def test_the_commonest_reason_is_said() -> None:
    blurred = face(None, 1, reason=Reason.BLURRED)
    once = tracked(manifest([frames([face(0), blurred], [], [], [])]), t0=1, t1=1)
    often = tracked(manifest([frames([face(0), blurred], [blurred], [blurred], [])]), t0=1, t1=3)
    assert [one.reason for one in sights(often, shard(1, 0))] == [Reason.BLURRED]
    assert [one.reason for one in sights(once, shard(1, 0))] == [Reason.BLURRED]  # the first by name


def test_a_manifest_without_tracks_takes_every_face() -> None:
    (found,) = sights(manifest([frames([face(0)], [], [], [])]), shard(1, 0))
    assert len(found.seen) == 1


def test_tracks_are_scored_apart_and_the_strongest_comes_first() -> None:
    video = manifest([frames([face(0, 4), face(1, 9)], [face(2, 4)], [face(3, 4), face(4, 9)])])
    (found,) = sights(video, shard(5, 0))
    scores = np.array([0.2, 0.5, 0.3, 0.4, 0.6], np.float32)
    strongest, other = by_track(found.seen, scores)
    assert (strongest.track, strongest.frames) == (9, 2)
    assert strongest.score == pytest.approx(0.55, abs=1e-6)
    assert (other.track, other.frames) == (4, 3)
    assert other.score == pytest.approx(0.3, abs=1e-6)


def test_of_two_equal_ones_the_first_is_named() -> None:
    (found,) = sights(manifest([frames([face(0, 7), face(1, 3)])]), shard(2, 0))
    assert [one.track for one in by_track(found.seen, np.array([0.5, 0.5], np.float32))] == [3, 7]
