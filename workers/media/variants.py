"""The parent's side of variants: parts of a file as somebody might have passed them on, made in the sandbox.

The sound is left out: what is measured on a variant is its picture.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from core.config import Limits
from core.domain import Options, Span, Variant
from core.errors import MediaError
from core.evidence import Manifest
from workers.media import sandbox
from workers.media.attend import Bounds
from workers.media.extract import extract, failure
from workers.media.job import Job
from workers.media.verify import BROKEN, open_plain

logger = logging.getLogger(__name__)

#: What delivery does: x264 at three qualities; smaller, and a tenth cut off each edge, at the best of them.
RECIPES: Final[dict[Variant, dict[str, float]]] = {
    Variant.CRF_23: {"crf": 23},
    Variant.CRF_28: {"crf": 28},
    Variant.CRF_35: {"crf": 35},
    Variant.HALF: {"crf": 23, "scale": 0.5},
    Variant.QUARTER: {"crf": 23, "scale": 0.25},
    Variant.CROPPED: {"crf": 23, "margin": 0.1},
}
#: What the sandbox runs, with the order behind it.
PROGRAM: Final = ("-s", "-P", "-m", "workers.media.variant_child")
_VARIANT: Final = "variant.mp4"  # names agreed with that program, which imports decoders
_KEPT: Final = "kept.json"
#: A minute of 8K at a quality that loses little; 30 s of 1080p have 10 MB.
_FILE_BYTES: Final = 1024 * 1024 * 1024
_KEPT_BYTES: Final = 64 * 1024
_FILES: Final = 8


def make_variant(
    source: Path,
    target: Path,
    spans: Sequence[Span],
    variant: Variant,
    *,
    limits: Limits,
    require_sandbox: bool,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[Span, ...]:
    """Write the spans of `source`, one behind the other, to the MP4 file `target`, which must not be there.

    `spans` are intervals of the timeline of `source` in order of time. Returns those that have a frame: the
    n-th interval of the result is the n-th of them, as `extract_variant` reads it. `checkpoint` is called
    about once a second and may raise to stop. Raises MediaError as `extract` does, ValueError without spans.
    """
    if not spans:
        raise ValueError("a variant of nothing")
    level = sandbox.demand(require=require_sandbox)
    with tempfile.TemporaryDirectory(prefix="variant-", dir=target.parent) as folder:
        work = Path(folder)
        outcome = sandbox.run(
            [*PROGRAM, _order(spans, variant, limits)],
            work=work,
            bounds=_bounds(limits),
            source=source,
            at=level,
            checkpoint=checkpoint,
        )
        error = failure(outcome)
        if error is not None:
            logger.warning("variant %s ended with %s: %s", variant, error.code, outcome.output[-2000:])
            raise error
        kept = _kept(work, len(spans))
        (work / _VARIANT).rename(target)
    return tuple(spans[number] for number in kept)


def extract_variant(
    source: Path,
    work: Path,
    spans: Sequence[Span],
    variant: Variant,
    *,
    options: Options,
    limits: Limits,
    require_sandbox: bool,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[Manifest, dict[int, int]]:
    """Make a variant and look for its faces: the manifest, with its files in the empty folder `work`.

    Also returns which interval of `source` each interval of the manifest shows, by their indices; one in
    which no frame could be decoded is missing. Raises MediaError as `extract` does.
    """
    target = work.parent / f"{variant}.mp4"
    try:
        kept = make_variant(
            source,
            target,
            spans,
            variant,
            limits=limits,
            require_sandbox=require_sandbox,
            checkpoint=checkpoint,
        )
        manifest = extract(
            target,
            work,
            options=options,
            limits=limits,
            require_sandbox=require_sandbox,
            checkpoint=checkpoint,
        )
    finally:
        target.unlink(missing_ok=True)
    if len(manifest.spans) != len(kept):
        raise MediaError("The variant has another length than its parts.", code="decoder_crashed")
    return manifest, {n: span.index for n, span in enumerate(kept)}


def _order(spans: Sequence[Span], variant: Variant, limits: Limits) -> str:
    """The child's order."""
    job = Job(
        interval_seconds=1.0,
        frames_per_interval=1,
        max_seconds=limits.max_duration.total_seconds(),
        max_pixels=limits.max_pixels,
        max_frames=limits.max_frames,
        max_streams=limits.max_streams,
        max_faces_per_frame=limits.max_faces_per_frame,
    )
    parts = [(span.start, span.end) for span in spans]
    return json.dumps({"parts": parts, "recipe": RECIPES[variant], "job": asdict(job)})


def _bounds(limits: Limits) -> Bounds:
    """The child's limits; CPU time is what all cores together give in the wall time."""
    seconds = limits.decode_seconds.total_seconds()
    return Bounds(
        wall_seconds=seconds,
        cpu_seconds=max(1, int(seconds * len(os.sched_getaffinity(0)))),
        memory_bytes=limits.decode_memory_bytes,
        file_bytes=_FILE_BYTES,
        total_bytes=_FILE_BYTES + _KEPT_BYTES,
        total_files=_FILES,
    )


def _kept(work: Path, count: int) -> list[int]:
    """What the child wrote, read as if an attacker had. Raises MediaError `decoder_crashed`."""
    try:
        with open_plain(work, _VARIANT, _FILE_BYTES):
            pass
        with open_plain(work, _KEPT, _KEPT_BYTES) as file:
            kept: list[int] = json.loads(file.read())
        sound = isinstance(kept, list) and all(type(number) is int for number in kept)
        if not (sound and kept and kept == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < count):
            raise ValueError("these are no parts")
    except BROKEN as error:
        raise MediaError("The variant does not hold.", code="decoder_crashed") from error
    return kept
