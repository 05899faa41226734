"""Which IP addresses our own calls may reach. `ipaddress.is_global` alone is not enough.

It is True for multicast, for 6to4 and NAT64 forms of private addresses, for Azure's and Oracle's
metadata services. The tables follow IANA's special-purpose registries (RFC 6890 and its updates) and
Stripe's Smokescreen; the tests hold them against each other.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from core.config import OutboundSettings

Address = IPv4Address | IPv6Address

#: Where clouds keep credentials. Only a network of exactly this one address lets one of them be called.
METADATA: Final[frozenset[Address]] = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean, Hetzner, OpenStack, IBM
        "169.254.169.253",  # AWS: DNS
        "169.254.169.249",  # AWS: a second metadata service of some instance kinds
        "169.254.170.2",  # AWS ECS: credentials of a task
        "169.254.170.23",  # AWS EKS: credentials of a pod
        "169.254.0.23",  # Tencent
        "168.63.129.16",  # Azure: the wire server; a public address by every other measure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle classic
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",  # AWS: DNS
        "fd00:ec2::23",  # AWS EKS
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fe80::a9fe:a9fe",  # OpenStack
    )
)

#: What `is_global` or its siblings of some Python version let through, beside what they refuse.
SPECIAL: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; also Tailscale and Alibaba's own services
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
#: The only part of IPv6 that is given out; loopback, private, link-local and translated forms lie outside.
GLOBAL_UNICAST: Final = IPv6Network("2000::/3")

#: IPv6 forms that end in the IPv4 address they lead to.
_LAST_32_BITS: Final = tuple(
    IPv6Network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214: first half of such an interface id


def embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a translated or tunnelled form leads to; none for an ordinary one."""
    if isinstance(address, IPv4Address):
        return ()
    number = int(address)
    last = number & 0xFFFF_FFFF
    if address in _6TO4:
        return (IPv4Address(number >> 80 & 0xFFFF_FFFF),)
    if address in _TEREDO:
        return (IPv4Address(number >> 64 & 0xFFFF_FFFF), IPv4Address(last ^ 0xFFFF_FFFF))
    isatap = number >> 32 & 0xFFFF_FFFF in _ISATAP
    return (IPv4Address(last),) if isatap or any(address in form for form in _LAST_32_BITS) else ()


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could call it, by every measure there is."""
    if isinstance(address, IPv6Address) and (address not in GLOBAL_UNICAST or embedded(address)):
        return False
    odd = (
        address.is_multicast
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or not address.is_global
    )
    return not odd and not any(address in network for network in SPECIAL)


def may_be_called(address: Address, policy: OutboundSettings) -> bool:
    """Public, or in a range that the operator allows.

    A translated form needs both: its own range allowed (NAT64 on an IPv6-only host), and the IPv4
    address behind it callable. A metadata address needs a network of its own: a range around it is
    not enough.
    """
    behind = embedded(address)
    if behind:
        return _allowed(address, policy) and all(may_be_called(inner, policy) for inner in behind)
    if address in METADATA:
        return ip_network(address) in policy.allowed_networks
    return is_public(address) or _allowed(address, policy)


def _allowed(address: Address, policy: OutboundSettings) -> bool:
    return any(address in network for network in policy.allowed_networks)
