from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx2
import pytest

from api.page.render import STYLE
from api.routes import pages

ASSETS = [f"/assets/{name}" for name in pages.ASSETS]


class Links(HTMLParser):
    """Everything a page loads or points to, and what a strict policy would block."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        self._script = tag == "script" and "src" not in given

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_needs_this_server_only(http: httpx2.Client, page: str) -> None:
    response = http.get(page, headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    links = Links(response.text)
    assert links.inline == [], "the policy of the page blocks inline scripts, styles and handlers"
    assert links.found
    for link in links.found:
        assert link == "data:," or link.startswith("/")
        if link.startswith("/"):
            assert http.get(link).status_code in {200, 503}, f"{link} leads nowhere"


def test_the_first_page_asks_for_what_the_decoder_takes(http: httpx2.Client) -> None:
    page = http.get("/").text
    assert 'accept="video/*,audio/*"' in page, "a photograph would be refused as an unsupported format"
    assert "or a picture" not in page


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_has_a_policy_that_keeps_strangers_out(http: httpx2.Client, page: str) -> None:
    policy = http.get(page).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert not re.search(r"script-src[^;]*data:", policy)


@pytest.mark.parametrize("asset", ASSETS)
def test_an_asset_is_served_and_revalidated(http: httpx2.Client, asset: str) -> None:
    first = http.get(asset, headers={"Authorization": ""})
    assert first.status_code == 200
    assert len(first.content) > 100
    kind = "javascript" if asset.endswith(".js") else "css"
    assert kind in first.headers["content-type"]
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["etag"]


def test_the_landing_page_says_what_a_verdict_is_not(http: httpx2.Client) -> None:
    page = http.get("/").text
    assert "not a proof" in page
    assert "INCONCLUSIVE" in page


@pytest.mark.parametrize(
    "name", ["absent.js", "../index.html", "index.html", "%2e%2e/index.html", "docs.html"]
)
def test_nothing_else_is_an_asset(http: httpx2.Client, name: str) -> None:
    assert http.get(f"/assets/{name}").status_code in {400, 404}


def test_the_policy_of_the_page_lets_a_report_have_its_style_and_nothing_run_in_it(
    http: httpx2.Client,
) -> None:
    """A frame of a blob: address inherits the policy of the page that made it."""
    policy = http.get("/").headers["content-security-policy"]
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert f"style-src 'self' 'sha256-{digest}'" in policy
    assert "script-src 'self';" in policy
    assert "img-src data:;" in policy
    (frame,) = re.findall(r"<iframe[^>]*>", http.get("/").text)
    assert 'sandbox="allow-same-origin allow-modals"' in frame, "a frame with scripts and our origin is us"


def test_the_key_never_leaves_the_tab_but_in_the_header(http: httpx2.Client) -> None:
    scripts = "".join(http.get(f"/assets/{name}").text for name in ("app.js", "api.js"))
    assert "localStorage" not in scripts
    assert "cookie" not in scripts
    assert "innerHTML" not in scripts
    assert scripts.count("sessionStorage") == 3
    assert not re.search(r"[?&]key=", scripts)
