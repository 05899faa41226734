from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from core.config import Limits
from core.domain import Options, Reason
from core.errors import MediaError
from tests.workers.media.conftest import SAMPLE, SHARED, Clip, Extracted, shared
from workers.media import sandbox
from workers.media.attend import Outcome
from workers.media.extract import CODES, extract, failure

REFUSED = {
    "bad_empty.mp4": "empty_file",
    "bad_text_named.mp4": "unsupported_format",
    "bad_hls_playlist_disguised.mp4": "unsupported_format",
    "bad_dash_mpd_disguised.mp4": "unsupported_format",
    "bad_ffconcat_disguised.mp4": "unsupported_format",
    "bad_svg_named.jpg": "unsupported_format",
    "bad_bomb_50000x50000.png": "unsupported_format",
    "bad_bomb_16000x16000_2frames.mp4": "too_many_pixels",
    "bad_truncated_no_moov.mp4": "undecodable_media",
    "pkg_bad_truncated_no_moov.mp4": "undecodable_media",
    "real_face_london_008_neutral.jpg": "unsupported_format",
}
#: File, duration, frames kept, whether there is sound, upright size.
TAKEN = {
    "pkg_face_photo_real_speech.mp4": (8.0, 20, True, (640, 360)),
    "pkg_face_photo_synthetic_speech.mp4": (6.0, 15, True, (640, 360)),
    "pkg_face_no_audio.mp4": (8.0, 20, False, (640, 360)),
    "pkg_odd_variable_frame_rate.mp4": (4.04, 10, True, (640, 360)),
    "pkg_odd_rotated_portrait.mp4": (3.0, 10, True, (240, 360)),
    "pkg_odd_h264_10bit.mp4": (3.0, 10, True, (640, 360)),
    "pkg_odd_hdr10_hevc.mp4": (3.0, 10, True, (640, 360)),
    "odd_rotated_portrait_displaymatrix.mp4": (3.0, 10, True, (200, 288)),
    "odd_variable_frame_rate.mp4": (3.16, 10, True, (360, 288)),
    "odd_h264_10bit.mp4": (3.0, 10, True, (360, 288)),
    "odd_hdr10_hevc_pq.mp4": (3.0, 10, True, (640, 512)),
    "odd_vp9_opus.webm": (3.007, 10, True, (360, 288)),
    "odd_mpeg4_mp3.avi": (3.04, 10, True, (360, 288)),
    "odd_mpeg1_original_grid.mpg": (3.0, 10, True, (360, 288)),
    "real_talking_person_grid_lbax4n.mp4": (3.0, 10, True, (360, 288)),
    "real_talking_no_audio.mp4": (3.0, 10, False, (360, 288)),
    "real_face_photo_real_speech.mp4": (3.8, 10, True, (720, 720)),
    "real_face_synthetic_speech_kokoro.mp4": (9.84, 25, True, (360, 288)),
    "real_face_synthetic_speech_espeak.mp4": (7.72, 20, True, (360, 288)),
}


def code_of(source: Path, work: Path, **limits: Any) -> str:
    """The code with which a file is refused, and that nothing was left open for it."""
    with pytest.raises(MediaError) as caught:
        extract(source, work, options=Options(), limits=Limits(**limits), require_sandbox=False)
    assert caught.value.detail
    return caught.value.code


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_media_of_ours_is_refused_with_its_code(tmp_path: Path, name: str) -> None:
    assert code_of(shared(name), tmp_path) == REFUSED[name]


@pytest.mark.parametrize("name", TAKEN)
def test_every_face_clip_gives_a_face_in_every_frame(extracted: Extracted, name: str) -> None:
    duration, frames, sound, size = TAKEN[name]

    manifest, work = extracted(shared(name))

    facts = manifest.facts
    assert facts.video is not None
    assert facts.duration == pytest.approx(duration, abs=0.01)
    assert (facts.video.width, facts.video.height) == size
    assert len(manifest.frames) == frames
    assert all(len(frame.faces) == 1 for frame in manifest.frames)
    assert len(manifest.tracks) == 1
    assert sound or manifest.tracks[0].lips is None
    assert (facts.audio is not None, (work / "sound.wav").exists()) == (sound, sound)
    assert sorted(manifest.frame_thumbnails) == [span.index for span in manifest.spans]
    assert sum(shard.rows for shard in manifest.crop_shards) == frames
    assert not facts.cut_short
    assert facts.size_bytes == shared(name).stat().st_size
    assert manifest.sandbox == sandbox.level()


def test_no_shared_file_crashes_the_decoder(tmp_path: Path) -> None:
    """Every file ends in a manifest or in a code that speaks of the file."""
    shared("README.md")
    for number, source in enumerate(sorted(SHARED.iterdir())):
        if source.name in REFUSED or source.name in TAKEN:
            continue
        work = tmp_path / str(number)
        work.mkdir()
        code = None
        try:
            extract(source, work, options=Options(), limits=Limits(), require_sandbox=False)
        except MediaError as error:
            code = error.code
        assert code in {None, *CODES} - {"decoder_out_of_memory"}, source.name


@pytest.mark.parametrize("name", ["bad_truncated_faststart.mp4", "pkg_bad_truncated_faststart.mp4"])
def test_a_cut_file_gives_what_is_there_and_says_so(extracted: Extracted, name: str) -> None:
    manifest, _ = extracted(shared(name))

    facts = manifest.facts
    assert facts.cut_short
    assert facts.declared_duration is not None
    assert 1 < facts.duration < facts.declared_duration
    assert len(manifest.frames) == 4
    assert all(len(frame.faces) == 1 for frame in manifest.frames)


def test_damage_in_the_middle_is_counted_and_no_damaged_face_is_scored(extracted: Extracted) -> None:
    manifest, _ = extracted(shared("bad_bitflips_in_mdat.mp4"))

    assert manifest.facts.video is not None
    assert manifest.facts.video.decode_errors > 10
    assert manifest.facts.audio is not None
    assert manifest.facts.audio.decode_errors > 10
    assert {face.reason for frame in manifest.frames for face in frame.faces} <= {None, Reason.DECODE_ERROR}


def test_a_face_in_a_concealed_frame_has_a_reason_and_no_crop(tmp_path: Path, extracted: Extracted) -> None:
    data = bytearray(SAMPLE.read_bytes())
    middle = len(data) // 2
    for n in range(middle, middle + 40_000, 900):
        data[n] ^= 0xFF
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)

    manifest, _ = extracted(damaged)

    faces = [face for frame in manifest.frames for face in frame.faces]
    assert any(face.reason is None and face.row is not None for face in faces)
    assert any(face.reason is Reason.DECODE_ERROR and face.row is None for face in faces)


def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, clip: Clip) -> None:
    size = ["-f", "lavfi", "-i", "color=black:s=12000x12000:r=1:d=1", "-frames:v", "1"]
    path = clip("huge.mkv", *size, "-c:v", "mjpeg")

    # 12000 x 12000 pixels of RGB are 412 MiB: with this much memory no such frame can be decoded.
    assert code_of(path, tmp_path, decode_memory_bytes=320 << 20) == "too_many_pixels"


def test_ten_hours_of_black_are_refused(tmp_path: Path, clip: Clip) -> None:
    black = ["-f", "lavfi", "-i", "color=black:s=64x36:r=1:d=36000", "-preset", "ultrafast"]

    assert code_of(clip("black.mp4", *black), tmp_path) == "too_long"


def test_a_length_that_the_header_hides_is_found_by_the_packets(tmp_path: Path, clip: Clip) -> None:
    sound = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "90", "-b:a", "8k"]
    path = clip("untold.mp3", *sound, "-write_xing", "0")

    assert code_of(path, tmp_path, max_duration=timedelta(seconds=60)) == "too_long"


def test_too_many_frames_and_streams(tmp_path: Path, clip: Clip, extracted: Extracted) -> None:
    quick = ["-f", "lavfi", "-i", "testsrc=s=32x32:r=100:d=5", "-preset", "ultrafast"]
    assert code_of(clip("quick.mp4", *quick), tmp_path, max_frames=499) == "too_many_frames"
    # Matroska does not say how many frames there are: they are counted.
    assert code_of(clip("quick.mkv", *quick), tmp_path, max_frames=499) == "too_many_frames"
    manifest, _ = extracted(clip("quick.mkv", *quick), max_frames=500)
    assert manifest.facts.video is not None
    assert manifest.facts.video.frames == 500
    tones = ["-f", "lavfi", "-i", "sine=d=1", *["-map", "0"] * 17, "-c:a", "pcm_s16le"]
    (empty := tmp_path / "empty").mkdir()
    assert code_of(clip("streams.mkv", *tones), empty) == "too_many_streams"


def test_neither_picture_nor_sound(tmp_path: Path, clip: Clip) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n")

    assert code_of(clip("words.mkv", "-i", words), tmp_path) == "no_streams"


@pytest.mark.parametrize("codec", ["huffyuv", "flashsv"])
def test_a_codec_that_nobody_sends_is_not_run(tmp_path: Path, clip: Clip, codec: str) -> None:
    path = clip(f"{codec}.avi", "-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-c:v", codec)

    assert code_of(path, tmp_path) == "unsupported_format"


def test_no_face_is_no_crop_and_no_track(extracted: Extracted) -> None:
    manifest, work = extracted(shared("noface_testsrc.mp4"))

    assert [frame.faces for frame in manifest.frames] == [()] * 10
    assert (manifest.tracks, manifest.crop_shards, manifest.sound_shards) == ((), (), ())
    assert not list(work.glob("crops-*"))
    assert sorted(manifest.frame_thumbnails) == [0, 1]


def test_small_faces_are_reasons(clip: Clip, extracted: Extracted) -> None:
    path = clip("small.mp4", "-i", SAMPLE, "-t", "2", "-an", "-vf", "scale=160:90,pad=320:180")

    manifest, _ = extracted(path)

    faces = [face for frame in manifest.frames for face in frame.faces]
    assert faces
    assert {face.reason for face in faces} == {Reason.FACE_TOO_SMALL}
    assert manifest.crop_shards == ()
    assert manifest.tracks[0].thumbnail is not None


def test_one_frame(clip: Clip, extracted: Extracted) -> None:
    manifest, _ = extracted(clip("one.mp4", "-i", SAMPLE, "-frames:v", "1", "-an"))

    assert manifest.facts.video is not None
    assert (manifest.facts.video.frames, manifest.facts.video.fps) == (1, None)
    assert [(frame.time, len(frame.faces)) for frame in manifest.frames] == [(0.0, 1)]


RAW = ["-bf", "0", "-vf", "scale=320:180", "-c:a", "pcm_s16le"]
NEGATIVE = ["-output_ts_offset", "-1.5", "-avoid_negative_ts", "disabled"]
CLOCKS = {
    "edit list": (7.5, ["cut.mp4", "-ss", "0.5", "-i", SAMPLE, "-c", "copy"]),
    "negative": (4.0, ["negative.mkv", "-i", SAMPLE, "-t", "4", *RAW, *NEGATIVE]),
    "late": (8.0, ["late.mkv", "-i", SAMPLE, "-c", "copy", "-output_ts_offset", "100"]),
}


@pytest.mark.parametrize("kind", CLOCKS)
def test_time_begins_with_the_first_presented_sample(clip: Clip, extracted: Extracted, kind: str) -> None:
    duration, arguments = CLOCKS[kind]
    manifest, work = extracted(clip(*map(str, arguments)))

    assert manifest.facts.duration == pytest.approx(duration, abs=0.1)
    assert manifest.spans[0].start == 0
    assert len(manifest.frames) == 5 * len(manifest.spans)
    assert manifest.frames[0].time == pytest.approx(0.2, abs=0.1)
    assert (work / "sound.wav").stat().st_size == pytest.approx(duration * 32_000, rel=0.05)


def test_options_are_kept(extracted: Extracted) -> None:
    manifest, _ = extracted(SAMPLE, options=Options(interval_seconds=1.5, frames_per_interval=7))

    assert [span.end for span in manifest.spans] == [1.5, 3.0, 4.5, 6.0, 7.5, 8.0]
    assert len(manifest.frames) == 42


def test_pictures_are_pictures_of_the_video(extracted: Extracted) -> None:
    manifest, work = extracted(SAMPLE)

    still = cv2.imread(str(work / manifest.frame_thumbnails[1]))
    crop = cv2.imread(str(work / "track-0.jpg"))
    crops = np.load(work / "crops-0.npy")
    best = max((face for frame in manifest.frames for face in frame.faces), key=lambda face: face.sharpness)
    assert still is not None
    assert crop is not None
    assert still.shape == (360, 640, 3)
    difference = np.abs(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(int) - crops[best.row])
    assert difference.mean() < 6


def test_time_is_up(tmp_path: Path) -> None:
    assert code_of(SAMPLE, tmp_path, decode_seconds=timedelta(seconds=0.05)) == "decoder_timeout"


def test_too_little_memory(tmp_path: Path) -> None:
    """Too little for the frames, enough to start: this much decodes the sample but not 8K."""
    assert code_of(SAMPLE, tmp_path, decode_memory_bytes=60 << 20) in {
        "decoder_out_of_memory",
        "decoder_crashed",
    }


def test_cancelling_stops_the_decoder(tmp_path: Path, clip: Clip) -> None:
    class Canceled(Exception):
        pass

    def checkpoint() -> None:
        raise Canceled

    slow = ["-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=60:d=10", "-preset", "ultrafast"]
    with pytest.raises(Canceled):
        extract(
            clip("slow.mp4", *slow),
            tmp_path,
            options=Options(frames_per_interval=25),
            limits=Limits(),
            require_sandbox=False,
            checkpoint=checkpoint,
        )


def test_a_missing_sandbox_is_an_error_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.level.cache_clear()
    try:
        with pytest.raises(MediaError) as caught:
            extract(tmp_path / "none.mp4", tmp_path, options=Options(), limits=Limits(), require_sandbox=True)
        assert caught.value.code == "sandbox_required"
        work = tmp_path / "work"
        work.mkdir()
        manifest = extract(SAMPLE, work, options=Options(), limits=Limits(), require_sandbox=False)
        assert manifest.sandbox == sandbox.RLIMITS
    finally:
        sandbox.level.cache_clear()


def ending(status: int = 0, number: int = 0, output: str = "", *, late: bool = False) -> Outcome:
    return Outcome(status=status, signal=number, timed_out=late, output=output)


def said(**words: object) -> str:
    return "noise\n" + json.dumps(words) + "\n"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (ending(late=True, number=signal.SIGKILL), "decoder_timeout"),
        (ending(number=signal.SIGXCPU), "decoder_timeout"),
        (ending(number=signal.SIGSEGV), "decoder_crashed"),
        (ending(number=signal.SIGKILL), "decoder_out_of_memory"),
        (ending(1, output="Traceback\nMemoryError"), "decoder_out_of_memory"),
        (ending(number=signal.SIGABRT, output="std::bad_alloc"), "decoder_out_of_memory"),
        (ending(1, output="Traceback\nRuntimeError"), "decoder_crashed"),
        (ending(3, output=said(code="too_long", detail="10 h")), "too_long"),
        (ending(3, output=said(code="made_up", detail="x")), "decoder_crashed"),
        (ending(3, output=said(code=["too_long"], detail="x")), "decoder_crashed"),
        (ending(3, output="[]"), "decoder_crashed"),
        (ending(3, output="[" * 60_000), "decoder_crashed"),
        (ending(3), "decoder_crashed"),
        (ending(1, output=said(code="too_long", detail="x")), "decoder_crashed"),
    ],
)
def test_every_ending_has_its_code(outcome: Outcome, code: str) -> None:
    error = failure(outcome)

    assert error is not None
    assert error.code == code


def test_what_the_child_says_is_shortened_and_printable() -> None:
    error = failure(ending(3, output=said(code="too_long", detail="\x1b[31m\u202e" + "a" * 5000)))

    assert error is not None
    assert error.detail.isprintable()
    assert len(error.detail) <= 300
    assert failure(ending()) is None


def test_sound_that_does_not_even_say_its_channels_leaves_the_picture(
    tmp_path: Path, clip: Clip, extracted: Extracted
) -> None:
    picture = ["-i", SAMPLE, "-t", "2", "-vf", "scale=320:180", "-c:v", "libvpx", "-deadline", "realtime"]
    content = clip("headless.webm", *picture, "-c:a", "libvorbis").read_bytes()
    header = content.index(b"\x63\xa2", content.index(b"A_VORBIS"))  # of the sound's decoder
    source = tmp_path / "headless"
    source.write_bytes(content[:header] + b"\x63\xa3" + content[header + 2 :])

    manifest, _ = extracted(source)

    assert manifest.facts.audio is not None
    assert (manifest.facts.audio.channels, manifest.sound_file) == (0, None)
    assert manifest.facts.audio.decode_errors > 0
    assert manifest.facts.video is not None
    assert all(frame.faces for frame in manifest.frames)


@pytest.mark.parametrize("order", [("0:a", "0:v"), ("0:v", "0:a")])
def test_what_a_decoder_still_holds_at_the_end_goes_to_its_own_stream(
    clip: Clip, extracted: Extracted, order: tuple[str, str]
) -> None:
    """With frames to reorder the last ones come out when the end is told; the sound may be stream 0."""
    streams = ["-i", SAMPLE, "-t", "3", "-map", order[0], "-map", order[1]]
    name = f"{'sound' if order[0] == '0:a' else 'picture'}-first.mp4"
    source = clip(name, *streams, "-c:v", "libx264", "-preset", "fast", "-bf", "4", "-c:a", "libmp3lame")

    manifest, _ = extracted(source)

    assert manifest.facts.video is not None
    assert manifest.facts.audio is not None
    assert manifest.facts.video.decode_errors == manifest.facts.audio.decode_errors == 0
    assert [frame.interval for frame in manifest.frames].count(1) == 5
    assert manifest.sound_file is not None
