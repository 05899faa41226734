"""A model hub on the loopback address: a real HTTP server that speaks as much of the hub as a pull needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: Files of this size and above are in large-file storage, with a SHA-256.
LARGE = 4096


class Hub:
    """What the hub offers, what it was asked for, and how it misbehaves."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.asked: list[tuple[str, str, str | None]] = []  #: method, path, Range
        self.break_after: int | None = None  #: bytes of a large file after which the connection ends, once
        self.then_status: int | None = None  #: what large files answer after that
        self.status: int | None = None  #: what everything answers
        self.lie: bytes | None = None  #: sent in place of large files
        self.ignore_range = False
        self.url = ""

    def offer(self, hub_id: str, folder: Path, *, commit: str = "c" * 40) -> None:
        """Publish a folder under an id at one commit, which `main` points to."""
        self.repos[hub_id] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.commits[hub_id] = commit

    def served(self, name: str) -> list[str | None]:
        """The Range headers of the GET requests for a file."""
        return [
            bytes_range for method, path, bytes_range in self.asked if method == "GET" and path.endswith(name)
        ]

    def info(self, hub_id: str) -> dict[str, Any]:
        """The answer to /api/models/…?blobs=true."""
        siblings = []
        for name, content in self.repos[hub_id].items():
            one: dict[str, Any] = {"rfilename": name, "size": len(content)}
            one["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 - git's
            if len(content) >= LARGE:
                digest = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(one)
        return {
            "id": hub_id,
            "modelId": hub_id,
            "sha": self.commits[hub_id],
            "siblings": siblings,
            "tags": [],
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        """The probe."""
        self.hub.asked.append(("HEAD", self.path, None))
        self._send(self.hub.status or 200, b"")

    def do_GET(self) -> None:
        """Information on a repository, or a file."""
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(("GET", path, self.headers.get("Range")))
        if self.hub.status:
            self._send(self.hub.status, b"{}")
        elif path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            self._file(path.lstrip("/"))
        else:  # the library also asks for things that no pull needs
            self._send(404, b"")

    def _info(self, path: str) -> None:
        hub_id, _, revision = path.partition("/revision/")
        if hub_id not in self.hub.repos:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in {"main", self.hub.commits[hub_id]}:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            content = json.dumps(self.hub.info(hub_id)).encode()
            self._send(200, content, {"Content-Type": "application/json"})

    def _file(self, path: str) -> None:
        hub_id, _, rest = path.partition("/resolve/")
        commit, _, name = rest.partition("/")
        content = self.hub.repos[hub_id][name]
        if commit != self.hub.commits[hub_id]:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif len(content) < LARGE:
            self._send(200, content)
        else:
            self._large(self.hub.lie or content)

    def _large(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        if self.hub.break_after is not None:
            keep, self.hub.break_after = self.hub.break_after, None
            self._send(200, content[:keep], {"Content-Length": str(len(content))})
            self.close_connection = True
        elif self.hub.then_status:
            self._send(self.hub.then_status, b"")
        elif asked and not self.hub.ignore_range:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            bounds = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], {"Content-Range": bounds})
        else:
            self._send(200, content)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
