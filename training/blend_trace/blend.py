"""Self-blended images (Shiohara and Yamasaki 2022): a face pasted over itself, slightly changed.

Nothing but the traces of pasting tells such a picture from the untouched one: identity, pose, light and
camera are the same.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.blend_trace.faces import Picture, Points, Portrait

Mask = NDArray[np.float32]

BROWS: Final = tuple(range(71, 87))
JAW: Final = tuple(range(125, 134))
CHEEKS: Final = (*range(109, 112), *range(112, 115))
HAIRLINE: Final = tuple(range(134, 145))
EYES: Final = tuple(range(18, 50))
NOSE: Final = tuple(range(50, 71))
MOUTH: Final = (*range(87, 109), *range(158, 179))
#: Parts of the 189-point template that are replaced together, and how often: a whole face most of all.
REGIONS: Final[tuple[tuple[tuple[int, ...], float], ...]] = (
    (BROWS + CHEEKS + JAW, 0.45),
    (HAIRLINE + CHEEKS + JAW, 0.15),
    (BROWS + EYES + NOSE + MOUTH, 0.2),
    (NOSE + MOUTH + JAW, 0.1),
    (BROWS + EYES, 0.1),
)
#: The same for faces with five points: ellipses in eye distances around the middle between the eyes, in the
#: face's own upright axes: centre below the eyes, half width, half height.
ELLIPSES: Final = (
    (0.62, 1.02, 1.22),
    (0.45, 1.05, 1.5),
    (0.5, 0.82, 0.9),
    (0.95, 0.8, 0.78),
    (0.0, 0.95, 0.5),
)
#: How much of the pasted face is seen, drawn evenly: the published choice.
RATIOS: Final = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


def self_blend(face: Portrait, rng: Generator) -> Picture:
    """The picture with a changed copy of its own face pasted in; `face.picture` is left as it is."""
    source, target = face.picture, face.picture
    if rng.random() < 0.5:
        source = restyle(source, rng, face.box)
    else:
        target = restyle(target, rng, face.box)
    if rng.random() < 0.3:  # both copies may have their own style: a swap has two cameras
        target = restyle(target, rng, face.box, strength=0.5)
    source = shift(source, face, rng)
    mask = soften(region(face, rng), face.box, rng)[..., None]
    mixed = source * mask + target * (1 - mask)
    return np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)


def leave_whole(face: Portrait, rng: Generator) -> Picture:
    """A real counterpart: now and then restyled or resampled as a whole, so that neither tells a fake."""
    picture = restyle(face.picture, rng, face.box) if rng.random() < 0.5 else face.picture
    return shift(picture, face, rng) if rng.random() < 0.4 else picture


def region(face: Portrait, rng: Generator) -> Mask:
    """Which part of the face is replaced: H x W, 0 or 1."""
    mask = np.zeros(face.picture.shape[:2], np.float32)
    choice = int(rng.choice(len(REGIONS), p=[share for _, share in REGIONS]))
    if face.points is not None and rng.random() < 0.7:
        return fill(mask, face.points[list(REGIONS[choice][0])])
    return fill(mask, ellipse(face, *ELLIPSES[choice]))


def ellipse(face: Portrait, below: float, wide: float, high: float) -> Points:
    """48 points around an ellipse that is given in eye distances, as ELLIPSES is."""
    right, left, _, *mouth = (np.asarray(point) for point in face.face.landmarks)
    middle, across = (right + left) / 2, left - right
    down = np.asarray(mouth).mean(0) - middle
    # In a profile the eyes come close together; the mouth does not come closer.
    distance = max(float(np.hypot(*across)), float(np.hypot(*down)) / 1.11)
    x_axis = across / max(float(np.hypot(*across)), 1.0)
    y_axis = np.array([-x_axis[1], x_axis[0]])
    turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)[:, None]
    offsets = wide * np.cos(turns) * x_axis + (below + high * np.sin(turns)) * y_axis
    return np.asarray(middle + distance * offsets, np.float64)


def fill(mask: Mask, points: Points) -> Mask:
    """The mask with the convex hull of the points set to 1."""
    hull = cv2.convexHull(np.round(points).astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(mask, hull, 1.0), np.float32)


def soften(mask: Mask, box: float, rng: Generator) -> Mask:
    """The mask deformed elastically, grown or shrunk, its edge blurred, times a random ratio."""
    mask = elastic(mask, box, rng, reach=0.06)
    mask = _blur(mask, box * rng.uniform(0.01, 0.06))
    if rng.random() < 0.5:  # a threshold above or below a half shrinks or grows a blurred mask
        mask = (mask > rng.uniform(0.15, 0.85)).astype(np.float32)
        mask = _blur(mask, box * rng.uniform(0.004, 0.07))
    return np.asarray(mask * RATIOS[int(rng.integers(len(RATIOS)))], np.float32)


def elastic(picture: NDArray[np.float32], box: float, rng: Generator, *, reach: float) -> NDArray[np.float32]:
    """The picture with every point moved by up to `reach` box sides, smoothly."""
    height, width = picture.shape[:2]
    coarse = rng.uniform(-reach * box, reach * box, (2, 5, 5)).astype(np.float32)
    dx, dy = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in coarse)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(picture, xs + dx, ys + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32)


def shift(picture: Picture, face: Portrait, rng: Generator) -> Picture:
    """The pasted copy moved, scaled and turned a little, sometimes deformed."""
    scale, turn = rng.uniform(0.95, 1.05), rng.uniform(-2, 2)
    left, top, width, height = face.face.box
    matrix = np.asarray(
        cv2.getRotationMatrix2D((left + width / 2, top + height / 2), turn, scale), np.float64
    )
    matrix[:, 2] += rng.uniform(-0.03, 0.03, 2) * face.box
    size = (picture.shape[1], picture.shape[0])
    flags = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    moved = cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.4:
        moved = elastic(np.asarray(moved, np.float32), face.box, rng, reach=0.02)
    return np.asarray(np.clip(moved, 0, 255), np.uint8)


def restyle(picture: Picture, rng: Generator, box: float, *, strength: float = 1.0) -> Picture:
    """Another colour, contrast and sharpness, as another camera or another copy would have."""
    gains = 1 + strength * rng.uniform(-0.07, 0.07, 3) + strength * rng.uniform(-0.1, 0.1)
    shifts = strength * (rng.uniform(-6, 6, 3) + rng.uniform(-10, 10))
    out = np.asarray(picture * gains + shifts, np.float32)
    grey = out.mean(2, keepdims=True)
    out = np.asarray(grey + (out - grey) * (1 + strength * rng.uniform(-0.3, 0.3)), np.float32)
    kind = rng.random()
    if kind < 0.3:  # fewer pixels, as of a smaller original
        factor = rng.uniform(0.3, 0.9)
        size = (max(4, round(out.shape[1] * factor)), max(4, round(out.shape[0] * factor)))
        small = cv2.resize(out, size, interpolation=cv2.INTER_AREA)
        full = (out.shape[1], out.shape[0])
        out = np.asarray(cv2.resize(small, full, interpolation=cv2.INTER_LINEAR), np.float32)
    elif kind < 0.5:
        out = _blur(out, box * rng.uniform(0.002, 0.012))
    elif kind < 0.75:
        soft = _blur(out, box * 0.008)
        out = np.asarray(out + (out - soft) * rng.uniform(0.3, 1.5), np.float32)
    return np.asarray(np.clip(out, 0, 255), np.uint8)


def _blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3)), np.float32)
