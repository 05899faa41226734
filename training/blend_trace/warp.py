"""Another person's face laid over a face: warped by landmarks, in the other's colours."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from training.blend_trace.blend import BROWS, CHEEKS, EYES, JAW, MOUTH, NOSE, ellipse, fill, restyle
from training.blend_trace.faces import Picture, Points, Portrait

#: The landmarks that carry the face; ears, hair and neck stay the taker's.
CARRIED: Final = BROWS + EYES + NOSE + MOUTH + CHEEKS + JAW
#: What is replaced where a face has five points only, as `ellipse` takes it: well inside the cheeks.
OVAL: Final = (0.6, 0.85, 1.1)
#: Pixels between the exact points of a training swap's map.
STEP: Final = 3


def warp(
    picture: Picture, source: Points, target: Points, shape: tuple[int, int], *, step: int = 1
) -> Picture:
    """The picture with its `source` points at `target`, affine in each triangle; H x W of `shape`.

    With a `step` above 1 the map is exact at every so many pixels only: much cheaper, hardly different.
    """
    mesh = Delaunay(target)
    (x0, y0), (x1, y1) = np.floor(target.min(0)).astype(int), np.ceil(target.max(0)).astype(int) + 1
    ys, xs = np.mgrid[y0:y1:step, x0:x1:step]
    pixels = np.column_stack([xs.ravel(), ys.ravel()]).astype(np.float64)
    triangle = mesh.find_simplex(pixels)
    inside = triangle >= 0
    corner = mesh.transform[triangle[inside]]
    two = np.einsum("nij,nj->ni", corner[:, :2], pixels[inside] - corner[:, 2])
    shares = np.column_stack([two, 1 - two.sum(1)])
    maps = np.full((len(pixels), 2), -1.0, np.float32)
    maps[inside] = np.einsum("ni,nij->nj", shares, source[mesh.simplices[triangle[inside]]])
    grid = np.full((*shape, 2), -1.0, np.float32)  # beyond the picture: black, and outside every mask
    coarse = maps.reshape(*xs.shape, 2)
    if step > 1:
        turn = np.array([[step, 0, 0], [0, step, 0]], np.float64)
        coarse = np.asarray(
            cv2.warpAffine(coarse, turn, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR), np.float32
        )
    grid[y0:y1, x0:x1] = coarse
    return np.asarray(cv2.remap(picture, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR), np.uint8)


def recoloured(picture: Picture, like: Picture, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The picture with mean and spread of each colour inside the mask as in `like` (Reinhard et al. 2001)."""
    own, other = picture[inside].astype(np.float32), like[inside].astype(np.float32)
    scale = other.std(0) / np.maximum(own.std(0), 1)
    return np.asarray((picture - own.mean(0)) * scale + other.mean(0), np.float32)


def matched(giver: Portrait, taker: Portrait) -> tuple[Points, Points, Points]:
    """Matching points of giver and taker, and the outline of what is replaced in the taker."""
    if giver.points is not None and taker.points is not None:
        chosen = list(CARRIED)
        return giver.points[chosen], taker.points[chosen], taker.points[list(BROWS + CHEEKS + JAW)]
    both = [(np.asarray(one.face.landmarks), ellipse(one, *OVAL)) for one in (giver, taker)]
    from_points, to_points = (np.vstack(side) for side in both)
    return from_points, to_points, both[1][1]


def feathered_swap(giver: Portrait, taker: Portrait, rng: Generator) -> Picture:
    """The taker's picture with the giver's face, for training: edge, width, place and colour all drawn."""
    from_points, to_points, outline = matched(giver, taker)
    shape = taker.picture.shape[:2]
    source = np.asarray(warp(giver.picture, from_points, to_points, shape, step=STEP), np.float32)
    hull = fill(np.zeros(shape, np.float32), outline)
    inner = cv2.erode(hull, np.ones((3, 3)), iterations=max(STEP, round(rng.uniform(0.01, 0.08) * taker.box)))
    soft = cv2.GaussianBlur(inner, (0, 0), rng.uniform(0.005, 0.05) * taker.box) * cv2.erode(
        hull, np.ones((3, 3)), iterations=STEP
    )
    toned = recoloured(np.asarray(source, np.uint8), taker.picture, inner > 0)
    share = rng.uniform(0.6, 1.0)  # how much of the taker's colour it is given
    mixed = restyle(
        np.asarray(np.clip(share * toned + (1 - share) * source, 0, 255), np.uint8),
        rng,
        taker.box,
        strength=0.3,
    )
    alpha = np.asarray(soft * rng.uniform(0.8, 1.0), np.float32)[..., None]
    return np.asarray(np.clip(mixed * alpha + taker.picture * (1 - alpha) + 0.5, 0, 255), np.uint8)
