"""From sound to findings: levels, speech, the detector's scores and the sound signals of each interval."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.domain import Reason, Span
from core.errors import DetectorFailed
from core.evidence import SOUND_RATE, AudioFinding, DetectorIdentity, Splice
from workers.detectors import signals, speech
from workers.detectors.notes import notes, unfit
from workers.detectors.speech import Stretch, Wave
from workers.detectors.windows import WINDOW_SECONDS, windows

log = logging.getLogger(__name__)

#: Windows a call of the detector, which cuts them into its own batches: 256 x 4 s is 64 MB of sound.
GROUP: Final = 256


class Ear(Protocol):
    """What is needed of an `AudioDetector`."""

    @property
    def identity(self) -> DetectorIdentity:
        """Who speaks."""
        ...

    @property
    def window_seconds(self) -> float | None:
        """Length of sound it was made for; None: it does not say."""
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
    music: signals.music.Activity
    splices: tuple[Splice, ...]
    mains: float | None  #: of its hum, Hz


class Place(NamedTuple):
    """What was measured of one interval before any detector is asked."""

    span: Span
    begin: float  #: seconds from the first sample of the piece
    end: float
    level: float | None  #: dBFS
    spoken: float  #: seconds of speech
    measures: dict[str, float]
    unfit: Reason | None  #: why no detector may score it


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
    places: list[Place] = []
    for span in spans:
        checkpoint()
        places.append(_place(piece, span))
    heard = _hear(piece, places, detector, checkpoint) if detector is not None else ()
    return tuple(_finding(piece, place, heard, detector, absent) for place in places)


def _piece(waveform: Wave, start: float, checkpoint: Callable[[], None]) -> Piece:
    """Clean the samples and find speech and joints in them."""
    if waveform.ndim != 1:
        raise ValueError(f"sound must be one-dimensional, not of shape {waveform.shape}")
    # A broken decoder may give NaN, infinities or absurd peaks: nothing is heard there, nothing overflows.
    wave = np.clip(np.nan_to_num(waveform, nan=0, posinf=0, neginf=0), -1, 1).astype(np.float32)
    talk = speech.stretches(speech.probabilities(wave, checkpoint), len(wave) / SOUND_RATE)
    joints, music = signals.joints.find(wave, checkpoint), signals.music.find(wave, checkpoint)
    splices, hum = signals.splices.find(wave, joints, checkpoint)
    return Piece(wave, start, talk, joints, music, splices, hum.mains)


def _place(piece: Piece, span: Span) -> Place:
    """Measure one interval."""
    begin = max(0.0, span.start - piece.start)
    end = max(begin, min(span.end - piece.start, len(piece.wave) / SOUND_RATE))
    level = _level(_cut(piece.wave, begin, end))
    spoken = speech.overlap(piece.talk, begin, end)
    near = speech.between(piece.talk, begin, end)
    measures = signals.measure(piece.wave, near, piece.joints, begin, end, origin=piece.start)
    lines = signals.music.lines(piece.music, begin, end, piece.mains) if end > begin else None
    if lines is not None:
        measures["music_lines"] = round(lines, 4)
    if piece.mains is not None:
        measures["mains_hz"] = round(piece.mains, 4)
    return Place(span, begin, end, level, spoken, measures, unfit(end - begin, level, spoken, measures))


def _hear(
    piece: Piece, places: Sequence[Place], detector: Ear, checkpoint: Callable[[], None]
) -> tuple[Heard, ...]:
    """The detector's score of every window that an interval to be scored has a part in."""
    wanted = speech.join([(place.begin, place.end) for place in places if place.unfit is None], 0.0)
    length = detector.window_seconds or WINDOW_SECONDS
    cuts = windows(piece.talk, len(piece.wave) / SOUND_RATE, length)
    asked = [cut for cut in cuts if speech.overlap(wanted, *cut) > 0]
    heard: list[Heard] = []
    for n in range(0, len(asked), GROUP):
        checkpoint()
        group = asked[n : n + GROUP]
        scores = _ask(detector, [_cut(piece.wave, *cut) for cut in group], checkpoint)
        heard += [Heard(*cut, score) for cut, score in zip(group, scores, strict=True)]
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
    piece: Piece, place: Place, heard: Sequence[Heard], detector: Ear | None, absent: Reason | None
) -> AudioFinding:
    """What the sound says of one interval."""
    reason = place.unfit or (absent if detector is None else None)
    score = None if reason else _mean(heard, piece.talk, place.begin, place.end)
    if score is None and reason is None:
        reason = Reason.DETECTOR_FAILED
    return AudioFinding(
        index=place.span.index,
        score=score,
        reason=reason,
        speech_seconds=round(place.spoken, 3),
        level_dbfs=place.level,
        signals=signals.judge(place.measures),
        measures=place.measures,
        splices=_splices(piece, place),
        notes=notes(place.measures, place.spoken),
        detectors={detector.identity.id: score} if detector is not None and score is not None else {},
    )


def _splices(piece: Piece, place: Place) -> tuple[Splice, ...]:
    """Those of the interval, in seconds of the timeline."""
    return tuple(
        splice.model_copy(update={"time": round(piece.start + splice.time, 3)})
        for splice in piece.splices
        if place.begin <= splice.time < place.end
    )


def _level(wave: Wave) -> float | None:
    """RMS level, dB below a full-scale square wave; None for digital silence and for no samples at all."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    return round(10 * math.log10(power), 2) if power > 0 else None


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
