"""Queue `extraction`: the file becomes a timeline, faces, crops and sound."""

from __future__ import annotations

from core import analyses, failpoints, results
from core.config import settings
from core.db import read, transaction
from core.domain import Options, Stage
from core.queue import Task
from core.storage import storage
from workers.app import app
from workers.base import run_step
from workers.heart import Hold
from workers.media.extract import extract
from workers.tasks import artifacts
from workers.tasks.fetch import fetch_media
from workers.workspace import private_folder


@app.task(name=Task.EXTRACT.value)  # type: ignore[untyped-decorator]  # Celery ships no types
def extract_step(analysis_id: str, shard: int) -> None:
    """Extract one analysis."""
    run_step(Stage.EXTRACT, analysis_id, shard, extract_media)


def extract_media(hold: Hold) -> None:
    """Decode in the sandbox, upload what was found, and owe the branches in the closing transaction."""
    claim = hold.claim
    with read() as session:
        analysis = analyses.load(session, claim.analysis_id)
        key = analysis.media.object_key if analysis.media else None
        url, options = analysis.source_url or "", Options.model_validate(analysis.options)
    with private_folder() as folder:
        source, work = folder / "source", folder / "work"
        work.mkdir(mode=0o700)
        if key is None:
            fetch_media(hold, url, source)
        else:
            storage().download_file(key, source, checkpoint=hold.check)
        manifest = extract(
            source,
            work,
            options=options,
            limits=settings().limits,
            require_sandbox=settings().require_sandbox,
            checkpoint=hold.check,
        )
        hold.check()
        thumbnails = artifacts.publish(storage(), claim, work, manifest, checkpoint=hold.check)
        hold.check()
        whole = artifacts.publish_whole(storage(), claim, work, manifest)
        failpoints.reach(failpoints.Point.EXTRACT_STORED)
    with transaction() as session:
        results.record_extraction(
            session,
            claim,
            manifest,
            scratch=artifacts.scratch(claim),
            thumbnails=thumbnails,
            whole=whole,
        )
    failpoints.reach(failpoints.Point.EXTRACT_CLOSED)
