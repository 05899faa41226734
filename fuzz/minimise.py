"""Makes a file that broke something smaller, for as long as it breaks the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Each try is a whole extraction.
_TRIES: Final = 60


def minimise(content: bytes, breaks: Callable[[bytes], bool], *, tries: int = _TRIES) -> bytes:
    """The smallest file found in so many tries: the end cut off, then blocks left out, halving the block."""
    block = len(content) // 2
    while block >= 16 and tries > 0:
        at = len(content) - block
        while at >= 0 and tries > 0:
            shorter = content[:at] + content[at + block :]
            tries -= 1
            if shorter and breaks(shorter):
                content = shorter
            at -= block
        block //= 2
    return content
