"""Queue `video`: the faces of one shard are scored, on the GPU where there is one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from core import failpoints, results
from core.db import transaction
from core.domain import Modality, Stage, StepStatus
from core.errors import DetectorUnavailable
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
    from workers.detectors.blend_trace import BlendTrace


@app.task(name=Task.VIDEO.value)  # type: ignore[untyped-decorator]  # Celery ships no types
def video_step(analysis_id: str, shard: int) -> None:
    """Score one shard of crops."""
    run_step(Stage.VIDEO, analysis_id, shard, score_faces)


class Eyes(NamedTuple):
    """Who looks. Without the detector of the modality nothing is scored, and `absent` says why."""

    detector: FrameDetector | None
    trace: BlendTrace | None
    absent: DetectorUnavailable | None


def score_faces(hold: Hold) -> None:
    """Load the crops, ask the detectors, store the pictures of suspicious faces, write the interval rows.

    Without weights the trace detector speaks all the same, and the step closes as skipped.
    """
    from workers.detectors.examine import examine  # noqa: PLC0415 - torch only in the processes that score

    eyes, claim = open_eyes(), hold.claim
    prefix = claim.payload["scratch"]
    shard = CropShard.model_validate(claim.payload["crops"])
    manifest = artifacts.manifest_of(storage(), prefix, shard.shard)
    crops = artifacts.crops_of(storage(), prefix, shard.file, checkpoint=hold.check)
    started = time.perf_counter()
    seen = examine(manifest, shard, crops, eyes.detector, eyes.trace, checkpoint=hold.check)
    detail = _detail(eyes) | {"crops": len(crops), "seconds": round(time.perf_counter() - started, 3)}
    failpoints.reach(failpoints.Point.VIDEO_SCORED)
    findings = seen.findings
    if seen.portraits:
        stored = artifacts.publish_portraits(storage(), claim, seen.portraits, checkpoint=hold.check)
        findings = tuple(one.model_copy(update={"pictures": stored.get(one.index, ())}) for one in findings)
        detail["pictures"] = artifacts.portraits_folder(claim)  # what orphans go by
    failpoints.reach(failpoints.Point.VIDEO_STORED)
    with transaction() as session:
        results.record_findings(
            session,
            claim,
            findings,
            status=StepStatus.SKIPPED if eyes.absent else StepStatus.DONE,
            reason=eyes.absent.code if eyes.absent else None,
            detail=detail,
        )
    failpoints.reach(failpoints.Point.BRANCH_CLOSED)


def open_eyes() -> Eyes:
    """The detectors of this process. Raises DetectorUnavailable when nobody at all can look."""
    trace = this_process().trace()
    try:
        return Eyes(cast("FrameDetector", this_process().detector(Modality.VIDEO)), trace, None)
    except DetectorUnavailable as error:
        if trace is None:
            raise
        return Eyes(None, trace, error)


def _detail(eyes: Eyes) -> dict[str, Any]:
    """Who looked, who decides first; and why nobody scored."""
    spoke = [one.identity.model_dump(mode="json") for one in (eyes.detector, eyes.trace) if one is not None]
    detail: dict[str, Any] = {"detectors": spoke}
    if eyes.detector is not None:
        detail["detector"] = spoke[0]
    if eyes.absent is not None:
        detail |= {"message": eyes.absent.detail, **eyes.absent.extra}
    return detail
