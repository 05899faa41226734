"""The witness and the invariants on a test's own database, without a stack around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import text

from chaos import database, witness
from chaos.clips import Clips
from chaos.database import Row
from chaos.invariants import INVARIANTS, Case
from chaos.ledger import Ledger
from chaos.plan import Job
from chaos.receiver import Receiver
from chaos.stack import Stack
from core import db


class Probe:
    """What the invariants ask of a stack."""

    def __init__(self, url: str, said: str = "") -> None:
        self._url, self.said = url, said

    def connect(self) -> Any:
        return database.connect(self._url)

    def rows(self, query: str, *values: Any) -> list[Row]:
        return database.rows(self._url, query, *values)

    def logs(self, service: str) -> str:
        return self.said if service == "worker-video" else ""


@contextmanager
def witnessed(url: str) -> Iterator[Probe]:
    """A database whose writes are witnessed inside the block."""
    probe = Probe(url)
    witness.install(cast("Stack", probe))
    try:
        yield probe
    finally:
        with db.transaction() as session:
            session.execute(text("DROP SCHEMA chaos CASCADE"))


def broken(
    probe: Probe, *, ledger: Ledger | None = None, receiver: Receiver, clips: Clips, jobs: list[Job]
) -> dict[str, tuple[str, ...]]:
    """The promises that do not hold, and why."""
    case = Case(cast("Stack", probe), ledger or Ledger(), receiver, clips, jobs, 3)
    findings = {look.__name__: look(case) for look in INVARIANTS}
    return {name: finding.broken for name, finding in findings.items() if not finding.holds}
