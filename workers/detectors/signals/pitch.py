"""Pitch and periodicity by autocorrelation (Boersma 1993), without a compiler in the way."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from scipy import fft

from core.evidence import SOUND_RATE
from workers.detectors.signals.frames import STEPS_PER_SECOND, Floats, Mask, Wave, centres, cut

#: 50 ms: three periods of the lowest voice.
WINDOW: Final = SOUND_RATE // 20
LOWEST_HZ: Final = 60
HIGHEST_HZ: Final = 400
#: What an octave towards longer periods costs, as in Praat's `octave cost` of 0.01.
OCTAVE_COST: Final = 0.01
#: Periodicity from which a step is voiced (Praat's voicing threshold is 0.45), and surely voiced.
VOICED: Final = 0.5
SURELY_VOICED: Final = 0.8
#: Amplitude below which a step is never voiced: -60 dBFS, the noise of quiet rooms.
QUIET: Final = 1e-3
#: A jump: more than 3 semitones between surely voiced steps at most 60 ms apart, beyond the 1 semitone in
#: 10 ms of the fastest deliberate change (Xu & Sun 2002) where they touch. Creak and tracking slips jump too.
JUMP_SEMITONES: Final = 3.0
JUMP_STEPS: Final = 6
#: Voiced time below which a statistic of an interval says nothing.
MIN_STEPS: Final = 30
_LAGS: Final = (SOUND_RATE // HIGHEST_HZ, SOUND_RATE // LOWEST_HZ)


class Track(NamedTuple):
    """One value each 10 ms."""

    times: Floats  #: seconds from the first sample
    hertz: Floats  #: the best period as a frequency, also where nothing is voiced
    periodicity: Floats  #: 0 to 1: the share of the power that repeats
    amplitude: Floats  #: RMS, 1 is full scale


def track(wave: Wave) -> Track:
    """Pitch of each 50 ms frame of the wave; an empty track when it is shorter than a frame."""
    frames = cut(wave, WINDOW).astype(np.float64)
    frames = (frames - frames.mean(axis=1, keepdims=True)) * _window()
    spectrum = np.abs(fft.rfft(frames, _SIZE, axis=1)) ** 2
    correlation = fft.irfft(spectrum, axis=1)[:, : _LAGS[1] + 2]
    energy = np.maximum(correlation[:, 0], 0)
    share = correlation / np.maximum(energy, 1e-12)[:, None] / _window_correlation()
    hertz, periodicity = _best(share)
    amplitude = np.sqrt(energy / np.sum(_window() ** 2))
    return Track(centres(len(frames), WINDOW), hertz, periodicity, amplitude)


_SIZE: Final = 2048  # at least WINDOW plus the longest lag: no wrap-around


@lru_cache(maxsize=1)
def _window() -> Floats:
    return np.asarray(np.hanning(WINDOW + 1)[:-1], np.float64)


@lru_cache(maxsize=1)
def _window_correlation() -> Floats:
    """What the window does to the autocorrelation; dividing by it undoes it (Boersma 1993, eq. 9)."""
    own = fft.irfft(np.abs(fft.rfft(_window(), _SIZE)) ** 2)[: _LAGS[1] + 2]
    return np.asarray(own / own[0], np.float64)


def _best(share: Floats) -> tuple[Floats, Floats]:
    """The strongest period of each frame in Hz, and its periodicity, by a parabola through three lags."""
    low, high = _LAGS
    rows = np.arange(len(share))
    cost = OCTAVE_COST * np.log2(np.arange(low, high) / low)
    peak = np.argmax(share[:, low:high] - cost, axis=1) + low
    before, top, after = share[rows, peak - 1], share[rows, peak], share[rows, peak + 1]
    shift = np.clip(0.5 * (before - after) / np.minimum(before - 2 * top + after, -1e-9), -0.5, 0.5)
    periodicity = np.clip(top - 0.25 * (before - after) * shift, 0, 0.9999)
    return SOUND_RATE / (peak + shift), periodicity


def voiced(found: Track, speech: Mask) -> Mask:
    """Steps of speech in which the vocal folds swing."""
    return speech & (found.periodicity > VOICED) & (found.amplitude > QUIET)


def measures(found: Track, speech: Mask) -> dict[str, float]:
    """What pitch says of the masked steps; without 0.3 s of voice only `voiced_seconds`."""
    steps = voiced(found, speech)
    values = {"voiced_seconds": float(np.sum(steps)) / STEPS_PER_SECOND}
    if np.sum(steps) < MIN_STEPS:
        return values
    semitones = 12 * np.log2(found.hertz / 100)
    spoken, periodic = semitones[steps], found.periodicity[steps]
    middle = float(np.median(spoken))
    values["pitch_median_hz"] = float(100 * 2 ** (middle / 12))
    values["pitch_spread_semitones"] = float(np.median(np.abs(spoken - middle)))
    values["harmonicity_db"] = float(np.median(10 * np.log10(periodic / (1 - periodic))))
    return values | _jumps(semitones, steps & (found.periodicity > SURELY_VOICED))


def _jumps(semitones: Floats, sure: Mask) -> dict[str, float]:
    """Jumps of the pitch in a second of surely voiced steps."""
    at = np.flatnonzero(sure)
    if len(at) < MIN_STEPS:
        return {}
    near = np.diff(at) <= JUMP_STEPS
    jumps = np.sum(near & (np.abs(np.diff(semitones[at])) > JUMP_SEMITONES))
    return {"pitch_jumps_per_second": float(jumps) * STEPS_PER_SECOND / len(at)}
