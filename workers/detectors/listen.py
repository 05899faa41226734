"""From sound to findings: levels, speech, the detector's scores and the sound signals of each interval."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.domain import Reason, Span
from core.errors import DetectorFailed
from core.evidence import SOUND_RATE, AudioFinding, DetectorIdentity
from workers.detectors import signals, speech
from workers.detectors.speech import Stretch, Wave

log = logging.getLogger(__name__)

#: A window holds 4 s, what the public detectors are trained on (ASVspoof: 64600 samples = 4.04 s).
WINDOW_SECONDS: Final = 4.0
#: Each moment is heard twice, and a 2 s interval never depends on one cut.
HOP_SECONDS: Final = 2.0
#: A shorter window gets surrounding sound up to this: below a second the models guess.
MIN_WINDOW_SECONDS: Final = 1.0
#: And up to a multiple of this: detectors batch windows of one length, and seven lengths make full batches.
GRID_SECONDS: Final = 0.5
#: Pauses up to this stay inside a stretch of talk: breath and rhythm are part of a voice.
PAUSE_SECONDS: Final = 1.0
#: Speech an interval needs to be scored: a quarter of the usual 2 s, about two syllables.
MIN_SPEECH_SECONDS: Final = 0.5
#: Below it nothing is heard: the absolute gate of ITU-R BS.1770-4.
SILENCE_DBFS: Final = -70.0
#: Windows a call of the detector, which cuts them into its own batches: 256 x 4 s is 64 MB of sound.
GROUP: Final = 256


class Ear(Protocol):
    """What is needed of an `AudioDetector`."""

    @property
    def identity(self) -> DetectorIdentity:
        """Who speaks."""
        ...

    def scores(
        self, windows: list[NDArray[np.float32]], /, *, checkpoint: Callable[[], None]
    ) -> NDArray[np.float32]:
        """One probability of being synthetic a window, in the same order; may raise DetectorFailed."""
        ...


class Heard(NamedTuple):
    """A window, in seconds from the first sample of the piece, and its score; None: not a probability."""

    begin: float
    end: float
    score: float | None


class Piece(NamedTuple):
    """A piece of sound with what was found in the whole of it. Times are from its first sample."""

    wave: Wave
    start: float  #: of its first sample on the timeline, seconds
    talk: tuple[Stretch, ...]
    joints: signals.joints.Joints


def _nothing() -> None:
    """The checkpoint of a caller that has none."""


def listen(
    waveform: Wave,
    start: float,
    spans: Sequence[Span],
    detector: Ear | None,
    absent: Reason | None,
    *,
    checkpoint: Callable[[], None] = _nothing,
) -> tuple[AudioFinding, ...]:
    """One finding per span, in order. `waveform` is float32 [n] at 16 kHz whose first sample is at `start`.

    Without a detector every interval with enough speech carries the reason `absent`; where the detector
    failed, `detector_failed`. Measures and signals are there in any case. `checkpoint` is called between
    batches and intervals and may raise to stop the work. Raises ValueError for sound that is not
    one-dimensional, and for a missing detector without a reason.
    """
    if detector is None and absent is None:
        raise ValueError("a missing detector needs a reason")
    piece = _piece(waveform, start, checkpoint)
    heard = _hear(piece, detector, checkpoint) if detector is not None else ()
    findings: list[AudioFinding] = []
    for span in spans:
        checkpoint()
        findings.append(_finding(piece, span, heard, detector, absent))
    return tuple(findings)


def _piece(waveform: Wave, start: float, checkpoint: Callable[[], None]) -> Piece:
    """Clean the samples and find speech and joints in them."""
    if waveform.ndim != 1:
        raise ValueError(f"sound must be one-dimensional, not of shape {waveform.shape}")
    # A broken decoder may give NaN, infinities or absurd peaks: nothing is heard there, nothing overflows.
    wave = np.clip(np.nan_to_num(waveform, nan=0, posinf=0, neginf=0), -1, 1).astype(np.float32)
    talk = speech.stretches(speech.probabilities(wave, checkpoint), len(wave) / SOUND_RATE)
    return Piece(wave, start, talk, signals.joints.find(wave, checkpoint))


def windows(talk: Sequence[Stretch], seconds: float) -> Iterator[Stretch]:
    """The windows a detector hears: at most 4 s long, every 2 s, over talk only, the last one up to its end.

    Short talk is one window, grown into the sound around it to 1, 1.5, ... 4 s where there is that much.
    """
    for begin, end in speech.join(talk, PAUSE_SECONDS):
        first, last = _grow(begin, end, seconds)
        hops = max(0, math.ceil((last - first - WINDOW_SECONDS) / HOP_SECONDS - 1e-9))
        for hop in range(hops):
            yield first + hop * HOP_SECONDS, first + hop * HOP_SECONDS + WINDOW_SECONDS
        yield max(first, last - WINDOW_SECONDS), last


def _grow(begin: float, end: float, seconds: float) -> Stretch:
    """The talk with as much sound on both sides as makes its length a whole number of grid steps."""
    if end - begin >= WINDOW_SECONDS:
        return begin, end
    wanted = max(MIN_WINDOW_SECONDS, math.ceil((end - begin) / GRID_SECONDS - 1e-9) * GRID_SECONDS)
    first = max(0.0, min(begin - (wanted - (end - begin)) / 2, seconds - wanted))
    return first, min(seconds, first + wanted)


def _hear(piece: Piece, detector: Ear, checkpoint: Callable[[], None]) -> tuple[Heard, ...]:
    """The detector's score of every window."""
    places = tuple(windows(piece.talk, len(piece.wave) / SOUND_RATE))
    heard: list[Heard] = []
    for n in range(0, len(places), GROUP):
        checkpoint()
        group = places[n : n + GROUP]
        scores = _ask(detector, [_cut(piece.wave, *place) for place in group], checkpoint)
        heard += [Heard(*place, score) for place, score in zip(group, scores, strict=True)]
    return tuple(heard)


def _ask(detector: Ear, group: list[Wave], checkpoint: Callable[[], None]) -> list[float | None]:
    """The scores of a group; None for what is no probability. A failed group costs itself alone."""
    try:
        scores = np.asarray(detector.scores(group, checkpoint=checkpoint))
        problem = "" if scores.shape == (len(group),) else f"{len(group)} windows, scores of {scores.shape}"
    except DetectorFailed as failed:
        problem = failed.detail
    if problem:
        log.warning("The sound detector failed: %s", problem, extra={"action": "detector_failed"})
        return [None] * len(group)
    return [_probability(float(score)) for score in scores]


def _cut(wave: Wave, begin: float, end: float) -> Wave:
    """The samples between two times, as an array of its own."""
    return wave[round(begin * SOUND_RATE) : round(end * SOUND_RATE)].copy()


def _probability(score: float) -> float | None:
    """The score if it is one; NaN and what lies outside 0 to 1 is a broken detector, not evidence."""
    return score if 0 <= score <= 1 else None


def _finding(
    piece: Piece, span: Span, heard: Sequence[Heard], detector: Ear | None, absent: Reason | None
) -> AudioFinding:
    """What the sound says of one interval."""
    begin = max(0.0, span.start - piece.start)
    end = max(begin, min(span.end - piece.start, len(piece.wave) / SOUND_RATE))
    level = _level(_cut(piece.wave, begin, end))
    spoken = speech.overlap(piece.talk, begin, end)
    reason = _unfit(end - begin, level, spoken) or (absent if detector is None else None)
    score = None if reason else _mean(heard, piece.talk, begin, end)
    if score is None and reason is None:
        reason = Reason.DETECTOR_FAILED
    near = speech.between(piece.talk, begin, end)
    measures = signals.measure(piece.wave, near, piece.joints, begin, end, origin=piece.start)
    return AudioFinding(
        index=span.index,
        score=score,
        reason=reason,
        speech_seconds=round(spoken, 3),
        level_dbfs=level,
        signals=signals.judge(measures),
        measures=measures,
        detectors={detector.identity.id: score} if detector is not None and score is not None else {},
    )


def _level(wave: Wave) -> float | None:
    """RMS level, dB below a full-scale square wave; None for digital silence and for no samples at all."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    return round(10 * math.log10(power), 2) if power > 0 else None


def _unfit(seconds: float, level: float | None, spoken: float) -> Reason | None:
    """Why an interval cannot be scored by any detector."""
    if seconds < MIN_SPEECH_SECONDS:
        return Reason.TOO_SHORT
    if spoken == 0:
        return Reason.SILENCE if level is None or level < SILENCE_DBFS else Reason.NO_SPEECH
    return Reason.TOO_SHORT if spoken < MIN_SPEECH_SECONDS else None


def _mean(heard: Sequence[Heard], talk: Sequence[Stretch], begin: float, end: float) -> float | None:
    """The mean score of the windows, each weighing the seconds of the interval's speech that it holds."""
    total = weights = 0.0
    for window in heard:
        if window.end <= begin or window.begin >= end:
            continue
        weight = speech.overlap(talk, max(begin, window.begin), min(end, window.end))
        if window.score is not None and weight > 0:
            total += weight * window.score
            weights += weight
    return min(1.0, total / weights) if weights else None
