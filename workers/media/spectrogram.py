"""The whole sound as one picture: time across, 0 to 8 kHz upward, quiet dark and loud light."""

from __future__ import annotations

import struct
import wave
import zlib
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.evidence import SOUND_RATE

#: Columns at most: what a printed page and a screen can show. A column is never less than 10 ms of sound.
WIDTH: Final = 1600
HEIGHT: Final = 256
_FINEST: Final = SOUND_RATE // 100
#: 32 ms of sound, 31 Hz a row: the pitch of a voice and the edge of a codec's band are both seen.
_WINDOW: Final = 2 * HEIGHT
#: Looks a column at most; beyond that a column of a long file is a sample of its time, evenly spread.
_LOOKS: Final = 16
#: Windows transformed at once: 8 MB.
_BATCH: Final = 2048
#: Decibels between darkest and lightest. What one point in 200 exceeds is the lightest, so that a click does
#: not darken the rest, but nothing fainter than this re full scale: silence stays dark.
_RANGE: Final = 65.0
_LOUD: Final = 99.5
_FAINTEST: Final = -60.0
_NOTHING: Final = 1e-15  # what digital silence counts as, so that it has a logarithm
#: A colour a 4 dB: a picture of noise at 8 bits a pixel would be three times as large.
_LEVELS: Final = 16
_DEPTH: Final = 4
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def draw(sound: Path) -> bytes:
    """A PNG of a 16 kHz mono 16-bit WAV file, 256 high, at most 1600 wide, at most about 150 kB.

    Time is linear from its left edge, 0 s, to its right, the end of the file. Memory does not grow with it.
    """
    with wave.open(str(sound), "rb") as file:
        count = file.getnframes()
        columns = int(np.clip(count // _FINEST, 1, WIDTH))
        looks = int(np.clip(count // columns // _FINEST, 1, _LOOKS))
        middles = ((np.arange(columns * looks) + 0.5) * count / (columns * looks)).astype(np.int64)
        power = np.concatenate(
            [_powers(file, middles[n : n + _BATCH]) for n in range(0, len(middles), _BATCH)]
        )
    decibels = 10 * np.log10(power.reshape(columns, looks, HEIGHT).mean(axis=1) + _NOTHING)
    top = max(float(np.percentile(decibels, _LOUD)), _FAINTEST)
    levels = np.clip((decibels - top) / _RANGE + 1, 0, 1) * (_LEVELS - 1)
    return _png(np.rint(levels).astype(np.uint8).T[::-1])


def _powers(file: wave.Wave_read, middles: NDArray[np.int64]) -> NDArray[np.float32]:
    """N x 256 powers around these samples, re full scale; silence beyond the file."""
    window = np.hanning(_WINDOW).astype(np.float32)
    pieces = np.zeros((len(middles), _WINDOW), np.float32)
    for row, middle in zip(pieces, middles, strict=True):
        begin = int(middle) - _WINDOW // 2
        start = max(0, begin)
        file.setpos(min(start, file.getnframes()))
        samples = np.frombuffer(file.readframes(_WINDOW - (start - begin)), "<i2")
        row[start - begin : start - begin + len(samples)] = samples
    spectrum = np.abs(np.fft.rfft(pieces * (window / np.float32(32768)), axis=1)[:, 1:])
    return np.asarray((spectrum * (2 / float(window.sum()))) ** 2, np.float32)


def _png(levels: NDArray[np.uint8]) -> bytes:
    """H x W levels below 16 as a PNG of 16 colours (ISO/IEC 15948); OpenCV writes three bytes a pixel."""
    height, width = levels.shape
    even = np.pad(levels, ((0, 0), (0, width % 2)))
    rows = np.pad((even[:, ::2] << _DEPTH) | even[:, 1::2], ((0, 0), (1, 0)))  # filter 0 before each row
    ramp = np.linspace(0, 255, _LEVELS).astype(np.uint8).reshape(-1, 1)
    palette = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    header = struct.pack(">2I5B", width, height, _DEPTH, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows.tobytes(), 9)))
    return _SIGNATURE + b"".join(_chunk(*chunk) for chunk in (*chunks, (b"IEND", b"")))


def _chunk(name: bytes, data: bytes) -> bytes:
    """Length, name, data, checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
