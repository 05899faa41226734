"""What readiness looks at. Only what the API itself cannot do without makes it unready.

Details are for strangers too (probes carry no key): they name no host, no user and no error text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import anyio
import anyio.to_thread
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from anyio import CapacityLimiter
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api import broker
from core import db, fleet, logging
from core.errors import StorageError
from core.models import WorkerProcess
from core.queue import names_of
from core.storage import storage

log = logging.get(__name__)
#: What a stranger may know of a detector; its `detail` may name a folder.
PUBLIC: Final = ("id", "loaded", "code", "mend", "test_only")
#: Seconds a look may take before it counts as no answer; probes commonly give up after 5 to 10.
PATIENCE: Final = 4.0


class State(StrEnum):
    """How well something is."""

    OK = "ok"
    DEGRADED = "degraded"  #: submissions are taken, but not all the work can be done
    UNAVAILABLE = "unavailable"  #: submissions cannot be taken


class Component(BaseModel):
    """One thing that was looked at."""

    status: State
    detail: str = Field(description="For people.")
    facts: dict[str, Any] = Field(default={}, description="Counts and the like, by component.")


class Readiness(BaseModel):
    """The worst component decides; `degraded` still takes submissions and answers 200."""

    status: State
    components: dict[str, Component]


Look = Callable[[], dict[str, Component]]


def _ok(detail: str, **facts: Any) -> Component:
    return Component(status=State.OK, detail=detail, facts=facts)


def _degraded(detail: str, **facts: Any) -> Component:
    return Component(status=State.DEGRADED, detail=detail, facts=facts)


def _down(detail: str) -> Component:
    return Component(status=State.UNAVAILABLE, detail=detail)


async def look(limiter: CapacityLimiter) -> Readiness:
    """Every component, all at once, each within its patience."""
    found: dict[str, Component] = {}

    async def one(look_at: Look, otherwise: dict[str, Component]) -> None:
        found.update(otherwise)
        with anyio.move_on_after(PATIENCE):
            found.update(await anyio.to_thread.run_sync(look_at, abandon_on_cancel=True, limiter=limiter))

    silent = f"no answer within {PATIENCE:.0f} s"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, _postgres, _without_database(silent))
        tasks.start_soon(one, _storage, {"storage": _down(silent)})
        tasks.start_soon(one, _broker, {"broker": _degraded(silent)})
    order = [State.UNAVAILABLE, State.DEGRADED, State.OK]
    worst = min((component.status for component in found.values()), key=order.index)
    return Readiness(status=worst, components=dict(sorted(found.items())))


def _without_database(why: str) -> dict[str, Component]:
    unknown = _degraded("not known without the database")
    return {"database": _down(why), "schema": _down(unknown.detail), "workers": unknown, "detectors": unknown}


def _postgres() -> dict[str, Component]:
    """The database, and what only it can tell."""
    try:
        if not db.writable():
            return _without_database("it does not answer, or takes no writes")
        schema = _schema()
        if schema.status is not State.OK:
            return _without_database("") | {"database": _ok("takes writes"), "schema": schema}
        with db.read() as session:
            processes = fleet.live(session)
    except SQLAlchemyError as error:
        log.warning("the database failed a readiness check", action="not_ready", exc_info=error)
        return _without_database("it does not answer as it should")
    return {
        "database": _ok("takes writes"),
        "schema": schema,
        "workers": _workers(processes),
        "detectors": _detectors(processes),
    }


@lru_cache(maxsize=1)
def _head() -> str | None:
    """The newest revision this code knows."""
    return ScriptDirectory.from_config(db.alembic_config()).get_current_head()


def _schema() -> Component:
    with db.engine().connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    if present == _head():
        return _ok("at head", revision=present)
    return _down("not the schema of this version; run `deepdefend migrate`")


def _workers(processes: Sequence[WorkerProcess]) -> Component:
    """Live processes by queue: from their rows, for a worker can answer pings and consume nothing."""
    counts = {name: sum(name in process.queues for process in processes) for name in names_of()}
    idle = [queue for queue, count in counts.items() if count == 0]
    # The levels under which files are decoded; two of them when hosts differ.
    facts = {"queues": counts, "sandbox": sorted({it.sandbox for it in processes if it.sandbox})}
    if idle:
        return _degraded(f"nobody works on: {', '.join(idle)}", **facts)
    return _ok("every queue has a worker", **facts)


def _detectors(processes: Sequence[WorkerProcess]) -> Component:
    """One entry a modality: loaded somewhere, or how to mend it. Detectors that only inform have a role."""
    by_modality: dict[str, dict[str, Any]] = {}
    for status in (status for process in processes for status in process.detectors if "role" not in status):
        known = by_modality.get(status["modality"])
        if known is None or (status["loaded"] and not known["loaded"]):
            by_modality[status["modality"]] = {name: status.get(name) for name in PUBLIC}
    missing = sorted(modality for modality, status in by_modality.items() if not status["loaded"])
    if missing:
        return _degraded(f"no detector for: {', '.join(missing)}", **by_modality)
    if not by_modality:
        return _degraded("no worker has said which detectors it has")
    return _ok("loaded", **by_modality)


def _storage() -> dict[str, Component]:
    try:
        storage().check()
    except StorageError as error:
        log.warning("the storage failed a readiness check", action="not_ready", exc_info=error)
        return {"storage": _down("it does not answer, or has no such bucket")}
    return {"storage": _ok("answers")}


def _broker() -> dict[str, Component]:
    """Never more than degraded: the database keeps what is owed until the broker is back."""
    answers = {
        True: _ok("answers"),
        False: _degraded("it does not answer; accepted work waits"),
        None: _ok("not a Redis; its workers speak for it"),
    }
    return {"broker": answers[broker.alive()]}
