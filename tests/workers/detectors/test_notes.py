from __future__ import annotations

import numpy as np
import pytest
from scipy import signal as dsp

from core.domain import Reason, timeline
from core.evidence import AudioFinding
from tests.music import KINDS, music
from tests.workers.detectors.sounds import RATE, Wave, heard, noise, silence, tone
from tests.workers.detectors.test_listen import Loudness
from workers.detectors.listen import listen
from workers.detectors.notes import notes, unfit
from workers.detectors.signals import channel
from workers.detectors.signals import music as rule

REAL = "media/pkg_audio_real_librivox.wav"


def found(wave: Wave) -> tuple[AudioFinding, ...]:
    return listen(wave, 0, timeline(len(wave) / RATE, 2), Loudness(), None)


def lines(wave: Wave) -> list[float]:
    active = rule.find(wave, lambda: None)
    return [rule.lines(active, n, n + 2) or 0.0 for n in range(0, len(wave) // RATE - 1, 2)]


def telephone(wave: Wave) -> Wave:
    """What 8 kHz leave of it."""
    return np.asarray(dsp.resample_poly(dsp.resample_poly(wave, 1, 2), 2, 1), np.float32)


def overdriven(wave: Wave, share: float) -> Wave:
    """That share of the samples cut off."""
    ceiling = np.quantile(np.abs(wave), 1 - share)
    return np.asarray(np.clip(wave, -ceiling, ceiling) / ceiling, np.float32)


# Music


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "drums"])
def test_notes_are_music_and_not_merely_no_speech(kind: str) -> None:
    findings = found(music(kind, 8, 3))
    assert {f.reason for f in findings} == {Reason.MUSIC}
    assert {f.score for f in findings} == {None}
    assert not any(f.notes for f in findings), "without a voice the reason says it"


@pytest.mark.parametrize("seed", range(3))
def test_drums_alone_have_no_notes(seed: int) -> None:
    assert {f.reason for f in found(music("drums", 6, seed))} == {Reason.NO_SPEECH}


def test_music_under_a_voice_is_noted_and_the_score_stays() -> None:
    wave = heard(REAL)[: 10 * RATE]
    bed = music("strings", 10, 1)
    bed *= np.sqrt(np.mean(wave**2) / np.mean(bed**2))
    findings = found(wave + bed)
    assert [f.notes for f in findings] == [(Reason.MUSIC,)] * 5
    assert all(f.score is not None for f in findings)


def test_speech_noise_a_tone_and_silence_are_no_music() -> None:
    assert max(lines(heard(REAL))) < rule.UNDER_VOICE
    for wave in (noise(10), tone(440, 10), silence(10)):
        assert max(lines(wave)) < rule.ALONE


def test_a_hum_that_never_stops_is_no_music() -> None:
    hum = sum((tone(50 * n, 12, 0.05) for n in range(1, 10)), noise(12, 0.005))
    assert max(lines(hum)) < rule.ALONE


def test_too_little_sound_has_no_lines() -> None:
    for seconds in (0, 0.01, 0.4):
        assert rule.lines(rule.find(silence(seconds), lambda: None), 0, 2) is None
    assert rule.lines(rule.find(silence(5), lambda: None), 100, 102) is None


def test_a_minute_is_counted_as_its_parts_are() -> None:
    """Frames must go on across the border between two passes."""
    wave = music("organ", 64, 2)
    whole, late = lines(wave), lines(wave[50 * RATE :])
    assert whole[28:31] == pytest.approx(late[3:6], abs=0.4)
    assert len(rule.find(wave, lambda: None)) == (len(wave) - rule.FRAME) // rule.HOP + 1


# The telephone's band


def test_a_telephone_is_a_reason_and_no_detector_is_asked() -> None:
    ear = Loudness()
    wave = telephone(heard(REAL))[: 12 * RATE]
    findings = listen(wave, 0, timeline(12, 2), ear, None)
    assert {(f.score, f.reason, f.notes) for f in findings} == {
        (None, Reason.NARROW_BAND, (Reason.NARROW_BAND,))
    }
    assert all(f.measures["bandwidth_hz"] <= 4500 for f in findings)
    assert ear.lengths == []


def test_a_real_telephone_file_is_narrow_and_the_recording_it_came_from_is_not() -> None:
    narrow = found(heard("media/odd_audio_8khz_mulaw.wav"))
    wide = found(heard("media/audio_only_real_librispeech.wav"))
    assert {f.reason for f in narrow[:-1]} == {Reason.NARROW_BAND}
    assert all(f.score is not None for f in wide[:-1])
    assert min(f.measures["bandwidth_hz"] for f in wide[:-1]) >= 7000


def test_a_call_inside_a_recording_costs_only_its_own_intervals() -> None:
    wave = heard(REAL)[: 12 * RATE].copy()
    wave[4 * RATE : 8 * RATE] = telephone(wave[4 * RATE : 8 * RATE])
    reasons = [f.reason for f in found(wave)]
    assert reasons == [None, None, Reason.NARROW_BAND, Reason.NARROW_BAND, None, None]


def test_weights_would_not_help_a_telephone() -> None:
    wave = telephone(heard(REAL))[: 4 * RATE]
    (first, _) = listen(wave, 0, timeline(4, 2), None, Reason.NO_DETECTOR_WEIGHTS)
    assert first.reason is Reason.NARROW_BAND


# Clipping


def test_overdriven_speech_is_noted_and_scored() -> None:
    clean, loud = found(heard(REAL)), found(overdriven(heard(REAL), 0.03))
    assert not any(Reason.CLIPPED in f.notes for f in clean)
    assert sum(Reason.CLIPPED in f.notes for f in loud) >= 5
    assert loud[1].score is not None


@pytest.mark.parametrize("wave", [silence(2), noise(2, 1e-4), noise(0.4)], ids=["zeros", "room", "sliver"])
def test_what_is_too_faint_or_short_is_not_judged_clipped(wave: Wave) -> None:
    assert channel.peaks(wave) == {}


# Which reason wins


def test_without_measures_nothing_is_noted() -> None:
    assert notes({}, 2.0) == ()
    assert notes({"music_lines": 5, "telephone_band_db": -40, "peak_rise_db": 0}, 0.4) == ()
    everything = notes({"music_lines": 5, "telephone_band_db": -40, "peak_rise_db": 0}, 0.6)
    assert everything == (Reason.MUSIC, Reason.CLIPPED, Reason.NARROW_BAND)


@pytest.mark.parametrize(
    ("level", "spoken", "count", "reason"),
    [
        (-20, 0.0, 2.5, Reason.MUSIC),
        (-20, 0.0, 1.9, Reason.NO_SPEECH),
        (-75, 0.0, 5.0, Reason.SILENCE),
        (None, 0.0, 0.0, Reason.SILENCE),
        (-20, 0.3, 2.5, Reason.TOO_SHORT),
        (-20, 0.3, 3.5, Reason.MUSIC),
        (-20, 0.6, 5.0, None),
    ],
)
def test_what_there_is_instead_of_a_voice(
    level: float | None, spoken: float, count: float, reason: Reason | None
) -> None:
    assert unfit(2.0, level, spoken, {"music_lines": count}) is reason
    assert unfit(0.4, level, spoken, {"music_lines": count}) is Reason.TOO_SHORT
