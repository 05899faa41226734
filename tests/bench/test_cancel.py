"""The parts of the measurement of cancellations that decide what its figures mean."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cancel
from bench.material import Material
from bench.throttle import PIECE, Wire
from core.domain import Stage


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(PIECE):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(60)


@pytest.mark.parametrize("rate", [None, 10_000_000.0])
def test_a_wire_carries_everything_both_ways_and_counts_it(echo: int, rate: float | None) -> None:
    sent = bytes(range(256)) * 1000
    with Wire("127.0.0.1", echo).open() as wire:
        wire.rate = rate
        with socket.create_connection(("127.0.0.1", wire.port)) as client:
            sender = threading.Thread(target=client.sendall, args=(sent,))
            sender.start()
            got = b""
            while len(got) < len(sent):
                got += client.recv(PIECE)
            sender.join(60)
    assert got == sent
    assert wire.carried == 2 * len(sent)


def test_a_closed_wire_takes_no_more_calls() -> None:
    with Wire("127.0.0.1", 1).open() as wire, socket.create_connection(("127.0.0.1", wire.port)) as client:
        assert client.recv(1) == b"", "there is no server behind it"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", wire.port))


def test_every_kind_of_work_is_canceled_somewhere_and_has_a_log(tmp_path: Path) -> None:
    material = Material(tmp_path / "clip", tmp_path / "vit", tmp_path / "wav")
    places = cancel.places(material)
    assert {Stage(place.stage) for place in places} == set(Stage)
    with Wire("127.0.0.1", 1).open() as wire:
        bench = cancel.Bench(tmp_path, wire)
    assert {bench.log(place.stage).stem for place in places} <= set(cancel._programs())


def test_the_table_shows_the_worst_as_well() -> None:
    assert cancel.table({"decoder at work": [1.0, 4.94, 2.04]}).splitlines()[-1] == (
        "| decoder at work | 3 | 1.0 | 2.0 | 4.9 |"
    )
