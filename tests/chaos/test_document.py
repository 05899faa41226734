"""docs/chaos.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from core.failpoints import Point

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "chaos.md").read_text()
REGISTRY = (ROOT / "core" / "failpoints.py").read_text()


def test_every_fail_point_is_in_the_table_with_its_own_words() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", DOCUMENT, re.MULTILINE)
    said = {name: (done, left) for name, done, left in rows if name in set(Point)}
    own = dict(re.findall(r'= "([\w.]+)"  #: (.+)$', REGISTRY, re.MULTILINE))
    assert said == {name: tuple(text.split(" | ")) for name, text in own.items()}
    assert set(said) == set(Point)


def test_every_promise_of_a_run_is_explained() -> None:
    texts = [(ROOT / "chaos" / name).read_text() for name in ("invariants.py", "leaks.py")]
    promises = re.findall(r'(?:_finding\(\s*|promise=)"([^"]+)"', "".join(texts))
    assert len(promises) == 15
    first_words = {re.split(r"[:,(]", promise)[0].strip() for promise in promises}
    missing = [words for words in first_words if words not in DOCUMENT and not words.startswith("no leaked")]
    assert missing in ([], ["no process after the stop"])
