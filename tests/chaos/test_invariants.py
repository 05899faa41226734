"""An honest database breaks no invariant; each kind of wrong write is noticed by the one that is for it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from chaos.clips import Clips
from chaos.ledger import Ledger, now
from chaos.plan import Job, Kind, plan
from chaos.receiver import Call, Receiver
from core import analyses, db, results, stability
from core.domain import AnalysisStatus, Options, Stage
from core.models import Analysis
from tests.chaos.probe import Probe, broken, witnessed
from tests.core.factories import build_manifest, build_report, claim_step, create_caller, extract
from tests.core.test_stability import judged_once

#: Of a kind that no arithmetic foretells, so that the count is what the manifest below has.
JOB = replace(plan(1, 1)[0], kind=Kind.TRUNCATED, keyed=True)
GOOD = replace(JOB, kind=Kind.FACE_AND_VOICE)
INTERVALS = 4


def submit(session: Session) -> Analysis:
    """An accepted analysis that the job asked for."""
    digest = secrets.token_hex(32)
    upload = analyses.StoredUpload(sha256=digest, size_bytes=1000, object_key=f"media/{digest}")
    return analyses.submit(
        session,
        caller=create_caller(session),
        source=upload,
        options=Options(),
        metadata={"job": JOB.number},
    ).analysis


class Run:
    """One analysis of one job, done as the product does it, and what its sender and receiver saw."""

    def __init__(self, probe: Probe, folder: Path) -> None:
        self.probe, self.clips = probe, Clips(folder)
        self.clips.measured = {(JOB.kind, JOB.interval_seconds): INTERVALS}
        self.ledger, self.receiver = Ledger(), Receiver()
        self.identity = self._complete()
        self.record = self.ledger.open(JOB)
        self.record.analysis_id, self.record.tries = str(self.identity), 1
        self.tell("analysis.completed")

    def _complete(self) -> UUID:
        with db.transaction() as session:
            analysis = submit(session)
            extract(session, analysis, build_manifest(video=False))
        with db.transaction() as session:
            claim = claim_step(session, analysis.id, Stage.AUDIO)
            results.record_findings(session, claim, [])
        with db.transaction() as session:
            claim = claim_step(session, analysis.id, Stage.FUSE)
            results.complete(session, claim, build_report(session, analysis.id))
        return analysis.id

    def tell(self, event: str, *, event_id: str = "evt_1", verified: bool = True) -> None:
        call = Call(
            at=now(),
            event_id=event_id,
            event_type=event,
            analysis_id=str(self.identity),
            verified=verified,
            answered=204,
        )
        self.receiver._calls.append(call)

    def broken(self, job: Job = JOB) -> dict[str, tuple[str, ...]]:
        return broken(self.probe, ledger=self.ledger, receiver=self.receiver, clips=self.clips, jobs=[job])

    def step(self, values: str) -> None:
        """Change the one branch."""
        self.sql(f"UPDATE steps SET {values} WHERE analysis_id = :id AND stage = 'audio'")  # noqa: S608 - ours

    def sql(self, statement: str) -> None:
        """A write that the product would never make."""
        with db.transaction() as session:
            session.execute(text(statement), {"id": self.identity})


@pytest.fixture
def stage(clean_database: str, tmp_path: Path) -> Iterator[Run]:
    with witnessed(clean_database) as probe:
        made = Run(probe, tmp_path)
        yield made
        made.receiver._server.server_close()


def test_what_the_product_does_breaks_nothing(stage: Run) -> None:
    assert stage.broken() == {}


WRONG = [
    ("accepted_ends", "UPDATE analyses SET status = 'failed' WHERE id = :id"),
    ("accepted_ends", "UPDATE analyses SET status = 'queued', completed_at = NULL WHERE id = :id"),
    ("one_result_set", "UPDATE analyses SET report = NULL WHERE id = :id"),
    (
        "one_result_set",
        "UPDATE steps SET status = 'pending', closed_at = NULL WHERE analysis_id = :id AND stage = 'audio'",
    ),
    ("interval_counts", "DELETE FROM intervals WHERE analysis_id = :id AND index = 2"),
    (
        "no_fenced_write",
        "UPDATE intervals SET audio_score = 0.5, audio_reason = NULL WHERE analysis_id = :id AND index = 1",
    ),
    ("no_fenced_write", "DELETE FROM intervals WHERE analysis_id = :id"),
]


@pytest.mark.parametrize(("promise", "statement"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_write_is_noticed(stage: Run, promise: str, statement: str) -> None:
    stage.sql(statement)
    assert promise in stage.broken()


def test_a_fusion_that_did_not_wait_for_a_variant_is_noticed(stage: Run) -> None:
    stage.sql(
        "INSERT INTO steps (id, analysis_id, stage, status)"
        " VALUES (gen_random_uuid(), :id, 'stability', 'pending')"
    )
    stage.sql("UPDATE steps SET status = 'done', closed_at = now() WHERE stage = 'stability'")
    assert "before all of it was measured" in stage.broken()["one_result_set"][0]


def test_a_run_too_many_is_noticed(stage: Run) -> None:
    for attempt in (2, 3):
        stage.step("status = 'pending', closed_at = NULL")
        stage.step(f"status = 'running', lease_owner = 'x', attempt = {attempt}")
        stage.step("status = 'pending', lease_owner = NULL")
    assert "runs_within_attempts" not in stage.broken(), "three runs are allowed"
    stage.step("status = 'running', lease_owner = 'x'")
    assert "4 runs" in stage.broken()["runs_within_attempts"][0]


def test_an_analysis_that_was_accepted_and_never_was_is_noticed(stage: Run) -> None:
    stage.record.analysis_id = "01a2086c-769b-775b-9901-82fdcb0bcc65"
    found = stage.broken()
    assert "there never was one" in found["accepted_ends"][0]


def test_an_end_after_its_deadline_is_noticed(stage: Run) -> None:
    stage.sql("UPDATE chaos.births SET deadline = deadline - interval '1 day' WHERE id = :id")
    assert "after its deadline" in stage.broken()["accepted_ends"][0]


def test_two_analyses_of_one_key_are_noticed(stage: Run) -> None:
    stage._complete()
    assert "2 analyses after 1 tries" in stage.broken()["one_analysis_a_key"][0]


def test_two_answers_to_one_question_are_noticed(stage: Run) -> None:
    stage._complete()
    stage.sql("UPDATE intervals SET audio_reason = 'no_speech' WHERE analysis_id = :id AND index = 0")
    assert "2 answers" in stage.broken()["same_answer"][0]


def test_a_good_file_that_is_called_bad_is_noticed(stage: Run) -> None:
    with db.transaction() as session:
        analysis = submit(session)
        analyses.transition(session, analysis.id, AnalysisStatus.FAILED, error={"code": "undecodable_media"})
    assert "failed with undecodable_media" in stage.broken(GOOD)["same_answer"][0]


def test_a_fenced_attempt_that_closed_its_step_is_noticed(stage: Run) -> None:
    (step,) = stage.probe.rows("SELECT * FROM chaos.steps WHERE stage = 'audio' AND new_status = 'done'")
    line = {
        "action": "step_fenced",
        "analysis_id": str(stage.identity),
        "stage": "audio",
        "shard": 0,
        "attempt": step["old_attempt"],
        "boot_id": step["old_owner"],
    }
    stage.probe.said = json.dumps({**line, "boot_id": "another"}) + "\n"
    assert stage.broken() == {}, "another process was fenced, and wrote nothing"
    stage.probe.said = json.dumps(line) + "\n"
    assert "was fenced and closed" in stage.broken()["no_fenced_write"][0]


def test_who_is_fenced_by_a_cancellation_has_not_closed_its_step(stage: Run) -> None:
    with db.transaction() as session:
        analysis = submit(session)
        claim = claim_step(session, analysis.id, Stage.EXTRACT, owner="boot")
    with db.transaction() as session:
        analyses.transition(session, analysis.id, AnalysisStatus.CANCELED)
    line = {"action": "step_fenced", "analysis_id": str(analysis.id), "boot_id": "boot"}
    stage.probe.said = json.dumps({**line, "stage": "extract", "shard": 0, "attempt": claim.attempt})
    assert "no_fenced_write" not in stage.broken()


def test_who_is_fenced_when_variants_give_way_has_not_closed_its_step(stage: Run) -> None:
    with db.transaction() as session:
        analysis = judged_once(session)
        claim = claim_step(session, analysis.id, Stage.STABILITY, owner="boot")
    with db.transaction() as session:
        assert stability.give_way(session, analysis.id)
    line = {"action": "step_fenced", "analysis_id": str(analysis.id), "boot_id": "boot"}
    stage.probe.said = json.dumps({**line, "stage": "stability", "shard": 0, "attempt": claim.attempt})
    assert "no_fenced_write" not in stage.broken()


def test_an_end_that_nobody_was_told_of_is_noticed(stage: Run) -> None:
    stage.receiver._calls.clear()
    assert "nobody was told" in stage.broken()["each_event_told"][0]


def test_another_id_on_another_try_is_noticed(stage: Run) -> None:
    stage.tell("analysis.completed")
    assert stage.broken() == {}, "twice under one id is what at least once means"
    stage.tell("analysis.completed", event_id="evt_2")
    assert "evt_2" in stage.broken()["each_event_told"][0]


def test_a_forged_call_is_noticed(stage: Run) -> None:
    stage.tell("analysis.completed", verified=False)
    assert "does not verify" in stage.broken()["each_event_told"][0]


def test_news_of_what_was_deleted_are_noticed(stage: Run) -> None:
    stage.record.deleted_at = now() - 5
    found = stage.broken()["none_after_deletion"]
    assert any("too late" in line for line in found)
    assert any("is still there" in line for line in found)


def test_an_answer_that_nothing_excuses_is_noticed(stage: Run) -> None:
    stage.ledger.outrage("DELETE: 500 internal_error")
    assert stage.broken() == {"answers_in_order": ("DELETE: 500 internal_error (1 times)",)}
