"""Face swaps by landmarks among the test people, for the tables.

The giver's face is warped triangle by triangle onto the taker's landmarks, given the taker's skin colour, and
blended in one of two ways. Training has feathered swaps of its own people, and never Poisson blending.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import cv2
import numpy as np

from training.blend_trace.blend import fill
from training.blend_trace.faces import Picture, Portrait
from training.blend_trace.warp import matched, recoloured, warp

#: Pixels at the edge of the warped face that are kept out of the blend, in sides of the box.
INSET: Final = 0.03
#: Width of the feathered edge, in sides of the box.
FEATHER: Final = 0.035


class Blending(StrEnum):
    """How the warped face is put in."""

    FEATHERED = "feathered"  #: alpha, with a soft edge
    POISSON = "poisson"  #: Perez et al. 2003, cv2.seamlessClone


def swap(giver: Portrait, taker: Portrait, blending: Blending) -> Picture:
    """The taker's picture with the giver's face; inside an ellipse where one of them has no 189 points."""
    from_points, to_points, outline = matched(giver, taker)
    blank = np.zeros(taker.picture.shape[:2], np.float32)
    mask = cv2.erode(fill(blank, outline), np.ones((3, 3)), iterations=max(1, round(INSET * taker.box)))
    warped = warp(giver.picture, from_points, to_points, taker.picture.shape[:2])
    inside = mask > 0
    if blending is Blending.POISSON:
        ys, xs = np.nonzero(inside)
        middle = (int(xs.min() + xs.max() + 1) // 2, int(ys.min() + ys.max() + 1) // 2)
        stencil = np.asarray(inside * 255, np.uint8)
        cloned = cv2.seamlessClone(warped, taker.picture, stencil, middle, cv2.NORMAL_CLONE)
        return np.asarray(cloned, np.uint8)
    coloured = recoloured(warped, taker.picture, inside)
    soft = (
        cv2.GaussianBlur(np.asarray(mask, np.float32), (0, 0), FEATHER * taker.box)[..., None]
        * mask[..., None]
    )
    return np.asarray(np.clip(coloured * soft + taker.picture * (1 - soft) + 0.5, 0, 255), np.uint8)
