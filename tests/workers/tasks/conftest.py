"""The tasks' own functions on real Postgres and S3, without Celery between."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from core import analyses, db, steps
from core.domain import Options, Stage
from core.storage import storage
from tests.core.factories import claim_step, create_caller
from workers.heart import Hold

SAMPLES = Path(__file__).parents[3] / "samples"

Submit = Callable[..., UUID]


@pytest.fixture
def submit(clean_database: str, bucket: str) -> Submit:
    """Accept an analysis of a local file."""
    assert clean_database
    assert bucket

    def accept(path: Path, **options: float) -> UUID:
        key = f"media/{secrets.token_hex(8)}"
        storage().upload_file(path, key)
        upload = analyses.StoredUpload(
            sha256=secrets.token_hex(32), size_bytes=path.stat().st_size, object_key=key
        )
        with db.transaction() as session:
            caller = create_caller(session)
            return analyses.submit(
                session, caller=caller, source=upload, options=Options.model_validate(options)
            ).analysis.id

    return accept


def hold(analysis_id: UUID, stage: Stage, shard: int = 0) -> Hold:
    """A claimed step, as `run_step` hands it to the work."""
    with db.transaction() as session:
        return Hold(claim_step(session, analysis_id, stage, shard))


def stages_of(analysis_id: UUID) -> list[tuple[str, int, str, str | None]]:
    """Every step: stage, shard, status, reason."""
    with db.read() as session:
        return [
            (step.stage, step.shard, step.status, step.reason)
            for step in steps.of_analysis(session, analysis_id)
        ]
