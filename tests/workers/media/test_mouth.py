from __future__ import annotations

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from core.domain import Reason
from core.evidence import Face
from tests.workers.media.conftest import Extracted, shared
from workers.media import mouth
from workers.media.mouth import MouthTracer, Points, lips_of, mouth_patch, parting
from workers.media.picture import Picture

LANDMARKS = ((100.0, 80.0), (160.0, 80.0), (130.0, 110.0), (110.0, 140.0), (150.0, 140.0))


def drawn(opened: float, *, size: tuple[int, int] = (320, 240)) -> Picture:
    """A grey face whose lower lip hangs `opened` pixels below the upper one."""
    picture = np.full((size[1], size[0]), 170, np.uint8)
    centre, half = (130, 140), round(opened / 2)
    cv2.ellipse(picture, centre, (24, 5 + half), 0, 0, 360, 90, -1)
    cv2.ellipse(picture, centre, (20, max(half, 1)), 0, 0, 360, 20, -1)
    return picture


def frame_of(grey: Picture) -> VideoFrame:
    return VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")


def face(track: int = 0, reason: Reason | None = None, shift: float = 0) -> Face:
    moved = tuple((x + shift, y) for x, y in LANDMARKS)
    return Face(
        track=track, box=(80, 50, 100, 120), confidence=0.9, landmarks=moved, sharpness=50, brightness=150,
        reason=reason,
    )  # fmt: skip


def points() -> Points:
    return np.array(LANDMARKS)


def fed(tracer: MouthTracer, frames: int = 11, *, start: float = 0.0, step: float = 0.04) -> None:
    """Frames in which the mouth opens, by two pixels each at first."""
    for n in range(frames):
        tracer.offer(start + n * step, frame_of(drawn(2 * min(n, 10))), 0)


def test_a_mouth_that_opens_parts_its_lips() -> None:
    patches = [mouth_patch(drawn(opened), points()) for opened in (4, 6, 6, 4)]
    seen = [lips_of(patch) for patch in patches if patch is not None]

    assert parting(seen[0], seen[1]) > 0.3
    assert parting(seen[1], seen[2]) == 0
    assert parting(seen[2], seen[3]) < -0.3


def test_light_and_the_turn_of_the_head_change_little() -> None:
    grey = drawn(6)
    turned = cv2.getRotationMatrix2D((160, 120), 20, 1.0)
    tilted = np.asarray(cv2.warpAffine(grey, turned, (320, 240), borderValue=170), np.uint8)
    ways = [
        mouth_patch(grey, points()),
        mouth_patch(grey // 2, points()),
        mouth_patch(tilted, points() @ turned[:, :2].T + turned[:, 2]),
    ]
    straight, dark, tilt = (lips_of(way) for way in ways if way is not None)
    assert np.abs(dark - straight).mean() < 2
    assert np.abs(tilt - straight).mean() < 2


@pytest.mark.parametrize(
    "landmarks",
    [
        points() * np.nan,
        points() * np.inf,
        points() + 5000,
        points() - 5000,
        points() * 0,
        points() * 1e9,
        points() / 10,
        np.tile([130.0, 140.0], (5, 1)),
    ],
    ids=["nan", "inf", "right", "left", "zero", "huge", "tiny", "one point"],
)
def test_a_mouth_that_cannot_be_is_not_measured(landmarks: Points) -> None:
    assert mouth_patch(drawn(4), landmarks) is None


def test_frames_between_two_samples_are_traced() -> None:
    tracer = MouthTracer()
    fed(tracer)
    tracer.settle(0.0, [face()])
    assert tracer.openings == {}
    tracer.settle(0.4, [face()])

    (trace,) = tracer.openings.values()

    assert [one.time for one in trace] == pytest.approx(np.arange(0, 0.4, 0.04))
    assert np.diff([one.parting for one in trace])[2:].min() > 0.1
    assert not tracer._waiting or tracer._waiting[0].time >= 0.4


def test_the_landmarks_are_followed_in_between() -> None:
    tracer = MouthTracer()
    for n in range(11):
        moved = np.array([[1.0, 0, 3 * n], [0, 1, 0]])
        tracer.offer(n * 0.04, frame_of(np.asarray(cv2.warpAffine(drawn(6), moved, (320, 240)), np.uint8)), 0)
    tracer.settle(0.0, [face()])
    tracer.settle(0.4, [face(shift=30)])

    contrast = [one.contrast for one in tracer.openings[0]]

    assert np.ptp(contrast) < 0.05 * np.mean(contrast)


def test_what_is_not_to_be_followed_is_not() -> None:
    for before, after in (
        ([], [face()]),
        ([face()], []),
        ([face(0)], [face(1)]),
        ([face(reason=Reason.OCCLUDED)], [face()]),
        ([face()], [face(reason=Reason.BLURRED)]),
    ):
        tracer = MouthTracer()
        fed(tracer)
        tracer.settle(0.0, before)
        tracer.settle(0.4, after)
        assert tracer.openings == {}


def test_samples_too_far_apart_are_not_joined() -> None:
    tracer = MouthTracer()
    fed(tracer, 40, step=0.05)
    tracer.settle(0.0, [face()])
    tracer.settle(1.5, [face()])
    assert tracer.openings == {}
    tracer.settle(1.9, [face()])
    assert tracer.openings


def test_it_shuts_where_nobody_is_and_opens_again() -> None:
    tracer = MouthTracer()
    assert tracer.open
    tracer.settle(0.0, [])
    assert not tracer.open
    fed(tracer)
    assert not tracer._waiting
    tracer.settle(0.4, [face()])
    assert tracer.open


def test_seconds_and_faces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mouth, "TRACK_SECONDS", 1.0)
    tracer = MouthTracer()
    for n in range(8):
        fed(tracer, 10, start=n * 0.4)
        tracer.settle(n * 0.4, [face(track) for track in range(6)])
    assert set(tracer.openings) == set(range(6))  # the first three have had their share
    assert all(one.time < 1.25 for one in tracer.openings[0])
    monkeypatch.setattr(mouth, "FILE_SECONDS", 1.0)
    tracer.settle(3.2, [face(9)])
    assert not tracer.open


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mouth, "WAITING_BYTES", 5 * 320 * 240)
    tracer = MouthTracer()
    fed(tracer, 100)
    assert len(tracer._waiting) <= 6


@pytest.mark.parametrize("time", [None, float("nan"), float("inf"), -1.0, 0.01])
def test_a_frame_without_a_place_in_time_is_passed_over(time: float | None) -> None:
    tracer = MouthTracer()
    tracer.offer(0.0, frame_of(drawn(2)), 0)
    tracer.offer(time, frame_of(drawn(2)), 0)
    assert len(tracer._waiting) == 1


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p10le", "rgb24", "gray", "yuvj420p", "nv12"])
def test_every_kind_of_picture_gives_its_luma(form: str) -> None:
    ramp = np.tile(np.linspace(30, 220, 1280, dtype=np.uint8), (90, 1))
    tracer = MouthTracer()

    tracer.offer(0.0, frame_of(ramp).reformat(format=form), 90)

    (waiting,) = tracer._waiting
    assert waiting.grey.shape == (640, 45)
    assert waiting.scale == 0.5
    assert np.corrcoef(waiting.grey[:, 20], np.arange(640))[0, 1] > 0.99


def test_a_real_talker_matches_and_the_same_face_with_another_voice_does_not(extracted: Extracted) -> None:
    own, _ = extracted(shared("real_talking_person_grid_lbax4n.mp4"))
    foreign, _ = extracted(shared("real_face_synthetic_speech_espeak.mp4"))
    assert own.tracks[0].lips is not None
    assert own.tracks[0].lips.correlation > 0.6
    assert abs(own.tracks[0].lips.lag_seconds) < 0.1
    assert foreign.tracks[0].lips is not None
    assert foreign.tracks[0].lips.correlation < 0.3
