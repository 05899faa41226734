"""The whole files that are damaged: a second of a face in every container and codec that we take."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import imageio_ffmpeg

ROOT: Final = Path(__file__).resolve().parents[1]
SAMPLE: Final = ROOT / "samples" / "pkg_face_photo_real_speech.mp4"
SHARED: Final = Path(os.environ.get("DEEPDEFEND_SHARED", ROOT.parent / "shared")) / "media"
#: Shared files larger than this would take the time of many small ones.
_SHARED_BYTES: Final = 150_000
_SHARED_KINDS: Final = ("odd_", "bad_", "noface_")
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "8")
_AAC = ("-c:a", "aac", "-b:a", "48k")
_SOUND = ("-vn",)
#: Name -> what the ffmpeg program is told after the input.
CLIPS: Final[dict[str, tuple[str, ...]]] = {
    "h264.mp4": (*_X264, *_AAC),
    "faststart.mp4": (*_X264, *_AAC, "-movflags", "+faststart"),
    "fragmented.mp4": (*_X264, *_AAC, "-movflags", "+frag_keyframe+empty_moov+default_base_moof"),
    "bframes.mov": ("-c:v", "libx264", "-preset", "fast", "-bf", "3", *_AAC),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", *_AAC),
    "av1.mp4": ("-c:v", "libaom-av1", "-cpu-used", "8", *_AAC),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "prores.mov": ("-c:v", "prores_ks", "-profile:v", "0", "-c:a", "pcm_s16le"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-c:a", "pcm_mulaw"),
    "h264.mkv": (*_X264, "-c:a", "flac"),
    "vp9.mkv": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"),
    "ac3.mkv": (*_X264, "-c:a", "ac3"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-c:a", "pcm_s16le"),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-c:a", "mp2"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-c:a", "mp2", "-f", "vob"),
    "pcm.wav": (*_SOUND, "-c:a", "pcm_s16le", "-ar", "16000"),
    "float.wav": (*_SOUND, "-c:a", "pcm_f32le", "-ar", "8000"),
    "speech.mp3": (*_SOUND, "-c:a", "libmp3lame"),
    "vorbis.ogg": (*_SOUND, "-c:a", "libvorbis"),
    "opus.ogg": (*_SOUND, "-c:a", "libopus"),
    "flac.ogg": (*_SOUND, "-c:a", "flac"),
    "speech.flac": (*_SOUND, "-c:a", "flac"),
    "aac.m4a": (*_SOUND, *_AAC),
    "alac.m4a": (*_SOUND, "-c:a", "alac"),
}
_INPUT: Final = ("-ss", "1", "-t", "1.1", "-i", str(SAMPLE))
_PICTURE: Final = ("-vf", "scale=-2:120,crop=160:120", "-r", "24", "-pix_fmt", "yuv420p")
#: The same bytes at every run: no dates, no names of encoders, no threads that race.
_STEADY: Final = ("-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact", "-threads", "1")


def prepare(folder: Path, names: Sequence[str] = tuple(CLIPS), *, shared: bool = True) -> dict[str, bytes]:
    """Name -> content of every seed; clips are made in `folder` unless they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: _clip(folder / name, CLIPS[name]) for name in names}
    if shared and SHARED.is_dir():
        found |= {
            path.name: path.read_bytes()
            for path in sorted(SHARED.iterdir())
            if path.name.startswith(_SHARED_KINDS) and path.stat().st_size <= _SHARED_BYTES
        }
    return found


def _clip(path: Path, told: tuple[str, ...]) -> bytes:
    if not path.exists():
        picture = (
            ()
            if told[0] == "-vn"
            else (*_PICTURE, "-pix_fmt", "yuv422p10le")
            if "prores_ks" in told
            else _PICTURE
        )
        part = path.with_name(f"part-{path.name}")
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *_INPUT, *picture]
        subprocess.run([*command, *told, *_STEADY, str(part)], check=True, timeout=120)
        part.rename(path)
    return path.read_bytes()
