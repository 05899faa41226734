"""Who presents wrong keys again and again is made to wait, in memory that no number of them fills.

Counted per client address: behind a proxy that uvicorn does not trust, everybody has the proxy's. So
a key that was good in this process before is let through even when its address is full of guesses.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

from core.config import settings
from core.errors import TooManyRequests

#: Addresses, and good keys, that are remembered: about 2 MB each.
REMEMBERED: Final = 10_000
#: What one household or server has of IPv6; within it addresses are free.
PREFIX_BITS: Final = 64


class Strangers:
    """Failed tries by address, as buckets that refill. One a process; used from the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tries left, as of when
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def check(self, scope: Scope, presented: Sequence[str]) -> None:
        """Raises TooManyRequests when the address has used up its tries and the key is not a known one."""
        if not presented or _digest(presented) in self._good:
            return
        left, rate = self._left(address_of(scope))
        if left < 1:
            raise TooManyRequests(
                "too many requests from this address had a wrong API key",
                code="too_many_failures",
                retry_after=max(1, math.ceil((1 - left) / rate)),
            )

    def refused(self, scope: Scope, presented: Sequence[str]) -> None:
        """The key was wrong. Without one nothing was guessed."""
        if not presented:
            return
        self._good.pop(_digest(presented), None)  # revoked or expired since
        address = address_of(scope)
        self._buckets[address] = (self._left(address)[0] - 1, self._clock())
        self._buckets.move_to_end(address)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)

    def known(self, presented: Sequence[str]) -> None:
        """The key was good."""
        digest = _digest(presented)
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)

    def _left(self, address: str) -> tuple[float, float]:
        """Tries the address has now, and how many come back a second."""
        admission = settings().admission
        rate = admission.failures / admission.window.total_seconds()
        left, seen = self._buckets.get(address, (float(admission.failures), self._clock()))
        return min(float(admission.failures), left + rate * (self._clock() - seen)), rate


def address_of(scope: Scope) -> str:
    """The client's address, or its network where addresses are free."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # a unix socket, or a proxy's idea of a name
        return str(host)[:64]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> PREFIX_BITS << PREFIX_BITS))
    return str(address)


def _digest(presented: Sequence[str]) -> bytes:
    """Not the key: memory is read by debuggers and crash dumps."""
    return hashlib.sha256("\n".join(presented).encode()).digest()
