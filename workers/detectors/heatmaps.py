"""Where a model looked, as pictures: attention rollout where it has attention, else occlusion in a grid.

Neither says where a forgery lies. Rollout shows what reached the classifier, for either answer; occlusion
shows what the score rested on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from workers.detectors import regions
from workers.detectors.base import Crops, FrameDetector, Heats
from workers.detectors.regions import Crop, Mask
from workers.detectors.sight import Suspect

Method = Literal["attention_rollout", "occlusion_grid"]
Heat = npt.NDArray[np.float32]
#: Cells to a side: six faces of 36 hidden cells are 216 crops, less than one full shard of 256. A cell is
#: 43 pixels of the crop: an eye with its lid, or half a mouth.
GRID: Final = 6
#: A drop in the score that is drawn in full strength at once; smaller ones stay pale.
FULL_DROP: Final = 0.05
#: Share of the colour in an overlay; the rest is the face in grey.
COLOUR: Final = 0.6
#: Even in lightness and the same for colour-blind eyes; from black (nothing) to pale yellow (most).
PALETTE: Final = cv2.COLORMAP_INFERNO
_JPEG: Final = (cv2.IMWRITE_JPEG_QUALITY, 88)


@dataclass(frozen=True)
class Portrait:
    """A suspicious face as JPEGs, 256 x 256."""

    suspect: Suspect
    detector: str  #: its id
    method: Method
    crop: bytes
    heatmap: bytes


def portraits(
    suspects: Sequence[Suspect],
    crops: Crops,
    detector: FrameDetector,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> list[Portrait]:
    """Their crops (rows of `crops`), each also under its heatmap. Raises DetectorFailed."""
    if not suspects:
        return []
    faces = crops[[one.row for one in suspects]]
    method, heats = _heats(faces, [one.face.score for one in suspects], detector, checkpoint)
    return [
        Portrait(one, detector.identity.id, method, _jpeg(face), _jpeg(overlay(face, heat)))
        for one, face, heat in zip(suspects, faces, heats, strict=True)
    ]


def occlusion_grid(
    faces: Crops,
    scores: Sequence[float],
    detector: FrameDetector,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> Heats:
    """N x GRID x GRID, 0 to 1: how far the score falls when a cell is hidden (Zeiler and Fergus 2014)."""
    heats = []
    for face, score in zip(faces, scores, strict=True):
        hidden = np.stack([regions.hide(face, cell) for cell in cells(*face.shape[:2])])
        drops = score - detector.scores(hidden, checkpoint=checkpoint)
        heats.append(np.clip(drops / max(float(drops.max()), FULL_DROP), 0, 1).reshape(GRID, GRID))
    return np.stack(heats).astype(np.float32)


def overlay(face: Crop, heat: Heat) -> Crop:
    """The face (H x W x 3, RGB) in grey under its heat (any size, 0 to 1) in colour."""
    height, width = face.shape[:2]
    smooth = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    coloured = cv2.applyColorMap(np.rint(255 * smooth).astype(np.uint8), PALETTE)[..., ::-1]
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None]
    return np.rint((1 - COLOUR) * grey + COLOUR * coloured).astype(np.uint8)


@lru_cache(maxsize=2)
def cells(height: int, width: int) -> tuple[Mask, ...]:
    """GRID x GRID squares of a crop with soft edges, row by row; together they cover it."""
    down, across = (np.arange(side) * GRID // side for side in (height, width))
    return tuple(
        regions.soft((down == row)[:, None] & (across == column)[None, :])
        for row in range(GRID)
        for column in range(GRID)
    )


def _heats(
    faces: Crops, scores: Sequence[float], detector: FrameDetector, checkpoint: Callable[[], None] | None
) -> tuple[Method, Heats]:
    found = detector.attention(faces, checkpoint=checkpoint)
    if found is not None:
        return "attention_rollout", found
    return "occlusion_grid", occlusion_grid(faces, scores, detector, checkpoint=checkpoint)


def _jpeg(rgb: Crop) -> bytes:
    """Raises ValueError when OpenCV cannot, which it always can."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)
    if not done:
        raise ValueError("a crop that is no picture")
    return data.tobytes()
