"""Choosing ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cli.stack import StackError
from cli.stack.ports import LOOPBACK, RANGE, free_port, hold, is_free, must_be_free, settle, why_taken


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not is_free(taken)
    assert "in use" in str(why_taken(taken, LOOPBACK))


def test_a_chosen_port_is_free_and_below_the_range_of_outgoing_connections() -> None:
    port = free_port()
    assert port in RANGE
    assert is_free(port)


def test_ports_to_avoid_are_avoided() -> None:
    wanted = RANGE[-1]
    assert free_port(set(RANGE) - {wanted, wanted - 1}) in {wanted, wanted - 1}


def test_remembered_ports_are_kept_while_they_are_free() -> None:
    first = settle({}, ("a", "b"))
    assert settle(first, ("a", "b")) == first
    assert len(set(first.values())) == 2


def test_a_remembered_port_that_is_taken_is_chosen_again(taken: int) -> None:
    first = settle({}, ("a", "b"))
    again = settle({**first, "a": taken}, ("a", "b"))
    assert again["a"] != taken
    assert again["b"] == first["b"]


def test_all_ports_are_chosen_anew_when_asked() -> None:
    first = settle({}, ("a",))
    assert {settle(first, ("a",), anew=True)["a"] for _ in range(5)} != {first["a"]}


def test_a_taken_port_is_one_clear_line(taken: int) -> None:
    with pytest.raises(StackError) as error:
        must_be_free(taken, LOOPBACK, "--port")
    assert str(error.value) == (
        f"cannot listen on 127.0.0.1 port {taken} (Address already in use); choose another with --port"
    )


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.77", 8000), ("no.such.host.invalid", 8000), (LOOPBACK, 70000)]
)
def test_an_impossible_address_is_one_clear_line(host: str, port: int) -> None:
    with pytest.raises(StackError, match=r"cannot listen on .* port \d+ \(.+\)"):
        must_be_free(port, host, "--host")


def test_a_held_port_is_chosen_by_nobody_else_but_its_server_can_listen() -> None:
    port = free_port()
    others = set(RANGE) - {port, RANGE[-1] if port != RANGE[-1] else RANGE[0]}
    with hold(port):
        assert free_port(others) != port
        with socket.create_server((LOOPBACK, port)):
            assert not is_free(port)
        assert is_free(port), "a server that ended can come back"


def test_one_port_is_never_chosen_for_two_names() -> None:
    port = free_port()
    assert len(set(settle({"a": port, "b": port}, ("a", "b")).values())) == 2
