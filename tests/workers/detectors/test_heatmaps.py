"""Pictures of where a model looked: the grid finds the place, and what is drawn is bounded and readable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from core.evidence import CROP_SIDE, FaceScore
from tests.workers.detectors.stand_ins import StandIn, Weighing
from workers.detectors import heatmaps
from workers.detectors.base import Crops
from workers.detectors.heatmaps import GRID, cells, occlusion_grid, overlay, portraits
from workers.detectors.sight import Suspect

if TYPE_CHECKING:
    import torch

SKIN = (180, 140, 120)
BOX = (10.0, 10.0, 90.0, 90.0)


class Attentive(StandIn):
    """A detector with attention of its own: it looks at the right half of the picture."""

    def attend(self, crops: torch.Tensor) -> torch.Tensor:
        """One column of two."""
        import torch  # noqa: PLC0415

        return torch.tensor([[0.0, 1.0]]).expand(len(crops), 1, 2)


class Breaking(StandIn):
    """A detector whose attention breaks, and whose scores do not."""

    def attend(self, crops: torch.Tensor) -> torch.Tensor:
        """Raises, as a model may."""
        return crops.reshape(1, 7)


def suspect(row: int, score: float) -> Suspect:
    return Suspect(7, row, FaceScore(frame=row, time=0.2, track=0, box=BOX, score=score))


def marked(row: int, column: int) -> tuple[Crops, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Skin with one red cell, and where it is."""
    area = cells(CROP_SIDE, CROP_SIDE)[row * GRID + column] > 0.5
    picture = np.broadcast_to(np.array(SKIN, np.uint8), (1, CROP_SIDE, CROP_SIDE, 3)).copy()
    picture[:, area] = (255, 0, 0)
    return picture, area


def opened(jpeg: bytes) -> Crops:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def test_cells_cover_the_crop_once() -> None:
    total = np.sum(np.stack(cells(CROP_SIDE, CROP_SIDE)), axis=0)
    np.testing.assert_allclose(total, 1, atol=1e-3)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 4), (5, 3)])
def test_hiding_cell_by_cell_finds_the_place(tmp_path: Path, row: int, column: int) -> None:
    faces, area = marked(row, column)
    detector = Weighing.make(tmp_path / "x", batch_size=64).watch(area)
    (heat,) = occlusion_grid(faces, detector.scores(faces).tolist(), detector)
    assert heat.shape == (GRID, GRID)
    assert np.unravel_index(heat.argmax(), heat.shape) == (row, column)
    assert heat.max() == 1
    assert np.sort(heat.ravel())[-2] < 0.4


def test_where_nothing_moves_the_score_nothing_is_drawn(tmp_path: Path) -> None:
    faces, area = marked(1, 1)
    area = np.zeros_like(area)
    area[0, 0] = True
    detector = Weighing.make(tmp_path / "x", batch_size=64).watch(area)
    heat = occlusion_grid(faces, detector.scores(faces).tolist(), detector)
    assert heat.max() < 0.1


def test_more_heat_is_never_darker() -> None:
    face = np.full((64, 64, 3), 128, np.uint8)
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    luma = cv2.cvtColor(overlay(face, ramp), cv2.COLOR_RGB2LAB)[32, :, 0].astype(int)
    assert (np.diff(luma) >= -1).all()
    assert luma[-1] > luma[0] + 100


def test_the_face_is_still_seen_under_the_heat() -> None:
    face = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    drawn = overlay(face, np.full((2, 2), 0.5, np.float32)).astype(float).mean(-1)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(float)
    assert np.corrcoef(drawn.ravel(), grey.ravel())[0, 1] > 0.95


def test_attention_is_asked_first_and_costs_no_score(tmp_path: Path) -> None:
    detector = Attentive.make(tmp_path / "x")
    crops = np.full((3, CROP_SIDE, CROP_SIDE, 3), 90, np.uint8)
    found = portraits([suspect(2, 0.9), suspect(0, 0.8)], crops, detector)
    assert [(one.method, one.suspect.row, one.detector) for one in found] == [
        ("attention_rollout", 2, "test/stand-in"),
        ("attention_rollout", 0, "test/stand-in"),
    ]
    assert detector.batches == []
    drawn = opened(found[0].heatmap).astype(int)
    assert drawn.shape == (CROP_SIDE, CROP_SIDE, 3)
    assert drawn[:, 200:].mean() > drawn[:, :50].mean() + 40
    assert np.abs(opened(found[0].crop).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("kind", [StandIn, Breaking])
def test_without_attention_it_is_the_grid_with_a_bounded_cost(tmp_path: Path, kind: type[StandIn]) -> None:
    detector = kind.make(tmp_path / "x", batch_size=1000)
    crops = np.full((2, CROP_SIDE, CROP_SIDE, 3), 200, np.uint8)
    found = portraits([suspect(0, 0.78), suspect(1, 0.78)], crops, detector)
    assert {one.method for one in found} == {"occlusion_grid"}
    assert detector.batches == [GRID * GRID] * 2


def test_nobody_suspicious_costs_nothing(tmp_path: Path) -> None:
    detector = Attentive.make(tmp_path / "x")
    assert portraits([], np.zeros((1, CROP_SIDE, CROP_SIDE, 3), np.uint8), detector) == []
    assert detector.batches == []


def test_the_bound_is_less_than_a_full_shard() -> None:
    from workers.detectors.look import INTERVALS_EXPLAINED  # noqa: PLC0415
    from workers.media.shards import MAX_ROWS  # noqa: PLC0415

    assert INTERVALS_EXPLAINED * heatmaps.GRID**2 < MAX_ROWS
