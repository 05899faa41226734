"""A real portrait altered in one place: occlusion names that place, and the heatmap shows it.

The detector knows nothing of places. It measures what the alteration leaves behind anywhere in the crop: the
noise of a resampled patch, as a checkerboard that no camera makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from core.domain import Region
from core.evidence import CROP_SIDE, RegionEffect
from tests.workers.detectors.stand_ins import StandIn
from tests.workers.detectors.test_look import manifest, one_track, shard
from tests.workers.media.conftest import SAMPLE
from workers.detectors import regions
from workers.detectors.base import Crops
from workers.detectors.heatmaps import GRID, occlusion_grid
from workers.detectors.look import look
from workers.media.crops import align
from workers.media.faces import FaceDetector, small_bgr

if TYPE_CHECKING:
    import torch

#: The subject's left eye, which lies to the right in the picture; the other eye is left alone.
LEFT_EYE = regions.SHAPES[Region.EYES][1]


class Checkers(StandIn):
    """Says fake in proportion to the energy at the highest frequency of both axes, wherever it lies."""

    def predict(self, crops: torch.Tensor) -> torch.Tensor:
        """A logistic curve over the mean response to a 2 x 2 checkerboard; 0.02 on an unaltered portrait."""
        import torch  # noqa: PLC0415

        grey = crops.float().mean(-1)
        board = grey[:, :-1, :-1] - grey[:, 1:, :-1] - grey[:, :-1, 1:] + grey[:, 1:, 1:]
        return torch.sigmoid(8 * (board.square().mean((1, 2)) - 1.7).clamp(-0.5, 0.5))


@pytest.fixture(scope="module")
def portrait() -> Crops:
    """The face of the sample, as extraction cuts it out; softly denoised, so that it has no checkers."""
    with av.open(str(SAMPLE)) as container:
        rgb = np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)
    small, factor = small_bgr(rgb)
    (face, *_) = FaceDetector().detect(small, factor)
    return np.asarray(cv2.GaussianBlur(align(rgb, face), (0, 0), 2.0), np.uint8)


def altered(portrait: Crops, where: NDArray[np.bool_]) -> Crops:
    """The portrait with checkers in one place, twice: the same face in two frames."""
    y, x = np.mgrid[:CROP_SIDE, :CROP_SIDE]
    amplitude = max(1.0, 0.42 / float(np.sqrt(where.mean())))  # the same energy however large the place is
    checkers = np.where(where, amplitude * (-1.0) ** (y + x), 0)[..., None]
    other = np.clip(np.rint(portrait + checkers), 0, 255).astype(np.uint8)
    return np.stack([other, np.clip(other * 0.97, 0, 255).astype(np.uint8)])


def explained(crops: Crops, detector: StandIn) -> tuple[RegionEffect, ...]:
    (finding,) = look(manifest([one_track(len(crops))]), shard(len(crops), 0), crops, detector)
    assert finding.score is not None
    assert finding.score > 0.8
    return finding.regions


def test_the_detector_finds_nothing_in_the_unaltered_portrait(tmp_path: Path, portrait: Crops) -> None:
    assert Checkers.make(tmp_path / "x").scores(portrait[None])[0] < 0.05


def test_an_altered_left_eye_is_the_eyes(tmp_path: Path, portrait: Crops) -> None:
    where = regions.inside((LEFT_EYE,), CROP_SIDE, CROP_SIDE)
    first, *others = explained(altered(portrait, where), Checkers.make(tmp_path / "x"))
    assert first.region is Region.EYES
    assert first.drop > 0.7
    assert first.spread < 0.1
    assert all(one.drop < 0.6 * first.drop for one in others)


@pytest.mark.parametrize(
    "region",
    [Region.MOUTH, Region.FACE_BOUNDARY, Region.NOSE, Region.FOREHEAD, Region.CHIN, Region.CHEEKS],
)
def test_every_other_region_wins_where_it_is_altered(tmp_path: Path, portrait: Crops, region: Region) -> None:
    where = regions.mask(region, CROP_SIDE, CROP_SIDE) > 0.8
    first, *others = explained(altered(portrait, where), Checkers.make(tmp_path / "x"))
    assert first.region is region
    assert first.drop > 0.7
    assert all(one.drop < 0.6 * first.drop for one in others)


def test_the_heatmap_of_an_altered_left_eye_shows_that_eye(tmp_path: Path, portrait: Crops) -> None:
    crops = altered(portrait, regions.inside((LEFT_EYE,), CROP_SIDE, CROP_SIDE))[:1]
    detector = Checkers.make(tmp_path / "x", batch_size=64)
    (heat,) = occlusion_grid(crops, detector.scores(crops).tolist(), detector)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row, column) in {(2, 3), (2, 4)}
    assert LEFT_EYE[0] * GRID == pytest.approx(float(column) + 0.5, abs=1)
    mirrored = heat[:, ::-1]
    assert heat[row, column] > 3 * mirrored[row, column]
