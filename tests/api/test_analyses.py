from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from core import analyses, db, results
from core.domain import AnalysisStatus, Reason, Stage, Verdict
from core.errors import MediaError
from core.evidence import AudioFinding, FaceScore, RegionEffect, Signal, VideoFinding
from core.keys import Caller
from core.models import Analysis
from core.report import Report
from tests.api.conftest import client, make_key
from tests.core.factories import build_manifest, build_report, claim_step, create_analysis, extract

URL = "/v1/analyses"
FACE = FaceScore(frame=0, time=1.0, track=0, box=(200, 100, 120, 140), score=0.91)
VIDEO = VideoFinding(
    index=0,
    score=0.91,
    reason=None,
    track=0,
    regions=(RegionEffect.model_validate({"region": "mouth", "drop": 0.3, "spread": 0.1}),),
    faces=(FACE,),
    detectors={"test/detector": 0.91},
)
SIGNAL = {"signal": "monotone_voice", "value": 4.0, "unit": "Hz", "threshold": 8.0}
AUDIO = AudioFinding(
    index=0,
    score=None,
    reason=Reason.NO_DETECTOR_WEIGHTS,
    speech_seconds=1.5,
    level_dbfs=-20.0,
    signals=(Signal.model_validate(SIGNAL),),
    measures={"pitch_spread": 4.0},
)


def accepted(caller: Caller, **options: Any) -> UUID:
    with db.transaction() as session:
        return create_analysis(session, caller, **options).id


def extracted(caller: Caller, duration: float = 8.0) -> UUID:
    """An analysis after extraction, with one crop shard and one of sound."""
    with db.transaction() as session:
        analysis = create_analysis(session, caller)
        extract(session, analysis, build_manifest(duration))
        return analysis.id


def completed(caller: Caller, verdict: str = "DEEPFAKE", confidence: float = 88.5) -> UUID:
    """An analysis with findings on its first interval and a report."""
    identity = extracted(caller)
    with db.transaction() as session:
        results.record_findings(session, claim_step(session, identity, Stage.VIDEO), [VIDEO])
        results.record_findings(session, claim_step(session, identity, Stage.AUDIO), [AUDIO])
    with db.transaction() as session:
        claim = claim_step(session, identity, Stage.FUSE)
        written = build_report(session, identity)
        changed = written.model_copy(update={"verdict": Verdict(verdict), "confidence": confidence})
        results.complete(session, claim, changed)
    return identity


def backdate(identity: UUID, by: timedelta) -> None:
    with db.transaction() as session:
        session.execute(
            text("UPDATE analyses SET created_at = created_at - :by WHERE id = :id"),
            {"by": by, "id": identity},
        )


def test_the_envelope_of_work_in_progress(http: httpx2.Client, alice: Caller) -> None:
    identity = extracted(alice)
    response = http.get(f"{URL}/{identity}")
    body = response.json()
    assert response.status_code == 200
    assert body["id"] == str(identity)
    assert body["status"] == "processing"
    assert body["progress"]["fraction"] == 0.35
    assert [(stage["stage"], stage["done"], stage["total"]) for stage in body["progress"]["stages"]] == [
        ("extract", 1, 1),
        ("video", 0, 1),
        ("audio", 0, 1),
        ("fuse", 0, 1),
    ]
    assert body["media"]["facts"]["video"]["codec"] == "h264"
    assert body["media"]["filename"] == "clip.mp4"
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "Authorization"
    assert set(body) == {
        "id", "status", "progress", "media", "options", "metadata", "verdict", "confidence", "report",
        "error", "created_at", "started_at", "completed_at", "deadline", "links", "lane", "source_url",
        "retention", "webhook_url", "derived_from",
    }  # fmt: skip


def test_the_envelope_of_a_finished_analysis(http: httpx2.Client, alice: Caller) -> None:
    response = http.get(f"{URL}/{completed(alice)}")
    body = response.json()
    assert (body["status"], body["verdict"], body["confidence"]) == ("completed", "DEEPFAKE", 88.5)
    report = Report.model_validate(body["report"])
    assert (report.verdict, str(report.analysis_id)) == (Verdict.DEEPFAKE, body["id"])
    assert report.provenance.input_sha256 == body["media"]["sha256"]
    assert body["progress"]["fraction"] == 1.0
    assert body["completed_at"] is not None
    assert "retry-after" not in response.headers, "nothing more will come"


def test_the_envelope_of_a_failed_analysis(http: httpx2.Client, alice: Caller) -> None:
    identity = accepted(alice)
    with db.transaction() as session:
        analyses.fail(session, identity, MediaError("no stream", code="no_streams"))
    body = http.get(f"{URL}/{identity}").json()
    assert body["status"] == "failed"
    assert (body["error"]["code"], body["error"]["status"], body["report"]) == ("no_streams", 422, None)


def test_an_answer_that_has_not_changed_is_a_304(http: httpx2.Client, alice: Caller) -> None:
    identity = accepted(alice)
    first = http.get(f"{URL}/{identity}")
    tag = first.headers["etag"]
    again = http.get(f"{URL}/{identity}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert int(again.headers["retry-after"]) >= 1
    with db.transaction() as session:
        analyses.touch(session, identity)
    changed = http.get(f"{URL}/{identity}", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


@pytest.mark.parametrize("path", ["{id}", "{id}/intervals"])
def test_another_owners_analysis_does_not_exist(
    address: tuple[str, int], alice: Caller, http: httpx2.Client, path: str
) -> None:
    identity = accepted(alice)
    with client(address, make_key("mallory")) as mallory:
        hers = mallory.get(f"{URL}/" + path.format(id=identity))
        nobodys = mallory.get(f"{URL}/" + path.format(id=uuid4()))
    assert hers.status_code == nobodys.status_code == 404
    assert {hers.json()["code"], nobodys.json()["code"]} == {"not_found"}
    assert hers.json()["detail"] == nobodys.json()["detail"], "the answers must not tell them apart"
    assert http.get(f"{URL}/" + path.format(id=identity)).status_code == 200


def test_two_keys_of_one_owner_see_the_same(address: tuple[str, int], alice: Caller) -> None:
    identity = accepted(alice)
    with client(address, make_key("alice")) as other:
        assert other.get(f"{URL}/{identity}").status_code == 200


@pytest.mark.parametrize("identity", ["1", "x" * 36, "%00", "..%2f..", "0" * 31 + "g"])
def test_an_id_that_is_none_is_refused(http: httpx2.Client, identity: str) -> None:
    assert http.get(f"{URL}/{identity}").status_code in {400, 404, 422}


def test_intervals_carry_the_evidence_and_their_reasons(http: httpx2.Client, alice: Caller) -> None:
    page = http.get(f"{URL}/{completed(alice)}/intervals").json()
    assert page["next_cursor"] is None
    first, second = page["items"][:2]
    assert (first["index"], first["start"], first["end"]) == (0, 0.0, 2.0)
    assert (first["video_score"], first["video_reason"]) == (0.91, None)
    assert (first["audio_score"], first["audio_reason"]) == (None, "no_detector_weights")
    assert first["video"]["regions"] == [{"region": "mouth", "drop": 0.3, "spread": 0.1}]
    assert first["video"]["faces"][0]["score"] == 0.91
    assert first["audio"]["signals"] == [{**SIGNAL, "note": ""}]
    (frame,) = first["frames"]
    assert frame["faces"][0]["landmarks"][0] == [230, 150]
    assert not {"shard", "row"} & set(frame["faces"][0]), "where a crop lies is our own business"
    assert (second["video"], second["video_reason"]) == (None, "not_analyzed")


def test_intervals_come_in_pages_in_order_and_once(http: httpx2.Client, alice: Caller) -> None:
    identity = extracted(alice, duration=46.0)
    seen: list[int] = []
    cursor: str | None = None
    while True:
        params = {"limit": 5} | ({"cursor": cursor} if cursor else {})
        page = http.get(f"{URL}/{identity}/intervals", params=params).json()
        seen += [item["index"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == list(range(23))


def test_there_are_no_intervals_before_extraction(http: httpx2.Client, alice: Caller) -> None:
    page = http.get(f"{URL}/{accepted(alice)}/intervals").json()
    assert page == {"items": [], "next_cursor": None}


def test_the_list_is_the_owners_own_newest_first_in_pages(
    address: tuple[str, int], http: httpx2.Client, alice: Caller
) -> None:
    mine = [str(accepted(alice)) for _ in range(7)]
    with client(address, make_key("bob")) as bob:
        assert bob.get(URL).json() == {"items": [], "next_cursor": None}
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = http.get(URL, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == mine[::-1]
    item = page["items"][0]
    assert item["links"]["self"] == f"{URL}/{item['id']}"
    assert "report" not in item


def test_the_list_filters(http: httpx2.Client, alice: Caller) -> None:
    old, fake, real = accepted(alice), completed(alice), completed(alice, "REAL", 70.0)
    backdate(old, timedelta(days=2))
    with db.read() as session:
        sha256 = analyses.load(session, real).file.sha256
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()

    def found(**params: str) -> set[str]:
        return {item["id"] for item in http.get(URL, params=params).json()["items"]}

    assert found() == {str(old), str(fake), str(real)}
    assert found(status="queued") == {str(old)}
    assert found(status="completed", verdict="DEEPFAKE") == {str(fake)}
    assert found(created_after=yesterday) == {str(fake), str(real)}
    assert found(created_before=yesterday) == {str(old)}
    assert found(sha256=sha256) == {str(real)}
    assert found(verdict="INCONCLUSIVE") == set()


@pytest.mark.parametrize(
    "cursor", ["x", "!!!!", "A" * 60, "\u00e9", "%00", "eyJhIjoxfQ", "' OR 1=1 --"]
)  # fmt: skip
@pytest.mark.parametrize("path", [URL, "{analysis}/intervals"])
def test_a_damaged_cursor_is_a_400(http: httpx2.Client, alice: Caller, cursor: str, path: str) -> None:
    url = path.format(analysis=f"{URL}/{accepted(alice)}")
    response = http.get(url, params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


def test_a_cursor_is_bound_to_its_owner_its_filters_and_its_list(
    address: tuple[str, int], http: httpx2.Client, alice: Caller
) -> None:
    for _ in range(2):
        accepted(alice)
    cursor = http.get(URL, params={"limit": 1}).json()["next_cursor"]
    assert http.get(URL, params={"limit": 1, "cursor": cursor}).status_code == 200
    other_filter = http.get(URL, params={"status": "queued", "cursor": cursor})
    other_list = http.get(f"{URL}/{extracted(alice)}/intervals", params={"cursor": cursor})
    with client(address, make_key("mallory")) as mallory:
        other_owner = mallory.get(URL, params={"cursor": cursor})
    for response in (other_filter, other_list, other_owner):
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"}, {"limit": "201"}, {"limit": "many"}, {"status": "lost"}, {"verdict": "fake"},
        {"sha256": "A" * 64}, {"sha256": "\0"}, {"created_after": "yesterday"},
        {"created_after": "2026-01-01T00:00:00"}, {"cursor": "x" * 513}, {"statsu": "queued"},
    ],
)  # fmt: skip
def test_a_wrong_filter_is_a_422(http: httpx2.Client, params: dict[str, str]) -> None:
    response = http.get(URL, params=params)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")


@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59-23:59",
     "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00-16:00", "1970-01-01T00:00:00Z", "1e10", "-1", "9e99"],
)  # fmt: skip
def test_a_far_moment_is_no_fault_of_the_server(http: httpx2.Client, alice: Caller, moment: str) -> None:
    accepted(alice)
    for name in ("created_after", "created_before"):
        assert http.get(URL, params={name: moment}).status_code in {200, 422}


@pytest.mark.parametrize("path", [URL, "{analysis}/intervals"])
def test_a_parameter_that_comes_twice_is_refused(http: httpx2.Client, alice: Caller, path: str) -> None:
    """Taking one of them silently would answer another question than the one that was asked."""
    url = path.format(analysis=f"{URL}/{accepted(alice)}")
    response = http.get(url, params=[("limit", "1"), ("limit", "2")])
    assert (response.status_code, response.json()["code"]) == (422, "duplicate_parameter")
    assert response.json()["field"] == "limit"


def test_stats_count_the_owners_own(address: tuple[str, int], http: httpx2.Client, alice: Caller) -> None:
    accepted(alice)
    completed(alice, "REAL", 100.0)
    stats = http.get("/v1/stats").json()
    assert stats["analyses"] == {
        "total": 2, "queued": 1, "processing": 0, "completed": 1, "failed": 0, "canceled": 0,
    }  # fmt: skip
    assert stats["verdicts"] == {"DEEPFAKE": 0, "REAL": 1, "INCONCLUSIVE": 0}
    assert stats["confidence"]["mean"] == 100.0
    assert stats["confidence"]["histogram"][-1] == {"from": 90.0, "to": 100.0, "count": 1}
    assert stats["modalities"]["video"] == {"scored_intervals": 1, "mean_score": 0.91}
    assert stats["modalities"]["audio"] == {"scored_intervals": 0, "mean_score": None}
    assert stats["media"] == {"files": 2, "bytes": 2000}
    with client(address, make_key("bob")) as bob:
        empty = bob.get("/v1/stats").json()
    assert empty["analyses"]["total"] == 0
    assert empty["confidence"]["mean"] is None


def test_a_canceled_analysis_is_shown_as_ended(http: httpx2.Client, alice: Caller) -> None:
    identity = accepted(alice)
    with db.transaction() as session:
        assert analyses.transition(session, identity, AnalysisStatus.CANCELED)
        assert isinstance(analyses.load(session, identity), Analysis)
    body = http.get(f"{URL}/{identity}").json()
    assert (body["status"], body["progress"]["fraction"]) == ("canceled", 1.0)
