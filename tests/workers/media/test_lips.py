from __future__ import annotations

import io
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.evidence import SOUND_RATE, LipSync, Track
from workers.media import lips
from workers.media.lips import MAX_LAG, Opening, attach, measure, null_share

Samples = NDArray[np.float64]


def syllables(seconds: float, seed: int = 1) -> Samples:
    """A talker's rhythm at 100 Hz, 0 to 1: irregular bumps, three to six a second."""
    random = np.random.default_rng(seed)
    curve = np.zeros(round(seconds * 100))
    at = 0.1
    while at < seconds:
        times = np.arange(len(curve)) / 100 - at
        curve += random.uniform(0.4, 1) * np.exp(-((times / 0.06) ** 2))
        at += random.uniform(0.16, 0.36)
    return np.clip(curve, 0, 1)


def voice(curve: Samples, *, hertz: float = 1500, level: float = 0.3) -> Samples:
    """A sound of that loudness."""
    times = np.arange(len(curve) * SOUND_RATE // 100) / SOUND_RATE
    loudness = np.interp(times, np.arange(len(curve)) / 100, curve)
    return level * loudness * np.sin(2 * np.pi * hertz * times)


def mouth(curve: Samples, *, fps: float = 25, late: float = 0) -> list[Opening]:
    """A mouth that opens with it."""
    times = np.arange(0, len(curve) / 100 - 0.05, 1 / fps)
    values = np.interp(times - late, np.arange(len(curve)) / 100, curve)
    return [Opening(float(t), float(v), float(3 * v)) for t, v in zip(times, values, strict=True)]


def wav(samples: Samples) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SOUND_RATE)
        writer.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    file.seek(0)
    return file


def match(trace: list[Opening], samples: Samples) -> LipSync | None:
    with wave.open(wav(samples), "rb") as sound:
        return measure(trace, sound)


def found(trace: list[Opening], samples: Samples) -> LipSync:
    result = match(trace, samples)
    assert result is not None
    return result


def test_a_mouth_that_opens_with_the_voice_matches() -> None:
    curve = syllables(6)

    result = found(mouth(curve), voice(curve))

    assert result.correlation > 0.7
    assert result.lag_seconds == pytest.approx(0, abs=0.03)
    assert result.seconds == pytest.approx(5.9, abs=0.3)
    assert result.null_share == null_share(result.correlation)


@pytest.mark.parametrize("late", [-0.2, 0.2])
def test_the_lag_says_which_comes_later(late: float) -> None:
    curve = syllables(6)

    result = found(mouth(curve, late=late), voice(curve))

    assert result.correlation > 0.7
    assert result.lag_seconds == pytest.approx(-late, abs=0.03)


def test_another_voice_and_a_shifted_one_do_not_match() -> None:
    curve = syllables(8)
    foreign = found(mouth(curve), voice(syllables(8, seed=2)))
    shifted = found(mouth(curve), np.roll(voice(curve), SOUND_RATE))
    for result in (foreign, shifted):
        assert result.correlation < 0.45
        assert abs(result.lag_seconds) <= MAX_LAG
        assert result.null_share == 0


def test_a_mouth_that_only_jitters_does_not_match_by_chance() -> None:
    curve = syllables(6)
    still = [replace(one, parting=0.02 * one.parting, contrast=0.0) for one in mouth(curve)]

    assert found(still, voice(curve)).correlation < 0.35


def test_a_mouth_in_a_frozen_picture_does_not_match() -> None:
    curve = syllables(6)
    frozen = [Opening(one.time, 0.0, 20.0) for one in mouth(curve)]

    assert found(frozen, voice(curve)).correlation == 0


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(6 * SOUND_RATE),
        voice(syllables(6), level=1e-4),
        voice(syllables(6), hertz=5000, level=2e-3),
        voice(syllables(1)),
        np.zeros(0),
    ],
    ids=["silence", "too faint", "no formant", "one second of it", "no samples"],
)
def test_without_enough_voice_nothing_is_said(samples: Samples) -> None:
    assert match(mouth(syllables(6)), samples) is None


def test_without_enough_mouth_nothing_is_said() -> None:
    curve = syllables(6)
    whole = mouth(curve)
    for trace in (
        [],
        whole[:1],
        whole[:20],
        mouth(curve, fps=6),
        [one for one in whole if one.time % 1 < 0.6],
    ):
        assert match(trace, voice(curve)) is None


def test_stretches_on_either_side_of_a_gap_count_together() -> None:
    curve = syllables(6)
    trace = [one for one in mouth(curve) if not 2.5 < one.time < 3.5]
    # What happened in the gap is unknown: the trace goes on from elsewhere.
    moved = [one if one.time < 3 else replace(one, parting=one.parting + 40) for one in trace]

    result = found(moved, voice(curve))

    assert result.correlation > 0.7
    assert result.seconds < 5.1


def test_a_trace_beyond_the_end_of_the_sound_is_no_error() -> None:
    curve = syllables(9)

    result = found(mouth(curve), voice(curve[:400]))

    assert result.correlation > 0.6
    assert result.seconds < 4.5


def test_shares_rise_with_the_correlation_and_stay_shares() -> None:
    shares = [null_share(x / 50) for x in range(-50, 51)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert list(lips.REAL) == sorted(lips.REAL)


def test_each_track_gets_its_own(tmp_path: Path) -> None:
    curve = syllables(6)
    (tmp_path / "sound.wav").write_bytes(wav(voice(curve)).getvalue())
    tracks = [Track(id=n, start=0, end=6, frames=15, thumbnail=None) for n in range(3)]

    talker, listener, unseen = attach(
        tracks, {0: mouth(curve), 1: mouth(syllables(6, seed=5))}, tmp_path / "sound.wav"
    )

    assert talker.lips is not None
    assert listener.lips is not None
    assert talker.lips.correlation > listener.lips.correlation + 0.3
    assert unseen.lips is None
    assert attach(tracks, {}, tmp_path / "none.wav") == tuple(tracks)
