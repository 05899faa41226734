"""POST /v1/analyses/{id}/stability: every status it answers, once for each key, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from api import envelopes
from core import analyses, db
from core.domain import AnalysisStatus, Stage, Variant
from core.errors import MediaError
from core.keys import Caller, Scope
from tests.api.conftest import client, make_key
from tests.api.test_analyses import URL, accepted, completed, extracted
from tests.api.test_envelopes import stage

KEY = {"Idempotency-Key": '"once"'}


def again(http: httpx2.Client, identity: UUID, **more: object) -> httpx2.Response:
    return http.post(f"{URL}/{identity}/stability", **more)  # type: ignore[arg-type]


def count() -> int:
    with db.read() as session:
        return int(session.scalar(text("SELECT count(*) FROM analyses")) or 0)


def test_a_new_analysis_of_the_same_file_is_accepted(http: httpx2.Client, alice: Caller) -> None:
    first = completed(alice)
    before = http.get(f"{URL}/{first}").json()
    response = again(http, first)
    body = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{URL}/{body['id']}"
    assert response.headers["retry-after"] == "1"
    assert (body["derived_from"], body["links"]["derived_from"]) == (str(first), f"{URL}/{first}")
    assert (body["status"], body["lane"], body["report"]) == ("queued", "batch", None)
    assert body["options"] == before["options"] | {"stability": True}
    assert body["media"]["sha256"] == before["media"]["sha256"]
    seen = http.get(response.headers["location"])
    assert (seen.json(), seen.headers["etag"]) == (body, response.headers["etag"])
    assert http.get(f"{URL}/{first}").json() == before, "reports never change"
    assert (before["derived_from"], before["links"]["derived_from"]) == (None, None)
    listed = http.get(URL).json()["items"]
    assert [row["derived_from"] for row in listed] == [str(first), None]


def test_the_lane_may_be_chosen_and_nothing_else(http: httpx2.Client, alice: Caller) -> None:
    first = completed(alice)
    assert again(http, first, json={"lane": "interactive"}).json()["lane"] == "interactive"
    assert again(http, first, json={}).json()["lane"] == "batch"
    wrong: list[tuple[dict[str, object], int, str]] = [
        ({"json": {"lane": "express"}}, 422, "invalid_option"),
        ({"json": {"stability": False}}, 422, "invalid_option"),
        ({"json": ["batch"]}, 400, "malformed_json"),
        ({"content": b"lane=batch"}, 415, "unsupported_media_type"),
    ]
    for body, status, code in wrong:
        headers = {"content-type": "text/plain"} if "content" in body else {}
        refused = again(http, first, headers=headers, **body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert count() == 3


def test_one_key_makes_one_analysis(http: httpx2.Client, alice: Caller) -> None:
    first, other = completed(alice), completed(alice)
    made, replayed = again(http, first, headers=KEY), again(http, first, headers=KEY)
    assert (made.status_code, replayed.status_code) == (202, 202)
    assert made.json() == replayed.json()
    assert "idempotency-replayed" not in made.headers
    assert replayed.headers["idempotency-replayed"] == "true"
    for refused in (
        again(http, other, headers=KEY),
        again(http, first, headers=KEY, json={"lane": "standard"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")
    assert count() == 3


@pytest.mark.parametrize("make", [accepted, extracted], ids=["queued", "processing"])
def test_what_has_not_ended_is_refused(
    http: httpx2.Client, alice: Caller, make: Callable[[Caller], UUID]
) -> None:
    refused = again(http, make(alice), headers=KEY)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_ended")
    assert count() == 1
    assert again(http, completed(alice), headers=KEY).status_code == 202, "a refusal holds no key"


def test_what_has_no_report_is_refused(http: httpx2.Client, alice: Caller) -> None:
    identity = accepted(alice)
    with db.transaction() as session:
        analyses.fail(session, identity, MediaError("no"))
    refused = again(http, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_report")


def test_what_was_erased_is_refused(http: httpx2.Client, alice: Caller) -> None:
    identity = completed(alice)
    with db.transaction() as session:
        session.execute(text("UPDATE analyses SET media_erased_at = now()"))
    refused = again(http, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "media_erased")


def test_it_is_nobody_elses(address: tuple[str, int], http: httpx2.Client, alice: Caller) -> None:
    identity = completed(alice)
    with client(address, make_key("mallory")) as mallory:
        assert again(mallory, identity).status_code == 404
    with client(address, make_key("alice", Scope.ANALYSES_READ)) as reader:
        assert again(reader, identity).status_code == 403
    assert again(http, uuid4()).status_code == 404
    assert http.post(f"{URL}/x/stability").status_code == 422
    assert count() == 1


def test_it_counts_as_a_submission_and_as_work_in_flight(
    http: httpx2.Client, alice: Caller, set_settings: Callable[..., None]
) -> None:
    first = completed(alice)
    looked = http.get(f"{URL}/{first}").headers["ratelimit"]
    asked = again(http, first).headers["ratelimit"]
    assert "submissions" not in looked
    assert '"submissions"' in asked
    assert '"in-flight"' in asked
    set_settings(ADMISSION__IN_FLIGHT=1)
    refused = again(http, first)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_in_flight")
    assert count() == 2


@given(done=st.integers(0, len(Variant)))
def test_progress_never_falls_when_the_variants_appear(done: int) -> None:
    branch, fleet = [stage(Stage.EXTRACT, 1, 1), stage(Stage.VIDEO, 2, 2)], len(Variant)
    states = [
        [],
        [stage(Stage.EXTRACT, 1, 1), stage(Stage.VIDEO, 0, 2), stage(Stage.FUSE, 0, 1)],
        [*branch, stage(Stage.FUSE, 0, 1)],
        [*branch, stage(Stage.STABILITY, 0, fleet), stage(Stage.FUSE, 1, 2)],
        [*branch, stage(Stage.STABILITY, done, fleet), stage(Stage.FUSE, 1, 2)],
        [*branch, stage(Stage.STABILITY, fleet, fleet), stage(Stage.FUSE, 1, 2)],
    ]
    seen = [envelopes.fraction(AnalysisStatus.PROCESSING, state, stability=True) for state in states]
    assert seen == sorted(seen)
    assert 0 < seen[1] < seen[2] < seen[3] < seen[-1] < 1
