"""API keys: shape, checksum, hash, expiry, revocation."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import keys
from core.errors import NotFound, Unauthorized


def test_a_key_is_known_by_its_prefix_and_kept_as_a_hash(session: Session) -> None:
    row, presented = keys.create(session, name="newsroom")
    assert re.fullmatch(r"dd_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", presented)
    secret = presented.split("_")[2]
    stored = session.execute(text("SELECT * FROM api_keys")).mappings().one()
    assert secret[:32] not in str(dict(stored))
    caller = keys.authenticate(session, presented)
    assert (caller.key_id, caller.owner) == (row.prefix, row.prefix)
    assert caller.scopes == {"analyses:read", "analyses:write", "stats", "webhooks"}


def test_no_two_keys_are_alike(session: Session) -> None:
    made = {keys.create(session, name="n")[1] for _ in range(20)}
    assert len(made) == 20


def test_scopes_and_owner_are_the_keys(session: Session) -> None:
    _, presented = keys.create(session, name="n", owner="desk", scopes=[keys.Scope.ANALYSES_READ])
    caller = keys.authenticate(session, presented)
    assert caller.owner == "desk"
    assert caller.scopes == {"analyses:read"}


def test_a_typo_is_refused_by_its_checksum(session: Session) -> None:
    _, presented = keys.create(session, name="n")
    for place in (3, 8, 12, 30, 43, 49):
        typo = presented[:place] + ("a" if presented[place] != "a" else "b") + presented[place + 1 :]
        with pytest.raises(Unauthorized):
            keys.authenticate(session, typo)


def test_a_well_formed_key_with_a_foreign_secret_is_refused(session: Session) -> None:
    row, _ = keys.create(session, name="n")
    secret = "0" * 32
    forged = f"dd_{row.prefix}_{secret}{keys._checksum(row.prefix + secret)}"
    with pytest.raises(Unauthorized):
        keys.authenticate(session, forged)


def test_an_unknown_key_is_refused_in_the_same_words(session: Session) -> None:
    _, presented = keys.create(session, name="n")
    session.execute(text("DELETE FROM api_keys"))
    with pytest.raises(Unauthorized) as unknown:
        keys.authenticate(session, presented)
    with pytest.raises(Unauthorized) as malformed:
        keys.authenticate(session, "nonsense")
    assert unknown.value.problem() == malformed.value.problem()


@given(st.text(max_size=80))
def test_no_text_is_a_key(presented: str) -> None:
    with pytest.raises(Unauthorized):
        keys._parse(presented)


def test_a_nul_with_the_right_checksum_is_no_key(session: Session) -> None:
    body = "\0" * (keys.PREFIX_LENGTH + keys.SECRET_LENGTH)
    prefix, secret = body[: keys.PREFIX_LENGTH], body[keys.PREFIX_LENGTH :]
    with pytest.raises(Unauthorized):
        keys.authenticate(session, f"dd_{prefix}_{secret}{keys._checksum(body)}")


def test_a_revoked_key_is_dead_at_once_and_stays_listed(session: Session) -> None:
    row, presented = keys.create(session, name="n")
    revoked = keys.revoke(session, row.prefix)
    with pytest.raises(Unauthorized):
        keys.authenticate(session, presented)
    moment = revoked.revoked_at
    assert keys.revoke(session, row.prefix).revoked_at == moment
    assert [key.prefix for key in keys.list_keys(session)] == [row.prefix]


def test_revoking_what_is_not_there_says_so(session: Session) -> None:
    with pytest.raises(NotFound, match="nobody00"):
        keys.revoke(session, "nobody00")


def test_a_key_expires(session: Session) -> None:
    _, old = keys.create(session, name="old", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    _, new = keys.create(session, name="new", expires_at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(Unauthorized):
        keys.authenticate(session, old)
    assert keys.authenticate(session, new)


def test_the_last_use_is_written_once_a_minute(session: Session) -> None:
    row, presented = keys.create(session, name="n")

    def last_used() -> datetime | None:
        keys.authenticate(session, presented)
        session.refresh(row)
        return row.last_used_at

    first = last_used()
    assert first is not None
    assert last_used() == first
    session.execute(text("UPDATE api_keys SET last_used_at = last_used_at - interval '2 minutes'"))
    again = last_used()
    assert again is not None
    assert again >= first
