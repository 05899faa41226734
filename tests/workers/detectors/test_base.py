"""What the base does for every detector: batches, order, checks, failures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Modality
from core.errors import DetectorFailed, DetectorUnavailable
from tests.workers.detectors.stand_ins import Mean, StandIn, checkpoint, wish
from workers.detectors import store
from workers.detectors.base import even_batches


def crops(count: int, side: int = 8) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Crops whose brightness is their number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, side, side, 3))


def window(value: float, samples: int = 1600) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full(samples, value, np.float32)


def test_every_crop_gets_its_own_score_whatever_the_batches(tmp_path: Path) -> None:
    detector = StandIn.make(tmp_path / "x", batch_size=4)
    scores = detector.scores(crops(9))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.arange(9) / 255, rtol=1e-6)
    assert detector.batches == [3, 3, 3]


def test_no_crops_give_no_scores_and_ask_nobody(tmp_path: Path) -> None:
    detector = StandIn.make(tmp_path / "x")
    assert detector.scores(crops(0)).shape == (0,)
    assert detector.batches == []


def test_a_memory_mapped_array_is_read_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", crops(3))
    mapped = np.load(tmp_path / "crops.npy", mmap_mode="r")
    assert StandIn.make(tmp_path / "x").scores(mapped).shape == (3,)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.float32)],
)
def test_crops_of_another_shape_or_type_are_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match="N x H x W x 3"):
        StandIn.make(tmp_path / "x").scores(wrong)


def test_the_checkpoint_is_called_before_every_batch_and_may_stop(tmp_path: Path) -> None:
    detector = StandIn.make(tmp_path / "x", batch_size=2)
    calls: list[int] = []

    class Stop(Exception):
        pass

    def stop_at_third() -> None:
        calls.append(len(detector.batches))
        if len(calls) == 3:
            raise Stop

    with pytest.raises(Stop):
        detector.scores(crops(8), checkpoint=stop_at_third)
    assert calls == [0, 1, 2]
    assert detector.batches == [2, 2]


@pytest.mark.parametrize(
    "answer",
    [
        torch.full((3,), float("nan")),
        torch.full((3,), float("inf")),
        torch.full((3,), 1.0001),
        torch.full((3,), -0.0001),
        torch.full((2,), 0.5),
        torch.full((3, 2), 0.5),
        torch.tensor(0.5),
    ],
)
def test_an_answer_that_is_no_probability_is_never_passed_on(tmp_path: Path, answer: torch.Tensor) -> None:
    class Broken(StandIn):
        def predict(self, crops: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - it does not look
            return answer

    with pytest.raises(DetectorFailed) as caught:
        Broken.make(tmp_path / "x").scores(crops(3))
    assert caught.value.code == "detector_failed"


@pytest.mark.parametrize("fault", [RuntimeError("shape"), ValueError(), KeyError("logits"), TypeError()])
def test_a_model_that_breaks_is_a_failed_detector(tmp_path: Path, fault: Exception) -> None:
    class Broken(StandIn):
        def predict(self, crops: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - it does not get there
            raise fault

    with pytest.raises(DetectorFailed, match=type(fault).__name__):
        Broken.make(tmp_path / "x").scores(crops(3))


class Tight(StandIn):
    """Has memory for two crops at a time."""

    room = 2

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        if len(crops) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().predict(crops)


def test_too_little_memory_halves_the_batch_for_good(tmp_path: Path) -> None:
    detector = Tight.make(tmp_path / "x", batch_size=8)
    np.testing.assert_allclose(detector.scores(crops(8)), np.arange(8) / 255, rtol=1e-6)
    assert detector.batches == [2, 2, 2, 2]
    assert detector.batch_size == 2


def test_too_little_memory_for_a_single_crop_is_a_failure(tmp_path: Path) -> None:
    detector = Tight.make(tmp_path / "x", batch_size=8)
    detector.room = 0
    with pytest.raises(DetectorFailed, match="too little memory"):
        detector.scores(crops(8))


def test_windows_of_one_length_share_a_batch_and_keep_their_order(tmp_path: Path) -> None:
    detector = Mean.make(tmp_path / "x", batch_size=4)
    lengths = [3200, 1600, 3200, 2000, 1600]
    windows = [window(index / 10, samples) for index, samples in enumerate(lengths)]
    np.testing.assert_allclose(detector.scores(windows), [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-4, atol=1e-6)
    assert sorted(detector.batches) == [(1, 2000), (2, 1600), (2, 3200)]


def test_a_detector_that_takes_padding_hears_neighbours_in_length_together(tmp_path: Path) -> None:
    detector = Mean.make(tmp_path / "x", batch_size=2)
    detector.takes_padding = True
    windows = [window(0.4, 4000), window(0.1), window(0.3, 3000), window(0.2, 2000)]
    np.testing.assert_allclose(detector.scores(windows), [0.4, 0.1, 0.3, 0.2], rtol=1e-4)
    assert detector.batches == [(2, 2000), (2, 4000)]


def test_a_batch_of_sound_is_bounded_by_its_samples(tmp_path: Path) -> None:
    detector = Mean.make(tmp_path / "x", batch_size=64)
    minute = [window(0.1 * n, 60 * 16000) for n in range(3)]
    assert detector.scores([*minute, *[window(0.5, 32000)] * 20]).shape == (23,)
    assert sorted(detector.batches) == [(1, 60 * 16000)] * 3 + [(6, 32000), (7, 32000), (7, 32000)]


@pytest.mark.parametrize("padding", [True, False])
def test_no_windows_give_no_scores(tmp_path: Path, *, padding: bool) -> None:
    detector = Mean.make(tmp_path / "x")
    detector.takes_padding = padding
    assert detector.scores([]).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(1599, np.float32),
        np.zeros(1600, np.float64),
        np.zeros((1600, 1), np.float32),
        np.full(1600, np.nan, np.float32),
        np.append(np.zeros(1600, np.float32), np.float32("inf")),
    ],
)
def test_a_window_that_is_none_is_refused_before_anything_is_asked(tmp_path: Path, wrong: Any) -> None:
    detector = Mean.make(tmp_path / "x")
    with pytest.raises(ValueError, match="window"):
        detector.scores([window(0.5), wrong])
    assert detector.batches == []


def test_an_audio_checkpoint_is_called_before_every_batch(tmp_path: Path) -> None:
    calls: list[None] = []
    Mean.make(tmp_path / "x", batch_size=2).scores([window(0.1)] * 5, checkpoint=lambda: calls.append(None))
    assert len(calls) == 3


def test_threads_take_turns(tmp_path: Path) -> None:
    inside = threading.Semaphore(1)
    overlaps: list[bool] = []

    class Alone(StandIn):
        def predict(self, crops: torch.Tensor) -> torch.Tensor:
            free = inside.acquire(blocking=False)
            overlaps.append(not free)
            result = super().predict(crops)
            if free:
                inside.release()
            return result

    detector = Alone.make(tmp_path / "x", batch_size=1)
    threads = [threading.Thread(target=detector.scores, args=(crops(40, 64),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(overlaps) == 160
    assert not any(overlaps)


def test_predict_runs_without_gradients(tmp_path: Path) -> None:
    class Asked(StandIn):
        def predict(self, crops: torch.Tensor) -> torch.Tensor:
            assert torch.is_inference_mode_enabled()
            return super().predict(crops)

    assert len(Asked.make(tmp_path / "x").scores(crops(1))) == 1


def test_the_identity_carries_the_digest_of_the_files(tmp_path: Path) -> None:
    detector = StandIn.make(tmp_path / "x")
    identity = detector.identity
    assert identity.digest == store.verify(tmp_path / "x")
    assert identity.modality is Modality.VIDEO
    assert identity.test_only
    assert not identity.calibrated


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (OSError("no"), "checkpoint_damaged"),
        (KeyError("architectures"), "checkpoint_damaged"),
        (ImportError("x", name="timm"), "missing_dependency"),
        (DetectorUnavailable("no", code="own_code"), "own_code"),
    ],
)
def test_whatever_loading_raises_has_a_code(tmp_path: Path, fault: Exception, code: str) -> None:
    class Broken(StandIn):
        def load(self) -> None:
            raise fault

    with pytest.raises(DetectorUnavailable) as caught:
        Broken.make(tmp_path / "x")
    assert caught.value.code == code
    assert str(tmp_path) not in caught.value.detail


def test_files_that_fail_their_digest_are_never_loaded(tmp_path: Path) -> None:
    loaded: list[bool] = []

    class Noting(StandIn):
        def load(self) -> None:
            loaded.append(True)

    asked = wish(tmp_path / "x")
    (tmp_path / "x" / store.WEIGHTS).unlink()
    with pytest.raises(DetectorUnavailable) as caught:
        Noting(checkpoint(asked), asked)
    assert caught.value.code == "checkpoint_incomplete"
    assert loaded == []


def test_the_setting_for_threads_reaches_torch(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    asked = wish(tmp_path / "x").model_copy(update={"threads": 1})
    try:
        StandIn(checkpoint(asked), asked)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@given(count=st.integers(0, 300), size=st.integers(1, 64))
def test_batches_are_few_even_and_complete(count: int, size: int) -> None:
    batches = list(even_batches(list(range(count)), size))
    assert [item for batch in batches for item in batch] == list(range(count))
    assert len(batches) == -(-count // size)
    sizes = {len(batch) for batch in batches}
    assert max(sizes, default=0) <= size
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
