"""Where a waveform does not go on: one sample that nothing before it foretold, and no click about it.

The error of linear prediction (order 12, from the 32 ms around) against the errors of 20 ms on both sides.
Glottal pulses and lip noise have company; two waveforms set against each other have one edge. A cross-fade of
5 ms leaves nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from core.evidence import SOUND_RATE
from workers.detectors.signals.frames import Floats, Wave

Errors = NDArray[np.float32]

ORDER: Final = 12
FRAME: Final = 512
HOP: Final = 256
#: Samples away from the edge between which nothing else may stand out: 0.6 to 20 ms.
RING: Final = (10, 320)
#: Half an edge, samples.
HALF: Final = 4
#: Errors below -80 dBFS are the rounding of 16 bits.
FAINT: Final = 1e-4
_CHUNK: Final = 60 * SOUND_RATE  #: samples a pass
_OVERLAP: Final = 2048  #: samples that two passes share: frames and rings at the border
_ALONE: Final = 6.0  #: dB from which an edge is kept at all


def find(wave: Wave, checkpoint: Callable[[], None]) -> tuple[Floats, Floats]:
    """Edges of a whole piece of sound: times in seconds, and dB above their surroundings."""
    times, heights = [np.zeros(0)], [np.zeros(0)]
    for begin in range(0, len(wave), _CHUNK):
        checkpoint()
        first = max(0, begin - _OVERLAP)
        at, decibels = _edges(_errors(wave[first : begin + _CHUNK + _OVERLAP]))
        at = at + first
        own = (at >= begin) & (at < begin + _CHUNK)
        times.append(at[own] / SOUND_RATE)
        heights.append(decibels[own])
    return np.concatenate(times), np.concatenate(heights)


def _errors(wave: Wave) -> Errors:
    """How far each sample lies from its prediction; 0 within 8 ms of the ends."""
    errors = np.zeros(len(wave), np.float32)
    count = (len(wave) - FRAME) // HOP + 1
    if count < 1:
        return errors
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP]
    spectrum = fft.rfft(frames * np.hanning(FRAME + 2)[1:-1].astype(np.float32), 2 * FRAME, axis=1)
    correlation = fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : ORDER + 1].astype(np.float64)
    correlation[:, 0] = correlation[:, 0] * 1.0001 + 1e-9  # what keeps silence and tones solvable
    lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    weights = np.linalg.solve(correlation[:, lags], correlation[:, 1:, None])[..., 0]
    edge = (FRAME - HOP) // 2
    middle = wave[edge - ORDER : edge + count * HOP]
    past = np.lib.stride_tricks.sliding_window_view(middle, ORDER + 1)[: count * HOP]
    rows = past.reshape(count, HOP, ORDER + 1)
    filters = np.concatenate([-weights[:, ::-1], np.ones((count, 1))], axis=1).astype(np.float32)
    errors[edge : edge + count * HOP] = (rows @ filters[..., None]).reshape(-1)
    return errors


def _edges(errors: Errors) -> tuple[NDArray[np.intp], Floats]:
    """Samples whose error stands above everything around: where, and by how many dB."""
    near, far = RING
    size = np.abs(errors)
    if len(size) <= 2 * far:
        return np.zeros(0, np.intp), np.zeros(0)
    own = ndimage.maximum_filter1d(size, 2 * HALF + 1, mode="constant")
    crowd = ndimage.maximum_filter1d(size, far - near, mode="constant")
    at = np.arange(far, len(size) - far)
    at = at[(size[at] == own[at]) & (size[at] > FAINT)]
    shift = (far + near) // 2
    around = np.maximum(np.maximum(crowd[at - shift], crowd[at + shift]), FAINT)
    decibels = 20 * np.log10(size[at].astype(np.float64) / around)
    return at[decibels > _ALONE], decibels[decibels > _ALONE]
