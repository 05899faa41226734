"""What one look found."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from core.domain import Frozen


class State(StrEnum):
    """How well something is."""

    OK = "ok"
    WARN = "warn"  #: it works, less well or less safely than it could
    FAIL = "fail"  #: something that the product promises does not work
    SKIPPED = "skipped"  #: not looked at; `said` is why


class Finding(Frozen):
    """One line of the report."""

    check: str  #: stable name
    state: State
    said: str  #: what is
    means: str | None = None  #: what follows from it, when it is not well
    mend: str | None = None  #: what to do about it
    facts: dict[str, Any] = {}  #: for programs


def ok(check: str, said: str, **facts: Any) -> Finding:
    """All is well."""
    return Finding(check=check, state=State.OK, said=said, facts=facts)


def warn(check: str, said: str, means: str, mend: str, /, **facts: Any) -> Finding:
    """It works, but."""
    return Finding(check=check, state=State.WARN, said=said, means=means, mend=mend, facts=facts)


def fail(check: str, said: str, means: str, mend: str, /, **facts: Any) -> Finding:
    """It does not work."""
    return Finding(check=check, state=State.FAIL, said=said, means=means, mend=mend, facts=facts)


def skipped(check: str, why: str) -> Finding:
    """Nobody looked."""
    return Finding(check=check, state=State.SKIPPED, said=why)
