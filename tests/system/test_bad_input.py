"""Bad input: a clear problem document or a failed analysis with a code, and a later good file works."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.client import Client
from tests.system.conftest import RunningStack
from tests.system.media import FACE_AND_VOICE, crowd, ffmpeg, generated, shared

pytestmark = pytest.mark.system
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def submit(stack: RunningStack, path: Path) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with path.open("rb") as file:
        return httpx2.post(
            stack.api_url + "/v1/analyses", headers=headers, files={"file": (path.name, file)}, timeout=60
        )


def ended(stack: RunningStack, path: Path) -> dict[str, Any]:
    response = submit(stack, path)
    assert response.status_code == 202, response.text
    with Client(stack.api_url, stack.api_key) as client:
        return dict(client.wait(response.json()["id"]))


def text(target: Path, content: str = "this is no film\n") -> Path:
    target.write_text(content * 50)
    return target


def huge(target: Path) -> Path:
    """A 12000 x 12000 clip: 0.1 MB that would decode to 432 MB a frame."""
    return generated(target, "color=black:size=12000x12000:rate=1:duration=1", *H264)


def long_black(target: Path) -> Path:
    """Ten hours at one frame a second."""
    return generated(target, "color=black:size=64x64:rate=1:duration=36000", *H264)


def subtitles_only(target: Path) -> Path:
    """A container with neither picture nor sound."""
    words = target.with_suffix(".srt")
    words.write_text("1\n00:00:00,000 --> 00:00:02,000\nhello\n")
    ffmpeg("-i", words, target)
    return target


def truncated(target: Path) -> Path:
    """The sample without its index, which is at the end or gone."""
    whole = target.with_name("whole.mp4")
    ffmpeg("-i", FACE_AND_VOICE, "-c", "copy", "-movflags", "0", whole)
    target.write_bytes(whole.read_bytes()[:-40_000])
    return target


def playlist(target: Path) -> Path:
    return text(target, "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n")


def concat_script(target: Path) -> Path:
    return text(target, "ffconcat version 1.0\nfile /etc/passwd\n")


REFUSED: list[tuple[Callable[[Path], Path], str, str]] = [
    (text, "named.mp4", "unsupported_format"),
    (playlist, "list.mp4", "unsupported_format"),
    (concat_script, "concat.mp4", "unsupported_format"),
    (truncated, "cut.mp4", "undecodable_media"),
    (huge, "huge.mp4", "too_many_pixels"),
    (long_black, "long.mp4", "too_long"),
    (subtitles_only, "words.mkv", "no_streams"),
]


@pytest.mark.parametrize(("make", "name", "code"), REFUSED, ids=[case[1] for case in REFUSED])
def test_what_cannot_be_analysed_fails_with_its_code(
    stack: RunningStack, tmp_path: Path, make: Callable[[Path], Path], name: str, code: str
) -> None:
    envelope = ended(stack, make(tmp_path / name))
    assert envelope["status"] == "failed"
    assert envelope["report"] is None
    assert envelope["error"]["code"] == code
    assert str(tmp_path) not in str(envelope)


def test_an_empty_file_is_refused_at_the_door(stack: RunningStack, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    response = submit(stack, empty)
    assert (response.status_code, response.json()["code"]) == (422, "empty_file")
    assert response.headers["content-type"] == "application/problem+json"


def one_frame(target: Path) -> Path:
    return generated(target, "testsrc2=size=320x240:rate=25", "-frames:v", "1", *H264)


def odd_size(target: Path) -> Path:
    odd = ("-vf", "scale=321:241,format=yuv444p")
    return generated(target, "testsrc2=size=320x240:rate=25:duration=2", *odd, *H264[:4])


def negative_start(target: Path) -> Path:
    ffmpeg(
        "-i",
        FACE_AND_VOICE,
        "-c",
        "copy",
        "-output_ts_offset",
        "-1",
        "-avoid_negative_ts",
        "disabled",
        target,
    )
    return target


def silent_sound(target: Path) -> Path:
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=3"),
        *("-f", "lavfi", "-i", "anullsrc=r=44100:cl=stereo", "-shortest", *H264),
        target,
    )
    return target


def variable_rate(target: Path) -> Path:
    ffmpeg("-i", FACE_AND_VOICE, "-vf", r"select=not(mod(n\,3))+lt(n\,60)", "-fps_mode", "vfr", *H264, target)
    return target


def ten_bit(target: Path) -> Path:
    ffmpeg("-i", FACE_AND_VOICE, "-t", "2", "-c:v", "libx264", "-pix_fmt", "yuv420p10le", target)
    return target


def rotated(target: Path) -> Path:
    ffmpeg("-display_rotation", "90", "-i", FACE_AND_VOICE, "-c", "copy", target)
    return target


ODD: list[tuple[Callable[[Path], Path], str, dict[str, Any]]] = [
    (one_frame, "one.mp4", {"frames": 1}),
    (odd_size, "odd.mkv", {"width": 321, "height": 241}),
    (negative_start, "negative.mp4", {"frames": 175}),  # a player does not show what is before zero either
    (silent_sound, "silent.mp4", {"width": 320}),
    (variable_rate, "variable.mp4", {"variable_frame_rate": True}),
    (ten_bit, "ten.mp4", {"pixel_format": "yuv420p10le"}),
    (rotated, "rotated.mp4", {"width": 360, "height": 640}),
    (crowd, "crowd.mp4", {"width": 1200, "height": 960}),
]


@pytest.mark.parametrize(("make", "name", "facts"), ODD, ids=[case[1] for case in ODD])
def test_what_is_merely_odd_is_analysed(
    stack: RunningStack, tmp_path: Path, make: Callable[[Path], Path], name: str, facts: dict[str, Any]
) -> None:
    envelope = ended(stack, make(tmp_path / name))
    assert envelope["status"] == "completed", envelope["error"]
    measured = envelope["media"]["facts"]["video"]
    assert {key: measured[key] for key in facts} == facts


SHARED = [
    "bad_bitflips_in_mdat.mp4",
    "bad_truncated_faststart.mp4",
    "bad_bomb_60000_frames_1000fps.mp4",
    "bad_bomb_16000x16000_2frames.mp4",
    "bad_bomb_50000x50000.png",
    "bad_dash_mpd_disguised.mp4",
    "bad_svg_named.jpg",
    "odd_hdr10_hevc_pq.mp4",
    "odd_vp9_opus.webm",
    "odd_mpeg4_mp3.avi",
]


@pytest.mark.parametrize("name", SHARED)
def test_hostile_files_end_and_say_what_became_of_them(stack: RunningStack, name: str) -> None:
    envelope = ended(stack, shared(name))
    if name.startswith("odd"):
        assert envelope["status"] == "completed"
    elif envelope["status"] == "failed":
        assert envelope["error"]["code"] != "internal_error"
        assert envelope["error"]["detail"]
    else:
        facts = envelope["media"]["facts"]
        assert facts["cut_short"] or facts["video"]["decode_errors"] or "bomb" in name


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unauthorized"),
        ({"Authorization": "Bearer nonsense"}, "unauthorized"),
        ({"Authorization": "Basic ZGQ6ZGQ="}, "unauthorized"),
        ({"Authorization": "Bearer dd_00000000_00000000000000000000000000000000000000"}, "unauthorized"),
    ],
)
def test_without_a_key_nothing_is_read(stack: RunningStack, headers: dict[str, str], code: str) -> None:
    response = httpx2.post(stack.api_url + "/v1/analyses", headers=headers, content=b"x" * 1000)
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response.headers["www-authenticate"].startswith("Bearer")


def keys(stack: RunningStack, *arguments: str) -> str:
    command = ["keys", *arguments, "--data-dir", str(stack.data_dir)]
    run = subprocess.run(
        [*stack.command()[:3], *command], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return run.stdout


def test_another_owners_analysis_is_not_found_and_a_revoked_key_is_dead(stack: RunningStack) -> None:
    identity = submit(stack, FACE_AND_VOICE).json()["id"]
    made = keys(stack, "create", "other")
    other = next(word for word in made.split() if word.startswith("dd_") and word.count("_") == 2)
    headers = {"Authorization": f"Bearer {other}"}
    for path in (f"/v1/analyses/{identity}", f"/v1/analyses/{identity}/intervals"):
        response = httpx2.get(stack.api_url + path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    keys(stack, "revoke", other.split("_")[1])
    assert httpx2.get(stack.api_url + "/v1/analyses", headers=headers).status_code == 401


def test_after_all_that_a_good_file_still_works(stack: RunningStack) -> None:
    assert ended(stack, FACE_AND_VOICE)["status"] == "completed"
