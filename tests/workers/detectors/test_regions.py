"""Where the regions lie, and that hiding one leaves nothing of it."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest

from core.domain import Region
from core.evidence import CROP_SIDE
from workers.detectors import regions
from workers.media import crops

MASKED = [region for region in Region if region is not Region.UNNATURAL_SYMMETRY]
#: Where the five landmarks lie in an aligned crop, in parts of its side: measured over 64 portraits.
PLACES = {
    Region.EYES: ((0.368, 0.418), (0.641, 0.422)),
    Region.NOSE: ((0.503, 0.575),),
    Region.MOUTH: ((0.380, 0.698), (0.622, 0.702)),
}


def where(region: Region) -> np.ndarray[Any, np.dtype[np.float32]]:
    return regions.mask(region, CROP_SIDE, CROP_SIDE)


def noise() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)


def test_extraction_still_puts_the_eyes_where_the_masks_were_drawn() -> None:
    assert crops.EYE_CENTRE == (0.5, 0.42)
    assert crops.EYE_DISTANCE == 0.27


@pytest.mark.parametrize("region", PLACES)
def test_a_landmark_lies_in_its_region_and_in_no_other(region: Region) -> None:
    for x, y in PLACES[region]:
        row, column = int(y * CROP_SIDE), int(x * CROP_SIDE)
        assert where(region)[row, column] > 0.9
        for other in set(MASKED) - {region}:
            assert where(other)[row, column] < 0.1


@pytest.mark.parametrize("region", MASKED)
def test_a_mask_is_a_share_with_a_soft_edge_and_nobody_may_write_to_it(region: Region) -> None:
    mask = where(region)
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert 0.005 < mask.mean() < 0.35
    assert ((mask > 0.2) & (mask < 0.8)).any()
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


def test_regions_hardly_overlap_and_the_control_touches_none() -> None:
    for one, other in itertools.combinations(MASKED, 2):
        common = np.minimum(where(one), where(other)).sum()
        assert common < 0.25 * min(where(one).sum(), where(other).sum()), (one, other)
    background = regions.outside(CROP_SIDE, CROP_SIDE)
    for region in MASKED:
        assert np.minimum(background, where(region)).sum() < 0.05 * where(region).sum(), region


@pytest.mark.parametrize("region", MASKED)
def test_masks_are_symmetric(region: Region) -> None:
    np.testing.assert_allclose(where(region), where(region)[:, ::-1], atol=1e-3)


@pytest.mark.parametrize("region", MASKED)
def test_what_is_hidden_leaks_nothing(region: Region) -> None:
    """Two pictures that differ only inside the region are the same once it is hidden."""
    one = noise()
    other = np.where((where(region) > 0.999)[..., None], 255 - one, one)
    hidden = [regions.hide(picture, where(region)).astype(int) for picture in (one, other)]
    assert np.abs(hidden[0] - hidden[1]).max() <= 1  # a thousandth of 255, rounded
    assert (one != other).any()


@pytest.mark.parametrize("region", MASKED)
def test_what_is_not_hidden_stays_to_the_byte(region: Region) -> None:
    picture = noise()
    untouched = where(region) == 0
    assert untouched.any()
    np.testing.assert_array_equal(regions.hide(picture, where(region))[untouched], picture[untouched])


def test_the_filling_is_smooth_and_has_the_colour_of_the_surroundings() -> None:
    picture = np.full((CROP_SIDE, CROP_SIDE, 3), (200, 150, 120), np.uint8)
    mouth = where(Region.MOUTH) > 0.5
    picture[mouth] = (255, 0, 0)
    hidden = regions.hide(picture, where(Region.MOUTH))
    inside = hidden[where(Region.MOUTH) > 0.999].astype(int)
    assert np.abs(inside - (200, 150, 120)).max() < 25
    assert (
        cv2.Laplacian(regions.hide(noise(), where(Region.MOUTH)), cv2.CV_32F)[
            where(Region.MOUTH) > 0.999
        ].std()
        < 0.02 * cv2.Laplacian(noise(), cv2.CV_32F).std()
    )


def test_hiding_everything_or_nothing_is_defined() -> None:
    picture = noise()
    full, empty = np.ones((CROP_SIDE, CROP_SIDE), np.float32), np.zeros((CROP_SIDE, CROP_SIDE), np.float32)
    assert regions.hide(picture, full).std() == 0
    np.testing.assert_array_equal(regions.hide(picture, empty), picture)


def test_mirroring_makes_symmetric_pictures_of_either_half() -> None:
    picture = noise()
    right, left = regions.mirrored(picture)
    for whole in (right, left):
        np.testing.assert_array_equal(whole, whole[:, ::-1])
    half = CROP_SIDE // 2
    np.testing.assert_array_equal(right[:, half:], picture[:, half:])
    np.testing.assert_array_equal(left[:, :half], picture[:, :half])


def test_every_region_is_hidden_in_turn_and_the_picture_is_left_alone() -> None:
    picture = noise()
    before = picture.copy()
    hidden = regions.occlusions(picture)
    assert set(hidden) == set(Region)
    assert [len(ways) for region, ways in hidden.items() if region in MASKED] == [1] * len(MASKED)
    assert len(hidden[Region.UNNATURAL_SYMMETRY]) == 2
    for ways in hidden.values():
        for way in ways:
            assert way.shape == picture.shape
            assert way.dtype == np.uint8
            assert (way != picture).any()
    np.testing.assert_array_equal(picture, before)


def test_the_control_leaves_the_face_alone() -> None:
    picture = noise()
    face = regions.outside(CROP_SIDE, CROP_SIDE) == 0
    np.testing.assert_array_equal(regions.control(picture)[face], picture[face])
    assert face.mean() > 0.4
