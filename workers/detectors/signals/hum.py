"""Mains hum, and where its phase jumps: the grid does not wait for whoever cuts a recording (Grigoras 2005).

The hum is followed by demodulation of 50 or 60 Hz and their harmonics at the measured frequency. A cut shifts
all of them by one time, which is what is tested: the likelihood of one common shift against none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from core.evidence import SOUND_RATE
from workers.detectors.signals.frames import Floats, Wave

Phasors = NDArray[np.complex128]  #: [harmonics, steps]

RATE: Final = 1000  #: Hz at which hum is followed, in steps of 10 ms
STEP: Final = 10
STEPS_PER_SECOND: Final = RATE // STEP
HARMONICS: Final = np.arange(1, 9)
NOMINAL: Final = (50.0, 60.0)
#: Grids stray by 0.2 Hz, cheap clocks of recorders by less.
STRAY: Final = 0.5
#: Sound without which the frequency is not known well enough.
LEAST_SECONDS: Final = 5.0
#: How far the eight lines together stand above what is 1.5 to 6 Hz beside them, dB, each counting 30 at most.
#: Speech is mostly below 45; speech over hum at -20 dB mostly above 70.
STANDS_OUT_DB: Final = 50.0
#: Phases are compared between so many steps before and after a moment.
SIDE: Final = STEPS_PER_SECOND
_FRAME: Final = 4096
_FINE: Final = 16384  #: points of the spectrum in which the lines are looked for: 0.06 Hz
_LAG: Final = 25  #: steps between two phases that give a frequency: 0.25 s
_NEAR: Final = 6 * STEPS_PER_SECOND  #: steps a frequency is averaged over
_BESIDE: Final = (-7.0, -4.0, 4.0, 7.0)  #: Hz beside the lines, where the same is measured for comparison
_MOST: Final = 50.0  #: what one harmonic may add to a likelihood: voices pass over them
_STRONGER: Final = 2.0  #: times the usual strength at which a line is no longer hum alone
_QUIET: Final = 1e-16


class Hum(NamedTuple):
    """Hum of a piece of sound; `times` and `shifts` are empty without any."""

    mains: float | None  #: Hz
    times: Floats  #: seconds from the first sample
    shifts: Floats  #: log likelihood ratio of a jump of the phase there against none


def find(wave: Wave, checkpoint: Callable[[], None]) -> Hum:
    """Look for hum and follow it. `checkpoint` is called between the parts of the work."""
    none = Hum(None, np.zeros(0), np.zeros(0))
    if len(wave) < LEAST_SECONDS * SOUND_RATE:
        return none
    checkpoint()
    low = signal.resample_poly(wave, 1, SOUND_RATE // RATE).astype(np.float64)
    mains = _mains(low)
    if mains is None:
        return none
    checkpoint()
    cycles = _followed(low, mains)
    checkpoint()
    lines = _demodulated(low, cycles, 0.0)
    beside = [_demodulated(low, cycles, offset) for offset in _BESIDE]
    return Hum(mains, *_shifts(lines, beside))


def _mains(low: Floats) -> float | None:
    """The frequency whose harmonics stand out most, Hz; None where they do not."""
    length = min(_FRAME, len(low))
    *_, spectra = signal.stft(
        low, RATE, nperseg=length, noverlap=length * 3 // 4, nfft=_FINE, boundary=None, padded=False
    )
    # The quieter third of the time: hum is always there, the voice is not.
    decibels = 10 * np.log10(np.percentile(np.abs(spectra) ** 2, 30, axis=1) + _QUIET)
    around = [np.arange(nominal - STRAY, nominal + STRAY, 0.02) for nominal in NOMINAL]
    tried = np.concatenate(around)
    score = np.array([_standing(decibels, hertz) for hertz in tried])
    best = int(np.argmax(score))
    return float(tried[best]) if score[best] >= STANDS_OUT_DB else None


def _standing(decibels: Floats, hertz: float) -> float:
    """How far the harmonics stand above their surroundings, summed."""
    bins = _FINE / RATE
    near, far = round(1.5 * bins), round(6 * bins)
    total = 0.0
    for line in np.round(HARMONICS * hertz * bins).astype(int):
        beside = np.r_[decibels[line - far : line - near], decibels[line + near : line + far]]
        total += float(np.clip(decibels[line] - np.median(beside), 0, 30))
    return total


def _followed(low: Floats, mains: float) -> Floats:
    """Cycles of the mains up to each sample, its frequency corrected by up to 0.2 Hz every half second."""
    cycles = mains * np.arange(len(low)) / RATE
    lines = ndimage.uniform_filter1d(_demodulated(low, cycles, 0.0), _LAG, axis=1)
    turns = lines[:, _LAG:] * np.conj(lines[:, :-_LAG])
    turns /= np.sqrt(np.abs(turns)) + _QUIET
    turns = ndimage.uniform_filter1d(turns, min(_NEAR, turns.shape[1]), axis=1, mode="nearest")
    at = np.arange(0, turns.shape[1], STEPS_PER_SECOND // 2)
    tried = np.arange(-0.2, 0.2001, 0.005)
    expected = np.exp(-2j * np.pi * np.outer(HARMONICS, tried) * _LAG / STEPS_PER_SECOND)
    astray = tried[np.argmax((turns[:, at].T @ expected).real, axis=1)]
    seconds = np.arange(len(low)) / RATE
    corrected = np.interp(seconds, (at + _LAG / 2) / STEPS_PER_SECOND, astray)
    return np.asarray(cycles + np.cumsum(corrected) / RATE, np.float64)


def _demodulated(low: Floats, cycles: Floats, offset: float) -> Phasors:
    """Each harmonic, moved by `offset` Hz, as the sum over each step."""
    count = len(low) // STEP * STEP
    base = np.exp(-2j * np.pi * cycles[:count])
    turning = low[:count] * np.exp(-2j * np.pi * offset * np.arange(count) / RATE)
    found = np.empty((len(HARMONICS), count // STEP), np.complex128)
    for row in range(len(HARMONICS)):
        turning = turning * base
        found[row] = turning.reshape(-1, STEP).sum(axis=1)
    return found


def _shifts(lines: Phasors, beside: list[Phasors]) -> tuple[Floats, Floats]:
    """Times, and the log likelihood ratio of a shift that all harmonics share against none."""
    steps = lines.shape[1]
    if steps < 2 * SIDE + 2:
        return np.zeros(0), np.zeros(0)
    before, after = _sides(lines)
    power = sum(np.abs(side) ** 2 for one in beside for side in _sides(one)) / (2 * len(beside))
    power = np.maximum(power, np.median(power, axis=1, keepdims=True)) + _QUIET
    power = ndimage.maximum_filter1d(power, STEPS_PER_SECOND, axis=1)
    likely = after * np.conj(before) / power
    likely /= np.maximum(1, np.abs(likely) / _MOST)
    likely[~(_as_ever(before) & _as_ever(after))] = 0
    angles = np.exp(-2j * np.pi * np.outer(np.arange(64) / 64, HARMONICS))
    ratio = np.max((angles @ likely).real, axis=0) - np.sum(likely.real, axis=0)
    return np.arange(SIDE, SIDE + len(ratio)) / STEPS_PER_SECOND, ratio


def _as_ever(means: Phasors) -> NDArray[np.bool_]:
    """Where a line has about its usual strength: a voice of twice the mains' pitch is stronger."""
    strength = np.abs(means)
    usual = np.median(strength, axis=1, keepdims=True)
    return np.asarray((strength < usual * _STRONGER) & (strength > usual / _STRONGER), np.bool_)


def _sides(lines: Phasors) -> tuple[Phasors, Phasors]:
    """Means of the second before and the second after each step that has both."""
    total = np.cumsum(np.pad(lines, ((0, 0), (1, 0))), axis=1)
    means = (total[:, SIDE:] - total[:, :-SIDE]) / SIDE
    return means[:, :-SIDE], means[:, SIDE:]
