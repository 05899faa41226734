"""Which server, and with which key: what was asked for, else the stack that runs on this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cli.client import ClientError, checked_url, is_loopback
from cli.stack.folder import Folder, default_folder

DEFAULT_URL: Final = "http://127.0.0.1:8000"
HOW_TO_START: Final = (
    "Start one on this machine with `deepdefend up`, or name another with --url and --key "
    "(DEEPDEFEND_URL, DEEPDEFEND_KEY)."
)


class NoKey(ClientError):
    """There is no key for that server."""


@dataclass(frozen=True)
class Target:
    """Where to send files."""

    url: str
    key: str


def find(url: str | None, key: str | None, folder: Folder | None = None) -> Target:
    """Fill in what was not given from the stack's folder. Raises ClientError.

    The local stack's key is given to that stack only, never to an address that somebody typed.
    """
    folder = folder or Folder(default_folder())
    running = _running(folder)
    local = str(running.get("api_url") or DEFAULT_URL)
    chosen = checked_url(url or local)
    if not key and same_place(chosen, local):
        key = str(running.get("api_key") or "") or _text(folder.api_key)
    if not key:
        raise NoKey(f"no API key for {chosen}. {HOW_TO_START}")
    return Target(chosen, key)


def same_place(one: str, other: str) -> bool:
    """Whether two addresses are the same port of this machine."""
    return is_loopback(one) and is_loopback(other) and _port(one) == _port(other)


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def _running(folder: Folder) -> dict[str, Any]:
    """Addresses of the running stack; empty when none runs or the file is damaged."""
    try:
        found = json.loads(_text(folder.running))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    """A private file's text without blanks; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
