"""`/report.html` over a real server: who gets it, when, and what it carries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID, uuid4

import httpx2
import pytest

from api import pictures
from api.page.render import STYLE_HASH
from api.routes.report_page import _address
from core import analyses, db, models
from core.errors import StorageError
from core.keys import Scope
from core.storage import storage
from tests.api import exhibits
from tests.api.conftest import client, make_key, send

NAME = "<b>clip & 'friends'.mp4"


@pytest.fixture
def accepted(http: httpx2.Client) -> str:
    """An analysis that has not begun."""
    return str(send(http, uuid4().bytes, name=NAME).json()["id"])


@pytest.fixture
def finished(accepted: str) -> Iterator[str]:
    """The same with a report and every picture; its objects are gone after the test."""
    exhibits.exhibit(accepted)
    yield accepted
    storage().delete_prefix(analyses.folder(UUID(accepted)))


def page_of(http: httpx2.Client, identity: str, **headers: str) -> httpx2.Response:
    return http.get(f"/v1/analyses/{identity}/report.html", headers=headers)


def images(answer: httpx2.Response) -> int:
    return len(re.findall(r"data:image/(?:jpeg|png);base64,", answer.text))


def test_it_is_one_page_with_everything_in_it(http: httpx2.Client, finished: str) -> None:
    answer = page_of(http, finished)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == f'inline; filename="deepdefend-{finished}.html"'
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src {STYLE_HASH}; img-src data:;")
    assert policy.endswith("; frame-ancestors 'none'; sandbox")
    assert "&lt;b&gt;clip &amp; &#39;friends&#39;.mp4" in answer.text
    assert images(answer) == 14  # 4 stills, 4 crops, 4 heatmaps, 1 face, 1 spectrogram
    assert http.get(f"/v1/analyses/{finished}").json()["links"]["report"] == answer.request.url.path


def test_the_same_version_is_not_sent_twice_and_the_next_one_is(http: httpx2.Client, finished: str) -> None:
    first = page_of(http, finished)
    again = page_of(http, finished, **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    with db.transaction() as session:
        analyses.touch(session, UUID(finished))
    assert page_of(http, finished, **{"If-None-Match": first.headers["etag"]}).status_code == 200


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_while_it_runs_there_is_none_yet(http: httpx2.Client, accepted: str, status: str) -> None:
    with db.transaction() as session:
        session.get_one(models.Analysis, UUID(accepted)).status = status
    answer = page_of(http, accepted)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_report")
    assert answer.json()["detail"] == f"there is no report yet: the analysis is {status}"
    assert int(answer.headers["retry-after"]) > 0
    assert http.get(f"/v1/analyses/{accepted}").json()["links"]["report"] is None


def test_what_ended_without_one_says_so(http: httpx2.Client, accepted: str) -> None:
    http.post(f"/v1/analyses/{accepted}/cancel")
    answer = page_of(http, accepted)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_report")
    assert answer.json()["detail"] == "the analysis ended without a report: canceled"
    assert "retry-after" not in answer.headers


def test_it_is_the_owners_alone(http: httpx2.Client, address: tuple[str, int], finished: str) -> None:
    with client(address, make_key("mallory")) as stranger:
        assert page_of(stranger, finished).status_code == 404
    with client(address, make_key("alice", Scope.ANALYSES_WRITE)) as writer:
        assert page_of(writer, finished).json()["code"] == "forbidden"
    assert page_of(http, str(uuid4())).status_code == 404


def test_without_its_pictures_it_is_still_a_report(http: httpx2.Client, finished: str) -> None:
    storage().delete_prefix(analyses.folder(UUID(finished)))
    answer = page_of(http, finished)
    assert (answer.status_code, images(answer)) == (200, 0)
    assert "it was erased, or never made" in answer.text
    assert answer.headers["etag"]


def test_a_storage_that_is_away_costs_the_pictures_and_the_next_look_brings_them(
    http: httpx2.Client, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise StorageError

    monkeypatch.setattr(pictures, "_read", away)
    answer = page_of(http, finished)
    assert (answer.status_code, images(answer)) == (200, 0)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    monkeypatch.undo()
    assert images(page_of(http, finished)) == 14


def test_a_page_is_never_heavier_than_it_may_be(
    http: httpx2.Client, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", 4000)
    answer = page_of(http, finished)
    assert 0 < images(answer) < 14
    assert len(answer.content) < 200_000


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, None),
        (
            "https://user:secret@host.example/a/clip.mp4?token=secret#secret",
            "https://host.example/a/clip.mp4",
        ),
        ("http://host.example:8080/clip.mp4", "http://host.example:8080/clip.mp4"),
    ],
)
def test_an_address_is_named_without_what_may_be_a_password(source: str | None, said: str | None) -> None:
    assert _address(source) == said
