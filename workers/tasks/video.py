"""Queue `video`: the faces of one shard are scored, on the GPU where there is one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from core import failpoints, results
from core.db import transaction
from core.domain import Modality, Stage
from core.evidence import CropShard
from core.queue import Task
from core.storage import storage
from workers.app import app
from workers.base import run_step
from workers.heart import Hold
from workers.process import this_process
from workers.tasks import artifacts

if TYPE_CHECKING:
    from workers.detectors.base import FrameDetector


@app.task(name=Task.VIDEO.value)  # type: ignore[untyped-decorator]  # Celery ships no types
def video_step(analysis_id: str, shard: int) -> None:
    """Score one shard of crops."""
    run_step(Stage.VIDEO, analysis_id, shard, score_faces)


def score_faces(hold: Hold) -> None:
    """Load the crops, ask the detector, write the interval rows."""
    from workers.detectors.look import look  # noqa: PLC0415 - torch only in the processes that score

    detector = cast("FrameDetector", this_process().detector(Modality.VIDEO))
    prefix = hold.claim.payload["scratch"]
    shard = CropShard.model_validate(hold.claim.payload["crops"])
    manifest = artifacts.manifest_of(storage(), prefix, shard.shard)
    crops = artifacts.crops_of(storage(), prefix, shard.file, checkpoint=hold.check)
    started = time.perf_counter()
    findings = look(manifest, shard, crops, detector, checkpoint=hold.check)
    detail = {
        "detector": detector.identity.model_dump(mode="json"),
        "crops": len(crops),
        "seconds": round(time.perf_counter() - started, 3),
    }
    failpoints.reach(failpoints.Point.VIDEO_SCORED)
    with transaction() as session:
        results.record_findings(session, hold.claim, findings, detail=detail)
    failpoints.reach(failpoints.Point.BRANCH_CLOSED)
