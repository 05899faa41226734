"""One thread a process that says: this process lives, and these steps are still mine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

from sqlalchemy.exc import DBAPIError, OperationalError

from core import fleet, logging, steps
from core.config import StepSettings
from core.db import transaction
from core.errors import Fenced

log = logging.get(__name__)


class Hold:
    """A claim while its work goes on."""

    def __init__(self, claim: steps.Claim) -> None:
        self.claim = claim
        self._lost = threading.Event()

    def lose(self) -> None:
        """The lease is gone: canceled, past its deadline, or given to another."""
        self._lost.set()

    def check(self) -> None:
        """A checkpoint: costs nothing, raises Fenced once the lease is lost."""
        if self._lost.is_set():
            raise Fenced


class Heart(threading.Thread):
    """Beats the fleet row and every lease of this process. A daemon: it never delays an exit."""

    def __init__(self, boot_id: str, config: StepSettings, *, announce: Callable[[], None]) -> None:
        super().__init__(name="heart", daemon=True)
        self._boot_id, self._config, self._announce = boot_id, config, announce
        self._holds: dict[UUID, Hold] = {}
        self._lock = threading.Lock()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Beat until stopped. A database that does not answer costs beats, not the process."""
        while not self._stop_asked.wait(self._config.heartbeat.total_seconds()):
            try:
                self.beat()
            except (OperationalError, DBAPIError):
                log.warning("heartbeat not written", action="beat_failed", exc_info=True)

    def beat(self) -> None:
        """Extend what is held; whatever the database no longer grants is lost."""
        with self._lock:
            holds = list(self._holds.values())
        with transaction() as session:
            held = steps.beat(session, [hold.claim for hold in holds], self._config)
            known = fleet.beat(session, self._boot_id)
        for hold in holds:
            if hold.claim.step_id not in held:
                hold.lose()
        if not known:  # the row was pruned while the database was away
            self._announce()

    def stop(self) -> None:
        """End the thread at its next wait."""
        self._stop_asked.set()

    @contextlib.contextmanager
    def hold(self, claim: steps.Claim) -> Iterator[Hold]:
        """Keep the lease of `claim` alive inside the block."""
        hold = Hold(claim)
        with self._lock:
            self._holds[claim.step_id] = hold
        try:
            yield hold
        finally:
            with self._lock:
                del self._holds[claim.step_id]
