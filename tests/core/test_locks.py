"""Every change takes the analysis row before its steps, so that no two of them can wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import analyses, db, results, stability, steps
from core.config import settings
from core.domain import AnalysisStatus, Stage
from core.errors import DeepDefendError
from core.evidence import VideoFinding
from core.models import Analysis, Step
from tests.core.factories import build_manifest, build_report, claim_step, create_analysis, extract
from tests.core.test_stability import judged_once

Change = Callable[[Session], object]


@contextmanager
def in_a_thread(change: Change) -> Iterator[list[BaseException]]:
    """Run a change in its own transaction, and let the block begin when it waits for a lock."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            with db.transaction() as session:
                change(session)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and not someone_waits():
        thread.join(0.02)
    yield raised
    thread.join(30)
    assert not thread.is_alive()


def someone_waits() -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with db.read() as session:
        return bool(session.scalar(text(query)))


def is_locked(analysis_id: UUID) -> bool:
    """Whether a transaction holds the row for a change."""
    query = select(Analysis.id).where(Analysis.id == analysis_id)
    with db.transaction() as session:
        return session.scalar(query.with_for_update(key_share=True, skip_locked=True)) is None


def extraction(session: Session) -> tuple[UUID, Change]:
    row = create_analysis(session)
    claim = claim_step(session, row.id, Stage.EXTRACT)
    return row.id, lambda other: results.record_extraction(
        other, claim, build_manifest(), scratch="work-1/", thumbnails={}
    )


def branch(session: Session) -> tuple[UUID, Change]:
    row = create_analysis(session)
    extract(session, row, build_manifest())
    claim = claim_step(session, row.id, Stage.VIDEO)
    finding = VideoFinding(index=0, score=0.5, reason=None)
    return row.id, lambda other: results.record_findings(other, claim, [finding])


def fusion(session: Session) -> tuple[UUID, Change]:
    row = create_analysis(session)
    extract(session, row, build_manifest(faces=False, sound=False))
    claim = claim_step(session, row.id, Stage.FUSE)
    report = build_report(session, row.id)
    return row.id, lambda other: results.complete(other, claim, report)


def claiming(session: Session) -> tuple[UUID, Change]:
    row = create_analysis(session)
    return row.id, lambda other: claim_step(other, row.id, Stage.EXTRACT)


def giving_way(session: Session) -> tuple[UUID, Change]:
    row = judged_once(session)
    return row.id, lambda other: stability.give_way(other, row.id)


@pytest.mark.parametrize("prepare", [extraction, branch, fusion, claiming, giving_way])
def test_the_analysis_is_taken_before_its_steps(
    clean_database: str, prepare: Callable[[Session], tuple[UUID, Change]]
) -> None:
    assert clean_database
    with db.transaction() as session:
        identity, change = prepare(session)
    with db.transaction() as holder:
        holder.scalars(select(Step.id).with_for_update()).all()
        with in_a_thread(change) as raised:
            held = is_locked(identity)
            holder.rollback()
    assert raised == []
    assert held


def test_a_claim_and_the_end_of_its_analysis_do_not_wait_for_each_other(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        identity = create_analysis(session).id
    with db.transaction() as session:
        claim = steps.claim(
            session,
            analysis_id=identity,
            stage=Stage.EXTRACT,
            shard=0,
            owner="a",
            config=settings().steps,
        )
        assert claim is not None
        with in_a_thread(lambda other: analyses.fail(other, identity, DeepDefendError("late"))) as raised:
            analyses.begin(session, identity)
            session.commit()
    assert raised == []
    with db.read() as session:
        assert analyses.load(session, identity).status == AnalysisStatus.FAILED
        assert [step.status for step in steps.of_analysis(session, identity)] == ["skipped"]
