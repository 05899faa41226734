"""What the spectrum of speech says: hiss, smoothness, whistling lines, and silence that no room has."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import fft, ndimage

from workers.detectors.signals.frames import BIN_HZ, HOP, Floats, Mask, Wave, cut, mel_decibels

#: Above it a vowel has little energy (Monson et al. 2014); hiss and vocoder noise stay.
HIGH_HZ: Final = 5000
#: Below it lie rumble and mains hum, which say nothing about the voice.
LOW_HZ: Final = 200
#: Where a steady line is looked for: above the strong harmonics, below the cut-off of codecs.
LINE_HZ: Final = (1500.0, 6800.0)
#: The bins a line must stand above: 3 to 7 away (94 to 219 Hz), both sides: a codec's cut-off is no line.
LINE_RING: Final = np.array([1] * 5 + [0] * 5 + [1] * 5, np.bool_)
#: The quieter quarter of the steps must have it too: harmonics move away.
LINE_PERCENTILE: Final = 25
#: Cepstral coefficients of the fine structure: ripples narrower than a formant.
FINE: Final = slice(13, 30)
#: Speech needed before the spread over time means something: 0.5 s.
MIN_STEPS: Final = 50
#: Peak of a 10 ms step that counts as exact silence: under one unit of 16 bits (3.05e-5).
NOTHING: Final = 3e-5
_LINE_BINS: Final = (LINE_HZ[0] < BIN_HZ) & (LINE_HZ[1] > BIN_HZ)
_TINY: Final = 1e-12  # -120 dB: keeps logarithms finite


def measures(power: Floats, speech: Mask, voice: Mask) -> dict[str, float]:
    """What the power spectra [n, 257] of the masked steps say; empty when there is too little speech."""
    if np.sum(speech) < MIN_STEPS:
        return {}
    values = {
        "fine_structure_spread_db": _fine_spread(power[speech]),
        "spectral_line_db": _line(power[speech]),
    }
    if np.sum(voice) >= MIN_STEPS // 2:
        values["high_band_db"] = _high_band(power[voice])
    return values


def _high_band(power: Floats) -> float:
    """Median level of 5 to 8 kHz in voiced steps against 0.2 to 5 kHz, dB."""
    high = power[:, BIN_HZ >= HIGH_HZ].sum(axis=1)
    rest = power[:, (BIN_HZ > LOW_HZ) & (BIN_HZ < HIGH_HZ)].sum(axis=1)
    return float(np.median(10 * np.log10((high + _TINY) / (rest + _TINY))))


def _fine_spread(power: Floats) -> float:
    """Standard deviation over time of the mel cepstrum's fine part, mean over 17 coefficients, dB.

    Averaging models flatten it: the "global variance" of Toda & Tokuda (2007).
    """
    cepstrum = fft.dct(mel_decibels(power), axis=1, norm="ortho")
    return float(np.mean(np.std(cepstrum[:, FINE], axis=0)))


def _line(power: Floats) -> float:
    """How far the strongest steady line stands above its neighbourhood, dB.

    Upsampling layers leave such lines at fixed frequencies (Pons et al. 2021); so does a whistling charger.
    """
    steady = 10 * np.log10(np.percentile(power, LINE_PERCENTILE, axis=0) + _TINY)
    above = steady - ndimage.maximum_filter(steady, footprint=LINE_RING, mode="nearest")
    return float(np.max(above[_LINE_BINS]))


def silent_steps(wave: Wave) -> Mask:
    """Which 10 ms steps hold exact silence."""
    steps = cut(wave, HOP)
    return np.asarray(np.max(np.abs(steps), axis=1, initial=0) < NOTHING, np.bool_)
