"""POST and GET /v1/analyses/{id}/feedback."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx2
import pytest

from core.keys import Caller, Scope
from tests.api.conftest import client, make_key
from tests.core.eraser import ended, submitted


@pytest.fixture
def identity(alice: Caller) -> UUID:
    return ended(submitted(alice))


def url(identity: UUID) -> str:
    return f"/v1/analyses/{identity}/feedback"


def test_a_label_is_stored_and_read_back(http: httpx2.Client, alice: Caller, identity: UUID) -> None:
    assert http.get(url(identity)).status_code == 404
    given = http.post(url(identity), json={"label": "fake", "note": "from its maker \N{GRINNING FACE}"})
    assert given.status_code == 200
    assert {name: value for name, value in given.json().items() if name != "at"} == {
        "analysis_id": str(identity),
        "label": "fake",
        "note": "from its maker \N{GRINNING FACE}",
        "actor": alice.key_id,
    }
    assert http.get(url(identity)).json() == given.json()
    later = http.post(url(identity), json={"label": "real"})
    assert (later.json()["label"], later.json()["note"]) == ("real", None)
    assert http.get(url(identity)).json() == later.json()


def test_it_changes_nothing_of_the_answer(http: httpx2.Client, identity: UUID) -> None:
    before = http.get(f"/v1/analyses/{identity}")
    http.post(url(identity), json={"label": "real"})
    after = http.get(f"/v1/analyses/{identity}")
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"label": "maybe"},
        {"label": "FAKE"},
        {"label": None},
        {"label": 1},
        {"label": ["fake"]},
        {"label": "fake", "note": 5},
        {"label": "fake", "note": "x" * 2001},
        {"label": "fake", "note": "a\x00b"},
        {"label": "fake", "why": "unknown member"},
    ],
)
def test_what_is_no_label_is_refused(http: httpx2.Client, identity: UUID, body: dict[str, Any]) -> None:
    answer = http.post(url(identity), json=body)
    assert (answer.status_code, http.get(url(identity)).status_code) == (422, 404)


def test_the_longest_note_fits(http: httpx2.Client, identity: UUID) -> None:
    assert http.post(url(identity), json={"label": "fake", "note": "\u00e9" * 2000}).status_code == 200


def test_only_a_completed_analysis_has_something_to_label(http: httpx2.Client, alice: Caller) -> None:
    for identity in (submitted(alice), ended(submitted(alice), "failed")):
        answer = http.post(url(identity), json={"label": "fake"})
        assert (answer.status_code, answer.json()["code"]) == (409, "not_completed")


def test_reading_needs_one_scope_and_giving_another(
    http: httpx2.Client, address: tuple[str, int], identity: UUID
) -> None:
    http.post(url(identity), json={"label": "fake"})
    with client(address, make_key("alice", Scope.ANALYSES_READ)) as reader:
        assert reader.get(url(identity)).status_code == 200
        assert reader.post(url(identity), json={"label": "real"}).status_code == 403
    with client(address, make_key("mallory")) as other:
        assert other.get(url(identity)).status_code == 404
        assert other.post(url(identity), json={"label": "real"}).status_code == 404
    assert http.get(url(identity)).json()["label"] == "fake"
