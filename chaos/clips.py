"""The clips of a run: seconds long, made by ffmpeg from the project's sample, each with its own bytes."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import imageio_ffmpeg

from chaos.plan import Job, Kind
from core.domain import timeline

SAMPLE: Final = Path(__file__).parents[1] / "samples" / "pkg_face_photo_real_speech.mp4"
#: Half an interval off every multiple of one: what a stream runs over changes no count.
SECONDS, LONG_SECONDS = 2.5, 13.5
FACE: Final = ("-vf", "crop=300:300:170:20,fps=10", "-c:v", "libx264", "-preset", "veryfast")
#: 25 faces a second take 337 crops, which are two shards of at most 256.
MANY: Final = ("-vf", "crop=300:300:170:20,fps=25", "-c:v", "libx264", "-preset", "veryfast")
SOUND: Final = ("-c:a", "aac", "-b:a", "64k", "-ac", "1")
WHOLE: Final = frozenset({Kind.FACE_AND_VOICE, Kind.FACE, Kind.VOICE, Kind.NO_FACE, Kind.LONG})
HOPELESS: Final = frozenset({Kind.NO_INDEX, Kind.TEXT})


@dataclass
class Clips:
    """One file of each kind, and how many intervals an analysis of it has."""

    folder: Path
    #: Of what no arithmetic foretells: (kind, interval seconds) -> count, as a calm analysis gave it.
    measured: dict[tuple[Kind, float], int] = field(default_factory=dict)

    def make(self) -> None:
        """Write them all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sample = ("-stream_loop", "3", "-i", SAMPLE)
        short = ("-t", str(SECONDS))
        _ffmpeg(*sample, *short, *FACE, *SOUND, "-movflags", "+faststart", self.path(Kind.FACE_AND_VOICE))
        _ffmpeg(*sample, *short, *FACE, "-an", self.path(Kind.FACE))
        _ffmpeg(*sample, *short, "-vn", *SOUND, self.path(Kind.VOICE))
        source = ("-f", "lavfi", "-i", "testsrc=size=320x240:rate=10")
        _ffmpeg(*source, *short, "-c:v", "libx264", "-pix_fmt", "yuv420p", self.path(Kind.NO_FACE))
        _ffmpeg(*sample, "-t", str(LONG_SECONDS), *MANY, *SOUND, self.path(Kind.LONG))
        whole = self.path(Kind.FACE_AND_VOICE).read_bytes()
        self.path(Kind.TRUNCATED).write_bytes(whole[: len(whole) * 55 // 100])
        self.path(Kind.NO_INDEX).write_bytes(self.path(Kind.FACE).read_bytes()[:2000])
        self.path(Kind.TEXT).write_text("this is no film\n" * 200)

    def path(self, kind: Kind) -> Path:
        """The file of a kind."""
        return self.folder / f"{kind}.mp4"

    def content(self, job: Job) -> bytes:
        """What the job sends."""
        content = self.path(job.kind).read_bytes()
        return content + box(f"job {job.number}") if job.own_bytes else content

    def intervals(self, job: Job) -> int:
        """How many intervals a complete analysis of the job has; 0 when there can be none."""
        if job.kind in HOPELESS:
            return 0
        if job.kind in WHOLE:
            seconds = LONG_SECONDS if job.kind is Kind.LONG else SECONDS
            return len(timeline(seconds, job.interval_seconds))
        return self.measured[job.kind, job.interval_seconds]


def box(text: str) -> bytes:
    """An MP4 box that every reader skips: other bytes, the same film."""
    content = text.encode()
    return struct.pack(">I4s", 8 + len(content), b"free") + content


def _ffmpeg(*arguments: str | Path) -> None:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        *map(str, arguments),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
