"""Figures about everybody are for the operator's Prometheus alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import httpx2
import pytest

from tests.api.conftest import make_key, send
from tests.core.test_production import GOOD

TOKEN = secrets.token_urlsafe(24)


@pytest.fixture
def guarded(set_settings: Callable[..., None]) -> None:
    set_settings(METRICS_TOKEN=TOKEN)


def scrape(http: httpx2.Client, *authorization: str) -> httpx2.Response:
    http.headers.pop("Authorization", None)
    return http.get("/metrics", headers=[("Authorization", value) for value in authorization])


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_bearer_of_the_token_reads_them(http: httpx2.Client, scheme: str) -> None:
    answer = scrape(http, f"{scheme} {TOKEN}")
    assert answer.status_code == 200
    assert "deepdefend_analyses" in answer.text


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    "given",
    [
        (),
        ("Bearer",),
        (f"Basic {TOKEN}",),
        (f"Bearer {TOKEN}x",),
        (f"Bearer {TOKEN[:-1]}",),
        (f"Bearer {TOKEN}", f"Bearer {TOKEN}"),
        ("Bearer \xff\xfe",),
    ],
)
def test_nobody_else_does(http: httpx2.Client, given: tuple[str, ...]) -> None:
    del http.headers["Authorization"]
    raw = [(b"Authorization", value.encode("latin-1")) for value in given]
    answer = http.get("/metrics", headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.usefixtures("guarded")
def test_an_api_key_is_no_token(http: httpx2.Client, key: str) -> None:
    assert scrape(http, f"Bearer {key}").status_code == 401


def test_production_without_a_token_shows_them_to_nobody(
    http: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    kept = {"ENVIRONMENT": "production", "SECRET_KEY": GOOD["DEEPDEFEND_SECRET_KEY"]}
    set_settings(**kept)
    for given in ((), ("Bearer",), ("Bearer none",)):
        assert scrape(http, *given).status_code == 401


def test_a_development_machine_shows_them(http: httpx2.Client) -> None:
    assert scrape(http).status_code == 200


def test_they_name_no_owner_key_or_file(http: httpx2.Client, key: str) -> None:
    owner = "mallory-and-sons"
    other = make_key(owner)
    sent = send(http, b"abc", name="the-name-of-the-file.mp4")
    http.post(
        "/v1/analyses",
        headers={"Authorization": f"Bearer {other}"},
        files={"file": ("secret-clip.mp4", b"x")},
    )
    text = scrape(http).text
    for word in (
        "alice",
        owner,
        key.split("_")[1],
        other.split("_")[1],
        sent.json()["id"],
        "the-name",
        "clip",
    ):
        assert word not in text
