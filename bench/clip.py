"""The clip that is measured: a minute of 1080p with a face and a voice, a keyframe every 250 frames.

250 is what x264 does when nobody asks for something else, so it is what most uploads have.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg

SECONDS = 60
FPS = 25
KEYFRAME_EVERY = 250
#: Grain makes the codec work as a camera's noise does; without it an enlarged photograph is free to decode.
PICTURE = "scale=1920:1080:flags=bicubic,noise=alls=6:allf=t,format=yuv420p"


def make_clip(sample: Path, target: Path) -> Path:
    """Loop and enlarge `sample` into `target`, about 6 Mbit/s; kept when it exists."""
    if target.exists():
        return target
    part = target.with_suffix(".part.mp4")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-nostdin", "-loglevel", "error", "-y"),
        *("-stream_loop", "-1", "-i", str(sample), "-t", str(SECONDS), "-r", str(FPS), "-vf", PICTURE),
        *("-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-maxrate", "8M", "-bufsize", "12M"),
        *("-g", str(KEYFRAME_EVERY), "-keyint_min", str(KEYFRAME_EVERY), "-sc_threshold", "0"),
        *("-c:a", "aac", "-b:a", "128k", "-ar", "44100", "-ac", "2", "-movflags", "+faststart"),
        str(part),
    ]
    subprocess.run(command, check=True)
    part.replace(target)
    return target
