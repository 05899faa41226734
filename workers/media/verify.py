"""Reads what the child wrote as if an attacker had written it: the child met hostile bytes.

A manifest that does not hold is `decoder_crashed`: an honest child never writes one.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from pydantic import ValidationError

from core.domain import Options, timeline
from core.errors import MediaError
from core.evidence import CROP_SIDE, SOUND_RATE, CropShard, LipSync, Manifest, Track
from workers.media.lips import MAX_LAG, null_share

MANIFEST: Final = "manifest.json"
#: What reading files made by a hostile child may raise.
BROKEN: Final = (
    ValidationError,
    ValueError,
    KeyError,
    EOFError,
    RecursionError,
    OverflowError,
    OSError,
    wave.Error,
)
#: 45 000 faces of 600 bytes, and room.
_MANIFEST_BYTES: Final = 128 * 1024 * 1024
#: A 640-pixel JPEG of pure noise at quality 85 stays below this.
_JPEG_BYTES: Final = 2 * 1024 * 1024
_JPEG_MARK: Final = b"\xff\xd8\xff"
_WORD: Final = re.compile(r"[a-zA-Z0-9_,.-]{1,64}")
_ROTATIONS: Final = frozenset({0, 90, 180, 270})
#: Seconds by which rounding may part two figures.
_SLACK: Final = 1e-3


def read_manifest(work: Path, *, options: Options, max_seconds: float) -> Manifest:
    """The manifest in `work`, consistent in itself, with the options and with the files it names.

    Raises MediaError `decoder_crashed` for anything else.
    """
    try:
        with open_plain(work, MANIFEST, _MANIFEST_BYTES) as file:
            raw = json.loads(file.read())
        _require(all(map(math.isfinite, _floats(raw))), "a figure is not finite")
        manifest = Manifest.model_validate_json(json.dumps(raw))
        _check_timeline(manifest, options, max_seconds)
        _check_facts(manifest)
        _check_frames(manifest)
        _check_names(manifest)
        _check_files(work, manifest)
    except BROKEN as error:
        raise MediaError("The decoder's result does not hold.", code="decoder_crashed") from error
    return manifest


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 - an assertion that -O keeps
    """Raise ValueError with `what` unless it holds."""
    if not holds:
        raise ValueError(what)


def _floats(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _floats(item)
    elif isinstance(value, (int, float)):
        yield float(value)


def open_plain(work: Path, name: str, limit: int | None = None) -> BinaryIO:
    """A plain file of the private folder: no link to elsewhere, no device, no pipe to wait on."""
    descriptor = os.open(work / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        file.close()
        raise ValueError(f"{name} is no plain file")
    if limit is not None and status.st_size > limit:
        file.close()
        raise ValueError(f"{name} is too large")
    return file


def _check_timeline(manifest: Manifest, options: Options, max_seconds: float) -> None:
    """The intervals are those that the duration and the options give."""
    duration = manifest.facts.duration
    _require(0 < duration <= max_seconds + _SLACK, "duration")
    _require(manifest.interval_seconds == options.interval_seconds, "interval length")
    _require(manifest.frames_per_interval == options.frames_per_interval, "frames per interval")
    _require(manifest.spans == timeline(duration, options.interval_seconds), "spans")


def _check_facts(manifest: Manifest) -> None:
    """Names are words and figures are possible; both are shown to people."""
    video, audio = manifest.facts.video, manifest.facts.audio
    words = [manifest.facts.container]
    _require(manifest.facts.size_bytes >= 0, "size")
    if video is not None:
        words += [video.codec, video.pixel_format]
        _require(video.width > 0 and video.height > 0 and video.frames >= 0, "picture size")
        _require(video.rotation in _ROTATIONS and (video.fps is None or video.fps > 0), "picture facts")
    if audio is not None:
        words.append(audio.codec)
        # A stream too damaged to be heard may not even say how many channels it has.
        least = 1 if manifest.sound_file else 0
        _require(audio.channels >= least and audio.sample_rate >= least, "sound facts")
    _require(all(_WORD.fullmatch(word) for word in words), "a name that is no word")


def _check_frames(manifest: Manifest) -> None:
    """Frames run forward inside their intervals; every crop row belongs to exactly one face."""
    shards = {shard.shard: shard for shard in manifest.crop_shards}
    tracks = {track.id for track in manifest.tracks}
    rows: set[tuple[int, int]] = set()
    before = -1.0
    for number, frame in enumerate(manifest.frames):
        _require(frame.n == number and frame.time > before - _SLACK, "frame order")
        _require(0 <= frame.interval < len(manifest.spans), "frame interval")
        span, before = manifest.spans[frame.interval], frame.time
        _require(span.start - _SLACK <= frame.time <= span.end + _SLACK, "frame time")
        for face in frame.faces:
            _require(face.track in tracks, "face without track")
            _require((face.shard is None) == (face.row is None) == (face.reason is not None), "face reason")
            if face.shard is not None and face.row is not None:
                shard = shards[face.shard]
                _require(frame.interval in shard.intervals and 0 <= face.row < shard.rows, "crop row")
                _require((face.shard, face.row) not in rows, "crop row used twice")
                rows.add((face.shard, face.row))
    _require(len(rows) == sum(shard.rows for shard in shards.values()), "crops without a face")
    _require(len(manifest.frames) <= len(manifest.spans) * manifest.frames_per_interval, "too many frames")


def _check_names(manifest: Manifest) -> None:
    """File names are the ones we would give: none leads out of the folder."""
    numbers = range(len(manifest.crop_shards))
    _require([s.shard for s in manifest.crop_shards] == list(numbers), "shard numbers")
    _require([s.file for s in manifest.crop_shards] == [f"crops-{n}.npy" for n in numbers], "shard names")
    intervals = [n for shard in manifest.crop_shards for n in shard.intervals]
    _require(intervals == sorted(set(intervals)), "an interval in two shards")
    _require(len({track.id for track in manifest.tracks}) == len(manifest.tracks), "track ids")
    for track in manifest.tracks:
        _require(track.id >= 0 and track.thumbnail in {None, f"track-{track.id}.jpg"}, "track thumbnail")
        _require(-_SLACK <= track.start <= track.end <= manifest.facts.duration + _SLACK, "track times")
        _require(track.lips is None or _holds(track.lips, track), "lips")
    _check_stills(manifest)
    _require(manifest.sound_file in {None, "sound.wav"}, "sound file")


def _holds(lips: LipSync, track: Track) -> bool:
    """Whether a track's lips can be what was measured."""
    in_time = 0 <= lips.seconds <= track.end - track.start + 1 and abs(lips.lag_seconds) <= MAX_LAG + _SLACK
    return in_time and abs(lips.null_share - null_share(lips.correlation)) < _SLACK


def _check_stills(manifest: Manifest) -> None:
    """Every still is a frame of its interval; cuts lie on the timeline, in order."""
    _require(manifest.frame_thumbnails.keys() == manifest.thumbnail_frames.keys(), "stills")
    for interval, name in manifest.frame_thumbnails.items():
        _require(0 <= interval < len(manifest.spans) and name == f"frame-{interval}.jpg", "frame thumbnail")
        number = manifest.thumbnail_frames[interval]
        _require(0 <= number < len(manifest.frames), "frame of a still")
        _require(manifest.frames[number].interval == interval, "interval of a still")
    ends = (0.0, *manifest.cuts, manifest.facts.duration + _SLACK)
    _require(all(one <= two for one, two in pairwise(ends)), "cuts")


def _check_files(work: Path, manifest: Manifest) -> None:
    """Every file that is named is there, of the right kind and size."""
    for shard in manifest.crop_shards:
        _check_crops(work, shard)
    pictures = [track.thumbnail for track in manifest.tracks if track.thumbnail is not None]
    for name in (*pictures, *manifest.frame_thumbnails.values()):
        with open_plain(work, name, _JPEG_BYTES) as file:
            _require(file.read(len(_JPEG_MARK)) == _JPEG_MARK, f"{name} is no JPEG")
    _check_sound(work, manifest)


def _check_crops(work: Path, shard: CropShard) -> None:
    """The array has the shape that was promised; read as raw bytes, never as a pickle."""
    with open_plain(work, shard.file) as file:
        _require(np.lib.format.read_magic(file) == (1, 0), "npy version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        _require(shape == (shard.rows, CROP_SIDE, CROP_SIDE, 3) and not fortran, "crop shape")
        _require(dtype == np.uint8 and shard.rows > 0, "crop type")
        size = os.fstat(file.fileno()).st_size - file.tell()
    _require(size == math.prod(shape), "crop bytes")


def _check_sound(work: Path, manifest: Manifest) -> None:
    """The WAV file covers the timeline and its shards are runs of whole intervals."""
    _require((manifest.sound_file is None) == (not manifest.sound_shards), "sound shards")
    if manifest.sound_file is None:
        return
    with open_plain(work, manifest.sound_file) as file, wave.open(file, "rb") as sound:
        form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        _require(form == (1, 2, SOUND_RATE), "sound format")
        _require(abs(sound.getnframes() - manifest.facts.duration * SOUND_RATE) <= 1, "sound length")
        _require(os.fstat(file.fileno()).st_size >= 2 * sound.getnframes(), "sound bytes")
    following = 0
    for number, shard in enumerate(manifest.sound_shards):
        _require((shard.shard, shard.first_interval) == (number, following), "sound shard order")
        _require(following <= shard.last_interval < len(manifest.spans), "sound shard end")
        first, last = manifest.spans[shard.first_interval], manifest.spans[shard.last_interval]
        _require((shard.start, shard.end) == (first.start, last.end), "sound shard times")
        following = shard.last_interval + 1
    _require(following == len(manifest.spans), "sound shards do not cover the timeline")
