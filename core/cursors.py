"""Signed cursors: opaque to clients, bound to the query that made them, and of no use beside it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Generic, TypeVar

from core.config import settings
from core.errors import InvalidCursor

Item = TypeVar("Item")
#: Bytes of the cursor's signature: enough against forging, short enough for a URL.
SIGNATURE_BYTES = 12


class Page(Generic[Item]):
    """A page and the cursor of the next one; None at the end."""

    def __init__(self, items: Sequence[Item], next_cursor: str | None) -> None:
        self.items, self.next_cursor = items, next_cursor


def encode(values: Sequence[str], scope: str) -> str:
    """A cursor that stands behind `values`, for queries of that `scope` only."""
    body = json.dumps(values, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_sign(body, scope) + body).rstrip(b"=").decode()


def decode(cursor: str, scope: str) -> list[str]:
    """What `encode` was given. Raises InvalidCursor, also for another scope's."""
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor from error
    signature, body = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(body, scope)):
        raise InvalidCursor
    values: list[str] = json.loads(body)
    return values


def _sign(body: bytes, scope: str) -> bytes:
    key = settings().secret_key.get_secret_value().encode()
    return hmac.new(key, scope.encode() + b"\0" + body, hashlib.sha256).digest()[:SIGNATURE_BYTES]
