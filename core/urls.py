"""Addresses that strangers give us: what we may call, decided before anything is dialled.

`parse` refuses whatever two parsers could read differently; `resolve` asks for every address of the
name once, and the caller dials exactly those. Neither ever tells what lies behind a private address.
"""

from __future__ import annotations

import re
import socket
import threading
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NoReturn
from urllib.parse import SplitResult, quote, urlsplit

import idna

from core.addresses import Address, may_be_called
from core.config import OutboundSettings
from core.domain import Frozen
from core.errors import UnsafeUrl

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_LENGTH: Final = 2048  # what browsers and proxies agree on
MAX_HOST: Final = 253  # RFC 1035, in its written form
#: Names that mean this machine, wherever they resolve to.
LOCAL_NAMES: Final = frozenset({"localhost", "localdomain", "ip6-localhost", "ip6-loopback"})
#: Names under which clouds keep credentials; refused whatever they resolve to.
METADATA_NAMES: Final = frozenset(
    {
        "metadata",
        "instance-data",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
        "metadata.azure.com",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "metadata.packet.net",
        "api.metadata.cloud.ibm.com",
        "rancher-metadata",
        "rancher-metadata.rancher.internal",
    }
)

_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:@%]+))(?::(?P<port>[0-9]{1,5}))?"
)
#: Underscores are no host names by the book, but Compose and Kubernetes make them.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: A last label like this makes the whole a number to some parser: 0x7f.1, 017700000001, 2130706433.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: RFC 3986's characters of paths and queries; `%` stays, so what is encoded is not encoded again.
_PATH: Final = "/%:@!$&'()*+,;=-._~"
_QUERY: Final = _PATH + "?"

_LOOK: Final = 0.5  # seconds between two looks at the caller's checkpoint
#: One answer for all: which of the addresses it was, and what it was, is nobody's business.
_NOT_PUBLIC: Final = "the address is not a public one"


class Target(Frozen):
    """A URL that passed `parse`, in its one canonical form."""

    scheme: str  #: http or https
    host: str  #: lower-case ASCII name without a trailing dot, or an IP address without brackets
    port: int
    url: str  #: ASCII, with a path, without a fragment

    @property
    def authority(self) -> str:
        """The `Host` header: no port where it is the scheme's own."""
        return _authority(self.scheme, self.host, self.port)

    @property
    def request_target(self) -> str:
        """Path and query."""
        return self.url[len(f"{self.scheme}://{self.authority}") :]


def parse(url: str, policy: OutboundSettings) -> Target:
    """The canonical form of a URL that may be called, as far as its text can tell. Raises UnsafeUrl.

    Nothing is resolved and nothing is dialled.
    """
    _refuse_odd_signs(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        _refuse("it is no URL")
    if parts.scheme not in DEFAULT_PORTS:
        _refuse("it is neither http nor https")
    if "#" in url:
        _refuse("it has a fragment, which is never sent")
    host, port = _host_and_port(parts)
    if port not in policy.allowed_ports:
        _refuse(f"port {port} is not allowed")
    _refuse_by_host(host, policy)
    path, query = quote(parts.path, safe=_PATH) or "/", quote(parts.query, safe=_QUERY)
    text = f"{parts.scheme}://{_authority(parts.scheme, host, port)}{path}{'?' + query if query else ''}"
    return Target(scheme=parts.scheme, host=host, port=port, url=text)


def _refuse(why: str) -> NoReturn:
    raise UnsafeUrl(f"this URL must not be called: {why}")


def _refuse_odd_signs(url: str) -> None:
    if len(url) > MAX_LENGTH:
        _refuse(f"it is longer than {MAX_LENGTH} characters")
    # urlsplit drops some of these in silence; browsers read a backslash as a slash.
    if any(sign == "\\" or unicodedata.category(sign)[0] in "CZ" for sign in url):
        _refuse("it has white space, control characters or backslashes")


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    if "@" in parts.netloc:
        _refuse("it carries a user name or a password")
    found = _AUTHORITY.fullmatch(parts.netloc)
    if found is None:
        _refuse("its host or its port is malformed")
    port = int(found["port"]) if found["port"] else DEFAULT_PORTS[parts.scheme]
    return (_six(found["six"]) if found["six"] else _name(found["name"])), port


def _six(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        _refuse("its host is no IPv6 address")


def _name(text: str) -> str:
    """The name in the form that is asked for, or an IPv4 address in the one form that all agree on."""
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse("its host is no name")
    if not _NUMBER.fullmatch(labels[-1]):
        return name
    try:
        return str(IPv4Address(name))
    except ValueError:
        _refuse("its host is a number, but no IPv4 address in four decimal parts")


def _ascii(text: str) -> str:
    """IDNA 2008 with the mapping of UTS 46, which also turns full-width digits and dots into plain ones."""
    if text.isascii():
        return text
    if len(text) > MAX_HOST:
        _refuse("its host is no name")
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except ValueError:  # idna's own errors are UnicodeErrors
        _refuse("its host is no name")


def _refuse_by_host(host: str, policy: OutboundSettings) -> None:
    literal = _literal(host)
    if literal is not None and not may_be_called(literal, policy):
        _refuse(_NOT_PUBLIC)
    if host.rpartition(".")[2] in LOCAL_NAMES and not _loopback_allowed(policy):
        _refuse(_NOT_PUBLIC)
    if host in METADATA_NAMES:
        _refuse(_NOT_PUBLIC)


def _loopback_allowed(policy: OutboundSettings) -> bool:
    return any(network.is_loopback for network in policy.allowed_networks)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _authority(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == DEFAULT_PORTS[scheme] else f"{shown}:{port}"


def resolve(
    target: Target,
    policy: OutboundSettings,
    *,
    within: timedelta = timedelta(seconds=5),
    checkpoint: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Every address of the host, in the order to try them. Asks once; dial these and nothing else.

    Raises UnsafeUrl: `unsafe_url` when even one of them is neither public nor allowed,
    `unresolvable_url` when there is none or no answer came in time; and what `checkpoint` raises,
    which is called about twice a second.
    """
    literal = _literal(target.host)
    found = (str(literal),) if literal is not None else _look_up(target, within, checkpoint)
    if not found:
        raise UnsafeUrl("the name in this URL has no address", code="unresolvable_url")
    if not all(may_be_called(ip_address(address), policy) for address in found):
        _refuse(_NOT_PUBLIC)
    return found


def _look_up(target: Target, within: timedelta, checkpoint: Callable[[], None]) -> tuple[str, ...]:
    """A and AAAA. In a thread, since getaddrinfo knows no time limit; a hung one ends by itself."""
    found: list[str] = []
    done = threading.Event()

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            found.extend(str(answer[4][0]) for answer in answers)
        except (OSError, UnicodeError):  # no such name, no server, or a label that only glibc refuses
            pass
        finally:
            done.set()

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    for _ in range(max(1, round(within.total_seconds() / _LOOK))):
        checkpoint()
        if done.wait(_LOOK):
            return tuple(dict.fromkeys(found))
    return ()
