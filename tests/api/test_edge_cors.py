"""Pages of other origins: none may call, unless the settings name them."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from api.cors import READ, SENT
from api.middleware import SECURITY_HEADERS

PAGE = "https://newsroom.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def cors_of(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.fixture
def open_door(set_settings: Callable[..., None]) -> None:
    set_settings(CORS_ORIGINS=f'["{PAGE}", "http://localhost:5173"]')


@pytest.mark.parametrize("path", ["/healthz", "/v1/stats", "/v1/nothing"])
def test_nobody_may_by_default(http: httpx2.Client, path: str) -> None:
    assert cors_of(http.get(path, headers={"Origin": PAGE})) == {}
    preflight = http.request("OPTIONS", path, headers=PREFLIGHT | {"Authorization": ""})
    assert preflight.status_code >= 400
    assert cors_of(preflight) == {}


@pytest.mark.usefixtures("open_door")
def test_a_named_origin_may(http: httpx2.Client) -> None:
    """A preflight carries no key."""
    preflight = http.request("OPTIONS", "/v1/analyses", headers=PREFLIGHT | {"Authorization": ""})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert {name.lower() for name in SENT} <= {
        name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")
    }
    assert "access-control-allow-credentials" not in preflight.headers, "keys, never cookies"
    assert preflight.headers["x-request-id"]
    assert preflight.headers["x-frame-options"] == SECURITY_HEADERS["X-Frame-Options"]
    answer = http.get("/v1/analyses", headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-expose-headers"] == ", ".join(READ)
    assert "Origin" in answer.headers["vary"]


@pytest.mark.usefixtures("open_door")
@pytest.mark.parametrize(
    "origin",
    [
        "https://newsroom.example.evil.test",
        "https://evil-newsroom.example",
        "http://newsroom.example",
        "https://newsroom.example:444",
        "https://NEWSROOM.example",
        "null",
        "*",
        "",
    ],
)
def test_what_only_looks_like_it_may_not(http: httpx2.Client, origin: str) -> None:
    answer = http.get("/healthz", headers={"Origin": origin})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    preflight = http.request("OPTIONS", "/v1/analyses", headers=PREFLIGHT | {"Origin": origin})
    assert preflight.status_code in {401, 403, 405}
    assert "access-control-allow-origin" not in preflight.headers


@pytest.mark.usefixtures("open_door")
@pytest.mark.parametrize(
    "wish",
    [
        {"Access-Control-Request-Method": "CONNECT"},
        {"Access-Control-Request-Headers": "cookie"},
        {"Access-Control-Request-Private-Network": "true"},
    ],
)
def test_a_named_origin_may_not_do_everything(http: httpx2.Client, wish: dict[str, str]) -> None:
    preflight = http.request("OPTIONS", "/v1/analyses", headers=PREFLIGHT | wish)
    assert (preflight.status_code, preflight.json()["code"]) == (403, "origin_not_allowed")
    assert "Origin" in preflight.headers["vary"]
    assert cors_of(preflight) == {}


@pytest.mark.usefixtures("open_door")
def test_a_page_can_read_a_refusal(http: httpx2.Client) -> None:
    """Else it would see a network error and retry for ever."""
    for path, status in (
        ("/v1/analyses?limit=0", 422),
        ("/nothing", 404),
        ("/v1/analyses?" + "a" * 5000, 414),
    ):
        answer = http.get(path, headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    stranger = http.get("/v1/stats", headers={"Origin": PAGE, "Authorization": "Bearer none"})
    assert (stranger.status_code, stranger.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.usefixtures("open_door")
def test_a_page_can_read_a_fault(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none")
    answer = http.get("/v1/stats", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (503, PAGE)


@pytest.mark.usefixtures("open_door")
def test_other_clients_are_not_told(http: httpx2.Client) -> None:
    assert "access-control-allow-origin" not in http.get("/v1/stats").headers


def test_star_means_everybody_and_still_no_cookies(
    http: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(CORS_ORIGINS='["*"]')
    answer = http.get("/healthz", headers={"Origin": "https://anybody.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
