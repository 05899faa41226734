"""A name server that says something else when it is asked again: nobody asks it again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import Unreachable, UnsafeUrl
from tests.workers.outbound.conftest import policy
from tests.workers.outbound.server import HOST, answering
from tests.workers.outbound.trap import Trap
from tests.workers.outbound.zone import Zone
from workers.outbound import fetch, post

#: For a test: an address where nothing listens, "public" because the policy allows it.
NOWHERE = "127.0.0.3"
SECONDS = timedelta(seconds=10)


def posted(url: str, port: int, _: Path) -> object:
    allowed = policy(f"{HOST}/32", f"{NOWHERE}/32", ports=(port,))
    return post(url, body=b"{}", headers={}, policy=allowed, timeout=SECONDS)


def fetched(url: str, port: int, folder: Path) -> object:
    allowed = policy(f"{HOST}/32", f"{NOWHERE}/32", ports=(port,))
    return fetch(url, folder / "file", policy=allowed, max_bytes=1000)


Call = Callable[[str, int, Path], object]
both = pytest.mark.parametrize("call", [posted, fetched])


@both
def test_what_was_checked_is_what_is_dialled(call: Call, zone: Zone, tmp_path: Path) -> None:
    """First an address that may be called, then for ever one that may not."""
    zone.add("rebind.test", [HOST], ["127.0.0.1"])
    with answering(b"hello") as server:
        call(f"http://rebind.test:{server.port}/", server.port, tmp_path)
        assert len(server.requests) == 1
    assert zone.asked == {("rebind.test", "A"): 1, ("rebind.test", "AAAA"): 1}


@both
def test_the_second_answer_is_never_dialled(call: Call, zone: Zone, tmp_path: Path) -> None:
    """Nothing listens on the address that was checked; on that of the second answer the trap does."""
    zone.add("rebind.test", [NOWHERE], ["127.0.0.1"])
    with Trap("127.0.0.1") as trap:
        with pytest.raises(Unreachable) as caught:
            call(f"http://rebind.test:{trap.port}/", trap.port, tmp_path)
        assert trap.count == 0
    assert caught.value.code == "connect_failed"
    assert zone.asked == {("rebind.test", "A"): 1, ("rebind.test", "AAAA"): 1}


@both
def test_rebinding_to_the_trap_at_once_is_refused(call: Call, trap: Trap, zone: Zone, tmp_path: Path) -> None:
    zone.add("rebind.test", ["127.0.0.1"], [HOST])
    before = trap.count
    with pytest.raises(UnsafeUrl):
        call(f"http://rebind.test:{trap.port}/", trap.port, tmp_path)
    assert trap.count == before
    assert zone.asked == {("rebind.test", "A"): 1, ("rebind.test", "AAAA"): 1}


def test_a_redirect_asks_anew_and_checks_anew(trap: Trap, zone: Zone, tmp_path: Path) -> None:
    """The same name, a good answer for the first stop and a bad one for the second."""
    zone.add("rebind.test", [HOST], ["127.0.0.1"])
    before = trap.count
    location = {"Location": f"http://rebind.test:{trap.port}/"}
    with answering(b"", status=307, headers=location) as server, pytest.raises(UnsafeUrl):
        fetch(
            f"http://rebind.test:{server.port}/",
            tmp_path / "file",
            policy=policy(f"{HOST}/32", ports=(server.port, trap.port)),
            max_bytes=1000,
        )
    assert len(server.requests) == 1
    assert trap.count == before
    assert zone.asked["rebind.test", "A"] == 2
