"""Whether the mouth of a track moves with the voice: correlation of its opening with the loudness.

Both are taken at 100 Hz and band-passed to the rhythm of syllables; loudness is that of 800 to 2500 Hz, the
band of the second formant, in which it goes with the opening of the lips best (Grant & Seitz 2000, JASA
108(3); measured anew in docs/lips.md). It informs: what it can tell, and what not, is written there.
"""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from core.evidence import SOUND_RATE, LipSync, Track

#: Samples a second of both curves.
RATE: Final = 100
#: Sound may come this much before or after its picture, in seconds; broadcasters allow less (EBU R37).
MAX_LAG: Final = 0.25
_LAGS: Final = range(-round(MAX_LAG * RATE), round(MAX_LAG * RATE) + 1)
#: Seconds of voice, with the short pauses in it, below which a correlation is chance.
MIN_VOICED: Final = 1.4
#: A gap between frames beyond this ends a stretch; a rate below it cannot carry a syllable's rhythm.
MAX_GAP: Final = 0.12
#: Stretches shorter than this are the band-pass filter's own ringing.
MIN_STRETCH: Final = 1.0
#: Rhythm of syllables, Hz; slower is the turning of the head and of the light.
_RHYTHM: Final = (2.0, 8.0)
_FORMANT: Final = (800.0, 2500.0)
#: Power of the band in digital full scale below which there is no voice: a whisper of room noise.
_QUIET: Final = 1e-7
#: Power against the loudest: what is fainter counts as this faint, and what is voiced.
_FLOOR: Final = 1e-4
_VOICED: Final = 6e-3
#: Voice is widened by this on both sides: the mouth opens before it and closes after it.
_REACH: Final = round(0.15 * RATE)
_HOP, _WINDOW, _BINS = SOUND_RATE // RATE, 400, 512
#: Spread of parting and contrast that jitter alone gives: measured on still photographs under a slow zoom
#: 0.02 and 0.09, on talkers 0.15 to 1.0 and 0.29 to 2.6. It counts as motion that no voice explains, so that
#: a mouth which does not move cannot match by chance.
_JITTER: Final = (0.05, 0.15)

#: Correlations of real talkers in rising order, at 0, 5, 10, ... 100% of them: 141 windows of one and a half
#: to two voiced seconds, eight talkers, six encodings each (`python -m bench.lips`).
REAL: Final = (
    0.482, 0.633, 0.659, 0.679, 0.689, 0.694, 0.699, 0.713, 0.725, 0.734, 0.751,
    0.77, 0.78, 0.788, 0.798, 0.8, 0.807, 0.819, 0.833, 0.851, 0.874,
)  # fmt: skip

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Opening:
    """The mouth of one track at one moment. Neither figure has a unit or a zero."""

    time: float  #: seconds
    parting: float  #: how far upper and lower lip have moved apart since the trace began, in patch pixels
    contrast: float  #: spread of light inside the mouth: teeth and darkness


@dataclass(frozen=True)
class _Curves:
    """One stretch at 100 Hz; the two of the sound reach `MAX_LAG` beyond it on either side."""

    mouth: Curve
    loudness: Curve
    voiced: NDArray[np.bool_]


def attach(
    tracks: Sequence[Track], openings: Mapping[int, Sequence[Opening]], sound: Path
) -> tuple[Track, ...]:
    """The tracks, each with its `lips` as far as they could be measured against the WAV file."""
    if not openings:
        return tuple(tracks)
    with wave.open(str(sound), "rb") as file:
        return tuple(
            track.model_copy(update={"lips": measure(openings.get(track.id, ()), file)}) for track in tracks
        )


def measure(trace: Sequence[Opening], sound: wave.Wave_read) -> LipSync | None:
    """Highest correlation within the lags; None when too little of mouth and voice is there together."""
    pairs = [_pair(stretch, sound) for stretch in _stretches(trace)]
    powers = [power for _, power in pairs]
    if not pairs or max(power.max() for power in powers) < _QUIET:
        return None
    mouths, jitter = _opened([figures for figures, _ in pairs])
    curves = [_Curves(*one) for one in zip(mouths, *_heard(powers), strict=True)]
    seconds = sum(int(one.voiced[-_LAGS[0] : _LAGS[0]].sum()) for one in curves) / RATE
    if seconds < MIN_VOICED:
        return None
    found = [(_correlation(curves, lag, jitter), lag) for lag in _LAGS]
    best, lag = max(found)
    return LipSync(
        correlation=round(best, 4),
        lag_seconds=round(lag / RATE, 3),
        seconds=round(seconds, 2),
        null_share=null_share(best),
    )


def null_share(correlation: float) -> float:
    """Share of real talkers that match no better, from the measured table."""
    shares = np.linspace(0, 1, len(REAL))
    return round(float(np.interp(correlation, REAL, shares, left=0.0, right=1.0)), 4)


def _stretches(trace: Sequence[Opening]) -> list[tuple[Curve, Curve]]:
    """Times and figures (N x 2) of runs without a gap, each long enough to filter."""
    times = np.array([one.time for one in trace], np.float64)
    figures = np.array([(one.parting, one.contrast) for one in trace], np.float64).reshape(-1, 2)
    parts = np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > MAX_GAP) + 1)
    return [(times[n], figures[n]) for n in parts if len(n) and times[n][-1] - times[n][0] >= MIN_STRETCH]


def _pair(stretch: tuple[Curve, Curve], sound: wave.Wave_read) -> tuple[Curve, Curve]:
    """The figures at 100 Hz (2 x N), and the band's power over the same time and `MAX_LAG` on either side."""
    times, figures = stretch
    first, count = round(times[0] * RATE), int((times[-1] - times[0]) * RATE)
    at = (first + np.arange(count)) / RATE
    curves = np.stack([np.interp(at, times, column) for column in figures.T])
    return curves, band_power(sound, first + _LAGS[0], count + len(_LAGS) - 1)


def _opened(stretches: Sequence[Curve]) -> tuple[list[Curve], float]:
    """How far the mouth is open, both figures with equal weight; and the variance of it that is jitter."""
    opened, jitter = [np.zeros(stretch.shape[1]) for stretch in stretches], 0.0
    for figure, noise in enumerate(_JITTER):
        rhythms = [_rhythm(stretch[figure]) for stretch in stretches]
        spread = float(np.hypot(np.concatenate(rhythms).std(), noise))
        opened = [so_far + rhythm / spread for so_far, rhythm in zip(opened, rhythms, strict=True)]
        jitter += (noise / spread) ** 2
    return opened, jitter


def _heard(powers: Sequence[Curve]) -> tuple[list[Curve], list[NDArray[np.bool_]]]:
    """The rhythm of the loudness of each stretch, and where there is voice in it."""
    together = np.concatenate(powers)
    floor, usual = _FLOOR * float(together.max()), float(np.percentile(together, 98))
    loudness = [_rhythm(np.log10(np.maximum(power, floor))) for power in powers]
    return loudness, [_voiced(power, usual) for power in powers]


def band_power(sound: wave.Wave_read, first: int, count: int) -> Curve:
    """Mean power of 800 to 2500 Hz around each hundredth of a second from number `first`; 0 off the file.

    Only what is asked for is read: `count` is bounded by the traces.
    """
    begin, samples = first * _HOP - _WINDOW // 2, (count - 1) * _HOP + _WINDOW
    wanted = np.zeros(samples, np.float32)
    start = min(max(0, begin), sound.getnframes())
    sound.setpos(start)
    raw = np.frombuffer(sound.readframes(max(0, begin + samples - start)), "<i2")
    wanted[start - begin : start - begin + len(raw)] = raw / np.float32(32768)
    window = np.hanning(_WINDOW).astype(np.float32)
    frequencies = np.fft.rfftfreq(_BINS, 1 / SOUND_RATE)
    band = (frequencies >= _FORMANT[0]) & (frequencies <= _FORMANT[1])
    pieces = sliding_window_view(wanted, _WINDOW)[::_HOP]
    power = [
        (np.abs(np.fft.rfft(pieces[n : n + 1000] * window, _BINS)[:, band]) ** 2).sum(axis=1)
        for n in range(0, count, 1000)
    ]
    return np.asarray(np.concatenate(power) * 2 / (_BINS * float((window**2).sum())), np.float64)


def _rhythm(curve: Curve) -> Curve:
    """Band-passed to the rhythm of syllables, without delay; mirrored at its ends."""
    reach = min(RATE, len(curve) - 1)
    longer = np.pad(curve - curve.mean(), reach, mode="reflect", reflect_type="odd")
    frequencies = np.fft.rfftfreq(len(longer), 1 / RATE)
    # Butterworth's magnitude of fourth order, forward and back.
    low = 1 / (1 + (_RHYTHM[0] / np.maximum(frequencies, 1e-6)) ** 8)
    high = 1 / (1 + (frequencies / _RHYTHM[1]) ** 8)
    return np.fft.irfft(np.fft.rfft(longer) * low * high, len(longer))[reach : reach + len(curve)]


def _voiced(power: Curve, usual: float) -> NDArray[np.bool_]:
    """Where there is voice, widened so that the pauses between syllables count."""
    loud = power > max(_VOICED * usual, _QUIET / 10)
    return np.convolve(loud, np.ones(2 * _REACH + 1), "same") > 0.5  # noqa: PLR2004 - counts ones


def _correlation(curves: Sequence[_Curves], lag: int, jitter: float) -> float:
    """Pearson's over the voiced time of every stretch, with the sound taken `lag` hundredths later.

    `jitter` is added to the variance of the mouth.
    """
    mouths, voices = [], []
    for one in curves:
        here = slice(lag - _LAGS[0], lag - _LAGS[0] + len(one.mouth))
        mouths.append(one.mouth[one.voiced[here]])
        voices.append(one.loudness[here][one.voiced[here]])
    mouth, voice = np.concatenate(mouths), np.concatenate(voices)
    if not len(mouth):
        return 0.0
    mouth, voice = mouth - mouth.mean(), voice - voice.mean()
    norm = float(np.sqrt((mouth @ mouth + jitter * len(mouth)) * (voice @ voice)))
    return float(np.clip(mouth @ voice / norm, -1, 1)) if norm > 0 else 0.0
