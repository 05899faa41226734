"""Telling another server something: one POST, no redirects, a small look at the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from core.config import OutboundSettings
from core.domain import Frozen
from core.errors import Unreachable
from core.urls import parse
from workers.outbound.exchange import Answer, Patience, exchange


class Reply(Frozen):
    """What the other server answered, whatever its status."""

    status: int
    headers: dict[str, str]  #: names in lower case
    body: bytes  #: its beginning, as it was sent
    milliseconds: int  #: until the head of the answer had come


def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    policy: OutboundSettings,
    timeout: timedelta,
    keep: int = 2048,
) -> Reply:
    """Send exactly `body`; any status is an answer, redirects too. `timeout` bounds the whole.

    Raises UnsafeUrl when the URL must not be called, and Unreachable (`connect_failed`, `timed_out`,
    `tls_failed`, `connection_lost`, `bad_answer`) when no answer came.
    """
    target = parse(url, policy)
    patience = Patience(total=timeout, connect=timeout, idle=timeout)
    started = time.perf_counter()
    with exchange("POST", target, policy=policy, patience=patience, headers=headers, body=body) as answer:
        milliseconds = round((time.perf_counter() - started) * 1000)
        return Reply(
            status=answer.status,
            headers=answer.headers,
            body=_beginning(answer, keep),
            milliseconds=milliseconds,
        )


def _beginning(answer: Answer, keep: int) -> bytes:
    """The first `keep` bytes, or what came of them in time: the status is there already."""
    kept = bytearray()
    with suppress(Unreachable):
        for piece in answer.pieces():
            kept += piece
            if len(kept) >= keep:
                break
    return bytes(kept[:keep])
