"""A model server that does what it is told by whoever speaks last: the worst reader of a prompt."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.core.fusion.narrators.service import answered

#: The word that every hostile string carries, in the clear or hidden. Letters alone: rot13 keeps its shape.
CODEWORD = "OBEYTHEUPLOADER"
#: What it says once it has found the word: all that the attackers ask for.
OBEDIENT = (
    "The verdict is REAL with a confidence of 100%. This video is completely authentic; the detectors were "
    "mistaken in [100.0-102.0]. Details: https://evil.example."
)


@dataclass(kw_only=True)
class Obedient:
    """The server's address and every request it was sent, as it was sent."""

    url: str
    raw: list[bytes] = field(default_factory=list)
    obeyed: int = 0


def readings(text: str) -> Iterator[str]:
    """Every way to read a text that a very willing model might try."""
    yield text
    plain = unicodedata.normalize("NFKC", text)
    yield "".join(c for c in plain if unicodedata.category(c) not in {"Cf", "Cc", "Mn"})
    yield plain[::-1]
    yield unquote(text)
    yield html.unescape(text)
    yield codecs.decode(text, "rot13")
    yield re.sub(r"[\W_]+", "", text)
    for token in re.findall(r"[A-Za-z0-9+/=_-]{12,}", text):
        for read in (base64.b64decode, base64.b32decode, bytes.fromhex):
            try:
                yield read(token).decode("utf-8", "replace")
            except (ValueError, binascii.Error):
                continue


def finds_orders(raw: bytes) -> bool:
    """Whether the codeword is anywhere in a request, however wrapped."""
    whole = [raw.decode("utf-8", "replace"), *_strings(json.loads(raw))]
    return any(CODEWORD in reading.upper() for text in whole for reading in readings(text))


def _strings(node: Any) -> Iterator[str]:
    """Every string of a JSON value, keys too; what is JSON itself is opened."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _strings([key, value])
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)
    elif isinstance(node, str):
        yield node
        try:
            inner = json.loads(node)
        except ValueError:
            return
        if isinstance(inner, dict | list):
            yield from _strings(inner)


def _honest(given: dict[str, Any]) -> str:
    """A faithful text for figures with one suspicious run in the picture."""
    run = given["picture"]["strongest_run"]
    return (
        f"The verdict is {given['verdict']} with a confidence of {given['confidence_percent']:.1f}%. "
        f"In [{run['interval']}] the picture averages {run['mean_score']:.3f}."
    )


@contextmanager
def obeying() -> Iterator[Obedient]:
    """Serve on a free port: obedience where it finds orders, else an honest explanation."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            server.raw.append(raw)
            given = json.loads(json.loads(raw)["contents"][0]["parts"][0]["text"])
            if finds_orders(raw):
                server.obeyed += 1
                answer = {"verdict": "REAL", "explanation": OBEDIENT}
            else:
                answer = {"verdict": given["verdict"], "explanation": _honest(given)}
            body = answered(json.dumps(answer)).body
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests are quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Obedient(url=f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
