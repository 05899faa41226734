"""What the senders were told, written down as it happens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from chaos.plan import Job


@dataclass
class Record:
    """One job as its sender knows it."""

    job: Job
    analysis_id: str | None = None  #: of the 202
    refused: str | None = None  #: code of a final refusal
    lost: bool = False  #: no answer, and not asked again
    tries: int = 0
    canceled: bool = False  #: the server said so
    deleted_at: float | None = None  #: `time.time()` at which the server's answer to DELETE was there


@dataclass
class Ledger:
    """All of them; safe for many threads."""

    records: dict[int, Record] = field(default_factory=dict)
    #: Answers that a client must never get, as `method path: status code`.
    outrages: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, job: Job) -> Record:
        """Begin a job."""
        with self._lock:
            return self.records.setdefault(job.number, Record(job))

    def outrage(self, what: str) -> None:
        """Note an answer that is wrong whatever was broken."""
        with self._lock:
            self.outrages[what] += 1

    def accepted(self) -> dict[str, Record]:
        """By analysis id."""
        with self._lock:
            return {r.analysis_id: r for r in self.records.values() if r.analysis_id is not None}


def now() -> float:
    """The clock of the ledger, the receiver and the monkey."""
    return time.time()
