"""Queue `fusion`: the evidence in Postgres becomes a verdict, an explanation and a report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from core import analyses, failpoints, logging, report, results, retention
from core.config import settings
from core.db import read, transaction
from core.domain import Stage
from core.dossier import Dossier, compile_dossier
from core.errors import StorageError
from core.fusion.narrators.narrate import narrate
from core.fusion.verdict import judge
from core.queue import Task
from core.storage import storage
from workers.app import app
from workers.base import run_step
from workers.heart import Hold
from workers.tasks import artifacts

log = logging.get(__name__)


@app.task(name=Task.FUSE.value)  # type: ignore[untyped-decorator]  # Celery ships no types
def fuse_step(analysis_id: str, shard: int) -> None:
    """Judge one analysis. The claim refuses while a branch is open, whatever rang."""
    run_step(Stage.FUSE, analysis_id, shard, judge_evidence)


def judge_evidence(hold: Hold) -> None:
    """Judge, explain, report: outside any transaction, since a language model may take its time."""
    failpoints.reach(failpoints.Point.FUSE_CLAIMED)
    with transaction() as session:
        analyses.take_hold(session, hold.claim)
        results.record_lost_branches(session, hold.claim.analysis_id)
    with read() as session:
        dossier = compile_dossier(session, hold.claim.analysis_id)
    written = write_report(dossier, checkpoint=hold.check)
    hold.check()
    failpoints.reach(failpoints.Point.FUSE_JUDGED)
    with transaction() as session:
        results.complete(session, hold.claim, written)
    failpoints.reach(failpoints.Point.FUSE_COMPLETED)
    _tidy(hold)
    _keep_nothing_longer(hold)


def write_report(dossier: Dossier, *, checkpoint: Callable[[], None] = lambda: None) -> report.Report:
    """The report of a dossier. The narrator sees figures only, never a file name."""
    judgement = judge(
        dossier.intervals, facts=dossier.facts, branches=dossier.branches, detectors=dossier.detectors
    )
    return report.build(
        judgement,
        narrate(judgement, settings(), checkpoint=checkpoint),
        analysis_id=dossier.analysis_id,
        timestamp=datetime.now(UTC),
        input_sha256=dossier.sha256,
        options=dossier.options,
        sandbox=dossier.sandbox,
        tracks=dossier.tracks,
    )


def _keep_nothing_longer(hold: Hold) -> None:
    """With zero retention file and pictures go at once; what fails here the dispatcher does."""
    try:
        retention.erase_media_if_due(hold.claim.analysis_id)
    except (StorageError, DBAPIError):
        log.warning("erasing is left to the dispatcher", action="erasure_left", exc_info=True)


def _tidy(hold: Hold) -> None:
    """Delete crops and sound, which nobody needs once the report is there."""
    try:
        storage().delete_prefix(artifacts.scratch_prefix(hold.claim.analysis_id))
    except StorageError:
        log.warning("working files are left behind", action="scratch_left", exc_info=True)
