from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from training.blend_trace.faces import Portrait
from training.blend_trace.swap import Blending, swap
from training.blend_trace.warp import feathered_swap, recoloured, warp


@pytest.fixture(scope="module")
def other(portrait: Portrait) -> Portrait:
    """The same face darker and blurred: another person, as far as pixels go."""
    picture = np.asarray(cv2.GaussianBlur(portrait.picture, (0, 0), 2) * 0.7, np.uint8)
    return replace(portrait, person="other", picture=picture)


@pytest.mark.parametrize("blending", list(Blending))
@pytest.mark.parametrize("points", [True, False])
def test_a_swap_changes_the_face_and_nothing_else(
    portrait: Portrait, other: Portrait, blending: Blending, *, points: bool
) -> None:
    kept = portrait.points if points else None
    swapped = swap(replace(other, points=kept), replace(portrait, points=kept), blending)
    changed = np.abs(swapped.astype(int) - portrait.picture).max(2)
    left, top, width, height = (round(value) for value in portrait.face.box)
    assert changed[top : top + height, left : left + width].mean() > 1
    changed[
        max(0, top - height // 4) : top + height + height // 4,
        max(0, left - width // 4) : left + width + width // 4,
    ] = 0
    assert changed.max() <= 1


def test_a_swap_leaves_its_people_alone(portrait: Portrait, other: Portrait) -> None:
    before = portrait.picture.copy(), other.picture.copy()
    swap(other, portrait, Blending.FEATHERED)
    assert np.array_equal(portrait.picture, before[0])
    assert np.array_equal(other.picture, before[1])


def test_a_warp_onto_the_same_points_changes_nothing(portrait: Portrait) -> None:
    assert portrait.points is not None
    same = warp(portrait.picture, portrait.points, portrait.points, portrait.picture.shape[:2])
    hull = cv2.fillConvexPoly(
        np.zeros(portrait.picture.shape[:2], np.uint8), cv2.convexHull(portrait.points.astype(np.int32)), 1
    )
    inside = cv2.erode(hull, np.ones((5, 5))) > 0
    assert np.abs(same[inside].astype(int) - portrait.picture[inside]).max() <= 1


def test_a_warp_carries_a_point_to_its_target() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[28:33, 48:53] = 255
    corners = np.array([[0.0, 0.0], [99, 0], [0, 99], [99, 99]])
    source, target = np.vstack([corners, [[50, 30]]]), np.vstack([corners, [[60, 70]]])
    carried = warp(picture, source, target, (100, 100))[..., 0]
    assert carried[70, 60] > 250
    assert carried[30, 50] < 5


def test_colours_are_taken_over(portrait: Portrait, other: Portrait) -> None:
    inside = np.ones(portrait.picture.shape[:2], np.bool_)
    got = recoloured(other.picture, portrait.picture, inside)
    assert got.mean((0, 1)) == pytest.approx(portrait.picture.mean((0, 1)), abs=0.5)
    assert got.std((0, 1)) == pytest.approx(portrait.picture.std((0, 1)), rel=0.02)


@pytest.mark.parametrize("points", [True, False])
def test_a_training_swap_changes_the_face_and_nothing_else(
    portrait: Portrait, other: Portrait, *, points: bool
) -> None:
    kept = portrait.points if points else None
    giver, taker = replace(other, points=kept), replace(portrait, points=kept)
    swapped = feathered_swap(giver, taker, np.random.default_rng(1))
    changed = np.abs(swapped.astype(int) - portrait.picture).max(2)
    left, top, width, height = (round(value) for value in portrait.face.box)
    assert changed[top : top + height, left : left + width].mean() > 1
    assert changed[0].max() == changed[-1].max() == changed[:, 0].max() == 0
    again = feathered_swap(giver, taker, np.random.default_rng(1))
    assert np.array_equal(swapped, again)
    assert not np.array_equal(swapped, feathered_swap(giver, taker, np.random.default_rng(2)))


def test_a_cheap_warp_is_nearly_the_exact_one(portrait: Portrait) -> None:
    assert portrait.points is not None
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [99, 0], [0, 99], [99, 99]])
    source = np.vstack([corners, rng.uniform(20, 80, (6, 2))])
    target = np.vstack([corners, source[4:] + rng.uniform(-6, 6, (6, 2))])
    smooth = np.asarray(cv2.GaussianBlur(rng.uniform(0, 255, (100, 100, 3)), (0, 0), 6) * 1.0, np.uint8)
    exact, cheap = (warp(smooth, source, target, (100, 100), step=step) for step in (1, 3))
    inner = np.abs(exact.astype(int) - cheap)[5:-5, 5:-5]
    assert inner.mean() < 1
