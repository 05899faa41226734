"""A DNS server that answers what a test wants, and getaddrinfo that asks it.

This machine's own resolver cannot be pointed elsewhere without root, so `socket.getaddrinfo` is replaced
by one that sends real queries for A and AAAA to the test's server; what glibc reads as a number
(0x7f.1, 2130706433) never gets that far, as in glibc.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

import dnslib
import pytest
from dnslib.server import DNSHandler, DNSLogger, DNSServer

ADDRESS = "127.0.0.1"
real_getaddrinfo = socket.getaddrinfo
Answers = Sequence[Sequence[str]]


class Zone:
    """Names with one list of addresses for each time they are asked for; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: dict[str, Answers] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self._server: Any = DNSServer(self, address=ADDRESS, port=0, logger=DNSLogger("-request,-reply"))

    @property
    def port(self) -> int:
        return int(self._server.server.server_address[1])

    def add(self, name: str, *answers: Sequence[str]) -> None:
        """`add("a.test", ["1.1.1.1"], ["127.0.0.1"])`: public when asked first, this machine ever after."""
        self.answers[name] = answers

    def resolve(self, request: Any, _handler: DNSHandler) -> Any:
        name, kind = str(request.q.qname).rstrip(".").lower(), dnslib.QTYPE[request.q.qtype]
        turn = self.asked[name, kind]
        self.asked[name, kind] += 1
        reply = request.reply()
        lists = self.answers.get(name, [[]])
        for text in lists[min(turn, len(lists) - 1)]:
            if (":" in text) == (kind == "AAAA"):
                data = dnslib.AAAA(text) if kind == "AAAA" else dnslib.A(text)
                reply.add_answer(dnslib.RR(name, request.q.qtype, rdata=data, ttl=0))
        return reply

    def __enter__(self) -> Self:
        self._server.start_thread()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._server.server.server_close()

    def ask(self, name: str, kind: str) -> list[str]:
        """What a stub resolver does: one query, one answer."""
        query = dnslib.DNSRecord.question(name, kind)
        reply = dnslib.DNSRecord.parse(query.send(ADDRESS, self.port, timeout=10))
        return [str(record.rdata) for record in reply.rr]

    def getaddrinfo(
        self,
        host: str,
        port: int,
        family: int = 0,
        type: int = 0,  # noqa: A002 - its own name
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """The addresses of a name, by asking this server for A and AAAA."""
        try:
            return real_getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = self.ask(host, "A") + self.ask(host, "AAAA")
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for text in found for entry in real_getaddrinfo(text, port, family, type, proto)]


def use(monkeypatch: pytest.MonkeyPatch, zone: Zone) -> None:
    """Make every look-up of this process ask the zone."""
    ask: Callable[..., list[Any]] = zone.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", ask)
