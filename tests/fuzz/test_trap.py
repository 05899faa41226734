from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import url2pathname

import pytest

from fuzz.trap import Trap, laid


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    with laid(tmp_path / "trap") as found:
        yield found


def test_an_untouched_trap_says_nothing(trap: Trap) -> None:
    assert trap.touched() == []


def test_a_connection_and_a_datagram_are_noticed(trap: Trap) -> None:
    with socket.create_connection(trap.tcp.getsockname()):
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", trap.udp.getsockname())

    assert trap.touched() == ["tcp: a connection", "udp: a datagram"]
    assert trap.touched() == []
    assert trap.met == ["tcp: a connection", "udp: a datagram"]


def test_a_look_into_the_folder_is_noticed(trap: Trap) -> None:
    (trap.folder / "secret").read_bytes()
    assert any("of secret" in what for what in trap.touched())

    list(trap.folder.iterdir())
    assert any("itself" in what for what in trap.touched())

    (trap.folder / "new").touch()
    assert any("of new" in what for what in trap.touched())


def test_the_bait_leads_into_the_trap_and_keeps_its_length(trap: Trap, tmp_path: Path) -> None:
    assert (
        Path(url2pathname(trap.bait[5].removeprefix("file://"))).read_bytes()
        == (trap.folder / "secret").read_bytes()
    )
    with laid(tmp_path / "tra2") as other:
        assert [len(one) for one in other.bait] == [len(one) for one in trap.bait]
    host, port = trap.bait[0].removeprefix("http://").removesuffix("/x.ts").split(":")
    with socket.create_connection((host, int(port))):
        assert "tcp: a connection" in trap.touched()
