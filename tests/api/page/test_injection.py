"""Everything that a stranger may have written stays text: it is read by whoever opens the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from api.page.material import Material
from api.page.render import render
from tests.api.page import materials

HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style></svg></bdi></main><script src=//evil.example/x.js></script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "<svg/onload=alert(1)>",
    "</style><style>body{display:none}</style>",
    "]]><!--",
    "<!--",
    "<a href=javascript:alert(1)>[4.0-6.0]</a>",
    "[4.0-6.0](javascript:alert(1))",
    "`<img src=//evil.example/p.gif>`",
    "&lt;script&gt;&#60;script&#62;",
    "{{ 7*7 }}{% include 'x' %}${7*7}",
    "url(//evil.example/x) expression(alert(1))",
    "data:text/html,<script>alert(1)</script>",
    "\u202egpj.exe\u202c \u2066x\u2069 \x00\x1b[31m\r\n",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "a" * 5000,
]
#: Members of a report that a stranger, a model or another release may have written, by their path.
PLACES: list[tuple[str, ...]] = [
    ("detailed_analysis",),
    ("verdict",),
    ("timestamp",),
    ("reasons", "0", "text"),
    ("reasons", "0", "reason"),
    ("reasons", "0", "mend"),
    ("signals", "0", "signal"),
    ("signals", "0", "unit"),
    ("signals", "0", "interval"),
    ("narrator", "model"),
    ("narrator", "narrator"),
    ("narrator", "prompt_version"),
    ("narrator", "fallback_reason"),
    ("provenance", "input_sha256"),
    ("provenance", "sandbox"),
    ("provenance", "version"),
    ("provenance", "thresholds", "operating_point"),
    ("provenance", "detectors", "0", "id"),
    ("provenance", "detectors", "0", "version"),
    ("provenance", "detectors", "0", "digest"),
    ("provenance", "detectors", "0", "fake_label"),
    ("provenance", "facts", "container"),
    ("provenance", "facts", "video", "codec"),
    ("provenance", "facts", "audio", "codec"),
    ("provenance", "options", "operating_point"),
    ("coverage", "video", "strongest_run", "interval"),
    ("coverage", "video", "standing"),
    ("stability", "verdict"),
    ("stability", "intervals", "0"),
    ("stability", "variants", "0", "variant"),
    ("stability", "variants", "0", "verdict"),
    ("stability", "variants", "1", "reason"),
]


class Skeleton(HTMLParser):
    """The page without its words: tags in order, and every attribute that does something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"href", "src", "xlink:href", "action", "formaction", "srcdoc", "data", "srcset"}:
                self.addresses.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


def put(document: Any, path: tuple[str, ...], value: str) -> Any:
    """The document with one member replaced."""
    if not path:
        return value
    here, *rest = path
    if isinstance(document, list):
        return [put(item, tuple(rest), value) if str(n) == here else item for n, item in enumerate(document)]
    return {**document, here: put(document[here], tuple(rest), value)}


def everywhere(found: Material, words: str) -> Material:
    """The same words in every place that takes some."""
    changed: Any = dict(found.report)
    for path in PLACES:
        changed = put(changed, path, words)
    return replace(
        found,
        report=changed,
        filename=words,
        source=f"http://host/{words}",
        metadata={words: [words, {words: words}]},
    )


def checks(page: str) -> Iterator[str]:
    """What must not be there."""
    found = Skeleton(page)
    yield from (tag for tag in found.tags if tag in {"script", "iframe", "base", "object", "embed", "form"})
    yield from found.handlers
    yield from (link for link in found.addresses if not link.startswith(("#", "data:image/", "data:,")))


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_are_only_words(words: str) -> None:
    plain, attacked = (render(everywhere(materials.accused(), text)) for text in ("harmless", words))
    assert list(checks(attacked)) == []
    inside, outside = Skeleton(plain).tags, Skeleton(attacked).tags
    linked = [tag for tag in outside if tag not in {"a", "code"}]
    assert linked == [tag for tag in inside if tag not in {"a", "code"}], "a tag came out of a text"
    for sign in "\u202e\u2066\x00\x1b":
        assert sign not in attacked, "it would turn the reader's eyes"


def test_the_table_reaches_every_place() -> None:
    found = materials.accused()
    for path in PLACES:
        page = render(replace(found, report=put(dict(found.report), path, "mark-of-the-test")))
        known = path in {("timestamp",), ("verdict",)} or "standing" in path
        assert known or "mark-of-the-test" in page or "mark of the test" in page.replace("-", " "), path


def test_only_our_own_style_and_no_script_is_in_it() -> None:
    page = render(materials.accused())
    assert page.count("<style>") == 1
    assert list(checks(page)) == []
