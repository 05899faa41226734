"""The bounds of the sound signals, each with the measured reason for it.

Shares are of 2 s intervals with at least 0.5 s of speech. "Real" is 249 intervals of 7 LibriSpeech readers,
on whom the bounds were set. They were checked on 5 telephone announcers, 7 GRID talkers and other real files,
which raised two of them: the background step's and the harmonicity's. docs/sound-signals.md has the whole
table and says what separates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from core.domain import SoundSignal
from core.evidence import Signal


class Bound(NamedTuple):
    """A measure, and from where on it counts as odd."""

    signal: SoundSignal
    measure: str
    unit: str
    threshold: float
    above: bool  #: odd above the threshold; else below
    note: str
    at: str | None = None  #: the measure that says when, in seconds of the timeline

    def crossed(self, value: float) -> bool:
        """Whether this value is odd."""
        return value > self.threshold if self.above else value < self.threshold


BOUNDS: Final = (
    # Real: 0 everywhere but in copies turned down to -34 dBFS. One frame's worth of slack above that.
    Bound(
        SoundSignal.VOICE_SYNTHESIS_ARTIFACTS,
        "exact_silence_share",
        "share of speech",
        0.02,
        above=True,
        note="exact silence inside words, which a microphone does not give; a noise gate does too",
    ),
    # Real: the lowest 1 % are 0.4, all of two readers; announcers stay above 1.
    Bound(
        SoundSignal.MONOTONE_VOICE,
        "pitch_spread_semitones",
        "semitones, median deviation",
        0.4,
        above=False,
        note="the pitch hardly moves",
    ),
    # Real: the highest 2 % are above 17, of creaky readers, where the tracker falls an octave.
    Bound(
        SoundSignal.ERRATIC_PITCH,
        "pitch_jumps_per_second",
        "jumps per voiced second",
        18.0,
        above=True,
        note="the pitch jumps by more than 3 semitones at once, again and again",
    ),
    # Real: the highest 1 % are -13, of the reader with the noisiest microphone.
    Bound(
        SoundSignal.HIGH_FREQUENCY_NOISE,
        "high_band_db",
        "dB, 5-8 kHz against 0.2-5 kHz",
        -13.0,
        above=True,
        note="vowels have as much hiss as at 10 dB of white noise",
    ),
    # Real: the lowest 1 % are 2.5, of one reader; averaged statistical synthesis has 2.2 in the middle.
    Bound(
        SoundSignal.OVERLY_SMOOTH_AUDIO,
        "fine_structure_spread_db",
        "dB, deviation over time",
        2.4,
        above=False,
        note="the fine structure of the spectrum changes less than in natural speech",
    ),
    # Real: the highest is 8.4. MP3 at 32 kbit/s crosses it too, since it really does leave lines.
    Bound(
        SoundSignal.SPECTRAL_ARTIFACTS,
        "spectral_line_db",
        "dB above its neighbourhood",
        8.5,
        above=True,
        note="a steady narrow line that is no harmonic of the voice",
    ),
    # Real: never above 4.3, but 5 % of the announcers' intervals are above 6: their pauses are edited.
    Bound(
        SoundSignal.AUDIO_SPLICING,
        "background_step_db",
        "dB, mean over 40 bands",
        6.5,
        above=True,
        note="the background of the 2 s before and after differs",
        at="background_step_at",
    ),
    # Real: the highest is 26.1, of a reader's lip noise.
    Bound(
        SoundSignal.AUDIO_SPLICING,
        "click_db",
        "dB above its neighbourhood",
        26.5,
        above=True,
        note="a click without company",
        at="click_at",
    ),
    # Real: the highest 2 % are 16 to 19, of one clear voice; telephone announcers reach 16.7.
    Bound(
        SoundSignal.UNNATURAL_CONSISTENCY,
        "harmonicity_db",
        "dB, harmonics to noise",
        17.0,
        above=True,
        note="the cycles of the voice repeat more exactly than vocal folds do",
    ),
)


def judge(measures: Mapping[str, float]) -> tuple[Signal, ...]:
    """The signals whose bounds the measures cross, in the order of `BOUNDS`; what is missing crosses none."""
    return tuple(
        _signal(bound, measures)
        for bound in BOUNDS
        if bound.measure in measures and bound.crossed(measures[bound.measure])
    )


def _signal(bound: Bound, measures: Mapping[str, float]) -> Signal:
    """What is shown of a crossed bound."""
    when = f", at {measures[bound.at]:.2f} s" if bound.at is not None and bound.at in measures else ""
    return Signal(
        signal=bound.signal,
        value=measures[bound.measure],
        unit=bound.unit,
        threshold=bound.threshold,
        note=bound.note + when,
    )
