from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import METADATA, embedded, is_public, may_be_called
from core.config import OutboundSettings

#: IANA's special-purpose registries and what else is nobody's host, written down a second time.
NOT_PUBLIC = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
    *("168.63.129.16/32", "100.100.100.200/32"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    *("100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28"),
    *("2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10"),
    *("ff00::/8", "4000::/3", "8000::/2", "fd00:ec2::254/128", "fd20:ce::254/128"),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "168.63.129.15", "2606:4700::1111", "2a00:1450:4001::200e"]
NOBODY = OutboundSettings()


def allowing(*networks: str) -> OutboundSettings:
    return OutboundSettings.model_validate({"allowed_networks": networks})


def inside(network: IPv4Network | IPv6Network) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    first, last = int(network.network_address), int(network.broadcast_address)
    make = IPv4Address if isinstance(network, IPv4Network) else IPv6Address
    return st.integers(first, last).map(make)


@pytest.mark.parametrize("text", NOT_PUBLIC)
@given(data=st.data())
def test_no_address_of_a_special_range_is_public(text: str, data: st.DataObject) -> None:
    network = ip_network(text)
    for address in (network[0], network[-1], data.draw(inside(network))):
        assert not is_public(address)
        assert not may_be_called(address, NOBODY)


@pytest.mark.parametrize("text", PUBLIC)
def test_ordinary_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))
    assert may_be_called(ip_address(text), NOBODY)


def test_metadata_services_are_not_public() -> None:
    assert not [address for address in METADATA if is_public(address)]


@given(address=st.ip_addresses())
def test_whatever_python_calls_odd_is_not_public(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or not address.is_global:
        assert not is_public(address)


@given(inner=st.ip_addresses(v=4))
def test_what_an_address_leads_to_is_found(inner: IPv4Address) -> None:
    number = int(inner)
    forms = [
        f"::{inner}",
        f"::ffff:{inner}",
        f"::ffff:0:{inner}",
        f"64:ff9b::{inner}",
        str(IPv6Address(0x2002 << 112 | number << 80 | 1)),
        str(IPv6Address(0x20010000 << 96 | (number ^ 0xFFFFFFFF))),
        str(IPv6Address(0x20010000 << 96 | number << 64)),
        f"2606:2800::5efe:{inner}",
        f"2606:2800::200:5efe:{inner}",
    ]
    for form in forms:
        assert inner in embedded(IPv6Address(form)), form
        assert not is_public(IPv6Address(form)), form


def test_an_ordinary_address_leads_to_itself_only() -> None:
    assert embedded(ip_address("1.1.1.1")) == ()
    assert embedded(ip_address("2606:4700::1111")) == ()


def test_an_allowed_range_is_exactly_that_range() -> None:
    policy = allowing("10.1.0.0/16", "fd12::/16")
    called = ["10.1.0.0", "10.1.255.255", "fd12::1", "1.1.1.1"]
    refused = ["10.0.255.255", "10.2.0.0", "fd13::1", "127.0.0.1", "::1", "::ffff:10.1.0.1", "64:ff9b::a01:1"]
    assert [text for text in called if not may_be_called(ip_address(text), policy)] == []
    assert [text for text in refused if may_be_called(ip_address(text), policy)] == []


@pytest.mark.parametrize("address", sorted(METADATA, key=str), ids=str)
def test_a_metadata_service_needs_a_network_of_its_own(address: IPv4Address | IPv6Address) -> None:
    around = [ip_network(f"{address}/{bits}", strict=False) for bits in (0, 8, address.max_prefixlen - 1)]
    assert not may_be_called(address, allowing(*map(str, around)))
    assert may_be_called(address, allowing(str(address)))


def test_a_translated_address_needs_its_range_allowed_and_a_callable_address_behind_it() -> None:
    policy = allowing("64:ff9b::/96")
    assert may_be_called(ip_address("64:ff9b::1.1.1.1"), policy)
    assert not may_be_called(ip_address("64:ff9b::127.0.0.1"), policy)
    assert not may_be_called(ip_address("64:ff9b::169.254.169.254"), policy)
    assert may_be_called(ip_address("64:ff9b::10.0.0.1"), allowing("64:ff9b::/96", "10.0.0.0/8"))


def test_everything_allowed_is_still_no_way_to_credentials() -> None:
    policy = allowing("0.0.0.0/0", "::/0")
    assert may_be_called(ip_address("127.0.0.1"), policy)
    for text in ("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"):
        assert not may_be_called(ip_address(text), policy), text
