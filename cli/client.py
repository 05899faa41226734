"""The client of the API: submits a file as a stream, waits through outages, pages intervals.

ClientError
├── NoServer      nothing answers at that address, or no longer does
├── Refused       the server answered with a problem document
├── NotOurs       something answers, but it does not speak this API
└── BadFile       the file cannot be sent
"""

from __future__ import annotations

import io
import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from core.domain import TERMINAL, Options, Terms

#: The JSON object of `GET /v1/analyses/{id}`, as the server sent it.
Envelope = dict[str, Any]

#: Asked again after a pause: each says "not now", none says "never".
TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
#: Conflicts that end by themselves.
IN_PROGRESS: Final = frozenset({"idempotency_in_progress", "completion_in_progress"})
#: Before the first answer these mean that there is no server; later, that it is restarting.
NEVER_REACHED: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
FIRST_PAUSE = 0.25  # seconds; doubled at each failure in a row
LONGEST_PAUSE = 5.0  # an API restart takes a few seconds: a longer pause would only be felt
POLL_SECONDS = 1.0  # when the server does not say
POLL_BOUNDS = (0.05, 30.0)  # whatever the server says: neither a busy loop nor a hang
PATIENCE = 120.0  # seconds of pauses in a row until the server counts as gone
CANCEL_SECONDS = 10.0  # it is one short transaction
TIMEOUT = httpx2.Timeout(connect=5, read=120, write=60, pool=5)  # read: S3 takes in a large file


class ClientError(Exception):
    """The message is one line for a person."""

    wanted_pause: float = 0.0  #: seconds after which the server asks to be tried again


class NoServer(ClientError):
    """Nothing answers at that address."""

    def __init__(self, url: str, why: Exception) -> None:
        self.url = url
        super().__init__(f"no DeepDefend server answers at {url} ({str(why) or type(why).__name__})")


class NotOurs(ClientError):
    """Something answers, but it does not speak this API."""


class BadFile(ClientError):
    """The file cannot be sent."""


class Refused(ClientError):
    """The server said no; `problem` is its document (RFC 9457), or what could be made of it."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.code = str(problem.get("code") or f"http_{status}")
        super().__init__(f"{self.code}: {problem.get('detail') or problem.get('title') or f'HTTP {status}'}")

    @classmethod
    def read(cls, response: httpx2.Response) -> Self:
        """Make one of any answer that is not a success."""
        document = _json(response)
        refused = cls(response.status_code, document if isinstance(document, dict) else {})
        refused.wanted_pause = retry_after(response, 0.0)
        return refused


class Client:
    """One server, one key.

    `patience` is the total of pauses, in seconds, that one call may take while the server is away;
    before its first answer a refused connection is final at once.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience: float = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.url = checked_url(url)
        self._patience = patience
        self._sleep = sleep
        self._on_trouble = on_trouble
        self._met = False  # whether the server has answered anything yet
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {checked_key(key)}", "Accept": "application/json"},
            timeout=TIMEOUT,
            trust_env=not is_loopback(self.url),  # a proxy cannot reach our own machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(
        self,
        path: Path,
        options: Options | None = None,
        on_upload: Callable[[int, int], None] = lambda _sent, _total: None,
        *,
        terms: Terms | None = None,
    ) -> Envelope:
        """Send one file in 64 KiB pieces and return the new analysis. `on_upload(sent, total)` counts bytes.

        Sent again when the answer was lost; the `Idempotency-Key` tells the server that it is one wish.
        """
        form = {name: str(value) for name, value in _asked(options, terms).items()}
        headers = new_wish()

        def attempt() -> httpx2.Response:
            with SentFile(path, on_upload) as file:
                sent = (sendable_name(path), file, "application/octet-stream")
                return self._http.post("v1/analyses", data=form, files={"file": sent}, headers=headers)

        return self._envelope(self._persist(attempt))

    def submit_named(
        self, source: Mapping[str, str], options: Options | None = None, terms: Terms | None = None
    ) -> Envelope:
        """Have a file analysed that is elsewhere: `{"source_url": …}` or `{"upload_id": …}`."""
        found = self.post("v1/analyses", {**source, **_asked(options, terms)}, new_wish())
        return self._envelope(found)

    def post(
        self, path: str, members: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """POST a JSON object, or nothing, as often as it takes."""
        return self._persist(lambda: self._http.post(path, json=members, headers=headers))

    def get(self, path: str, **request: Any) -> httpx2.Response:
        """GET, as often as it takes."""
        return self._persist(lambda: self._http.get(path, **request))

    def wait(self, analysis_id: str, on_progress: Callable[[Envelope], None] = lambda _: None) -> Envelope:
        """Poll until the analysis has ended; `on_progress` gets each new state, the last one too."""
        etag: str | None = None
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            response = self.get(f"v1/analyses/{quote(analysis_id, safe='')}", headers=headers)
            if response.status_code != httpx2.codes.NOT_MODIFIED:
                etag = response.headers.get("ETag")
                envelope = self._envelope(response)
                on_progress(envelope)
                if envelope["status"] in TERMINAL:
                    return envelope
            low, high = POLL_BOUNDS
            self._sleep(min(max(retry_after(response, POLL_SECONDS), low), high))

    def cancel(self, analysis_id: str) -> Envelope:
        """End an analysis without a report. Asked once: whoever cancels does not want to wait.

        Raises Refused with status 409 when it has ended already.
        """
        path = f"v1/analyses/{quote(analysis_id, safe='')}/cancel"
        answer = self._attempt(lambda: self._http.post(path, timeout=CANCEL_SECONDS))
        if isinstance(answer, ClientError):
            raise answer
        return self._envelope(answer)

    def intervals(self, analysis_id: str) -> Iterator[dict[str, Any]]:
        """Every interval row in order, a page at a time."""
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            params = {"cursor": cursor} if cursor else {}
            page = _json(self.get(f"v1/analyses/{quote(analysis_id, safe='')}/intervals", params=params))
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise NotOurs(f"{self.url} sent a page of intervals without items")
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return
            if cursor in seen:
                raise NotOurs(f"{self.url} sent the same cursor twice")
            seen.add(cursor)

    def report_page(self, analysis_id: str) -> bytes:
        """The report of a completed analysis as one HTML page."""
        path = f"v1/analyses/{quote(analysis_id, safe='')}/report.html"
        response = self.get(path, headers={"Accept": "text/html"})
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            raise NotOurs(f"{self.url} sent no page; it may be older than this program")
        return response.content

    def rest(self, failures: int) -> None:
        """Pause after so many failures in a row; none after none."""
        self._sleep(min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE) if failures else 0.0)

    def _persist(self, attempt: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Repeat until there is an answer that is final, or patience has run out."""
        paused, pause = 0.0, FIRST_PAUSE
        while True:
            answer = self._attempt(attempt)
            if isinstance(answer, httpx2.Response):
                return answer
            this_pause = max(pause, answer.wanted_pause)
            if paused + this_pause > self._patience:
                raise answer
            self._on_trouble(f"{answer}; trying again in {this_pause:.1f} s")
            self._sleep(this_pause)
            paused, pause = paused + this_pause, min(pause * 2, LONGEST_PAUSE)

    def _attempt(self, attempt: Callable[[], httpx2.Response]) -> httpx2.Response | NoServer | Refused:
        """A success, or a trouble that may pass; one that cannot pass is raised."""
        try:
            response = attempt()
        except NEVER_REACHED as lost:
            if not self._met:
                raise NoServer(self.url, lost) from lost
            return NoServer(self.url, lost)
        except (httpx2.TransportError, httpx2.DecodingError) as lost:
            return NoServer(self.url, lost)
        self._met = True
        if response.status_code in TRY_AGAIN or _in_progress(response):
            return Refused.read(response)
        if response.has_redirect_location:
            raise NotOurs(f"{self.url} sends elsewhere; give the address of the API itself")
        if response.is_error:
            raise Refused.read(response)
        return response

    def _envelope(self, response: httpx2.Response) -> Envelope:
        found = _json(response)
        if (
            not isinstance(found, dict)
            or not isinstance(found.get("id"), str)
            or not isinstance(found.get("status"), str)
        ):
            raise NotOurs(f"{self.url} answers, but it is not a DeepDefend API")
        return found


def _asked(options: Options | None, terms: Terms | None) -> dict[str, Any]:
    """Only what was asked for, so that the server keeps its own defaults."""
    given = [model.model_dump(mode="json", exclude_unset=True) for model in (options, terms) if model]
    return {name: value for members in given for name, value in members.items()}


def new_wish() -> dict[str, str]:
    """The header that makes repetitions of a request one wish."""
    return {"Idempotency-Key": f'"{uuid4()}"'}


def _in_progress(response: httpx2.Response) -> bool:
    """Whether a lost try of this same request still goes on."""
    return response.is_error and Refused.read(response).code in IN_PROGRESS


class SentFile(io.FileIO):
    """A regular file that tells how far it was read; the multipart encoder reads it in pieces."""

    def __init__(self, path: Path, on_read: Callable[[int, int], None]) -> None:
        try:
            # Without O_NONBLOCK, opening a pipe that nobody writes would hang.
            super().__init__(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
        except (OSError, ValueError) as why:
            raise BadFile(getattr(why, "strerror", None) or str(why)) from why
        facts = os.fstat(self.fileno())
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise BadFile("Not a regular file")
        self.size = facts.st_size  #: when it was opened
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises BadFile when there are fewer than there were, or more."""
        try:
            piece = super().read(-1 if size is None else size) or b""
        except OSError as why:
            raise BadFile(why.strerror or str(why)) from why
        read = self.tell()
        if read > self.size or (not piece and read < self.size):
            raise BadFile("The file changed while it was being sent")  # its length is announced before
        self._on_read(read, self.size)
        return piece


def sendable_name(path: Path) -> str:
    """The file's own name as valid UTF-8 without control characters; only shown, never opened."""
    name = os.fsencode(path.name).decode(errors="replace")
    return "".join(c if c.isprintable() else "_" for c in name) or "unnamed"


def checked_url(url: str) -> str:
    """The base address without its last slash. Raises ClientError when it cannot be one."""
    with suppress(ValueError):
        parts = urlsplit(url.strip())
        usable = parts.hostname and parts.port != 0  # reading the port checks it
        if parts.scheme in {"http", "https"} and usable and "@" not in parts.netloc:
            return url.strip().rstrip("/")
    raise ClientError(f"not an http or https address: {url!r}")


def checked_key(key: str) -> str:
    """The key without blanks around it. Raises ClientError when it cannot stand in a header."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ClientError("the API key is empty or has characters that no key has")
    return key


def is_loopback(url: str) -> bool:
    """Whether the address is this machine."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def retry_after(response: httpx2.Response, default: float) -> float:
    """Seconds that the server asks for, as a number or as a date; `default` when it says nothing usable."""
    value = response.headers.get("Retry-After", "")
    with suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else default
    with suppress(ValueError):
        moment = parsedate_to_datetime(value)
        return max((moment.astimezone(UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    return default


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
