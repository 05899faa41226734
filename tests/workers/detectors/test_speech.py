from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core.errors import DetectorUnavailable
from tests.workers.detectors.sounds import RATE, ROOT, heard, noise, silence, tone
from workers.detectors import speech

SPOKEN = [
    "media/audio_only_real_librispeech.wav",
    "media/audio_only_synthetic_kokoro.mp3",
    "media/odd_audio_8khz_mulaw.wav",
    "media/real_face_synthetic_speech_espeak.mp4",
    "media/pkg_audio_real_librivox.wav",
]
FRAME = speech.FRAME_SECONDS


def found(wave: speech.Wave) -> tuple[speech.Stretch, ...]:
    return speech.stretches(speech.probabilities(wave), len(wave) / RATE)


@pytest.mark.parametrize("name", SPOKEN)
def test_speech_is_found_in_every_recording_of_speech(name: str) -> None:
    wave = heard(name)
    assert speech.overlap(found(wave), 0, len(wave) / RATE) > 0.5 * len(wave) / RATE


@pytest.mark.parametrize("wave", [silence(3), noise(3), noise(3, 0.001), tone(440, 3), tone(100, 3)], ids=str)
def test_silence_noise_and_tones_are_not_speech(wave: speech.Wave) -> None:
    assert found(wave) == ()


def test_speech_between_silences_is_found_where_it_is() -> None:
    spoken = heard("media/audio_only_real_librispeech.wav")[: 4 * RATE]
    wave = np.concatenate([silence(5), spoken, silence(5)])
    parts = found(wave)
    assert 4.8 < parts[0][0] < 5.8
    assert 8.2 < parts[-1][1] < 9.3


def test_the_same_samples_give_the_same_numbers() -> None:
    wave = heard("media/audio_only_real_librispeech.wav")
    assert np.array_equal(speech.probabilities(wave), speech.probabilities(wave.copy()))


def test_one_probability_per_started_frame() -> None:
    for samples in (1, 511, 512, 513, 5120):
        assert len(speech.probabilities(noise(1)[:samples])) == -(-samples // speech.FRAME)
    assert len(speech.probabilities(silence(0))) == 0


def test_the_package_with_torch_in_it_is_never_imported() -> None:
    program = (
        "import sys, numpy as np; from workers.detectors import speech;"
        "speech.probabilities(np.zeros(1024, np.float32));"
        "assert not {'torch', 'silero_vad', 'librosa'} & set(sys.modules), 'too much imported'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT, timeout=120)


def test_the_checkpoint_can_stop_the_work_in_every_minute() -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        speech.probabilities(silence(121), stop)


def test_a_missing_wheel_is_named_with_what_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(DetectorUnavailable) as refused:
        speech.weights()
    assert "silero-vad" in refused.value.extra["mend"]


def test_a_wheel_without_the_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "silero_vad-6.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: silero-vad\nVersion: 6.2.3\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(DetectorUnavailable, match="silero_vad_16k_op15"):
        speech.weights()


def track(*parts: tuple[float, int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.concatenate([np.full(count, p, np.float32) for p, count in parts])


def test_a_burst_shorter_than_a_quarter_second_is_not_speech() -> None:
    assert speech.stretches(track((0, 20), (1, 7), (0, 20)), 47 * FRAME) == ()
    assert len(speech.stretches(track((0, 20), (1, 8), (0, 20)), 48 * FRAME)) == 1


def test_a_pause_under_a_tenth_of_a_second_does_not_end_speech() -> None:
    short, long = track((1, 20), (0, 3), (1, 20)), track((1, 20), (0, 8), (1, 20))
    assert speech.stretches(short, 43 * FRAME) == ((0.0, 43 * FRAME),)
    assert len(speech.stretches(long, 48 * FRAME)) == 2


def test_between_the_thresholds_speech_goes_on_but_does_not_begin() -> None:
    assert speech.stretches(track((0.4, 60)), 60 * FRAME) == ()
    assert speech.stretches(track((0.6, 20), (0.4, 20)), 40 * FRAME) == ((0.0, 40 * FRAME),)


def test_ends_gain_thirty_milliseconds_and_stay_inside() -> None:
    ((begin, end),) = speech.stretches(track((0, 10), (1, 20), (0, 10)), 40 * FRAME)
    assert begin == pytest.approx(10 * FRAME - 0.03)
    assert end == pytest.approx(30 * FRAME + 0.03)


@given(arrays.arrays(np.float32, st.integers(0, 200), elements=st.floats(0, 1, width=32)))
def test_stretches_are_ordered_apart_and_inside(
    probability: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    seconds = len(probability) * FRAME
    edges = [edge for part in speech.stretches(probability, seconds) for edge in part]
    assert edges == sorted(set(edges))
    assert all(0 <= edge <= seconds for edge in edges)


def test_overlap_counts_only_what_is_inside() -> None:
    parts = ((0.0, 1.0), (2.0, 4.0))
    assert speech.overlap(parts, 0.5, 3.0) == pytest.approx(1.5)
    assert speech.overlap(parts, 1.0, 2.0) == 0
    assert speech.overlap((), 0, 9) == 0


def test_between_gives_the_stretches_that_reach_inside() -> None:
    parts = ((0.0, 1.0), (2.0, 4.0), (5.0, 6.0))
    assert speech.between(parts, 3.0, 5.5) == parts[1:]
    assert speech.between(parts, 1.0, 2.0) == ()
    assert speech.between(parts, 6.0, 9.0) == ()
    assert speech.between((), 0, 9) == ()


def test_join_bridges_gaps_up_to_the_given_one() -> None:
    parts = ((0.0, 1.0), (1.5, 2.0), (4.0, 5.0))
    assert speech.join(parts, 0.5) == ((0.0, 2.0), (4.0, 5.0))
    assert speech.join(parts, 0.4) == parts
