"""Endpoints: their bounds, their secrets, and what a change does to what is owed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import analyses, db
from core.domain import Options, Terms
from core.errors import Conflict, InvalidOption, NotFound, UnsafeUrl
from core.models import Analysis, WebhookDelivery, WebhookEndpoint
from core.webhooks import endpoints, secrets
from core.webhooks.domain import Disabled, EventType
from tests.core.factories import create_caller
from tests.core.test_locks import in_a_thread
from tests.core.webhooks.factories import URL, backdate, create_endpoint, deliveries_of, owed

OTHER = "https://example.org/b"


def refreshed(session: Session, row: WebhookEndpoint) -> WebhookEndpoint:
    session.flush()
    session.refresh(row)
    return row


def test_the_secret_is_returned_once_and_kept_encrypted(session: Session) -> None:
    row, secret = create_endpoint(session)
    assert secret.encode() not in refreshed(session, row).secret
    assert secrets.unseal(row.secret) == secret
    assert row.events == ["analysis.completed", "analysis.failed", "analysis.canceled"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "https://user:pw@example.com/",
        "https://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "https://example.com:8443/",
        "https://0x7f.1/",
        "not a url",
        "",
    ],
)
def test_an_address_that_must_not_be_called_is_refused(session: Session, url: str) -> None:
    with pytest.raises(UnsafeUrl):
        create_endpoint(session, url=url)
    assert endpoints.list_endpoints(session, "alice") == []


def test_there_is_a_bound_for_each_owner(session: Session, set_webhooks: Callable[..., None]) -> None:
    set_webhooks(max_endpoints=2)
    create_endpoint(session)
    create_endpoint(session, url=None)
    create_endpoint(session)
    with pytest.raises(Conflict) as refused:
        create_endpoint(session)
    assert refused.value.code == "too_many_endpoints"
    assert refused.value.extra == {"limit": 2}
    create_endpoint(session, owner="bob")


def test_two_at_once_do_not_pass_the_bound(clean_database: str, set_webhooks: Callable[..., None]) -> None:
    assert clean_database
    set_webhooks(max_endpoints=1)
    with db.transaction() as first:
        create_endpoint(first)
        with in_a_thread(create_endpoint) as raised:
            first.commit()
    assert [type(error) for error in raised] == [Conflict]


def test_an_owner_has_one_endpoint_without_an_address(session: Session) -> None:
    create_endpoint(session, url=None)
    create_endpoint(session, owner="bob", url=None)
    with pytest.raises(Conflict) as refused:
        create_endpoint(session, url=None)
    assert refused.value.code == "endpoint_exists"


def test_another_owner_finds_nothing(session: Session) -> None:
    row, _ = create_endpoint(session)
    for act in (endpoints.find, endpoints.remove, endpoints.rotate, endpoints.change):
        with pytest.raises(NotFound):
            act(session, "bob", row.id)
        with pytest.raises(NotFound):
            act(session, "alice", uuid4())
    assert endpoints.list_endpoints(session, "bob") == []
    assert endpoints.list_endpoints(session, "alice") == [row]


def test_a_change_touches_what_it_names(session: Session) -> None:
    row, _ = create_endpoint(session)
    endpoints.change(session, "alice", row.id, description="newsroom")
    endpoints.change(session, "alice", row.id, events=[EventType.PROGRESS, EventType.FAILED])
    found = refreshed(session, row)
    assert (found.url, found.description) == (URL, "newsroom")
    assert found.events == ["analysis.failed", "analysis.progress"]
    assert endpoints.change(session, "alice", row.id, description=None).description is None


def test_a_new_address_is_used_for_what_is_owed_and_not_for_what_is_over(session: Session) -> None:
    row, _ = create_endpoint(session)
    waiting, over = owed(session, row), owed(session, row)
    over.status, over.closed_at = "failed", session.scalar(select(func.now()))
    row.failing_since = session.scalar(select(func.now()))
    session.flush()
    endpoints.change(session, "alice", row.id, url=OTHER)
    assert {item.id: item.url for item in deliveries_of(session)} == {waiting.id: OTHER, over.id: URL}
    assert refreshed(session, row).failing_since is None
    with pytest.raises(UnsafeUrl):
        endpoints.change(session, "alice", row.id, url="http://10.0.0.1/")


def test_the_endpoint_without_an_address_keeps_none(session: Session) -> None:
    row, _ = create_endpoint(session, url=None)
    with pytest.raises(InvalidOption):
        endpoints.change(session, "alice", row.id, url=OTHER)


def test_disabling_drops_what_is_owed_and_enabling_begins_anew(session: Session) -> None:
    row, _ = create_endpoint(session)
    owed(session, row)
    row.failing_since = session.scalar(select(func.now()))
    endpoints.change(session, "alice", row.id, enabled=False)
    found = refreshed(session, row)
    assert (found.disabled_at is not None, found.disabled_reason) == (True, "by_owner")
    (delivery,) = deliveries_of(session)
    assert (delivery.status, delivery.closed_at is None) == ("dropped", False)
    endpoints.change(session, "alice", row.id, enabled=True)
    found = refreshed(session, row)
    assert (found.disabled_at, found.disabled_reason, found.failing_since) == (None, None, None)


def test_disabling_again_keeps_the_first_reason(session: Session) -> None:
    row, _ = create_endpoint(session)
    endpoints.disable(session, row, Disabled.GONE)
    endpoints.change(session, "alice", row.id, enabled=False)
    assert refreshed(session, row).disabled_reason == "gone"


def test_deleting_takes_the_log_along(session: Session) -> None:
    row, _ = create_endpoint(session)
    owed(session, row)
    endpoints.remove(session, "alice", row.id)
    assert session.scalar(select(func.count()).select_from(WebhookDelivery)) == 0


def test_a_rotation_keeps_the_former_secret_for_a_day(session: Session) -> None:
    row, old = create_endpoint(session)
    _, new = endpoints.rotate(session, "alice", row.id)
    found = refreshed(session, row)
    assert found.former_secret is not None
    assert found.former_secret_until is not None
    assert (secrets.unseal(found.secret), secrets.unseal(found.former_secret)) == (new, old)
    left = found.former_secret_until - session.scalars(select(func.now())).one()
    assert left == timedelta(hours=24)
    with pytest.raises(Conflict) as refused:
        endpoints.rotate(session, "alice", row.id)
    assert refused.value.code == "rotation_in_progress"
    assert refused.value.extra["until"] == found.former_secret_until.isoformat()


def test_after_the_overlap_the_former_secret_goes_and_another_rotation_may_come(session: Session) -> None:
    row, _ = create_endpoint(session)
    endpoints.rotate(session, "alice", row.id)
    backdate(session, "former_secret_until", timedelta(hours=25), "webhook_endpoints")
    endpoints.forget_former_secrets(session)
    found = refreshed(session, row)
    assert (found.former_secret, found.former_secret_until) == (None, None)
    endpoints.rotate(session, "alice", row.id)


def test_a_secret_nobody_can_read_does_not_stand_in_the_way(session: Session) -> None:
    row, _ = create_endpoint(session)
    row.secret = Fernet(Fernet.generate_key()).encrypt(b"whsec_lost")
    session.flush()
    _, secret = endpoints.rotate(session, "alice", row.id)
    found = refreshed(session, row)
    assert (found.former_secret, found.former_secret_until) == (None, None)
    assert secrets.unseal(found.secret) == secret


def test_every_secret_can_be_encrypted_anew(session: Session, set_webhooks: Callable[..., None]) -> None:
    rows = [create_endpoint(session)[0] for _ in range(2)]
    plain = secrets.unseal(rows[0].secret)
    endpoints.rotate(session, "alice", rows[0].id)
    rows[1].secret = b"damaged"
    key = Fernet.generate_key().decode()
    set_webhooks(encryption_keys=json.dumps([key]))
    assert endpoints.reseal(session) == (1, 1)
    found = refreshed(session, rows[0])
    assert found.former_secret is not None
    assert Fernet(key).decrypt(found.former_secret).decode() == plain
    assert Fernet(key).decrypt(found.secret).decode().startswith("whsec_")


def submitted(session: Session, url: str | None) -> Analysis:
    upload = analyses.StoredUpload(sha256="ab" * 32, size_bytes=1, object_key="media/x")
    return analyses.submit(
        session,
        caller=create_caller(session, "alice"),
        source=upload,
        options=Options(),
        terms=Terms(webhook_url=url),
    ).analysis


def test_a_submission_whose_address_could_never_be_told_is_refused(session: Session) -> None:
    assert submitted(session, None).webhook_url is None
    with pytest.raises(InvalidOption) as refused:
        submitted(session, OTHER)
    assert (refused.value.code, refused.value.status_code) == ("no_webhook_secret", 422)
    row, _ = create_endpoint(session, url=None)
    assert submitted(session, OTHER).webhook_url == OTHER
    with pytest.raises(UnsafeUrl):
        submitted(session, "http://192.168.1.1/")
    endpoints.change(session, "alice", row.id, enabled=False)
    with pytest.raises(InvalidOption):
        submitted(session, OTHER)


def test_somebody_elses_secret_is_none_of_mine(session: Session) -> None:
    create_endpoint(session, owner="bob", url=None)
    create_endpoint(session)
    with pytest.raises(InvalidOption):
        submitted(session, OTHER)
