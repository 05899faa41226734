"""Where the parts of a face lie in an aligned crop, and how one of them is hidden.

Extraction puts the middle between the eyes at (0.50, 0.42) of every crop and the eyes 0.27 of its side
apart; measured over 64 portraits the nose tip then lies at (0.50, 0.58) and the mouth corners at (0.38, 0.70)
and (0.62, 0.70), each to within 0.02. The shapes below are drawn around those places. They fit a frontal
face; of a profile they cover about the right part, which is why effects are averages over frames.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from core.domain import Region

Crop = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]
#: Centre x, y and half axes, in parts of the crop's side.
Ellipse = tuple[float, float, float, float]

SHAPES: Final[dict[Region, tuple[Ellipse, ...]]] = {
    Region.EYES: ((0.365, 0.410, 0.105, 0.065), (0.635, 0.410, 0.105, 0.065)),
    Region.NOSE: ((0.500, 0.535, 0.075, 0.100),),
    Region.MOUTH: ((0.500, 0.705, 0.155, 0.065),),
    Region.FOREHEAD: ((0.500, 0.255, 0.180, 0.075),),
    Region.CHEEKS: ((0.310, 0.585, 0.075, 0.095), (0.690, 0.585, 0.075, 0.095)),
    Region.CHIN: ((0.500, 0.845, 0.140, 0.060),),
}
#: The outline of the face, from the hairline to below the chin; its boundary is a band along it.
OUTLINE: Final[Ellipse] = (0.500, 0.530, 0.320, 0.400)
BAND: Final = (0.90, 1.14)  # inner and outer edge, in parts of the outline
#: What surrounds the face and belongs to none of the regions: hiding it is the control.
OUTSIDE: Final = 1.25
#: Soft edge of a mask: a hard one would look like the very blending seam that detectors are made to find.
FEATHER: Final = 0.012
#: Width of the blur that stands in for what is hidden; wide enough that no feature of a face survives.
BLUR: Final = 0.10
#: The blur is made on a picture this many times smaller: it holds nothing finer, and costs a hundredth.
SHRINK: Final = 4
SYMMETRY: Final = Region.UNNATURAL_SYMMETRY


def occlusions(crop: Crop) -> dict[Region, list[Crop]]:
    """The crop (H x W x 3, uint8) with each region hidden in turn, in one or two ways.

    For `unnatural_symmetry` one half is replaced by the other mirrored, both ways: what changes is the
    relation between the halves, and a trace that lies in one half cancels out in the mean of the two.
    """
    height, width = crop.shape[:2]
    surroundings = {region: mask(region, height, width) for region in (*SHAPES, Region.FACE_BOUNDARY)}
    hidden = {region: [hide(crop, where)] for region, where in surroundings.items()}
    return {**hidden, SYMMETRY: mirrored(crop)}


def control(crop: Crop) -> Crop:
    """The crop with the background hidden instead of a part of the face: what hiding as such does."""
    return hide(crop, outside(*crop.shape[:2]))


def hide(crop: Crop, where: Mask) -> Crop:
    """Fill `where` (H x W, 0 to 1) with its heavily blurred surroundings; nothing of the inside leaks in."""
    height, width = where.shape
    small = (max(1, width // SHRINK), max(1, height // SHRINK))
    seen = cv2.resize(1 - where, small, interpolation=cv2.INTER_AREA)
    colours = cv2.resize(
        crop.astype(np.float32) * (1 - where)[..., None], small, interpolation=cv2.INTER_AREA
    )
    sigma = BLUR * max(small)
    weight = cv2.GaussianBlur(seen, (0, 0), sigma)[..., None]
    mean = cv2.GaussianBlur(colours, (0, 0), sigma) / np.maximum(weight, 1e-4)
    fill = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
    blended = crop + (fill - crop) * where[..., None]
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def mirrored(crop: Crop) -> list[Crop]:
    """The crop with the right half mirrored onto the left, and the other way round."""
    flipped = crop[:, ::-1]
    left = np.arange(crop.shape[1])[None, :, None] < crop.shape[1] / 2
    return [np.where(left, flipped, crop), np.where(left, crop, flipped)]


@lru_cache(maxsize=32)
def mask(region: Region, height: int, width: int) -> Mask:
    """Where a region lies in a crop of that size: H x W, 0 to 1, with a soft edge; do not write to it."""
    if region is Region.FACE_BOUNDARY:
        inner, outer = (inside((_scaled(OUTLINE, edge),), height, width) for edge in BAND)
        return soft(outer & ~inner)
    return soft(inside(SHAPES[region], height, width))


@lru_cache(maxsize=4)
def outside(height: int, width: int) -> Mask:
    """Where the background lies, for the control."""
    return soft(~inside((_scaled(OUTLINE, OUTSIDE),), height, width))


def inside(shapes: tuple[Ellipse, ...], height: int, width: int) -> npt.NDArray[np.bool_]:
    """The pixels whose centres lie in one of the shapes."""
    y, x = np.mgrid[:height, :width]
    x, y = (x + 0.5) / width, (y + 0.5) / height
    within = np.zeros((height, width), np.bool_)
    for centre_x, centre_y, half_width, half_height in shapes:
        within |= ((x - centre_x) / half_width) ** 2 + ((y - centre_y) / half_height) ** 2 <= 1
    return within


def _scaled(shape: Ellipse, factor: float) -> Ellipse:
    return shape[0], shape[1], shape[2] * factor, shape[3] * factor


def soft(within: npt.NDArray[np.bool_]) -> Mask:
    """The same area as shares from 0 to 1 with a soft edge; do not write to it."""
    share = cv2.GaussianBlur(within.astype(np.float32), (0, 0), FEATHER * max(within.shape))
    share.flags.writeable = False  # it is shared by every caller
    return np.asarray(share, np.float32)
