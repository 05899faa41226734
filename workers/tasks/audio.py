"""Queue `audio`: the voice of one shard is measured and scored."""

from __future__ import annotations

import time
from typing import Any

from core import failpoints, listing, results
from core.db import read, transaction
from core.domain import Modality, Reason, Stage, StepStatus
from core.errors import DetectorUnavailable
from core.evidence import SoundShard
from core.queue import Task
from core.storage import storage
from workers.app import app
from workers.base import run_step
from workers.heart import Hold
from workers.process import this_process
from workers.tasks import artifacts


@app.task(name=Task.AUDIO.value)  # type: ignore[untyped-decorator]  # Celery ships no types
def audio_step(analysis_id: str, shard: int) -> None:
    """Score one shard of sound."""
    run_step(Stage.AUDIO, analysis_id, shard, score_voice)


def score_voice(hold: Hold) -> None:
    """Measure the sound and, where there are weights, score the voice; write the interval rows.

    Without weights the measured signals are written all the same, and the step closes as skipped.
    """
    from workers.detectors.listen import listen  # noqa: PLC0415 - librosa only in the processes that listen

    claim = hold.claim
    shard = SoundShard.model_validate(claim.payload["sound"])
    detector, absent = _detector()
    with read() as session:
        spans = listing.spans(session, claim.analysis_id, shard.first_interval, shard.last_interval)
    waveform = artifacts.sound_of(storage(), claim.payload["scratch"] + "sound.wav", shard.start, shard.end)
    started = time.perf_counter()
    reason = Reason.NO_DETECTOR_WEIGHTS if absent else None
    findings = listen(waveform, shard.start, spans, detector, reason, checkpoint=hold.check)
    detail: dict[str, Any] = {"seconds": round(time.perf_counter() - started, 3)}
    if detector is not None:
        detail["detector"] = detector.identity.model_dump(mode="json")
    if absent is not None:
        detail |= {"message": absent.detail, **absent.extra}
    failpoints.reach(failpoints.Point.AUDIO_SCORED)
    with transaction() as session:
        results.record_findings(
            session,
            claim,
            findings,
            status=StepStatus.SKIPPED if absent else StepStatus.DONE,
            reason=absent.code if absent else None,
            detail=detail,
        )
    failpoints.reach(failpoints.Point.BRANCH_CLOSED)


def _detector() -> tuple[Any, DetectorUnavailable | None]:
    try:
        return this_process().detector(Modality.AUDIO), None
    except DetectorUnavailable as error:
        return None, error
