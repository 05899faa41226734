"""Queue `fusion`: the evidence in Postgres becomes a verdict, an explanation and a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from core import analyses, failpoints, logging, quotas, report, results, retention, stability
from core.config import settings
from core.db import read, transaction
from core.domain import Modality, Reason, Span, Stage
from core.dossier import Dossier, compile_dossier
from core.errors import StorageError
from core.evidence import DetectorIdentity
from core.fusion.inputs import IntervalEvidence
from core.fusion.judgement import Judgement
from core.fusion.narrators.narrate import narrate
from core.fusion.stability import Stability, assess, to_measure, why_nothing
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
    if hold.claim.shard < stability.SECOND and (parts := parts_to_measure(dossier)):
        if not _late(hold):
            _defer(hold, dossier, parts)
            return
        dossier = dossier.model_copy(update={"outcomes": stability.none_in_time()})
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
    judgement, found, why_not = _delivered(dossier)
    return report.build(
        judgement,
        narrate(judgement, settings(), checkpoint=checkpoint, allowed=_may_ask),
        analysis_id=dossier.analysis_id,
        timestamp=datetime.now(UTC),
        input_sha256=dossier.sha256,
        options=dossier.options,
        sandbox=dossier.sandbox,
        tracks=dossier.tracks,
        stability=found,
        stability_reason=why_not,
    )


def judged(dossier: Dossier, intervals: Sequence[IntervalEvidence] | None = None) -> Judgement:
    """The verdict on the evidence, or on these intervals in its place."""
    return judge(
        dossier.intervals if intervals is None else intervals,
        facts=dossier.facts,
        operating_point=dossier.options.operating_point,
        branches=dossier.branches,
        detectors=dossier.detectors,
        frames_per_interval=dossier.options.frames_per_interval,
    )


def _delivered(dossier: Dossier) -> tuple[Judgement, Stability | None, Reason | None]:
    """The verdict, what its variants say of it, and why there are none where they were asked for."""
    judgement = judged(dossier)
    if dossier.outcomes:
        weakened, found = assess(judgement, dossier.outcomes, lambda rows: judged(dossier, rows))
        return weakened, found, None
    return judgement, None, why_nothing(judgement) if dossier.options.stability else None


def parts_to_measure(dossier: Dossier) -> list[Span]:
    """The intervals to score again in other deliveries; none where it was not asked for or cannot be."""
    if not dossier.options.stability:
        return []
    chosen = to_measure(judged(dossier), seed=dossier.sha256)
    rows = [row for row in dossier.intervals if row.index in chosen]
    return [Span(index=row.index, start=row.start, end=row.end) for row in rows]


def _late(hold: Hold) -> bool:
    with read() as session:
        return stability.is_short_of_time(session, hold.claim.analysis_id)


def _defer(hold: Hold, dossier: Dossier, parts: Sequence[Span]) -> None:
    """Owe the variants and a second fusion; the working files stay until that one has judged."""
    hold.check()
    with transaction() as session:
        stability.owe_variants(session, hold.claim, parts, _speakers(dossier.detectors))
    failpoints.reach(failpoints.Point.FUSE_DEFERRED)


def _speakers(detectors: Sequence[DetectorIdentity]) -> dict[str, str]:
    """Marks by id of those who looked; who looked before and after an update can be compared with nobody."""
    looked = [one for one in detectors if one.modality is Modality.VIDEO]
    times = Counter(one.id for one in looked)
    return {one.id: one.mark for one in looked if times[one.id] == 1}


def _may_ask() -> bool:
    """Whether today's calls of the language model are not spent; counts this one."""
    with transaction() as session:
        return quotas.take_narration(session, settings().narrator.calls_per_day)


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
