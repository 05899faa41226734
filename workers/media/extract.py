"""The parent's side: start the sandboxed decoder, turn how it ended into a result or a stable code."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.config import Limits
from core.domain import Options
from core.errors import MediaError
from core.evidence import CROP_SIDE, Manifest
from workers.media import sandbox
from workers.media.attend import Bounds, Outcome
from workers.media.job import FACE_BUDGET, Job
from workers.media.verify import read_manifest

logger = logging.getLogger(__name__)

#: What a child may say of the file; any other code is not believed.
CODES: Final = frozenset({
    "unsupported_format", "undecodable_media", "no_streams", "too_many_pixels", "too_long",
    "too_many_frames", "too_many_streams", "decoder_out_of_memory",
})  # fmt: skip
#: What else an extraction may fail with: what its parent saw.
PARENT_CODES: Final = frozenset({
    "empty_file", "decoder_crashed", "decoder_timeout", "decoder_out_of_memory", "decoder_overran",
    "sandbox_required",
})  # fmt: skip
#: What the sandbox runs, with the order behind it.
PROGRAM: Final = ("-s", "-P", "-m", "workers.media.child")
#: Exit status with which the child says that its last line is a failure in JSON.
_REFUSED: Final = 3
_DETAIL_LENGTH: Final = 300
_SOUND_BYTES_PER_SECOND: Final = 32_000
#: Room for the largest other file: one interval of 500 crops is 98 MB.
_FILE_BYTES: Final = 256 * 1024 * 1024
_FACE_BYTES: Final = CROP_SIDE * CROP_SIDE * 3 + 128 * 1024  # its crop, and were it a track, that as JPEG
_STILL_BYTES: Final = 2 * 1024 * 1024  # of one interval, 640 pixels wide
_MANIFEST_BYTES: Final = 128 * 1024 * 1024
_OTHER_FILES: Final = 16
_SIGKILL, _SIGXCPU = 9, 24


def extract(
    source: Path,
    work: Path,
    *,
    options: Options,
    limits: Limits,
    require_sandbox: bool,
    checkpoint: Callable[[], None] | None = None,
) -> Manifest:
    """Decode `source` into the empty folder `work`; the manifest, checked against the files it names.

    `checkpoint` is called about once a second; what it raises stops the decoder and passes on.
    Raises MediaError: `empty_file`, `unsupported_format`, `undecodable_media`, `no_streams`,
    `too_many_pixels`, `too_long`, `too_many_frames`, `too_many_streams`, `decoder_crashed`,
    `decoder_timeout`, `decoder_out_of_memory`, `decoder_overran` or `sandbox_required`.
    """
    level = sandbox.demand(require=require_sandbox)
    size = source.stat().st_size
    if size == 0:
        raise MediaError("The file is empty.", code="empty_file")
    outcome = sandbox.run(
        [*PROGRAM, _job(options, limits).to_json()],
        work=work,
        bounds=_bounds(options, limits),
        source=source,
        at=level,
        checkpoint=checkpoint,
    )
    error = failure(outcome)
    if error is not None:
        logger.warning("decoder ended with %s: %s", error.code, outcome.output[-2000:])
        raise error
    manifest = read_manifest(work, options=options, max_seconds=limits.max_duration.total_seconds())
    facts = manifest.facts.model_copy(update={"size_bytes": size})
    return manifest.model_copy(update={"sandbox": level, "facts": facts})


def _job(options: Options, limits: Limits) -> Job:
    """The child's order."""
    return Job(
        interval_seconds=options.interval_seconds,
        frames_per_interval=options.frames_per_interval,
        max_seconds=limits.max_duration.total_seconds(),
        max_pixels=limits.max_pixels,
        max_frames=limits.max_frames,
        max_streams=limits.max_streams,
        max_faces_per_frame=limits.max_faces_per_frame,
    )


def _bounds(options: Options, limits: Limits) -> Bounds:
    """The child's limits; CPU time is what all cores together give in the wall time."""
    seconds = limits.decode_seconds.total_seconds()
    sound = int(limits.max_duration.total_seconds() * _SOUND_BYTES_PER_SECOND) + 1024
    # At least one crop a frame is kept, whatever the budget; a face more than that is a thumbnail less.
    intervals = int(limits.max_duration.total_seconds() / options.interval_seconds) + 1
    frames = intervals * options.frames_per_interval
    faces = max(frames, min(FACE_BUDGET, frames * limits.max_faces_per_frame))
    return Bounds(
        wall_seconds=seconds,
        cpu_seconds=max(1, int(seconds * len(os.sched_getaffinity(0)))),
        memory_bytes=limits.decode_memory_bytes,
        file_bytes=max(_FILE_BYTES, sound),
        total_bytes=faces * _FACE_BYTES + intervals * _STILL_BYTES + sound + _MANIFEST_BYTES,
        total_files=faces + 2 * intervals + _OTHER_FILES,
    )


def failure(outcome: Outcome) -> MediaError | None:
    """The error for how the child ended; None when it ended well."""
    if outcome.overran:
        return MediaError("The decoder used more disk or threads than it may.", code="decoder_overran")
    if outcome.timed_out or outcome.signal == _SIGXCPU:
        return MediaError("Decoding the file took too long.", code="decoder_timeout")
    if outcome.status == 0 and outcome.signal == 0:
        return None
    refusal = _refusal(outcome.output) if outcome.status == _REFUSED else None
    if refusal is not None:
        return refusal
    # SIGKILL that we did not send is the kernel's, for want of memory.
    starved = outcome.signal == _SIGKILL or any(w in outcome.output for w in ("MemoryError", "bad_alloc"))
    if starved:
        return MediaError("Decoding the file needs too much memory.", code="decoder_out_of_memory")
    return MediaError("The decoder crashed on this file.", code="decoder_crashed")


def _refusal(output: str) -> MediaError | None:
    """What the child says of the file, as far as it can be believed; None when it makes no sense."""
    try:
        said = json.loads(output.rstrip().rpartition("\n")[2])
        code, detail = str(said["code"]), str(said["detail"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if code not in CODES:
        return None
    printable = "".join(c for c in detail if c.isprintable())[:_DETAIL_LENGTH]
    return MediaError(printable or "Decoding the file needs too much memory.", code=code)
