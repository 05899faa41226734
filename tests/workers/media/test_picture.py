from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from core.domain import timeline
from tests.workers.media.conftest import SAMPLE, Clip, shared
from workers.media.decode import frame_rate
from workers.media.formats import open_input
from workers.media.job import Job
from workers.media.picture import SKIPPABLE, PictureReader, upright
from workers.media.plan import plan
from workers.media.probe import probe

JOB = Job(
    interval_seconds=2.0,
    frames_per_interval=5,
    max_seconds=1800,
    max_pixels=8192 * 4320,
    max_frames=108_000,
    max_streams=16,
    max_faces_per_frame=20,
)
ENCODERS = {
    "h264-b-pyramid.mp4": ["-c:v", "libx264", "-bf", "4", "-b_strategy", "0", "-g", "50"],
    "h264-open-gop.mkv": ["-c:v", "libx264", "-bf", "3", "-x264-params", "open-gop=1:keyint=12:ref=6"],
    "h264-baseline.mp4": ["-c:v", "libx264", "-profile:v", "baseline"],
    "h264-lossless-intra.mov": ["-c:v", "libx264", "-g", "1"],
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=none:bframes=4:temporal-layers=3"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-bf", "2", "-g", "25"],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-bf", "2"],
    "mjpeg.avi": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
    "vp8.webm": ["-c:v", "libvpx", "-deadline", "realtime", "-auto-alt-ref", "1", "-lag-in-frames", "16"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
}


def sampled(path: Path, **changes: Any) -> tuple[PictureReader, list[tuple[float, np.ndarray[Any, Any]]]]:
    """What the one-pass reader gives for a file: the reader, and times with upright pictures."""
    job = JOB if not changes else Job(**{**vars(JOB), **changes})
    with open_input(str(path)) as container:
        found = probe(container, job)
    assert found.picture is not None
    times = [float(tick * found.picture.base - found.origin) for tick in found.picture.ticks]
    dues = plan(timeline(float(found.duration), job.interval_seconds), times, job.frames_per_interval)
    with open_input(str(path)) as container:
        stream = container.streams.video[0]
        reader = PictureReader(stream, found.picture, times, dues, max_pixels=job.max_pixels)
        got = [
            (one.time, upright(one.frame, reader.rotation))
            for packet in container.demux(stream)
            for one in reader.feed(packet)
        ]
    assert len(got) == len(dues)
    return reader, got


def every_frame(path: Path) -> list[tuple[float, np.ndarray[Any, Any]]]:
    """All frames in the plainest way PyAV has, timed from the first."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    first = frames[0][0] or 0.0
    return [((time or 0.0) - first, picture) for time, picture in frames]


@pytest.mark.parametrize("name", ENCODERS)
def test_leaving_frames_undecoded_changes_no_pixel_and_no_choice(clip: Clip, name: str) -> None:
    path = clip(name, "-i", SAMPLE, "-t", "4", "-an", "-vf", "scale=160:90", *ENCODERS[name])

    reader, got = sampled(path)
    plain = every_frame(path)

    for time, picture in got:
        nearest = min(plain, key=lambda one: abs(one[0] - time))
        assert abs(nearest[0] - time) < 0.002
        np.testing.assert_array_equal(picture, nearest[1])
    centres = [0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 3.8]
    expected = [min((time for time, _ in plain if time >= c - 0.002), default=None) for c in centres]
    assert [time for time, _ in got] == pytest.approx(expected, abs=0.002)
    if "b-pyramid" in name or name == "mpeg4.avi":
        assert reader.outputs < len(plain), "frames that nothing depends on should be left out"
    if reader.stream.codec_context.name not in SKIPPABLE:
        assert reader.outputs == len(plain)


def test_variable_frame_rate_is_sampled_by_presentation_time(clip: Clip) -> None:
    dropping = "select='not(between(n,10,29))*not(between(n,60,64))',scale=160:90"
    path = clip("vfr.mp4", "-i", SAMPLE, "-t", "4", "-an", "-vf", dropping, "-fps_mode", "vfr")

    _, got = sampled(path)

    # Frames 10 to 29 (0.4 s to 1.16 s) are gone: the centres at 0.6 and 1.0 share the next frame.
    assert [time for time, _ in got][:3] == pytest.approx([0.2, 1.2, 1.4])


@pytest.mark.parametrize(("turn", "expected"), [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_rotation_is_undone(clip: Clip, turn: int, expected: int) -> None:
    corner = "drawbox=x=0:y=0:w=40:h=40:color=white:t=fill"
    flat = clip("flat.mp4", "-f", "lavfi", "-i", f"color=black:s=160x96:d=1,{corner}")
    path = clip(f"turned-{turn}.mp4", "-display_rotation", str(turn), "-i", flat, "-c", "copy")

    reader, got = sampled(path)

    assert reader.rotation == expected
    picture = got[0][1]
    assert picture.shape[:2] == ((96, 160) if turn in {0, 180} else (160, 96))
    corners = {0: (20, 20), 90: (-20, 20), 180: (-20, -20), 270: (20, -20)}  # counter-clockwise
    assert picture[corners[turn]].min() > 200
    assert sum(int(picture[place].min() > 200) for place in corners.values()) == 1


def test_a_mirrored_picture_still_comes_out_upright(clip: Clip) -> None:
    corner = "drawbox=x=0:y=0:w=160:h=40:color=white:t=fill"
    flat = clip("top.mp4", "-f", "lavfi", "-i", f"color=black:s=160x96:d=1,{corner}")
    path = clip("mirrored.mp4", "-display_hflip", "-i", flat, "-c", "copy")

    reader, got = sampled(path)

    assert reader.rotation == 0
    assert got[0][1][20, 80].min() > 200


@pytest.mark.parametrize("name", ["odd_h264_10bit.mp4", "odd_hdr10_hevc_pq.mp4", "pkg_odd_h264_10bit.mp4"])
def test_ten_bits_become_eight(name: str) -> None:
    _, got = sampled(shared(name))

    assert all(picture.dtype == np.uint8 and picture.mean() > 20 for _, picture in got)


@pytest.mark.parametrize("size", ["321x241", "17x333", "1x1", "2x2"])
def test_odd_sizes_keep_their_shape(clip: Clip, size: str) -> None:
    path = clip(
        f"odd-{size}.mkv", "-f", "lavfi", "-i", f"color=red:s={size}:d=0.2", "-c:v", "libx264",
        "-pix_fmt", "yuv444p",
    )  # fmt: skip
    width, height = map(int, size.split("x"))

    _, got = sampled(path)

    assert got[0][1].shape == (height, width, 3)


def test_one_frame_is_enough(clip: Clip) -> None:
    _, got = sampled(clip("one.mp4", "-i", SAMPLE, "-frames:v", "1", "-an"))

    assert [time for time, _ in got] == [0.0]


def test_frame_rate_is_measured(clip: Clip) -> None:
    def rate(path: Path) -> tuple[float | None, bool]:
        with open_input(str(path)) as container:
            found = probe(container, JOB).picture
        assert found is not None
        return frame_rate(found)

    assert rate(SAMPLE) == (25.0, False)
    assert rate(clip("one.mp4", "-i", SAMPLE, "-frames:v", "1", "-an")) == (None, False)
    fps, varies = rate(shared("pkg_odd_variable_frame_rate.mp4"))
    assert varies
    assert fps == pytest.approx(14.3, abs=0.6)
    # WebM counts in milliseconds: 30 frames a second come 33 or 34 ms apart, which is steady.
    steady = clip("30.webm", "-f", "lavfi", "-i", "testsrc=s=64x64:r=30:d=2", "-c:v", "libvpx")
    fps, varies = rate(steady)
    assert fps == pytest.approx(30, abs=0.1)
    assert not varies
