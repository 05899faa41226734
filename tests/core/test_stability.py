"""The steps between two fusions, and asking for them later: in one transaction, or not at all."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from core import analyses, outbox, results, retention, stability, steps
from core.config import settings
from core.domain import AnalysisStatus, Lane, Span, Stage, StepStatus, Terms, Variant
from core.dossier import compile_dossier
from core.errors import Conflict, DeepDefendError, Fenced, InvalidOption, NotFound, TooManyRequests
from core.fusion.stability import Outcome, Remeasured
from core.keys import Caller
from core.models import Analysis, Media, Step
from core.queue import Queue, lane_of, stages_of
from tests.core.factories import (
    age,
    build_manifest,
    build_report,
    claim_step,
    create_analysis,
    create_caller,
    expire_leases,
    extract,
)
from tests.core.webhooks.factories import ALL, create_endpoint, deliveries_of

SPANS = [Span(index=1, start=2.0, end=4.0), Span(index=3, start=6.0, end=8.0)]
SPEAKERS = {"vit": "sha256:a"}
OWNER = "newsroom"


def judged_once(session: Session, terms: Terms = analyses.ORDINARY) -> Analysis:
    """Its branches and its first fusion are closed; the fleet is owed."""
    analysis = create_analysis(session, create_caller(session, OWNER), terms=terms, stability=True)
    extract(session, analysis, build_manifest(sound=False))
    results.record_findings(session, claim_step(session, analysis.id, Stage.VIDEO), [])
    claim = claim_step(session, analysis.id, Stage.FUSE)
    stability.owe_variants(session, claim, SPANS, SPEAKERS)
    return analysis


def completed(session: Session, caller: Caller | None = None, **more: object) -> Analysis:
    analysis = create_analysis(session, caller, **more)  # type: ignore[arg-type]
    extract(session, analysis, build_manifest(video=False, sound=False))
    claim = claim_step(session, analysis.id, Stage.FUSE)
    results.complete(session, claim, build_report(session, analysis.id))
    session.refresh(analysis)
    return analysis


def past(session: Session) -> None:
    """As if every end had been a minute ago: this transaction is as old as its clock."""
    minute = text("media_until - interval '1 minute'")
    session.execute(update(Analysis).where(Analysis.media_until.is_not(None)).values(media_until=minute))


def fleet(session: Session, analysis_id: UUID) -> list[Step]:
    session.expire_all()
    return [step for step in steps.of_analysis(session, analysis_id) if step.stage == Stage.STABILITY.value]


def fuse(session: Session, analysis_id: UUID) -> steps.Claim | None:
    """Try to claim the second fusion."""
    return steps.claim(
        session,
        analysis_id=analysis_id,
        stage=Stage.FUSE,
        shard=stability.SECOND,
        owner="worker-b",
        config=settings().steps,
    )


def measured(session: Session, analysis_id: UUID, shard: int) -> None:
    claim = claim_step(session, analysis_id, Stage.STABILITY, shard)
    interval = Remeasured(index=1, score=0.5, reason=None)
    variant = Variant(claim.payload["variant"])
    stability.record_variant(session, claim, Outcome(variant=variant, intervals=(interval,), seconds=1.0))


def test_the_fleet_has_a_step_for_each_variant_and_a_fusion_behind_it(session: Session) -> None:
    analysis = judged_once(session)
    owed = fleet(session, analysis.id)
    assert [Variant(step.payload["variant"]) for step in owed] == list(Variant)
    assert {step.format for step in owed} == {steps.FORMAT}
    assert owed[0].payload["parts"] == [span.model_dump(mode="json") for span in SPANS]
    assert owed[0].payload["speakers"] == SPEAKERS
    first, second = (
        step for step in steps.of_analysis(session, analysis.id) if step.stage == Stage.FUSE.value
    )
    assert (first.status, second.status) == (StepStatus.DONE, StepStatus.PENDING)
    assert first.payload == second.payload, "the same working files"
    assert analyses.load(session, analysis.id).status == AnalysisStatus.PROCESSING


def test_who_lost_the_lease_owes_nothing(session: Session) -> None:
    analysis = create_analysis(session, stability=True)
    extract(session, analysis, build_manifest(video=False, sound=False))
    claim = claim_step(session, analysis.id, Stage.FUSE)
    expire_leases(session)
    steps.requeue_expired(session, settings().steps)
    with pytest.raises(Fenced), session.begin_nested():
        stability.owe_variants(session, claim, SPANS, SPEAKERS)
    assert fleet(session, analysis.id) == []


def test_the_second_fusion_waits_for_every_variant(session: Session) -> None:
    analysis = judged_once(session)
    for shard in range(len(Variant)):
        assert fuse(session, analysis.id) is None
        measured(session, analysis.id, shard)
    owed = outbox.owed(session, settings().steps)
    assert [(step.stage, step.shard) for step in owed] == [("fuse", stability.SECOND)]
    assert fuse(session, analysis.id) is not None


def test_a_variant_that_is_lost_three_times_is_a_reason_and_not_a_failure(session: Session) -> None:
    analysis = judged_once(session)
    for shard in range(1, len(Variant)):
        measured(session, analysis.id, shard)
    for _ in range(settings().steps.max_attempts):
        claim_step(session, analysis.id, Stage.STABILITY, 0)
        expire_leases(session)
        steps.requeue_expired(session, settings().steps)
    assert analyses.stuck(session) == []
    assert fuse(session, analysis.id) is not None
    found = compile_dossier(session, analysis.id).outcomes
    assert found[0] == Outcome(variant=Variant.CRF_23, reason="worker_lost")
    assert [one.seconds for one in found[1:]] == [1.0] * (len(Variant) - 1)


def near_its_end(session: Session, analysis: Analysis, left: float, whole: float = 3600) -> None:
    """As if it had been accepted with so many seconds, of which so many are left."""
    session.execute(
        text(
            "UPDATE analyses SET deadline = now() + :left * interval '1 second',"
            " created_at = now() + (:left - :whole) * interval '1 second' WHERE id = :id"
        ),
        {"left": left, "whole": whole, "id": analysis.id},
    )


@pytest.mark.parametrize(
    ("left", "whole", "short"),
    [(121, 3600, False), (119, 3600, True), (3, 10, False), (2, 10, True), (0, 10, True), (-1, 3600, True)],
)
def test_variants_leave_two_minutes_or_a_quarter(
    session: Session, left: float, whole: float, short: bool
) -> None:
    analysis, _ = judged_once(session), judged_once(session)
    near_its_end(session, analysis, left, whole)
    assert stability.short_of_time(session) == [analysis.id] * short
    assert stability.is_short_of_time(session, analysis.id) is short


def test_variants_that_would_be_late_give_way_to_the_report(session: Session) -> None:
    analysis, other = judged_once(session), judged_once(session)
    measured(session, analysis.id, 0)
    held = claim_step(session, analysis.id, Stage.STABILITY, 1)
    session.refresh(analysis)
    version = analysis.version
    assert stability.give_way(session, analysis.id)
    session.refresh(analysis)
    assert analysis.version == version + 1, "who polls with an ETag sees it"
    assert not stability.give_way(session, analysis.id), "once"
    near_its_end(session, analysis, 1)
    assert stability.short_of_time(session) == [], "nothing of it is open"
    assert {step.status for step in fleet(session, other.id)} == {StepStatus.PENDING}
    with pytest.raises(Fenced), session.begin_nested():
        stability.record_variant(session, held, Outcome(variant=Variant.CRF_28))
    assert fuse(session, analysis.id) is not None
    found = compile_dossier(session, analysis.id).outcomes
    assert [one.reason for one in found] == [None, *["deadline_exceeded"] * (len(Variant) - 1)]
    assert found[0].seconds == 1.0


def test_what_has_ended_gives_no_way(session: Session) -> None:
    analysis = judged_once(session)
    analyses.cancel(session, analysis.owner, analysis.id)
    session.refresh(analysis)
    version = analysis.version
    assert not stability.give_way(session, analysis.id)
    session.refresh(analysis)
    assert analysis.version == version


def test_a_variant_is_handed_back_at_no_cost(session: Session) -> None:
    analysis = judged_once(session)
    claim = claim_step(session, analysis.id, Stage.STABILITY, 2)
    steps.hand_back(session, claim)
    step = fleet(session, analysis.id)[2]
    assert (step.status, step.attempt) == (StepStatus.PENDING, 0)
    with pytest.raises(Fenced):
        stability.record_variant(session, claim, Outcome(variant=Variant.CRF_35))


@pytest.mark.parametrize("status", [AnalysisStatus.CANCELED, AnalysisStatus.FAILED])
def test_whatever_ends_the_analysis_ends_its_variants(session: Session, status: AnalysisStatus) -> None:
    analysis = judged_once(session)
    claim = claim_step(session, analysis.id, Stage.STABILITY, 0)
    if status is AnalysisStatus.CANCELED:
        analyses.cancel(session, analysis.owner, analysis.id)
    else:
        analyses.fail(session, analysis.id, DeepDefendError("late", code="deadline_exceeded"))
    assert {step.status for step in fleet(session, analysis.id)} == {StepStatus.SKIPPED}
    with pytest.raises(Fenced):
        stability.record_variant(session, claim, Outcome(variant=Variant.CRF_23))


def test_branches_that_were_lost_are_named_at_the_second_fusion_as_at_the_first(session: Session) -> None:
    analysis = judged_once(session)
    for shard in range(len(Variant)):
        claim = claim_step(session, analysis.id, Stage.STABILITY, shard)
        steps.finish(session, claim, status=StepStatus.FAILED, reason="decoder_crashed")
    results.record_lost_branches(session, analysis.id)
    dossier = compile_dossier(session, analysis.id)
    assert dossier.branches == ()
    assert {one.reason for one in dossier.outcomes} == {"decoder_crashed"}


def test_watchers_hear_of_the_variants_once_all_are_done(session: Session) -> None:
    create_endpoint(session, owner=OWNER, events=ALL)
    analysis = judged_once(session)
    for shard in range(len(Variant)):
        stages = [json.loads(one.body)["data"].get("stage") for one in deliveries_of(session)]
        assert Stage.STABILITY.value not in stages
        assert Stage.FUSE.value not in stages, "it is not done with the first"
        measured(session, analysis.id, shard)
    *_, last = deliveries_of(session)
    assert json.loads(last.body)["data"]["stage"] == Stage.STABILITY.value


def test_watchers_hear_of_variants_that_give_way(session: Session) -> None:
    create_endpoint(session, owner=OWNER, events=ALL)
    assert stability.give_way(session, judged_once(session).id)
    *_, last = deliveries_of(session)
    assert json.loads(last.body)["data"]["stage"] == Stage.STABILITY.value


# The lane


@pytest.mark.parametrize("asked", Lane)
def test_variants_wait_in_the_batch_lane_whatever_their_analysis_is_in(session: Session, asked: Lane) -> None:
    assert lane_of(Stage.STABILITY, asked) is Lane.BATCH
    assert lane_of(Stage.VIDEO, asked) is asked
    judged_once(session, terms=Terms(lane=asked))
    other = create_analysis(session, terms=Terms(lane=Lane.STANDARD))
    owed = outbox.owed(session, settings().steps)
    assert [step.stage for step in owed] == ["extract"] + ["stability"] * len(Variant)
    assert owed[0].analysis_id == other.id


def test_messages_that_share_a_queue_are_counted_together(session: Session) -> None:
    """Else ten of the one kind that wait would hide that one of the other was lost."""
    assert stages_of(Queue.VIDEO) == (Stage.VIDEO, Stage.STABILITY)
    analysis = judged_once(session, terms=Terms(lane=Lane.INTERACTIVE))
    batch = create_analysis(session, terms=Terms(lane=Lane.BATCH))
    extract(session, batch, build_manifest(sound=False, shards=2))
    published = [step for step in outbox.owed(session, settings().steps) if step.stage != "fuse"]
    outbox.mark_published(session, [step.id for step in published])
    session.flush()
    for stage in (Stage.VIDEO, Stage.STABILITY):
        assert outbox.unclaimed(session, stage.value, Lane.BATCH) == len(Variant) + 2
        assert outbox.unclaimed(session, stage.value, Lane.INTERACTIVE) == 0
    age(session, 60)
    stale = set(outbox.stale(session, settings().steps))
    assert stale == {("stability", Lane.BATCH), ("video", Lane.BATCH)}
    outbox.postpone(session, settings().steps, "stability", Lane.BATCH)
    assert set(outbox.stale(session, settings().steps)) == {("video", Lane.BATCH)}
    assert analysis.lane == Lane.INTERACTIVE.value


# Later


def test_a_new_analysis_looks_at_the_same_file(session: Session) -> None:
    caller = create_caller(session)
    first = completed(session, caller, terms=Terms(retention_hours=7), interval_seconds=3)
    second = stability.ask_again(session, caller=caller, analysis_id=first.id)
    assert second.id != first.id
    assert (second.derived_from, second.media_id, second.filename) == (
        first.id,
        first.media_id,
        first.filename,
    )
    assert (second.lane, second.retention_hours, second.key_prefix) == ("batch", 7, caller.key_id)
    assert second.options == first.options | {"stability": True}
    assert second.status == AnalysisStatus.QUEUED
    assert [step.stage for step in steps.of_analysis(session, second.id)] == ["extract"]
    assert session.get_one(Analysis, first.id).report is not None
    assert (
        stability.ask_again(session, caller=caller, analysis_id=first.id, lane=Lane.INTERACTIVE).lane
        == "interactive"
    )


def test_what_has_not_ended_or_has_no_report_cannot_be_asked_again(session: Session) -> None:
    caller = create_caller(session)
    running = create_analysis(session, caller)
    failed = create_analysis(session, caller)
    analyses.fail(session, failed.id, DeepDefendError("no", code="undecodable_media"))
    for identity, code in ((running.id, "not_ended"), (failed.id, "no_report")):
        with pytest.raises(Conflict) as caught:
            stability.ask_again(session, caller=caller, analysis_id=identity)
        assert caught.value.code == code
    assert len(session.scalars(select(Analysis)).all()) == 2


def test_another_owners_analysis_is_not_there(session: Session) -> None:
    first = completed(session)
    for identity in (first.id, uuid4()):
        with pytest.raises(NotFound):
            stability.ask_again(session, caller=create_caller(session, "else"), analysis_id=identity)


@pytest.mark.parametrize("how", ["the media", "the pictures"])
def test_what_was_erased_cannot_be_looked_at_again(session: Session, how: str) -> None:
    caller = create_caller(session)
    first = completed(session, caller)
    if how == "the media":
        session.execute(update(Media).values(erased_at=text("now()")))
    else:
        session.execute(update(Analysis).values(media_erased_at=text("now()")))
    with pytest.raises(Conflict) as caught:
        stability.ask_again(session, caller=caller, analysis_id=first.id)
    assert caught.value.code == "media_erased"


def test_the_file_stays_for_as_long_as_the_second_analysis_needs_it(session: Session) -> None:
    caller = create_caller(session)
    first = completed(session, caller, terms=Terms(retention_hours=0))
    second = stability.ask_again(session, caller=caller, analysis_id=first.id)
    past(session)
    assert retention.condemn_media(session, first.id, actor="dispatcher") is not None
    assert session.scalars(select(Media)).one().erased_at is None
    analyses.cancel(session, second.owner, second.id)
    past(session)
    assert retention.condemn_media(session, second.id, actor="dispatcher") is not None
    assert session.scalars(select(Media)).one().erased_at is not None


def test_what_could_no_longer_be_told_is_refused(session: Session) -> None:
    caller = create_caller(session, OWNER)
    endpoint, _ = create_endpoint(session, OWNER, url=None)
    first = completed(session, caller, terms=Terms(webhook_url="https://hooks.example/told"))
    assert stability.ask_again(session, caller=caller, analysis_id=first.id).webhook_url == first.webhook_url
    session.delete(endpoint)
    session.flush()
    with pytest.raises(InvalidOption) as caught:
        stability.ask_again(session, caller=caller, analysis_id=first.id)
    assert caught.value.code == "no_webhook_secret"


def test_it_takes_a_place_of_the_key(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = create_caller(session)
    first = completed(session, caller)
    monkeypatch.setattr(settings().admission, "in_flight", 1)
    stability.ask_again(session, caller=caller, analysis_id=first.id)
    with pytest.raises(TooManyRequests):
        stability.ask_again(session, caller=caller, analysis_id=first.id)
