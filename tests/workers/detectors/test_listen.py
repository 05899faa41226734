from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from core.domain import Modality, Reason, Span, timeline
from core.errors import DetectorFailed
from core.evidence import AudioFinding, DetectorIdentity
from tests.workers.detectors.sounds import RATE, Wave, heard, noise, silence, tone
from workers.detectors import listen as room
from workers.detectors.base import AudioDetector
from workers.detectors.hf_audio import hearing
from workers.detectors.listen import Ear, listen
from workers.detectors.notes import MIN_SPEECH_SECONDS
from workers.detectors.windows import WINDOW_SECONDS, windows

REAL = "media/audio_only_real_librispeech.wav"


class Loudness:
    """A detector whose score is known beforehand: the RMS of the window, four times."""

    def __init__(self, length: float | None = None) -> None:
        self.lengths: list[int] = []
        self.length = length

    @property
    def identity(self) -> DetectorIdentity:
        return DetectorIdentity(
            id="test/loudness", modality=Modality.AUDIO, version="1", digest="sha256:0", fake_label="loud"
        )

    @property
    def window_seconds(self) -> float | None:
        return self.length

    def scores(self, windows: list[Wave], /, *, checkpoint: Callable[[], None]) -> NDArray[np.float32]:
        checkpoint()
        self.lengths += [len(window) for window in windows]
        return np.array([min(1.0, 4 * float(np.sqrt(np.mean(w**2)))) for w in windows], np.float32)


class Answering(Loudness):
    """A detector that answers whatever it is told to."""

    def __init__(self, answer: Callable[[int], NDArray[np.float32]]) -> None:
        super().__init__()
        self.answer = answer

    def scores(self, windows: list[Wave], /, *, checkpoint: Callable[[], None]) -> NDArray[np.float32]:
        checkpoint()
        return self.answer(len(windows))


def scored(wave: Wave, detector: Ear | None = None, start: float = 0.0) -> tuple[AudioFinding, ...]:
    spans = [
        Span(index=s.index, start=s.start + start, end=s.end + start) for s in timeline(len(wave) / RATE, 2)
    ]
    return listen(wave, start, spans, detector, None if detector else Reason.NO_DETECTOR_WEIGHTS)


def test_every_audio_detector_can_be_listened_with() -> None:
    def accept(detector: AudioDetector) -> Ear:  # the type checker is the test
        return detector

    assert accept.__annotations__["return"] == "Ear"


def test_every_interval_has_a_score_or_a_reason_never_both() -> None:
    wave = np.concatenate([heard(REAL), silence(4), noise(4)])
    for detector in (None, Loudness()):
        findings = scored(wave, detector)
        assert [f.index for f in findings] == list(range(len(findings)))
        assert all((f.score is None) != (f.reason is None) for f in findings)


def test_real_speech_is_scored_and_carries_its_detector() -> None:
    findings = scored(heard(REAL), Loudness())
    assert all(f.score is not None for f in findings[:-1])
    assert findings[1].detectors == {"test/loudness": findings[1].score}
    assert (findings[1].speech_seconds or 0) > 1
    assert -40 < (findings[1].level_dbfs or 0) < -10


def test_without_weights_the_reason_is_passed_on_and_the_measures_stay() -> None:
    finding = scored(heard(REAL))[1]
    assert (finding.score, finding.reason) == (None, Reason.NO_DETECTOR_WEIGHTS)
    assert {"pitch_median_hz", "fine_structure_spread_db", "harmonicity_db"} <= finding.measures.keys()
    assert finding.detectors == {}


def test_a_missing_detector_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        listen(silence(2), 0, timeline(2, 2), None, None)


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (silence(2), Reason.SILENCE),
        (noise(2, 1e-4), Reason.SILENCE),
        (noise(2, 0.1), Reason.NO_SPEECH),
        (tone(440, 2), Reason.NO_SPEECH),
        (silence(0.3), Reason.TOO_SHORT),
    ],
    ids=["zeros", "room", "noise", "tone", "sliver"],
)
def test_what_is_not_speech_says_why(wave: Wave, reason: Reason) -> None:
    detector = Loudness()
    (finding,) = scored(wave, detector)
    assert (finding.score, finding.reason) == (None, reason)
    assert detector.lengths == []


def test_digital_silence_has_no_level() -> None:
    (finding,) = scored(silence(2), Loudness())
    assert (finding.level_dbfs, finding.speech_seconds) == (None, 0.0)
    (square,) = scored(np.ones(2 * RATE, np.float32), Loudness())
    assert square.level_dbfs == 0


def test_a_word_in_silence_is_too_little_to_score() -> None:
    word = heard(REAL)[int(0.5 * RATE) : int(0.85 * RATE)]
    wave = np.concatenate([silence(0.8), word, silence(0.85)])
    (finding,) = scored(wave, Loudness())
    assert finding.reason is Reason.TOO_SHORT
    assert 0 < (finding.speech_seconds or 0) < MIN_SPEECH_SECONDS


def test_intervals_beyond_the_sound_are_too_short_not_silent() -> None:
    spans = timeline(6, 2)
    findings = listen(heard(REAL)[: 2 * RATE], 0, spans, Loudness(), None)
    assert [f.reason for f in findings[1:]] == [Reason.TOO_SHORT] * 2
    before = listen(heard(REAL)[: 2 * RATE], 100, spans, Loudness(), None)
    assert {f.reason for f in before} == {Reason.TOO_SHORT}


def test_scores_follow_the_loudness_in_time() -> None:
    """Twelve quiet seconds, then twelve loud ones: windows must land on the intervals they came from."""
    spoken = heard(REAL)
    spoken = np.tile(spoken, 3)[: 12 * RATE]
    findings = scored(np.concatenate([spoken * np.float32(0.1), spoken]), Loudness())
    quiet = [f.score for f in findings[:5] if f.score is not None]
    loud = [f.score for f in findings[7:] if f.score is not None]
    assert len(quiet) == len(loud) == 5
    assert max(quiet) * 5 < min(loud)


def test_the_start_of_a_piece_moves_the_timeline_with_it() -> None:
    wave = heard(REAL)
    assert [f.score for f in scored(wave, Loudness())] == [f.score for f in scored(wave, Loudness(), 60.0)]


def test_the_mean_weighs_the_speech_that_a_window_shares_with_the_interval() -> None:
    heard_ = (room.Heard(0, 4, 0.2), room.Heard(2, 6, 0.8), room.Heard(4, 8, None))
    assert room._mean(heard_, ((0.0, 8.0),), 0, 2) == pytest.approx(0.2)
    assert room._mean(heard_, ((0.0, 8.0),), 2, 4) == pytest.approx(0.5)
    assert room._mean(heard_, ((0.0, 8.0),), 4, 6) == pytest.approx(0.8)
    assert room._mean(heard_, ((0.0, 8.0),), 6, 8) is None
    assert room._mean(heard_, ((1.5, 2.5),), 1, 3) == pytest.approx((0.2 * 1 + 0.8 * 0.5) / 1.5)


@pytest.mark.parametrize(
    ("talk", "seconds", "expected"),
    [
        (((0.0, 4.0),), 4.0, [(0, 4)]),
        (((0.0, 8.0),), 8.0, [(0, 4), (2, 6), (4, 8)]),
        (((1.0, 6.5),), 8.0, [(1, 5), (2.5, 6.5)]),
        (((3.0, 3.4),), 8.0, [(2.7, 3.7)]),
        (((3.0, 4.7),), 8.0, [(2.85, 4.85)]),
        (((0.0, 0.4),), 8.0, [(0, 1)]),
        (((7.6, 8.0),), 8.0, [(7, 8)]),
        (((0.0, 0.6),), 0.6, [(0, 0.6)]),
        (((0.0, 1.0), (1.9, 3.0)), 8.0, [(0, 3)]),
        (((0.0, 1.0), (2.1, 3.1)), 8.0, [(0, 1), (2.1, 3.1)]),
        ((), 8.0, []),
    ],
)
def test_windows(
    talk: tuple[tuple[float, float], ...], seconds: float, expected: list[tuple[float, float]]
) -> None:
    found = [edge for window in windows(talk, seconds) for edge in window]
    assert found == pytest.approx([edge for window in expected for edge in window])


@given(st.lists(st.floats(0, 60, allow_nan=False), max_size=20))
def test_windows_cover_all_talk_and_stay_inside(edges: list[float]) -> None:
    ordered = sorted(set(edges))
    talk = tuple(zip(ordered[::2], ordered[1::2], strict=False))
    found = list(windows(talk, 60.0))
    for begin, end in found:
        assert -1e-9 <= begin < end <= 60 + 1e-9
        assert end - begin <= WINDOW_SECONDS + 1e-9
    for begin, end in talk:
        for moment in (begin, (begin + end) / 2, end):
            assert any(a - 1e-6 <= moment <= b + 1e-6 for a, b in found)


def test_no_window_is_longer_than_four_seconds_and_lengths_repeat() -> None:
    detector = Loudness()
    scored(np.concatenate([heard(REAL), silence(3), heard(REAL)[: 2 * RATE]]), detector)
    assert max(detector.lengths) <= 4 * RATE
    assert {n % (RATE // 2) for n in detector.lengths} == {0}


@pytest.mark.parametrize(("length", "expected"), [(2.5, 2.5), (1.0, 1.0), (8.0, 8.0), (None, 4.0)])
def test_windows_have_the_length_that_the_detector_names(length: float | None, expected: float) -> None:
    detector = Loudness(length)
    scored(np.tile(heard(REAL), 2), detector)
    assert max(detector.lengths) == expected * RATE
    assert min(detector.lengths) >= RATE


@pytest.mark.parametrize("length", [1.0, 2.5, 8.0])
def test_scores_follow_the_loudness_in_time_whatever_the_length(length: float) -> None:
    spoken = np.tile(heard(REAL), 3)[: 16 * RATE]
    findings = scored(np.concatenate([spoken * np.float32(0.1), spoken]), Loudness(length))
    quiet = [f.score for f in findings[:4] if f.score is not None]
    loud = [f.score for f in findings[12:] if f.score is not None]
    assert len(quiet) == len(loud) == 4
    assert np.mean(quiet) * 5 < np.mean(loud)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [(64_600, 4.0375), (None, None), (True, None), ("4 s", None), (-1, None), (10**9, None)],
)
def test_the_length_of_a_checkpoints_examples_is_taken_where_it_can_be(
    samples: object, seconds: float | None
) -> None:
    config = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "max_length": samples}
    assert hearing(config, "x").seconds == seconds


def test_long_windows_overlap_by_half_and_cover_the_talk() -> None:
    assert list(windows(((0.0, 25.0),), 30.0, 10.0)) == [(0, 10), (5, 15), (10, 20), (15, 25)]
    ((begin, end),) = windows(((3.0, 3.2),), 30.0, 0.6)
    assert (begin, end) == pytest.approx((2.8, 3.4))


def test_a_detector_that_fails_costs_the_scores_not_the_measures(caplog: pytest.LogCaptureFixture) -> None:
    def fail(count: int) -> NDArray[np.float32]:
        raise DetectorFailed(f"no memory for {count} windows")

    with caplog.at_level(logging.WARNING):
        findings = scored(heard(REAL), Answering(fail))
    assert findings[1].reason is Reason.DETECTOR_FAILED
    assert findings[1].measures
    assert findings[1].detectors == {}
    assert "no memory" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1])
def test_what_is_no_probability_is_never_a_score(value: float) -> None:
    findings = scored(heard(REAL), Answering(lambda n: np.full(n, value, np.float32)))
    assert {f.reason for f in findings} == {Reason.DETECTOR_FAILED}


def test_one_broken_window_is_left_out_of_the_mean() -> None:
    def first_broken(count: int) -> NDArray[np.float32]:
        return np.array([np.nan] + [0.25] * (count - 1), np.float32)

    findings = scored(np.tile(heard(REAL), 2), Answering(first_broken))
    assert findings[0].reason is Reason.DETECTOR_FAILED  # only the broken window heard it
    assert {f.score for f in findings[1:6]} == {0.25}


@pytest.mark.parametrize("shape", [(0,), (99,), (1, 1)])
def test_scores_of_another_shape_are_a_failure(shape: tuple[int, ...]) -> None:
    findings = scored(heard(REAL), Answering(lambda _: np.zeros(shape, np.float32)))
    assert {f.reason for f in findings} == {Reason.DETECTOR_FAILED}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_a_broken_decoder_cannot_poison_a_finding(value: float) -> None:
    wave = heard(REAL).copy()
    wave[RATE : RATE + 4000] = value
    for finding in scored(wave, Loudness()):
        AudioFinding.model_validate_json(finding.model_dump_json())
        assert all(np.isfinite(v) for v in finding.measures.values())
    assert scored(np.full(2 * RATE, value, np.float32))[0].score is None


@given(arrays.arrays(np.float32, st.integers(0, 3000), elements=st.floats(width=32)))
def test_any_samples_give_findings_that_survive_json(wave: Wave) -> None:
    for finding in listen(wave, 0, timeline(2, 1), None, Reason.NO_DETECTOR_WEIGHTS):
        assert finding.score is None
        assert AudioFinding.model_validate_json(finding.model_dump_json()) == finding


@pytest.mark.parametrize("shape", [(2, 16000), ()])
def test_sound_with_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one-dimensional"):
        listen(np.zeros(shape, np.float32), 0, timeline(1, 1), None, Reason.NO_DETECTOR_WEIGHTS)


def test_no_sound_and_no_intervals_are_no_trouble() -> None:
    assert listen(silence(0), 0, (), Loudness(), None) == ()
    (finding,) = listen(silence(0), 0, timeline(2, 2), Loudness(), None)
    assert finding.reason is Reason.TOO_SHORT


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
def test_the_checkpoint_stops_the_work_wherever_it_is(nth: int) -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        listen(heard(REAL), 0, timeline(13, 2), Loudness(), None, checkpoint=stop)


def test_the_sound_is_not_changed() -> None:
    wave = heard(REAL)
    before = wave.copy()
    scored(wave, Loudness())
    assert np.array_equal(wave, before)


def test_a_second_hearing_says_the_same() -> None:
    assert scored(heard(REAL), Loudness()) == scored(heard(REAL), Loudness())
