"""The sound signals: eight measured oddities of a voice. Measurements for people, never part of a score.

What each measures, how often it fires on real and on synthetic speech, and which of them separate
nothing, is written in docs/sound-signals.md. Bounds are in `bounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from core.evidence import SOUND_RATE
from workers.detectors.signals import channel, joints, music, pitch, spectrum, splices
from workers.detectors.signals.bounds import BOUNDS, Bound, judge
from workers.detectors.signals.frames import HOP, SPECTRUM, Floats, Mask, Wave, centres, powers, within

__all__ = ["BOUNDS", "Bound", "channel", "joints", "judge", "measure", "music", "splices"]

Stretch = tuple[float, float]

#: Sound is brought to this RMS over its speech before the measures, so that none of them is a volume meter.
REFERENCE: Final = 0.1
#: But not by more than 40 dB: then only rounding noise would be measured.
MOST_GAIN: Final = 100.0
#: Ends of a stretch that belong to the voice detector's slack, not to the speech.
SLACK_SECONDS: Final = 0.1


def measure(
    wave: Wave,
    speech: Sequence[Stretch],
    found: joints.Joints,
    begin: float,
    end: float,
    *,
    origin: float = 0.0,
) -> dict[str, float]:
    """All measures of the sound between two times, in seconds from the first sample of `wave`.

    `wave` holds finite numbers only; `speech` is what reaches into that time, `found` is of the whole wave;
    `origin` is the time of its first sample on the timeline, in which the `…_at` measures are. Measures that
    lack speech or voice are absent; all values are finite, rounded to a ten-thousandth.
    """
    piece = wave[round(begin * SOUND_RATE) : round(end * SOUND_RATE)]
    parts = [(a - begin, b - begin) for a, b in speech]
    values = _joints(found, begin, end, origin) | _exact_silence(piece, parts) | channel.peaks(piece)
    heard = within((np.arange(len(piece)) + 0.5) / SOUND_RATE, parts)
    loudness = float(np.sqrt(np.mean(np.square(piece[heard], dtype=np.float64)))) if heard.any() else 0.0
    if loudness > 0:
        gain = np.float32(min(MOST_GAIN, REFERENCE / loudness))
        values |= _voice(piece * gain, parts)
    return {name: round(value, 4) for name, value in values.items()}


def _voice(piece: Wave, parts: Sequence[Stretch]) -> dict[str, float]:
    """Pitch, spectrum and band of the stretches of speech."""
    track = pitch.track(piece)
    speech = within(track.times, parts)
    power = powers(piece)
    times = centres(len(power), SPECTRUM)
    voice = _nearest(pitch.voiced(track, speech), track.times, times)
    spoken = within(times, parts)
    spectral = spectrum.measures(power, spoken, voice) | channel.band(power, spoken)
    return pitch.measures(track, speech) | spectral


def _nearest(mask: Mask, times: Floats, wanted: Floats) -> Mask:
    """The mask read at other times, false beyond its ends by more than a step."""
    if not len(mask):
        return np.zeros(len(wanted), np.bool_)
    at = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    return np.asarray(mask[at] & (np.abs(times[at] - wanted) <= HOP / SOUND_RATE), np.bool_)


def _joints(found: joints.Joints, begin: float, end: float, origin: float) -> dict[str, float]:
    """The strongest background step and click, and when, in seconds of the timeline."""
    values: dict[str, float] = {}
    if step := joints.strongest(found.step_times, found.steps, begin, end):
        values |= {"background_step_db": step.decibels, "background_step_at": origin + step.time}
    if click := joints.strongest(found.click_times, found.clicks, begin, end):
        values |= {"click_db": click.decibels, "click_at": origin + click.time}
    return values


def _exact_silence(piece: Wave, parts: Sequence[Stretch]) -> dict[str, float]:
    """The share of exact silence inside stretches of speech, their ends left out."""
    silent = spectrum.silent_steps(piece)
    seconds = len(piece) / SOUND_RATE
    inner = [(a + SLACK_SECONDS * (a > 0), b - SLACK_SECONDS * (b < seconds)) for a, b in parts]
    steps = within(centres(len(silent), HOP), inner)
    if np.sum(steps) < spectrum.MIN_STEPS:
        return {}
    return {"exact_silence_share": float(np.mean(silent[steps]))}
