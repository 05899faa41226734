"""Two who want different things at once, on a real Postgres: one of them wins, and both are told so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import select

from core import analyses, audit, db, results, retention, steps
from core.config import settings
from core.domain import Options, Stage
from core.errors import Conflict, Fenced, NotFound
from core.keys import Caller
from core.models import Analysis, AuditEntry, Erasure, Interval, Media, Step
from core.storage import storage
from tests.core.eraser import ended, extracted, file_of, held, load, objects, submitted
from tests.core.factories import build_manifest, build_report, claim_step
from tests.core.test_locks import someone_waits

CONTENT = b"the same bytes, sent more than once"
ROUNDS = range(6)
Act = Callable[[], object]


def at_once(*acts: Act) -> list[object]:
    """Let them begin together; what each returned or raised."""
    ready, outcomes = threading.Barrier(len(acts)), [None] * len(acts)

    def run(n: int, act: Act) -> None:
        ready.wait(30)
        try:
            outcomes[n] = act()  # type: ignore[call-overload]
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcomes[n] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=item) for item in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return list(outcomes)


@contextmanager
def behind(first: Callable[[], object]) -> Iterator[list[object]]:
    """Begin `first` in a thread and enter the block when it waits for a lock."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(first())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and not someone_waits():
        thread.join(0.02)
    yield outcome
    thread.join(60)
    assert not thread.is_alive()


def erase(analysis_id: UUID) -> None:
    retention.erase_media_if_due(analysis_id)


def delete(owner: Caller, analysis_id: UUID) -> retention.Receipt:
    """As the API does."""
    try:
        with db.transaction() as session:
            retention.condemn_analysis(session, analysis_id, actor=owner.key_id, owner=owner.owner)
    except NotFound:
        pass
    with db.read() as session:
        found = retention.find_receipt(session, owner.owner, analysis_id)
    retention.carry_out(found.id)
    with db.read() as session:
        return retention.find_receipt(session, owner.owner, analysis_id)


def count(action: audit.Action) -> int:
    with db.read() as session:
        return len(session.scalars(select(AuditEntry.id).where(AuditEntry.action == action.value)).all())


def nothing_is_owed() -> bool:
    with db.read() as session:
        return session.scalars(select(Erasure)).all() == []


@pytest.mark.parametrize("round_", ROUNDS)
def test_bytes_that_come_while_they_are_erased_are_there_afterwards(owner: Caller, round_: int) -> None:
    assert round_ >= 0
    old = ended(submitted(owner, content=CONTENT, retention_hours=0))
    _, new = at_once(lambda: erase(old), lambda: submitted(owner, content=CONTENT))
    assert isinstance(new, UUID)
    file = file_of(new)
    assert file.erased_at is None
    assert storage().read(file.object_key) == CONTENT
    assert objects(analyses.FILES) == [file.object_key]
    assert load(old).media_erased_at is not None
    assert nothing_is_owed()


@pytest.mark.parametrize("round_", ROUNDS)
def test_bytes_that_come_while_their_analysis_is_deleted_are_there_afterwards(
    owner: Caller, round_: int
) -> None:
    assert round_ >= 0
    old = ended(submitted(owner, content=CONTENT))
    receipt, new = at_once(lambda: delete(owner, old), lambda: submitted(owner, content=CONTENT))
    assert isinstance(receipt, retention.Receipt), receipt
    assert isinstance(new, UUID), new
    assert objects() == [file_of(new).object_key]
    assert storage().read(file_of(new).object_key) == CONTENT
    assert receipt.media is not None
    assert receipt.media.fate in {retention.Fate.KEPT, retention.Fate.ERASED}


def test_a_submission_waits_for_the_eraser_and_brings_its_own(owner: Caller) -> None:
    old = ended(submitted(owner, content=CONTENT, retention_hours=0))
    with db.transaction() as session:
        erasure = retention.condemn_media(session, old, actor=audit.DISPATCHER)
        with behind(lambda: submitted(owner, content=CONTENT)) as outcome:
            session.commit()
    (new,) = outcome
    assert isinstance(new, UUID)
    assert erasure is not None
    retention.carry_out(erasure)
    assert objects(analyses.FILES) == [file_of(new).object_key]


def test_an_eraser_waits_for_the_submission_and_leaves_the_file(owner: Caller) -> None:
    old = ended(submitted(owner, content=CONTENT, retention_hours=0))
    key = file_of(old).object_key
    with db.transaction() as session:
        offered = analyses.StoredUpload(
            sha256=file_of(old).sha256, size_bytes=len(CONTENT), object_key="media/surplus"
        )
        accepted = analyses.submit(session, caller=owner, source=offered, options=Options())
        assert accepted.surplus_key == "media/surplus"
        with behind(lambda: erase(old)) as outcome:
            session.commit()
    assert outcome == [None]
    assert storage().read(key) == CONTENT
    assert load(old).media_erased_at is not None
    assert file_of(accepted.analysis.id).erased_at is None


@pytest.mark.parametrize("round_", ROUNDS)
def test_of_two_that_share_a_file_the_later_deletion_takes_it(owner: Caller, round_: int) -> None:
    assert round_ >= 0
    pair = [ended(submitted(owner, content=CONTENT)) for _ in range(2)]
    first, second = at_once(*(lambda identity=identity: delete(owner, identity) for identity in pair))
    assert isinstance(first, retention.Receipt), first
    assert isinstance(second, retention.Receipt), second
    fates = {receipt.media.fate.value for receipt in (first, second) if receipt.media}
    assert fates == {"kept", "erased"}
    assert sorted([first.rows["media"], second.rows["media"]]) == [0, 1]
    assert objects() == []
    with db.read() as session:
        assert session.scalars(select(Media)).all() == []


@pytest.mark.parametrize("round_", ROUNDS)
def test_two_deletions_of_one_have_one_receipt(owner: Caller, round_: int) -> None:
    assert round_ >= 0
    identity = ended(submitted(owner))
    first, second = at_once(lambda: delete(owner, identity), lambda: delete(owner, identity))
    assert isinstance(first, retention.Receipt), first
    assert first == second
    assert (first.complete, first.objects) == (True, 3)
    assert count(audit.Action.ANALYSIS_DELETED) == count(audit.Action.ANALYSIS_ERASED) == 1
    assert objects() == []


@pytest.mark.parametrize("round_", ROUNDS)
def test_the_worker_and_the_dispatcher_erase_once(owner: Caller, round_: int) -> None:
    assert round_ >= 0
    identity = ended(submitted(owner, retention_hours=0))
    outcomes = at_once(lambda: erase(identity), lambda: erase(identity), lambda: delete(owner, identity))
    assert isinstance(outcomes[2], retention.Receipt), outcomes
    assert outcomes[:2] == [None, None]
    assert objects() == []
    assert nothing_is_owed()
    assert count(audit.Action.MEDIA_ERASED) <= 1


@pytest.mark.parametrize("round_", ROUNDS)
def test_a_hold_and_a_deletion_at_once(owner: Caller, round_: int) -> None:
    assert round_ >= 0
    identity = ended(submitted(owner))
    holding, deleting = at_once(lambda: held(owner, identity), lambda: delete(owner, identity))
    if isinstance(holding, Analysis):
        assert isinstance(deleting, Conflict | NotFound), deleting
        assert len(objects()) == 3
        assert load(identity).held_at is not None
    else:
        assert isinstance(holding, NotFound), holding
        assert isinstance(deleting, retention.Receipt), deleting
        assert objects() == []


@pytest.mark.parametrize("round_", ROUNDS)
def test_a_hold_and_the_eraser_of_the_shared_file_at_once(owner: Caller, round_: int) -> None:
    """Whoever comes second sees the first: a held analysis has its file, or knows that it has none."""
    assert round_ >= 0
    kept, other = (ended(submitted(owner, content=CONTENT, retention_hours=0)) for _ in range(2))
    holding, erasing = at_once(lambda: held(owner, kept), lambda: erase(other))
    assert erasing is None
    if isinstance(holding, Analysis):
        assert objects(analyses.FILES) == [file_of(kept).object_key]
        assert file_of(kept).erased_at is None
    else:
        assert isinstance(holding, Conflict), holding
        assert objects(analyses.FILES) == []
        assert load(kept).held_at is None


@pytest.mark.parametrize("round_", ROUNDS)
def test_a_deletion_while_fusion_completes(owner: Caller, round_: int) -> None:
    assert round_ >= 0
    identity = submitted(owner)
    extracted(identity)
    with db.transaction() as session:
        steps.finish(session, claim_step(session, identity, Stage.VIDEO))
    with db.transaction() as session:
        claim = claim_step(session, identity, Stage.FUSE)
        report = build_report(session, identity)

    def complete() -> None:
        with db.transaction() as session:
            results.complete(session, claim, report)

    completing, receipt = at_once(complete, lambda: delete(owner, identity))
    assert completing is None or isinstance(completing, Fenced), completing
    assert isinstance(receipt, retention.Receipt), receipt
    assert objects() == []
    with db.read() as session:
        assert session.get(Analysis, identity) is None


def test_a_deletion_while_extraction_writes_waits_and_takes_what_it_wrote(owner: Caller) -> None:
    identity = submitted(owner)
    with db.transaction() as session:
        claim = claim_step(session, identity, Stage.EXTRACT)
    with db.transaction() as session:
        results.record_extraction(session, claim, build_manifest(), scratch="work-1/", thumbnails={})
        with behind(lambda: delete(owner, identity)) as outcome:
            session.commit()
    (receipt,) = outcome
    assert isinstance(receipt, retention.Receipt), receipt
    assert (receipt.rows["intervals"], receipt.rows["steps"]) == (4, 4)
    with db.read() as session:
        assert session.scalars(select(Interval)).all() == []


def test_extraction_that_writes_after_the_deletion_finds_nothing_to_write_to(owner: Caller) -> None:
    identity = submitted(owner)
    with db.transaction() as session:
        claim = claim_step(session, identity, Stage.EXTRACT)
    delete(owner, identity)
    with pytest.raises((Fenced, NotFound)), db.transaction() as session:
        results.record_extraction(session, claim, build_manifest(), scratch="work-1/", thumbnails={})
    with db.read() as session:
        assert session.scalars(select(Interval)).all() == []


def test_a_claim_behind_a_deletion_is_none(owner: Caller) -> None:
    identity = submitted(owner)

    def claim() -> object:
        with db.transaction() as session:
            return steps.claim(
                session,
                analysis_id=identity,
                stage=Stage.EXTRACT,
                shard=0,
                owner="late",
                config=settings().steps,
            )

    with db.transaction() as session:
        retention.condemn_analysis(session, identity, actor=owner.key_id)
        with behind(claim) as outcome:
            session.commit()
    assert outcome == [None]
    with db.read() as session:
        assert session.scalars(select(Step)).all() == []
