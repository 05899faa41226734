"""What the trace detector adds to the findings of a shard, and where it keeps silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from core.config import ModelSettings
from core.domain import Reason
from core.errors import DetectorUnavailable
from core.evidence import CROP_SIDE, Face, VideoFinding
from tests.workers.detectors.stand_ins import StandIn, checkpoint, wish
from tests.workers.detectors.test_look import face, grey, manifest, shard
from workers.detectors import blend_trace, traces
from workers.detectors.base import Crops, Scores
from workers.detectors.blend_trace import BlendTrace
from workers.detectors.look import INTERVALS_EXPLAINED, look

if TYPE_CHECKING:
    import torch


class Tracing(BlendTrace):
    """The brightness is the trace; crops darker than 20 are unlike anything it knows. It needs no weights."""

    threshold = 0.5
    min_face_pixels = 40.0

    def load(self) -> None:
        """There is nothing to read."""
        self.sizes: list[float] = []

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """The same, as occlusion asks it."""
        return crops.float().mean((1, 2, 3)) / 255

    def traces(
        self, crops: Crops, sizes: npt.ArrayLike, *, checkpoint: Callable[[], None] | None = None
    ) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """As BlendTrace does."""
        if checkpoint is not None:
            checkpoint()
        pixels = np.asarray(sizes, np.float64)
        self.sizes = pixels.tolist()
        level = crops.mean((1, 2, 3)).astype(np.float32)
        return level / 255, (pixels >= self.min_face_pixels) & (level >= 20)


@pytest.fixture
def tracing(tmp_path: Path) -> Tracing:
    asked = wish(tmp_path / "trace")
    return Tracing(checkpoint(asked), asked)


def told(
    tracing: Tracing, intervals: Sequence[Sequence[Sequence[Face]]], crops: Crops
) -> tuple[VideoFinding, ...]:
    """Findings without a main detector, as on a machine without weights."""
    video = manifest(intervals)
    part = shard(len(crops), *range(len(intervals)))
    return traces.trace(look(video, part, crops, None), video, part, crops, tracing).findings


def test_the_strongest_track_gives_the_trace(tracing: Tracing) -> None:
    (found,) = told(tracing, [[[face(0, 0), face(1, 1)], [face(2, 0), face(3, 1)]]], grey(200, 90, 180, 100))
    assert found.trace is not None
    assert (found.trace.track, found.trace.reason) == (0, None)
    assert found.trace.score == pytest.approx(190 / 255, abs=1e-5)
    assert (found.trace.detector, found.trace.threshold) == ("test/stand-in", 0.5)


def test_it_adds_no_score(tracing: Tracing) -> None:
    (found,) = told(tracing, [[[face(0)], [face(1)]]], grey(200, 200))
    assert (found.score, found.reason, found.detectors) == (None, Reason.NO_DETECTOR_WEIGHTS, {})


def test_crops_out_of_its_domain_are_left_out_of_the_mean(tracing: Tracing) -> None:
    (found,) = told(tracing, [[[face(0)], [face(1)]]], grey(200, 5))
    assert found.trace is not None
    assert found.trace.score == pytest.approx(200 / 255, abs=1e-5)


def test_where_all_are_it_abstains(tracing: Tracing) -> None:
    first, second = told(tracing, [[[face(0)], [face(1)]], [[face(2)], [face(3)]]], grey(5, 6, 200, 200))
    assert first.trace is not None
    assert (first.trace.score, first.trace.reason, first.trace.track) == (None, Reason.OUT_OF_DOMAIN, None)
    assert second.trace is not None
    assert second.trace.score is not None


def test_the_size_of_a_face_is_that_of_its_box_in_the_frame(tracing: Tracing) -> None:
    small = face(1).model_copy(update={"box": (0.0, 0.0, 39.0, 70.0)})
    (found,) = told(tracing, [[[face(0)], [small]]], grey(100, 250))
    assert tracing.sizes == [50, 39]
    assert found.trace is not None
    assert found.trace.score == pytest.approx(100 / 255, abs=1e-5)


def test_without_a_face_to_score_the_reason_is_that_of_the_face(tracing: Tracing) -> None:
    blurred = face(None, reason=Reason.BLURRED)
    _, found = told(tracing, [[[face(0)]], [[blurred], [blurred]]], grey(100))
    assert found.trace is not None
    assert (found.trace.score, found.trace.reason) == (None, Reason.BLURRED)
    assert found.reason is Reason.BLURRED


def test_the_faces_to_show_are_the_strongest_traces(tracing: Tracing) -> None:
    count = INTERVALS_EXPLAINED + 3
    levels = np.random.default_rng(0).permutation(np.arange(126, 126 + 2 * count, 2))
    video = manifest([[[face(2 * n)], [face(2 * n + 1)]] for n in range(count)])
    crops = grey(*(int(level) + step for level in levels for step in (0, 1)))
    part = shard(len(crops), *range(count))
    found = traces.trace(look(video, part, crops, None), video, part, crops, tracing)
    over = [one.index for one in found.findings if one.trace and (one.trace.score or 0) >= 0.5]
    assert len(over) > INTERVALS_EXPLAINED
    shown = [one.interval for one in found.suspects]
    assert shown == sorted(over, key=lambda index: -levels[index])[:INTERVALS_EXPLAINED]
    for one in found.suspects:
        assert one.row == 2 * one.interval + 1  # the stronger of its two frames
        assert one.face.score == pytest.approx((levels[one.interval] + 1) / 255, abs=1e-5)


def test_beside_a_detector_its_scores_stay_as_they_are(tracing: Tracing, tmp_path: Path) -> None:
    video, part, crops = manifest([[[face(0)], [face(1)]]]), shard(2, 0), grey(30, 40)
    findings = look(video, part, crops, StandIn.make(tmp_path / "main"))
    (found,) = traces.trace(findings, video, part, crops, tracing).findings
    assert found.model_copy(update={"trace": None}) == findings[0]
    assert found.trace is not None


def test_crops_of_another_shard_are_refused(tracing: Tracing) -> None:
    video = manifest([[[face(3)]]])
    with pytest.raises(ValueError, match="not in shard"):
        traces.trace([], video, shard(1, 0), grey(1), tracing)


def test_its_status_says_its_role(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert traces.status(ModelSettings(blend_trace="off")) is None
    monkeypatch.setattr(blend_trace, "WEIGHTS", tmp_path / "nowhere")
    said: dict[str, Any] | None = traces.status(ModelSettings(blend_trace="on"))
    assert said is not None
    assert (said["role"], said["state"], said["id"]) == ("trace", "refused", blend_trace.ID)
    with pytest.raises(DetectorUnavailable) as caught:
        blend_trace.located(tmp_path / "nowhere")
    assert said["code"] == caught.value.code
    assert said["modality"] == "video"


def test_no_crops_of_that_kind_are_looked_at_twice(tracing: Tracing) -> None:
    crops = np.zeros((0, CROP_SIDE, CROP_SIDE, 3), np.uint8)
    found = traces.trace([], manifest([[[]]]), shard(0), crops, tracing)
    assert (found.findings, found.suspects) == ((), [])
