"""uvicorn's HTTP/1.1 with our words: a request that is not HTTP is answered by a problem document too."""

from __future__ import annotations

import json
from uuid import uuid4

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from core.errors import InvalidRequest

STATUS = 400


class MalformedHttp(InvalidRequest):
    """The request is not valid HTTP: its request line, a header or its framing is broken."""

    code = "malformed_http"


class ProblemProtocol(H11Protocol):
    """h11 finds the fault before there is a path to speak of, so nothing of the request is echoed."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not for the caller
        """Answer with the problem and hang up."""
        problem = MalformedHttp().problem() | {"instance": None, "request_id": str(uuid4())}
        body = json.dumps(problem).encode()
        headers = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        events = (h11.Response(status_code=STATUS, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
