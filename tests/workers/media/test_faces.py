from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import cv2
import numpy as np
import pytest
import yuface
from numpy.typing import NDArray

from core.domain import Reason
from core.evidence import CROP_SIDE
from tests.workers.media.conftest import SAMPLE
from workers.media import crops
from workers.media.crops import EYE_CENTRE, EYE_DISTANCE, align, brightness, sharpness, unscorable
from workers.media.faces import Detection, FaceDetector, small_bgr


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    """The first frame of the sample: one face, 640 x 360 RGB."""
    with av.open(str(SAMPLE)) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def face(portrait: NDArray[np.uint8], detector: FaceDetector) -> Detection:
    (found,) = detector.detect(*small_bgr(portrait))
    return found


def moved(face: Detection, **changes: Any) -> Detection:
    """The same detection with other figures."""
    return Detection(**{**vars(face), **changes})


def test_the_library_says_what_its_own_wrapper_says(portrait: NDArray[np.uint8], face: Detection) -> None:
    confidences, boxes, landmarks = yuface.detect(cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR), 0.5)

    assert len(confidences) == 1
    assert face.box == tuple(map(float, boxes[0]))
    assert face.confidence == pytest.approx(confidences[0] / 100)
    assert [value for point in face.landmarks for value in point] == list(map(float, landmarks[0]))
    (right, left, nose, mouth_right, mouth_left) = face.landmarks
    assert right[0] < nose[0] < left[0]
    assert mouth_right[0] < mouth_left[0]
    assert nose[1] < mouth_right[1]


def test_a_large_picture_is_searched_small_and_answered_large(
    portrait: NDArray[np.uint8], detector: FaceDetector, face: Detection
) -> None:
    large = np.asarray(cv2.resize(portrait, (2560, 1440), interpolation=cv2.INTER_CUBIC), np.uint8)
    small, factor = small_bgr(large)

    (found,) = detector.detect(small, factor)

    assert (small.shape, factor) == ((360, 640, 3), 4.0)
    assert found.box == pytest.approx([4 * value for value in face.box], rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (1, 640), (31, 500), (32, 32), (33, 47), (640, 32), (480, 639)])
def test_no_shape_of_picture_is_too_strange(detector: FaceDetector, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)

    assert all(found.confidence > 0.5 for found in detector.detect(noise, 1.0))


def test_threads_do_not_disturb_each_other(portrait: NDArray[np.uint8], detector: FaceDetector) -> None:
    small, factor = small_bgr(portrait)
    other = np.ascontiguousarray(small[:, ::-1])
    alone = [detector.detect(picture, factor) for picture in (small, other)]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: detector.detect((small, other)[n % 2], factor), range(16)))

    assert together == alone * 8


def test_faces_come_largest_first(portrait: NDArray[np.uint8], detector: FaceDetector) -> None:
    scene = np.zeros((480, 640, 3), np.uint8)
    part = portrait[60:340, 190:470]
    scene[:200, :200] = cv2.resize(part, (200, 200), interpolation=cv2.INTER_AREA)
    scene[100:, 260:] = cv2.resize(part, (380, 380), interpolation=cv2.INTER_AREA)

    found = detector.detect(*small_bgr(scene))

    assert len(found) == 2
    assert found[0].box[2] > found[1].box[2]


def test_a_crop_has_the_eyes_in_their_place(
    portrait: NDArray[np.uint8], face: Detection, detector: FaceDetector
) -> None:
    crop = align(portrait, face)
    (again,) = detector.detect(*small_bgr(crop))
    right, left = (np.array(point) for point in again.landmarks[:2])

    assert crop.shape == (CROP_SIDE, CROP_SIDE, 3)
    assert (right + left) / 2 == pytest.approx(np.array(EYE_CENTRE) * CROP_SIDE, abs=5)
    assert left - right == pytest.approx([EYE_DISTANCE * CROP_SIDE, 0], abs=7)


@pytest.mark.parametrize("angle", [-40, 25, 90, 180])
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_turned_or_scaled_face_gives_the_same_crop(
    portrait: NDArray[np.uint8], face: Detection, angle: float, scale: float
) -> None:
    matrix = cv2.getRotationMatrix2D((320, 180), angle, scale)
    size = 1200 if scale > 1 else 700
    matrix[:, 2] += (size - 320, size - 180)
    turned = np.asarray(
        cv2.warpAffine(portrait, matrix, (2 * size, 2 * size), flags=cv2.INTER_CUBIC), np.uint8
    )
    points = [tuple(matrix @ (*point, 1)) for point in face.landmarks]

    straight = align(portrait, face)[60:200, 60:200].astype(float)
    crop = align(turned, moved(face, landmarks=tuple(points)))[60:200, 60:200].astype(float)

    assert np.abs(crop - straight).mean() < (9 if scale < 1 else 5)


def test_a_profile_is_not_blown_up(portrait: NDArray[np.uint8], face: Detection) -> None:
    right, left, nose, *mouth = face.landmarks
    middle = ((right[0] + left[0]) / 2, (right[1] + left[1]) / 2)
    close = moved(face, landmarks=((middle[0] - 3, middle[1]), (middle[0] + 3, middle[1]), nose, *mouth))

    crop, frontal = align(portrait, close), align(portrait, face)

    assert abs(brightness(crop) - brightness(frontal)) < 25
    assert sharpness(crop) > crops.MIN_SHARPNESS


def test_landmarks_anywhere_still_give_a_crop(portrait: NDArray[np.uint8], face: Detection) -> None:
    for points in ([(-5000.0, -5000.0)] * 5, [(9000.0, 3.0)] * 5, [(0.0, 0.0)] * 5):
        assert align(portrait, moved(face, landmarks=tuple(points))).shape == (CROP_SIDE, CROP_SIDE, 3)


def test_reasons(portrait: NDArray[np.uint8], face: Detection) -> None:
    frame = (640, 360)
    crop = align(portrait, face)
    out = moved(face, landmarks=((-3.0, 9.0), *face.landmarks[1:]))
    tiny = moved(face, box=(10.0, 10.0, 47.0, 60.0))

    def reason(one: Detection, *, corrupt: bool = False) -> Reason | None:
        return unscorable(one, frame, crop, corrupt=corrupt)

    assert reason(face) is None
    assert reason(face, corrupt=True) is Reason.DECODE_ERROR
    assert reason(out) is Reason.OCCLUDED
    assert reason(tiny) is Reason.FACE_TOO_SMALL


def blocky(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As a codec leaves it: edges that were never there, which count as sharp."""
    _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 30))
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def test_blur_and_darkness_are_measured_on_the_crop(portrait: NDArray[np.uint8], face: Detection) -> None:
    def reason(picture: NDArray[np.uint8]) -> Reason | None:
        return unscorable(face, (640, 360), align(picture, face), corrupt=False)

    assert reason(portrait) is None
    assert reason(np.asarray(cv2.GaussianBlur(portrait, (0, 0), 6), np.uint8)) is Reason.BLURRED
    assert reason(blocky(np.asarray(cv2.GaussianBlur(portrait, (0, 0), 6), np.uint8))) is Reason.BLURRED
    assert reason(blocky(portrait)) is None
    assert reason(np.asarray(portrait * 0.1, np.uint8)) is Reason.TOO_DARK
    assert reason(np.asarray(portrait * 0.5, np.uint8)) is None
