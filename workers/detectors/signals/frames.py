"""Cutting sound into 10 ms steps, and the spectra that the measures share. No state, no randomness."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from core.evidence import SOUND_RATE

Wave = NDArray[np.float32]  #: mono, 16 kHz
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: A step of all tracks, samples; 10 ms is the usual step of speech analysis.
HOP: Final = SOUND_RATE // 100
STEPS_PER_SECOND: Final = SOUND_RATE // HOP
#: Length of a spectral frame, samples: 32 ms, so that bins are 31.25 Hz apart.
SPECTRUM: Final = 512
BANDS: Final = 40
#: Power added to every mel band, dB: about the rounding of 16-bit sound, so that exact silence has a level.
FLOOR_DB: Final = -100.0
#: Frequency in Hz of each bin of a `powers` row.
BIN_HZ: Final[Floats] = np.arange(SPECTRUM // 2 + 1, dtype=np.float64) * (SOUND_RATE / SPECTRUM)


def cut(wave: Wave, length: int) -> NDArray[np.float32]:
    """Overlapping frames, one each 10 ms: [n, length], n = 0 when the wave is shorter than one frame."""
    if len(wave) < length:
        return np.zeros((0, length), np.float32)
    return np.lib.stride_tricks.sliding_window_view(wave, length)[::HOP]


def centres(count: int, length: int) -> Floats:
    """The middle of each of `count` frames, seconds from the first sample."""
    return (np.arange(count) * HOP + length / 2) / SOUND_RATE


def within(times: Floats, parts: Sequence[tuple[float, float]]) -> Mask:
    """Which of the times lie in one of the stretches."""
    inside = np.zeros(len(times), np.bool_)
    for begin, end in parts:
        inside |= (times >= begin) & (times < end)
    return inside


def powers(wave: Wave) -> Floats:
    """Power of each bin of each 32 ms Hann frame: [n, 257], a full-scale sine being about 0.33."""
    window = np.hanning(SPECTRUM + 1)[:-1]
    spectrum = fft.rfft(cut(wave, SPECTRUM) * window, axis=1)
    return np.asarray(np.abs(spectrum) ** 2 * (2 / (SPECTRUM * np.sum(window**2))), np.float64)


def mel_decibels(power: Floats) -> Floats:
    """Level of 40 mel bands (50 to 7600 Hz) of each row, dB: [n, 40]."""
    return np.asarray(10 * np.log10(power @ _filters() + 10 ** (FLOOR_DB / 10)), np.float64)


@lru_cache(maxsize=1)
def _filters() -> Floats:
    """Slaney's mel filters, [257, 40]. Only this of librosa: its `stft` compiles for 15 s on a new one."""
    import librosa  # noqa: PLC0415  (brings numba, 1 to 2 s: only processes that listen pay)

    bank = librosa.filters.mel(sr=SOUND_RATE, n_fft=SPECTRUM, n_mels=BANDS, fmin=50, fmax=7600)
    return np.asarray(bank, np.float64).T
