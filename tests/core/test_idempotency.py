"""One key, one holder, one answer: claims, leases, take-overs, expiry."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from core import db, idempotency
from core.config import settings
from core.errors import IdempotencyInProgress, IdempotencyMismatch, InvalidIdempotencyKey
from core.idempotency import LONGEST_WAIT, Answer, Claim, State
from core.models import Analysis, IdempotencyKey
from tests.core.factories import create_analysis
from workers import dispatcher

ANSWER = Answer(
    status=202, headers={"Location": "/v1/analyses/1"}, body={"id": "1", "nested": {"a": [1, None]}}
)
PAYLOAD = idempotency.fingerprint("test", {"a": 1})
pytestmark = pytest.mark.usefixtures("clean_database")


def claim(key: str = "k", owner: str = "alice") -> Claim:
    return Claim(owner=owner, key=key, holder=uuid4().hex)


def begin(by: Claim) -> bool:
    with db.transaction() as session:
        return idempotency.begin(session, by)


def settle(by: Claim, payload: str = PAYLOAD) -> None:
    with db.transaction() as session:
        idempotency.settle(session, by, payload=payload, answer=ANSWER)


def work(by: Claim) -> None:
    with db.transaction() as session:
        analysis = create_analysis(session)
        idempotency.settle(session, by, payload=PAYLOAD, answer=ANSWER, analysis_id=analysis.id)


def recall(by: Claim, payload: str = PAYLOAD) -> Answer:
    with db.read() as session:
        return idempotency.recall(session, by, payload=payload)


def release(by: Claim) -> bool:
    with db.transaction() as session:
        return idempotency.release(session, by)


def renew(by: Claim) -> bool:
    with db.transaction() as session:
        return idempotency.renew(session, by)


def stored() -> list[IdempotencyKey]:
    with db.read() as session:
        return list(session.scalars(select(IdempotencyKey)))


def set_times(**columns: timedelta) -> None:
    """As if that had happened earlier: each column that long after now."""
    with db.transaction() as session:
        now: Any = session.scalar(text("SELECT now()"))
        session.execute(update(IdempotencyKey).values({name: now + late for name, late in columns.items()}))


PAST = timedelta(seconds=-1)


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (' "a" \t', "a"),
        (r'"say \"hi\" \\"', None),  # a blank is not visible
        (r'"say\"hi\"\\"', 'say"hi"\\'),
        ('"a,b;c"', "a,b;c"),
        ("a!#$%&'*+-./:<=>?@[]^_`{|}~z", "a!#$%&'*+-./:<=>?@[]^_`{|}~z"),
        ('"' + "x" * 255 + '"', "x" * 255),
        ('"' + r"\\" * 255 + '"', "\\" * 255),
    ],
)
def test_a_key_is_a_string_or_bare(sent: str, key: str | None) -> None:
    if key is None:
        with pytest.raises(InvalidIdempotencyKey):
            idempotency.parse_key([sent])
    else:
        assert idempotency.parse_key([sent]) == key


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [""],
        ['""'],
        ['"'],
        ['"a'],
        ['a"'],
        ['"a"b"'],
        ["a b"],
        ["a,b"],
        ['"a";x=1'],
        ["a;x"],
        ["é"],
        ['"é"'],
        ['"a\x00"'],
        ['"a\n"'],
        ["a\x7f"],
        [r'"a\b"'],
        ['"a\\"'],
        ["a\\b"],
        ["x" * 256],
        ['"' + "x" * 256 + '"'],
        ["a", "a"],
        ['"a"', '"b"'],
    ],
)
def test_anything_else_is_refused(sent: list[str]) -> None:
    with pytest.raises(InvalidIdempotencyKey) as caught:
        idempotency.parse_key(sent)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_idempotency_key")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_visible_key_can_be_quoted(key: str) -> None:
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    assert idempotency.parse_key([f'"{quoted}"']) == key


def test_the_fingerprint_covers_operation_and_payload_but_not_the_order_of_members() -> None:
    assert idempotency.fingerprint("test", {"a": 1}) == PAYLOAD
    assert idempotency.fingerprint("x", {"a": 1, "b": 2}) == idempotency.fingerprint("x", {"b": 2, "a": 1})
    prints: list[tuple[str, dict[str, Any]]] = [
        ("test", {"a": 2}),
        ("test", {"b": 1}),
        ("other", {"a": 1}),
        ("test", {"a": "1"}),
        ("test", {}),
    ]
    assert PAYLOAD not in {idempotency.fingerprint(*one) for one in prints}
    assert len({idempotency.fingerprint(*one) for one in prints}) == len(prints)


def test_the_second_gets_the_answer_of_the_first() -> None:
    first, second = claim(), claim()
    assert begin(first) is True
    settle(first)
    assert begin(second) is False
    assert recall(second) == ANSWER
    (row,) = stored()
    assert row.expires_at - row.created_at >= settings().idempotency_ttl


def test_another_payload_is_a_mismatch() -> None:
    first = claim()
    begin(first)
    settle(first)
    with pytest.raises(IdempotencyMismatch) as caught:
        recall(claim(), idempotency.fingerprint("test", {"a": 2}))
    assert (caught.value.status_code, caught.value.code) == (422, "idempotency_mismatch")
    assert recall(claim()) == ANSWER, "the mismatch changed nothing"


def test_while_the_first_is_running_the_second_is_told_to_wait() -> None:
    begin(claim())
    with pytest.raises(IdempotencyInProgress) as caught:
        begin(claim())
    assert (caught.value.status_code, caught.value.code) == (409, "idempotency_in_progress")
    assert caught.value.extra["retry_after"] == LONGEST_WAIT
    set_times(lease_expires=timedelta(seconds=1.5))
    with pytest.raises(IdempotencyInProgress) as caught:
        begin(claim())
    assert caught.value.extra["retry_after"] in {1, 2}
    with pytest.raises(IdempotencyInProgress):
        recall(claim())


def test_other_keys_and_other_owners_are_independent() -> None:
    assert begin(claim())
    assert begin(claim("other"))
    assert begin(claim(owner="bob"))
    assert begin(claim("K")), "keys are case-sensitive"
    assert len(stored()) == 4


def test_a_released_key_is_free_and_a_stored_answer_is_not_released() -> None:
    first, second = claim(), claim()
    begin(first)
    assert release(claim()) is False, "another's claim stays"
    assert release(first) is True
    assert begin(second) is True
    settle(second)
    assert release(second) is False
    assert recall(claim()) == ANSWER


def test_a_claim_left_behind_is_taken_over_and_its_holder_is_fenced() -> None:
    dead, heir = claim(), claim()
    begin(dead)
    set_times(lease_expires=PAST)
    assert begin(heir) is True
    assert renew(dead) is False
    assert release(dead) is False
    with pytest.raises(IdempotencyInProgress):
        settle(dead)
    settle(heir)
    with pytest.raises(IdempotencyInProgress):
        settle(dead)
    assert recall(claim()) == ANSWER


def test_a_renewed_claim_is_not_taken_over() -> None:
    slow = claim()
    begin(slow)
    set_times(lease_expires=PAST)
    assert renew(slow) is True
    with pytest.raises(IdempotencyInProgress):
        begin(claim())
    set_times(lease_expires=PAST, expires_at=PAST)
    assert renew(slow) is True
    with pytest.raises(IdempotencyInProgress):
        begin(claim())  # an upload that outlives the answers' time is still one upload
    settle(slow)


def test_the_answer_and_the_work_are_stored_together_or_not_at_all() -> None:
    first = claim()
    begin(first)
    set_times(lease_expires=PAST)
    begin(claim())
    with pytest.raises(IdempotencyInProgress):
        work(first)
    with db.read() as session:
        assert session.scalars(select(Analysis)).all() == []


def test_an_expired_answer_binds_nobody() -> None:
    first, second = claim(), claim()
    begin(first)
    settle(first)
    set_times(expires_at=PAST)
    assert begin(second) is True
    (row,) = stored()
    assert (row.state, row.body, row.status, row.fingerprint) == (State.RUNNING, None, None, None)
    assert row.expires_at > row.created_at


def test_an_erased_analysis_takes_its_answer_along() -> None:
    first = claim()
    begin(first)
    work(first)
    with db.transaction() as session:
        session.execute(text("DELETE FROM analyses"))
    assert stored() == []


def test_the_sweep_forgets_what_binds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "publish_owed", lambda: None)  # no broker runs here
    for key in ("answered", "expired", "running", "left", "slow"):
        begin(claim(key))
    with db.transaction() as session:
        held = {row.key: row.holder for row in session.scalars(select(IdempotencyKey))}
    for key in ("answered", "expired"):
        settle(Claim(owner="alice", key=key, holder=held[key] or ""))
    with db.transaction() as session:
        late = "UPDATE idempotency_keys SET {} = now() - interval '1 s' WHERE key IN ({})"
        session.execute(text(late.format("expires_at", "'expired', 'left', 'slow'")))
        session.execute(text(late.format("lease_expires", "'left'")))
    dispatcher.sweep()
    assert {row.key for row in stored()} == {"answered", "running", "slow"}


@pytest.mark.parametrize("leftover", ["none", "lease", "answer"])
def test_of_many_at_once_one_may_work(leftover: str) -> None:
    if leftover != "none":
        before = claim()
        begin(before)
        if leftover == "answer":
            settle(before)
        set_times(**({"lease_expires": PAST} if leftover == "lease" else {"expires_at": PAST}))
    together = threading.Barrier(8)

    def race(_: int) -> bool:
        by = claim()
        together.wait()
        try:
            return begin(by)
        except IdempotencyInProgress:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1
    assert len(stored()) == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE idempotency_keys SET holder = NULL",
        "UPDATE idempotency_keys SET lease_expires = NULL",
        "UPDATE idempotency_keys SET state = 'stored'",
        "UPDATE idempotency_keys SET state = 'other', holder = NULL, lease_expires = NULL",
        "UPDATE idempotency_keys SET status = 202",
        """INSERT INTO idempotency_keys (id, owner, key, state, holder, lease_expires, expires_at)
        SELECT gen_random_uuid(), owner, key, state, holder, lease_expires, expires_at
        FROM idempotency_keys""",
    ],
)
def test_the_database_refuses_half_a_state(change: str) -> None:
    begin(claim())
    with pytest.raises(IntegrityError), db.transaction() as session:
        session.execute(text(change))


def test_the_times_are_settings(monkeypatch: pytest.MonkeyPatch, clean_database: str) -> None:
    assert clean_database
    assert (settings().idempotency_ttl, settings().idempotency_lease) == (
        timedelta(hours=24),
        timedelta(seconds=30),
    )
    monkeypatch.setenv("DEEPDEFEND_IDEMPOTENCY_TTL", "PT1H")
    monkeypatch.setenv("DEEPDEFEND_IDEMPOTENCY_LEASE", "PT7S")
    settings.cache_clear()
    try:
        begin(claim())
        (row,) = stored()
        assert row.lease_expires is not None
        assert row.lease_expires - row.created_at == timedelta(seconds=7)
        assert row.expires_at - row.created_at == timedelta(hours=1)
    finally:
        monkeypatch.undo()
        settings.cache_clear()
