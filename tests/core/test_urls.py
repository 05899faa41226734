from __future__ import annotations

import socket
import threading
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import is_public
from core.config import OutboundSettings
from core.errors import Fenced, UnsafeUrl
from core.urls import MAX_LENGTH, Target, parse, resolve

STRICT = OutboundSettings()
#: Whatever the port is, so that only the host decides.
ANY_PORT = OutboundSettings(allowed_ports=tuple(range(1, 65536)))


def allowing(*networks: str, ports: tuple[int, ...] = (80, 443)) -> OutboundSettings:
    return OutboundSettings.model_validate({"allowed_networks": networks, "allowed_ports": ports})


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM:443/Clip.MP4", "https://example.com/Clip.MP4"),
        ("https://example.com./a", "https://example.com/a"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("https://example.com/a%20b?x=%2F&y=1+2", "https://example.com/a%20b?x=%2F&y=1+2"),
        ("https://example.com/ü?q=ß", "https://example.com/%C3%BC?q=%C3%9F"),
        ("https://example.com?x", "https://example.com/?x"),
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://my_service.example/", "https://my_service.example/"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://８.８.８.８/", "http://8.8.8.8/"),  # noqa: RUF001 - full-width digits
        ("http://[2606:4700:0:0::1111]:443/", "http://[2606:4700::1111]:443/"),
        ("https://a.b/?x=[1]", "https://a.b/?x=%5B1%5D"),
    ],
)
def test_a_url_has_one_canonical_form(url: str, canonical: str) -> None:
    target = parse(url, STRICT)
    assert target.url == canonical
    assert parse(target.url, STRICT) == target


@pytest.mark.parametrize(
    ("url", "authority", "request_target"),
    [
        ("https://example.com/a?b=c", "example.com", "/a?b=c"),
        ("https://example.com:80", "example.com:80", "/"),
        ("http://[2606:4700::1111]/x", "[2606:4700::1111]", "/x"),
    ],
)
def test_what_is_sent_of_it(url: str, authority: str, request_target: str) -> None:
    target = parse(url, STRICT)
    assert (target.authority, target.request_target) == (authority, request_target)


@given(url=st.text() | st.text().map("http://{}".format) | st.from_regex(r"https?://[^/]{1,40}(/.*)?"))
def test_nothing_but_unsafe_url_is_raised(url: str) -> None:
    try:
        target = parse(url, STRICT)
    except UnsafeUrl:
        return
    assert target.url.isascii()
    assert parse(target.url, STRICT) == target


NUMBERS = st.integers(0, 2**32 - 1).map(IPv4Address)


def notations(address: IPv4Address) -> list[str]:
    """The ways in which some parser somewhere reads an IPv4 address."""
    number, parts = int(address), [int(part) for part in str(address).split(".")]
    return [
        str(address),
        f"{address}.",
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(hex(part) for part in parts),
        ".".join(f"0{part:o}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        f"{hex(parts[0])}.{parts[1]}.0{parts[2]:o}.{parts[3]}",
        str(address).translate(
            {ord("0") + digit: 0xFF10 + digit for digit in range(10)} | {ord("."): 0x3002}
        ),
        f"[::ffff:{address}]",
        f"[::{address}]",
        f"[64:ff9b::{address}]",
        f"[{IPv6Address(0x2002 << 112 | number << 80)}]",
    ]


@given(address=NUMBERS)
def test_an_address_in_any_notation_is_refused_unless_public(address: IPv4Address) -> None:
    for host in notations(address):
        try:
            target = parse(f"http://{host}/", STRICT)
        except UnsafeUrl:
            continue
        assert is_public(address), host
        assert target.host == str(address)


@given(address=st.ip_addresses(v=6))
def test_an_ipv6_address_is_refused_unless_public(address: IPv6Address) -> None:
    try:
        target = parse(f"http://[{address.exploded}]/", STRICT)
    except UnsafeUrl:
        assert not is_public(address)
    else:
        assert is_public(ip_address(target.host))


def test_ports_are_those_of_the_settings_and_no_others() -> None:
    assert parse("http://example.com:8080/", allowing(ports=(8080,))).port == 8080
    for url in ("http://example.com/", "https://example.com/", "http://example.com:22/"):
        with pytest.raises(UnsafeUrl, match="port"):
            parse(url, allowing(ports=(8080,)))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://user@example.com/", "user name"),
        ("http://user:password@example.com/", "user name"),
        ("http://@example.com/", "user name"),
        ("http://exam\tple.com/", "white space"),  # urlsplit alone would call example.com
        ("http://example.com/a\nb", "white space"),
        ("http://example.com/a b", "white space"),
        ("http://example.com/\u2028", "white space"),
        ("http://example.com/\u202e4pm.exe", "white space"),
        (" http://example.com/", "white space"),
        ("http://example.com/\x7f", "white space"),
        ("http://example.com\\a", "white space"),
        ("http://example.com/#t=5", "fragment"),
        ("http://example.com/#", "fragment"),
        ("ftp://example.com/", "neither"),
        ("example.com/", "neither"),
        ("http://example.com:/", "malformed"),
        ("http://ex%61mple.com/", "malformed"),
        ("http://1.2.3.4.5/", "number"),
        ("http://example.com.1/", "number"),
        ("http://example.0x/", "number"),
        ("http://127.0.0.1/", "not a public one"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_text(url: str, why: str) -> None:
    with pytest.raises(UnsafeUrl, match=why) as caught:
        parse(url, STRICT)
    assert caught.value.code == "unsafe_url"


def test_an_allowed_network_opens_its_addresses_and_loopback_names() -> None:
    assert parse("http://10.0.0.7/", allowing("10.0.0.0/8")).host == "10.0.0.7"
    assert parse("http://localhost/", allowing("127.0.0.0/8")).host == "localhost"
    for url in ("http://11.0.0.0.1/", "http://0xa000007/", "http://localhost/", "http://[::ffff:10.0.0.7]/"):
        with pytest.raises(UnsafeUrl):
            parse(url, allowing("10.0.0.0/8"))
    with pytest.raises(UnsafeUrl):
        parse("http://metadata.google.internal/", allowing("0.0.0.0/0", "::/0"))


def test_a_url_may_be_as_long_as_browsers_take() -> None:
    url = "http://example.com/"
    assert parse(url + "a" * (MAX_LENGTH - len(url)), STRICT).port == 80
    with pytest.raises(UnsafeUrl, match="longer"):
        parse(url + "a" * (MAX_LENGTH - len(url) + 1), STRICT)


def test_an_error_repeats_nothing_of_the_url() -> None:
    with pytest.raises(UnsafeUrl) as caught:
        parse("http://alice:s3cret@10.1.2.3/token", STRICT)
    assert not {"alice", "s3cret", "10.1.2.3", "token"} & set(
        str(caught.value.problem()).replace(":", " ").split()
    )


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Make every name have these addresses; returns the list of names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def named(host: str = "example.com") -> Target:
    return parse(f"http://{host}/", ANY_PORT)


def test_every_address_is_returned_in_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "2606:4700::1111", "1.1.1.1", "1.1.1.1", "8.8.8.8")
    assert resolve(named(), STRICT) == ("2606:4700::1111", "1.1.1.1", "8.8.8.8")
    assert asked == ["example.com"]


@pytest.mark.parametrize("bad", ["127.0.0.1", "::1", "fe80::1%2", "169.254.169.254", "224.0.0.1", "fec0::1"])
def test_one_bad_address_among_many_is_enough(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    for addresses in ((bad, "1.1.1.1"), ("1.1.1.1", bad), ("1.1.1.1", "2606:4700::1111", bad, "8.8.8.8")):
        answering(monkeypatch, *addresses)
        with pytest.raises(UnsafeUrl) as caught:
            resolve(named(), STRICT)
        assert caught.value.code == "unsafe_url"
        assert bad not in str(caught.value.problem())


def test_an_address_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "127.0.0.1")
    assert resolve(named("1.1.1.1"), STRICT) == ("1.1.1.1",)
    assert asked == []


def test_a_target_is_checked_again_under_the_policy_at_hand() -> None:
    target = parse("http://10.0.0.7/", allowing("10.0.0.0/8"))
    with pytest.raises(UnsafeUrl):
        resolve(target, STRICT)


def test_a_name_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    with pytest.raises(UnsafeUrl) as caught:
        resolve(named(), STRICT)
    assert caught.value.code == "unresolvable_url"


def test_the_system_resolver_is_asked() -> None:
    assert "127.0.0.1" in resolve(
        parse("http://localhost/", allowing("127.0.0.0/8", "::1/128")), allowing("127.0.0.0/8", "::1/128")
    )
    with pytest.raises(UnsafeUrl) as caught:
        resolve(named("no-such-name.invalid"), STRICT)
    assert caught.value.code == "unresolvable_url"


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A name server that never answers."""
    released = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        released.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield released
    released.set()


@pytest.mark.usefixtures("hung")
def test_a_name_server_that_hangs_is_given_up() -> None:
    with pytest.raises(UnsafeUrl) as caught:
        resolve(named(), STRICT, within=timedelta(seconds=0.5))
    assert caught.value.code == "unresolvable_url"


@pytest.mark.usefixtures("hung")
def test_a_cancellation_is_noticed_while_a_name_server_hangs() -> None:
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Fenced

    with pytest.raises(Fenced):
        resolve(named(), STRICT, within=timedelta(hours=1), checkpoint=checkpoint)
