"""Where two recordings may have been joined: the background changes at once, or there is a click.

Both are measured over the whole piece, since a joint needs its neighbourhood, and placed in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from core.evidence import SOUND_RATE
from workers.detectors.signals.frames import (
    BANDS,
    HOP,
    SPECTRUM,
    STEPS_PER_SECOND,
    Floats,
    Wave,
    centres,
    mel_decibels,
    powers,
)

#: Seconds on each side in which the background must show itself: people pause about every 2 s.
SIDE_SECONDS: Final = 2.0
#: Levels are averaged over 50 ms first: the minimum of single frames is a matter of luck (Martin 2001).
SMOOTH_STEPS: Final = 5
#: Steps around the joint that belong to neither side.
GUARD_STEPS: Final = 3
#: A click lives above the voice's strong partials.
CLICK_HZ: Final = 5500
#: It is compared with the loudest sample 2.5 to 29.5 ms away: bursts and glottal pulses have company.
RING: Final = (40, 472)
#: Half a click, samples: 0.5 ms.
HALF_CLICK: Final = 8
#: Below this (-60 dBFS in the high band) a click is the rounding of a codec in a pause.
FAINT: Final = 1e-3
_CHUNK: Final = 60 * SOUND_RATE  #: samples a pass: bounds memory to about 50 MB whatever the length


Levels = NDArray[np.float32]  #: mel levels, dB


class Joints(NamedTuple):
    """Two tracks over the piece; both may be empty."""

    step_times: Floats  #: seconds from the first sample
    steps: Floats  #: change of the background between the 2 s before and after, dB
    click_times: Floats
    clicks: Floats  #: how far the sample stands above its neighbourhood, dB
    levels: Levels  #: of each 10 ms, [n, 40]


class Peak(NamedTuple):
    """The strongest point of a track between two times."""

    time: float
    decibels: float


def find(wave: Wave, checkpoint: Callable[[], None]) -> Joints:
    """Background steps and clicks of a whole piece of sound; `checkpoint` is called once a minute of it."""
    bands: list[Levels] = []
    times: list[Floats] = []
    heights: list[Floats] = []
    for begin in range(0, len(wave), _CHUNK):
        checkpoint()
        bands.append(_levels(wave[begin : begin + _CHUNK + SPECTRUM - HOP]))
        at, decibels = _clicks(wave[max(0, begin - RING[1]) : begin + _CHUNK + RING[1]])
        times.append(at + max(0, begin - RING[1]) / SOUND_RATE)
        heights.append(decibels)
    levels = np.concatenate(bands) if bands else np.zeros((0, BANDS), np.float32)
    step_times, steps = _steps(levels)
    empty = np.zeros(0)
    clicks = np.concatenate([empty, *times]), np.concatenate([empty, *heights])
    return Joints(step_times, steps, *clicks, levels)


def strongest(times: Floats, decibels: Floats, begin: float, end: float) -> Peak | None:
    """The highest point in [begin, end) of a track in order of time; None when it has none there."""
    first, last = np.searchsorted(times, (begin, end))
    if first == last:
        return None
    top = first + np.argmax(decibels[first:last])
    return Peak(float(times[top]), float(decibels[top]))


def _levels(wave: Wave) -> Levels:
    """Mel levels of each 10 ms, dB, [n, 40]; float32 to keep half an hour small."""
    return mel_decibels(powers(wave)).astype(np.float32)


def _steps(levels: Levels) -> tuple[Floats, Floats]:
    """Mean change over the bands of the background, taken as the minimum of 2 s on either side."""
    side = int(SIDE_SECONDS * STEPS_PER_SECOND)
    margin = side + GUARD_STEPS
    times = centres(len(levels), SPECTRUM)
    if len(levels) <= 2 * margin:
        return np.zeros(0), np.zeros(0)
    smooth = ndimage.uniform_filter1d(levels, SMOOTH_STEPS, axis=0, mode="nearest")
    floor = ndimage.minimum_filter1d(smooth, side, axis=0, mode="nearest")
    at = np.arange(margin, len(levels) - margin)
    before, after = floor[at - GUARD_STEPS - side // 2], floor[at + GUARD_STEPS + side // 2]
    return times[at], np.mean(np.abs(after - before), axis=1, dtype=np.float64)


def _clicks(wave: Wave) -> tuple[Floats, Floats]:
    """Samples that tower over everything around them: times and heights in dB."""
    if len(wave) <= 2 * RING[1]:
        return np.zeros(0), np.zeros(0)
    edge = signal.firwin(33, CLICK_HZ, fs=SOUND_RATE, pass_zero=False)
    high = np.abs(signal.fftconvolve(wave, edge, "same"))
    near, far = RING
    width, shift = far - near, (far + near) // 2
    crowd = ndimage.maximum_filter1d(high, width, mode="constant")
    at = np.arange(far, len(high) - far)
    own = ndimage.maximum_filter1d(high, 2 * HALF_CLICK + 1, mode="constant")
    at = at[(high[at] == own[at]) & (high[at] > FAINT)]
    around = np.maximum(crowd[at - shift], crowd[at + shift])
    return at / SOUND_RATE, 20 * np.log10(high[at] / np.maximum(around, 1e-5))
