"""How well lips and voice of real talkers go together, and how well those of others do: docs/lips.md.

`python -m bench.lips FOLDER...` with clips of one real talker each, whose names begin with the talker's
first four letters; prints the table that `workers.media.lips` ships, and error rates with intervals.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import imageio_ffmpeg
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from core.av import below_bounds
from core.domain import timeline
from core.evidence import SOUND_RATE, LipSync
from workers.media import lips
from workers.media.formats import open_input
from workers.media.gather import Gatherer
from workers.media.job import Job
from workers.media.lips import Opening
from workers.media.mouth import MouthTracer
from workers.media.picture import PictureReader
from workers.media.plan import plan
from workers.media.probe import probe

H264: Final = ("-pix_fmt", "yuv420p", "-c:v", "libx264")
#: What happens to a clip on its way: name to ffmpeg's arguments.
COPIES: Final[dict[str, tuple[str, ...]]] = {
    "as it is": (*H264, "-qp", "8"),
    "crf 23": (*H264, "-crf", "23"),
    "crf 33": (*H264, "-crf", "33"),
    "half size": (*H264, "-crf", "28", "-vf", "scale=iw/2:ih/2"),
    "vp9": ("-c:v", "libvpx-vp9", "-crf", "42", "-b:v", "0", "-cpu-used", "6", "-pix_fmt", "yuv420p"),
    "15 fps": (*H264, "-crf", "26", "-vf", "fps=15:round=down"),
}
SHIFTS: Final = (-1.5, -1.25, -1.0, -0.75, -0.5, 0.5, 0.75, 1.0, 1.25, 1.5)
WINDOWS: Final = ((0.0, 9.0), (0.0, 2.3), (0.6, 2.9))
LONG: Final = 5  #: clips strung together
JOB: Final = Job(
    interval_seconds=2.0, frames_per_interval=5, max_seconds=600, max_pixels=1 << 24,
    max_frames=100_000, max_streams=16, max_faces_per_frame=10,
)  # fmt: skip
Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Clip:
    """One copy of one talker's clip."""

    talker: str
    copy: str
    trace: tuple[Opening, ...]
    sound: Samples


@dataclass(frozen=True)
class Match:
    """One measurement."""

    talker: str
    group: str
    lips: LipSync


def program(*arguments: str | Path) -> bytes:
    """What ffmpeg writes to its output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def trace_of(path: Path, folder: Path) -> tuple[Opening, ...]:
    """The longest track's mouth, as extraction follows it."""
    with open_input(str(path)) as container:
        found = probe(container, JOB)
    spans = timeline(float(found.duration), JOB.interval_seconds)
    with open_input(str(path)) as container:
        assert found.video_index is not None  # noqa: S101 - these clips have pictures
        assert found.picture is not None  # noqa: S101
        stream = container.streams[found.video_index]
        assert isinstance(stream, VideoStream)  # noqa: S101
        times = [float(tick * found.picture.base - found.origin) for tick in found.picture.ticks]
        dues, mouths = plan(spans, times, JOB.frames_per_interval), MouthTracer()
        reader = PictureReader(stream, found.picture, times, dues, max_pixels=1 << 24, onlooker=mouths)
        pixels = stream.width * stream.height
        gatherer = Gatherer(folder, spans, dues, max_faces=10, pixels=pixels, mouths=mouths)
        for packet in container.demux(stream):
            for sampled in reader.feed(packet):
                gatherer.offer(sampled, reader.rotation)
        gatherer.finish()
    return max(map(tuple, mouths.openings.values()), key=len, default=())


def clips_of(sources: list[Path]) -> Iterator[Clip]:
    """Every copy of every clip."""
    for source in sources:
        raw = program("-i", source, "-vn", "-ac", "1", "-ar", str(SOUND_RATE), "-f", "s16le", "-")
        sound = np.frombuffer(raw, np.int16)
        for name, arguments in COPIES.items():
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / ("copy.webm" if name == "vp9" else "copy.mp4")
                program("-i", source, "-an", *arguments, copy)
                yield Clip(source.stem[:4], name, trace_of(copy, Path(folder)), sound)


def matched(trace: tuple[Opening, ...], sound: Samples) -> LipSync | None:
    """The product's own measure."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SOUND_RATE)
        writer.writeframes(sound.tobytes())
    file.seek(0)
    with wave.open(file, "rb") as reader:
        return lips.measure(trace, reader)


def windows(clip: Clip) -> Iterator[tuple[Opening, ...]]:
    """Parts of its trace."""
    for start, end in WINDOWS:
        yield tuple(one for one in clip.trace if start <= one.time <= end)


def own(clips: list[Clip]) -> Iterator[Match]:
    """Real talkers with their own voice."""
    for clip in clips:
        for trace in windows(clip):
            found = matched(trace, clip.sound)
            if found is not None:
                yield Match(clip.talker, clip.copy, found)


def shifted(clips: list[Clip]) -> Iterator[Match]:
    """The same with the sound moved, round the clip."""
    for clip in clips:
        for trace in windows(clip):
            for shift in SHIFTS:
                found = matched(trace, np.roll(clip.sound, round(shift * SOUND_RATE)))
                if found is not None:
                    yield Match(clip.talker, clip.copy, found)


def swapped(clips: list[Clip]) -> Iterator[Match]:
    """The same with another talker's voice."""
    voices = {clip.talker: clip.sound for clip in clips}
    for clip in clips:
        for trace in windows(clip):
            for talker, sound in voices.items():
                found = matched(trace, sound) if talker != clip.talker else None
                if found is not None:
                    yield Match(clip.talker, clip.copy, found)


def strung(clips: list[Clip], *, foreign: bool) -> Iterator[Match]:
    """A stand-in for a longer track: several talkers one after another, all with their own voice or none."""
    random = np.random.default_rng(1)
    for name in COPIES:
        pool = [clip for clip in clips if clip.copy == name]
        for _ in range(20):
            chosen = [pool[n] for n in random.permutation(len(pool))[:LONG]]
            length = max(len(clip.sound) for clip in chosen) + SOUND_RATE // 2
            sound = np.zeros(LONG * length, np.int16)
            trace: list[Opening] = []
            for n, clip in enumerate(chosen):
                voice = chosen[(n + 1) % LONG].sound if foreign else clip.sound
                sound[n * length : n * length + len(voice)] = voice
                trace += [replace(one, time=one.time + n * length / SOUND_RATE) for one in clip.trace]
            found = matched(tuple(trace), sound)
            if found is not None:
                yield Match("+".join(sorted({clip.talker for clip in chosen})), name, found)


def area(real: list[Match], other: list[Match]) -> float:
    """Share of pairs in which the real one matches better (area under the ROC curve)."""
    one, two = (np.array([m.lips.correlation for m in group]) for group in (real, other))
    return float((one[:, None] > two).mean() + (one[:, None] == two).mean() / 2)


def interval(real: list[Match], other: list[Match], rounds: int = 1000) -> tuple[float, float]:
    """95% of the area when talkers are drawn anew, each with all of its measurements."""
    random, talkers = np.random.default_rng(2), sorted({m.talker for m in real})
    by = [{t: [m for m in group if m.talker == t] for t in talkers} for group in (real, other)]
    found = []
    for _ in range(rounds):
        drawn = random.choice(talkers, len(talkers))
        found.append(area(*([m for t in drawn for m in group[t]] for group in by)))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def row(name: str, group: list[Match]) -> None:
    """One line of the table."""
    marks = " | ".join(
        f"{x:.2f}" for x in np.percentile([m.lips.correlation for m in group], [0, 5, 25, 50, 75, 95, 100])
    )
    lags = " / ".join(f"{x:+.2f}" for x in np.percentile([m.lips.lag_seconds for m in group], [5, 50, 95]))
    low = float(np.mean([below_bounds(m.lips) for m in group]))
    print(f"| {name} | {len(group)} | {marks} | {lags} | {low:.1%} |")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    paths = [Path(argument) for argument in arguments]
    found = [sorted(path.iterdir()) if path.is_dir() else [path] for path in paths]
    clips = list(clips_of([source for group in found for source in group]))
    real, moved, foreign = list(own(clips)), list(shifted(clips)), list(swapped(clips))
    long_own, long_foreign = list(strung(clips, foreign=False)), list(strung(clips, foreign=True))
    print("| sound | n | 0% | 5% | 25% | 50% | 75% | 95% | 100% | lag 5/50/95% | below the bounds |")
    print("|---" * 11 + "|")
    row("own", real)
    for name in COPIES:
        row(f"own, {name}", [m for m in real if m.group == name])
    for talker in sorted({m.talker for m in real}):
        row(f"own, {talker}", [m for m in real if m.talker == talker])
    rows = {"shifted": moved, "swapped": foreign, "own, strung": long_own, "swapped, strung": long_foreign}
    for name, group in rows.items():
        row(name, group)
    for name, group in (("shifted", moved), ("swapped", foreign), ("both", moved + foreign)):
        low, high = interval(real, group)
        print(f"AUC own against {name}: {area(real, group):.3f} ({low:.3f} to {high:.3f})")
    print(f"AUC strung: {area(long_own, long_foreign):.3f}")
    for name, group in (("own", real), ("strung", long_own)):
        print(f"{name}: voiced {np.percentile([m.lips.seconds for m in group], [0, 50, 100])} s")
    table = np.percentile([m.lips.correlation for m in real], np.arange(0, 101, 5))
    print("REAL =", tuple(round(float(x), 3) for x in table), "windows", len(real))


if __name__ == "__main__":
    main(sys.argv[1:])
