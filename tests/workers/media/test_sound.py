from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.domain import timeline
from tests.workers.media.conftest import Clip, Extracted, shared
from workers.media.sound import SHARD_SECONDS, sound_shards

RATE = 16_000


def samples(path: Path) -> NDArray[np.int16]:
    """The samples of a mono 16 kHz 16-bit WAV file."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def tone(seconds: float, hertz: int = 440, rate: int = 44_100) -> list[str]:
    """ffmpeg input arguments for a tone."""
    return ["-f", "lavfi", "-i", f"sine=frequency={hertz}:duration={seconds}:sample_rate={rate}"]


def pitch(sound: NDArray[np.int16]) -> float:
    """The strongest frequency, Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * RATE / len(sound))


@pytest.mark.parametrize(
    "name", ["a.wav", "a.mp3", "a.m4a", "a.flac", "a.ogg", "a.opus.webm", "a.mka", "a.avi"]
)
def test_every_container_gives_the_same_tone_of_the_same_length(
    clip: Clip, extracted: Extracted, name: str
) -> None:
    codec = ["-c:a", "libopus"] if "opus" in name else []
    manifest, work = extracted(clip(name, *tone(3.0), *codec))

    sound = samples(work / "sound.wav")

    assert manifest.facts.video is None
    assert manifest.facts.duration == pytest.approx(3.0, abs=0.08)
    assert len(sound) == pytest.approx(manifest.facts.duration * RATE, abs=1)
    assert pitch(sound[RATE : 2 * RATE]) == pytest.approx(440, abs=2)


def test_speech_keeps_its_samples(extracted: Extracted) -> None:
    source = shared("pkg_audio_real_librivox.wav")

    manifest, work = extracted(source)

    np.testing.assert_array_equal(samples(work / "sound.wav"), samples(source))
    assert manifest.facts.audio is not None
    assert (manifest.facts.audio.codec, manifest.facts.audio.sample_rate) == ("pcm_s16le", RATE)


def test_mp3_priming_does_not_shift_the_sound(clip: Clip, extracted: Extracted) -> None:
    source = shared("pkg_audio_real_librivox.wav")
    _, work = extracted(clip("speech.mp3", "-i", source, "-b:a", "128k"))

    before, after = samples(source).astype(float), samples(work / "sound.wav").astype(float)
    window = before[RATE * 3 : RATE * 5]
    shifts = range(-400, 401)
    likeness = [float(after[RATE * 3 + s : RATE * 5 + s] @ window) for s in shifts]

    assert abs(shifts[int(np.argmax(likeness))]) <= 2


def test_sound_that_begins_late_is_preceded_by_silence(clip: Clip, extracted: Extracted) -> None:
    path = clip(
        "late.mp4", "-f", "lavfi", "-i", "testsrc=s=64x64:d=4", "-itsoffset", "1.5", *tone(2.0), "-c:a", "aac"
    )

    manifest, work = extracted(path)

    sound = samples(work / "sound.wav")
    assert manifest.facts.duration == pytest.approx(4.0, abs=0.05)
    assert not sound[: int(1.4 * RATE)].any()
    assert np.abs(sound[int(1.6 * RATE) : int(3.4 * RATE)]).mean() > 500
    assert not sound[int(3.7 * RATE) :].any()


def test_a_gap_in_the_sound_stays_where_it_is(clip: Clip, extracted: Extracted) -> None:
    gap = "aselect='not(between(t,1,2))'"
    path = clip("gap.mkv", *tone(3.0), "-af", gap, "-c:a", "pcm_s16le")

    _, work = extracted(path)

    sound = samples(work / "sound.wav")
    loud = [bool(np.abs(sound[n : n + RATE // 10]).mean() > 100) for n in range(0, len(sound), RATE // 10)]
    assert len(sound) == pytest.approx(3 * RATE, abs=RATE // 10)
    assert loud[:9] == [True] * 9
    assert loud[12:19] == [False] * 7
    assert loud[22:29] == [True] * 7


def test_a_stream_of_many_channels_becomes_mono(clip: Clip, extracted: Extracted) -> None:
    sources = "0.2*sin(2*PI*300*t)|0.2*sin(2*PI*300*t)|0.2*sin(2*PI*300*t)"
    path = clip("three.wav", "-f", "lavfi", "-i", f"aevalsrc={sources}:d=1:channel_layout=2.1")

    manifest, work = extracted(path)

    assert manifest.facts.audio is not None
    assert manifest.facts.audio.channels == 3
    assert pitch(samples(work / "sound.wav")) == pytest.approx(300, abs=2)


def test_cover_art_is_no_video(clip: Clip, extracted: Extracted) -> None:
    cover = clip("cover.jpg", "-f", "lavfi", "-i", "color=red:s=100x100", "-frames:v", "1")
    path = clip(
        "cover.mp3", *tone(2.0), "-i", cover, "-map", "0:a", "-map", "1:v", "-c:v", "copy",
        "-disposition:v", "attached_pic",
    )  # fmt: skip

    manifest, _ = extracted(path)

    assert manifest.facts.video is None
    assert manifest.facts.duration == pytest.approx(2.0, abs=0.06)
    assert manifest.frames == ()


def test_silence_is_sound(extracted: Extracted) -> None:
    manifest, work = extracted(shared("odd_audio_silence_5p1.m4a"))

    assert manifest.facts.audio is not None
    assert manifest.facts.audio.channels == 6
    assert not samples(work / "sound.wav").any()
    assert len(manifest.sound_shards) == 1


@given(st.floats(0.1, 3600), st.floats(1, 5))
def test_sound_shards_are_runs_of_whole_intervals_that_cover_the_timeline(
    duration: float, seconds: float
) -> None:
    spans = timeline(duration, seconds)

    shards = sound_shards(spans)

    assert [n for s in shards for n in range(s.first_interval, s.last_interval + 1)] == [
        s.index for s in spans
    ]
    for number, shard in enumerate(shards):
        assert shard.shard == number
        assert (shard.start, shard.end) == (spans[shard.first_interval].start, spans[shard.last_interval].end)
        assert shard.end - shard.start <= SHARD_SECONDS + 1e-5
    assert all(shard.end - shard.start > SHARD_SECONDS - 6 for shard in shards[:-1])
