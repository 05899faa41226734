"""No hostile URL reaches the trap: not posted to, not fetched, not by way of a redirect."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import UnsafeUrl
from tests.workers.outbound.conftest import policy
from tests.workers.outbound.hostile import ADDRESSES, HOSTILE
from tests.workers.outbound.server import answering
from tests.workers.outbound.trap import Trap
from tests.workers.outbound.zone import Zone
from workers.outbound import fetch, post

ROOT = Path(__file__).parents[3]
SECONDS = timedelta(seconds=10)
Call = Callable[[str, int, Path], object]


def posted(url: str, port: int, _: Path) -> object:
    return post(url, body=b"{}", headers={}, policy=policy(ports=(80, 443, port)), timeout=SECONDS)


def fetched(url: str, port: int, folder: Path) -> object:
    return fetch(url, folder / "file", policy=policy(ports=(80, 443, port)), max_bytes=1000)


def redirected(url: str, port: int, folder: Path) -> object:
    """As the second stop of a fetch whose first one is allowed."""
    with answering(b"", status=302, headers={"Location": url.encode().decode("latin-1")}) as server:
        allowed = policy("127.0.0.2/32", ports=(80, 443, port, server.port))
        return fetch(server.url, folder / "file", policy=allowed, max_bytes=1000)


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 80
    assert len(set(HOSTILE.values())) == len(HOSTILE)
    assert f"{len(HOSTILE)} hostile URLs" in (ROOT / "docs" / "urls.md").read_text()


@pytest.mark.parametrize("call", [posted, fetched])
@pytest.mark.parametrize("trick", HOSTILE)
def test_a_hostile_url_is_refused_and_the_trap_stays_empty(
    trick: str, call: Call, trap: Trap, zone: Zone, tmp_path: Path
) -> None:
    url = HOSTILE[trick].replace("PORT", str(trap.port))
    before = trap.count
    with pytest.raises(UnsafeUrl) as caught:
        call(url, trap.port, tmp_path)
    assert trap.count - before == 0, f"{trick}: {url} reached the trap"
    assert not list(tmp_path.iterdir())
    said = str(caught.value.problem())
    assert not any(address in said for addresses in ADDRESSES.values() for address in addresses), said
    assert all(count == 1 for count in zone.asked.values())


#: A header cannot carry these, and relative references are no tricks.
SENDABLE = [
    trick
    for trick, url in HOSTILE.items()
    if not set(url) & set("\r\n\0") and "\ud800" not in url and "://" in url and url.strip() == url
]


@pytest.mark.parametrize("trick", SENDABLE)
def test_a_redirect_to_a_hostile_url_is_refused(trick: str, trap: Trap, zone: Zone, tmp_path: Path) -> None:
    assert zone
    url = HOSTILE[trick].replace("PORT", str(trap.port))
    before = trap.count
    with pytest.raises(UnsafeUrl):
        redirected(url, trap.port, tmp_path)
    assert trap.count - before == 0, f"{trick}: {url} reached the trap"


def test_the_table(trap: Trap, zone: Zone, tmp_path: Path) -> None:
    """All of them in one go; `pytest -s` prints the table."""
    assert zone
    before, reached, rows = trap.count, [], []
    for trick, template in HOSTILE.items():
        url = template.replace("PORT", str(trap.port))
        for call in (posted, fetched):
            with pytest.raises(UnsafeUrl) as caught:
                call(url, trap.port, tmp_path)
            rows.append(f"{trick:62} {call.__name__:8} {caught.value.code}")
        if trap.count != before:
            reached.append(trick)
    rows.append(f"{len(HOSTILE)} hostile URLs, posted to and fetched; trap count {trap.count - before}")
    sys.stdout.write("\n".join(["", *rows, ""]))
    assert reached == [], rows[-1]


def test_the_trap_would_notice(trap: Trap, tmp_path: Path) -> None:
    """With its network allowed the same port is reached, by both doors."""
    before = trap.count
    allowed = policy("127.0.0.0/8", ports=(trap.port,))
    reply = post(f"http://127.0.0.1:{trap.port}/", body=b"{}", headers={}, policy=allowed, timeout=SECONDS)
    assert (reply.status, reply.body) == (200, b"secret")
    found = fetch(f"http://127.0.0.1:{trap.port}/a", tmp_path / "file", policy=allowed, max_bytes=1000)
    assert found.size_bytes == 6
    assert trap.count - before == 2
