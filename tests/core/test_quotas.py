from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import analyses, db, idempotency, quotas
from core.config import settings
from core.domain import AnalysisStatus, Options
from core.errors import TooManyRequests
from core.idempotency import Answer, Claim
from core.keys import Caller
from core.models import Analysis, RateLimit
from core.quotas import Policy, Standing
from tests.core.factories import create_analysis, create_caller

KEY = "abcdefgh"


@pytest.fixture
def admission(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets the limits of one test."""

    def change(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"DEEPDEFEND_ADMISSION__{name.upper()}", str(value))
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()


def pass_time(session: Session, seconds: float) -> None:
    """As if every bucket had been touched that much earlier."""
    session.execute(
        text("UPDATE rate_limits SET refilled_at = refilled_at - make_interval(secs => :s)"), {"s": seconds}
    )


def at_once(count: int, act: Callable[[], object]) -> list[object]:
    """What `count` threads that start together get, errors included."""
    results: list[object] = []
    start = threading.Barrier(count)

    def run() -> None:
        start.wait()
        try:
            results.append(act())
        except TooManyRequests as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_a_new_key_has_its_whole_quota(session: Session, admission: Callable[..., None]) -> None:
    admission(requests=600, window="PT60S")
    (standing,) = quotas.spend(session, KEY)
    assert standing == Standing(policy=Policy.REQUESTS, quota=600, left=599, allowed=True, window=60, reset=1)


def test_an_empty_bucket_refuses_and_says_when_to_come_again(
    session: Session, admission: Callable[..., None]
) -> None:
    admission(requests=3, window="PT60S")
    assert [quotas.spend(session, KEY)[0].left for _ in range(3)] == [2, 1, 0]
    (refused,) = quotas.spend(session, KEY)
    assert (refused.allowed, refused.left, refused.reset) == (False, 0, 20)
    error = quotas.refusal(refused)
    assert (error.status_code, error.code, error.extra["retry_after"]) == (429, "quota_exceeded", 20)
    assert error.extra["violated-policies"] == ["requests"]


def test_the_bucket_fills_with_time_and_never_beyond_its_quota(
    session: Session, admission: Callable[..., None]
) -> None:
    admission(requests=3, window="PT60S")
    for _ in range(4):
        quotas.spend(session, KEY)
    pass_time(session, 19)
    assert not quotas.spend(session, KEY)[0].allowed
    pass_time(session, 1)
    assert quotas.spend(session, KEY)[0].allowed
    pass_time(session, 86_400)
    assert quotas.spend(session, KEY)[0].left == 2


def test_a_server_clock_set_back_costs_and_gives_nothing(
    session: Session, admission: Callable[..., None]
) -> None:
    admission(requests=3, window="PT60S")
    quotas.spend(session, KEY)
    pass_time(session, -3600)
    assert [quotas.spend(session, KEY)[0].allowed for _ in range(3)] == [True, True, False]
    pass_time(session, 20)
    assert quotas.spend(session, KEY)[0].allowed, "an hour behind must not mean an hour of refusals"


def test_a_smaller_quota_holds_at_once(session: Session, admission: Callable[..., None]) -> None:
    admission(requests=600)
    quotas.spend(session, KEY)
    admission(requests=2)
    assert [quotas.spend(session, KEY)[0].allowed for _ in range(3)] == [True, True, False]


def test_a_submission_counts_twice_and_a_refused_one_once(
    session: Session, admission: Callable[..., None]
) -> None:
    admission(requests=4, submissions=1, window="PT60S")
    first = quotas.spend(session, KEY, submission=True)
    assert [(s.policy, s.left) for s in first] == [("requests", 3), ("submissions", 0)]
    second = quotas.spend(session, KEY, submission=True)
    assert [(s.policy, s.allowed) for s in second] == [("requests", True), ("submissions", False)]
    assert [s.policy for s in quotas.spend(session, KEY)] == ["requests"]
    assert quotas.spend(session, KEY)[0].allowed
    (refused,) = quotas.spend(session, KEY, submission=True)
    assert not refused.allowed, "without requests left, no submission is counted"


def test_keys_do_not_share(session: Session, admission: Callable[..., None]) -> None:
    admission(requests=1)
    assert quotas.spend(session, "one-key-")[0].allowed
    assert quotas.spend(session, "another-")[0].allowed
    assert not quotas.spend(session, "one-key-")[0].allowed


def test_thirty_at_once_get_what_there_is_and_no_more(
    clean_database: str, admission: Callable[..., None]
) -> None:
    assert clean_database
    admission(requests=10, window="PT3600S")

    def spend() -> bool:
        with db.transaction() as session:
            return quotas.spend(session, KEY)[0].allowed

    assert sorted(map(bool, at_once(30, spend))) == [False] * 20 + [True] * 10


@given(
    quota=st.integers(1, 50),
    window=st.integers(1, 3600),
    pauses=st.lists(st.floats(0, 100, allow_nan=False), max_size=12),
)
def test_no_more_is_given_than_the_quota_and_what_came_back(
    database: str, quota: int, window: int, pauses: list[float]
) -> None:
    assert database
    with db.transaction() as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPDEFEND_ADMISSION__REQUESTS", str(quota))
        patch.setenv("DEEPDEFEND_ADMISSION__WINDOW", f"PT{window}S")
        settings.cache_clear()
        given_out, began = 0, session.scalar(text("SELECT clock_timestamp()"))
        for pause in pauses:
            pass_time(session, pause)
            standing = quotas.spend(session, KEY)[0]
            given_out += standing.allowed
            assert 0 <= standing.left <= quota - 1
            assert standing.reset is not None
            assert 1 <= standing.reset <= max(1, window)
        spent = session.scalar(text("SELECT clock_timestamp()")) - began
        elapsed = sum(pauses) + spent.total_seconds()
        assert given_out <= quota + elapsed * quota / window + 1e-6
        session.rollback()
    settings.cache_clear()


def test_a_crash_of_the_server_may_forget_but_never_logs(session: Session) -> None:
    kind = session.scalar(text("SELECT relpersistence FROM pg_class WHERE relname = 'rate_limits'"))
    assert kind == "u"


def submit(caller: Caller, digest: str) -> Analysis:
    with db.transaction() as session:
        source = analyses.StoredUpload(sha256=digest, size_bytes=1, object_key=f"media/{digest}")
        return analyses.submit(session, caller=caller, source=source, options=Options()).analysis


def test_a_key_has_so_many_open_and_no_more(session: Session, admission: Callable[..., None]) -> None:
    admission(in_flight=2)
    caller = create_caller(session)
    rows = [create_analysis(session, caller) for _ in range(2)]
    assert quotas.in_flight(session, caller.key_id).left == 0
    with pytest.raises(TooManyRequests) as refused:
        create_analysis(session, caller)
    assert (refused.value.code, refused.value.extra["retry_after"]) == ("too_many_in_flight", 10)
    create_analysis(session, create_caller(session, caller.owner))
    assert analyses.transition(session, rows[0].id, AnalysisStatus.CANCELED)
    create_analysis(session, caller)


def test_thirty_submissions_at_once_do_not_overrun_the_limit(
    clean_database: str, admission: Callable[..., None]
) -> None:
    assert clean_database
    admission(in_flight=7)
    with db.transaction() as session:
        caller = create_caller(session)
    digests = iter([f"{n:064x}" for n in range(30)])
    got = at_once(30, lambda: submit(caller, next(digests)))
    assert sum(isinstance(one, Analysis) for one in got) == 7
    assert {one.code for one in got if isinstance(one, TooManyRequests)} == {"too_many_in_flight"}
    with db.read() as session:
        assert len(session.scalars(select(Analysis.id)).all()) == 7


def test_keys_of_one_owner_with_the_same_bytes_do_not_wait_for_each_other_for_ever(
    clean_database: str, admission: Callable[..., None]
) -> None:
    """The lock of the key comes before the media row, in every transaction."""
    assert clean_database
    admission(in_flight=100)
    with db.transaction() as session:
        callers = [create_caller(session, "alice") for _ in range(3)]
    turns = iter(callers * 8)
    got = at_once(24, lambda: submit(next(turns), "0" * 64))
    assert all(isinstance(one, Analysis) for one in got)


def test_everybodys_analyses_are_counted_up_to_a_bound(session: Session) -> None:
    first = create_analysis(session)
    create_analysis(session)
    assert quotas.unfinished(session, 100) == 2
    assert quotas.unfinished(session, 1) == 1
    analyses.transition(session, first.id, AnalysisStatus.CANCELED)
    assert quotas.unfinished(session, 100) == 1


def test_counting_reads_no_analysis_that_has_ended(session: Session) -> None:
    session.execute(text("SET LOCAL enable_seqscan = off"))
    plans = [
        "SELECT id FROM analyses WHERE key_prefix = 'k' AND completed_at IS NULL LIMIT 9",
        "SELECT id FROM analyses WHERE completed_at IS NULL LIMIT 9",
    ]
    for query in plans:
        plan = "\n".join(session.scalars(text(f"EXPLAIN {query}")).all())
        assert "_active on analyses" in plan


def test_an_unknown_key_has_no_row(session: Session) -> None:
    assert session.scalars(select(RateLimit)).all() == []
    assert quotas.in_flight(session, "nobody").left == settings().admission.in_flight


def test_a_stored_answer_is_known_by_its_key(session: Session) -> None:
    claim = Claim(owner="alice", key="k", holder="h")
    assert not idempotency.is_answered(session, "alice", "k")
    idempotency.begin(session, claim)
    assert not idempotency.is_answered(session, "alice", "k"), "it is running"
    idempotency.settle(session, claim, payload="0", answer=Answer(status=202, headers={}, body={}))
    assert idempotency.is_answered(session, "alice", "k")
    assert not idempotency.is_answered(session, "bob", "k")
