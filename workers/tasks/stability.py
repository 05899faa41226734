"""Queue `video`, always in the batch lane: one variant of the file is made, looked at and scored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from core import analyses, failpoints, stability
from core.config import settings
from core.db import read, transaction
from core.domain import Options, Span, Stage, Variant
from core.errors import DetectorUnavailable
from core.evidence import Manifest, VideoFinding
from core.fusion.stability import Outcome, Remeasured
from core.queue import Task
from core.storage import storage
from workers.app import app
from workers.base import run_step
from workers.heart import Hold
from workers.media.variants import extract_variant
from workers.tasks.video import Eyes, open_eyes
from workers.workspace import private_folder

if TYPE_CHECKING:
    from workers.detectors.blend_trace import BlendTrace


@app.task(name=Task.STABILITY.value)  # type: ignore[untyped-decorator]  # Celery ships no types
def stability_step(analysis_id: str, shard: int) -> None:
    """Measure one variant."""
    run_step(Stage.STABILITY, analysis_id, shard, measure_variant)


def measure_variant(hold: Hold) -> None:
    """Make the variant in the sandbox, score its faces, and keep the scores in the closing transaction."""
    started = time.perf_counter()
    payload = hold.claim.payload
    variant, spans = Variant(payload["variant"]), [Span.model_validate(part) for part in payload["parts"]]
    eyes = _same_eyes(payload["speakers"])
    with read() as session:
        analysis = analyses.load(session, hold.claim.analysis_id)
        key, options = analysis.file.object_key, Options.model_validate(analysis.options)
    with private_folder() as folder:
        source, work = folder / "source", folder / "work"
        work.mkdir(mode=0o700)
        storage().download_file(key, source, checkpoint=hold.check)
        manifest, where = extract_variant(
            source,
            work,
            spans,
            variant,
            options=options,
            limits=settings().limits,
            require_sandbox=settings().require_sandbox,
            checkpoint=hold.check,
        )
        findings = _findings(hold, manifest, work, eyes)
    measured = tuple(
        _remeasured(where[one.index], one) for one in sorted(findings, key=lambda finding: finding.index)
    )
    seconds = round(time.perf_counter() - started, 3)
    failpoints.reach(failpoints.Point.STABILITY_SCORED)
    with transaction() as session:
        outcome = Outcome(variant=variant, intervals=measured, seconds=seconds)
        stability.record_variant(session, hold.claim, outcome)


def _same_eyes(marks: dict[str, str]) -> Eyes:
    """The detectors that scored the original. Raises DetectorUnavailable, `detector_changed` among others."""
    eyes = open_eyes()
    same = [
        one if one is not None and marks.get(one.identity.id) == one.identity.mark else None
        for one in (eyes.detector, eyes.trace)
    ]
    if not any(same):
        raise DetectorUnavailable(
            "The original was scored with other weights, or calibrated otherwise.", code="detector_changed"
        )
    return Eyes(same[0], cast("BlendTrace | None", same[1]), None)


def _findings(hold: Hold, manifest: Manifest, work: Path, eyes: Eyes) -> list[VideoFinding]:
    from workers.detectors.remeasure import remeasure, unseen  # noqa: PLC0415 - torch only where it scores

    found = list(unseen(manifest))
    for shard in manifest.crop_shards:
        hold.check()
        crops = np.load(work / shard.file, allow_pickle=False)
        found += remeasure(manifest, shard, crops, eyes.detector, eyes.trace, checkpoint=hold.check)
    return found


def _remeasured(index: int, finding: VideoFinding) -> Remeasured:
    trace = finding.trace.score if finding.trace else None
    return Remeasured(index=index, score=finding.score, reason=finding.reason, trace=trace)
