"""Fetching the file behind a stranger's URL into a private folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from core.config import SourceUrlSettings
from core.domain import Frozen
from core.errors import StorageError, Unreachable, UnsafeUrl, Unusable
from core.filenames import display_name
from core.urls import Target, parse
from workers.outbound.dial import timed_out
from workers.outbound.exchange import Answer, Patience, exchange

MAX_REDIRECTS: Final = 3  # a link shortener, a download page and its file server
OK: Final = 200
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Answers of a server that may do better in a minute; every 5xx is one as well.
BUSY: Final = frozenset({408, 425, 429})
SERVER_ERRORS: Final = 500
ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
ACCEPT: Final = "video/*, audio/*, application/octet-stream;q=0.9, */*;q=0.1"
#: What servers call a film, a sound, or a file of which they know nothing. A web page is none of these.
TYPES: Final = re.compile(
    r"(?:video|audio)/[\w.+-]+"
    r"|application/(?:octet-stream|binary|mp4|ogg|mxf|x-matroska|(?:x-|force-)download)"
    r"|binary/octet-stream",
    re.ASCII,
)
LONGEST_NAME: Final = 1024


class Fetched(Frozen):
    """A file that is in the folder now."""

    size_bytes: int
    sha256: str  #: hex
    content_type: str | None  #: as the server calls it, without parameters
    filename: str | None  #: cleaned for people; nothing is opened by it
    url: str  #: where it was found after all redirects


def fetch(
    url: str,
    into: Path,
    *,
    policy: SourceUrlSettings,
    max_bytes: int,
    checkpoint: Callable[[], None] = lambda: None,
) -> Fetched:
    """Write what the URL leads to into the new file `into`, following at most three redirects.

    Each redirect is parsed, resolved and checked like the first URL, and none leads from https to
    http. Raises UnsafeUrl; Unreachable (the codes of `post`, and `unavailable` for a server that asks
    to come back); Unusable (`refused`, `too_large`, `wrong_type`); StorageError when the disk is
    full; and what `checkpoint` raises, which is called about twice a second.
    """
    target = parse(url, policy)
    end = time.monotonic() + policy.timeout.total_seconds()
    for _ in range(1 + MAX_REDIRECTS):
        patience = Patience(total=_left(end), connect=policy.connect_timeout, idle=policy.idle_timeout)
        with exchange(
            "GET", target, policy=policy, patience=patience, headers={"Accept": ACCEPT}, checkpoint=checkpoint
        ) as answer:
            if answer.status not in REDIRECTS:
                return _take(answer, target, into, max_bytes)
            target = _redirected(target, answer, policy)
    raise Unusable(f"the server redirects more than {MAX_REDIRECTS} times")


def _left(end: float) -> timedelta:
    left = end - time.monotonic()
    if left <= 0:
        raise timed_out()
    return timedelta(seconds=left)


def _redirected(target: Target, answer: Answer, policy: SourceUrlSettings) -> Target:
    """Where the answer leads, checked like any stranger's URL. A fragment is the browser's business."""
    location = _utf8(answer.headers.get("location", "")).partition("#")[0]
    if not location:
        raise Unusable("the server redirects to nowhere")
    try:
        # urljoin would read `http:///x` and `http:x` as paths on the same host, which others do not.
        following = parse(location if ABSOLUTE.match(location) else urljoin(target.url, location), policy)
    except ValueError:
        raise UnsafeUrl("the server redirects to what is no URL") from None
    if target.scheme == "https" and following.scheme == "http":
        raise UnsafeUrl("the server redirects from https to http")
    return following


def _take(answer: Answer, target: Target, into: Path, max_bytes: int) -> Fetched:
    _refuse_status(answer.status)
    if answer.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
        raise Unusable("the server compresses its answer, though asked not to", code="wrong_type")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower() or None
    if kind is not None and not TYPES.fullmatch(kind):
        raise Unusable("what the server sends is neither video nor sound", code="wrong_type")
    if int(answer.headers.get("content-length", "0")) > max_bytes:
        raise _too_large(max_bytes)
    size, digest = _save(answer, into, max_bytes)
    return Fetched(
        size_bytes=size,
        sha256=digest,
        content_type=kind,
        filename=_filename(answer.headers.get("content-disposition"), target),
        url=target.url,
    )


def _refuse_status(status: int) -> None:
    if status in BUSY or status >= SERVER_ERRORS:
        raise Unreachable(f"the server answered {status}", code="unavailable")
    if status != OK:
        raise Unusable(f"the server answered {status}")


def _too_large(max_bytes: int) -> Unusable:
    return Unusable("the file is larger than this server accepts", code="too_large", limit_bytes=max_bytes)


def _save(answer: Answer, into: Path, max_bytes: int) -> tuple[int, str]:
    """Write the body; returns its size and SHA-256."""
    size, digest = 0, hashlib.sha256()
    try:
        with into.open("xb") as file:
            for piece in answer.pieces():
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                digest.update(piece)
                file.write(piece)
    except OSError as error:
        raise StorageError(f"write the fetched file: {error.strerror}") from error
    return size, digest.hexdigest()


def _filename(disposition: str | None, target: Target) -> str | None:
    """What the server calls the file, or else the last part of its path."""
    named = None
    if disposition:
        message = Message()
        message["Content-Disposition"] = _utf8(disposition)[:LONGEST_NAME]
        with suppress(ValueError, TypeError):  # parts numbered oddly, or a codec that is no charset
            named = message.get_filename()
    return display_name(named or "") or display_name(unquote(urlsplit(target.url).path))


def _utf8(header: str) -> str:
    """A header in UTF-8, as browsers read it, or in Latin-1, as it was specified."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header
