"""Clips for the system tests: the project's samples, the shared ones, and some made on the spot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
FACE_AND_VOICE = SAMPLES / "pkg_face_photo_real_speech.mp4"
VOICE = SAMPLES / "pkg_audio_synthetic_kokoro.wav"


def shared(name: str) -> Path:
    """A file of the shared media; the test is skipped on a machine that has none."""
    folder = Path(os.environ.get("DEEPDEFEND_SHARED", ROOT.parent / "shared")) / "media"
    if not folder.is_dir():
        pytest.skip("the shared media are not beside the project")
    return folder / name


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg; it must succeed."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        *map(str, arguments),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def without_sound(target: Path) -> Path:
    """The sample's picture alone."""
    ffmpeg("-i", FACE_AND_VOICE, "-an", "-c:v", "copy", target)
    return target


def crowd(target: Path) -> Path:
    """Twenty faces at once: twenty frames of the sample tiled into each picture."""
    ffmpeg("-i", FACE_AND_VOICE, "-an", "-vf", "crop=300:300:170:20,scale=240:240,tile=5x4", target)
    return target


def generated(target: Path, source: str, *arguments: str) -> Path:
    """A clip of one of ffmpeg's own sources."""
    ffmpeg("-f", "lavfi", "-i", source, *arguments, target)
    return target
