"""Every ending owes its events, in its own transaction, to those who asked and nobody else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import envelopes
from core import analyses, db, results, steps
from core.domain import AnalysisStatus, Stage
from core.errors import DeepDefendError
from core.evidence import VideoFinding
from core.models import Analysis, WebhookEndpoint
from core.webhooks import endpoints, events
from core.webhooks.domain import DeliveryStatus, Disabled, EventType
from tests.core.factories import (
    build_manifest,
    build_report,
    claim_step,
    create_analysis,
    create_caller,
    extract,
)
from tests.core.test_locks import in_a_thread
from tests.core.webhooks.factories import ALL, URL, create_endpoint, deliveries_of, ended

DONE, FAILED, CANCELED = AnalysisStatus.COMPLETED, AnalysisStatus.FAILED, AnalysisStatus.CANCELED


def body_of(session: Session, **having: Any) -> dict[str, Any]:
    (delivery,) = deliveries_of(session, **having)
    found: dict[str, Any] = json.loads(delivery.body)
    return found


def kinds(session: Session) -> list[str]:
    return [row.event_type for row in deliveries_of(session)]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (DONE, {"verdict": "REAL", "confidence": 77.0, "error": None}),
        (FAILED, {"verdict": None, "confidence": None, "error": "undecodable_media"}),
        (CANCELED, {"verdict": None, "confidence": None, "error": None}),
    ],
)
def test_every_ending_is_owed_with_its_facts(
    session: Session, status: AnalysisStatus, expected: dict[str, Any]
) -> None:
    endpoint, _ = create_endpoint(session)
    row = ended(session, status=status, metadata_={"ticket": "ä-7"})
    body = body_of(session, endpoint_id=endpoint.id)
    here = envelopes.location(row)
    assert body["type"] == f"analysis.{status.value}"
    assert body["data"] == {
        "analysis_id": str(row.id),
        "status": status.value,
        **expected,
        "links": {"self": here, "intervals": f"{here}/intervals"},
        "metadata": {"ticket": "ä-7"},
    }
    said = datetime.fromisoformat(body["timestamp"])
    session.refresh(row)
    assert said.tzinfo is not None
    assert row.completed_at is not None
    assert abs((said - row.completed_at).total_seconds()) < 60
    (delivery,) = deliveries_of(session)
    assert (delivery.url, delivery.status, delivery.attempt) == (URL, "owed", 0)
    assert "." not in delivery.event_id


def test_an_ending_by_the_real_fusion_is_owed_once(session: Session) -> None:
    create_endpoint(session)
    analysis = create_analysis(session, create_caller(session, "alice"))
    extract(session, analysis, build_manifest(faces=False, sound=False))
    claim = claim_step(session, analysis.id, Stage.FUSE)
    report = build_report(session, analysis.id)
    results.complete(session, claim, report)
    assert analyses.fail(session, analysis.id, DeepDefendError("late")) is False
    assert kinds(session) == ["analysis.completed"]
    assert body_of(session)["data"]["verdict"] == report.verdict.value


def test_a_deadline_that_passes_is_told_with_its_code(session: Session) -> None:
    create_endpoint(session)
    analysis = create_analysis(session, create_caller(session, "alice"))
    analyses.fail(session, analysis.id, DeepDefendError("late", code="deadline_exceeded"))
    assert body_of(session)["data"]["error"] == "deadline_exceeded"


def test_what_is_rolled_back_is_not_told(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        create_endpoint(session)
    with db.transaction() as session:
        ended(session)
        assert len(deliveries_of(session)) == 1
        session.rollback()
    with db.read() as session:
        assert deliveries_of(session) == []


def test_everybody_who_asked_gets_the_same_event_and_nobody_else(session: Session) -> None:
    one, _ = create_endpoint(session)
    two, _ = create_endpoint(session, url="https://example.org/other")
    create_endpoint(session, url="https://example.org/done", events=[EventType.COMPLETED])
    create_endpoint(session, owner="bob")
    quiet, _ = create_endpoint(session, url="https://example.org/quiet")
    endpoints.disable(session, quiet, Disabled.BY_OWNER)
    create_endpoint(session, url=None)  # this analysis brings no address
    ended(session, status=FAILED)
    told = deliveries_of(session)
    assert {row.endpoint_id for row in told} == {one.id, two.id}
    assert len({row.event_id for row in told}) == 1
    assert len({row.body for row in told}) == 1


def test_an_analysis_that_brings_its_address_is_told_there_too(session: Session) -> None:
    own, _ = create_endpoint(session, url=None)
    other, _ = create_endpoint(session)
    ended(session, webhook_url="https://example.net/mine")
    told = {row.endpoint_id: row.url for row in deliveries_of(session)}
    assert told == {own.id: "https://example.net/mine", other.id: URL}


def test_nobody_listens(session: Session) -> None:
    ended(session)
    assert deliveries_of(session) == []


@pytest.mark.parametrize("metadata", [{"long": "x" * 15_000}, {"wide": "ü" * 7_000}, {"n": [1e300] * 2000}])
def test_a_body_stays_below_20_kb(session: Session, metadata: dict[str, Any]) -> None:
    create_endpoint(session)
    ended(session, metadata_=metadata)
    (delivery,) = deliveries_of(session)
    assert len(delivery.body.encode()) < 20_000
    fits = "n" not in metadata
    assert (json.loads(delivery.body)["data"]["metadata"] == metadata) == fits
    assert (json.loads(delivery.body)["data"]["metadata"] is None) != fits


def test_an_endpoint_that_is_being_deleted_does_not_fail_the_end(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session)
        analysis = create_analysis(session, create_caller(session, "alice"))
    with db.transaction() as deleting:
        endpoints.remove(deleting, "alice", endpoint.id)
        with in_a_thread(lambda other: analyses.fail(other, analysis.id, DeepDefendError("x"))) as raised:
            deleting.commit()
    assert raised == []
    with db.read() as session:
        assert analyses.load(session, analysis.id).status == FAILED
        assert deliveries_of(session) == []


def test_an_endpoint_that_goes_with_news_waiting_and_an_end_do_not_wait_for_each_other(
    clean_database: str,
) -> None:
    assert clean_database
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session, events=ALL)
        analysis = started(session)
        assert [row.status for row in deliveries_of(session)] == ["owed"]
    with db.transaction() as deleting:
        deleting.execute(select(WebhookEndpoint.id).with_for_update())
        with in_a_thread(lambda other: analyses.fail(other, analysis.id, DeepDefendError("x"))) as raised:
            endpoints.remove(deleting, "alice", endpoint.id)  # its deliveries go by cascade
            deleting.commit()
    assert raised == []
    with db.read() as session:
        assert analyses.load(session, analysis.id).status == FAILED
        assert deliveries_of(session) == []


def started(session: Session, shards: int = 2) -> Analysis:
    """An analysis whose extraction is done."""
    analysis = create_analysis(session, create_caller(session, "alice"))
    extract(session, analysis, build_manifest(shards=shards))
    return analysis


def look(session: Session, analysis: Analysis, shard: int) -> None:
    claim = claim_step(session, analysis.id, Stage.VIDEO, shard)
    results.record_findings(session, claim, [VideoFinding(index=shard, score=0.5, reason=None)])


def test_progress_is_told_by_stages_not_by_shards(session: Session) -> None:
    create_endpoint(session, events=ALL)
    analysis = started(session)
    assert body_of(session)["data"] | {"links": 0, "metadata": 0} == {
        "analysis_id": str(analysis.id),
        "status": "processing",
        "verdict": None,
        "confidence": None,
        "error": None,
        "stage": "extract",
        "links": 0,
        "metadata": 0,
    }
    look(session, analysis, 0)
    assert len(deliveries_of(session)) == 1  # one more shard is open
    look(session, analysis, 1)
    old, new = deliveries_of(session)
    assert (old.status, new.status) == ("dropped", "owed")
    assert json.loads(new.body)["data"]["stage"] == "video"
    assert old.event_id != new.event_id


def test_progress_is_for_those_who_ask(session: Session) -> None:
    create_endpoint(session)
    started(session)
    assert deliveries_of(session) == []


def test_progress_that_is_on_its_way_is_left_alone(session: Session) -> None:
    create_endpoint(session, events=ALL)
    analysis = started(session, shards=1)
    (first,) = deliveries_of(session)
    first.status, first.lease_owner = DeliveryStatus.SENDING.value, "worker"
    session.flush()
    look(session, analysis, 0)
    assert [row.status for row in deliveries_of(session)] == ["sending", "owed"]


def test_the_end_drops_progress_that_was_not_told(session: Session) -> None:
    create_endpoint(session, events=ALL)
    analysis = started(session)
    analyses.cancel(session, "alice", analysis.id)
    assert [(row.event_type, row.status) for row in deliveries_of(session)] == [
        ("analysis.progress", "dropped"),
        ("analysis.canceled", "owed"),
    ]
    assert deliveries_of(session)[0].closed_at is not None


def test_owing_wakes_the_dispatcher(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        create_endpoint(session)
        analysis = create_analysis(session, create_caller(session, "alice"))
    raw = db.engine().raw_connection()
    try:
        listening: Any = raw.driver_connection
        listening.autocommit = True
        with listening.cursor() as cursor:
            cursor.execute(f"LISTEN {steps.CHANNEL}")
            listening.poll()
            listening.notifies.clear()
            with db.transaction() as session:
                analyses.cancel(session, "alice", analysis.id)
            cursor.execute("SELECT 1")
        listening.poll()
        assert listening.notifies
    finally:
        raw.detach()
        listening.close()


def test_events_carry_utc() -> None:
    text = events.written("x", datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC), {})
    assert json.loads(text) == {"type": "x", "timestamp": "2026-01-02T03:04:05.678Z", "data": {}}
