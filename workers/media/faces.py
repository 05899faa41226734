"""Finds faces. The one place that knows yuface, so that another detector can take its place."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import yuface
from numpy.typing import NDArray

#: The network's cost grows with the picture and its accuracy does not: 28 ms at 640 pixels.
LONGEST_SIDE: Final = 640
#: Below this confidence the detector's own authors call it no face.
MIN_CONFIDENCE: Final = 0.5
#: The network has a stride of 32; nothing narrower can hold a face, and it was never tried there.
_MIN_SIDE: Final = 32
#: libfacedetection's own size (DETECT_BUFFER_SIZE) is 0x20000 at most over its versions.
_BUFFER_BYTES: Final = 0x20000
#: int16 values a face: confidence in percent, x, y, width, height, five points, one unused.
_FIELDS: Final = 16
#: `int *facedetect_cnn(unsigned char *buffer, unsigned char *bgr, int width, int height, int step)`
_SYMBOL: Final = "_Z14facedetect_cnnPhS_iii"

Array = NDArray[np.uint8]
Point = tuple[float, float]


@dataclass(frozen=True)
class Detection:
    """One face, in pixels of the picture that was given."""

    box: tuple[float, float, float, float]  #: x, y, width, height
    confidence: float  #: 0 to 1
    landmarks: tuple[Point, Point, Point, Point, Point]  #: right eye, left eye, nose, mouth right, left


class FaceDetector:
    """Thread-safe. Calls the library itself: yuface's own wrapper keeps the interpreter locked for 28 ms."""

    def __init__(self) -> None:
        library = ctypes.CDLL(str(next(Path(yuface.__file__).parent.glob("libfacedetection.so.*"))))
        self._detect = library[_SYMBOL]
        self._detect.restype = ctypes.c_void_p
        self._detect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 3]
        # The library builds its tables in the first call, without a lock.
        self.detect(np.zeros((64, 64, 3), np.uint8), 1.0)

    def detect(self, bgr: Array, scale: float) -> list[Detection]:
        """Faces in a small H x W x 3 BGR picture, largest first, in pixels times `scale`."""
        height, width = bgr.shape[:2]
        if min(height, width) < _MIN_SIDE:
            return []
        bgr = np.ascontiguousarray(bgr)
        buffer = np.zeros(_BUFFER_BYTES, np.uint8)
        self._detect(buffer.ctypes.data, bgr.ctypes.data, width, height, width * 3)
        count = min(int(buffer[:4].view(np.int32)[0]), (_BUFFER_BYTES - 4) // (2 * _FIELDS))
        rows = buffer[4 : 4 + 2 * _FIELDS * count].view(np.int16).reshape(count, _FIELDS).astype(np.float64)
        found = [
            _detection(row, scale) for row in rows if row[0] > 100 * MIN_CONFIDENCE and row[3:5].min() > 0
        ]
        return sorted(found, key=lambda one: -one.box[2] * one.box[3])


def _detection(row: NDArray[np.float64], scale: float) -> Detection:
    """One row of the library's result."""
    x, y, width, height, *points = (float(value) * scale for value in row[1:15])
    pairs = list(zip(points[::2], points[1::2], strict=True))
    return Detection(
        box=(x, y, width, height),
        confidence=min(1.0, float(row[0]) / 100),
        landmarks=(pairs[0], pairs[1], pairs[2], pairs[3], pairs[4]),
    )


def small_bgr(rgb: Array) -> tuple[Array, float]:
    """The picture for the detector, longer side at most 640 pixels, and the factor back to full size."""
    height, width = rgb.shape[:2]
    factor = max(1.0, max(height, width) / LONGEST_SIDE)
    if factor > 1:
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8), factor
