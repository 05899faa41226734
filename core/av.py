"""What lips and voice say together: a signal for people. No verdict rests on it (docs/lips.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from core.domain import AvSignal, Frozen
from core.evidence import LipSync, Probability, Track
from core.fusion.inputs import IntervalEvidence

#: A track mismatches below both. Of 141 windows of eight real talkers and of 120 longer stand-ins none did;
#: of longer ones with foreign voices 95% do, of two seconds of those a fifth.
CORRELATION_BOUND: Final = 0.35
SHARE_BOUND: Final = 0.02
#: Seconds of speech, by voice activity detection, that must lie within a track: music has loudness too.
MIN_SPEECH: Final = 1.4


class LipVoice(Frozen):
    """One face that was seen while a voice was heard."""

    track: int
    correlation: float = Field(ge=-1, le=1, description="Of the mouth's opening with the voice's loudness")
    lag_seconds: float = Field(description="Where it is highest; positive: the sound comes later")
    seconds: float = Field(ge=0, description="Of voice that it was measured on")
    null_share: Probability = Field(description="Share of real talkers that match no better")
    av_mismatch: bool = Field(description="Below both bounds. A listener, a narrator and dubbing are, too")


class AudioVisual(Frozen):
    """Lips against voice. It informs; the verdict does not rest on it."""

    signals: tuple[AvSignal, ...] = Field(
        description="`av_mismatch`: a face mismatches, and nobody else in the picture then matches the voice"
    )
    tracks: tuple[LipVoice, ...] = Field(description="Those that could be measured")
    correlation_bound: float = CORRELATION_BOUND
    share_bound: float = SHARE_BOUND


def summarise(tracks: Sequence[Track], rows: Sequence[IntervalEvidence]) -> AudioVisual:
    """The measured tracks and whether the voice is left without a mouth somewhere."""
    measured = [(track, track.lips) for track in tracks if track.lips is not None]
    spoken = [(track, lips) for track, lips in measured if _speech(track, rows) >= MIN_SPEECH]
    matching = [track for track, lips in spoken if not below_bounds(lips)]
    below = [track for track, lips in spoken if below_bounds(lips)]
    alone = any(not any(_together(track, other) for other in matching) for track in below)
    return AudioVisual(
        signals=(AvSignal.AV_MISMATCH,) if alone else (),
        tracks=tuple(
            LipVoice(track=track.id, av_mismatch=track in below, **lips.model_dump())
            for track, lips in measured
        ),
    )


def below_bounds(lips: LipSync) -> bool:
    """Whether real talkers hardly ever match so badly."""
    return lips.correlation < CORRELATION_BOUND and lips.null_share < SHARE_BOUND


def _together(one: Track, two: Track) -> bool:
    """Whether both are in the picture at the same time."""
    return one.start < two.end and two.start < one.end


def _speech(track: Track, rows: Sequence[IntervalEvidence]) -> float:
    """Seconds of speech in the intervals that the track touches, each weighed by how much of it it fills."""
    return sum(
        (row.audio.speech_seconds or 0.0) * _share(track, row)
        for row in rows
        if row.start < track.end and track.start < row.end
    )


def _share(track: Track, row: IntervalEvidence) -> float:
    shared = min(track.end, row.end) - max(track.start, row.start)
    return shared / max(row.end - row.start, 1e-6)
