from __future__ import annotations

from typing import Any

import pytest

from core.av import CORRELATION_BOUND, SHARE_BOUND, summarise
from core.domain import AvSignal, Reason
from core.evidence import AudioFinding, LipSync, Track, VideoFinding
from core.fusion.inputs import IntervalEvidence


def track(identity: int, correlation: float | None, start: float = 0.0, end: float = 8.0) -> Track:
    share = 0.5 if correlation is not None and correlation > 0.6 else 0.0
    lips = (
        None
        if correlation is None
        else LipSync(correlation=correlation, lag_seconds=0.04, seconds=4.0, null_share=share)
    )
    return Track(id=identity, start=start, end=end, frames=20, thumbnail=None, lips=lips)


def spoken(seconds: float | None = 1.5) -> list[IntervalEvidence]:
    """Eight seconds with so much speech in every two of them."""
    return [
        IntervalEvidence(
            index=n,
            start=2.0 * n,
            end=2.0 * n + 2,
            video=VideoFinding(index=n, score=None, reason=Reason.NO_FACE),
            audio=AudioFinding(index=n, score=None, reason=Reason.NO_SPEECH, speech_seconds=seconds),
        )
        for n in range(4)
    ]


def signalled(*tracks: Track, rows: list[IntervalEvidence] | None = None) -> bool:
    return AvSignal.AV_MISMATCH in summarise(tracks, spoken() if rows is None else rows).signals


def test_a_face_that_does_not_move_with_the_voice_is_named_with_its_figures() -> None:
    summary = summarise([track(3, 0.1), track(4, None)], spoken())

    assert summary.signals == (AvSignal.AV_MISMATCH,)
    (only,) = summary.tracks
    assert only.model_dump() == {
        "track": 3, "correlation": 0.1, "lag_seconds": 0.04, "seconds": 4.0, "null_share": 0.0,
        "av_mismatch": True,
    }  # fmt: skip
    assert (summary.correlation_bound, summary.share_bound) == (CORRELATION_BOUND, SHARE_BOUND)


@pytest.mark.parametrize("tracks", [(), (track(0, None),), (track(0, 0.75),), (track(0, CORRELATION_BOUND),)])
def test_a_match_and_nothing_measured_are_no_signal(tracks: tuple[Track, ...]) -> None:
    assert not signalled(*tracks)


def test_a_listener_beside_the_one_who_speaks_is_no_signal() -> None:
    assert not signalled(track(0, 0.1), track(1, 0.8))
    assert summarise([track(0, 0.1), track(1, 0.8)], spoken()).tracks[0].av_mismatch


def test_one_who_speaks_in_another_scene_explains_nothing() -> None:
    assert signalled(track(0, 0.1, 0, 4), track(1, 0.8, 4, 8))


@pytest.mark.parametrize("seconds", [None, 0.0, 0.3])
def test_sound_without_speech_is_no_voice_to_match(seconds: float | None) -> None:
    assert not signalled(track(0, 0.1), rows=spoken(seconds))
    assert not summarise([track(0, 0.1)], spoken(seconds)).tracks[0].av_mismatch


def test_only_the_speech_during_a_track_counts() -> None:
    assert not signalled(track(0, 0.1, 0.0, 1.0))
    assert signalled(track(0, 0.1, 0.5, 3.5))
    assert not signalled(track(0, 0.1), rows=[])


@pytest.mark.parametrize(("field", "value"), [("correlation", 1.2), ("null_share", -0.1)])
def test_impossible_figures_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        LipSync(**{"correlation": 0.1, "lag_seconds": 0.0, "seconds": 1.0, "null_share": 0.0, field: value})
