from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import signal as dsp

from core.domain import SoundSignal
from core.evidence import Signal
from tests.workers.detectors.sounds import RATE, ROOT, Wave, heard, noise, silence, tone, voice
from workers.detectors import signals, speech
from workers.detectors.signals import BOUNDS, frames, joints, judge, measure, pitch, spectrum

ALL = ((0.0, 1e9),)


def nothing() -> None:
    """No checkpoint."""


def measured(wave: Wave) -> dict[str, float]:
    """Measures of a wave that is speech from end to end."""
    return measure(wave, ALL, joints.find(wave, nothing), 0, len(wave) / RATE)


def fired(wave: Wave) -> set[SoundSignal]:
    return {signal.signal for signal in judge(measured(wave))}


def by_interval(name: str) -> list[set[SoundSignal]]:
    """The signals of each 2 s interval of a file that has half a second of speech."""
    wave = heard(name)
    talk = speech.stretches(speech.probabilities(wave), len(wave) / RATE)
    found = joints.find(wave, nothing)
    return [
        {s.signal for s in judge(measure(wave, talk, found, at, at + 2))}
        for at in range(0, len(wave) // RATE - 1, 2)
        if speech.overlap(talk, at, at + 2) >= 0.5
    ]


def glide(low: float, high: float, seconds: float) -> Wave:
    """A pitch that swings between two values twice a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (low + (high - low) * (0.5 - 0.5 * np.cos(4 * np.pi * time))).astype(np.float32)


def flat(hertz: float, seconds: float) -> Wave:
    return np.full(round(seconds * RATE), hertz, np.float32)


# Pitch


@pytest.mark.parametrize("hertz", [70.0, 100.0, 157.3, 220.0, 390.0])
def test_the_pitch_of_a_known_voice_is_found(hertz: float) -> None:
    assert measured(voice(flat(hertz, 1)))["pitch_median_hz"] == pytest.approx(hertz, rel=0.005)


def test_a_gliding_voice_has_the_spread_it_was_given() -> None:
    values = measured(voice(glide(100, 200, 2)))
    semitones = 12 * np.log2(glide(100, 200, 2) / 100)
    expected = float(np.median(np.abs(semitones - np.median(semitones))))
    assert values["pitch_spread_semitones"] == pytest.approx(expected, rel=0.1)
    assert SoundSignal.MONOTONE_VOICE not in fired(voice(glide(100, 200, 2)))


def test_a_flat_voice_is_monotone() -> None:
    assert SoundSignal.MONOTONE_VOICE in fired(voice(flat(140, 2)))


def test_a_voice_that_jumps_twenty_times_a_second_is_erratic() -> None:
    rng = np.random.default_rng(3)
    hertz = np.repeat(rng.uniform(90, 350, 40), RATE // 20).astype(np.float32)
    values = measured(voice(hertz))
    assert 18 < values["pitch_jumps_per_second"] < 40
    assert SoundSignal.ERRATIC_PITCH in fired(voice(hertz))
    assert SoundSignal.ERRATIC_PITCH not in fired(voice(glide(100, 200, 2)))


def test_noise_lowers_the_harmonicity_to_what_was_mixed() -> None:
    """Boersma 1993: the harmonics-to-noise ratio of a mixture is its signal-to-noise ratio."""
    clean = voice(flat(150, 2))
    for ratio in (0, 10):
        power = float(np.mean(clean**2)) / 10 ** (ratio / 10)
        mixed = clean + noise(2, power**0.5)
        assert measured(mixed)["harmonicity_db"] == pytest.approx(ratio, abs=1.5)


def test_a_machine_that_repeats_its_cycle_is_unnaturally_consistent() -> None:
    assert SoundSignal.UNNATURAL_CONSISTENCY in fired(voice(flat(150, 2)))
    assert SoundSignal.UNNATURAL_CONSISTENCY not in fired(voice(flat(150, 2)) + noise(2, 0.05))


def test_noise_and_silence_have_no_pitch() -> None:
    for wave in (noise(2), silence(2)):
        assert "pitch_median_hz" not in measured(wave)


# Spectrum


def test_hiss_over_a_voice_is_high_frequency_noise() -> None:
    clean = voice(glide(100, 200, 2))
    hiss = dsp.sosfilt(dsp.butter(8, 5200, "high", fs=RATE, output="sos"), noise(2, 0.1)).astype(np.float32)
    assert SoundSignal.HIGH_FREQUENCY_NOISE not in fired(clean)
    assert SoundSignal.HIGH_FREQUENCY_NOISE in fired(clean + hiss)


def test_the_high_band_is_measured_in_decibels() -> None:
    low = dsp.butter(12, 4000, "low", fs=RATE, output="sos")
    clean = dsp.sosfilt(low, voice(glide(210, 390, 2))).astype(np.float32)
    whistle = float(np.sqrt(2 * np.mean(clean**2) / 100))  # amplitude 20 dB under the voice
    assert measured(clean + tone(6000, 2, whistle))["high_band_db"] == pytest.approx(-20, abs=1)


def test_a_whistle_in_real_speech_is_a_spectral_artifact() -> None:
    wave = heard("media/audio_only_real_librispeech.wav")[: 2 * RATE]
    assert SoundSignal.SPECTRAL_ARTIFACTS not in fired(wave)
    level = float(np.sqrt(np.mean(wave**2)))
    assert SoundSignal.SPECTRAL_ARTIFACTS in fired(wave + tone(4000, 2, level * 0.1))


def test_a_cut_off_is_no_line() -> None:
    wave = heard("media/audio_only_real_librispeech.wav")[: 2 * RATE]
    steep = dsp.firwin(401, 4000, fs=RATE)
    assert SoundSignal.SPECTRAL_ARTIFACTS not in fired(
        dsp.fftconvolve(wave, steep, "same").astype(np.float32)
    )


def test_a_frozen_spectrum_is_overly_smooth() -> None:
    assert SoundSignal.OVERLY_SMOOTH_AUDIO in fired(noise(2))
    assert SoundSignal.OVERLY_SMOOTH_AUDIO not in fired(
        heard("media/pkg_audio_real_librivox.wav")[: 4 * RATE]
    )


def test_exact_silence_inside_words_is_a_synthesis_artifact() -> None:
    wave = heard("media/audio_only_real_librispeech.wav")[: 4 * RATE].copy()
    assert measured(wave)["exact_silence_share"] < 0.02
    for at in (1.2, 1.9, 2.6):
        wave[int(at * RATE) : int((at + 0.08) * RATE)] = 0
    assert measured(wave)["exact_silence_share"] == pytest.approx(3 * 0.08 / 3.8, rel=0.2)
    assert SoundSignal.VOICE_SYNTHESIS_ARTIFACTS in fired(wave)


def test_silence_at_the_ends_of_a_stretch_is_not_inside_it() -> None:
    wave = np.concatenate([silence(1), noise(2), silence(1)])
    values = measure(wave, ((0.95, 3.05),), joints.find(wave, nothing), 0, 4)
    assert values["exact_silence_share"] == 0


# Joints


def test_a_joint_of_two_rooms_is_found_where_it_is() -> None:
    first, second = (
        heard("media/audio_only_real_librispeech.wav")[: 6 * RATE],
        heard("media/pkg_audio_real_librivox.wav"),
    )
    wave = np.concatenate([first + noise(6, 0.004), second[: 6 * RATE]])
    peak = joints.strongest(*joints.find(wave, nothing)[:2], 4, 8)
    assert peak is not None
    assert peak.decibels > 6.5
    assert peak.time == pytest.approx(6, abs=0.5)


def test_a_joint_is_told_in_seconds_of_the_timeline() -> None:
    wave = np.concatenate([voice(glide(100, 200, 5)) + noise(5, 0.01), noise(5, 0.0005)])
    values = measure(wave, ALL, joints.find(wave, nothing), 4, 6, origin=60)
    assert values["background_step_at"] == pytest.approx(65, abs=0.5)
    splice = next(s for s in judge(values) if s.signal is SoundSignal.AUDIO_SPLICING)
    assert splice.value == values["background_step_db"]
    assert ", at 6" in splice.note


def test_one_recording_has_no_joint() -> None:
    values = measured(heard("media/audio_only_real_librispeech.wav"))
    assert values["background_step_db"] < 6.5
    assert values["click_db"] < 26.5


@pytest.mark.parametrize("at", [0.5, 1.234, 59.99, 60.0, 60.01, 61.5])
def test_a_click_is_found_where_it_is_also_where_minutes_meet(at: float) -> None:
    wave = noise(63, 0.003)
    wave[round(at * RATE)] += 0.9
    found = joints.find(wave, nothing)
    peak = joints.strongest(found.click_times, found.clicks, 0, 63)
    assert peak is not None
    assert peak.time == pytest.approx(at, abs=1e-3)
    assert peak.decibels > 26.5


def test_clicks_in_company_are_no_joint() -> None:
    wave = noise(4, 0.003)
    wave[:: RATE // 100] += 0.9
    assert SoundSignal.AUDIO_SPLICING not in fired(wave)


def test_long_sound_is_measured_as_short_sound_is() -> None:
    wave = np.concatenate([noise(61, 0.01, seed=4), noise(9, 0.1, seed=5)])
    tail = joints.find(wave[55 * RATE :], nothing)
    whole = joints.find(wave, nothing)
    ours = whole.steps[(whole.step_times >= 58) & (whole.step_times < 67)]
    theirs = tail.steps[(tail.step_times >= 3) & (tail.step_times < 12)]
    assert ours == pytest.approx(theirs, abs=0.01)
    assert np.all(np.diff(whole.step_times) > 0)
    assert np.all(np.diff(whole.click_times) > 0)


def test_the_checkpoint_is_asked_once_a_minute() -> None:
    calls: list[int] = []
    joints.find(noise(150), lambda: calls.append(1))
    assert len(calls) == 3


# All of them


def test_a_volume_knob_changes_no_verdict_of_a_measure() -> None:
    wave = heard("media/pkg_audio_real_librivox.wav")[: 4 * RATE]
    loud, quiet = measured(wave), measured(wave * np.float32(0.1))
    for name in ("pitch_spread_semitones", "harmonicity_db", "high_band_db", "fine_structure_spread_db"):
        assert quiet[name] == pytest.approx(loud[name], abs=0.01)


@pytest.mark.parametrize("samples", [0, 1, 100, 159, 160, 511, 512, 800, 4000])
def test_very_short_sound_has_few_measures_and_no_trouble(samples: int) -> None:
    values = measured(noise(1)[:samples])
    assert all(np.isfinite(v) for v in values.values())
    assert judge(values) == ()


@pytest.mark.parametrize(
    "wave",
    [silence(2), np.ones(2 * RATE, np.float32), noise(2, 1e-30), np.tile([1, -1], RATE).astype(np.float32)],
)
def test_extreme_sound_has_finite_measures(wave: Wave) -> None:
    assert all(np.isfinite(v) for v in measured(wave).values())


def test_without_speech_only_joints_and_peaks_are_measured() -> None:
    wave = noise(6)
    values = measure(wave, (), joints.find(wave, nothing), 2, 4)
    joined = {"background_step_db", "background_step_at", "click_db", "click_at"}
    assert set(values) <= joined | {"peak_rise_db"}


def test_a_missing_measure_crosses_no_bound() -> None:
    assert judge({}) == ()


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda b: b.measure)
def test_every_bound_fires_beyond_itself_only(bound: signals.Bound) -> None:
    step = 0.01 if bound.above else -0.01
    assert judge({bound.measure: bound.threshold}) == ()
    assert judge({bound.measure: bound.threshold - step}) == ()
    (fired_,) = judge({bound.measure: bound.threshold + step})
    assert fired_ == Signal(
        signal=bound.signal,
        value=bound.threshold + step,
        unit=bound.unit,
        threshold=bound.threshold,
        note=bound.note,
    )


def test_every_signal_of_the_product_has_a_bound() -> None:
    assert {bound.signal for bound in BOUNDS} == set(SoundSignal)


REAL = [
    "media/audio_only_real_librispeech.m4a",
    "media/pkg_audio_real_librivox.wav",
    "media/odd_audio_8khz_mulaw.wav",
    "media/odd_vp9_opus.webm",
    "media/real_five_talkers_cuts.mp4",
    *(
        f"data/grid/{name}.mpg"
        for name in ("bbaf2n", "brbk7n", "lbax4n", "lbbc2a", "lrwp9a", "lwbsza", "sbia1a")
    ),
]


def test_on_real_files_the_signals_stay_quiet() -> None:
    """No signal fires on more than a twentieth of what real people say, whatever the container."""
    found = [interval for name in REAL for interval in by_interval(name)]
    assert len(found) >= 25
    for signal in SoundSignal:
        assert sum(signal in interval for interval in found) <= max(1, 0.05 * len(found)), signal


def test_on_readers_each_signal_is_rare() -> None:
    found = [
        interval
        for reader in ("1688-142285", "2414-128291", "367-130732")
        for n in range(10)
        for interval in by_interval(f"data/librispeech/{reader.split('-')[0]}/{reader}-{n:04d}.flac")
    ]
    for signal in SoundSignal:
        assert sum(signal in interval for interval in found) <= 0.05 * len(found), signal


def test_neural_synthesis_is_not_heard_and_the_documents_say_so() -> None:
    assert not any(by_interval("media/pkg_audio_synthetic_kokoro.wav"))
    said = (ROOT / "docs" / "sound-signals.md").read_text()
    assert "Kokoro" in said
    assert all(signal.value in said for signal in SoundSignal)


def test_frames_have_a_middle_every_ten_milliseconds() -> None:
    assert frames.cut(noise(1)[: frames.SPECTRUM - 1], frames.SPECTRUM).shape == (0, frames.SPECTRUM)
    assert len(frames.cut(noise(1), frames.SPECTRUM)) == 97
    assert frames.centres(2, frames.SPECTRUM) == pytest.approx([0.016, 0.026])


def test_powers_of_a_sine_are_those_it_has() -> None:
    power = frames.powers(tone(1000, 1, 1.0))
    assert power.sum(axis=1) == pytest.approx(0.5, rel=0.01)
    assert np.argmax(power[0]) == 32


def test_the_track_is_silent_about_what_is_too_short() -> None:
    assert len(pitch.track(noise(1)[:799]).times) == 0
    assert len(pitch.track(noise(1)[:800]).times) == 1


def test_silent_steps_are_below_one_unit_of_sixteen_bits() -> None:
    wave = np.concatenate([silence(0.01), np.full(160, 1 / 32768, np.float32)])
    assert spectrum.silent_steps(wave).tolist() == [True, False]


def test_measuring_brings_no_compiler_but_the_mel_filters() -> None:
    """Compiling librosa's stft takes 15 s on a new machine; its filters do not need it."""
    program = (
        "import sys, numpy as np; from workers.detectors import signals;"
        "assert 'librosa' not in sys.modules;"
        "w = np.ones(32000, np.float32); j = signals.joints.find(w, lambda: None);"
        "signals.measure(w, ((0, 2),), j, 0, 2);"
        "assert 'librosa.core.spectrum' not in sys.modules, 'the slow half of librosa was imported'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT, timeout=200)
