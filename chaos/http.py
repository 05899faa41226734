"""A client that asks again for as long as that is safe, and writes down what nobody may answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import httpx2

from chaos.ledger import Ledger

#: "Not now": asked again. 502 and 504 would be a proxy's.
NOT_NOW: Final = frozenset({429, 503})
#: Codes of a 409 that pass: another try of the same request is still at work.
IN_HAND: Final = frozenset({"idempotency_in_progress", "completion_in_progress"})
PATIENCE = 240.0  # seconds from the first try; no outage of a run is as long
PAUSES: Final = (0.2, 5.0)  # the first and the longest, doubled in between
TIMEOUT: Final = httpx2.Timeout(30, connect=5)
Send = Callable[[httpx2.Client], httpx2.Response]


class Unanswered(Exception):
    """No answer, and asking again would not be safe, or patience is at its end."""


class Caller:
    """One connection to the API for one thread."""

    def __init__(self, url: str, key: str, ledger: Ledger, stopping: Callable[[], bool]) -> None:
        self.http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT, trust_env=False
        )
        self._ledger, self._stopping = ledger, stopping

    def close(self) -> None:
        """Give the connection back."""
        self.http.close()

    def ask(self, what: str, send: Send, *, again: bool = True) -> httpx2.Response:
        """The final answer. Raises Unanswered; without `again`, already when the connection breaks."""
        began, pause = time.monotonic(), PAUSES[0]
        while True:
            wait = pause
            try:
                answer = send(self.http)
            except httpx2.TransportError as error:
                if not again:
                    raise Unanswered(type(error).__name__) from error
            else:
                if not _passes(answer):
                    self._judge(what, answer)
                    return answer
                wait = max(pause, retry_after(answer))
            if self._stopping() or time.monotonic() - began > PATIENCE:
                raise Unanswered(f"{what}: given up")
            time.sleep(min(wait, PAUSES[1]))
            pause = min(pause * 2, PAUSES[1])

    def _judge(self, what: str, answer: httpx2.Response) -> None:
        if answer.status_code >= 500:
            self._ledger.outrage(f"{what}: {answer.status_code} {code_of(answer)}")


def _passes(answer: httpx2.Response) -> bool:
    return answer.status_code in NOT_NOW or (answer.status_code == 409 and code_of(answer) in IN_HAND)


def code_of(answer: httpx2.Response) -> str:
    """The stable code of a problem document, or the status."""
    with suppress(ValueError, AttributeError):
        document: dict[str, Any] = answer.json()
        return str(document.get("code") or answer.status_code)
    return str(answer.status_code)


def retry_after(answer: httpx2.Response) -> float:
    """Seconds that the server asks for; 0 when it says nothing usable."""
    with suppress(ValueError):
        seconds = float(answer.headers.get("Retry-After", "0"))
        return seconds if math.isfinite(seconds) else 0.0
    return 0.0
