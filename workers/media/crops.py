"""Aligned face crops, how sharp and bright they are, and which of them are worth a score."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.domain import Reason
from core.evidence import CROP_SIDE
from workers.media.faces import Detection
from workers.media.picture import Picture

#: Distance of the eyes in a crop, as a part of its side. The face then fills 60% of the width and the
#: crop reaches from above the hairline to below the chin, as in the sets detectors are trained on.
EYE_DISTANCE: Final = 0.27
#: Where the middle between the eyes lies in a crop, as a part of its side.
EYE_CENTRE: Final = (0.5, 0.42)
#: Eye-to-mouth over eye-to-eye distance in a frontal face: 2.0 / 1.8 in the alignment of FFHQ (Karras
#: et al. 2019). The larger of the two measures gives the scale, so that a profile, whose eyes come
#: close together, is not blown up.
EYE_TO_MOUTH: Final = 2.0 / 1.8
#: Distance of a crop's farthest corner from the middle between the eyes, in sides, and a little more.
_CORNER: Final = 0.78
#: Shorter side of a face's box, in pixels of the full frame. A crop is stretched 1.6 times the box:
#: below 48 pixels more than three of four crop pixels would be invented by interpolation.
MIN_FACE_PIXELS: Final = 48
#: Variance of the Laplacian (Pech-Pacheco et al. 2000) below which a crop holds no detail to judge.
#: Measured on 13 test clips: 19 to 417 as they are, 3 to 8 under a Gaussian of 2 crop pixels (3% of the
#: distance of the eyes, which hides pores and teeth), 2 under any stronger one.
MIN_SHARPNESS: Final = 5.0
#: Part of the inner face's contrast that is finer than a 64th of the crop, below which nothing finer than
#: eyes and lips is left, whatever a codec has put on top. Measured: 13 clips as they are 0.12 to 0.19, four
#: talkers at 200 pixels' width and CRF 35 0.063 and more, blurred before encoding by 5% of the distance of
#: the eyes 0.064 at most, by 7% and more 0.054 at most.
MIN_DETAIL: Final = 0.056
_FINER: Final = 4
#: Eyes to mouth without the outline, as parts of the side: top, bottom, left, right.
_INNER: Final = (0.27, 0.82, 0.25, 0.75)
#: Mean luma below which skin is in the bottom eighth of the scale, where video codecs quantise hardest.
MIN_BRIGHTNESS: Final = 32.0


def align(rgb: Picture, face: Detection) -> Picture:
    """The face upright in a 256 x 256 x 3 RGB crop, eyes in their canonical place.

    Beyond the edge of the frame it is mirrored: black would be an edge and repetition a texture of its own.
    """
    right, left, _, mouth_right, mouth_left = (np.asarray(point, np.float64) for point in face.landmarks)
    centre = (right + left) / 2
    across = left - right
    down = (mouth_right + mouth_left) / 2 - centre
    distance = max(float(np.hypot(*across)), float(np.hypot(*down)) / EYE_TO_MOUTH, 1.0)
    scale = EYE_DISTANCE * CROP_SIDE / distance
    angle = float(np.arctan2(across[1], across[0]))
    picture, centre, scale = _shrink(rgb, centre, scale)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    shift = np.array(EYE_CENTRE) * CROP_SIDE - turn @ centre
    matrix = np.column_stack([turn, shift])
    crop = cv2.warpAffine(
        picture, matrix, (CROP_SIDE, CROP_SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(crop, np.uint8)


def _shrink(
    rgb: Picture, centre: NDArray[np.float64], scale: float
) -> tuple[Picture, NDArray[np.float64], float]:
    """The part around a face, averaged down by a whole factor to about the crop's scale.

    Warping alone would alias: it looks at four pixels only. A whole factor is OpenCV's fast path.
    """
    reach = _CORNER * CROP_SIDE / scale
    height, width = rgb.shape[:2]
    x0, x1 = (int(np.clip(centre[0] + side * reach, 0, width)) for side in (-1, 1))
    y0, y1 = (int(np.clip(centre[1] + side * reach, 0, height)) for side in (-1, 1))
    factor = max(1, round(1 / scale))
    columns, rows = (x1 - x0) // factor, (y1 - y0) // factor
    if columns < 1 or rows < 1:  # eyes placed outside the frame: nothing to cut out
        return rgb, centre, scale
    part = rgb[y0 : y0 + rows * factor, x0 : x0 + columns * factor]
    if factor > 1:
        part = np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    # A shrunk pixel is the mean of `factor` pixels, so its centre lies in their middle.
    return part, (centre - (x0, y0) + 0.5) / factor - 0.5, scale * factor


def sharpness(crop: Picture) -> float:
    """Variance of the Laplacian of the crop's luma."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def detail(crop: Picture) -> float:
    """Part of the contrast of the inner face that shrinking it to a quarter destroys, 0 to 1."""
    top, bottom, left, right = (round(part * CROP_SIDE) for part in _INNER)
    face = cv2.cvtColor(crop[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = face.shape
    coarse = cv2.resize(face, (width // _FINER, height // _FINER), interpolation=cv2.INTER_AREA)
    fine = face - cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return min(1.0, float(fine.std()) / max(float(face.std()), 1e-6))


def brightness(crop: Picture) -> float:
    """Mean luma of the crop, 0 to 255."""
    return float(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).mean())


def unscorable(face: Detection, frame: tuple[int, int], crop: Picture, *, corrupt: bool) -> Reason | None:
    """Why no detector should be asked about this face; `frame` is width and height. None when one should."""
    if corrupt:  # the decoder painted over damage: a detector would call that forged
        return Reason.DECODE_ERROR
    if any(not (0 <= x < frame[0] and 0 <= y < frame[1]) for x, y in face.landmarks):
        return Reason.OCCLUDED  # an eye or a corner of the mouth lies beyond the edge of the picture
    if min(face.box[2:]) < MIN_FACE_PIXELS:
        return Reason.FACE_TOO_SMALL
    if brightness(crop) < MIN_BRIGHTNESS:
        return Reason.TOO_DARK
    blurred = sharpness(crop) < MIN_SHARPNESS or detail(crop) < MIN_DETAIL
    return Reason.BLURRED if blurred else None
