"""Music: partials that hold still, as notes do and voices do not.

"Continuous frequency activation" (Seyerlehner, Pohle, Schedl & Widmer 2007), which was made for music under
speech in broadcasts, with two additions: a partial counts from a quarter of a second on, and what never stops
(mains hum, a whistling charger) is no note. Drums alone have no partials and are not found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from core.evidence import SOUND_RATE
from workers.detectors.signals.frames import Floats, Mask, Wave

#: 64 ms, so that bins are 15.6 Hz apart, every 32 ms.
FRAME: Final = 1024
HOP: Final = 512
#: A bin is a partial where it stands 3 dB above the mean of the 21 bins around it, for 8 frames (0.26 s).
ABOVE_DB: Final = 3.0
AROUND_BINS: Final = 21
HOLD_FRAMES: Final = 8
#: Lines are counted from a second before an interval to a second after it.
CONTEXT_SECONDS: Final = 1.0
#: The strongest five count, so that the measure goes from 0 to 5.
STRONGEST: Final = 5
#: A bin that is active 90 % of the 12 s around the interval is no note, where at least 8 s are there.
STEADY_SECONDS: Final = 12.0
STEADY_LEAST: Final = 8.0
STEADY_SHARE: Final = 0.9
#: Hum is heard up to here; half of all bins lie beside one of its lines.
MAINS_TOP_HZ: Final = 1000.0
#: Where nobody speaks, from here on it is music; noise and single tones stay below 1.5.
ALONE: Final = 2.0
#: Under a voice, whose vowels hold still now and then: real speech stays below 3, with a long echo below 3.3.
UNDER_VOICE: Final = 3.3
_CHUNK: Final = 60 * SOUND_RATE // HOP * HOP  #: samples a pass: bounds memory
_FLOOR: Final = 1e-7
_FRAMES_PER_SECOND: Final = SOUND_RATE / HOP

Activity = NDArray[np.bool_]  #: [frames, bins]: where a partial holds still


def find(wave: Wave, checkpoint: Callable[[], None]) -> Activity:
    """Steady partials of a whole piece of sound; `checkpoint` is called once a minute of it."""
    parts: list[Activity] = []
    for begin in range(0, len(wave), _CHUNK):
        checkpoint()
        parts.append(_above(wave[begin : begin + _CHUNK + FRAME - HOP]))
    active = np.concatenate(parts) if parts else np.zeros((0, FRAME // 2 + 1), np.bool_)
    return np.asarray(ndimage.binary_opening(active, np.ones((HOLD_FRAMES, 1))), np.bool_)


def lines(active: Activity, begin: float, end: float, mains: float | None = None) -> float | None:
    """How much of the time between two times (seconds) the five steadiest partials last: 0 to 5.

    Harmonics of `mains` (Hz) do not count. None when less than half a second of frames is there.
    """
    near = _rows(active, begin - CONTEXT_SECONDS, end + CONTEXT_SECONDS)
    if len(near) < _FRAMES_PER_SECOND / 2:
        return None
    share = near.mean(axis=0, dtype=np.float64)
    share[_always(_around(active, (begin + end) / 2, STEADY_SECONDS))] = 0
    if mains is not None:
        hertz = np.arange(len(share)) * SOUND_RATE / FRAME
        beside = np.abs(hertz - mains * np.round(hertz / mains))
        share[(beside < SOUND_RATE / FRAME) & (hertz < MAINS_TOP_HZ)] = 0
    return float(np.sum(np.sort(_heights(share))[-STRONGEST:]))


def _above(wave: Wave) -> Activity:
    """Which bins of each frame stand above their neighbourhood."""
    if len(wave) < FRAME:
        return np.zeros((0, FRAME // 2 + 1), np.bool_)
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP]
    spectrum = fft.rfft(frames * np.hanning(FRAME + 1)[:-1].astype(np.float32), axis=1)
    decibels = 10 * np.log10(np.abs(spectrum) ** 2 + np.float32(_FLOOR))
    around = ndimage.uniform_filter1d(decibels, AROUND_BINS, axis=1, mode="nearest")
    return np.asarray(decibels - around > ABOVE_DB, np.bool_)


def _rows(active: Activity, begin: float, end: float) -> Activity:
    """The frames between two times."""
    return active[max(0, round(begin * _FRAMES_PER_SECOND)) : max(0, round(end * _FRAMES_PER_SECOND))]


def _around(active: Activity, middle: float, seconds: float) -> Activity:
    """That many seconds around a moment, moved inside the piece at its ends."""
    whole = len(active) / _FRAMES_PER_SECOND
    begin = max(0.0, min(middle - seconds / 2, whole - seconds))
    return _rows(active, begin, begin + seconds)


def _always(active: Activity) -> Mask:
    """The bins that hardly ever stop, and their neighbours."""
    if len(active) < STEADY_LEAST * _FRAMES_PER_SECOND:
        return np.zeros(active.shape[1], np.bool_)
    return np.asarray(ndimage.binary_dilation(active.mean(axis=0) > STEADY_SHARE), np.bool_)


def _heights(share: Floats) -> Floats:
    """Height of each peak over the higher of the two valleys beside it."""
    values = share[np.r_[True, np.diff(share) != 0]]
    rising = np.diff(values) > 0
    turns = np.flatnonzero(rising[1:] != rising[:-1]) + 1
    extremes = values[np.r_[0, turns, len(values) - 1]]
    if len(extremes) < 3:  # noqa: PLR2004 - a peak between two valleys
        return np.zeros(1)
    middle = extremes[1:-1]
    return np.maximum(0, middle - np.maximum(extremes[:-2], extremes[2:]))
