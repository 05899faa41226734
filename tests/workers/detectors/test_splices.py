from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import signal as dsp

from core.domain import Reason, timeline
from core.evidence import Splice
from tests.workers.detectors.sounds import RATE, Wave, heard, noise, silence, tone
from workers.detectors.listen import listen
from workers.detectors.signals import hum, joints, music, phase, splices

REAL = "media/pkg_audio_real_librivox.wav"


def nothing() -> None:
    """No checkpoint."""


def found(wave: Wave) -> tuple[Splice, ...]:
    return splices.find(wave, joints.find(wave, nothing), nothing)[0]


def kinds(wave: Wave, at: float, within: float = 0.1) -> set[str]:
    """What is named near a time."""
    return {splice.kind for splice in found(wave) if abs(splice.time - at) <= within}


def spoken() -> Wave:
    return heard(REAL)[: 12 * RATE]


def humming(seconds: float, mains: float = 50.0, lost: float = 0.0, at: float = 6.0) -> Wave:
    """Hum at -40 dBFS; `lost` seconds of it are cut out at a time."""
    time = np.arange(round(seconds * RATE)) / RATE
    time = time + lost * (time >= at)
    made = sum(0.01 * np.sin(2 * np.pi * mains * n * time + n) / n for n in range(1, 9))
    return np.asarray(made + noise(seconds, 1e-4), np.float32)


def test_untouched_speech_is_not_named() -> None:
    assert found(spoken()) == ()


def test_another_room_is_found_to_the_tenth_of_a_second_within_a_word() -> None:
    wave = spoken()
    wave[int(6.4 * RATE) :] += noise(5.6, 0.01)
    assert kinds(wave, 6.4) == {"background"}
    assert len(found(wave)) == 1
    assert kinds(wave[::-1].copy(), 12 - 6.4) == {"background"}, "quiet after loud, too"


def test_a_call_put_into_a_recording_loses_the_high_band() -> None:
    wave = spoken()
    low = dsp.firwin(401, 3500, fs=RATE)
    wave[6 * RATE :] = dsp.fftconvolve(wave, low, "same")[6 * RATE :]
    assert "bandwidth" in kinds(wave, 6.0, 0.4)


@pytest.mark.parametrize("mains", [50.0, 60.0, 49.87])
def test_a_cut_under_hum_jumps_its_phase(mains: float) -> None:
    lost = 0.37 / mains  # of a cycle: nothing else changes
    assert "hum" in kinds(humming(12, mains, lost), 6.0)
    assert found(humming(12, mains)) == ()


def test_hum_that_drifts_as_grids_do_is_no_jump() -> None:
    cycles = np.cumsum(50 + 0.03 * np.sin(2 * np.pi * np.arange(20 * RATE) / RATE / 20)) / RATE
    wave = sum(0.01 * np.sin(2 * np.pi * n * cycles) / n for n in range(1, 9)) + noise(20, 1e-4)
    followed = hum.find(np.asarray(wave, np.float32), nothing)
    assert followed.mains == pytest.approx(50, abs=0.1)
    assert np.max(followed.shifts) < splices.BOUNDS["hum"]


@pytest.mark.parametrize("wave", [noise(8), silence(8), tone(440, 8), humming(4)], ids=list("nstu"))
def test_without_mains_or_time_no_hum_is_followed(wave: Wave) -> None:
    followed = hum.find(wave, nothing)
    assert followed.mains is None
    assert len(followed.times) == len(followed.shifts) == 0


def test_hum_under_a_voice_is_no_music() -> None:
    wave = spoken() + 5 * humming(12)
    findings = listen(wave, 0, timeline(12, 2), None, Reason.NO_DETECTOR_WEIGHTS)
    assert not any(Reason.MUSIC in finding.notes for finding in findings)
    assert findings[0].measures["mains_hz"] == pytest.approx(50, abs=0.05)
    assert music.lines(music.find(wave, nothing), 4, 6) is not None


def test_an_edge_in_a_steady_sound_is_found_and_a_cross_fade_hides_it() -> None:
    whole = tone(211, 6, 0.3) + noise(6, 1e-3)
    hard = np.concatenate([whole[: 3 * RATE], whole[3 * RATE + 20 :]])
    assert "phase" in kinds(hard, 3.0, 0.002)
    ramp = np.linspace(0, 1, 80, dtype=np.float32)
    middle = whole[3 * RATE : 3 * RATE + 80] * (1 - ramp) + whole[3 * RATE + 20 : 3 * RATE + 100] * ramp
    soft = np.concatenate([whole[: 3 * RATE], middle, whole[3 * RATE + 100 :]])
    assert kinds(soft, 3.0, 0.1) == set()


def test_edges_are_the_same_across_the_border_of_two_passes() -> None:
    wave = np.tile(spoken(), 6)[: 62 * RATE].copy()
    wave[60 * RATE :] *= -1
    whole, late = phase.find(wave, nothing), phase.find(wave[50 * RATE :], nothing)
    assert np.all(np.diff(whole[0]) > 0)
    inside = whole[0] > 51
    assert whole[0][inside] - 50 == pytest.approx(late[0][late[0] > 1])
    assert whole[1][inside] == pytest.approx(late[1][late[0] > 1], abs=0.1)


def test_hard_cuts_between_real_talkers_are_found_and_nothing_else_is() -> None:
    """Five talkers one after another; the file says where by its length: five times 2.98 s."""
    named = found(heard("media/real_five_talkers_cuts.mp4"))
    assert named
    assert all(min(abs(splice.time - 2.98 * n) for n in range(1, 5)) < 0.1 for splice in named)


def test_the_ends_of_a_piece_are_no_joints() -> None:
    wave = np.concatenate([silence(0.05), tone(211, 4, 0.3), silence(0.05)]) + noise(4.1, 1e-4)
    assert found(wave) == ()


def test_one_place_is_named_once_by_each_kind() -> None:
    times = np.array([1.0, 1.4, 2.2, 5.0])
    peaks = splices._peaks("hum", times, np.array([80.0, 120.0, 90.0, 63.0]))
    assert [(splice.time, splice.strength) for splice in peaks] == [(1.4, 2.0), (5.0, 1.05)]


def test_splices_lie_in_their_interval_and_on_the_timeline() -> None:
    wave = spoken()
    wave[int(6.4 * RATE) :] += noise(5.6, 0.01)
    spans = [
        span.model_copy(update={"start": span.start + 60, "end": span.end + 60}) for span in timeline(12, 2)
    ]
    findings = listen(wave, 60.0, spans, None, Reason.NO_DETECTOR_WEIGHTS)
    assert [len(finding.splices) for finding in findings] == [0, 0, 0, 1, 0, 0]
    (splice,) = findings[3].splices
    assert splice.time == pytest.approx(66.4, abs=0.1)
    assert splice.strength > 1


@given(arrays.arrays(np.float32, st.integers(0, 4000), elements=st.floats(-1, 1, width=32)))
def test_any_samples_are_survived(wave: Wave) -> None:
    assert all(np.isfinite(splice.strength) and splice.time >= 0 for splice in found(wave))


@pytest.mark.parametrize(
    "wave", [silence(10), np.ones(10 * RATE, np.float32)], ids=["zeros", "direct current"]
)
def test_nothing_is_joined_in_nothing(wave: Wave) -> None:
    assert found(wave) == ()
