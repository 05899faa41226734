"""The prompt of the language model: a file with a version, named in every report that used it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources

VERSION = "explain-v2"


@lru_cache(maxsize=1)
def prompt() -> tuple[str, str]:
    """The text of the prompt and the SHA-256 of its file in hexadecimal."""
    raw = resources.files("core.fusion").joinpath("prompts", f"{VERSION}.txt").read_bytes()
    return raw.decode(), hashlib.sha256(raw).hexdigest()
