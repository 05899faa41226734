from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from core.errors import MediaError
from tests.workers.media.conftest import SAMPLE, Clip, shared
from workers.media.formats import CONTAINERS, audio_allowed, open_input, video_allowed
from workers.media.job import Job
from workers.media.probe import Probe, declared_seconds, probe

JOB = {
    "interval_seconds": 2.0,
    "frames_per_interval": 5,
    "max_seconds": 1800.0,
    "max_pixels": 8192 * 4320,
    "max_frames": 108_000,
    "max_streams": 16,
    "max_faces_per_frame": 20,
}


def probed(path: Path, **changes: Any) -> Probe:
    """The probe of a file under the default limits, or others."""
    with open_input(str(path)) as container:
        return probe(container, Job(**{**JOB, **changes}))


def test_a_job_survives_its_journey() -> None:
    job = Job(**JOB)  # type: ignore[arg-type]

    assert Job.from_json(job.to_json()) == job


def test_the_sample_is_read_without_decoding() -> None:
    found = probed(SAMPLE)

    assert found.picture is not None
    assert found.sound is not None
    assert (found.video_index, found.audio_index) == (0, 1)
    assert (len(found.picture.ticks), found.picture.exact) == (200, True)
    assert found.picture.ticks == sorted(found.picture.ticks)
    assert (float(found.origin), float(found.duration), found.broken) == (0.0, 8.0, False)


def test_the_stream_marked_default_is_the_one_analysed(clip: Clip) -> None:
    two = ["-f", "lavfi", "-i", "color=red:s=32x32:d=1", "-f", "lavfi", "-i", "color=blue:s=64x64:d=1"]
    maps = ["-map", "0", "-map", "1", "-c:v", "mpeg4", "-disposition:v:0", "0", "-disposition:v:1", "default"]

    assert probed(clip("two.mkv", *two, *maps)).video_index == 1
    assert probed(clip("none.mkv", *two, *maps[:-1], "0")).video_index == 0


def test_sound_after_the_picture_lengthens_the_timeline(clip: Clip) -> None:
    inputs = ["-f", "lavfi", "-i", "color=red:s=32x32:d=1", "-f", "lavfi", "-i", "sine=d=3"]

    found = probed(clip("longer.mkv", *inputs, "-c:a", "pcm_s16le"))

    assert float(found.duration) == pytest.approx(3, abs=0.05)
    assert found.picture is not None
    assert float(found.picture.end_seconds) == pytest.approx(1, abs=0.01)


def test_discarded_packets_are_not_presented(clip: Clip) -> None:
    found = probed(clip("cut.mp4", "-ss", "0.5", "-i", SAMPLE, "-c", "copy"))

    assert found.picture is not None
    assert found.picture.ticks[0] == 0
    assert len(found.picture.ticks) == 187  # frames 13 to 199: the cut falls into frame 12
    assert found.duration == Fraction(15, 2)


def test_packets_without_a_time_are_placed_before_the_first_that_has_one(clip: Clip) -> None:
    """Matroska drops the times of video that is presented before its clock's zero."""
    path = clip(
        "untimed.mkv", "-f", "lavfi", "-i", "testsrc=s=32x32:r=25:d=4", "-bf", "0",
        "-output_ts_offset", "-1.5", "-avoid_negative_ts", "disabled",
    )  # fmt: skip

    found = probed(path)

    assert found.picture is not None
    assert not found.picture.exact
    assert len(found.picture.ticks) == 100
    gaps = {b - a for a, b in zip(found.picture.ticks, found.picture.ticks[1:], strict=False)}
    assert gaps <= {39, 40, 41}  # milliseconds
    assert float(found.duration) == pytest.approx(4, abs=0.05)


def test_mpeg_and_mp3_declare_no_duration(clip: Clip) -> None:
    tone = ["-f", "lavfi", "-i", "sine=d=2"]
    for name, declares in (("tone.mp3", False), ("tone.flac", True), ("tone.wav", True), ("tone.ogg", True)):
        with open_input(str(clip(name, *tone))) as container:
            assert (declared_seconds(container) is not None) is declares, name


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"max_pixels": 640 * 360 - 1}, "too_many_pixels"),
        ({"max_seconds": 7.9}, "too_long"),
        ({"max_frames": 199}, "too_many_frames"),
        ({"max_streams": 1}, "too_many_streams"),
    ],
)
def test_each_limit_holds_at_its_edge(changes: dict[str, Any], code: str) -> None:
    edge = {"max_pixels": 640 * 360, "max_seconds": 8.0, "max_frames": 200, "max_streams": 2}

    assert probed(SAMPLE, **edge).duration == 8
    with pytest.raises(MediaError) as caught:
        probed(SAMPLE, **{**edge, **changes})
    assert caught.value.code == code


def test_a_file_of_headers_alone_is_undecodable(clip: Clip, tmp_path: Path) -> None:
    whole = clip("fragmented.mp4", "-i", SAMPLE, "-c", "copy", "-movflags", "+empty_moov+frag_keyframe")
    headers = tmp_path / "headers.mp4"
    data = whole.read_bytes()
    headers.write_bytes(data[: data.index(b"moof") - 4])

    with pytest.raises(MediaError) as caught:
        probed(headers)

    assert caught.value.code == "undecodable_media"


@pytest.mark.parametrize("suffix", [".m3u8", ".ffconcat", ".mp4", ""])
def test_a_playlist_opens_nothing_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    sample = tmp_path / "sample.mp4"
    sample.write_bytes(SAMPLE.read_bytes())
    texts = [
        f"ffconcat version 1.0\nfile '{sample}'\n",
        "ffconcat version 1.0\nfile sample.mp4\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\nfile://{sample}\n#EXT-X-ENDLIST\n",
    ]
    for number, text in enumerate(texts):
        playlist = tmp_path / f"playlist-{number}{suffix}"
        playlist.write_text(text)
        with pytest.raises(MediaError) as caught:
            open_input(str(playlist))
        assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize("name", ["http:x.mp4", "%03d.mp4", "concat:a|b", "-i.mp4", "pipe:0"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SAMPLE.read_bytes())

    with open_input(str(path)) as container:
        assert len(container.streams) == 2


def test_what_is_allowed_is_short_and_known() -> None:
    assert {"hls", "concat", "dash", "image2", "tty", "lavfi", "mpegts"}.isdisjoint(CONTAINERS)
    assert all(map(video_allowed, ("h264", "hevc", "vp9", "libdav1d")))
    assert not any(map(video_allowed, ("flic", "magicyuv", "gif", "png", "rasc", "")))
    assert all(map(audio_allowed, ("aac", "mp3float", "opus", "pcm_s24le", "pcm_mulaw")))
    assert not any(map(audio_allowed, ("dsd_lsbf", "wmav2", "ape", "")))


def test_a_broken_file_of_ours_is_told_from_a_foreign_one(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for head in (b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"OggS", b"RIFF\0\0\0\0AVI ", b"\x00\x00\x01\xba"):
        broken.write_bytes(head)
        with pytest.raises(MediaError) as caught:
            probed(broken)
        assert caught.value.code == "undecodable_media"
    broken.write_bytes(shared("bad_text_named.mp4").read_bytes())
    with pytest.raises(MediaError) as caught:
        probed(broken)
    assert caught.value.code == "unsupported_format"
