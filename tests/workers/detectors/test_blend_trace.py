from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.config import ModelSettings
from core.domain import Modality
from core.errors import DetectorUnavailable
from tests.workers.media.conftest import SAMPLE, shared
from workers.detectors import blend_trace, store
from workers.detectors.base import Crops
from workers.detectors.blend_trace import ID, LABEL, WEIGHTS, BlendTrace, open_trace
from workers.media.crops import align
from workers.media.faces import FaceDetector, small_bgr

ON = ModelSettings(blend_trace="on", device="cpu")


@pytest.fixture(scope="module")
def trace() -> BlendTrace:
    """The bundled detector."""
    found = open_trace(ON, allow_test=False)
    assert found is not None
    return found


def face_of(bgr: cv2.typing.MatLike | None) -> tuple[Crops, float]:
    """The largest face's crop, 1 x 256 x 256 x 3, and the shorter side of its box."""
    assert bgr is not None
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    small, factor = small_bgr(rgb)
    face = FaceDetector().detect(small, factor)[0]
    return align(rgb, face)[None], min(face.box[2:])


@pytest.fixture(scope="module")
def portrait() -> tuple[Crops, float]:
    """A real face of the bundled sample."""
    reader = cv2.VideoCapture(str(SAMPLE))
    read, bgr = reader.read()
    reader.release()
    assert read
    return face_of(bgr)


def test_it_is_there_only_where_the_setting_says_on() -> None:
    assert open_trace(ModelSettings(blend_trace="off"), allow_test=False) is None


def test_it_says_who_it_is_and_never_deepfake(trace: BlendTrace) -> None:
    identity = trace.identity
    assert (identity.id, identity.fake_label, identity.modality) == (ID, LABEL, Modality.VIDEO)
    assert identity.version == json.loads((WEIGHTS / store.CONFIG).read_text())["version"]
    assert not identity.test_only
    assert "fake" not in f"{ID}{LABEL}"


def test_its_digest_is_over_all_its_files(trace: BlendTrace, tmp_path: Path) -> None:
    assert trace.identity.digest == store.total(store.digests(WEIGHTS)) == blend_trace.located(WEIGHTS).digest
    copy = shutil.copytree(WEIGHTS, tmp_path / "copy")
    config = json.loads((copy / store.CONFIG).read_text())
    (copy / store.CONFIG).write_text(json.dumps(config | {"threshold": 0.99}))
    assert blend_trace.located(copy).digest != trace.identity.digest  # a threshold cannot change unseen


def test_its_files_are_small_enough_for_a_repository() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 20_000_000


def test_scores_are_probabilities_and_do_not_depend_on_the_batch(
    trace: BlendTrace, portrait: tuple[Crops, float]
) -> None:
    crops = np.concatenate([portrait[0], portrait[0][:, :, ::-1], portrait[0] // 2])
    together, inside = trace.traces(crops, [portrait[1]] * 3)
    alone = [trace.traces(crops[n : n + 1], [portrait[1]])[0][0] for n in range(3)]
    assert together.dtype == np.float32
    assert inside.dtype == np.bool_
    assert 0 <= together.min() <= together.max() <= 1
    assert together == pytest.approx(alone, abs=1e-4)
    assert np.array_equal(trace.scores(crops), together)


def test_a_real_face_is_no_alarm(trace: BlendTrace, portrait: tuple[Crops, float]) -> None:
    scores, inside = trace.traces(*portrait_args(portrait))
    assert not (inside & (scores >= trace.threshold)).any()


def portrait_args(portrait: tuple[Crops, float]) -> tuple[Crops, list[float]]:
    return portrait[0], [portrait[1]]


@pytest.mark.parametrize("size", [0.0, 1.0, float("nan"), float("-inf")])
def test_it_abstains_on_faces_too_small_or_of_no_size(
    trace: BlendTrace, portrait: tuple[Crops, float], size: float
) -> None:
    _, inside = trace.traces(portrait[0], [size])
    assert not inside[0]


def test_both_rules_are_those_of_its_card(
    trace: BlendTrace, portrait: tuple[Crops, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    least = trace.min_face_pixels
    assert least >= 40
    twice = np.concatenate([portrait[0], portrait[0]])
    monkeypatch.setattr(trace, "card", trace.card.model_copy(update={"max_distance": 1e9}))
    assert trace.traces(twice, [least - 0.1, least])[1].tolist() == [False, True]
    monkeypatch.setattr(trace, "card", trace.card.model_copy(update={"max_distance": 1e-9}))
    assert trace.traces(twice, [least, 1000.0])[1].tolist() == [False, False]


def test_it_abstains_on_what_is_no_face(trace: BlendTrace) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[::8] = 255
    black, white = np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)
    _, inside = trace.traces(np.stack([noise, stripes, black, white]), [200.0] * 4)
    assert not inside.any()


def test_no_crops_are_no_scores(trace: BlendTrace) -> None:
    scores, inside = trace.traces(np.empty((0, 256, 256, 3), np.uint8), [])
    assert scores.shape == inside.shape == (0,)


def test_every_crop_needs_its_size(trace: BlendTrace, portrait: tuple[Crops, float]) -> None:
    for sizes in ([], [100.0, 100.0], [[100.0]]):
        with pytest.raises(ValueError, match="as many sizes"):
            trace.traces(portrait[0], sizes)
    with pytest.raises(ValueError, match="uint8"):
        trace.traces(portrait[0].astype(np.float32), [100.0])


def test_it_can_be_stopped_and_asked_again(trace: BlendTrace, portrait: tuple[Crops, float]) -> None:
    class Canceled(Exception):
        pass

    def stop() -> None:
        raise Canceled

    with pytest.raises(Canceled):
        trace.traces(*portrait_args(portrait), checkpoint=stop)
    assert len(trace.traces(*portrait_args(portrait))[1]) == 1


def test_two_threads_do_not_share_their_distances(
    trace: BlendTrace, portrait: tuple[Crops, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "card", trace.card.model_copy(update={"max_distance": 2.5}))
    noise = np.random.default_rng(1).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    given = [(np.repeat(portrait[0], 3, 0), True), (noise, False)] * 2
    wrong: list[bool] = []

    def ask(crops: Crops, expected: bool) -> None:
        for _ in range(3):
            inside = trace.traces(crops, [portrait[1]] * len(crops))[1]
            wrong.extend(inside != expected)

    threads = [threading.Thread(target=ask, args=one) for one in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 36
    assert not any(wrong)


@pytest.mark.parametrize(
    "config",
    [{}, {"version": "1"}, {"threshold": 2.0}, {"side": 100}, {"max_distance": 0}, {"surprise": 1}],
)
def test_a_card_that_is_wrong_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    copy = shutil.copytree(WEIGHTS, tmp_path / "copy")
    whole = json.loads((copy / store.CONFIG).read_text())
    (copy / store.CONFIG).write_text(
        json.dumps(whole | config if len(config) == 1 and "version" not in config else config)
    )
    with pytest.raises(DetectorUnavailable) as refused:
        blend_trace.located(copy)
    assert refused.value.code == "checkpoint_damaged"


def test_weights_that_are_missing_or_cut_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(WEIGHTS, tmp_path / "copy")
    monkeypatch.setattr(blend_trace, "WEIGHTS", copy)
    whole = (copy / store.WEIGHTS).read_bytes()
    (copy / store.WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(DetectorUnavailable) as cut:
        open_trace(ON, allow_test=False)
    (copy / store.WEIGHTS).unlink()
    with pytest.raises(DetectorUnavailable) as missing:
        open_trace(ON, allow_test=False)
    assert (cut.value.code, missing.value.code) == ("checkpoint_damaged", "checkpoint_incomplete")


@pytest.mark.parametrize("blending", ["poisson", "alpha"])
def test_a_swapped_face_scores_above_the_real_one(trace: BlendTrace, blending: str) -> None:
    """Both may show people of the training; that unseen people are told apart is the model card's to show."""
    real, size = face_of(cv2.imread(str(shared("real_face_london_008_neutral.jpg"))))
    fake, _ = face_of(cv2.imread(str(shared(f"fake_face_swap_{blending}.jpg"))))
    scores, inside = trace.traces(np.concatenate([real, fake]), [size, size])
    assert inside.all()
    assert scores[1] > scores[0]
