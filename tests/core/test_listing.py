"""Pages, cursors that cannot be forged, progress, statistics."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import analyses, cursors, listing, results, steps
from core.domain import AnalysisStatus, Stage, StepStatus, Verdict
from core.errors import DeepDefendError, InvalidCursor
from core.evidence import AudioFinding, VideoFinding
from core.keys import Caller
from core.models import Analysis
from tests.core.factories import (
    build_manifest,
    build_report,
    claim_step,
    create_analysis,
    create_caller,
    extract,
)

NONE = listing.Filters()


@pytest.fixture
def caller(session: Session) -> Caller:
    return create_caller(session)


def walk(session: Session, owner: str, filters: listing.Filters = NONE, limit: int = 2) -> list[Analysis]:
    found: list[Analysis] = []
    cursor = None
    while True:
        page = listing.page(session, owner, filters=filters, cursor=cursor, limit=limit)
        found += page.items
        if page.next_cursor is None:
            return found
        assert len(page.items) == limit
        cursor = page.next_cursor


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 50])
def test_pages_walk_everything_once_the_newest_first(session: Session, caller: Caller, limit: int) -> None:
    made = [create_analysis(session, caller).id for _ in range(7)]  # all of one moment: ids break the tie
    create_analysis(session)  # another owner's
    assert [row.id for row in walk(session, caller.owner, limit=limit)] == sorted(made, reverse=True)


def test_filters_narrow_the_list(session: Session, caller: Caller) -> None:
    failed, canceled, queued = (create_analysis(session, caller) for _ in range(3))
    analyses.fail(session, failed.id, DeepDefendError("for the test"))
    analyses.transition(session, canceled.id, AnalysisStatus.CANCELED)
    session.execute(
        text("UPDATE analyses SET verdict = 'REAL', created_at = now() - interval '2 days' WHERE id = :id"),
        {"id": queued.id},
    )
    moment = failed.created_at - timedelta(days=1)
    cases = [
        (listing.Filters(status=AnalysisStatus.FAILED), [failed]),
        (listing.Filters(verdict=Verdict.REAL), [queued]),
        (listing.Filters(verdict=Verdict.DEEPFAKE), []),
        (listing.Filters(created_after=moment), [canceled, failed]),
        (listing.Filters(created_before=moment), [queued]),
        (listing.Filters(sha256=canceled.file.sha256), [canceled]),
        (listing.Filters(sha256="00" * 32), []),
    ]
    for filters, expected in cases:
        assert {row.id for row in walk(session, caller.owner, filters)} == {row.id for row in expected}


def test_a_cursor_belongs_to_its_owner_and_filters(session: Session, caller: Caller) -> None:
    for _ in range(3):
        create_analysis(session, caller)
    cursor = listing.page(session, caller.owner, filters=NONE, limit=1).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidCursor):
        listing.page(session, "someone", filters=NONE, cursor=cursor)
    other = listing.Filters(status=AnalysisStatus.QUEUED)
    with pytest.raises(InvalidCursor):
        listing.page(session, caller.owner, filters=other, cursor=cursor)


def test_a_changed_cursor_is_refused(session: Session, caller: Caller) -> None:
    for _ in range(2):
        create_analysis(session, caller)
    cursor = listing.page(session, caller.owner, filters=NONE, limit=1).next_cursor
    assert cursor is not None
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[-3] ^= 1
    other = "B" if cursor[0] == "A" else "A"
    for damaged in (cursor[:-4], other + cursor[1:], base64.urlsafe_b64encode(raw).decode(), "", "é", "%"):
        with pytest.raises(InvalidCursor):
            listing.page(session, caller.owner, filters=NONE, cursor=damaged)


@given(st.text(max_size=60))
def test_no_text_is_a_cursor(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        cursors.decode(cursor, "analyses|owner|{}")


def test_intervals_come_in_the_order_of_time(session: Session, caller: Caller) -> None:
    analysis, other = create_analysis(session, caller), create_analysis(session, caller)
    extract(session, analysis, build_manifest(11.0))
    extract(session, other, build_manifest())
    first = listing.interval_page(session, analysis, limit=4)
    second = listing.interval_page(session, analysis, cursor=first.next_cursor, limit=4)
    assert [row.index for row in [*first.items, *second.items]] == [0, 1, 2, 3, 4, 5]
    assert second.next_cursor is None
    with pytest.raises(InvalidCursor):
        listing.interval_page(session, other, cursor=first.next_cursor)


def test_spans_are_the_timeline(session: Session, caller: Caller) -> None:
    analysis = create_analysis(session, caller)
    extract(session, analysis, build_manifest())
    found = listing.spans(session, analysis.id, 1, 2)
    assert [(span.index, span.start, span.end) for span in found] == [(1, 2, 4), (2, 4, 6)]


def progress(session: Session, analysis: Analysis) -> list[tuple[str, str, int, int]]:
    session.expire_all()
    return [
        (stage.stage.value, stage.status.value, stage.done, stage.total)
        for stage in listing.stages(session, analysis.id)
    ]


def test_progress_follows_the_steps(session: Session, caller: Caller) -> None:
    analysis = create_analysis(session, caller)
    assert progress(session, analysis) == [("extract", "pending", 0, 1)]
    extract(session, analysis, build_manifest(shards=2))
    first = claim_step(session, analysis.id, Stage.VIDEO, 0)
    assert progress(session, analysis) == [
        ("extract", "done", 1, 1),
        ("video", "running", 0, 2),
        ("audio", "pending", 0, 1),
        ("fuse", "pending", 0, 1),
    ]
    steps.finish(session, first)
    assert progress(session, analysis)[1] == ("video", "running", 1, 2)
    second = claim_step(session, analysis.id, Stage.VIDEO, 1)
    steps.finish(session, second, status=StepStatus.FAILED, reason="worker_lost")
    sound = claim_step(session, analysis.id, Stage.AUDIO)
    steps.finish(session, sound, status=StepStatus.SKIPPED, reason="no_detector_weights")
    assert progress(session, analysis)[1:3] == [("video", "failed", 2, 2), ("audio", "skipped", 1, 1)]
    assert listing.stages(session, analysis.id)[2].reasons == ("no_detector_weights",)


def test_statistics_of_nothing_are_null_not_zero(session: Session, caller: Caller) -> None:
    stats = listing.stats(session, caller.owner)
    assert stats["analyses"]["total"] == 0
    assert stats["confidence"]["mean"] is None
    assert stats["modalities"]["video"] == {"scored_intervals": 0, "mean_score": None}
    assert stats["media"] == {"files": 0, "bytes": 0}


def test_statistics_count_what_is_there_and_only_ones_own(session: Session, caller: Caller) -> None:
    analysis = create_analysis(session, caller)
    extract(session, analysis, build_manifest())
    video = claim_step(session, analysis.id, Stage.VIDEO)
    scored = [VideoFinding(index=n, score=s, reason=None) for n, s in ((0, 0.2), (1, 0.6))]
    results.record_findings(session, video, scored)
    audio = claim_step(session, analysis.id, Stage.AUDIO)
    results.record_findings(session, audio, [AudioFinding(index=0, score=0.1, reason=None)])
    fusion = claim_step(session, analysis.id, Stage.FUSE)
    written = build_report(session, analysis.id)
    changed = written.model_copy(update={"verdict": Verdict.REAL, "confidence": 100.0})
    results.complete(session, fusion, changed)
    create_analysis(session)
    stats = listing.stats(session, caller.owner)
    assert stats["analyses"] == {
        "total": 1,
        "queued": 0,
        "processing": 0,
        "completed": 1,
        "failed": 0,
        "canceled": 0,
    }
    assert stats["verdicts"] == {"DEEPFAKE": 0, "REAL": 1, "INCONCLUSIVE": 0}
    assert stats["confidence"]["mean"] == 100.0
    assert [part["count"] for part in stats["confidence"]["histogram"]] == [0] * 9 + [1]
    assert stats["modalities"]["video"] == {"scored_intervals": 2, "mean_score": pytest.approx(0.4)}
    assert stats["modalities"]["audio"]["scored_intervals"] == 1
    assert stats["modalities"]["intervals"] == 4
    assert stats["media"] == {"files": 1, "bytes": 1000}
