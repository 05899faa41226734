"""Places where two recordings may have been joined, each by its own measure and in time. They inform only.

How many there are of real and of made ones, and what no measure finds, is written in docs/sound-signals.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from scipy import ndimage

from core.evidence import SOUND_RATE, Splice, SpliceKind
from workers.detectors.signals import hum, phase
from workers.detectors.signals.frames import SPECTRUM, STEPS_PER_SECOND, Floats, Wave, centres
from workers.detectors.signals.joints import GUARD_STEPS, SIDE_SECONDS, SMOOTH_STEPS, Joints, Levels

#: Chosen on four speakers and their coded copies for at most a handful an hour; docs/sound-signals.md.
BOUNDS: Final[dict[SpliceKind, float]] = {
    "background": 6.5,  #: dB, mean over 40 bands of the change of the background; as of the signal
    "click": 26.5,  #: dB above its neighbourhood; as of the signal: lip noise of readers reaches 26
    "phase": 17.0,  #: dB of the prediction error above its neighbourhood
    "hum": 60.0,  #: log likelihood ratio of a shift; voices over weak hum reach 58
    "bandwidth": 15.0,  #: dB that the bands above 4 kHz lose against those below
}
#: Two places of one kind this close are one.
APART_SECONDS: Final[dict[SpliceKind, float]] = {
    "background": 1.5,
    "click": 0.1,
    "phase": 0.1,
    "hum": 1.0,
    "bandwidth": 1.5,
}
#: Where a piece begins or ends there is an edge, but no joint.
EDGE_SECONDS: Final = 0.1
#: Levels may stray so far from a background before they speak against it, dB.
STRAY_DB: Final = 3.0
#: What a step must stray by over all bands to speak for one side, and what it may say at most, dB.
LUCK_DB: Final = 12.0
MOST_DB: Final = 60.0
#: Of a lost band one side must have next to nothing up there: speech without a single hiss is above -32 dB.
NARROW_DB: Final = -34.0
#: And the other must have something, or a telephone's own strays would be joints.
WIDE_DB: Final = -20.0
#: Bands of the 40 that lie above 4 kHz, and between 1 and 3.4 kHz.
HIGH: Final = slice(33, 40)
MIDDLE: Final = slice(13, 28)


def find(wave: Wave, joints: Joints, checkpoint: Callable[[], None]) -> tuple[tuple[Splice, ...], hum.Hum]:
    """Splices of a whole piece in order of time, in seconds from its first sample, and its hum."""
    heard = hum.find(wave, checkpoint)
    edges = phase.find(wave, checkpoint)
    checkpoint()
    lost = _bandwidth(joints.levels)
    found = [
        *_placed("background", _peaks("background", joints.step_times, joints.steps), joints.levels),
        *_placed("bandwidth", _peaks("bandwidth", *lost), joints.levels),
        *_peaks("click", joints.click_times, joints.clicks),
        *_peaks("phase", *edges),
        *_peaks("hum", heard.times, heard.shifts),
    ]
    inside = [
        splice for splice in found if EDGE_SECONDS < splice.time < len(wave) / SOUND_RATE - EDGE_SECONDS
    ]
    return tuple(sorted(inside, key=lambda splice: (splice.time, splice.kind))), heard


def _peaks(kind: SpliceKind, times: Floats, sizes: Floats) -> list[Splice]:
    """The highest points above the bound, none within the kind's distance of a higher one."""
    above = np.flatnonzero(sizes > BOUNDS[kind])
    kept: list[int] = []
    for n in above[np.argsort(-sizes[above], kind="stable")]:
        if all(abs(times[n] - times[other]) >= APART_SECONDS[kind] for other in kept):
            kept.append(int(n))
    strength = 1 / BOUNDS[kind]
    return [
        Splice(time=float(times[n]), kind=kind, strength=round(float(sizes[n]) * strength, 3)) for n in kept
    ]


def _bandwidth(levels: Levels) -> tuple[Floats, Floats]:
    """Times, and how much more the highest levels of 2 s change above 4 kHz than in the middle, dB."""
    side = round(SIDE_SECONDS * STEPS_PER_SECOND)
    margin = side + GUARD_STEPS
    if len(levels) <= 2 * margin:
        return np.zeros(0), np.zeros(0)
    smooth = ndimage.uniform_filter1d(levels, SMOOTH_STEPS, axis=0, mode="nearest")  # as the steps are
    tops = ndimage.maximum_filter1d(smooth, side, axis=0, mode="nearest")
    at = np.arange(margin, len(levels) - margin)
    high = tops[:, HIGH].mean(axis=1) - tops[:, MIDDLE].mean(axis=1)
    before, after = high[at - GUARD_STEPS - side // 2], high[at + GUARD_STEPS + side // 2]
    told = (np.minimum(before, after) < NARROW_DB) & (np.maximum(before, after) > WIDE_DB)
    lost = np.where(told, np.abs(after - before), 0)
    return centres(len(levels), SPECTRUM)[at], lost.astype(np.float64)


def _placed(kind: SpliceKind, found: Sequence[Splice], levels: Levels) -> list[Splice]:
    """The same, each place once, moved to where the sound begins to fit the other side better."""
    placed: dict[int, Splice] = {}
    for splice in found:  # the strongest first
        time = _moment(kind, splice.time, levels)
        placed.setdefault(round(2 * time), splice.model_copy(update={"time": time}))
    return list(placed.values())


def _moment(kind: SpliceKind, time: float, levels: Levels) -> float:
    """The time around a peak that parts the steps best.

    Speech only adds to a background: a step below the background of one side belongs to the other. Of a lost
    band the same holds upside down: a step above what one side ever reaches belongs to the other.
    """
    side = round(SIDE_SECONDS * STEPS_PER_SECOND)
    middle = round((time - SPECTRUM / 2 / SOUND_RATE) * STEPS_PER_SECOND)
    near = ndimage.uniform_filter1d(levels[max(0, middle - side) : middle + side], 3, axis=0)
    if kind == "bandwidth":
        near = -near[:, HIGH]
    cut = len(near) // 2
    before, after = near[: cut - GUARD_STEPS].min(axis=0), near[cut + GUARD_STEPS :].min(axis=0)
    early, late = (np.maximum(0, floor - STRAY_DB - near).sum(axis=1) for floor in (after, before))
    # A few decibels in one band are luck; and one pause must not outvote the rest.
    early, late = (np.where(told < LUCK_DB, 0, np.minimum(told, MOST_DB)) for told in (early, late))
    gain = np.cumsum(early - late)
    best = np.flatnonzero(gain >= gain.max() - 1e-6)
    # Where only one side can be told from the other, the last step (or the first) that is told is the place.
    known = [best[0]] * bool(early.any()) + [best[-1]] * bool(late.any())
    if not known:
        return time
    step = max(0, middle - side) + float(np.mean(known)) + 1
    return float(step / STEPS_PER_SECOND + SPECTRUM / 2 / SOUND_RATE)
