"""Every route of the OpenAPI document, walked with keys that have no business there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from api.app import create_app
from core import db, keys
from core.domain import AnalysisStatus
from core.models import Base, Feedback
from tests.api import exhibits
from tests.api.conftest import client, make_key, send

#: What a route needs to get as far as the question whose it is.
BODIES: Final[dict[str, dict[str, Any]]] = {
    "hold_analysis": {"reason": "court order 7"},
    "give_feedback": {"label": "fake"},
    "change_webhook_endpoint": {"description": "mine now"},
    "create_upload": {"size_bytes": 10},
    "create_webhook_endpoint": {"url": "https://example.org/hook"},
}
#: Routes that name nothing of anybody's: they make something new, or list what is one's own.
UNNAMED: Final = {
    ("POST", "/v1/analyses"),
    ("GET", "/v1/analyses"),
    ("POST", "/v1/uploads"),
    ("POST", "/v1/webhook-endpoints"),
    ("GET", "/v1/webhook-endpoints"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/detectors"),
}
#: Every route that asks for a key: method, path, operation.
WALK: Final = [
    (method.upper(), path, operation)
    for path, operations in create_app().openapi()["paths"].items()
    for method, operation in operations.items()
    if path.startswith("/v1/")
]
MARK: Final = "alices-own-words"
pytestmark = pytest.mark.usefixtures("parts_go")


@pytest.fixture
def belongings(http: httpx2.Client) -> dict[str, str]:
    """Ids of one of everything that Alice has, by the name of the path parameter."""
    ids = {}
    made = send(http, b"not really a film", name=f"{MARK}.mp4", metadata=f'{{"note": "{MARK}"}}')
    ids["analysis_id"] = made.json()["id"]
    exhibits.exhibit(ids["analysis_id"])
    with db.transaction() as session:
        said = {"label": "fake", "note": MARK, "actor": "alicekey"}
        session.add(Feedback(analysis_id=UUID(ids["analysis_id"]), **said))
    upload = http.post("/v1/uploads", json={"size_bytes": 10, "filename": f"{MARK}.mp4"})
    ids["upload_id"] = upload.json()["id"]
    endpoint = http.post(
        "/v1/webhook-endpoints", json={"url": f"https://example.org/{MARK}", "description": MARK}
    )
    ids["endpoint_id"] = endpoint.json()["id"]
    delivery = http.post(f"/v1/webhook-endpoints/{ids['endpoint_id']}/test")
    assert [made.status_code, upload.status_code, endpoint.status_code, delivery.status_code] == [
        202,
        201,
        201,
        202,
    ]
    ids["delivery_id"] = delivery.json()["id"]
    return ids


def call(http: httpx2.Client, method: str, path: str, ids: dict[str, str], operation: Any) -> httpx2.Response:
    """The route with Alice's ids in its path and a body that it takes."""
    if path == "/v1/analyses" and method == "POST":
        return http.post(path, json={"upload_id": ids["upload_id"]})
    body = BODIES.get(operation["operationId"], {}) if "requestBody" in operation else None
    return http.request(method, path.format(**ids, **exhibits.NUMBERS), json=body)


def rows_of(owner: str) -> dict[str, list[str]]:
    """Everything that is kept of an owner."""
    found = {}
    with db.engine().connect() as connection:
        for table in Base.metadata.sorted_tables:
            if "owner" in table.columns and table.name != "api_keys":
                query = text(f'SELECT * FROM "{table.name}" WHERE owner = :owner')  # noqa: S608 - our own
                kept = connection.execute(query, {"owner": owner})
                found[table.name] = sorted(str([plain(value) for value in row]) for row in kept)
    return found


def plain(value: Any) -> Any:
    """Bytes arrive as views, which print where they lie instead of what they hold."""
    return bytes(value) if isinstance(value, memoryview) else value


@pytest.fixture
def mallory(address: tuple[str, int], belongings: dict[str, str]) -> Iterator[httpx2.Client]:
    """Another owner, with every scope there is."""
    assert belongings
    with client(address, make_key("mallory")) as opened:
        yield opened


def test_every_route_that_names_something_says_404_to_another_owner(
    mallory: httpx2.Client, belongings: dict[str, str]
) -> None:
    before = rows_of("alice")
    assert sum(map(len, before.values())) >= 4
    named = [step for step in WALK if step[:2] not in UNNAMED]
    answers = {
        (method, path): call(mallory, method, path, belongings, operation)
        for method, path, operation in named
    }
    told = {route: answer.status_code for route, answer in answers.items() if answer.status_code != 404}
    assert told == {}
    assert {answer.json()["code"] for answer in answers.values()} == {"not_found", "upload_not_found"}
    assert not [route for route, answer in answers.items() if MARK in answer.text]
    assert rows_of("alice") == before
    assert len(named) + len(UNNAMED) == len(WALK) >= 33


def test_lists_and_counts_show_nothing_of_another_owner(
    mallory: httpx2.Client, belongings: dict[str, str]
) -> None:
    shown = {
        path: mallory.get(path) for method, path, _ in WALK if method == "GET" and (method, path) in UNNAMED
    }
    assert {answer.status_code for answer in shown.values()} == {200}
    text_of_all = "".join(answer.text for answer in shown.values())
    assert not [secret for secret in (MARK, "alice", *belongings.values()) if secret in text_of_all]
    assert shown["/v1/stats"].json()["analyses"]["total"] == 0


def test_another_owners_upload_cannot_be_submitted(
    mallory: httpx2.Client, belongings: dict[str, str]
) -> None:
    before = rows_of("alice")
    refused = mallory.post("/v1/analyses", json={"upload_id": belongings["upload_id"]})
    assert refused.status_code == 404
    assert (rows_of("alice"), rows_of("mallory")["analyses"]) == (before, [])


def test_the_same_ids_work_for_their_owner(http: httpx2.Client, belongings: dict[str, str]) -> None:
    """Else the walk would also pass where every route is broken."""
    read = {
        path: call(http, method, path, belongings, operation).status_code
        for method, path, operation in WALK
        if method == "GET" and "erasures" not in path
    }
    assert set(read.values()) == {200}
    canceled = http.post(f"/v1/analyses/{belongings['analysis_id']}/cancel").json()
    assert canceled["status"] == AnalysisStatus.CANCELED


def test_every_route_asks_for_its_scope(address: tuple[str, int], belongings: dict[str, str]) -> None:
    with db.transaction() as session:
        _, powerless = keys.create(session, name="powerless", owner="alice", scopes=[])
    before = rows_of("alice")
    with client(address, powerless) as http:
        told = {
            (method, path): call(http, method, path, belongings, operation).json().get("code")
            for method, path, operation in WALK
        }
    assert {route: code for route, code in told.items() if code != "forbidden"} == {}
    assert rows_of("alice") == before


def test_every_route_refuses_dead_keys(
    address: tuple[str, int], belongings: dict[str, str], set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__FAILURES=10_000)  # else the walk ends at the limit on guesses
    with db.transaction() as session:
        revoked, dead = keys.create(session, name="revoked", owner="alice")
        keys.revoke(session, revoked.prefix)
        _, late = keys.create(
            session, name="late", owner="alice", expires_at=datetime.now(UTC) - timedelta(seconds=1)
        )
    before = rows_of("alice")
    for presented in (None, dead, late):
        with client(address, presented) as http:
            told = {
                (method, path): call(http, method, path, belongings, operation).status_code
                for method, path, operation in WALK
            }
        assert {route: status for route, status in told.items() if status != 401} == {}
    assert rows_of("alice") == before
